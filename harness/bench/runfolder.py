"""Makes a run folder of any size without a run, to measure reports on.

The history is simulated (`histories`); the faults beside it are a series of partitions,
as a plan would make them. Everything else is written by the code that runs use.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.bench.histories import Shape, generate
from harness.history import formats
from harness.judge import analysis
from harness.run.doctor import Rung
from harness.run.execution import describe
from harness.run.records import VERSION, RunRecord
from harness.run.spec import TestSpec
from harness.run.store import RunFolder
from harness.worlds.network import LinkCounters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.history import Op

NS_PER_S = 1_000_000_000
CALLS_PER_KEY = 200
FAULTS = 12


def make(results: Path, calls: int) -> Path:
    """Write the folder below `results`, judge it, and return it.

    Raises:
        UsageError: The folder can't be written there.
    """
    shape = Shape(
        "register", calls, clients=10, keys=max(1, calls // CALLS_PER_KEY), crash=0.001
    )
    ops = generate(shape)
    spec = TestSpec(
        system="raft",
        nemesis=["partition"],
        concurrency=shape.clients,
        time_limit_s=ops[-1].time / NS_PER_S,
    )
    folder = RunFolder.create(results, spec.folder_name, spec.seed)
    test = {
        "version": VERSION,
        **describe(spec, Rung("switch")),
        "repro": shlex.join(spec.command()),
    }
    folder.write_yaml("test.yaml", test)
    formats.dump(ops, folder.path / "history.jsonl")
    faults = folder.lines("faults.jsonl")
    for line in fault_lines(spec, ops[-1].time):
        faults.append(line)
    faults.close()
    folder.write_run(run_record(spec, ops))
    analysis.analyse(folder)
    return folder.path


def fault_lines(spec: TestSpec, end_ns: int) -> Iterator[dict[str, Any]]:
    """The lines of partitions of one node, begun and healed, evenly over the run."""
    length = end_ns // (2 * FAULTS)
    for number in range(FAULTS):
        begin = 2 * number * length
        node = spec.node_names[number % spec.nodes]
        fault = {
            "id": number,
            "kind": "partition",
            "title": f"isolate {node}",
            "nodes": [node],
            "evidence": {"frames_cut": 100 + number},
            "bit": True,
        }
        yield {"time": begin, "event": "start", **fault}
        yield {"time": begin + length, "event": "end", **fault}


def run_record(spec: TestSpec, ops: list[Op]) -> RunRecord:
    """The run.json of a run without failures."""
    counts = {
        kind: sum(op.type == kind for op in ops) for kind in ("ok", "fail", "info")
    }
    links = {
        f"{a}->{b}": asdict(LinkCounters(forwarded=1000))
        for a in spec.node_names
        for b in spec.node_names
        if a != b
    }
    return RunRecord(
        version=VERSION,
        ended="complete",
        seconds=spec.time_limit_s,
        ops=counts,
        counters={"timeouts": counts["info"]},
        network=links,
    )
