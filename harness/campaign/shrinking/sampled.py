"""The search over real processes, where a run fails or doesn't.

`sampling` has the rule: what the original must show, and what a candidate. The search
tries one way after the other, as in the simulator. A run takes seconds, so it first
tries a few candidates of each way, from the boldest to the mildest, then all. A
candidate that misses in its first run is put aside, so that those that fail for sure
are found first; what its runs showed is kept. When no candidate is left that wasn't put
aside or rejected, a final sweep drives each to a verdict by the rule. A search that
gets through this has shown that no single change makes the result smaller.

Now and then the experiment adopted last is run again, and the result is, at the end. If
these fresh runs show that it fails less often than it had seemed to, the search goes
back to the one before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.campaign.shrinking.changes import WAYS, Change, over_after
from harness.campaign.shrinking.lab import Lab, name_of, smaller_ones, told
from harness.campaign.shrinking.sampling import (
    DROUGHT,
    MONITOR_EVERY,
    NEVER_RUNS,
    PROVISIONAL_HITS,
    SETTLED_RUNS,
    anchored,
    confirmed,
)
from harness.errors import HarnessError, UsageError
from harness.report.rates import Z_80, Rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.campaign.experiment import Experiment
    from harness.campaign.outcome import Outcome
    from harness.campaign.shrinking.changes import Way
    from harness.campaign.shrinking.sampling import Bar, Decision

MARGIN_S = 1.0
"""What a run gets beyond the time in which all failures so far were known."""
FEW = 6
"""Candidates of a way that are tried before all others."""

Patience = Literal["hasty", "fair", "patient"]
"""Until when a candidate is run: its first miss; it hardly can reach the bar; the rule
has decided."""


@dataclass(frozen=True)
class Confirmed:
    """What the runs of an experiment showed.

    Attributes:
        known_s: When the last failure was known, in seconds of its run; None if one
            showed after the end only, or there was none.
    """

    experiment: Experiment
    rate: Rate
    known_s: float | None


def confirm(
    experiment: Experiment, lab: Lab, never_runs: int = NEVER_RUNS, fair: float = 0.0
) -> Confirmed:
    """Run an experiment until it is confirmed, or can't be.

    Args:
        experiment: What is to fail again.
        lab: Makes the runs.
        never_runs: It is given up if none of so many runs fails.
        fair: It is given up, too, if it hardly fails so often.

    Raises:
        UsageError: It can't be run here.
        HarnessError: A run failed.
        BudgetSpentError: There is no time left.
    """
    rate, latest_s = Rate(0, 0), 0.0
    for outcome in lab.repeated(experiment):
        if outcome.verdict == "error":
            raise (UsageError if outcome.refused else HarnessError)(outcome.reason)
        hit = lab.shows(outcome)
        rate = rate.with_run(hit=hit)
        lab.notes.progress(f"as it is: failed {rate.hits} of {rate.runs}")
        if hit:
            known_s = outcome.convicted_s
            latest_s = math.inf if known_s is None else max(latest_s, known_s)
        if confirmed(rate, never_runs) != "run again" or rate.upper(Z_80) < fair:
            break
    known = rate.hits > 0 and latest_s < math.inf
    return Confirmed(experiment, rate, latest_s if known else None)


class Sampled:
    """A search over real processes.

    Args:
        best: The experiment to begin with, with a written plan; it was confirmed.
        rate: The rate of failures that this has shown.
        lab: Makes the runs.
        before: What an earlier search saw: name of an experiment -> its rate.

    Attributes:
        best: The smallest experiment that was adopted, and not found out.
        fresh: What its runs showed that had no part in choosing it.
        bar: What candidates have to reach.
        false_accepts: How many experiments were adopted, and found out.
    """

    def __init__(
        self,
        best: Experiment,
        rate: Rate,
        lab: Lab,
        before: dict[str, Rate] | None = None,
    ) -> None:
        self.best = best
        self.fresh = rate
        self.bar: Bar = anchored(rate)
        self.false_accepts = 0
        self._lab = lab
        self._history: list[tuple[Experiment, Rate]] = []
        self._seen: dict[str, Rate] = dict(before or {})
        self._refused: set[str] = set()
        self._found_out: set[str] = set()
        self._since_monitored = 0

    def end_after(self, known_s: float | None) -> None:
        """Have runs end soon after all failures of `best` were known, if that is known.

        Raises:
            BudgetSpentError: There is no time left; `best` stands.
        """
        if known_s is not None:
            limit_s = float(math.ceil(known_s + MARGIN_S))
            self._adopt_one(iter([over_after(self.best, limit_s)]), "fair")

    def adopt_hint(self, hints: Sequence[Change]) -> bool:
        """Try some changes, the best ones first; whether one was adopted.

        Raises:
            BudgetSpentError: There is no time left; `best` stands.
        """
        if not self._adopt_one(iter(hints), "fair"):
            return False
        # It may fail far more often than the original, and is then to stay so.
        self.settle()
        return True

    def search(self, ways: Sequence[Way] = WAYS) -> None:
        """Make `best` smaller until no change is left that fails as often.

        Args:
            ways: The ways to try.

        Raises:
            BudgetSpentError: There is no time left; `best` stands.
        """
        stages: tuple[tuple[int | None, Patience], ...] = (
            (FEW, "hasty"),
            (None, "hasty"),
            (None, "patient"),
        )
        stage = 0
        while stage < len(stages):
            few, patience = stages[stage]
            adopted = False
            for way in ways:
                self._lab.notes.progress(way.__name__.replace("_", " "))
                while self._adopt_one(spread(way(self.best), few), patience):
                    adopted = True
            # What is smaller now may let pass what was rejected before.
            stage = stage + 1 if not adopted else min(stage, 1)

    def settle(self) -> None:
        """Run the result again, and go back as long as it hardly fails.

        Raises:
            BudgetSpentError: There is no time left; `best` stands.
        """
        while self.fresh.runs < SETTLED_RUNS:
            before = self.best
            for outcome in self._lab.repeated(self.best):
                self._monitored(outcome)
                if self.best is not before or self.fresh.runs >= SETTLED_RUNS:
                    break

    def _adopt_one(self, changes: Iterator[Change], patience: Patience) -> bool:
        """Adopt the first change that fails as often; whether `best` is another now."""
        before = self.best
        asked = [
            change
            for change, _ in smaller_ones(changes, before)
            if self._is_open(change, patience)
        ]
        while asked:
            for change, _, outcome in self._lab.first_hit(
                (change, change.experiment) for change in list(asked)
            ):
                asked.remove(change)
                if self._decide(change, outcome, patience) == "yes":
                    self._history.append((before, self.fresh))
                    self.best, self.fresh = change.experiment, Rate(0, 0)
                    self._since_monitored = 0
                    self._lab.notes.adopted(self.best)
                    return True
                if self._is_time_to_monitor:
                    break  # which needs the laboratory for itself
            self._monitor()
            if self.best is not before:
                return True
        return False

    def _is_open(self, change: Change, patience: Patience) -> bool:
        """Whether a candidate is to be run, for all that is known of it."""
        name = name_of(change.experiment)
        rate = self._seen.get(name, Rate(0, 0))
        if name in self._found_out or name in self._refused:
            return False
        return self._go_on(rate, patience) == "run again"

    def _go_on(self, rate: Rate, patience: Patience) -> Decision:
        """What the runs of a candidate say of it."""
        decision = self.bar.decide(rate)
        if decision != "run again" or patience == "patient":
            return decision
        needed = max(PROVISIONAL_HITS, self.bar.hits_min)
        if rate.hits == rate.runs >= needed:
            return "yes"
        if patience == "hasty":
            return "no" if rate.hits < rate.runs else "run again"
        return "no" if self.bar.is_hardly_reached_by(rate) else "run again"

    def _decide(self, change: Change, outcome: Outcome, patience: Patience) -> Decision:
        """Run a candidate on from its first run until there is a decision."""
        name = name_of(change.experiment)
        first = self._seen.get(name, Rate(0, 0))
        rate, seconds = first, 0.0
        decision: Decision = "run again"
        while True:
            if outcome.refused:
                self._refused.add(name)
                decision = "no"
                break
            rate = rate.with_run(hit=self._lab.shows(outcome))
            self._seen[name] = rate
            self._since_monitored += 1
            seconds += outcome.seconds
            decision = self._go_on(rate, patience)
            if decision != "run again":
                break
            outcome = self._lab.run(change.experiment)
        self._lab.notes.tried(
            told(
                change,
                Rate(rate.hits - first.hits, rate.runs - first.runs),
                accepted=decision == "yes",
                refused=outcome.reason if outcome.refused else "",
                seconds=seconds,
            )
        )
        return decision

    @property
    def _is_time_to_monitor(self) -> bool:
        is_proven = self.fresh.runs > 0 and self.fresh.lower() >= self.bar.rate
        every = MONITOR_EVERY if is_proven else DROUGHT
        return bool(self._history) and self._since_monitored >= every

    def _monitor(self) -> None:
        """Run the one adopted last again now and then; go back if it was luck."""
        if not self._is_time_to_monitor:
            return
        self._since_monitored = 0
        best = self.best
        for _ in range(SETTLED_RUNS):
            # After a hit there is no doubt, and after a miss there is.
            if self._monitored(self._lab.run(best)) or self.best is not best:
                return

    def _monitored(self, outcome: Outcome) -> bool:
        """Count a fresh run of `best`, go back if it was luck; whether it failed."""
        hit = self._lab.shows(outcome)
        self.fresh = self.fresh.with_run(hit=hit)
        if not self._history or not self.bar.is_missed_by(self.fresh):
            self.bar = self.bar.raised(self.fresh)
            return hit
        self._found_out.add(name_of(self.best))
        self.false_accepts += 1
        self.bar = self.bar.after_false_accept()
        self.best, self.fresh = self._history.pop()
        self._lab.notes.adopted(self.best)
        return hit


def spread(changes: Iterator[Change], few: int | None) -> Iterator[Change]:
    """A few of a way's candidates, the first one and others from all of it; or all."""
    if few is None:
        return changes
    every = list(changes)
    count = min(few, len(every))
    return (every[number * len(every) // count] for number in range(count))
