"""Node processes, as the cluster sees them.

`os.warden` implements `Processes`: one single-threaded process that is the
parent of every node, so that a controller that dies takes all of them with it.
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
        status: As from waitpid: -9 means killed by SIGKILL.
        expected: Somebody asked for it.
        why: The bound that it exceeded, if it was killed for that; it is to stay down.
    """

    node: str
    pid: int
    status: int
    expected: bool
    why: str = ""


@dataclass(frozen=True)
class Limits:
    """What a node may leave on the disk; past `data_bytes` it is killed for good."""

    data_bytes: int
    log_bytes: int


class Processes(Protocol):
    """Starts and stops node processes; every call names a node."""

    async def start(self, place: NodePlace, launch: Launch) -> int:
        """Start the node's process and return its pid; at most one runs per node.

        Raises:
            HarnessError: It could not be started (no such command, ...).
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
        """The pid of the node's running process, or None."""
        ...

    def on_exit(self, callback: Callable[[Exit], None]) -> None:
        """Call `callback` whenever a node process ends."""
        ...

    async def close(self) -> None:
        """Kill everything and wait until it is gone."""
        ...
