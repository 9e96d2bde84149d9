"""Simulated links between nodes: a rung of its own, with the faults of the switch's.

Links carry whole messages, not frames. Otherwise rules mean what they mean in
`harness.worlds.os.lane`, in the same order: cut, MTU, rules of messages, resets, loss,
bandwidth, delay and jitter, corruption, duplication, reordering. A corrupted message is
dropped, as checksums would detect it. A message is cut if its link is cut when it is
sent or while it is on its way.

A link stands for the one connection on which the runtime of real nodes sends to a peer.
A reset takes the message that meets it and all that are on their way; so are those that
are sent before the runtime has connected again. Nothing comes back on that connection,
so a half-open one can't be told from one that was reset, and is not offered.

Choices: a healthy link keeps the order of its messages. After a heal, messages that a
rule has delayed are overtaken, as on a network that takes a new route. Messages that a
cut link held back (`Conditions.cut_holds`) arrive after the heal, late and all at once,
as out of a TCP connection that had stalled. Cores have to cope with messages that are
old, duplicated or out of order; only a simulator can make these common. A message that
is too long for a link fares like one that is cut, as its connection stalls.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.override import override
from harness.worlds.capabilities import LINK_FIELDS
from harness.worlds.network import LinkCounters, LinkRule, Network, count_in
from harness.worlds.places import Endpoint, make_place
from harness.worlds.sim.conditions import lasting_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.worlds.capabilities import LinkField
    from harness.worlds.events import Passed, Where
    from harness.worlds.network import Link
    from harness.worlds.places import NodePlace
    from harness.worlds.sim.conditions import Conditions
    from harness.worlds.sim.loop import VirtualTimeLoop

HEALTHY = LinkRule()
OVERHEAD_BYTES = 100
"""Bytes added to a body: headers, and the message around it."""
QUEUE_NS = 500_000_000
"""How much traffic a narrow link queues; messages beyond that are lost."""
HOLD_MS = (1.0, 30.0)
"""Range of how long a reordered message is held back, to be overtaken."""
HELD_MAX = 256
"""Messages that a cut link holds back at most; the oldest are lost first."""
RECONNECT_NS = 50_000_000
"""How long nodes wait before they connect anew (`reference_impls.transport`)."""
HOST, PORT = "198.18.0.", 7000


class SimLink:
    """One directed link. Its dice are its own: other links' traffic changes nothing."""

    def __init__(
        self, link: Link, seed: int, conditions: Conditions, loop: VirtualTimeLoop
    ) -> None:
        self.rule = HEALTHY
        self.deliver: Callable[[str, bytes], None] = lambda *_: None
        self.twin: SimLink | None = None
        """The link in the other direction."""
        self.severed = False
        """The link is cut behind a message, in both directions."""
        self.told: Callable[[int, bytes, str], None] | None = None
        """Told of a message that arrived, or was lost: when it was sent, the message,
        and what took it, or nothing."""
        self.passed: dict[Passed, int] = {}
        """Message that is followed here -> how often it was sent."""
        self._src = link[0]
        self._loop = loop
        self._latency_ms = conditions.latency_ms
        self._cut_holds = conditions.cut_holds
        self._rng = random.Random(f"{seed} {link[0]} -> {link[1]}")
        self._last_due_ns = 0
        self._wire_free_ns = 0
        self._sent = 0
        self._newest = 0
        self._held: list[tuple[bytes, int]] = []
        self._forwarded = 0
        self._cut = 0
        self._lost = 0
        self._delayed = 0
        self._duplicated = 0
        self._reordered = 0
        self._corrupted = 0
        self._oversized = 0
        self._resets = 0
        self._connects = 0
        self._matched = 0
        self._reset_at = 0  # messages sent before, by number, went with a connection
        self._connected_ns: int | None = None  # when the one after a reset is made

    def send(self, data: bytes) -> None:
        """Take a message from the node at the link's beginning."""
        if self.passed:
            for message in self.passed:
                self.passed[message] += count_in(data, message.pattern)
        self._forward(data, self._loop.now_ns)

    def _forward(self, data: bytes, since_ns: int) -> None:
        now_ns = self._loop.now_ns
        latency_ns = lasting_ns(self._rng, self._latency_ms)
        if self.rule is not HEALTHY or self.severed:
            self._send_faulty(data, now_ns, latency_ns, since_ns)
            return
        due_ns = now_ns + latency_ns
        if due_ns < self._last_due_ns:
            due_ns = self._last_due_ns
        self._last_due_ns = due_ns
        self._post(due_ns, data, since_ns)

    def throw_anew(self, seed: str) -> None:
        """Let chance take another course from now on."""
        self._rng.seed(seed)

    def set_rule(self, rule: LinkRule) -> None:
        """Put a rule in force; of messages already on their way it only cuts some."""
        before = self.rule
        if rule is before or rule == before:
            return
        self.rule = HEALTHY if rule == HEALTHY else rule
        bandwidth = rule.bandwidth_kbit_s
        if bandwidth == before.bandwidth_kbit_s or (
            replace(before, bandwidth_kbit_s=bandwidth) != rule
        ):  # more than the bandwidth changes
            self._last_due_ns = 0
        self._wire_free_ns = 0
        if self.rule is HEALTHY:
            self._connected_ns = None
        if not (self.cuts_behind or (self.twin is not None and self.twin.cuts_behind)):
            self._sever_both(severed=False)
        self.release()

    @property
    def cuts_behind(self) -> bool:
        """Whether a rule of this direction may cut the link behind a message."""
        return any(one.cut for one in self.rule.messages)

    def release(self) -> None:
        """Send on the messages that were held back, if nothing holds them any more."""
        if not (self.rule.cut or self.severed):
            held, self._held = self._held, []
            for data, since_ns in held:
                if self._is_oversized(data):
                    self._held.append((data, since_ns))
                else:
                    self._forward(data, since_ns)

    def counters(self) -> LinkCounters:
        """Counts of what this link did since the run began."""
        return LinkCounters(
            forwarded=self._forwarded,
            cut=self._cut,
            lost=self._lost,
            delayed=self._delayed,
            duplicated=self._duplicated,
            reordered=self._reordered,
            corrupted=self._corrupted,
            oversized=self._oversized,
            resets=self._resets,
            connects=self._connects,
            matched=self._matched,
        )

    def _send_faulty(
        self, data: bytes, now_ns: int, latency_ns: int, since_ns: int
    ) -> None:
        rule, chance = self.rule, self._rng.random
        if rule.cut or self.severed:
            self._cut += 1
            self._hold(data, since_ns, "cut")
            return
        if self._is_oversized(data):
            self._oversized += 1
            self._hold(data, since_ns, "too long")
            return
        resets = self._resets
        late_ns = self._told_apart(data, now_ns)
        if late_ns is None:
            self._tell(data, since_ns, "lost" if self._resets == resets else "reset")
            return
        if rule.loss and chance() < rule.loss:
            self._lost += 1
            self._tell(data, since_ns, "lost")
            return
        sent_ns = self._through_bottleneck(len(data), now_ns)
        if sent_ns is None:
            self._lost += 1
            self._tell(data, since_ns, "queue full")
            return
        due_ns = max(sent_ns + latency_ns + self._delay_ns(), self._last_due_ns)
        self._last_due_ns = due_ns
        self._delayed += due_ns > now_ns + latency_ns
        if rule.corrupt and chance() < rule.corrupt:
            self._corrupted += 1
            self._tell(data, since_ns, "corrupted")
            return
        twice = bool(rule.duplicate) and chance() < rule.duplicate
        late = bool(rule.reorder) and chance() < rule.reorder
        held_ns = int(self._rng.uniform(*HOLD_MS) * 1e6) if late else 0
        self._post(due_ns + late_ns + held_ns, data, since_ns)
        if twice:
            self._duplicated += 1
            # Right behind its message the copy would look like a retry: it comes later.
            echo_ns = lasting_ns(self._rng, self._latency_ms)
            self._post(due_ns + echo_ns, data, since_ns)

    def _post(self, due_ns: int, data: bytes, since_ns: int) -> None:
        self._sent += 1
        self._loop.at_ns(due_ns, self._arrive, (self._sent, data, since_ns))

    def _arrive(self, message: tuple[int, bytes, int]) -> None:
        number, data, since_ns = message
        if self.rule.cut:
            self._cut += 1
            self._hold(data, since_ns, "cut")
            return
        if number <= self._reset_at:
            self._lost += 1
            self._tell(data, since_ns, "reset")
            return
        if number < self._newest:
            self._reordered += 1
        else:
            self._newest = number
        self._forwarded += 1
        if self.told is not None:
            self.told(since_ns, data, "")
        self.deliver(self._src, data)

    def _tell(self, data: bytes, since_ns: int, lost: str) -> None:
        """Tell who listens that a message was lost."""
        if self.told is not None:
            self.told(since_ns, data, lost)

    def _told_apart(self, data: bytes, now_ns: int) -> int | None:
        """Treat a message by its content, and reset its connection if a rule says so.

        Returns:
            How much later it arrives; None if it is lost.
        """
        if self._connected_ns is not None:
            if now_ns < self._connected_ns:
                self._lost += 1
                return None
            self._connected_ns = None
            self._connects += 1
        late_ns, chance = 0, self._rng.random
        for message in self.rule.messages:
            if not count_in(data, message.pattern):
                continue
            if message.loss and chance() < message.loss:
                self._matched += 1
                self._lost += 1
                return None
            if message.reset and chance() < message.reset:
                self._matched += 1
                self._reset(now_ns)
                return None
            self._matched += message.delay_ms > 0
            late_ns += int(message.delay_ms * 1e6)
            if message.cut and chance() < message.cut:
                self._matched += 1
                self._sever_both(severed=True)
        if self.rule.reset and chance() < self.rule.reset:
            self._reset(now_ns)
            return None
        return late_ns

    def _sever_both(self, *, severed: bool) -> None:
        for link in filter(None, (self, self.twin)):
            if link.severed and not severed:
                link.severed = False
                link.release()
            link.severed = severed

    def _reset(self, now_ns: int) -> None:
        """Lose the connection, with all that is on its way."""
        self._resets += 1
        self._reset_at = self._sent
        self._connected_ns = now_ns + RECONNECT_NS

    def _is_oversized(self, data: bytes) -> bool:
        mtu_bytes = self.rule.mtu_bytes
        return mtu_bytes is not None and len(data) + OVERHEAD_BYTES > mtu_bytes

    def _hold(self, data: bytes, since_ns: int, why: str) -> None:
        """Keep a message for the heal, if this world's links do so."""
        if not self._cut_holds:
            self._tell(data, since_ns, why)
            return
        self._held.append((data, since_ns))
        for dropped, dropped_since_ns in self._held[:-HELD_MAX]:
            self._tell(dropped, dropped_since_ns, why)
        del self._held[:-HELD_MAX]

    def _through_bottleneck(self, size_bytes: int, now_ns: int) -> int | None:
        """When the message has left the narrow wire; None if its queue is full."""
        if self.rule.bandwidth_kbit_s is None:
            return now_ns
        start_ns = max(now_ns, self._wire_free_ns)
        if start_ns - now_ns > QUEUE_NS:
            return None
        bits = (size_bytes + OVERHEAD_BYTES) * 8
        self._wire_free_ns = start_ns + int(bits * 1e6 / self.rule.bandwidth_kbit_s)
        return self._wire_free_ns

    def _delay_ns(self) -> int:
        delay_ms = self.rule.delay_ms
        if self.rule.jitter_ms:
            delay_ms += self._rng.uniform(-self.rule.jitter_ms, self.rule.jitter_ms)
        return max(0, int(delay_ms * 1e6))


class SimNetwork(Network):
    """The `Network` of the simulator."""

    rung = "sim"
    capabilities: frozenset[LinkField] = LINK_FIELDS - {"half_open"}

    def __init__(
        self,
        nodes: Sequence[str],
        run_dir: Path,
        seed: int,
        conditions: Conditions,
        loop: VirtualTimeLoop,
        messages: Sequence[Passed] = (),
    ) -> None:
        listens = {n: Endpoint(f"{HOST}{i}", PORT) for i, n in enumerate(nodes, 1)}
        self.places: Mapping[str, NodePlace] = {
            node: make_place(
                node, listens, {n: e for n, e in listens.items() if n != node}, run_dir
            )
            for node in nodes
        }
        self.links = {
            link: SimLink(link, seed, conditions, loop)
            for link in itertools.permutations(nodes, 2)
        }
        for link, lane in self.links.items():
            lane.twin = self.links[link[1], link[0]]
            lane.passed = {each: 0 for each in messages if each.is_on(link)}

    @override
    async def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        for link, lane in self.links.items():
            lane.set_rule(rules.get(link, HEALTHY))

    @override
    async def counters(self) -> Mapping[Link, LinkCounters]:
        return {link: lane.counters() for link, lane in self.links.items()}

    @override
    def passed(self, message: Passed) -> Mapping[Where, int]:
        return {
            link: lane.passed[message]
            for link, lane in self.links.items()
            if message in lane.passed
        }

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""
