"""hashicorp/raft, the Raft library in Go of Consul, Nomad and Vault, with registers.

Promise (the library's documentation): what `Apply` answers is in the logs of a
majority. How to read is left to users, who choose as Consul does ("Consistency modes"):

- `reads=verified`: the leader asks a majority whether it still leads (`VerifyLeader`);
  linearizable. Consul calls this `consistent`.
- `reads=leader`: whoever takes itself for the leader answers at once. A leader that was
  paused or cut off does so until its lease runs out, and may be stale. This is Consul's
  default.
- `reads=local`: every node answers from its own state, however old. Consul's `stale`.

Logs and votes are kept by raft-boltdb, which syncs. With `store=bolt-nosync` it does
not (its option NoSync, "unsafe"). With `store=memory` they are in the library's
InmemStore, which "should NOT EVER be used for production": a killed node forgets what
it promised.

Errors: ErrNotLeader, ErrEnqueueTimeout and ErrLeadershipTransferInProgress are given
before an entry is in any log, and definite (11). ErrLeadershipLost is not: the entry
may be committed or not. No other error is definite, but for those of reads.

Our node (`programs/hashicorp_raft`) passes requests on to the leader that it knows.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from harness.options import OneOf
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import programs
from harness.systems.software import BINARY, VERSION, Go, Recipe, Software
from harness.systems.wire_system import WireSystem, environment
from harness.worlds.places import Launch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.systems.system import SystemFactory
    from harness.worlds.places import NodePlace

OPTIONS = (
    Option(
        "reads",
        "verified",
        "verified by a majority; or at once by the leader, or by any node (local)",
        OneOf("verified", "leader", "local"),
    ),
    Option(
        "store",
        "bolt",
        "log and votes in a file; bolt-nosync does not sync it, memory has none",
        OneOf("bolt", "bolt-nosync", "memory"),
    ),
    VERSION,
    BINARY,
)

SOFTWARE = Software(
    "hashicorp_raft",
    (
        Recipe(
            "1.7.3",
            Go(source=Path(programs.__file__).parent / "hashicorp_raft"),
            "bin/hashicorp_raft",
        ),
    ),
)


class HashicorpRaft(WireSystem):
    """hashicorp/raft as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "hashicorp_raft"
    rungs = frozenset({"switch"})  # One address book for all nodes.
    services = frozenset({"register", "cas"})
    software = SOFTWARE
    ready_timeout_s = 20.0

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__()
        chosen = settings(self.name, OPTIONS, given)
        self._flags = [f"--{name}={chosen[name]}" for name in ("reads", "store")]
        self._installed = functools.partial(
            SOFTWARE.find, chosen["version"], chosen["binary"]
        )
        self._has_served: set[str] = set()

    def check_installed(self) -> None:
        """Raises NotInstalledError unless our node has been built."""
        self._installed()

    @override
    def launch(self, place: NodePlace) -> Launch:
        found = self._installed()
        return Launch(
            [str(found.program), *self._flags], {**found.env, **environment(place)}
        )

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


def hashicorp_raft(_: str, given: Mapping[str, str]) -> HashicorpRaft:
    """The system with these options; raises UsageError if one is wrong."""
    return HashicorpRaft(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "hashicorp_raft",
    "hashicorp/raft, the Raft library in Go, with registers on it",
    hashicorp_raft,
    OPTIONS,
)
