"""A counter that only goes up, judged by bounds.

Jepsen's `counter`: a read is at least the sum of all additions acknowledged before it
began, and at most the sum of all that were attempted (and did not fail) before it
ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.tallies import VACUOUS, invocation, verdict_of
from harness.history import HistoryError
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
        lower, upper, reads = 0, 0, 0
        lower_at: dict[int, int] = {}
        anomalies = []
        for op in history:
            if not op.is_client:
                continue
            if op.f == "add":
                amount = _amount(history, op)
                if op.type == "invoke" and not _fails(history, op):
                    upper += amount
                elif op.type == "ok":
                    lower += amount
            elif op.f == "read" and op.type == "invoke":
                lower_at[op.index] = lower
            elif op.f == "read" and op.type == "ok":
                reads += 1
                begun = invocation(history, op).index
                least = lower_at.get(begun, lower)
                if type(op.value) is not int or not least <= op.value <= upper:
                    anomalies.append(_out_of_bounds(op, begun, least, upper))
        return verdict_of(
            anomalies,
            {"reads": reads, "acknowledged": lower, "attempted": upper},
            judged=reads,
            empty="no read succeeded",
            vacuous=self._vacuous,
        )


def _amount(history: History, op: Op) -> int:
    if type(op.value) is not int or op.value < 0:
        raise HistoryError(
            f"{history.source}: op {op.index}: add of {op.value!r}: the counter "
            "checker needs whole numbers from zero up"
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
