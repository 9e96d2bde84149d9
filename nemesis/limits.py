"""Limits of running nodes: no more descriptors, or no more memory, than a few.

A node that can't open a file or take a connection (EMFILE), or is refused memory
(ENOMEM), is in the code that its authors have run least. Whether it waits, sheds load
or dies, its promises must hold.

    {kind: limits, target: leader, resource: files, spare: 2}

`spare` is what the node may take beyond what it holds when the fault strikes:
descriptors, or MiB of address space. Only the limits of its processes are changed, with
prlimit(2), and they are put back by the heal; a node that ended meanwhile is started
again. Such an end is explained by the fault, and no finding.

Evidence: of each process what it held, and its limit before and during the fault, read
back from /proc/PID/limits; when it is healed, the limit then, and how much it held.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from harness.errors import UsageError
from harness.faults.fault import (
    Fault,
    Skip,
    Strike,
    require_number,
    require_params,
)
from harness.faults.targets import validate_target
from harness.options import Whole, Words
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
    from harness.worlds.processes import Limit, Resource

RESOURCES = ("files", "memory")
SPARE = Whole(0, 1_000_000)
SPARE_MAX: Mapping[str, int] = {"files": 6, "memory": 24}
"""What is drawn is at most this: a connection takes a descriptor, a request some MiB
at most, so that the limit is met within seconds."""

LIMITS_OPTIONS = (
    *OPTIONS,
    Option(
        "resources",
        "+".join(RESOURCES),
        "what to draw from: descriptors, or address space",
        Words(RESOURCES),
    ),
)


class Limits(NodeFault):
    """Lowers limits of nodes' processes, and puts them back."""

    kind = "limits"
    needs = Capabilities(processes=frozenset({"limit"}))
    options = LIMITS_OPTIONS
    heals_beside = True

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        self.resources: tuple[str, ...] = self.settings["resources"]

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random target, a resource, and how much of it is left."""
        params = super().draw(random, nodes).params
        resource = random.choice(self.resources)
        spare = random.randint(0, SPARE_MAX[resource])
        return Fault(self.kind, {**params, "resource": resource, "spare": spare})

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require a target, a resource, and how much of it is left."""
        require_params(fault, ("target", "resource", "spare"))
        validate_target(self.kind, fault.params.get("target"), nodes)
        if fault.params.get("resource") not in RESOURCES:
            raise UsageError(
                f"plan: limits: resource must be {' or '.join(RESOURCES)}, "
                f"not {fault.params.get('resource')!r:.60}"
            )
        require_number(fault, "spare", SPARE)

    @override
    def named(self, fault: Fault) -> str:
        """The fault for titles: "limit to 2 more files:"."""
        unit = "MiB of memory" if fault.text("resource") == "memory" else "files"
        return f"limit to {fault.number('spare'):.0f} more {unit}:"

    @override
    async def do(
        self, fault: Fault, nodes: NodeNames, cluster: Grip
    ) -> tuple[dict[str, Json], bool | None]:
        """Lower the limits; bites when each process reads back as limited.

        Raises:
            Skip: None of the nodes runs.
        """
        resource = cast("Resource", fault.text("resource"))
        spare = int(fault.number("spare"))
        limits = {node: await cluster.limit(node, resource, spare) for node in nodes}
        set_ = [one for of in limits.values() for one in of.values()]
        if not set_:
            raise Skip(f"nothing to limit: {' and '.join(nodes)} down")
        bit = all(one.now != one.before for one in set_)
        return {"limits": shown(limits)}, bit

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Put the limits back, and start the nodes that ended meanwhile."""
        freed = await cluster.unlimit()
        started = await cluster.revive(strike.nodes)
        evidence: dict[str, Json] = {"freed": shown(freed), "restarted": {**started}}
        return strike.proven(evidence, bit=strike.bit)


def shown(limits: Mapping[str, Mapping[str, Limit]]) -> dict[str, Json]:
    """Node -> pid -> its limit, as evidence."""
    return {
        node: {pid: asdict(limit) for pid, limit in of.items()}
        for node, of in limits.items()
    }


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "limits",
    "lower the limits of descriptors or memory of running nodes, and put them back",
    Limits,
    LIMITS_OPTIONS,
)
