"""Shortest closed walks in a component of a dependency graph, of a given kind.

A closed walk is found by breadth-first search from one of its edges, in the graph of
states: a vertex, and what matters of the way there. To find a shortest walk of many
starting edges, all searches run abreast, with a bit for each in words of 64, until one
of them is back; numpy does a step for all states at once. If this would take longer
than a second or so, the remaining starts are left out, and the result says so.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.graph import NOTHING, Kind
from checkers.isolation.models import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from checkers.isolation.graph import Column, Edges

LAYERS = 12
"""States of a walk at a vertex: rw edges so far (up to 2), last edge, mark."""

FEW = 4000
"""Starts times edges up to which searches are faster one by one than abreast."""

WORDS_MAX = 1 << 20
"""Words of 64 searches that are held at a time, for all states and edges: 8 MB."""

WORK_MAX = 150_000_000
"""Words moved before the remaining starts are left out; about a second."""

STEPS_MAX = 200_000
"""Edges looked at, where searches have to be made one by one."""

STEPS_FOR_SIMPLE = 20_000
"""Walks tried for one that passes nothing twice, if the shortest passes something."""


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
        is_shortest: Whether none of its class in its component is known to be shorter;
            false where not all were looked at.
    """

    name: str
    steps: tuple[Step, ...]
    is_shortest: bool = True


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

    def layer_after(self, layer: int, kind: int) -> int:
        """The layer after an edge of that kind, NOTHING if the walk may not take it.

        A layer is the number of rw edges up to 2, whether the last edge was one that
        matters, and whether the mark was seen.
        """
        rw, last, marked = layer // 4, layer // 2 % 2, layer % 2
        if kind == Kind.RW:
            if (last and self.after) or (rw >= self.rw_max < 2):
                return NOTHING
            rw, last = min(rw + 1, 2), 1
        elif kind != Kind.PASS:
            last = int(kind in self.after)
        return rw * 4 + last * 2 + (marked or kind == self.mark)

    def allows(self, kinds: Sequence[Kind]) -> bool:
        """Whether no rw edge of a cycle follows what it must not."""
        return not any(
            kind == Kind.RW and kinds[i - 1] in self.after
            for i, kind in enumerate(kinds)
        )


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
        """The number of a vertex in this region; NOTHING if it is not in it."""
        at = int(np.searchsorted(self.names, name))
        return at if at < len(self.names) and self.names[at] == name else NOTHING

    def search(
        self, start: int, walk: Walk, shorter_than: int, barred: int = NOTHING
    ) -> tuple[list[int], int]:
        """The shortest closed walk that begins with the edge `start`.

        States are vertex, number of rw edges up to 2, whether the last was one that
        matters (a rw edge, or one that no rw edge may follow), and whether the mark was
        seen. Edges on the timeline and off it cost nothing, so that real time counts as
        one step.

        Args:
            start: The edge.
            walk: What the walk must be like.
            shorter_than: It has fewer steps than this.
            barred: A vertex that it does not pass.

        Returns:
            Its edges, none if there is no such walk; and how many edges were looked at.
        """
        home = self.source[start]
        state = self._after(start, walk, 0, 0, marked=walk.mark is None)
        if state is None:
            return [], 1
        parent: dict[int, tuple[int, int]] = {state: (-1, start)}
        closed = set(range(barred * LAYERS, barred * LAYERS + LAYERS))
        queue = deque([(state, int(self.kind[start] != Kind.PASS))])
        steps = 0
        while queue:
            state, length = queue.popleft()
            if state in closed:
                continue
            if length >= shorter_than:
                break
            closed.add(state)
            vertex, rest = divmod(state, LAYERS)
            rw, rest = divmod(rest, 4)
            last, marked = divmod(rest, 2)
            if vertex == home and self.accepts(start, walk, rw, last, marked):
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

    def shortest(
        self, starts: Sequence[int], walk: Walk, pause: Callable[[], None]
    ) -> tuple[list[int], bool]:
        """A shortest closed walk of those that begin with one of `starts`.

        Returns:
            Its edges, none if there is no such walk; and whether all starts were tried.
        """
        if len(starts) * len(self.kind) > FEW:
            start, length, is_sure = _Abreast(self, walk, pause).run(starts)
            if start == NOTHING:
                return [], is_sure
            return self.search(start, walk, length + 1)[0], is_sure
        best: list[int] = []
        shorter_than = len(self.kind) + 1
        for start in starts:
            path, _ = self.search(start, walk, shorter_than)
            if path:
                best, shorter_than = path, self.length(path)
        return best, True

    def shortest_of(
        self,
        starts: Iterable[int],
        walk: Walk,
        will_do: Callable[[list[int]], bool],
        bars: Mapping[int, int] | None = None,
    ) -> tuple[list[int], bool]:
        """A shortest closed walk of those that begin with a start and `will_do`.

        Of the walks with one start only a shortest one is tried, so walks that would do
        may be missed.

        Args:
            starts: Edges to begin with.
            walk: What the walks must be like.
            will_do: Whether a walk, given by its edges, is accepted.
            bars: Start -> a vertex that is not passed.

        Returns:
            Its edges, none if there is no such walk; and whether all starts were tried.
        """
        best: list[int] = []
        shorter_than = len(self.kind) + 1
        steps = STEPS_MAX
        for start in starts:
            barred = bars[start] if bars else NOTHING
            path, cost = self.search(start, walk, shorter_than, barred)
            if path and will_do(path):
                best, shorter_than = path, self.length(path)
            steps -= cost
            if steps < 0:
                return best, False
        return best, True

    def _after(
        self, edge: int, walk: Walk, rw: int, last: int, *, marked: bool
    ) -> int | None:
        """The state after one more edge, or None where the walk may not take it."""
        layer = walk.layer_after(rw * 4 + last * 2 + marked, self.kind[edge])
        return None if layer == NOTHING else self.target[edge] * LAYERS + layer

    def accepts(self, start: int, walk: Walk, rw: int, last: int, marked: int) -> bool:
        """Whether a walk that is back at its first edge, in that state, will do."""
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

        Returns:
            Its edges; none if there is no such cycle, or the search gave up.
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


class _Abreast:
    """Breadth-first searches from many edges of a region at the same time.

    States are numbered by layer, then by vertex; see `Region.search`.

    Args:
        region: Where.
        walk: What the walks must be like.
        pause: Called now and then; may raise.
    """

    def __init__(self, region: Region, walk: Walk, pause: Callable[[], None]) -> None:
        self.region = region
        self.walk = walk
        self.pause = pause
        self.size = len(region.names)
        self.source = np.array(region.source, np.int64)
        self.target = np.array(region.target, np.int64)
        self.kind = np.array(region.kind, np.int8)
        self.is_pass = self.kind == Kind.PASS
        self._spread = self._list_states()
        self._chains, self._exits = self._list_passes()

    def _list_states(self) -> _Or:
        """The edges between states that cost a step."""
        kinds = [Kind(kind) for kind in np.unique(self.kind).tolist()]
        first = int(self.walk.mark is None)
        self.layers: list[int] = []
        queue = [self.walk.layer_after(first, kind) for kind in kinds]
        for layer in queue:  # grows while it is walked
            if layer != NOTHING and layer not in self.layers:
                self.layers.append(layer)
                queue += [self.walk.layer_after(layer, kind) for kind in kinds]
        nothing = np.zeros(0, np.int64)
        sources, targets = [nothing], [nothing]
        for i, layer in enumerate(self.layers):
            for kind in kinds:
                following = self.walk.layer_after(layer, kind)
                if kind != Kind.PASS and following != NOTHING:
                    edges = self.kind == kind
                    sources.append(self.source[edges] + i * self.size)
                    j = self.layers.index(following)
                    targets.append(self.target[edges] + j * self.size)
        return _Or(np.concatenate(sources), np.concatenate(targets))

    def _list_passes(self) -> tuple[list[Column], _Or | None]:
        """The edges that cost nothing: chains of vertices, and edges out of them."""
        if not self.is_pass.any():
            return [], None
        source, target = self.source[self.is_pass], self.target[self.is_pass]
        on_chain = np.zeros(self.size, np.bool_)
        on_chain[source] = True
        goes_on = on_chain[target]
        following = dict(
            zip(source[goes_on].tolist(), target[goes_on].tolist(), strict=True)
        )
        assert len(following) == goes_on.sum(), "a timeline that forks"
        heads = following.keys() - set(following.values())
        chains = []
        for head in sorted(heads):
            chain = [head]
            while chain[-1] in following:
                chain.append(following[chain[-1]])
            chains.append(np.array(chain, np.int64))
        exits = _Or(source[~goes_on], target[~goes_on]) if not goes_on.all() else None
        return chains, exits

    def run(self, starts: Sequence[int]) -> tuple[int, int, bool]:
        """Search from all starts.

        Returns:
            The first start of a shortest closed walk, NOTHING if there is no walk; its
            length; whether all starts were tried.
        """
        held = 4 * len(self.layers) * self.size + len(self._spread)
        words = max(1, min(WORDS_MAX // held, 1 + (len(starts) - 1) // 64))
        work = 0
        best, shorter_than = NOTHING, len(self.kind) + 1
        for low in range(0, len(starts), 64 * words):
            if shorter_than == 2:
                break
            if work > WORK_MAX:
                return best, shorter_than, False
            chunk = list(starts[low : low + 64 * words])
            start, length, steps = self._search(chunk, words, shorter_than)
            work += steps * words * held
            if start != NOTHING:
                best, shorter_than = start, length
        return best, shorter_than, True

    def _search(
        self, starts: Sequence[int], words: int, shorter_than: int
    ) -> tuple[int, int, int]:
        """Search from some starts; returns a start, its length, and the steps made."""
        first = int(self.walk.mark is None)
        bits = np.arange(len(starts))
        word, bit = bits // 64, np.uint64(1) << (bits % 64).astype(np.uint64)
        homes, at = [], []
        for start in starts:
            layer = self.walk.layer_after(first, Kind(self.region.kind[start]))
            at.append(self.layers.index(layer) * self.size + self.region.target[start])
            homes.append(self.region.source[start])
        begin, home = starts[0], np.array(homes)
        accepting = [
            i for i, layer in enumerate(self.layers) if self._accepts(begin, layer)
        ]
        states = len(self.layers) * self.size
        now = np.zeros((states, words), np.uint64)
        np.bitwise_or.at(now, (np.array(at), word), bit)
        self._pass_on(now)
        seen = now.copy()
        for length in range(2, shorter_than):
            self.pause()
            now = self._spread.apply(now, np.zeros_like(now))
            self._pass_on(now)
            now &= ~seen
            seen |= now
            back = np.zeros(len(starts), np.bool_)
            for i in accepting:
                back |= (now[home + i * self.size, word] & bit) != 0
            if back.any():
                return starts[int(back.argmax())], length, length
            if not now.any():
                return NOTHING, 0, length
        return NOTHING, 0, shorter_than

    def _accepts(self, start: int, layer: int) -> bool:
        rw, last, marked = layer // 4, layer // 2 % 2, layer % 2
        return self.region.accepts(start, self.walk, rw, last, marked)

    def _pass_on(self, now: npt.NDArray[np.uint64]) -> None:
        """Follow the edges that cost nothing."""
        for i in range(len(self.layers)):
            layer = now[i * self.size : (i + 1) * self.size]
            for chain in self._chains:
                layer[chain] = np.bitwise_or.accumulate(layer[chain], axis=0)
            if self._exits is not None:
                self._exits.apply(layer, layer)


class _Or:
    """Edges that pass on bits: what a vertex gets is all that its predecessors have."""

    def __init__(self, source: Column, target: Column) -> None:
        by_target = np.argsort(target, kind="stable")
        self._source = source[by_target]
        self._target, self._first = np.unique(target[by_target], return_index=True)

    def __len__(self) -> int:
        return len(self._source)

    def apply(
        self, bits: npt.NDArray[np.uint64], to: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.uint64]:
        """Pass on `bits`, adding them to those of `to`, which is returned."""
        if not len(self):
            return to
        to[self._target] |= np.bitwise_or.reduceat(
            bits[self._source], self._first, axis=0
        )
        return to
