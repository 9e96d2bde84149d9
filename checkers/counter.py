"""A counter that only goes up, judged by bounds.

Jepsen's `counter`: a read is at least the sum of all additions acknowledged before it
began, and at most the sum of all that were attempted (and did not fail) before it
ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from checkers.tallies import (
    UNKNOWN_BEGIN,
    VACUOUS,
    bad_op,
    began,
    invocation,
    is_attempt,
    object_of,
    outcome,
    verdict_of,
)
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

OPTIONS = (VACUOUS,)


@dataclass(slots=True)
class _Bounds:
    """What one counter surely and maybe holds by now."""

    least: int = 0
    most: int = 0


class CounterChecker:
    """See the module."""

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the counter checker", OPTIONS, options)
        self._vacuous = Verdict.parse(given["vacuous"])

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Cost: linear.

        Raises:
            HistoryError: An addition that is no number, or below zero; a read of what
                is no number.
        """
        counters: dict[Hashable, _Bounds] = {}
        for op in history:
            # What nobody invoked on record may have been invoked before all else.
            if op.f == "add" and op.is_client and op.type != "invoke":
                bounds = counters.setdefault(object_of(op), _Bounds())
                if is_attempt(history, op):
                    bounds.most += _amount(history, op)
        reads = 0
        least_at = {UNKNOWN_BEGIN: 0}
        anomalies = []
        for op in history:
            if not op.is_client or op.f not in {"add", "read"}:
                continue
            of = object_of(invocation(history, op))
            bounds = counters.setdefault(of, _Bounds())
            match op.type, op.f:
                case "invoke", "add":
                    amount = _amount(history, op)
                    bounds.most += amount * (outcome(history, op) != "fail")
                case "ok", "add":
                    bounds.least += _amount(history, invocation(history, op))
                case "invoke", "read":
                    least_at[op.index] = bounds.least
                case "ok", "read":
                    reads += 1
                    least, most = least_at[began(history, op)], bounds.most
                    if type(op.value) is not int:
                        problem = f"read of {op.value!r:.60}, which is no whole number"
                        raise bad_op(history, op, problem)
                    if not least <= op.value <= most:
                        begun = invocation(history, op).index
                        anomalies.append(_out_of_bounds(op, begun, least, most))
                case _:
                    pass
        return verdict_of(
            anomalies,
            {
                "reads": reads,
                "acknowledged": sum(bounds.least for bounds in counters.values()),
                "attempted": sum(bounds.most for bounds in counters.values()),
            },
            judged=reads,
            empty="no read succeeded",
            vacuous=self._vacuous,
        )


def _amount(history: History, op: Op) -> int:
    if type(op.value) is not int or op.value < 0:
        raise bad_op(
            history,
            op,
            f"add of {op.value!r:.60}: the counter checker needs whole numbers from "
            "zero up",
        )
    return op.value


def _out_of_bounds(read: Op, begun: int, least: int, most: int) -> Anomaly:
    return Anomaly(
        "out-of-bounds",
        (begun, read.index),
        f"Process {read.process} read {read.value!r}, but {least} had been "
        f"acknowledged before it began, and no more than {most} attempted before it "
        "ended.",
        key=read.key,
        details={"least": least, "most": most},
    )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "counter",
    "reads of a growing counter lie between what was surely and maybe added",
    CounterChecker,
    OPTIONS,
)
