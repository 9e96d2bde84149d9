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

from collections import defaultdict
from dataclasses import dataclass
from itertools import compress, count, islice
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from checkers.linearizability.calls import NEVER, beginnings, client_positions
from checkers.linearizability.specification import freeze
from harness.columns import FAIL, INFO, OK, PLAIN, grouped
from harness.columns import number as number_few
from harness.history import NO_COMPLETION

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from checkers.linearizability.specification import Model
    from harness.history import History, Op

Column = NDArray[np.int64]
Mask = NDArray[np.bool_]

BEGINNING: Final = -1
"""Position of the virtual write of the initial value."""

SPARSE: Final = 4
"""Numbers that may be wasted for each call, rather than look things up or sort them."""

TEXTS_PER_CHUNK: Final = 10_000

_READ, _WRITE, _OTHER = 0, 1, 2

Flaw = Literal["unwritten", "future", "conflict"]
"""A value that was never written, one read before it was written, two clusters that
each must precede the other."""


@dataclass(frozen=True)
class Columns:
    """The reads and writes of a history, column by column.

    Attributes:
        keys: The keys by number, frozen.
        values: The values by number, frozen; number 0 is the initial value. Not every
            number is used.
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


def number(
    items: list[Any], wrote: Mask, key: Column, model: Model
) -> tuple[list[Hashable], Column]:
    """Values by number, and the number of each; equal items have one number.

    Number 0 is the initial value. Items are frozen if they have to be.

    Args:
        items: What was written or read, in the order of the history.
        wrote: Which of it was written.
        key: Where.
        model: Says what was there at first.

    Cost: 40 ns an item for integers that lie close together, else up to 250 ns.
    """
    numbered = number_texts(items, wrote, key, model)
    if numbered is not None:
        return numbered
    kinds = set(map(type, items))
    if not kinds <= PLAIN:
        items = [freeze(item) for item in items]
    elif model.initial is None and str not in kinds:
        numbered = number_integers(items, has_nil=type(None) in kinds)
        if numbered is not None:
            return numbered
    # The number of what was written is its place among the writes, the last one if it
    # was written twice. What was only read gets the numbers that follow.
    written = list(compress(items, wrote.tolist()))
    read = list(compress(items, (~wrote).tolist()))
    places = range(1, len(written) + 1)
    numbers: defaultdict[Hashable, int] = defaultdict(
        count(len(written) + 1).__next__, zip(written, places, strict=True)
    )
    initial = {model.initial, None} if model.nil_is_initial else {model.initial}
    differ = len(numbers) == len(written) and initial.isdisjoint(numbers)
    numbers.update(dict.fromkeys(initial, 0))
    known = len(numbers)
    column = np.empty(len(items), np.int64)
    column[~wrote] = np.fromiter(map(numbers.__getitem__, read), np.int64, len(read))
    column[wrote] = (
        places
        if differ
        else np.fromiter(map(numbers.__getitem__, written), np.int64, len(written))
    )
    return [model.initial, *written, *islice(numbers, known, None)], column


def number_texts(
    items: list[Any], wrote: Mask, key: Column, model: Model
) -> tuple[list[Hashable], Column] | None:
    """As `number`, when only texts were written, and none twice; else None.

    Most reads find one of the last two writes of their key, so they are compared with
    those first: half as much work as looking up all of them.
    """
    written = list(compress(items, wrote.tolist()))
    if not written or not all_texts(written):
        return None
    distinct = set(written)
    initial = {model.initial, None} if model.nil_is_initial else {model.initial}
    if len(distinct) < len(written) or not distinct.isdisjoint(initial):
        return None
    column = np.zeros(len(items), np.int64)
    column[wrote] = np.arange(1, len(written) + 1)

    # By key, then by time: the place of each item's last write, and of the one before.
    # Where there is none, it is some other write: a guess, as any of them.
    order = grouped(key)
    writes = np.flatnonzero(wrote[order])
    latest = np.cumsum(wrote[order]) - 1
    objects = np.array(items, np.object_)  # one text at least, so in one dimension
    rest = np.flatnonzero(~wrote[order])
    for back in range(2):
        guess = order[writes[np.maximum(latest[rest] - back, 0)]]
        same = objects[order[rest]] == objects[guess]
        column[order[rest[same]]] = column[guess[same]]
        rest = rest[~same]

    rest = order[rest]
    unlike = [freeze(item) for item in objects[rest].tolist()]
    sought = set(unlike) - initial
    numbers = dict.fromkeys(initial, 0)
    if sought:
        numbers |= {item: n for n, item in enumerate(written, 1) if item in sought}
    known = len(numbers)
    for item in unlike:
        numbers.setdefault(item, len(written) + 1 + len(numbers) - known)
    column[rest] = [numbers[item] for item in unlike]
    return [model.initial, *written, *islice(numbers, known, None)], column


def all_texts(items: list[Any]) -> bool:
    """Whether all are texts; joining them is the fastest way to ask."""
    rest = iter(items)
    try:
        while chunk := list(islice(rest, TEXTS_PER_CHUNK)):
            "".join(chunk)
    except TypeError:
        return False
    return True


def number_integers(
    items: list[Any], *, has_nil: bool
) -> tuple[list[Hashable], Column] | None:
    """Integers, and nil, which is number 0, by size; None when they lie far apart.

    Numbers that nothing has cost little where they are few.
    """
    some = [item for item in items if item is not None] if has_nil else items
    try:
        size = np.array(some, np.int64)
    except OverflowError:
        return None
    low, high = int(size.min(initial=0)), int(size.max(initial=0))
    if high - low > SPARSE * len(items):
        return None
    column = np.zeros(len(items), np.int64)
    if has_nil:
        column[[item is not None for item in items]] = size - (low - 1)
    else:
        column = size - (low - 1)
    return [None, *range(low, high + 1)], column


def columns(
    history: History, model: Model, positions: tuple[Column, Column] | None = None
) -> Columns:
    """The columns of `history`; failed calls and pending reads are left out.

    So is everything on keys that have other operations.

    Args:
        history: What happened.
        model: Says which functions read and which write.
        positions: As from `client_positions`, if they are known already.

    Cost: linear, 0.2 us a call.
    """
    events = history.columns
    position, completed = positions or client_positions(history)
    status = np.full(len(position), INFO, np.uint8)
    returned = np.flatnonzero(completed != NO_COMPLETION)
    status[returned] = events.type[completed[returned]]

    kind_of = dict.fromkeys(model.reads, _READ) | dict.fromkeys(model.writes, _WRITE)
    kinds = [kind_of.get(f, _OTHER) for f in events.functions]
    kind = np.array(kinds, np.uint8)[events.f[position]]
    keys, key = number_keys(history, position)
    others = np.unique(key[kind == _OTHER])
    fit = np.ones(len(keys), np.bool_)
    fit[others] = False

    keep = ((kind == _WRITE) & (status != FAIL)) | ((kind == _READ) & (status == OK))
    keep &= fit[key]
    position, completed, status = position[keep], completed[keep], status[keep]
    wrote = kind[keep] == _WRITE
    source = np.where(wrote, position, completed)
    writes = np.zeros(len(history), np.bool_)
    writes[position[wrote]] = True
    told, ops = select(history, source)
    value = np.empty(len(history), np.int64)
    value[source] = key[keep]
    values, numbers = number([op.value for op in ops], writes[told], value[told], model)
    value[told] = numbers
    pending = status != OK
    began = beginnings(history)
    invoked = position
    if began:
        invoked = np.array([began.get(i, i) for i in position.tolist()], np.int64)
    return Columns(
        keys,
        values,
        key[keep],
        value[source],
        wrote,
        np.where(pending & (completed == position), BEGINNING, invoked),
        np.where(pending, NEVER, completed),
        position,
        others,
    )


def select(history: History, positions: Column) -> tuple[Column, Iterator[Op]]:
    """`positions` sorted, and the ops there: in order of memory, for speed."""
    chosen = np.zeros(len(history), np.bool_)
    chosen[positions] = True
    return np.flatnonzero(chosen), compress(history.ops, chosen.tolist())


def number_keys(history: History, position: Column) -> tuple[list[Hashable], Column]:
    """The keys of the calls at `position`, and each call's number among them."""
    known, of_event = history.columns.keys, history.columns.key
    if of_event is None:
        known, column = number_few([freeze(history[i].key) for i in position.tolist()])
    else:
        column = of_event[position]
    present = np.zeros(len(known), np.bool_)
    present[column] = True
    dense = np.cumsum(present) - 1
    return list(compress(known, present.tolist())), dense[column]


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
    """Group the calls by key and value. Cost: 50 ns a call, without a sort."""
    virtual = len(table.keys)  # writes of the initial value
    key = np.concatenate([np.arange(virtual), table.key])
    value = np.concatenate([np.zeros(virtual, np.int64), table.value])
    wrote = np.concatenate([np.ones(virtual, np.bool_), table.wrote])
    beginnings = np.full(virtual, BEGINNING)
    invoked = np.concatenate([beginnings, table.invoked])
    returned = np.concatenate([beginnings, table.returned])

    name, count = names(key, value, wrote, len(table.values))
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
    """The order of the zones by key, then by start.

    Starts are positions, and no two zones of a key have the same: counted, not sorted.
    """
    start = np.minimum(rows.min_return, rows.max_invoke)
    first = np.flatnonzero(start == BEGINNING)
    place = np.full(start.max(initial=BEGINNING) + 1, -1)
    later = np.flatnonzero(start != BEGINNING)
    place[start[later]] = later
    order = np.concatenate([first, place[place >= 0]])
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
