"""At most one leader in a term, by what nodes say of themselves (Raft paper, 5.2).

How many terms had leaders is no fault by itself. But each change of leader stops the
service for an election. Where it is known how many changes the faults call for, set
`terms-max`: if there are more, something deposes healthy leaders (thesis, 4.2.3, 9.6).

What nodes have said of themselves stays said, and terms only get more, so both
anomalies are final.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.findings import enumerate_names
from checkers.functions import Functions
from checkers.tallies import completed, verdict_of
from harness.options import OrNone, Whole
from harness.registry import Option, Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

TERMS_MAX = OrNone(Whole(1, 1_000_000))

OPTIONS = (
    Option(
        "terms-max",
        "",
        "the most terms that may have a leader; any if empty",
        TERMS_MAX,
    ),
)


FUNCTIONS = Functions("the one_leader checker", {"status": ("status", "leader")})


class OneLeaderChecker:
    """Judges the answers of the `leader` workload."""

    final_on_prefix = frozenset({"two-leaders", "unstable-leadership"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the one_leader checker", OPTIONS, options)
        self._terms_max: int | None = given["terms-max"]

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear.

        Raises:
            HistoryError: See `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        leaders: dict[int, Op] = {}
        anomalies: dict[tuple[Any, str | None], Anomaly] = {}
        for op in completed(history, known, "status"):
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
        found = list(anomalies.values())
        if self._terms_max is not None and len(leaders) > self._terms_max:
            found.append(unstable(leaders, self._terms_max))
        return verdict_of(
            found,
            {"terms": len(leaders)},
            judged=len(leaders),
            empty="no node ever said that it leads",
            known=known,
        )


def unstable(leaders: Mapping[int, Op], terms_max: int) -> Anomaly:
    """The anomaly of too many leaders, one after another."""
    first = [leaders[term] for term in sorted(leaders)]
    who = enumerate_names(f"{op.node} in term {op.value['term']}" for op in first)
    return Anomaly(
        "unstable-leadership",
        tuple(sorted(op.index for op in first[: terms_max + 1])),
        f"{len(leaders)} terms had leaders ({who}), though no more than {terms_max} "
        "were to be: every change stops the service for an election.",
        details={"terms": sorted(leaders)},
    )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "one_leader", "at most one node leads in a term", OneLeaderChecker, OPTIONS
)
