"""A queue that was drained: what went in for sure came out, and nothing else did.

Jepsen's `total-queue`: duplicates are counted and tolerated, order is not judged. One
thing is added: a dequeue of which nobody knows whether it happened may have taken any
element with it, so as many missing elements prove nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from checkers.tallies import element, verdict_of
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory


class TotalQueueChecker:
    """See the module."""

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the total-queue checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Cost: linear."""
        attempts: Counter[Any] = Counter()
        entered: dict[Any, Op] = {}
        sure: Counter[Any] = Counter()
        left: Counter[Any] = Counter()
        first_out: dict[Any, Op] = {}
        for op in history:
            if op.f == "enqueue" and op.is_client and op.type in {"invoke", "ok"}:
                name = element(op.value)
                (attempts if op.type == "invoke" else sure)[name] += 1
                entered[name] = op
        for op, value in _taken(history):
            left[element(value)] += 1
            first_out.setdefault(element(value), op)
        lost = sure - left
        unexpected = {name: n for name, n in left.items() if not attempts[name]}
        maybe_taken = sum(
            1
            for op, done in history.calls()
            if op.f in {"dequeue", "drain"} and (done is None or done.type == "info")
        )
        anomalies = [
            Anomaly(
                "unexpected",
                (first_out[name].index,),
                f"{first_out[name].value!r} was dequeued, but nobody enqueued it.",
            )
            for name in unexpected
        ]
        if lost.total() > maybe_taken:
            anomalies += [
                Anomaly(
                    "lost",
                    (entered[name].index,),
                    f"{entered[name].value!r} was enqueued by process "
                    f"{entered[name].process} and acknowledged, but never came out"
                    + (
                        f"; {lost.total()} are missing, and only {maybe_taken} "
                        "dequeues of unknown outcome could have taken them."
                        if maybe_taken
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
            "maybe_taken": maybe_taken,
        }
        if lost and not anomalies:
            return CheckResult(
                Verdict.UNKNOWN,
                reason=f"{lost.total()} elements are missing, and {maybe_taken} "
                "dequeues of unknown outcome may have taken them",
                stats=stats,
            )
        return verdict_of(
            anomalies,
            stats,
            judged=left.total(),
            empty="nothing was dequeued",
        )


def _taken(history: History) -> Iterator[tuple[Op, Any]]:
    """Every element that came out, with the op that took it; drains take many."""
    for op in history:
        if not op.is_client or op.value is None:
            continue
        if op.f == "dequeue" and op.type == "ok":
            yield op, op.value
        elif (
            op.f == "drain" and op.type in {"ok", "info"} and isinstance(op.value, list)
        ):
            yield from ((op, value) for value in op.value)


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "total-queue",
    "what entered a queue for sure came out of it, and nothing else",
    TotalQueueChecker,
)
