"""At most one leader in a term, by what nodes say of themselves (Raft paper, 5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.tallies import completed, verdict_of
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory


class OneLeaderChecker:
    """Judges the answers of the `leader` workload."""

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the one_leader checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Cost: linear."""
        leaders: dict[Any, Op] = {}
        anomalies: dict[tuple[Any, str | None], Anomaly] = {}
        for op in completed(history, "status"):
            value = op.value if isinstance(op.value, dict) else {}
            term = value.get("term")
            if value.get("role") != "leader" or type(term) is not int:
                continue
            other = leaders.setdefault(term, op)
            if other.node != op.node:
                anomalies.setdefault(
                    (term, op.node),
                    Anomaly(
                        "two-leaders",
                        (other.index, op.index),
                        f"{other.node} and {op.node} both said that they lead in term "
                        f"{term}.",
                        details={"term": term},
                    ),
                )
        return verdict_of(
            list(anomalies.values()),
            {"terms": len(leaders)},
            judged=len(leaders),
            empty="no node ever said that it leads",
        )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "one_leader", "at most one node leads in a term", OneLeaderChecker
)
