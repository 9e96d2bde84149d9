"""Generated ids: no two alike (Jepsen's `unique-ids`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.tallies import VACUOUS, completed, named, verdict_of
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

OPTIONS = (VACUOUS,)


class UniqueIdsChecker:
    """See the module."""

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the unique-ids checker", OPTIONS, options)
        self._vacuous = Verdict.parse(given["vacuous"])

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Cost: linear."""
        first: dict[Any, Op] = {}
        anomalies, count = [], 0
        for op in completed(history, "generate"):
            count += 1
            before = first.setdefault(named(op, op.value), op)
            if before is not op:
                anomalies.append(
                    Anomaly(
                        "duplicated",
                        (before.index, op.index),
                        f"Process {op.process} was given the id {op.value!r}, which "
                        f"process {before.process} had got before.",
                        key=op.key,
                    )
                )
        return verdict_of(
            anomalies,
            {"generated": count},
            judged=count,
            empty="no id was generated",
            vacuous=self._vacuous,
        )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "unique-ids", "no id is given out twice", UniqueIdsChecker, OPTIONS
)
