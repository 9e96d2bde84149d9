"""A node's clocks in the simulator, true or skewed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.worlds.clocks import ClockReading
from reference_impls.actor import Now

if TYPE_CHECKING:
    from harness.worlds.clocks import ClockLine, ClockSetting
    from harness.worlds.sim.loop import VirtualTimeLoop

WALL_EPOCH_NS = 1_767_225_600_000_000_000
"""True wall time at the start of every simulation: 2026-01-01 00:00 UTC."""
MONO_EPOCH_NS = 1_000_000_000_000
"""True monotonic time at the start of every simulation: the machine has been up."""


class NodeClock:
    """Wall and monotonic clock of one process."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._wall = _Course(loop.now_ns, 0, 1.0, returns=False)
        self._mono = self._wall
        self._read_ns = -1  # when it was read last, and what it showed
        self._read = Now(0, 0)
        self._note_offsets()

    def _note_offsets(self) -> None:
        """Keep the offsets of clocks that run at the true rate: most are read so."""
        self._read_ns = -1
        self._is_steady = self._wall.rate == self._mono.rate == 1.0
        self._wall_ahead_ns = WALL_EPOCH_NS + self._wall.ahead_ns
        self._mono_ahead_ns = MONO_EPOCH_NS + self._mono.ahead_ns

    def set(self, setting: ClockSetting) -> None:
        """Run as `setting` says from now on."""
        now_ns = self._loop.now_ns
        if setting.wall is not None:
            self._wall = self._wall.then(setting.wall, now_ns)
        if setting.mono is not None:
            self._mono = self._mono.then(setting.mono, now_ns)
        self._note_offsets()

    def now(self) -> Now:
        """The times that the node reads."""
        now_ns = self._loop.now_ns
        if now_ns != self._read_ns:
            self._read_ns = now_ns
            if self._is_steady:
                self._read = Now(
                    now_ns + self._wall_ahead_ns, now_ns + self._mono_ahead_ns
                )
            else:
                self._read = Now(
                    WALL_EPOCH_NS + now_ns + self._wall.offset_ns(now_ns),
                    MONO_EPOCH_NS + now_ns + self._mono.offset_ns(now_ns),
                )
        return self._read

    def reading(self) -> ClockReading:
        """The clocks minus the true ones."""
        now_ns = self._loop.now_ns
        return ClockReading(
            self._wall.offset_ns(now_ns),
            self._mono.offset_ns(now_ns),
            "read from its memory",
        )

    def when_ns(self, mono_ns: int) -> int:
        """The true time at which the monotonic clock shows `mono_ns`, at least now."""
        if self._is_steady:
            true_ns = mono_ns - self._mono_ahead_ns
        else:
            true_ns = self._mono.when_ns(mono_ns - MONO_EPOCH_NS)
        return max(self._loop.now_ns, true_ns)


class _Course(NamedTuple):
    """How one clock runs since a moment of true time: a `ClockLine` put in force."""

    since_ns: int
    ahead_ns: int
    """Its offset at `since_ns`; negative if it is behind."""
    rate: float
    returns: bool

    def offset_ns(self, now_ns: int) -> int:
        """The clock minus the true one, at true time `now_ns`."""
        if self.rate == 1.0:
            return self.ahead_ns
        past_ns = now_ns - self.since_ns
        offset_ns = self.ahead_ns + int(past_ns * self.rate) - past_ns
        if self.returns:
            return max(offset_ns, 0) if self.ahead_ns > 0 else min(offset_ns, 0)
        return offset_ns

    def when_ns(self, shown_ns: int) -> int:
        """The true time at which the clock shows `shown_ns`, or a moment later.

        It is never a moment earlier: the timer would find that it isn't due yet.
        """
        left_ns = shown_ns - self.since_ns - self.ahead_ns
        if self.rate == 1.0:
            return self.since_ns + left_ns
        due_ns = self.since_ns + int(left_ns / self.rate) + 1
        if self.returns:
            return (min if self.ahead_ns > 0 else max)(due_ns, shown_ns)
        return due_ns

    def then(self, change: ClockLine, now_ns: int) -> _Course:
        """The clock's course after a change made at true time `now_ns`."""
        offset_ns = change.offset_ns
        if offset_ns is None:
            offset_ns = self.offset_ns(now_ns)
        rate = change.rate_from(offset_ns)
        return _Course(now_ns, offset_ns, rate, change.returns)
