"""JSON over HTTP/1.1 with keep-alive: the little that clients of databases need.

One request at a time on one connection (RFC 9112): a POST with a JSON body, an answer
with a Content-Length or in chunks. A request that may have been sent is never sent
again: the caller judges an operation without an answer. So there are no retries here,
and every failure says whether the request left.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec

from harness.errors import NodeReply
from harness.systems.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.worlds.places import Endpoint

BODY_BYTES_MAX = 1 << 20


class BadAnswerError(ValueError):
    """The other side does not answer with HTTP that this module understands."""


class JsonHttp:
    """A connection to a server."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._streams = Streams(endpoint)

    async def post(
        self, path: str, body: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        """Send `body`; returns the status and the object that came back.

        Raises:
            NodeReply: There is no answer; a definite failure if the request never left.
        """
        reader, writer = await self._streams.connected()
        writer.write(request_bytes(str(self._endpoint), path, body))
        answered = False
        try:
            status, keep, content = await read_answer(reader)
            answer = msgspec.json.decode(content)
            if not isinstance(answer, dict):
                raise BadAnswerError(f"not an object: {answer!r:.100}")
            answered = keep
        except (OSError, EOFError) as error:
            raise NodeReply(definite=False, text="connection closed") from error
        except (ValueError, RecursionError, asyncio.LimitOverrunError) as error:
            # BadAnswerError and bad JSON are ValueErrors.
            raise NodeReply(definite=False, text=f"bad answer: {error}") from error
        finally:
            # The same after a cancelled call: its answer may still come on this
            # connection, and must not be taken for that of the next request.
            if not answered:
                await self.close()
        return status, answer

    async def connect(self) -> None:
        """Connect now, if there is no connection.

        Raises:
            NodeReply: The node can't be reached; a definite failure.
        """
        await self._streams.connected()

    async def close(self) -> None:
        """Drop the connection without waiting for the other side."""
        await self._streams.close()


def request_bytes(host: str, path: str, body: Mapping[str, Any]) -> bytes:
    """A POST request."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bool, bytes]:
    """Read an answer: (status, whether the connection may be kept, content).

    Raises:
        BadAnswerError: The answer is not HTTP/1.1, or longer than BODY_BYTES_MAX.
        EOFError: The answer ends too early.
    """
    status, fields = await read_head(reader)
    keep = fields.get("connection", "").lower() != "close"
    if fields.get("transfer-encoding", "").lower() == "chunked":
        return status, keep, await read_chunks(reader)
    length = content_length(fields.get("content-length", ""), 10)
    return status, keep, await reader.readexactly(length)


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Read the head of an answer: its status, and its fields by lower-case names.

    Raises:
        BadAnswerError: It is not HTTP/1.1.
        EOFError: It ends too early.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    version, _, rest = head[0].partition(" ")
    if version != "HTTP/1.1" or not rest[:3].isdecimal():
        raise BadAnswerError(f"not an HTTP/1.1 status line: {head[0]!r:.100}")
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    return int(rest[:3]), fields


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """The content of a chunked answer; trailers are read and forgotten."""
    content = bytearray()
    while chunk := await read_chunk(reader):
        content += chunk
        if len(content) > BODY_BYTES_MAX:
            raise BadAnswerError(f"an answer longer than {BODY_BYTES_MAX} bytes")
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return bytes(content)


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    """Read a chunk; the last one is empty, and trailers follow."""
    size_line = await reader.readuntil(b"\r\n")
    size = content_length(size_line.decode("latin-1").partition(";")[0].strip(), 16)
    return (await reader.readexactly(size + 2))[:-2] if size else b""


def content_length(text: str, base: int) -> int:
    """A length in an answer. Raises BadAnswerError if it is no number or too large."""
    try:
        length = int(text, base)
    except ValueError:
        length = -1
    if not 0 <= length <= BODY_BYTES_MAX:
        raise BadAnswerError(f"a length of {text!r:.50}")
    return length
