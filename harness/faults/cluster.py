"""The cluster under test: a system's nodes in a world, as nemeses see them.

Brings together what a system says (how to start a node, who leads), what the network
does (links and their rules), what the warden does (processes and clocks) and what disks
do, and keeps the log of what happened to nodes. Knows nothing about why something is
done, or on whose behalf: that is `harness.faults.force`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.errors import HarnessError, SplitbrainError
from harness.faults.leadership import Leadership
from harness.systems.abilities import Administered, Clocked, Led
from harness.worlds.clocks import ClockReading, ClockSetting
from harness.worlds.world import TrueTime

if TYPE_CHECKING:
    from harness.data import Json
    from harness.systems.system import System
    from harness.worlds.clocks import Clocks
    from harness.worlds.disks import Disks
    from harness.worlds.network import Network
    from harness.worlds.places import NodePlace
    from harness.worlds.processes import Exit, Processes

READY_POLL_S = 0.005
RESTART_WAIT_S_MAX = 10.0
LEADER_TIMEOUT_S = 1.0
CLOCK_TIMEOUT_S = 0.5
ASKED_WITHIN_NS = 20_000_000

Note = Callable[[str, Sequence[str], str, Mapping[str, "Json"]], None]
"""Records a node event: (kind, nodes, title, evidence)."""


class ClusterNeverUpError(SplitbrainError):
    """A node never served. There was nothing to test, so the verdict is unknown."""


def exit_text(status: int) -> str:
    """A wait status for people: "exited with status 3", "was killed by SIGKILL"."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


class Cluster:
    """The nodes of one run."""

    def __init__(
        self,
        system: System,
        network: Network,
        processes: Processes,
        clocks: Clocks,
        note: Note,
        time: TrueTime | None = None,
        leadership: Leadership | None = None,
        disks: Disks | None = None,
    ) -> None:
        self.system = system
        self.network = network
        self.processes = processes
        self.clocks = clocks
        self._disks = disks
        self.places: Mapping[str, NodePlace] = network.places
        self.nodes: tuple[str, ...] = tuple(network.places)
        self.clock_samples: Callable[[str, ClockReading], None] = lambda *_: None
        self.why_it_may_end: Callable[[str], str] = lambda _: ""
        """What in force explains that a node ends itself; empty if nothing does."""
        self._leadership = leadership or Leadership(self.nodes)
        self._note = note
        self.time = time or TrueTime()
        self._exits: dict[str, Exit] = {}
        self.kept_down: dict[str, str] = {}
        """node -> why it was killed for good: it exceeded a bound."""
        processes.on_exit(self._exited)

    # Starting and stopping

    async def start(self) -> None:
        """Start all nodes and wait until every one serves.

        Raises:
            ClusterNeverUpError: A node did not serve; says which, and why.
        """
        begun_ns = self.time.monotonic_ns()
        await asyncio.gather(*(self._launch(node) for node in self.nodes))
        limit = self.system.ready_timeout_s
        served = await asyncio.gather(*(self._serves(n, limit) for n in self.nodes))
        for node, ok in zip(self.nodes, served, strict=True):
            if not ok:
                raise ClusterNeverUpError(self._why_not_up(node, limit))
        took_ms = self._ms_since(begun_ns)
        pids = {node: self.processes.pid(node) for node in self.nodes}
        title = f"{len(self.nodes)} nodes serve after {took_ms:.0f} ms"
        self._note("node-start", self.nodes, title, {"pids": pids})

    async def kill(self, nodes: Sequence[str]) -> dict[str, int]:
        """SIGKILL all of `nodes` at once; node -> its pid, 0 if it wasn't running."""
        pids = await asyncio.gather(*(self.processes.kill(node) for node in nodes))
        return dict(zip(nodes, pids, strict=True))

    async def restart(self, nodes: Sequence[str]) -> dict[str, dict[str, Json]]:
        """Start those of `nodes` that aren't running, and wait until they serve.

        A node that doesn't serve in time is noted and does not end the run: a system
        that can't recover is a finding, which its failing operations show.
        """
        dead = [node for node in self.dead() if node in nodes]
        begun_ns = self.time.monotonic_ns()
        await asyncio.gather(*(self._launch(node) for node in dead))
        limit = min(self.system.ready_timeout_s, RESTART_WAIT_S_MAX)

        async def served(node: str) -> dict[str, Json]:
            if not await self._serves(node, limit):
                why = self.why_it_may_end(node) if node in self._exits else ""
                kind = "node-ended" if why else "node-absent"
                self._note(kind, [node], self._why_not_up(node, limit), {})
                ended = self._exits.get(node)
                return {
                    "served": f"not within {limit:g} s"
                    if ended is None
                    else f"not: {exit_text(ended.status)}"
                }
            return {"served_after_ms": round(self._ms_since(begun_ns), 1)}

        waits = await asyncio.gather(*(served(node) for node in dead))
        return {
            node: {"pid": self.processes.pid(node), **how}
            for node, how in zip(dead, waits, strict=True)
        }

    async def pause(self, nodes: Sequence[str]) -> dict[str, Mapping[str, str]]:
        """SIGSTOP all of `nodes`; the states of their processes as read back."""
        states = await asyncio.gather(*(self.processes.pause(node) for node in nodes))
        return dict(zip(nodes, states, strict=True))

    async def resume(self, nodes: Sequence[str]) -> None:
        """Let paused nodes go on."""
        await asyncio.gather(*(self.processes.resume(node) for node in nodes))

    def dead(self) -> tuple[str, ...]:
        """The nodes that aren't running, without those that are kept down."""
        return tuple(
            node
            for node in self.nodes
            if self.processes.pid(node) is None and node not in self.kept_down
        )

    # Disks

    @property
    def disks(self) -> Disks:
        """The nodes' disks.

        Raises:
            HarnessError: The world has none to act on, and should not have been asked.
        """
        if self._disks is None:
            raise HarnessError("nothing can be done to disks here")
        return self._disks

    # Clocks

    async def set_clock(self, node: str, setting: ClockSetting) -> None:
        """Change a node's clocks; a node that isn't running has none to change."""
        if self.processes.pid(node) is None:
            return
        try:
            await self.clocks.set_clock(node, setting)
        except HarnessError:
            # The node may have died meanwhile, by a kill or by itself.
            if await self.clocks.read_clock(node) is not None:
                raise

    async def read_clock(self, node: str) -> ClockReading | None:
        """A node's clocks minus the true ones; None if the node isn't running.

        The wall clock is asked of the node itself where its system allows that; the
        rest is read from the memory that the node's clock calls use.
        """
        reading = await self.clocks.read_clock(node)
        if reading is None:
            return None
        asked = await self._asked_wall_offset_ns(node)
        if asked is not None:
            reading = ClockReading(asked, reading.mono_offset_ns, "asked the node")
        self.clock_samples(node, reading)
        return reading

    async def _asked_wall_offset_ns(self, node: str) -> int | None:
        if not isinstance(self.system, Clocked):
            return None
        before_ns = self.time.wall_ns()
        try:
            async with asyncio.timeout(CLOCK_TIMEOUT_S):
                theirs = await self.system.read_wall_clock_ns(self.places[node])
        except (TimeoutError, OSError, SplitbrainError):
            return None
        took_ns = self.time.wall_ns() - before_ns
        # The answer is exact to half the time it took, so a slow one proves little.
        if theirs is None or took_ns > ASKED_WITHIN_NS:
            return None
        return theirs - before_ns - took_ns // 2

    # Roles

    def seems_to_lead(self) -> tuple[str, str]:
        """A node that may lead though none says so, and why it may be that one."""
        dead = self.dead()
        running = [node for node in self.nodes if node not in dead]
        return self._leadership.guess(running or self.nodes)

    @property
    def tells_leader(self) -> bool:
        """Whether the system's nodes can be asked who leads."""
        return isinstance(self.system, Led)

    async def leader(self) -> str | None:
        """The node that says it leads; None if none says so within a second."""
        if not isinstance(self.system, Led):
            return None
        try:
            async with asyncio.timeout(LEADER_TIMEOUT_S):
                return await self.system.leader(list(self.places.values()))
        except (TimeoutError, OSError, SplitbrainError):
            return None

    async def admin(
        self, node: str, body: Mapping[str, Json], timeout_s: float
    ) -> Mapping[str, Json]:
        """Send an operator's request to a node.

        Returns:
            The node's answer; empty if it refused, or if no answer came.

        Raises:
            HarnessError: The system takes no such requests, so asking it is our fault.
        """
        if not isinstance(self.system, Administered):
            raise HarnessError(f"{self.system.name} takes no operator's requests")
        try:
            return await self.system.admin(self.places[node], body, timeout_s)
        except OSError:
            return {}

    # Helpers

    async def _launch(self, node: str) -> None:
        place = self.places[node]
        self._exits.pop(node, None)
        await self.processes.start(place, self.system.launch(place))

    async def _serves(self, node: str, limit_s: float) -> bool:
        begun_ns = self.time.monotonic_ns()
        place = self.places[node]
        while node not in self._exits:
            left_s = limit_s - self._ms_since(begun_ns) / 1000
            if left_s <= 0:
                break
            try:
                async with asyncio.timeout(max(0.1, left_s)):
                    if await self.system.ready(place):
                        return True
            except (TimeoutError, OSError, SplitbrainError):
                pass
            await asyncio.sleep(READY_POLL_S)
        return False

    def _ms_since(self, then_ns: int) -> float:
        return (self.time.monotonic_ns() - then_ns) / 1e6

    def _why_not_up(self, node: str, limit_s: float) -> str:
        exited = self._exits.get(node)
        if node in self.kept_down:
            return self.kept_down[node]
        if exited is not None:
            hint = "; a node must stay in the foreground" if not exited.status else ""
            return f"{node} {exit_text(exited.status)} before it served{hint}"
        listen = self.places[node].listen
        return f"{node} did not serve on {listen} within {limit_s:g} s"

    def _exited(self, exited: Exit) -> None:
        self._exits[exited.node] = exited
        if exited.why:
            text = f"{exited.node} was killed and stays down: {exited.why}"
            self.kept_down[exited.node] = text
            self._note("kept-down", [exited.node], text, {"pid": exited.pid})
        elif not exited.expected:
            why = self.why_it_may_end(exited.node)
            self._note(
                "node-ended" if why else "node-exit",
                [exited.node],
                f"{exited.node} {exit_text(exited.status)} {why or 'on its own'}",
                {"pid": exited.pid, "status": exited.status},
            )
