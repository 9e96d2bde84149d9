"""Operations and histories: what clients did, in the order it was seen.

A history is a dense list of `Op`s. Every client operation is an `invoke`, later
followed by at most one completion of the same process: `ok` (it happened), `fail` (it
did not), or `info` (nobody knows; it stays concurrent with everything that follows).
The vocabulary and the rules are Jepsen's; positions in the list, not clock readings,
give the order of events.

Choices: an operation on one of several independent keys carries its key in a field of
its own. Jepsen writes `:value [k v]` and tells it from an ordinary vector by its class,
which JSON can't express.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import msgspec

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from harness.columns import Columns

OpType = Literal["invoke", "ok", "fail", "info"]

NO_COMPLETION = -1
"""In `History.completion`: the operation never returned."""


MESSAGE_CHARS_MAX = 2_000


class HistoryError(UsageError):
    """A history breaks the rules; says where (file, line) and which rule.

    What the text quotes comes from a file, so it is one line of bounded length,
    whatever that holds: a name may have megabytes.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MESSAGE_CHARS_MAX:
            text = f"{text[: MESSAGE_CHARS_MAX - 400]}...{text[-390:]}"
        if not text.isprintable():
            text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        super().__init__(text)


class Op(msgspec.Struct, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """One event of a history.

    Attributes:
        index: Position in the history, dense from 0.
        time: Nanoseconds since the start of the run, monotonic.
        process: Who does it: a client, by number or by name, or the nemesis; see
            `is_client`.
        type: invoke, ok, fail or info.
        f: What is done: "read", "write", "cas", "txn", ...
        value: Argument or result; JSON-able. A read's value is in its completion.
        key: The independent key operated on, or None.
        error: Why it failed or is unknown.
        node: The cluster member spoken to.
        extra: Whatever else a foreign history says of the event.
    """

    index: int
    time: int
    process: int | str
    type: OpType
    f: str
    value: Any = None
    key: Any = None
    error: Any = None
    node: str | None = None
    extra: dict[str, Any] | None = None

    def complete(self, kind: OpType, value: Any = None, error: Any = None) -> Op:
        """A completion of this invocation; index and time are given on recording."""
        return Op(
            -1, -1, self.process, kind, self.f, value, self.key, error, self.node, None
        )

    def ok(self, value: Any = None) -> Op:
        """It happened, with this result."""
        return self.complete("ok", value)

    def fail(self, error: Any = None) -> Op:
        """It certainly did not happen."""
        return self.complete("fail", self.value, error)

    def info(self, error: Any = None) -> Op:
        """Nobody knows whether it happened, or whether it still will."""
        return self.complete("info", self.value, error)

    @property
    def is_client(self) -> bool:
        """True for client operations, False for those of nemeses and bystanders."""
        return is_client(self.process)


class Bystander(str):
    """The name of a process that is neither client nor nemesis.

    It never invokes anything and never says that anything succeeded or failed: all that
    it does is `info`, as all that nodes observe of themselves is.
    """

    __slots__ = ()


def is_client(process: int | str) -> bool:
    """Whether operations of this process are a client's.

    Jepsen's clients are numbers, and its nemesis is `:nemesis`. Others name their
    clients ("c0", "client-1"), so a name is a client's too, unless it begins with
    "nemesis" or is known to be a `Bystander`'s.
    """
    if type(process) is int:
        return True
    if type(process) is Bystander:
        return False
    name = cast("str", process)
    return not name.lstrip(":").lower().startswith("nemesis")


def set_bystanders_aside(ops: Iterable[Op]) -> frozenset[str]:
    """Make a `Bystander` of each name under which there are but `info` events.

    Returns those names.

    Of a history that has completions but no invocations, nobody can tell them from
    clients that crashed, so there all names stay clients'. Cost: linear.
    """
    types: dict[str, set[OpType]] = {}
    every: set[OpType] = set()
    watching: list[Op] = []
    for op in ops:
        process = op.process
        if not is_client(process):
            continue
        every.add(op.type)
        if type(process) is not int:
            types.setdefault(cast("str", process), set()).add(op.type)
            if op.type == "info":
                watching.append(op)
    if "invoke" not in every and every != {"info"}:
        return frozenset()
    found = frozenset(name for name, seen in types.items() if seen == {"info"})
    for op in watching:
        if op.process in found:
            op.process = Bystander(op.process)
    return found


class History:
    """A checked sequence of ops, with invocations and completions paired.

    Attributes:
        ops: The ops; `ops[i].index == i`. They don't change any more, for columns are
            made of them.
        partner: As `completion`, as a numpy column.
        completions_only: Not every completion has its invocation, as in a foreign
            history that holds completions only. Then `calls` misses operations, and
            nothing is known about real time: each completion is an operation of its
            own, which a checker has to take from `ops`.
        bystanders: Names that a reader of a file, or `History`, found to be such.
        source: File name or other origin, for messages.
        lines: The line of `source` that holds each op; None when nobody knows.
        remark: What a reader of the file took upon itself, for whoever reads a verdict.

    Args:
        ops: The events, in order.
        strict: Refuse a history whose clients' events don't pair up.
        source: See the attribute.
        where: Turns the position of an op into what messages call it; by default
            `source` and the position.
        completion: See the attribute; given when `ops` are known to pair up.
        columns: See the attribute; given when they are known.
        bystanders: See the attribute; given when they are known.

    Raises:
        HistoryError: From the constructor, when `strict` and a client's invocation and
            completion do not pair up. Cost: linear.
    """

    __slots__ = (
        "_columns",
        "_completion",
        "bystanders",
        "completions_only",
        "lines",
        "ops",
        "partner",
        "remark",
        "source",
    )

    def __init__(
        self,
        ops: Sequence[Op],
        *,
        strict: bool = True,
        source: str = "history",
        where: Callable[[int], str] | None = None,
        completion: Sequence[int] | None = None,
        columns: Columns | None = None,
        bystanders: frozenset[str] | None = None,
    ) -> None:
        # Who only records has no need of numpy, which takes 0.1 s to import.
        from harness import columns as numbered

        self.ops = ops
        self.source = source
        self.lines: Sequence[int] | None = None
        self.remark = ""
        self.completions_only = False
        self.bystanders: frozenset[str] = bystanders or frozenset()
        self._completion = completion
        self._columns: Columns | None = None
        if completion is not None:
            self.partner: NDArray[np.int64] = numbered.as_column(completion)
            return
        self._columns = columns or numbered.columns(ops)
        if bystanders is None and self._columns.has_names:
            self.bystanders = set_bystanders_aside(ops)
            if self.bystanders:
                self._columns = numbered.columns(ops)
        partner = numbered.pair(self._columns)
        if partner is None:
            # The slow way knows what is wrong, or what is certain all the same.
            if strict:
                pair(ops, where or (lambda i: f"{source}: op {i}"))
                raise AssertionError("both ways of pairing should refuse the same")
            partner, self.completions_only = pair_leniently(ops)
        self.partner = partner

    @property
    def completion(self) -> Sequence[int]:
        """The other end of each call, by index.

        `completion[i]` is the index of the completion of invocation i, or
        NO_COMPLETION; for a completion, the index of its invocation, or NO_COMPLETION
        where a foreign history holds completions only.
        """
        if self._completion is None:
            self._completion = self.partner.tolist()
        return self._completion

    @property
    def columns(self) -> Columns:
        """What every event is, as numpy columns."""
        if self._columns is None:
            from harness import columns

            self._columns = columns.columns(self.ops)
        return self._columns

    def place(self, index: int) -> str:
        """Where an op stands, for messages: its line, or else its position."""
        if self.lines is None:
            return f"{self.source}: op {index}"
        return f"{self.source}:{self.lines[index]}"

    def __len__(self) -> int:
        return len(self.ops)

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def __getitem__(self, index: int) -> Op:
        return self.ops[index]

    def calls(self) -> Iterator[tuple[Op, Op | None]]:
        """Client operations in order of invocation: (invoke, completion or None)."""
        completion = self.completion
        for i, op in enumerate(self.ops):
            if op.type == "invoke" and op.is_client:
                j = completion[i]
                yield op, (None if j == NO_COMPLETION else self.ops[j])


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
