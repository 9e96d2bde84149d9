"""A node of the pysyncobj system: a register on PySyncObj, behind the wire protocol.

`python -m harness.systems.programs.pysyncobj_node --reads local|log --journal on|off`,
with the environment of WIRE.md. Clients are served at SPLITBRAIN_LISTEN, and PySyncObj
talks to its peers at the ports above, so all nodes need addresses that all of them
share.

Two threads: PySyncObj ticks in its own and calls back there; asyncio serves clients in
the main thread. A write is a command that PySyncObj replicates and applies everywhere,
and its callback, with the result or the reason of failure, is what answers the client.

PySyncObj's own settings stand, but for three: it listens on the node's address only,
entries go out at once and not with the next tick (`appendEntriesUseBatch`, 50 ms), and
a lost peer is called again after half a second instead of five.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pysyncobj import (  # type: ignore[import-untyped]  # the library has no types
    FAIL_REASON,
    SyncObj,
    SyncObjConf,
    SyncObjConsumer,
    replicated,
)

from harness.wire import LineSplitter, MalformedError, Message, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

Body = dict[str, Any]

FAILURES: Mapping[int, tuple[int, str]] = {
    FAIL_REASON.QUEUE_FULL: (11, "the queue of commands is full"),
    FAIL_REASON.MISSING_LEADER: (11, "there is no leader"),
    # Said by a node that was asked to lead and does not: it dropped the command.
    FAIL_REASON.NOT_LEADER: (11, "the node that was asked does not lead"),
    # Another command was applied at its place in the log, so it never will be.
    FAIL_REASON.DISCARDED: (14, "another command took its place in the log"),
    FAIL_REASON.REQUEST_DENIED: (14, "denied"),
    # The old leader has it, and may have handed it on.
    FAIL_REASON.LEADER_CHANGED: (0, "the leader changed"),
    FAIL_REASON.UNKNOWN_OUTCOME: (0, "the outcome is unknown"),
}
"""PySyncObj's reason of failure -> Maelstrom's error code, and a text."""


class Register(SyncObjConsumer):  # type: ignore[misc]  # the library has no types
    """The replicated state: every method runs on every node, in the same order."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[Hashable, Any] = {}

    @replicated  # type: ignore[untyped-decorator]  # the library has no types
    def read(self, key: Hashable) -> Body:
        """A read that takes its place in the log."""
        return self.read_now(key)

    @replicated  # type: ignore[untyped-decorator]  # the library has no types
    def write(self, key: Hashable, value: Any) -> Body:
        """Set the key's value."""
        self.values[key] = value
        return {"type": "write_ok"}

    @replicated  # type: ignore[untyped-decorator]  # the library has no types
    def cas(self, key: Hashable, before: Any, after: Any) -> Body:
        """Set the key's value if it is `before` now."""
        if key not in self.values:
            return error(20, f"there is no key {key}")
        if self.values[key] != before:
            return error(22, f"expected {before}, but it is {self.values[key]}")
        self.values[key] = after
        return {"type": "cas_ok"}

    def read_now(self, key: Hashable) -> Body:
        """The value that this node knows of, be it old."""
        if key not in self.values:
            return error(20, f"there is no key {key}")
        return {"type": "read_ok", "value": self.values[key]}


class Node:
    """What answers requests: PySyncObj, and a register on it."""

    def __init__(self, *, local_reads: bool, journal: bool) -> None:
        self.name = os.environ["SPLITBRAIN_NODE"]
        self.listen = host_and_port(os.environ["SPLITBRAIN_LISTEN"])
        peers = json.loads(os.environ["SPLITBRAIN_PEERS"])
        directory = Path(os.environ["SPLITBRAIN_DATA"])
        self._local_reads = local_reads
        self._loop = asyncio.get_running_loop()
        self._register = Register()
        self._names = {peer_address(at): name for name, at in peers.items()}
        self._names[peer_address(os.environ["SPLITBRAIN_LISTEN"])] = self.name
        self._sync = SyncObj(
            peer_address(os.environ["SPLITBRAIN_LISTEN"]),
            [peer_address(at) for at in peers.values()],
            SyncObjConf(
                bindAddress=peer_address(os.environ["SPLITBRAIN_LISTEN"]),
                appendEntriesUseBatch=False,
                connectionRetryTime=0.5,
                journalFile=str(directory / "journal") if journal else None,
                fullDumpFile=str(directory / "dump") if journal else None,
            ),
            consumers=[self._register],
        )

    def handle(self, body: Body, answer: Callable[[Body], None]) -> None:
        """Answer a request, now or when its command was applied."""
        match body:
            case {"type": "status"}:
                answer(self._status())
            case {"type": "clock"}:
                wall_ns, mono_ns = time.time_ns(), time.monotonic_ns()
                answer({"type": "clock_ok", "wall_ns": wall_ns, "mono_ns": mono_ns})
            case {"type": "read" | "write" | "cas", "key": list() | dict()}:
                answer(error(12, "a key must be a number or a text"))
            case {"type": "read" | "write" | "cas"} if not self._sync.isReady():
                answer(error(11, "not level with the leader yet"))
            case {"type": "read", "key": key} if self._local_reads:
                answer(self._register.read_now(key))
            case {"type": "read", "key": key}:
                self._replicate(self._register.read, answer, key)
            case {"type": "write", "key": key, "value": value}:
                self._replicate(self._register.write, answer, key, value)
            case {"type": "cas", "key": key, "from": before, "to": after}:
                self._replicate(self._register.cas, answer, key, before, after)
            case {"type": "read" | "write" | "cas"}:
                answer(error(12, "something is missing from the request"))
            case _:
                answer(error(10, f"{body.get('type')} is not supported"))

    def _replicate(
        self, method: Callable[..., None], answer: Callable[[Body], None], *args: Any
    ) -> None:
        def done(result: Body | None, reason: int) -> None:
            # In PySyncObj's thread.
            body = result if result is not None else failure(reason)
            self._loop.call_soon_threadsafe(answer, body)

        method(*args, callback=done)

    def _status(self) -> Body:
        status = self._sync.getStatus()
        leader = status["leader"]
        leads = leader is not None and leader == status["self"]
        return {
            "type": "status_ok",
            "role": "leader" if leads else "follower",
            "term": status["raft_term"],
            "leader": leader and self._names.get(leader.id),
            "ready": self._sync.isReady(),
        }


class ClientSide(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._splitter = LineSplitter()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Handle each request; what is none is passed over."""
        for line in self._splitter.feed(data):
            try:
                request = decode(line)
            except MalformedError:
                continue
            answer = functools.partial(self._answer, request)
            self._node.handle(request.body, answer)

    def _answer(self, request: Message, body: Body) -> None:
        body = {**body, "in_reply_to": request.body.get("msg_id")}
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(encode(Message(self._node.name, request.src, body)))


def error(code: int, text: str) -> Body:
    """An answer of type `error`."""
    return {"type": "error", "code": code, "text": text}


def failure(reason: int) -> Body:
    """The answer to a command that failed; a reason we don't know is indefinite."""
    return error(*FAILURES.get(reason, (0, f"PySyncObj's reason {reason}")))


def host_and_port(text: str) -> tuple[str, int]:
    """The parts of host:port."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def peer_address(text: str) -> str:
    """Where the node that serves clients at host:port listens to its peers."""
    host, port = host_and_port(text)
    return f"{host}:{port + 1}"


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--reads", choices=("local", "log"), required=True)
    parser.add_argument("--journal", choices=("on", "off"), required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    node = Node(
        local_reads=arguments.reads == "local", journal=arguments.journal == "on"
    )
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ClientSide(node), *node.listen)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
