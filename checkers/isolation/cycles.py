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

So nothing depends on how long somebody was willing to search. Examples are found by
breadth-first search and are short; where components are large, not every starting point
is tried, and there may be shorter ones.

A closed walk may pass a vertex twice. Cut there, it falls into cycles, at least one of
which is of the walk's class or of a worse one. Whether another cycle is of that class
and passes nothing twice is a question of disjoint paths, hard in general; in a small
component all are tried.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.components import components
from checkers.isolation.graph import NOTHING, Kind
from checkers.isolation.models import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from checkers.isolation.graph import Column, Edges, Graph, Mask

EXAMPLES_MAX = 20
"""Cycles of one class that are returned, each from a component of its own."""

STEPS_MAX = 200_000
"""Edges looked at in search of an example, for each class in a component."""

STEPS_FOR_SIMPLE = 20_000
"""Walks looked at for one that passes nothing twice, where the shortest did."""

STEPS_FOR_SHORTER = 30_000
"""Edges looked at in search of a shorter one."""

WORD_BITS = 8192
"""Targets whose reachability is computed at a time; a few MB for 100,000 vertices."""

_ORDERS = ((), (Kind.PROCESS,), (Kind.PROCESS, Kind.REALTIME, Kind.PASS))
"""Level -> the kinds of edges that it adds to dependencies."""

_MARK = (None, Kind.PROCESS, Kind.REALTIME)
"""Level -> the kind of edge that a cycle of that level must have."""


@dataclass(frozen=True)
class Step:
    """An edge of a cycle, from transaction to transaction."""

    source: int
    target: int
    kind: Kind
    via: int


@dataclass(frozen=True)
class Cycle:
    """A cycle among transactions, none of them twice.

    Attributes:
        name: Its class, such as `G-single-item-process`.
        steps: Its edges, each beginning where the one before ends.
    """

    name: str
    steps: tuple[Step, ...]


def classify(kinds: Sequence[Kind]) -> str:
    """The class of a cycle from the kinds of its edges, in order."""
    rw = [kind == Kind.RW for kind in kinds]
    if not any(rw):
        name = "G1c" if Kind.WR in kinds else "G0"
    elif sum(rw) == 1:
        name = "G-single-item"
    else:
        adjacent = any(rw[i - 1] and rw[i] for i in range(len(rw)))
        name = "G2-item" if adjacent else "G-nonadjacent-item"
    return name + LEVELS[2 if Kind.REALTIME in kinds else Kind.PROCESS in kinds]


class CycleSearch:
    """Looks for all classes of cycles in a graph.

    Args:
        graph: The graph; its session and real time edges count from the level on at
            which the caller put them in.
        pause: Called now and then; may raise to end the search.

    Attributes:
        found: Class -> some of the cycles found, the shortest first.
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
            if self._shortest(region, chosen, walk):
                continue
            # What was tried in vain may lack but the mark; then it has a lesser level.
            if level and self._shortest(region, chosen, Walk(None, rw_max=1)):
                continue
            certain = region.rw_in_cycles_without_another(self._pause)
            self._shortest(region, certain, walk) or self._shortest(
                region, certain, Walk(None, rw_max=1)
            )

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
        """Components that have edges among `starts`, with these, the closest first.

        Until there are examples enough of the class of that name.
        """
        if not starts.any():
            return
        number, inside = self._inside(edges)
        group = np.where(inside, number[edges.source], 0)
        order = np.argsort(group, kind="stable")
        bounds = np.searchsorted(group[order], np.arange(1, group.max() + 2))
        potential = self._graph.potential
        for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
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

    def _shortest(self, region: Region, starts: Sequence[int], walk: Walk) -> bool:
        """Keep the shortest of the cycles through `starts`; whether there is one."""
        steps = STEPS_MAX
        best: list[int] | None = None
        shorter_than = len(region.kind) + 1
        for start in starts:
            path, cost = region.search(start, walk, shorter_than)
            steps -= cost
            if path:
                if best is None:
                    steps = STEPS_FOR_SHORTER
                best, shorter_than = path, region.length(path)
                if shorter_than == 2:
                    break
            if steps < 0:
                break
            self._pause()
        if best is None:
            return False
        names = self._keep_all(region.cut(best, self._graph.transactions), walk)
        if walk.name and walk.name not in names and walk is not PREFIX:
            path = region.search_simple(starts, walk.name, self._graph.transactions)
            if path:
                self._keep_all(region.cut(path, self._graph.transactions), walk)
        return True

    def _keep_all(self, cycles: Iterable[tuple[Step, ...]], walk: Walk) -> set[str]:
        """Keep what a walk fell into; returns the classes."""
        names = set()
        for steps in cycles:
            kinds = [step.kind for step in steps]
            if walk is not PREFIX:
                names.add(classify(kinds))
                self._keep(Cycle(classify(kinds), steps))
            elif walk.allows(kinds):
                self._keep(Cycle(walk.name, steps))
        return names

    def _keep(self, cycle: Cycle) -> None:
        cycles = self.found.setdefault(cycle.name, [])
        if len(cycles) < EXAMPLES_MAX and not any(
            {step.source for step in cycle.steps}
            == {step.source for step in other.steps}
            for other in cycles
        ):
            cycles.append(cycle)


@dataclass(frozen=True)
class Walk:
    """What a closed walk must be like.

    Attributes:
        mark: A kind of edge that it must have, if any.
        rw_min, rw_max: How many rw edges; a maximum of 2 stands for any number.
        after: Kinds of edges that no rw edge may follow at once.
        must_adjoin: Whether its last edge must be rw, and its first with it.
        name: The class that is looked for.
    """

    mark: Kind | None
    rw_min: int = 0
    rw_max: int = 2
    after: tuple[Kind, ...] = ()
    must_adjoin: bool = False
    name: str = ""

    def allows(self, kinds: Sequence[Kind]) -> bool:
        """Whether no rw edge of a cycle follows what it must not."""
        return not any(
            kind == Kind.RW and kinds[i - 1] in self.after
            for i, kind in enumerate(kinds)
        )


PREFIX = Walk(None, rw_min=1, after=(Kind.RW, Kind.WW), name="G-prefix")


class Region:
    """A component, ready to be walked. Vertices are numbered from 0 in it."""

    def __init__(self, edges: Edges) -> None:
        self.edges = edges
        names, ends = np.unique(
            np.concatenate([edges.source, edges.target]), return_inverse=True
        )
        count = len(edges)
        self.names = names
        self.source: list[int] = ends[:count].tolist()
        self.target: list[int] = ends[count:].tolist()
        self.kind: list[int] = edges.kind.tolist()
        order = np.argsort(ends[:count], kind="stable")
        first = np.searchsorted(ends[:count][order], np.arange(len(names) + 1))
        self.first: list[int] = first.tolist()
        self.order: list[int] = order.tolist()

    def vertex(self, name: int) -> int:
        """The number of a vertex here; NOTHING if it is somewhere else."""
        at = int(np.searchsorted(self.names, name))
        return at if at < len(self.names) and self.names[at] == name else NOTHING

    def search(
        self, start: int, walk: Walk, shorter_than: int, barred: int = NOTHING
    ) -> tuple[list[int], int]:
        """The shortest closed walk that begins with the edge `start`.

        Returns its edges, none if there is no such walk that has fewer than so many
        steps, and how many edges were looked at. States are vertex, number of rw edges
        up to 2, whether the last was one that matters (a rw edge, or one that no rw
        edge may follow), and whether the mark was seen. Edges off the timeline cost
        nothing, so that real time counts as one step. The vertex `barred` is not
        passed.
        """
        home = self.source[start]
        state = self._after(start, walk, 0, 0, marked=walk.mark is None)
        if state is None:
            return [], 1
        parent: dict[int, tuple[int, int]] = {state: (-1, start)}
        closed = set(range(barred * 12, barred * 12 + 12))
        queue = deque([(state, int(self.kind[start] != Kind.PASS))])
        steps = 0
        while queue:
            state, length = queue.popleft()
            if state in closed:
                continue
            if length >= shorter_than:
                break
            closed.add(state)
            vertex, rest = divmod(state, 12)
            rw, rest = divmod(rest, 4)
            last, marked = divmod(rest, 2)
            if vertex == home and self._accepts(start, walk, rw, last, marked):
                return self._path(parent, state), steps
            for at in range(self.first[vertex], self.first[vertex + 1]):
                steps += 1
                edge = self.order[at]
                following = self._after(edge, walk, rw, last, marked=bool(marked))
                if following is None or following in closed:
                    continue
                if self.kind[edge] == Kind.PASS:
                    parent[following] = (state, edge)
                    queue.appendleft((following, length))
                elif following not in parent:
                    parent[following] = (state, edge)
                    queue.append((following, length + 1))
        return [], steps

    def _after(
        self, edge: int, walk: Walk, rw: int, last: int, *, marked: bool
    ) -> int | None:
        """The state after one more edge, or None where the walk may not take it."""
        kind = self.kind[edge]
        if kind == Kind.RW:
            if (last and walk.after) or (rw >= walk.rw_max < 2):
                return None
            rw, last = min(rw + 1, 2), 1
        elif kind != Kind.PASS:
            last = int(kind in walk.after)
        marked = marked or kind == walk.mark
        return self.target[edge] * 12 + rw * 4 + last * 2 + marked

    def _accepts(self, start: int, walk: Walk, rw: int, last: int, marked: int) -> bool:
        if not marked or rw < walk.rw_min:
            return False
        if walk.must_adjoin:
            return bool(last)
        starts_with_rw = self.kind[start] == Kind.RW
        return not (walk.after and last and starts_with_rw)

    def _path(self, parent: dict[int, tuple[int, int]], state: int) -> list[int]:
        edges = []
        while state >= 0:
            state, edge = parent[state]
            edges.append(edge)
        return edges[::-1]

    def search_simple(
        self, starts: Sequence[int], name: str, transactions: int
    ) -> list[int]:
        """A short cycle of that class which passes no transaction twice.

        Returns its edges; none if there is no such cycle, or too many were looked at.
        """
        steps = STEPS_FOR_SIMPLE
        for depth in range(2, len(self.names) + 1):
            is_cut_short = False
            for start in starts:
                paths = [[start]]
                while paths:
                    path = paths.pop()
                    steps -= 1
                    if steps < 0:
                        return []
                    passed = {self.source[edge] for edge in path}
                    at = self.target[path[-1]]
                    if at == self.source[start]:
                        cycles = self.cut(path, transactions)
                        kinds = [step.kind for step in cycles[0]]
                        if len(cycles) == 1 and classify(kinds) == name:
                            return path
                    elif at not in passed:
                        if self.length(path) >= depth:
                            is_cut_short = True
                            continue
                        edges = self.order[self.first[at] : self.first[at + 1]]
                        paths += [[*path, edge] for edge in edges]
            if not is_cut_short:
                return []
        return []

    def length(self, path: Iterable[int]) -> int:
        """How many steps from transaction to transaction a walk has."""
        return sum(self.kind[edge] != Kind.PASS for edge in path)

    def cut(self, path: list[int], transactions: int) -> list[tuple[Step, ...]]:
        """The cycles that a closed walk falls into."""
        cycles: list[tuple[Step, ...]] = []
        open_steps: list[Step] = []
        for step in self._steps(path, transactions):
            open_steps.append(step)
            begin = next(
                (i for i, s in enumerate(open_steps) if s.source == step.target), None
            )
            if begin is not None:
                cycles.append(tuple(open_steps[begin:]))
                del open_steps[begin:]
        return cycles

    def _steps(self, path: list[int], transactions: int) -> Iterator[Step]:
        """The walk without auxiliary vertices."""
        names = self.names
        at = next(i for i, e in enumerate(path) if names[self.source[e]] < transactions)
        source = kind = via = 0
        for edge in path[at:] + path[:at]:
            if names[self.source[edge]] < transactions:
                source = int(names[self.source[edge]])
                kind, via = self.kind[edge], int(self.edges.via[edge])
            if names[self.target[edge]] < transactions:
                yield Step(source, int(names[self.target[edge]]), Kind(kind), via)

    def rw_in_cycles_without_another(self, pause: Callable[[], None]) -> list[int]:
        """The rw edges whose target reaches their source by other edges.

        Cost: edges times rw edges / `WORD_BITS`.
        """
        kind = np.array(self.kind, np.int8)
        rw = np.flatnonzero(kind == Kind.RW)
        others = np.flatnonzero(kind != Kind.RW)
        source = np.array(self.source, np.int64)
        target = np.array(self.target, np.int64)
        group, order = _condense(source[others], target[others], len(self.names))
        rw_from, rw_to = group[source[rw]], group[target[rw]]
        tails, heads = group[source[others]], group[target[others]]
        apart = tails != heads
        by_head = np.argsort(order[heads[apart]], kind="stable")
        links = list(
            zip(
                tails[apart][by_head].tolist(),
                heads[apart][by_head].tolist(),
                strict=True,
            )
        )
        found: list[int] = rw[rw_from == rw_to].tolist()
        distinct = np.unique(rw_to)
        for low in range(0, len(distinct), WORD_BITS):
            pause()
            chunk = distinct[low : low + WORD_BITS]
            reached_from = [0] * len(self.names)
            bit = {vertex: 1 << i for i, vertex in enumerate(chunk.tolist())}
            for vertex, mask in bit.items():
                reached_from[vertex] = mask
            for tail, head in links:
                reached_from[head] |= reached_from[tail]
            for edge, a, b in zip(
                rw.tolist(), rw_from.tolist(), rw_to.tolist(), strict=True
            ):
                if b in bit and a != b and reached_from[a] & bit[b]:
                    found.append(edge)
        return found


def _condense(
    source: Column, target: Column, size: int
) -> tuple[Column, npt.NDArray[np.int64]]:
    """Vertex -> a vertex that stands for its component, and a topological order.

    The order gives each representative its place; edges lead from lower to higher.
    """
    group = np.arange(size)
    for members in components(source, target, np.arange(size)):
        group[members] = members[0]
    tails, heads = group[source], group[target]
    apart = tails != heads
    tails, heads = tails[apart], heads[apart]
    missing = np.bincount(heads, minlength=size).tolist()
    by_tail = np.argsort(tails, kind="stable")
    first = np.searchsorted(tails[by_tail], np.arange(size + 1)).tolist()
    successors = heads[by_tail].tolist()
    ready = [v for v in range(size) if not missing[v]]
    place = np.zeros(size, np.int64)
    for clock, vertex in enumerate(ready):  # grows while it is walked
        place[vertex] = clock
        for at in range(first[vertex], first[vertex + 1]):
            missing[successors[at]] -= 1
            if not missing[successors[at]]:
                ready.append(successors[at])
    return group, place


def _kinds(*kinds: Kind) -> list[int]:
    return [int(kind) for kind in kinds]
