"""AMQP 0-9-1 between a client and a broker, as much of it as a queue needs.

(AMQP 0-9-1 specification, and RabbitMQ's documentation for confirms, `basic.nack` and
the codes of errors.) One connection with one channel, one request at a time, no
heartbeats. What may have been sent is never sent again, and every failure says whether
it left: the caller judges an operation without an answer.
"""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from harness.errors import TEMPORARILY_UNAVAILABLE, NodeReply
from harness.systems.streams import Streams

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Mapping

    from harness.systems.streams import Pair
    from harness.worlds.places import Endpoint

PROTOCOL: Final = b"AMQP\0\0\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAMES: Final = frozenset({METHOD, HEADER, BODY, HEARTBEAT})
"""Types of frames."""
FRAME_END: Final = b"\xce"
FRAME_BYTES_MAX: Final = 131_072
"""Of a payload; we ask the broker for no larger ones."""
MESSAGE_BYTES_MAX: Final = 8 << 20
CHANNEL: Final = 1

Method = tuple[int, int]
"""The numbers of a class and of a method in it."""

CONNECTION_START: Final = (10, 10)
CONNECTION_START_OK: Final = (10, 11)
CONNECTION_TUNE: Final = (10, 30)
CONNECTION_TUNE_OK: Final = (10, 31)
CONNECTION_OPEN: Final = (10, 40)
CONNECTION_OPEN_OK: Final = (10, 41)
CONNECTION_CLOSE: Final = (10, 50)
CHANNEL_OPEN: Final = (20, 10)
CHANNEL_OPEN_OK: Final = (20, 11)
CHANNEL_CLOSE: Final = (20, 40)
QUEUE_DECLARE: Final = (50, 10)
QUEUE_DECLARE_OK: Final = (50, 11)
BASIC_PUBLISH: Final = (60, 40)
BASIC_RETURN: Final = (60, 50)
BASIC_GET: Final = (60, 70)
BASIC_GET_OK: Final = (60, 71)
BASIC_GET_EMPTY: Final = (60, 72)
BASIC_ACK: Final = (60, 80)
BASIC_NACK: Final = (60, 120)
CONFIRM_SELECT: Final = (85, 10)
CONFIRM_SELECT_OK: Final = (85, 11)

REFUSED: Final = frozenset({403, 404, 405, 406})
"""Codes by which a channel is closed before its method is carried out: access refused,
no such queue (or its home is down), resource locked, precondition failed."""

MANDATORY: Final = 1
DURABLE, PASSIVE = 2, 1
CONTENT_TYPE_AND_DELIVERY_MODE: Final = 0x9000
TRANSIENT, PERSISTENT = 1, 2


class Delivery(NamedTuple):
    """A message that the broker handed out, and waits for the acknowledgement of.

    Attributes:
        tag: The broker's number for it on this connection.
        body: What it holds.
    """

    tag: int
    body: bytes


class Amqp:
    """A connection that is made when needed, and dropped when in doubt.

    Args:
        endpoint: Where the broker is.
        user: Name and password, both.
        confirms: Whether it is to confirm what is published.
    """

    def __init__(self, endpoint: Endpoint, user: str, *, confirms: bool = True) -> None:
        self._streams = Streams(endpoint, self._introduce, "AMQP broker")
        self._user = user
        self._confirms = confirms
        self._published = 0

    async def connect(self) -> None:
        """Connect now, if there is no connection.

        Raises:
            NodeReply: The broker can't be reached, or refuses us; a definite failure.
        """
        await self._streams.connected()

    async def close(self) -> None:
        """Drop the connection without waiting for the other side."""
        await self._streams.close()

    async def declare(
        self, queue: str, arguments: Mapping[str, str], *, passive: bool = False
    ) -> None:
        """Make a durable queue; a passive call only asks whether it is there.

        Raises:
            NodeReply: It is not there, or nobody knows.
        """
        flags = bytes([DURABLE | (PASSIVE if passive else 0)])
        body = bytes(2) + short(queue) + flags + table(arguments)
        async with self._request() as broker:
            broker.send(QUEUE_DECLARE, body)
            await broker.expect(QUEUE_DECLARE_OK)

    async def publish(self, queue: str, body: bytes, *, persistent: bool) -> None:
        """Publish to a queue, and wait for the confirmation, if there are any.

        Raises:
            NodeReply: It is not known to be in the queue; a definite failure if it was
                not sent, or found no queue.
        """
        mode = PERSISTENT if persistent else TRANSIENT
        if len(body) > FRAME_BYTES_MAX - 8:
            raise NodeReply(definite=True, text=f"a message of {len(body)} bytes")
        async with self._request() as broker:
            self._published += 1
            broker.send(
                BASIC_PUBLISH, bytes(2) + short("") + short(queue) + bytes([MANDATORY])
            )
            properties = short("application/json") + bytes([mode])
            head = struct.pack(
                ">HHQH", 60, 0, len(body), CONTENT_TYPE_AND_DELIVERY_MODE
            )
            broker.send_frame(HEADER, head + properties)
            broker.send_frame(BODY, body)
            if not self._confirms:
                await broker.flush()
                return
            method, payload = await broker.read_method(
                BASIC_ACK, BASIC_NACK, BASIC_RETURN
            )
            returned = method == BASIC_RETURN
            if returned:
                await broker.read_content()
                method, payload = await broker.read_method(BASIC_ACK, BASIC_NACK)
            (tag,) = unpack(">Q", payload)
            if tag != self._published:
                raise ValueError(f"confirmed {tag} in the place of {self._published}")
        if returned:
            text = "returned: there is no such queue"
            raise NodeReply(definite=True, text=text, code=TEMPORARILY_UNAVAILABLE)
        if method == BASIC_NACK:
            raise NodeReply(definite=False, text="nacked")

    async def get(self, queue: str) -> Delivery | None:
        """Take a message out of a queue; None if it is empty.

        Raises:
            NodeReply: Nobody knows whether a message was handed out; a definite failure
                if the request was not sent, or refused.
        """
        async with self._request() as broker:
            broker.send(BASIC_GET, bytes(2) + short(queue) + b"\0")
            method, payload = await broker.read_method(BASIC_GET_OK, BASIC_GET_EMPTY)
            if method == BASIC_GET_EMPTY:
                return None
            (tag,) = unpack(">Q", payload)
            return Delivery(tag, await broker.read_content())

    async def acknowledge(self, delivery: Delivery) -> None:
        """Tell the broker to forget a message; it does not answer.

        Raises:
            NodeReply: The connection is lost, so the broker may hand it out again.
        """
        async with self._request() as broker:
            broker.send(BASIC_ACK, struct.pack(">QB", delivery.tag, 0))
            await broker.flush()

    @contextlib.asynccontextmanager
    async def _request(self) -> AsyncIterator[_Conversation]:
        """The connection for one request; it is dropped unless the request ends.

        Raises:
            NodeReply: There is no answer, or a refusal.
        """
        broker = _Conversation(await self._streams.connected())
        ended = False
        try:
            yield broker
            ended = True
        except ClosedError as error:
            definite = error.code in REFUSED
            code = TEMPORARILY_UNAVAILABLE if definite else None
            text = f"closed: {error.code} {error}"
            raise NodeReply(definite=definite, text=text, code=code) from error
        except (OSError, EOFError) as error:
            raise NodeReply(definite=False, text="connection closed") from error
        except ValueError as error:
            raise NodeReply(definite=False, text=f"bad answer: {error}") from error
        finally:
            # The same after a cancelled call: its answer may still come on this
            # connection, and must not be taken for that of the next request.
            if not ended:
                await self.close()

    async def _introduce(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Log in, open a channel, and ask for confirms.

        Raises:
            ValueError: It is no broker, or refuses us.
            EOFError: It hangs up.
        """
        self._published = 0
        broker = _Conversation((reader, writer))
        writer.write(PROTOCOL)
        await broker.expect(CONNECTION_START)
        login = f"\0{self._user}\0{self._user}"
        body = table({}) + short("PLAIN") + long(login.encode()) + short("en_US")
        broker.send(CONNECTION_START_OK, body, channel=0)
        await broker.expect(CONNECTION_TUNE)
        limits = struct.pack(">HIH", CHANNEL, FRAME_BYTES_MAX, 0)
        broker.send(CONNECTION_TUNE_OK, limits, channel=0)
        broker.send(CONNECTION_OPEN, short("/") + bytes(2), channel=0)
        await broker.expect(CONNECTION_OPEN_OK)
        broker.send(CHANNEL_OPEN, short(""))
        await broker.expect(CHANNEL_OPEN_OK)
        if self._confirms:
            broker.send(CONFIRM_SELECT, b"\0")
            await broker.expect(CONFIRM_SELECT_OK)


class ClosedError(ValueError):
    """The broker closed the channel or the connection, and says why.

    Attributes:
        code: Its number for the reason.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Conversation:
    """Frames to the broker and from it, on one connection."""

    def __init__(self, pair: Pair) -> None:
        self._reader, self._writer = pair

    def send(self, method: Method, body: bytes, channel: int = CHANNEL) -> None:
        self.send_frame(METHOD, struct.pack(">HH", *method) + body, channel)

    def send_frame(self, kind: int, payload: bytes, channel: int = CHANNEL) -> None:
        head = struct.pack(">BHI", kind, channel, len(payload))
        self._writer.write(head + payload + FRAME_END)

    async def flush(self) -> None:
        await self._writer.drain()

    async def expect(self, method: Method) -> bytes:
        """The arguments of the next method, which has to be that one."""
        return (await self.read_method(method))[1]

    async def read_method(self, *expected: Method) -> tuple[Method, bytes]:
        """The next method, one of those expected, and its arguments.

        Raises:
            ClosedError: The broker closes the channel or the connection instead.
            ValueError: It says something else.
            EOFError: The connection ends.
        """
        payload = await self._read_frame(METHOD)
        method, arguments = unpack(">HH", payload), payload[4:]
        if method in {CONNECTION_CLOSE, CHANNEL_CLOSE}:
            (code,) = unpack(">H", arguments)
            text = arguments[3:][: arguments[2] if len(arguments) > 2 else 0]
            raise ClosedError(code, text.decode(errors="replace"))
        if method not in expected:
            raise ValueError(f"method {method} in the place of {expected}")
        return method, arguments

    async def read_content(self) -> bytes:
        """The content that follows a method; raises as `read_method` does."""
        _, _, size = unpack(">HHQ", await self._read_frame(HEADER))
        if size > MESSAGE_BYTES_MAX:
            raise ValueError(f"a message of {size} bytes")
        body = b""
        while len(body) < size:
            body += await self._read_frame(BODY)
        return body

    async def _read_frame(self, expected: int) -> bytes:
        while True:
            head = await self._reader.readexactly(7)
            kind, _, size = struct.unpack(">BHI", head)
            if kind not in FRAMES or size > FRAME_BYTES_MAX:
                raise ValueError(f"no AMQP 0-9-1: {head!r}")
            payload = await self._reader.readexactly(size)
            if await self._reader.readexactly(1) != FRAME_END:
                raise ValueError("a frame has no end")
            if kind == expected:
                return payload
            if kind != HEARTBEAT:
                raise ValueError(f"a frame of type {kind} in the place of {expected}")


def unpack(layout: str, data: bytes) -> tuple[int, ...]:
    """Numbers from the front of `data`; raises ValueError if it is too short."""
    try:
        numbers: tuple[int, ...] = struct.unpack_from(layout, data)
    except struct.error as error:
        raise ValueError(str(error)) from error
    return numbers


def short(text: str) -> bytes:
    """A text of at most 255 bytes, its length before it."""
    data = text.encode()
    return bytes([len(data)]) + data


def long(data: bytes) -> bytes:
    """Bytes, their length before them."""
    return struct.pack(">I", len(data)) + data


def table(entries: Mapping[str, str]) -> bytes:
    """A table of texts."""
    return long(
        b"".join(short(k) + b"S" + long(v.encode()) for k, v in entries.items())
    )
