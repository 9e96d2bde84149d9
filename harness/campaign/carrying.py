"""Carries out one experiment and judges it, in this process and its children."""

from __future__ import annotations

import contextlib
import gc
import itertools
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.campaign.outcome import Outcome, Seen
from harness.errors import HarnessError
from harness.host import packing
from harness.host.collector import collector_paused
from harness.judge import analysis
from harness.run import assembling, execution
from harness.run.records import TestRecord
from harness.run.store import RunFolder
from harness.verdict import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.campaign.experiment import Experiment

CHECK_LIMIT_S = 30.0
"""Time limit for judging one run of many; a longer search would hold up all others."""
COLLECT_EVERY = 20
"""Runs between two searches for cyclic garbage, which cost time within a run."""

Look = Callable[[RunFolder, Sequence[str]], Seen]
"""Run folder, names of nodes -> what an exploration sees in the run."""

_simulated = itertools.count(1)


def keep(
    results: Path,
    experiment: Experiment,
    look: Look | None = None,
    *,
    failures_only: bool = False,
    packs: bool = False,
) -> Outcome:
    """Carry out an experiment; its folder stays below `results`, with its report.

    With `packs` the folder of a run that came out as expected is packed
    (`harness.host.packing`). With `failures_only` it stays only if the run is invalid
    or the harness failed, and judging is limited in time. A stop signal ends the run
    early; the recorded part is judged. `look` gives what the outcome tells
    explorations.

    Raises:
        UsageError: The run is impossible.
        HarnessError: The run could not be set up, or recorded.
        KeyboardInterrupt: The run was interrupted before there was anything to judge.
    """
    assert experiment.fresh_dice is None, "a folder could not tell of them"
    begun = now()
    spec = msgspec.structs.replace(experiment.spec)
    folder = execution.run(spec, results, plan=experiment.plan)
    is_kept = True
    if failures_only:
        limits = Limits(time_s=CHECK_LIMIT_S)
        record = analysis.outcome(folder.test(), folder, limits)
        is_kept = record.verdict == "invalid" or not record.harness.ok
        if is_kept:
            analysis.tell(folder, record)
    else:
        record = analysis.judged(folder)
    as_run = replace(experiment, spec=spec)
    if experiment.plan is not None:
        as_run = replace(as_run, plan_file=str(folder.path / "plan.yaml"))
    outcome = Outcome.of(as_run, record, folder if is_kept else None)
    outcome = looked_at(outcome, folder, look)
    if not is_kept:
        shutil.rmtree(folder.path, ignore_errors=True)
    elif packs and outcome.verdict == spec.expect:
        with contextlib.suppress(HarnessError):  # then it stays as it is
            packing.pack(folder.path)
    return with_cost(outcome, begun)


def keep_packed(results: Path, experiment: Experiment) -> Outcome:
    """As `keep`; the folder of a run that came out as expected is packed."""
    return keep(results, experiment, packs=True)


def discard(
    scratch: Path,
    experiment: Experiment,
    look: Look | None = None,
    *,
    hasty: bool = False,
) -> Outcome:
    """Carry out an experiment without a report; leaves nothing in `scratch`.

    `look` gets the folder before it is removed (see `keep`). A
    hasty run ends as soon as it is convicted (`harness.run.execution.carry_out`).
    Cost: in the simulator about a third of a second for 1,000 operations of five nodes.

    Raises:
        UsageError: The run is impossible.
        HarnessError: The run could not be recorded.
        KeyboardInterrupt: The run was interrupted. A part of it is not judged, as it is
            cheaper to run it again.
    """
    begun = now()
    spec = msgspec.structs.replace(experiment.spec)
    with seldom_collected(spec.world):
        parts, schedule, rung = assembling.prepare(spec, experiment.plan)
        as_run = replace(experiment, spec=spec)
        folder = RunFolder(Path(tempfile.mkdtemp(dir=scratch)))
        try:
            unheard = execution.carry_out(
                spec,
                parts,
                schedule,
                folder,
                rung,
                fresh_dice=experiment.fresh_dice,
                hasty=hasty,
            )
            ran = folder.run()
            if unheard or (ran is not None and ran.ended == "interrupted"):
                raise KeyboardInterrupt
            test = TestRecord(
                spec=spec,
                nodes=spec.node_names,
                invariants=list(parts.system.invariants),
                asked=execution.asked(schedule),
                repro=shlex.join(as_run.command()),
            )
            record = analysis.outcome(test, folder, Limits(time_s=CHECK_LIMIT_S))
            outcome = looked_at(Outcome.of(as_run, record, None), folder, look)
        finally:
            shutil.rmtree(folder.path, ignore_errors=True)
    return with_cost(outcome, begun)


def looked_at(outcome: Outcome, folder: RunFolder, look: Look | None) -> Outcome:
    """The outcome with what `look` sees in its folder.

    In an invalid run it sees nothing: variations would fail again in the same way.
    """
    if look is None or outcome.verdict == "invalid":
        return outcome
    seen = look(folder, outcome.experiment.spec.node_names)
    return msgspec.structs.replace(outcome, **seen._asdict())


def now() -> tuple[float, float]:
    """Real time and processor time, in seconds."""
    return time.perf_counter(), time.process_time()


def with_cost(outcome: Outcome, begun: tuple[float, float]) -> Outcome:
    """The outcome with its cost since `begun`, which `now` gave."""
    seconds, cpu_s = (round(b - a, 3) for a, b in zip(begun, now(), strict=True))
    return msgspec.structs.replace(outcome, seconds=seconds, cpu_s=cpu_s)


@contextlib.contextmanager
def seldom_collected(world: str) -> Iterator[None]:
    """Search for cyclic garbage only now and then, as simulated runs are short."""
    if world != "sim":
        yield
        return
    with collector_paused():
        yield
    if next(_simulated) % COLLECT_EVERY == 0:
        gc.collect()
