"""Trials, held side by side: what all benchmarks of seeded bugs do alike.

A trial is a pursuit (`harness.campaign.executor`): run after run, until it has a
result. `hold` carries them out and adds each result to its row of the table, and
`store` keeps the record. A stop signal ends a benchmark early; what it has is kept.
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from harness.campaign.engine import HERE
from harness.campaign.executor import pursue
from harness.campaign.experiment import Experiment
from harness.errors import HarnessError, SplitbrainError
from harness.host import interrupts, release
from harness.host.documents import making_room
from harness.host.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.campaign.engine import Engine
    from harness.campaign.executor import Pursuit
    from harness.campaign.outcome import Outcome
    from harness.host.interrupts import Interrupts
    from harness.run.spec import TestSpec

R = TypeVar("R")

SEEDS_APART = 100_000
"""Distance of the seeds of two repetitions, so that they share none."""


# --- one run after another ---------------------------------------------------------


def one(spec: TestSpec, seed: int) -> Pursuit[Outcome]:
    """A pursuit of one run, which returns its outcome.

    Raises:
        HarnessError: The run failed, or was ended from outside. Such a run may cost
            nothing, so the budget would never end the trial.
    """
    outcome = yield Experiment(spec).with_seed(seed)
    if outcome is None:
        raise HarnessError("somebody ended the run")
    if outcome.verdict == "error":
        raise HarnessError(f"seed {seed}: {outcome.reason}")
    return outcome


def stoppable(
    pursuit: Pursuit[R], stop: Interrupts, note: Callable[[Outcome], None]
) -> Pursuit[R]:
    """The same pursuit, whose runs are all ended from outside once a signal came.

    `note` is called with each outcome.
    """
    outcome: Outcome | None = None
    while True:
        try:
            asked = pursuit.send(outcome)
        except StopIteration as done:
            result: R = done.value
            return result
        outcome = None if stop.heard else (yield asked)
        if outcome is not None:
            note(outcome)


def whatever_comes(trying: Pursuit[R]) -> Pursuit[R | Failed]:
    """A pursuit that returns the result of another, or why that failed."""
    try:
        return (yield from trying)
    except SplitbrainError as failure:
        return Failed(str(failure))


@dataclass(frozen=True)
class Failed:
    """The reason why a trial has no result."""

    why: str


# --- all trials --------------------------------------------------------------------


class Row(Protocol):
    """A row of the table, and why its last trial failed, if it did."""

    error: str

    def cells(self) -> tuple[str, ...]:
        """What stands in the table."""
        ...


@dataclass(frozen=True)
class Turn(Generic[R]):
    """A trial that is to be held.

    Attributes:
        row: The row that it belongs to.
        begin: Begins it.
        add: Adds its result to the row.
    """

    row: Row
    begin: Callable[[], Pursuit[R]]
    add: Callable[[R], object]


def hold(
    turns: Sequence[Turn[R]],
    carry_out: Callable[[Path, Experiment], Outcome],
    jobs: int,
    limit_s: float,
    *,
    show: Callable[[str], None],
    tell: Callable[[str], None],
    note: Callable[[Outcome], object] | None = None,
    engine: Engine = HERE,
) -> str:
    """Hold all trials, `jobs` at a time; their results go to their rows.

    Args:
        turns: The trials.
        carry_out: Carries out a run, in a scratch folder.
        jobs: How many runs go on side by side.
        limit_s: Real seconds that a run may take.
        show: Called with a line for each trial that was held.
        tell: Called with a clause after each run.
        note: Called with the outcome of each run.
        engine: Where runs are carried out.

    Returns:
        How many were held when a stop signal came; empty if none did.
    """
    progress = Progress(len(turns), tell)

    def count(outcome: Outcome) -> None:
        if note is not None:
            note(outcome)
        progress.count()

    with (
        scratch_folder("splitbrain-bench-") as scratch,
        interrupts.noted() as stop,
        engine.executor(carry_out, scratch, jobs, limit_s=limit_s) as executor,
    ):
        stop.listen(executor.cancel, executor.kill)
        pursuits = (
            whatever_comes(stoppable(turn.begin(), stop, count))
            for turn in turns
            if not stop.heard
        )
        for place, came in pursue(executor, pursuits, jobs):
            turn = turns[place]
            if not isinstance(came, Failed):
                turn.add(came)
            elif stop.heard:  # it was ended, which is no error
                continue
            else:
                turn.row.error = came.why
            progress.done += 1
            show(" ".join(cell for cell in turn.row.cells() if cell))
    return progress.left_at


class Measured(Protocol):
    """What came of a benchmark."""

    interrupted: str

    @property
    def meets_target(self) -> bool:
        """Whether the target was met."""
        ...


def outcome_of(measured: Measured) -> str:
    """What became of the target, in a word or two."""
    if measured.interrupted:
        return f"open: interrupted, {measured.interrupted}"
    return "met" if measured.meets_target else "MISSED"


class Progress:
    """Counts what a benchmark has done so far.

    Args:
        of: How many trials there are to hold.
        tell: Called with a clause after each run.

    Attributes:
        done: How many of them are done.
    """

    def __init__(self, of: int, tell: Callable[[str], None]) -> None:
        self.done = 0
        self._of = of
        self._tell = tell
        self._runs = 0
        self._begun_s = time.monotonic()

    @property
    def told(self) -> str:
        """How much is done."""
        return f"{self.done} of {self._of} trials held"

    @property
    def left_at(self) -> str:
        """How much was done when a benchmark was ended early; empty if it wasn't."""
        return self.told if self.done < self._of else ""

    def count(self) -> None:
        """Count a run."""
        self._runs += 1
        took_s = time.monotonic() - self._begun_s
        self._tell(f"{took_s:.0f} s, {self._runs} runs, {self.told}")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table: its headings, a rule, and a line for each row."""
    lines = [headings, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    out = [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return [out[0], "  ".join("-" * width for width in widths), *out[1:]]


def make_place(results: Path) -> Path:
    """The folder below `results` for records of benchmarks.

    Raises:
        UsageError: It can't be made.
    """
    place = results.absolute() / "bench"
    with making_room(f"to {place}"):
        place.mkdir(parents=True, exist_ok=True)
    return place


def now() -> datetime.datetime:
    """When a benchmark begins."""
    return datetime.datetime.now(datetime.UTC)


def store(
    place: Path, name: str, begun: datetime.datetime, measured: Mapping[str, Any]
) -> tuple[dict[str, Any], Path]:
    """Write a record below `place`: what was measured, by which command, and where."""
    from harness.bench.bench import machine

    record = {
        "command": ["splitbrain", *sys.argv[1:]],
        "commit": release.commit(),
        "started_utc": begun.isoformat(),
        "machine": machine(place),
        **measured,
    }
    path = place / f"{name}-{begun.strftime('%Y%m%dT%H%M%SZ')}.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record, path
