"""Figures: what was measured, what it may come to, and how a peer fares beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

PEER_LONG_S = 0.05
"""A peer that is done sooner need not be beaten: nobody waits for it."""

BUSY_FACTOR = 1.25
"""By the clock, and so many times its processor time: that work had to wait."""

NOISY_SPREAD = 1.5
"""Samples of one thing that differ by more than this factor were disturbed."""


@dataclass(frozen=True)
class Budget:
    """A promise about a figure.

    Attributes:
        limit: In the figure's unit; for the other kinds, a factor.
        kind: `at_most` and `at_least` bound our median; `times_faster` bounds the
            peer's median divided by ours, and so does `not_slower`, unless the peer
            takes no longer than PEER_LONG_S.
    """

    limit: float
    kind: Literal["at_most", "at_least", "times_faster", "not_slower"] = "at_most"


@dataclass
class PeerFigure:
    """What a peer came to on the same input.

    Attributes:
        name: Whose figure it is.
        samples: In the figure's unit, for the turns in which it answered.
        gave_up_after: How long it worked without an answer, in its last turn, before a
            limit ended it.
        remark: Which limit that was, or why it took no part.
        memory_mib: Its peak memory, a sample a turn.
        cpu: Processor seconds of each sample.
    """

    name: str
    samples: list[float] = field(default_factory=list)
    gave_up_after: float | None = None
    remark: str = ""
    memory_mib: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def turns(self) -> list[float]:
        """What is known of each turn: the figure, or at the end what it exceeds."""
        bound = [] if self.gave_up_after is None else [self.gave_up_after]
        return self.samples + bound

    @property
    def is_bound(self) -> bool:
        """Whether what is known of it is only that it exceeds something."""
        return self.gave_up_after is not None

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "name": self.name,
            "samples": self.samples,
            "median": median(self.samples) if self.samples else None,
            "gave_up_after": self.gave_up_after,
            "remark": self.remark,
            "memory_mib": self.memory_mib,
            "processor_seconds": self.cpu,
        }


@dataclass
class Figure:
    """One quantity, measured a few times.

    Attributes:
        name: Row and quantity: "check/register-1m-c100 seconds".
        what: The same for people.
        unit: "s", "MiB" or "ops/s".
        samples: As measured, in order.
        budget: None for a figure that is only for information.
        peer: The one beside us, where there is one.
        remark: What a reader must know to understand the figure.
        detail: Kept with the others, but too much for the table.
        cpu: Processor seconds of each sample, where the work is all ours.
    """

    name: str
    what: str
    unit: str
    samples: list[float]
    budget: Budget | None = None
    peer: PeerFigure | None = None
    remark: str = ""
    detail: bool = False
    cpu: list[float] = field(default_factory=list)

    @property
    def waited(self) -> bool:
        """Whether other work on the machine held ours up."""
        if not self.cpu or self.median is None:
            return False
        return self.median > BUSY_FACTOR * max(median(self.cpu), 1e-3)

    @property
    def median(self) -> float | None:
        """The middle sample; None when nothing could be measured."""
        return median(self.samples) if self.samples else None

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the peer we are; a lower bound if it gave up.

        Turns may have histories of their own, so each is compared with its own. Where
        the peer was spared some turns, its median is compared with ours.
        """
        if self.peer is None or self.median is None or not self.peer.turns:
            return None
        theirs, ours = self.peer.turns, self.samples
        if len(theirs) != len(ours):
            theirs, ours = [median(theirs)], [self.median]
        return median(t / max(o, 1e-9) for t, o in zip(theirs, ours, strict=True))

    @property
    def within_budget(self) -> bool | None:
        """Whether the budget is kept; None without one, or if nobody can tell.

        A budget of time that was missed while the machine did other work might have
        been kept, when the processor time is within it.
        """
        if self.budget is None or self.median is None:
            return None
        if self.budget.kind == "at_most":
            kept = self.median <= self.budget.limit
            could_be = self.waited and median(self.cpu) <= self.budget.limit
            return None if could_be and not kept else kept
        if self.budget.kind == "at_least":
            return self.median >= self.budget.limit
        if self.ratio is None or self.peer is None:
            return None
        if self.budget.kind == "not_slower" and median(self.peer.turns) <= PEER_LONG_S:
            return None
        kept = self.ratio >= self.budget.limit
        # A peer that gave up early may have been about to answer, or not.
        could_be = self.peer.is_bound or (
            self.cpu_ratio is not None and self.cpu_ratio >= self.budget.limit
        )
        return None if could_be and not kept else kept

    @property
    def cpu_ratio(self) -> float | None:
        """How many times our processor time the peer needs, if other work held us up.

        A peer that uses several processors at once looks worse so than by the clock, so
        this can't show that a budget is kept.
        """
        if not self.waited or self.peer is None or not self.peer.cpu:
            return None
        return median(self.peer.cpu) / max(median(self.cpu), 1e-9)

    @property
    def noisy(self) -> bool:
        """Whether the samples differ so much that something disturbed them."""
        low = min(self.samples, default=0.0)
        return low > 0 and max(self.samples) / low > NOISY_SPREAD

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data, samples included."""
        budget = self.budget
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "samples": self.samples,
            "median": self.median,
            "budget": None
            if budget is None
            else {"limit": budget.limit, "kind": budget.kind},
            "within_budget": self.within_budget,
            "peer": None if self.peer is None else self.peer.as_json(),
            "ratio": self.ratio,
            "processor_seconds": self.cpu,
            "remark": self.remark,
        }
