"""Judging keys: which algorithm decides each of them, and what came of it.

One pass (`deciders.Sweep`) decides all keys that it can. Of the others, many short keys
are tried all at once (`together`). Each key that is left is decided by itself: by the
decider for its kind of object, if its values tell who wrote them, and by search
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from checkers.linearizability import together
from checkers.linearizability.broken import BySearch
from checkers.linearizability.budget import Budget, LimitExceeded
from checkers.linearizability.deciders import (
    ALGORITHMS,
    SEARCH,
    Choice,
    Sweep,
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
from harness.verdict import Limits

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from checkers.linearizability.accesses import Column
    from checkers.linearizability.broken import Broken
    from checkers.linearizability.calls import KeyCalls
    from checkers.linearizability.deciders import Decider
    from checkers.linearizability.prefix import Proved
    from checkers.linearizability.specification import Model
    from harness.history import History

AUTO: Final = "auto"
"""Asks for the fastest algorithm that fits."""

INSISTENCE: Final = (AUTO, *(each.name for each in ALGORITHMS), SEARCH)
"""What the option `algorithm` may say."""

SWEEPS: Final = frozenset(each.name for each in ALGORITHMS if isinstance(each, Sweep))
"""The names of algorithms that take all keys at once."""

SEARCHED: Final = Choice(SEARCH, "")
"""A search, and nobody wants to know why."""

SHARED_MAX: Final = 300
"""Different operations that all keys together may have to share a table."""


class Judged(NamedTuple):
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


class Common(NamedTuple):
    """What the calls of several keys have in common.

    Attributes:
        moves: What the calls do, as one table; None where that is too much.
        settled: By key number, whether an order is known already; may be empty.
        fits: By key number, whether the decider for the model applies; as long.
    """

    moves: Transitions | None = None
    settled: Sequence[bool] = ()
    fits: Sequence[bool] = ()

    def settles(self, calls: KeyCalls) -> bool:
        """Whether an order of these calls is known already."""
        return bool(self.settled) and self.settled[calls.key]


@dataclass(frozen=True)
class Judge:
    """Decides keys, with what is left of a budget.

    Attributes:
        model: What one object may do.
        insist_on: One of INSISTENCE.
        compiled: When numba searches; see `handover`.
        budget: When to give up.
        planning: Whether somebody wants to know why each algorithm was chosen.
    """

    model: Model
    insist_on: str
    compiled: str
    budget: Budget
    planning: bool = False

    def sweep(
        self, history: History, positions: tuple[Column, Column]
    ) -> tuple[list[Judged], set[Hashable] | None]:
        """Decide all keys at once, if an algorithm can.

        Returns:
            What came of keys, and those that are left to `judge`; None for all keys.
        """
        if self.insist_on not in {AUTO, *SWEEPS}:
            return [], None
        algorithm = sweep_of(self.model)
        if algorithm is None:
            return ([], None) if self.insist_on == AUTO else (self.unfit({None}), set())
        swept = algorithm.decide(history, self.model, positions)
        choice = Choice(algorithm.name, algorithm.because)
        judged = [
            Judged(key, choice, broken is None, broken)
            for key, broken in swept.decided.items()
        ]
        if self.insist_on == AUTO:
            return judged, swept.left
        return judged + self.unfit(swept.left), set()

    def unfit(self, keys: Iterable[Hashable]) -> list[Judged]:
        """Keys that the algorithm can't decide that was insisted on."""
        why = f"{self.insist_on} can't decide it (values repeat, or cas)"
        return [Judged(key, None, None, undecided=why) for key in keys]

    @cached_property
    def decider(self) -> Decider | None:
        """The algorithm for one key, if there is one."""
        return decider_of(self.model)

    def common(self, keys: Mapping[Hashable, KeyCalls]) -> Common:
        """What the keys have in common; made once for all of them.

        Where few operations recur on every key, so do the states. Where there are many,
        a key's own operations tell fewer states apart than those of all keys.
        """
        table = next((calls.table for calls in keys.values()), None)
        if table is None or len(table.operations) > SHARED_MAX:
            return Common()
        moves = Transitions(self.model, table.operations, merge=True)
        if (
            self.decider is None
            or self.decider.fits is None
            or self.insist_on != AUTO
            or self.compiled == "always"
            or not together.pays(len(keys), table, self.model)
        ):
            return Common(moves)
        return Common(
            moves,
            together.linearizable(table, moves).tolist(),
            self.decider.fits(self.model, table).tolist(),
        )

    def settled(
        self, keys: Mapping[Hashable, KeyCalls], common: Common
    ) -> Iterator[tuple[Choice, list[Hashable]]]:
        """Those keys of which an order is known already, by what would decide them."""
        if not common.settled:
            return
        decider = self.decider
        assert decider is not None
        fitting: list[Hashable] = []
        others: list[Hashable] = []
        for key, calls in keys.items():
            if common.settled[calls.key]:
                (fitting if common.fits[calls.key] else others).append(key)
        yield Choice(decider.name, decider.because, decider), fitting
        if not self.planning:
            yield SEARCHED, others
            return
        unhurried = Budget(Limits())
        for key in others:
            why = decider.misfit(self.model, keys[key], unhurried)
            yield Choice(SEARCH, why), [key]

    def judge(self, key: Hashable, calls: KeyCalls, common: Common) -> Judged:
        """Decide one key.

        Args:
            key: The key.
            calls: Its calls.
            common: As from `common`.
        """
        if limit := self.budget.exceeded():
            return Judged(key, None, None, undecided="not looked at", limit=limit)
        nothing = f"none of its {len(calls)} calls"
        choice = None
        try:
            choice = choose(
                self.decider, self.model, calls, self.insist_on, self.budget
            )
            if self.insist_on not in {AUTO, choice.algorithm}:
                return self.refused(key, choice)
            if choice.decider is not None:
                return self.by_rules(key, calls, choice, choice.decider, common.moves)
        except LimitExceeded as limit:
            return Judged(key, choice, None, undecided=nothing, limit=str(limit))
        except UndecidedError as why:
            assert choice is not None
            choice = Choice(SEARCH, f"{choice.algorithm} can't tell: {why}")
            if self.insist_on != AUTO:
                return Judged(key, choice, None, undecided=choice.why)
        return self.by_search(key, calls, choice, common.moves)

    def refused(self, key: Hashable, choice: Choice) -> Judged:
        """The algorithm that was insisted on doesn't fit; `choice` is another one."""
        known = self.decider
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
