"""From a history to calls: one operation, one interval, one list per independent key.

The order of events is their position in the history, never a clock reading. A call
precedes another iff it returned before the other was invoked. A call that nobody saw
return (`info`, or the history ends) stays open for ever: it may take effect at any
later time, or never.

In some foreign histories a completion stands without its invocation. Nobody knows when
that was, but it was after the process had completed its previous operation. A lone
`info` may have begun at any time, so its call is open from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING, Final, NamedTuple, overload

import numpy as np

from checkers.linearizability.budget import paced
from checkers.linearizability.specification import Operation, are_refusals, freeze
from harness.history import NO_COMPLETION
from harness.history.columns import (
    FAIL,
    INFO,
    INVOKE,
    NAMED,
    UNNUMBERED,
    grouped,
    number,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from numpy.typing import NDArray

    from checkers.linearizability.budget import Patience
    from checkers.linearizability.specification import Model
    from harness.history import History

    Column = NDArray[np.int64]

REFUSED: Final = 4
"""A kind of completion beside OK, FAIL and INFO: a failure that is an answer."""

OUTCOMES: Final = 5

SPARSE: Final = 8
"""How many numbers there may be for each that occurs, to count and not to sort them."""

NEVER: Final = 1 << 62
"""`Call.returned` of a call that nobody saw return; later than any position."""

EVER_SINCE: Final = 0
"""`Call.invoked` of one that may have begun at any time: before all events of a history
that lacks invocations, and after the initial value was there."""


class Call(NamedTuple):
    """An operation with its interval.

    Attributes:
        operation: What it did, in its model's words.
        invoked: When it was invoked, or EVER_SINCE; see `instants`.
        returned: When it returned ok, or NEVER.
        position: The history index that names it: its invocation, or its completion
            where the history has no invocation.
    """

    operation: Operation
    invoked: int
    returned: int
    position: int


def client_positions(history: History) -> tuple[Column, Column]:
    """Positions (invocation, completion or NO_COMPLETION) of all clients' calls.

    A completion without an invocation stands for both.
    """
    events, partner = history.columns, history.partner
    opens = events.type == INVOKE
    (invoked,) = np.nonzero(
        (events.process != NAMED) & (opens | (partner == NO_COMPLETION))
    )
    return invoked, np.where(opens[invoked], partner[invoked], invoked)


@dataclass(frozen=True, eq=False)
class CallTable:
    """Calls by key, and in order of invocation, as columns.

    Attributes:
        operations: What the calls did, each thing once.
        keys: The keys by number.
        key, operation: Numbers, per call; keys ascend.
        invoked, returned, position: As in `Call`, per call.
    """

    operations: list[Operation]
    keys: list[Hashable]
    key: Column
    operation: Column
    invoked: Column
    returned: Column
    position: Column

    @cached_property
    def starts(self) -> list[int]:
        """Where each key begins, and where the last one ends."""
        return starts_of(self.key, len(self.keys))

    def calls(self, start: int, stop: int) -> Iterator[Call]:
        """The calls in these rows. Cost: 0.3 us each."""
        columns = (self.operation, self.invoked, self.returned, self.position)
        operation, *rest = (column[start:stop].tolist() for column in columns)
        done = map(self.operations.__getitem__, operation)
        return map(Call._make, zip(done, *rest, strict=True))

    @cached_property
    def urgency(self) -> Column:
        """The rows, key by key, in the order in which the calls return.

        Calls that never return come last, in order of invocation.
        """
        live = self.returned != NEVER
        (done,), (crashed,) = np.nonzero(live), np.nonzero(~live)
        order = np.concatenate([done[sorted_by(self.returned[done])], crashed])
        return order[grouped(self.key[order])]

    @cached_property
    def crashed(self) -> list[int]:
        """How many calls of each key never return."""
        never = self.key[self.returned == NEVER]
        counts: list[int] = np.bincount(never, minlength=len(self.keys)).tolist()
        return counts

    @cached_property
    def done(self) -> list[int]:
        """What the calls did, in order of invocation; as a list, to read bit by bit."""
        operations: list[int] = self.operation.tolist()
        return operations

    @cached_property
    def by_return(self) -> list[int]:
        """What the calls did, in the order of `urgency`."""
        operations: list[int] = self.operation[self.urgency].tolist()
        return operations

    @cached_property
    def events(self) -> tuple[Column, list[int]]:
        """What happens, key by key; and where each key begins in that.

        An invocation is the call's place in `urgency`, counted from its key's start; a
        return is the complement of that, and negative. Where both are one event,
        since no invocation was recorded, the invocation comes first.
        """
        rank = np.empty_like(self.urgency)
        rank[self.urgency] = np.arange(len(rank))
        rank -= np.array(self.starts, np.int64)[self.key]
        (live,) = np.nonzero(self.returned != NEVER)
        key = np.concatenate([self.key, self.key[live]])
        marks = np.concatenate([2 * self.invoked, 2 * self.returned[live] + 1])
        order = sorted_by(marks)
        order = order[grouped(key[order])]
        events = np.concatenate([rank, ~rank[live]])[order]
        return events, starts_of(key[order], len(self.keys))


def sorted_by(marks: Column) -> Column:
    """The order of marks in time, the first of equals first.

    Mostly no two marks are equal, and they leave few gaps. Then they are counted, not
    sorted.
    """
    size = int(marks.max(initial=-1)) + 1
    if size <= SPARSE * len(marks):
        place = np.full(size, -1)
        place[marks] = np.arange(len(marks))
        counted = place[place >= 0]
        if len(counted) == len(marks):
            return counted
    return np.argsort(marks, kind="stable")


def starts_of(key: Column, keys: int) -> list[int]:
    """Where each key begins in an ascending column, and where the last one ends."""
    starts: list[int] = np.searchsorted(key, np.arange(keys + 1)).tolist()
    return starts


class KeyCalls(Sequence[Call]):
    """The calls on one key, in order of invocation; made when they are asked for.

    Each is made once, so that calls can be told apart as objects.

    Attributes:
        table: The calls of all keys.
        key: The number of this one.
        rows: Where its rows begin and end in the table.
    """

    __slots__ = ("_made", "_rest", "key", "rows", "table")

    def __init__(self, table: CallTable, key: int) -> None:
        self.table = table
        self.key = key
        self.rows = table.starts[key], table.starts[key + 1]
        self._made: list[Call] = []
        self._rest: Iterator[Call] | None = None

    def __len__(self) -> int:
        start, stop = self.rows
        return stop - start

    @property
    def crashed(self) -> int:
        """How many never return."""
        return self.table.crashed[self.key]

    @property
    def by_return(self) -> list[int]:
        """The numbers of the operations that return, in the order of their returns."""
        start, stop = self.rows
        return self.table.by_return[start : stop - self.crashed]

    def __iter__(self) -> Iterator[Call]:
        return iter(self._made) if len(self._made) == len(self) else self._one_by_one()

    def _one_by_one(self) -> Iterator[Call]:
        if self._rest is None:
            self._rest = self.table.calls(*self.rows)
        for n in range(len(self)):
            if n == len(self._made):
                self._made.append(next(self._rest))
            yield self._made[n]

    @overload
    def __getitem__(self, index: int) -> Call: ...
    @overload
    def __getitem__(self, index: slice) -> list[Call]: ...
    def __getitem__(self, index: int | slice) -> Call | list[Call]:
        if len(self._made) < len(self):
            self._made += self._rest or self.table.calls(*self.rows)
        return self._made[index]


def operations(calls: Sequence[Call]) -> Iterator[Operation]:
    """What calls did, one after the other; makes no call for that."""
    if isinstance(calls, KeyCalls):
        start, stop = calls.rows
        known = calls.table.operations
        return map(known.__getitem__, calls.table.done[start:stop])
    return (call.operation for call in calls)


def position(calls: Sequence[Call], n: int) -> int:
    """The history index of the n-th call; makes no call for that."""
    if isinstance(calls, KeyCalls):
        return int(calls.table.position[calls.rows[0] + n])
    return calls[n].position


def partition(
    history: History,
    model: Model,
    only: set[Hashable] | None = None,
    patience: Patience | None = None,
) -> dict[Hashable, KeyCalls]:
    """The calls of each key, in order of invocation.

    Args:
        history: What happened.
        model: Turns operations into the model's, and drops what constrains nothing.
        only: Frozen keys to keep; None keeps all.
        patience: When to give up.

    Raises:
        LimitExceeded: `patience` came to its end.
        HistoryError: The model does not understand an operation.

    Cost: linear, 0.2 us a call, and 0.6 us each different one.
    """
    invoked, completed = client_positions(history)
    keys, key = number_keys(history, invoked, by_key=model.by_key)
    if only is not None:
        wanted = np.array([each in only for each in keys], np.bool_)[key]
        invoked, completed, key = invoked[wanted], completed[wanted], key[wanted]
    present = np.unique(key).tolist()
    told, number = distinct_operations(history, model, invoked, completed, patience)
    operations = [each for each in told if each is not None]
    matters = np.array([each is not None for each in told], np.bool_)
    keep = matters[number]
    invoked, completed, key = invoked[keep], completed[keep], key[keep]
    operation = (np.cumsum(matters) - 1)[number[keep]]

    returned = completed != NO_COMPLETION
    returned &= history.columns.type[completed] != INFO
    # An open call that changes nothing may never have happened: drop it.
    pure = np.zeros(len(operations), np.bool_)
    for n in np.unique(operation[~returned]).tolist():
        pure[n] = model.read_only(operations[n])
    alone = invoked == completed
    began = np.where(~returned & alone, EVER_SINCE, earliest(history, invoked))
    order = np.lexsort((began, key)) if history.completions_only else grouped(key)
    order = order[(returned | ~pure[operation])[order]]

    ended = np.where(returned, instants(history, completed), NEVER)
    columns = (column[order] for column in (key, operation, began, ended, invoked))
    table = CallTable(operations, keys, *columns)
    return {keys[n]: KeyCalls(table, n) for n in present}


def number_keys(
    history: History, invoked: Column, *, by_key: bool = True
) -> tuple[list[Hashable], Column]:
    """The frozen keys of the calls at those positions, and each one's number.

    Unless `by_key`, all are on the one key None.
    """
    if not by_key:
        return [None], np.zeros(len(invoked), np.int64)
    known, of_event = history.columns.keys, history.columns.key
    if of_event is None:
        known, column = number([freeze(history[i].key) for i in invoked.tolist()])
    else:
        column = of_event[invoked]
    present = np.zeros(len(known), np.bool_)
    present[column] = True
    dense = np.cumsum(present) - 1
    return list(compress(known, present.tolist())), dense[column]


def distinct_operations(
    history: History,
    model: Model,
    invoked: Column,
    completed: Column,
    patience: Patience | None,
) -> tuple[list[Operation | None], Column]:
    """What the calls did, in the model's words, and for each call the number of that.

    The model is asked once for all calls that have one function, the same values and
    one kind of completion. If their values have no number, it is asked about each call.

    Raises:
        LimitExceeded: `patience` came to its end.
        HistoryError: The model does not understand an operation.
    """
    ops, events = history.ops, history.columns
    returned = completed != NO_COMPLETION
    outcome = np.where(returned, events.type[completed], INVOKE).astype(np.int64)
    (failures,) = np.nonzero(outcome == FAIL)
    refused = are_refusals(map(ops.__getitem__, completed[failures].tolist()))
    outcome[failures[refused]] = REFUSED
    values = len(events.value_numbers) + 1
    argument = events.value[invoked].astype(np.int64)
    result = np.where(returned, events.value[completed], 0)
    kind = events.f[invoked] * OUTCOMES + outcome
    kind = (kind * values + argument) * values + result
    single = (argument == UNNUMBERED) | (result == UNNUMBERED)
    if OUTCOMES * len(events.functions) * values**2 > NEVER:
        single[:] = True  # numbers for all combinations would not fit
    kind[single] = ~np.flatnonzero(single)
    first, number = distinct(kind)
    order = np.argsort(first)  # what is malformed is to be found where it comes first
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    first = first[order]
    todo = zip(invoked[first].tolist(), completed[first].tolist(), strict=True)
    operations = [
        model.operation(ops[i], None if j == NO_COMPLETION else ops[j])
        for i, j in (paced(todo, patience) if patience else todo)
    ]
    return operations, rank[number]


def distinct(numbers: Column) -> tuple[Column, Column]:
    """The different numbers in ascending order: where each occurs first.

    Returns:
        These places, and for each of `numbers` which of the different ones it is. Small
        numbers are counted, not sorted.
    """
    size = int(numbers.max(initial=-1)) + 1
    if size > SPARSE * len(numbers) or numbers.min(initial=0) < 0:
        _, first, which = np.unique(numbers, return_index=True, return_inverse=True)
        return first, which
    place = np.full(size, -1)
    place[numbers[::-1]] = np.arange(len(numbers))[::-1]
    present = place >= 0
    return place[present], (np.cumsum(present) - 1)[numbers]


def instants(history: History, positions: Column) -> Column:
    """When the events at those positions were, on the scale of the calls' intervals.

    Where invocations are missing, there is an instant between any two events for them:
    no two events are ever one, and "returned before" is never in doubt.
    """
    return 2 * (positions + 1) if history.completions_only else positions


def earliest(history: History, invoked: Column) -> Column:
    """When the calls at those positions may have been invoked, at the earliest.

    An invocation that was recorded was at its position. That of a lone completion was
    at any time after its process had completed its previous operation, or after the
    history began, if there is none.
    """
    if not history.completions_only:
        return invoked
    since: dict[int, int] = {}
    last: dict[int | str, int] = {}
    for i, op in enumerate(history.ops):
        if op.type != "invoke" and history.completion[i] == NO_COMPLETION:
            since[i] = 2 * (last.get(op.process, -1) + 1) + 1
        last[op.process] = i
    return np.array([since.get(i, 2 * (i + 1)) for i in invoked.tolist()], np.int64)
