"""What deciders find, as typed data: which rule was broken, by whom, with which values.

Deciders make evidence and write no sentence; `checkers.isolation.telling` makes words
and witnesses of it. Transactions are rows of `Transactions`, keys and values are frozen
(`checkers.linearizability.specification.freeze`).

A cycle of transactions consists of links, each with its reason
(`checkers.isolation.reasons`). Classes are msgspec's: frozen as dataclasses can be, but
made fifty times as fast, which counts as there are many, and every check begins with
them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from checkers.isolation.reasons import (
    Deed,
    HadReturned,
    Link,
    Missed,
    MissedUpdate,
    Observed,
    ReadNil,
    Seen,
    StandsAfter,
)
from harness.override import override

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

LINKED_MAX = 4
"""Transactions of a lost update between which the witness has edges."""


class Evidence(Struct, frozen=True):
    """One anomaly.

    Attributes:
        name: What the anomaly is called.
        rows: The transactions, the one to blame first.
        key: The key concerned; None if there are several.
    """

    name: str
    rows: tuple[int, ...]
    key: Hashable

    def links(self) -> Sequence[Link]:
        """The edges of the witness."""
        return ()


# Cycles


class Cyclic(Evidence, frozen=True):
    """Transactions that would have to come before themselves."""

    steps: tuple[Link, ...]

    @override
    def links(self) -> Sequence[Link]:
        return self.steps


class CyclicByClass(Cyclic, frozen=True):
    """A cycle whose class may say more than that it is one.

    Attributes:
        is_shortest: Whether no other of its class in its component is shorter.
    """

    is_shortest: bool


def cyclic(name: str, steps: Sequence[Link]) -> Cyclic:
    """The cycle of these links."""
    return Cyclic(name, tuple(step.source for step in steps), None, tuple(steps))


# Single transactions


class UnlikeOwnList(Evidence, frozen=True):
    """A read of a list that does not fit its transaction's earlier operations.

    Attributes:
        value: What was read.
        expected: What the list had to end in.
    """

    value: Sequence[Any]
    expected: Sequence[Any]


class UnlikeOwnValue(Evidence, frozen=True):
    """A read of a register that does not fit its transaction's earlier operations."""

    value: Hashable
    expected: Hashable


class OwnAppendShown(Evidence, frozen=True):
    """A read shows the transaction's own append, though it should not."""

    element: Hashable


class FutureRead(Evidence, frozen=True):
    """A transaction read what it did itself, but only later on.

    Attributes:
        value, deed: What the transaction did.
        own_writes_show: Whether a later read would have had to show it.
    """

    value: Hashable
    deed: Deed
    own_writes_show: bool = True


class RepeatedElement(Evidence, frozen=True):
    """A list has an element more often than it was appended.

    Attributes:
        element: The element.
        times: How often it is in the list, or in its beginning up to the place blamed.
        is_copied: Whether it was appended more than once, but not as often as that.
    """

    element: Hashable
    times: int
    is_copied: bool = False


class GarbageRead(Evidence, frozen=True):
    """A read of what no transaction ever appended or wrote."""

    value: Hashable
    deed: Deed


# A reader and a writer


class AbortedRead(Evidence, frozen=True):
    """A read of what a failed transaction did; the rows are reader and writer."""

    value: Hashable
    deed: Deed

    @override
    def links(self) -> Sequence[Link]:
        reader, writer = self.rows
        return [Link(writer, reader, "wr", Observed(self.deed, self.value, self.key))]


class IntermediateRead(Evidence, frozen=True):
    """A read of what its writer replaced itself; the rows are reader and writer."""

    value: Hashable
    deed: Deed

    @override
    def links(self) -> Sequence[Link]:
        reader, writer = self.rows
        return [Link(writer, reader, "wr", Observed(self.deed, self.value, self.key))]


class Reordered(Evidence, frozen=True):
    """A list shows the second append of a transaction, but not the first before it.

    The rows are the reader's, and the writer's.
    """

    first: Hashable
    second: Hashable

    @override
    def links(self) -> Sequence[Link]:
        reader, writer = self.rows
        return [Link(writer, reader, "wr", Observed("append", self.second, self.key))]


class DirtyUpdate(Evidence, frozen=True):
    """A committed append on top of a failed one.

    The rows are those of the committed transaction, and of the failed one.
    """

    element: Hashable
    dirt: Hashable

    @override
    def links(self) -> Sequence[Link]:
        row, failed = self.rows
        why = StandsAfter(self.element, self.dirt, self.key)
        return [Link(failed, row, "ww", why)]


class LostAppend(Evidence, frozen=True):
    """An acknowledged append is missing from a read; the rows are those of both.

    Attributes:
        element: What was appended.
        value: The list that was read.
        misses: How many reads from then on lack it.
    """

    element: Hashable
    value: Sequence[Any]
    misses: int

    @override
    def links(self) -> Sequence[Link]:
        row, reader = self.rows
        missed = Missed("append", self.element, self.key)
        return [
            Link(row, reader, "realtime", HadReturned()),
            Link(reader, row, "rw", missed),
        ]


# Several of one key


class ListsDiffer(Evidence, frozen=True):
    """Two lists of a key neither of which is a beginning of the other.

    Attributes:
        value, longest: The lists.
        place: The first place at which they differ, counted from 1.
    """

    value: Sequence[Any]
    longest: Sequence[Any]
    place: int


class LostUpdate(Evidence, frozen=True):
    """Transactions that read one version of a key, and then updated it.

    Attributes:
        value: What they read; a list if they appended to it.
        deed: How they updated it.
    """

    value: Any
    deed: Deed

    @override
    def links(self) -> Sequence[Link]:
        pairs = itertools.permutations(self.rows[:LINKED_MAX], 2)
        return [Link(a, b, "rw", MissedUpdate(self.deed)) for a, b in pairs]


class CyclicVersions(Evidence, frozen=True):
    """Versions of a register of which each has to come before the next.

    Attributes:
        values: The versions' values; the last comes before the first.
        source: Where their order comes from; a name in `telling.SOURCES`.
    """

    values: tuple[Hashable, ...]
    source: str


class DisorderedVersions(Evidence, frozen=True):
    """Orders of a key's versions, demanded or shown, that can't all be.

    Attributes:
        orders: The links between the versions' writers, each `Demanded`.
    """

    orders: tuple[Link, ...]

    @override
    def links(self) -> Sequence[Link]:
        return self.orders


class NilAfterVersion(DisorderedVersions, frozen=True):
    """A transaction read nil, though a guarantee demands a later version.

    There is one order, and it is that of this version and nil.
    """


class NilAfterSeen(Evidence, frozen=True):
    """A read of the initial state by who had seen a write of the key.

    The rows are the reader's, and the writer's.
    """

    value: Hashable
    seen: Seen

    @override
    def links(self) -> Sequence[Link]:
        reader, writer = self.rows
        return [
            Link(writer, reader, "seen", self.seen),
            Link(reader, writer, "rw", ReadNil(self.key)),
        ]


# Whole histories


class Dilemma(Evidence, frozen=True):
    """Two writes of a key of which neither can be the first.

    Attributes:
        writers: Rows of both.
        cycles: What closes if the one is the first, and if the other is; empty if
            every order of the other writes closes some cycle.
    """

    writers: tuple[int, int]
    cycles: tuple[tuple[Link, ...], tuple[Link, ...]]

    @override
    def links(self) -> Sequence[Link]:
        return [*self.cycles[0], *self.cycles[1]]


class NoOrder(Evidence, frozen=True):
    """No order of the transactions gives the lists that were read.

    Attributes:
        keeps: What the order had to keep, a level of `models.LEVELS`.
        transactions: How many were to be put in order; 0 if a single one contradicts
            itself.
        farthest: How many were, at most.
    """

    keeps: int
    transactions: int
    farthest: int


class Supposed(Struct, frozen=True):
    """A writer that is supposed for a read.

    Attributes:
        value, key, reader: The read.
        source: Row of the writer; NOTHING for the initial state.
    """

    value: Hashable
    key: Hashable
    reader: int
    source: int


class Case(Struct, frozen=True):
    """What is supposed, and what it leads to."""

    supposed: tuple[Supposed, ...]
    consequence: Evidence


class NoSources(Evidence, frozen=True):
    """Whichever writers are supposed for reads, something is wrong.

    Attributes:
        cases: Some suppositions; together with those left out they cover all.
        left_out: How many more there are.
    """

    cases: tuple[Case, ...]
    left_out: int

    @override
    def links(self) -> Sequence[Link]:
        return [link for case in self.cases for link in case.consequence.links()]


# What stays open


class OpenOrder(Struct, frozen=True):
    """Two transactions that updated a key in an order that stays open."""

    a: int
    b: int
    key: Hashable


class OpenAppends(Struct, frozen=True):
    """The order of unread appends may show what reads missed."""

    example: OpenOrder


class OpenWrites(Struct, frozen=True):
    """Orders of writes that were not settled.

    Attributes:
        example: One of them, if one is known.
    """

    example: OpenOrder | None


class OpenSource(Struct, frozen=True):
    """A value that may be of several writers.

    Attributes:
        value, key, reader: The read.
        writers: Rows of the writers.
        others: How many more values are like that.
        outlook: What comes of it, in words.
    """

    value: Hashable
    key: Hashable
    reader: int
    writers: tuple[int, ...]
    others: int
    outlook: str


class OpenWriter(Struct, frozen=True):
    """An element of which nobody can tell whose append of it was read.

    Attributes:
        element, key: What was appended.
        writers: Rows of those who appended it, once for each append.
        worlds: How many assignments of writers were tried, none of which fits.
        gave_up: Why no more were tried, in words; empty if all may yet be.
    """

    element: Hashable
    key: Hashable
    writers: tuple[int, ...]
    worlds: int = 0
    gave_up: str = ""


Doubt = OpenAppends | OpenWrites | OpenSource | OpenWriter
"""Why nothing but anomalies can be proved."""
