"""Messages are broadcast to all nodes, which must deliver them in one order.

At the end every thread reads the whole sequence that its node delivered. Promise: total
order and primary order broadcast (Junqueira, Reed and Serafini 2011), judged by
`total_order`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import NodeReply
from harness.options import SHARE, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import WireCodec, Workload
from harness.workload.generator import (
    DONE,
    PENDING,
    Flow,
    Generator,
    Invocation,
    from_function,
)
from harness.workload.generator import place as placed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WorkloadFactory
    from harness.workload.generator import Context, Event, Offer, Step

PAGE = Whole(1, 100_000)

OPTIONS = (
    Option("page", "2000", "messages in one answer, when sequences are read", PAGE),
    Option(
        "read_share",
        "0.05",
        "part of the operations that read a page of sequence",
        SHARE,
    ),
)


class BroadcastCodec(WireCodec):
    """Broadcasts, and pages of what was delivered (WIRE.md)."""

    @override
    def request(self, op: Op) -> dict[str, Any]:
        if op.f == "broadcast":
            return {"type": "broadcast", "message": op.value}
        return {"type": "delivered", "from": op.value[0], "count": op.value[1]}

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        """The completion of a broadcast, or of a read of one page.

        A page's value is {"from": position, "messages": [...], "more": bool}; `more`
        says that the sequence goes on after this page.
        """
        if body.get("type") != f"{op.f}_ok":
            raise NodeReply(
                definite=False, text=f"answered {op.f} with {body.get('type')!r}"
            )
        if op.f == "broadcast":
            return op.ok(op.value)
        messages = body.get("messages")
        if not isinstance(messages, list):
            raise NodeReply(definite=False, text="answered delivered without messages")
        return op.ok(
            {
                "from": op.value[0],
                "messages": messages,
                "more": body.get("more") is True and bool(messages),
            }
        )

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return None


class _WholeSequences(Flow):
    """Every thread reads its node's sequence, page by page, to the end."""

    __slots__ = ("_next", "_page")

    def __init__(self, concurrency: int, page: int) -> None:
        self._page = page
        # Thread -> position of its next page. A thread that has read all has no entry.
        self._next = dict.fromkeys(range(concurrency), 0)

    @override
    def next(self, ctx: Context) -> Step:
        if not self._next:
            return DONE
        for thread in ctx.members(ctx.free & ctx.clients):
            if thread in self._next:
                assert isinstance(thread, int)
                page = [self._next[thread], self._page]
                return placed(Invocation("delivered", page, None, thread), ctx)
        return PENDING

    @override
    def take(self, offer: Offer) -> None:
        """Changes nothing: only the answer says at which position to go on."""

    @override
    def update(self, ctx: Context, event: Event) -> None:
        op, thread = event.op, event.thread
        if not isinstance(thread, int) or op.f != "delivered":
            return
        if op.type == "ok" and op.value["more"]:
            self._next[thread] = op.value["from"] + len(op.value["messages"])
        elif op.type == "ok":
            self._next.pop(thread, None)


class Broadcast(Workload):
    """The workload that this module describes."""

    name = "broadcast"
    requires = frozenset({"broadcast"})
    codec: WireCodec = BroadcastCodec()
    idempotent: frozenset[str] = frozenset({"delivered"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.page: int = given["page"]
        self.read_share: float = given["read_share"]
        self._sent = 0

    @override
    def generator(self, concurrency: int) -> Generator:
        """Broadcasts, with a page read in between by `read_share`."""
        self._sent = 0

        def draw(random: Random) -> Invocation:
            if random.random() < self.read_share:
                start = random.randint(0, self._sent)
                return Invocation("delivered", [start, self.page // 10 + 1])
            self._sent += 1
            return Invocation("broadcast", self._sent)

        return from_function(draw)

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Every thread reads its node's whole sequence."""
        return Generator(
            "whole sequences", lambda _: _WholeSequences(concurrency, self.page)
        )

    @override
    def checkers(self) -> dict[str, Checker]:
        """`total_order`, which judges primary order too."""
        return {"total_order": registry.find("checker", "total_order").factory({})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "broadcast",
    "messages to all nodes, and the order in which each delivered them",
    Broadcast,
    OPTIONS,
)
