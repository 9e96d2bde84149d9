"""Abilities: things that some systems can do, and others can't.

Each ability is a protocol, and code that needs it asks `isinstance`. A system has an
ability if its class has the protocol's members; it says so nowhere else, and no code
looks for a member by its name. If a system lacks an ability that a run needs, the run
is refused or does without, as the protocol's docstring says.
"""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    runtime_checkable,
)

from harness import registry
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.systems.software import Software
    from harness.systems.wire import Dial, WireCounters
    from harness.workload import Workload
    from harness.worlds.operator import Operator
    from harness.worlds.places import NodePlace
    from reference_impls.actor import Actor, Observe, Record
    from reference_impls.files import Files, Log


def lacks(made: object, protocol: type[Any]) -> list[str]:
    """The names of members of `protocol` that a plug-in lacks: older ones may do so."""
    members = {*vars(protocol), *protocol.__annotations__}
    named = {member for member in members if not member.startswith("_")}
    return sorted(named - set(dir(made)))


def check(made: object, protocol: type[Any], name: str) -> None:
    """Refuse a plug-in that lacks a member that every plug-in of its kind has.

    Raises:
        UsageError: Members are missing; names them.
    """
    if missing := lacks(made, protocol):
        kind = protocol.__name__.lower()
        raise UsageError(f"{name} is no {kind}: it lacks {', '.join(missing)}")


@runtime_checkable
class Led(Protocol):
    """A system whose nodes can tell who leads; for others, faults guess the leader."""

    async def leader(self, places: Sequence[NodePlace]) -> str | None:
        """The node that leads now, as far as can be told; None if no node says so."""
        ...


@runtime_checkable
class LogLed(Protocol):
    """A system whose nodes' logs show who leads, for want of a better way to tell.

    Attributes:
        leader_pattern: A regular expression that is found in a line that a node logs
            when it becomes leader; if it has a group, the group names the leader, and
            any node may log it. Empty if the logs don't show it.
    """

    leader_pattern: str


@runtime_checkable
class Clocked(Protocol):
    """A system whose nodes tell their clocks; those of others are read from outside."""

    async def read_wall_clock_ns(self, place: NodePlace) -> int | None:
        """The node's wall clock as it tells it; None if it can't be asked."""
        ...


Change: TypeAlias = Literal["add", "remove", "transfer"]
"""What an operator does with a node: let it join, have it leave, or make it lead."""


@runtime_checkable
class Administered(Protocol):
    """A system whose members an operator can change, if it speaks `membership`.

    Attributes:
        rejoins: Whether a node that was removed may come back with what is on its disk;
            else it needs an empty one.
        starts_first: Whether a node that is to join is started before it is added, so
            that the others can bring it level; else after, as it asks them who they
            are.
    """

    rejoins: bool
    starts_first: bool

    async def members(self, places: Sequence[NodePlace]) -> Sequence[str]:
        """The members by what those at `places` say; empty if nobody tells."""
        ...

    async def change(
        self, change: Change, node: NodePlace, through: NodePlace, timeout_s: float
    ) -> None:
        """Change the members, or who leads, by asking the node at `through`.

        Returns once the change is done. That includes one that was made before, if it
        is certain that it still holds.

        Raises:
            NodeReply: It was refused, or nobody knows; `code` as in WIRE.md, if it is
                one of those.
            Timeout: It is not known to be done after `timeout_s`.
        """
        ...


@runtime_checkable
class Joining(Protocol):
    """A simulated system whose nodes can join one that runs, with empty disks."""

    def build_joining(self, node: str, peers: Sequence[str], times: int) -> Actor:
        """A core for the server called `node`, which is no member until it is added.

        Args:
            node: Its name.
            peers: The other servers.
            times: How often its disk was emptied; greater than 0.
        """
        ...


@runtime_checkable
class Simulated(Protocol):
    """A system whose nodes are sans-IO cores, so that the simulator can run them too.

    Attributes:
        fsync: Whether nodes wait for their disks.
        dial: Connects a client to a node; the simulator puts its own function here.
        read_log: Gives a node's records once it has ended; the simulator puts its own
            function here.
    """

    fsync: bool
    dial: Dial
    read_log: Callable[[NodePlace], Sequence[Record]]

    def build(self, node: str, peers: Sequence[str]) -> Actor:
        """A core for the server called `node`, not started yet."""
        ...


@runtime_checkable
class Explorable(Simulated, Protocol):
    """A simulated one that says how all that its cores can do may be explored.

    Attributes:
        interchangeable: Whether its nodes differ by name only, so that renaming them
            changes nothing.
        beyond_cores: What its promises, or a mutant's breach of them, rest on beside
            its cores, in a clause, such as clocks that agree; empty for nothing.
    """

    interchangeable: bool
    beyond_cores: str


@runtime_checkable
class Logged(Protocol):
    """A simulated one whose nodes have a log of their own; others have the shipped."""

    def open_log(self, node: str, files: Files) -> Log:
        """The log of the server called `node`, in the root folder of `files`.

        Raises:
            UnusableLogError: The log is corrupt, or another's.
            OSError: The disk failed.
        """
        ...


@runtime_checkable
class Mutable(Protocol):
    """A system with broken variants, which measure what the harness finds."""

    def mutate(self, name: str) -> None:
        """Run the mutant of that name in the system's place.

        Raises:
            UsageError: The system has no such mutant.
        """
        ...


@runtime_checkable
class Inspected(Protocol):
    """A system that can tell what nodes left on their disks, to check invariants."""

    def on_disk(self, place: NodePlace) -> Sequence[Observe]:
        """What a node that has ended left on its disk, as observations."""
        ...


@runtime_checkable
class Counted(Protocol):
    """A system that counts what its nodes sent unasked."""

    counters: WireCounters


@runtime_checkable
class Momentous(Protocol):
    """A system whose nodes observe events at which a fault may hurt most.

    Attributes:
        moments: The kinds of these events; plans draw from them.
    """

    moments: tuple[str, ...]


@runtime_checkable
class Worded(Protocol):
    """A system whose messages between nodes can be told apart as they pass.

    Attributes:
        messages: Regular expressions over bytes, one for each type of message: a frame
            that carries such a message has a match in its TCP or UDP payload, and so
            has the message in the simulator.
    """

    messages: tuple[str, ...]


@runtime_checkable
class Sized(Protocol):
    """A system that can't run with every number of nodes, or not with every option."""

    def check_nodes(self, nodes: Sequence[str]) -> None:
        """Refuse options that these nodes would refuse when they start.

        Raises:
            UsageError: The system's options make no sense with these nodes.
        """
        ...


@runtime_checkable
class Scaled(Protocol):
    """A system that says how many nodes a run has that names no number.

    Attributes:
        usual_nodes: That number; runs of other systems have five.
    """

    usual_nodes: int


@runtime_checkable
class Attached(Protocol):
    """A system whose nodes somebody else runs; others are started by the run.

    Attributes:
        operator: Where they are, and what can be done to them.
    """

    operator: Operator

    def check_reachable(self) -> None:
        """Raises UsageError if a node does not run, saying which."""
        ...


@runtime_checkable
class Installed(Protocol):
    """A system that needs a program or library; suites skip it where that is absent."""

    def check_installed(self) -> None:
        """Raises NotInstalledError if it is absent, saying how to install it."""
        ...


@runtime_checkable
class Installable(Installed, Protocol):
    """One whose program or library `splitbrain systems install` can bring.

    Attributes:
        software: Its recipes, and where they have put it (`harness.systems.software`).
    """

    software: Software


def installable() -> list[tuple[Software, str]]:
    """What can be installed for systems, each with the system's summary; by name.

    Cost: imports every module of a system.
    """
    found: dict[str, tuple[Software, str]] = {}
    for _, plugin in sorted(registry.plugins("system").items()):
        system = registry.by_default(plugin, "", {})
        if isinstance(system, Installable):
            found.setdefault(system.software.name, (system.software, plugin.summary))
    return list(found.values())


@runtime_checkable
class Prepared(Protocol):
    """A system whose cluster is prepared once: a schema, or `cluster create`."""

    async def prepare(self, places: Sequence[NodePlace]) -> None:
        """Prepare the cluster; called once, when all nodes are ready, before clients.

        It may take PREPARE_LIMIT_S.

        Raises:
            NodeReply, Timeout: The nodes refuse, or don't answer: there was nothing to
                test, and the run is unknown.
            Exception: The harness or the system's module has failed.
        """
        ...


PREPARE_LIMIT_S: Final = 60.0


class Custom(NamedTuple):
    """What a name for a workload means to a system's users.

    Attributes:
        workload: The workload.
        options: Its options, where they aren't set.
    """

    workload: str
    options: Mapping[str, str] = {}


@runtime_checkable
class Customary(Protocol):
    """A system whose users have names and defaults of their own, from elsewhere.

    Attributes:
        customs: Name -> the workload that is meant; `_` and `-` are alike.
        usual_rate: Operations a second, if a run names no rate.
        usually_also: Checkers whose verdicts are shown with each run.
    """

    customs: Mapping[str, Custom]
    usual_rate: float
    usually_also: Sequence[str]


@runtime_checkable
class Attuned(Protocol):
    """A system that has to know the workload before its nodes are started."""

    def attune(self, workload: Workload) -> None:
        """Take note of the workload of the run."""
        ...


@runtime_checkable
class Cast(Protocol):
    """A system whose nodes play several roles, such as routers and stores.

    `launch` starts each node for its role; the run's notes and run.json name the roles.
    """

    def role(self, place: NodePlace) -> str:
        """The role of the node at `place`, in a word; it never changes in a run."""
        ...
