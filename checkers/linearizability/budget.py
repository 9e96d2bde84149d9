"""Limits on time and memory, as seen from inside a check."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.verdict import Limits

T = TypeVar("T")

MEGABYTE = 1 << 20

PACE: Final = 4096
"""Steps of a decider between two looks at the clock: a few milliseconds."""


class Patience(Protocol):
    """A reason to end work early: a `Budget` that is used up, or enough work done."""

    def exceeded(self) -> str:
        """Which limit is exceeded, as a clause; empty while none is."""
        ...


class LimitExceeded(Exception):  # noqa: N818 - says what happened, to `check` alone
    """A limit ended work that leaves nothing behind; the text says which."""


class Budget:
    """What is left of a check's `Limits`, counted from the moment it is made."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.started_s = time.monotonic()
        if limits.memory_mb is not None:
            import psutil  # takes long enough to be worth avoiding

            self._process = psutil.Process()
            self._rss_before = self._process.memory_info().rss

    def exceeded(self, more_bytes: int = 0) -> str:
        """Which limit is exceeded, as a clause; empty while none is. Cost: 20 us.

        Args:
            more_bytes: Memory that is about to be used.
        """
        time_s, memory_mb = self.limits.time_s, self.limits.memory_mb
        if time_s is not None and self.seconds() > time_s:
            return f"the time limit of {round(time_s, 2):g} s ran out"
        if memory_mb is not None:
            used = self._process.memory_info().rss - self._rss_before
            if used + more_bytes > memory_mb * MEGABYTE:
                return f"the memory limit of {memory_mb} MB is used up"
        return ""

    def seconds(self) -> float:
        """Seconds since the check began."""
        return time.monotonic() - self.started_s


def paced(items: Iterable[T], patience: Patience) -> Iterator[T]:
    """The items, as long as there is patience.

    Raises:
        LimitExceeded: `patience` came to its end.
    """
    for n, item in enumerate(items):
        if n % PACE == 0:
            insist(patience)
        yield item


def insist(patience: Patience) -> None:
    """Go on only if there is patience left.

    Raises:
        LimitExceeded: There is none.
    """
    if limit := patience.exceeded():
        raise LimitExceeded(limit)
