"""What nodes used while the run lasted, from resources.jsonl (`harness.run.gauges`)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec

from harness.report.figures import clip
from harness.run.store import Salvage, natural
from harness.visible import visible

if TYPE_CHECKING:
    from harness.report.folder import Recording

POINTS_MAX = 20_000
"""Samples in the page; if there are more, every so manyth."""

_NUMBER_MAX = 2**52


class ResourceLine(msgspec.Struct):
    """One line of resources.jsonl: what a node used at a moment."""

    time: float
    node: str
    pid: int
    cpu_ns: int
    rss_bytes: int = 0
    files: int = 0
    data_bytes: int = 0


def columns(folder: Recording) -> dict[str, dict[str, list[Any]]]:
    """Node -> columns: `t` in us, `cpu` in percent of a core, `rss`, `fds`, `disk`.

    `cpu` is that since the sample before, and None if that was another process.
    """
    left = Salvage(folder.path)
    lines = left.lines("resources.jsonl", ResourceLine, optional=True)
    folder.problems += left.problems
    every = -(-len(lines) // POINTS_MAX) or 1
    by_node: dict[str, list[ResourceLine]] = {}
    for line in lines:
        by_node.setdefault(line.node, []).append(line)
    return {
        clip(visible(node)): _columns_of(by_node[node][::every])
        for node in sorted(by_node, key=natural)
    }


def _columns_of(lines: list[ResourceLine]) -> dict[str, list[Any]]:
    cpu: list[float | None] = [None]
    for before, line in itertools.pairwise(lines):
        passed_ns = line.time - before.time
        if line.pid != before.pid or passed_ns <= 0:
            cpu.append(None)
        else:
            # A descendant that ended took its time with it.
            used_ns = max(0, line.cpu_ns - before.cpu_ns)
            cpu.append(round(_bounded(100 * used_ns / passed_ns), 1))
    return {
        "t": [int(_bounded(line.time / 1000)) for line in lines],
        "cpu": cpu,
        "rss": [int(_bounded(line.rss_bytes)) for line in lines],
        "fds": [int(_bounded(line.files)) for line in lines],
        "disk": [int(_bounded(line.data_bytes)) for line in lines],
    }


def _bounded(number: float) -> float:
    return min(max(number, 0), _NUMBER_MAX)
