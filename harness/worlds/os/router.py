"""The router rung: whole messages between nodes pass through a process of ours.

For nodes that have no sockets of their own: the program that stands beside each of them
(`harness.systems.programs.maelstrom_bridge`) connects to the router and hands over what
its node sends, a message a line. So every rule acts on messages, as the programmer of
such a node thinks of them: a cut loses them for good, and so does a loss, as nobody
sends anything again. TCP between the nodes would turn both into delays; and datagrams
would be lost on healthy links too, as soon as a receiver is slow or stands still.

`lane` decides what becomes of each message, as it does of frames on the switch rung,
under a header as an Ethernet frame with a datagram has it. The program beside the
sender may ask for a latency of its own for each message; that is added last, and such
messages overtake each other.

Choices:
- What comes for a node that is down is lost. A node that stands still gets everything
  once it goes on, up to WAITING_BYTES_MAX.
- Messages on their way stay on their way when rules change; a cut takes them.
- A corrupted message is dropped, as checksums would detect it.
- There are no connections, so none can be reset. A message whose type is to be reset is
  lost, which is what a reset is for: later ones arrive.

Wire: the first line of a connection is the node's name. Then, towards the router,
`DESTINATION LATENCY_S MESSAGE`, and from it `MESSAGE`, each ended by a newline.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import socket
import struct
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from harness.worlds.capabilities import LINK_FIELDS
from harness.worlds.messages import MessageLog
from harness.worlds.network import LinkRule, either
from harness.worlds.os.lane import Lane
from harness.worlds.os.ports import BlockNetwork, claim_block
from harness.worlds.os.sidecar import OrderSocket, Sidecar
from harness.worlds.os.sightings import Sightings
from harness.worlds.places import Endpoint, make_place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.worlds.capabilities import LinkField
    from harness.worlds.events import Passed
    from harness.worlds.network import Link, LinkCounters
    from harness.worlds.os.helper import Desk
    from harness.worlds.os.lane import Copy

WAITING_BYTES_MAX = 64 << 20
"""Bytes that wait for a node which does not read them; messages beyond are lost."""

LINE_BYTES_MAX = 2 << 20
"""A longer line is no message of the program beside a node."""

LATENCY_S_MAX = 60.0

NO_CONNECTIONS = "messages pass here, and there are no connections"

_HOST = "127.0.0.1"
_HEALTHY = LinkRule()
_HEADER_BYTES = 42


def framed(message: bytes) -> bytes:
    """The message as a lane takes it: in a datagram, in an Ethernet frame.

    A datagram's length has 16 bits, so patterns are looked for in the first 64 KiB.
    """
    length = min(28 + len(message), 0xFFFF)
    ip = struct.pack("!BBHHHBBH8x", 0x45, 0, length, 0, 0, 64, socket.IPPROTO_UDP, 0)
    udp = struct.pack("!HHHH", 0, 0, length - 20, 0)
    return bytes(12) + b"\x08\x00" + ip + udp + message


class Router:
    """Carries messages between nodes; runs in the router process.

    Args:
        listener: Where the programs beside the nodes connect.
        nodes: The nodes' names.
        seed: The run's seed; each lane's dice are made from it.
        desk: Where orders come from.
        sightings: Counts of messages that pass.
        log: Where to note what becomes of each message; None for nowhere.
    """

    def __init__(
        self,
        listener: socket.socket,
        nodes: Sequence[str],
        seed: int,
        desk: Desk,
        sightings: Sightings,
        log: MessageLog | None = None,
    ) -> None:
        self._log = log
        self._listener = listener
        self._orders = OrderSocket(desk, self)
        self._lanes = {
            link: Lane(link, seed, sightings=sightings.on(link))
            for link in itertools.permutations(nodes, 2)
        }
        for (a, b), lane in self._lanes.items():
            lane.twin = self._lanes[b, a]
        self._ports: dict[str, asyncio.Transport] = {}
        self._names = {name.encode(): name for name in nodes}
        self._ended: asyncio.Future[None]

    async def run(self) -> None:
        """Carry messages until the order to stop.

        Raises:
            RuntimeError: A callback failed, which asyncio would only have logged.
        """
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        loop.set_exception_handler(self._broken)
        await loop.create_server(lambda: _Port(self), sock=self._listener)
        loop.add_reader(self._orders.fileno(), self._serve_order)
        try:
            await self._ended
        finally:
            if self._log is not None:
                self._log.close()

    def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        """Put the rules in force for all messages that come from now on."""
        now_s = time.monotonic()
        for link, lane in self._lanes.items():
            rule = rules.get(link, _HEALTHY)
            messages = tuple(
                replace(one, loss=either([one.loss, one.reset]), reset=0.0)
                for one in rule.messages
            )
            lane.set_rule(replace(rule, messages=messages), now_s)

    def counters(self) -> Mapping[Link, LinkCounters]:
        """Counts of what each directed link did since the run began."""
        return {link: lane.counters() for link, lane in self._lanes.items()}

    def plug_in(self, name: bytes, transport: asyncio.Transport) -> str | None:
        """Take the connection of a node's new process; what waits for others is lost.

        Returns:
            The node; None if there is none of that name.
        """
        node = self._names.get(name)
        if node is not None:
            self.unplug(node, self._ports.get(node))
            self._ports[node] = transport
        return node

    def unplug(self, node: str, transport: asyncio.Transport | None) -> None:
        """End a node's connection, if it is still the node's."""
        if transport is not None and self._ports.get(node) is transport:
            del self._ports[node]
            transport.abort()

    def carry(self, node: str, line: bytes) -> None:
        """Take a message from a node, and let its lane decide what becomes of it."""
        to, _, rest = line.partition(b" ")
        latency, _, message = rest.partition(b" ")
        lane = self._lanes.get((node, self._names.get(to, "")))
        late_s = _latency_s(latency)
        if lane is None or late_s is None:
            return  # it isn't from a program of ours
        now_s = time.monotonic()
        sent_ns = time.monotonic_ns()
        frame = framed(message)
        cuts = lane.cut
        copies = lane.admit(frame, now_s)
        if not copies:
            self._note(lane, frame, sent_ns, "lost" if lane.cut == cuts else "cut")
        for copy in copies:
            wait_s = copy.due_s - now_s + late_s
            if copy.frame is not frame:
                self._note(lane, frame, sent_ns, "corrupted")
            elif wait_s <= 0:
                self._deliver(lane, copy, sent_ns)
            else:
                loop = asyncio.get_running_loop()
                loop.call_later(wait_s, self._deliver, lane, copy, sent_ns)

    def _deliver(self, lane: Lane, copy: Copy, sent_ns: int) -> None:
        if not lane.may_leave(copy):
            self._note(lane, copy.frame, sent_ns, "cut")
            return
        port = self._ports.get(lane.link[1])
        if port is not None and port.get_write_buffer_size() > WAITING_BYTES_MAX:
            lane.lost += 1
            self._note(lane, copy.frame, sent_ns, "queue full")
            return
        lane.forwarded += 1
        if port is not None and not port.is_closing():
            self._note(lane, copy.frame, sent_ns, "")
            port.write(copy.frame[_HEADER_BYTES:] + b"\n")
        else:
            self._note(lane, copy.frame, sent_ns, "node down")

    def _note(self, lane: Lane, frame: bytes, sent_ns: int, lost: str) -> None:
        if self._log is not None:
            took_ns = time.monotonic_ns() - sent_ns
            self._log.note(sent_ns, lane.link, frame[_HEADER_BYTES:], took_ns, lost)

    def _serve_order(self) -> None:
        if not self._orders.serve() and not self._ended.done():
            self._ended.set_result(None)

    def _broken(
        self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]
    ) -> None:
        del loop
        if not self._ended.done():
            error = RuntimeError(context["message"])
            error.__cause__ = context.get("exception")
            self._ended.set_exception(error)


def _latency_s(text: bytes) -> float | None:
    """The latency in a line; None if it is none."""
    try:
        late_s = float(text)
    except ValueError:
        return None
    return min(max(late_s, 0.0), LATENCY_S_MAX) if math.isfinite(late_s) else None


class _Port(asyncio.Protocol):
    """The router's side of the connection of a program beside a node."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._node: str | None = None
        self._rest = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._node is not None:
                self._router.carry(self._node, line)
                continue
            self._node = self._router.plug_in(line, self._transport)
            if self._node is None:
                self._transport.abort()
                return
        if len(self._rest) > LINE_BYTES_MAX:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self._node is not None:
            self._router.unplug(self._node, self._transport)


class RouterNetwork(BlockNetwork):
    """The network of the router rung; nodes share the controller's namespace."""

    rung = "router"
    capabilities: frozenset[LinkField] = LINK_FIELDS - {"reset", "half_open"}

    @classmethod
    def create(
        cls,
        nodes: Sequence[str],
        run_dir: Path,
        *,
        seed: int,
        messages: Sequence[Passed] = (),
        log: Path | None = None,
    ) -> RouterNetwork:
        """Choose ports and start the router, which counts `messages` as they pass.

        What becomes of each message is noted in the file `log`, if given.

        It forks, so call it before there is any thread or event loop. Each node finds
        the router where it looks for any of its peers.

        Raises:
            UsageError: Too many nodes.
            HarnessError: No free ports.
        """
        block = claim_block(len(nodes))
        cluster = block.endpoints(nodes)
        links = list(itertools.permutations(nodes, 2))
        listener = socket.create_server((_HOST, 0), backlog=len(nodes) + 1)
        listener.setblocking(False)
        door = Endpoint(_HOST, listener.getsockname()[1])
        sightings = Sightings(messages, links)
        sidecar = Sidecar(
            "router",
            links,
            cls.capabilities,
            lambda desk: asyncio.run(
                Router(
                    listener,
                    nodes,
                    seed,
                    desk,
                    sightings,
                    None if log is None else MessageLog(log),
                ).run()
            ),
        )
        listener.close()
        places = {
            name: make_place(
                name,
                cluster,
                {other: door for other in nodes if other != name},
                run_dir,
            )
            for name in nodes
        }
        return cls(places, sidecar, sightings, block)
