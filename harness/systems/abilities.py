"""What a system may be able to do beside what every system does.

Each ability is a protocol, and whoever needs it asks `isinstance`. A system has an
ability if its class has the members; it says so nowhere else, and nobody looks for a
member by its name. A run that needs an ability that the system lacks is refused, or
does without, as the protocol's docstring says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.systems.wire import Dial, WireCounters
    from harness.worlds.places import NodePlace
    from reference_impls.actor import Actor, Observe, Record


def lacks(made: object, protocol: type[Any]) -> list[str]:
    """The members that a plug-in of another version may not have, by name."""
    members = {*vars(protocol), *protocol.__annotations__}
    named = {member for member in members if not member.startswith("_")}
    return sorted(named - set(dir(made)))


def check(made: object, protocol: type[Any], name: str) -> None:
    """Refuse what lacks a member that every plug-in of its kind has.

    Raises:
        UsageError: Names what is missing.
    """
    if missing := lacks(made, protocol):
        kind = protocol.__name__.lower()
        raise UsageError(f"{name} is no {kind}: it lacks {', '.join(missing)}")


@runtime_checkable
class Led(Protocol):
    """One whose nodes can tell who leads; of others, faults strike who seems to."""

    async def leader(self, places: Sequence[NodePlace]) -> str | None:
        """The node that leads now, as far as can be told; None when nobody knows."""
        ...


@runtime_checkable
class Clocked(Protocol):
    """One whose nodes can be asked for their clocks; others' are read from outside."""

    async def read_wall_clock_ns(self, place: NodePlace) -> int | None:
        """The node's own wall clock by asking the node; None when it can't be asked."""
        ...


@runtime_checkable
class Administered(Protocol):
    """One whose nodes take an operator's requests; others can't change members."""

    async def admin(
        self, place: NodePlace, body: Mapping[str, Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """What the node answers; empty when it refuses, or doesn't answer in time."""
        ...


@runtime_checkable
class Simulated(Protocol):
    """One whose nodes are sans-IO cores, so that the simulator can run them too.

    Attributes:
        fsync: Whether nodes wait for their disks.
        dial: How clients reach a node; the simulator puts its own way here.
        read_log: Gives a node's records once it has ended; likewise.
    """

    fsync: bool
    dial: Dial
    read_log: Callable[[NodePlace], Sequence[Record]]

    def build(self, node: str, peers: Sequence[str]) -> Actor:
        """A core for the server called `node`, not started yet."""
        ...


@runtime_checkable
class Mutable(Protocol):
    """One of which there are broken variants, to measure what the harness finds."""

    def mutate(self, name: str) -> None:
        """Run the mutant of that name in its place.

        Raises:
            UsageError: It has no such mutant.
        """
        ...


@runtime_checkable
class Inspected(Protocol):
    """One that can tell what a node left on its disk, for checkers of invariants."""

    def on_disk(self, place: NodePlace) -> Sequence[Observe]:
        """What a node that has ended left there, as observations."""
        ...


@runtime_checkable
class Counted(Protocol):
    """One that counts what its nodes sent that nobody had asked for."""

    counters: WireCounters


@runtime_checkable
class Momentous(Protocol):
    """One whose nodes observe events at which a fault may hurt most.

    Attributes:
        moments: The kinds of these events; plans draw from them.
    """

    moments: tuple[str, ...]


@runtime_checkable
class Sized(Protocol):
    """One that can't be had in every number of nodes, or not with every option."""

    def check_nodes(self, nodes: Sequence[str]) -> None:
        """Refuse now what these nodes would refuse when they start.

        Raises:
            UsageError: It makes no sense with these nodes.
        """
        ...


@runtime_checkable
class Installed(Protocol):
    """One that needs a program or library; suites skip it where that is absent."""

    def check_installed(self) -> None:
        """Raises NotInstalledError, which says how to get it, where it is absent."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """One whose cluster needs something done once: a schema, or `cluster create`."""

    async def prepare(self, places: Sequence[NodePlace]) -> None:
        """Do it; called once, when all nodes are ready and no client has begun.

        It may take PREPARE_LIMIT_S.

        Raises:
            NodeReply, Timeout: The nodes refuse, or don't answer: there was nothing to
                test, and the run is unknown.
            Exception: Anything else is a failure of the harness' side.
        """
        ...


PREPARE_LIMIT_S: Final = 60.0


@runtime_checkable
class Cast(Protocol):
    """One whose nodes play several roles, such as routers and stores.

    `launch` starts each as its role needs; the run's notes and run.json name the roles.
    """

    def role(self, place: NodePlace) -> str:
        """The role of the node at `place`, in a word; the same in the whole run."""
        ...
