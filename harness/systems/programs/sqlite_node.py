"""A node of the sqlite system: a store in an SQLite file, behind the wire protocol.

`python -m harness.systems.programs.sqlite_node --synchronous MODE --journal MODE`, with
the environment of WIRE.md. Values are in one table, `store.db` in the data folder.

A request is one SQL transaction; `harness.systems.cells` says what requests mean. A
request that writes is answered once COMMIT has returned.

Errors of SQLite: what fails before COMMIT is rolled back, and the answer is a definite
error. A COMMIT that fails, or a rollback, leaves the outcome open: in WAL mode the
frames of a transaction whose sync failed may be found valid by the next start; deleting
a rollback journal may have worked when the error came. Then the connection is given up,
and a new one recovers what the files say.

A file that SQLite finds corrupt when it is opened ends the node with status 65.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import TEMPORARILY_UNAVAILABLE, NodeReply
from harness.systems import cells
from harness.systems.programs.serving import Body, error, error_of
from harness.systems.programs.storing import CORRUPT_STATUS, CRASH, serve_store

if TYPE_CHECKING:
    from collections.abc import Mapping

SYNCHRONOUS = ("off", "normal", "full", "extra")
JOURNAL = ("delete", "truncate", "persist", "wal")

CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

SCHEMA = """
CREATE TABLE IF NOT EXISTS cells (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID
"""
READ = "SELECT value FROM cells WHERE name = ?"
WRITE = "INSERT OR REPLACE INTO cells VALUES (?, ?)"


class Store:
    """Values under names, in a file; one thread uses it.

    Args:
        path: The database.
        synchronous: When SQLite syncs, by the names of its pragma.
        journal: What makes its transactions atomic, by the names of its pragma.

    Raises:
        sqlite3.Error: The file can't be opened, or is no database.
    """

    def __init__(self, path: Path, synchronous: str, journal: str) -> None:
        self._path = path
        self._synchronous = synchronous
        self._journal = journal
        self._connection: sqlite3.Connection | None = self._open()

    def carry_out(self, request: Body) -> Body:
        """The answer to a request, whose writes were committed before."""
        try:
            names = cells.cells_of(request)
            if self._connection is None:
                self._connection = self._open()
        except NodeReply as refused:
            return error_of(refused)
        except sqlite3.Error as failure:
            return error(TEMPORARILY_UNAVAILABLE, told(failure))
        return self._transact(self._connection, request, names)

    def _transact(
        self, connection: sqlite3.Connection, request: Body, names: list[str]
    ) -> Body:
        reads_only = cells.is_read(request)
        try:
            connection.execute("BEGIN" if reads_only else "BEGIN IMMEDIATE")
            answer, writes = cells.decide(request, held(connection, names))
            for name, value in writes.items():
                connection.execute(WRITE, (name, json.dumps(value)))
        except NodeReply as refused:
            return self._rolled_back(connection, error_of(refused))
        except sqlite3.Error as failure:
            answer = error(TEMPORARILY_UNAVAILABLE, told(failure))
            return self._rolled_back(connection, answer)
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as failure:
            self._give_up(connection)
            return error(CRASH, f"COMMIT failed: {told(failure)}")
        return answer

    def _rolled_back(self, connection: sqlite3.Connection, answer: Body) -> Body:
        """`answer`, a definite error, unless the transaction can't be undone."""
        try:
            # Some errors, a full disk for one, have rolled it back already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error as failure:
            self._give_up(connection)
            return error(CRASH, f"ROLLBACK failed: {told(failure)}")
        return answer

    def _give_up(self, connection: sqlite3.Connection) -> None:
        self._connection = None
        with contextlib.suppress(sqlite3.Error):
            connection.close()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        try:
            [mode] = connection.execute(
                f"PRAGMA journal_mode={self._journal}"
            ).fetchone()
            if mode != self._journal:
                raise sqlite3.OperationalError(f"journal_mode stays {mode}")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.execute(SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        return connection


def held(connection: sqlite3.Connection, names: list[str]) -> Mapping[str, Any]:
    """The values of those cells that were ever written."""
    rows = {name: connection.execute(READ, (name,)).fetchone() for name in names}
    return {name: json.loads(row[0]) for name, row in rows.items() if row is not None}


def told(failure: sqlite3.Error) -> str:
    """SQLite's name of an error and its sentence."""
    return f"{getattr(failure, 'sqlite_errorname', 'SQLite')}: {failure}"


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--synchronous", choices=SYNCHRONOUS, required=True)
    parser.add_argument("--journal", choices=JOURNAL, required=True)
    chosen = parser.parse_args()
    path = Path(os.environ["SPLITBRAIN_DATA"]) / "store.db"
    thread = ThreadPoolExecutor(1)
    try:
        store = thread.submit(Store, path, chosen.synchronous, chosen.journal).result()
    except sqlite3.Error as failure:
        sys.stderr.write(f"can't open {path.name}: {told(failure)}\n")
        code = getattr(failure, "sqlite_errorcode", 0) & 0xFF
        sys.exit(CORRUPT_STATUS if code in CORRUPT else 1)
    await serve_store(thread, store)


if __name__ == "__main__":
    asyncio.run(main())
