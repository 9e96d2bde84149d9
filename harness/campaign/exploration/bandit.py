"""A bandit: of several choices, which gains most a second, when that changes?

Thompson sampling (Thompson 1933; Russo et al., "A Tutorial on Thompson Sampling", 2018)
over rates of gain: each arm's rate has a gamma distribution, as if gains were events of
a Poisson process. An arm is chosen if its sample is the largest. What was learned fades
(`FADING`), because what is new once isn't new again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

FADING = 0.97
"""What is left of all that was learned when something new is learned."""
PRIOR_GAIN = 1.0
"""Gain that an arm is believed to have had before it was tried, at the usual rate."""


class Bandit:
    """Chooses among arms, and learns what each choice gained.

    Args:
        arms: Their names; at least one.
    """

    def __init__(self, arms: Sequence[str]) -> None:
        assert arms
        self._gained = dict.fromkeys(arms, 0.0)
        self._cost_s = dict.fromkeys(arms, 0.0)

    @property
    def arms(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._gained)

    def sampled(self, random: Random) -> dict[str, float]:
        """A rate of gain for each arm, drawn from what is believed of it."""
        usual = self._usual()
        return {
            arm: random.gammavariate(PRIOR_GAIN + gained, 1.0)
            / (PRIOR_GAIN / usual + self._cost_s[arm])
            for arm, gained in self._gained.items()
        }

    def choose(self, random: Random) -> str:
        """The arm with the largest sample."""
        samples = self.sampled(random)
        return max(samples, key=lambda arm: samples[arm])

    def learn(self, arm: str, gain: float, cost_s: float) -> None:
        """Take in that `arm` gained so much in so many seconds."""
        assert gain >= 0
        for each in self._gained:
            self._gained[each] *= FADING
            self._cost_s[each] *= FADING
        self._gained[arm] += gain
        self._cost_s[arm] += max(0.0, cost_s)

    def rates(self) -> Mapping[str, float]:
        """Arm -> its gain a second as believed now."""
        usual = self._usual()
        return {
            arm: (PRIOR_GAIN + gained) / (PRIOR_GAIN / usual + self._cost_s[arm])
            for arm, gained in self._gained.items()
        }

    def _usual(self) -> float:
        """Gain a second of all arms together; 1 before anything is known."""
        gained, cost_s = sum(self._gained.values()), sum(self._cost_s.values())
        return gained / cost_s if gained > 0 and cost_s > 0 else 1.0


def worth(news: int) -> float:
    """The gain of a run that showed `news` new features.

    A hundred are not a hundred times as good as one.
    """
    return math.log2(1 + news)
