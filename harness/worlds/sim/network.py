"""Simulated links between nodes: a rung of its own, with every fault of the switch's.

What travels is whole messages, not frames; otherwise rules mean what they mean in
`harness.worlds.os.lane`, in the same order: cut, loss, bandwidth, delay and jitter,
corruption, duplication, reordering. A corrupted message is dropped, as checksums would
have it. A message is cut when it is sent across a cut or when one catches it on its
way.

Choices: a healthy link keeps the order of its messages. What a rule has delayed is
overtaken after the heal, as on a network that takes a new route; and what a cut link
held back (`Conditions.cut_holds`) arrives then, late and all at once, as out of a TCP
connection that had stalled. Cores have to cope with messages that are old, twice there
or out of order; only a simulator can make that common.
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

from harness.worlds.capabilities import LINK_FIELDS
from harness.worlds.network import LinkCounters, LinkRule
from harness.worlds.places import Endpoint, make_place
from harness.worlds.sim.conditions import lasting_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.worlds.network import Link
    from harness.worlds.places import NodePlace
    from harness.worlds.sim.conditions import Conditions
    from harness.worlds.sim.loop import VirtualTimeLoop

HEALTHY = LinkRule()
OVERHEAD_BYTES = 100
"""Headers, and what wraps a body."""
QUEUE_NS = 500_000_000
"""A narrow link queues so much traffic; what comes then is lost."""
HOLD_MS = (1.0, 30.0)
"""Range of how long a reordered message is held back, to be overtaken."""
HELD_MAX = 256
"""Messages that a cut link holds back; the oldest go first."""
HOST, PORT = "198.18.0.", 7000


class SimLink:
    """One directed link. Its dice are its own: traffic elsewhere changes nothing."""

    def __init__(
        self, link: Link, seed: int, conditions: Conditions, loop: VirtualTimeLoop
    ) -> None:
        self.rule = HEALTHY
        self.deliver: Callable[[str, bytes], None] = lambda *_: None
        self._src = link[0]
        self._loop = loop
        self._conditions = conditions
        self._rng = random.Random(f"{seed} {link[0]} -> {link[1]}")
        self._last_due_ns = 0
        self._wire_free_ns = 0
        self._sent = 0
        self._newest = 0
        self._held: list[bytes] = []
        self._forwarded = 0
        self._cut = 0
        self._lost = 0
        self._delayed = 0
        self._duplicated = 0
        self._reordered = 0
        self._corrupted = 0

    def send(self, data: bytes) -> None:
        """Take a message from the node at the link's beginning."""
        now_ns = self._loop.now_ns
        latency_ns = lasting_ns(self._rng, self._conditions.latency_ms)
        if self.rule is not HEALTHY:
            self._send_faulty(data, now_ns, latency_ns)
            return
        due_ns = max(now_ns + latency_ns, self._last_due_ns)
        self._last_due_ns = due_ns
        self._post(due_ns, data)

    def set_rule(self, rule: LinkRule) -> None:
        """Put a rule in force for what is sent, and for what is cut, from now on."""
        if rule == self.rule:
            return
        self.rule = HEALTHY if rule == HEALTHY else rule
        self._last_due_ns = self._wire_free_ns = 0
        if not rule.cut:
            held, self._held = self._held, []
            for data in held:
                self.send(data)

    def counters(self) -> LinkCounters:
        """What this link did since the run began."""
        return LinkCounters(
            forwarded=self._forwarded,
            cut=self._cut,
            lost=self._lost,
            delayed=self._delayed,
            duplicated=self._duplicated,
            reordered=self._reordered,
            corrupted=self._corrupted,
        )

    def _send_faulty(self, data: bytes, now_ns: int, latency_ns: int) -> None:
        rule, chance = self.rule, self._rng.random
        if rule.cut:
            self._cut_off(data)
            return
        if rule.loss and chance() < rule.loss:
            self._lost += 1
            return
        sent_ns = self._through_bottleneck(len(data), now_ns)
        if sent_ns is None:
            self._lost += 1
            return
        due_ns = max(sent_ns + latency_ns + self._delay_ns(), self._last_due_ns)
        self._last_due_ns = due_ns
        self._delayed += due_ns > now_ns + latency_ns
        if rule.corrupt and chance() < rule.corrupt:
            self._corrupted += 1
            return
        twice = bool(rule.duplicate) and chance() < rule.duplicate
        late = bool(rule.reorder) and chance() < rule.reorder
        held_ns = int(self._rng.uniform(*HOLD_MS) * 1e6) if late else 0
        self._post(due_ns + held_ns, data)
        if twice:
            self._duplicated += 1
            # The copy comes later, or the receiver could not tell it from a retry.
            echo_ns = lasting_ns(self._rng, self._conditions.latency_ms)
            self._post(due_ns + echo_ns, data)

    def _post(self, due_ns: int, data: bytes) -> None:
        self._sent += 1
        self._loop.at_ns(due_ns, self._arrive, (self._sent, data))

    def _arrive(self, message: tuple[int, bytes]) -> None:
        number, data = message
        if self.rule.cut:
            self._cut_off(data)
            return
        if number < self._newest:
            self._reordered += 1
        else:
            self._newest = number
        self._forwarded += 1
        self.deliver(self._src, data)

    def _cut_off(self, data: bytes) -> None:
        self._cut += 1
        if self._conditions.cut_holds:
            self._held.append(data)
            del self._held[:-HELD_MAX]

    def _through_bottleneck(self, size_bytes: int, now_ns: int) -> int | None:
        """When the message has left the narrow wire; None when its queue is full."""
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


class SimNetwork:
    """Implements `harness.worlds.network.Network`."""

    rung = "sim"
    capabilities = LINK_FIELDS

    def __init__(
        self,
        nodes: Sequence[str],
        run_dir: Path,
        seed: int,
        conditions: Conditions,
        loop: VirtualTimeLoop,
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

    async def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        """See `Network`."""
        for link, lane in self.links.items():
            lane.set_rule(rules.get(link, HEALTHY))

    async def counters(self) -> Mapping[Link, LinkCounters]:
        """See `Network`."""
        return {link: lane.counters() for link, lane in self.links.items()}

    async def close(self) -> None:
        """See `Network`: nothing is held."""
