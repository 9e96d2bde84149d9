"""SQLite, the embedded store: one process that keeps its values in one file.

Promise (sqlite.org, "PRAGMA synchronous"): with `full`, a transaction is durable once
COMMIT has returned; with `normal` in WAL mode it is atomic, but may be lost. With `off`
SQLite hands its writes to the operating system and does not wait: they outlive the
process, but not a loss of power, which may also leave the file corrupt. A node whose
file is corrupt doesn't come back.

So this is the control of the fault `power`: with `off` it loses what was acknowledged,
with `full` it does not, and no `kill` ever shows the difference.

One combination loses with `full`, as the same page says: `journal=delete`, SQLite's own
default. COMMIT deletes the rollback journal and does not sync its folder: after a cut
the journal may be back, and undoes the last transaction. `extra` syncs the folder. The
other journals hold with `full`; the default here is WAL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.options import OneOf
from harness.registry import Option, Plugin, settings
from harness.systems.embedded import Embedded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.systems.system import SystemFactory

OPTIONS = (
    Option(
        "synchronous",
        "full",
        "how often SQLite waits for the disk",
        OneOf("off", "normal", "full", "extra"),
    ),
    Option(
        "journal",
        "wal",
        "what makes transactions atomic: a rollback journal, or a write-ahead log",
        OneOf("delete", "truncate", "persist", "wal"),
    ),
)


class SQLite(Embedded):
    """SQLite as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "sqlite"

    def __init__(self, given: Mapping[str, str]) -> None:
        chosen = settings(self.name, OPTIONS, given)
        arguments = [f"--{option.name}={chosen[option.name]}" for option in OPTIONS]
        super().__init__("sqlite_node", arguments)


def sqlite(_: str, given: Mapping[str, str]) -> SQLite:
    """The system with these options; raises UsageError if one is wrong."""
    return SQLite(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "sqlite",
    "SQLite, the embedded store, in one process; the control of losses of power",
    sqlite,
    OPTIONS,
)
