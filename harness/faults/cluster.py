"""The cluster under test: a system's nodes in a world, as nemeses see them.

Brings together what a system says (how to start a node, who leads), what the network
does (links and their rules), what the warden does (processes and clocks) and what disks
do, and keeps the log of what happened to nodes. Knows nothing about why something is
done, or on whose behalf: that is `harness.faults.force`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import HarnessError, NodeReply, SplitbrainError, Timeout
from harness.faults.leadership import Leadership
from harness.systems.abilities import Administered, Clocked, Led
from harness.worlds.clocks import ClockReading, ClockSetting
from harness.worlds.world import TrueTime

if TYPE_CHECKING:
    from harness.data import Json
    from harness.systems.abilities import Change
    from harness.systems.system import System
    from harness.worlds.clocks import Clocks
    from harness.worlds.disks import Disks
    from harness.worlds.network import Network
    from harness.worlds.places import Launch, NodePlace
    from harness.worlds.processes import Ended, Exit, Processes

READY_POLL_S = 0.005
RESTART_WAIT_S_MAX = 10.0
"""How long a node that was started again is waited for; and all nodes together, once
the run's time is up."""
LAST_WAIT_S_MIN = 1.0
"""How long a node is waited for that is started when that time is nearly over."""
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


async def _without_result(start: Awaitable[int]) -> None:
    await start


async def _nothing() -> None:
    """Wait for nothing."""


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
        # Asked for again and again, and a protocol takes 20 us to look for.
        self._clocked = system if isinstance(system, Clocked) else None
        self._led = system if isinstance(system, Led) else None
        self._administered = system if isinstance(system, Administered) else None
        self.network = network
        self.processes = processes
        self.clocks = clocks
        self._disks = disks
        self.places: dict[str, NodePlace] = dict(network.places)
        self.nodes: tuple[str, ...] = tuple(network.places)
        self.clock_samples: Callable[[str, ClockReading], None] = lambda *_: None
        self.why_it_may_end: Callable[[str], str] = lambda _: ""
        """What in force explains that a node ends itself; empty if nothing does."""
        self.held_down: Callable[[str], bool] = lambda _: False
        """Whether a fault in force holds the node down, or would make it end again."""
        self.on_crash: Callable[[str], None] = lambda _: None
        """Told of a node that exited on its own, whether a fault explains it or not."""
        self._leadership = leadership or Leadership(self.nodes)
        self._note = note
        self.time = time or TrueTime()
        self._exits: dict[str, Exit] = {}
        self._whys: dict[str, str] = {}
        """node -> what explained its last end, if that was its own."""
        self.launched: dict[str, Launch] = {}
        """node -> what it was started with last."""
        self._launches: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Future[Mapping[str, Ended]]] = {}
        """node -> the last order to end it, if that is under way."""
        self._not_served: set[str] = set()
        """Nodes that run and have not been seen to serve."""
        self._hurry = asyncio.Event()
        self._hurry_until_ns = 0
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
        await asyncio.gather(*map(self._launch, self.nodes))
        limit = self.system.ready_timeout_s
        served = await asyncio.gather(*(self._serves(n, limit) for n in self.nodes))
        for node, ok in zip(self.nodes, served, strict=True):
            if not ok:
                raise ClusterNeverUpError(self._why_not_up(node, limit))
        took_ms = self._ms_since(begun_ns)
        known = {node: self.processes.pid(node) for node in self.nodes}
        pids = {node: pid for node, pid in known.items() if pid != 0}
        title = f"{len(self.nodes)} nodes serve after {took_ms:.0f} ms"
        self._note("node-start", self.nodes, title, {"pids": pids})

    async def kill(self, nodes: Sequence[str]) -> dict[str, int]:
        """SIGKILL all of `nodes` at once; node -> its pid, 0 if it wasn't running."""
        ended = await self.end(nodes)
        return {node: one.pid for node, one in ended.items()}

    async def end(
        self, nodes: Sequence[str], patience_s: float = 0.0
    ) -> Mapping[str, Ended]:
        """End all of `nodes` at once, as `Processes.end` does.

        The end goes on if whoever asked for it is cancelled, and a restart waits for
        it: else a heal would find that the nodes run, and leave them to die.
        """
        # A start under way would else begin after the end that was to follow it.
        under_way = [task for n, task in self._launches.items() if n in nodes]
        if under_way:
            await asyncio.wait(under_way)
        ending = asyncio.ensure_future(self.processes.end(nodes, patience_s))
        self._ends.update(dict.fromkeys(nodes, ending))
        ending.add_done_callback(self._has_ended)
        return await asyncio.shield(ending)

    async def restart(self, nodes: Sequence[str]) -> dict[str, dict[str, Json]]:
        """Start those of `nodes` that aren't running, and wait until all serve.

        Those that run and have served are no part of the answer.

        A node that doesn't serve in time is noted and does not end the run: a system
        that can't recover is a finding, which its failing operations show.
        """
        ends = {end for node, end in self._ends.items() if node in nodes}
        if ends:
            await asyncio.wait(ends)
        down = [node for node in self.dead() if node in nodes]
        dead = [*down, *(n for n in nodes if n in self._not_served and n not in down)]
        begun_ns = self.time.monotonic_ns()
        limit = self._restart_limit_s()
        await asyncio.gather(*map(self._launch, dead))

        async def served(node: str) -> dict[str, Json]:
            if await self._serves(node, limit):
                return {"served_after_ms": round(self._ms_since(begun_ns), 1)}
            ended = self._exits.get(node)
            if ended is not None and ended.expected and not ended.why:
                return {"served": "not: it was ended again"}
            why = self._whys[node] if ended is not None else ""
            kind = "node-ended" if why else "node-absent"
            self._note(kind, [node], self._why_not_back(node, limit), {})
            return {
                "served": f"not within {limit:.3g} s"
                if ended is None
                else f"not: {exit_text(ended.status)}"
            }

        waits = await asyncio.gather(*(served(node) for node in dead))
        return {
            node: {**({} if pid == 0 else {"pid": pid}), **how}
            for node, how in zip(dead, waits, strict=True)
            for pid in (self.processes.pid(node),)
        }

    def hurry(self) -> None:
        """Have every wait for nodes end soon: the run's time is up."""
        self._hurry_until_ns = self.time.monotonic_ns() + int(RESTART_WAIT_S_MAX * 1e9)
        self._hurry.set()

    async def rest(self, seconds: float) -> bool:
        """Let time pass; False, and at once, when the run's time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        return not self._hurry.is_set()

    async def pause(self, nodes: Sequence[str]) -> dict[str, Mapping[str, str]]:
        """SIGSTOP all of `nodes`; the states of their processes as read back."""
        states = await asyncio.gather(*(self.processes.pause(node) for node in nodes))
        return dict(zip(nodes, states, strict=True))

    async def resume(self, nodes: Sequence[str]) -> None:
        """Let paused nodes go on."""
        await asyncio.gather(*(self.processes.resume(node) for node in nodes))

    def dead(self) -> tuple[str, ...]:
        """The nodes that don't run and aren't being started, without the kept down."""
        return tuple(
            node
            for node in self.nodes
            if self.processes.pid(node) is None
            and node not in self.kept_down
            and node not in self._launches
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
        if self._clocked is None:
            return None
        before_ns = self.time.wall_ns()
        try:
            async with asyncio.timeout(CLOCK_TIMEOUT_S):
                theirs = await self._clocked.read_wall_clock_ns(self.places[node])
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
        return self._led is not None

    async def leader(self) -> str | None:
        """The node that says it leads; None if none says so within a second."""
        if self._led is None:
            return None
        try:
            async with asyncio.timeout(LEADER_TIMEOUT_S):
                leader = await self._led.leader(list(self.places.values()))
        except (TimeoutError, OSError, SplitbrainError):
            return None
        if leader is not None:
            self._leadership.told()
        return leader

    # Members

    @property
    def operated(self) -> Administered:
        """The system, as an operator sees it.

        Raises:
            HarnessError: Its members can't be changed, and asking it is our fault.
        """
        if self._administered is None:
            raise HarnessError(f"{self.system.name} takes no operator's requests")
        return self._administered

    async def members(self) -> list[str]:
        """The members, in order, by what nodes say; empty if nobody tells."""
        try:
            async with asyncio.timeout(LEADER_TIMEOUT_S):
                named = await self.operated.members(list(self.places.values()))
        except (TimeoutError, OSError, NodeReply, Timeout):
            return []
        return [node for node in self.nodes if node in named]

    async def change(
        self, change: Change, node: str, through: str, timeout_s: float
    ) -> None:
        """Have a node change the members, or who leads, as `Administered` has it.

        Raises:
            NodeReply: It refused, or nobody knows.
            Timeout: It is not known to be done in time.
        """
        places = self.places
        try:
            await self.operated.change(change, places[node], places[through], timeout_s)
        except OSError as error:
            raise NodeReply(definite=False, text=str(error)) from error

    async def empty(self, node: str) -> int:
        """Take away what is on the disk of a node that is down; how many bytes.

        From then on it joins the cluster that there is, whenever it starts.
        """
        size = await self.processes.empty(self.places[node])
        place = self.places[node]
        self.places[node] = replace(place, joins=place.joins + 1)
        return size

    # Helpers

    def _launch(self, node: str) -> Awaitable[None]:
        """Start a node that isn't running, or join the start that is under way.

        The start goes on if whoever asked for it is cancelled: the warden has the order
        by then, and the next order for the node has to come after it.
        """
        if node not in self._launches and self.processes.pid(node) is None:
            self._exits.pop(node, None)
            self._not_served.add(node)
            place = self.places[node]
            self.launched[node] = self.system.launch(place)
            start = self.processes.start(place, self.launched[node])
            task = asyncio.ensure_future(_without_result(start))
            self._launches[node] = task
            task.add_done_callback(lambda _: self._launches.pop(node))
            task.add_done_callback(lambda t: t.cancelled() or t.exception())
        return asyncio.shield(self._launches.get(node) or _nothing())

    def _has_ended(self, ending: asyncio.Future[Mapping[str, Ended]]) -> None:
        """Forget an order to end nodes; later ones for the same nodes go on."""
        self._ends = {n: end for n, end in self._ends.items() if end is not ending}
        if not ending.cancelled():
            ending.exception()  # whoever still waits for it raises it

    def _restart_limit_s(self) -> float:
        """How long to wait for a node that is started again now."""
        limit_s = min(self.system.ready_timeout_s, RESTART_WAIT_S_MAX)
        if not self._hurry.is_set():
            return limit_s
        left_s = (self._hurry_until_ns - self.time.monotonic_ns()) / 1e9
        return min(limit_s, max(left_s, LAST_WAIT_S_MIN))

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
                        self._not_served.discard(node)
                        return True
            except (TimeoutError, OSError, SplitbrainError):
                pass
            await asyncio.sleep(READY_POLL_S)
        return False

    def _ms_since(self, then_ns: int) -> float:
        return (self.time.monotonic_ns() - then_ns) / 1e6

    def _why_not_back(self, node: str, limit_s: float) -> str:
        if node in self._exits or node in self.kept_down:
            return self._why_not_up(node, limit_s)
        return f"{node} did not serve again within {limit_s:.3g} s"

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
        why = self.why_it_may_end(exited.node)
        self._whys[exited.node] = why
        self._not_served.discard(exited.node)
        if exited.why:
            text = f"{exited.node} was killed and stays down: {exited.why}"
            self.kept_down[exited.node] = text
            self._note("kept-down", [exited.node], text, {"pid": exited.pid})
        elif not exited.expected:
            self._note(
                "node-ended" if why else "node-exit",
                [exited.node],
                f"{exited.node} {exit_text(exited.status)} {why or 'on its own'}",
                {"pid": exited.pid, "status": exited.status},
            )
            self.on_crash(exited.node)
