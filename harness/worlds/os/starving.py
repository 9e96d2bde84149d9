"""Keeps a node from running most of the time, by stops in turn with freedom.

The kernel does the same to a cgroup that has a quota (CFS bandwidth control): in every
period of 100 ms its processes run until the quota is used up, and then stand still
until the next. Stops need no cgroup, which only root may make, or whom root has
delegated one; and nothing of them outlives the keeper. Where a quota is of processor
time, a share here is of true time: an idle node stands still as well, and answers late.

SIGSTOP and SIGCONT are sent by the keeper, so a busy controller stretches no stop.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.worlds.os import processtree

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.worlds.os.processtree import Process

PERIOD_NS = 100_000_000


@dataclass
class Duty:
    """The turns of one node: it runs for its share of each period, then stands still.

    Attributes:
        share: The part of each period in which it runs; 1.0 if it is not starved.
        stops: How often all its processes were stopped and read back so.
        stopped_ns: How long these stops lasted.
    """

    share: float = 1.0
    stops: int = 0
    stopped_ns: int = 0
    _cut: list[Process] = field(default_factory=list)
    _since_ns: int = 0
    _next_ns: int = 0

    @property
    def starves(self) -> bool:
        """Whether the node runs for a part of the time only."""
        return self.share < 1.0

    def begin(self) -> None:
        """Begin a period: a process was started, or the share was changed."""
        self.go_on()
        self._next_ns = time.monotonic_ns() + int(self.share * PERIOD_NS)

    def due_in_s(self) -> float:
        """Seconds until its next turn."""
        return max(0.0, (self._next_ns - time.monotonic_ns()) / 1e9)

    def turn(self, members: Callable[[], list[Process]]) -> None:
        """Stop the node's processes, or let them go on, if it is time to."""
        now_ns = time.monotonic_ns()
        if now_ns < self._next_ns:
            return
        if self._cut:
            self.go_on()
            self._next_ns = now_ns + int(self.share * PERIOD_NS)
            return
        self._cut = [process for process in members() if process.state != "Z"]
        self._since_ns = time.monotonic_ns()
        for process in self._cut:
            processtree.send(process, signal.SIGSTOP)
        self._next_ns = now_ns + int((1 - self.share) * PERIOD_NS)

    def go_on(self) -> None:
        """Let those that were stopped go on, and count the stop if it took hold."""
        self.count()
        for process in self._cut:
            processtree.send(process, signal.SIGCONT)
        self._cut = []

    def leave(self) -> None:
        """Count the stop, and leave the node stopped: somebody pauses it."""
        self.count()
        self._cut = []

    def count(self) -> None:
        """Count the stop that lasts, if its processes read back as stopped."""
        found = [processtree.read(process.pid) for process in self._cut]
        states = {now.state for now in found if now is not None} - {"Z"}
        if states == {"T"}:
            self.stops += 1
            self.stopped_ns += time.monotonic_ns() - self._since_ns
