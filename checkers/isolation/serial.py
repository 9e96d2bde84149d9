"""An order of transactions that gives every list that was read, if there is one.

Lists that agree are beginnings of the longest list of their key. So after any number of
transactions the state of a key is the length of its list, and what stands next in the
longest list tells who may come next. A search in depth that remembers sets of
transactions (Wing and Gong 1993, Lowe 2017) then needs no writer of any element, so
repeated elements don't matter. An order that is found proves the model whose order it
keeps, and all weaker ones. If there is none, and the search was not cut short, that
model is broken.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkers.isolation.evidence import NoOrder
from checkers.isolation.execution import Answer
from checkers.isolation.models import LEVELS
from checkers.isolation.transactions import NEVER, Outcome
from harness.override import override

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from checkers.isolation.transactions import MicroOps, Transactions

STEPS_MIN, STEPS_PER_TRANSACTION = 20_000, 100
"""Sets of transactions looked at before a search gives up."""

PARTS_MAX, PARTS_MAX_FREE = 10_000, 300
"""Transactions for which a search is begun: in real time, and without."""


class Order(enum.IntEnum):
    """What the order of transactions has to keep; levels as in `models.LEVELS`."""

    NOTHING = 0
    SESSIONS = 1
    REAL_TIME = 2


@dataclass(slots=True)
class _Deed:
    """What a transaction did to one key.

    Attributes:
        length: How long the list must have been before; -1 if it was not read.
        elements: What it appended.
    """

    length: int = -1
    elements: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    """A transaction.

    Attributes:
        row: Its row.
        process: Who ran it.
        is_ok: Whether it surely happened.
        start, end: When it ran, for real time.
        deeds: Number of a key -> what was done to it.
        writes: Whether anything was appended.
    """

    row: int
    process: int
    is_ok: bool
    start: int
    end: int
    deeds: dict[int, _Deed]
    writes: bool


class SerialSearch:
    """Looks for one order after the other.

    Args:
        transactions: The history, its elements as they were read.
        lists: Key -> the longest list read; all others are beginnings of it.
        own_writes_show: Whether a transaction reads what it appended.
        pause: Called now and then; may raise.
    """

    def __init__(
        self,
        transactions: Transactions,
        lists: Mapping[Hashable, list[Any]],
        pause: Callable[[], None],
        *,
        own_writes_show: bool,
    ) -> None:
        self._transactions = transactions
        self._number = {name: i for i, name in enumerate(lists)}
        self._lists = list(lists.values())
        self._pause = pause
        self._own_writes_show = own_writes_show
        self._parts: list[_Part] = []
        self._is_possible = True
        self._farthest = 0
        self._stuck: int | None = None
        for row, micro_ops in transactions.micro_ops():
            if transactions.outcome[row] != Outcome.FAIL:
                self._add(row, micro_ops)

    def _add(self, row: int, micro_ops: MicroOps) -> None:
        is_ok = self._transactions.outcome[row] == Outcome.OK
        deeds: dict[int, _Deed] = defaultdict(_Deed)
        for f, name, value in micro_ops:
            if f == "append":
                deeds[self._number[name]].elements.append(value)
            elif is_ok:
                deed = deeds[self._number[name]]
                own = len(deed.elements) * self._own_writes_show
                length = len(value or ()) - own
                if length < 0 or deed.length not in {-1, length}:
                    self._is_possible = False  # it contradicts itself
                deed.length = length
        writes = any(deed.elements for deed in deeds.values())
        if is_ok or writes:
            rows = self._transactions
            who, start, end = rows.process[row], rows.start[row], rows.end[row]
            self._parts.append(_Part(row, who, is_ok, start, end, deeds, writes))

    def run(self, order: Order) -> Answer:
        """Look for an order of the transactions that keeps this one."""
        if not self._is_possible:
            return Answer.IMPOSSIBLE
        most = PARTS_MAX if order is Order.REAL_TIME else PARTS_MAX_FREE
        if len(self._parts) > most:
            return Answer.GAVE_UP
        parts = sorted(self._parts, key=lambda part: (not part.is_ok, part.start))
        keep = {Order.REAL_TIME: _RealTime, Order.SESSIONS: _Sessions}.get(order, _All)
        walk = _Walk(parts, self._lists, keep(parts), self._pause)
        answer = walk.run()
        self._farthest, self._stuck = walk.farthest, walk.stuck()
        return answer

    def refuted(self, order: Order) -> NoOrder:
        """That there is no order; `run` has found so."""
        rows = () if self._stuck is None else (self._stuck,)
        parts = len(self._parts) if self._is_possible else 0
        return NoOrder("G2" + LEVELS[order], rows, None, order, parts, self._farthest)


class _All:
    """Says who may come next: any transaction, as no order has to be kept.

    Args:
        parts: The transactions, those that surely happened first, by their start.
    """

    def __init__(self, parts: list[_Part]) -> None:
        self.parts = parts
        self.certain = sum(part.is_ok for part in parts)
        self.by_end = sorted(range(self.certain), key=lambda i: parts[i].end)

    def next(self, placed: int) -> Iterator[int]:
        """Transactions that may come next, the first to end first."""
        yield from (i for i in self.by_end if not placed >> i & 1)
        for i in range(self.certain, len(self.parts)):
            if not placed >> i & 1:
                yield i


class _Sessions(_All):
    """Each process ran its transactions one after the other."""

    @override
    def next(self, placed: int) -> Iterator[int]:
        waiting: dict[int, int] = {}
        for i in self.by_end:
            if not placed >> i & 1:
                first = waiting.setdefault(self.parts[i].process, i)
                if first == i:
                    yield i
        for i in range(self.certain, len(self.parts)):
            first = waiting.get(self.parts[i].process, i)
            if not placed >> i & 1 and self.parts[first].start >= self.parts[i].start:
                yield i


class _RealTime(_All):
    """Nobody comes before somebody who had returned when they were invoked."""

    @override
    def next(self, placed: int) -> Iterator[int]:
        parts, limit, window = self.parts, NEVER, []
        low = (~placed & (placed + 1)).bit_length() - 1
        for i in range(low, self.certain):
            if parts[i].start > limit:
                break
            if not placed >> i & 1:
                window.append(i)
                limit = min(limit, parts[i].end)
        window.sort(key=lambda i: parts[i].end)
        yield from window
        for i in range(self.certain, len(parts)):
            if parts[i].start > limit:
                break
            if not placed >> i & 1:
                yield i


class _Walk:
    """One search in depth."""

    def __init__(
        self,
        parts: list[_Part],
        lists: list[list[Any]],
        keep: _All,
        pause: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._lists = lists
        self._keep = keep
        self._pause = pause
        self._lengths = [0] * len(lists)
        self._certain = (1 << keep.certain) - 1
        # Key and length -> how many that have yet to come read a list of that length.
        self._waiting = [[0] * (len(read) + 2) for read in lists]
        for part in parts:
            self._wait(part, 1)
        self._best = 0

    def run(self) -> Answer:
        """Search."""
        most = max(STEPS_MIN, STEPS_PER_TRANSACTION * len(self._parts))
        known = {0}
        placed = 0
        path: list[tuple[int, dict[int, int]]] = []
        untried = [self._next(placed)]
        steps = 0
        while untried:
            if placed & self._certain == self._certain:
                return Answer.FOUND
            steps += 1
            if steps > most:
                return Answer.GAVE_UP
            if not steps % 256:
                self._pause()
            i = next(untried[-1], None)
            if i is None:
                untried.pop()
                if path:
                    i, lengths = path.pop()
                    placed ^= 1 << i
                    self._wait(self._parts[i], 1)
                    for key, length in lengths.items():
                        self._lengths[key] = length
                continue
            if placed | 1 << i in known:
                continue
            placed |= 1 << i
            known.add(placed)
            self._best = max(self._best, placed, key=int.bit_count)
            path.append((i, self._append(self._parts[i])))
            untried.append(self._next(placed))
        return Answer.IMPOSSIBLE

    @property
    def farthest(self) -> int:
        """The most transactions that were put in order."""
        return self._best.bit_count()

    def stuck(self) -> int | None:
        """Row of the first transaction to end that was left then."""
        left = (i for i in self._keep.by_end if not self._best >> i & 1)
        i = next(left, None)
        return None if i is None else self._parts[i].row

    def _wait(self, part: _Part, change: int) -> None:
        for key, deed in part.deeds.items():
            if deed.length >= 0:
                self._waiting[key][deed.length] += change

    def _append(self, part: _Part) -> dict[int, int]:
        """Append its elements; returns how long the lists were."""
        self._wait(part, -1)
        lengths = {}
        for key, deed in part.deeds.items():
            if deed.elements:
                length = lengths[key] = self._lengths[key]
                # All lengths behind the longest list are one: nobody reads there.
                longest = len(self._lists[key]) + 1
                self._lengths[key] = min(length + len(deed.elements), longest)
        return lengths

    def _next(self, placed: int) -> Iterator[int]:
        """Transactions that may come next; a single one if some of them just read."""
        fitting: list[int] = []
        for i in self._keep.next(placed):
            part = self._parts[i]
            if self._fits(part):
                if not part.writes:
                    yield i
                    return
                if not part.is_ok and fitting:
                    yield from fitting
                    fitting = []
                fitting.append(i)
        yield from fitting

    def _fits(self, part: _Part) -> bool:
        """Whether it may come now, and leaves no read behind."""
        for key, deed in part.deeds.items():
            length, read = self._lengths[key], self._lists[key]
            if deed.length not in {-1, length}:
                return False
            if not deed.elements:
                continue
            end = length + len(deed.elements)
            if read[length:end] != deed.elements[: max(0, len(read) - length)]:
                return False
            if sum(self._waiting[key][length:end]) > (deed.length == length):
                return False
        return True
