"""A disk that knows what was made durable, and forgets the rest at a crash.

A crash is the loss of power: records that were not synced may have reached the disk,
from the first on and never with a gap; where that ends, the last one is torn, which a
checksummed log takes for its end. Which ones made it, the seed decides.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from random import Random

    from reference_impls.actor import Persist

WRITE_BACK_NS = 5_000_000_000
"""What nobody syncs, the operating system writes out after so long."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Disk:
    """One node's log.

    Attributes:
        unsynced: True while records wait for `sync`.
        lost: Records that crashes took.
    """

    def __init__(self, rng: Random) -> None:
        self.unsynced = False
        self.lost = 0
        self._rng = rng
        self._durable: list[bytes] = []
        self._written: deque[tuple[int, bytes, bool]] = deque()

    def append(self, effect: Persist, now_ns: int) -> None:
        """Write a record, not durable yet. Encoded: a disk shares no memory."""
        self._written.append((now_ns, _encode(effect.record), effect.replaces))
        self.unsynced = True

    def sync(self) -> None:
        """Everything that was written is durable."""
        self._settle(len(self._written))

    def write_back(self, now_ns: int) -> None:
        """What was written long ago is durable, though nobody asked."""
        while self._written and self._written[0][0] <= now_ns - WRITE_BACK_NS:
            self._settle(1)

    def crash(self, now_ns: int) -> None:
        """Lose what had not reached the disk."""
        self.write_back(now_ns)
        kept = self._rng.randint(0, len(self._written))
        self._settle(kept)
        self.lost += len(self._written)
        self._written.clear()
        self.unsynced = False

    def records(self) -> list[dict[str, Any]]:
        """What a restart finds."""
        return [_decode(line) for line in self._durable]

    def _settle(self, count: int) -> None:
        """The first records that wait are durable now."""
        for _ in range(count):
            _, line, replaces = self._written.popleft()
            if replaces:
                self._durable.clear()
            self._durable.append(line)
        self.unsynced = bool(self._written)
