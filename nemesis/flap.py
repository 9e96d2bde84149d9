"""Flapping links: up and down in a rhythm, as with a loose plug.

Each time a link comes up, nodes find each other, agree and begin to catch up; each time
it goes down they have to notice once more. Timeouts that fit a cut or a healthy link
don't fit one that changes faster than they run out.

The links of the target go down at once, all together, for `down_ms`; then they are up
for `up_ms`, and so on until the heal.

Evidence: how often they went down, and the frames that died meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.faults.drawing import log_uniform
from harness.faults.fault import Fault, Strike, require_number
from harness.faults.targets import (
    aimed,
    resolve_target,
    who,
)
from harness.options import Number
from harness.override import override
from harness.registry import Option, Plugin
from harness.worlds.capabilities import Capabilities
from harness.worlds.network import LinkRule
from nemesis.links import (
    DIRECTION_OPTION,
    TARGETS_OPTION,
    Linked,
    links_of,
    told_direction,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory
    from harness.worlds.network import Link

SPELL_MS = Number(5.0, 3_600_000.0)
"""How long links are up or down at a time. Every change is an order to the process that
carries the traffic, so a faster rhythm would not be kept."""
SHORTEST_MS = 20.0
"""Least time that is drawn; every order of magnitude from there is equally likely."""

OPTIONS = (
    TARGETS_OPTION,
    Option("max_ms", "1000", "longest time up or down to draw, ms", SPELL_MS),
    DIRECTION_OPTION,
)


class Flap(Linked):
    """Cuts links and mends them, to and fro."""

    kind = "flap"
    params = ("down_ms", "up_ms")
    needs = Capabilities(network=frozenset({"cut"}))
    background = False

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(self.kind, OPTIONS, options)
        self.max_ms: float = self.given["max_ms"]

    @override
    def draw_params(self, random: Random) -> dict[str, Json]:
        """A random rhythm."""
        low = min(SHORTEST_MS, self.max_ms)
        down_ms, up_ms = (
            round(log_uniform(random, low, self.max_ms), 1) for _ in range(2)
        )
        return {"down_ms": down_ms, "up_ms": up_ms}

    @override
    def validate_params(self, fault: Fault) -> None:
        """Require both halves of the rhythm."""
        for name in self.params:
            require_number(fault, name, SPELL_MS)

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Take the links down for the first time, and begin the rhythm."""
        nodes, why = await resolve_target(fault.target, cluster)
        links = links_of(nodes, cluster.nodes, fault)
        cluster.tally["cuts"] += 1
        await cluster.shape_links(dict.fromkeys(links, LinkRule(cut=True)))
        cluster.meanwhile(self._swing(fault, links, cluster))
        down_ms, up_ms = fault.number("down_ms"), fault.number("up_ms")
        return Strike(
            fault,
            f"flap {down_ms:g} ms down, {up_ms:g} ms up: links of "
            f"{who(nodes, why)}{told_direction(fault)}",
            nodes,
            {"links": len(links), **aimed(why)},
        )

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Leave the links up, and count."""
        dropped = (await cluster.mend_links()).cut
        evidence = {"times_down": cluster.tally["cuts"], "frames_dropped": dropped}
        return strike.proven(evidence, bit=dropped > 0)

    async def _swing(self, fault: Fault, links: Sequence[Link], cluster: Grip) -> None:
        while True:
            await asyncio.sleep(fault.number("down_ms") / 1e3)
            await cluster.shape_links({})
            await asyncio.sleep(fault.number("up_ms") / 1e3)
            cluster.tally["cuts"] += 1
            await cluster.shape_links(dict.fromkeys(links, LinkRule(cut=True)))


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "flap", "take links down and up in a rhythm", Flap, OPTIONS
)
