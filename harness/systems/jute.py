"""ZooKeeper's protocol between client and server, in Jute's binary form.

(zookeeper.jute and "ZooKeeper Programmer's Guide", as of 3.8.) One connection, one
request at a time, no watches. Each request says whether it left: the caller judges an
operation without an answer. The client's libraries retry and reconnect on their own,
which a history can't tell from what the server did.

A connection has a session of its own, and tells the server the newest zxid that it has
seen before: a server that is behind refuses it, so a client never sees the state go
back ("single system image").
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from harness.errors import NodeReply
from harness.systems.streams import Streams

if TYPE_CHECKING:
    import asyncio

    from harness.worlds.places import Endpoint

CREATE: Final = 1
GET_DATA: Final = 4
SET_DATA: Final = 5
SYNC: Final = 9

NO_NODE: Final = -101
BAD_VERSION: Final = -103
NODE_EXISTS: Final = -110

REFUSED: Final = frozenset(
    {
        -8,  # bad arguments
        NO_NODE,
        -102,  # no permission
        BAD_VERSION,
        NODE_EXISTS,
        -114,  # invalid ACL
        -125,  # quota exceeded
    }
)
"""Codes of errors that the leader's checks raise in the place of the transaction, so
that nothing is written (`PrepRequestProcessor`)."""

ANY_VERSION: Final = -1
SESSION_TIMEOUT_MS: Final = 40_000
FRAME_BYTES_MAX: Final = 4 << 20
ANYONE_MAY: Final = struct.pack(">ii", 1, 31)
"""The head of an ACL with one entry that permits all; the entry's name follows."""


class Held(NamedTuple):
    """What a node of the tree holds.

    Attributes:
        data: Its data.
        version: How often it was set.
    """

    data: bytes
    version: int


class ZooKeeperError(Exception):
    """An error that the server answered.

    Attributes:
        code: Its number (`KeeperException.Code`).
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"ZooKeeper says error {code}")
        self.code = code


class Session:
    """A connection that is made when needed, and dropped when in doubt."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._streams = Streams(endpoint, self._introduce, "ZooKeeper")
        self._xid = 0
        self._zxid = 0
        """The newest that was seen, on any connection."""

    async def get(self, path: str) -> Held:
        """What the server has at `path`; raises as `_ask` does."""
        body = await self._ask(GET_DATA, string(path) + b"\0")
        data, rest = cut(body)
        try:
            (version,) = struct.unpack_from(">i", rest, 32)
        except struct.error as error:
            raise NodeReply(definite=True, text=f"bad answer: {error}") from error
        return Held(data, version)

    async def set(self, path: str, data: bytes, version: int = ANY_VERSION) -> None:
        """Write to `path` if it has that version; raises as `_ask` does."""
        body = string(path) + buffer(data) + struct.pack(">i", version)
        await self._ask(SET_DATA, body)

    async def create(self, path: str, data: bytes) -> None:
        """Make a node of the tree; raises as `_ask` does."""
        acl = ANYONE_MAY + string("world") + string("anyone")
        await self._ask(CREATE, string(path) + buffer(data) + acl + bytes(4))

    async def sync(self, path: str) -> None:
        """Wait until the server has what its leader had; raises as `_ask` does."""
        await self._ask(SYNC, string(path))

    async def connect(self) -> None:
        """Connect now, if there is no connection.

        Raises:
            NodeReply: The server can't be reached, or is not in a quorum; a definite
                failure.
        """
        await self._streams.connected()

    async def close(self) -> None:
        """Drop the connection without waiting for the other side."""
        await self._streams.close()

    async def _ask(self, kind: int, body: bytes) -> bytes:
        """The answer's body.

        Raises:
            ZooKeeperError: The server answered an error.
            NodeReply: There is no answer; a definite failure if nothing was sent.
        """
        reader, writer = await self._streams.connected()
        self._xid = self._xid % 0x7FFFFFFF + 1
        writer.write(buffer(struct.pack(">ii", self._xid, kind) + body))
        answered = False
        try:
            answer = await frame(reader)
            xid, zxid, code = struct.unpack_from(">iqi", answer)
            answered = xid == self._xid
        except (OSError, EOFError) as error:
            raise NodeReply(definite=False, text="connection closed") from error
        except (ValueError, struct.error) as error:
            raise NodeReply(definite=False, text=f"bad answer: {error}") from error
        finally:
            # The same after a cancelled call: its answer may still come on this
            # connection, and must not be taken for that of the next request.
            if not answered:
                await self.close()
        if not answered:
            text = f"answered request {xid} in the place of {self._xid}"
            raise NodeReply(definite=False, text=text)
        self._zxid = max(self._zxid, zxid)
        if code:
            raise ZooKeeperError(code)
        return answer[16:]

    async def _introduce(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Ask for a new session.

        Raises:
            EOFError: The server has no quorum, or is behind what this client has seen.
            ValueError: It is no ZooKeeper.
        """
        hello = struct.pack(">iqiq", 0, self._zxid, SESSION_TIMEOUT_MS, 0)
        writer.write(buffer(hello + buffer(bytes(16)) + b"\0"))
        answer = await frame(reader)
        try:
            struct.unpack_from(">iiq", answer)
        except struct.error as error:
            raise ValueError(str(error)) from error


async def frame(reader: asyncio.StreamReader) -> bytes:
    """The next message.

    Raises:
        ValueError: It is larger than any that we ask for.
        EOFError: The connection ends before the message does.
    """
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    if not 0 <= length <= FRAME_BYTES_MAX:
        raise ValueError(f"a message of {length} bytes")
    return await reader.readexactly(length)


def buffer(data: bytes) -> bytes:
    """Bytes as Jute has them, their length before them; a frame, too."""
    return struct.pack(">i", len(data)) + data


def string(characters: str) -> bytes:
    """A text as Jute has it."""
    return buffer(characters.encode())


def cut(body: bytes) -> tuple[bytes, bytes]:
    """The buffer at the front, and what follows it; a null buffer is an empty one.

    Raises:
        NodeReply: There is none; a definite failure, as only reads answer buffers.
    """
    length = int.from_bytes(body[:4], "big", signed=True)
    if len(body) < 4 + max(length, 0):
        raise NodeReply(definite=True, text=f"bad answer: {body!r:.60}")
    end = 4 + max(length, 0)
    return body[4:end], body[end:]
