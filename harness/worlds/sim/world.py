"""Sets up the sim world: everything that happens in it comes from one seed."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from harness.errors import HarnessError
from harness.host.interrupts import noted
from harness.systems.logs import file_name, records_in
from harness.worlds.messages import MESSAGES, MessageLog
from harness.worlds.sim.client import Dialler
from harness.worlds.sim.clock import MONO_EPOCH_NS, WALL_EPOCH_NS
from harness.worlds.sim.conditions import Conditions
from harness.worlds.sim.disks import SimDisks
from harness.worlds.sim.loop import VirtualTimeLoop
from harness.worlds.sim.network import SimNetwork
from harness.worlds.sim.observed import Journal
from harness.worlds.sim.processes import SimProcesses
from harness.worlds.world import TrueTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.host.interrupts import Interrupts
    from harness.systems.abilities import Simulated
    from harness.worlds.clocks import Clocks
    from harness.worlds.disks import Disks
    from harness.worlds.network import Link
    from harness.worlds.world import Conducted, Setting, Tap, World


class SimWorld:
    """Implements `harness.worlds.world.World`, on a loop of its own.

    Args:
        setting: The run that the world is for.
        system: The system; its clients will talk to simulated nodes.
        loop: The loop whose virtual time the world lives in.
        interrupts: The stop signals that end the run early.
    """

    def __init__(
        self,
        setting: Setting,
        system: Simulated,
        loop: VirtualTimeLoop,
        interrupts: Interrupts,
    ) -> None:
        conditions = Conditions.draw(setting.seed)
        nodes = setting.nodes
        self.time = TrueTime(
            lambda: MONO_EPOCH_NS + loop.now_ns, lambda: WALL_EPOCH_NS + loop.now_ns
        )
        self.network = SimNetwork(
            nodes, setting.folder, setting.seed, conditions, loop, setting.messages
        )
        self.watcher = Journal(nodes, setting.folder)
        self.processes = SimProcesses(
            system, self.network, self.watcher, setting.seed, conditions, loop
        )
        self.clocks: Clocks = self.processes
        nodes_of = self.processes.nodes
        self.disks: Disks = SimDisks(nodes_of, loop, self.processes.tell)
        dice = random.Random(f"{setting.seed} clients")
        system.dial = Dialler(nodes_of, conditions, dice, loop).dial
        wal = file_name()
        system.read_log = lambda place: records_in(
            nodes_of[place.name].disk.contents(wal), wal
        )
        if setting.tap is not None:
            for (_, dest), link in self.network.links.items():
                told = partial(self._tapped, setting.tap, dest, link.deliver)
                link.deliver = told
        self._messages = MessageLog(setting.folder / MESSAGES)
        if setting.records_messages:
            for ends, link in self.network.links.items():
                link.told = partial(self._became_of, ends)
        self._dice = dice
        if setting.fresh_dice is not None:
            fresh = setting.fresh_dice
            again = f"{setting.seed} again {fresh.seed}"
            moment_ns = max(loop.now_ns, fresh.mono_ns - MONO_EPOCH_NS)
            loop.at_ns(moment_ns, self._throw_anew, again)
        self._loop = loop
        self._interrupts = interrupts

    def _tapped(
        self,
        tap: Tap,
        dest: str,
        deliver: Callable[[str, bytes], None],
        src: str,
        data: bytes,
    ) -> None:
        """Tell the tap of a message, and deliver it."""
        tap(self.time.monotonic_ns(), src, dest, data)
        deliver(src, data)

    def _became_of(self, ends: Link, sent_ns: int, data: bytes, lost: str) -> None:
        """Record what became of a message."""
        mono_ns, took_ns = MONO_EPOCH_NS + sent_ns, self._loop.now_ns - sent_ns
        self._messages.note(mono_ns, ends, data, took_ns, lost)

    def _throw_anew(self, seed: str) -> None:
        """Give all dice of this world a seed of their own again."""
        self._dice.seed(f"{seed} clients")
        for name, node in self.processes.nodes.items():
            node.throw_anew(f"{seed} {name}")
        for (src, dest), link in self.network.links.items():
            link.throw_anew(f"{seed} {src} -> {dest}")

    def on_interrupt(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop when the user interrupts the run."""
        self._interrupts.listen(lambda: self._loop.call_soon(callback))

    async def watch_over(self) -> NoReturn:
        """Wait for ever: no part of this world can die alone."""
        while True:
            await self._loop.create_future()

    async def close(self) -> None:
        """Take the nodes down, and write what they have told to the run folder."""
        await self.processes.close()
        self._messages.close()
        self.watcher.write()


def execute(
    setting: Setting,
    system: Simulated,
    make: Callable[[World], Conducted],
) -> str:
    """Carry out the run of the controller that `make` makes, in a new world.

    Returns:
        Why the run failed, or an empty text.

    Raises:
        KeyboardInterrupt: A stop signal came too late to end this run early. It is for
            the caller, who may have wanted more runs.
    """
    # For mypy: the loop leaves out, on purpose, what has no place in a simulation.
    loop = VirtualTimeLoop()  # type: ignore[abstract]
    with noted() as interrupts:
        world = SimWorld(setting, system, loop, interrupts)
        conducted = make(world)
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            try:
                runner.run(conducted.conduct())
            except HarnessError as failure:
                return str(failure)
    if interrupts.heard and conducted.ended != "interrupted":
        raise KeyboardInterrupt
    return ""
