"""Looks for an execution that explains a history of registers; exact, given time.

An execution is a sequence of events that does what the history says. For
serializability each transaction is one event. For snapshot isolation it is two: the
beginning, which takes the snapshot that it reads, and the commit; between them nobody
else may commit to what it writes (Berenson et al. 1995, first committer wins).

All known orders are edges between events. All other demands of a history say that one
of two orders holds:

- r read x from w, and w' wrote x too: w' commits before w does, or after r has read;
- for snapshot isolation, a and b both wrote x: one commits before the other begins.

The search keeps events in a sequence that respects all edges, and repairs what the
sequence breaks of these demands, one after the other. Where one of both orders would
close a cycle, the other follows; where both would, some decision was wrong; where
neither would, the one that moves less is decided on. Edges go in by the algorithm of
Pearce and Kelly, "A dynamic topological sort algorithm for directed acyclic graphs"
(2006), which looks only at what stands between their ends, so a sequence that is nearly
right to begin with costs little. A wrong decision is found by what the closed cycles
rest on, and taken back with all that follows from it, but with nothing else (Ginsberg,
"Dynamic backtracking", 1993): parts of a history that have nothing to do with each
other are not decided again. A sequence that breaks nothing is an execution, and proves
the history right; if even without decisions both orders are out, there is none.

The problem is NP-complete (Papadimitriou 1979), so the number of wrong decisions is
limited where nobody asked for more.
"""

from __future__ import annotations

import enum
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from checkers.isolation.components import order_of
from checkers.isolation.graph import NOTHING, STEP, Kind
from checkers.isolation.transactions import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from checkers.isolation.graph import Column, Edges
    from checkers.isolation.transactions import Transactions

    _Ints = array[int]

WRONG_DECISIONS_MIN = 1000
WRITES_PER_WRONG_DECISION = 4
"""Writes of a long history for each wrong decision that the search may make.

Then it gives up, unless it is told not to. Of 150,000 writes, measured, some 1,200 are
decided wrongly.
"""

ROUNDS_BETWEEN_PAUSES = 64

Decisions = frozenset[int]
_NONE: Decisions = frozenset()


class Answer(enum.Enum):
    """The answer of a search."""

    FOUND = "there is one"
    IMPOSSIBLE = "there is none"
    GAVE_UP = "nobody knows"


@dataclass(frozen=True)
class Accesses:
    """Who wrote and read what, as columns.

    Attributes:
        writer, written: Rows of writers, and the keys they wrote, as numbers.
        reader, read, source: Rows of readers, the keys, and the rows that wrote what
            they read; NOTHING for the initial state.
    """

    writer: Column
    written: Column
    reader: Column
    read: Column
    source: Column


class Order(NamedTuple):
    """One event before another."""

    earlier: int
    later: int


class Demand(NamedTuple):
    """One of two orders must hold; the first is None if it can't.

    Attributes:
        first, second: The orders.
        rows: Two writers of a key; `first` puts them in this order.
    """

    first: Order | None
    second: Order
    rows: tuple[int, int]


class _Added(NamedTuple):
    """An order that the search added to the known ones.

    Attributes:
        order: The order.
        rests_on: The decisions that it follows from; a decision rests on itself.
        demand: The demand that it was added for.
    """

    order: Order
    rests_on: Decisions
    demand: Demand

    @property
    def rows(self) -> tuple[int, int]:
        """The writers it is about, in their order."""
        rows = self.demand.rows
        return rows if self.order == self.demand.first else rows[::-1]


@dataclass
class _Path:
    """Whether a path leads from one event to another, and the decisions it rests on."""

    found: bool
    rests_on: Decisions = _NONE
    seen: list[int] = field(default_factory=list)


class Execution:
    """The search for one execution.

    Args:
        accesses: What transactions did.
        edges: All known orders, auxiliary vertices included.
        begins, commits: Vertex -> a guess at the places of its events.
        serial: Whether a transaction is one event, its beginning, or two.
        exhaustive: Never give up.
        pause: Called now and then; may raise.

    Attributes:
        dilemma: After IMPOSSIBLE, a demand that can't be met.
    """

    def __init__(
        self,
        accesses: Accesses,
        edges: Edges,
        begins: Column,
        commits: Column,
        *,
        serial: bool,
        exhaustive: bool,
        pause: Callable[[], None],
    ) -> None:
        self.accesses = accesses
        self.dilemma: Demand | None = None
        self._wrong_decisions_max = max(
            WRONG_DECISIONS_MIN, len(accesses.writer) // WRITES_PER_WRONG_DECISION
        )
        self._exhaustive = exhaustive
        self._pause = pause
        size = len(begins)
        self._commit = 0 if serial else size
        self._events = size + self._commit
        source, target = self._between_events(edges, size)
        guess = begins if serial else np.concatenate([begins, commits])
        places = order_of(source, target, guess)
        self._is_cyclic = places is None
        self._place: list[int] = [] if places is None else places.tolist()
        self._known_out = _neighbours(source, target, self._events)
        self._known_in = _neighbours(target, source, self._events)
        self._out: dict[int, list[_Added]] = {}
        self._in: dict[int, list[_Added]] = {}
        self._certain: list[_Added] = []
        self._follows: dict[int, list[_Added]] = {}
        self._decided = 0
        self._wrong_decisions = 0

    def _between_events(self, edges: Edges, size: int) -> tuple[Column, Column]:
        """Edges between transactions as edges between events; rw leaves a snapshot."""
        if not self._commit:
            return edges.source, edges.target
        is_rw = edges.kind == Kind.RW
        begins = np.arange(size, dtype=np.int64)
        return (
            np.concatenate([edges.source + np.where(is_rw, 0, size), begins]),
            np.concatenate([edges.target + np.where(is_rw, size, 0), begins + size]),
        )

    @property
    def implied(self) -> list[tuple[int, int]]:
        """Orders of writers of a key that follow from known ones: (first, second)."""
        return [added.rows for added in self._certain]

    def search(self) -> Answer:
        """Look for the execution. Gives up at once if known orders have a cycle."""
        if self._is_cyclic:
            return Answer.GAVE_UP
        while True:
            self._pause()
            broken = False
            for i, demand in enumerate(self._broken_demands()):
                broken = True
                if not i % ROUNDS_BETWEEN_PAUSES:
                    self._pause()
                if not self._meet(demand):
                    return Answer.IMPOSSIBLE
                too_many = self._wrong_decisions > self._wrong_decisions_max
                if too_many and not self._exhaustive:
                    return Answer.GAVE_UP
            if not broken:
                return Answer.FOUND

    # What the sequence breaks

    def _broken_demands(self) -> Iterator[Demand]:
        """Demands that the sequence breaks; it may be changed between two of them."""
        yield from self._misread()
        if self._commit:
            yield from self._overlapping()

    def _writers_in_sequence(self) -> tuple[Column, Column]:
        """Writers sorted by key, then by commit; and the codes they are sorted by."""
        place = np.array(self._place, np.int64)
        accesses = self.accesses
        rank = accesses.written * self._events + place[accesses.writer + self._commit]
        by_rank = np.argsort(rank, kind="stable")
        return by_rank, rank[by_rank]

    def _misread(self) -> Iterator[Demand]:
        """Demands of reads that did not return the latest version."""
        accesses, commit = self.accesses, self._commit
        order, rank = self._writers_in_sequence()
        if not len(order):
            return
        place = np.array(self._place, np.int64)
        now = accesses.read * self._events + place[accesses.reader]
        latest = np.searchsorted(rank, now) - 1
        exists = rank[latest] >= accesses.read * self._events
        exists &= latest >= 0
        found = np.where(exists, accesses.writer[order[latest]], NOTHING)
        wrong = np.flatnonzero(found != accesses.source)
        rows = (accesses.source[wrong], found[wrong], accesses.reader[wrong])
        for source, other, reader in zip(*(r.tolist() for r in rows), strict=True):
            before = None
            if source != NOTHING:
                before = Order(other + commit, source + commit)
            demand = Demand(before, Order(reader, other + commit), (other, source))
            if self._is_broken(demand):
                yield demand

    def _overlapping(self) -> Iterator[Demand]:
        """Demands of transactions that wrote one key while both were running."""
        accesses, commit = self.accesses, self._commit
        order, _ = self._writers_in_sequence()
        place = np.array(self._place, np.int64)
        writer, key = accesses.writer[order], accesses.written[order]
        a, b = writer[:-1], writer[1:]
        overlap = (key[:-1] == key[1:]) & (place[a + commit] > place[b])
        pairs = zip(a[overlap].tolist(), b[overlap].tolist(), strict=True)
        for first, second in pairs:
            demand = Demand(
                Order(first + commit, second),
                Order(second + commit, first),
                (first, second),
            )
            if self._is_broken(demand):
                yield demand

    def _is_broken(self, demand: Demand) -> bool:
        place = self._place
        return not any(
            order is not None and place[order.earlier] < place[order.later]
            for order in demand[:2]
        )

    # Repairs

    def _meet(self, demand: Demand) -> bool:
        """Add one of both orders; returns False if neither is possible."""
        refuted: list[_Path] = []
        first, second = demand.first, demand.second
        if first is None:
            refuted.append(_Path(found=True))
        else:
            refuted.append(self._path(first.later, first.earlier))
        refuted.append(self._path(second.later, second.earlier))
        if refuted[0].found and refuted[1].found:
            self.dilemma = demand
            return self._go_back(refuted[0].rests_on | refuted[1].rests_on)
        if refuted[0].found:
            self._put(second, refuted[0].rests_on, demand, refuted[1].seen)
        elif first is not None and refuted[1].found:
            self._put(first, refuted[1].rests_on, demand, refuted[0].seen)
        elif first is not None:
            # Both orders are possible: take the one that moves less.
            self._decided += 1
            itself = frozenset([self._decided])
            if self._distance(first) <= self._distance(second):
                self._put(first, itself, demand, refuted[0].seen)
            else:
                self._put(second, itself, demand, refuted[1].seen)
        return True

    def _distance(self, order: Order) -> int:
        return self._place[order.earlier] - self._place[order.later]

    def _go_back(self, rests_on: Decisions) -> bool:
        """Take back the latest decision that these cycles rest on.

        The order it was decided against then follows from the other decisions.

        Returns:
            False if the cycles rest on no decision.
        """
        while rests_on:
            self._wrong_decisions += 1
            latest = max(rests_on)
            wrong = self._follows[latest][0]
            self._take_back(latest)
            rests_on -= {latest}
            demand = self.dilemma = wrong.demand
            other = demand.second if wrong.order == demand.first else demand.first
            assert other is not None
            against = self._path(other.later, other.earlier)
            if not against.found:
                self._put(other, rests_on, demand, against.seen)
                return True
            rests_on |= against.rests_on
        return False

    def _take_back(self, decision: int) -> None:
        """Remove a decision, and all that follows from it."""
        for added in self._follows.pop(decision):
            self._out[added.order.earlier].remove(added)
            self._in[added.order.later].remove(added)
            for other in added.rests_on - {decision}:
                self._follows[other].remove(added)

    def _put(
        self, order: Order, rests_on: Decisions, demand: Demand, ahead: list[int]
    ) -> None:
        """Add an order that closes no cycle; see `_move`."""
        self._move(order, ahead)
        added = _Added(order, rests_on, demand)
        self._out.setdefault(order.earlier, []).append(added)
        self._in.setdefault(order.later, []).append(added)
        if not rests_on:
            self._certain.append(added)
        for decision in rests_on:
            self._follows.setdefault(decision, []).append(added)

    # The sequence (Pearce and Kelly)

    def _path(self, start: int, goal: int) -> _Path:
        """Whether `start` has to come before `goal`, or is the same event."""
        place, last = self._place, self._place[goal]
        parent: dict[int, tuple[int, Decisions]] = {start: (start, _NONE)}
        queue = [start]
        first, targets = self._known_out
        for event in queue:  # grows while it is walked
            if event == goal:
                break
            for following in targets[first[event] : first[event + 1]]:
                if place[following] <= last and following not in parent:
                    parent[following] = (event, _NONE)
                    queue.append(following)
            for added in self._out.get(event, ()):
                following = added.order.later
                if place[following] <= last and following not in parent:
                    parent[following] = (event, added.rests_on)
                    queue.append(following)
        if goal not in parent:
            return _Path(found=False, seen=queue)
        total = _NONE
        at = goal
        while at != start:
            at, rests_on = parent[at]
            total |= rests_on
        return _Path(found=True, rests_on=total)

    def _move(self, order: Order, ahead: list[int]) -> None:
        """Change the sequence so that it respects one more order.

        Args:
            order: The order.
            ahead: Events that were passed in the search for a path from its later event
                to its earlier one, which found none.
        """
        place = self._place
        low, high = place[order.later], place[order.earlier]
        if high < low:
            return
        behind = self._behind(order.earlier, low)
        behind.sort(key=place.__getitem__)
        ahead.sort(key=place.__getitem__)
        moved = behind + ahead
        for event, new in zip(moved, sorted(place[e] for e in moved), strict=True):
            place[event] = new

    def _behind(self, start: int, low: int) -> list[int]:
        """Events that have to come before `start` and stand no earlier than `low`."""
        place = self._place
        first, sources = self._known_in
        seen = {start}
        queue = [start]
        for event in queue:  # grows while it is walked
            preceding = sources[first[event] : first[event + 1]]
            added = [a.order.earlier for a in self._in.get(event, ())]
            for earlier in (*preceding, *added):
                if place[earlier] >= low and earlier not in seen:
                    seen.add(earlier)
                    queue.append(earlier)
        return queue


def _neighbours(source: Column, target: Column, size: int) -> tuple[_Ints, _Ints]:
    """All targets, sorted by source, and where the targets of each source begin."""
    order = np.argsort(source, kind="stable")
    first = np.searchsorted(source[order], np.arange(size + 1))
    return _ints(first), _ints(target[order])


def _ints(column: Column) -> _Ints:
    """Numbers as an array: Python reads it faster than a numpy array."""
    numbers = array("q")
    numbers.frombytes(np.ascontiguousarray(column, np.int64).tobytes())
    return numbers


def guesses(
    transactions: Transactions, auxiliary: Column, *, serial: bool
) -> tuple[Column, Column]:
    """Guesses at when transactions began and committed, for all vertices.

    Without real time, transactions with fewer others before them in their sessions come
    earlier.

    Args:
        transactions: The history.
        auxiliary: Potentials of the vertices behind those of the transactions.
        serial: Whether both are one event.
    """
    if not transactions.has_realtime:
        lengths: Counter[int] = Counter()
        places = []
        for process in transactions.process:
            lengths[process] += 1
            places.append(lengths[process])
        guess = np.concatenate([np.array(places, np.int64) * STEP, auxiliary])
        return guess, guess
    start, end = np.asarray(transactions.start), np.asarray(transactions.end)
    end = np.where(end == NEVER, start, end)
    begins = (start + end) // 2 if serial else start
    return (
        np.concatenate([begins * STEP, auxiliary]),
        np.concatenate([end * STEP, auxiliary]),
    )
