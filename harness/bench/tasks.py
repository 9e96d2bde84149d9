"""The tasks that `children.measure` runs, each in a fresh process.

A task is a function of this module; its keyword arguments come as JSON and its answer,
a dict, goes back as JSON. Set-up that isn't part of the figure is not timed.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import registry
from harness.bench import peer
from harness.bench.histories import KINDS, Shape, generate
from harness.history import History, formats
from harness.verdict import Limits

Task = Callable[..., dict[str, Any]]

WARM_UP = {str(kind): Shape(kind, calls=50, clients=3) for kind in KINDS}


def peak_mib() -> float:
    """The most memory that this program had resident.

    It is VmHWM rather than getrusage's maximum, as that survives exec: a child of a
    large process would report its parent's.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def processor_seconds() -> float:
    """Processor time of this process and of those that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def make(shape: dict[str, Any], path: str, operations: str | None) -> dict[str, Any]:
    """Write the history of a shape to `path`, and for the peer to `operations`.

    The suffix of `path` tells the format.
    """
    history = History(generate(Shape(**shape)))
    formats.dump(history, Path(path), Path(path).suffix[1:])
    if operations is not None:
        peer.write_operations(history, Path(operations))
    return {"ops": len(history)}


def write(shape: dict[str, Any], path: str) -> dict[str, Any]:
    """Record a history op by op, as in a run."""
    ops = generate(Shape(**shape))
    begun = time.perf_counter()
    with formats.HistoryWriter(Path(path)) as writer:
        for op in ops:
            writer.record(op)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "peak_mib": peak_mib(), "ops": len(ops)}


def load(path: str) -> dict[str, Any]:
    """Read a history and pair its ops."""
    before_mib = peak_mib()
    begun = time.perf_counter()
    history = formats.load(Path(path))
    seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "peak_mib": peak_mib(),
        "before_mib": before_mib,
        "ops": len(history),
    }


def check(path: str, model: str, compiled: str, time_limit_s: float) -> dict[str, Any]:
    """Judge a history for linearizability; its loading is timed by itself."""
    options = {"model": model, "compiled": compiled}
    checker = registry.find("checker", "linearizable").factory(options)
    # The import of late modules belongs to the start of a program, not to a check.
    checker.check(History(generate(WARM_UP[model])), Limits())
    begun, begun_cpu = time.perf_counter(), processor_seconds()
    history = formats.load(Path(path))
    loaded, loaded_cpu = time.perf_counter(), processor_seconds()
    result = checker.check(history, Limits(time_s=time_limit_s))
    checked, checked_cpu = time.perf_counter(), processor_seconds()
    return {
        "verdict": str(result.verdict),
        "reason": result.reason,
        "seconds": checked - loaded,
        "cpu_seconds": checked_cpu - loaded_cpu,
        "load_seconds": loaded - begun,
        "load_cpu_seconds": loaded_cpu - begun_cpu,
        "peak_mib": peak_mib(),
    }


def cluster(folder: str, kills: int) -> dict[str, Any]:
    """Start five reference nodes in namespaces, and restart one after each kill -9.

    It needs the switch rung. Modules are loaded before the clock runs.
    """
    from harness.bench import cluster as world

    return world.measure(Path(folder), kills)


def switch(folder: str, rounds: int) -> dict[str, Any]:
    """Time round trips of a datagram between two nodes, through the switch."""
    from harness.bench import cluster as world

    return world.measure_round_trips(Path(folder), rounds)


def loopback(folder: str, load: str, limit_s: float) -> dict[str, Any]:
    """Time operations of a kind on reference nodes, without a network of ours."""
    from harness.bench import loopback as nodes

    return nodes.measure(Path(folder), load, limit_s)


def make_transactions(
    shape: dict[str, Any], path: str, for_awdit: str | None
) -> dict[str, Any]:
    """Write a history of transactions of a shape to `path`, and as AWDIT reads it."""
    from harness.bench import awdit
    from harness.bench.transactions import TransactionShape, generate

    formats.dump(generate(TransactionShape(**shape)), Path(path))
    if for_awdit is not None:
        awdit.write(generate(TransactionShape(**shape)), Path(for_awdit))
    return {}


def make_run(folder: str, calls: int) -> dict[str, Any]:
    """Make a run folder of so many operations, judged, as a run would leave it."""
    from harness.bench import runfolder

    return {"run": str(runfolder.make(Path(folder), calls))}


def report(run: str) -> dict[str, Any]:
    """Build the report of a run that has been judged."""
    from harness import report as reports

    begun = time.perf_counter()
    page = reports.build(Path(run))
    seconds = time.perf_counter() - begun
    size_mib = page.stat().st_size / 2**20
    return {"seconds": seconds, "peak_mib": peak_mib(), "size_mib": size_mib}


def make_results(folder: str, runs: int) -> dict[str, Any]:
    """Make a results folder of so many runs."""
    from harness.bench import results

    return {"results": str(results.make_results(Path(folder), runs))}


def executor(executor: str, runs: int, empty: bool) -> dict[str, Any]:
    """Carry out experiments; milliseconds for each, and how many a second."""
    from harness.bench import executors

    return executors.measure(executor, runs, empty=empty)


def results(results: str) -> dict[str, Any]:
    """Index a results folder, and make pages about it; seconds by name."""
    from harness.bench import results as measuring

    return measuring.measure(results)


def simulate(folder: str, first: int, count: int) -> dict[str, Any]:
    """Simulate five Raft nodes under all faults, and judge the runs, seed by seed.

    A first run, of another seed, loads the modules and isn't timed.

    Args:
        folder: A folder for files.
        first: The first seed.
        count: How many seeds.

    Returns:
        `cpu_seconds`: the processor time of each seed.
    """
    from harness.campaign import carrying
    from harness.campaign.experiment import Experiment
    from harness.run.spec import DEFAULTS, TestSpec

    spec = TestSpec(
        system="raft", world="sim", nemesis=["all"], ops=1_000, **DEFAULTS["sim"]
    )
    seeds = Experiment(spec)
    carrying.discard(Path(folder), seeds.with_seed(first + count))
    cpu_seconds = []
    for seed in range(first, first + count):
        begun = processor_seconds()
        carrying.discard(Path(folder), seeds.with_seed(seed))
        cpu_seconds.append(processor_seconds() - begun)
    return {"cpu_seconds": cpu_seconds, "peak_mib": peak_mib()}


def tasks() -> dict[str, Task]:
    """All tasks by name."""
    found = (make, write, load, check, cluster, switch, make_run, report, simulate)
    more = (loopback, make_transactions, make_results, results, executor)
    return {task.__name__: task for task in (*found, *more)}


def main(arguments: list[str]) -> None:
    """Run the named task, and print its answer."""
    name, given = arguments
    answer = tasks()[name](**json.loads(given))
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
