"""A counter that only goes up, judged by bounds.

Jepsen's `counter`: a read is at least the sum of all additions acknowledged before it
began, and at most the sum of all that were attempted (and did not fail) before it
ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.tallies import (
    UNKNOWN_BEGIN,
    VACUOUS,
    bad_op,
    began,
    invocation,
    is_attempt,
    verdict_of,
)
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

OPTIONS = (VACUOUS,)


class CounterChecker:
    """See the module."""

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the counter checker", OPTIONS, options)
        self._vacuous = Verdict.parse(given["vacuous"])

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Cost: linear.

        Raises:
            HistoryError: An addition that is no number, or below zero.
        """
        # What nobody invoked on record may have been invoked before all else.
        upper = sum(
            _amount(history, op)
            for op in history
            if op.f == "add"
            and op.is_client
            and op.type != "invoke"
            and is_attempt(history, op)
        )
        lower, reads = 0, 0
        lower_at = {UNKNOWN_BEGIN: 0}
        anomalies = []
        for op in history:
            if not op.is_client:
                continue
            match op.type, op.f:
                case "invoke", "add":
                    amount = _amount(history, op)
                    upper += 0 if _fails(history, op) else amount
                case "ok", "add":
                    lower += _amount(history, invocation(history, op))
                case "invoke", "read":
                    lower_at[op.index] = lower
                case "ok", "read":
                    reads += 1
                    least = lower_at[began(history, op)]
                    if type(op.value) is not int or not least <= op.value <= upper:
                        begun = invocation(history, op).index
                        anomalies.append(_out_of_bounds(op, begun, least, upper))
                case _:
                    pass
        return verdict_of(
            anomalies,
            {"reads": reads, "acknowledged": lower, "attempted": upper},
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


def _fails(history: History, op: Op) -> bool:
    j = history.completion[op.index]
    return j >= 0 and history[j].type == "fail"


def _out_of_bounds(read: Op, begun: int, least: int, most: int) -> Anomaly:
    return Anomaly(
        "out-of-bounds",
        (begun, read.index),
        f"Process {read.process} read {read.value!r}, but {least} had been "
        f"acknowledged before it began, and no more than {most} attempted before it "
        "ended.",
        details={"least": least, "most": most},
    )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "counter",
    "reads of a growing counter lie between what was surely and maybe added",
    CounterChecker,
    OPTIONS,
)
