"""RESP, the protocol of Redis (redis.io, "Redis serialization protocol"), version 2.

One connection, one command at a time. A command that may have been sent is never sent
again, and every failure says whether it left: the caller judges an operation without an
answer. The client's libraries retry and reconnect on their own, which a history can't
tell from what the server did.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeAlias

from harness.errors import NodeReply
from harness.systems.streams import Streams

if TYPE_CHECKING:
    from harness.worlds.places import Endpoint

BULK_BYTES_MAX: Final = 1 << 20
ELEMENTS_MAX: Final = 100_000
NESTING_MAX: Final = 8

Answer: TypeAlias = "bytes | int | list[Answer] | ServerError | None"
"""A text, a number, an array, an error in an array (of EXEC), or nil."""


class ServerError(Exception):
    """An error that the server answered: a word in capitals, and a text."""


class Resp:
    """A connection to a server."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._streams = Streams(endpoint)

    async def command(self, *words: str | int) -> Answer:
        """Send a command; returns what was answered.

        Raises:
            ServerError: The server answered an error.
            NodeReply: There is no answer; a definite failure if nothing was sent.
        """
        reader, writer = await self._streams.connected()
        writer.write(encoded(words))
        answered = False
        try:
            answer = await read_answer(reader)
            answered = True
        except (OSError, EOFError) as error:
            raise NodeReply(definite=False, text="connection closed") from error
        except (ValueError, asyncio.LimitOverrunError) as error:
            raise NodeReply(definite=False, text=f"bad answer: {error}") from error
        finally:
            # The same after a cancelled call: its answer may still come on this
            # connection, and must not be taken for that of the next command.
            if not answered:
                await self.close()
        if isinstance(answer, ServerError):
            raise answer
        return answer

    async def connect(self) -> None:
        """Connect now, if there is no connection.

        Raises:
            NodeReply: The server can't be reached; a definite failure.
        """
        await self._streams.connected()

    async def close(self) -> None:
        """Drop the connection without waiting for the other side."""
        await self._streams.close()


def encoded(words: tuple[str | int, ...]) -> bytes:
    """A command: an array of texts."""
    texts = [str(word).encode() for word in words]
    parts = [b"$%d\r\n%s\r\n" % (len(text), text) for text in texts]
    return b"*%d\r\n%s" % (len(parts), b"".join(parts))


async def read_answer(reader: asyncio.StreamReader, depth: int = 0) -> Answer:
    """The next answer.

    Raises:
        ValueError: It is no RESP, or larger than the limits above.
        EOFError: The connection ends before the answer does.
    """
    line = (await reader.readuntil(b"\r\n"))[:-2]
    kind, rest = line[:1], line[1:]
    if kind == b"+":
        return rest
    if kind == b"-":
        return ServerError(rest.decode(errors="replace"))
    if kind not in {b":", b"$", b"*"}:
        raise ValueError(f"no RESP: {line!r:.60}")
    number = int(rest)
    if kind == b":":
        return number
    if number == -1:
        return None
    if kind == b"$":
        if not 0 <= number <= BULK_BYTES_MAX:
            raise ValueError(f"a text of {number} bytes")
        return (await reader.readexactly(number + 2))[:-2]
    if not 0 <= number <= ELEMENTS_MAX or depth > NESTING_MAX:
        raise ValueError(f"an array of {number} elements, {depth} deep")
    return [await read_answer(reader, depth + 1) for _ in range(number)]
