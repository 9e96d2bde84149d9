#!/usr/bin/env python3
"""A register service in one file: where to start with an implementation of your own.

    splitbrain run "launch:python3 examples/python_register.py" --nemesis partition,kill

Needs Python 3.11 or later and nothing else. WIRE.md describes the protocol.

It is linearizable because one process does everything: the first node by name owns the
data, and the others pass requests on to it. It does not replicate, so nothing works
while the owner is down or cut off: it is safe, but not available. Replace `Owner` by a
protocol of your own, and let splitbrain tell you whether it is still linearizable.
"""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

NAME = os.environ["SPLITBRAIN_NODE"]
LISTEN = os.environ["SPLITBRAIN_LISTEN"]  # "host:port"
PEERS = json.loads(os.environ["SPLITBRAIN_PEERS"])  # name -> "host:port"
DATA = Path(os.environ["SPLITBRAIN_DATA"])

OWNER = min([NAME, *PEERS])
LINE_BYTES_MAX = 1 << 20
OWNER_TIMEOUT_S = 2.0

Json = dict[str, Any]


class ErrorReply(Exception):  # noqa: N818  # named after what the protocol calls it
    """An answer of type `error`; its code says if the operation may have happened."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.body = {"type": "error", "code": code, "text": text}


class Owner:
    """Holds the data, in memory and in a journal of [key, value] lines."""

    def __init__(self) -> None:
        self.data: dict[Any, Any] = {}
        self.journal = (DATA / "journal.jsonl").open("a+b")
        self.journal.seek(0)
        end = 0
        for line in self.journal:
            if not line.endswith(b"\n"):
                break  # A kill in mid-write. Nobody was told that this one happened.
            key, value = json.loads(line)
            self.data[key] = value
            end += len(line)
        self.journal.truncate(end)
        os.fsync(self.journal.fileno())  # What we are about to serve must be durable.

    async def answer(self, message: Json) -> Json:
        """The answer to a request: an ok, or ErrorReply is raised."""
        return reply(message, self.handle(message["body"]))

    def handle(self, body: Json) -> Json:
        """Carry out one request.

        There is no `await` in here: requests are carried out one at a time, and that
        order is the order that makes this linearizable.
        """
        kind = body["type"]
        if kind == "status":
            return {"type": "status_ok", "role": "leader", "term": 1, "leader": NAME}
        if kind not in ("read", "write", "cas"):
            raise ErrorReply(10, f"{kind} is not supported")
        key = body["key"]
        if kind == "write":
            self.put(key, body["value"])
            return {"type": "write_ok"}
        if kind == "cas":
            self.compare_and_set(key, body["from"], body["to"])
            return {"type": "cas_ok"}
        return {"type": "read_ok", "value": self.get(key)}

    def compare_and_set(self, key: Any, before: Any, after: Any) -> None:
        """Replace `before` by `after`; an error if the register holds another value."""
        value = self.get(key)
        if value != before:
            raise ErrorReply(22, f"expected {before}, but it is {value}")
        self.put(key, after)

    def get(self, key: Any) -> Any:
        """The register's value; an error if it was never written."""
        if key not in self.data:
            raise ErrorReply(20, f"there is no key {key}")
        return self.data[key]

    def put(self, key: Any, value: Any) -> None:
        """Durable first, visible second: what somebody has read must survive a kill."""
        try:
            self.journal.write(json.dumps([key, value]).encode() + b"\n")
            self.journal.flush()
            os.fsync(self.journal.fileno())
        except OSError as error:
            # Nobody knows what is in the file now. A restart reads it; until then
            # nothing more may be written.
            raise SystemExit(f"can't write the journal: {error}") from error
        self.data[key] = value

    def close(self) -> None:
        """Do nothing when a client leaves: all clients share the owner."""


class Forwarder:
    """Passes one client's requests to the owner, as they are, and the answers back."""

    def __init__(self) -> None:
        self.upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def answer(self, message: Json) -> Json:
        """The owner's answer, as it is."""
        if message["body"]["type"] == "status":
            body = {"type": "status_ok", "role": "follower", "term": 1, "leader": OWNER}
            return reply(message, body)
        reader, writer = await self.connection()
        try:
            async with asyncio.timeout(OWNER_TIMEOUT_S):
                writer.write(encode(message))
                line = await reader.readline()
        except (OSError, ValueError):  # TimeoutError is an OSError.
            line = b""
        if line.endswith(b"\n"):
            answer: Json = json.loads(line)
            return answer
        # The request may have arrived, and may yet be carried out. So this must be an
        # indefinite error, and the connection, on which the answer may still come, must
        # not serve another request.
        self.close()
        raise ErrorReply(0, f"{OWNER} did not answer")

    async def connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection to the owner: the one there is, or a new one."""
        if self.upstream is not None and not self.upstream[0].at_eof():
            return self.upstream
        self.close()
        host, port = PEERS[OWNER].rsplit(":", 1)
        try:
            async with asyncio.timeout(OWNER_TIMEOUT_S):
                self.upstream = await asyncio.open_connection(
                    host, int(port), limit=LINE_BYTES_MAX
                )
        except OSError as error:
            # Nothing was sent, so this error can be a definite one.
            raise ErrorReply(11, f"{OWNER} can't be reached") from error
        return self.upstream

    def close(self) -> None:
        """Close the connection to the owner; a later request opens a new one."""
        if self.upstream is not None:
            self.upstream[1].close()
            self.upstream = None


def reply(request: Json, body: Json) -> Json:
    """The message that answers `request` with `body`."""
    body = {**body, "in_reply_to": request["body"]["msg_id"]}
    return {"src": NAME, "dest": request["src"], "body": body}


def encode(message: Json) -> bytes:
    """A message as a line."""
    return json.dumps(message).encode() + b"\n"


async def answer_line(service: Owner | Forwarder, line: bytes) -> Json | None:
    """The answer to one line; None if the line doesn't say whom to answer."""
    try:
        message = json.loads(line)
        kind, _, _ = message["body"]["type"], message["body"]["msg_id"], message["src"]
    except (ValueError, TypeError, KeyError):
        return None
    try:
        if kind == "clock":
            wall_ns, mono_ns = time.time_ns(), time.monotonic_ns()
            clock = {"type": "clock_ok", "wall_ns": wall_ns, "mono_ns": mono_ns}
            return reply(message, clock)
        return await service.answer(message)
    except ErrorReply as error:
        return reply(message, error.body)
    except (KeyError, TypeError) as error:
        return reply(message, ErrorReply(12, f"malformed request: {error!r}").body)


async def main() -> None:
    """Serve clients and forwarding peers alike, each on a connection, until killed."""
    owner = Owner() if NAME == OWNER else None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        service = owner or Forwarder()
        try:
            while line := await reader.readline():
                answer = await answer_line(service, line)
                if answer is not None:
                    writer.write(encode(answer))
                    await writer.drain()
        except (ConnectionError, ValueError):
            pass  # The client is gone, or its line was too long.
        finally:
            writer.close()
            service.close()

    host, port = LISTEN.rsplit(":", 1)
    server = await asyncio.start_server(serve, host, int(port), limit=LINE_BYTES_MAX)
    await server.serve_forever()


asyncio.run(main())
