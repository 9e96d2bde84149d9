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
"""The difference between the potentials of two neighbouring events."""

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
        via: A number by which the edge's maker can explain it, such as that of a
            version; or NOTHING.
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
        potential: Vertex -> a guess at its place in a topological order. A good guess
            saves work; results are right with any.
        edges: The edges.
    """

    transactions: int
    potential: Column
    edges: Edges


def session_edges(transactions: Transactions) -> Edges:
    """Edges from each committed transaction to the next one of its process.

    A transaction of unknown outcome may take effect at any time after its invocation.
    So it comes after what its process did before, but before nothing.
    """
    outcome = np.asarray(transactions.outcome)
    happened = outcome != Outcome.FAIL
    if not transactions.has_realtime:
        happened = outcome == Outcome.OK
    rows = np.flatnonzero(happened)
    process = np.asarray(transactions.process)
    rows = rows[np.argsort(process[rows], kind="stable")]
    # The last committed one before each, in this order; it must be of the same process.
    place = np.where(outcome[rows] == Outcome.OK, np.arange(len(rows)), NOTHING)
    latest = np.maximum.accumulate(np.append(NOTHING, place))[:-1]
    found = latest >= 0
    found[found] = process[rows[latest[found]]] == process[rows[found]]
    return edges_of(Kind.PROCESS, rows[latest[found]], rows[found])


def timeline(
    transactions: Transactions, accesses: tuple[Column, Column] | None = None
) -> tuple[Edges, Column]:
    """The edges of real time, and the potentials of the auxiliary vertices.

    Args:
        transactions: The history.
        accesses: Rows, and the numbers of the keys that they touch. If given, each key
            has a timeline of its own, and orders only what touches it.
    """
    count = len(transactions)
    rows, line = accesses or (np.arange(count), np.zeros(count, np.int64))
    outcome = np.asarray(transactions.outcome)[rows]
    start = np.asarray(transactions.start)[rows]
    end = np.asarray(transactions.end)[rows]
    span = len(transactions.history) + 1  # above every position
    returned = np.flatnonzero(end < NEVER)
    moment = line * span
    ended = moment[returned] + end[returned]
    order = np.argsort(ended, kind="stable")
    returned, ended = returned[order], ended[order]
    vertex = count + np.arange(len(returned), dtype=np.int64)
    before = np.searchsorted(ended, moment + start) - 1
    has_before = (before >= 0) & (outcome != Outcome.FAIL)
    has_before[has_before] = line[returned][before[has_before]] == line[has_before]
    later = np.flatnonzero(has_before)
    same_line = np.flatnonzero(line[returned][1:] == line[returned][:-1])
    edges = join(
        edges_of(Kind.REALTIME, rows[returned], vertex),
        edges_of(Kind.PASS, vertex[same_line], vertex[same_line + 1]),
        edges_of(Kind.PASS, vertex[before[later]], rows[later]),
    )
    return edges, end[returned] * STEP


def assemble(
    transactions: Transactions,
    dependencies: Edges,
    level: int,
    accesses: tuple[Column, Column] | None = None,
) -> Graph:
    """The graph with session order (level 1 and up) and real time (level 2).

    Below level 2, `accesses` make real time count on each key by itself.
    """
    count = len(transactions)
    potential = np.asarray(transactions.start) * STEP
    parts = [dependencies]
    if level >= 1:
        parts.append(session_edges(transactions))
    if (level >= 2 or accesses is not None) and transactions.has_realtime:
        edges, more = timeline(transactions, None if level >= 2 else accesses)
        parts.append(edges)
        potential = np.concatenate([potential, more])
    return Graph(count, potential, join(*parts))
