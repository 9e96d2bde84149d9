"""What a nemesis is: one kind of fault, as a plug-in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from harness.cluster import Cluster
    from harness.faults.fault import Fault, Strike


class Nemesis(Protocol):
    """One kind of fault: draws faults for plans, applies them, heals them.

    One nemesis has at most one fault in force at a time.
    """

    kind: str
    needs: frozenset[str]
    """What it needs of a world beyond the system's own word: "cut", "clocks", ..."""
    background: bool
    """It makes other faults worse rather than do harm by itself."""

    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random fault of this kind; the same for the same state of `random`."""
        ...

    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Raise UsageError when a hand-written fault makes no sense."""
        ...

    async def strike(self, fault: Fault, cluster: Cluster) -> Strike:
        """Apply `fault` and say what happened."""
        ...

    async def heal(self, cluster: Cluster) -> Strike | None:
        """End the fault in force with the evidence it left; None when there is none.

        Idempotent: the run heals everything at its end, whatever the plan did.
        """
        ...


@runtime_checkable
class Lingering(Protocol):
    """A nemesis whose faults are felt for a while after their healing."""

    def lingers_s(self, fault: Fault, lasted_s: float) -> float:
        """How long that is for a fault that was in force for `lasted_s`."""
        ...

    async def settle(self, cluster: Cluster) -> None:
        """Wait until nothing is felt any more of faults that were healed."""
        ...


NemesisFactory = Callable[[Mapping[str, str]], Nemesis]
"""Builds a nemesis from its options; raises UsageError for those it does not know."""
