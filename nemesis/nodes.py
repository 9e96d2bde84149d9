"""What faults of whole nodes share: a target, what is done to it, and its undoing.

Targets after jepsen.nemesis.combined: one, minority, majority, all; and the leader.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from harness.faults.fault import Fault, Strike, require_params
from harness.faults.nemesis import Nemesis
from harness.faults.targets import (
    TARGETS,
    WORDS,
    aimed,
    draw_target,
    resolve_target,
    validate_target,
    who,
)
from harness.options import Words
from harness.override import override
from harness.registry import Option, settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.fault import NodeNames
    from harness.faults.force import Grip
    from harness.worlds.capabilities import Capabilities

OPTIONS = (
    Option("targets", "+".join(TARGETS), "sets of nodes to draw from", Words(WORDS)),
)


class NodeFault(Nemesis, ABC):
    """A nemesis that does one thing (`do`) to nodes and undoes it (`heal`)."""

    kind: str
    needs: Capabilities
    options: tuple[Option, ...] = OPTIONS
    background = False

    def __init__(self, options: Mapping[str, str]) -> None:
        self.settings: dict[str, Any] = settings(self.kind, self.options, options)
        self.targets: tuple[str, ...] = self.settings["targets"]

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random target among those configured."""
        word = random.choice(self.targets)
        return Fault(self.kind, {"target": draw_target(random, word, nodes)})

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require a target, and nothing else."""
        require_params(fault, ("target",))
        validate_target(self.kind, fault.params.get("target"), nodes)

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Look the target up and do the fault to its nodes."""
        nodes, why = await resolve_target(fault.target, cluster)
        evidence, bit = await self.do(fault, nodes, cluster)
        title = f"{self.named(fault)} {who(nodes, why)}"
        return Strike(fault, title, nodes, {**evidence, **aimed(why)}, bit)

    def named(self, fault: Fault) -> str:
        """What is done, for titles."""
        return self.kind

    @abstractmethod
    async def do(
        self, fault: Fault, nodes: NodeNames, cluster: Grip
    ) -> tuple[dict[str, Json], bool | None]:
        """Do the fault to all of `nodes` at once.

        Returns:
            Evidence, and whether the fault bit; None if only the heal will tell.
        """

    @abstractmethod
    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Undo what `do` did to the strike's nodes."""
