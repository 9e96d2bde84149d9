"""Node processes, as the controller starts, stops and skews them.

`Warden.fork` splits off one single-threaded process (`keeper`) that is the parent of
every node; the object returned is the controller's handle on it. If nodes share the
controller's namespaces there is a guardian between the two. The keeper has to be forked
before the controller starts threads or an event loop. The methods run on the loop that
is current when one is first called.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.errors import HarnessError
from harness.worlds.clocks import ClockReading, ClockSetting
from harness.worlds.os import footprint
from harness.worlds.os.channel import Channel
from harness.worlds.os.disk.plain import copied
from harness.worlds.os.guardian import put_guardian_above
from harness.worlds.os.keeper import KILL_TIMEOUT_S, Keeper
from harness.worlds.processes import Ended, Exit, Limit, Limits, Starvation, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from harness.worlds.os.spawn import Disk
    from harness.worlds.places import Launch, NodePlace
    from harness.worlds.processes import Resource

UNCHANGED = ClockSetting()
_NO_SKEW = "clocks can't be skewed here"
_HELLO_TIMEOUT_S = 10.0
LIMITS = Limits(data_bytes=4 << 30, log_bytes=64 << 20)

_END_TIMEOUT_S = KILL_TIMEOUT_S + 5.0


AroundStart: TypeAlias = "Callable[[str], AbstractAsyncContextManager[None]]"


@dataclass(frozen=True)
class _Pending:
    """A request without an answer yet."""

    call: str
    node: str
    reply: asyncio.Future[Any]


class Warden:
    """Implements `harness.worlds.processes.Processes`, and `Clocks`; made by `fork`."""

    def __init__(
        self, channel: Channel, pid: int, why_no_clocks: str, why_no_cages: str
    ) -> None:
        self.warden_pid = pid
        self.why_no_cages = why_no_cages
        self.why_no_clocks = why_no_clocks
        self._channel = channel
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: dict[int, _Pending] = {}
        self._next_id = 0
        self._volleys = 0
        self._pids: dict[str, int] = {}
        self._callbacks: list[Callable[[Exit], None]] = []
        self._begin_with: dict[str, ClockSetting] = {}
        self._around_start: AroundStart = lambda _: contextlib.nullcontext()

    @classmethod
    def fork(
        cls,
        netns_fds: Mapping[str, int],
        run_dir: Path | None = None,
        limits: Limits = LIMITS,
        disks: Mapping[str, Disk] | None = None,
    ) -> Warden:
        """Split off the process that will be the parent of every node.

        Args:
            netns_fds: Network namespace of each node; a node that isn't named shares
                the controller's.
            run_dir: Cage nodes that are not trusted, and hide this folder from them,
                except for their own data. That needs namespaces of our own
                (`run_isolated`). None for no cages.
            limits: What each node may leave on the disk.
            disks: Of each node that has one of ours.

        Raises:
            HarnessError: The process did not come up.
        """
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        controller_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                parent = controller_pid
                if not netns_fds and run_dir is None:
                    parent = put_guardian_above(controller_pid)
                channel = Channel(theirs)
                Keeper(channel, netns_fds, run_dir, limits, parent, disks or {}).run()
            finally:
                os._exit(1)
        theirs.close()
        channel = Channel(ours)
        hello = _wait_for_hello(channel)
        if hello is None:
            ours.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise HarnessError("the warden process, parent of all nodes, did not start")
        return cls(channel, pid, hello["why_no_clocks"], hello["why_no_cages"])

    async def start(self, place: NodePlace, launch: Launch) -> int:
        """Start the node's process, after killing all that a former one left behind."""
        async with self._around_start(place.name):
            pid: int = await self._call(
                "start",
                place.name,
                argv=[str(word) for word in launch.argv],
                env=dict(launch.env),
                cwd=None if launch.cwd is None else str(launch.cwd),
                log_path=str(place.log_path),
                data_dir=str(place.data_dir),
                writable=[str(path) for path in launch.writable],
                trusted=launch.trusted,
                clocks=dataclasses.asdict(self._begin_with.get(place.name, UNCHANGED)),
            )
        return pid

    async def empty(self, place: NodePlace) -> int:
        """Move what is in the node's data folder to a folder beside it.

        Raises:
            HarnessError: The node runs, or its files can't be moved.
        """
        if self.pid(place.name) is not None:
            raise HarnessError(f"{place.name} runs, and its disk can't be emptied")
        async with self._around_start(place.name):
            try:
                size = footprint.size(str(place.data_dir))
                move_away(place.data_dir)
            except OSError as error:
                text = f"{place.name}: its disk can't be emptied: {error}"
                raise HarnessError(text) from error
        async with self._around_start(place.name):
            return size  # whoever guards a start has seen now what is gone

    async def kill(self, node: str) -> int:
        """SIGKILL the node and all its descendants; returns once they are gone."""
        pid: int = await self._call("kill", node)
        return pid

    async def end(
        self, nodes: Sequence[str], patience_s: float = 0.0
    ) -> Mapping[str, Ended]:
        """End all of `nodes` at the same moment, as `Processes.end` says.

        The keeper waits until it can act on every one of them, and then sends the
        signals to all in one go.
        """
        self._volleys += 1
        volley = {"volley": self._volleys, "of": len(nodes), "patience_s": patience_s}
        told = await asyncio.gather(
            *(self._call("end", node, **volley) for node in nodes)
        )
        return {node: Ended(**ended) for node, ended in zip(nodes, told, strict=True)}

    async def doom(self, node: str) -> int:
        """SIGKILL the node and all its descendants, and wait for none of them.

        Returns its pid, and 0 for a node that is not running.
        """
        pid: int = await self._call("doom", node)
        return pid

    async def pause(self, node: str) -> Mapping[str, str]:
        """SIGSTOP the node and its descendants; pid -> states of its threads.

        "T" means stopped; a thread in any other state ("D": in the kernel) did not stop
        within 2 s.
        """
        states: Mapping[str, str] = await self._call("pause", node)
        return states

    async def resume(self, node: str) -> None:
        """SIGCONT what `pause` stopped."""
        await self._call("resume", node)

    async def starve(self, node: str, share: float) -> None:
        """Stop the node for the rest of every tenth of a second."""
        await self._call("starve", node, share=share)

    async def starvation(self, node: str) -> Starvation:
        """What the node has been kept from so far."""
        return Starvation(**await self._call("starvation", node))

    async def usage(self, node: str) -> Usage | None:
        """What the node used when the keeper looked at it last."""
        told = await self._call("usage", node)
        return None if told is None else Usage(**told)

    async def limit(
        self, node: str, resource: Resource, spare: int | None
    ) -> Mapping[str, Limit]:
        """Lower limits of the node's processes, or give back what they had.

        Raises:
            HarnessError: The kernel refuses.
        """
        told = await self._call("limit", node, resource=resource, spare=spare)
        return {pid: Limit(**limit) for pid, limit in told.items()}

    async def set_clock(self, node: str, setting: ClockSetting) -> None:
        """Change the clocks of the node and its descendants at once.

        Raises:
            HarnessError: The node isn't running, or its clocks can't be skewed.
        """
        if self.why_no_clocks:
            raise HarnessError(f"{node}: {self.why_no_clocks}")
        await self._call("set_clock", node, **dataclasses.asdict(setting))

    def begin_with(self, node: str, setting: ClockSetting | None) -> None:
        """Have each process that the node begins from now on do so with these clocks.

        They are set before the program's first instruction. A program that this turns
        into has true clocks until the keeper looks, at most 0.2 s later.

        Raises:
            HarnessError: Clocks can't be skewed here.
        """
        if setting is None:
            self._begin_with.pop(node, None)
            return
        if self.why_no_clocks:
            raise HarnessError(f"{node}: {self.why_no_clocks}")
        self._begin_with[node] = setting

    async def read_clock(self, node: str) -> ClockReading | None:
        """The node's clocks now; None if it isn't running.

        They are read from its memory. So a node that replaced itself with another
        program is reported with the clocks that it has: true ones, until the keeper
        skews it again.
        """
        if self.why_no_clocks:
            return None if self.pid(node) is None else ClockReading(0, 0, _NO_SKEW)
        reading = await self._call("read_clock", node)
        return None if reading is None else ClockReading(*reading)

    def pid(self, node: str) -> int | None:
        """The pid of the node's process; None if none is running."""
        return self._pids.get(node)

    def on_exit(self, callback: Callable[[Exit], None]) -> None:
        """Call `callback`, on the event loop, whenever a node process ends."""
        self._callbacks.append(callback)

    def around_start(self, guard: AroundStart) -> None:
        """Have each start of a node happen within what `guard` makes of its name."""
        self._around_start = guard

    async def close(self) -> None:
        """Kill everything and wait until it is gone; exits are no longer reported."""
        self._hang_up()
        deadline_s = time.monotonic() + _END_TIMEOUT_S
        while not self._is_gone():
            if time.monotonic() > deadline_s:
                os.kill(self.warden_pid, signal.SIGKILL)
            await asyncio.sleep(0.002)

    def close_now(self) -> None:
        """Do what `close` does without an event loop, for a set-up that fails."""
        self._hang_up()
        deadline_s = time.monotonic() + _END_TIMEOUT_S
        while not self._is_gone():
            if time.monotonic() > deadline_s:
                os.kill(self.warden_pid, signal.SIGKILL)
            time.sleep(0.002)

    def _hang_up(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._channel.socket)
            self._loop.remove_writer(self._channel.socket)
        self._channel.open = False
        self._channel.socket.close()
        self._fail_calls("the warden was closed")

    def _is_gone(self) -> bool:
        try:
            return os.waitpid(self.warden_pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True  # a controller that is pid 1 may have reaped it already

    async def _call(self, call: str, node: str, **arguments: Any) -> Any:
        self._attach()
        if not self._channel.open:
            raise HarnessError("the warden process, parent of all nodes, is gone")
        self._next_id += 1
        reply = asyncio.get_running_loop().create_future()
        self._pending[self._next_id] = _Pending(call, node, reply)
        request = {"id": self._next_id, "call": call, "node": node, **arguments}
        self._channel.send(request)
        self._flush()
        return await reply

    def _attach(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._channel.socket, self._receive)

    def _flush(self) -> None:
        assert self._loop is not None
        self._channel.flush()
        if self._channel.unsent:
            self._loop.add_writer(self._channel.socket, self._flush)
        else:
            self._loop.remove_writer(self._channel.socket)

    def _receive(self) -> None:
        for message in self._channel.receive():
            if "exit" in message:
                self._ended(Exit(**message["exit"]))
            else:
                self._settle(message)
        if not self._channel.open:
            assert self._loop is not None
            self._loop.remove_reader(self._channel.socket)
            self._pids.clear()
            self._fail_calls("the warden process, parent of all nodes, died")

    def _settle(self, message: Mapping[str, Any]) -> None:
        asked = self._pending.pop(message["id"])
        if asked.call == "start" and "result" in message:
            # Set here, not in `start`: the next message may be the process' exit.
            self._pids[asked.node] = message["result"]
        if asked.reply.done():
            return  # the caller was cancelled
        if "error" in message:
            asked.reply.set_exception(HarnessError(message["error"]))
        else:
            asked.reply.set_result(message["result"])

    def _ended(self, ended: Exit) -> None:
        if self._pids.get(ended.node) == ended.pid:
            del self._pids[ended.node]
        for callback in self._callbacks:
            callback(ended)

    def _fail_calls(self, reason: str) -> None:
        pending, self._pending = self._pending, {}
        for asked in pending.values():
            if not asked.reply.done():
                asked.reply.set_exception(HarnessError(reason))


def move_away(folder: Path) -> None:
    """Move all that is in a folder to a new one beside it, "data-1" or so.

    What was moved there before is removed. A folder that is a file system of its own
    (`disk.plain`) is copied, and what is no file, such as a socket, is lost.

    Raises:
        OSError: It can't be moved.
    """
    before = list(folder.parent.glob(f"{folder.name}-*"))
    number = 1
    while (beside := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    beside.mkdir()
    for name in os.listdir(folder):
        shutil.move(folder / name, beside / name, copy_function=copied)
    for older in before:
        shutil.rmtree(older, ignore_errors=True)


def _wait_for_hello(channel: Channel) -> Mapping[str, Any] | None:
    channel.socket.settimeout(_HELLO_TIMEOUT_S)
    try:
        channel.socket.recv(1, socket.MSG_PEEK)
    except OSError:
        return None
    finally:
        channel.socket.setblocking(False)
    messages = channel.receive()
    return messages[0]["hello"] if messages else None
