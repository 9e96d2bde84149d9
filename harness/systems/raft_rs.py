"""raft-rs, the Raft library in Rust of TiKV, with registers and transactions on it.

Promise (the library's documentation): what is committed is in the logs of a majority,
as long as each node has persisted entries and votes before it tells others of them.
Reads need no place in the log (`ReadOnlyOption`):

- `reads=index`: the leader asks a majority whether it still leads (Safe); linearizable,
  "the default and suggested option".
- `reads=lease`: the leader answers as long as it believes in its lease (LeaseBased).
  "If the clock drift is unbounded, leader might keep the lease longer than it should
  (clock can move backward/pause without any bound)": a leader that was paused may be
  stale.
- `reads=local`: each node answers from its own state, which the library does not offer,
  and no paper allows (Ongaro 2014, 6.4).

The library leaves storage to us. `store=file` syncs each batch before messages are sent
that rely on it. With `store=file-nosync` it does not; with `store=memory` there is no
file, and a killed node forgets what it promised, as the library's own MemStorage would
("incomplete, mainly for tests").

Errors: ProposalDropped is given before an entry is in any log or has been passed on,
and definite (11). A proposal that got no place in the log in time is not (0): it may be
on its way, as the library passes proposals on to the leader. Reads have no effect, and
fail (11). Whatever the log decided (14, 20, 22) is definite.

Our node is `programs/raft_rs`. Its clock is the library's tick, every 50 ms; elections
begin after 0.5 to 1 s without a leader.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from harness.options import OneOf
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import programs
from harness.systems.services import TRANSACTIONS
from harness.systems.software import BINARY, VERSION, Recipe, Rust, Software
from harness.systems.wire_system import WireSystem, environment
from harness.worlds.places import Launch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.systems.system import SystemFactory
    from harness.worlds.places import NodePlace

OPTIONS = (
    Option(
        "reads",
        "index",
        "confirmed by a majority; or by the leader's lease, or at once by any node",
        OneOf("index", "lease", "local"),
    ),
    Option(
        "store",
        "file",
        "log and votes in a file; file-nosync does not sync it, memory has none",
        OneOf("file", "file-nosync", "memory"),
    ),
    VERSION,
    BINARY,
)

SOFTWARE = Software(
    "raft_rs",
    (
        Recipe(
            "0.7.0",
            Rust(source=Path(programs.__file__).parent / "raft_rs"),
            "bin/raft_rs",
        ),
    ),
)


class RaftRs(WireSystem):
    """raft-rs as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "raft_rs"
    rungs = frozenset({"switch"})  # Peers listen at the port above that of clients.
    services = frozenset({"register", "cas", "leader", "membership"}) | TRANSACTIONS
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


def raft_rs(_: str, given: Mapping[str, str]) -> RaftRs:
    """The system with these options; raises UsageError if one is wrong."""
    return RaftRs(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "raft_rs",
    "raft-rs, the Raft library in Rust of TiKV, with registers on it",
    raft_rs,
    OPTIONS,
)
