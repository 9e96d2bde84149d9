"""Who read and who wrote what, as columns of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.graph import NOTHING
from checkers.isolation.transactions import Outcome

if TYPE_CHECKING:
    from checkers.isolation.graph import Column, Mask


@dataclass(frozen=True)
class Accesses:
    """Reads and writes of a history in which the writer of each value read is known.

    Transactions are rows, and keys are numbers. Failed transactions have no part in
    this, nor have those of unknown outcome of which nobody read anything.

    Attributes:
        outcome, process: Of each row.
        guess: Of each row, a number that rises along a likely order of commits.
        keys: How many keys there are.
        reader, key, writer: The reads, those of each row in their order, without those
            of what the transaction wrote itself. The writer of the initial state is
            NOTHING.
        by, to: Pairs of a row and a key that it wrote, each pair once.
        low, high: Pairs of rows of which the first comes before the second for other
            reasons.
    """

    outcome: Column
    process: Column
    guess: Column
    keys: int
    reader: Column
    key: Column
    writer: Column
    by: Column
    to: Column
    low: Column
    high: Column

    @cached_property
    def is_committed(self) -> Mask:
        """Row -> whether it returned ok, or something that it wrote was read."""
        committed: Mask = self.outcome == Outcome.OK
        committed[self.writer[self.writer != NOTHING]] = True
        return committed

    @cached_property
    def sessions(self) -> tuple[Column, Column]:
        """Pairs of rows: the committed one before each row in its session, and the row.

        A row of unknown outcome comes before nothing that its process did later.
        """
        rows = np.flatnonzero(self.is_committed)
        rows = rows[np.argsort(self.process[rows], kind="stable")]
        ok = self.outcome[rows] == Outcome.OK
        place = np.where(ok, np.arange(len(rows)), NOTHING)
        latest = np.maximum.accumulate(np.append(NOTHING, place))[:-1]
        found = latest >= 0
        found[found] = self.process[rows[latest[found]]] == self.process[rows[found]]
        return rows[latest[found]], rows[found]


def expand(which: Column, first: Column, count: Column) -> tuple[Column, Column]:
    """Pair each of `which` with the numbers of its range.

    Args:
        which: Positions in `first` and `count`.
        first: Where each range begins.
        count: How many numbers it has.
    """
    some = count[which]
    before = np.cumsum(some) - some
    numbers = np.arange(int(some.sum())) + np.repeat(first[which] - before, some)
    return np.repeat(which, some), numbers
