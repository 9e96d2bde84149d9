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

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from checkers.linearizability.calls import NEVER, client_positions
from checkers.linearizability.specification import freeze
from harness.history import NO_COMPLETION

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from checkers.linearizability.specification import Model
    from harness.history import History

Column = NDArray[np.int64]
Mask = NDArray[np.bool_]

BEGINNING: Final = -1
"""Position of the virtual write of the initial value."""

_OK, _FAIL, _INFO = 0, 1, 2
_STATUS: Final = {"ok": _OK, "fail": _FAIL, "info": _INFO}
_READ, _WRITE, _OTHER = 0, 1, 2

Flaw = Literal["unwritten", "future", "conflict"]
"""A value that was never written, one read before it was written, two clusters that
each must precede the other."""


@dataclass(frozen=True)
class Columns:
    """The reads and writes of a history, column by column.

    Attributes:
        keys: The keys by number, frozen.
        values: The values by number, frozen; number 0 is the initial value.
        key, value: Numbers, per call.
        wrote: True for writes, per call.
        invoked, returned: Positions, per call; NEVER for a pending write.
        position: History index of the call's invocation.
        others: Numbers of the keys that have operations of other kinds.
    """

    keys: list[Hashable]
    values: list[Hashable]
    key: Column
    value: Column
    wrote: Mask
    invoked: Column
    returned: Column
    position: Column
    others: Column


@dataclass(frozen=True)
class Violation:
    """Why a key is not linearizable; clusters are given by value numbers.

    Attributes:
        key: The key's number.
        flaw: Which rule is broken.
        first: The value concerned.
        second: For a conflict, the other value.
        position: Where in the history the contradiction is complete.
    """

    key: int
    flaw: Flaw
    first: int
    second: int
    position: int


@dataclass(frozen=True)
class Zones:
    """The outcome: key numbers that qualified, and one violation for each bad one."""

    decided: Column
    violations: dict[int, Violation]


# Columns


def number(items: Sequence[Any], first: Iterable[Any] = ()) -> tuple[list[Any], Column]:
    """Distinct items in order of appearance, and each item's number among them.

    Items are frozen if they have to be. Cost: 60 ns an item.
    """
    plain = {str, int, type(None)}
    if not set(map(type, items)) <= plain:
        items = [freeze(item) for item in items]
    numbers = dict.fromkeys(first)
    numbers.update(dict.fromkeys(items))
    for n, item in enumerate(numbers):
        numbers[item] = n
    column = np.fromiter(map(numbers.__getitem__, items), np.int64, len(items))
    return list(numbers), column


def number_values(
    items: Sequence[Any], initial: Hashable
) -> tuple[list[Hashable], Column]:
    """Like `number`, and the initial value is number 0.

    Integers over an initial nil, by far the commonest, are numbered by numpy: 100 ns
    an item, where the 250 ns of a big dictionary would be a quarter of the whole check.
    """
    if initial is not None or not set(map(type, items)) <= {int, type(None)}:
        return number(items, first=[initial])
    something = np.array([item is not None for item in items], np.bool_)
    try:
        integers = np.array([item for item in items if item is not None], np.int64)
    except OverflowError:
        return number(items, first=[initial])
    distinct, inverse = np.unique(integers, return_inverse=True)
    column = np.zeros(len(items), np.int64)
    column[something] = inverse + 1
    return [None, *distinct.tolist()], column


def columns(
    history: History, model: Model, positions: tuple[Column, Column] | None = None
) -> Columns:
    """The columns of `history`; failed calls and pending reads are left out.

    Args:
        history: What happened.
        model: Says which functions read and which write.
        positions: As from `client_positions`, if they are known already.

    Cost: linear, 0.7 us a call; this, not the check, is what takes the time.
    """
    ops = history.ops
    position, completed = positions or client_positions(history)
    invocations = [ops[i] for i in position.tolist()]
    status = np.full(len(position), _INFO, np.uint8)
    returned = np.flatnonzero(completed != NO_COMPLETION)
    status[returned] = [_STATUS[ops[i].type] for i in completed[returned].tolist()]

    kind_of = dict.fromkeys(model.reads, _READ) | dict.fromkeys(model.writes, _WRITE)
    kind = np.frombuffer(
        bytes([kind_of.get(op.f, _OTHER) for op in invocations]), np.uint8
    )
    keys, key = number([op.key for op in invocations])
    others = np.unique(key[kind == _OTHER])

    keep = ((kind == _WRITE) & (status != _FAIL)) | ((kind == _READ) & (status == _OK))
    position, completed, status = position[keep], completed[keep], status[keep]
    wrote = kind[keep] == _WRITE
    source = np.where(wrote, position, completed).tolist()
    raw = [ops[i].value for i in source]
    if model.nil_is_initial:
        raw = [model.initial if item is None else item for item in raw]
    values, value = number_values(raw, model.initial)
    pending = status != _OK
    return Columns(
        keys,
        values,
        key[keep],
        value,
        wrote,
        np.where(pending & (completed == position), BEGINNING, position),
        np.where(pending, NEVER, completed),
        position,
        others,
    )


# Zones


@dataclass(frozen=True)
class Clusters:
    """One row per key and value, sorted by key.

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
        """The rows selected by `mask`."""
        return Clusters(
            self.key[mask],
            self.value[mask],
            self.writes[mask],
            self.written[mask],
            self.min_return[mask],
            self.max_invoke[mask],
        )


def clusters(table: Columns) -> Clusters:
    """Group the calls by key and value. Cost: one sort."""
    every_key = np.arange(len(table.keys), dtype=np.int64)
    virtual = np.full(len(every_key), BEGINNING, np.int64)
    radix = np.int64(len(table.values))
    name = np.concatenate([every_key * radix, table.key * radix + table.value])
    wrote = np.concatenate([np.ones(len(every_key), bool), table.wrote])
    invoked = np.concatenate([virtual, table.invoked])
    returned = np.concatenate([virtual, table.returned])

    order = np.argsort(name, kind="stable")
    name, wrote = name[order], wrote[order]
    invoked, returned = invoked[order], returned[order]
    start = np.flatnonzero(np.diff(name, prepend=-1))
    return Clusters(
        key=name[start] // radix,
        value=name[start] % radix,
        writes=np.add.reduceat(wrote.astype(np.int64), start),
        written=np.add.reduceat(np.where(wrote, invoked, 0), start),
        min_return=np.minimum.reduceat(returned, start),
        max_invoke=np.maximum.reduceat(invoked, start),
    )


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

    Forward zones are sorted by key and start. If any two of a key overlap, two
    neighbours do. If none do, they are disjoint, and a backward zone can only lie
    inside the last one that starts before it.
    """
    forward = rows.min_return < rows.max_invoke
    ahead = rows.where(forward)
    order = np.lexsort((ahead.min_return, ahead.key))
    ahead = ahead.where(order)
    behind = rows.where(~forward)

    found = pairs(
        ahead, np.arange(len(ahead.key) - 1), ahead, np.arange(1, len(ahead.key))
    )
    place = last_start_before(ahead, behind)
    inside = np.flatnonzero(place >= 0)
    return found + pairs(ahead, place[inside], behind, inside)


def last_start_before(ahead: Clusters, behind: Clusters) -> Column:
    """For each backward zone the last forward zone that starts before it, or -1.

    Key and position are joined into one number, so that one search serves all keys; a
    forward zone of another key is told apart by `pairs`.
    """
    span = np.int64(1)
    for column in (ahead.min_return, behind.max_invoke):
        span = max(span, column.max(initial=0) + 2)
    starts = ahead.key * span + ahead.min_return + 1
    wanted = behind.key * span + behind.max_invoke + 1
    return np.searchsorted(starts, wanted, side="left") - 1


def pairs(a: Clusters, i: Column, b: Clusters, j: Column) -> list[Violation]:
    """The pairs (a[i], b[j]) that have one key and conflict."""
    bad = (
        (a.key[i] == b.key[j])
        & (a.min_return[i] < b.max_invoke[j])
        & (b.min_return[j] < a.max_invoke[i])
    )
    i, j = i[bad], j[bad]
    complete = np.maximum(a.max_invoke[i], b.max_invoke[j])
    return [
        Violation(key, "conflict", first, second, at)
        for key, first, second, at in zip(
            a.key[i].tolist(),
            a.value[i].tolist(),
            b.value[j].tolist(),
            complete.tolist(),
            strict=True,
        )
    ]
