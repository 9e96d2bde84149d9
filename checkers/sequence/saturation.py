"""Shows that no order can explain a history: what must come before what, in a circle.

Reasons for one call to come before another, in whatever order explains the history:

- process: they are of one session;
- reads-from: the second saw what the first wrote;
- overwritten: a write of the key that comes before a reader of version v (and isn't
  v's) comes before v's write, too: else the reader would have seen it;
- from-read: a reader of v comes before each write of the key that comes after v's.

The last two are applied until nothing new follows (the weak saturation of Zennou,
Bouajjani, Enea and Erradi, Gradual Consistency Checking, 2019; the rules are those of
Gibbons and Korach 1997). A circle refutes sequential consistency. Without one nothing
is shown: two writes may be ordered either way, and neither may work.

What comes before a call is kept as a vector: for each session, how many of its calls
do. Of the edges that a rule gives, only those are added that don't follow from others.
"""

from __future__ import annotations

from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from checkers.sequence.versions import shortest_circle

if TYPE_CHECKING:
    from collections.abc import Hashable

    import networkx as nx

    from checkers.linearizability.budget import Patience
    from checkers.sequence.calls import Calls, Version

Numbers = np.ndarray[tuple[int], np.dtype[np.int32]]
Clocks = np.ndarray[tuple[int, int], np.dtype[np.int32]]

CELLS_MAX = 40_000_000
"""Numbers in all vectors together (160 MB); larger histories are not saturated."""

CHECK_EVERY = 64
"""Versions between two looks at the limits."""

PROCESS = "process"
READS_FROM = "reads-from"
OVERWRITTEN = "overwritten"
FROM_READ = "from-read"


class Reason(NamedTuple):
    """Why one call comes before another.

    Attributes:
        kind: PROCESS, READS_FROM, OVERWRITTEN or FROM_READ.
        reader: The reader that it rests on, for the last two.
    """

    kind: str
    reader: int = -1


class Forced(NamedTuple):
    """One call, by its position, must come before another, and why."""

    before: int
    after: int
    reason: Reason


class Writes(NamedTuple):
    """All writes of a key, as columns.

    Attributes:
        calls: Their positions.
        columns: Of their sessions, in the vectors.
        places: In their sessions.
    """

    calls: Numbers
    columns: Numbers
    places: Numbers


class Saturation:
    """The order that the calls of a history force.

    Args:
        calls: What is to be ordered.
        patience: May end it early.

    Attributes:
        graph: Calls by position; each edge has a `reason`.
        limit: Which limit ended it, as a clause; empty if none did.
        passes: How often the rules were applied to everything.
    """

    def __init__(self, calls: Calls, patience: Patience) -> None:
        import networkx as nx

        self.calls = calls
        self.patience = patience
        self.limit = ""
        self.passes = 0
        column = {session: i for i, session in enumerate(calls.sessions)}
        self.columns = np.array([column[c.session] for c in calls.calls], np.int32)
        self.places = np.array([c.place for c in calls.calls], np.int32)
        self.graph: nx.DiGraph[int] = nx.DiGraph()
        self.graph.add_nodes_from(range(len(calls.calls)))
        self.writes = self.index_writes()
        self.last_readers: dict[Version, dict[int, int]] = defaultdict(dict)
        for position, call in enumerate(calls.calls):
            if call.sees is not None:
                self.last_readers[call.sees][call.session] = position
        self.add_known()

    def index_writes(self) -> dict[Hashable, Writes]:
        """The writes of each key."""
        found: dict[Hashable, list[int]] = defaultdict(list)
        for (key, _), writer in self.calls.writer.items():
            found[key].append(writer)
        columns = {key: np.array(writes, np.int32) for key, writes in found.items()}
        return {
            key: Writes(writes, self.columns[writes], self.places[writes])
            for key, writes in columns.items()
        }

    def add_known(self) -> None:
        """The edges that need no deduction."""
        for positions in self.calls.sessions.values():
            for a, b in pairwise(positions):
                self.add(a, b, Reason(PROCESS))
        for position, call in enumerate(self.calls.calls):
            if call.sees in self.calls.writer:
                writer = self.calls.writer[call.sees]
                self.add(writer, position, Reason(READS_FROM))
            elif call.sees is not None and call.sees[0] in self.writes:
                # The initial version comes before every write of the key; those that
                # follow one in its session need no edge of their own.
                for write in self.first_writes(call.sees[0], position):
                    self.add(position, write, Reason(FROM_READ, position))

    def first_writes(self, key: Hashable, but: int) -> list[int]:
        """Each session's first write of a key, `but` one."""
        first: dict[int, int] = {}
        for write in self.writes[key].calls.tolist():
            if write != but:
                first.setdefault(int(self.columns[write]), write)
        return list(first.values())

    def add(self, a: int, b: int, reason: Reason) -> bool:
        """Add an edge. Returns False if there was one already."""
        if a == b or self.graph.has_edge(a, b):
            return False
        self.graph.add_edge(a, b, reason=reason)
        return True

    def circle(self) -> list[Forced]:
        """A circle of forced order, as edges; empty when none was found.

        Cost: some passes, each over calls times sessions, and over the pairs of reads
        and writes of the same key.
        """
        if len(self.calls.calls) * len(self.calls.sessions) > CELLS_MAX:
            self.limit = "there are too many calls and sessions to deduce an order"
        while not self.limit:
            try:
                order = list(self.sorter().static_order())
            except CycleError:
                return self.shortest()
            self.passes += 1
            if not self.deduce(order):
                break
        return []

    def before(self) -> list[list[int]]:
        """For each call, those that must come before it, but for its own session's."""
        return [
            [
                a
                for a in self.graph.pred[position]
                if self.graph.edges[a, position]["reason"].kind != PROCESS
            ]
            for position in range(len(self.calls.calls))
        ]

    def sorter(self) -> TopologicalSorter[int]:
        """Sorts the calls by what is known so far."""
        return TopologicalSorter({v: list(self.graph.pred[v]) for v in self.graph})

    def deduce(self, order: list[int]) -> bool:
        """Apply both rules to all versions once; False when nothing new followed."""
        clocks = self.clocks(order)
        news = False
        for count, (version, readers) in enumerate(self.last_readers.items()):
            if count % CHECK_EVERY == 0 and (limit := self.patience.exceeded()):
                self.limit = limit
                break
            if version in self.calls.writer:
                for reader in readers.values():
                    news |= self.overwritten(clocks, version, reader)
                    news |= self.from_read(clocks, version, reader)
        return news

    def clocks(self, order: list[int]) -> Clocks:
        """Per call and session: how many of the session's calls come before, or are it.

        `order` has every call after those that are known to come before it.
        """
        clocks = np.zeros((len(order), len(self.calls.sessions)), dtype=np.int32)
        for position in order:
            own = clocks[position]
            for before in self.graph.pred[position]:
                np.maximum(own, clocks[before], out=own)
            own[self.columns[position]] = self.places[position] + 1
        return clocks

    def overwritten(self, clocks: Clocks, version: Version, reader: int) -> bool:
        """Writes that come before a reader come before the write it saw, too."""
        writer, writes = self.calls.writer[version], self.writes[version[0]]
        found = writes.places < clocks[reader, writes.columns]
        found &= writes.places >= clocks[writer, writes.columns]
        found &= writes.calls != reader
        news = False
        left = writes.calls[found]
        while left.size:
            # The one with the most before it; whatever comes before it follows.
            last = int(left[clocks[left].sum(axis=1).argmax()])
            news |= self.add(last, writer, Reason(OVERWRITTEN, reader))
            left = left[self.places[left] >= clocks[last, self.columns[left]]]
        return news

    def from_read(self, clocks: Clocks, version: Version, reader: int) -> bool:
        """A reader comes before the writes that come after the one it saw."""
        writer, writes = self.calls.writer[version], self.writes[version[0]]
        found = clocks[writes.calls, self.columns[writer]] > self.places[writer]
        found &= clocks[writes.calls, self.columns[reader]] <= self.places[reader]
        found &= writes.calls != writer
        news = False
        left = writes.calls[found]
        while left.size:
            # The one with the least before it; whatever comes after it follows.
            first = int(left[clocks[left].sum(axis=1).argmin()])
            news |= self.add(reader, first, Reason(FROM_READ, reader))
            left = left[clocks[left, self.columns[first]] <= self.places[first]]
        return news

    def shortest(self) -> list[Forced]:
        """A short circle; the shortest one through any of the first calls."""
        import networkx as nx

        tangled = [
            c for c in nx.strongly_connected_components(self.graph) if len(c) > 1
        ]
        circles = [shortest_circle(self.graph, component) for component in tangled]
        best = min(circles, key=lambda circle: (len(circle), circle))
        return [Forced(a, b, self.graph.edges[a, b]["reason"]) for a, b in best]
