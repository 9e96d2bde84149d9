"""Zones: decides registers whose written values all differ, in O(n log n).

Gibbons and Korach, "Testing shared memories" (1997), section 4. All operations on one
value form its *cluster*: the write and the reads that returned it. In a linear order a
cluster is contiguous, since after the next write the value never comes back. Two
clusters conflict iff each has an operation that must precede one of the other's:

    min_return(A) < max_invoke(B)  and  min_return(B) < max_invoke(A)

A cluster with min_return < max_invoke has a *forward zone* between the two, any other a
*backward zone* [max_invoke, min_return]. So a history is linearizable iff every value
read was written, no read returned before its write was invoked, no two forward zones
overlap, and no backward zone lies inside a forward zone.

Here all keys are decided in one pass over numpy columns. Which keys qualify is found on
the way: no other operation than read and write, no value written twice, none equal to
the initial value. The others are left to the search.

Pending reads are dropped; a pending write that nobody read too, since it need never
happen; a pending write that was read returns never. The initial value is a write that
returned before everything else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from checkers.linearizability.accesses import Column, Columns, Mask, calls_on, columns
from checkers.linearizability.arguments import replaced_cluster
from checkers.linearizability.broken import ByZones, Violation
from checkers.linearizability.calls import NEVER, sorted_by
from checkers.linearizability.evidence import Replaced, Unwritten
from harness.history.columns import grouped

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from checkers.linearizability.broken import Flaw
    from checkers.linearizability.calls import Call
    from checkers.linearizability.specification import Model
    from harness.history import History

BEGINNING: Final = -1
"""Position of the virtual write of the initial value."""

SPARSE: Final = 4
"""Numbers for each call, up to which things are counted rather than sorted."""


class Zones(NamedTuple):
    """The outcome: key numbers that qualified, and one violation for each bad one."""

    decided: Column
    violations: dict[int, Violation]


# Zones


@dataclass(frozen=True)
class Clusters:
    """One row per key and value.

    Attributes:
        key, value: Numbers.
        writes: How many writes the value has, the virtual one included.
        written: Invocation of its write; meaningful where there is exactly one.
        min_return, max_invoke: Over all operations of the cluster.
    """

    key: Column
    value: Column
    writes: Column
    written: Column
    min_return: Column
    max_invoke: Column

    def where(self, mask: Mask | Column) -> Clusters:
        """The rows selected by `mask`; itself, if these are all."""
        if mask.dtype == np.bool_ and mask.all():
            return self
        return Clusters(
            self.key[mask],
            self.value[mask],
            self.writes[mask],
            self.written[mask],
            self.min_return[mask],
            self.max_invoke[mask],
        )


def clusters(table: Columns) -> Clusters:
    """Group the calls by key and value. Cost: 50 ns a call; nothing is sorted."""
    virtual = len(table.keys)  # writes of the initial value
    key = np.concatenate([np.arange(virtual), table.key])
    value = np.concatenate([np.zeros(virtual, np.int64), table.value])
    wrote = np.concatenate([np.ones(virtual, np.bool_), table.wrote])
    beginnings = np.full(virtual, BEGINNING)
    invoked = np.concatenate([beginnings, table.invoked])
    returned = np.concatenate([beginnings, table.returned])

    name, count = names(key, value, wrote, table.values)
    writes = np.bincount(name[wrote], minlength=count)
    written = np.zeros(count, np.int64)
    written[name[wrote]] = invoked[wrote]
    min_return = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(min_return, name, returned)
    max_invoke = np.full(count, BEGINNING)
    np.maximum.at(max_invoke, name, invoked)
    key_of, value_of = np.zeros(count, np.int64), np.full(count, -1)
    key_of[name], value_of[name] = key, value
    every = Clusters(key_of, value_of, writes, written, min_return, max_invoke)
    return every.where(value_of >= 0)


def names(key: Column, value: Column, wrote: Mask, values: int) -> tuple[Column, int]:
    """A number for each call's pair of key and value, and how many there may be.

    Where pairs are too many to count through, most values are written under one key
    only. There the value alone will do as a name, and the other pairs get more names.
    """
    keys = int(key.max(initial=0)) + 1
    if keys * values <= SPARSE * len(key):
        return key * values + value, keys * values
    home = np.full(values, -1)
    home[value[wrote]] = key[wrote]
    name = value.copy()
    away = np.flatnonzero(home[value] != key)
    pairs, numbers = np.unique(key[away] * values + value[away], return_inverse=True)
    name[away] = values + numbers
    return name, values + len(pairs)


def check(table: Columns) -> Zones:
    """Decide every key that qualifies; see the module's docstring."""
    every = clusters(table)
    unfit = np.union1d(every.key[every.writes > 1], table.others)
    decided = np.setdiff1d(np.arange(len(table.keys), dtype=np.int64), unfit)
    fit = every.where(np.isin(every.key, decided))
    found: list[Violation] = []

    unwritten = fit.where(fit.writes == 0)
    found += alone("unwritten", unwritten, unwritten.min_return)
    written = fit.where(fit.writes == 1)
    future = written.where(written.min_return < written.written)
    found += alone("future", future, future.min_return)
    # A pending write that nobody read has no return at all: it need not happen.
    found += conflicts(written.where(written.min_return < NEVER))

    worst: dict[int, Violation] = {}
    for violation in sorted(found, key=lambda violation: violation.position):
        worst.setdefault(violation.key, violation)
    return Zones(decided, worst)


def alone(flaw: Flaw, rows: Clusters, position: Column) -> list[Violation]:
    """Violations that concern one cluster each."""
    return [
        Violation(key, flaw, value, value, at)
        for key, value, at in zip(
            rows.key.tolist(), rows.value.tolist(), position.tolist(), strict=True
        )
    ]


def conflicts(rows: Clusters) -> list[Violation]:
    """Pairs of clusters that each must precede the other: not all, but one per key.

    Zones are sorted by key and start. If any two forward zones of a key overlap, two
    neighbours do. If none do, they are disjoint, and a backward zone can only lie
    inside the last forward zone that starts before it.
    """
    rows = rows.where(sorted_by_start(rows))
    forward = rows.min_return < rows.max_invoke
    ahead = np.flatnonzero(forward)
    # The last forward zone so far, perhaps another key's, which `pairs` tells apart.
    last = np.maximum.accumulate(np.where(forward, np.arange(len(forward)), -1))
    behind = np.flatnonzero(~forward & (last >= 0))
    return pairs(rows, ahead[:-1], ahead[1:]) + pairs(rows, last[behind], behind)


def sorted_by_start(rows: Clusters) -> Column:
    """The order of the zones by key, then by start."""
    start = np.minimum(rows.min_return, rows.max_invoke)
    first = np.flatnonzero(start == BEGINNING)
    later = np.flatnonzero(start != BEGINNING)
    order = np.concatenate([first, later[sorted_by(start[later])]])
    return order[grouped(rows.key[order])]


def pairs(rows: Clusters, i: Column, j: Column) -> list[Violation]:
    """The pairs of rows (i, j) that have one key and conflict."""
    bad = (
        (rows.key[i] == rows.key[j])
        & (rows.min_return[i] < rows.max_invoke[j])
        & (rows.min_return[j] < rows.max_invoke[i])
    )
    i, j = i[bad], j[bad]
    complete = np.maximum(rows.max_invoke[i], rows.max_invoke[j])
    return [
        Violation(key, "conflict", first, second, at)
        for key, first, second, at in zip(
            rows.key[i].tolist(),
            rows.value[i].tolist(),
            rows.value[j].tolist(),
            complete.tolist(),
            strict=True,
        )
    ]


# The shortest prefix that is impossible


def shortest(
    table: Columns, violations: Mapping[int, Violation]
) -> tuple[Columns, list[Violation]]:
    """Cut every broken key where it ceases to be linearizable.

    Prefixes of a linearizable history are linearizable (`windows.clip`), so a key has
    one first return with which its calls have no order. It is sought for all keys at
    once: each has its own bounds, and every round decides a shorter prefix of each.

    Args:
        table: The calls, as they were checked.
        violations: By key, what `check` found.

    Returns:
        The calls of broken keys up to there (what had not returned by then is open),
        and one violation a key, the earliest first.

    Cost: mostly a few rounds, at worst logarithmically many, each as long as a check of
    the broken keys.
    """
    keys = np.array(sorted(violations), np.int64)
    horizon = np.full(len(table.keys), BEGINNING)
    horizon[keys] = conclusive(table, [violations[key] for key in keys.tolist()])
    cut = clipped(table, horizon)
    (live,) = np.nonzero(cut.returned != NEVER)
    order = live[np.lexsort((cut.returned[live], cut.key[live]))]
    ends = cut.returned[order]
    # Prefixes that end before ends[low] are linearizable, the one to ends[high] is not.
    low = np.searchsorted(cut.key[order], keys)
    high = np.searchsorted(cut.key[order], keys, "right") - 1
    step = np.ones_like(keys)
    while (low < high).any():
        # A violation is early mostly, so the first to be tried is just a bit earlier.
        middle = np.maximum(low, high - step)
        horizon[keys] = np.where(low < high, ends[middle], BEGINNING)
        bad = np.isin(keys, list(check(clipped(cut, horizon)).violations))
        low = np.where(bad | (low == high), low, middle + 1)
        high = np.where(bad, middle, high)
        half = np.maximum((high - low + 1) // 2, 1)
        step = np.where(bad, np.minimum(4 * step, half), half)
    horizon[keys] = ends[high]
    cut = clipped(cut, horizon)
    exact = [
        violation._replace(position=int(horizon[key]))
        for key, violation in check(cut).violations.items()
    ]
    return cut, sorted(exact, key=lambda violation: violation.position)


def conclusive(table: Columns, violations: Sequence[Violation]) -> Column:
    """For each violation, a return by which its key certainly was broken."""
    first = np.full(len(table.keys), -1)
    second, last = first.copy(), first.copy()
    for each in violations:
        if each.flaw == "conflict":
            first[each.key], second[each.key] = each.first, each.second
        else:
            last[each.key] = each.position
    concerned = (table.value == first[table.key]) | (table.value == second[table.key])
    concerned &= table.returned != NEVER
    np.maximum.at(last, table.key[concerned], table.returned[concerned])
    return last[[each.key for each in violations]]


def clipped(table: Columns, horizon: Column) -> Columns:
    """The calls of each key up to its horizon; `windows.clip` proves that sound."""
    end = horizon[table.key]
    known = table.returned <= end
    cut = table.where((table.invoked < end) & (table.wrote | known))
    end = horizon[cut.key]
    return replace(cut, returned=np.where(cut.returned <= end, cut.returned, NEVER))


# What is reported


class Swept(NamedTuple):
    """What one pass over all keys found.

    Attributes:
        decided: The keys that qualified, each with what is wrong with it, or None.
        left: The keys that did not qualify.
    """

    decided: Mapping[Hashable, ByZones | None]
    left: set[Hashable]


def sweep(
    history: History, model: Model, positions: tuple[Column, Column] | None = None
) -> Swept:
    """Decide every key that qualifies, and find where each broken one broke.

    Args:
        history: What happened.
        model: A register.
        positions: As from `client_positions`, if they are known already.
    """
    table = columns(history, model, positions)
    outcome = check(table)
    cut, violations = shortest(table, outcome.violations)
    broken = {each.key: ByZones(table, cut, each) for each in violations}
    decided = outcome.decided.tolist()
    left = set(range(len(table.keys))).difference(decided)
    return Swept(
        {table.keys[n]: broken.get(n) for n in decided}, {table.keys[n] for n in left}
    )


def evidence(broken: ByZones, history: History, model: Model) -> Unwritten | Replaced:
    """The operations that a violation is about, and the rule that they break.

    Cost: linear in the calls on broken keys, in numpy.
    """
    table, cut, violation = broken.table, broken.cut, broken.violation
    key, value = violation.key, violation.first
    first = calls_on(cut, key, value, history, model)
    if violation.flaw == "conflict":
        second = calls_on(cut, key, violation.second, history, model)
        if value != 0 and min_return(second) < min_return(first):
            first, second = second, first
        return replaced_cluster(first, second)
    reader = min(first, key=lambda call: call.returned)
    later = [
        call
        for call in calls_on(table, key, value, history, model)
        if call.operation.f in model.writes
    ]
    others = (cut.key == key) & (cut.value != value)
    return Unwritten(
        reader,
        later=min(later, key=lambda call: call.invoked, default=None),
        at_first=not (others & (cut.returned < reader.invoked)).any(),
    )


def min_return(calls: Sequence[Call]) -> int:
    """When the first of `calls` returned."""
    return min(call.returned for call in calls)
