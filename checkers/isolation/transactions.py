"""The transactions of a history, whatever form they come in.

A transaction is one client operation whose value is a list of micro-operations,
`[f, key, value]`. What an `ok` one did stands in its completion. One whose outcome
nobody knows (`info`, or no completion) may have written what its invocation says; what
it read tells nothing.

In histories of completions only, each completion is a transaction of its own and there
is no real time; the order of a process's completions is its session order.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, cast

from harness.history import NO_COMPLETION, HistoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.history import History, Op

NEVER = 1 << 40
"""The end of a transaction of which nobody knows that it ended; later than any."""

MicroOps = list[Any]


class Outcome(enum.IntEnum):
    """What became of a transaction."""

    OK = 0
    INFO = 1
    FAIL = 2


@dataclass
class Transactions:
    """The transactions of a history as columns; a transaction is a row number.

    Attributes:
        history: Where they come from.
        micro_ops: What each did, as the completion says or, for want of an ok one, the
            invocation.
        outcome: An `Outcome` each.
        start: Position of the invocation; of the completion where that is missing.
        end: Position of the ok completion, NEVER if there is none.
        process: Who ran it.
        ops: The position that stands for it in reports: where it ended, if it did.
        has_realtime: Whether `start` and `end` tell about real time.
    """

    history: History
    micro_ops: list[MicroOps] = field(default_factory=list)
    outcome: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    process: list[int] = field(default_factory=list)
    ops: list[int] = field(default_factory=list)
    has_realtime: bool = True

    def __len__(self) -> int:
        return len(self.micro_ops)

    def add(self, invoke: Op | None, end: Op | None) -> None:
        """Append the transaction of a call; one of both events may be missing."""
        first, last = invoke or end, end or invoke
        assert first is not None
        assert last is not None
        outcome = _OUTCOMES[last.type]
        is_ok = outcome == Outcome.OK
        self.micro_ops.append((last if is_ok else first).value)
        self.outcome.append(outcome)
        self.start.append(first.index)
        self.end.append(last.index if is_ok else NEVER)
        self.process.append(cast("int", last.process))
        self.ops.append(last.index)

    def name(self, row: int) -> str:
        """What reports call it: "T" and the position in the history."""
        return f"T{self.ops[row]}"


_OUTCOMES = {
    "ok": Outcome.OK,
    "fail": Outcome.FAIL,
    "info": Outcome.INFO,
    "invoke": Outcome.INFO,
}


def collect(history: History) -> Transactions:
    """All transactions of clients, in order of invocation. Cost: linear."""
    found = Transactions(history, has_realtime=not history.completions_only)
    if not history.completions_only:
        for invoke, end in history.calls():
            found.add(invoke, end)
        return found
    open_calls = []
    for i, op in enumerate(history.ops):
        if not op.is_client:
            continue
        other = history.completion[i]
        if op.type != "invoke":
            found.add(None if other == NO_COMPLETION else history.ops[other], op)
        elif other == NO_COMPLETION:
            open_calls.append(op)
    # An invocation without its completion may be any of the above, so it comes last:
    # it counts as the writer of what nobody else wrote.
    for op in open_calls:
        found.add(op, None)
    return found


def normalise(
    transactions: Transactions,
    functions: Sequence[str],
    problem_of: Callable[[str, Any], str],
) -> None:
    """Make every micro-operation a triple; pairs `[f, key]` have the value None.

    The scans of checkers take triples for granted and come here when they trip, so
    that ordinary histories don't pay for it.

    Args:
        transactions: Whose `micro_ops` are replaced.
        functions: Micro-operations that the checker knows.
        problem_of: Says what is wrong with the f and value of one; "" if nothing is.

    Raises:
        HistoryError: Names the operation and what is wrong with it. Cost: linear.
    """
    for row, micro_ops in enumerate(transactions.micro_ops):
        if not isinstance(micro_ops, list | tuple):
            refuse(
                transactions, row, f"{micro_ops!r:.60} is no list of micro-operations"
            )
        triples = []
        for micro_op in micro_ops:
            if not isinstance(micro_op, list | tuple) or len(micro_op) not in {2, 3}:
                refuse(transactions, row, f"{micro_op!r:.60} is no [f, key, value]")
            f, key, value = (*micro_op, None)[:3]
            if f not in functions:
                known = " nor ".join(functions)
                refuse(
                    transactions, row, f"micro-operation {f!r:.30} is neither {known}"
                )
            if not is_plain(key):
                refuse(transactions, row, f"{key!r:.60} can't be a key")
            if problem := problem_of(f, value):
                refuse(transactions, row, f"{micro_op!r:.60}: {problem}")
            triples.append((f, key, value))
        transactions.micro_ops[row] = triples


def refuse(transactions: Transactions, row: int, problem: str) -> NoReturn:
    """Raise a HistoryError that names the transaction's operation."""
    raise HistoryError(f"op {transactions.ops[row]}: {problem}")


def is_plain(value: Any) -> bool:
    """Whether `value` may be a key or an element: hashable, and equal to itself."""
    try:
        return hash(value) is not None and value == value  # NaN isn't
    except TypeError:
        return False
