"""Counts which strikes hold a thing, so that it is healed when the last lets go.

Strikes hold nodes down, cut links and set clocks wrong. Several of them may hold the
same thing at once, each in a way of its own. A strike that is healed lets go of what it
holds; a thing is itself again when the last strike has let go of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Thing = TypeVar("Thing")
How = TypeVar("How")


class Holds(Generic[Thing, How]):
    """Things of one sort, and how each owner holds them. Owners are steps of a plan.

    Args:
        name: What a thing is called in evidence.
        alike: Whether two ways to hold a thing do the same to it.
    """

    def __init__(
        self,
        name: Callable[[Thing], str],
        alike: Callable[[How, How], bool] = lambda *_: True,
    ) -> None:
        self._name = name
        self._alike = alike
        self._held: dict[Thing, dict[int, How]] = {}  # owners in the order they came
        self._left_by: dict[int, set[Thing]] = {}
        self._left_to: dict[int, set[Thing]] = {}
        self._shared: set[tuple[int, Thing]] = set()

    def take(self, owner: int, thing: Thing, how: How) -> None:
        """Have `owner` hold the thing in this way from now on."""
        holders = self._held.setdefault(thing, {})
        holders[owner] = how
        if len(holders) > 1:
            self._shared.update((holder, thing) for holder in holders)

    def let_go(self, owner: int, thing: Thing) -> bool:
        """End the hold of `owner`, if it has one; True if no owner is left."""
        holders = self._held.get(thing, {})
        if owner in holders:
            mine = holders.pop(owner)
            for other, theirs in holders.items():
                if self._alike(mine, theirs):
                    self._left_by.setdefault(owner, set()).add(thing)
                    self._left_to.setdefault(other, set()).add(thing)
        if not holders:
            self._held.pop(thing, None)
        return not holders

    def drop(self, thing: Thing) -> None:
        """End all holds of a thing that was replaced: its process has exited."""
        self._held.pop(thing, None)

    def how(self, owner: int, thing: Thing) -> How | None:
        """How `owner` holds the thing; None if it doesn't."""
        return self._held.get(thing, {}).get(owner)

    def of(self, thing: Thing) -> list[How]:
        """The ways in which all owners hold the thing."""
        return list(self._held.get(thing, {}).values())

    def things(self, owner: int | None = None) -> list[Thing]:
        """The things that `owner` holds; without one, those that any owner holds."""
        return [
            thing
            for thing, holders in self._held.items()
            if owner is None or owner in holders
        ]

    def shared(self, owner: int, thing: Thing) -> bool:
        """Whether `owner` has ever held the thing while others did."""
        return (owner, thing) in self._shared

    def left_by(self, owner: int) -> list[str]:
        """The names of things that `owner` let go of while others held them alike."""
        return sorted(map(self._name, self._left_by.get(owner, ())))

    def left_to(self, owner: int) -> list[str]:
        """The names of things that others let go of while `owner` held them alike."""
        return sorted(map(self._name, self._left_to.get(owner, ())))
