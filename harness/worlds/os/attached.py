"""The world of nodes that somebody else runs: an operator's commands are all its means.

Nothing is started or isolated here, and nothing is ended but by those commands. A
command is run without a shell, in the folder and with the environment in which
splitbrain was started. What it printed, its exit status, and whether the node accepts
connections before and after it are noted as evidence.

Choices:
    A node counts as down once it refuses connections after `kill_command`, and as
    paused if it gives no answer after `pause_command`; a command that changes neither
    has not bitten, whatever it says. There is no such proof for links, so a link counts
    as cut if `partition_command` exits with 0. It is run for each node that is to hear
    nothing of others, as packets are easiest dropped where they arrive.

    When the run ends, however it ends, what is still in force is undone: nodes are
    resumed and started, and links healed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import uvloop

from harness.errors import HarnessError, NodeReply, Timeout
from harness.host.interrupts import noted
from harness.override import override
from harness.systems.wire import WireCounters, call, connect
from harness.worlds.clocks import ClockReading, Clocks
from harness.worlds.network import LinkCounters, Network
from harness.worlds.operator import option_of
from harness.worlds.os.watch import Watch
from harness.worlds.places import make_place
from harness.worlds.processes import Ended, Limit, Processes, Starvation
from harness.worlds.world import TrueTime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.data import Json
    from harness.host.interrupts import Interrupts
    from harness.worlds.capabilities import LinkField
    from harness.worlds.clocks import ClockSetting
    from harness.worlds.disks import Disks
    from harness.worlds.events import Passed, Where
    from harness.worlds.network import Link, LinkRule
    from harness.worlds.operator import Operator, Task
    from harness.worlds.places import Launch, NodePlace
    from harness.worlds.processes import Exit, Resource
    from harness.worlds.world import Conducted, Setting, World

RUNG = "attached"
COMMAND_LIMIT_S = 60.0
SHOWS_LIMIT_S = 5.0
"""How long a node may take to show that it was killed, or started."""
ACCEPTS_LIMIT_S = 1.0
SILENT_S = 0.5
"""A node that gives no answer for so long is paused."""
OUTPUT_CHARS_MAX = 400
POLL_S = 0.01


@dataclass(frozen=True)
class Ran:
    """What came of a command.

    Attributes:
        status: Its exit status; None if it could not be run, or has not ended.
        output: The end of what it printed, or why there is no status.
        accepts: Whether the node accepts connections now.
    """

    status: int | None
    output: str
    accepts: bool = False

    @property
    def told(self) -> str:
        """How it ended, in words."""
        if self.status is None:
            return f"has no exit status: {self.output}"
        said = f": {self.output}" if self.output else ""
        return f"exited with status {self.status}{said}"


class Commands:
    """Runs the operator's commands, and notes what came of them."""

    def __init__(self, operator: Operator, places: Mapping[str, NodePlace]) -> None:
        self.note: Callable[[str, Sequence[str], str, Mapping[str, Json]], None]
        self.note = lambda *_: None
        self._operator = operator
        self._places = places

    async def run(self, task: Task, node: str, peers: Sequence[str] = ()) -> Ran:
        """Run a command for a node, and wait until it shows.

        A node that was killed stops to accept connections, one that was started begins
        to. A command that has not ended in time is killed; but one that starts a node
        may be the node, and is left alone.
        """
        place = self._places[node]
        values = {
            "node": node,
            "host": place.listen.host,
            "port": str(place.listen.port),
            "peers": ",".join(str(self._places[peer].listen) for peer in peers),
        }
        words = [word.format_map(values) for word in self._operator.commands[task]]
        accepted, begun_s = await accepts(place), time.monotonic()
        status, output = await _run(words, place if task == "start" else None)
        end_s = time.monotonic() + SHOWS_LIMIT_S
        wanted = {"kill": False, "start": True}.get(task)
        now = await accepts(place)
        while wanted not in (None, now) and time.monotonic() < end_s:
            await asyncio.sleep(POLL_S)
            now = await accepts(place)
        ran = Ran(status, output, now)
        self.note(
            "operator",
            [node],
            f"{option_of(task)} for {node} {ran.told}",
            {
                "command": words,
                "status": status,
                "output": output,
                "took_ms": round((time.monotonic() - begun_s) * 1000, 1),
                "accepted_before": accepted,
                "accepts_now": now,
            },
        )
        return ran


async def _run(
    words: Sequence[str], starts: NodePlace | None
) -> tuple[int | None, str]:
    """Run a command; its exit status, or None, and what it printed.

    Its output goes to a file, as a daemon that it leaves behind may keep a pipe open.
    If it starts a node, it is waited for no longer than until that accepts connections.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(  # noqa: ASYNC220  # asyncio's would end with it
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as problem:
            return None, f"{words[0]}: {problem.strerror}"
        end_s, why = time.monotonic() + COMMAND_LIMIT_S, ""
        try:
            while process.poll() is None and not why:
                await asyncio.sleep(POLL_S)
                if starts is not None and await accepts(starts):
                    why = "it goes on, and the node accepts connections"
                elif time.monotonic() > end_s:
                    why = f"it did not end within {COMMAND_LIMIT_S:g} s"
                    if starts is None:
                        with contextlib.suppress(ProcessLookupError):
                            os.killpg(process.pid, signal.SIGKILL)
        finally:
            if process.returncode is None:
                process.returncode = 0  # it goes on, and its object must not complain
        if why:
            return None, why
        output.seek(0, os.SEEK_END)
        output.seek(max(0, output.tell() - OUTPUT_CHARS_MAX))
        return process.returncode, output.read().decode("utf-8", "replace").strip()


async def accepts(place: NodePlace) -> bool:
    """Whether a node accepts connections now."""
    try:
        connection = await connect(place, WireCounters(), ACCEPTS_LIMIT_S)
    except NodeReply:
        return False
    await connection.close()
    return True


class OperatedProcesses(Processes):
    """The processes of nodes, as their operator's commands reach them.

    Nobody tells us pids; in what came of a kill the port stands for one.
    """

    def __init__(self, places: Mapping[str, NodePlace], commands: Commands) -> None:
        self._places = places
        self._commands = commands
        self._down: set[str] = set()
        self._paused: set[str] = set()

    @override
    async def start(self, place: NodePlace, launch: Launch) -> int:
        ran = await self._commands.run("start", place.name)
        if ran.accepts:  # else whoever waits for it to serve will find it absent
            self._down.discard(place.name)
        return 0

    @override
    async def kill(self, node: str) -> int:
        return (await self.end([node]))[node].pid

    @override
    async def end(
        self, nodes: Sequence[str], patience_s: float = 0.0
    ) -> Mapping[str, Ended]:
        ended = await asyncio.gather(*map(self._end, nodes))
        return dict(zip(nodes, ended, strict=True))

    async def _end(self, node: str) -> Ended:
        place, begun_ns = self._places[node], time.monotonic_ns()
        if node in self._down:
            return Ended(0)
        ran = await self._commands.run("kill", node)
        if ran.accepts:
            return Ended(0)  # it was not killed, whatever the command says
        self._down.add(node)
        self._paused.discard(node)
        took_ms = (time.monotonic_ns() - begun_ns) / 1e6
        port, status = place.listen.port, ran.status or 0
        return Ended(port, "kill_command", status, begun_ns, took_ms)

    @override
    async def pause(self, node: str) -> Mapping[str, str]:
        if node in self._down:
            return {}
        await self._commands.run("pause", node)
        self._paused.add(node)
        silent = await is_silent(self._places[node])
        return {"unknown": "T" if silent else "R"}

    @override
    async def resume(self, node: str) -> None:
        if node not in self._paused:
            return
        ran = await self._commands.run("resume", node)
        if ran.status != 0:
            why = "it may still be paused"
            raise HarnessError(f"resume_command for {node} {ran.told}; {why}")
        self._paused.discard(node)

    @override
    async def starve(self, node: str, share: float) -> None:
        raise HarnessError("no command starves attached nodes")

    @override
    async def starvation(self, node: str) -> Starvation:
        return Starvation()

    @override
    async def usage(self, node: str) -> None:
        """Tell nothing: no command measures attached nodes."""

    @override
    async def limit(
        self, node: str, resource: Resource, spare: int | None
    ) -> Mapping[str, Limit]:
        raise HarnessError("no command sets limits of attached nodes")

    @override
    async def empty(self, place: NodePlace) -> int:
        raise HarnessError("no command empties the disks of attached nodes")

    @override
    def pid(self, node: str) -> int | None:
        return None if node in self._down else 0

    @override
    def on_exit(self, callback: Callable[[Exit], None]) -> None:
        """Nobody tells us when a node ends."""

    @override
    async def close(self) -> None:
        """Resume and start what is still paused or down."""
        for node in sorted(self._paused):
            await self._commands.run("resume", node)
        for node in sorted(self._down):
            await self._commands.run("start", node)


async def is_silent(place: NodePlace) -> bool:
    """Whether a node leaves a request without an answer; any answer will do."""
    try:
        await call(place, {"type": "status"}, SILENT_S)
    except Timeout:
        return True
    except NodeReply:
        return False
    return False


class OperatedNetwork(Network):
    """The links between nodes, as their operator's commands cut and heal them."""

    rung = RUNG

    def __init__(
        self, places: Mapping[str, NodePlace], commands: Commands, *, cuts: bool
    ) -> None:
        self.places = places
        self.capabilities: frozenset[LinkField] = frozenset({"cut"} if cuts else ())
        self._commands = commands
        self._deaf: dict[str, frozenset[str]] = {}
        """node -> the peers of which it is to hear nothing."""
        self._cuts: defaultdict[Link, int] = defaultdict(int)

    @override
    async def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        deaf: defaultdict[str, set[str]] = defaultdict(set)
        for (source, target), rule in rules.items():
            if rule.cut:
                deaf[target].add(source)
        await asyncio.gather(
            *(self._change(node, frozenset(deaf[node])) for node in self.places)
        )

    async def _change(self, node: str, deaf_to: frozenset[str]) -> None:
        """Have a node hear nothing of these peers, and everything of others.

        Raises:
            HarnessError: Links can't be healed.
        """
        before = self._deaf.get(node, frozenset())
        if deaf_to == before:
            return
        if before:
            ran = await self._commands.run("heal", node)
            if ran.status != 0:
                why = "its links may still be cut"
                raise HarnessError(f"heal_command for {node} {ran.told}; {why}")
            self._deaf.pop(node)
        if deaf_to:
            ran = await self._commands.run("partition", node, sorted(deaf_to))
            self._deaf[node] = deaf_to  # even if it failed: it may have cut some
            if ran.status == 0:
                for peer in deaf_to - before:
                    self._cuts[peer, node] += 1

    @override
    async def counters(self) -> Mapping[Link, LinkCounters]:
        return {
            (a, b): LinkCounters(commands=self._cuts[a, b])
            for a in self.places
            for b in self.places
            if a != b
        }

    @override
    def passed(self, message: Passed) -> Mapping[Where, int]:
        return {}

    @override
    async def close(self) -> None:
        """Heal what is still cut."""
        await self.set_rules({})


class TrueClocks(Clocks):
    """The clocks of attached nodes, which nothing here can change or read."""

    @override
    async def set_clock(self, node: str, setting: ClockSetting) -> None:
        raise HarnessError("no command changes the clocks of attached nodes")

    @override
    def begin_with(self, node: str, setting: ClockSetting | None) -> None:
        if setting is not None:
            raise HarnessError("no command changes the clocks of attached nodes")

    @override
    async def read_clock(self, node: str) -> ClockReading | None:
        return None


class AttachedWorld:
    """Implements `harness.worlds.world.World`.

    Args:
        setting: The run that the world is for.
        operator: The nodes' addresses, and what can be done to them.
        interrupts: The stop signals that end the run early.
    """

    def __init__(
        self, setting: Setting, operator: Operator, interrupts: Interrupts
    ) -> None:
        self._interrupts = interrupts
        self.time = TrueTime()
        addresses = operator.addresses
        self.places = {
            name: make_place(
                name,
                addresses,
                {peer: at for peer, at in addresses.items() if peer != name},
                setting.folder,
            )
            for name in setting.nodes
        }
        self.commands = Commands(operator, self.places)
        self.network = OperatedNetwork(
            self.places, self.commands, cuts="partition" in operator.commands
        )
        self.processes = OperatedProcesses(self.places, self.commands)
        self.clocks = TrueClocks()
        self.disks: Disks | None = None
        self.watcher = Watch(setting.nodes, setting.folder)

    def on_interrupt(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop when the user interrupts the run."""
        loop = asyncio.get_running_loop()
        self._interrupts.listen(lambda: loop.call_soon_threadsafe(callback))

    async def watch_over(self) -> NoReturn:
        """Wait: no part of this world is a process of ours that could die."""
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

    async def close(self) -> None:
        """Undo what is in force. The nodes go on."""
        await self.processes.close()
        await self.network.close()


def execute(
    setting: Setting, operator: Operator, make: Callable[[World], Conducted]
) -> str:
    """Carry out the run of the controller that `make` makes, with running nodes.

    Returns:
        Why the run failed, or an empty text.
    """
    with noted() as interrupts:
        try:
            world = AttachedWorld(setting, operator, interrupts)
            conducted = make(world)
            world.commands.note = conducted.note
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(conducted.conduct())
        except (HarnessError, OSError) as failure:
            return str(failure)
    return ""
