"""Collects what deciders find: examples of each anomaly, and how many there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from checkers.isolation.evidence import Evidence

EXAMPLES_MAX = 20
"""Anomalies of one name that are explained; all are counted."""


@dataclass
class Findings:
    """Examples of each anomaly, and how many of it there are."""

    examples: list[Evidence] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def wants(self, name: str) -> bool:
        """Count one more anomaly; whether it is still worth explaining."""
        self.counts[name] += 1
        return self.counts[name] <= EXAMPLES_MAX

    def keep(self, finding: Evidence) -> None:
        """Keep an example that `wants` asked for."""
        self.examples.append(finding)

    def note(self, finding: Evidence) -> None:
        """Count one more, and keep it if there are few of its name."""
        if self.wants(finding.name):
            self.keep(finding)
