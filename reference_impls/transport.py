"""Sockets of a node: one listener for clients and peers, one link out to each peer.

A `Connection` came in, a `PeerLink` goes out to a peer. Both carry lines both ways, and
what arrives is handed over line by line. Nothing here blocks. The worst that bad input
can cause is that its connection is closed.

Two nodes have a connection each way, and use one of them for both directions
(`Peers`): the one that was made by the node whose name comes first. So an answer
carries the acknowledgement of what it answers. On a connection of its own each message
would be acknowledged by a frame without data, and half of all frames would be such. The
other connection stands by. A node says who it is when it has connected (`HELLO`), so
that the peer uses the new connection at once.

A partition drops frames silently, so TCP keeps the connection. After the healing it is
slow to notice: its retransmissions have backed off to many seconds, and so have those
of a SYN. Hence a node gives up a connection to a peer when what it sent is not
acknowledged for `USER_TIMEOUT_MS`, gives a connection attempt `CONNECT_TIMEOUT_MS`, and
tries anew at once when the peer is heard from. Messages to a peer that isn't connected
are dropped, as a network may do; the protocols are built for that.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from typing import TYPE_CHECKING

from reference_impls.override import override
from reference_impls.wire import (
    CLIENT_LINE_BYTES_MAX,
    FRAME_SUFFIX,
    PEER_LINE_BYTES_MAX,
    frame_prefix,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HELLO = "hello"
"""The type of the first message on a connection to a peer; it says who speaks."""
USER_TIMEOUT_MS = 500
CONNECT_TIMEOUT_MS = 500
RECONNECT_MS = 50
READ_BYTES = 1 << 16
"""Read at once. For more than 128 KiB, malloc maps memory and gives it back each time,
which takes longer than all else about a read."""
OUTGOING_BYTES_MAX = 1 << 25
"""Unsent bytes at which a link drops messages and a connection is closed."""
CONNECTIONS_MAX = 800

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


def prepare(sock: socket.socket) -> None:
    """Make a socket non-blocking, and have it send small segments at once."""
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def give_up_soon(sock: socket.socket) -> None:
    """Have a socket fail if the other side doesn't acknowledge what it was sent."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError):
            sock.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS
            )


class Stream:
    """Lines through a socket, both ways; written together at the end of a turn.

    Args:
        selector: Where to register the socket.
        on_line: Called with this stream and each line, without its newline.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        on_line: Callable[[Stream, bytes], None],
    ) -> None:
        self.selector = selector
        self.on_line = on_line
        self.sock: socket.socket | None = None
        self.line_bytes_max = CLIENT_LINE_BYTES_MAX
        self.malformed = 0
        self.begin()

    def begin(self) -> None:
        """Forget what the last socket had not sent, and the line it had not ended."""
        self.chunks: list[bytes] = []
        self.unsent_bytes = 0
        self.blocked = False
        self.partial: list[bytes] = []
        self.partial_bytes = 0

    def write(self, data: bytes) -> bool:
        """Queue lines for the next flush; False if they are dropped."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write what can be written now; the selector says when to go on."""
        if self.sock is None or not self.chunks:
            return
        data = b"".join(self.chunks)
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as e:
            self.on_broken(e)
            return
        rest = data[sent:]
        self.chunks = [rest] if rest else []
        self.unsent_bytes = len(rest)
        if bool(rest) != self.blocked:
            self.blocked = bool(rest)
            self.selector.modify(
                self.sock, READ | WRITE if rest else READ, self.on_ready
            )

    def close_socket(self) -> None:
        """Close the socket and drop what it hadn't sent."""
        if self.sock is not None:
            self.selector.unregister(self.sock)
            self.sock.close()
        self.sock = None
        self.begin()

    def on_ready(self, mask: int) -> None:
        """Write what is left, and read what is there."""
        if mask & WRITE:
            self.flush()
        if mask & READ and self.sock is not None:
            self.read()

    def read(self) -> None:
        """Hand over the complete lines of one read."""
        assert self.sock is not None
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as e:
            self.on_broken(e)
            return
        if not data:
            self.close("")
            return
        for line in self.split_lines(data):
            if len(line) > self.line_bytes_max:
                self.close(f"sent a line of {len(line)} bytes")
            elif line and not self.is_closed():
                self.on_line(self, line)
        if self.partial_bytes > self.line_bytes_max:
            self.close(f"sent more than {self.line_bytes_max} bytes without a newline")

    def split_lines(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes. Cost: linear, however long a line gets."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join((*self.partial, lines[0]))
            self.partial = []
            self.partial_bytes = 0
        if rest:
            self.partial.append(rest)
            self.partial_bytes += len(rest)
        return lines

    def is_closed(self) -> bool:
        """True once either side has closed."""
        return self.sock is None

    def on_broken(self, why: OSError) -> None:
        """Handle a socket that failed."""
        raise NotImplementedError

    def close(self, why: str) -> None:
        """Close; the reason is empty if the other side closed in the ordinary way."""
        raise NotImplementedError


class Connection(Stream):
    """A connection that came in, from a client or a peer.

    Args:
        sock: The accepted socket.
        selector: Where to register the socket.
        on_line: Called with this connection and each line, without its newline.
        on_close: Called once when it is closed, by either side.

    Attributes:
        peer: The peer that made it, once that has said so; else empty.
    """

    def __init__(
        self,
        sock: socket.socket,
        selector: selectors.BaseSelector,
        on_line: Callable[[Stream, bytes], None],
        on_close: Callable[[Connection, str], None],
    ) -> None:
        super().__init__(selector, on_line)
        prepare(sock)
        self.sock = sock
        self.peer = ""
        self.on_close = on_close
        selector.register(sock, READ, self.on_ready)

    def become_peers(self, peer: str) -> None:
        """Note whose it is, and treat it as a link: the peer may vanish silently."""
        self.peer = peer
        if self.sock is not None:
            give_up_soon(self.sock)

    @override
    def write(self, data: bytes) -> bool:
        """Queue lines; close if the other side reads too little."""
        if self.sock is None:
            return False
        self.chunks.append(data)
        self.unsent_bytes += len(data)
        if self.unsent_bytes > OUTGOING_BYTES_MAX:
            self.close("does not read what it is sent")
        return True

    @override
    def on_broken(self, why: OSError) -> None:
        """Close, as the other side is gone; resets and peers need no reason."""
        is_usual = self.peer or why.errno == errno.ECONNRESET
        self.close("" if is_usual else str(why))

    @override
    def close(self, why: str) -> None:
        if self.sock is not None:
            self.close_socket()
            self.on_close(self, why)


class PeerLink(Stream):
    """A connection to one peer, made anew whenever it is lost.

    Args:
        node: This node's name.
        peer: The peer's name.
        address: Where this node reaches it.
        selector: Where to register the socket.
        on_line: Called with this link and each line, without its newline.
        set_alarm: Called with a number of milliseconds after which `on_alarm` is due;
            a new alarm replaces the last.
    """

    def __init__(
        self,
        node: str,
        peer: str,
        address: tuple[str, int],
        selector: selectors.BaseSelector,
        on_line: Callable[[Stream, bytes], None],
        set_alarm: Callable[[float], None],
    ) -> None:
        super().__init__(selector, on_line)
        self.line_bytes_max = PEER_LINE_BYTES_MAX
        self.peer = peer
        self.address = address
        self.set_alarm = set_alarm
        self.prefix = frame_prefix(node, peer)
        self.connected = False
        self.begun_s = 0.0  # when the last attempt began
        self.dropped = 0

    def frame(self, body: bytes) -> bytes:
        """The line that tells the peer a message, given its body's JSON."""
        return self.prefix + body + FRAME_SUFFIX

    @override
    def write(self, data: bytes) -> bool:
        if not self.connected or self.unsent_bytes > OUTGOING_BYTES_MAX:
            self.dropped += 1
            return False
        self.chunks.append(data)
        self.unsent_bytes += len(data)
        return True

    def connect(self) -> None:
        """Begin to connect."""
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            self.set_alarm(RECONNECT_MS)
            return
        prepare(sock)
        give_up_soon(sock)
        self.sock = sock
        self.begun_s = time.monotonic()
        self.selector.register(sock, WRITE, self.on_ready)
        self.set_alarm(CONNECT_TIMEOUT_MS)
        code = sock.connect_ex(self.address)
        if code not in {0, errno.EINPROGRESS}:
            self.on_broken(OSError(code, "connect"))

    def on_heard(self) -> None:
        """Connect at once if not connected, as the peer was heard from.

        An attempt that has just begun is left alone. A peer that talks on a connection
        of its own may be heard from more often than an attempt takes, and would keep
        this one from ever coming to its end.
        """
        is_young = self.sock is not None and (
            time.monotonic() - self.begun_s < RECONNECT_MS / 1000
        )
        if not self.connected and not is_young:
            self.close_socket()
            self.connect()

    def on_alarm(self) -> None:
        """Connect anew: the pause is over, or the attempt took too long."""
        if not self.connected:
            self.close_socket()
            self.connect()

    @override
    def on_ready(self, mask: int) -> None:
        if self.connected:
            super().on_ready(mask)
        else:
            self.on_connected()

    def on_connected(self) -> None:
        """End the attempt to connect, which may have failed, and say who speaks."""
        assert self.sock is not None
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.on_broken(OSError(code, "connect"))
            return
        self.connected = True
        self.selector.modify(self.sock, READ, self.on_ready)
        self.write(self.frame(b'{"type":"%s"}' % HELLO.encode()))
        self.flush()

    @override
    def on_broken(self, why: OSError) -> None:
        """Drop what was queued and try again soon."""
        self.close_socket()
        self.connected = False
        self.set_alarm(RECONNECT_MS)

    @override
    def close(self, why: str) -> None:
        self.on_broken(OSError(errno.ECONNRESET, why))


class Peers:
    """The ways to all peers.

    Args:
        node: This node's name.
        links: Peer -> this node's own connection to it.
    """

    def __init__(self, node: str, links: Mapping[str, PeerLink]) -> None:
        self.node = node
        self.links = links
        # Peer -> the last connection that it made, while that is open.
        self.theirs: dict[str, Connection] = {}

    def way_to(self, peer: str) -> Stream:
        """Where a message to a peer goes.

        That is the connection of the node whose name comes first, if it stands; both
        ends choose the same. If neither stands, the link drops the message.
        """
        link = self.links[peer]
        if link.connected and self.node < peer:
            return link
        return self.theirs.get(peer, link)

    def on_hello(self, peer: str, stream: Stream) -> None:
        """Note that a peer has made a connection; it replaces the last one."""
        if not isinstance(stream, Connection):
            return  # a peer answers on our link and has no reason to say hello there
        self.forget(stream)
        stream.become_peers(peer)
        self.theirs[peer] = stream

    def forget(self, connection: Connection) -> None:
        """Note that a connection was closed, or is another peer's."""
        if self.theirs.get(connection.peer) is connection:
            del self.theirs[connection.peer]


def listen(address: tuple[str, int]) -> socket.socket:
    """A socket that listens at `address`.

    Raises:
        OSError: The address is in use, or isn't this machine's.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    sock.listen(512)
    sock.setblocking(False)
    return sock
