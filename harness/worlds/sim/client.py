"""A client's connection to a simulated node, in the place of `wire.connect`'s over TCP.

`WireClient` and the systems use it like a real one, so requests, errors and counters
are the same. Requests and answers take the network's time, in order, and are never
subject to faults. A node that is down refuses connections; a node that dies breaks
them; a paused node accepts them and doesn't answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from harness.errors import TEMPORARILY_UNAVAILABLE, HarnessError, NodeReply
from harness.override import override
from harness.systems.wire import LINE_BYTES_MAX, Wire
from harness.worlds.sim.conditions import lasting_ns

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping
    from random import Random

    from harness.systems.wire import WireCounters
    from harness.worlds.places import NodePlace
    from harness.worlds.sim.conditions import Conditions
    from harness.worlds.sim.loop import VirtualTimeLoop
    from harness.worlds.sim.node import SimNode

REFUSED = "connection refused"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Dialler:
    """Connects to simulated nodes; `dial` is a `harness.systems.wire.Dial`."""

    def __init__(
        self,
        nodes: Mapping[str, SimNode],
        conditions: Conditions,
        rng: Random,
        loop: VirtualTimeLoop,
    ) -> None:
        self.loop = loop
        self._nodes = nodes
        self._conditions = conditions
        self._rng = rng

    def latency_ns(self) -> int:
        """How long a message takes between a client and a node, one way."""
        return lasting_ns(self._rng, self._conditions.latency_ms)

    async def dial(
        self, place: NodePlace, counters: WireCounters, timeout_s: float
    ) -> SimConnection:
        """A connection to the node at `place`.

        Raises:
            NodeReply: Nothing accepts connections there; a definite failure.
        """
        arrival = self.loop.create_future()
        there_and_back_ns = self.latency_ns() + self.latency_ns()
        self.loop.at_ns(self.loop.now_ns + there_and_back_ns, set_result, arrival)
        await arrival
        node = self._nodes[place.name]
        if not node.serves:
            raise NodeReply(definite=True, text=REFUSED, code=TEMPORARILY_UNAVAILABLE)
        return SimConnection(self, node, counters)


class SimConnection(Wire):
    """A client's connection to one process of a simulated node."""

    def __init__(self, dialler: Dialler, node: SimNode, counters: WireCounters) -> None:
        self.lost = ""
        self._dialler = dialler
        self._loop = dialler.loop
        self._node = node
        self._counters = counters
        self._msg_id = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._request_due_ns = 0
        self._answer_due_ns = 0
        node.connect(self)

    @property
    def owes_answers(self) -> bool:
        """False: late answers are counted even if no client waits for them."""
        return False

    async def linger(self) -> None:
        """Return at once: late answers are counted even if no client waits for them."""

    @override
    async def call(
        self, src: str, dest: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        if self.lost:
            raise NodeReply(definite=True, text=self.lost, code=TEMPORARILY_UNAVAILABLE)
        self._msg_id += 1
        msg_id = self._msg_id
        data = _encode({**body, "msg_id": msg_id})
        if len(data) > LINE_BYTES_MAX:
            raise HarnessError(
                f"a request of {len(data)} bytes is longer than a line of the wire "
                f"protocol may be ({LINE_BYTES_MAX})"
            )
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._waiting[msg_id] = answer
        # A request never overtakes an earlier one on this connection.
        due_ns = self._loop.now_ns + self._dialler.latency_ns()
        self._request_due_ns = due_ns = max(due_ns, self._request_due_ns)
        self._loop.at_ns(due_ns, self._arrive, (src, data))
        try:
            return await answer
        finally:
            self._waiting.pop(msg_id, None)

    def answer(self, msg_id: int, data: bytes) -> None:
        """Carry the node's answer to request `msg_id` to the client."""
        due_ns = self._loop.now_ns + self._dialler.latency_ns()
        self._answer_due_ns = due_ns = max(due_ns, self._answer_due_ns)
        self._loop.at_ns(due_ns, self._answered, (msg_id, data))

    def break_off(self) -> None:
        """Break the connection, as the node died; the client learns that later."""
        due_ns = self._loop.now_ns + self._dialler.latency_ns()
        due_ns = max(due_ns, self._answer_due_ns)
        self._loop.at_ns(due_ns, self._lose, "connection closed")

    async def close(self) -> None:
        """Let go of the node."""
        self._node.disconnect(self)
        self._lose("closed by the client")

    def _arrive(self, request: tuple[str, bytes]) -> None:
        # A process that died meanwhile has lost the connection, even if it is back.
        if self._node.knows(self):
            self._node.request(*request, self)

    def _answered(self, answer: tuple[int, bytes]) -> None:
        msg_id, data = answer
        waiting = self._waiting.pop(msg_id, None)
        if waiting is None or waiting.done():
            self._counters.late += 1
        elif len(data) > LINE_BYTES_MAX:
            self._counters.oversize += 1
        else:
            waiting.set_result(_decode(data))

    def _lose(self, why: str) -> None:
        if self.lost:
            return
        self.lost = why
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(NodeReply(definite=False, text=why))


def set_result(future: asyncio.Future[None]) -> None:
    """Wake the waiter of `future`, unless it has been cancelled."""
    if not future.done():
        future.set_result(None)
