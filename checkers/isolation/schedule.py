"""Looks for an execution that explains a history of registers.

An execution is a sequence of events that does what the history says. For
serializability each transaction is one event. For snapshot isolation it is two: the
beginning, which takes the snapshot that it reads, and the commit; between them nobody
else may commit to what it writes (Berenson et al. 1995, first committer wins).

The search is greedy. What is known to come first goes first. A version stays the
current one of its key until all its readers have read it, so nothing has to be undone,
but a transaction may wait for another that waits for it. Then the search has failed,
which proves nothing. If all events could be placed, the history is right: the sequence
proves it.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import TYPE_CHECKING

from checkers.isolation.graph import Kind
from checkers.isolation.transactions import Outcome

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from checkers.isolation.graph import Edges
    from checkers.isolation.registers import Registers


class Schedule:
    """The search for one execution.

    Events are numbered: transaction or auxiliary vertex v begins at v and, for snapshot
    isolation, commits at v + size.

    Args:
        registers: The history.
        edges: All known orders, auxiliary vertices included.
        size: How many vertices there are.
        serial: One event a transaction, or two.
        priority: For each vertex, the lower the earlier where there is a choice.
    """

    def __init__(
        self,
        registers: Registers,
        edges: Edges,
        size: int,
        *,
        serial: bool,
        priority: Sequence[int],
    ) -> None:
        self.registers = registers
        self.size = size
        self.commit = 0 if serial else size  # what to add for the event of the commit
        self.events = size + self.commit
        self.priority = priority
        self.after: list[list[int]] = [[] for _ in range(self.events)]
        self.missing = [0] * self.events
        self._know(edges)
        self.happened = self._who_happened()
        self.current: dict[Hashable, int] = {}
        self.readers: dict[int, set[int]] = defaultdict(set)
        self.reads: dict[int, list[int]] = defaultdict(list)
        self._find_readers()
        self.holder: dict[Hashable, int] = {}
        self.waiting: dict[Hashable, list[int]] = defaultdict(list)
        self.heap: list[tuple[int, int]] = []

    def exists(self) -> bool:
        """Whether the search finds an execution. Cost: linear, times waiting."""
        for event, count in enumerate(self.missing):
            if not count:
                self._offer(event)
        done = 0
        while self.heap:
            _, event = heapq.heappop(self.heap)
            key = self._obstacle(event)
            if key is not None:
                self.waiting[key].append(event)
                continue
            done += 1
            self._do(event)
            for following in self.after[event]:
                self.missing[following] -= 1
                if not self.missing[following]:
                    self._offer(following)
        return done == self.events

    def _know(self, edges: Edges) -> None:
        """What known orders say of events; a rw edge is about a snapshot."""
        if self.commit:
            for vertex in range(self.size):
                self._precede(vertex, vertex + self.commit)
        rows = zip(
            edges.source.tolist(),
            edges.target.tolist(),
            edges.kind.tolist(),
            strict=True,
        )
        for source, target, kind in rows:
            if kind == Kind.RW:
                self._precede(source, target + self.commit)
            else:
                self._precede(source + self.commit, target)

    def _precede(self, earlier: int, later: int) -> None:
        self.after[earlier].append(later)
        self.missing[later] += 1

    def _who_happened(self) -> list[bool]:
        """Rows that are part of the execution: others' writes count for nothing."""
        registers = self.registers
        seen = {registers.writer[read.version] for read in registers.reads}
        return [
            outcome == Outcome.OK or row in seen
            for row, outcome in enumerate(registers.transactions.outcome)
        ]

    def _find_readers(self) -> None:
        """Who has to read each version before it may be replaced; nil comes first."""
        for read in self.registers.reads:
            if self.registers.value_of[read.version] is None:
                self.current[self.registers.key_of[read.version]] = read.version
            self.readers[read.version].add(read.row)
            self.reads[read.row].append(read.version)

    def _offer(self, event: int) -> None:
        heapq.heappush(self.heap, (self.priority[event % self.size], event))

    def _writes(self, event: int) -> dict[Hashable, int]:
        row = event % self.size
        if row < len(self.happened) and self.happened[row]:
            return self.registers.writes[row]
        return {}

    def _obstacle(self, event: int) -> Hashable | None:
        """A key for which the event has to wait, in a tuple; None for no such key."""
        row = event % self.size
        begins, commits = event < self.size, event >= self.commit
        for key in self._writes(event):
            if begins and self.commit and self.holder.get(key, row) != row:
                return (key,)
            if commits and self.readers[self.current.get(key, -1)] - {row}:
                return (key,)
        return None

    def _do(self, event: int) -> None:
        """Place the event, and offer again what waited for it."""
        row = event % self.size
        begins, commits = event < self.size, event >= self.commit
        if begins and row < len(self.happened):
            self._read(row)
        for key, version in self._writes(event).items():
            if begins and self.commit:
                self.holder[key] = row
            if commits:
                self.current[key] = version
                self.holder.pop(key, None)
                self._wake(key)

    def _read(self, row: int) -> None:
        for version in self.reads.get(row, ()):
            self.readers[version].discard(row)
            if not self.readers[version]:
                self._wake(self.registers.key_of[version])

    def _wake(self, key: Hashable) -> None:
        for event in self.waiting.pop((key,), ()):
            self._offer(event)
