"""The version order of each key, and where in it each read stands.

The versions of all keys are numbered in their order, one key after the other. Elements
that stand in no version order (unread appends, the ends of lists out of order) get
numbers behind these when an edge needs one.
"""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from checkers.isolation.appends.lists import UNPLACED
from checkers.isolation.graph import NOTHING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from checkers.isolation.appends.lists import Key, Lists, Read
    from checkers.isolation.graph import Column


class Versions:
    """The versions of all keys, numbered.

    Attributes:
        lists: What was read and appended.
        keys: The keys, in the order of their numbers.
        bases: For each key the number of its first version.
        writers: Version -> row of its ok or info writer, or NOTHING.
        is_inner: Version -> whether its writer appended more to the key after it. The
            last place, to which NOTHING leads as an index, is false.
        not_in_order: Keys with appends that stand in no version order.
        odd: Numbers of reads that are no beginning of their key's order, or repeat an
            element; known when reads have been placed.
    """

    def __init__(self, lists: Lists) -> None:
        self.lists = lists
        self.keys = list(lists.keys.values())
        self.not_in_order: list[Key] = []
        writers: list[int] = []
        inner: list[bool] = []
        for key in self.keys:
            _find_order(key)
            key.base = len(writers)
            found = list(map(key.writer.get, key.order, itertools.repeat(NOTHING)))
            writers += found
            inner += [element in key.inner for element in key.order]
            if len(key.writer) > len(found) - found.count(NOTHING):
                self.not_in_order.append(key)
        self.bases = [key.base for key in self.keys]
        self.writers = np.array(writers, np.int64)
        self.is_inner = np.array([*inner, False], np.bool_)
        self.odd: Column = np.zeros(0, np.int64)
        self._beside: list[tuple[Key, Hashable]] = []

    def __len__(self) -> int:
        """The number of versions in version orders."""
        return len(self.writers)

    def place_reads(self) -> None:
        """Find the version of each read."""
        branches, reads = self.lists.branches, self.lists.reads
        agreed = [common_length(b.value, b.key.order) for b in branches]
        base = [branch.key.base for branch in branches]
        reads.version = np.array(base, np.int64)[reads.branch] + reads.length - 1
        reads.version[reads.length == 0] = NOTHING
        self.odd = np.flatnonzero(
            reads.length > np.array(agreed, np.int64)[reads.branch]
        )
        for i in self.odd.tolist():
            read = self.lists.read(i)
            distinct = list(dict.fromkeys(read.value))
            length = common_length(distinct, read.key.order)
            is_placed = length == len(distinct)
            reads.version[i] = read.key.base + length - 1 if is_placed else UNPLACED

    def unplaced(self) -> Iterator[Read]:
        """Reads out of the version order that don't end in the reader's own appends."""
        reads = self.lists.reads
        unplaced = ~reads.shows_own & (reads.version == UNPLACED)
        return map(self.lists.read, np.flatnonzero(unplaced).tolist())

    def number(self, key: Key, element: Hashable) -> int:
        """A number for a version that stands in no version order."""
        self._beside.append((key, element))
        return len(self) + len(self._beside) - 1

    def of(self, number: int) -> tuple[Key, Hashable]:
        """The key and the element of a version."""
        if number >= len(self):
            return self._beside[number - len(self)]
        # Keys without versions share the base of the next one, which comes after them.
        key = self.keys[bisect.bisect_right(self.bases, number) - 1]
        return key, key.order[number - key.base]


def _find_order(key: Key) -> None:
    """The version order of a key: its longest list, as far as it is certain."""
    lists = [branch.value for branch in key.branches]
    distinct = [
        value if len(set(value)) == len(value) else list(dict.fromkeys(value))
        for value in lists
    ]
    key.longest = key.order = max(distinct, key=len)
    for value in lists:
        if len(value) == len(key.longest) and value != key.longest:
            # Either of two equally long lists may be right.
            agreed = common_length(value, key.order)
            key.order = key.order[:agreed]


def common_length(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many elements two lists have in common from their beginning on."""
    shorter = min(len(a), len(b))
    if a[:shorter] == b[:shorter]:
        return shorter
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), shorter)
