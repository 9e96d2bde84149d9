"""A counter that only goes up, judged by bounds.

Jepsen's `counter`: a read is at least the sum of all additions acknowledged before it
began, and at most the sum of all that were attempted (and did not fail) before it
ended. So what follows a read can't excuse it: an addition that is open in a prefix is
counted as attempted there, and if it fails later, the bound only gets tighter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from checkers.functions import DECREMENTS, INCREMENTS, READS, Functions, stem
from checkers.tallies import (
    UNKNOWN_BEGIN,
    bad_op,
    began,
    invocation,
    is_attempt,
    object_of,
    outcome,
    verdict_of,
)
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

FUNCTIONS = Functions(
    "the counter checker",
    {"add": INCREMENTS, "read": (*READS, "value")},
    source="add",
    against=dict.fromkeys(
        (*DECREMENTS, "reset", "set", "write", "cas"),
        "a counter that only goes up; try --checker pn-counter, or --checker "
        "linearizable --model counter",
    ),
)


@dataclass(slots=True)
class _Bounds:
    """What one counter surely and maybe holds by now."""

    least: int = 0
    most: int = 0


class CounterChecker:
    """Judges reads of counters by the bounds of their sums."""

    final_on_prefix = frozenset({"out-of-bounds"})

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the counter checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear.

        Raises:
            HistoryError: An addition that is no number, or below zero; a read of what
                is no number; or see `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        counters: dict[Hashable, _Bounds] = {}
        for op in history:
            # Without an invocation on record, it may have begun before all else.
            if known.role(op) == "add" and op.type != "invoke":
                bounds = counters.setdefault(object_of(op), _Bounds())
                if is_attempt(history, op):
                    bounds.most += _amount(history, op)
        reads = 0
        least_at = {UNKNOWN_BEGIN: 0}
        anomalies = []
        for op in history:
            role = known.role(op)
            if not role:
                continue
            of = object_of(invocation(history, op))
            bounds = counters.setdefault(of, _Bounds())
            match op.type, role:
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
            known=known,
        )


def _amount(history: History, op: Op) -> int:
    amount = amount_of(history, op)
    if amount < 0:
        raise bad_op(
            history,
            op,
            f"{op.f} of {amount}: the counter checker needs whole numbers from zero "
            "up; try --checker pn-counter",
        )
    return amount


def amount_of(history: History, op: Op) -> int:
    """How much an addition adds; an increment without a value adds 1.

    Raises:
        HistoryError: The value is no whole number; or it is the answer to an increment
            whose invocation is not on record, and may as well be the sum.
    """
    name = stem(op.f)
    is_lone = op.type != "invoke" and history.completion[op.index] < 0
    if op.value is None and name != "add":
        return 1
    if type(op.value) is not int:
        problem = f"{op.f} of {op.value!r:.60}: a counter needs whole numbers"
        raise bad_op(history, op, problem)
    if is_lone and name != "add":
        problem = f"{op.f} gave {op.value}, and nobody recorded what was asked"
        raise bad_op(history, op, problem)
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
)
