"""Why a key is not linearizable: a few operations, in words and as a graph.

A verdict nobody can follow is worth little. So an anomaly names few operations, says in
one or two sentences why no order can hold them, and draws the order that they force.

Each way of finding a key broken (`broken`) leads to evidence: that of zones and
deciders as it is, or a plainer argument, or what is left after shrinking. `telling`
then makes the anomaly's name, text and witness of it.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from checkers.linearizability import zones
from checkers.linearizability.arguments import plain, unorderable
from checkers.linearizability.attempts import Attempts
from checkers.linearizability.broken import ByRules, BySearch, ByZones
from checkers.linearizability.calls import NEVER, partition
from checkers.linearizability.evidence import Unknown, Unwritten
from checkers.linearizability.lost import find_lost
from checkers.linearizability.search import search
from checkers.linearizability.shrink import shrink
from checkers.linearizability.specification import freeze
from checkers.linearizability.telling import (
    OPS_MAX,
    PERHAPS_INITIAL,
    tell,
    told_lost,
)
from checkers.linearizability.windows import Effort
from checkers.linearizability.words import Witness, Words
from harness.verdict import Anomaly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.broken import Broken
    from checkers.linearizability.budget import Budget
    from checkers.linearizability.calls import Call
    from checkers.linearizability.evidence import Evidence
    from checkers.linearizability.lost import Lost
    from checkers.linearizability.outcome import Outcome
    from checkers.linearizability.specification import Model
    from harness.history import History

REPEATED_MAX: Final = 5_000
"""Calls that are searched for partial linearizations, though a decider knows better."""

PARTIALS_EFFORT_MAX: Final = 10_000
"""Configurations that such a search may look at: some hundredths of a second."""


class Explainer:
    """Explains the broken keys of one history."""

    def __init__(self, history: History, model: Model) -> None:
        self.history = history
        self.model = model
        self.words = Words(history, model)
        self.attempts = Attempts(history, model)

    def explain(self, broken: Broken, budget: Budget) -> Anomaly:
        """The anomaly for a key that was found broken."""
        match broken:
            case ByZones():
                return self.by_zones(broken)
            case ByRules():
                return self.by_rules(broken, budget)
            case BySearch():
                return self.by_search(broken, budget)

    def by_zones(self, broken: ByZones) -> Anomaly:
        """What zones found, by the calls that it is about.

        Cost: linear in the calls on broken keys, and once in the history.
        """
        cut, of_key = broken.cut, broken.cut.key == broken.violation.key
        (row,) = np.flatnonzero(of_key & (cut.returned == broken.broke)).tolist()
        details = {
            "first_impossible_op": int(cut.position[row]),
            "linearizable_prefix_calls": int((cut.returned[of_key] != NEVER).sum()) - 1,
        }
        evidence = zones.evidence(broken, self.history, self.model)
        about = evidence.reader if isinstance(evidence, Unwritten) else evidence.stale
        return self.anomaly(evidence, about, details)

    def by_rules(self, broken: ByRules, budget: Budget) -> Anomaly:
        """What a decider says, or a plainer argument."""
        conflict, stuck = broken.conflict, broken.stuck
        details: dict[str, Any] = {
            "partial_linearizations": self.searched_again(broken, budget),
            "conflict_calls": len(conflict.calls),
        }
        if broken.shortest:
            details |= ends_prefix(stuck, broken.calls)
        else:
            details["impossible_by_op"] = stuck.position
        if self.model.reads:
            argument = plain(broken.everything, stuck, self.model)
            if argument is not None:
                return self.anomaly(argument, stuck, details)
        positions = {call.position for call in conflict.calls}
        # Calls of a conflict may be weaker than what happened, which is to be shown.
        shown = [call for call in broken.calls if call.position in positions]
        return self.anomaly(conflict.evidence, stuck, details, shown)

    def searched_again(self, broken: ByRules, budget: Budget) -> list[list[int]]:
        """Partial linearizations, from a search of what a decider found impossible.

        A search that finds an order all the same would be a flaw of ours, which must
        not become a verdict.
        """
        conflict = broken.conflict
        again = search(conflict.calls, self.model, Effort(budget), merge=False)
        assert again.linearizable is not True, conflict
        if len(broken.calls) <= REPEATED_MAX:
            effort = Effort(budget, PARTIALS_EFFORT_MAX)
            whole = search(broken.calls, self.model, effort, merge=False)
            assert whole.linearizable is not True, conflict
            if whole.linearizable is False:
                return named(broken.calls, whole)
        return named(conflict.calls, again)

    def by_search(self, broken: BySearch, budget: Budget) -> Anomaly:
        """A plain argument, or the smallest set of calls that can't be ordered."""
        calls, stuck = broken.calls, broken.stuck
        details: dict[str, Any] = {
            **ends_prefix(stuck, calls),
            "partial_linearizations": named(calls, broken.outcome),
        }
        evidence = plain(calls, stuck, self.model)
        if evidence is None:
            core = shrink(calls, self.model, stuck, budget)
            evidence = unorderable(calls, core, stuck, self.model)
        return self.anomaly(evidence, stuck, details)

    def anomaly(
        self,
        evidence: Evidence,
        about: Call,
        details: dict[str, Any],
        shown: Sequence[Call] = (),
    ) -> Anomaly:
        """The anomaly for evidence.

        Args:
            evidence: What is wrong.
            about: The operation that it is wrong with.
            details: Figures of how it was found.
            shown: Calls of the witness, beside those that the evidence adds to it.
        """
        witness = Witness(self.words)
        witness.add(*shown)
        witness.all_realtime(shown[-OPS_MAX:])
        told = tell(self.with_attempts(evidence, about.returned), witness)
        lost = self.lost(about) if told.name == "stale-read" else None
        if lost is not None:
            told = told_lost(lost, told, witness)
        return Anomaly(
            told.name,
            witness.ops,
            told.text,
            witness.graph,
            key=self.history[about.position].key,
            details=details | dict(told.details),
        )

    def with_attempts(self, evidence: Evidence, seen: int) -> Evidence:
        """The evidence with attempts, until `seen`, to bring about what was found."""
        if isinstance(evidence, Unwritten):
            return self.attempts.to_write(evidence, seen)
        if isinstance(evidence, Unknown):
            return self.attempts.to_put_in(evidence, seen)
        return evidence

    def lost(self, stale: Call) -> Lost | None:
        """The acknowledged write that a stale read shows to be gone for good."""
        if not self.model.writes or self.model.appends:
            return None
        key = freeze(self.history[stale.position].key) if self.model.by_key else None
        calls = partition(self.history, self.model, only={key})[key]
        return find_lost(self.history, calls, stale, self.model)


def named(calls: Sequence[Call], outcome: Outcome) -> list[list[int]]:
    """The partial linearizations that a search came to, by history position."""
    return [[calls[i].position for i in partial] for partial in outcome.partials]


def ends_prefix(stuck: Call, calls: Sequence[Call]) -> dict[str, Any]:
    """What details say of the call with whose return `calls` cease to have an order."""
    before = sum(call.returned < stuck.returned for call in calls)
    return {
        "first_impossible_op": stuck.position,
        "linearizable_prefix_calls": before,
    }


def with_initial(anomalies: Sequence[Anomaly]) -> list[Anomaly]:
    """The anomalies, with a hint where another initial value would explain some.

    Systems under test begin with 0 as often as with nothing. If all values that were
    found and that nobody had written are one, and it was found before any other, that
    is more likely than a system which invents values.
    """
    found = [anomaly.details.get(PERHAPS_INITIAL) for anomaly in anomalies]
    invented = [
        value
        for value, anomaly in zip(found, anomalies, strict=True)
        if value is not None or anomaly.name == "read-of-unwritten-value"
    ]
    if len(set(invented)) != 1 or invented[0] is None:
        return list(anomalies)
    value = invented[0]
    option = shlex.quote(f"initial={value}")
    hint = f" If {value} was there from the start, check with --option {option}."
    return [
        anomaly
        if here is None
        else replace(anomaly, explanation=anomaly.explanation + hint)
        for here, anomaly in zip(found, anomalies, strict=True)
    ]
