"""A simulated process that runs a protocol's core: what `reference_impls.runtime` does.

It keeps the duties that `reference_impls.actor` sets out for a world, and the runtime's
turns: a node steps through all that has arrived, fires what is due, timers of 0 ms
last, then writes the turn's records to its log, makes them durable, and only then lets
go of what came after them. While the disk works the node stands still, so what arrives
meanwhile is the next turn's: batches form as they do in the os world. So does the
moment that counts most: a loss of power between a write and its durability.

The log is the one that real nodes have (`reference_impls.wal`), on a simulated disk.

A core that raises, or breaks one of its own invariants, ends its process as it would
end a real one, with the runtime's exit status; the traceback is in the node's log. So
do a log that can't be used, and a disk that fails.
"""

from __future__ import annotations

import traceback
from collections import deque
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from harness.errors import HarnessError
from harness.systems.logs import UnusableLogError, file_name
from harness.worlds.clocks import TRUE_CLOCKS
from harness.worlds.sim.clock import NodeClock
from harness.worlds.sim.conditions import START_MS, STEP_NS, lasting_ns
from harness.worlds.sim.disk import Disk, PowerFailed
from reference_impls.actor import (
    Observe,
    Persist,
    Received,
    Reply,
    Send,
    SetTimer,
    TimerFired,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from random import Random

    from harness.worlds.clocks import ClockSetting
    from harness.worlds.disks import Loss, Lost
    from harness.worlds.sim.conditions import Conditions
    from harness.worlds.sim.loop import VirtualTimeLoop
    from harness.worlds.sim.network import SimLink
    from harness.worlds.sim.observed import Journal
    from reference_impls.actor import Actor, Body, Effect, Now
    from reference_impls.files import Files, Log

EXIT_DATA = 65
EXIT_INVARIANT = 70
EXIT_MACHINE = 71
EXIT_RAISED = 1
TIMERS_IN_A_TURN_MAX = 10_000
"""A core that sets timers of 0 ms without end would stand still for ever."""
NEVER_NS = 1 << 100
"""When the first timer of a node is due that has none."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Caller(Protocol):
    """A client's end of a connection to a node."""

    def answer(self, msg_id: int, data: bytes) -> None:
        """The node answers request `msg_id`."""

    def break_off(self) -> None:
        """The node died; the client learns of it when the news arrives."""


class SimNode:
    """One node: at most one process at a time, and the disk that outlives it.

    Args:
        name: The node's.
        build: See the attribute.
        open_log: Opens its log on a disk.
        links: Where messages to each peer go.
        fsync: Whether the process waits for its disk.
        on_exit: Told when the process ends by itself, with its exit status.

    Attributes:
        build: Makes a core, not started; another one may take its place.
        pid: Of the running process; 0 when none runs.
        serves: The process accepts connections.
        paused: It stands still until resumed.
        syncing: It waits for its disk to make a batch durable.
        on_sync: Called when it begins to, with how long that takes in nanoseconds.
    """

    def __init__(
        self,
        name: str,
        build: Callable[[], Actor],
        open_log: Callable[[Files], Log],
        links: Mapping[str, SimLink],
        *,
        fsync: bool,
        conditions: Conditions,
        rng: Random,
        loop: VirtualTimeLoop,
        journal: Journal,
        on_exit: Callable[[SimNode, int], None],
    ) -> None:
        self.name = name
        self.pid = 0
        self.serves = False
        self.paused = False
        self.clock = NodeClock(loop)
        self.disk = Disk(lambda: loop.now_ns)
        self.actor: Actor | None = None
        self.on_sync: Callable[[int], None] | None = None
        self.build = build
        self._open_log = open_log
        self._links = links
        self._fsync = fsync
        self._conditions = conditions
        self._rng = rng
        self._loop = loop
        self._pages = journal.pages[name]
        self._on_exit = on_exit
        self._connections: dict[Caller, None] = {}
        self._forget()

    def _forget(self) -> None:
        """Everything volatile."""
        self._inbox: deque[tuple[str, bytes, Caller | None]] = deque()
        self._timers: dict[str, int] = {}  # name -> deadline on the node's mono clock
        self._first_due_ns: int | None = NEVER_NS  # the earliest of them, if known
        self._held: list[Callable[[], None]] = []
        self._free_at_ns = 0
        self._wake_ns: int | None = None
        self._turn_is_set = False
        self.syncing = False
        self._synced = False
        self._log: Log | None = None
        self._sent: Body | None = None  # the last body that was sent, and its bytes
        self._sent_data = b""

    # Life and death

    def start(self, pid: int, clocks: ClockSetting = TRUE_CLOCKS) -> None:
        """Start a process; it serves a little later, with what the disk remembers."""
        self.pid = pid
        self.clock = NodeClock(self._loop)
        self.clock.set(clocks)
        start_ns = int(self._rng.uniform(*START_MS) * 1e6)
        self._loop.at_ns(self._loop.now_ns + start_ns, self._begin, pid)

    def _begin(self, pid: int) -> None:
        if pid != self.pid:
            return
        if self.paused:
            # Frozen while it started; it goes on from here.
            self._held.append(lambda: self._begin(pid))
            return
        if self._log is None:
            self._guarded(self._recover)
            if slow_ns := self.disk.take_owed_ns():
                self._loop.at_ns(self._loop.now_ns + slow_ns, self._begin, pid)
                return
        if pid != self.pid:
            return
        self.serves = True
        self._guarded(self._first_turn)

    def _recover(self) -> None:
        """Read the log, and make what was read durable."""
        self._log = self._open_log(self.disk)
        if self._log.note:
            self._pages.log(self._log.note, self.clock.now())

    def _first_turn(self) -> None:
        log = self._log
        assert log is not None
        self.actor = self.build()
        self._carry_out(self.actor.start(log.recovered))
        log.recovered = ()
        self._pages.log(f"listens, pid {self.pid}", self.clock.now())
        self._end_turn(1)

    def crash(self) -> int:
        """End the process at once; the pid it had. What it wrote is there."""
        pid, self.pid = self.pid, 0
        self.serves = self.paused = False
        self.actor = None
        self.disk.crash()
        self._pages.drop()
        self._forget()
        connections, self._connections = self._connections, {}
        for connection in connections:
            connection.break_off()
        return pid

    def lose_power(self, loss: Loss, random: Random) -> Lost:
        """End the process, and lose what was not durable.

        In the middle of a sync, if there is one and `loss` wants it: then the first of
        its steps may be done, the content's or the name's, and nobody knows.
        """
        during = bool(loss.during) and self.syncing and not self._synced
        if during and self._log is not None:
            self.disk.power_fails_in = random.randrange(2)
            with suppress(PowerFailed, OSError):
                self._log.sync()
        pid = self.crash()
        return replace(self.disk.lose_power(loss, random), pid=pid, during=during)

    def pause(self) -> None:
        """Stand still: what arrives waits, clocks go on."""
        self.paused = True

    def resume(self) -> None:
        """Go on with what has piled up."""
        if not self.paused:
            return
        self.paused = False
        if self.actor is None:
            held, self._held = self._held, []
            for begin in held:
                begin()
        elif self._synced:
            self._after_sync(self.pid)
        elif not self.syncing:
            self._guarded(self._turn)

    def set_clock(self, setting: ClockSetting) -> None:
        """Change the clocks. Deadlines move back with a clock that is set back."""
        before_ns = self.clock.now().mono_ns
        self.clock.set(setting)
        back_ns = before_ns - self.clock.now().mono_ns
        if back_ns > 0:
            for name in self._timers:
                self._timers[name] -= back_ns
            self._first_due_ns = None
        self._wake_ns = None
        if self.actor is not None and not self.paused and not self.syncing:
            self._set_wake()

    def throw_anew(self, seed: str) -> None:
        """Let chance take another course from now on."""
        self._rng.seed(seed)

    # What arrives

    def deliver(self, src: str, data: bytes) -> None:
        """A peer's message; to a process that isn't there it is lost."""
        if self.actor is not None:
            self._inbox.append((src, data, None))
            self._take_notice()

    def request(self, src: str, data: bytes, connection: Caller) -> None:
        """A client's request, on an open connection."""
        self._inbox.append((src, data, connection))
        self._take_notice()

    def connect(self, connection: Caller) -> None:
        """Remember a client's connection, to break it off at a crash."""
        self._connections[connection] = None

    def knows(self, connection: Caller) -> bool:
        """Whether the connection was made to the process that runs now."""
        return connection in self._connections

    def disconnect(self, connection: Caller) -> None:
        """The client has closed it."""
        self._connections.pop(connection, None)

    def _take_notice(self) -> None:
        """Begin a turn now, or see to it that one begins when the node is free."""
        if self._turn_is_set or self.syncing or self.paused:
            return
        if self._loop.now_ns >= self._free_at_ns:
            self._guarded(self._turn)
        else:
            self._turn_is_set = True
            self._loop.at_ns(self._free_at_ns, self._on_free, self.pid)

    def _on_free(self, pid: int) -> None:
        if pid == self.pid and self._turn_is_set:
            self._turn_is_set = False
            if not self.paused and not self.syncing:
                self._guarded(self._turn)

    # Turns

    def _guarded(self, turn: Callable[[], None]) -> None:
        """Take a turn; a core or a disk that fails ends the process.

        Raises:
            HarnessError: What the turn met is no work of the core: the run ends.
        """
        try:
            turn()
        except HarnessError:
            raise
        except (UnusableLogError, OSError) as failure:
            self._pages.log(str(failure), self.clock.now())
            of_disk = isinstance(failure, OSError)
            self._on_exit(self, EXIT_MACHINE if of_disk else EXIT_DATA)
        except Exception as failure:
            # As an interpreter does that runs a core: print what it was, and exit.
            broken = isinstance(failure, AssertionError)
            for line in traceback.format_exc().splitlines():
                self._pages.log(line, self.clock.now())
            self._on_exit(self, EXIT_INVARIANT if broken else EXIT_RAISED)

    def _turn(self) -> None:
        actor, inbox = self.actor, self._inbox
        if actor is None:
            return
        now = self.clock.now()
        steps = 0
        while inbox:
            src, data, connection = inbox.popleft()
            body = _decode(data)
            if connection is not None and body["type"] in OWN_REQUESTS:
                reply = OWN_REQUESTS[body["type"]](self, body)
                connection.answer(body["msg_id"], _encode(reply))
                continue
            self._carry_out(actor.step(Received(src, body, now, connection)))
            steps += 1
        while self._due_ns() <= now.mono_ns:
            name = self._pop_first()
            self._carry_out(actor.step(TimerFired(name, now)))
            steps += 1
            assert steps < TIMERS_IN_A_TURN_MAX, f"timer {name} is set without end"
        self._end_turn(steps)

    def _end_turn(self, steps: int) -> None:
        """Write what was persisted, and make it durable; then go on."""
        log = self._log
        assert log is not None
        self._free_at_ns = self._loop.now_ns + steps * STEP_NS
        if not log.pending:
            self._tell_and_wait()
        elif self._fsync:
            log.write()
            self.syncing = True
            sync_ns = lasting_ns(self._rng, self._conditions.fsync_ms)
            if self.disk.rules:
                sync_ns += self.disk.fsync_delay_ns(file_name())
            sync_ns += self.disk.take_owed_ns()
            self._loop.at_ns(self._free_at_ns + sync_ns, self._after_sync, self.pid)
            if self.on_sync is not None:
                self.on_sync(sync_ns)
        else:
            log.sync()
            self._free_at_ns += self.disk.take_owed_ns()
            self._tell_and_wait()

    def _after_sync(self, pid: int) -> None:
        """The disk is done: let go of what had to wait, and look what has come."""
        if pid != self.pid:
            return
        log = self._log
        assert log is not None
        if not self._synced:
            self._synced = True
            self._guarded(log.sync)
            if pid != self.pid:
                return  # the disk failed
        if self.paused:
            return
        self.syncing = self._synced = False
        self._pages.keep()
        held, self._held = self._held, []
        for release in held:
            release()
        if self._inbox:
            self._guarded(self._turn)
        else:
            self._set_wake()

    def _tell_and_wait(self) -> None:
        self._pages.keep()
        self._set_wake()

    # Timers

    def _due_ns(self) -> int:
        """When the first timer is due, on the node's mono clock.

        It is asked for several times a turn, and changes less often.
        """
        due_ns = self._first_due_ns
        if due_ns is None:
            due_ns = min(self._timers.values(), default=NEVER_NS)
            self._first_due_ns = due_ns
        return due_ns

    def _pop_first(self) -> str:
        """The timer that is due first, taken off."""
        timers = self._timers
        name = min(timers, key=timers.__getitem__)
        del timers[name]
        self._first_due_ns = None
        return name

    def _set_wake(self) -> None:
        """See to it that the node wakes when its first timer is due.

        A wake that is set for earlier stays: most timers are set anew long before they
        are due, and one wake in vain is cheaper than one for each of them.
        """
        mono_ns = self._due_ns()
        if mono_ns == NEVER_NS:
            return
        due_ns = self.clock.when_ns(mono_ns)
        if due_ns < self._free_at_ns:
            due_ns = self._free_at_ns
        if self._wake_ns is None or due_ns < self._wake_ns:
            self._wake_ns = due_ns
            self._loop.at_ns(due_ns, self._on_wake, (self.pid, due_ns))

    def _on_wake(self, which: tuple[int, int]) -> None:
        if which != (self.pid, self._wake_ns):
            return
        self._wake_ns = None
        if self.paused or self.syncing:
            return
        if self._due_ns() <= self.clock.now().mono_ns:
            self._take_notice()
        else:
            self._set_wake()

    # Effects

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        log = self._log
        assert log is not None
        # Whether something was persisted that isn't durable yet.
        waits = self._fsync and bool(log.pending)
        for effect in effects:  # the most frequent kinds first
            if isinstance(effect, Send):
                body = effect.body
                if body is not self._sent:
                    self._sent, self._sent_data = body, _encode(body)
                link = self._links[effect.dest]
                if waits:
                    self._held.append(partial(link.send, self._sent_data))
                else:
                    link.send(self._sent_data)
            elif isinstance(effect, Observe):
                now = self.clock.now()
                self._pages.observe(effect, now, known=not waits)
            elif isinstance(effect, SetTimer):
                self._set_timer(effect)
            elif isinstance(effect, Persist):
                log.append(effect.record, replaces=effect.replaces)
                waits = self._fsync and bool(log.pending)
            elif isinstance(effect, Reply):
                self._reply(effect, waits=waits)
            else:
                self._timers.pop(effect.name, None)
                self._first_due_ns = None

    def _reply(self, effect: Reply, *, waits: bool) -> None:
        connection = cast("Caller", effect.request.channel)
        msg_id, data = effect.request.body["msg_id"], _encode(effect.body)
        if waits:
            self._held.append(partial(connection.answer, msg_id, data))
        else:
            connection.answer(msg_id, data)

    def _set_timer(self, effect: SetTimer) -> None:
        low, high = effect.min_ms, effect.max_ms
        after_ms = low + (high - low) * self._rng.random() if high > low else low
        mono_ns = self.clock.now().mono_ns
        self._timers[effect.name] = mono_ns + int(after_ms * 1e6)
        self._first_due_ns = None

    # What a node answers by itself, as the runtime does

    def status(self, body: Body) -> dict[str, Any]:
        """The core's status."""
        assert self.actor is not None
        return {"type": "status_ok", **self.actor.status()}

    def read_clock(self, body: Body) -> dict[str, Any]:
        """The node's clocks as the node sees them."""
        now: Now = self.clock.now()
        return {"type": "clock_ok", "wall_ns": now.wall_ns, "mono_ns": now.mono_ns}


def echo(_: SimNode, body: Body) -> dict[str, Any]:
    """Maelstrom's echo."""
    return {"type": "echo_ok", "echo": body.get("echo")}


def init(_: SimNode, body: Body) -> dict[str, Any]:
    """Maelstrom's greeting; this node knew its name before."""
    return {"type": "init_ok"}


OWN_REQUESTS: Mapping[str, Callable[[SimNode, Body], dict[str, Any]]] = {
    "init": init,
    "echo": echo,
    "status": SimNode.status,
    "clock": SimNode.read_clock,
}
