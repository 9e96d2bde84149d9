"""The part that all systems share whose nodes speak our wire protocol (WIRE.md).

A node learns everything from its environment, is ready when it accepts connections, and
may answer requests beside its workload's: `status` says who leads, `clock` what time
the node's clock shows; `members`, `add`, `remove` and `transfer` are an operator's.
Without these answers, only the faults and plots that need them are missing.
"""

from __future__ import annotations

import abc
import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.errors import NodeReply, Timeout
from harness.systems.services import EVERY
from harness.systems.wire import Dial, WireClient, WireCounters, call, connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.systems.abilities import Change
    from harness.workload import Workload
    from harness.worlds.places import Launch, NodePlace

READY_CONNECT_TIMEOUT_S = 0.5
CONTROL_TIMEOUT_S = 0.3
"""Time limit of status and clock: a slower node counts as down."""


def environment(place: NodePlace) -> dict[str, str]:
    """The variables that tell a node its name, address, peers and data folder."""
    return {
        "SPLITBRAIN_NODE": place.name,
        "SPLITBRAIN_LISTEN": str(place.listen),
        "SPLITBRAIN_PEERS": peers_json(place),
        "SPLITBRAIN_DATA": str(place.data_dir),
        "SPLITBRAIN_CLUSTER": "existing" if place.joins else "new",
    }


def peers_json(place: NodePlace) -> str:
    """JSON of the other nodes: their names, and where this node reaches them."""
    return json.dumps({name: str(endpoint) for name, endpoint in place.peers.items()})


class WireSystem(abc.ABC):
    """A `System` (`harness.systems.system`) that lacks only `launch`.

    Attributes:
        counters: Counts of what nodes of this run sent unasked.
        dial: Connects to a node; a simulation puts its own function here.
    """

    name: str
    faults: frozenset[str] = frozenset({EVERY})
    rungs: frozenset[str] = frozenset({"switch", "proxy"})
    services: frozenset[str]
    invariants: tuple[str, ...] = ()
    ready_timeout_s: float = 10.0
    rejoins = True
    starts_first = True

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
        """The node that says it leads, in the highest term if several say so.

        Several may say so, as a leader that was cut off does not know of its successor.
        """
        answers = await asyncio.gather(*(self._ask(p, "status") for p in places))
        leaders = [
            (answer["term"] if type(answer.get("term")) is int else 0, place.name)
            for place, answer in zip(places, answers, strict=True)
            if answer.get("role") == "leader"
        ]
        return max(leaders)[1] if leaders else None

    async def read_wall_clock_ns(self, place: NodePlace) -> int | None:
        """The wall clock in the node's answer to `clock`; None if there is none."""
        wall_ns = (await self._ask(place, "clock")).get("wall_ns")
        # No clock has more than 64 bits, and arithmetic with more may fail elsewhere.
        if type(wall_ns) is int and -(2**63) <= wall_ns < 2**63:
            return wall_ns
        return None

    async def members(self, places: Sequence[NodePlace]) -> tuple[str, ...]:
        """The members as the leader names them, or else as most nodes that answer do.

        Several nodes may answer, as with `leader`.
        """
        leader, answers = await asyncio.gather(
            self.leader(places),
            asyncio.gather(*(self._named_members(place) for place in places)),
        )
        named = {
            place.name: names
            for place, names in zip(places, answers, strict=True)
            if names
        }
        if leader in named:
            return named[leader]
        most = Counter(named.values()).most_common(1)
        return most[0][0] if most else ()

    async def _named_members(self, place: NodePlace) -> tuple[str, ...]:
        """The members by one node's answer to `members`; empty if it gives none."""
        names = (await self._ask(place, "members")).get("members")
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            return ()
        return tuple(sorted(names))

    async def change(
        self, change: Change, node: NodePlace, through: NodePlace, timeout_s: float
    ) -> None:
        """Ask the node at `through` for `add`, `remove` or `transfer`.

        Raises:
            NodeReply: It refused, or its answer makes no sense.
            Timeout: It did not answer in time.
        """
        body = {"type": change, "node": node.name}
        answer = await call(through, body, timeout_s, self.counters, self.dial)
        if answer.get("type") != f"{change}_ok":
            text = f"answered {change} with {answer.get('type')!r:.60}"
            raise NodeReply(definite=False, text=text)

    async def _ask(self, place: NodePlace, question: str) -> dict[str, Any]:
        """The body of the node's answer; empty if it gives none."""
        body = {"type": question}
        try:
            return await call(place, body, CONTROL_TIMEOUT_S, self.counters, self.dial)
        except (NodeReply, Timeout):
            return {}
