"""Node processes, as the cluster sees them.

`os.warden` implements `Processes` with one single-threaded process that is the parent
of every node, so that the end of the controller is the end of all nodes;
`sim.processes` with simulated nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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

    async def pause(self, node: str) -> Mapping[str, str]:
        """SIGSTOP the node and its descendants; returns pid -> state read back."""
        ...

    async def resume(self, node: str) -> None:
        """SIGCONT what `pause` stopped; harmless on a node that is not paused."""
        ...

    def pid(self, node: str) -> int | None:
        """The pid of the node's process; None if none is running."""
        ...

    def on_exit(self, callback: Callable[[Exit], None]) -> None:
        """Call `callback` whenever a node process ends."""
        ...

    async def close(self) -> None:
        """Kill everything and wait until it is gone."""
        ...
