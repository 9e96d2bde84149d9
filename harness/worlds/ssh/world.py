"""The world of nodes on other machines, for one run.

Nothing is isolated here and nothing forks: all that can go wrong goes wrong on the
hosts, where each agent undoes what it began as soon as this process is gone.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, NoReturn

import uvloop

from harness.errors import HarnessError, SplitbrainError
from harness.host.interrupts import noted
from harness.worlds.os.watch import Watch
from harness.worlds.places import Endpoint, make_place
from harness.worlds.ssh import uploads
from harness.worlds.ssh.link import Link
from harness.worlds.ssh.mirror import Mirror
from harness.worlds.ssh.network import SshNetwork
from harness.worlds.ssh.offer import NFT
from harness.worlds.ssh.processes import HostWarden, SshProcesses
from harness.worlds.world import TrueTime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.data import Json
    from harness.host.interrupts import Interrupts
    from harness.worlds.disks import Disks
    from harness.worlds.ssh.hosts import Host
    from harness.worlds.ssh.offer import Survey
    from harness.worlds.world import Conducted, Setting, World

COLLECT_S = 600.0


class SshWorld:
    """Implements `harness.worlds.world.World`; made by `create`.

    Args:
        setting: The run that the world is for.
        interrupts: The stop signals that end the run early.
        network: The links between nodes.
        wardens: Host -> who starts and ends its nodes.
        links: Host -> its agent.
        on: Node -> its host.
        healed: Host -> what was healed there of earlier runs.
    """

    def __init__(
        self,
        setting: Setting,
        interrupts: Interrupts,
        network: SshNetwork,
        wardens: Mapping[str, HostWarden],
        links: Mapping[str, Link],
        on: Mapping[str, str],
        healed: Mapping[str, list[Json]],
    ) -> None:
        self._interrupts = interrupts
        self._links = links
        self._by_node = {node: links[host] for node, host in on.items()}
        self._healed = healed
        self.note: Callable[[str, Sequence[str], str, Mapping[str, Json]], None]
        self.note = lambda *_: None
        self.time = TrueTime()
        self.network = network
        self.processes = SshProcesses({n: wardens[host] for n, host in on.items()})
        self.clocks = self.processes
        self.disks: Disks | None = None
        self.watcher = Watch(setting.nodes, setting.folder)

    @classmethod
    async def create(
        cls,
        setting: Setting,
        rung: str,
        survey: Survey,
        sent: Sequence[Path],
        interrupts: Interrupts,
    ) -> SshWorld:
        """Start an agent on each host, and agree on addresses.

        Raises:
            UsageError, HarnessError: It can't be done; what was begun is undone.
        """
        run = f"{int(time.time())}-{os.getpid()}-{setting.seed}"
        placed = survey.placed(setting.nodes)
        used = [host for host in survey.hosts if host in placed.values()]
        order = {
            "run": run,
            "peers": list(setting.nodes),
            "rung": "nft" if rung == NFT else "proxy",
            "limits": {
                "data_bytes": setting.limits.data_bytes,
                "log_bytes": setting.limits.log_bytes,
            },
        }
        links: dict[str, Link] = {}

        async def open_link(host: Host) -> None:
            ours = [node for node, at in placed.items() if at is host]
            address = host.node_address
            links[host.name] = await Link.open(
                host, {**order, "nodes": ours, "address": address}
            )

        try:
            async with asyncio.TaskGroup() as group:
                for host in used:
                    group.create_task(open_link(host))
            begun = {name: await link.call("begin") for name, link in links.items()}
            return await cls._connected(
                setting, rung, survey, sent, interrupts, run, links, begun
            )
        except BaseException as failure:  # an interrupt, too, leaves hosts healed
            await asyncio.gather(*(link.close() for link in links.values()))
            if isinstance(failure, BaseExceptionGroup):
                raise failure.exceptions[0] from None
            raise

    @classmethod
    async def _connected(
        cls,
        setting: Setting,
        rung: str,
        survey: Survey,
        sent: Sequence[Path],
        interrupts: Interrupts,
        run: str,
        links: Mapping[str, Link],
        begun: Mapping[str, Mapping[str, Any]],
    ) -> SshWorld:
        placed = survey.placed(setting.nodes)
        listens = {
            node: Endpoint(host.node_address, begun[host.name]["ports"][node])
            for node, host in placed.items()
        }
        places = {
            node: make_place(
                node,
                listens,
                {
                    peer: listens[peer]
                    if rung == NFT
                    else Endpoint("127.0.0.1", begun[host.name]["doors"][node][peer])
                    for peer in setting.nodes
                    if peer != node
                },
                setting.folder,
            )
            for node, host in placed.items()
        }
        targets = {node: [at.host, at.port] for node, at in listens.items()}
        mirror = Mirror(setting.folder, setting.limits)
        shared = [uploads.upload(path) for path in sent]
        wardens: dict[str, HostWarden] = {}
        for host in survey.hosts:
            link = links.get(host.name)
            if link is None:
                continue
            await link.call(
                "connect",
                targets=targets,
                seed=setting.seed,
                ssh_port=survey.ssh_port(host),
            )
            await link.compare_clocks()
            link.on_piece = mirror.take
            wardens[host.name] = HostWarden(
                link,
                begun[host.name],
                run,
                setting.folder,
                mirror,
                shared,
                survey.found[survey.hosts.index(host)]["why_no_clocks"],
            )
        able = survey.offer(rung, len(setting.nodes)).able.network
        network = SshNetwork(rung, able, places, links.values())
        healed = {name: told["healed"] for name, told in begun.items()}
        on = {node: host.name for node, host in placed.items()}
        return cls(setting, interrupts, network, wardens, links, on, healed)

    def on_interrupt(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop when the user interrupts the run."""
        loop = asyncio.get_running_loop()
        self._interrupts.listen(lambda: loop.call_soon_threadsafe(callback))

    async def watch_over(self) -> NoReturn:
        """Wait, and raise HarnessError if a host's agent is gone."""
        waits = {
            asyncio.create_task(link.gone.wait()): link for link in self._links.values()
        }
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        raise HarnessError(waits[done.pop()].why_gone)

    def told(self) -> tuple[str, dict[str, Json]]:
        """A sentence about the hosts, and what is known of each."""
        on = {node: link.host.name for node, link in self._by_node.items()}
        known: dict[str, Json] = {
            name: {
                "address": link.host.node_address,
                "nodes": [node for node, host in on.items() if host == name],
                "wall_ahead_ms": round(link.wall_ahead_ns / 1e6, 3),
                "healed": self._healed[name],
            }
            for name, link in self._links.items()
        }
        where = ", ".join(f"{node} on {host}" for node, host in on.items())
        healed = [name for name, left in self._healed.items() if left]
        also = f"; healed what runs had left on {', '.join(healed)}" if healed else ""
        return f"nodes on other machines: {where}{also}", known

    async def close(self) -> None:
        """End all nodes, bring here what they left, and have each host healed."""
        await self.processes.close()
        ends = await asyncio.gather(
            *map(self._bring_in, self._links.values()), return_exceptions=True
        )
        await asyncio.gather(*(link.close() for link in self._links.values()))
        for failure in ends:
            if failure is not None:
                raise failure

    async def _bring_in(self, link: Link) -> None:
        """End the nodes of a host, and bring here what they left.

        Raises:
            HostError: It can't be asked.
        """
        await link.call("end_nodes")
        for node in (node for node, at in self._by_node.items() if at is link):
            told = await link.call("collect", COLLECT_S, node=node)
            if told["left_out"]:
                words = f"{told['left_out']} files of {node} stayed on its host"
                self.note("left-out", [node], f"{words}: they are too large", told)


def execute(
    setting: Setting,
    rung: str,
    survey: Survey,
    sent: Sequence[Path],
    make: Callable[[World], Conducted],
) -> str:
    """Carry out the run of the controller that `make` makes, on these hosts.

    Returns:
        Why the run failed, or an empty text.

    Raises:
        KeyboardInterrupt: A stop signal came before the world was there.
    """

    async def main() -> None:
        loop = asyncio.get_running_loop()
        making = loop.create_task(
            SshWorld.create(setting, rung, survey, sent, interrupts)
        )
        interrupts.listen(lambda: loop.call_soon_threadsafe(making.cancel))
        try:
            world = await making
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        conducted = make(world)
        world.note = conducted.note
        world.note("hosts", setting.nodes, *world.told())
        await conducted.conduct()

    with noted() as interrupts:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except (SplitbrainError, OSError) as failure:
            return str(failure)
    return ""
