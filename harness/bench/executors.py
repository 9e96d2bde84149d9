"""The rows of executors: what an experiment costs beside what it does.

Two processes of this machine take turns with a cluster on it: a scheduler of Dask and a
worker that does two runs at a time. All share the same cores, so the difference is what
a cluster costs, and not what it gains.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.bench import children
from harness.bench.rows import Lab, Row, SkippedError, column, scratch
from harness.campaign import carrying, choosing, cluster
from harness.campaign.executor import pursue
from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Outcome
from harness.campaign.seeds import once
from harness.errors import HarnessError, UsageError
from harness.host.scratch import scratch_folder
from harness.run.completing import complete
from harness.run.spec import TestSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.bench.figures import Figure

JOBS = 2
EMPTY_RUNS = 500
SIMULATED_RUNS = 200
QUICK_SHARE = 4
"""A quick benchmark makes so many times fewer."""
START_S = 60.0


def nothing_done(_: Path, experiment: Experiment) -> Outcome:
    """Carry out an experiment that takes no time."""
    return Outcome(experiment=experiment, verdict="valid")


@contextlib.contextmanager
def cluster_here(folder: Path) -> Iterator[str]:
    """A scheduler and a worker on this machine; gives the address for `--executor`."""
    file = folder / "scheduler.json"
    scheduler = subprocess.Popen(
        [
            *(sys.executable, "-m", "dask", "scheduler", "--no-dashboard"),
            *("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        until_s = time.monotonic() + START_S
        while not file.exists():
            if time.monotonic() > until_s or scheduler.poll() is not None:
                raise HarnessError("no scheduler of Dask can be started")
            time.sleep(0.05)
        told = json.loads(file.read_text(encoding="utf-8"))["address"]
        address = f"{choosing.CLUSTER}{told.partition('://')[2]}"
        worker = subprocess.Popen(
            [sys.executable, "-m", "harness", "worker", address, "--jobs", str(JOBS)],
            stdout=subprocess.PIPE,
        )
        try:
            assert worker.stdout is not None
            worker.stdout.readline()
            yield address
        finally:
            worker.terminate()
            worker.communicate()
    finally:
        scheduler.terminate()
        scheduler.wait()


def measure(executor: str, runs: int, *, empty: bool) -> dict[str, Any]:
    """Carry out experiments, two at a time; the first ones are not counted."""
    spec = TestSpec(
        system="raft",
        workload="",
        nemesis=["none"],
        nodes=1,
        ops=20,
        rate=20.0,
        time_limit_s=1.0,
        world="sim",
    )
    complete(spec)
    experiment = Experiment(spec)
    how = nothing_done if empty else carrying.discard
    with (
        scratch_folder("splitbrain-bench-") as place,
        choosing.engine_of(executor, place, "", print) as engine,
        engine.executor(how, place, engine.jobs or JOBS) as executor_of_it,
    ):

        def carry_out(seeds: range) -> float:
            begun_s = time.perf_counter()
            pursuits = (once(experiment.with_seed(seed)) for seed in seeds)
            for _ in pursue(executor_of_it, pursuits, engine.jobs or JOBS):
                pass
            return time.perf_counter() - begun_s

        carry_out(range(runs, runs + 10 * JOBS))
        seconds = carry_out(range(runs))
    return {"ms": 1000 * seconds / runs, "per_s": runs / seconds}


def measure_empty(lab: Lab, row: Row) -> list[Figure]:
    """Measure what an experiment costs that takes no time."""
    here, there = measured(lab, EMPTY_RUNS, empty=True)
    return [
        row.figure("local", "ms", column(here, "ms")),
        row.figure("dask", "ms", column(there, "ms")),
    ]


def measure_simulated(lab: Lab, row: Row) -> list[Figure]:
    """Measure how many tiny simulations there are in a second."""
    here, there = measured(lab, SIMULATED_RUNS, empty=False)
    return [
        row.figure("local", "runs/s", column(here, "per_s")),
        row.figure("dask", "runs/s", column(there, "per_s")),
    ]


def measured(
    lab: Lab, runs: int, *, empty: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The answers of this machine's processes, and those of a cluster on it."""
    try:
        cluster.need_dask()
    except UsageError as lack:
        raise SkippedError(str(lack)) from None
    runs = runs // QUICK_SHARE if lab.quick else runs
    here: list[dict[str, Any]] = []
    there: list[dict[str, Any]] = []
    with scratch(lab) as folder, cluster_here(Path(folder)) as address:
        for _ in range(lab.repeat):
            for executor, answers in ((choosing.LOCAL, here), (address, there)):
                asked = {"executor": executor, "runs": runs, "empty": empty}
                answers.append(children.measure("executor", **asked))
    return here, there


def rows() -> list[Row]:
    """A row of experiments that do nothing, and one of tiny simulations."""
    return [
        Row("executor/empty", "an experiment without a run", measure_empty),
        Row("executor/sim", "tiny simulations", measure_simulated),
    ]
