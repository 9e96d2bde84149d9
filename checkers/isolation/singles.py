"""Which rw edges are on a cycle without another rw edge, whatever its length.

A search from each single edge may have to be cut short. This decides for all edges
together, by reachability in words of bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.components import components
from checkers.isolation.graph import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from checkers.isolation.graph import Column
    from checkers.isolation.walks import Region

WORD_BITS = 8192
"""Targets whose reachability is computed at a time; a few MB for 100,000 vertices."""


def rw_in_cycles_without_another(
    region: Region, pause: Callable[[], None]
) -> list[int]:
    """The rw edges whose target reaches their source by other edges.

    Cost: edges times rw edges / `WORD_BITS`.
    """
    kind = np.array(region.kind, np.int8)
    rw = np.flatnonzero(kind == Kind.RW)
    others = np.flatnonzero(kind != Kind.RW)
    source = np.array(region.source, np.int64)
    target = np.array(region.target, np.int64)
    group, order = _condense(source[others], target[others], len(region.names))
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
        reached_from = [0] * len(region.names)
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
