"""Who holds what, where several may hold the same: the one count that heals go by.

A node is down, a link is cut, a clock is wrong, on behalf of strikes. Each holds it in
a way of its own, and several strikes may hold the same thing at once. When one is
healed it lets go; the thing is itself again when the last one has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Thing = TypeVar("Thing")
How = TypeVar("How")


class Holds(Generic[Thing, How]):
    """Things of one sort, and who holds them how. Owners are steps of a plan.

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
        """`owner` holds it from now on, in this way."""
        holders = self._held.setdefault(thing, {})
        holders[owner] = how
        if len(holders) > 1:
            self._shared.update((holder, thing) for holder in holders)

    def let_go(self, owner: int, thing: Thing) -> bool:
        """`owner` no longer holds it; True when nobody does."""
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
        """It is no more what anybody held."""
        self._held.pop(thing, None)

    def how(self, owner: int, thing: Thing) -> How | None:
        """How `owner` holds it; None when it doesn't."""
        return self._held.get(thing, {}).get(owner)

    def of(self, thing: Thing) -> list[How]:
        """The ways in which it is held, by all owners."""
        return list(self._held.get(thing, {}).values())

    def things(self, owner: int | None = None) -> list[Thing]:
        """What `owner` holds, or what anybody does."""
        return [
            thing
            for thing, holders in self._held.items()
            if owner is None or owner in holders
        ]

    def shared(self, owner: int, thing: Thing) -> bool:
        """Whether `owner` has ever held it while others did."""
        return (owner, thing) in self._shared

    def left_by(self, owner: int) -> list[str]:
        """What `owner` let go of while others held it just so."""
        return sorted(map(self._name, self._left_by.get(owner, ())))

    def left_to(self, owner: int) -> list[str]:
        """What others let go of while `owner` held it just so."""
        return sorted(map(self._name, self._left_to.get(owner, ())))
