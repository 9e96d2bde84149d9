"""Dependency graphs: which transaction has to come before which, and why.

Vertices are rows of `Transactions`; after them come auxiliary vertices. Kinds of edges
(Adya 1999): a -ww-> b, b wrote the version after one of a's; a -wr-> b, b read a's
version; a -rw-> b, b wrote the version after the one that a read. Beside them
a -process-> b, the same process ran b after a, and a -realtime-> b, a had returned when
b was invoked.

Real time orders nearly all pairs, so it is drawn as a timeline: one auxiliary vertex
for each completion, each leading to the next. A transaction leads to the vertex of its
completion, and the last vertex before an invocation leads to what was invoked. Then b
is reachable from a along the timeline just when a had returned before b was invoked,
and there are three edges a transaction. The edge into the timeline is the one that
counts; those on it and out of it are `PASS`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.transactions import NEVER, Outcome

if TYPE_CHECKING:
    import numpy.typing as npt

    from checkers.isolation.transactions import Transactions

    Column = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

STEP = 1 << 20
"""Room between the potentials of two events."""

NOTHING = -1


class Kind(enum.IntEnum):
    """Why one transaction comes before another."""

    WW = 0
    WR = 1
    RW = 2
    PROCESS = 3
    REALTIME = 4
    PASS = 5


@dataclass(frozen=True)
class Edges:
    """Edges as columns.

    Attributes:
        source, target: Vertices.
        kind: A `Kind` each.
        via: The version an edge is about, a number that the maker of the edge can
            explain, or NOTHING.
    """

    source: Column
    target: Column
    kind: npt.NDArray[np.int8]
    via: Column

    def __len__(self) -> int:
        return len(self.source)

    def where(self, mask: Mask | Column) -> Edges:
        """The edges for which `mask` is true, or those of these positions."""
        return Edges(
            self.source[mask], self.target[mask], self.kind[mask], self.via[mask]
        )


def edges_of(
    kind: Kind, source: Column, target: Column, via: Column | None = None
) -> Edges:
    """Edges of one kind, without those that lack an end (NOTHING) or are loops."""
    source, target = np.asarray(source, np.int64), np.asarray(target, np.int64)
    if via is None:
        via = np.full(len(source), NOTHING, np.int64)
    keep = (source >= 0) & (target >= 0) & (source != target)
    source, target, via = source[keep], target[keep], np.asarray(via, np.int64)[keep]
    return Edges(source, target, np.full(len(source), kind, np.int8), via)


def no_edges() -> Edges:
    """No edges at all."""
    nothing = np.zeros(0, np.int64)
    return Edges(nothing, nothing, nothing.astype(np.int8), nothing)


def join(*parts: Edges) -> Edges:
    """All edges of `parts`."""
    return Edges(
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.via for part in parts]),
    )


@dataclass(frozen=True)
class Graph:
    """A dependency graph.

    Attributes:
        transactions: Vertices below this number are transactions, others auxiliary.
        potential: For each vertex a guess at its place in a topological order. Any
            guess is right; a good one saves work.
        edges: The edges.
    """

    transactions: int
    potential: Column
    edges: Edges


def session_edges(transactions: Transactions) -> Edges:
    """From each committed transaction to the next one of its process.

    One with an unknown outcome may take effect at any time after its invocation, so it
    has successors of its own process in no order with it.
    """
    last: dict[int, int] = {}
    source, target = [], []
    certain = not transactions.has_realtime
    rows = zip(transactions.process, transactions.outcome, strict=True)
    for row, (process, outcome) in enumerate(rows):
        if outcome == Outcome.FAIL or (certain and outcome != Outcome.OK):
            continue
        if process in last:
            source.append(last[process])
            target.append(row)
        if outcome == Outcome.OK:
            last[process] = row
    return edges_of(
        Kind.PROCESS, np.array(source, np.int64), np.array(target, np.int64)
    )


def timeline(transactions: Transactions) -> tuple[Edges, Column]:
    """Real time; also the potentials of the auxiliary vertices, in their order."""
    count = len(transactions)
    outcome = np.array(transactions.outcome, np.int64)
    start = np.array(transactions.start, np.int64)
    end = np.array(transactions.end, np.int64)
    returned = np.flatnonzero(end < NEVER)
    returned = returned[np.argsort(end[returned], kind="stable")]
    ends = end[returned]
    vertex = count + np.arange(len(returned), dtype=np.int64)
    before = np.searchsorted(ends, start) - 1
    later = np.flatnonzero((before >= 0) & (outcome != Outcome.FAIL))
    edges = join(
        edges_of(Kind.REALTIME, returned, vertex),
        edges_of(Kind.PASS, vertex[:-1], vertex[1:]),
        edges_of(Kind.PASS, vertex[before[later]], later),
    )
    return edges, ends * STEP


def assemble(transactions: Transactions, dependencies: Edges, level: int) -> Graph:
    """The graph with session order (level 1 and up) and real time (level 2)."""
    count = len(transactions)
    potential = np.array(transactions.start, np.int64) * STEP
    parts = [dependencies]
    if level >= 1:
        parts.append(session_edges(transactions))
    if level >= 2 and transactions.has_realtime:
        edges, more = timeline(transactions)
        parts.append(edges)
        potential = np.concatenate([potential, more])
    return Graph(count, potential, join(*parts))
