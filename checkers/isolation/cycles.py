"""Every class of cycles in a dependency graph, with a short example of each.

The classes are Adya's (1999), as Elle (2020) refines them: by how many rw edges a cycle
has and whether two of them are adjacent, and by whether session order or real time are
part of it. Whether a class occurs is decided by strongly connected components, in
linear time, of the graph of those edges that the class allows:

- G0, G1c: of ww edges; of ww and wr edges, one of them wr.
- G-single: a rw edge whose target reaches its source without another rw. Where a search
  from a few rw edges does not find one, reachability is computed for all of them, in
  words of bits.
- G-nonadjacent: of the graph with two copies of each vertex, one for arriving by rw,
  which has no further rw edge out of it.
- G2: any.

So whether a class occurs does not depend on how long a search takes. The example of a
class is the shortest cycle in its component (`checkers.isolation.walks`). In very large
components not all starting points are tried; the example then says so. Of many
components, the smallest are looked at.

A closed walk may pass a vertex twice. Cut there, it falls into cycles, at least one of
which is of the walk's class or of a worse one. Whether another cycle is of that class
and passes nothing twice is a question of disjoint paths, hard in general; in a small
component all are tried.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from checkers.findings import EXAMPLES_MAX
from checkers.isolation.components import components
from checkers.isolation.graph import Kind
from checkers.isolation.models import LEVELS
from checkers.isolation.singles import rw_in_cycles_without_another
from checkers.isolation.walks import Cycle, Region, Step, Walk, classify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from checkers.isolation.graph import Column, Edges, Graph, Mask

_ORDERS = ((), (Kind.PROCESS,), (Kind.PROCESS, Kind.REALTIME, Kind.PASS))
"""Level -> the kinds of edges that it has beside dependencies."""

_MARK = (None, Kind.PROCESS, Kind.REALTIME)
"""Level -> the kind of edge that a cycle of that level must have."""


class CycleSearch:
    """Looks for all classes of cycles in a graph.

    Args:
        graph: The graph, with the edges of all levels that `run` is asked for.
        pause: Called now and then; may raise to end the search.

    Attributes:
        found: Class -> cycles found, each in a component of its own, no more than
            EXAMPLES_MAX; the shortest first.
    """

    def __init__(self, graph: Graph, pause: Callable[[], None]) -> None:
        self._graph = graph
        self._pause = pause
        self.found: dict[str, list[Cycle]] = {}

    def run(self, level: int) -> None:
        """Look for cycles up to this level; see `models.LEVELS`."""
        core = self._core(self._graph.edges)
        for at in range(level + 1):
            if not len(core):
                return
            allowed = np.isin(
                core.kind, _kinds(Kind.WW, Kind.WR, Kind.RW, *_ORDERS[at])
            )
            self._at_level(core.where(allowed), at)
        for cycles in self.found.values():
            cycles.sort(key=lambda cycle: len(cycle.steps))

    def run_prefix(self) -> None:
        """Look for what prefix snapshot isolation forbids.

        Cycles in which each rw edge comes right after a wr or process edge (Cerone and
        Gotsman 2016); those without rw edges are found by `run`.
        """
        self._copies(self._core(self._graph.edges), PREFIX)

    def _core(self, edges: Edges) -> Edges:
        """The edges within components of two or more vertices."""
        return edges.where(self._inside(edges)[1])

    def _inside(self, edges: Edges) -> tuple[Column, Mask]:
        """Vertex -> number of its component, 0 if trivial; the edges within one."""
        number = np.zeros(len(self._graph.potential), np.int64)
        found = components(edges.source, edges.target, self._graph.potential)
        for i, members in enumerate(found, start=1):
            number[members] = i
        ends = number[edges.source]
        return number, (ends > 0) & (ends == number[edges.target])

    def _at_level(self, edges: Edges, level: int) -> None:
        edges = self._core(edges)
        mark = _MARK[level]
        if mark is not None and not (edges.kind == mark).any():
            return
        orders = _ORDERS[level]
        for search in (self._g0, self._g1c):
            self._pause()
            kinds = [Kind.WW, *orders] + [Kind.WR] * (search == self._g1c)
            part = self._core(edges.where(np.isin(edges.kind, _kinds(*kinds))))
            search(part, level)
        for search in (self._g_single, self._g_nonadjacent, self._g2):
            self._pause()
            search(edges, level)

    # One class each

    def _g0(self, edges: Edges, level: int) -> None:
        starts = edges.kind == (Kind.WW if level == 0 else _MARK[level])
        name = "G0" + LEVELS[level]
        for region, chosen in self._regions(edges, starts, name):
            self._shortest(region, chosen, Walk(_MARK[level], rw_max=0, name=name))

    def _g1c(self, edges: Edges, level: int) -> None:
        starts = edges.kind == Kind.WR
        name = "G1c" + LEVELS[level]
        for region, chosen in self._regions(edges, starts, name):
            self._shortest(region, chosen, Walk(_MARK[level], rw_max=0, name=name))

    def _g_single(self, edges: Edges, level: int) -> None:
        starts, name = edges.kind == Kind.RW, "G-single-item" + LEVELS[level]
        for region, chosen in self._regions(edges, starts, name):
            walk = Walk(_MARK[level], rw_max=1, name=name)
            if not self._shortest(region, chosen, walk):
                # Not all starts were tried, or all cycles found lack the mark.
                certain = rw_in_cycles_without_another(region, self._pause)
                self._shortest(region, certain, walk)

    def _g_nonadjacent(self, edges: Edges, level: int) -> None:
        name = "G-nonadjacent-item" + LEVELS[level]
        self._copies(edges, Walk(_MARK[level], rw_min=2, name=name, after=(Kind.RW,)))

    def _copies(self, edges: Edges, walk: Walk) -> None:
        """Cycles in the graph of copies: a rw edge goes only out of the first ones."""
        size = len(self._graph.potential)
        is_rw = edges.kind == Kind.RW
        blocks = np.isin(edges.kind, _kinds(*walk.after))
        source = np.concatenate([edges.source, edges.source[~is_rw] + size])
        target = edges.target + size * blocks
        target = np.concatenate([target, target[~is_rw]])
        potential = np.concatenate([self._graph.potential, self._graph.potential])
        number = np.zeros(2 * size, np.int64)
        for i, members in enumerate(components(source, target, potential), start=1):
            number[members] = i
        at = number[edges.source]
        starts = is_rw & (at > 0) & (at == number[edges.target + size])
        for region, chosen in self._regions(edges, starts, walk.name):
            self._shortest(region, chosen, walk)

    def _g2(self, edges: Edges, level: int) -> None:
        is_rw = edges.kind == Kind.RW
        after_rw = np.zeros(len(self._graph.potential), np.bool_)
        after_rw[edges.target[is_rw]] = True
        starts, name = is_rw & after_rw[edges.source], "G2-item" + LEVELS[level]
        for region, chosen in self._regions(edges, starts, name):
            walk = Walk(_MARK[level], rw_min=2, must_adjoin=True, name=name)
            self._shortest(region, chosen, walk)

    # Examples

    def _regions(
        self, edges: Edges, starts: Mask, name: str
    ) -> Iterator[tuple[Region, list[int]]]:
        """Yield components, the smallest first, each with its edges among `starts`.

        Edges between vertices of close potential come first. Ends when there are enough
        examples of the class of that name.
        """
        if not starts.any():
            return
        number, inside = self._inside(edges)
        group = np.where(inside, number[edges.source], 0)
        order = np.argsort(group, kind="stable")
        bounds = np.searchsorted(group[order], np.arange(1, group.max() + 2))
        potential = self._graph.potential
        by_size = np.argsort(np.diff(bounds), kind="stable").tolist()
        for low, high in ((bounds[i], bounds[i + 1]) for i in by_size):
            if len(self.found.get(name, ())) >= EXAMPLES_MAX:
                return
            rows = order[low:high].astype(np.int64)
            chosen = np.flatnonzero(starts[rows])
            if not len(chosen):
                continue
            part = edges.where(rows)
            distance = np.abs(potential[part.source] - potential[part.target])[chosen]
            nearest = chosen[np.argsort(distance, kind="stable")]
            self._pause()
            yield Region(part), nearest.tolist()

    def _shortest(self, region: Region, starts: list[int], walk: Walk) -> bool:
        """Keep the shortest of the cycles through `starts`.

        Returns:
            False if none was found, and not all starts were tried.
        """
        best, is_sure = region.shortest(starts, walk, self._pause)
        if not best:
            return is_sure
        cycles = region.cut(best, self._graph.transactions)
        names = self._keep_all(cycles, walk, is_sure)
        if walk.name and walk.name not in names and walk is not PREFIX:
            path = region.search_simple(starts, walk.name, self._graph.transactions)
            is_sure = bool(path)
            if not path:
                is_simple = partial(self._is_simple, region, walk.name)
                path, _ = region.shortest_of(starts, walk, is_simple)
            if path:
                cycles = region.cut(path, self._graph.transactions)
                self._keep_all(cycles, walk, is_sure)
        return True

    def _is_simple(self, region: Region, name: str, path: list[int]) -> bool:
        """Whether a closed walk is one cycle, of the class of that name."""
        first, *more = region.cut(path, self._graph.transactions)
        return not more and classify([step.kind for step in first]) == name

    def _keep_all(
        self, cycles: Iterable[tuple[Step, ...]], walk: Walk, is_sure: bool
    ) -> set[str]:
        """Keep the cycles that a walk falls into; returns their classes."""
        names = set()
        for steps in cycles:
            kinds = [step.kind for step in steps]
            if walk is not PREFIX:
                names.add(classify(kinds))
                self._keep(Cycle(classify(kinds), steps, is_sure))
            elif walk.allows(kinds):
                self._keep(Cycle(walk.name, steps, is_sure))
        return names

    def _keep(self, cycle: Cycle) -> None:
        cycles = self.found.setdefault(cycle.name, [])
        if len(cycles) < EXAMPLES_MAX and not any(
            {step.source for step in cycle.steps}
            == {step.source for step in other.steps}
            for other in cycles
        ):
            cycles.append(cycle)


PREFIX = Walk(None, rw_min=1, after=(Kind.RW, Kind.WW), name="G-prefix")


def _kinds(*kinds: Kind) -> list[int]:
    return [int(kind) for kind in kinds]
