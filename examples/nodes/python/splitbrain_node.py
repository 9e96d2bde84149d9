"""The wire of splitbrain (WIRE.md) for nodes in Python: copy this file beside yours.

    from splitbrain_node import Node

    node = Node()

    @node.on("echo")
    def echo(body):
        return {"echo": body["echo"]}

    node.run()

Needs Python 3.11 or later and nothing else. A handler, plain or async, gets the body of
a request and returns that of the answer, whose type is filled in. What it raises is the
error that is answered: `Failure` with its code; a field that the request lacks is 12,
anything else 13 (crash), which leaves open whether the operation happened. Plain
handlers run one at a time, whole; others are interleaved wherever they await.
"""

import asyncio
import contextlib
import inspect
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

LINE_BYTES_MAX = 1 << 20

Handler = Callable[["Body"], Any]


class Failure(Exception):
    """An answer of type error; its code says whether anything may have happened."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Body(dict[str, Any]):
    """A message's body; a field that is not there is a Failure (12)."""

    def __missing__(self, field: str) -> Any:
        raise Failure(12, f"there is no {field} in the request")


class Node:
    """This node: its name, its peers, its directory, and what it answers."""

    def __init__(self) -> None:
        self.name = os.environ["SPLITBRAIN_NODE"]
        self.data = Path(os.environ["SPLITBRAIN_DATA"])
        self.peers: dict[str, str] = json.loads(os.environ["SPLITBRAIN_PEERS"])
        self.names = sorted([self.name, *self.peers])
        self.majority = len(self.names) // 2 + 1
        self._handlers: dict[str, Handler] = {"clock": clock}
        self._links = {peer: Link(self, peer) for peer in self.peers}
        self._background: list[Callable[[], Any]] = []

    def on(self, *kinds: str) -> Callable[[Handler], Handler]:
        """Decorator: a handler of requests of these types."""

        def add(handler: Handler) -> Handler:
            self._handlers.update(dict.fromkeys(kinds, handler))
            return handler

        return add

    def background(self, work: Callable[[], Any]) -> Callable[[], Any]:
        """Decorator: an async function that runs as long as the node."""
        self._background.append(work)
        return work

    async def call(
        self, peer: str, body: dict[str, Any], timeout_s: float = 1.0
    ) -> dict[str, Any]:
        """The answer of a peer, or of this node itself.

        Raises:
            Failure: The peer's own error; 11, and it never got the request, as there is
                no connection; 0, and nobody knows whether it did.
        """
        if peer == self.name:
            return await self._handle(Body(body))
        return await self._links[peer].call(body, timeout_s)

    async def ask_majority(
        self, body: dict[str, Any], timeout_s: float = 1.0
    ) -> list[dict[str, Any]]:
        """The answers of the first majority of all nodes, this one among those asked.

        Raises:
            Failure: 0, there was no majority. The request may have reached some.
        """
        calls = [
            asyncio.ensure_future(self.call(name, body, timeout_s))
            for name in self.names
        ]
        for (
            call
        ) in calls:  # Those that nobody waits for go on, whatever becomes of them.
            call.add_done_callback(lambda done: done.cancelled() or done.exception())
        answers = []
        for call in asyncio.as_completed(calls):
            with contextlib.suppress(Failure):
                answers.append(await call)
            if len(answers) == self.majority:
                return answers
        raise Failure(0, "a majority did not answer")

    def run(self) -> None:
        """Serve clients and peers until killed."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        host, port = os.environ["SPLITBRAIN_LISTEN"].rsplit(":", 1)
        server = await asyncio.start_server(
            self._connected, host, int(port), limit=LINE_BYTES_MAX
        )
        # If one of them fails, the node does.
        works = (work() for work in self._background)
        await asyncio.gather(server.serve_forever(), *works)

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        answering: set[asyncio.Task[None]] = set()
        with contextlib.suppress(OSError, ValueError):  # gone, or its line was too long
            while line := await reader.readline():
                # A task of its own, as the sender may have more to ask meanwhile.
                task = asyncio.ensure_future(self._answer(line, writer))
                answering.add(task)
                task.add_done_callback(answering.discard)
        writer.close()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            message = json.loads(line)
            body, client = Body(message["body"]), message["src"]
            asked = body["msg_id"]
        except (ValueError, TypeError, KeyError, RecursionError, Failure):
            return  # No message, or nobody to answer.
        try:
            answer = await self._handle(body)
        except Failure as failure:
            answer = {"type": "error", "code": failure.code, "text": str(failure)}
        except Exception as error:
            traceback.print_exc()
            answer = {"type": "error", "code": 13, "text": repr(error)}
        answer["in_reply_to"] = asked
        with contextlib.suppress(OSError):
            writer.write(encode({"src": self.name, "dest": client, "body": answer}))
            await writer.drain()

    async def _handle(self, body: Body) -> dict[str, Any]:
        kind = body["type"]
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is None:
            raise Failure(10, f"{kind} is not supported")
        answer = handler(body)
        if inspect.isawaitable(answer):
            answer = await answer
        return {"type": f"{kind}_ok", **(answer or {})}


class Link:
    """The connection to a peer, made when it is needed, and made again when lost."""

    def __init__(self, node: Node, peer: str) -> None:
        self._node, self._peer = node, peer
        self._connecting = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_id = 0
        self._reading: asyncio.Task[None] | None = None

    async def call(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The peer's answer; raises Failure as `Node.call` does."""
        try:
            async with asyncio.timeout(timeout_s), self._connecting:
                writer = self._writer or await self._connect()
        except OSError as error:  # TimeoutError is one. Nothing was sent: definite.
            raise Failure(11, f"{self._peer} can't be reached") from error
        self._last_id += 1
        asked = self._last_id
        future = asyncio.get_running_loop().create_future()
        self._waiting[asked] = future
        sent = {**body, "msg_id": asked}
        writer.write(encode({"src": self._node.name, "dest": self._peer, "body": sent}))
        try:
            async with asyncio.timeout(timeout_s):
                answer = await future
        except OSError as error:
            # It may have arrived, so this is indefinite. The connection may be dead
            # without saying so: the next call makes a new one.
            if self._writer is writer:
                self._drop()
            raise Failure(0, f"{self._peer} did not answer") from error
        finally:
            self._waiting.pop(asked, None)
        if answer.get("type") == "error":
            raise Failure(int(answer.get("code", 13)), str(answer.get("text")))
        return answer

    async def _connect(self) -> asyncio.StreamWriter:
        host, port = self._node.peers[self._peer].rsplit(":", 1)
        reader, writer = await asyncio.open_connection(
            host, int(port), limit=LINE_BYTES_MAX
        )
        self._writer = writer
        self._reading = asyncio.ensure_future(self._read(reader, writer))
        return writer

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                body = json.loads(line)["body"]
                future = self._waiting.get(body["in_reply_to"])
                if future is not None and not future.done():
                    future.set_result(body)
        if self._writer is writer:
            self._drop()

    def _drop(self) -> None:
        """Close the connection; calls that wait for answers on it get none."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionError("the connection is lost"))


class Journal:
    """Values by key, in a file that survives kills and power losses."""

    def __init__(self, path: Path) -> None:
        self.values: dict[Any, Any] = {}
        self._file = path.open("a+b")
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break  # A kill in mid-write. Nobody was told that this one happened.
            key, value = json.loads(line)
            self.values[key] = value
            end += len(line)
        self._file.truncate(end)
        os.fsync(self._file.fileno())  # What we are about to serve must be durable.
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)  # So must the file's name.
        os.close(folder)

    def put(self, key: Any, value: Any) -> None:
        """Durable first, visible second: what somebody has read must survive."""
        try:
            self._file.write(json.dumps([key, value]).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            # Nobody knows what is in the file now. A restart reads it; until then
            # nothing more may be written or read.
            sys.stderr.write(f"can't write the journal: {error}\n")
            os._exit(1)
        self.values[key] = value


def clock(_: Body) -> dict[str, int]:
    """The answer to a request that every node should know: what our clocks show."""
    return {"wall_ns": time.time_ns(), "mono_ns": time.monotonic_ns()}


def encode(message: dict[str, Any]) -> bytes:
    """A message as a line."""
    return json.dumps(message).encode() + b"\n"
