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
    """Who read and who wrote what, where every writer is known.

    Transactions are rows, and keys are numbers. Rows that did not happen, or of which
    nobody read anything and nobody knows whether they happened, have no part in this.

    Attributes:
        outcome, process: Of each row.
        guess: Of each row: something that rises along a likely order of commits.
        keys: How many there are.
        reader, key, writer: The reads, those of each row in their order, but for those
            of what the transaction wrote itself. The writer of the initial state is
            NOTHING.
        by, to: Each row that wrote, and a key to which it left something; once each.
        low, high: Rows that are in this order for other reasons.
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
        """Of each row, whether it happened, as far as anybody knows."""
        committed: Mask = self.outcome == Outcome.OK
        committed[self.writer[self.writer != NOTHING]] = True
        return committed

    @cached_property
    def sessions(self) -> tuple[Column, Column]:
        """Each row that happened, and the committed one before it in its session.

        One with an unknown outcome comes before nothing that its process did later.
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
    """Each of `which` beside the numbers of its range, `count` of them from `first`."""
    some = count[which]
    before = np.cumsum(some) - some
    numbers = np.arange(int(some.sum())) + np.repeat(first[which] - before, some)
    return np.repeat(which, some), numbers
