"""The transactions of a history, whatever form they come in.

A transaction is one client operation whose value is a list of micro-operations,
`[f, key, value]`. The completion of an `ok` transaction tells what it did. A
transaction of unknown outcome (`info`, or no completion) may have written what its
invocation says; its reads tell nothing.

In histories of completions only, each completion is a transaction of its own and there
is no real time; the order of a process's completions is its session order.

Keys, elements and registers hold any value of JSON or EDN. Two of them are the same
when `specification.freeze` makes the same of both: true is not 1, 1.0 is. Numbers and
text are their own frozen form. So scans take values as they are as long as these are
`SIMPLE`; if they are not, scans begin again with frozen ones
(`Transactions.normalise`).
"""

from __future__ import annotations

import enum
from array import array
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from checkers.linearizability.specification import freeze, thaw
from harness.history import NO_COMPLETION, HistoryError
from harness.history.formats.lean import NOBODY, OP_TYPES, LeanOps

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from harness.history import History

NEVER = 1 << 40
"""The end of a transaction that did not return ok; later than any position."""

PROCESS_MAX = (1 << 63) - 1

PAUSE_EVERY = 4096
"""Transactions looked at between two looks at the limits."""

MicroOps = list[Any]


class Outcome(enum.IntEnum):
    """What became of a transaction."""

    OK = 0
    INFO = 1
    FAIL = 2


class Labels(Protocol):
    """Tells equal values apart; see `checkers.isolation.writers`."""

    def of(self, row: int, micro_ops: MicroOps) -> MicroOps:
        """The micro-operations of a transaction, with values told apart."""
        ...


@dataclass(frozen=True, slots=True)
class Copy:
    """One append of an element that was appended more than once.

    Attributes:
        value: The element.
        number: Which append of it to the key; negative if there was no such append.
    """

    value: Hashable
    number: int


def plain(value: Hashable) -> Any:
    """The value that a history holds, from what checkers make of it."""
    return thaw(value.value if isinstance(value, Copy) else value)


def no_pause() -> None:
    """Never raises: the pause of a check without limits."""


class Transactions:
    """The transactions of a history as columns; a transaction is a row number.

    Attributes:
        history: Where they come from.
        outcome: An `Outcome` each.
        start: Position of the invocation; of the completion where that is missing.
        end: Position of the ok completion, NEVER if there is none.
        process: Who ran it, as a number, also if the history has a word for it; see
            `process_name`.
        ops: The position that reports name: the completion's, or the invocation's if
            there is none.
        has_realtime: Whether `start` and `end` tell about real time.
        labels: Tells equal values apart; None if that is not necessary.
    """

    def __init__(self, history: History, *, has_realtime: bool = True) -> None:
        self.history = history
        self.outcome = array("b")
        self.start = array("q")
        self.end = array("q")
        self.process = array("q")
        self.ops = array("q")
        self.has_realtime = has_realtime
        self._told_at = array("q")  # the op that tells what was done
        self._form: _Form | None = None
        self.labels: Labels | None = None
        self._words: dict[str, int] = {}  # a process named by a word -> its number

    def __len__(self) -> int:
        return len(self.ops)

    def add(self, first: int, last: int) -> None:
        """Append a transaction, given the positions of its invocation and completion.

        If one of them is missing, both arguments are the position of the other.

        Raises:
            HistoryError: The process has too large a number.
        """
        outcome = _OUTCOMES[self.history.ops[last].type]
        is_ok = outcome == Outcome.OK
        self.outcome.append(outcome)
        self.start.append(first)
        self.end.append(last if is_ok else NEVER)
        process = self.history.ops[last].process
        if not isinstance(process, int):
            number = -PROCESS_MAX + len(self._words)
            self.process.append(self._words.setdefault(process, number))
        elif abs(process) > PROCESS_MAX:
            raise HistoryError(f"op {last}: process {process} can't be")
        else:
            self.process.append(process)
        self.ops.append(last)
        self._told_at.append(last if is_ok else first)

    def add_all(self, ops: LeanOps) -> None:
        """Append all calls of a history that is left in its file."""
        kind = np.asarray(ops.kind)
        process = np.asarray(ops.process)
        completion = np.asarray(self.history.completion)
        first = np.flatnonzero((process != NOBODY) & (kind == 0))
        last = np.where(completion[first] == NO_COMPLETION, first, completion[first])
        outcome = np.array([_OUTCOMES[name] for name in OP_TYPES], np.int8)[kind[last]]
        is_ok = outcome == Outcome.OK
        self.outcome.frombytes(outcome.tobytes())
        for column, values in (
            (self.start, first),
            (self.end, np.where(is_ok, last, NEVER)),
            (self.process, process[first]),
            (self.ops, last),
            (self._told_at, np.where(is_ok, last, first)),
        ):
            column.frombytes(values.astype(np.int64).tobytes())

    def micro_ops(self) -> Iterator[tuple[int, MicroOps]]:
        """Yield each row with its micro-operations.

        They are those of the ok completion, or else those of the invocation. Committed
        transactions of a process come in their order.

        Raises:
            HistoryError: `normalise` was called, and a value can't be normalised.
        """
        told = self._as_told()
        if self._form is None and self.labels is None:
            return told
        return ((row, self._formed(row, done)) for row, done in told)

    def micro_ops_of(self, rows: Iterable[int]) -> Iterator[tuple[int, MicroOps]]:
        """Yield these rows with their micro-operations; call `micro_ops` first."""
        for row in rows:
            yield row, self._formed(row, self.history.ops[self._told_at[row]].value)

    def _formed(self, row: int, done: Any) -> MicroOps:
        if self._form is not None:
            done = self._form.of(self, row, done)
        return done if self.labels is None else self.labels.of(row, done)

    def _as_told(self) -> Iterator[tuple[int, Any]]:
        ops = self.history.ops
        if not isinstance(ops, LeanOps):
            return ((row, ops[at].value) for row, at in enumerate(self._told_at))
        row_of = np.full(len(ops), -1, np.int64)
        row_of[np.asarray(self._told_at)] = np.arange(len(self))
        is_told = row_of >= 0
        values = map(itemgetter(1), ops.values(is_told))  # in the order of positions
        return zip(row_of[is_told].tolist(), values, strict=True)

    def normalise(
        self, functions: Sequence[str], frozen: Callable[[str, Any], Any]
    ) -> None:
        """Make `micro_ops` give triples of frozen values.

        Pairs `[f, key]` have the value None. The scans of checkers take triples and
        simple values for granted and call this when they meet anything else, so that
        ordinary histories don't pay for it.

        Args:
            functions: Micro-operations that the checker knows.
            frozen: Makes the f and value of one a frozen value, or a list of them;
                raises ValueError that says what is wrong with it.
        """
        self._form = _Form(functions, frozen)

    @property
    def is_frozen(self) -> bool:
        """Whether values are known to be frozen, or simple."""
        return self._form is not None or self.labels is not None

    def relabel(self, labels: Labels) -> None:
        """Pass micro-operations through `labels` from now on.

        The history must have been scanned, and normalised if that was necessary.
        """
        self.labels = labels

    def name(self, row: int) -> str:
        """What reports call it: "T" and the position in the history."""
        return f"T{self.ops[row]}"

    def process_name(self, row: int) -> int | str:
        """Who ran it, as the history calls it."""
        return self.history.ops[self.ops[row]].process


_OUTCOMES = {
    "ok": Outcome.OK,
    "fail": Outcome.FAIL,
    "info": Outcome.INFO,
    "invoke": Outcome.INFO,
}


def collect(history: History) -> Transactions:
    """All transactions of clients, in order of invocation. Cost: linear."""
    found = Transactions(history, has_realtime=not history.completions_only)
    if isinstance(history.ops, LeanOps):
        found.add_all(history.ops)
        return found
    open_calls = []
    for i, op in enumerate(history.ops):
        if not op.is_client:
            continue
        other = history.completion[i]
        if op.type != "invoke":
            if not found.has_realtime:
                found.add(i if other == NO_COMPLETION else other, i)
        elif found.has_realtime:
            found.add(i, i if other == NO_COMPLETION else other)
        elif other == NO_COMPLETION:
            open_calls.append(i)
    # An invocation without its completion may be any of the above, so it comes last:
    # it counts as the writer of what nobody else wrote.
    for i in open_calls:
        found.add(i, i)
    return found


@dataclass(frozen=True)
class _Form:
    """The form of micro-operations that checkers take; see `Transactions.normalise`."""

    functions: Sequence[str]
    frozen: Callable[[str, Any], Any]

    def of(self, transactions: Transactions, row: int, micro_ops: Any) -> MicroOps:
        """The micro-operations of a transaction, as triples.

        Raises:
            HistoryError: Names the operation and what is wrong with it.
        """
        if not isinstance(micro_ops, list | tuple):
            refuse(
                transactions, row, f"{micro_ops!r:.60} is no list of micro-operations"
            )
        triples = []
        for micro_op in micro_ops:
            if not isinstance(micro_op, list | tuple) or len(micro_op) not in {2, 3}:
                refuse(transactions, row, f"{micro_op!r:.60} is no [f, key, value]")
            f, key, value = (*micro_op, None)[:3]
            if f not in self.functions:
                known = " nor ".join(self.functions)
                refuse(
                    transactions, row, f"micro-operation {f!r:.30} is neither {known}"
                )
            try:
                value = self.frozen(f, value)
            except ValueError as problem:
                refuse(transactions, row, f"{micro_op!r:.60}: {problem}")
            triples.append((f, freeze(key), value))
        return triples


def refuse(transactions: Transactions, row: int, problem: str) -> NoReturn:
    """Raise a HistoryError that names the transaction's operation."""
    raise HistoryError(f"op {transactions.ops[row]}: {problem}")


SIMPLE = frozenset({int, str, type(None)})
"""Types of values that are their own frozen form and equal no value of another type.

Floats other than NaN would do as well; as they are rare, they are frozen like the rest.
"""


def is_plain(value: Any) -> bool:
    """Whether `value` may be a key or an element: hashable, and equal to itself."""
    try:
        return hash(value) is not None and value == value  # NaN isn't
    except TypeError:
        return False
