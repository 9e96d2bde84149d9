"""Limits on time and memory, as seen from inside a check."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from harness.verdict import Limits

MEGABYTE = 1 << 20


class Budget:
    """What is left of a check's `Limits`, counted from the moment it is made."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.started_s = time.monotonic()
        self._process = psutil.Process()
        self._rss_before = self._process.memory_info().rss

    def exceeded(self) -> str:
        """Which limit is exceeded, as a clause; empty while none is. Cost: 20 us."""
        time_s, memory_mb = self.limits.time_s, self.limits.memory_mb
        if time_s is not None and self.seconds() > time_s:
            return f"the time limit of {time_s:g} s ran out"
        if memory_mb is not None:
            used = self._process.memory_info().rss - self._rss_before
            if used > memory_mb * MEGABYTE:
                return f"the memory limit of {memory_mb} MB is used up"
        return ""

    def seconds(self) -> float:
        """Seconds since the check began."""
        return time.monotonic() - self.started_s
