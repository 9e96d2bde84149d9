"""Sockets of a node: one listener for clients and peers, one link out to each peer.

A `Connection` came in; what arrives on it is handed over line by line, and answers to
clients go back on it. A `PeerLink` carries this node's messages to one peer, and
nothing comes back on it. Nothing here blocks. The worst that bad input can cause is
that its connection is closed.

A partition drops frames silently, so TCP keeps the connection. After the healing it is
slow to notice: its retransmissions have backed off to many seconds, and so have those
of a SYN. Hence a link gives up when what it sent is not acknowledged for
`USER_TIMEOUT_MS`, gives a connection attempt `CONNECT_TIMEOUT_MS`, and tries anew at
once when the peer is heard from. Messages to a peer that isn't connected are dropped,
as a network may do; the protocols are built for that.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
from typing import TYPE_CHECKING

from reference_impls.override import override
from reference_impls.wire import (
    CLIENT_LINE_BYTES_MAX,
    FRAME_SUFFIX,
    PEER_LINE_BYTES_MAX,
    frame_prefix,
)

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Outgoing:
    """Bytes on their way out of a socket, written together at the end of a turn."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.selector = selector
        self.sock: socket.socket | None = None
        self.chunks: list[bytes] = []
        self.unsent_bytes = 0
        self.blocked = False

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
        self.chunks = []
        self.unsent_bytes = 0
        self.blocked = False

    def on_ready(self, mask: int) -> None:
        """Handle a socket that the selector found ready."""
        raise NotImplementedError

    def on_broken(self, why: OSError) -> None:
        """Handle a socket that failed."""
        raise NotImplementedError


class Connection(Outgoing):
    """A connection that came in, from a client or a peer.

    Args:
        sock: The accepted socket.
        selector: Where to register the socket.
        on_line: Called with this connection and each line, without its newline.
        on_close: Called once when it is closed, by either side.
    """

    def __init__(
        self,
        sock: socket.socket,
        selector: selectors.BaseSelector,
        on_line: Callable[[Connection, bytes], None],
        on_close: Callable[[Connection, str], None],
    ) -> None:
        super().__init__(selector)
        prepare(sock)
        self.sock = sock
        self.partial: list[bytes] = []
        self.partial_bytes = 0
        self.line_bytes_max = CLIENT_LINE_BYTES_MAX
        self.on_line = on_line
        self.on_close = on_close
        self.malformed = 0
        selector.register(sock, READ, self.on_ready)

    def trust_as_peer(self) -> None:
        """Allow longer lines, as a peer speaks here."""
        self.line_bytes_max = PEER_LINE_BYTES_MAX

    def write(self, data: bytes) -> None:
        """Queue bytes for the next flush; close if the other side reads too little."""
        if self.sock is None:
            return
        self.chunks.append(data)
        self.unsent_bytes += len(data)
        if self.unsent_bytes > OUTGOING_BYTES_MAX:
            self.close("does not read what it is sent")

    @override
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

    @override
    def on_broken(self, why: OSError) -> None:
        """Close, as the other side is gone; a reset needs no reason."""
        self.close("" if why.errno == errno.ECONNRESET else str(why))

    def close(self, why: str) -> None:
        """Close; the reason is empty if the other side closed in the ordinary way."""
        if self.sock is not None:
            self.close_socket()
            self.on_close(self, why)


class PeerLink(Outgoing):
    """The way to one peer.

    Args:
        node: This node's name.
        peer: The peer's name.
        address: Where this node reaches it.
        selector: Where to register the socket.
        set_alarm: Called with a number of milliseconds after which `on_alarm` is due;
            a new alarm replaces the last.
    """

    def __init__(
        self,
        node: str,
        peer: str,
        address: tuple[str, int],
        selector: selectors.BaseSelector,
        set_alarm: Callable[[float], None],
    ) -> None:
        super().__init__(selector)
        self.peer = peer
        self.address = address
        self.set_alarm = set_alarm
        self.prefix = frame_prefix(node, peer)
        self.connected = False
        self.dropped = 0

    def write(self, body: bytes) -> bool:
        """Queue a message, given its body's JSON; False if it was dropped."""
        if not self.connected or self.unsent_bytes > OUTGOING_BYTES_MAX:
            self.dropped += 1
            return False
        self.chunks += (self.prefix, body, FRAME_SUFFIX)
        self.unsent_bytes += len(body)
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
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS
            )
        self.sock = sock
        self.selector.register(sock, WRITE, self.on_ready)
        self.set_alarm(CONNECT_TIMEOUT_MS)
        code = sock.connect_ex(self.address)
        if code not in {0, errno.EINPROGRESS}:
            self.on_broken(OSError(code, "connect"))

    def on_heard(self) -> None:
        """Connect at once if not connected, as the peer was heard from."""
        if not self.connected:
            self.close_socket()
            self.connect()

    def on_alarm(self) -> None:
        """Connect anew: the pause is over, or the attempt took too long."""
        if not self.connected:
            self.close_socket()
            self.connect()

    @override
    def on_ready(self, mask: int) -> None:
        """Handle a socket that is connected, writable again or closed by the peer."""
        if not self.connected:
            self.on_connected()
            return
        if mask & WRITE:
            self.flush()
        if mask & READ and self.sock is not None:
            self.notice_close()

    def on_connected(self) -> None:
        """End the attempt to connect, which may have failed."""
        assert self.sock is not None
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.on_broken(OSError(code, "connect"))
            return
        self.connected = True
        self.selector.modify(self.sock, READ, self.on_ready)

    def notice_close(self) -> None:
        """Notice that the peer closed; nothing else can be read on a link."""
        assert self.sock is not None
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as e:
            self.on_broken(e)
            return
        if not data:
            self.on_broken(OSError(errno.ECONNRESET, "closed by the peer"))

    @override
    def on_broken(self, why: OSError) -> None:
        """Drop what was queued and try again soon."""
        self.close_socket()
        self.connected = False
        self.set_alarm(RECONNECT_MS)


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
