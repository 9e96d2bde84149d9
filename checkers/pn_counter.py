"""A counter that goes up and down, judged by what is left of it in the end.

Maelstrom's `pn-counter`, for counters that converge: when everybody has heard of
everything, a read gives the sum of all acknowledged additions, and of any of those of
unknown outcome. Only final reads are judged: those of f `final-read`, or with `:final?
true` as in Maelstrom's histories.

Theory: which sums a set of doubtful additions can make is a question of subset sums.
They are held as bits of one number, shifted by each addition in turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.counter import amount_of
from checkers.functions import DECREMENTS, INCREMENTS, READS, Functions, stem
from checkers.tallies import (
    Answers,
    bad_op,
    from_node,
    invocation,
    is_first,
    object_of,
    outcome,
    verdict_of,
)
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

SPREAD_MAX = 1 << 26
"""Spread of the sums that doubtful additions can make; with more, nothing is judged."""


FUNCTIONS = Functions(
    "the pn-counter checker",
    {"add": INCREMENTS, "subtract": DECREMENTS, "read": (*READS, "value")},
    against=dict.fromkeys(
        ("reset", "set", "write", "cas"),
        "a counter that is added to; try --checker linearizable --model register",
    ),
)


class PNCounterChecker:
    """Judges final reads of counters by the sums that are possible."""

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the pn-counter checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: doubtful additions times their sum / 64.

        Raises:
            HistoryError: An addition or a final read that is no whole number; or see
                `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        sure: dict[Hashable, int] = {}
        doubtful: dict[Hashable, list[int]] = {}
        reads: dict[Hashable, list[Op]] = {}
        for op in history:
            role, name = known.role(op), object_of(op)
            if role in {"add", "subtract"} and is_first(history, op):
                amount = amount_of(history, op) * (1 if role == "add" else -1)
                if outcome(history, op) == "ok":
                    sure[name] = sure.get(name, 0) + amount
                elif outcome(history, op) == "info":
                    doubtful.setdefault(name, []).append(amount)
            elif role == "read" and op.type == "ok" and _is_final(history, op):
                if type(op.value) is not int:
                    problem = f"{op.f} of {op.value!r:.60}, which is no whole number"
                    raise bad_op(history, op, problem)
                reads.setdefault(name, []).append(op)
        anomalies: list[Anomaly] = []
        doubt = ""
        for name, of_name in reads.items():
            maybe = doubtful.get(name, [])
            if sum(map(abs, maybe)) > SPREAD_MAX:
                doubt = f"{len(maybe)} additions of unknown outcome may sum to anything"
                continue
            answers = Answers()
            for op in of_name:
                answers.note(op.node, op.value)
            low, sums = _sums(sure.get(name, 0), maybe)
            anomalies += [
                _impossible(history, op, answers, sure.get(name, 0), maybe)
                for op in of_name
                if op.value < low or not sums >> (op.value - low) & 1
            ]
        return verdict_of(
            anomalies,
            {
                "final_reads": sum(map(len, reads.values())),
                "acknowledged": sum(sure.values()),
                "doubtful": sum(map(len, doubtful.values())),
            },
            judged=sum(map(len, reads.values())),
            empty="no final read succeeded: one of f final-read, or with :final? true",
            doubt=doubt,
            known=known,
        )


def _is_final(history: History, op: Op) -> bool:
    if stem(op.f) == "final-read":
        return True
    marks = [event.extra or {} for event in (op, invocation(history, op))]
    return any(mark.get("final?") or mark.get("final") for mark in marks)


def _sums(sure: int, doubtful: Iterable[int]) -> tuple[int, int]:
    """(lowest sum, bits): bit i is set if the lowest sum + i is possible."""
    low, bits = sure, 1
    for amount in doubtful:
        if amount < 0:
            # Not taking it is now |amount| above the lowest.
            low += amount
        bits |= bits << abs(amount)
    return low, bits


def _impossible(
    history: History, read: Op, answers: Answers, sure: int, doubtful: list[int]
) -> Anomaly:
    """The anomaly of a final read that found an impossible sum."""
    begun = invocation(history, read).index
    also = (
        f", and no choice of {len(doubtful)} additions of unknown outcome makes up "
        f"the {read.value - sure:+d} between them"
        if doubtful
        else ""
    )
    return Anomaly(
        "impossible-sum",
        (begun, read.index),
        f"In the end process {read.process} read {read.value!r}{from_node(read)}, but "
        f"the acknowledged additions make {sure}{also}"
        f"{answers.beside(read.node, read.value)}.",
        key=read.key,
    )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "pn-counter",
    "final reads of a counter that goes up and down are possible sums",
    PNCounterChecker,
)
