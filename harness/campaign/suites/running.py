"""Carries a suite's rows out, several at a time.

A row is a pursuit (`harness.campaign.executor`): its seeds are run one after the other
until one decides the row. A run in which the harness failed is tried again; one that
showed an anomaly never is.

With a budget, a row begins only if there is time for one of its runs. What rows leave
of it goes to more seeds of those that are to be valid.
"""

from __future__ import annotations

import datetime
import shutil
import time
from collections import deque
from dataclasses import dataclass, field, replace
from random import SystemRandom
from typing import TYPE_CHECKING

from harness.campaign.carrying import keep_packed
from harness.campaign.coverage import Coverage
from harness.campaign.engine import HERE
from harness.campaign.executor import pursue
from harness.campaign.outcome import Outcome
from harness.campaign.suites import journal, planning
from harness.campaign.suites.reading import duration_s
from harness.campaign.suites.results import RowResult
from harness.errors import HarnessError
from harness.host import interrupts
from harness.host.documents import making_room
from harness.run.store import RUN_NAME, point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.campaign.engine import Engine
    from harness.campaign.executor import Pursuit
    from harness.campaign.suites.journal import Journal
    from harness.campaign.suites.rows import Row

FRESH_SEED_MAX = 10**6
ROUNDS_MAX = 100_000


@dataclass(frozen=True)
class Night:
    """What Runner knows of a night beside its rows.

    Attributes:
        seeds: Row -> its first seed; 0 for others.
        budget_s: How long it may take in all; None for as long as it needs.
        spent_s: How long it had taken when it was cut off, if it goes on.
        done: Row -> what it had done by then (`journal.Done`).
        needs_s: Row -> how long one of its runs takes.
        free_mb: Megabytes of the disk that no row begins without.
        journal: Is told what begins and ends.
    """

    seeds: Mapping[str, int] = field(default_factory=dict)
    budget_s: float | None = None
    spent_s: float = 0.0
    done: Mapping[str, deque[tuple[Outcome, bool]]] = field(default_factory=dict)
    needs_s: Mapping[str, float] = field(default_factory=dict)
    free_mb: int = 0
    journal: Journal | None = None


@dataclass(frozen=True)
class Standing:
    """How far a suite is.

    Attributes:
        ended: How many rows have ended.
        rows: How many there are.
        spent_s: How long it has taken.
        budget_s: How long it may take; None for as long as it needs.
        under_way: Row, seed, and for how many seconds, of each run.
    """

    ended: int
    rows: int
    spent_s: float
    budget_s: float | None
    under_way: tuple[tuple[str, int, float], ...]


class Runner:
    """Runs rows, several at a time.

    A stop signal (`harness.host.interrupts`) ends the runs under way, and no others
    start; a signal that insists kills them.

    Args:
        results: The folder for run folders.
        done: Called with the result of each row as it ends.
        stop_early: Whether the first verdict that isn't valid ends the other runs, too;
            their outcomes are dropped.
        night: What there is to know beside the rows.
        show: Called about once a second with how far it is.
        engine: Where runs are carried out.

    Attributes:
        interrupted: Whether a stop signal came.
        coverage: How often the faults of all runs bit.
        lost: How the engine failed, so that what was left was not run; None if it did
            not.
    """

    def __init__(
        self,
        results: Path,
        *,
        done: Callable[[RowResult], None],
        stop_early: bool = False,
        night: Night | None = None,
        show: Callable[[Standing], None] = lambda _: None,
        engine: Engine = HERE,
    ) -> None:
        self.interrupted = False
        self.lost: HarnessError | None = None
        self._engine = engine
        self.coverage = Coverage()
        self._results = results
        self._done = done
        self._stop_early = stop_early
        self._night = night or Night()
        self._show = show
        self._stopping = False
        self._begun_s = time.monotonic()
        self._under_way: dict[tuple[str, int], float] = {}
        self._found: dict[str, RowResult] = {}
        self._rows = 0

    @property
    def spent_s(self) -> float:
        """How long the night has taken."""
        return self._night.spent_s + time.monotonic() - self._begun_s

    @property
    def left_s(self) -> float:
        """How long it may still take."""
        budget_s = self._night.budget_s
        return float("inf") if budget_s is None else budget_s - self.spent_s

    def run(
        self, rows: Sequence[Row], jobs: int, *, more: bool = True
    ) -> list[RowResult]:
        """Run every row, `jobs` at a time; rows without a result are left out.

        Args:
            rows: The rows, in the order in which they are begun.
            jobs: How many runs there are at a time.
            more: Whether time that is left goes to more seeds.
        """
        self._rows = len(rows)
        with (
            interrupts.noted() as stop,
            self._engine.executor(
                keep_packed, self._results, jobs, tick=self._tick
            ) as executor,
        ):

            def interrupt() -> None:
                self.interrupted = self._stopping = True
                executor.cancel()

            stop.listen(interrupt, executor.kill)
            pursuits = self._pursuits(rows, more=more)
            try:
                for _, result in pursue(executor, pursuits, jobs):
                    if result is None or (self._stopping and not self.interrupted):
                        continue
                    if self._note(result):
                        self._stopping = True
                        executor.cancel()
            except HarnessError as lost:
                self.lost = lost
        return [self._found[row.name] for row in rows if row.name in self._found]

    def _note(self, result: RowResult) -> bool:
        """Take in a result; whether it ends the other runs, too."""
        name = result.row.name
        is_more = name in self._found
        if is_more:
            result = merged(self._found[name], result)
        self._found[name] = result
        if not is_more or result.verdict != "valid":
            self._done(result)
        return self._stop_early and result.verdict != "valid"

    def _pursuits(
        self, rows: Sequence[Row], *, more: bool
    ) -> Iterator[Pursuit[RowResult | None]]:
        """What each worker does next, when it asks."""
        for row in rows:
            if self._stopping:
                return
            yield self._pursue(row)
        if self._night.budget_s is None or not more:
            return
        # Rows whose seeds are fixed are left out: they would repeat themselves.
        growing = deque(
            row for row in rows if row.expect == "valid" and isinstance(row.seed, str)
        )
        following: dict[str, int] = {}
        for _ in range(ROUNDS_MAX):
            grows = next(filter(self._may_go_on, list(growing)), None)
            if grows is None or self._stopping:
                return
            growing.remove(grows)
            growing.append(grows)
            seed = following.get(grows.name) or self._seed(grows) + grows.seeds
            following[grows.name] = seed + 1
            yield self._run(grows, seed, RowResult(grows))

    def _may_go_on(self, row: Row) -> bool:
        """Whether there is time for one more run of a row that is valid so far."""
        result = self._found.get(row.name)
        is_valid = result is None or result.verdict == "valid"
        return is_valid and self._needs_s(row) <= self.left_s

    def _seed(self, row: Row) -> int:
        fixed = row.seed if isinstance(row.seed, int) else 0
        return self._night.seeds.get(row.name, fixed)

    def _needs_s(self, row: Row) -> float:
        return self._night.needs_s.get(row.name) or planning.need_s(row, ())

    def _pursue(self, row: Row) -> Pursuit[RowResult | None]:
        """Run a row's seeds in turn.

        Stop at the first seed whose verdict is not valid, or which shows the anomaly or
        figures that the row asks for.

        Returns:
            The result; None if an interrupt came before there was one.
        """
        result = RowResult(row)
        begun_s = time.monotonic()
        budget_s = float("inf") if row.budget is None else duration_s(row.budget)
        first = self._seed(row)
        for seed in range(first, first + row.seeds):
            if self._stopping:
                break
            lacking = self._lacking(row)
            if not self._known(row) and lacking:
                return result if result.outcomes else replace(result, unrun=lacking)
            if result.outcomes and time.monotonic() - begun_s >= budget_s:
                return result
            got = yield from self._run(row, seed, result)
            if got is None:
                break
            result = got
            if result.decided():
                return result
        if not result.outcomes:
            return None
        if len(result.outcomes) == row.seeds:
            return result
        runs = len(result.outcomes)
        cut = f"interrupted after {runs} of {row.seeds} seeds"
        return replace(result, cut=cut)

    def _run(self, row: Row, seed: int, result: RowResult) -> Pursuit[RowResult | None]:
        """The result with the run of one seed; None if an interrupt came before."""
        for tries in range(row.retries + 1):
            outcome, again = yield from self._once(row, seed, last=tries == row.retries)
            if outcome is None:
                return None
            self.coverage.add(outcome)
            if not again:
                return result.after(outcome)
            result = replace(result, retried=(*result.retried, outcome))
        raise AssertionError

    def _once(
        self, row: Row, seed: int, *, last: bool
    ) -> Pursuit[tuple[Outcome | None, bool]]:
        """The outcome of one try, and whether there is to be another."""
        if self._known(row):
            return self._night.done[row.name].popleft()
        scarce = self._scarce()
        if scarce:
            return Outcome.failed(row.experiment(seed), scarce), False
        at = (row.name, seed)
        self._under_way[at] = time.monotonic()
        self._write("begun", row=row.name, seed=seed)
        outcome = yield row.experiment(seed)
        self._under_way.pop(at, None)
        if outcome is None:
            return None, False
        failed = outcome.verdict == "error" and not outcome.refused
        again = failed and not last and not self._stopping
        self._write("outcome", row=row.name, again=again, outcome=outcome)
        return outcome, again

    def _known(self, row: Row) -> bool:
        """Whether the next run of a row was made before the night was cut off."""
        return bool(self._night.done.get(row.name))

    def _lacking(self, row: Row) -> str:
        """Why there is no time for a run of this row; "" if there is."""
        need_s, left_s = self._needs_s(row), self.left_s
        if need_s <= left_s:
            return ""
        return (
            f"no time left: a run takes about {need_s:.0f} s, and "
            f"{max(0.0, left_s):.0f} s of the budget are left"
        )

    def _scarce(self) -> str:
        """Why the disk has no room for a run; "" if it has."""
        free_mb = shutil.disk_usage(_existing(self._results)).free >> 20
        if free_mb >= self._night.free_mb:
            return ""
        return (
            f"the disk of {self._results} has {free_mb} MB left, and the suite's "
            f"keep.free_mb asks for {self._night.free_mb}"
        )

    def _write(self, kind: str, **told: object) -> None:
        if self._night.journal is not None:
            line = {"kind": kind, "at_s": round(self.spent_s, 3), **told}
            self._night.journal.write(journal.Line(**line))  # type: ignore[arg-type]

    def _tick(self) -> None:
        now_s = time.monotonic()
        under_way = tuple(
            (name, seed, now_s - begun_s)
            for (name, seed), begun_s in self._under_way.items()
        )
        self._show(
            Standing(
                len(self._found),
                self._rows,
                self.spent_s,
                self._night.budget_s,
                under_way,
            )
        )


def merged(before: RowResult, more: RowResult) -> RowResult:
    """The result of a row with runs that were made besides; the gravest decides."""
    outcomes = [*before.outcomes, *more.outcomes]
    outcomes.sort(key=lambda one: one.verdict != "valid")  # stable
    return replace(
        before, outcomes=tuple(outcomes), retried=(*before.retried, *more.retried)
    )


def _existing(folder: Path) -> Path:
    """The folder, or the innermost around it that is there."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def suite_folder(results: Path, name: str) -> Path:
    """A new folder for a suite's index, below `results`."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    parent = results.absolute() / "suites"
    folder = parent / f"{stamp}Z-{RUN_NAME.sub('_', name)}"
    with making_room(f"results to {results}"):
        folder.mkdir(parents=True)
        point(parent / "latest", folder)
    return folder


def fresh_seed() -> int:
    """A seed from the system's chance."""
    return SystemRandom().randrange(FRESH_SEED_MAX)
