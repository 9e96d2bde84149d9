"""JSON lines over a non-blocking socket: warden and keeper talk over it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

_CHUNK_BYTES = 1 << 16


class Channel:
    """One end. The owner waits for readiness in its own way, then calls the methods.

    The peer is our own code in another process, so lines are trusted to be well-formed.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.open = True
        self._inbox = bytearray()
        self._outbox = bytearray()

    @property
    def unsent(self) -> bool:
        """Whether `flush` should be called again once the socket is writable."""
        return bool(self._outbox)

    def receive(self) -> list[dict[str, Any]]:
        """The complete messages that have come; `open` turns False at end of file."""
        try:
            while chunk := self.socket.recv(_CHUNK_BYTES):
                self._inbox += chunk
            self.open = False
        except BlockingIOError:
            pass
        except ConnectionError:
            self.open = False
        *lines, rest = self._inbox.split(b"\n")
        self._inbox = bytearray(rest)
        return [json.loads(line) for line in lines]

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message and send what the socket takes now."""
        self._outbox += json.dumps(message).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes now."""
        try:
            while self._outbox:
                del self._outbox[: self.socket.send(self._outbox)]
        except BlockingIOError:
            pass
        except ConnectionError:
            self.open = False
            self._outbox.clear()
