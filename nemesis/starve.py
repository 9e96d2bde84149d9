"""Starvation: nodes that get the processor for a small part of the time.

A noisy neighbour, a quota that is too small, a laptop on its last battery: the node is
neither dead nor paused, but late with everything, and now and then it does not know
that it is. Its failure detector and those of its peers see half of each.

In every period of 100 ms the node runs for its `share` and stands still for the rest,
as a cgroup's quota has it. That is done with SIGSTOP and SIGCONT by the parent process
of the nodes, which needs no right to make cgroups; in the simulator nodes stand still
in virtual time. It lies on the node and not on a process: one that is started again
meanwhile is starved too.

Evidence: how often all processes of the node were stopped and read back as stopped, how
long these stops lasted of the time that the fault was in force, and the processor time
that the node got. The fault bit if every node that ran all the time was stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.faults.drawing import log_uniform
from harness.faults.fault import Fault, Strike, require_number, require_params
from harness.faults.targets import validate_target
from harness.options import Number
from harness.override import override
from harness.registry import Option, Plugin
from harness.worlds.capabilities import Capabilities
from nemesis.nodes import OPTIONS, NodeFault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.fault import NodeNames
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory
    from harness.worlds.processes import Starvation

SHARE = Number(0.01, 0.9)

STARVE_OPTIONS = (
    *OPTIONS,
    Option("share_min", "0.02", "smallest share of the time to run in", SHARE),
    Option("share_max", "0.3", "largest share of the time to run in", SHARE),
)


class Starve(NodeFault):
    """Lets nodes run for a part of the time only."""

    kind = "starve"
    needs = Capabilities(processes=frozenset({"starve"}))
    options = STARVE_OPTIONS
    background = True

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        low, high = self.settings["share_min"], self.settings["share_max"]
        self.shares: tuple[float, float] = min(low, high), max(low, high)

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random target, and a share; each order of magnitude is equally likely."""
        params = super().draw(random, nodes).params
        low, high = self.shares
        share = round(log_uniform(random, low, high), 3)
        return Fault(self.kind, {**params, "share": share})

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require a target and a share."""
        require_params(fault, ("target", "share"))
        validate_target(self.kind, fault.params.get("target"), nodes)
        require_number(fault, "share", SHARE)

    @override
    def named(self, fault: Fault) -> str:
        """The fault for titles: "starve (5 % of the time)"."""
        return f"{self.kind} to {100 * fault.number('share'):.3g} % of the time:"

    @override
    async def do(
        self, fault: Fault, nodes: NodeNames, cluster: Grip
    ) -> tuple[dict[str, Json], bool | None]:
        """Begin the stops; whether they take hold only time will tell."""
        await cluster.starve(nodes, fault.number("share"))
        return {}, None

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Let the nodes run freely, and count what they were kept from."""
        told = await cluster.feed()
        got = {node: shown(before, after) for node, (before, after) in told.items()}
        stopped = [
            after.stops > before.stops
            for before, after in told.values()
            # Nodes that were killed meanwhile may have had no time to be stopped.
            if after.stops > before.stops or after.pid == before.pid != 0
        ]
        return strike.proven({"starved": got}, bit=bool(stopped) and all(stopped))


def shown(before: Starvation, after: Starvation) -> dict[str, Json]:
    """What a node was kept from while it was starved."""
    told: dict[str, Json] = {
        "stops": after.stops - before.stops,
        "stopped_ms": round((after.stopped_ns - before.stopped_ns) / 1e6, 1),
    }
    if before.cpu_ns is not None and after.cpu_ns is not None:
        # A process that was started meanwhile has got all that it has within the fault.
        since_ns = before.cpu_ns if before.pid == after.pid else 0
        told["cpu_ms"] = round(max(0, after.cpu_ns - since_ns) / 1e6, 1)
    return told


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "starve",
    "let nodes run for 2 to 30 % of the time, in turns of 100 ms",
    Starve,
    STARVE_OPTIONS,
)
