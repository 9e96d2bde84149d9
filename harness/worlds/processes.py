"""Node processes, as the cluster sees them.

`os.warden` implements `Processes` with one single-threaded process that is the parent
of every node, so that the end of the controller is the end of all nodes;
`sim.processes` with simulated nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.worlds.places import Launch, NodePlace


@dataclass(frozen=True)
class Exit:
    """A node process ended.

    Attributes:
        status: The exit status, or -9 if it was killed by signal 9, and so on.
        expected: Whether the harness had asked for its end.
        why: The bound that the node exceeded, if it was killed for that; such a node is
            not started again.
    """

    node: str
    pid: int
    status: int
    expected: bool
    why: str = ""


@dataclass(frozen=True)
class Ended:
    """How a node's process was ended because the harness asked for it.

    Attributes:
        pid: Its pid; 0 if it was not running, and then the rest says nothing.
        signal: The signal that ended it: "SIGTERM" or "SIGKILL".
        status: Its exit status, as in `Exit`.
        at_ns: When the first signal was sent, by the monotonic clock of the world.
        took_ms: From that signal until the node and its descendants were gone.
    """

    pid: int
    signal: str = ""
    status: int = 0
    at_ns: int = 0
    took_ms: float = 0.0


@dataclass(frozen=True)
class Starvation:
    """What a node has been kept from, in all, since the run began.

    Attributes:
        stops: How often it was stopped, and read back as stopped when it went on.
        stopped_ns: How long these stops lasted together.
        pid: The process that runs now; 0 if none does.
        cpu_ns: Processor time that it and its descendants have used; None if the world
            doesn't count that.
    """

    stops: int = 0
    stopped_ns: int = 0
    pid: int = 0
    cpu_ns: int | None = None


@dataclass(frozen=True)
class Usage:
    """What a node and all its descendants used at a moment.

    Attributes:
        mono_ns: The true monotonic time of the look.
        pid: The node's process; the processor time of another one begins anew.
        cpu_ns: Processor time since the process began.
        rss_bytes: Memory that is resident.
        files: Open file descriptors.
        data_bytes: What its data takes up on the disk.
    """

    mono_ns: int
    pid: int
    cpu_ns: int
    rss_bytes: int
    files: int
    data_bytes: int


Resource: TypeAlias = Literal["files", "memory"]
"""What can be limited: open descriptors, or the address space in MiB."""


@dataclass(frozen=True)
class Limit:
    """A limit of one process, all numbers in descriptors or in bytes.

    Attributes:
        in_use: How much the process used when the limit was set.
        before: Its limit before any was set; -1 for none.
        now: Its limit, as the system tells it afterwards; -1 for none.
    """

    in_use: int
    before: int
    now: int


@dataclass(frozen=True)
class Limits:
    """Bounds of what a node leaves on the disk.

    A node whose data exceeds `data_bytes` is killed for good; a log that exceeds
    `log_bytes` loses its middle.
    """

    data_bytes: int
    log_bytes: int


class Processes(Protocol):
    """Starts and stops node processes; every call names a node."""

    async def start(self, place: NodePlace, launch: Launch) -> int:
        """Start the node's process and return its pid; at most one runs per node.

        Raises:
            HarnessError: The process could not be started (no such command, ...).
        """
        ...

    async def kill(self, node: str) -> int:
        """SIGKILL the node and all its descendants; returns the pid, once it is gone.

        A node that is not running gives 0.
        """
        ...

    async def end(
        self, nodes: Sequence[str], patience_s: float = 0.0
    ) -> Mapping[str, Ended]:
        """End all of `nodes` at the same moment; returns once they are gone.

        With some patience, each node's process is sent SIGTERM, and whoever is left of
        it when the patience is over SIGKILL; without, all are sent SIGKILL at once.
        """
        ...

    async def pause(self, node: str) -> Mapping[str, str]:
        """SIGSTOP the node and its descendants; returns pid -> state read back."""
        ...

    async def resume(self, node: str) -> None:
        """SIGCONT what `pause` stopped; harmless on a node that is not paused."""
        ...

    async def starve(self, node: str, share: float) -> None:
        """Let the node run for `share` of the time only; 1.0 lets it run freely.

        It stands still for the rest of every tenth of a second. A process that is
        started meanwhile is starved too.
        """
        ...

    async def starvation(self, node: str) -> Starvation:
        """What the node has been kept from so far."""
        ...

    async def usage(self, node: str) -> Usage | None:
        """What the node used when it was looked at last, within about half a second.

        Returns:
            None if it isn't running, wasn't looked at yet, or nobody tells.
        """
        ...

    async def limit(
        self, node: str, resource: Resource, spare: int | None
    ) -> Mapping[str, Limit]:
        """Leave each of the node's processes so much more than it uses; pid -> limit.

        None gives it back the limit that it had. A node that isn't running gives no
        limits, and one that is started again has none of those set here.

        Raises:
            HarnessError: A limit could not be set.
        """
        ...

    async def empty(self, place: NodePlace) -> int:
        """Take away all that a node which isn't running has in its data folder.

        Returns:
            How many bytes its files had.

        Raises:
            HarnessError: The node runs.
        """
        ...

    def pid(self, node: str) -> int | None:
        """The pid of the node's process; None if none is running, 0 if nobody tells."""
        ...

    def on_exit(self, callback: Callable[[Exit], None]) -> None:
        """Call `callback` whenever a node process ends."""
        ...

    async def close(self) -> None:
        """Kill everything and wait until it is gone."""
        ...
