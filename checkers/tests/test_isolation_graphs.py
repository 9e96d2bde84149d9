"""Components and classes of cycles, against networkx and all cycles that there are."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from checkers.isolation import walks
from checkers.isolation.components import components
from checkers.isolation.cycles import CycleSearch
from checkers.isolation.graph import NOTHING, Edges, Graph, Kind
from checkers.isolation.models import LEVELS
from checkers.isolation.walks import Region, Walk, classify
from checkers.tests.histories import FEWER, MANY

if TYPE_CHECKING:
    from collections.abc import Sequence

EdgeList = list[tuple[int, int, Kind]]


@st.composite
def graphs(draw: st.DrawFn, kinds: Sequence[Kind], vertices: int = 6) -> EdgeList:
    """Edges of a small graph; process and realtime edges have no cycle of their own."""
    pairs = st.tuples(
        st.integers(0, vertices - 1),
        st.integers(0, vertices - 1),
        st.sampled_from(kinds),
    )
    edges = draw(st.lists(pairs, max_size=14))
    return [
        (a, b, kind)
        for a, b, kind in edges
        if a != b and (a < b or kind not in {Kind.PROCESS, Kind.REALTIME})
    ]


def to_graph(edges: EdgeList, vertices: int = 6) -> Graph:
    """As the search wants it, with potentials that tell nothing."""
    columns = np.array([(a, b, k) for a, b, k in edges], np.int64).reshape(-1, 3).T
    via = np.full(len(edges), NOTHING, np.int64)
    table = Edges(columns[0], columns[1], columns[2].astype(np.int8), via)
    return Graph(vertices, np.arange(vertices), table)


def shortest_of_each_class(edges: EdgeList) -> dict[str, int]:
    """The classes of all cycles, found one by one, and the length of the shortest."""
    kinds: dict[tuple[int, int], set[Kind]] = defaultdict(set)
    for a, b, kind in edges:
        kinds[a, b].add(kind)
    shortest: dict[str, int] = {}
    for cycle in nx.simple_cycles(nx.DiGraph(list(kinds))):
        steps = list(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
        choices: list[tuple[Kind, ...]] = [()]
        for a, b in steps:
            choices = [(*c, kind) for c in choices for kind in kinds[a, b]]
        for name in map(classify, choices):
            shortest[name] = min(shortest.get(name, len(cycle)), len(cycle))
    return shortest


@MANY
@given(st.data(), st.integers(1, 40))
def test_components_are_those_of_networkx(data: st.DataObject, size: int) -> None:
    vertex = st.integers(0, size - 1)
    edges = data.draw(st.lists(st.tuples(vertex, vertex), max_size=3 * size))
    guess = data.draw(st.lists(st.integers(0, 50), min_size=size, max_size=size))
    ends = np.array(edges, np.int64).reshape(-1, 2)
    found = components(ends[:, 0], ends[:, 1], np.array(guess, np.int64))
    expected = nx.strongly_connected_components(nx.DiGraph(edges))
    assert {frozenset(c.tolist()) for c in found} == {
        frozenset(c) for c in expected if len(c) > 1
    }


@MANY
@given(graphs(list(Kind)[:5]), st.sampled_from(range(3)), st.booleans())
def test_every_class_of_cycles_is_found_with_a_shortest_example(
    edges: EdgeList, level: int, abreast: bool
) -> None:
    kept = [(a, b, k) for a, b, k in edges if k < (Kind.PROCESS + level)]
    there = shortest_of_each_class(kept)
    search = CycleSearch(to_graph(kept), lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walks, "FEW", 0 if abreast else walks.FEW)
        search.run(level)
    found = {name: len(cycles[0].steps) for name, cycles in search.found.items()}
    event(f"level {level}: {len(there)} classes")
    assert found == there


@FEWER
@given(graphs(list(Kind)[:5]))
def test_examples_are_cycles_of_the_graph_of_the_class_they_stand_for(
    edges: EdgeList,
) -> None:
    search = CycleSearch(to_graph(edges), lambda: None)
    search.run(2)
    for name, cycles in search.found.items():
        for cycle in cycles:
            steps = cycle.steps
            assert classify([step.kind for step in steps]) == name
            assert len({step.source for step in steps}) == len(steps)
            for i, step in enumerate(steps):
                assert (step.source, step.target, step.kind) in edges
                assert steps[i - 1].target == step.source


def test_a_stale_read_far_back_is_found_through_the_timeline() -> None:
    count = 500
    ends = np.arange(count)
    timeline = count + ends
    edges = [(i, count + i, Kind.REALTIME) for i in range(count)]
    edges += [(count + i, count + i + 1, Kind.PASS) for i in range(count - 1)]
    edges += [(count + i, i + 1, Kind.PASS) for i in range(count - 1)]
    edges.append((count - 1, 7, Kind.RW))
    columns = np.array(edges, np.int64).T
    table = Edges(
        columns[0],
        columns[1],
        columns[2].astype(np.int8),
        np.full(len(edges), NOTHING, np.int64),
    )
    potential = np.concatenate([2 * ends, 2 * (timeline - count) + 1])
    search = CycleSearch(Graph(count, potential, table), lambda: None)
    search.run(2)
    (cycle,) = search.found["G-single-item" + LEVELS[2]]
    assert [(s.source, s.target, s.kind) for s in cycle.steps] == [
        (count - 1, 7, Kind.RW),
        (7, count - 1, Kind.REALTIME),
    ]


WALKS = (
    Walk(None, rw_max=0),
    Walk(None, rw_min=1, rw_max=1),
    Walk(None, rw_min=2, after=(Kind.RW,)),
    Walk(None, rw_min=1, after=(Kind.RW, Kind.WW)),
    Walk(Kind.PROCESS, rw_min=1, rw_max=1),
    Walk(Kind.REALTIME, rw_min=1, rw_max=1),
    Walk(Kind.REALTIME, rw_min=2, after=(Kind.RW,)),
)


def in_real_time(seed: int, count: int, clients: int, stale: int) -> Graph:
    """Transactions of several clients in real time, some of which depend on later ones.

    Others depend on what came shortly before, in every way.
    """
    rng = random.Random(seed)
    edges: list[tuple[int, int, Kind]] = []
    edges += [(count + i, count + i + 1, Kind.PASS) for i in range(count - 1)]
    for i in range(count):
        edges.append((i, count + i, Kind.REALTIME))
        if i >= clients:
            edges.append((count + i - clients, i, Kind.PASS))
            edges.append((i - clients, i, Kind.PROCESS))
        for _ in range(2 if i else 0):
            kind = rng.choice([Kind.WW, Kind.WR, Kind.RW])
            edges.append((max(0, i - rng.randint(1, 30)), i, kind))
    for _ in range(stale):
        a, b = sorted(rng.sample(range(count), 2))
        edges.append((b, a, rng.choice([Kind.RW, Kind.RW, Kind.WR])))
    columns = np.array(edges, np.int64).T
    via = np.full(len(edges), NOTHING, np.int64)
    table = Edges(columns[0], columns[1], columns[2].astype(np.int8), via)
    return Graph(count, np.tile(np.arange(count), 2), table)


@pytest.mark.parametrize("seed", range(6))
def test_searches_side_by_side_find_what_one_after_the_other_finds(seed: int) -> None:
    """In a component of some hundred transactions, for walks of every kind."""
    graph = in_real_time(seed, count=200, clients=1 + 3 * seed, stale=3)
    ends = graph.edges.source, graph.edges.target
    members = max(components(*ends, graph.potential), key=len)
    inside = np.isin(ends[0], members) & np.isin(ends[1], members)
    region = Region(graph.edges.where(inside))
    for walk in WALKS:
        kinds = {Kind.RW} if walk.rw_min else {Kind.WW, Kind.WR}
        starts = [i for i, kind in enumerate(region.kind) if kind in kinds]
        limit = len(region.kind) + 1
        found = [region.search(start, walk, limit)[0] for start in starts]
        lengths = [region.length(path) for path in found if path]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(walks, "FEW", 0)
            path, is_sure = region.shortest(starts, walk, lambda: None)
        assert is_sure
        if lengths:
            assert region.length(path) == min(lengths), (seed, walk)
        else:
            assert not path, (seed, walk)
