"""The canonical form of a core, by which equal states are recognised.

Two cores that freeze to equal values behave alike from then on. The reverse need not
hold: where the form tells apart what makes no difference, a state is only counted
twice. So everything is told apart that a core could tell apart: the order in which
entries came into a dict, the type of a number, which attributes share one object.
Only the order of a set is passed over, as no core's behaviour may rest on it: it
differs from process to process.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Hashable
from functools import cache
from typing import TypeAlias

Frozen: TypeAlias = Hashable


@cache
def slots_of(kind: type) -> tuple[str, ...]:
    """The names of the slots of a class and its bases."""
    names: list[str] = []
    for base in kind.__mro__:
        slots: str | tuple[str, ...] = base.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    return tuple(name for name in names if name not in {"__dict__", "__weakref__"})


class Freezer:
    """Freezes one core; `seen` numbers the objects that it met, in their order."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}

    def freeze(self, thing: object) -> Frozen:
        """The canonical form of `thing` and of all that it refers to. Cost: linear."""
        kind = type(thing)
        if kind is str or kind is int or thing is None:
            return thing
        if kind is bool or kind is float or kind is bytes:
            # 1, 1.0 and True are equal, and yet not the same to a core.
            return kind, thing
        if isinstance(thing, tuple):
            return kind, *map(self.freeze, thing)
        if isinstance(thing, type | enum.Enum):
            return kind, thing
        if id(thing) in self.seen:
            return "@", self.seen[id(thing)]
        self.seen[id(thing)] = len(self.seen)
        return kind, *self._content(thing, kind)

    def _content(self, thing: object, kind: type) -> list[Frozen]:
        """The parts of a container or an object that was not met before."""
        out: list[Frozen] = []
        if isinstance(thing, dict):
            for key, value in thing.items():
                out += [self.freeze(key), self.freeze(value)]
        elif isinstance(thing, list | deque):
            out += map(self.freeze, thing)
        elif isinstance(thing, set | frozenset):
            out += sorted(map(self.freeze, thing), key=repr)
        for name in slots_of(kind):
            if hasattr(thing, name):
                out += [name, self.freeze(getattr(thing, name))]
        held = getattr(thing, "__dict__", None)
        if held is not None:
            for name, value in held.items():
                out += [name, self.freeze(value)]
        elif not out and not isinstance(thing, dict | list | deque | set | frozenset):
            # A function or a foreign object: nobody knows what it holds, so it equals
            # itself only.
            out.append(Itself(thing))
        return out


class Itself:
    """Stands for an object that nothing else equals, and keeps it alive."""

    __slots__ = ("thing",)

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)


def freeze(core: object) -> Frozen:
    """The canonical form of a core."""
    return Freezer().freeze(core)
