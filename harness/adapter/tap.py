"""A connection to a node on which nothing is passed over: every line counts.

`harness.systems.wire.Connection` is made for runs: it drops what it did not ask for.
Here the bytes that a run would drop are what an implementer has to see.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.override import override
from harness.systems.wire import LINE_BYTES_MAX, MalformedError, decode

if TYPE_CHECKING:
    from harness.worlds.places import Endpoint

BYTES_MAX = 16 << 20
"""After so many bytes a connection is closed, as a flood."""


@dataclass(frozen=True)
class Line:
    """A line that came, or the rest at the end that is none yet.

    Attributes:
        data: Its bytes, without the newline.
        objects: The JSON objects in it; several if they were glued together.
        flaw: Why it is no message; empty if it is one.
        ended: Whether there was a newline.
    """

    data: bytes
    objects: list[dict[str, Any]] = field(default_factory=list)
    flaw: str = ""
    ended: bool = True


class Tap(asyncio.Protocol):
    """One connection; `open_tap` makes it.

    Attributes:
        lines: The lines that came and were not taken yet.
        closed: How the node ended the connection; empty while it stands.
        oversize: Bytes of a line that grew too long; 0 if none did.
    """

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.closed = ""
        self.oversize = 0
        self._rest = bytearray()
        self._came = 0
        self._transport: asyncio.Transport | None = None
        self._news = asyncio.Event()

    def send(self, data: bytes) -> None:
        """Send bytes; nothing happens if the connection is gone."""
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    async def news(self, limit_s: float) -> bool:
        """Wait for bytes or the end of the connection; False if none came in time."""
        try:
            async with asyncio.timeout(max(0.0, limit_s)):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True

    def rest(self) -> Line | None:
        """What came behind the last newline, if that is whole objects already."""
        if not self._rest:
            return None
        line = parsed(bytes(self._rest), ended=False)
        return line if line.objects else None

    def take_rest(self) -> bytes:
        """What came behind the last newline; it is forgotten here."""
        data = bytes(self._rest)
        self._rest.clear()
        return data

    def close(self) -> None:
        """Drop the connection."""
        self.closed = self.closed or "closed by us"
        if self._transport is not None:
            self._transport.abort()

    # Callbacks of the event loop.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # it is one of TCP

    @override
    def data_received(self, data: bytes) -> None:
        self._came += len(data)
        if self._came > BYTES_MAX:
            self.oversize = self.oversize or len(self._rest)
            self.close()
        self._rest += data
        *whole, rest = self._rest.split(b"\n")
        for piece in whole:
            if len(piece) > LINE_BYTES_MAX:
                self.oversize = len(piece)
            else:
                self.lines.append(parsed(bytes(piece)))
        self._rest = bytearray(rest)
        if len(rest) > LINE_BYTES_MAX:
            self.oversize = len(rest)
        self._news.set()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        how = "reset" if isinstance(exc, ConnectionResetError) else "closed"
        self.closed = self.closed or f"the node {how} the connection"
        self._news.set()


def parsed(data: bytes, *, ended: bool = True) -> Line:
    """A line, and the objects in it."""
    try:
        decode(data)
    except MalformedError as problem:
        flaw = str(problem)
    else:
        flaw = ""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return Line(data, flaw="it is not UTF-8", ended=ended)
    return Line(data, objects_in(text), flaw, ended)


def objects_in(text: str) -> list[dict[str, Any]]:
    """The JSON objects that a text consists of; none if there is anything else."""
    decoder, objects = json.JSONDecoder(), []
    text = text.strip()
    while text:
        try:
            one, end = decoder.raw_decode(text)
        except (ValueError, RecursionError):
            return []
        if not isinstance(one, dict):
            return []
        objects.append(one)
        text = text[end:].lstrip()
    return objects


async def open_tap(listen: Endpoint, limit_s: float) -> Tap:
    """A connection to a node.

    Raises:
        OSError: It can't be made, or not in time.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(limit_s):
        _, tap = await loop.create_connection(Tap, listen.host, listen.port)
    return tap
