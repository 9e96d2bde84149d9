"""MariaDB, the relational database: one server with InnoDB.

Promise (MariaDB's documentation, "SET TRANSACTION" and "InnoDB System Variables"), by
the option `isolation`:

    serializable      each read of a transaction locks what it reads: transactions have
                      a serial order, which agrees with real time
    repeatable-read   reads see one snapshot, but writes act on what is committed at
                      that moment: lost updates, read skew (G-single) and write skew
                      (G2-item) are possible (https://jepsen.io/analyses/mysql-8.0.34)
    read-committed    each statement sees what is committed when it begins

With `innodb_snapshot_isolation=on`, `repeatable-read` is snapshot isolation: a write to
a row that changed since the snapshot fails (error 1020), so no update is lost.

With `flush_log_at_trx_commit=1` COMMIT waits for the disk. With 2 the log is written
and not synced, so what was confirmed survives a kill and not a loss of power; with 0 it
is written once a second, so it does not survive a kill either.

Choices:
    Each micro-operation is a statement of its own, as a program would send it. An
    append or an addition is one `INSERT ... ON DUPLICATE KEY UPDATE`, which is atomic
    at every level. So the level decides what may happen between statements.

    An error is definite if it comes before COMMIT was sent: the server rolls back
    whatever has no COMMIT. Of errors in answer to COMMIT, only a deadlock (1213) is
    definite, which the documentation says to have rolled back the transaction. A
    statement by itself commits; it is a definite failure if the server says that it
    could not be carried out (`DEFINITE`, of "MariaDB Error Codes"). A connection that
    is lost tells nothing, nor does a server that shuts down.

    Transactions that lose against others are not tried again: that is the program's
    business, and a failure is an answer.

    The server checks no passwords (`skip-grant-tables`). Beside our table, nothing
    changes after the first start, so the log of the engine Aria, which has the
    server's own tables, is removed at each start: a loss of power may leave it so that
    the server refuses to start.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import shlex
import struct
from typing import TYPE_CHECKING, Any

from harness.errors import (
    TEMPORARILY_UNAVAILABLE,
    HarnessError,
    NodeReply,
    UsageError,
)
from harness.options import OneOf
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import cells
from harness.systems.software import (
    BINARY,
    VERSION,
    Debian,
    Install,
    Recipe,
    Software,
)
from harness.systems.translated import TranslatedClient
from harness.worlds.places import Launch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.systems.system import SystemFactory
    from harness.workload import WireCodec, Workload
    from harness.worlds.places import Endpoint, NodePlace

    Connection = Any
    """aiomysql's, which tells no types."""

TRANSACTIONS = (
    Option(
        "isolation",
        "serializable",
        "the isolation level of all transactions",
        OneOf("serializable", "repeatable-read", "read-committed"),
    ),
    Option(
        "innodb_snapshot_isolation",
        "off",
        "on: repeatable-read refuses to write what changed since it was read",
        OneOf("on", "off"),
    ),
    Option(
        "flush_log_at_trx_commit",
        "1",
        "0: commits are written once a second; 1: synced; 2: written and not synced",
        OneOf("0", "1", "2"),
    ),
    Option(
        "log_bin",
        "on",
        "off: without binary log, commits are seen before they are durable",
        OneOf("on", "off"),
    ),
)
"""Options of how transactions are isolated, and made durable."""

OPTIONS = (
    *TRANSACTIONS,
    VERSION,
    BINARY,
)

SOFTWARE = Software(
    "mariadb",
    (Recipe("10.11", Debian(("mariadb-server-core",)), "usr/sbin/mariadbd"),),
    program="mariadbd",
    elsewhere=("/usr/libexec/mariadbd", "/usr/sbin/mariadbd"),
    driver="aiomysql",
)

NODE_FAULTS = frozenset({"clock", "disk", "kill", "limits", "pause", "power", "starve"})

DEADLOCK = 1213
LOCK_WAIT = 1205
CHANGED = 1020
"""`innodb_snapshot_isolation`: the row has changed since the snapshot."""
NO_NULL = 1048
"""How our statements refuse a cell that holds something else."""

DEFINITE = frozenset(
    {
        *(DEADLOCK, LOCK_WAIT, CHANGED, NO_NULL),
        1036,  # the table is read-only
        1040,  # too many connections
        1047,  # the server does not serve yet
        1064,  # the statement can't be parsed
        1146,  # there is no such table
        1206,  # no room for locks
        1290,  # the server is read-only
        1406,  # the value is too long
    }
)
"""Errors that say that a statement was not carried out."""

TXN_CONFLICT = 30
_CONFLICTS = frozenset({DEADLOCK, LOCK_WAIT, CHANGED})

_CONNECT_TIMEOUT_S = 2.0
_CONTROL_TIMEOUT_S = 1.0

DATABASE = "splitbrain"
SOCKET = "../socket"
"""From the data folder, in which servers work: absolute paths may be too long."""

MAKE_DATABASE = f"CREATE DATABASE {DATABASE};"
TABLE = (
    "CREATE TABLE cells (name VARBINARY(700) PRIMARY KEY, "
    "value LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL) ENGINE=InnoDB"
)
"""Values are JSON. An empty text stands for a lock that was never taken."""

_READ = "SELECT value FROM cells WHERE name = %s"
_LOCK = "SELECT value FROM cells WHERE name = %s FOR UPDATE"
_MAKE = "INSERT IGNORE INTO cells VALUES (%s, '')"
_SET = "UPDATE cells SET value = %s WHERE name = %s"
_CAS = "UPDATE cells SET value = %s WHERE name = %s AND value = %s"
_WRITE = (
    "INSERT INTO cells VALUES (%s, %s) ON DUPLICATE KEY UPDATE value = VALUES(value)"
)
_APPEND = """
INSERT INTO cells VALUES (%s, CONCAT('[', %s, ']'))
ON DUPLICATE KEY UPDATE value = CASE
    WHEN value IN ('', '[]', 'null') THEN VALUES(value)
    WHEN value LIKE '[%%' THEN
        CONCAT(LEFT(value, CHAR_LENGTH(value) - 1), ',', SUBSTRING(VALUES(value), 2))
    ELSE NULL END
"""
_ADD = """
INSERT INTO cells VALUES (%s, %s)
ON DUPLICATE KEY UPDATE value = CASE
    WHEN value IN ('', 'null') THEN VALUES(value)
    WHEN value REGEXP '^-?[0-9]+$' THEN
        CAST(CAST(value AS DECIMAL(65)) + CAST(VALUES(value) AS DECIMAL(65)) AS CHAR)
    ELSE NULL END
"""


class MariaDB:
    """One MariaDB server as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "mariadb"
    faults = NODE_FAULTS
    rungs = frozenset({"switch"})
    services = cells.SERVICES
    usual_nodes = 1
    software = SOFTWARE
    invariants: tuple[str, ...] = ()
    ready_timeout_s = 60.0

    def __init__(self, given: Mapping[str, str]) -> None:
        chosen = settings(self.name, OPTIONS, given)
        self._settled = transactions(chosen)
        self._installed = functools.partial(
            SOFTWARE.find, chosen["version"], chosen["binary"]
        )

    def check_installed(self) -> None:
        """Raises NotInstalledError unless there is a server, and a driver for it."""
        SOFTWARE.check_driver()
        self._installed()

    def check_nodes(self, nodes: Sequence[str]) -> None:
        """Raises UsageError for several nodes, which would know nothing of another."""
        if len(nodes) > 1:
            raise UsageError("mariadb: it is one server (--nodes 1)")

    def launch(self, place: NodePlace) -> Launch:
        """The command of the server; at its first start it makes its data folder."""
        found = self._installed()
        make = making(found, f"{MAKE_DATABASE}\nUSE {DATABASE};\n{TABLE};")
        server = shlex.join([*program(found), *serving(place, self._settled)])
        script = f"{unless_made(place, make)}\nexec {server}"
        return Launch(["/bin/sh", "-ec", script], found.env)

    async def ready(self, place: NodePlace) -> bool:
        """True once the server accepts clients, which it does after its recovery."""
        try:
            async with asyncio.timeout(_CONTROL_TIMEOUT_S):
                connection = await connect(place.listen)
        except (NodeReply, TimeoutError):
            return False
        connection.close()
        return True

    def client(self, workload: Workload) -> MariaDBClient:
        """A client that puts the workload's requests into SQL."""
        return MariaDBClient(workload.codec)


def transactions(chosen: Mapping[str, Any]) -> dict[str, str]:
    """The system variables of the options TRANSACTIONS."""
    settled = {
        "transaction-isolation": chosen["isolation"].upper(),
        "innodb-snapshot-isolation": chosen["innodb_snapshot_isolation"],
        "innodb-flush-log-at-trx-commit": chosen["flush_log_at_trx_commit"],
        "binlog-format": "ROW",
    }
    if chosen["log_bin"] == "on":
        settled |= {"log-bin": "binlog", "sync-binlog": "1", "server-id": "1"}
    return settled


def program(found: Install) -> list[str]:
    """The program with what each start of it needs, the one that makes tables too."""
    share = _share(found)
    return [
        str(found.program),
        "--no-defaults",
        "--user=root",  # Of no meaning in a cage, where nobody is root.
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share / 'charsets'}",
        "--innodb-use-native-aio=0",
        "--innodb-buffer-pool-size=32M",
        "--innodb-log-file-size=16M",
    ]


def serving(place: NodePlace, settled: Mapping[str, object]) -> list[str]:
    """The arguments of a server that serves clients at `place`.

    Args:
        place: Where it runs.
        settled: System variable -> its value.
    """
    variables = {
        "datadir": data_folder(place),
        "bind-address": place.listen.host,
        "port": place.listen.port,
        "socket": SOCKET,
        "pid-file": place.data_dir / "pid",
        "max-connections": 300,
        "innodb-lock-wait-timeout": 1,  # Its 50 s are longer than clients wait.
        **settled,
    }
    switches = ["--skip-grant-tables", "--skip-name-resolve", "--performance-schema=0"]
    return [*switches, *arguments(variables)]


def arguments(variables: Mapping[str, object]) -> list[str]:
    """The arguments that set system variables."""
    return [f"--{name}={value}" for name, value in variables.items()]


def data_folder(place: NodePlace) -> Path:
    """Where the server has its data."""
    return place.data_dir / "mariadb"


def making(found: Install, statements: str) -> str:
    """A shell command that makes data in the folder `$new`.

    Args:
        found: The program.
        statements: What to carry out once the server's own tables are there.
    """
    tables = shlex.quote(str(_share(found) / "mysql_system_tables.sql"))
    unsynced = ("--innodb-flush-method=nosync", "--sync-frm=0", "--bootstrap")
    return (
        "{ printf '%s\\n' 'CREATE DATABASE mysql;' 'USE mysql;'; "
        f"cat {tables}; printf '%s\\n' {shlex.quote(statements)}; }} | "
        f'{shlex.join([*program(found), *unsynced])} --datadir="$new"'
    )


def unless_made(place: NodePlace, make: str) -> str:
    """A shell script that has the data folder made if there is none.

    What it makes is durable, and whole or not there at all.

    Args:
        place: Where the server runs.
        make: A shell command that fills the folder `$new`.
    """
    return _UNLESS_MADE.format(
        data=shlex.quote(str(data_folder(place))),
        folder=shlex.quote(str(place.data_dir)),
        make=make,
    )


def _share(found: Install) -> Path:
    return found.program.resolve().parent.parent / "share" / "mysql"


_UNLESS_MADE = """
if [ ! -d {data} ]; then
    new={folder}/new
    rm -rf "$new"; mkdir "$new"
    {make}
    find "$new" -exec sync {{}} +
    mv "$new" {data}; sync {folder}
fi
rm -f {data}/aria_log*
"""


class MariaDBClient(TranslatedClient):
    """Requests of a workload, carried out in SQL.

    Args:
        codec: The workload's codec.
    """

    def __init__(self, codec: WireCodec) -> None:
        super().__init__(codec)
        self._place: NodePlace | None = None
        self._connection: Connection | None = None

    @override
    async def open(self, place: NodePlace) -> None:
        self._place = place
        self._connection = await connect(place.listen)

    @override
    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @override
    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        names = cells.cells_of(body)
        connection = await self._connected()
        match body["type"]:
            case "txn":
                return await self._transact(connection, body["txn"])
            case "read":
                with failures(connection):
                    held = _held(names[0], await fetch(connection, _READ, names[0]))
                return cells.decide(body, held)[0]
            case "write":
                with failures(connection, DEFINITE):
                    await execute(connection, _WRITE, names[0], _json(body["value"]))
                return {"type": "write_ok"}
            case "cas":
                return await self._cas(connection, body, names[0])
            case _:
                return await self._decide(connection, body, names[0])

    async def _connected(self) -> Connection:
        """A connection that is open, as far as anybody knows."""
        if self._place is None:
            raise HarnessError("a client was used before it was opened")
        if self._connection is None or self._connection.closed:
            self._connection = await connect(self._place.listen)
        return self._connection

    async def _cas(
        self, connection: Connection, body: Mapping[str, Any], name: str
    ) -> dict[str, Any]:
        before, after = _json(body["from"]), _json(body["to"])
        with failures(connection, DEFINITE):
            done = await execute(connection, _CAS, after, name, before)
        if done == 1:
            return {"type": "cas_ok"}
        # Nothing was written, whatever comes of this.
        with failures(connection):
            held = _held(name, await fetch(connection, _READ, name))
        if not held:
            raise cells.refusal(cells.KEY_DOES_NOT_EXIST, f"there is no {name}")
        raise cells.refusal(cells.PRECONDITION_FAILED, "precondition failed")

    async def _transact(
        self, connection: Connection, txn: Sequence[Sequence[Any]]
    ) -> dict[str, Any]:
        async with transaction(connection):
            done = [
                [f, key, await micro_op(connection, f, cells.cell("key", key), value)]
                for f, key, value in txn
            ]
        return {"type": "txn_ok", "txn": done}

    async def _decide(
        self, connection: Connection, body: Mapping[str, Any], name: str
    ) -> dict[str, Any]:
        """Carry out a request on one cell, which is locked meanwhile."""
        with failures(connection):
            await execute(connection, _MAKE, name)
        async with transaction(connection):
            held = _held(name, await fetch(connection, _LOCK, name))
            answer, writes = cells.decide(body, held)
            for value in writes.values():
                await execute(connection, _SET, _json(value), name)
        return answer


async def micro_op(connection: Connection, f: str, name: str, value: Any) -> Any:
    """Carry out one micro-operation; what it gives.

    Raises:
        NodeReply: It can't be carried out on what the cell holds.
    """
    match f:
        case "r":
            return _held(name, await fetch(connection, _READ, name)).get(name)
        case "w":
            await execute(connection, _WRITE, name, _json(value))
            return value
        case "append":
            await execute(connection, _APPEND, name, _json(value))
            return value
        case "add":
            await execute(connection, _ADD, name, _json(value))
            sum_ = _held(name, await fetch(connection, _READ, name)).get(name)
            if type(sum_) is not int or sum_ < 0:
                raise cells.refusal(cells.ABORT, f"{name} would fall to {sum_!r:.60}")
            return sum_
        case _:
            elements = _held(name, await fetch(connection, _LOCK, name)).get(name)
            if not elements:
                return None
            if not isinstance(elements, list):
                raise cells.refusal(cells.ABORT, f"{name} holds something else")
            await execute(connection, _SET, _json(elements[1:]), name)
            return elements[0]


@contextlib.asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """A transaction, which is committed after the block, and given up if that raises.

    Raises:
        NodeReply: It failed; definite unless COMMIT was sent and nobody knows.
    """
    try:
        with failures(connection):
            await execute(connection, "START TRANSACTION")
            yield
    except NodeReply:
        await _roll_back(connection)
        raise
    try:
        with failures(connection, {DEADLOCK}):
            await execute(connection, "COMMIT")
    except NodeReply:
        # What the connection is in the midst of, nobody knows.
        connection.close()
        raise


async def _roll_back(connection: Connection) -> None:
    """Give up the transaction; if that fails, give up the connection, too."""
    if connection.closed:
        return
    try:
        with failures(connection):
            await execute(connection, "ROLLBACK")
    except NodeReply:
        connection.close()


@contextlib.contextmanager
def failures(
    connection: Connection | None, definite: Container[int] | None = None
) -> Iterator[None]:
    """Tell the driver's errors in our words.

    Args:
        connection: It is closed if what came over it was no answer of a server.
        definite: The server's errors that are definite; None if any failure is, as
            nothing is done before COMMIT, or only read.

    Raises:
        NodeReply: In place of any of them.
    """
    import pymysql

    try:
        yield
    except pymysql.err.MySQLError as error:
        number = error.args[0] if error.args and type(error.args[0]) is int else 0
        sure = definite is None or number in definite
        code = TEMPORARILY_UNAVAILABLE if sure else None
        if number in _CONFLICTS:
            code = TXN_CONFLICT
        elif number == NO_NULL:
            code = cells.ABORT
        if not 1000 <= number < 2000 and connection is not None:
            connection.close()  # It is not the server who says so.
        text = f"{type(error).__name__}: {' '.join(map(str, error.args)):.300}"
        raise NodeReply(definite=sure, text=text, code=code) from error
    except (OSError, EOFError, *_NONSENSE) as error:
        if connection is not None:
            connection.close()
        sure = definite is None
        code = TEMPORARILY_UNAVAILABLE if sure else None
        text = f"{type(error).__name__}: {error!s:.300}"
        raise NodeReply(definite=sure, text=text, code=code) from error


_NONSENSE = (
    *(AssertionError, AttributeError, LookupError, RuntimeError),
    *(TypeError, ValueError, struct.error),
)
"""What the driver raises over bytes that are no answer."""


async def connect(endpoint: Endpoint) -> Connection:
    """A connection to the server at `endpoint`.

    Raises:
        NodeReply: There is none; a definite failure.
    """
    import aiomysql
    from pymysql.constants import CLIENT

    with failures(None):
        return await aiomysql.connect(
            host=endpoint.host,
            port=endpoint.port,
            user="root",
            db=DATABASE,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=_CONNECT_TIMEOUT_S,
            client_flag=CLIENT.FOUND_ROWS,  # A row that is found is told, if unchanged.
        )


async def execute(connection: Connection, statement: str, *values: str) -> int:
    """Carry out a statement; how many rows it found."""
    async with connection.cursor() as cursor:
        return int(await cursor.execute(statement, values or None))


async def fetch(connection: Connection, statement: str, name: str) -> str | None:
    """The first column of the only row, if there is one."""
    async with connection.cursor() as cursor:
        await cursor.execute(statement, (name,))
        row = await cursor.fetchone()
        return None if row is None else row[0]


def _json(value: Any) -> str:
    """A value as JSON. Equal values give equal texts, which cas needs."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _held(name: str, text: str | None) -> dict[str, Any]:
    """What a cell holds, as `cells.decide` wants it.

    Raises:
        NodeReply: The server answered with something else.
    """
    if not text:
        return {}
    try:
        return {name: json.loads(text)}
    except (TypeError, ValueError, RecursionError) as error:
        told = f"a cell holds {text!r:.60}"
        raise NodeReply(definite=False, text=told) from error


def mariadb(_: str, given: Mapping[str, str]) -> MariaDB:
    """The system with these options; raises UsageError if one is wrong."""
    return MariaDB(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "mariadb",
    "MariaDB, the relational database, at any isolation level",
    mariadb,
    OPTIONS,
)
