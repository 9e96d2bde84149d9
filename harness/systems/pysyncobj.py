"""PySyncObj, a Raft library for Python (PyPI), with a key-value store on top.

Promise (PySyncObj's README): replicated commands are strongly consistent; reads of a
node's own copy are not. `reads=local` is how the library is used
(`ReplDict.get`) and may be stale; with `reads=log` a read is a command like any other,
and the store is linearizable. Transactions that write, and locks, are commands always.

With `journal=on`, votes, terms and entries are in a file before the node answers for
them, so a killed node comes back with them. They are not synced, so a power cut would
lose them. `journal=off` is the library's default and keeps everything in memory: a node
that is killed forgets its vote and its log, and clusters may then lose what they
confirmed.

Seen with 0.3.17: it logs "truncating already-applied log entries" by itself under load,
and one run of eight with kills and pauses served, through the log, a state older than
the one that a majority had confirmed. So `reads=log` is a system to hunt in, not a
control that must come out valid.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from harness.errors import NotInstalledError
from harness.options import OneOf
from harness.registry import Option, Plugin, settings
from harness.systems import cells
from harness.systems.wire_system import WireSystem, environment
from harness.worlds.places import Launch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.systems.system import SystemFactory
    from harness.worlds.places import NodePlace

OPTIONS = (
    Option(
        "reads",
        "local",
        "from the node's own copy, which may be stale, or through the log",
        OneOf("local", "log"),
    ),
    Option("journal", "on", "off keeps the log in memory only", OneOf("on", "off")),
)


class PySyncObj(WireSystem):
    """PySyncObj as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "pysyncobj"
    rungs = frozenset({"switch"})  # One address book for all nodes.
    services = cells.SERVICES
    ready_timeout_s = 20.0

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__()
        chosen = settings(self.name, OPTIONS, given)
        self._reads = chosen["reads"]
        self._journal = chosen["journal"]
        self._has_served: set[str] = set()

    def check_installed(self) -> None:
        """Raises NotInstalledError unless Python finds the library."""
        if importlib.util.find_spec("pysyncobj") is None:
            raise NotInstalledError("pysyncobj is not installed; pip install pysyncobj")

    def launch(self, place: NodePlace) -> Launch:
        """The command of our node program, in the interpreter that has the library."""
        module = "harness.systems.programs.pysyncobj_node"
        options = ["--reads", self._reads, "--journal", self._journal]
        return Launch(
            [sys.executable, "-P", "-m", module, *options],
            {**environment(place), "PYTHONUNBUFFERED": "1"},
        )

    async def ready(self, place: NodePlace) -> bool:
        """True once the node is level with a leader.

        After a restart it is enough that it accepts connections: a node in a minority
        can't do more, and the plan must not wait for the partition to heal.
        """
        if place.name in self._has_served:
            return await super().ready(place)
        if (await self._ask(place, "status")).get("ready") is not True:
            return False
        self._has_served.add(place.name)
        return True


def pysyncobj(_: str, given: Mapping[str, str]) -> PySyncObj:
    """The system with these options; raises UsageError if one is wrong."""
    return PySyncObj(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "pysyncobj",
    "PySyncObj, a Raft library from PyPI, with a key-value store on top",
    pysyncobj,
    OPTIONS,
)
