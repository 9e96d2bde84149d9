"""Operations of clients, as events in the order in which they were seen.

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

from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

OpType = Literal["invoke", "ok", "fail", "info"]

NO_COMPLETION = -1
"""In `History.completion`: the operation never returned."""


MESSAGE_CHARS_MAX = 2_000


class HistoryError(UsageError):
    """A history breaks the rules; says where (file, line) and which rule.

    The text is cut to one line of bounded length, as it quotes from a file, in which a
    name may have megabytes.
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
        process: A client, by number or by name, or the nemesis (`is_client`).
        type: invoke, ok, fail or info.
        f: The function: "read", "write", "cas", "txn", ...
        value: Argument or result; JSON-able. A read's value is in its completion.
        key: The independent key operated on, or None.
        error: Why the operation failed or is unknown.
        node: The node that the client talked to.
        extra: Other fields that a foreign history has of the event.
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
        """A completion of this invocation; recording gives it its index and time."""
        return Op(
            -1, -1, self.process, kind, self.f, value, self.key, error, self.node, None
        )

    def ok(self, value: Any = None) -> Op:
        """A completion saying that it happened, with this result."""
        return self.complete("ok", value)

    def fail(self, error: Any = None) -> Op:
        """A completion saying that it certainly did not happen, and never will."""
        return self.complete("fail", self.value, error)

    def info(self, error: Any = None) -> Op:
        """A completion saying that it may have happened, or may still happen."""
        return self.complete("info", self.value, error)

    @property
    def is_client(self) -> bool:
        """True for client operations, False for those of nemeses and bystanders."""
        return type(self.process) is int or is_client(self.process)


class Bystander(str):
    """The name of a process that is neither client nor nemesis.

    It never invokes anything, and no operation of it succeeds or fails: all its events
    are `info`, as are those that nodes observe of themselves.
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
    """Make a `Bystander` of each name that has `info` events only. Cost: linear.

    In a history of completions without invocations, a bystander can't be told from a
    client that crashed, so there all names stay clients'.

    Returns:
        The names of the bystanders.
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
