"""A cluster made of dictionaries, for nemeses to strike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from harness.faults.force import Force
from harness.worlds.clocks import TRUE_CLOCKS, ClockReading, ClockSetting
from harness.worlds.disks import Decayed, DiskCounters, Lost
from harness.worlds.network import Link, LinkCounters, LinkRule
from harness.worlds.processes import Ended, Exit, Limit, Starvation
from harness.worlds.world import TrueTime

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from harness.faults.cluster import Cluster
    from harness.faults.force import Grip
    from harness.worlds.disks import Damage, DiskRule, Loss
    from harness.worlds.processes import Resource


class FakeNetwork:
    def __init__(self) -> None:
        self.cut: dict[Link, int] = {}
        self.rules: Mapping[Link, LinkRule] = {}

    async def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        self.rules = rules

    async def counters(self) -> Mapping[Link, LinkCounters]:
        return {link: LinkCounters(cut=n) for link, n in self.cut.items()}


class FakeDisks:
    """Each loses ten bytes with the power; rules do nothing, and are counted."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.losses: dict[str, Loss] = {}
        self.rules: Mapping[str, Sequence[DiskRule]] = {}
        self.done = {node: DiskCounters() for node in cluster.nodes}
        self.scars: Counter[str] = Counter()
        self.snapshots: list[tuple[str, Damage]] = []
        self.snag: tuple[asyncio.Event, asyncio.Event] | None = None
        """Set by damage that has begun, and what that waits for."""
        self.decayed = Decayed("wal", 7, "00", "01")

    async def cut_power(self, losses: Mapping[str, Loss]) -> Mapping[str, Lost]:
        self.losses = dict(losses)
        pids = await self.cluster.kill(list(losses))
        return {
            node: Lost(pid, bytes=10, writes=1, files=("wal",)) if pid else Lost()
            for node, pid in pids.items()
        }

    async def set_rules(self, rules: Mapping[str, Sequence[DiskRule]]) -> None:
        self.rules = rules

    async def counters(self) -> Mapping[str, DiskCounters]:
        return {node: done.copy() for node, done in self.done.items()}

    async def snapshot(self, node: str, damage: Damage) -> int:
        self.snapshots.append((node, damage))
        return 2

    async def damage(self, node: str, damage: Damage) -> Decayed:
        if self.snag is not None:
            begun, go_on = self.snag
            begun.set()
            await go_on.wait()
        self.scars[node] += bool(self.decayed.file)
        return self.decayed

    async def repair(self, node: str) -> int:
        return self.scars.pop(node, 0)


class FakeCluster:
    """What a nemesis needs of a cluster; clocks stand still between calls."""

    nodes = ("n1", "n2", "n3", "n4", "n5")

    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.processes = self.clocks = self
        self.disks = FakeDisks(self)
        self.tell: list[Callable[[Exit], None]] = []
        self.why_it_may_end: Callable[[str], str] = lambda _: ""
        self.held_down: Callable[[str], bool] = lambda _: False
        self.on_crash: Callable[[str], None] = lambda _: None
        self.running = dict.fromkeys(self.nodes, 100)
        self.stopped: set[str] = set()
        self.patience_s = 0.0
        self.rests: list[float] = []
        self.readings: dict[str, int] = {}
        self.shares: dict[str, float] = {}
        self.spare: dict[tuple[str, Resource], int] = {}
        # Wall and monotonic clock of each node.
        self.offsets = {node: [0, 0] for node in self.nodes}
        self.rates = {node: [1.0, 1.0] for node in self.nodes}
        self.begins: dict[str, ClockSetting] = {}
        self.leads: str | None = "n3"
        self.time = TrueTime()
        self.tells_leader = False

    async def leader(self) -> str | None:
        return self.leads

    def seems_to_lead(self) -> tuple[str, str]:
        return "n4", "answers changes soonest"

    def on_exit(self, callback: Callable[[Exit], None]) -> None:
        self.tell.append(callback)

    def pid(self, node: str) -> int | None:
        return self.running.get(node)

    async def kill(self, nodes: Sequence[str]) -> dict[str, int]:
        return {node: ended.pid for node, ended in (await self.end(nodes)).items()}

    async def end(
        self, nodes: Sequence[str], patience_s: float = 0.0
    ) -> Mapping[str, Ended]:
        """The nodes heed SIGTERM at once; the i-th is signalled after i us."""
        self.patience_s = patience_s
        pids = {node: self.running.pop(node, 0) for node in nodes}
        for node in [node for node, pid in pids.items() if pid]:
            self.stopped.discard(node)
            for key in [key for key in self.spare if key[0] == node]:
                del self.spare[key]
            for tell in self.tell:
                tell(Exit(node, pids[node], -9, expected=True))
        signal = "SIGTERM" if patience_s else "SIGKILL"
        return {
            node: Ended(pid, signal, at_ns=i * 1000)
            for i, (node, pid) in enumerate(pids.items())
        }

    async def rest(self, seconds: float) -> bool:
        self.rests.append(seconds)
        return True

    def hurry(self) -> None:
        """All waits are over at once anyway."""

    async def starve(self, node: str, share: float) -> None:
        self.shares[node] = share

    async def starvation(self, node: str) -> Starvation:
        """Each node is stopped ten times, for 50 ms, while it is asked for it."""
        asked = self.readings[node] = self.readings.get(node, -1) + 1
        return Starvation(10 * asked, 500_000_000 * asked, self.running.get(node, 0), 0)

    async def limit(
        self, node: str, resource: Resource, spare: int | None
    ) -> Mapping[str, Limit]:
        if node not in self.running:
            return {}
        if spare is None:
            self.spare.pop((node, resource), None)
            return {"100": Limit(5, 1024, 1024)}
        self.spare[node, resource] = spare
        return {"100": Limit(5, 1024, 5 + spare)}

    async def restart(self, nodes: Sequence[str]) -> dict[str, Any]:
        dead = [node for node in nodes if node not in self.running]
        self.running |= dict.fromkeys(dead, 200)
        for node in dead:
            self.offsets[node], self.rates[node] = [0, 0], [1.0, 1.0]
            await self.set_clock(node, self.begins.get(node, TRUE_CLOCKS))
        return {node: {"pid": 200, "served_after_ms": 1.0} for node in dead}

    def dead(self) -> tuple[str, ...]:
        return tuple(n for n in self.nodes if n not in self.running)

    async def pause(self, nodes: Sequence[str]) -> dict[str, Mapping[str, str]]:
        self.stopped |= set(nodes) & set(self.running)
        return {node: {"100": "T"} if node in self.running else {} for node in nodes}

    async def resume(self, nodes: Sequence[str]) -> None:
        self.stopped -= set(nodes)

    async def set_clock(self, node: str, setting: ClockSetting) -> None:
        if node not in self.running:
            return
        for clock, change in ((0, setting.wall), (1, setting.mono)):
            if change is None:
                continue
            if change.offset_ns is not None:
                self.offsets[node][clock] = change.offset_ns
            self.rates[node][clock] = change.rate_from(self.offsets[node][clock])

    def begin_with(self, node: str, setting: ClockSetting | None) -> None:
        self.begins[node] = setting or TRUE_CLOCKS

    async def read_clock(self, node: str) -> ClockReading | None:
        if node not in self.running:
            return None
        wall, mono = self.offsets[node]
        return ClockReading(wall, mono, "fake")


def gripped(fake: FakeCluster, owner: int = 0) -> Grip:
    return Force(cast("Cluster", fake)).grip(owner)
