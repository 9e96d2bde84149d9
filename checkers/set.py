"""A set, judged by its last read: all that was added for sure, nothing from nowhere.

Jepsen's `set`, but for one thing: an add counts as sure only when it was acknowledged
before the last read began. Jepsen's tests read when all adds are done; with other
histories its rule would convict correct systems.
"""

from __future__ import annotations

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
    from collections.abc import Mapping

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
        last: dict[Any, Op] = {object_of(op): op for op in reads}
        attempts: dict[Any, set[Any]] = {}
        added: dict[Any, dict[Any, Op]] = {}
        kinds = Kinds(op for op in history if known.role(op) == "add")
        for op in history:
            if known.role(op) != "add":
                continue
            if op.type != "fail":
                attempts.setdefault(object_of(op), set()).add(element(op.value))
            if op.type == "ok":
                name = element(acknowledged(history, op))
                added.setdefault(object_of(op), {}).setdefault(name, op)
        anomalies: list[Anomaly] = []
        in_doubt = 0
        for key, read in last.items():
            seen = {element(x): x for x in contents(history, read)}
            begun = began(history, read)
            unexpected = [m for m in seen if m not in attempts.get(key, ())]
            for member in unexpected:
                kinds.judge(history, read, key, seen[member])
            for member, op in added.get(key, {}).items():
                if member in seen:
                    continue
                if op.index < begun:
                    anomalies.append(_lost(history, op, read))
                elif begun == UNKNOWN_BEGIN:
                    in_doubt += 1
            anomalies += [
                Anomaly(
                    "unexpected",
                    (invocation(history, read).index, read.index),
                    f"The last read, by process {read.process}, holds "
                    f"{seen[member]!r:.60}, which nobody tried to add.",
                    key=read.key,
                )
                for member in unexpected
            ]
        return verdict_of(
            anomalies,
            {"reads": len(last), "acknowledged": sum(map(len, added.values()))},
            judged=len(last),
            empty="no read succeeded, so nobody knows what the set holds",
            doubt=f"{in_doubt} elements are missing, but nobody recorded when the last "
            "read began, so they may have been added later"
            if in_doubt
            else "",
            known=known,
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
