"""JSON lines over two descriptors, as the agent has them from the SSH server.

The two may be one socket, so asyncio's transports for pipes, which take what can be
read on a descriptor for writing as its end, are no use here.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK_BYTES = 1 << 16
LINE_BYTES_MAX = 64 << 20


def read_line(fd: int) -> bytes:
    """The next line, or what there is of it at end of file; reads no byte behind it."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
        byte = os.read(fd, 1)
        if not byte:
            break
        line += byte
    return bytes(line)


class Lines:
    """Both directions, on the running event loop.

    Args:
        read_fd: Where lines come from.
        write_fd: Where lines go.
        take: Called with each line that comes, and with None at end of file.
    """

    def __init__(
        self, read_fd: int, write_fd: int, take: Callable[[bytes | None], None]
    ) -> None:
        self._read_fd, self._write_fd, self._take = read_fd, write_fd, take
        self._loop = asyncio.get_running_loop()
        self._inbox, self._outbox = bytearray(), bytearray()
        self._writes = False
        for fd in (read_fd, write_fd):
            os.set_blocking(fd, False)
        self._loop.add_reader(read_fd, self._receive)

    @property
    def unsent_bytes(self) -> int:
        """How much waits to be sent."""
        return len(self._outbox)

    def send(self, line: bytes) -> None:
        """Send a line, as soon as the reader takes it."""
        self._outbox += line + b"\n"
        self._flush()

    def _receive(self) -> None:
        try:
            data = os.read(self._read_fd, _CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(self._inbox) > LINE_BYTES_MAX:
            self._end()
            return
        self._inbox += data
        if b"\n" in data:
            *lines, rest = bytes(self._inbox).split(b"\n")
            self._inbox = bytearray(rest)
            for line in lines:
                self._take(line)

    def _flush(self) -> None:
        try:
            while self._outbox:
                del self._outbox[: os.write(self._write_fd, self._outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._outbox.clear()
            self._end()
        if bool(self._outbox) != self._writes:
            self._writes = bool(self._outbox)
            if self._writes:
                self._loop.add_writer(self._write_fd, self._flush)
            else:
                self._loop.remove_writer(self._write_fd)

    def _end(self) -> None:
        self._loop.remove_reader(self._read_fd)
        self._take(None)
