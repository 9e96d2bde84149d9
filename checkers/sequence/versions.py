"""The four session guarantees (Terry et al. 1994), judged for each key by itself.

A session may rely on four things: its reads never go back (monotonic reads), its reads
show its own writes (read your writes), its writes come after what it has read (writes
follow reads), and its writes stay in order (monotonic writes).

Each says of two versions of a key that one comes after the other. If all hold, there is
an order of each key's versions that agrees with everything that sessions saw; if what
they saw goes in a circle, there is none, and the circle is the proof. The guarantee
that is named is the one of the session that saw it; strictly, one of those in the
circle is broken, and nobody can tell which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    import networkx as nx

    from checkers.sequence.calls import Call, Calls, Version

MONOTONIC_READS = "monotonic-reads"
READ_YOUR_WRITES = "read-your-writes"
WRITES_FOLLOW_READS = "writes-follow-reads"
MONOTONIC_WRITES = "monotonic-writes"
INITIAL = "initial"

GUARANTEES = {
    ("read", "read"): MONOTONIC_READS,
    ("write", "read"): READ_YOUR_WRITES,
    ("read", "write"): WRITES_FOLLOW_READS,
    ("write", "write"): MONOTONIC_WRITES,
}
"""What a session's two accesses of a key, in this order, rest on."""

BY_NAME = (
    MONOTONIC_READS,
    READ_YOUR_WRITES,
    WRITES_FOLLOW_READS,
    MONOTONIC_WRITES,
)
"""The guarantees in the order in which they name a circle: reads notice first."""


class Access(NamedTuple):
    """A session touched a version of a key: "read" or "write", in that call."""

    how: str
    version: Version
    call: int


class Step(NamedTuple):
    """A session's reason for one version to come after another."""

    before: Version
    after: Version
    guarantee: str
    first: int
    second: int


def circles(calls: Calls) -> Iterator[list[Step]]:
    """For each key whose versions can't be ordered, a shortest circle of reasons.

    Cost: linear in the calls, but for keys that are broken.
    """
    import networkx as nx

    for steps in by_key(calls).values():
        # Vertices are numbers: a walk over them is the same in every process.
        graph: nx.DiGraph[int] = nx.DiGraph()
        for step in steps:
            a, b = (calls.writer.get(v, -1) for v in (step.before, step.after))
            if not graph.has_edge(a, b):
                graph.add_edge(a, b, step=step)
        tangled = [c for c in nx.strongly_connected_components(graph) if len(c) > 1]
        if tangled:
            circle = shortest_circle(graph, min(tangled, key=min))
            found = [graph.edges[a, b]["step"] for a, b in circle]
            first = min(range(len(found)), key=lambda i: found[i].second)
            yield found[first:] + found[:first]


def by_key(calls: Calls) -> dict[Hashable, list[Step]]:
    """What sessions rely on, for each key."""
    steps: dict[Hashable, list[Step]] = {}
    for positions in calls.sessions.values():
        last: dict[Hashable, Access] = {}
        for position in positions:
            for access in accesses(calls.calls[position], position):
                key = access.version[0]
                before = last.get(key)
                if before is not None and before.version != access.version:
                    guarantee = GUARANTEES[before.how, access.how]
                    steps.setdefault(key, []).append(
                        Step(
                            before.version,
                            access.version,
                            guarantee,
                            before.call,
                            position,
                        )
                    )
                last[key] = access
    for version, writer in calls.writer.items():
        first: Version = (version[0], None)
        known = steps.setdefault(version[0], [])
        known.append(Step(first, version, INITIAL, writer, writer))
    return steps


def writers_before(calls: Calls) -> list[list[int]]:
    """For each call that writes, those whose version of the key comes before its own.

    Only what a single session shows is taken into account, which is cheap.
    """
    before: list[set[int]] = [set() for _ in calls.calls]
    for steps in by_key(calls).values():
        for step in steps:
            older = calls.writer.get(step.before)
            newer = calls.writer.get(step.after)
            if older is not None and newer is not None:
                before[newer].add(older)
    return [sorted(others) for others in before]


def accesses(call: Call, position: int) -> Iterator[Access]:
    """What a call does to its key; a cas reads, and then writes."""
    if call.sees is not None:
        yield Access("read", call.sees, position)
    if call.makes is not None:
        yield Access("write", call.makes, position)


def shortest_circle(
    graph: nx.DiGraph[int], component: set[int]
) -> list[tuple[int, int]]:
    """The edges of a shortest cycle through one of a strong component's vertices."""
    import networkx as nx

    best: list[int] = []
    for start in sorted(component)[:STARTS_MAX]:
        for successor in sorted(component & graph.succ[start].keys()):
            path = nx.shortest_path(graph, successor, start)
            if not best or len(path) < len(best):
                best = path
    return list(zip(best, [*best[1:], best[0]], strict=True))


STARTS_MAX = 20
"""Vertices from which a shortest cycle is looked for."""


def broken_guarantee(circle: Iterable[Step]) -> str:
    """The guarantee by which a circle is named."""
    kinds = {step.guarantee for step in circle}
    return next(name for name in BY_NAME if name in kinds)
