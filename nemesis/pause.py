"""Pauses: SIGSTOP to node processes, as a long garbage collection or a frozen VM.

A paused node keeps its connections and its memory; when it wakes it believes that no
time has passed, which is what breaks leases and failure detectors. Evidence: the state
letter of every process of the node, read back from /proc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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


class Pause:
    """Stops nodes and lets them go on."""

    kind = "pause"
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
        """Stop the target's nodes; bites when every process reads back as stopped."""
        nodes, why = await resolve_target(fault.target, cluster)
        states = await cluster.pause(nodes)
        stopped = [all(s == "T" for s in of.values()) for of in states.values() if of]
        self._strike = Strike(
            f"pause {who(nodes, why)}",
            nodes,
            {"states": states, **aimed(why)},
            bit=bool(stopped) and all(stopped),
        )
        return self._strike

    async def heal(self, cluster: Cluster) -> Strike | None:
        """Let the paused nodes go on."""
        if self._strike is None:
            return None
        strike, self._strike = self._strike, None
        await cluster.resume(strike.nodes)
        return strike


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "pause",
    "SIGSTOP nodes and resume them: one, minority, majority, all, leader",
    Pause,
    OPTIONS,
)
