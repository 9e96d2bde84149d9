"""Values that go into a container and come out again, as intervals.

A value that is put in makes an `Item`: an insert, and the remove that returned it, if
any. It is certainly inside from the return of its insert to the invocation of its
remove. These *certain intervals* are what every rule about queues, stacks and bags is
made of.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

from checkers.linearizability.calls import NEVER

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from checkers.linearizability.calls import Call


class Item(NamedTuple):
    """A value with the calls that put it in and took it out."""

    value: Hashable
    insert: Call
    remove: Call | None

    @property
    def entered(self) -> int:
        """From here on it was certainly in, until it left."""
        return self.insert.returned

    @property
    def leaves(self) -> int:
        """Until here it was certainly in, once it had entered."""
        return NEVER if self.remove is None else self.remove.invoked

    @property
    def left(self) -> int:
        """From here on it was certainly out."""
        return NEVER if self.remove is None else self.remove.returned

    @property
    def calls(self) -> tuple[Call, ...]:
        """Its one or two calls."""
        return (self.insert,) if self.remove is None else (self.insert, self.remove)


class Union:
    """A union of closed intervals: disjoint, sorted, grown one by one."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Take in one more. Cost: logarithmic, and moving all intervals behind it."""
        low = bisect_left(self._ends, start)
        high = bisect_right(self._starts, end)
        if low < high:
            start = min(start, self._starts[low])
            end = max(end, self._ends[high - 1])
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]

    def covers(self, start: int, end: int) -> bool:
        """Whether there is no gap in all of [start, end]."""
        place = bisect_right(self._starts, start) - 1
        return place >= 0 and self._ends[place] >= end


def certain(items: Iterable[Item]) -> list[Item]:
    """The items that certainly were inside for a while."""
    return [item for item in items if item.entered < item.leaves]


def cover(items: Iterable[Item], start: int, end: int) -> list[Item]:
    """As few items as possible of which one was inside all through [start, end].

    The intervals of `items` are known to cover it. Cost: linear, after a sort.
    """
    ordered = sorted(certain(items), key=lambda item: item.entered)
    chain: list[Item] = []
    reached, n = start, 0
    while not chain or reached < end:
        best: Item | None = None
        while n < len(ordered) and ordered[n].entered <= reached:
            if best is None or ordered[n].leaves > best.leaves:
                best = ordered[n]
            n += 1
        assert best is not None, "the intervals have a gap"
        chain.append(best)
        reached = best.leaves
    return chain
