"""What a search found, and how much of it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from checkers.linearizability.specification import State

NODES_PER_BUDGET_CHECK: Final = 512
"""A node costs a few microseconds, a look at the clock and at memory some twenty."""

PARTIALS_MAX: Final = 4
"""How many of the longest partial linearizations are kept, and how much of each."""

PARTIAL_TAIL: Final = 20
"""Calls kept of a partial linearization: its end. All would be quadratic in time."""


@dataclass(frozen=True)
class Outcome:
    """What a search found about one key.

    Attributes:
        linearizable: True, False, or None when a limit ended the search.
        order: When True: calls (positions in the given list) in a linear order that
            proves it. Crashed calls that never took effect are not in it.
        stuck: When not True: the call whose return no configuration got past; its
            return ends the longest linearizable prefix.
        states: Every state the object can have been in just before that return, as far
            as it matters, and crashed calls that nothing needed aside.
        partials: The ends of a few of the longest partial linearizations.
        configurations: How many were explored.
        reached, events: The first `reached` of all `events` are linearizable.
        limit: Which limit ended the search, as a clause; empty otherwise.
    """

    linearizable: bool | None
    order: tuple[int, ...] = ()
    stuck: int | None = None
    states: tuple[State, ...] = ()
    partials: tuple[tuple[int, ...], ...] = ()
    configurations: int = 0
    reached: int = 0
    events: int = 0
    limit: str = ""

    @staticmethod
    def found(order: Sequence[int], configurations: int, events: int) -> Outcome:
        """A search got past all of so many `events`, with the calls in this order."""
        return Outcome(
            True,
            tuple(order),
            configurations=configurations,
            reached=events,
            events=events,
        )

    @staticmethod
    def stopped(
        events: Sequence[int],
        deepest: int,
        states: Iterable[State],
        partials: Iterable[tuple[int, ...]],
        configurations: int,
        limit: str,
    ) -> Outcome:
        """A search found no linearization.

        `events` are all that there are, as in `Problem`, and `deepest` is the return
        among them that no configuration got past, -1 if there was none.
        """
        return Outcome(
            None if limit else False,
            stuck=~events[deepest] if deepest >= 0 else None,
            states=tuple(states),
            partials=tuple(partials),
            configurations=configurations,
            reached=max(deepest, 0),
            events=len(events),
            limit=limit,
        )

    def renamed(self, names: Sequence[int]) -> Outcome:
        """The same with the calls' `names` for their numbers."""
        return Outcome(
            self.linearizable,
            tuple([names[call] for call in self.order]),
            None if self.stuck is None else names[self.stuck],
            self.states,
            tuple(tuple([names[call] for call in some]) for some in self.partials),
            self.configurations,
            self.reached,
            self.events,
            self.limit,
        )
