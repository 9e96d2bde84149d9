"""The wire protocol: JSON lines over TCP, in Maelstrom's vocabulary (WIRE.md).

One message a line, `{"src", "dest", "body"}`. A request's body has a `type` and a
`msg_id`; its answer repeats that number as `in_reply_to`. Maelstrom's table of errors
says which of them are definite, and that one bit decides between `fail` and `info`.

Bytes from a node are never trusted. A line that is not a message, a line without end,
an answer to nothing, an answer that comes late or twice: each is counted
(`WireCounters`) and passed over. Such bytes also use up the connection's allowance,
which every wanted answer fills again; a node that overdraws it is flooding, and is cut
off. So no node can use up the event loop's time or memory.

Choices:
    A client has one connection, and there is no init message: a launched node learns
    its name and its peers from the environment, so a connection begins with the first
    request. `msg_id` counts up from 1 on each connection. An answer must carry the
    `dest` that the request had as `src`, so that a node that mixes up its clients is
    detected instead of believed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from harness.errors import TEMPORARILY_UNAVAILABLE, HarnessError, NodeReply, Timeout
from harness.override import override
from harness.systems.client import Client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import Op
    from harness.workload import WireCodec
    from harness.worlds.places import NodePlace

LINE_BYTES_MAX = 1 << 20
"""Longest line, its newline not counted."""

FLOOD_BYTES_MAX = 4 << 20
"""Unwanted bytes that a connection may bring between two wanted answers."""

LINE_CHARGE_BYTES_MIN = 1024
"""Bytes that an unwanted line counts for at least, so that empty lines flood, too."""

CONNECT_TIMEOUT_S = 2.0
"""A connect that takes longer counts as refused."""

LINGER_S = 2.0
"""How long a connection on which the node owes an answer outlives its client."""

CONTROL_NAME = "c-harness"
"""`src` of the harness' own requests (status, clock)."""


@dataclass(frozen=True)
class WireError:
    """A row of Maelstrom's table of errors.

    `definite`: the operation certainly did not happen, nor ever will.
    """

    code: int
    name: str
    definite: bool


ERRORS: Mapping[int, WireError] = {
    error.code: error
    for error in (
        WireError(0, "timeout", definite=False),
        WireError(1, "node-not-found", definite=True),
        WireError(10, "not-supported", definite=True),
        WireError(11, "temporarily-unavailable", definite=True),
        WireError(12, "malformed-request", definite=True),
        WireError(13, "crash", definite=False),
        WireError(14, "abort", definite=True),
        WireError(20, "key-does-not-exist", definite=True),
        WireError(21, "key-already-exists", definite=True),
        WireError(22, "precondition-failed", definite=True),
        WireError(30, "txn-conflict", definite=True),
        WireError(40, "not-a-member", definite=True),
    )
}
"""Code -> error. All other codes, among them 1000 and above, are indefinite."""


@dataclass
class WireCounters:
    """Counts of what nodes sent unasked; shared by all clients of a run.

    Attributes:
        late: Answers that came after their request was given up.
        duplicate: Further answers to a request that was answered.
        unknown: Messages that answer no request of their connection.
        malformed: Lines that are not messages.
        oversize: Lines longer than LINE_BYTES_MAX.
        flood: Connections closed because of too many unwanted bytes.
        flood_bytes: Bytes on those connections since their last wanted answer.
    """

    late: int = 0
    duplicate: int = 0
    unknown: int = 0
    malformed: int = 0
    oversize: int = 0
    flood: int = 0
    flood_bytes: int = 0

    def as_json(self) -> dict[str, int]:
        """The counters by name, for run.json."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Message(msgspec.Struct, gc=False):
    """One line of the protocol; other members of the object are ignored."""

    src: str
    dest: str
    body: dict[str, Any]


class MalformedError(ValueError):
    """A line is not a message."""


_decoder = msgspec.json.Decoder(Message)
_encoder = msgspec.json.Encoder()


def encode(message: Message) -> bytes:
    """The message as a line, newline included.

    Raises:
        HarnessError: The message is longer than a line may be.
    """
    line = _encoder.encode(message)
    if len(line) > LINE_BYTES_MAX:
        raise HarnessError(
            f"a request of {len(line)} bytes is longer than a line of the wire "
            f"protocol may be ({LINE_BYTES_MAX})"
        )
    return line + b"\n"


def decode(line: bytes) -> Message:
    """The message on a line.

    Raises:
        MalformedError: The line is no JSON, not of the right shape, too deeply nested,
            ...
    """
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(str(error)) from error


class LineSplitter:
    """Cuts a byte stream into lines; it holds at most one unfinished line.

    A line that outgrows LINE_BYTES_MAX is dropped, up to and including its newline.

    Attributes:
        oversize: Lines dropped so far.
        dropped_bytes: Bytes of the lines dropped so far.
    """

    def __init__(self) -> None:
        self.oversize = 0
        self.dropped_bytes = 0
        self._unfinished = bytearray()
        self._dropping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their newlines."""
        pieces = data.split(b"\n")
        last = pieces.pop()
        lines = []
        for piece in pieces:
            if not (self._unfinished or self._dropping) and (
                len(piece) <= LINE_BYTES_MAX
            ):
                lines.append(piece)  # whole as it came, like nearly all lines
                continue
            self._extend(piece)
            if not self._dropping:
                lines.append(bytes(self._unfinished))
            self._unfinished.clear()
            self._dropping = False
        if last:
            self._extend(last)
        return lines

    def _extend(self, piece: bytes) -> None:
        if self._dropping:
            self.dropped_bytes += len(piece)
        elif len(self._unfinished) + len(piece) > LINE_BYTES_MAX:
            self.oversize += 1
            self.dropped_bytes += len(self._unfinished) + len(piece)
            self._dropping = True
            self._unfinished.clear()
        else:
            self._unfinished += piece


def reply_error(body: Mapping[str, Any]) -> NodeReply:
    """The error that a body of type `error` means.

    A code that is no integer is indefinite, like an unknown one.
    """
    code = body.get("code")
    text = body.get("text")
    if type(code) is not int:
        return NodeReply(definite=False, text=f"error without a code: {text or body}")
    known = ERRORS.get(code)
    return NodeReply(
        definite=known is not None and known.definite,
        text=str(text) if text else (known.name if known else f"error {code}"),
        code=code,
    )


class Wire(Protocol):
    """A connection to a node, real (`Connection`) or simulated.

    Attributes:
        lost: Why the connection is gone; empty while it stands.
    """

    lost: str

    @property
    def owes_answers(self) -> bool:
        """True while the answer to a request that was given up may still come."""
        ...

    async def call(
        self, src: str, dest: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Send a request and wait for the body that answers it, an error or not.

        Waits for ever; the caller sets the limit by cancelling.

        Raises:
            NodeReply: The connection was lost before the answer came; a definite
                failure if the request never left.
        """
        ...

    async def linger(self) -> None:
        """Wait for the answers that are owed, so that they are counted; then close.

        It doesn't wait long, as nobody needs them. But a node that is slow is not dead,
        and the counters should show the difference.
        """
        ...

    async def close(self) -> None:
        """Drop the connection at once, without waiting for the node."""
        ...


class Connection(asyncio.Protocol, Wire):
    """One TCP connection to a node, which matches answers with calls."""

    def __init__(self, counters: WireCounters) -> None:
        self.lost = ""
        self._counters = counters
        self._splitter = LineSplitter()
        self._transport: asyncio.Transport | None = None
        self._gone = asyncio.get_running_loop().create_future()
        self._msg_id = 0
        self._waiting: dict[int, tuple[str, asyncio.Future[dict[str, Any]]]] = {}
        self._given_up: set[int] = set()
        self._unwanted_bytes = 0
        self._news: asyncio.Future[None] | None = None

    @override
    async def call(
        self, src: str, dest: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        if self.lost or self._transport is None:
            raise NodeReply(
                definite=True,
                text=self.lost or "not connected",
                code=TEMPORARILY_UNAVAILABLE,
            )
        msg_id = self._msg_id + 1
        line = encode(Message(src, dest, {**body, "msg_id": msg_id}))
        self._msg_id = msg_id
        answer: asyncio.Future[dict[str, Any]] = (
            asyncio.get_running_loop().create_future()
        )
        self._waiting[msg_id] = (src, answer)
        self._transport.write(line)
        try:
            return await answer
        except asyncio.CancelledError:
            # The request is given up and not forgotten: if its answer comes after all,
            # it counts as late rather than as unknown.
            if self._waiting.pop(msg_id, None) is not None:
                self._given_up.add(msg_id)
            raise

    @property
    @override
    def owes_answers(self) -> bool:
        return bool(self._given_up) and not self.lost

    @override
    async def linger(self) -> None:
        try:
            async with asyncio.timeout(LINGER_S):
                while self.owes_answers:
                    self._news = asyncio.get_running_loop().create_future()
                    await self._news
        except TimeoutError:
            pass
        finally:
            await self.close()

    @override
    async def close(self) -> None:
        self._drop("closed by the client")
        if self._transport is not None:
            await self._gone

    # Callbacks of the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport. TCP_NODELAY is asyncio's default."""
        # uvloop's transports have the interface, but not the base class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Give each answer to the call that waits for it; account for all else."""
        splitter = self._splitter
        oversize, dropped_bytes = splitter.oversize, splitter.dropped_bytes
        lines = splitter.feed(data)
        self._counters.oversize += splitter.oversize - oversize
        self._charge(splitter.dropped_bytes - dropped_bytes)
        for line in lines:
            if self.lost:
                return
            if self._deliver(line):
                self._unwanted_bytes = 0
            else:
                self._charge(max(len(line), LINE_CHARGE_BYTES_MIN))
        self._tell_news()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all calls that wait, as no answer will come."""
        self.lost = self.lost or "connection closed"
        if not self._gone.done():
            self._gone.set_result(None)
        waiting, self._waiting = self._waiting, {}
        for _, answer in waiting.values():
            if not answer.done():
                answer.set_exception(NodeReply(definite=False, text=self.lost))
        self._tell_news()

    def _deliver(self, line: bytes) -> bool:
        """Deliver a line; True if it is the answer that a call waits for."""
        counters = self._counters
        try:
            message = decode(line)
        except MalformedError:
            counters.malformed += 1
            return False
        msg_id = message.body.get("in_reply_to")
        if type(msg_id) is not int or not 1 <= msg_id <= self._msg_id:
            counters.unknown += 1
        elif msg_id in self._given_up:
            self._given_up.remove(msg_id)
            counters.late += 1
        elif msg_id not in self._waiting:
            counters.duplicate += 1
        elif message.dest != self._waiting[msg_id][0]:
            counters.unknown += 1
        else:
            _, answer = self._waiting.pop(msg_id)
            if not answer.done():
                answer.set_result(message.body)
                return True
            # The call was cancelled in this turn of the loop, too late to note it.
            counters.late += 1
        return False

    def _tell_news(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _charge(self, unwanted_bytes: int) -> None:
        self._unwanted_bytes += unwanted_bytes
        if self._unwanted_bytes > FLOOD_BYTES_MAX and not self.lost:
            self._counters.flood += 1
            self._counters.flood_bytes += self._unwanted_bytes
            self._drop(
                f"connection closed: the node sent {self._unwanted_bytes} bytes "
                "that nobody waits for"
            )

    def _drop(self, reason: str) -> None:
        self.lost = self.lost or reason
        if self._transport is not None:
            self._transport.abort()


async def connect(
    place: NodePlace, counters: WireCounters, timeout_s: float = CONNECT_TIMEOUT_S
) -> Connection:
    """A connection to the node at `place`.

    Raises:
        NodeReply: The connection could not be made within `timeout_s`; a definite
            failure, as nothing was sent.
    """
    loop = asyncio.get_running_loop()
    listen = place.listen
    try:
        async with asyncio.timeout(timeout_s):
            _, connection = await loop.create_connection(
                lambda: Connection(counters), listen.host, listen.port
            )
    except TimeoutError as error:
        text = f"no connection to {listen} within {timeout_s} s"
        raise NodeReply(
            definite=True, text=text, code=TEMPORARILY_UNAVAILABLE
        ) from error
    except OSError as error:
        raise NodeReply(
            definite=True, text=why_not(error), code=TEMPORARILY_UNAVAILABLE
        ) from error
    return connection


Dial = Callable[["NodePlace", WireCounters, float], Awaitable[Wire]]
"""Connects to a node within some seconds: `connect`, or a simulation's function."""


def why_not(error: OSError) -> str:
    """Why there is no connection: "connection refused", "timed out", ...

    It lacks the address, which asyncio adds, so that equal failures have equal texts in
    a history.
    """
    if isinstance(error, TimeoutError):
        return "timed out"
    return os.strerror(error.errno).lower() if error.errno else str(error)


async def call(
    place: NodePlace,
    body: Mapping[str, Any],
    timeout_s: float,
    counters: WireCounters | None = None,
    dial: Dial = connect,
) -> dict[str, Any]:
    """The answer to one request, on a new connection; `timeout_s` covers both.

    Raises:
        NodeReply: The node answered with an error, or could not be reached.
        Timeout: The node did not answer in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            connection = await dial(place, counters or WireCounters(), timeout_s)
            try:
                reply = await connection.call(CONTROL_NAME, place.name, body)
            finally:
                await connection.close()
    except TimeoutError as error:
        text = f"{place.name} did not answer {body.get('type')} within {timeout_s} s"
        raise Timeout(text) from error
    if reply.get("type") == "error":
        raise reply_error(reply)
    return reply


_lingering: set[asyncio.Task[None]] = set()
"""The event loop holds its tasks weakly; this keeps them alive until they are done."""


class WireClient(Client):
    """A `Client` over one connection, which it makes anew if it finds it lost.

    Otherwise a process whose operations are definite failures would never leave a dead
    connection: only an indefinite outcome makes the interpreter open a new client.
    """

    def __init__(
        self, codec: WireCodec, counters: WireCounters, dial: Dial = connect
    ) -> None:
        self._codec = codec
        self._counters = counters
        self._dial = dial
        self._place: NodePlace | None = None
        self._connection: Wire | None = None

    @override
    async def open(self, place: NodePlace) -> None:
        self._place = place
        self._connection = await self._connect(place)

    @override
    async def invoke(self, op: Op) -> Op:
        place = self._place
        if place is None:
            raise HarnessError("a client was used before it was opened")
        if self._connection is None or self._connection.lost:
            self._connection = await self._connect(place)
        body = await self._connection.call(
            f"c{op.process}", place.name, self._codec.request(op)
        )
        if body.get("type") != "error":
            return self._codec.completion(op, body)
        error = reply_error(body)
        completion = self._codec.on_error(op, error)
        if completion is None:
            raise error
        return completion

    async def _connect(self, place: NodePlace) -> Wire:
        return await self._dial(place, self._counters, CONNECT_TIMEOUT_S)

    async def close(self) -> None:
        """Drop the connection; it may linger without holding up the caller."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.owes_answers:
            task = asyncio.ensure_future(connection.linger())
            _lingering.add(task)
            task.add_done_callback(_lingering.discard)
        else:
            await connection.close()
