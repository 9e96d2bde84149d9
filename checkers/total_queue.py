"""A queue that was drained: what went in for sure came out, and nothing else did.

Jepsen's `total-queue`: duplicates are counted and tolerated, order is not judged, and
the history must have drained the queue. One thing is added: a dequeue of unknown
outcome may have taken any element, and such a drain any number of them; so missing
elements prove nothing unless there are more than these can have taken.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkers.functions import DEQUEUES, ENQUEUES, Functions
from checkers.tallies import (
    Kinds,
    acknowledged,
    contents,
    is_attempt,
    object_of,
    outcome,
    verdict_of,
)
from checkers.values import element
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

FUNCTIONS = Functions(
    "the total-queue checker",
    {"enqueue": ENQUEUES, "dequeue": DEQUEUES, "drain": ("drain",)},
    source="enqueue",
)


@dataclass(slots=True)
class _Tally:
    """What one queue was given, and what came out of it; elements by name.

    Attributes:
        attempts: Enqueues that may have happened or were tried.
        sure: Acknowledged enqueues.
        left: Elements that came out.
        entered: An op that tells of the element's enqueue.
        took: The op that first took it out, and what it took.
        unknown: Dequeues and drains of which nobody knows the outcome, by function.
    """

    attempts: Counter[Hashable] = field(default_factory=Counter)
    sure: Counter[Hashable] = field(default_factory=Counter)
    left: Counter[Hashable] = field(default_factory=Counter)
    entered: dict[Hashable, Op] = field(default_factory=dict)
    took: dict[Hashable, tuple[Op, Any]] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)

    @property
    def lost(self) -> Counter[Hashable]:
        return self.sure - self.left

    @property
    def unexpected(self) -> list[Hashable]:
        return [name for name in self.left if not self.attempts[name]]

    @property
    def is_explained(self) -> bool:
        """Whether what is missing may have been taken without anybody knowing."""
        return bool(self.unknown["drain"]) or (
            self.lost.total() <= self.unknown["dequeue"]
        )

    def enqueue(self, history: History, op: Op) -> None:
        """Count an event of an enqueue."""
        name = element(op.value)
        if is_attempt(history, op):
            self.attempts[name] += 1
            self.entered[name] = op
        if op.type == "ok":
            name = element(acknowledged(history, op))
            self.sure[name] += 1
            self.entered[name] = op

    def take(self, history: History, op: Op, role: str) -> None:
        """Count an event of a dequeue or drain, as `role` says."""
        if is_attempt(history, op) and outcome(history, op) == "info":
            self.unknown[role] += 1
        for value in taken(history, op, role):
            self.left[element(value)] += 1
            self.took.setdefault(element(value), (op, value))

    def anomalies(self) -> Iterator[Anomaly]:
        """What is wrong with this queue."""
        for op, value in map(self.took.__getitem__, self.unexpected):
            yield Anomaly(
                "unexpected",
                (op.index,),
                f"Process {op.process} took out {value!r:.60}, which nobody enqueued.",
                key=op.key,
            )
        if self.is_explained:
            return
        could_not = "."
        if self.unknown["dequeue"]:
            could_not = (
                f"; {self.lost.total()} are missing, and only "
                f"{self.unknown['dequeue']} dequeues of unknown outcome could have "
                "taken them."
            )
        for op in map(self.entered.__getitem__, self.lost):
            yield Anomaly(
                "lost",
                (op.index,),
                f"{op.value!r:.60} was enqueued by process {op.process} and "
                f"acknowledged, but never came out{could_not}",
                key=op.key,
            )


class TotalQueueChecker:
    """Judges what came out of a drained queue by what entered it."""

    presume_end = frozenset({"lost"})

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the total-queue checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear.

        Raises:
            HistoryError: A drain of something that is no collection, or elements of a
                kind that nobody enqueued; or see `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        queues: dict[Hashable, _Tally] = {}
        kinds = Kinds(op for op in history if known.role(op) == "enqueue")
        for op in history:
            role = known.role(op)
            if role == "enqueue":
                queues.setdefault(object_of(op), _Tally()).enqueue(history, op)
            elif role:
                queues.setdefault(object_of(op), _Tally()).take(history, op, role)
        tallies = list(queues.values())
        for tally in tallies:
            for op, value in map(tally.took.__getitem__, tally.unexpected):
                kinds.judge(history, op, object_of(op), value)
        lost = sum(tally.lost.total() for tally in tallies)
        unknown = sum(tally.unknown.total() for tally in tallies)
        dequeued = sum(tally.left.total() for tally in tallies)
        return verdict_of(
            [anomaly for tally in tallies for anomaly in tally.anomalies()],
            {
                "attempts": sum(tally.attempts.total() for tally in tallies),
                "acknowledged": sum(tally.sure.total() for tally in tallies),
                "dequeued": dequeued,
                "duplicated": sum(
                    (tally.left - tally.attempts).total()
                    - sum(tally.left[name] for name in tally.unexpected)
                    for tally in tallies
                ),
                "lost": lost,
                "unknown_outcome": unknown,
            },
            judged=dequeued + lost,
            empty="nothing was dequeued",
            doubt=f"{lost} elements are missing, and {unknown} dequeues of unknown "
            "outcome may have taken them"
            if lost
            else "",
            known=known,
        )


def taken(history: History, op: Op, role: str) -> Collection[Any]:
    """What came out by an event of a dequeue, or of a drain, which takes many."""
    if op.value is None:
        return ()
    if op.type == "ok":
        return (op.value,) if role == "dequeue" else contents(history, op)
    is_partial = op.type == "info" and role == "drain" and isinstance(op.value, list)
    return op.value if is_partial else ()


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "total-queue",
    "what entered a queue for sure came out of it, and nothing else",
    TotalQueueChecker,
)
