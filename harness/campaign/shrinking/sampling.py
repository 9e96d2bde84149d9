"""When a smaller experiment counts as failing, if failures don't come every time.

Real processes fail in some runs and not in others. A search that believes single runs
takes every lucky hit for a reason, and ends at an experiment that hardly ever fails.
The rule is that of shrinkray 26.9 and Hegel (`nondeterminism.py`): a candidate is
adopted only if its runs show that it fails about as often as the original.

Confirmed: the original failure is accepted at its 4th hit, and not reproduced after ten
runs without any. Its anchor is the lower end of Wilson's interval of its rate; more
runs are made for it, as a rate known better makes later decisions cheaper.

Adopted: a candidate needs at least two hits, one more for each false accept that was
found out, and the lower end of its interval at 0.8 times the anchor at least, and never
below 0.05. It is rejected as soon as the upper end is below that, or the rest of its
runs can't lift the lower end so far.

Choices. Runs of a cluster take seconds, where shrinkray's take milliseconds. So the
anchor is taken from 6 runs, not 20, and the factor stays 0.8 for good. A candidate that
misses at first is put aside until all others had their turn. One that fails twice in
its first two runs is adopted before its interval suffices, and checked as the search
goes on: most are replaced by smaller ones before that, whose failures speak for them,
too. Runs that decided an adoption never raise the anchor: they were selected for their
hits.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from harness.report.rates import Z_80, Rate

CONFIRMED_HITS = 4
NEVER_RUNS = 10
"""The failure is not reproduced if none of so many runs shows it."""
CONFIRM_RUNS_MAX = 40
ANCHOR_RUNS = 6
"""Runs of the original from which the anchor is taken, at least."""
SHARE = 0.8
LOWEST = 0.05
HITS_MIN = 2
HITS_MIN_MAX = 12
RUNS_MAX = 30
"""Runs of one candidate."""
PROVISIONAL_HITS = 2
"""Hits, and no miss, at which a candidate is adopted before its runs suffice."""
MONITOR_EVERY = 20
"""Runs of candidates between two runs that monitor the experiment adopted last."""
DROUGHT = 5
"""The same, if that was adopted before its runs sufficed. If it fails seldom, what is
made of it hardly fails at all, and a row of misses is the first sign."""
FAIR_MISSES = 3
"""Runs of a candidate without any hit after which others have their turn."""
FAIR_RUNS = 8
"""Runs of a candidate that nothing speaks against, while there are others."""
SETTLED_RUNS = 5
"""Fresh runs that the result of a search has."""
FAIR = 0.3
"""Scenes that fail in fewer runs are left for the next, as long as there is one."""
ALPHA = 0.05

Decision = Literal["yes", "no", "run again"]


def confirmed(rate: Rate, never_runs: int = NEVER_RUNS) -> Decision:
    """Whether runs of the original show that its failure comes again.

    Args:
        rate: What they have shown so far.
        never_runs: It doesn't if none of so many runs shows it.
    """
    if rate.hits >= CONFIRMED_HITS:
        return "yes" if rate.runs >= ANCHOR_RUNS else "run again"
    if (not rate.hits and rate.runs >= never_runs) or rate.runs >= CONFIRM_RUNS_MAX:
        return "no"
    return "run again"


@dataclass(frozen=True)
class Bar:
    """What candidates have to reach.

    Attributes:
        anchor: The rate of failures that the original has at least.
        looks: How often the anchor was raised, or might have been.
        hits_min: Hits that a candidate needs.
    """

    anchor: float
    looks: int = 0
    hits_min: int = HITS_MIN

    @property
    def rate(self) -> float:
        """The rate that the lower end of a candidate's interval must reach."""
        return max(SHARE * self.anchor, LOWEST)

    def decide(self, rate: Rate) -> Decision:
        """What the runs of a candidate say of it."""
        if self._is_reached_by(rate):
            return "yes"
        if rate.upper() < self.rate or not self._may_be_reached(rate, RUNS_MAX):
            return "no"
        return "run again"

    def _may_be_reached(self, rate: Rate, runs_max: int) -> bool:
        """Whether a candidate reaches the bar if the rest of its runs all fail."""
        left = max(0, runs_max - rate.runs)
        return self._is_reached_by(Rate(rate.hits + left, rate.runs + left))

    def _is_reached_by(self, rate: Rate) -> bool:
        return rate.hits >= self.hits_min and rate.lower() >= self.rate

    def is_hardly_reached_by(self, rate: Rate) -> bool:
        """Whether it is a waste to run a candidate more, while there are others."""
        if not rate.hits and rate.runs >= FAIR_MISSES:
            return True
        return rate.upper(Z_80) < self.rate or not self._may_be_reached(rate, FAIR_RUNS)

    def is_missed_by(self, monitored: Rate) -> bool:
        """Whether fresh runs of an adopted experiment show that it was no match.

        To go back from one that fails often enough costs little: it is found again,
        or something like it. To go on from one that doesn't costs all runs that follow.
        So the error allowed is larger than for candidates.
        """
        return monitored.upper(Z_80) < self.rate

    def raised(self, monitored: Rate) -> Bar:
        """The bar after a look at fresh runs of the experiment adopted last.

        Whoever looks often finds a high lower end by chance. So the error allowed is
        divided by the number of looks (Bonferroni).
        """
        looks = self.looks + 1
        z = NormalDist().inv_cdf(1 - ALPHA / 2 / looks)
        anchor = max(self.anchor, monitored.lower(z))
        return Bar(anchor, looks, self.hits_min)

    def after_false_accept(self) -> Bar:
        """The bar after an adopted experiment was found out: it asks for a hit more."""
        hits_min = min(self.hits_min + 1, HITS_MIN_MAX)
        return Bar(self.anchor, self.looks, hits_min)


def anchored(rate: Rate) -> Bar:
    """The bar that the runs of the confirmed original set."""
    return Bar(rate.lower())
