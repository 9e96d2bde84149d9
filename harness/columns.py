"""A history's events as numpy columns, and the pairing of calls by array operations.

Checkers that look at a million events one by one spend their time on looking. What all
of them ask of every event (who, what kind, which function, where the other end of the
call is) is a column here, made once, when a history is made. `history.pair` says the
same one event at a time; it is asked when something is wrong, for it knows the words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    from harness.history import Op

INVOKE, OK, FAIL, INFO = range(4)
_TYPES: Final = {"invoke": INVOKE, "ok": OK, "fail": FAIL, "info": INFO}

NAMED: Final = -1
"""The number of every process that is no client."""

PLAIN: Final = {int, str, type(None)}
"""Types of values that are equal exactly when Python says so: True is not 1."""

ALONE: Final = -1
"""In a `partner` column: there is none. The same as `history.NO_COMPLETION`."""


@dataclass(frozen=True)
class Columns:
    """Who did what, one entry for each event.

    Attributes:
        process: The number of the client; NAMED for others.
        type: INVOKE, OK, FAIL or INFO.
        f: The number of the function.
        functions: The functions by number.
        key: The number of the independent key; None where some key is neither a number,
            a text nor nil, and who compares keys has to know how.
        keys: The keys by number.
    """

    process: NDArray[np.int32]
    type: NDArray[np.uint8]
    f: NDArray[np.int32]
    functions: list[str]
    key: NDArray[np.int32] | None
    keys: list[Any]


def columns(ops: Sequence[Op]) -> Columns:
    """The columns of `ops`. Cost: 0.2 us an op."""
    process_of: dict[int | str, int] = {}
    processes = [op.process for op in ops]
    for name in dict.fromkeys(processes):
        is_client = type(name) is int
        process_of[name] = len(process_of) if is_client else NAMED
    functions, f = number([op.f for op in ops])
    found = [op.key for op in ops]
    keys: list[Any] = []
    key = None
    if set(map(type, found)) <= PLAIN:
        keys, key = number(found)
    return Columns(
        np.fromiter(map(process_of.__getitem__, processes), np.int32, len(ops)),
        np.frombuffer(bytes([_TYPES[op.type] for op in ops]), np.uint8),
        f,
        functions,
        key,
        keys,
    )


def as_column(numbers: Sequence[int]) -> NDArray[np.int64]:
    """The numbers as a column; what an array holds is not copied."""
    return np.asarray(numbers, np.int64)


def number(items: Sequence[Any]) -> tuple[list[Any], NDArray[np.int32]]:
    """Distinct items in order of appearance, and each item's number among them.

    For few distinct, hashable items. Cost: 40 ns an item.
    """
    distinct: list[Hashable] = list(dict.fromkeys(items))
    numbers = {item: n for n, item in enumerate(distinct)}
    column = np.fromiter(map(numbers.__getitem__, items), np.int32, len(items))
    return distinct, column


def pair(ops: Sequence[Op], events: Columns) -> NDArray[np.int64] | None:
    """Each event's partner, or ALONE; None when the events don't pair up.

    They do when indices are dense and every client's events are, in turn, an invocation
    and its completion, which says the same function. Cost: 0.1 us an op.
    """
    partner = np.full(len(ops), ALONE, np.int64)
    if [op.index for op in ops] != list(range(len(ops))):
        return None
    order = grouped(events.process)
    order = order[np.searchsorted(events.process[order], 0) :]
    if not len(order):
        return partner
    process, opens = events.process[order], events.type[order] == INVOKE
    is_open = opens[:-1] & (process[1:] == process[:-1])
    if not opens[0] or not np.array_equal(opens[1:], ~is_open):
        return None
    invoked, completed = order[:-1][is_open], order[1:][is_open]
    if not np.array_equal(events.f[invoked], events.f[completed]):
        return None
    partner[invoked], partner[completed] = completed, invoked
    return partner


def grouped(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Positions of small whole numbers, sorted by number and then by position.

    numpy sorts 16-bit numbers by radix, ten times as fast as larger ones.
    """
    if len(numbers) and np.abs(numbers).max() < 2**15:
        numbers = numbers.astype(np.int16)
    order: NDArray[np.int64] = np.argsort(numbers, kind="stable")
    return order
