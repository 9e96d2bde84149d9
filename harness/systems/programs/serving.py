"""What our node programs share: clients served by the wire protocol over TCP."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING, Any, Protocol, cast

from harness.systems.wire import (
    LineSplitter,
    MalformedError,
    Message,
    decode,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.errors import NodeReply

Body = dict[str, Any]


class Service(Protocol):
    """Answers requests.

    Attributes:
        name: The node's name.
    """

    name: str

    def handle(self, body: Body, answer: Callable[[Body], None]) -> None:
        """Answer a request, now or later, in the event loop's thread."""
        ...


class ClientSide(asyncio.Protocol):
    """The server's side of one client's connection."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._splitter = LineSplitter()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client's transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Handle each request; lines that are no requests are passed over."""
        for line in self._splitter.feed(data):
            try:
                request = decode(line)
            except MalformedError:
                continue
            answer = functools.partial(self._answer, request)
            self._service.handle(request.body, answer)

    def _answer(self, request: Message, body: Body) -> None:
        body = {**body, "in_reply_to": request.body.get("msg_id")}
        assert self._transport is not None
        if not self._transport.is_closing():
            message = Message(self._service.name, request.src, body)
            self._transport.write(encode(message))


async def serve(service: Service, listen: str) -> None:
    """Serve clients at `listen`, host:port, until killed."""
    loop = asyncio.get_running_loop()
    at = host_and_port(listen)
    server = await loop.create_server(lambda: ClientSide(service), *at)
    await server.serve_forever()


def clock() -> Body:
    """The answer to `clock`."""
    wall_ns, mono_ns = time.time_ns(), time.monotonic_ns()
    return {"type": "clock_ok", "wall_ns": wall_ns, "mono_ns": mono_ns}


def error(code: int, text: str) -> Body:
    """An answer of type `error`."""
    return {"type": "error", "code": code, "text": text}


def error_of(refused: NodeReply) -> Body:
    """The answer to a request that can't be carried out."""
    assert refused.code is not None
    return error(refused.code, refused.text)


def host_and_port(text: str) -> tuple[str, int]:
    """The parts of host:port."""
    host, _, port = text.rpartition(":")
    return host, int(port)
