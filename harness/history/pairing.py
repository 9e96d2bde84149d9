"""Which completion belongs to which invocation, one event at a time.

`columns.pair` does the same for a whole history at once, and faster; it is asked first.
This way knows what is wrong where events don't pair up, in words, and can pair events
while they come in.
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
        where: Turns the position of an op into what messages call it.

    Attributes:
        completion: See `History.completion`.
    """

    def __init__(self, where: Callable[[int], str]) -> None:
        self.completion = array("q")
        self._where = where
        self._open: dict[int | str, tuple[int, str]] = {}
        self._unasked: dict[str, HistoryError] = {}
        self._named: set[str] = set()

    def feed(self, ops: Iterable[_Event]) -> None:
        """Take in the next ops.

        What is no client's is never paired.

        Raises:
            HistoryError: An index out of sequence, a second invocation of a process
                that has one open, or a completion nobody invoked. Where a name may yet
                turn out to be a bystander's, `finish` raises it.
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
        """The names that turned out to be bystanders', when all ops are taken in.

        Raises:
            HistoryError: A client completed what nobody invoked.
        """
        for name, problem in self._unasked.items():
            if name in self._named:
                raise problem
        return frozenset(self._unasked.keys() - self._named)


class _Event(Protocol):
    """What pairing needs to know of an op."""

    index: int
    process: int | str
    type: OpType
    f: str


def pair(ops: Sequence[Op], where: Callable[[int], str]) -> list[int]:
    """Match invocations with completions; see `History.completion`.

    `columns.pair` does the same faster, but can't say what is wrong.

    Raises:
        HistoryError: See `Pairing.feed`.
    """
    pairing = Pairing(where)
    pairing.feed(ops)
    pairing.finish()
    return pairing.completion.tolist()


def pair_leniently(ops: Sequence[Op]) -> tuple[NDArray[np.int64], bool]:
    """Like `pair`, but what isn't certain stays unpaired.

    Returns `partner`, and whether a completion is without its invocation. Of a
    process that has two calls open, nobody can tell which of them returns, so neither
    call is paired, nor what completes them.
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
