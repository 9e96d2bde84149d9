"""Judging keys: which algorithm decides each of them, and what came of it.

One pass (`deciders.Sweep`) decides all keys that it can. Each of the others is decided
by itself: by the decider for its kind of object, if its values tell who wrote them, and
by search otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from checkers.linearizability.broken import BySearch
from checkers.linearizability.budget import LimitExceeded
from checkers.linearizability.deciders import (
    ALGORITHMS,
    SEARCH,
    Choice,
    choose,
    decider_of,
    narrow,
    sweep_of,
)
from checkers.linearizability.evidence import UndecidedError
from checkers.linearizability.handover import search_fast
from checkers.linearizability.prefix import proved
from checkers.linearizability.search import is_legal_by_return, search
from checkers.linearizability.transitions import Transitions
from checkers.linearizability.windows import Effort

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from checkers.linearizability.accesses import Column
    from checkers.linearizability.broken import Broken
    from checkers.linearizability.budget import Budget
    from checkers.linearizability.calls import KeyCalls
    from checkers.linearizability.deciders import Decider
    from checkers.linearizability.prefix import Proved
    from checkers.linearizability.specification import Model
    from harness.history import History

AUTO: Final = "auto"
"""Asks for the fastest algorithm that fits."""

INSISTENCE: Final = (AUTO, *(each.name for each in ALGORITHMS), SEARCH)
"""What the option `algorithm` may say."""

SHARED_MAX: Final = 300
"""Different operations that all keys together may have to share a table."""


@dataclass(frozen=True)
class Judged:
    """What came of one key.

    Attributes:
        key: The key.
        choice: How it was decided; None if it never came to that.
        linearizable: The verdict; None if it is undecided.
        broken: What is wrong with it, if it is not linearizable.
        undecided: How far it was shown linearizable, if it is undecided; a clause.
        limit: Which limit ended the work on it; a clause, empty if none did.
        proved: What a search that a limit ended has shown.
        configurations: How many the search explored.
    """

    key: Hashable
    choice: Choice | None
    linearizable: bool | None
    broken: Broken | None = None
    undecided: str = ""
    limit: str = ""
    proved: Proved | None = None
    configurations: int = 0


@dataclass(frozen=True)
class Judge:
    """Decides keys, with what is left of a budget.

    Attributes:
        model: What one object may do.
        insist_on: One of INSISTENCE.
        compiled: When numba searches; see `handover`.
        budget: When to give up.
    """

    model: Model
    insist_on: str
    compiled: str
    budget: Budget

    def sweep(
        self, history: History, positions: tuple[Column, Column]
    ) -> tuple[list[Judged], set[Hashable] | None]:
        """Decide all keys at once, if an algorithm can.

        Returns:
            What came of the keys that it could decide, and the others; None for all.
        """
        algorithm = sweep_of(self.model)
        if algorithm is None or self.insist_on not in {AUTO, algorithm.name}:
            return [], None
        swept = algorithm.decide(history, self.model, positions)
        choice = Choice(algorithm.name, algorithm.because)
        judged = [
            Judged(key, choice, broken is None, broken)
            for key, broken in swept.decided.items()
        ]
        return judged, swept.left

    def table_of(self, keys: Sequence[KeyCalls]) -> Transitions | None:
        """One table for all keys; None where they do too many different things.

        Where few operations recur on every key, so do the states; where there are many,
        a key's own operations tell fewer states apart than those of all keys.
        """
        if not keys:
            return None
        operations = keys[0].table.operations
        if len(operations) > SHARED_MAX:
            return None
        return Transitions(self.model, operations, merge=True)

    def judge(
        self, key: Hashable, calls: KeyCalls, shared: Transitions | None
    ) -> Judged:
        """Decide one key.

        Args:
            key: The key.
            calls: Its calls.
            shared: As from `table_of`.
        """
        if limit := self.budget.exceeded():
            return Judged(key, None, None, undecided="not looked at", limit=limit)
        nothing = f"none of its {len(calls)} calls"
        choice = None
        try:
            choice = choose(self.model, calls, self.insist_on, self.budget)
            if self.insist_on not in {AUTO, choice.algorithm}:
                return self.refused(key, choice)
            if choice.decider is not None:
                return self.by_rules(key, calls, choice, choice.decider, shared)
        except LimitExceeded as limit:
            return Judged(key, choice, None, undecided=nothing, limit=str(limit))
        except UndecidedError as why:
            assert choice is not None
            choice = Choice(SEARCH, f"{choice.algorithm} can't tell: {why}")
            if self.insist_on != AUTO:
                return Judged(key, choice, None, undecided=choice.why)
        return self.by_search(key, calls, choice, shared)

    def refused(self, key: Hashable, choice: Choice) -> Judged:
        """The algorithm that was insisted on doesn't fit; `choice` is another one."""
        known = decider_of(self.model)
        stranger = known is None or known.name != self.insist_on
        why = f"it knows no {self.model.name}" if stranger else choice.why
        undecided = f"{self.insist_on} can't decide it: {why}"
        return Judged(key, Choice(self.insist_on, why), None, undecided=undecided)

    def by_rules(
        self,
        key: Hashable,
        calls: KeyCalls,
        choice: Choice,
        decider: Decider,
        shared: Transitions | None,
    ) -> Judged:
        """Decide a key by a polynomial algorithm; by a look, if an order is at hand.

        Raises:
            UndecidedError: Its rules don't settle it.
            LimitExceeded: The budget came to its end.
        """
        if shared is not None and is_legal_by_return(calls, shared):
            return Judged(key, choice, linearizable=True)
        conflict = decider.decide(calls, self.model, self.budget)
        if conflict is None:
            return Judged(key, choice, linearizable=True)
        found = narrow(calls, self.model, decider, conflict, self.budget)
        broken: Broken = found
        if not found.shortest:
            outcome = search(calls, self.model, Effort(self.budget))
            if outcome.linearizable is False:
                broken = BySearch.at(calls, outcome)
        return Judged(key, choice, linearizable=False, broken=broken)

    def by_search(
        self,
        key: Hashable,
        calls: KeyCalls,
        choice: Choice,
        shared: Transitions | None,
    ) -> Judged:
        """Decide a key by search."""
        outcome, algorithm = search_fast(
            calls, self.model, self.budget, self.compiled, shared
        )
        choice = Choice(algorithm, choice.why)
        explored = outcome.configurations
        if outcome.linearizable is None:
            shown = proved(calls, self.model, outcome)
            return Judged(
                key,
                choice,
                None,
                undecided=str(shown or f"none of its {len(calls)} calls"),
                limit=outcome.limit,
                proved=shown,
                configurations=explored,
            )
        broken = None if outcome.linearizable else BySearch.at(calls, outcome)
        return Judged(
            key, choice, outcome.linearizable, broken, configurations=explored
        )
