"""Evidence: which operations can't be ordered, and by which rule.

Whatever finds a key broken says so in these classes, one for each rule. Their fields
are the operations and values that the rule is about. Evidence has no sentences:
`telling` makes a name, a text and a witness of it. Every class is immutable, and none
knows which algorithm made it.

A polynomial decider gives no linear order and needs no search. What it finds is a
contradiction between a handful of calls, a `Conflict`. They are impossible by
themselves, whatever the others did, so search can check them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from checkers.linearizability.calls import NEVER

if TYPE_CHECKING:
    from collections.abc import Hashable

    from checkers.linearizability.calls import Call
    from checkers.linearizability.intervals import Item
    from checkers.linearizability.specification import State
    from harness.history import Op


# Registers


class Unwritten(NamedTuple):
    """`reader` depends on a value that no successful or open write had written.

    Attributes:
        reader: A read of the value, or a cas that expects it.
        failed: Attempts to write it that failed, in order.
        later: The first write of it that began after `reader` had returned, if any.
        at_first: Whether no other value certainly was there before `reader` began, so
            that it may have been the initial one.
    """

    reader: Call
    failed: tuple[Op, ...] = ()
    later: Call | None = None
    at_first: bool = False


class Replaced(NamedTuple):
    """A value had been replaced, whole and for good, before `stale` depended on it.

    Attributes:
        stale: The operation that depends on the value.
        producers: All operations that could have brought the value about.
        early: Shows that the value had come: it returned before `later` was invoked.
            None for the initial value.
        later: An operation on another value, after `early`.
        fresh: An operation on that other value that returned before `stale` was
            invoked; often the same as `later`.
        source: The operation that wrote the other value, where it is known.
    """

    stale: Call
    producers: tuple[Call, ...]
    early: Call | None
    later: Call
    fresh: Call
    source: Call | None = None


class ReplacedTwice(NamedTuple):
    """Two cas replaced one value, which was written once."""

    first: Call
    second: Call
    value: Hashable


class CasCircle(NamedTuple):
    """These values came about from one another only, by cas.

    Attributes:
        latest: The last of the cas to be invoked.
        values: The values, each one replaced by the next.
    """

    latest: Call
    values: tuple[Hashable, ...]


class OutOfStage(NamedTuple):
    """`early` returned before `late` began, but cas put what `late` did first.

    Attributes:
        early: The operation that returned first.
        late: The operation that had to come first.
        value: The value that `late` is about.
        same: Whether `early` is about that value, too: `late` wrote it.
    """

    early: Call
    late: Call
    value: Hashable
    same: bool


class Interleaved(NamedTuple):
    """Two chains of values, linked by cas, must each precede the other.

    Attributes:
        late: The last operation of one chain to begin.
        early: The first of the other chain to return, before `late` began.
        value: The value that `late` is about.
        opening: The first of `late`'s chain to return; None for the initial value.
        closing: The last of `early`'s chain to begin; None for the initial value.
    """

    late: Call
    early: Call
    value: Hashable
    opening: Call | None
    closing: Call | None


class Outgrown(NamedTuple):
    """A read lacks something that had been appended before it began.

    Attributes:
        stale: The read.
        shown: An append or a read of what `stale` lacks, which returned before `stale`
            began.
    """

    stale: Call
    shown: Call


# Counters


class OutOfBounds(NamedTuple):
    """A counter that only grows was read lower or higher than it can have been.

    Attributes:
        read: The read.
        least, most: What it could have returned.
        adds: The adds that the bound it broke is the sum of.
    """

    read: Call
    least: int
    most: int
    adds: tuple[Call, ...]


# Containers


class Unknown(NamedTuple):
    """Something was found that nobody had put in.

    Attributes:
        found: The operation that found it.
        f: The function that would have put it in.
        value: What was found.
        failed: Attempts to put it in that failed, in order.
        later: The first that began after `found` had returned, if any.
    """

    found: Call
    f: str
    value: Hashable
    failed: tuple[Op, ...] = ()
    later: Op | None = None


class TakenEarly(NamedTuple):
    """A value came out, and `remove` returned, before its only `insert` began."""

    insert: Call
    remove: Call


class TakenTooOften(NamedTuple):
    """The last of `removes` took a value that had gone in only as often as before."""

    removes: tuple[Call, ...]


class FalseEmpty(NamedTuple):
    """A remove found nothing, but something was inside all the while.

    Attributes:
        empty: The remove.
        chain: Each of these was certainly inside before the one ahead of it left.
    """

    empty: Call
    chain: tuple[Item, ...]


class Overtaken(NamedTuple):
    """`second` was enqueued after `first`, and dequeued before it."""

    first: Item
    second: Item


class Overdue(NamedTuple):
    """More values had to be out of the way than open dequeues can have taken.

    Attributes:
        dequeue: It took what was behind all of them.
        ahead: The values that were ahead.
        spare: How many open dequeues there were.
    """

    dequeue: Call
    ahead: tuple[Hashable, ...]
    spare: int


class SmallerInside(NamedTuple):
    """`remove` took a value from a priority queue that held a smaller one.

    Attributes:
        remove: The remove.
        chain: Smaller values, each inside before the one ahead of it left.
    """

    remove: Call
    chain: tuple[Item, ...]


class NoBottom(NamedTuple):
    """Of values that were on a stack without a break, none can have been at the bottom.

    Attributes:
        items: The values, in order of their pushes.
        last: The last of their pops to return.
        start: The value that certainly was there first.
        end: The value that left last.
    """

    items: tuple[Item, ...]
    last: Call
    start: Item
    end: Item


# Sets


class OutOfRank(NamedTuple):
    """`early` returned before `late` began, but what they found puts `late` first.

    Attributes:
        early, late: The two operations.
        elements: The elements that tell so: one, or two that another operation found
            the one without the other.
    """

    early: Call
    late: Call
    elements: tuple[Hashable, ...]


class Doubled(NamedTuple):
    """A read of a set holds an element twice."""

    read: Call


class Incomparable(NamedTuple):
    """Each of two reads of a set that only grows holds what the other lacks.

    Attributes:
        first, second: The reads.
        x: Only `first` holds this element.
        y: Only `second` holds this one.
    """

    first: Call
    second: Call
    x: Hashable
    y: Hashable


class Misplaced(NamedTuple):
    """The operations on one element of a set have no order.

    Attributes:
        last: The last of them to return.
        others: The others.
        looks: Whether `last` only says whether it found the element.
    """

    last: Call
    others: tuple[Call, ...]
    looks: bool


# Whatever only a search can show

Surprise = Literal[
    "double-acquire",
    "use-without-lock",
    "release-of-free-lock",
    "lost-update",
    "stale-read",
    "nonlinearizable",
]
"""What is wrong with an operation that a search could not place."""


class Unorderable(NamedTuple):
    """A search tried all orders of these calls.

    Attributes:
        stuck: The call whose return no order leads past.
        calls: Those whose place in time is needed for that, `stuck` among them.
        states: Every state that the object could be in by then.
        whole: True when they begin with the history, False in the middle.
        surprise: What is wrong with `stuck`.
    """

    stuck: Call
    calls: tuple[Call, ...]
    states: tuple[State, ...]
    whole: bool
    surprise: Surprise


Evidence = (
    Unwritten
    | Replaced
    | ReplacedTwice
    | CasCircle
    | OutOfStage
    | Interleaved
    | Outgrown
    | OutOfBounds
    | Unknown
    | TakenEarly
    | TakenTooOften
    | FalseEmpty
    | Overtaken
    | Overdue
    | SmallerInside
    | NoBottom
    | OutOfRank
    | Doubled
    | Incomparable
    | Misplaced
    | Unorderable
)
"""One class for each rule; `telling` knows them all."""


@dataclass(frozen=True)
class Conflict:
    """Calls that can't be ordered.

    Attributes:
        evidence: The rule that they break.
        calls: The calls, impossible by themselves. Their operations may be weaker than
            what happened: reads of whole sets are cut down to the elements concerned.
    """

    evidence: Evidence
    calls: tuple[Call, ...]


def completed_at(conflict: Conflict) -> int:
    """When the last of its calls returned, of those that did; -1 if none did."""
    return max((c.returned for c in conflict.calls if c.returned != NEVER), default=-1)


class ImpossibleError(Exception):
    """Raised where a decider meets a contradiction, caught where it answers."""

    def __init__(self, conflict: Conflict) -> None:
        super().__init__(type(conflict.evidence).__name__)
        self.conflict = conflict


class UndecidedError(Exception):
    """The rules of a decider don't settle this history; the text says why."""
