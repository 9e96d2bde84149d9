"""A history's events as numpy columns, and the pairing of calls by array operations.

Checkers that look at a million events one by one spend their time on looking. The facts
that all of them need of every event (process, type, function, key, value, the other end
of the call) are columns here, made once, when a history is made. `pairing.pair` pairs
calls one event at a time; it is used if something is wrong, as it can say what.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from harness.history.ops import is_client

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.history.ops import Op

INVOKE, OK, FAIL, INFO = range(4)
_TYPES: Final = {"invoke": INVOKE, "ok": OK, "fail": FAIL, "info": INFO}

NAMED: Final = -1
"""The number of every process that is no client."""

PLAIN: Final = {int, str, type(None)}
"""Types of values that are equal exactly if Python says so; not bool, as True == 1."""

UNNUMBERED: Final = -1
"""In a `value` column: a value without a number, to be compared by other means."""

OPS_AT_A_TIME: Final = 4_096
"""The processor's cache has room for this many."""

ALONE: Final = -1
"""In a `partner` column: no partner. The same number as `ops.NO_COMPLETION`."""


@dataclass(frozen=True)
class Columns:
    """The facts about all events; each column has one entry per event.

    Attributes:
        in_sequence: Whether every op's index is its position.
        has_names: Whether some client has a name instead of a number.
        process: The number of the client; NAMED for other processes.
        type: INVOKE, OK, FAIL or INFO.
        f: The number of the function.
        functions: The functions by number.
        key: The number of the independent key. The column is None if some key is
            neither a number, a text nor nil: keys then have to be compared otherwise.
        keys: The keys by number.
        value: The number of the value; UNNUMBERED unless it is plain or a list of two
            plain values.
        value_numbers: Value -> its number; a tuple stands for a list of two.
    """

    in_sequence: bool
    has_names: bool
    process: NDArray[np.int32]
    type: NDArray[np.uint8]
    f: NDArray[np.int32]
    functions: list[str]
    key: NDArray[np.int32] | None
    keys: list[Any]
    value: NDArray[np.int32]
    value_numbers: Mapping[Any, int]


class ColumnsBuilder:
    """Makes columns of ops as they come in.

    A reader hands over the ops that it has just decoded. They are in the processor's
    cache, so this takes half the time that it would take after all ops are read.
    """

    def __init__(self) -> None:
        self._ops = 0
        self._in_sequence = True
        self._processes = _Processes()
        self._functions: defaultdict[Any, int] = defaultdict(count().__next__)
        self._keys: defaultdict[Any, int] | None = defaultdict(count().__next__)
        self._values: defaultdict[Any, int] = defaultdict(count().__next__)
        self._values[_STRUCTURE] = UNNUMBERED
        self._types: list[bytes] = []
        self._process: list[NDArray[np.int32]] = []
        self._f: list[NDArray[np.int32]] = []
        self._key: list[NDArray[np.int32]] = []
        self._value: list[NDArray[np.int32]] = []

    def feed(self, ops: Sequence[Op]) -> None:
        """Take in the next ops. Cost: 0.3 us an op, and 0.1 us a new value."""
        for start in range(0, len(ops), OPS_AT_A_TIME):
            self._feed(ops[start : start + OPS_AT_A_TIME])

    def _feed(self, ops: Sequence[Op]) -> None:
        positions = list(range(self._ops, self._ops + len(ops)))
        self._ops += len(ops)
        self._in_sequence &= [op.index for op in ops] == positions
        self._types.append(bytes([_TYPES[op.type] for op in ops]))
        self._process.append(_look_up([op.process for op in ops], self._processes))
        self._f.append(_look_up([op.f for op in ops], self._functions))
        if self._keys is not None:
            keys = [op.key for op in ops]
            if PLAIN.issuperset(map(type, keys)):
                self._key.append(_look_up(keys, self._keys))
            else:
                self._keys = None
        values = [op.value for op in ops]
        if not PLAIN.issuperset(map(type, values)):
            values = [v if type(v) in PLAIN else _structure(v) for v in values]
        self._value.append(_look_up(values, self._values))

    def columns(self) -> Columns:
        """The columns of all ops that came in; no more may come after that."""
        self._values.default_factory = None
        del self._values[_STRUCTURE]
        return self._made(self._values)

    def so_far(self) -> Columns:
        """The columns of the ops that came in until now; more may come."""
        values = dict(self._values)
        del values[_STRUCTURE]
        return self._made(values)

    def _made(self, values: Mapping[Any, int]) -> Columns:
        return Columns(
            self._in_sequence,
            self._processes.has_names,
            _joined(self._process),
            np.frombuffer(b"".join(self._types), np.uint8),
            _joined(self._f),
            list(self._functions),
            None if self._keys is None else _joined(self._key),
            list(self._keys or ()),
            _joined(self._value),
            values,
        )


class _Processes(dict[Any, int]):
    """Process -> its number, given when it is first asked for."""

    has_names = False

    def __missing__(self, process: int | str) -> int:
        is_one = is_client(process)
        self.has_names |= is_one and type(process) is not int
        number = self[process] = len(self) if is_one else NAMED
        return number


_STRUCTURE: Final = ()
"""The key of all values that get no number."""


def _structure(value: Any) -> tuple[Any, ...]:
    """A list of two plain values, such as a cas has, as a tuple; else _STRUCTURE."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        first, second = value
        if type(first) in PLAIN and type(second) in PLAIN:
            return (first, second)
    return _STRUCTURE


def _look_up(items: Sequence[Any], numbers: Mapping[Any, int]) -> NDArray[np.int32]:
    return np.fromiter(map(numbers.__getitem__, items), np.int32, len(items))


def _joined(pieces: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate([np.empty(0, np.int32), *pieces])


def columns(ops: Sequence[Op]) -> Columns:
    """The columns of `ops`. Cost: 0.3 us an op, and 0.1 us a new value."""
    builder = ColumnsBuilder()
    builder.feed(ops)
    return builder.columns()


def as_column(numbers: Sequence[int]) -> NDArray[np.int64]:
    """The numbers as a column; an array of numbers is not copied."""
    return np.asarray(numbers, np.int64)


def number(items: Sequence[Any]) -> tuple[list[Any], NDArray[np.int32]]:
    """Distinct items in order of appearance, and each item's number among them.

    Items must be hashable, and few of them distinct. Cost: 40 ns an item.
    """
    distinct: list[Hashable] = list(dict.fromkeys(items))
    numbers = {item: n for n, item in enumerate(distinct)}
    return distinct, _look_up(items, numbers)


def pair(events: Columns) -> NDArray[np.int64] | None:
    """Each event's partner, or ALONE; None if the events don't pair up.

    They pair up if indices are dense and every client's events are, in turn, an
    invocation and its completion, with the same function. Cost: 20 ns an op.
    """
    if not events.in_sequence:
        return None
    partner = np.full(len(events.process), ALONE, np.int64)
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
    """The positions of small whole numbers, sorted by number and then by position.

    numpy sorts 16-bit numbers by radix, ten times as fast as larger ones.
    """
    if len(numbers) and np.abs(numbers).max() < 2**15:
        numbers = numbers.astype(np.int16)
    order: NDArray[np.int64] = np.argsort(numbers, kind="stable")
    return order
