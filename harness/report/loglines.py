"""The lines of nodes' logs, each with its time in the run.

Logs of real nodes have any form, so a line's time is that of the sample of its log's
length (`logtimes.jsonl`, `harness.run.gauges`) in which it stood first: it was written
after the sample before. Simulated nodes stamp their lines, to the millisecond, with the
wall time that their clock shows; it is moved by the samples of `clocks.jsonl`. Without
either, lines have no place on an axis, and none are given.

Of each log, the last LOG_BYTES_MAX are read, and of all lines LINES_MAX are kept: those
of trouble first, then those around anomalies, then warnings, then others, evenly.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from harness.host import nodefiles
from harness.report.figures import clip
from harness.report.thinning import around, chosen
from harness.run.store import Salvage
from harness.visible import visible, without_colours
from harness.worlds.sim.clock import MONO_EPOCH_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from harness.report.folder import Recording
    from harness.report.witness import Witness

LINES_MAX = 20_000
LOG_BYTES_MAX = 4 << 20
LINE_CHARS_MAX = 300

PLAIN, WARNING, TROUBLE = range(3)

_TROUBLE = re.compile(
    r"\b(error|fatal|panic|traceback|exception|abort(ed)?|segfault|critical)\b|Error:",
    re.IGNORECASE,
)
_WARNING = re.compile(r"\b(warn(ing)?|timeout|timed out|refused)\b", re.IGNORECASE)
_DROPPED = re.compile(rb"^\[splitbrain: \d+ bytes of log dropped here\]$", re.MULTILINE)
_STAMP = re.compile(rb"(\d\d):(\d\d):(\d\d)\.(\d{3}) ")
_NUMBER_MAX = 2**52


def level(line: str) -> int:
    """PLAIN, WARNING or TROUBLE, by the words in a line."""
    if _TROUBLE.search(line):
        return TROUBLE
    return WARNING if _WARNING.search(line) else PLAIN


class LogTimeLine(msgspec.Struct):
    """One line of logtimes.jsonl: how long a node's log was at a moment."""

    time: float
    node: str
    bytes: int


@dataclass
class _Log:
    """Lines of one log, with their times in ns and their levels."""

    lines: list[str]
    times: list[float]
    levels: list[int]


def columns(
    folder: Recording, anomalies: Iterable[Witness], position: Callable[[str], int]
) -> dict[str, dict[str, list[int]]]:
    """Node -> columns: `t` in us, `line` by its position as a string, `level`."""
    logs = _logs(folder)
    kept = _kept(logs, anomalies)
    return {
        node: {
            "t": [_us(log.times[i]) for i in places],
            "line": [position(log.lines[i]) for i in places],
            "level": [log.levels[i] for i in places],
        }
        for (node, log), places in zip(logs.items(), kept, strict=True)
    }


def _logs(folder: Recording) -> dict[str, _Log]:
    """The logs whose lines have times, by node."""
    left = Salvage(folder.path)
    samples: dict[str, list[LogTimeLine]] = {}
    for sample in left.lines("logtimes.jsonl", LogTimeLine, optional=True):
        samples.setdefault(sample.node, []).append(sample)
    folder.problems += left.problems
    stamped = folder.test.get("world") == "sim"
    logs = {}
    for node, place in folder.node_folders.items():
        if node not in samples and not stamped:
            continue
        try:
            offset, data = _end_of(place / "log")
        except OSError:
            continue  # the page's logs say why
        raw = data.splitlines(keepends=True)
        if node in samples:
            ends = accumulate(map(len, raw), initial=offset)
            next(ends)
            times = _times_by_length(folder, samples[node], data, offset, ends)
        else:
            times = _times_by_stamp(folder, node, raw)
        lines = [_text(line) for line in raw]
        logs[node] = _Log(lines, times, [level(line) for line in lines])
    return logs


def _end_of(path: Path) -> tuple[int, bytes]:
    """The end of a log, from the start of a line, and where in the log that is."""
    with nodefiles.open_plain(path) as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - LOG_BYTES_MAX)
        file.seek(start)
        data = file.read(LOG_BYTES_MAX)
    if start:
        first, _, data = data.partition(b"\n")
        start += len(first) + 1
    return start, data


def _text(line: bytes) -> str:
    text = without_colours(line.decode("utf-8", "replace").rstrip("\r\n"))
    return clip(visible(text), LINE_CHARS_MAX)


def _times_by_length(
    folder: Recording,
    samples: Sequence[LogTimeLine],
    data: bytes,
    offset: int,
    ends: Iterable[int],
) -> list[float]:
    """The time of the first sample by which each line stood in the log.

    A log that grew too long has lost its middle, where a line says so. What stands
    before it is where it was, and what follows it was moved there by the last cut.
    """
    cuts = [
        i for i in range(1, len(samples)) if samples[i].bytes < samples[i - 1].bytes
    ]
    known = list(samples)
    if cuts:
        dropped = list(_DROPPED.finditer(data))
        kept = offset + dropped[-1].start() if dropped else 0
        front = [sample for sample in samples[: cuts[0]] if sample.bytes <= kept]
        known = front + list(samples[cuts[-1] :])
    lengths = [sample.bytes for sample in known]
    times = [sample.time for sample in known]
    return [[*times, folder.end_ns][bisect_left(lengths, end)] for end in ends]


def _times_by_stamp(
    folder: Recording, node: str, lines: Iterable[bytes]
) -> list[float]:
    """The times that the lines of a simulated node tell; others follow the last."""
    start_ns = folder.run.get("start_mono_ns")
    if not isinstance(start_ns, int):
        start_ns = MONO_EPOCH_NS
    offsets = sorted(
        (clock.time, (clock.wall_offset_ms or 0.0) * 1e6)
        for clock in folder.clocks
        if clock.node == node
    )
    times, time_ns = [], 0.0
    for line in lines:
        stamp = _STAMP.match(line)
        if stamp is not None:
            hours, minutes, seconds, ms = map(int, stamp.groups())
            told_ms = ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms
            time_ns = told_ms * 1e6 - (start_ns - MONO_EPOCH_NS)
            at = bisect_right(offsets, (time_ns, float("inf")))
            time_ns -= offsets[at - 1][1] if at else 0.0
        times.append(time_ns)
    return times


def _kept(logs: dict[str, _Log], anomalies: Iterable[Witness]) -> list[list[int]]:
    """The positions of the lines to keep, of each log."""
    times = np.array([t for log in logs.values() for t in log.times], np.float64)
    levels = np.array([x for log in logs.values() for x in log.levels], np.int8)
    kept = np.ones(times.size, np.bool_)
    if times.size > LINES_MAX:
        near = around(times, anomalies)
        ranks = (levels == TROUBLE, near, levels == WARNING, levels == PLAIN)
        kept = chosen(ranks, LINES_MAX)
    edges = np.cumsum([0, *(len(log.times) for log in logs.values())])
    return [np.flatnonzero(kept[a:b]).tolist() for a, b in pairwise(edges)]


def _us(ns: float) -> int:
    return int(min(max(ns / 1000, 0), _NUMBER_MAX))
