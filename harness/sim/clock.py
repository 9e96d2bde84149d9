"""A node's clocks in the simulator, true or skewed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.processes import ClockReading, ClockSetting
from reference_impls.actor import Now

if TYPE_CHECKING:
    from harness.sim.loop import VirtualTimeLoop

WALL_EPOCH_NS = 1_767_225_600_000_000_000
"""True wall time at the start of every simulation: 2026-01-01 00:00 UTC."""
MONO_EPOCH_NS = 1_000_000_000_000
"""True monotonic time then; a machine has been up for a while."""


class NodeClock:
    """Wall and monotonic clock of one process."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self.set(ClockSetting())

    def set(self, setting: ClockSetting) -> None:
        """From now on, run as `setting` says."""
        self._since_ns = self._loop.now_ns
        self._wall_ns = WALL_EPOCH_NS + self._since_ns + setting.wall_offset_ns
        self._mono_ns = MONO_EPOCH_NS + self._since_ns + setting.mono_offset_ns
        self._wall_rate = setting.wall_rate
        self._mono_rate = setting.mono_rate

    def now(self) -> Now:
        """What the node reads."""
        past_ns = self._loop.now_ns - self._since_ns
        wall_ns = past_ns if self._wall_rate == 1.0 else int(past_ns * self._wall_rate)
        mono_ns = past_ns if self._mono_rate == 1.0 else int(past_ns * self._mono_rate)
        return Now(self._wall_ns + wall_ns, self._mono_ns + mono_ns)

    def reading(self) -> ClockReading:
        """The clocks minus the true ones."""
        now, true_ns = self.now(), self._loop.now_ns
        return ClockReading(
            now.wall_ns - WALL_EPOCH_NS - true_ns,
            now.mono_ns - MONO_EPOCH_NS - true_ns,
            "read from its memory",
        )

    def when_ns(self, mono_ns: int) -> int:
        """The true time at which the monotonic clock will show that, or now."""
        left_ns = mono_ns - self.now().mono_ns
        if self._mono_rate != 1.0:
            # Not a moment too early: the timer would find that it isn't due yet.
            left_ns = int(left_ns / self._mono_rate) + 1
        return self._loop.now_ns + max(0, left_ns)
