"""Looks for one execution in real time that shows just the values that were read.

This is for histories in which values repeat. If the transactions can be replayed one
after the other on a map of keys to values, each within the time it took, the history is
strictly serializable, whoever wrote what was read. With snapshots, a transaction begins
and commits within its time, reads what was there when it began, and commits only if
nobody has committed to what it writes since then (Berenson et al. 1995, first committer
wins).

The search goes depth first, and remembers where it has been (Wing and Gong 1993, Lowe
2017). A transaction that only reads, and fits, is taken at once, as it makes no
difference to others. Then come transactions that read, then those that only write, the
first to return first. A transaction of unknown outcome is taken only if another one
waits for what it wrote. So the search may miss an execution, and proves nothing if it
finds none.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from checkers.isolation.transactions import NEVER, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from checkers.isolation.transactions import Transactions

STEPS_MIN = 20_000
STEPS_PER_TRANSACTION = 20
"""How long the search goes on: so many steps, and so many more for each transaction."""

STEPS_BETWEEN_PAUSES = 256

State = dict["Hashable", int]


class Deeds(NamedTuple):
    """What transactions did, by row.

    Attributes:
        reads: Pairs of a key and the value read; of committed transactions.
        writes: Key -> the value that was left.
        begin: Values that keys may begin with.
    """

    reads: Sequence[Sequence[tuple[Hashable, int]]]
    writes: Sequence[dict[Hashable, int]]
    begin: frozenset[int]


class _Step(NamedTuple):
    """A row begins, commits what it began, or does both at once."""

    row: int
    begins: bool
    commits: bool


class _Undo(NamedTuple):
    """What a step changed."""

    step: _Step
    replaced: list[tuple[Hashable, int | None]]
    running: dict[int, frozenset[Hashable]]
    since: frozenset[Hashable]
    first: int
    first_to_end: int


class Replay:
    """The search for an execution.

    Args:
        transactions: The history; it must have real time.
        deeds: What they did.
        snapshots: Whether snapshot isolation is enough.
        pause: Called now and then; may raise.
    """

    def __init__(
        self,
        transactions: Transactions,
        deeds: Deeds,
        pause: Callable[[], None],
        *,
        snapshots: bool,
    ) -> None:
        self.deeds = deeds
        self.snapshots = snapshots
        self.pause = pause
        self._start, self._end = transactions.start, transactions.end
        rows = range(len(transactions))
        ok = [r for r in rows if transactions.outcome[r] == Outcome.OK]
        self._by_start = sorted(ok, key=self._start.__getitem__)
        self._by_end = sorted(ok, key=self._end.__getitem__)
        self._open: dict[tuple[Hashable, int], list[int]] = {}
        for row in rows:
            if transactions.outcome[row] == Outcome.INFO:
                for about in deeds.writes[row].items():
                    self._open.setdefault(about, []).append(row)
        self._reads_of = _by_key(self._by_end, self._end, deeds.reads)
        self._steps = STEPS_MIN + STEPS_PER_TRANSACTION * len(ok)
        self._state: State = {}
        self._done = [False] * len(transactions)
        self._running: dict[int, frozenset[Hashable]] = {}
        self._first = self._first_to_end = 0
        self._left = len(ok)
        self._been: set[tuple[int, int, int]] = set()
        self._mark_done = self._mark_state = 0

    def finds(self) -> bool:
        """Whether the search finds an execution."""
        stack: list[tuple[Iterator[_Step], _Undo]] = []
        steps = self._possible()
        while self._left:
            step = next(steps, None)
            if step is None:
                if not stack:
                    return False
                steps, undo = stack.pop()
                self._take_back(undo)
                continue
            self._steps -= 1
            if not self._steps:
                return False
            if not self._steps % STEPS_BETWEEN_PAUSES:
                self.pause()
            undo = self._take(step)
            running = hash(frozenset(self._running.items()))
            been = self._mark_done, self._mark_state, running
            if been in self._been:
                self._take_back(undo)
                continue
            self._been.add(been)
            stack.append((steps, undo))
            steps = self._possible()
        return True

    # Steps

    def _possible(self) -> Iterator[_Step]:
        """Steps that may come next, the best first."""
        deadline = self._deadline()
        fitting, waiting = [], []
        for i in range(self._first, len(self._by_start)):
            row = self._by_start[i]
            if self._start[row] > deadline:
                break
            if self._done[row] or row in self._running:
                continue
            if missing := self._missing(row):
                waiting += missing
            elif not self.deeds.writes[row]:
                return iter([_Step(row, True, True)])
            else:
                fitting.append(row)
        expected = {
            key: self._expected(key, deadline)
            for row in fitting
            for key in self.deeds.writes[row]
        }
        fitting.sort(
            key=lambda row: (
                self._harm(row, expected),
                not self.deeds.reads[row],
                self._end[row],
            )
        )
        steps = [_Step(row, True, True) for row in fitting]
        wanted = dict.fromkeys(
            row for about in waiting for row in self._open.get(about, ())
        )
        steps += [
            _Step(row, True, True)
            for row in wanted
            if not self._done[row] and self._start[row] < deadline
        ]
        if self.snapshots:
            steps += [
                _Step(row, False, True)
                for row, since in self._running.items()
                if since.isdisjoint(self.deeds.writes[row])
            ]
            steps += [_Step(row, True, False) for row in fitting]
        return iter(steps)

    def _expected(self, key: Hashable, deadline: int) -> int | None:
        """The value of the first read of a key to return that is not done yet."""
        ends, reads = self._reads_of[key]
        for at in range(bisect.bisect_left(ends, deadline), len(ends)):
            row, value = reads[at]
            if not self._done[row] and row not in self._running:
                return value
        return None

    def _harm(self, row: int, expected: Mapping[Hashable, int | None]) -> int:
        """How much speaks against writing now.

        Of the values that are read next, 2 for each that it would overwrite, and 1 for
        each that it would write itself.
        """
        return sum(
            2 * (self._state.get(key) == expected[key] and value != expected[key])
            + (value == expected[key])
            for key, value in self.deeds.writes[row].items()
            if expected[key] is not None
        )

    def _deadline(self) -> int:
        """When the first transaction returns that is not done yet."""
        while self._left and self._done[self._by_end[self._first_to_end]]:
            self._first_to_end += 1
        return self._end[self._by_end[self._first_to_end]] if self._left else -1

    def _missing(self, row: int) -> list[tuple[Hashable, int]]:
        """Keys and values that a transaction read, but that are not there now."""
        state, begin = self._state, self.deeds.begin
        return [
            (key, value)
            for key, value in self.deeds.reads[row]
            if (state[key] != value if key in state else value not in begin)
        ]

    def _take(self, step: _Step) -> _Undo:
        row = step.row
        places = self._first, self._first_to_end
        since = self._running.pop(row, frozenset())
        if not step.commits:
            self._running[row] = frozenset()
            return _Undo(step, [], {}, since, *places)
        replaced: list[tuple[Hashable, int | None]] = []
        writes = self.deeds.writes[row]
        for key, value in writes.items():
            before = self._state.get(key)
            replaced.append((key, before))
            self._put(key, before, value)
        undo = _Undo(step, replaced, dict(self._running), since, *places)
        for other, lost in undo.running.items():
            self._running[other] = lost.union(writes)
        self._mark(row, done=True)
        by_start = self._by_start
        while self._first < len(by_start) and self._done[by_start[self._first]]:
            self._first += 1
        return undo

    def _take_back(self, undo: _Undo) -> None:
        row = undo.step.row
        if not undo.step.commits:
            del self._running[row]
            return
        self._mark(row, done=False)
        for key, before in reversed(undo.replaced):
            self._put(key, self._state[key], before)
        self._running = undo.running
        if not undo.step.begins:
            self._running[row] = undo.since
        self._first = undo.first
        self._first_to_end = undo.first_to_end

    def _mark(self, row: int, *, done: bool) -> None:
        self._done[row] = done
        self._mark_done ^= hash((row, "done"))
        if self._end[row] != NEVER:
            self._left += -1 if done else 1

    def _put(self, key: Hashable, before: int | None, after: int | None) -> None:
        if before is not None:
            self._mark_state ^= hash((key, before, "state"))
        if after is None:
            del self._state[key]
        else:
            self._state[key] = after
            self._mark_state ^= hash((key, after, "state"))


def _by_key(
    rows: Sequence[int],
    end: Sequence[int],
    reads: Sequence[Sequence[tuple[Hashable, int]]],
) -> dict[Hashable, tuple[list[int], list[tuple[int, int]]]]:
    """Key -> when reads of it ended, and their rows and values, side by side."""
    found: dict[Hashable, tuple[list[int], list[tuple[int, int]]]]
    found = defaultdict(lambda: ([], []))
    for row in rows:
        for key, value in reads[row]:
            ends, read = found[key]
            ends.append(end[row])
            read.append((row, value))
    return found
