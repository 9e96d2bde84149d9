"""Strongly connected components, found by looking only where there can be any.

Tarjan's algorithm (1972) visits every edge in Python, which is slow for millions. But a
dependency graph of a correct database is acyclic and nearly sorted already. So vertices
are first put into an order that few edges contradict:

1. Each vertex has a potential, a guess from when it happened. An edge whose target is
   not above its source lifts the target just above it, all edges at once in numpy, a
   few dozen times. In a strictly serializable history a chain of such corrections links
   transactions that were all open at one instant, so as many rounds as there are
   clients suffice, and then no edge contradicts the order: it is a proof that there is
   no cycle.
2. Otherwise, every cycle has an edge that goes backward, and lies within a stretch of
   the order that backward edges cover without a gap. Tarjan sees those stretches alone.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Column = npt.NDArray[np.int64]

ROUNDS_MAX = 64


def components(
    source: Column, target: Column, potential: Column
) -> list[npt.NDArray[np.int64]]:
    """The components of two or more vertices, each as an array of vertices.

    Args:
        source: Where each edge begins.
        target: Where each edge ends.
        potential: A guess at each vertex's place in a topological order.

    Cost: linear; a few ms for each 100,000 edges when the guess is good.
    """
    rank = _ranks(source, target, potential)
    backward = rank[source] > rank[target]
    if not backward.any():
        return []
    stretch = _stretches(rank[target[backward]], rank[source[backward]], len(rank))
    block = stretch[rank]
    inside = block[source] == block[target]
    return list(_tarjan(source[inside], target[inside]))


def order_of(source: Column, target: Column, potential: Column) -> Column | None:
    """Each vertex's place in a topological order close to that of `potential`.

    Cost: linear, much less when the guess is good.

    Returns:
        None if there is a cycle.
    """
    rank = _ranks(source, target, potential)
    if (rank[source] > rank[target]).any():
        return _sorted(source, target, rank)
    return rank


def _sorted(source: Column, target: Column, rank: Column) -> Column | None:
    """Each vertex's place in the topological order that is first by `rank`."""
    size = len(rank)
    missing = np.bincount(target, minlength=size).tolist()
    by_source = np.argsort(source, kind="stable")
    first = np.searchsorted(source[by_source], np.arange(size + 1)).tolist()
    targets = target[by_source].tolist()
    ranks = rank.tolist()
    ready = [(ranks[v], v) for v in range(size) if not missing[v]]
    heapq.heapify(ready)
    place = np.zeros(size, np.int64)
    for count in range(size):
        if not ready:
            return None
        _, vertex = heapq.heappop(ready)
        place[vertex] = count
        for following in targets[first[vertex] : first[vertex + 1]]:
            missing[following] -= 1
            if not missing[following]:
                heapq.heappush(ready, (ranks[following], following))
    return place


def shortest_cycle(
    successors: dict[int, list[int]], starts: Sequence[int]
) -> list[int]:
    """A shortest cycle through the first of `starts` that has one."""
    for start in starts:
        parent = {start: start}
        queue = [start]
        for vertex in queue:  # grows while it is walked
            for successor in successors[vertex]:
                if successor == start:
                    path = [vertex]
                    while path[-1] != start:
                        path.append(parent[path[-1]])
                    return path[::-1]
                if successor not in parent:
                    parent[successor] = vertex
                    queue.append(successor)
    raise AssertionError("a component without a cycle")


def _ranks(source: Column, target: Column, potential: Column) -> Column:
    """Each vertex's place in an order that few edges contradict."""
    height = potential.copy()
    tails, heads = source, target
    for _ in range(ROUNDS_MAX):
        wrong = height[tails] >= height[heads]
        if not wrong.any():
            break
        lifted = heads[wrong]
        np.maximum.at(height, lifted, height[tails[wrong]] + 1)
        # Only an edge out of a lifted vertex can be wrong in the next round.
        moved = np.zeros(len(height), np.bool_)
        moved[lifted] = True
        again = moved[source]
        tails, heads = source[again], target[again]
    rank = np.empty(len(height), np.int64)
    rank[np.argsort(height, kind="stable")] = np.arange(len(height))
    return rank


def _stretches(low: Column, high: Column, size: int) -> Column:
    """Number of the stretch of each place, where [low, high] are joined.

    Stretches are maximal unions of the intervals; a place in none is one by itself.
    """
    joins = np.bincount(low, minlength=size + 1) - np.bincount(high, minlength=size + 1)
    joined_to_next = np.cumsum(joins)[:size] > 0
    begins = np.ones(size, np.bool_)
    begins[1:] = ~joined_to_next[:-1]
    return np.cumsum(begins)


def _tarjan(source: Column, target: Column) -> Iterator[npt.NDArray[np.int64]]:
    """Components of two or more vertices of the graph of these edges alone."""
    names, ends = np.unique(np.concatenate([source, target]), return_inverse=True)
    tails, heads = ends[: len(source)], ends[len(source) :]
    order = np.argsort(tails, kind="stable")
    first = np.searchsorted(tails[order], np.arange(len(names) + 1)).tolist()
    successors = heads[order].tolist()
    for component in _tarjan_lists(first, successors):
        yield names[np.array(component, np.int64)]


def _tarjan_lists(first: list[int], successors: list[int]) -> Iterator[list[int]]:
    """Tarjan's algorithm without recursion.

    Args:
        first: Vertex -> where its successors begin; one more entry at the end.
        successors: Of all vertices, one after the other.
    """
    count = len(first) - 1
    done = count + 1  # above every index: a finished vertex never lowers a low link
    low = [0] * count  # 0: not visited
    cursor = first[:-1]
    stack: list[int] = []
    clock = 0
    for root in range(count):
        if low[root]:
            continue
        path = [root]
        entered = [clock := clock + 1]
        low[root] = clock
        stack.append(root)
        while path:
            vertex = path[-1]
            at = cursor[vertex]
            lowest = low[vertex]
            descend = -1
            for at in range(cursor[vertex], first[vertex + 1]):
                successor = successors[at]
                link = low[successor]
                if link == 0:
                    descend = successor
                    cursor[vertex] = at
                    break
                if link < lowest:
                    lowest = link
            low[vertex] = lowest
            if descend >= 0:
                clock += 1
                low[descend] = clock
                path.append(descend)
                entered.append(clock)
                stack.append(descend)
                continue
            path.pop()
            if entered.pop() == lowest:
                component = []
                while True:
                    member = stack.pop()
                    low[member] = done
                    component.append(member)
                    if member == vertex:
                        break
                if len(component) > 1:
                    yield component
