"""The codec and final reads that workloads of one-shot transactions have in common.

Sets, counters, queues, banks and lists of appends all use the same request (`txn`,
WIRE.md): a list of micro-operations, done at once. So every store that serves `txn`,
replicated or sharded, can run all of these workloads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from harness.errors import NodeReply
from harness.options import Whole
from harness.override import override
from harness.workload import WireCodec
from harness.workload.generator import DONE, PENDING, Flow, Generator, Invocation, place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.history import Op
    from harness.workload.generator import Context, Offer, Seeds, Step

COUNT = Whole(1, 1_000_000)
"""An option that counts something; no run gets beyond a million."""

MicroOp = list[Any]
"""[f, key, value]; f is r, w, append, add or pop."""


class Translation(Protocol):
    """Turns a workload's operations into micro-operations, and results into values."""

    def to_txn(self, op: Op) -> list[MicroOp]:
        """The transaction that `op` asks for."""
        ...

    def to_value(self, op: Op, done: Sequence[MicroOp]) -> Any:
        """The value of the ok completion of `op`, whose results are `done`."""
        ...


class TxnCodec(WireCodec):
    """A `WireCodec` for operations that are transactions."""

    def __init__(self, translation: Translation) -> None:
        self._translation = translation

    @override
    def request(self, op: Op) -> dict[str, Any]:
        return {"type": "txn", "txn": self._translation.to_txn(op)}

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        """The completion that a `txn_ok` means.

        Raises:
            NodeReply: Indefinite, unless the answer has the micro-operations that were
                asked for, with results filled in.
        """
        done = body.get("txn")
        asked = self._translation.to_txn(op)
        if (
            body.get("type") != "txn_ok"
            or not isinstance(done, list)
            or len(done) != len(asked)
            or any(
                not isinstance(theirs, list)
                or len(theirs) != 3
                or theirs[:2] != ours[:2]
                for theirs, ours in zip(done, asked, strict=True)
            )
        ):
            raise NodeReply(definite=False, text="answered a txn with something else")
        return op.ok(self._translation.to_value(op, done))

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return None


class _OncePerThread(Flow):
    """Every client thread does each of `operations` once, in that order."""

    __slots__ = ("_left",)

    def __init__(self, operations: Sequence[Invocation], concurrency: int) -> None:
        self._left = {thread: list(operations) for thread in range(concurrency)}

    @override
    def next(self, ctx: Context) -> Step:
        if not any(self._left.values()):
            return DONE
        for thread in ctx.members(ctx.free & ctx.clients):
            assert isinstance(thread, int)
            if self._left[thread]:
                todo = self._left[thread][0]
                return place(Invocation(todo.f, todo.value, todo.key, thread), ctx)
        return PENDING

    @override
    def take(self, offer: Offer) -> None:
        assert isinstance(offer, Invocation)
        assert isinstance(offer.thread, int)
        self._left[offer.thread].pop(0)


def once_per_thread(
    operations: Callable[[], Sequence[Invocation]], concurrency: int
) -> Generator:
    """Final operations: all of `operations()`, on every thread, so on every node.

    `operations` is called when the final phase begins: only then it is known what there
    is to read.
    """

    def start(_: Seeds) -> Flow:
        return _OncePerThread(operations(), concurrency)

    return Generator("once per thread", start)
