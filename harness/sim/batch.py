"""Many simulated runs, several to a process: for sweeps of seeds and for benchmarks.

A run is over before a process would have started, so each worker takes seed after seed.
What a run records goes to a scratch folder, is judged, and is thrown away without a
report; whoever wants one runs that seed again, which gives the same to the byte.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import multiprocessing.connection
import os
import shlex
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness import analysis, run
from harness.collector import collector_paused
from harness.errors import HarnessError
from harness.osworld import kernel
from harness.scratch import scratch_folder
from harness.sim import world
from harness.spec import TestSpec
from harness.store import RunFolder
from harness.verdict import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from multiprocessing.connection import Connection

CHECK_LIMIT_S = 30.0
"""For the judging of one run; a longer search would stop the whole sweep."""
COLLECT_EVERY = 20
"""Runs between two searches for cyclic garbage, which otherwise interrupt them."""


@dataclass(frozen=True)
class SeedResult:
    """What came of one run.

    Attributes:
        verdict: valid, invalid, unknown, or error when the harness failed.
        anomalies: Names of the anomalies found, each once.
        reason: Why it is unknown, or what failed; empty otherwise.
        ops: Client operations by outcome.
        seconds: Of real time, judging included.
        repro: The command that repeats it.
    """

    seed: int
    verdict: str
    anomalies: tuple[str, ...]
    reason: str
    ops: Mapping[str, int]
    seconds: float
    repro: str

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def agrees_with(self, outcome: Mapping[str, Any]) -> bool:
        """Whether another run of the same seed came to the same."""
        again = (verdict_of(outcome), anomalies_of(outcome))
        return (self.verdict, self.anomalies) == again


def verdict_of(outcome: Mapping[str, Any]) -> str:
    """A run's verdict; "error" where the harness failed."""
    return str(outcome["verdict"]) if outcome["harness"]["ok"] else "error"


def anomalies_of(outcome: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the anomalies found, each once."""
    checkers = outcome["checkers"].values()
    return tuple(sorted({a["name"] for c in checkers for a in c["anomalies"]}))


def reason_of(outcome: Mapping[str, Any]) -> str:
    """Why a run is unknown, or what failed."""
    reasons = [outcome["reason"], *outcome["harness"]["errors"]]
    reasons += [c.get("reason", "") for c in outcome["checkers"].values()]
    return next((reason for reason in reasons if reason), "")


def with_seed(spec: TestSpec, seed: int) -> TestSpec:
    """The same run from another seed."""
    return msgspec.structs.replace(spec, seed=seed)


def run_seed(spec: TestSpec, scratch: Path) -> SeedResult:
    """Run `spec` in the simulator and judge it; leaves nothing in `scratch`.

    Cost: about a third of a second for 1,000 operations of five nodes.

    Raises:
        UsageError: The run is impossible.
        KeyboardInterrupt: It was interrupted; to run it again is cheaper than to keep
            and judge a part of it.
    """
    begun_s = time.perf_counter()
    spec = with_seed(spec, spec.seed)
    parts, schedule, _ = run.prepare(spec)
    repro = shlex.join(spec.command())
    folder = RunFolder(Path(tempfile.mkdtemp(dir=scratch)))
    try:
        failed = world.execute(spec, parts, schedule, folder, None)
        ran = folder.read_as("run.json", analysis.RunRecord)
        if ran is not None and ran.ended == "interrupted":
            raise KeyboardInterrupt
        test = analysis.TestRecord(
            spec=spec,
            nodes=spec.node_names,
            invariants=list(parts.system.invariants),
            repro=repro,
        )
        outcome = analysis.outcome(test, folder, Limits(time_s=CHECK_LIMIT_S))
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)
    return SeedResult(
        seed=spec.seed,
        verdict="error" if failed else verdict_of(outcome),
        anomalies=anomalies_of(outcome),
        reason=failed or reason_of(outcome),
        ops=outcome["ops"],
        seconds=round(time.perf_counter() - begun_s, 3),
        repro=repro,
    )


def run_seeds(
    spec: TestSpec, seeds: Iterable[int], jobs: int = 1
) -> Iterator[SeedResult]:
    """Run `spec` with every seed, `jobs` at a time; results in the order of `seeds`.

    Closing the iterator ends the runs under way.

    Raises:
        UsageError: The run is impossible.
        HarnessError: A worker died.
    """
    # In this process first: an impossible run is refused before anything starts.
    run.prepare(with_seed(spec, spec.seed))
    work = (with_seed(spec, seed) for seed in seeds)
    with scratch_folder("splitbrain-sim-") as scratch:
        if jobs == 1:
            yield from run_here(work, scratch)
        else:
            yield from run_in_workers(work, scratch, jobs)


def run_here(work: Iterable[TestSpec], scratch: Path) -> Iterator[SeedResult]:
    """Run specs one after the other in this process."""
    for count, spec in enumerate(work, 1):
        with collector_paused():
            result = run_seed(spec, scratch)
        yield result
        if count % COLLECT_EVERY == 0:
            gc.collect()


def run_in_workers(
    work: Iterable[TestSpec], scratch: Path, jobs: int
) -> Iterator[SeedResult]:
    """Run specs in `jobs` processes; results in the order of `work`.

    After an interrupt come the results that waited for their turn, as far as there are.
    """
    todo = enumerate(work)
    done: dict[int, SeedResult] = {}
    next_one = 0
    workers = [Worker(scratch) for _ in range(jobs)]
    try:
        for worker in workers:
            worker.take(todo)
        while busy := [worker for worker in workers if worker.place is not None]:
            for worker in those_with_news(busy):
                place, result = worker.give()
                done[place] = result
                worker.take(todo)
            while next_one in done:
                yield done.pop(next_one)
                next_one += 1
    except KeyboardInterrupt:
        yield from (done[place] for place in sorted(done))
        raise
    finally:
        for worker in workers:
            worker.end()


def those_with_news(workers: Iterable[Worker]) -> list[Worker]:
    """Wait until some of the workers have a result, or have died."""
    workers = list(workers)
    ready = multiprocessing.connection.wait([worker.pipe for worker in workers])
    return [worker for worker in workers if worker.pipe in ready]


class Worker:
    """A process that runs one spec after another; it ends when we do, in any way.

    Attributes:
        pipe: Specs go in, results come out.
        place: Of what it works on, in the queue; None while it is idle.
    """

    def __init__(self, scratch: Path) -> None:
        # Spawned, not forked: whatever this process has open or running stays here.
        context = multiprocessing.get_context("spawn")
        self.place: int | None = None
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, scratch), daemon=True
        )
        self._process.start()
        theirs.close()

    def take(self, todo: Iterator[tuple[int, TestSpec]]) -> None:
        """Begin with the next spec, if there is one."""
        self.place = None
        for place, spec in todo:
            self.place = place
            with contextlib.suppress(OSError):  # one that died tells when asked
                self.pipe.send_bytes(msgspec.msgpack.encode(spec))
            return

    def give(self) -> tuple[int, SeedResult]:
        """What came of the spec that was taken last.

        Raises:
            HarnessError: The worker died.
        """
        assert self.place is not None
        try:
            result: SeedResult = self.pipe.recv()
        except (EOFError, OSError):
            raise HarnessError("a worker of the simulator died") from None
        return self.place, result

    def end(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self.pipe.close()


def serve(pipe: Connection, scratch: Path) -> None:
    """A worker's life. A Ctrl-C in the terminal is its parent's, which ends it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    kernel.die_with(parent.pid)
    os.setsid()
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        for result in run_here(received(pipe), scratch):
            pipe.send(result)


def received(pipe: Connection) -> Iterator[TestSpec]:
    """The specs that come through the pipe, until its other end is gone."""
    while True:
        try:
            data = pipe.recv_bytes()
        except EOFError:
            return
        yield msgspec.msgpack.decode(data, type=TestSpec)
