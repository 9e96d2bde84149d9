"""A node of the lmdb system: a store in an LMDB file, behind the wire protocol.

`python -m harness.systems.programs.lmdb_node --sync MODE [--writemap]`, with the
environment of WIRE.md. The data folder has LMDB's `data.mdb` and `lock.mdb`; values are
in the unnamed database of the former, as JSON.

A request is one LMDB transaction; `harness.systems.cells` says what requests mean. A
request that writes is answered once its commit has returned.

Errors of LMDB: what fails before the commit is aborted, and the answer is a definite
error. A commit that fails leaves the outcome open: where the page could not be synced
that makes the transaction the last one, the disk may have it all the same. LMDB then
refuses to go on (MDB_PANIC), so the environment is given up, and a new one recovers
what the file says.

A node that finds its file corrupt when it starts ends with status 65. It reads
everything then: LMDB itself looks at two pages, and would die by SIGBUS or SIGSEGV in
the middle of a later request, which is also how this may end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lmdb

from harness.errors import TEMPORARILY_UNAVAILABLE, NodeReply
from harness.systems import cells
from harness.systems.programs.serving import Body, error, error_of
from harness.systems.programs.storing import CORRUPT_STATUS, CRASH, serve_store

if TYPE_CHECKING:
    from collections.abc import Mapping

SYNC: Mapping[str, dict[str, bool]] = {
    "full": {},
    "nometasync": {"metasync": False},
    "off": {"sync": False},
}
"""Mode -> arguments of `lmdb.open`."""

MAP_BYTES = 256 << 20
"""The most that the file can hold; a hole until it is written to."""

CORRUPT = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
    ValueError,  # from a value that is no JSON
)


class Store:
    """Values under names, in a file; one thread uses it.

    Args:
        folder: Where LMDB has its files.
        sync: When LMDB syncs, a key of SYNC.
        writemap: Whether it writes through a mapping.

    Raises:
        lmdb.Error: The file can't be opened, or is no database.
        ValueError: A value in it is not one that we wrote.
    """

    def __init__(self, folder: Path, sync: str, *, writemap: bool = False) -> None:
        self._folder = folder
        self._options = {**SYNC[sync], "writemap": writemap}
        self._environment: lmdb.Environment | None = self._open()
        with self._environment.begin() as transaction:
            for _, value in transaction.cursor():
                json.loads(value)

    def carry_out(self, request: Body) -> Body:
        """The answer to a request, whose writes were committed before."""
        try:
            names = cells.cells_of(request)
            if self._environment is None:
                self._environment = self._open()
        except NodeReply as refused:
            return error_of(refused)
        except lmdb.Error as failure:
            return error(TEMPORARILY_UNAVAILABLE, told(failure))
        return self._transact(self._environment, request, names)

    def _transact(
        self, environment: lmdb.Environment, request: Body, names: list[str]
    ) -> Body:
        try:
            transaction = environment.begin(write=not cells.is_read(request))
        except lmdb.Error as failure:
            return error(TEMPORARILY_UNAVAILABLE, told(failure))
        try:
            answer, writes = cells.decide(request, held(transaction, names))
            for name, value in writes.items():
                transaction.put(name.encode(), json.dumps(value).encode())
        except NodeReply as refused:
            transaction.abort()
            return error_of(refused)
        except lmdb.Error as failure:
            transaction.abort()
            return error(TEMPORARILY_UNAVAILABLE, told(failure))
        try:
            transaction.commit()
        except lmdb.Error as failure:
            self._environment = None
            environment.close()
            return error(CRASH, f"the commit failed: {told(failure)}")
        return answer

    def _open(self) -> lmdb.Environment:
        return lmdb.open(str(self._folder), map_size=MAP_BYTES, **self._options)


def held(transaction: lmdb.Transaction[bytes], names: list[str]) -> Mapping[str, Any]:
    """The values of those cells that were ever written."""
    found = {name: transaction.get(name.encode()) for name in names}
    return {n: json.loads(value) for n, value in found.items() if value is not None}


def told(failure: lmdb.Error) -> str:
    """py-lmdb's name of an error and its sentence."""
    return f"{type(failure).__name__}: {failure}"


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sync", choices=SYNC, required=True)
    parser.add_argument("--writemap", action="store_true")
    chosen = parser.parse_args()
    folder = Path(os.environ["SPLITBRAIN_DATA"])
    thread = ThreadPoolExecutor(1)

    def opened() -> Store:
        return Store(folder, chosen.sync, writemap=chosen.writemap)

    try:
        store = thread.submit(opened).result()
    except (lmdb.Error, ValueError) as failure:
        name = type(failure).__name__
        sys.stderr.write(f"can't open data.mdb: {name}: {failure}\n")
        sys.exit(CORRUPT_STATUS if isinstance(failure, CORRUPT) else 1)
    await serve_store(thread, store)


if __name__ == "__main__":
    asyncio.run(main())
