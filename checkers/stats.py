"""Operations by function and outcome: each function must have worked at least once.

Jepsen's `stats`. A test in which every write failed has shown nothing about writes, so
a function without one ok operation makes the history invalid. Where a function is known
never to return ok, such as Kafka's `crash`, `ignore` takes it out.

Choice: an operation that never returned counts as `info`. In Jepsen's own histories
there are none.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from checkers.tallies import is_first, outcome, verdict_of
from harness.options import Names
from harness.registry import Option, Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History
    from harness.verdict import CheckerFactory

OPTIONS = (
    Option(
        "ignore",
        "",
        "functions that need no ok operation, with commas",
        Names("functions"),
    ),
)

OPS_NAMED_MAX = 5
"""Operations named in each anomaly."""


class StatsChecker:
    """Judges whether every function ever succeeded."""

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the stats checker", OPTIONS, options)
        self._ignored: tuple[str, ...] = given["ignore"]

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear."""
        counts: dict[str, Counter[str]] = {}
        examples: dict[str, list[int]] = {}
        for op in history:
            if op.is_client and is_first(history, op):
                counts.setdefault(op.f, Counter())[outcome(history, op)] += 1
                some = examples.setdefault(op.f, [])
                if len(some) < OPS_NAMED_MAX:
                    some.append(op.index)
        anomalies = [
            Anomaly(
                "no-ok",
                tuple(examples[f]),
                f"None of {of_f.total()} {f} operations succeeded: {of_f['fail']} "
                f"failed, and of {of_f['info']} nobody knows the outcome.",
            )
            for f, of_f in sorted(counts.items())
            if not of_f["ok"] and f not in self._ignored
        ]
        every = sum(counts.values(), Counter[str]())
        return verdict_of(
            anomalies,
            {
                **_figures(every),
                "by_f": {f: _figures(of_f) for f, of_f in sorted(counts.items())},
            },
            judged=every.total(),
            empty="no client did anything",
        )


def _figures(counts: Counter[str]) -> dict[str, int]:
    return {
        "count": counts.total(),
        "ok": counts["ok"],
        "fail": counts["fail"],
        "info": counts["info"],
    }


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "stats", "every function succeeded at least once", StatsChecker, OPTIONS
)
