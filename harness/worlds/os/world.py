"""Sets up the os world: real processes, links and clocks.

The order matters. Everything that forks (namespaces, switch, warden) happens in a
process with one thread and before there is an event loop; only then the controller
starts, which uses asyncio alone. However the controller ends, all that it started ends
too: pid 1 of its pid namespace ends with it, and the warden watches its socket.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, NoReturn

import uvloop

from harness.errors import HarnessError
from harness.host.interrupts import noted, stop_signals
from harness.worlds.messages import MESSAGES
from harness.worlds.os.disk import mounting
from harness.worlds.os.disk.disks import OsDisks
from harness.worlds.os.disk.plain import PlainDisks
from harness.worlds.os.namespaces import IsolationError, run_isolated
from harness.worlds.os.proxy import ProxyNetwork
from harness.worlds.os.router import RouterNetwork
from harness.worlds.os.switch import SwitchNetwork
from harness.worlds.os.warden import Warden
from harness.worlds.os.watch import Watch
from harness.worlds.world import CAPTURE, TrueTime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness.host.interrupts import Interrupts
    from harness.worlds.clocks import Clocks
    from harness.worlds.disks import Disks
    from harness.worlds.world import Conducted, Setting, World

NODE_PORT = 7000


class OsWorld:
    """Implements `harness.worlds.world.World`. Forks: make it while nothing else runs.

    Args:
        setting: The run that the world is for.
        rung: The rung of the network: "switch", "proxy" or "router".
        interrupts: The stop signals that end the run early.
        why_uncaged: Why nodes can't be caged; empty if they can, which needs namespaces
            of our own.

    Raises:
        HarnessError: A part of the world can't be set up here.
    """

    def __init__(
        self,
        setting: Setting,
        rung: str,
        interrupts: Interrupts,
        why_uncaged: str,
    ) -> None:
        self._interrupts = interrupts
        self.time = TrueTime()
        self.network: SwitchNetwork | ProxyNetwork | RouterNetwork = (
            SwitchNetwork.create(
                setting.nodes,
                setting.folder,
                port=NODE_PORT,
                seed=setting.seed,
                messages=setting.messages,
                pcap=setting.folder / CAPTURE if setting.capture else None,
            )
            if rung == "switch"
            else RouterNetwork.create(
                setting.nodes,
                setting.folder,
                seed=setting.seed,
                messages=setting.messages,
                log=setting.folder / MESSAGES if setting.records_messages else None,
            )
            if rung == "router"
            else ProxyNetwork.create(
                setting.nodes,
                setting.folder,
                seed=setting.seed,
                messages=setting.messages,
            )
        )
        places = self.network.places
        fuse = setting.disks and not mounting.why_no_disks()
        disks = OsDisks.fork(places) if fuse else None
        self.plain_disks: PlainDisks | None = None
        if setting.disks and disks is None:
            # Before there is a warden, whose nodes have to see them.
            room = setting.limits.data_bytes if "full" in setting.disks else 0
            self.plain_disks = PlainDisks(places, room)
        self.processes = Warden.fork(
            self.network.netns_fds,
            None if why_uncaged else setting.folder,
            setting.limits,
            None if disks is None else disks.mounted,
        )
        if disks is not None:
            disks.serve(self.processes)
        self.clocks: Clocks = self.processes
        self.fuse_disks = disks
        self.disks: Disks | None = disks or self.plain_disks
        self.why_uncaged = why_uncaged or self.processes.why_no_cages
        self.watcher = Watch(setting.nodes, setting.folder)

    def on_interrupt(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop when the user interrupts the run."""
        loop = asyncio.get_running_loop()
        self._interrupts.listen(lambda: loop.call_soon_threadsafe(callback))

    async def watch_over(self) -> NoReturn:
        """Wait, and raise HarnessError if a process that carries the world dies."""
        disks = [] if self.fuse_disks is None else self.fuse_disks.pids
        died = await first_to_end(
            [self.processes.warden_pid, self.network.carrier_pid, *disks]
        )
        if died == self.network.carrier_pid:
            await self.network.counters()  # which raises, with its last words
        if self.fuse_disks is not None and died in disks:
            await self.fuse_disks.counters()  # the same
        raise HarnessError("the warden process, parent of all nodes, died")

    async def close(self) -> None:
        """Take nodes and network down, and wait until they are gone."""
        await self.processes.close()
        if self.fuse_disks is not None:
            await self.fuse_disks.close()
        if self.plain_disks is not None:
            self.plain_disks.close()
        await self.network.close()


def execute(setting: Setting, rung: str, make: Callable[[World], Conducted]) -> str:
    """Carry out the run of the controller that `make` makes, in a new world.

    Returns:
        Why the run failed, or an empty text.

    Raises:
        KeyboardInterrupt: A stop signal came before the controller listened, or came
            again; run.json may be missing.
    """

    def main(why_uncaged: str = "") -> int:
        with noted() as interrupts:
            try:
                world = OsWorld(setting, rung, interrupts, why_uncaged)
            except OSError as problem:
                raise HarnessError(f"cannot set up a world: {problem}") from problem
            conducted = make(world)
            if world.why_uncaged:
                words = "nodes are not caged, and could harm the run"
                conducted.note("uncaged", [], f"{words}: {world.why_uncaged}", {})
            if world.plain_disks is not None:
                words = "disks can only be full, or be damaged where a node is down"
                why = mounting.why_no_disks()
                conducted.note("plain-disks", [], f"{words}: {why}", {})
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(conducted.conduct())
        return 0

    try:
        status = _isolated_if_possible(main, rung)
    except HarnessError as failure:
        return str(failure)
    if status - 128 in stop_signals():
        raise KeyboardInterrupt
    return f"the controller ended with status {status}" if status else ""


def _isolated_if_possible(main: Callable[..., int], rung: str) -> int:
    """Run `main` in namespaces; returns its exit status.

    The other rungs do without one of the network, and without any if need be.
    """
    try:
        return run_isolated(main, network=rung == "switch")
    except IsolationError as error:
        if rung == "switch":
            raise
        why_uncaged = str(error)
    return main(why_uncaged)


async def first_to_end(pids: Iterable[int]) -> int:
    """Wait until one of these children of ours ends; returns its pid."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def tell(pid: int) -> None:
        if not ended.done():
            ended.set_result(pid)

    watched = {os.pidfd_open(pid): pid for pid in pids}
    try:
        for descriptor, pid in watched.items():
            loop.add_reader(descriptor, tell, pid)
        return await ended
    finally:
        for descriptor in watched:
            loop.remove_reader(descriptor)
            os.close(descriptor)
