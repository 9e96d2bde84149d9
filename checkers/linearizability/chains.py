"""Chains: decides registers with cas whose written values all differ, in O(n log n).

Zones (Gibbons and Korach 1997, section 4; `zones`) for registers that also change by
compare-and-set. With every value written once, by a write or by a cas, all operations
on a value still form a *cluster*, contiguous in a linear order. A cas from u to v ends
the cluster of u and begins that of v, so v's cluster follows u's directly. Clusters
linked in this way form a *chain*, which begins with a write, or with the initial value,
and is contiguous as a whole. The history is linearizable iff

1. every value that is read, or expected by a cas, was written;
2. no two cas expect one value, and following them backwards from any value ends;
3. inside each chain the order fits real time: its stages are write, reads of the first
   value, cas, reads of the second, and so on, and no operation returned before one of
   an earlier stage was invoked (those of one stage may go in any order);
4. no two chains must each precede the other, that is, with min_return and max_invoke
   over all operations of a chain:
   not (min_return(A) < max_invoke(B) and min_return(B) < max_invoke(A)).

Why 4 is enough: let A -> B when min_return(A) < max_invoke(B). On a shortest cycle let
A be the chain with the smallest min_return. The others' predecessors return later, so
A -> B for every B, also for the one before A on the cycle, and these two are a cycle.
Without cycles the chains have an order, and their operations follow each other in it.
Rule 4 is tested as for zones: only neighbours among the forward zones, and each
backward zone against the forward zone that it may lie inside.

A write or cas that never returned is needed iff its value was read, or expected by a
cas that is needed; the others need not have happened. A cas from a value to itself is a
read. If a refused cas is an answer, the key is left to the search: such a cas may stand
anywhere but in one cluster.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from checkers.linearizability.budget import insist, paced
from checkers.linearizability.calls import NEVER, Call, operations, position
from checkers.linearizability.evidence import (
    CasCircle,
    Conflict,
    ImpossibleError,
    Interleaved,
    OutOfStage,
    ReplacedTwice,
    Unwritten,
    completed_at,
)
from checkers.linearizability.specification import Operation, show

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from checkers.linearizability.accesses import Mask
    from checkers.linearizability.budget import Patience
    from checkers.linearizability.calls import CallTable
    from checkers.linearizability.specification import Model

BEGINNING: Final = -1
"""When the initial value was written: before everything else."""

CHANGES: Final = frozenset({"write", "cas"})

NOTHING: Final = -1
"""The number of the value that an operation writes, if it writes none."""


def misfit(model: Model, calls: Sequence[Call], patience: Patience) -> str:
    """Why the written values can't be told apart; empty when they can."""
    writers: dict[Hashable, int] = {}
    for n, operation in enumerate(paced(operations(calls), patience)):
        f, argument, result = operation
        if f not in {"read", *CHANGES}:
            what = "append" if f in model.appends else "refused cas"
            return f"op {position(calls, n)} is {what}"
        if f == "read" or (f == "cas" and argument == result):
            continue
        value = argument if f == "write" else result
        if value == model.initial:
            at = position(calls, n)
            return f"op {at} writes {show(value)}, the initial value, again"
        if value in writers:
            return (
                f"{show(value)} is written twice, in ops "
                f"{position(calls, writers[value])} and {position(calls, n)}"
            )
        writers[value] = n
    return ""


def fits(model: Model, table: CallTable) -> Mask:
    """By key number, whether the written values can be told apart.

    As `misfit` of each key, but for all at once. Cost: a sort, in numpy.
    """
    values: dict[Hashable, int] = {model.initial: 0}
    alien = np.zeros(len(table.operations), np.bool_)
    written = np.full(len(table.operations), NOTHING)
    for n, (f, argument, result) in enumerate(table.operations):
        alien[n] = f not in {"read", *CHANGES}
        if f == "write" or (f == "cas" and argument != result):
            value = argument if f == "write" else result
            written[n] = values.setdefault(value, len(values))
    number = written[table.operation]
    fit = np.ones(len(table.keys), np.bool_)
    fit[table.key[alien[table.operation] | (number == 0)]] = False
    (writes,) = np.nonzero(number > 0)
    pairs = np.sort(table.key[writes] * len(values) + number[writes])
    fit[pairs[1:][pairs[1:] == pairs[:-1]] // len(values)] = False
    return fit


def decide(calls: Sequence[Call], model: Model, patience: Patience) -> Conflict | None:
    """What is wrong with the calls on one register, or None.

    Raises:
        LimitExceeded: `patience` came to its end.
    """
    try:
        chains = link(group(calls, model.initial, patience), patience)
        for chain in paced(chains, patience):
            in_order(chain)
        insist(patience)
        apart(chains, patience)
    except ImpossibleError as problem:
        return problem.conflict
    return None


# Clusters and chains


@dataclass(slots=True)
class Cluster:
    """All operations on one value.

    Attributes:
        value: The value.
        writer: Its write or cas; None for the initial value, or if there is none.
        reads: The reads that returned it, and cas from it to itself.
        next: The cas that expect it and are needed.
        initial: True for the initial value.
    """

    value: Hashable
    writer: Call | None = None
    reads: list[Call] = field(default_factory=list)
    next: list[Call] = field(default_factory=list)
    initial: bool = False


def group(
    calls: Sequence[Call], initial: Hashable, patience: Patience
) -> dict[Hashable, Cluster]:
    """The clusters of all values that certainly came about. Cost: linear.

    Raises:
        ImpossibleError: A value was read or expected that was not written, or two cas
            replaced one value.
    """
    clusters = {initial: Cluster(initial, initial=True)}

    def cluster(value: Hashable) -> Cluster:
        found = clusters.get(value)
        if found is None:
            found = clusters[value] = Cluster(value)
        return found

    for call in paced(calls, patience):
        f, argument, result = call.operation
        if f == "read" or (f == "cas" and argument == result):
            if call.returned != NEVER:
                cluster(result).reads.append(call)
        else:
            cluster(argument if f == "write" else result).writer = call

    # Needed are values whose writer returned, that were read, or that a needed cas
    # expects.
    todo = [c for c in clusters.values() if c.reads or returned(c.writer)]
    needed = {c.value: c for c in todo} | {initial: clusters[initial]}
    while todo:
        now = todo.pop()
        if now.writer is None or now.writer.operation.f != "cas":
            continue
        before = cluster(now.writer.operation.argument)
        before.next.append(now.writer)
        if before.value not in needed:
            needed[before.value] = before
            todo.append(before)
    flaws = [flaw for c in needed.values() if (flaw := flawed(c, needed))]
    if flaws:
        raise ImpossibleError(min(flaws, key=completed_at))
    return needed


def returned(call: Call | None) -> bool:
    """Whether there is such a call and it returned."""
    return call is not None and call.returned != NEVER


def link(needed: Mapping[Hashable, Cluster], patience: Patience) -> list[list[Cluster]]:
    """The chains, each from its head on. Cost: linear.

    Raises:
        ImpossibleError: Some clusters follow one another in a circle.
    """
    chains = []
    linked: set[Hashable] = set()
    for head in paced(needed.values(), patience):
        if not head.initial and head.writer and head.writer.operation.f == "cas":
            continue
        chain = [head]
        while chain[-1].next:
            chain.append(needed[chain[-1].next[0].operation.result])
        linked.update(c.value for c in chain)
        chains.append(chain)
    lost = next((c for c in needed.values() if c.value not in linked), None)
    if lost is not None:
        raise ImpossibleError(circular(lost, needed))
    return chains


def in_order(chain: Sequence[Cluster]) -> None:
    """Make sure that the order inside a chain fits real time (rule 3).

    Raises:
        ImpossibleError: An operation returned before one of an earlier stage began.
    """
    latest: tuple[int, Call] | None = None
    for n, cluster in enumerate(chain):
        writer = [] if cluster.writer is None else [cluster.writer]
        for stage in (writer, cluster.reads):
            for call in stage:
                if latest is not None and call.returned < latest[1].invoked:
                    raise ImpossibleError(backwards(chain, n, call, *latest))
            for call in stage:
                if latest is None or call.invoked > latest[1].invoked:
                    latest = n, call


@dataclass(frozen=True)
class Zone:
    """A chain's extent: where it begins to be certain, and where it ceases to be.

    Attributes:
        chain: Its clusters.
        first: Its call that returned first, with the number of its cluster.
        last: Its call that was invoked last, with the number of its cluster.
        min_return, max_invoke: When that return and that invocation were.
    """

    chain: Sequence[Cluster]
    first: tuple[int, Call | None]
    last: tuple[int, Call | None]
    min_return: int
    max_invoke: int


def zone(chain: Sequence[Cluster]) -> Zone:
    """The zone of a chain. Cost: linear."""
    first: tuple[int, Call | None] = 0, None
    last: tuple[int, Call | None] = 0, None
    low, high = (BEGINNING, BEGINNING) if chain[0].initial else (NEVER, BEGINNING - 1)
    for n, cluster in enumerate(chain):
        writer = [] if cluster.writer is None else [cluster.writer]
        for call in (*writer, *cluster.reads):
            if call.returned < low:
                low, first = call.returned, (n, call)
            if call.invoked > high:
                high, last = call.invoked, (n, call)
    return Zone(chain, first, last, low, high)


def apart(chains: Sequence[Sequence[Cluster]], patience: Patience) -> None:
    """Make sure that no two chains must each precede the other (rule 4).

    Raises:
        ImpossibleError: Two chains must each precede the other.
    """
    zones = [zone(chain) for chain in paced(chains, patience)]
    forward = sorted(
        (z for z in zones if z.min_return < z.max_invoke), key=lambda z: z.min_return
    )
    pairs = list(pairwise(forward))
    starts = [z.min_return for z in forward]
    for z in paced(zones, patience):
        if z.min_return >= z.max_invoke:
            place = bisect_left(starts, z.max_invoke) - 1
            if place >= 0:
                pairs.append((forward[place], z))
    bad = [
        (a, b)
        for a, b in pairs
        if a.min_return < b.max_invoke and b.min_return < a.max_invoke
    ]
    if bad:
        a, b = min(bad, key=lambda ab: max(ab[0].max_invoke, ab[1].max_invoke))
        raise ImpossibleError(interleaved(a, b))


# What is wrong


def as_write(call: Call) -> Call:
    """The call as a mere write of its value, whatever was there before."""
    f, _, result = call.operation
    if f != "cas":
        return call
    return call._replace(operation=Operation("write", result))


def proof(cluster: Cluster, needed: Mapping[Hashable, Cluster]) -> list[Call]:
    """Calls that show that a value came about.

    If its writer did not return, they are a read of it, or a cas that expects it with
    the proof of what that cas wrote.
    """
    out: list[Call] = []
    while not returned(cluster.writer):
        out += [cluster.writer] if cluster.writer is not None else []
        if cluster.reads:
            return [*out, min(cluster.reads, key=lambda call: call.returned)]
        if not cluster.next:
            return out
        cluster = needed[cluster.next[0].operation.result]
    assert cluster.writer is not None
    return [*out, cluster.writer]


def flawed(cluster: Cluster, needed: Mapping[Hashable, Cluster]) -> Conflict | None:
    """What is wrong with one value by itself: rule 1, and the first half of rule 2."""
    if cluster.writer is None and not cluster.initial:
        return unwritten(cluster, needed)
    if len(cluster.next) > 1:
        return replaced_twice(cluster, needed)
    return None


def unwritten(cluster: Cluster, needed: Mapping[Hashable, Cluster]) -> Conflict:
    """A value was read or expected that nobody wrote."""
    users = [*cluster.reads, *cluster.next]
    first = min(users, key=lambda call: call.returned)
    calls = [first]
    if first.returned == NEVER:
        calls = proof(needed[first.operation.result], needed)
    return Conflict(Unwritten(first), tuple(calls))


def replaced_twice(cluster: Cluster, needed: Mapping[Hashable, Cluster]) -> Conflict:
    """Two cas replaced one value, which was written once."""
    first, second = sorted(cluster.next, key=lambda call: call.returned)[:2]
    calls = [
        call
        for cas in (first, second)
        for call in proof(needed[cas.operation.result], needed)
    ]
    if cluster.writer is not None and cluster.writer not in calls:
        calls.append(as_write(cluster.writer))
    return Conflict(ReplacedTwice(first, second, cluster.value), merged(calls))


def circular(lost: Cluster, needed: Mapping[Hashable, Cluster]) -> Conflict:
    """Following cas backwards from a value leads round in a circle."""
    circle: dict[Hashable, Call] = {}
    value = lost.value
    while value not in circle:
        writer = needed[value].writer
        assert writer is not None
        circle[value] = writer
        value = writer.operation.argument
    calls = [call for v in circle for call in (circle[v], *proof(needed[v], needed))]
    latest = max(circle.values(), key=lambda call: call.position)
    evidence = CasCircle(latest, tuple(reversed(circle)))
    return Conflict(evidence, tuple(dict.fromkeys(calls)))


def path(chain: Sequence[Cluster], low: int, high: int) -> list[Call]:
    """The write of value number `low`, and the cas from there to number `high`."""
    writer = chain[low].writer
    links = [c.writer for c in chain[low + 1 : high + 1] if c.writer is not None]
    return [*([] if writer is None else [as_write(writer)]), *links]


def merged(calls: Iterable[Call]) -> tuple[Call, ...]:
    """Calls without repetition, the first mention of each, in order of invocation."""
    by_position: dict[int, Call] = {}
    for call in calls:
        by_position.setdefault(call.position, call)
    return tuple(sorted(by_position.values(), key=lambda call: call.position))


def backwards(
    chain: Sequence[Cluster], n: int, early: Call, m: int, late: Call
) -> Conflict:
    """`early` is of a later stage than `late`, and returned before `late` began."""
    evidence = OutOfStage(early, late, chain[m].value, n == m)
    return Conflict(evidence, merged([*path(chain, m, n), early, late]))


def interleaved(a: Zone, b: Zone) -> Conflict:
    """Two chains must each precede the other."""
    if a.last[1] is None or b.first[1] is None:
        a, b = b, a
    if a.last[1] is None or b.first[1] is None:
        raise AssertionError("chains without calls are never in conflict")
    calls: list[Call] = []
    for z in (a, b):
        ends = [z.first[0] if z.first[1] else 0, z.last[0] if z.last[1] else 0]
        calls += path(z.chain, min(ends), max(ends))
        calls += [call for _, call in (z.first, z.last) if call is not None]
        calls += latest_proof(z)
    value = a.chain[a.last[0]].value
    evidence = Interleaved(a.last[1], b.first[1], value, a.first[1], b.last[1])
    return Conflict(evidence, merged(calls))


def latest_proof(z: Zone) -> list[Call]:
    """Calls that show that a zone's last call took effect, if it did not return."""
    n, last = z.last
    if last is None or last.returned != NEVER:
        return []
    out: list[Call] = []
    for cluster in z.chain[n:]:
        out += [] if cluster.writer is None else [cluster.writer]
        if returned(cluster.writer):
            break
        if cluster.reads:
            out.append(cluster.reads[0])
            break
    return out
