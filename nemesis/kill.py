"""Crashes: SIGKILL to node processes, and a restart from what they had on disk.

Evidence: the pid, and that it is gone (the warden waited for it); after the restart,
the new pid and how long it took to serve again. A kill of nodes that were already down
bites if it keeps them down for longer than the strike that killed them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.override import override
from harness.registry import Plugin
from harness.worlds.capabilities import Capabilities
from nemesis.nodes import OPTIONS, NodeFault

if TYPE_CHECKING:
    from harness.data import Json
    from harness.faults.fault import NodeNames, Strike
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory


class Kill(NodeFault):
    """Kills nodes and starts them again."""

    kind = "kill"
    needs = Capabilities(processes=frozenset({"kill"}))

    @override
    async def do(self, nodes: NodeNames, cluster: Grip) -> tuple[dict[str, Json], bool]:
        """Kill `nodes` at once, and wait until they are gone."""
        pids = await cluster.kill(nodes)
        return {"killed": pids}, any(pids.values())

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Start the killed nodes again and wait until they serve."""
        bit = strike.bit or bool(cluster.held_for_longer)
        started = await cluster.restart(strike.nodes)
        return strike.proven({"restarted": started}, bit=bit)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "kill",
    "SIGKILL nodes and restart them: one, minority, majority, all, leader",
    Kill,
    OPTIONS,
)
