"""Figures: measured samples, their budget, and the samples of a peer."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

PEER_LONG_S = 0.05
"""A peer that takes less need not be beaten: such a time is not noticed."""

BUSY_FACTOR = 1.25
"""Work had to wait if its time by the clock is this many times its processor time."""

NOISY_SPREAD = 1.5
"""If samples of one figure differ by more than this factor, they were disturbed."""


@dataclass(frozen=True)
class Budget:
    """A promise about a figure.

    Attributes:
        limit: The bound: a value in the figure's unit, or a factor.
        kind: `at_most` and `at_least` bound our median by a value; `times_faster`
            bounds the peer's median divided by ours, and so does `not_slower`, unless
            the peer takes no longer than PEER_LONG_S.
    """

    limit: float
    kind: Literal["at_most", "at_least", "times_faster", "not_slower"] = "at_most"


@dataclass
class PeerFigure:
    """The figure of a peer on the same input.

    Attributes:
        name: The peer's name.
        samples: Samples in the figure's unit, of the turns in which it answered.
        gave_up_after: How long it worked in its last turn before a limit ended it; None
            if it always answered.
        remark: The limit that ended it, or why it took no part.
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
        """The samples; if the last turn gave no answer, last the bound it exceeds."""
        bound = [] if self.gave_up_after is None else [self.gave_up_after]
        return self.samples + bound

    @property
    def is_bound(self) -> bool:
        """Whether the figure is only a lower bound."""
        return self.gave_up_after is not None

    def as_json(self) -> dict[str, Any]:
        """The figure as plain data."""
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
        what: The name for people.
        unit: "s", "MiB" or "ops/s".
        samples: The samples in the order of their measurement.
        budget: The budget; None for a figure that is only for information.
        peer: The figure of the peer, if there is one.
        remark: A sentence that readers need to understand the figure.
        detail: Whether it is stored, but left out of the table.
        cpu: Processor seconds of each sample, if all the work is ours.
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
        """The median of the samples; None if nothing could be measured."""
        return median(self.samples) if self.samples else None

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the peer we are; a lower bound if it gave up.

        Turns may have histories of their own, so turns are compared one by one. If the
        peer did not take all turns, its median is compared with ours.
        """
        if self.peer is None or self.median is None or not self.peer.turns:
            return None
        theirs, ours = self.peer.turns, self.samples
        if len(theirs) != len(ours):
            theirs, ours = [median(theirs)], [self.median]
        return median(t / max(o, 1e-9) for t, o in zip(theirs, ours, strict=True))

    @property
    def within_budget(self) -> bool | None:
        """Whether the budget is kept; None without one, or if that is not known.

        A missed budget of time might have been kept on an idle machine, if other work
        held ours up and our processor time is within the budget.
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
        # A peer that gave up may or may not have been about to answer.
        could_be = self.peer.is_bound or (
            self.cpu_ratio is not None and self.cpu_ratio >= self.budget.limit
        )
        return None if could_be and not kept else kept

    @property
    def cpu_ratio(self) -> float | None:
        """How many times our processor time the peer needs, if other work held us up.

        A peer that uses several processors at once looks worse by this than by the
        clock, so it can't show that a budget is kept.
        """
        if not self.waited or self.peer is None or not self.peer.cpu:
            return None
        return median(self.peer.cpu) / max(median(self.cpu), 1e-9)

    @property
    def noisy(self) -> bool:
        """Whether the samples differ so much that they must have been disturbed."""
        low = min(self.samples, default=0.0)
        return low > 0 and max(self.samples) / low > NOISY_SPREAD

    def as_json(self) -> dict[str, Any]:
        """The figure as plain data, samples included."""
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
