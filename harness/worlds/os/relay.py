"""A relay of TCP connections: links between nodes, as streams of bytes under rules.

Node a is told to reach node b at a port where the relay of link a -> b listens; a
connection there carries bytes from a to b under that link's rule, and bytes back under
the rule of b -> a. Clients connect to a node's own port, past all relays.

A relay can hold back a stream of bytes or end it, but not lose parts of it, so the
rules it knows are cut, delay, jitter, bandwidth, reset and half-open:

- A cut link holds its bytes, in order, up to a buffer's worth; then it stops reading,
  and the sender stalls as it would without acknowledgements. The heal lets the bytes
  flow. The end of a connection is held back the same way, even if a node dies behind
  the cut.
- A new connection over a cut link is accepted, as the kernel does that before it tells
  us. It leads nowhere until both directions are healed, as the handshake needs both.
- A connection to a node that isn't listening is accepted, and reset at once.
- A connection that becomes half-open is reset on the side that sent. The proxy keeps
  the other side open and swallows what comes from there, until that side closes, or
  sends something after the heal: then a kernel would reset it, and so does the proxy.
- When a narrow link gets wider or narrower, what waits in its queue leaves at the new
  rate.

It needs the standard library alone, as it also runs on machines that have no more.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import random
import socket
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import HarnessError
from harness.worlds.network import LinkCounters, LinkRule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.worlds.capabilities import LinkField
    from harness.worlds.network import Link
    from harness.worlds.os.sightings import LinkSightings, Sightings
    from harness.worlds.places import Endpoint

FIELDS: frozenset[LinkField] = frozenset(
    {"cut", "delay_ms", "jitter_ms", "bandwidth_kbit_s", "reset", "half_open"}
)
"""The fields of LinkRule that a relay can put in force."""
BACKLOG = 128
_HEALTHY = LinkRule()
_HELD_BYTES_MAX = 1 << 20
"""Bytes held per connection and direction; real socket buffers hold about as many."""


class _Piece(NamedTuple):
    """Bytes on their way; with `data` None, the end of the stream."""

    due_s: float
    data: bytes | None


class _Lane:
    """One directed link: its rule, and the streams that flow through it."""

    def __init__(self, link: Link, seed: int, sightings: LinkSightings | None) -> None:
        self.rule = _HEALTHY
        self.sightings = sightings
        self.streams: set[_Stream] = set()
        self.forwarded = 0
        self.cut = 0
        self.delayed = 0
        self.resets = 0
        self.connects = 0
        self._dice = random.Random(f"{seed} {link[0]} -> {link[1]}")
        self._wire_free_s = 0.0

    @property
    def is_instant(self) -> bool:
        """Whether no rule keeps bytes back."""
        return self.rule == _HEALTHY

    def set_rule(self, rule: LinkRule, now_s: float) -> None:
        """Put a rule in force, even for bytes that are on their way."""
        if rule == self.rule:
            return
        before, self.rule = self.rule, rule
        then, now = before.bandwidth_kbit_s, rule.bandwidth_kbit_s
        if then and now and replace(before, bandwidth_kbit_s=now) == rule:
            left_s = max(0.0, self._wire_free_s - now_s)
            self._wire_free_s = now_s + left_s * then / now
            for stream in self.streams:
                stream.hurry(then / now, now_s)
        else:
            self._wire_free_s = 0.0
        for stream in list(self.streams):
            stream.flow()

    def due_s(self, size_bytes: int, now_s: float) -> float:
        """When bytes that arrive now would be through the link."""
        rule = self.rule
        due_s = now_s
        if rule.bandwidth_kbit_s is not None:
            start_s = max(now_s, self._wire_free_s)
            due_s = start_s + size_bytes * 8 / (rule.bandwidth_kbit_s * 1e3)
            self._wire_free_s = due_s
        delay_ms = rule.delay_ms
        if rule.jitter_ms:
            delay_ms += self._dice.uniform(-rule.jitter_ms, rule.jitter_ms)
        return due_s + max(0.0, delay_ms) / 1e3

    def take_connection(self) -> None:
        """Account for a new connection that sends over this link."""
        self.cut += self.rule.cut
        self.connects += bool(self.rule.reset or self.rule.half_open)

    def resets_next(self) -> bool:
        """Whether the connection of bytes that arrive now is reset at both ends."""
        chance = self.rule.reset
        return bool(chance) and self._dice.random() < chance

    def half_opens_next(self) -> bool:
        """Whether the connection of bytes that arrive now is reset at one end."""
        chance = self.rule.half_open
        return bool(chance) and self._dice.random() < chance

    def counters(self) -> LinkCounters:
        """Counts of the link's chunks of bytes and connects."""
        return LinkCounters(
            forwarded=self.forwarded,
            cut=self.cut,
            delayed=self.delayed,
            resets=self.resets,
            connects=self.connects,
        )


class _Stream:
    """One direction of one connection: from a source's transport to a target's.

    Attributes:
        twin: The connection's other direction.
        half_opener: The link whose rule reset the target's end and left the source's
            open; None if no rule did.
        ended: Whether the target has all that the source sent, its end included.
    """

    twin: _Stream

    def __init__(
        self, lane: _Lane, source: asyncio.Transport, target: asyncio.Transport
    ) -> None:
        self.ended = False
        self.half_opener: _Lane | None = None
        self._lane = lane
        self._source = source
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._pieces: collections.deque[_Piece] = collections.deque()
        self._held_bytes = 0
        self._last_due_s = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._choked = False
        self._source_ended = False
        self._dropped = False
        lane.streams.add(self)

    def take(self, data: bytes) -> None:
        """Take bytes from the source."""
        if self._dropped:
            opener = self.half_opener
            if opener is not None and not opener.rule.half_open:
                _reset(self._source)
            return
        lane = self._lane
        if lane.sightings is not None:
            lane.sightings.see(data)
        if lane.resets_next():
            self._break(half=False)
            return
        if lane.half_opens_next():
            self._break(half=True)
            return
        now_s = self._loop.time()
        due_s = max(lane.due_s(len(data), now_s), self._last_due_s)
        lane.delayed += due_s > now_s
        lane.cut += lane.rule.cut
        self._last_due_s = due_s
        self._pieces.append(_Piece(due_s, data))
        self._held_bytes += len(data)
        self.flow()

    def take_end(self) -> None:
        """Note that the source sends no more. A second call means that it is gone."""
        if self._dropped:
            if self.half_opener is not None:
                self._source.close()
            return
        self._source_ended = True
        self._pieces.append(_Piece(self._last_due_s, None))
        self.flow()

    def choke(self, *, choked: bool) -> None:
        """Note that the target can't take more for now, or that it can again."""
        self._choked = choked
        self.flow()

    def flow(self) -> None:
        """Send on the pieces that are due, and set a timer for the next."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._pieces and not self._lane.rule.cut and not self._choked:
            due_s = self._pieces[0].due_s
            if due_s > self._loop.time() and not self._lane.is_instant:
                self._alarm = self._loop.call_at(due_s, self.flow)
                break
            self._send(self._pieces.popleft())
        self._mind_source()

    def drop(self) -> None:
        """Drop all that is on its way, as the target is gone."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._dropped = True
        self._pieces.clear()
        self._held_bytes = 0
        self._lane.streams.discard(self)
        self._mind_source()

    def hurry(self, factor: float, now_s: float) -> None:
        """Have all that is on its way need `factor` of the time that it has left."""

        def sooner(due_s: float) -> float:
            return now_s + max(0.0, due_s - now_s) * factor

        pieces = (piece._replace(due_s=sooner(piece.due_s)) for piece in self._pieces)
        self._pieces = collections.deque(pieces)
        self._last_due_s = sooner(self._last_due_s)

    def _break(self, *, half: bool) -> None:
        """Reset the connection at the source's end, and the target's unless `half`."""
        self._lane.resets += 1
        _reset(self._source)
        if half:
            self.twin.half_opener = self._lane
        else:
            _reset(self._target)
        self.drop()
        self.twin.drop()

    def _send(self, piece: _Piece) -> None:
        if piece.data is not None:
            self._held_bytes -= len(piece.data)
            self._lane.forwarded += 1
            self._target.write(piece.data)
            return
        self.ended = True
        if self._source.is_closing() or self.twin.ended:
            self._source.close()
            self._target.close()
        elif not self._target.is_closing():
            self._target.write_eof()

    def _mind_source(self) -> None:
        """Pause the source while there is no room for more, else let it go on."""
        if self._source_ended or self._source.is_closing():
            return
        if self._held_bytes > _HELD_BYTES_MAX:
            self._source.pause_reading()
        else:
            self._source.resume_reading()


class _End(asyncio.Protocol):
    """One of the two transports of a relayed connection."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.outgoing: _Stream | None = None
        self.incoming: _Stream | None = None
        self._early: list[bytes | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._pass_on(data)

    def eof_received(self) -> bool:
        self._pass_on(None)
        return True  # the other direction stays open

    def connection_lost(self, error: Exception | None) -> None:
        if self.incoming is not None:
            self.incoming.drop()
        self._pass_on(None)

    def join(self, outgoing: _Stream, incoming: _Stream) -> None:
        """Take both directions of the connection, and send on the bytes held so far."""
        self.outgoing, self.incoming = outgoing, incoming
        early, self._early = self._early, []
        for data in early:
            self._pass_on(data)
        outgoing.flow()

    def _pass_on(self, data: bytes | None) -> None:
        if self.outgoing is None:
            # In some releases (3.11.2) a transport that `connection_made` pauses reads
            # all the same, until it is paused again.
            self._early.append(data)
            self.transport.pause_reading()
        elif data is None:
            self.outgoing.take_end()
        else:
            self.outgoing.take(data)

    def pause_writing(self) -> None:
        if self.incoming is not None:
            self.incoming.choke(choked=True)

    def resume_writing(self) -> None:
        if self.incoming is not None:
            self.incoming.choke(choked=False)


class _Front(_End):
    """The accepted side; it knows its link, and has the other side connected."""

    def __init__(self, relay: Relay, link: Link) -> None:
        super().__init__()
        self._relay = relay
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Nothing is read before there is a connection to send it on.
        self.transport.pause_reading()
        self._relay.accepted(self, self._link)


class Relay:
    """The relays of some directed links.

    Args:
        listeners: Directed link -> the socket on which its relay listens.
        targets: Node -> the endpoint at which it listens itself.
        seed: The run's seed; each link's dice are made from it.
        sightings: Counts of messages that pass; None for no counts.
    """

    def __init__(
        self,
        listeners: Mapping[Link, socket.socket],
        targets: Mapping[str, Endpoint],
        seed: int,
        sightings: Sightings | None = None,
    ) -> None:
        self._listeners = listeners
        self._targets = targets
        # What comes back over a link's connections goes over the opposite link, whose
        # own connections another machine's relay may carry.
        links = dict.fromkeys(link for a, b in listeners for link in ((a, b), (b, a)))
        self._lanes = {
            link: _Lane(link, seed, None if sightings is None else sightings.on(link))
            for link in links
        }
        self._healed = asyncio.Event()
        self._connecting: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Future[None]

    async def open(self) -> asyncio.Future[None]:
        """Begin to carry traffic.

        Returns:
            What is done once `end` is called, and raises RuntimeError if a callback or
            task fails, which asyncio would only have logged.
        """
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        loop.set_exception_handler(self._broken)
        for link, listener in self._listeners.items():
            await loop.create_server(
                functools.partial(_Front, self, link), sock=listener, backlog=BACKLOG
            )
        return self._ended

    def end(self) -> None:
        """Have `open`'s future be done."""
        if not self._ended.done():
            self._ended.set_result(None)

    def accepted(self, front: _Front, link: Link) -> None:
        """Take a connection of a node to the relay of a link."""
        task = asyncio.get_running_loop().create_task(self._connect(front, link))
        self._connecting.add(task)
        task.add_done_callback(self._connected)

    def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        """Put the rules in force for all streams, new and old."""
        now_s = asyncio.get_running_loop().time()
        for link, lane in self._lanes.items():
            lane.set_rule(rules.get(link, _HEALTHY), now_s)
        self._healed.set()
        self._healed = asyncio.Event()

    def counters(self) -> Mapping[Link, LinkCounters]:
        """Counts of what each directed link did since the run began."""
        return {link: lane.counters() for link, lane in self._lanes.items()}

    def _broken(
        self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]
    ) -> None:
        del loop
        if not self._ended.done():
            cause = context.get("exception")
            error: Exception = RuntimeError(context["message"])
            error.__cause__ = cause
            self._ended.set_exception(
                cause if isinstance(cause, HarnessError) else error
            )

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if not task.cancelled():
            task.result()

    async def _connect(self, front: _Front, link: Link) -> None:
        there, back = self._lanes[link], self._lanes[link[1], link[0]]
        there.take_connection()
        back.cut += back.rule.cut
        while there.rule.cut or back.rule.cut:
            await self._healed.wait()
        if front.transport.is_closing():
            return
        target = self._targets[link[1]]
        loop = asyncio.get_running_loop()
        try:
            _, rear = await loop.create_connection(_End, target.host, target.port)
        except OSError:
            _reset(front.transport)
            return
        _join(front, rear, there, back)


def _join(front: _End, rear: _End, there: _Lane, back: _Lane) -> None:
    forth = _Stream(there, front.transport, rear.transport)
    home = _Stream(back, rear.transport, front.transport)
    forth.twin, home.twin = home, forth
    front.join(forth, home)
    rear.join(home, forth)


def _reset(transport: asyncio.Transport) -> None:
    """End a connection the way a refused one ends: with RST, not with FIN."""
    raw = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def listening(host: str) -> socket.socket:
    """A socket that listens at once: nodes that connect before the relay runs wait."""
    listener = socket.create_server((host, 0), backlog=BACKLOG)
    listener.setblocking(False)
    return listener
