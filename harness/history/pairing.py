"""Pairs invocations with completions, one event at a time.

`columns.pair` does the same for a whole history at once, and faster, so it is tried
first. This module can say in words why events don't pair up, and can pair events while
they come in.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Protocol, cast

from harness.history.ops import NO_COMPLETION, HistoryError, is_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from harness.history.ops import Op, OpType


class Pairing:
    """Matches invocations with completions, as ops come in.

    Args:
        where: Turns the position of an op into its name in messages.

    Attributes:
        completion: For each op the index of the other end of its call; else
            NO_COMPLETION.
    """

    def __init__(self, where: Callable[[int], str]) -> None:
        self.completion = array("q")
        self._where = where
        self._open: dict[int | str, tuple[int, str]] = {}
        self._unasked: dict[str, HistoryError] = {}
        self._named: set[str] = set()

    def feed(self, ops: Iterable[_Event]) -> None:
        """Take in the next ops; only those of clients are paired.

        Raises:
            HistoryError: An index is out of sequence, a process invokes while it has a
                call open, or completes what it did not invoke. If the process may yet
                turn out to be a bystander, `finish` raises the last of these.
        """
        completion, where, open_calls = self.completion, self._where, self._open
        for i, op in enumerate(ops, start=len(completion)):
            completion.append(NO_COMPLETION)
            if op.index != i:
                raise HistoryError(
                    f"{where(i)}: index {op.index} is out of sequence, expected {i}; "
                    "the history is damaged or its lines were reordered"
                )
            process = op.process
            if type(process) is not int:
                if not is_client(process):
                    continue
                if op.type != "info":
                    self._named.add(cast("str", process))
            if op.type == "invoke":
                if process in open_calls:
                    j, f = open_calls[process]
                    raise HistoryError(
                        f"{where(i)}: process {process} invokes {op.f} while its "
                        f"{f} (op {j}) is open"
                    )
                open_calls[process] = i, op.f
                continue
            j, f = open_calls.pop(process, (NO_COMPLETION, ""))
            if j == NO_COMPLETION:
                problem = HistoryError(
                    f"{where(i)}: process {process} completes {op.f} "
                    "without having invoked it"
                )
                if type(process) is not int and op.type == "info":
                    self._unasked.setdefault(cast("str", process), problem)
                    continue
                raise problem
            if f != op.f:
                raise HistoryError(
                    f"{where(i)}: process {process} completes {op.f} but invoked "
                    f"{f} (op {j})"
                )
            completion[i] = j
            completion[j] = i

    def finish(self) -> frozenset[str]:
        """The names of bystanders, once all ops are taken in.

        Raises:
            HistoryError: A client completed what it did not invoke.
        """
        for name, problem in self._unasked.items():
            if name in self._named:
                raise problem
        return frozenset(self._unasked.keys() - self._named)


class _Event(Protocol):
    """The fields of an op that pairing looks at."""

    index: int
    process: int | str
    type: OpType
    f: str


def pair(ops: Sequence[Op], where: Callable[[int], str]) -> list[int]:
    """Match invocations with completions, as `History.completion` has them.

    `columns.pair` does the same faster, but can't say what is wrong.

    Raises:
        HistoryError: The ops don't pair up; says where and why.
    """
    pairing = Pairing(where)
    pairing.feed(ops)
    pairing.finish()
    return pairing.completion.tolist()


def pair_leniently(ops: Sequence[Op]) -> tuple[NDArray[np.int64], bool]:
    """Match invocations with completions where that is certain.

    If a process has two calls open, it can't be told which of them returns, so neither
    these calls nor their completions are paired.

    Returns:
        The column `partner`, and whether a completion lacks its invocation.
    """
    import numpy as np

    completion = [NO_COMPLETION] * len(ops)
    open_calls: dict[int | str, list[int]] = {}
    lone = False
    for i, op in enumerate(ops):
        if not op.is_client:
            continue
        calls = open_calls.setdefault(op.process, [])
        if op.type == "invoke":
            calls.append(i)
        elif len(calls) == 1 and ops[calls[0]].f == op.f:
            j = calls.pop()
            completion[i], completion[j] = j, i
        else:
            lone = True
    return np.array(completion, np.int64), lone
