"""One night of a suite: planned, carried out or gone on with, and judged."""

from __future__ import annotations

import datetime
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.campaign.engine import HERE
from harness.campaign.processes import cpu_jobs
from harness.campaign.suites import (
    baseline,
    exploring,
    journal,
    keeping,
    known,
    nights,
    planning,
    reading,
    running,
)
from harness.campaign.suites.results import exit_status, with_those_not_run
from harness.campaign.suites.rows import as_data
from harness.errors import (
    EXIT_HARNESS,
    EXIT_INVALID,
    EXIT_UNKNOWN,
    EXIT_USAGE,
    EXIT_VALID,
    HarnessError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.campaign.coverage import Coverage
    from harness.campaign.engine import Engine
    from harness.campaign.suites.journal import Done
    from harness.campaign.suites.known import Entry
    from harness.campaign.suites.nights import Night
    from harness.campaign.suites.reading import Suite
    from harness.campaign.suites.results import RowResult
    from harness.campaign.suites.rows import Row
    from harness.campaign.suites.running import Standing

LAST = "last"
"""The word that means the last night in place of a folder."""
_GRAVE = (EXIT_VALID, EXIT_UNKNOWN, EXIT_INVALID, EXIT_USAGE, EXIT_HARNESS)


class Watching(Protocol):
    """Who is told how a night goes."""

    def ended(self, result: RowResult) -> None:
        """A row has ended."""
        ...

    def standing(self, standing: Standing) -> None:
        """Called about once a second."""
        ...

    def searching(self, row: Row, told: str) -> None:
        """How far a search is."""
        ...


@dataclass(frozen=True)
class Ended:
    """What a night showed.

    Attributes:
        results: The result of every row, in the order of the file.
        coverage: How often faults bit.
        judged: What the known failures make of it.
        compared: The comparison with another night, if there is one.
    """

    results: list[RowResult]
    coverage: Coverage
    judged: known.Judged
    compared: baseline.Comparison | None = None

    @property
    def status(self) -> int:
        """The exit status: the gravest of rows, known failures and comparison."""
        left = [one for one in self.results if one.row.name not in self.judged.excused]
        ran = any(one.outcomes for one in self.results)
        statuses = [exit_status(left) if left or not ran else EXIT_VALID]
        if self.judged.expired:
            statuses.append(EXIT_INVALID)
        if self.compared is not None and self.compared.worse:
            statuses.append(EXIT_INVALID)
        if self.compared is not None and self.compared.doubtful:
            statuses.append(EXIT_UNKNOWN)
        return max(statuses, key=_GRAVE.index)

    @property
    def lines(self) -> list[str]:
        """What there is to say beside the rows."""
        told = [f"known: {name}: {why}" for name, why in self.judged.excused.items()]
        told += [*self.judged.expired, *self.judged.idle]
        return told + ([] if self.compared is None else self.compared.lines())


@dataclass
class Tonight:
    """One night of a suite.

    Attributes:
        suite: The suite.
        rows: Those of its rows that are asked for.
        results: The results folder.
        only: The words by which the rows were chosen; None for all.
        budget_s: How long it may take; None for as long as it needs.
        engine: Where runs are carried out.
        remarks: Sentences for whoever started it.
        folder: Where its journal and index are; made when it begins.
        interrupted: Whether a stop signal came.
        lost: How the engine failed; None if it did not.

    Raises:
        UsageError: A row asks for the impossible.
    """

    suite: Suite
    rows: Sequence[Row]
    results: Path
    only: str | None = None
    budget_s: float | None = None
    engine: Engine = HERE
    remarks: list[str] = field(default_factory=list)
    folder: Path = field(default_factory=Path)
    interrupted: bool = False
    lost: HarnessError | None = None

    def __post_init__(self) -> None:
        if self.budget_s is None:
            self.budget_s = self.suite.budget_s
        self._absent = reading.check(self.suite, self.rows, self.engine)
        self._former = nights.former(self.results, self.suite.name)
        self._seeds = {
            row.name: planning.first_seed(row, self._former, running.fresh_seed)
            for row in self.rows
        }
        lacking = {result.row.name for result in self._absent}
        possible = [row for row in self.rows if row.name not in lacking]
        self._order = planning.in_order(possible, self._former)
        self._baseline: Night | None = None
        self._done: Done | None = None

    def compare_with(self, told: str) -> None:
        """Compare with the night in a folder, or with the last one.

        Raises:
            UsageError: There is no night in the folder.
        """
        if told != LAST:
            self._baseline = nights.read(Path(told))
        elif self._former:
            self._baseline = self._former[0]
        else:  # a first night must not fail for that
            name = self.suite.name
            self.remarks.append(f"there is no earlier night of {name} to compare with")

    def resume(self) -> None:
        """Go on with the last night, which was cut off.

        Rows that have changed since are run anew.

        Raises:
            UsageError: There is none.
        """
        done = self._done = journal.unfinished(self.results, self.suite.name)
        self.folder = done.folder
        if self.only != done.plan.only:
            said = "without --only"
            if done.plan.only is not None:
                said = f"with --only {done.plan.only!r}"
            raise UsageError(f"the night to resume was begun {said}: resume it so")
        if self.budget_s is None:
            self.budget_s = done.plan.budget_s
        for name, how in journal.changed(done.plan, self.rows).items():
            done.outcomes.pop(name, None)
            self.remarks.append(f"row {name!r} is {how} since the night began")
        for name, seed in done.under_way:
            self.remarks.append(f"{name!r}, seed {seed}, was under way: run again")
        for name in self._seeds.keys() & done.plan.seeds.keys():
            self._seeds[name] = done.plan.seeds[name]
        place = {name: at for at, name in enumerate(done.plan.rows)}
        self._order.sort(key=lambda row: place.get(row.name, len(place)))

    @property
    def listing(self) -> list[dict[str, object]]:
        """The rows in the order of tonight: what they ask for, seed and time."""
        return [
            {
                **as_data(row),
                "seed": self._seeds[row.name],
                "needs_s": round(planning.need_s(row, self._former) * row.seeds, 1),
            }
            for row in self._order
        ]

    @property
    def absent(self) -> list[RowResult]:
        """The results of rows that this machine can't run."""
        return list(self._absent)

    def carry_out(self, jobs: int | None, watching: Watching) -> None:
        """Run the rows, those that search last.

        Args:
            jobs: Runs side by side; None for one per two cores.
            watching: Is told how it goes.

        Raises:
            HarnessError: The journal can't be written.
        """
        if self._done is None:
            self.folder = running.suite_folder(self.results, self.suite.name)
        diary = journal.Journal(self.folder)
        try:
            self._begin(diary)
            self._run(jobs or self.engine.jobs or cpu_jobs(), diary, watching)
        finally:
            diary.close()

    def _begin(self, diary: journal.Journal) -> None:
        if self._done is not None:
            spent_s = self._done.spent_s
            diary.write(journal.Line(kind="resumed", at_s=spent_s))
            return
        diary.begin(
            journal.Plan(
                suite=self.suite.name,
                file=str(self.suite.file),
                only=self.only,
                budget_s=self.budget_s,
                rows={row.name: journal.digest(row) for row in self._order},
                seeds=dict(self._seeds),
                started_utc=datetime.datetime.now(datetime.UTC).isoformat(),
            )
        )

    def _run(self, jobs: int, diary: journal.Journal, watching: Watching) -> None:
        for lack in self._absent:
            watching.ended(lack)
        searches = [row for row in self._order if row.explore]
        runner = running.Runner(
            self.results,
            done=watching.ended,
            show=watching.standing,
            engine=self.engine,
            night=running.Night(
                seeds=self._seeds,
                budget_s=self.budget_s,
                spent_s=0.0 if self._done is None else self._done.spent_s,
                done={} if self._done is None else self._done.outcomes,
                needs_s={
                    row.name: planning.need_s(row, self._former) for row in self.rows
                },
                free_mb=self.suite.keep.free_mb,
                journal=diary,
            ),
        )
        plain = [row for row in self._order if not row.explore]
        self.found = runner.run(plain, jobs, more=not searches)
        self.coverage = runner.coverage
        shares_s = exploring.shares_s(searches, runner.left_s)
        for row, share_s in zip(searches, shares_s, strict=True):
            if runner.interrupted or runner.lost:
                break
            result = exploring.search(
                row,
                self._seeds[row.name],
                share_s,
                self.results,
                jobs,
                self.engine,
                functools.partial(watching.searching, row),
            )
            runner.interrupted = bool(result.interrupted)
            self.found.append(result)
            watching.ended(result)
        self.interrupted = runner.interrupted
        self.lost = runner.lost
        if not self.interrupted and not self.lost:
            diary.write(journal.Line(kind="ended", at_s=round(runner.spent_s, 3)))

    def tidy(self) -> str:
        """Remove what the suite does not keep of its runs; a sentence about that."""
        return keeping.prune(self.results, self.suite.name, self.suite.keep).told

    def ended(self, entries: Sequence[Entry]) -> Ended:
        """What the night showed, with known failures excused."""
        results = with_those_not_run(self.rows, [*self._absent, *self.found])
        today = datetime.datetime.now(datetime.UTC).date()
        judged = known.judge(results, entries, today)
        compared = None
        if self._baseline is not None:
            told = [result.as_json() for result in results]
            compared = baseline.compare(told, self._baseline)
        return Ended(results, self.coverage, judged, compared)
