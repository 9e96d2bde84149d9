"""A watch of etcd: the puts to one key from a revision on, as its gateway streams them.

Promise (etcd's documentation, "Watch APIs"): events come in the order of revisions,
each once, and none is left out. The gateway answers one POST with lines of JSON that
never end, in chunks of HTTP.
"""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import msgspec

from harness.errors import NodeReply
from harness.systems.http_json import (
    BODY_BYTES_MAX,
    BadAnswerError,
    read_chunk,
    read_head,
    request_bytes,
)
from harness.systems.streams import Streams

if TYPE_CHECKING:
    from harness.worlds.places import Endpoint


class Watch:
    """The puts to a key, as one member tells them.

    Args:
        listen: Where the member serves clients.
        name: The key.
        revision: The first that is wanted; 0 stands for all.

    Attributes:
        revision: The first that was not told yet.
    """

    def __init__(self, listen: Endpoint, name: str, revision: int) -> None:
        self.revision = revision
        self._listen = listen
        self._name = name
        self._streams = Streams(listen, server="etcd")
        self._reader: asyncio.StreamReader | None = None
        self._read = bytearray()
        self._is_stream = False

    async def begin(self) -> None:
        """Ask for the watch; what it tells comes later.

        Raises:
            NodeReply: The member can't be reached.
        """
        self._reader, writer = await self._streams.connected()
        key = base64.b64encode(self._name.encode()).decode()
        # Without a revision, etcd begins with what comes next.
        asked = {"key": key, "start_revision": max(1, self.revision)}
        body = {"create_request": asked}
        writer.write(request_bytes(str(self._listen), "/v3/watch", body))

    async def until(self, revision: int) -> list[list[Any]]:
        """The revisions and values of puts that come, up to one at `revision` or later.

        Raises:
            NodeReply: The stream ends, or is no watch; a definite failure. The watch is
                of no use from then on, and neither after it was cancelled.
        """
        told: list[list[Any]] = []
        try:
            while self.revision <= revision:
                for put in puts_in(await self._line()):
                    told.append(put)
                    self.revision = put[0] + 1
        except (OSError, EOFError) as error:
            raise NodeReply(definite=True, text="the watch ended") from error
        except (ValueError, RecursionError, asyncio.LimitOverrunError) as error:
            text = f"the watch told {error}"
            raise NodeReply(definite=True, text=text) from error
        return told

    async def close(self) -> None:
        """Drop the connection, and so end the watch."""
        await self._streams.close()

    async def _line(self) -> bytes:
        """The next line of the stream."""
        while b"\n" not in self._read:
            self._read += await self._chunk()
            if len(self._read) > BODY_BYTES_MAX:
                raise BadAnswerError(f"a line longer than {BODY_BYTES_MAX} bytes")
        line, _, self._read = self._read.partition(b"\n")
        return bytes(line)

    async def _chunk(self) -> bytes:
        assert self._reader is not None, "it has begun"
        if not self._is_stream:
            status, fields = await read_head(self._reader)
            chunked = fields.get("transfer-encoding", "").lower() == "chunked"
            if status != 200 or not chunked:
                raise BadAnswerError(f"status {status}, and no stream")
            self._is_stream = True
        if chunk := await read_chunk(self._reader):
            return chunk
        raise EOFError


def puts_in(line: bytes) -> list[list[Any]]:
    """The revisions and values of the puts in one line.

    Raises:
        ValueError: It tells an error, that the watch was cancelled, or something else.
    """
    told = msgspec.json.decode(line)
    try:
        result = told["result"]
        if result.get("canceled"):
            raise ValueError(f"that it is cancelled: {line!r:.200}")
        return [
            [
                int(event["kv"]["mod_revision"]),
                msgspec.json.decode(base64.b64decode(event["kv"]["value"])),
            ]
            for event in result.get("events", ())
            if event.get("type", "PUT") == "PUT"
        ]
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"{line!r:.200}") from error
