"""What was read from each key and appended to it.

Lists that were read are kept as branches: one list for all reads of a key that are
beginnings of it. So a read is no more than its branch and its length.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from checkers.isolation import transactions as t
from checkers.isolation.graph import NOTHING
from checkers.isolation.transactions import Copy

if TYPE_CHECKING:
    from collections.abc import Hashable

    from checkers.isolation.graph import Column, Mask
    from checkers.isolation.writers import Group

FUNCTIONS = ("append", "r")

UNPLACED = -2
"""The version of a read whose list is no part of the version order."""

NOBODYS = Copy("nothing", NOTHING)
"""Stands for the element before the first: no element is equal to it."""


@dataclass(slots=True, eq=False)
class Branch:
    """Lists read from one key that are all beginnings of the longest of them.

    A history whose reads agree has one branch for each key.

    Attributes:
        key: The key.
        number: Its place among the branches of all keys.
        value: The longest list.
        low: Places of 0 and 1, which in Python are equal to false and true.
    """

    key: Key
    number: int
    value: list[Any] = field(default_factory=list)
    low: list[int] = field(default_factory=list)

    def takes(self, value: list[Any], is_frozen: bool) -> bool:
        """Whether a list belongs here; if so it may be the longest from now on.

        Raises:
            ValueError: Its values have to be frozen before they can be compared.
        """
        longest = self.value
        known, length = len(longest), len(value)
        if length <= known:
            if value != (longest if length == known else longest[:length]):
                return False
        elif known and value[:known] != longest:
            return False
        if is_frozen:
            if length > known:
                self.value = value
            return True
        for place in self.low:
            if place < length and type(value[place]) is bool:
                raise ValueError
        if length > known:
            tail = value[known:]
            if not t.SIMPLE.issuperset(map(type, tail)):
                raise ValueError
            if 0 in tail or 1 in tail:
                self.low += [i for i, e in enumerate(tail, known) if e in {0, 1}]
            self.value = value
        return True


@dataclass(slots=True, eq=False)
class Key:
    """What is known of one key.

    Attributes:
        name: The key.
        number: Its place among all keys.
        branches: What was read from it; at least one.
        writer: Element -> row of the ok or info transaction that appended it.
        failed: Element -> row of the failed transaction that tried to append it.
        inner: Element -> the one that its writer appended next, in the same
            transaction.
        longest: The longest list read, each element once; of several, the first.
        order: The version order: `longest`, up to where another list of the same
            length contradicts it.
        base: Number of its first version among the versions of all keys.
    """

    name: Hashable
    number: int
    branches: list[Branch] = field(default_factory=list)
    writer: dict[Hashable, int] = field(default_factory=dict)
    failed: dict[Hashable, int] = field(default_factory=dict)
    inner: dict[Hashable, Hashable] = field(default_factory=dict)
    longest: list[Any] = field(default_factory=list)
    order: list[Any] = field(default_factory=list)
    base: int = 0


@dataclass(frozen=True, slots=True)
class Read:
    """One read of a list, with its list."""

    row: int
    key: Key
    value: list[Any]


class Reads:
    """All reads, but those that only repeat one, as columns.

    Attributes:
        row: The transaction.
        branch: Number of the branch that the list belongs to.
        length: How long the list was.
        shows_own: Whether it ends in the transaction's own appends to the key. Its
            place then tells nothing that the places of these appends don't.
        rows, branches, lengths, own: The columns above, while reads are added.
        version: Number of the last version read; NOTHING for the empty list, UNPLACED
            for a list that isn't part of the version order.
        repeated: Repeats of reads after the transaction had read other keys. Each is
            the number of reads there were by then, and the number of the read that was
            repeated. What was read between the two may show that something is missing.
    """

    def __init__(self) -> None:
        self.repeated: list[tuple[int, int]] = []
        self.rows, self.branches, self.lengths = array("q"), array("q"), array("q")
        self.own = array("b")
        self.version: Column = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def close(self) -> None:
        """Make the columns: nothing more is added."""
        self.row: Column = np.asarray(self.rows)
        self.branch: Column = np.asarray(self.branches)
        self.length: Column = np.asarray(self.lengths)
        self.shows_own: Mask = np.asarray(self.own).view(np.bool_)

    def one(self, read: int) -> tuple[int, int, int]:
        """Row, branch and length of one read."""
        return self.rows[read], self.branches[read], self.lengths[read]


@dataclass(slots=True)
class Lists:
    """All that was read and appended.

    Attributes:
        transactions: The history.
        keys: What is known of each key, by its name.
        branches: What was read, of all keys.
        reads: The reads.
        updates: The reads after which their transactions appended to the key.
        repeated: Keys and elements that were appended more than once, in the order of
            the second appends.
        has_reads: Whether a committed transaction read anything at all.
    """

    transactions: t.Transactions
    keys: dict[Hashable, Key] = field(default_factory=dict)
    branches: list[Branch] = field(default_factory=list)
    reads: Reads = field(default_factory=Reads)
    updates: list[int] = field(default_factory=list)
    repeated: dict[Group, None] = field(default_factory=dict)
    has_reads: bool = False

    def new_key(self, name: Hashable) -> Key:
        """A key of which nothing was read yet, which is the empty list."""
        key = self.keys[name] = Key(name, len(self.keys))
        self.new_branch(key)
        return key

    def new_branch(self, key: Key) -> Branch:
        """A branch for a list that fits none of the key's branches."""
        branch = Branch(key, len(self.branches))
        self.branches.append(branch)
        key.branches.append(branch)
        return branch

    def value(self, read: int) -> list[Any]:
        """The list that was read."""
        _, branch, length = self.reads.one(read)
        return self.branches[branch].value[:length]

    def read(self, read: int) -> Read:
        """One of `reads`, with what it saw."""
        row, number, length = self.reads.one(read)
        branch = self.branches[number]
        return Read(row, branch.key, branch.value[:length])

    def first_to_see(self, branch: Branch, place: int) -> int:
        """Row of the first transaction that read a branch up to a place, or farther."""
        reads = self.reads
        saw_it = (reads.branch == branch.number) & (reads.length > place)
        return int(reads.row[saw_it].min())

    def keys_of_branches(self) -> Column:
        """Branch -> number of its key."""
        return np.array([branch.key.number for branch in self.branches], np.int64)

    def accesses(self) -> tuple[Column, Column]:
        """Rows and the numbers of the keys that they read or appended to."""
        rows = [self.reads.row]
        keys = [self.keys_of_branches()[self.reads.branch]]
        for key in self.keys.values():
            rows.append(np.array(list(key.writer.values()), np.int64))
            keys.append(np.full(len(key.writer), key.number))
        pairs = np.unique([np.concatenate(rows), np.concatenate(keys)], axis=1)
        return pairs[0], pairs[1]
