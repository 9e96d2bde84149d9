"""The reads and writes of a history, column by column: what zones work on.

Values and keys have numbers here; how a value looks decides how it gets its number.
Failed calls and pending reads are left out, and so is everything on keys that have
operations of other kinds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from checkers.linearizability.calls import (
    EVER_SINCE,
    NEVER,
    Call,
    client_positions,
    earliest,
    instants,
    number_keys,
)
from checkers.linearizability.specification import freeze
from harness.history import NO_COMPLETION
from harness.history.columns import FAIL, INFO, OK, UNNUMBERED

if TYPE_CHECKING:
    from collections.abc import Hashable

    from checkers.linearizability.specification import Model
    from harness.history import History
    from harness.history.columns import Columns as EventColumns

Column = NDArray[np.int64]
Mask = NDArray[np.bool_]

READ, WRITE, OTHER = range(3)
"""Kinds of operations."""


@dataclass(frozen=True)
class Columns:
    """The reads and writes of a history, column by column.

    Attributes:
        keys: The keys by number, frozen.
        values: How many values there may be, by number; number 0 is the initial value.
        key, value: Numbers, per call.
        wrote: True for writes, per call.
        invoked, returned: Positions, per call; NEVER for a pending write.
        position: History index of the call's invocation.
        others: Numbers of the keys that have operations of other kinds.
    """

    keys: list[Hashable]
    values: int
    key: Column
    value: Column
    wrote: Mask
    invoked: Column
    returned: Column
    position: Column
    others: Column

    def where(self, mask: Mask) -> Columns:
        """The calls selected by `mask`."""
        if mask.all():
            return self
        return replace(
            self,
            key=self.key[mask],
            value=self.value[mask],
            wrote=self.wrote[mask],
            invoked=self.invoked[mask],
            returned=self.returned[mask],
            position=self.position[mask],
        )


def numbered(history: History, places: Column, model: Model) -> tuple[Column, int]:
    """The number of each value at `places`, and how many numbers there may be.

    Number 0 is the initial value; equal values have one number. Cost: 10 ns a value,
    0.5 us where the history's columns have no number for it.
    """
    events = history.columns
    number = events.value[places].astype(np.int64)
    others: dict[Hashable, int] = {}
    (rest,) = np.nonzero(number == UNNUMBERED)
    if len(rest):
        ops = history.ops
        frozen = [freeze(ops[i].value) for i in places[rest].tolist()]
        known = {value: number_in(events, value) for value in frozen}
        free = count(len(events.value_numbers)).__next__
        others = {v: free() if n is None else n for v, n in known.items()}
        number[rest] = [others[value] for value in frozen]
    initial = [model.initial, None] if model.nil_is_initial else [model.initial]
    at_first = [others.get(v, number_in(events, v)) for v in initial]
    number += 1
    for n in at_first:
        if n is not None:
            number[number == n + 1] = 0
    return number, len(events.value_numbers) + len(others) + 1


def number_in(events: EventColumns, value: Hashable) -> int | None:
    """The number that a frozen value has in the columns of a history, if any."""
    if not isinstance(value, tuple):
        return events.value_numbers.get(value)
    match value:
        case ("list", first, second):  # `freeze` puts its kind before a list's items
            return events.value_numbers.get((first, second))
        case _:
            return None


def columns(
    history: History, model: Model, positions: tuple[Column, Column] | None = None
) -> Columns:
    """The columns of `history`.

    Failed calls and pending reads are left out, and so are all calls on keys that have
    operations of other kinds.

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

    kind_of = dict.fromkeys(model.reads, READ) | dict.fromkeys(model.writes, WRITE)
    kinds = [kind_of.get(f, OTHER) for f in events.functions]
    kind = np.array(kinds, np.uint8)[events.f[position]]
    keys, key = number_keys(history, position)
    others = np.unique(key[kind == OTHER])
    fit = np.ones(len(keys), np.bool_)
    fit[others] = False

    keep = ((kind == WRITE) & (status != FAIL)) | ((kind == READ) & (status == OK))
    keep &= fit[key]
    position, completed, status = position[keep], completed[keep], status[keep]
    wrote = kind[keep] == WRITE
    source = np.where(wrote, position, completed)
    value, values = numbered(history, source, model)
    pending = status != OK
    return Columns(
        keys,
        values,
        key[keep],
        value,
        wrote,
        np.where(
            pending & (completed == position), EVER_SINCE, earliest(history, position)
        ),
        np.where(pending, NEVER, instants(history, completed)),
        position,
        others,
    )


def calls_on(
    table: Columns, key: int, value: int, history: History, model: Model
) -> list[Call]:
    """The calls on one value of a key, in order of invocation.

    Cost: linear in the table, in numpy.
    """
    rows = np.flatnonzero((table.key == key) & (table.value == value)).tolist()
    calls = []
    for row in rows:
        position, returned = int(table.position[row]), int(table.returned[row])
        first = history[position]
        alone = first.type != "invoke"
        end = position if alone else history.completion[position]
        completed = None if returned == NEVER else history[end]
        operation = model.operation(first, completed)
        assert operation is not None
        calls.append(Call(operation, int(table.invoked[row]), returned, position))
    return calls
