"""Collects what a checker of promises found, as anomalies with drawn witnesses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers import findings as kit
from checkers.findings import PROMISES_EXAMPLES_MAX, Edge, anomaly, conclude
from harness.verdict import Anomaly

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.history import History
    from harness.verdict import CheckResult


class Findings(kit.Findings[Anomaly]):
    """The anomalies of one check of `history`."""

    def __init__(self, history: History) -> None:
        super().__init__(PROMISES_EXAMPLES_MAX)
        self.history = history

    def add(
        self,
        name: str,
        explanation: str,
        edges: Iterable[Edge] = (),
        *,
        ops: Iterable[int] = (),
        key: Any = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """One more anomaly; see `checkers.findings.anomaly`."""
        if self.wants(name):
            self.keep(
                anomaly(name, explanation, edges, ops=ops, key=key, details=details)
            )

    def result(
        self,
        stats: Mapping[str, Any],
        *,
        unknown: str = "",
        not_models: Sequence[str] = (),
    ) -> CheckResult:
        """What it comes to; see `checkers.findings.conclude`."""
        return conclude(
            self.counts, self.examples, stats, reason=unknown, not_models=not_models
        )
