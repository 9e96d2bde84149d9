"""How fast the simulated machines and links are: drawn from the seed, once a run.

Bugs hide behind proportions: of the disk's speed to the network's, of either to the
protocol's timers. So every seed draws others, within the range of healthy hardware. A
healthy cluster loses nothing and reorders nothing; only nemeses do.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import log

LATENCY_MS = (0.05, 3.0)
"""Range of the mean time that a message takes one way."""
FSYNC_MS = (0.2, 12.0)
"""Range of the mean time that a disk takes to make records durable."""
WORST = 3.0
"""Nothing takes longer than this many times the mean: timeouts rely on a bound."""
STEP_NS = 20_000
"""Processor time of a node for one message or timer."""
START_MS = (10.0, 60.0)
"""Range of how long a process takes from its start to serving."""


@dataclass(frozen=True)
class Conditions:
    """The conditions of one run.

    Attributes:
        latency_ms: Mean time of a message, one way.
        fsync_ms: Mean time of making records durable.
        cut_holds: A cut link keeps what is sent, as TCP does, and delivers it after
            the heal; otherwise it is lost, as when connections break.
    """

    latency_ms: float
    fsync_ms: float
    cut_holds: bool

    @classmethod
    def draw(cls, seed: int) -> Conditions:
        """The conditions of the run with that seed."""
        rng = random.Random(f"conditions {seed}")
        return cls(
            latency_ms=round(log_uniform(rng, *LATENCY_MS), 3),
            fsync_ms=round(log_uniform(rng, *FSYNC_MS), 3),
            cut_holds=rng.random() < 0.5,
        )


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    """A number between the bounds, each of its orders of magnitude equally likely."""
    return float(low * (high / low) ** rng.random())


def lasting_ns(rng: random.Random, mean_ms: float) -> int:
    """A random duration with mean `mean_ms`: skewed to the right, and bounded."""
    # Half is fixed, the rest exponential: hardware is mostly quick, and slow at times.
    times = 0.5 - log(1.0 - rng.random()) / 2.0
    if times > WORST:  # `min` takes longer than the rest of this
        times = WORST
    return int(mean_ms * 1e6 * times)
