"""Starts, stops, starves and skews simulated node processes.

A kill takes the process alone: what it wrote is there (`disk`). SIGTERM ends a process
as SIGKILL does: the runtime of real nodes leaves it to its default.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.override import override
from harness.systems.abilities import Joining, Logged
from harness.systems.logs import open_log
from harness.worlds.clocks import TRUE_CLOCKS, Clocks
from harness.worlds.processes import Ended, Exit, Processes, Starvation
from harness.worlds.sim.node import SimNode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.systems.abilities import Simulated
    from harness.worlds.clocks import ClockReading, ClockSetting
    from harness.worlds.places import Launch, NodePlace
    from harness.worlds.processes import Limit, Resource
    from harness.worlds.sim.conditions import Conditions
    from harness.worlds.sim.loop import VirtualTimeLoop
    from harness.worlds.sim.network import SimNetwork
    from harness.worlds.sim.observed import Journal
    from reference_impls.files import Files, Log

FIRST_PID = 1000
TERMINATED = -15
KILLED = -9
PERIOD_NS = 100_000_000
"""A starved node runs for its share of this, then stands still until it is over."""


def opener(system: Simulated) -> Callable[[str, Files], Log]:
    """What opens the log of a node of this system, on a disk."""
    if isinstance(system, Logged):
        return system.open_log
    return partial(open_log, "core", 1, fsync=system.fsync)


@dataclass
class Turns:
    """What keeps one node's process from running.

    Attributes:
        share: The part of each period in which it may run.
        is_out: Whether its share of this period is used up.
        paused: Whether it is paused besides.
        round: The number of the order to starve that is in force.
        since_ns: When the stop that lasts began.
        stops, stopped_ns: How many stops have ended, and how long they lasted.
    """

    share: float = 1.0
    is_out: bool = False
    paused: bool = False
    round: int = 0
    since_ns: int = 0
    stops: int = 0
    stopped_ns: int = 0


class SimProcesses(Processes, Clocks):
    """The processes of simulated nodes, and their clocks.

    Attributes:
        nodes: Every node by name.
    """

    def __init__(
        self,
        system: Simulated,
        network: SimNetwork,
        journal: Journal,
        seed: int,
        conditions: Conditions,
        loop: VirtualTimeLoop,
    ) -> None:
        self._callbacks: list[Callable[[Exit], None]] = []
        self._next_pid = FIRST_PID
        self._begin_with: dict[str, ClockSetting] = {}
        self._loop = loop
        self._turns = {name: Turns() for name in network.places}
        self._system = system
        self.nodes: dict[str, SimNode] = {}
        for name, place in network.places.items():
            self.nodes[name] = SimNode(
                name,
                partial(system.build, name, tuple(place.peers)),
                partial(opener(system), name),
                {peer: network.links[name, peer] for peer in place.peers},
                fsync=system.fsync,
                conditions=conditions,
                rng=random.Random(f"{seed} {name}"),
                loop=loop,
                journal=journal,
                on_exit=self._exited,
            )
        for (_, dest), link in network.links.items():
            link.deliver = self.nodes[dest].deliver

    @override
    async def start(self, place: NodePlace, launch: Launch) -> int:
        """Start a node's process; `launch` is how the os world would do it."""
        node = self.nodes[place.name]
        if node.pid:
            raise HarnessError(f"{place.name} runs already")
        self._next_pid += 1
        if place.joins and isinstance(self._system, Joining):
            node.build = partial(
                self._system.build_joining, place.name, tuple(place.peers), place.joins
            )
        node.start(self._next_pid, self._begin_with.get(place.name, TRUE_CLOCKS))
        return node.pid

    @override
    async def empty(self, place: NodePlace) -> int:
        node = self.nodes[place.name]
        if node.pid:
            raise HarnessError(f"{place.name} runs, and its disk can't be emptied")
        return node.disk.empty()

    @override
    async def kill(self, node: str) -> int:
        pid = self.nodes[node].crash()
        if pid:
            self.tell(Exit(node, pid, KILLED, expected=True))
        return pid

    @override
    async def end(
        self, nodes: Sequence[str], patience_s: float = 0.0
    ) -> Mapping[str, Ended]:
        """A stopped process heeds no SIGTERM; SIGKILL ends it when patience is over."""
        ended: dict[str, Ended] = {}
        begun_ns = self._loop.now_ns
        for kind, status in (("SIGTERM", TERMINATED), ("SIGKILL", KILLED)):
            if kind == "SIGKILL" and patience_s and len(ended) < len(nodes):
                await asyncio.sleep(patience_s)
            for node in nodes:
                heeds = patience_s and not self._turns[node].paused
                if node in ended or (kind == "SIGTERM" and not heeds):
                    continue
                pid = self.nodes[node].crash()
                took_ms = (self._loop.now_ns - begun_ns) / 1e6
                ended[node] = Ended(pid, kind, status, begun_ns, took_ms)
                if pid:
                    self.tell(Exit(node, pid, status, expected=True))
        return {node: ended[node] for node in nodes}

    @override
    async def pause(self, node: str) -> Mapping[str, str]:
        of = self.nodes[node]
        if not of.pid:
            return {}
        self._turns[node].paused = True
        of.pause()
        return {str(of.pid): "T"}

    @override
    async def resume(self, node: str) -> None:
        turns = self._turns[node]
        turns.paused = False
        if not turns.is_out:
            self.nodes[node].resume()

    @override
    async def starve(self, node: str, share: float) -> None:
        turns = self._turns[node]
        turns.share = share
        turns.round += 1
        self._let_run(node)
        if share < 1.0:
            left_ns = int(share * PERIOD_NS)
            self._loop.at_ns(
                self._loop.now_ns + left_ns, self._turn, (node, turns.round)
            )

    @override
    async def starvation(self, node: str) -> Starvation:
        turns = self._turns[node]
        return Starvation(turns.stops, turns.stopped_ns, self.nodes[node].pid)

    @override
    async def usage(self, node: str) -> None:
        """Tell nothing: simulated nodes share one process."""

    @override
    async def limit(
        self, node: str, resource: Resource, spare: int | None
    ) -> Mapping[str, Limit]:
        """Not offered here.

        Raises:
            HarnessError: Always.
        """
        raise HarnessError(f"{node} has no limits: it is simulated")

    def _turn(self, which: tuple[str, int]) -> None:
        """Stop a starved node, or let it go on; and see to its next turn."""
        node, number = which
        turns = self._turns[node]
        if number != turns.round:
            return
        if turns.is_out:
            self._let_run(node)
        else:
            turns.is_out, turns.since_ns = True, self._loop.now_ns
            if self.nodes[node].pid:
                self.nodes[node].pause()
        part = 1 - turns.share if turns.is_out else turns.share
        at_ns = self._loop.now_ns + int(part * PERIOD_NS)
        self._loop.at_ns(at_ns, self._turn, which)

    def _let_run(self, node: str) -> None:
        """End the stop of a starved node, and count it; one that is paused stays so."""
        turns, of = self._turns[node], self.nodes[node]
        if turns.is_out and of.paused and not turns.paused:
            turns.stops += 1
            turns.stopped_ns += self._loop.now_ns - turns.since_ns
        turns.is_out = False
        if not turns.paused:
            of.resume()

    @override
    async def set_clock(self, node: str, setting: ClockSetting) -> None:
        of = self.nodes[node]
        if not of.pid:
            raise HarnessError(f"{node} isn't running")
        of.set_clock(setting)

    @override
    def begin_with(self, node: str, setting: ClockSetting | None) -> None:
        self._begin_with[node] = setting or TRUE_CLOCKS

    @override
    async def read_clock(self, node: str) -> ClockReading | None:
        of = self.nodes[node]
        return of.clock.reading() if of.pid else None

    @override
    def pid(self, node: str) -> int | None:
        return self.nodes[node].pid or None

    @override
    def on_exit(self, callback: Callable[[Exit], None]) -> None:
        self._callbacks.append(callback)

    @override
    async def close(self) -> None:
        for node in self.nodes.values():
            node.crash()

    def _exited(self, node: SimNode, status: int) -> None:
        pid = node.crash()
        self.tell(Exit(node.name, pid, status, expected=False))

    def tell(self, exited: Exit) -> None:
        """Tell everybody that a process ended."""
        self._turns[exited.node].paused = False
        for callback in self._callbacks:
            callback(exited)
