"""Starts, stops and skews simulated node processes.

A kill takes the process alone: what it wrote is there (`disk`).
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.override import override
from harness.systems.abilities import Logged
from harness.systems.logs import open_log
from harness.worlds.clocks import TRUE_CLOCKS, Clocks
from harness.worlds.processes import Exit, Processes
from harness.worlds.sim.node import SimNode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.systems.abilities import Simulated
    from harness.worlds.clocks import ClockReading, ClockSetting
    from harness.worlds.places import Launch, NodePlace
    from harness.worlds.sim.conditions import Conditions
    from harness.worlds.sim.loop import VirtualTimeLoop
    from harness.worlds.sim.network import SimNetwork
    from harness.worlds.sim.observed import Journal
    from reference_impls.files import Files, Log

FIRST_PID = 1000
KILLED = -9


def opener(system: Simulated) -> Callable[[str, Files], Log]:
    """What opens the log of a node of this system, on a disk."""
    if isinstance(system, Logged):
        return system.open_log
    return partial(open_log, "core", 1, fsync=system.fsync)


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
        node.start(self._next_pid, self._begin_with.get(place.name, TRUE_CLOCKS))
        return node.pid

    @override
    async def kill(self, node: str) -> int:
        pid = self.nodes[node].crash()
        if pid:
            self.tell(Exit(node, pid, KILLED, expected=True))
        return pid

    @override
    async def pause(self, node: str) -> Mapping[str, str]:
        of = self.nodes[node]
        if not of.pid:
            return {}
        of.pause()
        return {str(of.pid): "T"}

    @override
    async def resume(self, node: str) -> None:
        self.nodes[node].resume()

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
        for callback in self._callbacks:
            callback(exited)
