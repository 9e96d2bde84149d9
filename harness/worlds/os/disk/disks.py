"""The controller's side of nodes' disks: `harness.worlds.disks.Disks`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import mmap
from collections import Counter
from typing import TYPE_CHECKING, Protocol, TypeVar

from harness.errors import HarnessError
from harness.override import override
from harness.worlds.disks import Decayed, DiskCounters, Disks, Lost
from harness.worlds.os.disk.mounting import fork_server
from harness.worlds.os.disk.orders import (
    Arm,
    AskCounters,
    AwaitMoment,
    Counted,
    Decay,
    Drown,
    Look,
    Repair,
    Restart,
    SetRules,
    Snapshot,
)
from harness.worlds.os.spawn import Disk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    import msgspec

    from harness.worlds.disks import Damage, DiskRule, Loss
    from harness.worlds.os.helper import Helper
    from harness.worlds.places import NodePlace

T = TypeVar("T")

_LONGEST_S = 3600.0
"""For what comes when the controller says so."""


class Nodes(Protocol):
    """Of `Warden`, what disks take."""

    async def doom(self, node: str) -> int:
        """Send SIGKILL to all that is the node's, and wait for none of it."""
        ...

    async def kill(self, node: str) -> int:
        """Return once all that is the node's is gone."""
        ...

    def around_start(
        self, guard: Callable[[str], contextlib.AbstractAsyncContextManager[None]]
    ) -> None:
        """Have each start of a node happen within what `guard` makes of its name."""
        ...


class OsDisks(Disks):
    """The disks of real nodes; made by `fork`.

    Attributes:
        mounted: What the warden has to know of each node's disk.
    """

    def __init__(
        self,
        servers: Mapping[str, Helper],
        mounted: Mapping[str, Disk],
        moment: mmap.mmap,
    ) -> None:
        self._servers = servers
        self.mounted = mounted
        self._moment = moment
        self._cutting = asyncio.Lock()
        self._busy = {node: asyncio.Lock() for node in servers}
        """Whether a node is started, or loses power; never both at once."""
        self._warden: Nodes | None = None

    @classmethod
    def fork(cls, places: Mapping[str, NodePlace]) -> OsDisks:
        """Start a process for each node's disk, and mount them.

        Synchronous, for it forks: call it before any thread or event loop is there,
        inside `run_isolated`. Cost: about 10 ms a node.

        Raises:
            HarnessError: They can't be had here; `mounting.why_no_disks` says why.
        """
        moment = mmap.mmap(-1, mmap.PAGESIZE)
        servers: dict[str, Helper] = {}
        mounted: dict[str, Disk] = {}
        for name, place in places.items():
            beside = place.data_dir.parent / "disk"
            servers[name] = fork_server(name, place.data_dir, beside, moment)
            mounted[name] = Disk(str(beside / "mount"), servers[name].pid)
        return cls(servers, mounted, moment)

    def serve(self, warden: Nodes) -> None:
        """Say whose nodes they are; once, before anything else."""
        self._warden = warden
        warden.around_start(self._starting)

    @property
    def pids(self) -> list[int]:
        """The processes that serve them."""
        return [server.pid for server in self._servers.values()]

    def name_of(self, pid: int) -> str:
        """What one of those processes is called."""
        return next(one.name for one in self._servers.values() if one.pid == pid)

    @override
    async def cut_power(self, losses: Mapping[str, Loss]) -> Mapping[str, Lost]:
        """Cut the power of these nodes, all at the same moment.

        Raises:
            HarnessError: A node's process is not gone in time, or a disk's died.
        """
        warden = self._warden
        assert warden is not None
        servers = {node: self._server(node) for node in losses}
        async with self._cutting, contextlib.AsyncExitStack() as busy:
            for node in sorted(losses):
                await busy.enter_async_context(self._busy[node])
            self._moment[0] = 0
            waits = [loss.within_s for loss in losses.values() if loss.during]
            within_s = max(waits, default=_LONGEST_S)
            await asyncio.gather(
                *(
                    servers[node].tell(Arm(loss.during, within_s))
                    for node, loss in losses.items()
                )
            )
            if not waits:
                self._moment[0] = 1
            await _ask_all(servers, AwaitMoment(), bool, takes_s=max(waits, default=0))
            pids = await asyncio.gather(*(warden.doom(node) for node in losses))
            await asyncio.gather(*(one.tell(Drown()) for one in servers.values()))
            await asyncio.gather(*(warden.kill(node) for node in losses))
            lost = await asyncio.gather(
                *(
                    servers[node].ask(Restart(loss), Lost)
                    for node, loss in losses.items()
                )
            )
        return {
            node: dataclasses.replace(one, pid=pid)
            for node, one, pid in zip(losses, lost, pids, strict=True)
        }

    @override
    async def set_rules(self, rules: Mapping[str, Sequence[DiskRule]]) -> None:
        """Raises HarnessError when a disk's process has died."""
        for node in rules:
            self._server(node)
        await asyncio.gather(
            *(
                server.tell(SetRules(list(rules.get(node, ()))))
                for node, server in self._servers.items()
            )
        )

    @override
    async def counters(self) -> Mapping[str, DiskCounters]:
        """Raises HarnessError when a disk's process has died."""
        counted = await _ask_all(self._servers, AskCounters(), Counted)
        return {
            node: DiskCounters(Counter(one.errors), Counter(one.delayed), one.syncs)
            for node, one in counted.items()
        }

    @override
    async def snapshot(self, node: str, damage: Damage) -> int:
        """Raises HarnessError when the disk's process has died."""
        return await self._server(node).ask(Snapshot(damage), int)

    @override
    async def damage(self, node: str, damage: Damage) -> Decayed:
        """Raises HarnessError when the disk's process has died."""
        return await self._server(node).ask(Decay(damage), Decayed)

    @override
    async def repair(self, node: str) -> int:
        """Raises HarnessError when the disk's process has died."""
        return await self._server(node).ask(Repair(), int)

    async def close(self) -> None:
        """Unmount; nobody uses them any more.

        Raises:
            HarnessError: One had died, and nobody had noticed yet.
        """
        await asyncio.gather(*(server.close() for server in self._servers.values()))

    @contextlib.asynccontextmanager
    async def _starting(self, node: str) -> AsyncIterator[None]:
        async with self._busy[node]:
            await self._server(node).tell(Look())
            yield

    def _server(self, node: str) -> Helper:
        try:
            return self._servers[node]
        except KeyError:
            raise HarnessError(f"{node} has no disk of ours") from None


async def _ask_all(
    servers: Mapping[str, Helper],
    order: msgspec.Struct,
    kind: type[T],
    *,
    takes_s: float = 0.0,
) -> dict[str, T]:
    told = await asyncio.gather(
        *(one.ask(order, kind, takes_s=takes_s) for one in servers.values())
    )
    return dict(zip(servers, told, strict=True))
