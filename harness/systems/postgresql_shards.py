"""Two-phase commit over PostgreSQL servers, each of which owns a part of the keys.

The servers know nothing of each other. Each of them keeps its promise for prepared
transactions (PostgreSQL's documentation, PREPARE TRANSACTION): one that is prepared can
be committed later, whatever happens to the server in between. The protocol is ours, in
the clients, as an application server or a transaction manager would have it (Bernstein,
Hadzilacos and Goodman 1987, chapter 7.4):

    voting    The client carries out its part at each owner and prepares it there.
    decision  It writes `commit` into the table `coordinated` of the node that it is
              connected to, the coordinator. That is the commit point.
    after     It commits what is prepared; if anything failed before the commit point,
              it rolls back.

A client that gives up leaves transactions in doubt, which hold their locks. Whoever
connects to a node finishes what has been in doubt there for `IN_DOUBT_S`: it asks the
coordinator, whose name is part of the transaction's. If that has no decision, it writes
`abort` there first (presumed abort): then a client that is late finds that, instead of
the commit point.

Choices:
    Each node keeps an account of the transactions that it decided, in the table
    `decided`. The row that says `commit` is part of the transaction itself.

    A server sees no deadlocks that involve others, so nobody waits for a lock longer
    than `LOCK_TIMEOUT_MS`; then the owner votes no.

    Only the workload `commit` runs here. Nothing makes transactions of several servers
    visible at one moment, so they are atomic and not isolated.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any, Final

from harness.errors import HarnessError, NodeReply, UsageError
from harness.override import override
from harness.registry import Plugin, settings
from harness.systems import cells
from harness.systems.postgresql import (
    SERVER_OPTIONS,
    TABLE,
    TXN_CONFLICT,
    Servers,
    always,
    connect,
    failures,
    micro_op,
    of_a_statement,
    roll_back,
)
from harness.systems.translated import TranslatedClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.systems.postgresql import Connection
    from harness.systems.system import SystemFactory
    from harness.workload import WireCodec, Workload
    from harness.worlds.places import NodePlace

NOT_SUPPORTED, ABORT = 10, 14

IN_DOUBT_S: Final = 1.0
LOCK_TIMEOUT_MS: Final = 100

_TABLES = (
    TABLE,
    "CREATE TABLE decided (id text PRIMARY KEY, vote text, decision text)",
    "CREATE TABLE coordinated (id text PRIMARY KEY, decision text)",
)
_DECIDE = "INSERT INTO decided VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_COORDINATE = "INSERT INTO coordinated VALUES ($1, $2) ON CONFLICT DO NOTHING"
_IS_PREPARED = "SELECT 1 FROM pg_prepared_xacts WHERE gid = $1"
_COORDINATED = "SELECT decision FROM coordinated WHERE id = $1"
_PREPARED = """
SELECT gid FROM pg_prepared_xacts WHERE prepared < now() - $1 * interval '1 second'
"""

MicroOp = tuple[int, str, int | str, Any]
"""Its place in the transaction, f, key, value."""

Vote = dict[int, list[Any]] | NodeReply
"""Place -> what the micro-operation gave, for a yes; the error, for a no."""


class PostgreSQLShards(Servers):
    """The servers as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "postgresql_shards"
    services = frozenset({"commit"})
    usual_nodes = 3
    tables = _TABLES

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__(settings(self.name, SERVER_OPTIONS, given))

    def check_nodes(self, nodes: Sequence[str]) -> None:
        """Raises UsageError unless there are several nodes, to commit together."""
        if len(nodes) < 2:
            raise UsageError("postgresql_shards needs 2 nodes or more (--nodes 3)")

    def client(self, workload: Workload) -> ShardsClient:
        """A client that coordinates transactions."""
        return ShardsClient(workload.codec)


class ShardsClient(TranslatedClient):
    """Coordinates transactions in the name of one node.

    Args:
        codec: The workload's codec.
    """

    def __init__(self, codec: WireCodec) -> None:
        super().__init__(codec)
        self._place: NodePlace | None = None
        self._connections: dict[str, Connection] = {}

    @override
    async def open(self, place: NodePlace) -> None:
        """Connect to the coordinator, and finish what is in doubt there."""
        self._place = place
        await self._connected(place.name)
        await self._finish(place.name, IN_DOUBT_S)

    @override
    async def close(self) -> None:
        """Drop the connections."""
        for connection in self._connections.values():
            connection.terminate()

    @override
    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if self._place is None:
            raise HarnessError("a client was used before it was opened")
        if body.get("type") == "decisions":
            await self._finish(self._place.name, 0.0)
            return await self._account(self._place.name)
        if body.get("type") != "txn" or not isinstance(body.get("id"), str):
            raise cells.refusal(NOT_SUPPORTED, "only txn with an id, and decisions")
        cells.cells_of(body)  # refuses what is malformed
        return await self._transact(self._place.name, body["id"], body["txn"])

    # two-phase commit

    async def _transact(
        self, coordinator: str, txn_id: str, txn: Sequence[Sequence[Any]]
    ) -> dict[str, Any]:
        parts: dict[str, list[MicroOp]] = {}
        for place, (f, key, value) in enumerate(txn):
            owner = self._owner(cells.cell("key", key))
            parts.setdefault(owner, []).append((place, f, key, value))
        gid = f"{coordinator} {txn_id}"
        votes = await asyncio.gather(
            *(self._vote(node, gid, txn_id, part) for node, part in parts.items())
        )
        done: list[Any] = [None] * len(txn)
        try:
            for vote in votes:
                for place, result in _accepted(vote).items():
                    done[place] = result
            await self._reach_commit_point(coordinator, txn_id)
        except NodeReply as error:
            if error.definite:
                await self._tell_all(parts, gid, txn_id, "abort")
            raise
        await self._tell_all(parts, gid, txn_id, "commit")
        return {"type": "txn_ok", "txn": done}

    async def _vote(
        self, node: str, gid: str, txn_id: str, part: Iterable[MicroOp]
    ) -> Vote:
        """Prepare one owner's part; an owner that can't be asked votes no."""
        done = {}
        try:
            connection = await self._connected(node)
            try:
                with failures(always):
                    await connection.execute("BEGIN")
                    for place, f, key, value in part:
                        cell = cells.cell("key", key)
                        result = await micro_op(connection, f, cell, value)
                        done[place] = [f, key, result]
                    await connection.execute(_DECIDE, txn_id, "yes", "commit")
                    await connection.execute(f"PREPARE TRANSACTION {_quoted(gid)}")
            except NodeReply:
                await roll_back(connection)
                raise
        except NodeReply as error:
            return error
        return done

    async def _reach_commit_point(self, coordinator: str, txn_id: str) -> None:
        """Write the decision to commit.

        Raises:
            NodeReply: It is not known to be written; definite if it never will be.
        """
        connection = await self._connected(coordinator)
        with failures(of_a_statement):
            done = await connection.execute(_COORDINATE, txn_id, "commit")
        if done != "INSERT 0 1":
            text = "somebody else had presumed that this was aborted"
            raise NodeReply(definite=True, text=text, code=TXN_CONFLICT)

    async def _tell_all(
        self, nodes: Iterable[str], gid: str, txn_id: str, decision: str
    ) -> None:
        """Bring a decision to all owners."""
        told = (self._tell(node, gid, txn_id, decision) for node in nodes)
        await asyncio.gather(*told)

    async def _tell(self, node: str, gid: str, txn_id: str, decision: str) -> None:
        """Bring a decision to an owner; what fails is left for whoever comes next.

        A row of its account that a transaction under way has written is waited for, so
        an owner that may still prepare does not say that it voted no.
        """
        try:
            connection = await self._connected(node)
            with failures(always):
                prepared = await connection.fetchval(_IS_PREPARED, gid) is not None
                if prepared:
                    verb = "COMMIT" if decision == "commit" else "ROLLBACK"
                    await connection.execute(f"{verb} PREPARED {_quoted(gid)}")
                if decision == "abort":
                    vote = "yes" if prepared else "no"
                    await connection.execute(_DECIDE, txn_id, vote, decision)
        except NodeReply:
            return

    # recovery

    async def _finish(self, node: str, older_than_s: float) -> None:
        """Decide what is in doubt at a node, as far as coordinators can be reached."""
        with failures(always):
            connection = await self._connected(node)
            rows = await connection.fetch(_PREPARED, older_than_s)
        for row in rows:
            coordinator, _, txn_id = row["gid"].partition(" ")
            try:
                asked = await self._connected(coordinator)
                with failures(always):
                    await asked.execute(_COORDINATE, txn_id, "abort")
                    decision = await asked.fetchval(_COORDINATED, txn_id)
            except NodeReply:
                continue  # it stays in doubt
            await self._tell(node, row["gid"], txn_id, decision)

    async def _account(self, node: str) -> dict[str, Any]:
        """What a node knows of all transactions."""
        connection = await self._connected(node)
        with failures(always):
            decided = await connection.fetch("SELECT id, vote, decision FROM decided")
            waiting = await connection.fetch("SELECT gid FROM pg_prepared_xacts")
            told = await connection.fetch("SELECT id, decision FROM coordinated")
        in_doubt = [row["gid"].partition(" ")[2] for row in waiting]
        return {
            "type": "decisions_ok",
            "decisions": {row["id"]: row["decision"] for row in decided}
            | dict.fromkeys(in_doubt, "prepared"),
            "votes": {row["id"]: row["vote"] for row in decided}
            | dict.fromkeys(in_doubt, "yes"),
            "coordinated": {row["id"]: row["decision"] for row in told},
        }

    def _owner(self, cell: str) -> str:
        """The node that owns a cell."""
        assert self._place is not None
        nodes = list(self._place.cluster)
        return nodes[zlib.crc32(cell.encode()) % len(nodes)]

    async def _connected(self, node: str) -> Connection:
        """A connection to a node that is open, as far as anybody knows."""
        assert self._place is not None
        connection = self._connections.get(node)
        if connection is None or connection.is_closed():
            endpoint = self._place.cluster[node]
            connection = await connect(
                endpoint, "read committed", lock_timeout=str(LOCK_TIMEOUT_MS)
            )
            self._connections[node] = connection
        return connection


def _accepted(vote: Vote) -> dict[int, list[Any]]:
    """The results of a part that is prepared.

    Raises:
        NodeReply: It is not. A definite failure: nobody ever commits any part, as there
            will be no commit point.
    """
    if isinstance(vote, NodeReply):
        text = f"a participant voted no: {vote}"
        raise NodeReply(definite=True, text=text, code=ABORT)
    return vote


def _quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def postgresql_shards(_: str, given: Mapping[str, str]) -> PostgreSQLShards:
    """The system with these options; raises UsageError if one is wrong."""
    return PostgreSQLShards(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "postgresql_shards",
    "PostgreSQL servers that each own some keys, under two-phase commit (prepared)",
    postgresql_shards,
    SERVER_OPTIONS,
)
