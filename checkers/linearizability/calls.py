"""From a history to calls: one operation, one interval, one list per independent key.

The order of events is their position in the history, never a clock reading. A call
precedes another iff it returned before the other was invoked. A call that nobody saw
return (`info`, or the history ends) stays open for ever: it may take effect at any
later time, or never.

A completion without its invocation (in some foreign histories) was invoked nobody knows
when, but after its process had done with what it did before. An `info` may have begun
at any time, so it is open from the start.
"""

from __future__ import annotations

from itertools import islice, repeat
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from checkers.linearizability.budget import LimitExceeded
from checkers.linearizability.specification import Operation, freeze
from harness.columns import INVOKE, NAMED
from harness.history import NO_COMPLETION

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from checkers.linearizability.budget import Patience
    from checkers.linearizability.specification import Model
    from harness.history import History, Op

CALLS_PER_BUDGET_CHECK: Final = 10_000
"""Some ten milliseconds' worth."""

NEVER: Final = 1 << 62
"""`Call.returned` of a call that nobody saw return; later than any position."""


class Call(NamedTuple):
    """An operation with its interval.

    Attributes:
        operation: What it did, in its model's words.
        invoked: Position of its invocation; -1 for "unknown, from the start".
        returned: Position of its `ok`, or NEVER.
        position: The history index that names it: its invocation, or its completion
            where the history has no invocation.
    """

    operation: Operation
    invoked: int
    returned: int
    position: int


def client_calls(history: History) -> Iterator[tuple[int, int]]:
    """Positions (invocation, completion or NO_COMPLETION) of all clients' calls.

    A completion without an invocation stands for both.
    """
    ops, completion = history.ops, history.completion
    for i, op in enumerate(ops):
        j = completion[i]
        if type(op.process) is not int:
            continue
        if op.type == "invoke":
            yield i, j
        elif j == NO_COMPLETION:
            yield i, i


def client_positions(history: History) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions (invocation, completion or NO_COMPLETION) of all clients' calls.

    As `client_calls`, without a step of Python for each call.
    """
    events, partner = history.columns, history.partner
    opens = events.type == INVOKE
    (invoked,) = np.nonzero(
        (events.process != NAMED) & (opens | (partner == NO_COMPLETION))
    )
    return invoked, np.where(opens[invoked], partner[invoked], invoked)


def partition(
    history: History,
    model: Model,
    only: set[Hashable] | None = None,
    patience: Patience | None = None,
) -> dict[Hashable, list[Call]]:
    """The calls of each key, in order of invocation.

    Args:
        history: What happened.
        model: Turns operations into the model's, and drops what constrains nothing.
        only: Frozen keys to keep; None keeps all.
        patience: When to give up.

    Raises:
        LimitExceeded: `patience` came to its end.
        HistoryError: The model does not understand an operation.

    Cost: linear, 1 us a call.
    """
    ops, began = history.ops, beginnings(history)
    keys: dict[Hashable, list[Call]] = {}
    invoked, completed = client_positions(history)
    names = key_names(history, invoked) if model.by_key else repeat(None)
    todo = zip(names, invoked.tolist(), completed.tolist(), strict=False)
    while batch := list(islice(todo, CALLS_PER_BUDGET_CHECK)):
        if patience and (limit := patience.exceeded()):
            raise LimitExceeded(limit)
        for key, i, j in batch:
            if only is not None and key not in only:
                continue
            calls = keys.get(key)
            if calls is None:
                calls = keys[key] = []
            call = make_call(model, ops, i, j, began)
            if call is not None:
                calls.append(call)
    return keys


def key_names(history: History, invoked: NDArray[np.int64]) -> Iterator[Hashable]:
    """The frozen keys of the calls at those positions."""
    events = history.columns
    if events.key is None:
        return (freeze(history.ops[i].key) for i in invoked.tolist())
    return map(events.keys.__getitem__, events.key[invoked].tolist())


def beginnings(history: History) -> dict[int, int]:
    """When lone completions may have been invoked, at the earliest; by position.

    A process does one thing at a time, so that is right after its event before; -1
    where there is none. Empty when every completion has its invocation.
    """
    began: dict[int, int] = {}
    if not history.completions_only:
        return began
    last: dict[int | str, int] = {}
    for i, op in enumerate(history.ops):
        if op.type != "invoke" and history.completion[i] == NO_COMPLETION:
            began[i] = last.get(op.process, -2) + 1
        last[op.process] = i
    return began


def make_call(
    model: Model, ops: Sequence[Op], i: int, j: int, began: Mapping[int, int]
) -> Call | None:
    """The call invoked at i and completed at j; None when it constrains nothing.

    `began` says what `beginnings` does.
    """
    completed = None if j == NO_COMPLETION else ops[j]
    operation = model.operation(ops[i], completed)
    if operation is None:
        return None
    if completed is not None and completed.type != "info":
        return Call(operation, began.get(i, i), j, i)
    if model.read_only(operation):
        return None  # perhaps it never happened, and it would have changed nothing
    return Call(operation, -1 if i == j else i, NEVER, i)
