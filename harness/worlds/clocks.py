"""The clocks of node processes, wall and monotonic, and how they are set wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.worlds.capabilities import ClockName


@dataclass(frozen=True)
class ClockLine:
    """How one clock runs from the moment of setting on; the default is a true clock.

    Attributes:
        offset_ns: The clock jumps to the true time plus this. With None it goes on from
            the time it shows, and never runs backwards.
        rate: Seconds a second.
        returns: The line ends where the clock meets the true time, which it shows from
            then on. It runs at the rate or its inverse, whichever leads there; the
            rate is not 1.
    """

    offset_ns: int | None = 0
    rate: float = 1.0
    returns: bool = False

    def rate_from(self, offset_ns: int) -> float:
        """The rate on this line of a clock that begins `offset_ns` ahead."""
        if not self.returns:
            return self.rate
        return (min if offset_ns > 0 else max)(self.rate, 1 / self.rate)


@dataclass(frozen=True)
class ClockSetting:
    """A change of a node's clocks; a clock with None is not changed."""

    wall: ClockLine | None = None
    mono: ClockLine | None = None


TRUE_CLOCKS = ClockSetting(ClockLine(), ClockLine())
"""Both clocks jump to the true time."""


@dataclass(frozen=True)
class ClockReading:
    """A node's clocks minus the true ones; `proof` says how they were read."""

    wall_offset_ns: int
    mono_offset_ns: int
    proof: str

    def offset_ns(self, clock: ClockName) -> int:
        """The offset of one of the two clocks."""
        return self.wall_offset_ns if clock == "wall" else self.mono_offset_ns


class Clocks(Protocol):
    """Skews and reads the clocks of running nodes; every call names a node."""

    async def set_clock(self, node: str, setting: ClockSetting) -> None:
        """Change the clocks of the process that runs now, at once."""
        ...

    def begin_with(self, node: str, setting: ClockSetting | None) -> None:
        """Have each process that the node begins from now on do so with these clocks.

        They are set before the program's first instruction. None: with true clocks, as
        ever.
        """
        ...

    async def read_clock(self, node: str) -> ClockReading | None:
        """The node's clocks now; None if it isn't running."""
        ...
