"""Crashes: SIGKILL to node processes, and a restart from what they had on disk.

Targets after jepsen.nemesis.combined: one, minority, majority, all; and the leader.
Evidence: the pid, and that it is gone (the warden waited for it); after the restart,
the new pid and how long it took to serve again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.faults.fault import Fault, Strike, require_params
from harness.faults.targets import (
    TARGETS,
    aimed,
    draw_target,
    resolve_target,
    validate_target,
    who,
)
from harness.options import Words
from harness.registry import Option, Plugin, settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.cluster import Cluster
    from harness.faults.nemesis import NemesisFactory

OPTIONS = (
    Option("targets", "+".join(TARGETS), "sets of nodes to draw from", Words(TARGETS)),
)


class Kill:
    """Kills nodes and starts them again."""

    kind = "kill"
    needs: frozenset[str] = frozenset()
    background = False

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.kind, OPTIONS, options)
        self.targets: tuple[str, ...] = given["targets"]
        self._strike: Strike | None = None

    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random target among those configured."""
        word = random.choice(self.targets)
        return Fault(self.kind, {"target": draw_target(random, word, nodes)})

    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """See `Nemesis.validate`: a target, nothing else."""
        require_params(fault, ("target",))
        validate_target(self.kind, fault.params.get("target"), nodes)

    async def strike(self, fault: Fault, cluster: Cluster) -> Strike:
        """Kill the target's nodes at once, and wait until they are gone."""
        nodes, why = await resolve_target(fault.target, cluster)
        pids = await cluster.kill(nodes)
        self._strike = Strike(
            f"kill {who(nodes, why)}",
            nodes,
            {"killed": pids, **aimed(why)},
            bit=any(pids.values()),
        )
        return self._strike

    async def heal(self, cluster: Cluster) -> Strike | None:
        """Start the killed nodes again and wait until they serve."""
        if self._strike is None:
            return None
        strike, self._strike = self._strike, None
        started = await cluster.restart(strike.nodes)
        evidence: dict[str, Any] = {**strike.evidence, "restarted": started}
        return Strike(strike.title, strike.nodes, evidence, bit=strike.bit)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "kill",
    "SIGKILL nodes and restart them: one, minority, majority, all, leader",
    Kill,
    OPTIONS,
)
