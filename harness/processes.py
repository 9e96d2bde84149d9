"""Node processes and their clocks, as the cluster and the nemesis see them.

`harness.osworld.warden` implements `Processes`: one single-threaded process that is the
parent of every node, so that a controller that dies takes all of them with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.system import Launch, NodePlace


@dataclass(frozen=True)
class ClockLine:
    """How one clock runs from the moment of setting on; as it stands, true.

    Attributes:
        offset_ns: It jumps to the true time plus this; None: it goes on from where it
            stands, and never runs backwards on the way.
        rate: Seconds a second.
        returns: Only until it meets the true time, which it shows from then on. Runs at
            the rate or its inverse, whichever leads there; the rate is not 1.
    """

    offset_ns: int | None = 0
    rate: float = 1.0
    returns: bool = False

    def rate_from(self, offset_ns: int) -> float:
        """The rate of a clock that is now this far ahead of the true one."""
        if not self.returns:
            return self.rate
        return (min if offset_ns > 0 else max)(self.rate, 1 / self.rate)


@dataclass(frozen=True)
class ClockSetting:
    """What changes about a node's clocks; None: that clock goes on as it does."""

    wall: ClockLine | None = None
    mono: ClockLine | None = None


TRUE_CLOCKS = ClockSetting(ClockLine(), ClockLine())
"""Both clocks jump to the true time."""


@dataclass(frozen=True)
class ClockReading:
    """A node's clocks minus the true ones, now; `proof` says how it was read."""

    wall_offset_ns: int
    mono_offset_ns: int
    proof: str


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
    """Starts, stops and skews node processes; every call names a node."""

    can_skew_clocks: bool
    why_no_clocks: str

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

    async def set_clock(self, node: str, setting: ClockSetting) -> None:
        """Change the node's clocks at once. A restart begins with true clocks."""
        ...

    async def read_clock(self, node: str) -> ClockReading | None:
        """The node's clocks now, or None when it isn't running."""
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
