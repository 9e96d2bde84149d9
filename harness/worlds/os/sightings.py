"""Counts of messages that pass, shared by the process that carries them and ours.

A trigger asks every two milliseconds, and what it waits for may be over in a few. So
the counts are in memory that both processes see: asking costs no order, and the carrier
isn't kept from its work. Each count is one word that only the carrier writes.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from harness.worlds.network import count_in
from harness.worlds.os.segments import payload_of, segment_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.worlds.events import Passed, Where
    from harness.worlds.network import Link

_WORD_BYTES = 8
_CONNECTIONS_MAX = 4096
"""Connections that a link remembers, to know what is sent again; the oldest are
forgotten first."""


class Sightings:
    """Counts of each of some messages on each link. Make it before forking.

    Args:
        messages: The messages to count.
        links: All links.
    """

    def __init__(self, messages: Sequence[Passed], links: Sequence[Link]) -> None:
        places = [(message, link) for message in messages for link in links]
        self._places = {
            place: number
            for number, place in enumerate(places)
            if place[0].is_on(place[1])
        }
        shared = mmap.mmap(-1, max(1, len(places)) * _WORD_BYTES)
        self._words = memoryview(shared).cast("Q")

    def passed(self, message: Passed) -> Mapping[Where, int]:
        """Link -> how often the message was sent over it."""
        return {
            link: self._words[place]
            for (each, link), place in self._places.items()
            if each == message
        }

    def on(self, link: Link) -> LinkSightings | None:
        """The carrier's side, for one link; None if nothing is counted there."""
        counted = [
            (message.pattern, place)
            for (message, each), place in self._places.items()
            if each == link
        ]
        return LinkSightings(counted, self._words) if counted else None


class LinkSightings:
    """Counts the messages that are sent over one link; in the carrier's process."""

    def __init__(
        self, counted: Sequence[tuple[str, int]], words: memoryview[int]
    ) -> None:
        self._counted = counted
        self._words = words
        self._sent_to: dict[bytes, int] = {}  # connection -> number after its last byte

    def see_frame(self, frame: bytes) -> None:
        """Count the messages in a frame, if it isn't one that TCP sends again."""
        data = payload_of(frame)
        if data and not self._is_sent_again(frame):
            self.see(data)

    def see(self, data: bytes) -> None:
        """Count the messages in some bytes."""
        for pattern, place in self._counted:
            self._words[place] += count_in(data, pattern)

    def _is_sent_again(self, frame: bytes) -> bool:
        segment = segment_in(frame)
        if segment is None:
            return False
        end = (segment.number + len(segment.data)) & 0xFFFF_FFFF
        before = self._sent_to.get(segment.connection)
        # Numbers go round: the half of them behind a number are older.
        if before is not None and not 0 < (end - before) & 0xFFFF_FFFF < 1 << 31:
            return True
        self._sent_to[segment.connection] = end
        if len(self._sent_to) > _CONNECTIONS_MAX:
            del self._sent_to[next(iter(self._sent_to))]
        return False
