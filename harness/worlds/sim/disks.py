"""Cuts the power of simulated nodes, and breaks their disks.

Whatever is drawn comes from the seed of the fault and the node's name.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from harness.override import override
from harness.worlds.disks import Disks
from harness.worlds.processes import Exit

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from harness.worlds.disks import (
        Damage,
        Decayed,
        DiskCounters,
        DiskRule,
        Loss,
        Lost,
    )
    from harness.worlds.sim.loop import VirtualTimeLoop
    from harness.worlds.sim.node import SimNode

POWERLESS = -9
"""As which status a process ends with the power; nobody waits for it but us."""


class SimDisks(Disks):
    """The disks of simulated nodes.

    Args:
        nodes: Every node by name.
        loop: Whose time it is.
        tell: Whom to tell that a process ended.
    """

    def __init__(
        self,
        nodes: Mapping[str, SimNode],
        loop: VirtualTimeLoop,
        tell: Callable[[Exit], None],
    ) -> None:
        self._nodes = nodes
        self._loop = loop
        self._tell = tell

    @override
    async def cut_power(self, losses: Mapping[str, Loss]) -> Mapping[str, Lost]:
        waiting = {name: loss for name, loss in losses.items() if loss.during}
        if waiting and not any(self._nodes[name].syncing for name in waiting):
            await self._until_a_sync(waiting)
        return {name: self._cut(name, loss) for name, loss in losses.items()}

    async def _until_a_sync(self, waiting: Mapping[str, Loss]) -> None:
        """Wait until one of the nodes is in the middle of a sync, or time is up."""
        begun: asyncio.Future[None] = self._loop.create_future()
        seeds = (f"{loss.seed} {name}" for name, loss in waiting.items())
        dice = random.Random(" ".join(seeds))

        def arrive(_: object) -> None:
            if not begun.done():
                begun.set_result(None)

        def on_sync(lasts_ns: int) -> None:
            at_ns = self._loop.now_ns + int(dice.random() * lasts_ns)
            self._loop.at_ns(at_ns, arrive, None)

        within_s = max(loss.within_s for loss in waiting.values())
        self._loop.at_ns(self._loop.now_ns + int(within_s * 1e9), arrive, None)
        for name in waiting:
            self._nodes[name].on_sync = on_sync
        try:
            await begun
        finally:
            for name in waiting:
                self._nodes[name].on_sync = None

    def _cut(self, name: str, loss: Loss) -> Lost:
        lost = self._nodes[name].lose_power(loss, random.Random(f"{loss.seed} {name}"))
        if lost.pid:
            self._tell(Exit(name, lost.pid, POWERLESS, expected=True))
        return lost

    @override
    async def set_rules(self, rules: Mapping[str, Sequence[DiskRule]]) -> None:
        for name, node in self._nodes.items():
            node.disk.rules = tuple(rules.get(name, ()))

    @override
    async def counters(self) -> Mapping[str, DiskCounters]:
        return {name: node.disk.counters.copy() for name, node in self._nodes.items()}

    @override
    async def snapshot(self, node: str, damage: Damage) -> int:
        return self._nodes[node].disk.snapshot(damage)

    @override
    async def damage(self, node: str, damage: Damage) -> Decayed:
        dice = random.Random(f"{damage.seed} {node}")
        return self._nodes[node].disk.damage(damage, dice)

    @override
    async def repair(self, node: str) -> int:
        return self._nodes[node].disk.repair()
