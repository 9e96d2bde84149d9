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

import sys
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.options import OneOf
from harness.registry import Option, Plugin, settings
from harness.systems import cells
from harness.systems.wire_system import WireSystem, environment
from harness.worlds.places import Launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.systems.system import SystemFactory
    from harness.worlds.places import NodePlace

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


class SQLite(WireSystem):
    """SQLite as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "sqlite"
    faults = frozenset({"clock", "disk", "kill", "pause", "power"})
    """Not `rot`: without a replica, nobody gives back what decays."""
    services = cells.SERVICES
    usual_nodes = 1

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__()
        chosen = settings(self.name, OPTIONS, given)
        self._synchronous = chosen["synchronous"]
        self._journal = chosen["journal"]

    def check_nodes(self, nodes: Sequence[str]) -> None:
        """Raises UsageError unless there is one node: they would share nothing."""
        if len(nodes) > 1:
            raise UsageError(
                f"sqlite is one process with one file, and can't have {len(nodes)} "
                "nodes (--nodes 1)"
            )

    def launch(self, place: NodePlace) -> Launch:
        """The command of our node program, in this interpreter."""
        module = "harness.systems.programs.sqlite_node"
        options = ["--synchronous", self._synchronous, "--journal", self._journal]
        return Launch(
            [sys.executable, "-P", "-m", module, *options],
            {**environment(place), "PYTHONUNBUFFERED": "1"},
        )


def sqlite(_: str, given: Mapping[str, str]) -> SQLite:
    """The system with these options; raises UsageError if one is wrong."""
    return SQLite(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "sqlite",
    "SQLite, the embedded store, in one process; the control of losses of power",
    sqlite,
    OPTIONS,
)
