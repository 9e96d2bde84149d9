"""A queue that was drained: what went in for sure came out, and nothing else did.

Jepsen's `total-queue`: duplicates are counted and tolerated, order is not judged, and
the history must have drained the queue. One thing is added: a dequeue of which nobody
knows whether it happened may have taken any element with it, and a drain any number, so
that as many missing elements prove nothing.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Any

from checkers.tallies import (
    VACUOUS,
    contents,
    element,
    is_attempt,
    outcome,
    verdict_of,
)
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

OPTIONS = (VACUOUS,)


class TotalQueueChecker:
    """See the module."""

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the total-queue checker", OPTIONS, options)
        self._vacuous = Verdict.parse(given["vacuous"])

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Cost: linear.

        Raises:
            HistoryError: A drain of something that is no collection.
        """
        attempts: Counter[Any] = Counter()
        entered: dict[Any, Op] = {}
        sure: Counter[Any] = Counter()
        left: Counter[Any] = Counter()
        first_out: dict[Any, tuple[Op, Any]] = {}
        for op in history:
            if op.f != "enqueue" or not op.is_client:
                continue
            name = element(op.value)
            if is_attempt(history, op):
                attempts[name] += 1
                entered[name] = op
            if op.type == "ok":
                sure[name] += 1
                entered[name] = op
        for op, value in _taken(history):
            left[element(value)] += 1
            first_out.setdefault(element(value), (op, value))
        lost = sure - left
        unexpected = {name: n for name, n in left.items() if not attempts[name]}
        maybe_taken = _maybe_taken(history)
        could_be_gone = inf if maybe_taken["drain"] else maybe_taken["dequeue"]
        anomalies = [
            Anomaly(
                "unexpected",
                (op.index,),
                f"Process {op.process} took out {value!r}, which nobody enqueued.",
            )
            for op, value in map(first_out.__getitem__, unexpected)
        ]
        if lost.total() > could_be_gone:
            anomalies += [
                Anomaly(
                    "lost",
                    (entered[name].index,),
                    f"{entered[name].value!r} was enqueued by process "
                    f"{entered[name].process} and acknowledged, but never came out"
                    + (
                        f"; {lost.total()} are missing, and only "
                        f"{maybe_taken['dequeue']} dequeues of unknown outcome could "
                        "have taken them."
                        if maybe_taken["dequeue"]
                        else "."
                    ),
                )
                for name in lost
            ]
        stats = {
            "attempts": attempts.total(),
            "acknowledged": sure.total(),
            "dequeued": left.total(),
            "duplicated": (left - attempts).total() - sum(unexpected.values()),
            "lost": lost.total(),
            "unknown_outcome": maybe_taken.total(),
        }
        return verdict_of(
            anomalies,
            stats,
            judged=left.total() + lost.total(),
            empty="nothing was dequeued",
            vacuous=self._vacuous,
            doubt=f"{lost.total()} elements are missing, and {maybe_taken.total()} "
            "dequeues of unknown outcome may have taken them"
            if lost
            else "",
        )


def _maybe_taken(history: History) -> Counter[str]:
    """How many dequeues and drains there are of which nobody knows the outcome."""
    return Counter(
        op.f
        for op in history
        if op.is_client
        and op.f in {"dequeue", "drain"}
        and is_attempt(history, op)
        and outcome(history, op) == "info"
    )


def _taken(history: History) -> Iterator[tuple[Op, Any]]:
    """Every element that came out, with the op that took it; drains take many."""
    for op in history:
        if not op.is_client or op.value is None:
            continue
        if op.f == "dequeue" and op.type == "ok":
            yield op, op.value
        elif op.f == "drain" and op.type == "ok":
            yield from ((op, value) for value in contents(history, op))
        elif op.f == "drain" and op.type == "info" and isinstance(op.value, list):
            yield from ((op, value) for value in op.value)


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "total-queue",
    "what entered a queue for sure came out of it, and nothing else",
    TotalQueueChecker,
    OPTIONS,
)
