"""Whether a history satisfies a weak level, decided for all transactions at once.

The definitions are those of `checkers.isolation.weak` (Biswas and Enea 2019): a
transaction t3 that reads key x from t1, and has seen t2, which writes x as well, forces
t2 before t1 in the order of commits. The level is satisfied just when these orders,
reads-from and session order together have no cycle. This module decides only whether it
is, on columns of numbers; `weak` finds what is wrong.

Read committed and read atomic list the orders that they force, each by a walk over the
smaller of two sets: what t2 wrote, and what t3 read (Moldrup, Wuensche and
Pavlogiannis, "AWDIT", 2025). For read committed, only the first read of x behind the
read from t2 counts. Later reads of x have seen the writer of that one, so their orders
follow.

Causal consistency forces too many orders to list them all. So an order of commits is
guessed, which keeps those of read atomic, and then put right:

1. A clock for each transaction tells how much it has seen of each session.
2. Let t3 read x from t1. Only transactions that write x between t1 and t3 in the
   guessed order can contradict it, and few do when the guess is good. Each of them that
   t3 has seen has to come before t1, however commits are ordered.
3. These orders are added, and the guess is mended, until none is contradicted any more:
   then it is an order of commits as demanded. Or there is a cycle, and no such order.

Where causal consistency holds, so do the session guarantees: it forces all that they
demand of two versions (Brzezinski et al. 2004).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.accesses import Accesses, expand
from checkers.isolation.clocks import Past
from checkers.isolation.components import order_of
from checkers.isolation.graph import NOTHING
from checkers.isolation.transactions import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from checkers.isolation.graph import Column


class Axiom(enum.Enum):
    """What a transaction t3 has seen of t2; see `checkers.isolation.weak`.

    Attributes:
        READ_COMMITTED: What it read before, from whatever key.
        READ_ATOMIC: What it read, and what its session wrote before.
        CAUSAL: All from which reads-from and session order lead to it.
    """

    READ_COMMITTED = "read-committed"
    READ_ATOMIC = "read-atomic"
    CAUSAL = "causal"


@dataclass(frozen=True)
class Level:
    """A consistency model, as far as it is decided here.

    Attributes:
        axiom: Its definition.
        sessions: Whether session order counts.
        repeatable: Whether a transaction reads the same version of a key each time.
    """

    axiom: Axiom
    sessions: bool = False
    repeatable: bool = False


LEVELS = {
    "read-committed": Level(Axiom.READ_COMMITTED),
    "monotonic-atomic-view": Level(Axiom.READ_COMMITTED),
    "read-atomic": Level(Axiom.READ_ATOMIC, sessions=True, repeatable=True),
    "causal": (CAUSAL := Level(Axiom.CAUSAL, sessions=True, repeatable=True)),
    "read-your-writes": CAUSAL,
    "monotonic-reads": CAUSAL,
    "monotonic-writes": CAUSAL,
    "writes-follow-reads": CAUSAL,
    "PRAM": CAUSAL,
}
"""Model -> a level that implies it.

A history that is not causally consistent may still satisfy a session guarantee.
"""


def satisfies(accesses: Accesses, level: Level, pause: Callable[[], None]) -> bool:
    """Whether the level's axiom holds. Cost: see the module."""
    return _Trial(accesses, level, pause).is_satisfied()


class _ContradictionError(Exception):
    """There is no such order of commits."""


class _Trial:
    """One level, tried on one history.

    Attributes:
        source, target: Orders of rows that are known.
    """

    def __init__(
        self, accesses: Accesses, level: Level, pause: Callable[[], None]
    ) -> None:
        self.accesses = a = accesses
        self.level = level
        self.pause = pause
        self.size = len(a.outcome)
        from_others = a.writer != NOTHING
        self.source = [a.low, a.writer[from_others]]
        self.target = [a.high, a.reader[from_others]]
        if level.sessions:
            before, after = a.sessions
            self.source.append(before)
            self.target.append(after)
        self._index_writes()
        self._group_reads()

    def is_satisfied(self) -> bool:
        """Whether there is an order of commits as demanded."""
        try:
            match self.level.axiom:
                case Axiom.READ_COMMITTED:
                    self.read_committed()
                case Axiom.READ_ATOMIC:
                    self.read_atomic()
                case Axiom.CAUSAL:
                    self.read_atomic()
                    self.causal()
                    return True
            self.order(self.accesses.guess)
        except _ContradictionError:
            return False
        return True

    def order(self, guess: Column) -> Column:
        """Places of the rows in an order of all that is known, close to a guess.

        Raises:
            _ContradictionError: There is a cycle.
        """
        self.pause()
        source, target = np.concatenate(self.source), np.concatenate(self.target)
        place = order_of(source, target, guess)
        if place is None:
            raise _ContradictionError
        return place

    def force(self, before: Column, after: Column) -> None:
        """Add orders of rows: each of `before` comes before that of `after`.

        Raises:
            _ContradictionError: One of `after` is the initial state.
        """
        self.pause()
        if (after == NOTHING).any():
            raise _ContradictionError
        pairs = np.unique(before * self.size + after)
        self.source.append(pairs // self.size)
        self.target.append(pairs % self.size)

    def _index_writes(self) -> None:
        """Sort writes by row and key, and note where each row's begin."""
        a = self.accesses
        self.write_codes = np.sort(a.by * a.keys + a.to)
        rows = np.arange(self.size + 1)
        self.first_write = np.searchsorted(self.write_codes, rows * a.keys)

    def _group_reads(self) -> None:
        """Sort reads by row and key; all of one row and key are a group."""
        a = self.accesses
        codes = a.reader * a.keys + a.key
        self.in_groups = np.argsort(codes, kind="stable")
        self.groups, self.first_read = np.unique(
            codes[self.in_groups], return_index=True
        )
        rows = np.arange(self.size + 1)
        self.first_group = np.searchsorted(self.groups, rows * a.keys)

    # What is seen at once

    def read_committed(self) -> None:
        """Orders forced by what a transaction read earlier."""
        a = self.accesses
        pair, group = self._common()
        # The reads of each key by each transaction, in their order; for each of them
        # the first behind it that is of something else.
        read = self.in_groups
        count = len(read)
        group_of = np.repeat(
            np.arange(len(self.groups)),
            np.diff(np.append(self.first_read, count)),
        )
        writer = a.writer[read]
        changes = np.append(
            (group_of[1:] != group_of[:-1]) | (writer[1:] != writer[:-1]), True
        )
        ends = np.where(changes, np.arange(1, count + 1), count)
        following = np.minimum.accumulate(ends[::-1])[::-1]
        # The first read of the key behind the first from the other transaction.
        at = np.searchsorted(
            group_of * (count + 1) + read, group * (count + 1) + self.at[pair], "right"
        )
        seen = self.seen[pair]
        inside = np.append(group_of, NOTHING)
        is_same = (inside[at] == group) & (np.append(writer, NOTHING)[at] == seen)
        at[is_same] = following[at[is_same]]
        some = inside[at] == group
        self.force(seen[some], writer[at[some]])

    def read_atomic(self) -> None:
        """Orders forced by what a transaction read from, and by its session."""
        pair, group = self._common()
        seen, read = self.seen[pair], self._read_in(group)
        others = seen != read
        self.force(seen[others], read[others])
        self._read_after_own()

    def _common(self) -> tuple[Column, Column]:
        """For each transaction and each that it read from, the keys that both touch.

        The first one read such a key, and the other one wrote it. Sets `seen` and `at`:
        for each such pair of transactions the writer, and the number of the first read
        that links the two.

        Returns:
            Numbers of pairs and of groups of reads, side by side. Cost: for each pair
            the smaller of what the writer wrote and what the reader read.
        """
        a = self.accesses
        some = np.flatnonzero(a.writer != NOTHING)
        pairs, first = np.unique(
            a.reader[some] * self.size + a.writer[some], return_index=True
        )
        reader, self.seen = pairs // self.size, pairs % self.size
        self.at = some[first]
        writes = self.first_write[self.seen + 1] - self.first_write[self.seen]
        groups = self.first_group[reader + 1] - self.first_group[reader]
        found = []
        for of_writer in (True, False):
            which = np.flatnonzero((writes <= groups) == of_writer)
            if of_writer:
                pair, write = expand(which, self.first_write[self.seen], writes)
                key = self.write_codes[write] % a.keys
                wanted, known = reader[pair] * a.keys + key, self.groups
            else:
                pair, group = expand(which, self.first_group[reader], groups)
                key = self.groups[group] % a.keys
                wanted, known = self.seen[pair] * a.keys + key, self.write_codes
            at = np.searchsorted(known, wanted)
            there = np.append(known, NOTHING)[at] == wanted
            found.append((pair[there], at[there] if of_writer else group[there]))
        return (
            np.concatenate([pair for pair, _ in found]),
            np.concatenate([group for _, group in found]),
        )

    def _read_in(self, group: Column) -> Column:
        """Writers of what was read, where each group has one."""
        read: Column = self.in_groups[self.first_read[group]]
        return self.accesses.writer[read]

    def _read_after_own(self) -> None:
        """A session's latest write of a key comes before what it then reads of it."""
        a = self.accesses
        _, session = np.unique(a.process, return_inverse=True)
        ok = a.outcome[a.by] == Outcome.OK
        codes = (session[a.by[ok]] * a.keys + a.to[ok]) * self.size + a.by[ok]
        codes.sort()
        row, key = self.groups // a.keys, self.groups % a.keys
        wanted = (session[row] * a.keys + key) * self.size + row
        at = np.searchsorted(codes, wanted) - 1
        own = np.append(codes, NOTHING)[at]
        there = (own != NOTHING) & (own // self.size == wanted // self.size)
        before, read = own % self.size, self._read_in(np.arange(len(row)))
        there &= before != read
        self.force(before[there], read[there])

    # What is seen through others

    def causal(self) -> None:
        """Orders forced by all that a transaction has seen, but only contradicted ones.

        See the module on why that is enough.
        """
        place = self.order(self.accesses.guess)
        past = Past(self.accesses, place, self.pause)
        self._check_initial(past)
        while True:
            before: list[Column] = []
            after: list[Column] = []
            for group, write in self._written_between(past, place):
                before.append(past.by[write])
                after.append(self._read_in(group))
            if not before:
                return
            self.force(np.concatenate(before), np.concatenate(after))
            place = self.order(place)

    def _check_initial(self, past: Past) -> None:
        """Whoever has seen a write of a key must not read its initial state.

        Raises:
            _ContradictionError: Somebody did.
        """
        a = self.accesses
        group = np.flatnonzero(self._read_in(np.arange(len(self.groups))) == NOTHING)
        row, key = self.groups[group] // a.keys, self.groups[group] % a.keys
        # Of each session, its first write of the key: who saw another has seen it.
        write = past.first_of_sessions()
        first = np.searchsorted(past.key[write], key)
        count = np.searchsorted(past.key[write], key, "right") - first
        for which, at in past.pairs(row, first, count):
            by = past.by[write[at]]
            if (past.has_seen(row[which], by) & (by != row[which])).any():
                raise _ContradictionError

    def _written_between(
        self, past: Past, place: Column
    ) -> Iterator[tuple[Column, Column]]:
        """Writes that a reader has seen, but that stand behind what it read.

        Yields:
            Numbers of groups of reads and of writes, side by side.
        """
        a, size = self.accesses, self.size
        codes = past.key * size + place[past.by]
        in_order = np.argsort(codes)
        codes = codes[in_order]
        read = self._read_in(np.arange(len(self.groups)))
        group = np.flatnonzero(read != NOTHING)
        row, key = self.groups[group] // a.keys, self.groups[group] % a.keys
        first = np.searchsorted(codes, key * size + place[read[group]], "right")
        count = np.searchsorted(codes, key * size + place[row]) - first
        for which, at in past.pairs(row, first, count):
            write = in_order[at]
            seen = past.has_seen(row[which], past.by[write])
            if seen.any():
                yield group[which[seen]], write[seen]
