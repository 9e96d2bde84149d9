"""What faults of whole nodes share: a target, something done to it, and undone.

Targets after jepsen.nemesis.combined: one, minority, majority, all; and the leader.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
from harness.registry import Option, settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.fault import NodeNames
    from harness.faults.force import Grip
    from harness.worlds.capabilities import Capabilities

OPTIONS = (
    Option("targets", "+".join(TARGETS), "sets of nodes to draw from", Words(TARGETS)),
)


class NodeFault(ABC):
    """One thing that happens to nodes."""

    kind: str
    needs: Capabilities
    background = False

    def __init__(self, options: Mapping[str, str]) -> None:
        self.targets: tuple[str, ...] = settings(self.kind, OPTIONS, options)["targets"]

    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random target among those configured."""
        word = random.choice(self.targets)
        return Fault(self.kind, {"target": draw_target(random, word, nodes)})

    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """See `Nemesis.validate`: a target, nothing else."""
        require_params(fault, ("target",))
        validate_target(self.kind, fault.params.get("target"), nodes)

    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Do it to the target's nodes."""
        nodes, why = await resolve_target(fault.target, cluster)
        evidence, bit = await self.do(nodes, cluster)
        title = f"{self.kind} {who(nodes, why)}"
        return Strike(fault, title, nodes, {**evidence, **aimed(why)}, bit)

    @abstractmethod
    async def do(self, nodes: NodeNames, cluster: Grip) -> tuple[dict[str, Json], bool]:
        """Do it to all of `nodes` at once: evidence, and whether it bit."""

    @abstractmethod
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Undo it."""
