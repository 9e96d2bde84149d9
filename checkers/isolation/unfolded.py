"""Classes of cycles that the kinds of edges don't tell: which key, and in which order.

Adya (1999) defines some phenomena on graphs that say more than the dependency graph:

- G-cursor, on the graph labelled with keys: a cycle on one key of a rw edge and ww
  edges. A transaction wrote a key that it had read, over versions that it had not seen.
- G-monotonic, on the graph in which one transaction is unfolded into its reads and
  writes, with an edge from each to the next: a cycle with one rw edge, which begins at
  a read of it. So the rest of the cycle ends at that read, or at an event before it:
  what the transaction saw went back.
- G-MSR, where each read of every transaction has a snapshot of its own, no older than
  those of the reads before it. Time orders commits and snapshots; no such time exists
  just when there is a G-monotonic, or a cycle in which each rw edge comes right after a
  wr edge whose read was not later than that of the rw edge. (Between two reads of one
  transaction are snapshots only, and what enters it by a ww edge is bound by its commit
  alone.) With one rw edge such a cycle is called G-monotonic here.
- G-update: a cycle with rw edges in which all transactions but one write something.
  With one rw edge every cycle is like that, and is called G-single-item here.

And Berenson et al. (1995), A5B, write skew: two transactions each of which read what
the other replaced, on two keys.

All of them are cycles of dependencies with a rw edge, so nothing is done for histories
without any. Each class is a question of reachability in a graph in which transactions
are split into events; a shortest walk passes no transaction twice, unless dependencies
without rw edges have a cycle as well, which is worse.

Choices:
- Reads of a transaction's own writes are no events: a transaction that replaced what
  they saw also replaced the writes.
- Where the order of a key's versions is not known, a transaction that read a version
  and wrote the key comes before all writers of later ones, or it has overwritten them
  unseen. So a cycle of ww and wr edges and of rw edges by such transactions, on several
  keys, is a G-cursor as well (or a G1c, which one depends on the order).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from checkers.findings import EXAMPLES_MAX
from checkers.isolation.components import components
from checkers.isolation.graph import NOTHING, Edges, Kind
from checkers.isolation.singles import rw_in_cycles_without_another
from checkers.isolation.transactions import Outcome
from checkers.isolation.walks import Cycle, Region, Step, Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from checkers.isolation.graph import Column, Graph, Mask
    from checkers.isolation.transactions import MicroOps, Transactions

    About = tuple[Hashable, Hashable]

_WITH_RW = frozenset({"G-single-item", "G-nonadjacent-item", "G2-item"})

_ONE_RW = Walk(None, rw_min=1, rw_max=1)
_ANY_RW = Walk(None, rw_min=1)


@dataclass(slots=True)
class Script:
    """What one transaction did, in order; places are counted from 0.

    Attributes:
        first, last: Key and version -> places of the first and the last read of it.
        writes: Key and version -> place of the write.
    """

    first: dict[About, int] = field(default_factory=dict)
    last: dict[About, int] = field(default_factory=dict)
    writes: dict[About, int] = field(default_factory=dict)

    def read(self, about: About, place: int) -> None:
        """Note a read."""
        self.first.setdefault(about, place)
        self.last[about] = place


class Unfolds(Protocol):
    """Something that inferred dependencies, and knows the events they lie between."""

    def script(self, row: int, micro_ops: MicroOps) -> Script:
        """The events of a transaction that did these micro-operations."""
        ...

    def about(self, kind: Kind, via: int) -> About:
        """The key of a dependency, and the version that its target read or wrote.

        For a rw edge it is the version that its source read.
        """
        ...


@dataclass(frozen=True)
class Labels:
    """What edges are about; columns beside those of `Edges`.

    Attributes:
        key: Numbers of keys.
        leaves: For a rw edge, the place of its read in the transaction (the last one,
            if it read the version several times). NOTHING if it isn't known.
        arrives: For a wr edge, the place of its read (the first one); for a ww edge,
            the place of its write. NOTHING if it isn't known.
        intends: Whether the source wrote the key.
        updates: Whether the source wrote anything.
    """

    key: Column
    leaves: Column
    arrives: Column
    intends: Mask
    updates: Mask


def label(transactions: Transactions, inference: Unfolds, edges: Edges) -> Labels:
    """What dependencies are about. Cost: all that their transactions did."""
    rows = np.unique(np.concatenate([edges.source, edges.target])).tolist()
    scripts = {}
    for row, micro_ops in transactions.micro_ops_of(rows):
        told = micro_ops
        if transactions.outcome[row] != Outcome.OK:
            told = [micro_op for micro_op in micro_ops if micro_op[0] != "r"]
        scripts[row] = inference.script(row, told)
    numbers: dict[Hashable, int] = {}
    out = np.full((5, len(edges)), NOTHING, np.int64)
    columns = edges.source, edges.target, edges.kind, edges.via
    for i, (source, target, kind, via) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        about = inference.about(Kind(kind), via)
        mine, other = scripts[source], scripts[target]
        out[0, i] = numbers.setdefault(about[0], len(numbers))
        if kind == Kind.RW:
            out[1, i] = mine.last.get(about, NOTHING)
        else:
            events = other.first if kind == Kind.WR else other.writes
            out[2, i] = events.get(about, NOTHING)
        out[3, i] = any(key == about[0] for key, _ in mine.writes)
        out[4, i] = bool(mine.writes)
    return Labels(out[0], out[1], out[2], out[3] > 0, out[4] > 0)


def look_closer(
    transactions: Transactions,
    inference: Unfolds,
    graph: Graph,
    found: Iterable[str],
    pause: Callable[[], None],
) -> dict[str, list[Cycle]]:
    """Cycles of the classes above, by class, the shortest first.

    Args:
        transactions: The history.
        inference: Tells what its dependencies are about.
        graph: The dependencies; other edges don't count.
        found: The classes of cycles that are known to be there.
        pause: Called now and then; may raise.
    """
    if _WITH_RW.isdisjoint(found):
        return {}
    edges = within_components(graph)
    labels = label(transactions, inference, edges)
    return labelled_cycles(edges, labels, graph.potential, pause)


def within_components(graph: Graph) -> Edges:
    """The dependencies that are on some cycle of dependencies."""
    edges = graph.edges.where(graph.edges.kind <= Kind.RW)
    number = _numbers(edges, graph.potential)
    ends = number[edges.source]
    return edges.where((ends > 0) & (ends == number[edges.target]))


def labelled_cycles(
    edges: Edges, labels: Labels, potential: Column, pause: Callable[[], None]
) -> dict[str, list[Cycle]]:
    """Cycles of each class among dependencies, the shortest first.

    Args:
        edges: Dependencies, all of them within components.
        labels: What they are about.
        potential: Vertex -> a guess at its place in a topological order.
        pause: Called now and then; may raise.
    """
    search = _Search(edges, labels, potential, pause)
    search.run()
    for cycles in search.found.values():
        cycles.sort(key=lambda cycle: len(cycle.steps))
    return search.found


def _numbers(edges: Edges, potential: Column) -> Column:
    """Vertex -> the number of its component; 0 if it has no other vertex."""
    number = np.zeros(len(potential), np.int64)
    found = components(edges.source, edges.target, potential)
    for i, members in enumerate(found, start=1):
        number[members] = i
    return number


class _Events(NamedTuple):
    """A graph of events.

    Attributes:
        edges: Edges between events; `via` is the position of the dependency that each
            stands for, or NOTHING.
        owner: Event -> its transaction.
    """

    edges: Edges
    owner: Column


class _Search:
    """The search in components of a dependency graph.

    Args:
        edges: The dependencies within components.
        labels: What they are about.
        potential: Transaction -> a guess at its place in a topological order.
        pause: Called now and then; may raise.
    """

    def __init__(
        self,
        edges: Edges,
        labels: Labels,
        potential: Column,
        pause: Callable[[], None],
    ) -> None:
        self.edges = edges
        self.labels = labels
        self.potential = potential
        self.pause = pause
        self.is_rw = edges.kind == Kind.RW
        self.found: dict[str, list[Cycle]] = {}

    def run(self) -> None:
        """Look for each class."""
        self._g_cursor()
        self._g_monotonic()
        self._g_msr()
        self._g_update()
        self._write_skew()

    # One class each

    def _g_cursor(self) -> None:
        edges, labels = self.edges, self.labels
        rows = np.flatnonzero(edges.kind != Kind.WR)
        first = labels.key[rows] * len(self.potential)
        ends = first + edges.source[rows], first + edges.target[rows]
        self._find("G-cursor", self._graph(rows, *ends), _ONE_RW)
        if "G-cursor" not in self.found:
            rows = np.flatnonzero(~self.is_rw | labels.intends)
            ends = edges.source[rows], edges.target[rows]
            self._find("G-cursor", self._graph(rows, *ends), _ANY_RW)

    def _g_monotonic(self) -> None:
        self._find("G-monotonic", self._unfold(~self.is_rw), _ONE_RW)

    def _g_msr(self) -> None:
        self._find("G-MSR", self._unfold(self.edges.kind == Kind.WR), _ANY_RW, 2)

    def _g_update(self) -> None:
        edges = self.edges
        writes = np.zeros(len(self.potential), np.bool_)
        writes[edges.source] = self.labels.updates
        rows = np.flatnonzero(writes[edges.source] & writes[edges.target])
        ends = edges.source[rows], edges.target[rows]
        self._find("G-update", self._graph(rows, *ends), _ANY_RW, 2)
        # A read-only transaction is cut in two, with a rw edge for the way through it.
        span = len(self.potential)
        readers = np.unique(edges.source[~writes[edges.source]])
        source = edges.source + span * ~writes[edges.source]
        cut = Edges(
            np.concatenate([source, readers]),
            np.concatenate([edges.target, readers + span]),
            np.repeat([Kind.WW, Kind.RW], [len(edges), len(readers)]).astype(np.int8),
            np.append(np.arange(len(edges)), np.full(len(readers), NOTHING)),
        )
        owner = np.tile(np.arange(span), 2)
        self._find("G-update", _Events(cut, owner), _ONE_RW, 2)

    def _write_skew(self) -> None:
        edges = self.edges
        by_ends: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
        component = _numbers(edges, self.potential)
        done = set()
        for row in np.flatnonzero(self.is_rw).tolist():
            a, b = int(edges.source[row]), int(edges.target[row])
            key, group = int(self.labels.key[row]), int(component[a])
            by_ends[a, b][key] = row
            back = [r for k, r in by_ends.get((b, a), {}).items() if k != key]
            if back and group not in done:
                done.add(group)
                self._keep("write-skew", self._steps([back[0], row]))
            if len(done) == EXAMPLES_MAX:
                return

    # Graphs of events

    def _graph(self, rows: Column, source: Column, target: Column) -> _Events:
        """The dependencies at `rows`, between these events.

        Their numbers are taken modulo that of transactions to know their owners.
        """
        names, ends = np.unique(np.concatenate([source, target]), return_inverse=True)
        count = len(rows)
        edges = Edges(ends[:count], ends[count:], self.edges.kind[rows], rows)
        return _Events(edges, names % len(self.potential))

    def _unfold(self, to_events: Mask) -> _Events:
        """All transactions unfolded: reads and writes in order, then the commit.

        The commit, which has the number of the transaction, leads to whatever depends
        on it; a rw edge begins at its read.

        Args:
            to_events: Dependencies that lead to events; others lead to commits.
        """
        edges, labels, span = self.edges, self.labels, len(self.potential)
        to_events = to_events & (labels.arrives != NOTHING)
        kept = ~self.is_rw | (labels.leaves != NOTHING)
        width = 1 + int(np.append(labels.leaves, labels.arrives).max(initial=0))
        leaving = edges.source * width + labels.leaves
        arriving = edges.target * width + labels.arrives
        events = np.unique(
            np.concatenate([leaving[self.is_rw & kept], arriving[to_events]])
        )
        owner = events // width
        number = span + np.arange(len(events))
        is_last = np.append(owner[1:] != owner[:-1], True)[: len(events)]
        following = np.where(is_last, owner, number + 1)
        source, target = edges.source.copy(), edges.target.copy()
        at = self.is_rw & kept
        source[at] = span + np.searchsorted(events, leaving[at])
        target[to_events] = span + np.searchsorted(events, arriving[to_events])
        rows = np.flatnonzero(kept)
        unfolded = Edges(
            np.concatenate([source[rows], number]),
            np.concatenate([target[rows], following]),
            np.append(edges.kind[rows], np.full(len(events), Kind.PASS, np.int8)),
            np.append(rows, np.full(len(events), NOTHING)),
        )
        return _Events(unfolded, np.append(np.arange(span), owner))

    # Examples

    def _find(self, name: str, events: _Events, walk: Walk, rw_min: int = 1) -> None:
        """Keep a shortest cycle of each component of a graph of events.

        Cycles with fewer rw edges than `rw_min` belong to another class.
        """
        edges = events.edges
        number = _numbers(edges, self.potential[events.owner])
        group = number[edges.source]
        group[group != number[edges.target]] = 0
        by_group = np.argsort(group, kind="stable")
        bounds = np.searchsorted(group[by_group], np.arange(number.max(initial=0) + 2))
        for i in np.unique(group[(edges.kind == Kind.RW) & (group > 0)]).tolist():
            self.pause()
            if len(self.found.get(name, ())) >= EXAMPLES_MAX:
                return
            region = Region(edges.where(by_group[bounds[i] : bounds[i + 1]]))
            starts = [e for e, kind in enumerate(region.kind) if kind == Kind.RW]
            path, is_sure = region.shortest(starts, walk, self.pause)
            if not path and not is_sure and walk is _ONE_RW:
                certain = rw_in_cycles_without_another(region, self.pause)
                path, _ = region.shortest(certain, walk, self.pause)
            if not self._is_simple(region, path):
                path, is_sure = self._simple(region, starts, walk, name, events.owner)
            rows = self._dependencies(region, path)
            if sum(self.is_rw[rows]) >= rw_min:
                self._keep(name, self._steps(rows), is_sure)

    def _simple(
        self,
        region: Region,
        starts: Sequence[int],
        walk: Walk,
        name: str,
        owner: Column,
    ) -> tuple[list[int], bool]:
        """A walk that passes no transaction twice, if the shortest one passes some.

        In that case dependencies without rw edges have a cycle as well. A walk for
        G-monotonic is simple if it does not pass the commit of its first transaction.
        """
        bars = None
        if name == "G-monotonic":
            homes = owner[region.names[np.array(region.source)[starts]]]
            bars = dict(zip(starts, map(region.vertex, homes.tolist()), strict=True))
        is_simple = partial(self._is_simple, region)
        return region.shortest_of(starts, walk, is_simple, bars)

    def _dependencies(self, region: Region, path: Sequence[int]) -> list[int]:
        """What the edges of a walk among events stand for."""
        rows: list[int] = region.edges.via[path].tolist()
        return [row for row in rows if row != NOTHING]

    def _is_simple(self, region: Region, path: Sequence[int]) -> bool:
        """Whether a closed walk, if there is any, passes no transaction twice."""
        rows = self._dependencies(region, path)
        return len(np.unique(self.edges.source[rows])) == len(rows)

    def _steps(self, rows: Sequence[int]) -> tuple[Step, ...]:
        edges = self.edges
        return tuple(
            Step(
                int(edges.source[row]),
                int(edges.target[row]),
                Kind(edges.kind[row]),
                int(edges.via[row]),
            )
            for row in rows
        )

    def _keep(self, name: str, steps: tuple[Step, ...], is_sure: bool = True) -> None:
        self.found.setdefault(name, []).append(Cycle(name, steps, is_sure))
