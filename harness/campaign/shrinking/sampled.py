"""The search over real processes, where a run fails or doesn't.

`sampling` has the rule: what the original must show, and what a candidate. The search
tries one way after the other, as in the simulator. A candidate that misses in its first
run is put aside, so that those that fail for sure are found first; what its runs showed
is kept. When no candidate is left that wasn't put aside or rejected, a final sweep
drives each to a verdict by the rule. A search that gets through this has shown that no
single change makes the result smaller.

Now and then the experiment adopted last is run again. If these fresh runs show that it
fails less often than it had seemed to, the search goes back to the one before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.campaign.rates import Rate
from harness.campaign.shrinking.changes import WAYS, Change, over_after
from harness.campaign.shrinking.lab import Lab, name_of, smaller_ones, told
from harness.campaign.shrinking.sampling import (
    MONITOR_EVERY,
    NEVER_RUNS,
    anchored,
    confirmed,
)
from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.campaign.experiment import Experiment
    from harness.campaign.shrinking.changes import Way
    from harness.campaign.shrinking.sampling import Bar, Decision

MARGIN_S = 1.0
"""What a run gets beyond the time in which all failures so far were known."""


def confirm(
    experiment: Experiment, lab: Lab, never_runs: int = NEVER_RUNS
) -> tuple[Rate, float | None]:
    """Run an experiment until it is confirmed, or can't be.

    Args:
        experiment: What is to fail again.
        lab: Makes the runs.
        never_runs: It is given up if none of so many runs fails.

    Returns:
        Its rate of failures, and when the last of these was known, in seconds of the
        run; None if a failure showed after the end only.

    Raises:
        UsageError: It can't be run here.
        HarnessError: A run failed.
        BudgetSpentError: There is no time left.
    """
    rate, latest_s = Rate(0, 0), 0.0
    while confirmed(rate, never_runs) == "run again":
        outcome = lab.run(experiment)
        if outcome.verdict == "error":
            raise (UsageError if outcome.refused else HarnessError)(outcome.reason)
        hit = lab.shows(outcome)
        rate = rate.with_run(hit=hit)
        lab.notes.progress(f"as it is: failed {rate.hits} of {rate.runs}")
        if hit:
            known_s = outcome.convicted_s
            latest_s = math.inf if known_s is None else max(latest_s, known_s)
    return rate, None if latest_s == math.inf else latest_s


class Sampled:
    """A search over real processes.

    Args:
        best: The experiment to begin with, with a written plan; it was confirmed.
        rate: The rate of failures that this has shown.
        lab: Makes the runs.
        before: What an earlier search saw: name of an experiment -> its rate.

    Attributes:
        best: The smallest experiment that was adopted, and not found out.
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
        self.bar: Bar = anchored(rate)
        self.false_accepts = 0
        self._lab = lab
        self._history: list[Experiment] = []
        self._seen: dict[str, Rate] = dict(before or {})
        self._found_out: set[str] = set()
        self._monitored = Rate(0, 0)
        self._since_monitored = 0

    def search(
        self,
        ways: Sequence[Way] = WAYS,
        known_s: float | None = None,
        hints: Sequence[Change] = (),
    ) -> None:
        """Make `best` smaller until no change is left that fails as often.

        Args:
            ways: The ways to try.
            known_s: When all failures of `best` were known, if that was before the end.
            hints: Changes to try first.

        Raises:
            BudgetSpentError: There is no time left; `best` stands.
        """
        if known_s is not None:
            limit_s = float(math.ceil(known_s + MARGIN_S))
            self._adopt_one(iter([over_after(self.best, limit_s)]), patient=True)
        self._adopt_one(iter(hints), patient=True)
        patient = False
        while True:
            going = False
            for way in ways:
                self._lab.notes.progress(way.__name__.replace("_", " "))
                while self._adopt_one(way(self.best), patient=patient):
                    going = True
            if patient and not going:
                return
            patient = not going

    def _adopt_one(self, changes: Iterator[Change], *, patient: bool) -> bool:
        """Adopt the first change that fails as often; whether `best` is another now."""
        before = self.best
        for change, _ in smaller_ones(changes, before):
            if name_of(change.experiment) in self._found_out:
                continue
            if self._decide(change, patient=patient) == "yes":
                self._history.append(before)
                self.best = change.experiment
                self._monitored = Rate(0, 0)
                self._lab.notes.adopted(self.best)
                return True
            self._monitor()
            if self.best is not before:
                return True
        return False

    def _decide(self, change: Change, *, patient: bool) -> Decision:
        """Run a candidate until the rule decides; if not `patient`, or it misses."""
        name = name_of(change.experiment)
        first = self._seen.get(name, Rate(0, 0))
        rate, decision, refused = first, self.bar.decide(first), ""
        while decision == "run again" and (patient or rate.hits == rate.runs):
            outcome = self._lab.run(change.experiment)
            if outcome.refused:
                decision, refused = "no", outcome.reason
                break
            self._since_monitored += 1
            rate = rate.with_run(hit=self._lab.shows(outcome))
            self._seen[name] = rate
            decision = self.bar.decide(rate)
        if rate != first or refused:
            self._lab.notes.tried(
                told(
                    change,
                    Rate(rate.hits - first.hits, rate.runs - first.runs),
                    accepted=decision == "yes",
                    refused=refused,
                )
            )
        return decision

    def _monitor(self) -> None:
        """Run the one adopted last again now and then; go back if it was luck."""
        if not self._history or self._since_monitored < MONITOR_EVERY:
            return
        self._since_monitored = 0
        hit = self._lab.shows(self._lab.run(self.best))
        self._monitored = self._monitored.with_run(hit=hit)
        if not self.bar.is_missed_by(self._monitored):
            self.bar = self.bar.raised(self._monitored)
            return
        self._found_out.add(name_of(self.best))
        self.false_accepts += 1
        self.bar = self.bar.after_false_accept()
        self.best = self._history.pop()
        self._monitored = Rate(0, 0)
        self._lab.notes.adopted(self.best)
