"""Apache Ratis, the Raft library in Java of Ozone and IoTDB, with registers.

Promise (the library's documentation): a write that was answered is in the logs of a
majority. How to read is left to users:

- `reads=log`: a read is an entry of the log, like a write; linearizable.
- `reads=linearizable`: the node asks the leader for its commit index, which the leader
  confirms by a round of heartbeats (`raft.server.read.option=LINEARIZABLE`).
- `reads=lease`: the same, but a leader that has a lease by its clock doesn't ask
  (`raft.server.read.leader.lease.enabled`).
- `reads=leader`: whoever takes itself for the leader answers at once: the library's
  default, "efficient but may undermine linearizability".
- `reads=stale`: every node answers from its own state (`sendStaleRead`).

When an entry counts as written is an option, too: with `flush=sync` once it is synced;
with `async` once a sync that goes on beside other writes has ended
(`raft.server.log.async-flush.enabled`); with `unsafe` at once, before it is synced
(`raft.server.log.unsafe-flush.enabled`), so a loss of power takes acknowledged writes.

Errors: LeaderNotReadyException, LeaderSteppingDownException and ServerNotReadyException
are given before an entry is in any log, and definite (11), as is an answer of our node
that it knows no leader. NotLeaderException is not: entries that wait for a majority are
answered with it when their leader steps down, and may be committed yet. No other error
is definite, but for those of reads.

Our node (`programs/ratis`) serves `reads=linearizable`, `lease` and `stale` where it is
asked, and passes everything else on to the leader that it knows.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from harness.options import OneOf
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import programs
from harness.systems.java import SMALL, java
from harness.systems.software import VERSION, Maven, Recipe, Software
from harness.systems.wire_system import WireSystem, environment
from harness.worlds.places import Launch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.systems.system import SystemFactory
    from harness.worlds.places import NodePlace

OPTIONS = (
    Option(
        "reads",
        "log",
        "through the log; by the leader's commit index, as a majority or its clock "
        "confirms (linearizable, lease); at once by the leader, or any node (stale)",
        OneOf("log", "linearizable", "lease", "leader", "stale"),
    ),
    Option(
        "flush",
        "sync",
        "what a written entry waits for: a sync, one beside other writes, or nothing",
        OneOf("sync", "async", "unsafe"),
    ),
    VERSION,
)

_FOLDER = Path(programs.__file__).parent / "ratis"

SOFTWARE = Software(
    "ratis",
    tuple(
        Recipe(
            version,
            Maven(
                (
                    "org.apache.ratis:ratis-server:{version}",
                    "org.apache.ratis:ratis-grpc:{version}",
                    "org.apache.ratis:ratis-metrics-default:{version}",
                    "org.slf4j:slf4j-simple:2.0.7",
                ),
                sources=tuple(sorted(_FOLDER.glob("*.java"))),
            ),
            "classes/RatisNode.class",
        )
        for version in ("3.2.2", "*")
    ),
)


class Ratis(WireSystem):
    """Apache Ratis as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "ratis"
    rungs = frozenset({"switch"})  # One address book for all nodes.
    services = frozenset({"register", "cas"})
    usual_nodes = 3
    software = SOFTWARE
    ready_timeout_s = 60.0

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__()
        chosen = settings(self.name, OPTIONS, given)
        self._flags = [f"--{name}={chosen[name]}" for name in ("reads", "flush")]
        self._installed = functools.partial(SOFTWARE.find, chosen["version"])
        self._has_served: set[str] = set()

    def check_installed(self) -> None:
        """Raises NotInstalledError unless there are our node and a Java to run it."""
        self._installed()
        java()

    @override
    def launch(self, place: NodePlace) -> Launch:
        defined = {
            "java.io.tmpdir": place.data_dir,
            "java.net.preferIPv4Stack": "true",
            "org.slf4j.simpleLogger.defaultLogLevel": "warn",
            "org.slf4j.simpleLogger.log.org.apache.ratis.server.impl": "info",
            "org.slf4j.simpleLogger.showDateTime": "true",
            "org.slf4j.simpleLogger.showShortLogName": "true",
        }
        argv = [
            java(),
            "-Xmx128m",
            *SMALL,
            *(f"-D{name}={value}" for name, value in defined.items()),
            "RatisNode",
            *self._flags,
        ]
        return Launch(argv, {**self._installed().env, **environment(place)})

    @override
    async def ready(self, place: NodePlace) -> bool:
        """True once the node knows a leader; after a restart, once it is reachable.

        A node that restarts in a minority knows none before the partition heals.
        """
        if place.name in self._has_served:
            return await super().ready(place)
        if not (await self._ask(place, "status")).get("leader"):
            return False
        self._has_served.add(place.name)
        return True


def ratis(_: str, given: Mapping[str, str]) -> Ratis:
    """The system with these options; raises UsageError if one is wrong."""
    return Ratis(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "ratis",
    "Apache Ratis, the Raft library in Java, with registers on it (needs Java)",
    ratis,
    OPTIONS,
)
