"""Values of operations as keys of dictionaries, and what kinds of values there are.

Python holds True equal to 1 and can't hash lists and maps; in JSON, and so in what
checkers compare, true is not 1, and equal lists are equal.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable

_PLAIN = frozenset({int, str, type(None)})


def element(value: Any) -> Hashable:
    """A value as a member of sets: equal values alike, unequal ones apart.

    Booleans, lists and maps get a tag that no other value has.
    """
    if type(value) in _PLAIN:
        plain: Hashable = value
        return plain
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        pairs = ((element(k), element(v)) for k, v in value.items())
        return ("map", frozenset(pairs))
    if isinstance(value, (list, tuple)):
        return ("list", *map(element, value))
    try:
        hash(value)
    except TypeError:
        return ("other", repr(value))
    hashable: Hashable = value
    return hashable


def elements(values: Collection[Any]) -> set[Hashable]:
    """The values as members of sets; see `element`."""
    if set(map(type, values)) <= _PLAIN:
        return set(values)
    return set(map(element, values))


def freeze(value: Any) -> Hashable:
    """A value as a key whose lists can be shown and compared: lists become tuples.

    Equal values are equal keys, and true is not 1; see `element` for mere membership.
    """
    if type(value) is int:
        return value
    if isinstance(value, (list, tuple)):
        return tuple(map(freeze, value))
    if isinstance(value, dict):
        pairs = ((str(k), freeze(v)) for k, v in value.items())
        return (dict, *sorted(pairs, key=lambda pair: pair[0]))
    return (bool, value) if isinstance(value, bool) else value


def kind(value: Any) -> str:
    """What sort of JSON value it is, for a sentence."""
    for types, name in _KINDS:
        if isinstance(value, types):
            return name
    return type(value).__name__


_KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((type(None),), "nil"),
    ((bool,), "true or false"),
    ((int, float, Decimal, Fraction), "a number"),
    ((str,), "a text"),
    ((list, tuple), "a list"),
    ((dict,), "a map"),
)


def is_below(one: Any, other: Any) -> bool:
    """Whether the one is lower; False where the two can't be compared.

    Terms, ballots and zxids are what nodes say, which may be anything.
    """
    try:
        return bool(one < other)
    except TypeError:
        return False
