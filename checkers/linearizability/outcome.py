"""What a search found, and how much of it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from checkers.linearizability.specification import State

NODES_PER_BUDGET_CHECK: Final = 512
"""Configurations between two looks at the limits.

A configuration costs a few microseconds, a look at the clock and at memory some twenty.
"""

PARTIALS_MAX: Final = 4
"""How many of the longest partial linearizations are kept."""

PARTIAL_TAIL: Final = 20
"""How many calls at the end of each are kept. To keep all would take quadratic time."""


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
        """The outcome of a search that got past all events.

        Args:
            order: The linear order that it found.
            configurations: How many it explored.
            events: How many there are.
        """
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
        """The outcome of a search that found no linearization.

        Args:
            events: All events, as in `Problem`.
            deepest: The place of the return that no configuration got past; -1 if it
                was stopped before the first.
            states: As in the attributes.
            partials: As in the attributes.
            configurations: How many it explored.
            limit: Which limit ended it, as a clause; empty if all was explored.
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
        """The same outcome with the calls' `names` in place of their numbers."""
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
