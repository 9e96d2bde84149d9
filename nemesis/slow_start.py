"""Links that start slow: narrow at first, then wider and wider.

A link that comes back is often not at full speed at once: routes converge, windows
grow, caches are cold. What piled up has to pass through it first, and small urgent
messages wait behind.

The bandwidth begins at `bandwidth_kbit_s`, grows by the same factor in each equal piece
of time, and has reached `FULL_KBIT_S` after `over_s`; from then on the link is healthy.
A heal that comes before ends it at once.

Evidence: the frames that came late.
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

FULL_KBIT_S = 100_000.0
"""Bandwidth at which a link counts as healthy: consensus traffic doesn't fill it."""
START_KBIT_S = Number(0.001, FULL_KBIT_S)
OVER_S = Number(0.1, 3600.0)
DRAWN_KBIT_S = (10.0, 500.0)
SHORTEST_S = 0.5
STEP_S = 0.05
"""How often the bandwidth is set anew."""

OPTIONS = (
    TARGETS_OPTION,
    Option("over_max_s", "4", "longest time to grow to draw, s", OVER_S),
    DIRECTION_OPTION,
)


class SlowStart(Linked):
    """Makes links narrow, and lets them grow."""

    kind = "slow-start"
    params = ("bandwidth_kbit_s", "over_s")
    needs = Capabilities(network=frozenset({"bandwidth_kbit_s"}))
    background = True

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(self.kind, OPTIONS, options)
        self.over_max_s: float = self.given["over_max_s"]

    @override
    def draw_params(self, random: Random) -> dict[str, Json]:
        """A random first bandwidth and time to grow."""
        low, high = DRAWN_KBIT_S
        first_kbit_s = round(log_uniform(random, low, high), 3)
        low = min(SHORTEST_S, self.over_max_s)
        over_s = round(log_uniform(random, low, self.over_max_s), 3)
        return {"bandwidth_kbit_s": first_kbit_s, "over_s": over_s}

    @override
    def validate_params(self, fault: Fault) -> None:
        """Require the first bandwidth and the time to grow."""
        require_number(fault, "bandwidth_kbit_s", START_KBIT_S)
        require_number(fault, "over_s", OVER_S)

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Make the links narrow, and begin to let them grow."""
        nodes, why = await resolve_target(fault.target, cluster)
        links = links_of(nodes, cluster.nodes, fault)
        await cluster.shape_links(dict.fromkeys(links, rule_at(fault, 0.0)))
        cluster.meanwhile(self._grow(fault, links, cluster))
        return Strike(
            fault,
            f"slow start from {fault.number('bandwidth_kbit_s'):g} kbit/s over "
            f"{fault.number('over_s'):g} s: links of {who(nodes, why)}"
            f"{told_direction(fault)}",
            nodes,
            {"links": len(links), **aimed(why)},
        )

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Give the links their full width, and count what came late."""
        delayed = (await cluster.mend_links()).delayed
        evidence = {"frames_delayed": delayed, "grown": bool(cluster.tally["grown"])}
        return strike.proven(evidence, bit=delayed > 0)

    async def _grow(self, fault: Fault, links: Sequence[Link], cluster: Grip) -> None:
        over_s = fault.number("over_s")
        begun_s = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(STEP_S)
            part = (asyncio.get_running_loop().time() - begun_s) / over_s
            if part >= 1.0:
                break
            await cluster.shape_links(dict.fromkeys(links, rule_at(fault, part)))
        await cluster.shape_links({})
        cluster.tally["grown"] += 1


def rule_at(fault: Fault, part: float) -> LinkRule:
    """The rule of a link when that part of the time to grow has passed."""
    first_kbit_s = fault.number("bandwidth_kbit_s")
    growth = FULL_KBIT_S / first_kbit_s
    return LinkRule(bandwidth_kbit_s=first_kbit_s * growth**part)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "slow-start", "make links narrow and let them grow wide", SlowStart, OPTIONS
)
