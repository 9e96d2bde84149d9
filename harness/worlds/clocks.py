"""The clocks of node processes, wall and monotonic, and what may be wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.worlds.capabilities import ClockName


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

    def offset_ns(self, clock: ClockName) -> int:
        """That of one of the two."""
        return self.wall_offset_ns if clock == "wall" else self.mono_offset_ns


class Clocks(Protocol):
    """Skews and reads the clocks of running nodes; every call names a node."""

    async def set_clock(self, node: str, setting: ClockSetting) -> None:
        """Change the node's clocks at once. A restart begins with true clocks."""
        ...

    async def read_clock(self, node: str) -> ClockReading | None:
        """The node's clocks now, or None when it isn't running."""
        ...
