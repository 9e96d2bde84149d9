"""A node of the pysyncobj system: a store on PySyncObj, behind the wire protocol.

`python -m harness.systems.programs.pysyncobj_node --reads local|log --journal on|off`,
with the environment of WIRE.md. Clients are served at SPLITBRAIN_LISTEN, and PySyncObj
talks to its peers at the ports above, so all nodes need addresses that all of them
share.

There are two threads: PySyncObj ticks in its own and calls back there; asyncio serves
clients in the main thread. A request is a command that PySyncObj replicates and applies
everywhere. Its callback, with the result or the reason of failure, answers the client.
`harness.systems.cells` says what requests mean.

Three of PySyncObj's settings are changed: it listens on the node's address only,
entries go out at once and not with the next tick (`appendEntriesUseBatch`, 50 ms), and
a lost peer is called again after half a second instead of five.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pysyncobj import (  # type: ignore[import-untyped]  # the library has no types
    FAIL_REASON,
    SyncObj,
    SyncObjConf,
    SyncObjConsumer,
    replicated,
)

from harness.errors import NodeReply
from harness.systems import cells
from harness.systems.programs.serving import (
    Body,
    clock,
    error,
    error_of,
    host_and_port,
    serve,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FAILURES: Mapping[int, tuple[int, str]] = {
    FAIL_REASON.QUEUE_FULL: (11, "the queue of commands is full"),
    FAIL_REASON.MISSING_LEADER: (11, "there is no leader"),
    # A node answers so that was taken for the leader and is not; it drops the command.
    FAIL_REASON.NOT_LEADER: (11, "the node that was asked does not lead"),
    # Another command was applied at its place in the log, so this one never will be.
    FAIL_REASON.DISCARDED: (14, "another command took its place in the log"),
    FAIL_REASON.REQUEST_DENIED: (14, "denied"),
    # The old leader has the command, and may have handed it on.
    FAIL_REASON.LEADER_CHANGED: (0, "the leader changed"),
    FAIL_REASON.UNKNOWN_OUTCOME: (0, "the outcome is unknown"),
}
"""PySyncObj's reason of failure -> Maelstrom's error code, and a text."""


class Store(SyncObjConsumer):  # type: ignore[misc]  # the library has no types
    """The replicated state, which changes on every node in the same order."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, Any] = {}

    @replicated  # type: ignore[untyped-decorator]  # the library has no types
    def apply(self, request: Body) -> Body:
        """Carry out a request at its place in the log, and return its answer."""
        return self.carry_out(request)

    def carry_out(self, request: Body) -> Body:
        """The answer to a request by this node's values, which may be old.

        A request that only reads changes nothing, so this may serve it without the log.
        """
        try:
            answer, writes = cells.decide(request, self.values)
        except NodeReply as refused:
            return error_of(refused)
        self.values.update(writes)
        return answer


class Node:
    """Answers requests with a store on PySyncObj."""

    def __init__(self, *, local_reads: bool, journal: bool) -> None:
        self.name = os.environ["SPLITBRAIN_NODE"]
        peers = json.loads(os.environ["SPLITBRAIN_PEERS"])
        directory = Path(os.environ["SPLITBRAIN_DATA"])
        self._local_reads = local_reads
        self._loop = asyncio.get_running_loop()
        self._store = Store()
        self._names = {peer_address(at): name for name, at in peers.items()}
        own = peer_address(os.environ["SPLITBRAIN_LISTEN"])
        self._names[own] = self.name
        self._sync = SyncObj(
            own,
            [peer_address(at) for at in peers.values()],
            SyncObjConf(
                bindAddress=own,
                appendEntriesUseBatch=False,
                connectionRetryTime=0.5,
                journalFile=str(directory / "journal") if journal else None,
                fullDumpFile=str(directory / "dump") if journal else None,
            ),
            consumers=[self._store],
        )

    def handle(self, body: Body, answer: Callable[[Body], None]) -> None:
        """Answer a request, now or once its command was applied."""
        match body:
            case {"type": "status"}:
                answer(self._status())
            case {"type": "clock"}:
                answer(clock())
            case _:
                self._serve(body, answer)

    def _serve(self, body: Body, answer: Callable[[Body], None]) -> None:
        try:
            cells.cells_of(body)
        except NodeReply as refused:
            answer(error_of(refused))
            return
        if not self._sync.isReady():
            answer(error(11, "not level with the leader yet"))
        elif self._local_reads and cells.is_read(body):
            answer(self._store.carry_out(body))
        else:
            names = ("type", *cells.FIELDS[body["type"]])
            self._replicate({name: body[name] for name in names}, answer)

    def _replicate(self, request: Body, answer: Callable[[Body], None]) -> None:
        def done(result: Body | None, reason: int) -> None:
            # Called in PySyncObj's thread.
            body = result if result is not None else failure(reason)
            self._loop.call_soon_threadsafe(answer, body)

        self._store.apply(request, callback=done)

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


def failure(reason: int) -> Body:
    """The answer to a command that failed; an unknown reason is indefinite."""
    return error(*FAILURES.get(reason, (0, f"PySyncObj's reason {reason}")))


def peer_address(text: str) -> str:
    """The address for peers of a node that serves clients at host:port."""
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
    await serve(node, os.environ["SPLITBRAIN_LISTEN"])


if __name__ == "__main__":
    asyncio.run(main())
