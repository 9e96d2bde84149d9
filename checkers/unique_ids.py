"""Generated ids: no two alike (Jepsen's `unique-ids`).

Two that are alike stay so, whatever is generated later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.functions import Functions
from checkers.tallies import bad_op, completed, named, verdict_of
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

FUNCTIONS = Functions(
    "the unique-ids checker",
    {
        "generate": (
            *("generate", "generate-id", "gen", "gen-id", "id", "ids", "new-id"),
            *("next", "next-id", "unique-id"),
        )
    },
)


class UniqueIdsChecker:
    """Judges whether ids differ."""

    final_on_prefix = frozenset({"duplicated"})

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the unique-ids checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear.

        Raises:
            HistoryError: All ids are nil; or see `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        first: dict[Any, Op] = {}
        anomalies, count, is_told = [], 0, False
        for op in completed(history, known, "generate"):
            count += 1
            given = _id(op)
            is_told |= given is not None
            before = first.setdefault(named(op, given), op)
            if before is not op:
                anomalies.append(
                    Anomaly(
                        "duplicated",
                        (before.index, op.index),
                        f"Process {op.process} was given the id {given!r:.60}, which "
                        f"process {before.process} had got before.",
                        key=op.key,
                    )
                )
        if count and not is_told:
            problem = "gave no id: none stands in value or under id"
            raise bad_op(history, op, f"{op.f} {problem}")
        return verdict_of(
            anomalies,
            {"generated": count},
            judged=count,
            empty="no id was generated",
            known=known,
        )


def _id(op: Op) -> Any:
    """The id that was given out: the value, or what stands under `id`.

    Maelstrom's answer is `{"type": "generate_ok", "id": ...}`, and some recorders keep
    all of it, or the id in a field of its own.
    """
    if isinstance(op.value, dict) and "id" in op.value:
        return op.value["id"]
    return (op.extra or {}).get("id") if op.value is None else op.value


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "unique-ids", "no id is given out twice", UniqueIdsChecker
)
