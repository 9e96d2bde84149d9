"""The nodes under examination: started, killed, and seen to listen where they should.

The warden of a world starts them, as in a run: environment, network and cages are the
same.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from harness.adapter import looking
from harness.adapter.rules import RULES
from harness.errors import HarnessError, NodeReply
from harness.faults.cluster import exit_text
from harness.run.store import RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.adapter.findings import Notebook
    from harness.systems.launch import LaunchSystem
    from harness.worlds.places import NodePlace
    from harness.worlds.processes import Ended, Exit
    from harness.worlds.world import World

LATE_S = 20.0
"""How long a node is waited for that is late, so that it can be told by how much."""
POLL_S = 0.02
LOG_LINES = 6


class StopHereError(Exception):
    """Nothing more can be looked at."""


class Nodes:
    """All nodes of an examination.

    Args:
        world: Where they live.
        system: How they are started.
        notes: Where findings go.
        folder: The folder that they live in.

    Attributes:
        what: What the check is doing to them, for findings about their ends.
        up_after_s: Node -> how long its last start took until it accepted connections.
    """

    def __init__(
        self, world: World, system: LaunchSystem, notes: Notebook, folder: Path
    ) -> None:
        self.places: dict[str, NodePlace] = dict(world.network.places)
        self.names = list(self.places)
        self.what = "it was started"
        self.up_after_s: dict[str, float] = {}
        self._world = world
        self._system = system
        self._notes = notes
        self._folder = RunFolder(folder)
        self._exits: dict[str, Exit] = {}
        self._begun_s: dict[str, float] = {}
        world.processes.on_exit(self._exited)

    async def start(self) -> None:
        """Start all nodes, and see that each listens where it was told to.

        Raises:
            StopHereError: One doesn't.
        """
        await self._up(self.names, "listens")
        slowest_ms = max(self.up_after_s.values()) * 1000
        self._notes.keeps(RULES["foreground"])
        self._notes.keeps(RULES["listens"], f"after {slowest_ms:.0f} ms")

    async def serve_again(self, nodes: Sequence[str] = ()) -> None:
        """Start those of the nodes that don't run, by default of all.

        Raises:
            StopHereError: One does not accept connections then.
        """
        running = self._world.processes.pid
        await self._up([n for n in nodes or self.names if not running(n)], "returns")

    async def end(self, nodes: Sequence[str], patience_s: float = 0.0) -> list[Ended]:
        """End nodes, all at once, by SIGTERM first if there is some patience."""
        for node in nodes:
            self.up_after_s.pop(node, None)
        ended = await self._world.processes.end(nodes, patience_s)
        return [ended[node] for node in nodes]

    def runs(self, node: str) -> bool:
        """Whether a process of the node runs."""
        return self._world.processes.pid(node) is not None

    def log(self, node: str) -> str:
        """The end of a node's log, as a part of what was seen."""
        tail = self.tail(node)
        return f"\nits log ends:\n{tail}" if tail else "\nits log is empty"

    def tail(self, node: str) -> str:
        """The last lines of a node's log."""
        return self._folder.tail_of_log(node, lines=LOG_LINES)

    async def _up(self, nodes: Sequence[str], rule: str) -> None:
        for node in nodes:
            self.up_after_s.pop(node, None)
        await asyncio.gather(*(self._launch(node, rule) for node in nodes))
        up = await asyncio.gather(*(self._comes_up(node, rule) for node in nodes))
        if not all(up):
            raise StopHereError

    async def _launch(self, node: str, rule: str) -> None:
        place = self.places[node]
        self._exits.pop(node, None)
        self._begun_s[node] = time.monotonic()
        try:
            await self._world.processes.start(place, self._system.launch(place))
        except HarnessError as problem:
            seen = str(problem).removeprefix(f"{node}: ")
            advice = "make the command one that runs from a shell without the check"
            self._notes.breaks(RULES[rule], node, "started it", seen, advice=advice)
            raise StopHereError from problem

    async def _comes_up(self, node: str, rule: str) -> bool:
        """Wait until a node accepts connections, and note why if it doesn't.

        A node that is late breaks the rule, and is as good as others from then on.
        """
        limit_s, listen = self._system.ready_timeout_s, self.places[node].listen
        if await self._accepts(node, limit_s):
            return True
        did = f"started it with SPLITBRAIN_LISTEN={listen}"
        heard = looking.listeners(self._pids(node))
        if node not in self._exits and not heard and await self._accepts(node, LATE_S):
            took_s = self.up_after_s[node]
            seen = f"accepted connections only after {took_s:.1f} s"
            advice = (
                f"be ready within {limit_s:g} s, or give it more time, here and in "
                f"runs: --set ready_timeout_s={2 * took_s:.0f}"
            )
            self._notes.breaks(RULES[rule], node, did, seen, advice=advice)
            return True
        if node in self._exits:
            self._note_exit(node, did, self._exits[node], rule)
            return False
        seen, advice = elsewhere(heard, listen.port, limit_s + LATE_S * (not heard))
        seen += self.log(node)
        self._notes.breaks(RULES[rule], node, did, seen, advice=advice)
        return False

    async def _accepts(self, node: str, limit_s: float) -> bool:
        """Whether a node accepts connections before the limit, or before it exits."""
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s and node not in self._exits:
            try:
                ready = await self._system.ready(self.places[node])
            except (OSError, NodeReply):
                ready = False
            if ready:
                self.up_after_s[node] = time.monotonic() - self._begun_s[node]
                return True
            await asyncio.sleep(POLL_S)
        return False

    def _pids(self, node: str) -> list[int]:
        return looking.processes_of(self.places[node].data_dir)

    def _note_exit(self, node: str, did: str, exited: Exit, rule: str) -> None:
        """Note that a node's process ended before it accepted connections."""
        after_s = time.monotonic() - self._begun_s[node]
        seen = f"its process {exit_text(exited.status)} within {after_s:.1f} s"
        pids, advice = self._pids(node), ""
        if pids:
            rule = "foreground"
            heard = " and ".join(map(str, looking.listeners(pids)))
            where = f" and listen at {heard}" if heard else ""
            seen += f", while processes that it had started go on{where}"
        else:
            advice = "see why it ends; started by hand it needs the same variables"
            if "address already in use" in self.tail(node).lower():
                advice = (
                    "take host and port from SPLITBRAIN_LISTEN: with a fixed port, two "
                    "nodes of one machine have the same address"
                )
        seen += self.log(node)
        self._notes.breaks(RULES[rule], node, did, seen, advice=advice)

    def _exited(self, exited: Exit) -> None:
        self._exits[exited.node] = exited
        if exited.expected or exited.node not in self.up_after_s:
            return  # told by whoever waits for it
        seen = f"{exit_text(exited.status)} by itself{self.log(exited.node)}"
        self._notes.breaks(
            RULES["stays"], exited.node, f"before that {self.what}", seen
        )


def elsewhere(
    heard: Sequence[looking.Listener], port: int, after_s: float
) -> tuple[str, str]:
    """Where a node listens in place of where it should: (what was seen, advice)."""
    if not heard:
        return f"runs, and listens nowhere after {after_s:g} s", ""
    seen = f"listens at {' and '.join(map(str, heard))} only"
    if all(":" in one.host for one in heard):
        return seen, "listen at the IPv4 address in SPLITBRAIN_LISTEN"
    if any(one.port == port for one in heard):
        return seen, (
            "take the host from SPLITBRAIN_LISTEN, too: others can't reach a node at "
            "127.0.0.1 or localhost"
        )
    return seen, (
        "take the port from SPLITBRAIN_LISTEN: with a fixed port, two nodes of one "
        "machine have the same address"
    )
