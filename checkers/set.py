"""A set, judged by its last read: all that was added for sure, nothing from nowhere.

Jepsen's `set`, but for one thing: an add counts as sure only when it was acknowledged
before the last read began. Jepsen's tests read when all adds are done; with other
histories its rule would convict correct systems.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkers.functions import ADDS, READS, REMOVALS, Functions
from checkers.tallies import (
    UNKNOWN_BEGIN,
    Kinds,
    acknowledged,
    began,
    completed,
    contents,
    invocation,
    object_of,
    verdict_of,
)
from checkers.values import element
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from checkers.functions import Known
    from harness.history import History, Op
    from harness.verdict import CheckerFactory


SHRINKS = "a set that may shrink: try --checker linearizable --model set"

FUNCTIONS = Functions(
    "the set checker",
    {"add": ADDS, "read": READS},
    source="add",
    against=dict.fromkeys(REMOVALS, SHRINKS),
)


class SetChecker:
    """Judges the last read of a set."""

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the set checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear.

        Raises:
            HistoryError: A read of something that is no collection, or of elements of a
                kind that nobody added; or see `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        reads = completed(history, known, "read")
        last: dict[Hashable, Op] = {object_of(op): op for op in reads}
        adds_of = _adds(history, known)
        kinds = Kinds(op for op in history if known.role(op) == "add")
        anomalies: list[Anomaly] = []
        in_doubt = 0
        for key, read in last.items():
            adds = adds_of.get(key, _Adds())
            seen = {element(x): x for x in contents(history, read)}
            missing = [op for name, op in adds.sure.items() if name not in seen]
            begun = began(history, read)
            if begun == UNKNOWN_BEGIN:
                in_doubt += len(missing)
            anomalies += [
                _lost(history, op, read) for op in missing if op.index < begun
            ]
            for name, value in seen.items():
                if name not in adds.attempts:
                    kinds.judge(history, read, key, value)
                    anomalies.append(_unexpected(history, read, value))
        acknowledged_adds = sum(len(adds.sure) for adds in adds_of.values())
        return verdict_of(
            anomalies,
            {"reads": len(last), "acknowledged": acknowledged_adds},
            judged=len(last),
            empty="no read succeeded, so nobody knows what the set holds",
            doubt=f"{in_doubt} elements are missing, but nobody recorded when the last "
            "read began, so they may have been added later"
            if in_doubt
            else "",
            known=known,
        )


@dataclass(slots=True)
class _Adds:
    """The adds to one set, by element.

    Attributes:
        attempts: Elements whose add may have happened, or is going to.
        sure: First acknowledgements.
    """

    attempts: set[Hashable] = field(default_factory=set)
    sure: dict[Hashable, Op] = field(default_factory=dict)


def _adds(history: History, known: Known) -> dict[Hashable, _Adds]:
    """The adds to each set."""
    adds_of: dict[Hashable, _Adds] = {}
    for op in history:
        if known.role(op) != "add":
            continue
        adds = adds_of.setdefault(object_of(op), _Adds())
        if op.type != "fail":
            adds.attempts.add(element(op.value))
        if op.type == "ok":
            adds.sure.setdefault(element(acknowledged(history, op)), op)
    return adds_of


def _unexpected(history: History, read: Op, value: Any) -> Anomaly:
    return Anomaly(
        "unexpected",
        (invocation(history, read).index, read.index),
        f"The last read, by process {read.process}, holds {value!r:.60}, which nobody "
        "tried to add.",
        key=read.key,
    )


def _lost(history: History, add: Op, read: Op) -> Anomaly:
    return Anomaly(
        "lost",
        (invocation(history, add).index, add.index, read.index),
        f"{add.value!r:.60} was added by process {add.process} and acknowledged, but "
        f"the last read, by process {read.process}, does not hold it.",
        key=add.key,
    )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "set", "the last read holds all that was added, and nothing else", SetChecker
)
