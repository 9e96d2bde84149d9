"""What all systems have in common whose nodes speak our wire protocol (WIRE.md).

A node learns everything from its environment, is ready when it accepts connections, and
may answer two requests beside its workload's: `status` says who leads, `clock` what
time the node believes it is. A node that answers neither is asked in vain and loses
nothing but the faults and plots that need them.
"""

from __future__ import annotations

import abc
import asyncio
import json
from typing import TYPE_CHECKING, Any

from harness.errors import NodeReply, Timeout
from harness.systems.services import EVERY
from harness.systems.wire import Dial, WireClient, WireCounters, call, connect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.workload import Workload
    from harness.worlds.places import Launch, NodePlace

READY_CONNECT_TIMEOUT_S = 0.5
CONTROL_TIMEOUT_S = 0.3
"""For status and clock: a node that is slower than this is down for our purposes."""


def environment(place: NodePlace) -> dict[str, str]:
    """How a node learns its name, where to listen, its peers and its directory."""
    return {
        "SPLITBRAIN_NODE": place.name,
        "SPLITBRAIN_LISTEN": str(place.listen),
        "SPLITBRAIN_PEERS": peers_json(place),
        "SPLITBRAIN_DATA": str(place.data_dir),
    }


def peers_json(place: NodePlace) -> str:
    """Every other node's name and the host:port at which this node reaches it."""
    return json.dumps({name: str(endpoint) for name, endpoint in place.peers.items()})


class WireSystem(abc.ABC):
    """A `System` but for `launch`; see `harness.systems.system.System`.

    Attributes:
        counters: What nodes of this run sent that nobody had asked for.
        dial: How to reach a node; a simulation puts its own way here.
    """

    name: str
    faults: frozenset[str] = frozenset({EVERY})
    rungs: frozenset[str] = frozenset({"switch", "proxy"})
    services: frozenset[str]
    invariants: tuple[str, ...] = ()
    ready_timeout_s: float = 10.0

    def __init__(self) -> None:
        self.counters = WireCounters()
        self.dial: Dial = connect

    @abc.abstractmethod
    def launch(self, place: NodePlace) -> Launch:
        """The command that starts the node at `place`, and again after a kill."""

    async def ready(self, place: NodePlace) -> bool:
        """True once the node accepts connections."""
        try:
            connection = await self.dial(place, self.counters, READY_CONNECT_TIMEOUT_S)
        except NodeReply:
            return False
        await connection.close()
        return True

    def client(self, workload: Workload) -> WireClient:
        """A client that speaks the workload's bodies."""
        return WireClient(workload.codec, self.counters, self.dial)

    async def leader(self, places: Sequence[NodePlace]) -> str | None:
        """The node that says it leads, in the highest term when several do.

        Several may: a leader that was cut off does not know of its successor.
        """
        answers = await asyncio.gather(*(self._ask(p, "status") for p in places))
        leaders = [
            (answer["term"] if type(answer.get("term")) is int else 0, place.name)
            for place, answer in zip(places, answers, strict=True)
            if answer.get("role") == "leader"
        ]
        return max(leaders)[1] if leaders else None

    async def read_wall_clock_ns(self, place: NodePlace) -> int | None:
        """The wall clock in the node's own answer to `clock`."""
        wall_ns = (await self._ask(place, "clock")).get("wall_ns")
        # No clock tells more than 64 bits; who reckons with more may fail to.
        if type(wall_ns) is int and -(2**63) <= wall_ns < 2**63:
            return wall_ns
        return None

    async def admin(
        self, place: NodePlace, body: Mapping[str, Any], timeout_s: float
    ) -> dict[str, Any]:
        """The answer to an operator's request; see `harness.systems.abilities`."""
        try:
            return await call(place, body, timeout_s, self.counters, self.dial)
        except (NodeReply, Timeout):
            return {}

    async def _ask(self, place: NodePlace, question: str) -> dict[str, Any]:
        """The answer's body; empty when the node gives none."""
        return await self.admin(place, {"type": question}, CONTROL_TIMEOUT_S)
