"""Elements go into a queue and come out; at the end it is drained.

Every element is enqueued once. Promise: every element whose enqueue was acknowledged
comes out, and no element that nobody enqueued (`total-queue`). If the queue could not
be drained in time, a missing element may still be inside, so it doesn't count as lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness import registry
from harness.override import override
from harness.registry import Plugin, settings
from harness.verdict import Checker, final_on_prefix, of_prefix, presumed
from harness.workload import Workload
from harness.workload.generator import (
    DONE,
    Flow,
    Generator,
    Invocation,
    from_function,
    place,
)
from workloads.transactional import TxnCodec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from random import Random

    from harness.history import History, Op
    from harness.verdict import CheckResult, Limits
    from harness.workload import WireCodec, WorkloadFactory
    from harness.workload.generator import Context, Event, Offer, Step
    from workloads.transactional import MicroOp

KEY = "queue"
EMPTY_IN_A_ROW = 20
"""The queue counts as drained after so many dequeues in a row found it empty."""


class _Translation:
    def to_txn(self, op: Op) -> list[MicroOp]:
        return (
            [["append", KEY, op.value]] if op.f == "enqueue" else [["pop", KEY, None]]
        )

    def to_value(self, op: Op, done: Sequence[MicroOp]) -> Any:
        return op.value if op.f == "enqueue" else done[0][2]


class _Drain(Flow):
    """Dequeues, by all threads, until EMPTY_IN_A_ROW of them in a row found nothing."""

    __slots__ = ("_empty",)

    def __init__(self) -> None:
        self._empty = 0

    @override
    def next(self, ctx: Context) -> Step:
        if self._empty >= EMPTY_IN_A_ROW:
            return DONE
        return place(Invocation("dequeue"), ctx)

    @override
    def take(self, offer: Offer) -> None:
        """Changes nothing: one dequeue is like another."""

    @override
    def update(self, ctx: Context, event: Event) -> None:
        if event.op.type == "ok":
            self._empty = self._empty + 1 if event.op.value is None else 0


@dataclass(frozen=True)
class Drained(Checker):
    """A checker of drained queues, which doesn't blame a queue that was not drained.

    A system that is down or slow when the run ends still holds elements, which are not
    lost.
    """

    checker: Checker

    @property
    def presume_end(self) -> Collection[str]:
        """The anomalies that the inner checker finds by what never came."""
        return presumed(self.checker)

    @property
    def final_on_prefix(self) -> Collection[str]:
        """The anomalies by which the inner checker convicts a prefix."""
        return final_on_prefix(self.checker)

    @override
    def check(self, history: History, limits: Limits) -> CheckResult:
        result = self.checker.check(history, limits)
        left = of_prefix(self.checker, result)
        if left is result or self.found_empty(history) >= EMPTY_IN_A_ROW:
            return result
        why = "the queue was not drained in time, so what is lost can't be told"
        return replace(left, reason=why)

    def found_empty(self, history: History) -> int:
        """How many dequeues in a row at the end of `history` found nothing."""
        empty = 0
        for op in history:
            if op.type == "ok" and op.f in {"enqueue", "dequeue"}:
                nothing = op.f == "dequeue" and op.value is None
                empty = empty + 1 if nothing else 0
        return empty


class Queue(Workload):
    """The workload that this module describes."""

    name = "queue"
    requires = frozenset({"queue"})
    codec: WireCodec = TxnCodec(_Translation())
    # Taking an element changes the queue: a dequeue without an answer may have done so.
    idempotent: frozenset[str] = frozenset()

    def __init__(self, options: Mapping[str, str]) -> None:
        settings(self.name, (), options)
        self._enqueued = 0

    @override
    def generator(self, concurrency: int) -> Generator:
        """Enqueues and dequeues, equally likely."""
        self._enqueued = 0

        def draw(random: Random) -> Invocation:
            if random.random() < 0.5:
                return Invocation("dequeue")
            self._enqueued += 1
            return Invocation("enqueue", self._enqueued)

        return from_function(draw)

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Dequeues until the queue counts as drained."""
        return Generator("drain", lambda _: _Drain())

    @override
    def checkers(self) -> dict[str, Checker]:
        """`total-queue`: no element lost, none that nobody enqueued."""
        factory = registry.find("checker", "total-queue").factory
        return {"total-queue": Drained(factory({}))}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "queue",
    "elements in and out of a queue, drained at the end; judged by total-queue",
    Queue,
)
