"""One directed link as the switch sees it: decides the fate of each frame.

It is pure: time is an argument and randomness comes from the seed, so that every rule
can be tested without a network. Each lane has dice of its own, so what happens on one
link does not depend on the traffic of another. The same frames in the same order under
the same rules have the same fate.

A frame that is not cut goes through, in this order: MTU, rules of messages, resets,
loss, bandwidth (a queue that drops at its tail), delay and jitter, corruption,
duplication, reordering.

Choices:
- Jitter never reorders: a frame is never due before one that came earlier. Reordering
  is a fault of its own, and a test of one should not be a test of the other.
- A reordered frame is held for some milliseconds while later ones pass. It counts as
  `reordered` only when one did: otherwise it was merely late.
- Corruption flips one bit behind the Ethernet header. Checksums of IP, TCP and UDP see
  every single flipped bit, so the receiver's kernel drops the frame: what the node
  notices is a loss, and `nstat` in its namespace shows InCsumErrors.
- At the heal, the last data and the last acknowledgement of each TCP connection that
  the cut took are sent again. The connection's ends would do so too, but as they back
  off, only after up to another length of the cut (two minutes at most; kernels from
  6.15 on can be told less), and until then nothing would be healed. To a node it is a
  retransmission that came at the right moment. TCP sends resets once, so they stay
  lost, like datagrams.
- A frame too long for the link vanishes without the ICMP message that would tell its
  sender (RFC 2923, a black hole). Its connection stalls as one that is cut does, so the
  heal sends it again, too.
- A connection is reset in place of a segment with data, so it was made and in use.
  Where only the sender's end is reset, what the receiver had still to acknowledge would
  have the sender's kernel answer by a reset of its own, and both ends would be closed
  after all. So its answers are swallowed while the rule is in force, as if the sender
  had lost its memory and could not be reached.
- A message that is late is held back while others pass. TCP hands over what follows on
  the connection after it.
- When a narrow link gets wider or narrower, the frames that wait in its queue leave at
  the new rate.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from harness.worlds.network import Link, LinkCounters, LinkRule, count_in
from harness.worlds.os.segments import (
    ACK,
    ETHERNET_HEADER,
    RST,
    SYN,
    payload_of,
    reset_for_receiver,
    reset_for_sender,
    segment_in,
    stream_of,
)

if TYPE_CHECKING:
    from harness.worlds.os.segments import Segment
    from harness.worlds.os.sightings import LinkSightings

_HEALTHY = LinkRule()
_HOLD_MS = (1.0, 10.0)
"""Range of how long a frame is held back to be overtaken."""
_QUEUE_S = 0.5
"""A narrow link queues at most this much traffic, like a router with a fair buffer."""
_QUEUE_FRAMES = 16
"""A narrow link queues at least this many full frames: else it would pass nothing."""
_FULL_FRAME_BITS = 1514 * 8
_STALLED_MAX = 256
"""Frames that a link keeps for the heal; two nodes seldom have ten connections."""
_STALLED_S_MAX = 120.0
"""TCP's longest wait for a retransmission; the sender has given up older frames."""
_RESET_MAX = 4096
"""Connections that a link remembers to have reset; the oldest are forgotten first."""


class Copy(NamedTuple):
    """A frame on its way: when to send it, and its place in the link's traffic."""

    due_s: float
    number: int
    frame: bytes


class Lane:
    """A directed link. Attributes that the switch's inner loop uses are public.

    Args:
        link: The link.
        seed: The run's seed; the link's own dice are made from it and the link.
        watched: Whether every frame must pass `admit`, even on a healthy link.
        sightings: Counts messages that pass; None if none are to be counted.

    Attributes:
        healthy: Whether no rule applies.
        express: Whether frames pass at once and are only counted, without `admit`.
        forwarded: Frames sent on; the switch counts them.
        lost: Frames lost. The switch adds those that the kernel would not take.
        twin: The link in the other direction; None if nobody set it.
        answers: Frames made by `admit` for the node at the link's beginning; whoever
            calls it takes them away.
    """

    # Slots, as an object with more than 30 attributes is slow without them.
    __slots__ = (
        "_arrivals",
        "_changed_s",
        "_dice",
        "_gone",
        "_inspects",
        "_last_due_s",
        "_newest_sent",
        "_picks",
        "_resets",
        "_severed",
        "_shrink",
        "_sightings",
        "_stalled",
        "_watched",
        "_wire_free_s",
        "answers",
        "connects",
        "corrupted",
        "cut",
        "delayed",
        "duplicated",
        "express",
        "forwarded",
        "healthy",
        "link",
        "lost",
        "matched",
        "oversized",
        "reordered",
        "resets",
        "rule",
        "twin",
    )

    def __init__(
        self,
        link: Link,
        seed: int,
        *,
        watched: bool = False,
        sightings: LinkSightings | None = None,
    ) -> None:
        self.link = link
        self.rule = _HEALTHY
        self.healthy = True
        self._sightings = sightings
        self._watched = watched or sightings is not None
        self.express = not self._watched
        self.forwarded = 0
        self.cut = 0
        self.lost = 0
        self.delayed = 0
        self.duplicated = 0
        self.reordered = 0
        self.corrupted = 0
        self.oversized = 0
        self.resets = 0
        self.connects = 0
        self.matched = 0
        self.twin: Lane | None = None
        self.answers: list[bytes] = []
        self._severed = False  # behind a message, in both directions
        self._inspects = sightings is not None
        self._picks = False  # whether frames are treated by what is in them
        self._resets = False  # whether connections are reset
        self._shrink = 1.0
        self._changed_s = 0.0
        self._dice = random.Random(f"{seed} {link[0]} -> {link[1]}")
        self._arrivals = 0
        self._newest_sent = 0
        self._last_due_s = 0.0
        self._wire_free_s = 0.0
        # Stream (`stream_of`) -> when its last frame was cut, and the frame; oldest
        # first.
        self._stalled: dict[bytes, tuple[float, bytes]] = {}
        # Connections that were reset, oldest first -> whether at the sender's end only.
        self._gone: dict[bytes, bool] = {}

    def set_rule(self, rule: LinkRule, now_s: float) -> None:
        """Put a rule in force for all frames that come from now on."""
        self._shrink, self._changed_s = 1.0, now_s
        if rule == self.rule:
            return
        before, self.rule = self.rule, rule
        self.healthy = rule == _HEALTHY
        self._resets = bool(
            rule.reset or rule.half_open or any(one.reset for one in rule.messages)
        )
        self._picks = bool(self._resets or rule.messages or rule.mtu_bytes is not None)
        if not self._resets:
            self._gone.clear()
        if not (self.cuts_behind or (self.twin is not None and self.twin.cuts_behind)):
            self._sever_both(severed=False)
        self.sever(severed=self._severed)
        then, now = before.bandwidth_kbit_s, rule.bandwidth_kbit_s
        if then and now and replace(before, bandwidth_kbit_s=now) == rule:
            self._shrink = then / now
            self._last_due_s = self.still_due_s(self._last_due_s)
            self._wire_free_s = self.still_due_s(self._wire_free_s)
        else:
            self._last_due_s = 0.0
            self._wire_free_s = 0.0

    @property
    def cuts_behind(self) -> bool:
        """Whether a rule of this direction may cut the link behind a message."""
        return any(one.cut for one in self.rule.messages)

    def sever(self, *, severed: bool) -> None:
        """Cut the link behind the last message that passes, or mend it."""
        self._severed = severed
        self._inspects = self._picks or severed or self._sightings is not None
        self.express = self.healthy and not self._watched and not severed

    def still_due_s(self, due_s: float) -> float:
        """When a frame is due, after the last `set_rule`, that was due at `due_s`."""
        return self._changed_s + (due_s - self._changed_s) * self._shrink

    def admit(self, frame: bytes, now_s: float) -> list[Copy]:
        """The copies that a frame arriving now is sent on as: none, one or two."""
        rule, chance = self.rule, self._dice.random
        late_s = 0.0
        if self._inspects:
            inspected = self._inspect(frame, now_s)
            if inspected is None:
                return []
            frame, late_s = inspected
        elif rule.cut:
            self._cut_off(frame, now_s)
            return []
        if rule.loss and chance() < rule.loss:
            self.lost += 1
            return []
        on_wire_s = self._through_bottleneck(len(frame), now_s)
        if on_wire_s is None:
            self.lost += 1
            return []
        due_s = self._after_delay(on_wire_s)
        self.delayed += due_s > now_s
        if rule.corrupt and chance() < rule.corrupt:
            self.corrupted += 1
            frame = self._with_flipped_bit(frame)
        self._arrivals += 1
        copies = [Copy(due_s + late_s, self._arrivals, frame)]
        if rule.duplicate and chance() < rule.duplicate:
            self.duplicated += 1
            copies *= 2
        if rule.reorder and chance() < rule.reorder:
            held_s = due_s + self._dice.uniform(*_HOLD_MS) / 1e3
            copies[0] = copies[0]._replace(due_s=held_s)
        return copies

    def fate(self, frame: bytes, now_s: float, copies: list[Copy]) -> str:
        """What `admit` did to a frame, in words; empty if nothing happened to it."""
        words = []
        if self.answers or (copies and len(copies[0].frame) < len(frame)):
            words.append("reset")
        elif not copies:
            is_cut = self.rule.cut or self._severed
            words.append("cut" if is_cut else "lost")
        elif (late_s := copies[0].due_s - now_s) > 0:
            words.append(f"{late_s * 1e3:.1f} ms late")
        if any(len(x.frame) == len(frame) and x.frame != frame for x in copies):
            words.append("corrupted")
        if len(copies) > 1:
            words.append("duplicated")
        return f"{self.link[0]} -> {self.link[1]}: {', '.join(words)}" if words else ""

    def may_leave(self, copy: Copy) -> bool:
        """Account for a copy that is due; False if it was cut on its way."""
        if self.rule.cut:
            self.cut += 1
            return False
        if copy.number < self._newest_sent:
            self.reordered += 1
        else:
            self._newest_sent = copy.number
        return True

    def to_send_again(self, now_s: float) -> list[bytes]:
        """At a heal, the last frames of each connection that the cut stalled.

        Frames that are still too long for the link wait for the next one.
        """
        if self.rule.cut or self._severed:
            return []
        stalled, self._stalled = self._stalled, {}
        again = []
        for stream, (cut_s, frame) in stalled.items():
            if self._is_oversized(frame):
                self._stalled[stream] = cut_s, frame
            elif now_s - cut_s <= _STALLED_S_MAX:
                again.append(frame)
        return again

    def counters(self) -> LinkCounters:
        """Counts of what this link did since the run began."""
        return LinkCounters(
            forwarded=self.forwarded,
            cut=self.cut,
            lost=self.lost,
            delayed=self.delayed,
            duplicated=self.duplicated,
            reordered=self.reordered,
            corrupted=self.corrupted,
            oversized=self.oversized,
            resets=self.resets,
            connects=self.connects,
            matched=self.matched,
        )

    def _cut_off(self, frame: bytes, now_s: float) -> None:
        self.cut += 1
        self._remember(frame, now_s)

    def _inspect(self, frame: bytes, now_s: float) -> tuple[bytes, float] | None:
        """Look into a frame, if anybody wants that; the results are those of `_pick`.

        Most rules don't, and their frames are spared the calls.
        """
        if self._sightings is not None:
            self._sightings.see_frame(frame)
        if self.rule.cut or self._severed:
            self._cut_off(frame, now_s)
            return None
        return self._pick(frame, now_s) if self._picks else (frame, 0.0)

    def _pick(self, frame: bytes, now_s: float) -> tuple[bytes, float] | None:
        """Treat a frame by its length and by what is in it.

        Returns:
            The frame to send on, maybe another one, and how much later (seconds); None
            if nothing is sent on.
        """
        if self._is_oversized(frame):
            self.oversized += 1
            self._remember(frame, now_s)
            return None
        late_s, chance = 0.0, self._dice.random
        for message in self.rule.messages:
            if not count_in(payload_of(frame), message.pattern):
                continue
            if message.loss and chance() < message.loss:
                self.matched += 1
                self.lost += 1
                return None
            if message.reset and chance() < message.reset:
                segment = segment_in(frame)
                if segment is not None:
                    self.matched += 1
                    return self._reset(segment), 0.0
            self.matched += message.delay_ms > 0
            late_s += message.delay_ms / 1e3
            if message.cut and chance() < message.cut:
                self.matched += 1
                self._sever_both(severed=True)
        segment = segment_in(frame) if self._resets else None
        if segment is None:
            return frame, late_s
        if segment.flags & SYN and not segment.flags & ACK:
            self.connects += 1
        elif segment.data:
            if chance() < self.rule.reset:
                return self._reset(segment), late_s
            if chance() < self.rule.half_open:
                self._close(segment, half=True)
                return None
        elif segment.flags & RST and self._gone.get(segment.connection):
            return None
        return frame, late_s

    def _sever_both(self, *, severed: bool) -> None:
        self.sever(severed=severed)
        if self.twin is not None:
            self.twin.sever(severed=severed)

    def _reset(self, segment: Segment) -> bytes:
        """Reset a connection at its sender's end; the reset for the other end."""
        self._close(segment, half=False)
        return reset_for_receiver(segment)

    def _close(self, segment: Segment, *, half: bool) -> None:
        """Reset a connection at the end of the sender of `segment`."""
        self.answers.append(reset_for_sender(segment))
        if segment.connection not in self._gone:
            self.resets += 1
            self._gone[segment.connection] = half
            if len(self._gone) > _RESET_MAX:
                del self._gone[next(iter(self._gone))]

    def _is_oversized(self, frame: bytes) -> bool:
        mtu_bytes = self.rule.mtu_bytes
        return mtu_bytes is not None and len(frame) - ETHERNET_HEADER > mtu_bytes

    def _remember(self, frame: bytes, now_s: float) -> None:
        stream = stream_of(frame)
        if stream is None:
            return
        self._stalled.pop(stream, None)
        if len(self._stalled) >= _STALLED_MAX:
            del self._stalled[next(iter(self._stalled))]
        self._stalled[stream] = (now_s, frame)

    def _through_bottleneck(self, size_bytes: int, now_s: float) -> float | None:
        """When the frame has left the narrow wire; None if its queue is full."""
        if self.rule.bandwidth_kbit_s is None:
            return now_s
        bits_a_second = self.rule.bandwidth_kbit_s * 1e3
        queue_s = max(_QUEUE_S, _QUEUE_FRAMES * _FULL_FRAME_BITS / bits_a_second)
        start_s = max(now_s, self._wire_free_s)
        if start_s - now_s > queue_s:
            return None
        self._wire_free_s = start_s + size_bytes * 8 / bits_a_second
        return self._wire_free_s

    def _after_delay(self, start_s: float) -> float:
        delay_ms = self.rule.delay_ms
        if self.rule.jitter_ms:
            delay_ms += self._dice.uniform(-self.rule.jitter_ms, self.rule.jitter_ms)
        due_s = max(start_s + max(0.0, delay_ms) / 1e3, self._last_due_s)
        self._last_due_s = due_s
        return due_s

    def _with_flipped_bit(self, frame: bytes) -> bytes:
        if len(frame) <= ETHERNET_HEADER:
            return frame
        flipped = bytearray(frame)
        place = self._dice.randrange(ETHERNET_HEADER, len(frame))
        flipped[place] ^= 1 << self._dice.randrange(8)
        return bytes(flipped)
