"""Rates of events that come or don't: hits among runs, with Wilson's score interval.

Wilson (1927, "Probable Inference, the Law of Succession, and Statistical Inference",
JASA 22) takes the rates that a score test at the observed hits would not reject. So the
interval never leaves [0, 1], and says something even of no hits and of all. Brown, Cai
and DasGupta (2001, "Interval Estimation for a Binomial Proportion") recommend it for
few runs, where the textbook's interval around hits / runs covers far too little.

A score test of rate p compares |hits/runs - p| with z * sqrt(p * (1 - p) / runs). The
bounds are the two rates at which both sides are equal, roots of a quadratic in p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_95 = 1.96
"""How many standard errors away a rate may be in an interval of 95 % (two-sided)."""
Z_80 = 1.2816
"""The same in an interval of 80 %, for decisions that can be taken back."""


def wilson(hits: int, runs: int, z: float = Z_95) -> tuple[float, float]:
    """The lowest and the highest rate that `hits` of `runs` don't speak against.

    (0, 1) if there was no run. No hit gives 0 as the lowest, and hits alone give 1 as
    the highest, exactly.

    Args:
        hits: Runs in which it happened.
        runs: All runs.
        z: Standard errors that the observation may be away from the rate.
    """
    assert 0 <= hits <= runs
    assert z > 0
    if runs == 0:
        return 0.0, 1.0
    observed = hits / runs
    shrunk = 1 + z * z / runs
    centre = (observed + z * z / (2 * runs)) / shrunk
    spread = observed * (1 - observed) / runs + z * z / (4 * runs * runs)
    half = z * math.sqrt(spread) / shrunk
    # Rounding would leave a bound beside the observation, or outside [0, 1].
    lower = 0.0 if hits == 0 else min(observed, max(0.0, centre - half))
    upper = 1.0 if hits == runs else max(observed, min(1.0, centre + half))
    return lower, upper


@dataclass(frozen=True)
class Rate:
    """How many of some runs had a property, such as "failed".

    As text: "7 of 10, rate 0.40 to 0.89 (Wilson 95 %)".
    """

    hits: int
    runs: int

    def __post_init__(self) -> None:
        assert 0 <= self.hits <= self.runs

    def with_run(self, *, hit: bool) -> Rate:
        """The rate after one more run."""
        return Rate(self.hits + hit, self.runs + 1)

    @property
    def observed(self) -> float:
        """Hits per run; 0 if there was no run."""
        return self.hits / self.runs if self.runs else 0.0

    def lower(self, z: float = Z_95) -> float:
        """The lowest rate that the runs don't speak against (`wilson`)."""
        return wilson(self.hits, self.runs, z)[0]

    def upper(self, z: float = Z_95) -> float:
        """The highest rate that the runs don't speak against (`wilson`)."""
        return wilson(self.hits, self.runs, z)[1]

    def as_json(self) -> dict[str, int | float]:
        """The rate for output that programs read; bounds have four digits."""
        return {
            "hits": self.hits,
            "runs": self.runs,
            "lower": round(self.lower(), 4),
            "upper": round(self.upper(), 4),
        }

    def __str__(self) -> str:
        counts = f"{self.hits} of {self.runs}"
        if not self.runs:
            return counts
        bounds = f"{self.lower():.2f} to {self.upper():.2f}"
        return f"{counts}, rate {bounds} (Wilson 95 %)"
