"""The interface of a nemesis: one kind of fault, as a plug-in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.fault import Fault, Strike
    from harness.faults.force import Grip
    from harness.worlds.capabilities import Capabilities


class Nemesis(Protocol):
    """One kind of fault: draws faults for plans, applies them, heals them.

    Several strikes of one kind may be in force at once, so it remembers nothing of any:
    a strike and its grip on the cluster are all that healing needs.
    """

    kind: str
    needs: Capabilities
    """Capabilities that a world must have for this kind of fault."""
    background: bool
    """Whether it makes other faults worse rather than do harm by itself."""

    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random fault of this kind; the same for the same state of `random`."""
        ...

    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Raise UsageError when a hand-written fault makes no sense."""
        ...

    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Apply `fault` and say what happened."""
        ...

    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """End `strike` through the grip that it was made with, and add the evidence.

        The work that `Grip.meanwhile` began has ended before. Afterwards the conductor
        lets go of all that the strike still holds.
        """
        ...


@runtime_checkable
class Lingering(Protocol):
    """A nemesis whose faults are felt for a while after their healing."""

    def lingers_s(self, fault: Fault, lasted_s: float) -> float:
        """How long a fault that was in force for `lasted_s` is felt after it."""
        ...


@runtime_checkable
class Targeting(Protocol):
    """A nemesis whose faults have a `target`.

    Attributes:
        targets: The words for sets of nodes that it draws from.
    """

    targets: tuple[str, ...]


@runtime_checkable
class Aimable(Protocol):
    """A nemesis that names the nodes of its faults in a way of its own."""

    def aimed_at(self, fault: Fault, target: Json, nodes: Sequence[str]) -> Fault:
        """A fault of its kind for the nodes of `target`, a word or names of nodes.

        Returns:
            `fault` itself if its kind has none for these nodes, or should draw none.
        """
        ...


@runtime_checkable
class Timed(Protocol):
    """A nemesis whose faults may wait for events of the system.

    Attributes:
        events: Kinds of `Observe` that all its drawn faults wait for, to strike the
            node that observed it; if empty, they strike at moments like others.
    """

    events: tuple[str, ...]


@runtime_checkable
class Patterned(Protocol):
    """A nemesis whose faults are for messages of some types.

    Attributes:
        patterns: Regular expressions over bytes, one for each type to draw from. If the
            user named none, those of the system are put here before a plan is drawn.
    """

    patterns: tuple[str, ...]


@runtime_checkable
class Lengthy(Protocol):
    """A nemesis whose heals may take long, as they wait for nodes that they start.

    Attributes:
        heals_beside: Whether the conductor lets a long heal go on beside the run.
    """

    heals_beside: bool


@runtime_checkable
class Discerning(Protocol):
    """A nemesis whose faults don't all need the same of a world.

    Its `needs` are those of what it draws; of a plan's faults, these are asked.
    """

    def needs_of(self, fault: Fault) -> Capabilities:
        """Capabilities that a world must have for this one, which was validated."""
        ...


@runtime_checkable
class Reducible(Protocol):
    """A nemesis that knows other faults of its kind which are easier to understand.

    Names, numbers and lists in a fault need none of this: they are seen from outside.
    """

    def simpler(self, fault: Fault, nodes: Sequence[str]) -> Iterable[Fault]:
        """Faults that may do what this valid one does, the simplest first."""
        ...


@runtime_checkable
class Punctual(Protocol):
    """A nemesis whose faults another kind can bring about just behind a message.

    A strike comes some milliseconds after the event that it waits for. Who carries the
    messages needs no such time.
    """

    def behind(
        self, fault: Fault, pattern: str, nodes: Sequence[str]
    ) -> Iterable[Fault]:
        """Faults that do what this valid one does, from a message on.

        Args:
            fault: What is to be brought about.
            pattern: The type of the message (`Patterned`).
            nodes: The run's.
        """
        ...


NemesisFactory = Callable[[Mapping[str, str]], Nemesis]
"""Builds a nemesis from its options; raises UsageError for those it does not know."""
