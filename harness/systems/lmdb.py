"""LMDB, the memory-mapped store (PyPI `lmdb`): one process with one B+tree in a file.

Promise (lmdb.h, `mdb_env_open`): with `full`, a transaction is durable once its commit
has returned, and no journal is needed, as pages in use are never overwritten. With
`nometasync` the page that makes a transaction the last one is not synced: "a system
crash may undo the last committed transaction". With `off` (MDB_NOSYNC) nothing is: "a
system crash can corrupt the database or lose the last transactions". A kill takes
nothing in any mode. A node whose file is corrupt doesn't come back.

With `writemap=true` (MDB_WRITEMAP) LMDB writes through a shared mapping instead of
calling pwrite(2), and msync(2) is its sync. The promises are the same.

So this is a control of the fault `power`, as `sqlite` is, of another make: it
overwrites nothing, syncs twice a commit, and never syncs its folder, whose entry for
the file a sync of the file brings along (`harness/worlds/os/disk/names.py`).
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from harness.errors import NotInstalledError
from harness.options import Flag, OneOf
from harness.registry import Option, Plugin, settings
from harness.systems.embedded import Embedded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.systems.system import SystemFactory

OPTIONS = (
    Option(
        "sync",
        "full",
        "what a commit waits for: all, all but the page that points to it, or nothing",
        OneOf("full", "nometasync", "off"),
    ),
    Option("writemap", "false", "write through a shared mapping of the file", Flag()),
)


class LMDB(Embedded):
    """LMDB as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "lmdb"

    def __init__(self, given: Mapping[str, str]) -> None:
        chosen = settings(self.name, OPTIONS, given)
        arguments = ["--sync", chosen["sync"]]
        if chosen["writemap"]:
            arguments.append("--writemap")
        super().__init__("lmdb_node", arguments)

    def check_installed(self) -> None:
        """Raises NotInstalledError unless Python finds the library."""
        if importlib.util.find_spec("lmdb") is None:
            raise NotInstalledError("lmdb is not installed; pip install lmdb")


def lmdb(_: str, given: Mapping[str, str]) -> LMDB:
    """The system with these options; raises UsageError if one is wrong."""
    return LMDB(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "lmdb",
    "LMDB, the memory-mapped store from PyPI, in one process; another such control",
    lmdb,
    OPTIONS,
)
