"""The switch rung: every frame between nodes passes through a process of ours.

`wiring` plugs the nodes in. The switch process reads whole Ethernet frames from raw
sockets on its ends of the cables (packet(7)), looks up the lane to the frame's
destination, and forwards, drops, delays or mangles it as the lane decides. It has one
thread and no locks: rules change between two frames, so all of them at once.

TCP connections across a cut link stall, as they would across a pulled cable, and go on
after the heal.

Frames are real ones (MTU 1500, checksums on). Raw sockets could pass unsegmented 64 KiB
buffers (PACKET_VNET_HDR), at six times the throughput, but then one lost "frame" is
forty, captures show frames that no wire carries, and a flipped bit goes unnoticed
because the checksum is never computed. Consensus traffic does not need the throughput.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import itertools
import os
import select
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.host import syscalls
from harness.override import override
from harness.worlds.capabilities import LINK_FIELDS
from harness.worlds.network import LinkRule
from harness.worlds.os.capture import Capture
from harness.worlds.os.lane import Copy, Lane
from harness.worlds.os.namespaces import in_netns, why_it_fails
from harness.worlds.os.sidecar import CarriedNetwork, OrderSocket, Sidecar
from harness.worlds.os.sightings import Sightings
from harness.worlds.os.wiring import Outlet, wire
from harness.worlds.places import Endpoint, make_place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.worlds.events import Passed
    from harness.worlds.network import Link, LinkCounters
    from harness.worlds.os.helper import Desk

_FRAME_BYTES_MAX = 2048
"""Room for a frame: 1500 bytes and an Ethernet header, with or without a VLAN tag."""
_BURST_FRAMES = 32
"""Frames taken from one port before the others get their turn."""
_IN_FLIGHT_MAX = 200_000
"""Delayed frames held at most (some 300 MB); frames beyond that are lost."""
_ASK_AGAIN_S = 0.25
_PROBE_S = 15.0
"""How often, and how long, the switch is asked for a datagram before it counts as
broken. One that works answers within a millisecond, unless the machine is busy."""


class Switch:
    """Forwards frames between ports; runs in the switch process.

    Args:
        outlets: The ports, one per node.
        seed: The run's seed; each lane's dice are made from it.
        desk: Where orders come from.
        sightings: Counts of messages that pass.
        pcap: A file that all frames are written to, which slows the switch somewhat;
            None for no file.
    """

    def __init__(
        self,
        outlets: Sequence[Outlet],
        seed: int,
        desk: Desk,
        sightings: Sightings,
        pcap: Path | None,
    ) -> None:
        self._orders = OrderSocket(desk, self)
        names = [outlet.name for outlet in outlets]
        self._capture = None if pcap is None else Capture(pcap, names)
        self._interfaces = {name: place for place, name in enumerate(names)}
        self._lanes = {
            link: Lane(
                link, seed, watched=pcap is not None, sightings=sightings.on(link)
            )
            for link in itertools.permutations(names, 2)
        }
        for (a, b), lane in self._lanes.items():
            lane.twin = self._lanes[b, a]
        self._out = {outlet.name: outlet.port.fileno() for outlet in outlets}
        # For each port: destination MAC -> lane and the port that it leads to.
        self._routes = {
            a.port.fileno(): {
                b.mac: (self._lanes[a.name, b.name], b.port.fileno())
                for b in outlets
                if b is not a
            }
            for a in outlets
        }
        # Frames in flight, by the time they are due; ties by order of admission.
        self._in_flight: list[tuple[float, int, Lane, Copy]] = []
        self._admissions = itertools.count()

    def run(self) -> None:
        """Carry traffic until the order to stop."""
        # No code here makes cycles; a search for them would only delay frames.
        gc.disable()
        epoll = select.epoll()
        everything = [self._orders.fileno(), *self._routes]
        for descriptor in everything:
            epoll.register(descriptor, select.EPOLLIN)
        while True:
            if self._in_flight:
                # select() waits in microseconds, epoll in whole milliseconds.
                wait_s = max(0.0, self._in_flight[0][0] - time.monotonic())
                ready = select.select(everything, (), (), wait_s)[0]
            else:
                ready = [descriptor for descriptor, _ in epoll.poll()]
            for descriptor in ready:
                if descriptor in self._routes:
                    self._forward_burst(descriptor)
                elif not self._orders.serve():
                    if self._capture is not None:
                        self._capture.close()
                    return
            if self._in_flight:
                self._release(time.monotonic())

    def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        """Put the rules in force.

        Frames in flight on links that are now healthy arrive at once, as later frames
        would overtake them. So do the last frames that a cut took (`lane`).
        """
        healthy, now_s = LinkRule(), time.monotonic()
        for link, lane in self._lanes.items():
            lane.set_rule(rules.get(link, healthy), now_s)
        in_flight, self._in_flight = sorted(self._in_flight), []
        for due_s, number, lane, copy in in_flight:
            if lane.healthy or lane.rule.cut:
                self._deliver(lane, copy)
            else:
                entry = (lane.still_due_s(due_s), number, lane, copy)
                heapq.heappush(self._in_flight, entry)
        for lane in self._lanes.values():
            for frame in lane.to_send_again(now_s):
                self._admit(lane, frame)

    def counters(self) -> Mapping[Link, LinkCounters]:
        """Counts of what each directed link did since the run began."""
        if self._capture is not None:
            self._capture.flush()
        return {link: lane.counters() for link, lane in self._lanes.items()}

    def _forward_burst(self, port: int) -> None:
        # The inner loop: a healthy frame costs two system calls and little else.
        read, write, routes = os.read, os.write, self._routes[port]
        for _ in range(_BURST_FRAMES):
            try:
                frame = read(port, _FRAME_BYTES_MAX)
            except BlockingIOError:
                return
            route = routes.get(frame[:6])
            if route is None:
                self._forward_to_all(port, frame)
                continue
            lane, out = route
            if not lane.express:
                self._admit(lane, frame)
                continue
            try:
                write(out, frame)
            except OSError:
                lane.lost += 1
            else:
                lane.forwarded += 1

    def _forward_to_all(self, port: int, frame: bytes) -> None:
        """Forward broadcasts and multicasts; drop a frame to an unknown station."""
        if frame and frame[0] & 1:
            for lane, _ in self._routes[port].values():
                self._admit(lane, frame)

    def _admit(self, lane: Lane, frame: bytes) -> None:
        now_s = time.monotonic()
        copies = lane.admit(frame, now_s)
        if self._capture is not None:
            place = self._interfaces[lane.link[0]]
            self._capture.record(place, frame, lane.fate(frame, now_s, copies))
        if lane.answers:
            self._answer(lane)
        for copy in copies:
            if copy.due_s <= now_s:
                self._deliver(lane, copy)
            elif len(self._in_flight) < _IN_FLIGHT_MAX:
                entry = (copy.due_s, next(self._admissions), lane, copy)
                heapq.heappush(self._in_flight, entry)
            else:
                lane.lost += 1

    def _answer(self, lane: Lane) -> None:
        """Send what `lane` made for the node at its beginning, past all rules."""
        for frame in lane.answers:
            # If the port's queue is full, the next segment is answered again.
            with contextlib.suppress(OSError):
                os.write(self._out[lane.link[0]], frame)
        lane.answers.clear()

    def _release(self, now_s: float) -> None:
        in_flight = self._in_flight
        while in_flight and in_flight[0][0] <= now_s:
            _, _, lane, copy = heapq.heappop(in_flight)
            self._deliver(lane, copy)

    def _deliver(self, lane: Lane, copy: Copy) -> None:
        if not lane.may_leave(copy):
            return
        try:
            os.write(self._out[lane.link[1]], copy.frame)
        except OSError:
            # The port's queue is full, or the node took its interface down.
            lane.lost += 1
        else:
            lane.forwarded += 1


class SwitchNetwork(CarriedNetwork):
    """The network of the switch rung; each node has a namespace of its own."""

    rung = "switch"
    capabilities = LINK_FIELDS

    @classmethod
    def create(
        cls,
        nodes: Sequence[str],
        run_dir: Path,
        *,
        port: int,
        seed: int,
        messages: Sequence[Passed] = (),
        pcap: Path | None = None,
    ) -> SwitchNetwork:
        """Build the network and start the switch; inside `run_isolated` only.

        It forks, so call it before there is any thread or event loop. Every node
        listens on `port` of an address of its own. `messages` are counted where they
        pass. All frames are captured to the file `pcap`, if given. Cost: about 15 ms
        for five nodes.

        Raises:
            UsageError: Too many nodes.
            HarnessError: The kernel can't do a part of it; `why_no_switch` says which.
        """
        try:
            outlets = wire(nodes)
        except OSError as error:
            raise HarnessError(f"the network could not be set up: {error}") from error
        listens = {outlet.name: Endpoint(outlet.ip, port) for outlet in outlets}
        links = list(itertools.permutations(nodes, 2))
        sightings = Sightings(messages, links)
        sidecar = Sidecar(
            "switch",
            links,
            cls.capabilities,
            lambda desk: Switch(outlets, seed, desk, sightings, pcap).run(),
        )
        for outlet in outlets:
            outlet.port.close()
        return cls(
            {
                name: make_place(name, listens, _without(name, listens), run_dir)
                for name in nodes
            },
            {outlet.name: outlet.netns for outlet in outlets},
            sidecar,
            sightings,
        )

    @override
    async def close(self) -> None:
        if self.netns_fds:
            for netns in self.netns_fds.values():
                os.close(netns)
            self.netns_fds = {}
        await super().close()


def why_no_switch() -> str | None:
    """Why the switch rung does not work here, in plain words; None if it does.

    It builds a network of two nodes and passes a datagram through its switch, because a
    kernel may lack any of veth, AF_PACKET and their options.
    """

    def attempt() -> int:
        # A /tmp of its own over ours, so that its files are never left outside.
        with contextlib.suppress(OSError):
            syscalls.mount("tmpfs", tempfile.gettempdir(), "tmpfs")
        pass_a_datagram()
        return 0

    return why_it_fails(attempt)


def pass_a_datagram() -> None:
    """Prove that the switch rung works here; inside `run_isolated`, which cleans up.

    Raises:
        HarnessError: The switch rung does not work; says why.
    """
    with tempfile.TemporaryDirectory() as run_dir:
        network = SwitchNetwork.create(["n1", "n2"], Path(run_dir), port=1, seed=0)
    try:
        sender, receiver = (_datagrams(network, name) for name in ("n1", "n2"))
        passes = get_through(sender, receiver)
    except OSError as error:
        raise HarnessError(f"the network does not work: {error}") from error
    if not passes:
        raise HarnessError("raw sockets on veth pairs do not carry frames")


def get_through(sender: socket.socket, receiver: socket.socket) -> bool:
    """Whether a datagram from one socket reaches the other, within `_PROBE_S` seconds.

    It is sent again and again: any datagram may be lost, above all on a busy machine,
    and so may the question for the receiver's address that goes before the first.
    """
    receiver.settimeout(_ASK_AGAIN_S)
    deadline_s = time.monotonic() + _PROBE_S
    while time.monotonic() < deadline_s:
        sender.sendto(b"through?", receiver.getsockname())
        with contextlib.suppress(TimeoutError):
            receiver.recv(64)
            return True
    return False


def _datagrams(network: SwitchNetwork, name: str) -> socket.socket:
    listen = network.places[name].listen
    with in_netns(network.netns_fds[name]):
        end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.bind((listen.host, listen.port))
    return end


def _without(name: str, listens: Mapping[str, Endpoint]) -> dict[str, Endpoint]:
    return {other: there for other, there in listens.items() if other != name}
