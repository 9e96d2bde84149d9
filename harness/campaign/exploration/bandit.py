"""A bandit: of several choices, which gains most for its cost, when that changes?

Thompson sampling (Thompson 1933; Russo et al., "A Tutorial on Thompson Sampling", 2018)
over rates of gain: each arm's rate has a gamma distribution, as if gains were events of
a Poisson process. An arm is chosen if its sample is the largest. What was learned fades
(`FADING`), because what is new once isn't new again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

FADING = 0.97
"""What is left of all that was learned when something new is learned."""
RATE_MIN = 1e-9
"""Rates below this, and above its inverse, are taken for it."""
PRIOR_GAIN = 1.0
"""Gain that an arm is believed to have had before it was tried: as if each had been
tried once, and those believed to be better had cost less."""
NEWS_OF_A_GAIN = 8
"""A run of two to the power of so many upheavals or new features gained 1. Most runs
gain about as much, so what arms are believed to be worth counts for as long as they
have been tried a few times only."""


class Bandit:
    """Chooses among arms, and learns what each choice gained.

    Args:
        arms: Their names, at least one, and how their rates of gain are believed to
            compare; the same for all if only names are given. Of two arms that were not
            tried, each is chosen in proportion to that.
    """

    def __init__(self, arms: Sequence[str] | Mapping[str, float]) -> None:
        assert arms
        rates = arms if isinstance(arms, Mapping) else dict.fromkeys(arms, 1.0)
        mean = sum(rates.values()) / len(rates)
        self._prior = {arm: PRIOR_GAIN * mean / rate for arm, rate in rates.items()}
        self._gained = dict.fromkeys(arms, 0.0)
        self._cost = dict.fromkeys(arms, 0.0)

    @property
    def arms(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._gained)

    def sampled(self, random: Random) -> dict[str, float]:
        """A rate of gain for each arm, drawn from what is believed of it."""
        usual = self._usual()
        return {
            arm: random.gammavariate(PRIOR_GAIN + gained, 1.0)
            / (self._prior[arm] / usual + self._cost[arm])
            for arm, gained in self._gained.items()
        }

    def choose(self, random: Random) -> str:
        """The arm with the largest sample."""
        samples = self.sampled(random)
        return max(samples, key=lambda arm: samples[arm])

    def learn(self, arm: str, gain: float, cost: float) -> None:
        """Take in that `arm` gained so much at that cost."""
        assert gain >= 0
        for each in self._gained:
            self._gained[each] *= FADING
            self._cost[each] *= FADING
        self._gained[arm] += gain
        self._cost[arm] += max(0.0, cost)

    def rates(self) -> Mapping[str, float]:
        """Arm -> its gain by cost as believed now."""
        usual = self._usual()
        return {
            arm: (PRIOR_GAIN + gained) / (self._prior[arm] / usual + self._cost[arm])
            for arm, gained in self._gained.items()
        }

    def _usual(self) -> float:
        """Gain by cost of all arms together; 1 before anything is known."""
        gained, cost = sum(self._gained.values()), sum(self._cost.values())
        if gained <= 0 or cost <= 0:
            return 1.0
        return min(max(gained / cost, RATE_MIN), 1 / RATE_MIN)


def worth(news: int) -> float:
    """The gain of a run that showed so many new features, or had so many upheavals.

    A hundred are not a hundred times as good as one.
    """
    return math.log2(1 + news) / NEWS_OF_A_GAIN
