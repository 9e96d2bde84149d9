"""How much each transaction has seen of each session: clocks, on columns of numbers.

A clock has an entry for each session, so those of all transactions together may be too
many to keep. Then they are made for a stretch of transactions at a time, in an order
that keeps sessions and reads-from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.accesses import expand
from checkers.isolation.graph import NOTHING
from checkers.isolation.transactions import PAUSE_EVERY, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from checkers.isolation.accesses import Accesses
    from checkers.isolation.graph import Column, Mask

    Clocks = npt.NDArray[np.int32]

CLOCKS_MAX = 1 << 26
"""Entries of clocks that are kept; if there are more, clocks are made when needed."""

CLOCKS_AT_ONCE = 1 << 23
"""Entries of the clocks that are made at once, if not all are kept."""

PAIRS_AT_ONCE = 1 << 22
"""Pairs of a read and a write that are compared at once."""


class Past:
    """How much each transaction has seen of each session.

    A transaction of unknown outcome is a session of its own, unless its process did
    nothing after it.

    Attributes:
        by, key: The writes of transactions that happened, in the order of keys.

    Args:
        accesses: The history.
        place: Row -> its place in an order that keeps sessions and reads-from.
        pause: Called now and then; may raise.
    """

    def __init__(
        self, accesses: Accesses, place: Column, pause: Callable[[], None]
    ) -> None:
        self._pause = pause
        happened = accesses.is_committed
        rows = np.flatnonzero(happened)
        self._rows = rows[np.argsort(place[rows])]
        self._place = np.full(len(happened), NOTHING, np.int64)
        self._place[self._rows] = np.arange(len(rows))
        self._number_sessions(accesses)
        self._list_edges(accesses)
        some = np.flatnonzero(happened[accesses.by])
        some = some[np.argsort(accesses.to[some], kind="stable")]
        self.by, self.key = accesses.by[some], accesses.to[some]
        self._slot = np.zeros(len(rows), np.int64)
        self._clocks: Clocks = np.zeros((0, self._sessions), np.int32)
        self._held = np.zeros(0, np.int64)
        """Places of the rows whose clocks are kept now."""

    def _number_sessions(self, accesses: Accesses) -> None:
        """Number the sessions, and each session's rows from 1."""
        rows = np.sort(self._rows)
        _, process = np.unique(accesses.process[rows], return_inverse=True)
        in_order = np.argsort(process, kind="stable")
        rows, process = rows[in_order], process[in_order]
        ok = accesses.outcome[rows] == Outcome.OK
        begins = np.append(True, process[1:] != process[:-1])[: len(rows)]
        ends = np.append(begins[1:], True)[: len(rows)]
        follows_ok = begins | np.append(True, ok[:-1])[: len(rows)]
        belongs = ok | (ends & follows_ok)
        count = np.cumsum(belongs)
        before = (count - belongs)[np.flatnonzero(begins)]
        session = np.where(belongs, process, len(before) + np.cumsum(~belongs) - 1)
        number = np.where(belongs, count - before[process], 1)
        self._sessions = int(session.max(initial=NOTHING)) + 1
        self._session = np.zeros(len(self._place), np.int64)
        self._number = np.zeros(len(self._place), np.int64)
        self._session[rows], self._number[rows] = session, number

    def _list_edges(self, accesses: Accesses) -> None:
        """For each row, in the order of places, the rows that it has seen directly."""
        before, after = accesses.sessions
        some = accesses.writer != NOTHING
        source = self._place[np.concatenate([before, accesses.writer[some]])]
        target = self._place[np.concatenate([after, accesses.reader[some]])]
        count = len(self._rows)
        codes = np.unique(target * count + source)
        self._source = codes % count
        self._first = np.searchsorted(codes // count, np.arange(count + 1))
        self._last_needed = np.arange(count)
        np.maximum.at(self._last_needed, self._source, codes // count)

    def first_of_sessions(self) -> Column:
        """Writes that are the first of their session to their key."""
        session, number = self._session[self.by], self._number[self.by]
        in_order = np.lexsort((number, session, self.key))
        session, key = session[in_order], self.key[in_order]
        is_first = np.append(
            True, (session[1:] != session[:-1]) | (key[1:] != key[:-1])
        )
        found: Column = in_order[is_first[: len(in_order)]]
        return found

    def has_seen(self, row: Column, other: Column) -> Mask:
        """Whether each row has seen the other one, or is the same; needs its clock."""
        seen = self._clocks[self._slot[self._place[row]], self._session[other]]
        return np.asarray(seen >= self._number[other])

    def pairs(
        self, row: Column, first: Column, count: Column
    ) -> Iterator[tuple[Column, Column]]:
        """Pairs of a row and each number of its range; their clocks are kept meanwhile.

        Yields:
            Positions in `row`, and numbers, side by side.
        """
        some = np.flatnonzero(count > 0)
        some = some[np.argsort(self._place[row[some]], kind="stable")]
        places = self._place[row[some]]
        begin = 0
        for end in self._hold():
            upto = int(np.searchsorted(places, end))
            for part in _parts(count[some[begin:upto]]):
                self._pause()
                yield expand(some[begin:upto][part], first, count)
            begin = upto

    def _hold(self) -> Iterator[int]:
        """Make the clocks of all rows in turn; yields the place up to which they go."""
        rows = len(self._rows)
        at_once = rows
        if rows * self._sessions > CLOCKS_MAX:
            at_once = max(1, CLOCKS_AT_ONCE // self._sessions)
        elif len(self._held) == rows:
            yield rows
            return
        self._held = self._held[:0]
        for begin in range(0, rows, at_once):
            end = min(begin + at_once, rows)
            self._make(begin, end)
            yield end

    def _make(self, begin: int, end: int) -> None:
        """Make the clocks of a stretch of rows; drop those no longer needed."""
        kept = self._held[self._last_needed[self._held] >= begin]
        self._held = np.append(kept, np.arange(begin, end))
        clocks = np.zeros((len(self._held), self._sessions), np.int32)
        clocks[: len(kept)] = self._clocks[self._slot[kept]]
        self._slot[self._held] = np.arange(len(self._held))
        self._clocks = clocks
        first = self._first[begin : end + 1]
        slots = self._slot[self._source[first[0] : first[-1]]].tolist()
        bounds = (first - first[0]).tolist()
        rows = self._rows[begin:end]
        sessions, numbers = self._session[rows].tolist(), self._number[rows].tolist()
        for i, clock in enumerate(clocks[len(kept) :]):
            seen = slots[bounds[i] : bounds[i + 1]]
            if len(seen) == 1:
                clock[:] = clocks[seen[0]]
            elif seen:
                np.maximum(clocks[seen[0]], clocks[seen[1]], out=clock)
                for slot in seen[2:]:
                    np.maximum(clock, clocks[slot], out=clock)
            clock[sessions[i]] = numbers[i]
            if not i % PAUSE_EVERY:
                self._pause()


def _parts(count: Column) -> Iterator[slice]:
    """Slices whose counts add up to PAIRS_AT_ONCE at most, or that have one entry."""
    total = np.cumsum(count)
    begin = 0
    while begin < len(count):
        done = int(total[begin - 1]) if begin else 0
        end = int(np.searchsorted(total, done + PAIRS_AT_ONCE, "right"))
        end = max(end, begin + 1)
        yield slice(begin, end)
        begin = end
