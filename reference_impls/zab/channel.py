"""FIFO channels, which Zab asks for (Junqueira, Reed and Serafini 2011, section II).

ZooKeeper gets them from TCP: as long as a connection lasts, what one side says reaches
the other whole and in order, and when it breaks, both start over. Here messages may be
lost, delayed, duplicated and reordered, so each side numbers what it says, acknowledges
what it heard, and says again what wasn't acknowledged since the tick before last.

A session is named by two numbers, one drawn by each side and never again: the follower
opens it with its own; the leader's comes with the first answer. After a restart of
either, what remains of the old session fits neither number and is passed over. To break
a session is to forget it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reference_impls.actor import Body

UNKNOWN = 0
"""The other side's number before its first answer."""

EARLY_MAX = 4096
"""How far ahead of the next number a frame is still kept."""

RESENT_MAX = 128
"""Most frames sent again at a tick."""


class Channel:
    """One end of a session.

    Args:
        mine: This side's number; above 0.
        theirs: The other side's number, if it is known.
    """

    def __init__(self, mine: int, theirs: int = UNKNOWN) -> None:
        self.mine = mine
        self.theirs = theirs
        self.last_number = 0
        self.unacked: deque[tuple[int, Body]] = deque()
        self.unacked_at_tick = 0  # the last number that was unacked at the last tick
        self.next_number = 1
        self.early: dict[int, Body] = {}

    def frame(self, body: Body) -> Body:
        """The frame that carries `body`, which is kept until it is acknowledged."""
        self.last_number += 1
        self.unacked.append((self.last_number, body))
        return self.make_frame(self.last_number, body)

    def heartbeat(self) -> Body:
        """A frame that carries nothing but the sign of life and the acknowledgement."""
        return self.make_frame(0, None)

    def make_frame(self, number: int, body: Body | None) -> Body:
        """A frame, with what this side heard so far."""
        return {
            "type": "frame",
            "sender": self.mine,
            "receiver": self.theirs,
            "number": number,
            "ack": self.next_number - 1,
            "body": body,
        }

    def fits(self, frame: Body) -> bool:
        """True when the frame belongs to this session; learns the other's number.

        A frame that was sent before the sender knew this side's number fits if this
        side knows the sender's.
        """
        if self.theirs == UNKNOWN and frame["receiver"] == self.mine:
            self.theirs = frame["sender"]
        return frame["sender"] == self.theirs and frame["receiver"] in {
            self.mine,
            UNKNOWN,
        }

    def receive(self, frame: Body) -> list[Any]:
        """The bodies that are next in order now, each exactly once."""
        while self.unacked and self.unacked[0][0] <= frame["ack"]:
            self.unacked.popleft()
        number = frame["number"]
        if self.next_number <= number < self.next_number + EARLY_MAX:
            self.early[number] = frame["body"]
        ready = []
        while self.next_number in self.early:
            ready.append(self.early.pop(self.next_number))
            self.next_number += 1
        return ready

    def tick(self) -> list[Body]:
        """Frames to send now: a heartbeat, and what seems to be lost."""
        lost = [
            self.make_frame(number, body)
            for number, body in list(self.unacked)[:RESENT_MAX]
            if number <= self.unacked_at_tick
        ]
        self.unacked_at_tick = self.last_number
        return [*lost, self.heartbeat()]
