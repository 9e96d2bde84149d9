"""What neither single lists nor cycles tell: weak levels, and orders nobody read.

Weak levels are defined by axioms of their own (`checkers.isolation.weak` and
`guarantees`). Serializability holds with any order of unread elements that dependencies
allow. For snapshot isolation and its parallel form there may be none: of two
transactions that append to one key, one has to see what the other did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation import guarantees, weak
from checkers.isolation.appends.views import Versioned, accesses_of
from checkers.isolation.components import components
from checkers.isolation.evidence import OpenAppends, OpenOrder
from checkers.isolation.graph import session_edges
from checkers.isolation.levels import LEVELS, satisfies
from checkers.isolation.polygraph import Polygraph, Writes, all_questions

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkers.findings import Findings
    from checkers.isolation.appends.edges import Dependencies
    from checkers.isolation.appends.reasons import Reasons
    from checkers.isolation.evidence import Evidence
    from checkers.isolation.question import Question
    from checkers.isolation.reasons import Explains

_OF_SESSIONS = frozenset({"fractured-read", "causal-violation", *guarantees.GUARANTEES})
"""Anomalies with axioms of their own, which dependencies alone don't show."""

_OF_UPDATES = frozenset({"lost-update", "lost-append"})
"""Anomalies that leave it certain what each list is."""

_OPEN_TO_EVENTS = frozenset({"G-monotonic", "G-MSR", "G-update"})
"""Anomalies that an order of unread appends may cause; no orders are tried for them."""


class Settling:
    """One question about one history.

    Args:
        dependencies: The edges, and what was read and appended.
        reasons: What these are about.
        findings: Where anomalies go.
        question: What is asked.
        pause: Called now and then; may raise.
    """

    def __init__(
        self,
        dependencies: Dependencies,
        reasons: Reasons,
        findings: Findings[Evidence],
        question: Question,
        pause: Callable[[], None],
    ) -> None:
        self.dependencies = dependencies
        self.lists = dependencies.lists
        self.versions = dependencies.versions
        self.reasons = reasons
        self.findings = findings
        self.question = question
        self.pause = pause

    # Weak levels

    def judge_sessions(self) -> None:
        """Add to the findings what breaks axioms that are asked for with sessions."""
        wanted = self.question.anomalies & _OF_SESSIONS
        if not self.question.is_about_sessions or not wanted or self._satisfies():
            return
        rows, edges = self.lists.transactions, self.dependencies.edges
        versioned = Versioned(self.lists, edges, self.reasons)
        sessions = session_edges(rows)
        weak.judge(versioned, self.findings, wanted, sessions, self.pause)
        guarantees.judge(versioned, self.findings, wanted, self.pause)

    def _satisfies(self) -> bool:
        """Whether the strictest model asked for is known to hold, by its own axiom.

        If it is not, the axioms are searched for what is wrong.
        """
        question = self.question
        level = LEVELS.get(question.strictest) if question.is_of_models else None
        if level is None or self.findings.counts.keys() - _OF_UPDATES:
            return False
        if self.lists.transactions.labels is not None:
            return False  # who wrote repeated elements is only supposed
        accesses = accesses_of(self.lists, self.versions, self.dependencies.edges)
        return accesses is not None and satisfies(accesses, level, self.pause)

    # Orders that no list shows

    def eliminate(self, inference: Explains) -> OpenAppends | None:
        """Look for an order of what was never read; returns one that stays open.

        Args:
            inference: Explains edges.
        """
        unread = self.dependencies
        writes = Writes(unread.unread, unread.unread_by, {}, self._note)
        anomalies = self.question.anomalies
        asked = all_questions(anomalies) if writes.choices() else []
        # No anomaly was found, so the history is serializable, which implies the rest.
        settled = max((part.level for part in asked if part.serial), default=-1)
        for part in asked:
            if part.serial or part.level <= settled:
                continue
            polygraph = Polygraph(
                self.lists.transactions,
                inference,
                self.dependencies.edges,
                writes,
                part,
                self.pause,
            )
            if not polygraph.is_small:
                continue
            contradiction, _ = polygraph.prune()
            if contradiction is None:
                settled = part.level  # weaker questions follow
            else:
                self.findings.note(contradiction)
        covered = {"G-monotonic": asked}
        covered["G-MSR"] = [part for part in asked if not part.parallel]
        covered["G-update"] = [part for part in asked if part.serial]
        if all(covered[name] for name in _OPEN_TO_EVENTS & anomalies):
            return None
        return self._open_order(writes)

    def _note(self, _earlier: int, later: int) -> int:
        """A number for the order of two unread versions, found by elimination."""
        return self.reasons.eliminate(later)

    def _open_order(self, writes: Writes) -> OpenAppends | None:
        """An order of unread appends that might matter.

        It does not if the two transactions are in different components: then one of the
        orders closes no cycle.
        """
        rows, edges = self.lists.transactions, self.dependencies.edges
        group = np.arange(len(rows))
        for members in components(edges.source, edges.target, np.asarray(rows.start)):
            group[members] = members[0]
        for choice in writes.choices():
            a, b = (writes.writer[version] for version in choice)
            if group[a] == group[b]:
                key, _ = self.versions.of(choice.a)
                return OpenAppends(OpenOrder(a, b, key.name))
        return None
