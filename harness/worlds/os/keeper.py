"""The keeper: the process that is the parent of every node; `Warden` gives it orders.

It has one thread, one loop and no asyncio. A request becomes a job: a generator that
yields when it has to wait (for a process to be gone, for threads to stop) and is
stepped again on the next turn of the loop. So no node, not even one in an
uninterruptible sleep, can hold up the requests for other nodes. Jobs of one node run
one after the other.

Nodes don't outlive the controller, however it ends:

1. End of file on the channel: the controller is gone, or closed it.
2. SIGTERM, which the kernel sends when the controller ends (PDEATHSIG). It covers a
   channel that another child of the controller keeps open.
3. The keeper is child subreaper: a grandchild that daemonises becomes our child, and
   is found. Then everything that descends from us is killed until nothing is left.
4. Each node has PDEATHSIG itself, in case the keeper is killed with -9.

Messages are JSON lines. Request `{"id", "call", "node", ...}`, reply `{"id", "result"}`
or `{"id", "error"}`, and unasked `{"exit": {"node", "pid", "status", "expected"}}`.

Logs. Nodes write to their log file directly: a pipe through here would cost latency and
tie a node's progress to ours. Instead the files are looked at five times a second: past
its limit, a log loses its middle, a line says how much is missing, and the node goes on
appending behind that. Data folders are looked at, too; a node whose data exceeds the
limit is killed, and the message about its exit says why.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import selectors
import shutil
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from harness.errors import HarnessError
from harness.host import syscalls
from harness.worlds.clocks import ClockLine, ClockSetting
from harness.worlds.os import cage, footprint, processtree, spawn, tracer, vdso
from harness.worlds.os.prlimits import Lowered
from harness.worlds.os.starving import Duty
from harness.worlds.processes import Ended, Starvation, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.worlds.os.channel import Channel
    from harness.worlds.os.processtree import Process, Table
    from harness.worlds.os.spawn import Disk
    from harness.worlds.os.vdso import Skew
    from harness.worlds.processes import Limits, Resource

KILL_TIMEOUT_S = 10.0
PAUSE_TIMEOUT_S = 2.0
EXEC_TIMEOUT_S = 10.0

_JOB_POLL_S = 0.001
_WATCH_EVERY_S = 0.2
_MEASURE_EVERY_S = 0.5
_MEASURE_PAUSE_S_MAX = 5.0
"""However long looks take: a disk must not fill up between two of them."""

Job = Generator[None, None, Any]
"""Yields to wait, and returns the result for the reply; may raise HarnessError."""


@dataclass
class Node:
    """The keeper's record of one node."""

    name: str
    netns_fd: int | None
    jobs: deque[tuple[int, Job]] = field(default_factory=deque)
    """Request ids and jobs; only the first job is stepped."""
    past_sessions: set[int] = field(default_factory=set)
    """Pids of former processes. Processes that they left behind are in the sessions
    that these led."""

    view: cage.View | None = None
    """Its view of the files, once it was started in a cage."""
    duty: Duty = field(default_factory=Duty)
    """How much of the time it may run, whichever process runs."""

    # of the process that runs now
    pid: int | None = None
    init: int | None = None
    """The init of its pid namespace, if it is caged. It may outlive the node's process,
    together with the processes that this left behind."""
    log_path: Path | None = None
    data_dir: str = ""
    measure_at_s: float = 0.0
    """When to measure its data next."""
    usage: Usage | None = None
    """What it used when it was looked at last."""
    excess: str = ""
    """The bound that it exceeded, for which it was killed; empty if it was not."""
    doomed: bool = False
    """Whether we have asked for its end, so that the end is expected."""
    skew: Skew | None = None
    """The lines of its clocks; None if they have always been true."""
    paused: bool = False
    lowered: Lowered = field(default_factory=Lowered)
    status: int = 0
    """The exit status of the process that ended last."""


@dataclass
class Volley:
    """An order to end several nodes at the same moment.

    Attributes:
        of: How many nodes it is for.
        patience_s: How long after SIGTERM comes SIGKILL; 0 for SIGKILL at once.
        nodes: Those whose turn it is, as all earlier orders for them are done.
        sent_ns: When each was sent the first signal; empty until all could be.
    """

    of: int
    patience_s: float
    nodes: list[Node] = field(default_factory=list)
    sent_ns: dict[str, int] = field(default_factory=dict)

    def fire(self) -> None:
        """Send all nodes the first signal, one right after the other."""
        for node in self.nodes:
            node.doomed = True
            self.sent_ns[node.name] = time.monotonic_ns()
            if node.pid is not None:
                # The pid stays its own until we reap it.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    if self.patience_s:
                        os.kill(node.pid, signal.SIGTERM)
                    else:
                        os.killpg(node.pid, signal.SIGKILL)
        if not self.patience_s:
            for node in self.nodes:
                if node.init is not None:
                    os.kill(node.init, signal.SIGKILL)


class Keeper:
    """The loop of the process that is the parent of all nodes.

    Args:
        channel: Our end of the socket pair.
        netns_fds: Network namespace of each node that has one.
        disks: Of each node that has one of ours.
        limits: What each node may leave on the disk.
        run_dir: Cage the nodes, and hide this folder from them; None for no cages.
        controller_pid: The process whose end is the end of this one, too.
    """

    def __init__(
        self,
        channel: Channel,
        netns_fds: Mapping[str, int],
        run_dir: Path | None,
        limits: Limits,
        controller_pid: int,
        disks: Mapping[str, Disk],
    ) -> None:
        self._channel = channel
        self._disks = disks
        self._run_dir = run_dir
        self._limits = limits
        self._warder: spawn.Warder
        self._netns_fds = netns_fds
        self._controller_pid = controller_pid
        self._nodes: dict[str, Node] = {}
        self._starting: dict[int, int | None] = {}
        """Children not known to run their program yet -> their exit status, if any."""
        self._at_exec: set[int] = set()
        """Children that stand still at the beginning of their program."""
        self._unreported: list[tuple[int, int]] = []
        """Processes that ended before the reply to their start was sent."""
        self._volleys: dict[int, Volley] = {}
        self._selector: selectors.BaseSelector  # only once inherited fds are closed
        self._stopping = False
        self._watched_at_s = 0.0
        self._calls: Mapping[str, Callable[..., Job]] = {
            "start": self._start,
            "kill": self._kill,
            "end": self._end,
            "doom": self._doom,
            "pause": self._pause,
            "resume": self._resume,
            "starve": self._starve,
            "starvation": self._starvation,
            "usage": self._usage,
            "limit": self._limit,
            "set_clock": self._set_clock,
            "read_clock": self._read_clock,
        }

    def run(self) -> NoReturn:
        """Serve until the controller is gone; then kill everything and exit."""
        status = 1
        try:
            self._set_up()
            while self._channel.open and not self._stopping:
                self._turn()
            status = 0
        except BaseException:  # a forked child must not unwind into its parent's frames
            traceback.print_exc()
        finally:
            try:
                kill_descendants()
            finally:
                os._exit(status)

    # the loop

    def _set_up(self) -> None:
        # What the controller left in memory is never collected: that would copy pages
        # at every fork. And a file object of the controller's that is collected after
        # its descriptor was closed below would close the new owner of that number.
        gc.freeze()
        os.setsid()  # a Ctrl-C at the terminal is the controller's to handle
        syscalls.set_process_name("sb-warden")
        syscalls.adopt_orphans()
        self._close_inherited()
        self._listen_to_signals()
        syscalls.die_with_parent(signal.SIGTERM)
        if os.getppid() != self._controller_pid:
            self._stopping = True  # it ended between fork and prctl
        self._selector.register(
            self._channel.socket, selectors.EVENT_READ, self._receive
        )
        why_no_cages = self._why_no_cages()
        if why_no_cages:
            self._run_dir = None
        hello = {"why_no_clocks": vdso.why_not(), "why_no_cages": why_no_cages}
        self._channel.send({"hello": hello})

    def _why_no_cages(self) -> str:
        """Why nodes cannot be caged though they should be; empty if they can."""
        if self._run_dir is None:
            return ""
        try:
            self._warder = spawn.Warder.of_this_process()
            return spawn.why_no_cage(self._warder, str(self._run_dir))
        except OSError as error:
            return str(error)

    def _close_inherited(self) -> None:
        """Close all descriptors but the channel, the namespaces and stderr."""
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        kept = sorted({2, self._channel.socket.fileno(), *self._netns_fds.values()})
        for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)
        self._selector = selectors.DefaultSelector()

    def _listen_to_signals(self) -> None:
        wake_reader, wake_writer = os.pipe()
        for fd in (wake_reader, wake_writer):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        self._selector.register(
            wake_reader,
            selectors.EVENT_READ,
            functools.partial(os.read, wake_reader, 4096),
        )
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _stop(self) -> None:
        self._stopping = True

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._patience_s()):
            if key.data is not None:
                key.data()
        self._reap()
        self._step_jobs()
        for node in self._starved():
            node.duty.turn(functools.partial(self._members_now, node))
        self._watch()
        self._want_writable(wanted=self._channel.unsent)

    def _patience_s(self) -> float | None:
        if self._unreported:
            return 0
        if any(node.jobs for node in self._nodes.values()):
            return _JOB_POLL_S
        running = any(node.pid is not None for node in self._nodes.values())
        if not running:
            return None
        return min([_WATCH_EVERY_S, *(n.duty.due_in_s() for n in self._starved())])

    def _starved(self) -> list[Node]:
        """The nodes that are kept from running most of the time, and do run."""
        return [
            node
            for node in self._nodes.values()
            if node.duty.starves and node.pid is not None and not node.paused
        ]

    def _want_writable(self, *, wanted: bool) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        if self._selector.get_key(self._channel.socket).events != events:
            self._selector.modify(self._channel.socket, events, self._receive)

    def _receive(self) -> None:
        self._channel.flush()
        for request in self._channel.receive():
            request_id, call, name = (request.pop(k) for k in ("id", "call", "node"))
            node = self._nodes.setdefault(
                name, Node(name, netns_fd=self._netns_fds.get(name))
            )
            node.jobs.append((request_id, self._calls[call](node, **request)))

    def _step_jobs(self) -> None:
        for node in self._nodes.values():
            while node.jobs and self._step(*node.jobs[0]):
                node.jobs.popleft()

    def _step(self, request_id: int, job: Job) -> bool:
        """Let a job go on; True if it is finished and answered."""
        try:
            next(job)
        except StopIteration as finished:
            self._channel.send({"id": request_id, "result": finished.value})
        except HarnessError as error:
            self._channel.send({"id": request_id, "error": str(error)})
        except Exception:  # one failed request must not end all nodes
            self._channel.send({"id": request_id, "error": traceback.format_exc()})
        else:
            return False
        return True

    # ends of processes

    def _reap(self) -> None:
        unreported, self._unreported = self._unreported, []
        for pid, status in unreported:
            self._ended(pid, status)
        for pid, status in reap_children(self._at_exec.add):
            if pid in self._starting:
                self._starting[pid] = status
            else:
                self._ended(pid, status)

    def _ended(self, pid: int, status: int) -> None:
        for node in self._nodes.values():
            if node.init == pid:
                node.init = None
            if node.pid == pid:
                node.pid = None
                node.status = status
                node.past_sessions.add(pid)
                self._channel.send(
                    {
                        "exit": {
                            "node": node.name,
                            "pid": pid,
                            "status": status,
                            "expected": node.doomed,
                            "why": node.excess,
                        }
                    }
                )

    # which node a process belongs to

    def _members(self, node: Node, table: Table) -> list[Process]:
        """The node's process and all that descend from it, daemons included."""
        if node.init is not None:
            left = {p.pid for p in table.children(node.init)}
            return table.tree({*left, *([node.pid] if node.pid else [])})
        mains = {n.pid for n in self._nodes.values()} | self._starting.keys()
        orphans = [
            child.pid
            for child in table.children(os.getpid())
            if child.pid not in mains and self._owns(node, child)
        ]
        return table.tree({*orphans, *([node.pid] if node.pid else [])})

    def _members_now(self, node: Node) -> list[Process]:
        return self._members(node, processtree.walk())

    def _owns(self, node: Node, orphan: Process) -> bool:
        """Whether an adopted process comes from this node, which has no cage.

        Any one of session, network namespace (where nodes have one) and environment
        tells. A daemon that has changed all three is taken for no node's, and ends with
        the run.
        """
        sessions = {node.pid, *node.past_sessions}
        return (
            orphan.session in sessions
            or _is_in_netns(orphan.pid, node.netns_fd)
            or _owner_in_environment(orphan.pid) == node.name
        )

    # requests

    def _start(
        self,
        node: Node,
        *,
        argv: list[str],
        env: dict[str, str],
        cwd: str | None,
        log_path: str,
        data_dir: str,
        writable: Sequence[str],
        trusted: bool,
        clocks: Mapping[str, Any],
    ) -> Job:
        if node.pid is not None:
            raise HarnessError(f"{node.name} is already running, as pid {node.pid}")
        if not argv:
            raise HarnessError(f"{node.name}: there is no command to start")
        if node.past_sessions or node.init is not None:
            yield from self._clear(node)
        setting = setting_of(**clocks)
        cell, disk = None, self._disks.get(node.name)
        if self._run_dir is not None and not trusted:
            for path in map(Path, writable):
                if path.is_relative_to(self._run_dir):
                    path.touch()
            bounds = cage.Bounds(
                str(self._run_dir),
                data_dir,
                writable,
                self._needed(argv[0], env, cwd),
                disk.mounted if disk is not None else "",
            )
            cell = spawn.Cell(self._warder, bounds, node.view)
        order = spawn.Order(
            node.name,
            argv,
            env,
            cwd,
            Path(log_path),
            node.netns_fd,
            trusted,
            cell,
            {data_dir: disk.mounted} if disk is not None else {},
            held=setting != ClockSetting(),
        )
        try:
            started = spawn.start(order)
        except OSError as error:
            raise HarnessError(f"{node.name}: cannot fork: {error.strerror}") from error
        self._starting[started.pid] = None
        node.init = started.init
        skew = None
        try:
            reason = yield from self._report_of(node, started)
            if order.held and not reason:
                skew = yield from self._begin(started.pid, setting)
        except HarnessError as error:
            if self._starting[started.pid] is None:
                os.kill(started.pid, signal.SIGKILL)
            raise HarnessError(f"{node.name}: {error}") from error
        finally:
            status = self._starting.pop(started.pid)
        if reason:
            if node.init is not None:
                yield from self._clear(node)
            raise HarnessError(f"{node.name}: cannot start {argv[0]!r}: {reason}")
        self._now_runs(node, started.pid, Path(log_path), data_dir)
        node.skew = skew
        if status is not None:
            self._unreported.append((started.pid, status))
        return started.pid

    def _begin(self, pid: int, setting: ClockSetting) -> Generator[None, None, Skew]:
        """Set the clocks of a process that stops at its program, and let it begin.

        Raises:
            HarnessError: They can't be set.
        """
        deadline_s = time.monotonic() + EXEC_TIMEOUT_S
        skew = vdso.TRUE.then(setting)
        while pid not in self._at_exec and self._starting[pid] is None:
            if time.monotonic() > deadline_s:
                raise HarnessError(f"pid {pid} did not stop to have its clocks set")
            yield
        if pid in self._at_exec:
            self._at_exec.remove(pid)
            try:
                with contextlib.suppress(ProcessLookupError):  # killed meanwhile
                    vdso.begin(pid, skew)
            finally:
                tracer.let_go(pid)
        return skew

    def _needed(
        self, command: str, env: Mapping[str, str], cwd: str | None
    ) -> list[str]:
        """A node's working folder and program, and the folders of others it may run."""
        path = env.get("PATH", os.environ.get("PATH", os.defpath))
        found = shutil.which(command, path=path) or command
        return [cwd or os.getcwd(), os.path.abspath(found), *path.split(os.pathsep)]

    def _report_of(
        self, node: Node, started: spawn.Started
    ) -> Generator[None, None, str]:
        """Why the child could not run its program; empty if it could."""
        self._selector.register(started.report, selectors.EVENT_READ)
        deadline_s = time.monotonic() + EXEC_TIMEOUT_S
        report = b""
        try:
            while time.monotonic() < deadline_s:
                try:
                    chunk, view = started.take_report()
                except BlockingIOError:
                    yield
                    continue
                node.view = view or node.view
                report += chunk.replace(spawn.HELD, b"")
                if spawn.HELD in chunk:
                    with contextlib.suppress(ProcessLookupError, BrokenPipeError):
                        tracer.stop_at_exec(started.pid)
                        started.report.send(spawn.GO)
                if not chunk:
                    reason = report.removeprefix(spawn.VIEW_BUILT)
                    return reason.decode(errors="replace")
        finally:
            self._selector.unregister(started.report)
            started.report.close()
        os.kill(started.pid, signal.SIGKILL)
        return f"it did not get to run within {EXEC_TIMEOUT_S:.0f} s"

    def _now_runs(self, node: Node, pid: int, log_path: Path, data_dir: str) -> None:
        for other in self._nodes.values():
            other.past_sessions.discard(pid)  # the kernel may have used a pid again
        node.pid, node.log_path, node.data_dir = pid, log_path, data_dir
        node.doomed, node.skew = False, None
        node.usage, node.excess = None, ""
        node.paused, node.lowered = False, Lowered()
        node.duty.begin()

    def _kill(self, node: Node) -> Job:
        pid = node.pid
        node.doomed = True
        if pid is not None and node.init is None:
            # Kills most at once; the walk finds the rest. The pid stays its own until
            # we reap it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        yield from self._clear(node)
        return pid or 0

    def _end(self, node: Node, *, volley: int, of: int, patience_s: float) -> Job:
        """End the node at the moment at which all nodes of the volley end.

        What the node's process leaves behind when it heeds SIGTERM is killed.
        """
        ours = self._volleys.setdefault(volley, Volley(of, patience_s))
        ours.nodes.append(node)
        pid = node.pid
        while len(ours.nodes) < of:
            yield
        if not ours.sent_ns:
            del self._volleys[volley]
            ours.fire()
        at_ns = ours.sent_ns[node.name]
        while node.pid is not None and time.monotonic_ns() < at_ns + patience_s * 1e9:
            yield
        heeded = bool(patience_s) and node.pid is None
        yield from self._clear(node)
        took_ms = round((time.monotonic_ns() - at_ns) / 1e6, 3)
        if pid is None:
            return asdict(Ended(0, at_ns=at_ns))
        sent = signal.SIGTERM if heeded else signal.SIGKILL
        return asdict(Ended(pid, sent.name, node.status, at_ns, took_ms))

    def _doom(self, node: Node) -> Job:
        """Send SIGKILL to all that is the node's: nothing of it runs on.

        Who waits for a disk is gone only once that answers; see `_kill`.
        """
        pid = node.pid
        node.doomed = True
        if node.init is not None:
            os.kill(node.init, signal.SIGKILL)
        for _ in range(2):  # who is forked meanwhile is found the second time
            kill_all(self._members(node, processtree.walk()))
        yield from ()
        return pid or 0

    def _clear(self, node: Node) -> Job:
        """Kill all processes of the node until none is left."""
        deadline_s = time.monotonic() + KILL_TIMEOUT_S
        if node.init is not None:
            # An init is gone only after everything in its namespace is.
            os.kill(node.init, signal.SIGKILL)
        while True:
            if node.init is not None and time.monotonic() <= deadline_s:
                yield
                continue
            table = processtree.walk()
            left = self._members(node, table)
            if not left and table.complete:
                return
            if time.monotonic() > deadline_s:
                named = ", ".join(f"pid {p.pid} in state {p.state}" for p in left)
                raise HarnessError(
                    f"{node.name}: not gone {KILL_TIMEOUT_S:.0f} s after SIGKILL: "
                    f"{named}"
                )
            kill_all(left)
            yield

    def _pause(self, node: Node) -> Job:
        """Stop all threads of all the node's processes; pid -> the states seen."""
        deadline_s = time.monotonic() + PAUSE_TIMEOUT_S
        node.paused = node.pid is not None
        node.duty.leave()
        while True:
            members = self._members(node, processtree.walk())
            states = {p.pid: _state_of(p) for p in members}
            moving = [p for p in members if states[p.pid] not in {"T", "Z"}]
            if not moving or time.monotonic() > deadline_s:
                return {str(pid): state for pid, state in states.items()}
            for process in moving:
                processtree.send(process, signal.SIGSTOP)
            yield

    def _resume(self, node: Node) -> Job:
        """Let all processes go on, running ones too: a SIGSTOP may be pending there."""
        deadline_s = time.monotonic() + PAUSE_TIMEOUT_S
        while True:
            members = self._members(node, processtree.walk())
            for process in members:
                processtree.send(process, signal.SIGCONT)
            yield
            stopped = [p for p in members if "T" in _state_of(p)]
            if not stopped or time.monotonic() > deadline_s:
                node.paused = False
                node.duty.begin()
                return

    def _starve(self, node: Node, *, share: float) -> Job:
        """Let the node run for this part of the time, from now on."""
        node.duty.share = share
        node.duty.begin()
        yield from ()

    def _starvation(self, node: Node) -> Job:
        duty = node.duty
        members = self._members(node, processtree.walk()) if node.pid else []
        cpu_ns = sum(processtree.cpu_ns(process.pid) for process in members)
        yield from ()
        return asdict(Starvation(duty.stops, duty.stopped_ns, node.pid or 0, cpu_ns))

    def _usage(self, node: Node) -> Job:
        yield from ()
        return None if node.pid is None or node.usage is None else asdict(node.usage)

    def _limit(self, node: Node, *, resource: Resource, spare: int | None) -> Job:
        """Lower a limit of the node's processes, or give back what they had."""
        if node.pid is None:
            return {}
        members = self._members(node, processtree.walk())
        living = [process for process in members if process.state != "Z"]
        yield from ()
        if spare is None:
            return node.lowered.give_back(living, resource)
        return node.lowered.lower(living, resource, spare)

    # clocks

    def _set_clock(
        self,
        node: Node,
        *,
        wall: Mapping[str, Any] | None,
        mono: Mapping[str, Any] | None,
    ) -> Job:
        if node.pid is None:
            raise HarnessError(f"{node.name} is not running: it has no clock to set")
        setting = setting_of(wall=wall, mono=mono)
        before = node.skew or vdso.TRUE
        if node.skew is None and before.then(setting).is_true:
            return
        try:
            # Patching takes long, so it comes first: lines must be in place when they
            # begin.
            self._for_members(node, vdso.prepare, before)
            skew = before.then(setting)
            self._for_members(node, vdso.publish, skew)
        except HarnessError as error:
            # Some of its processes may be on the new lines: put all on the old again.
            with contextlib.suppress(HarnessError):
                self._for_members(node, vdso.publish, before)
            raise HarnessError(f"{node.name}: {error}") from error
        node.skew = skew
        while time.monotonic_ns() < skew.since_ns:
            yield

    def _read_clock(self, node: Node) -> Job:
        """The clocks' offsets and the proof; None if the node isn't running."""
        if node.pid is None:
            return None
        try:
            reading = vdso.read(node.pid)
        except ProcessLookupError:
            return None
        except HarnessError as error:
            raise HarnessError(f"{node.name}: {error}") from error
        yield from ()
        return [reading.wall_offset_ns, reading.mono_offset_ns, reading.proof]

    def _for_members(
        self, node: Node, put: Callable[[int, Skew], None], skew: Skew
    ) -> None:
        """Put all the node's processes on `skew`; those that end meanwhile are left."""
        for process in self._members(node, processtree.walk()):
            if process.state != "Z":
                with contextlib.suppress(ProcessLookupError):
                    put(process.pid, skew)

    def _catch_up(self, node: Node) -> None:
        """Skew processes that came since, with true clocks or with earlier lines."""
        assert node.skew is not None
        with contextlib.suppress(HarnessError):
            self._for_members(node, vdso.apply, node.skew)

    # periodic duties

    def _watch(self) -> None:
        now_s = time.monotonic()
        if now_s - self._watched_at_s < _WATCH_EVERY_S:
            return
        self._watched_at_s = now_s
        for node in self._nodes.values():
            if node.pid is not None and node.log_path is not None:
                cut_back(node.log_path, self._limits.log_bytes)
            if node.pid is not None and now_s >= node.measure_at_s:
                self._look_at(node)
            if node.pid is not None and node.skew is not None:
                self._catch_up(node)

    def _look_at(self, node: Node) -> None:
        """Note what a node uses, and kill it if its data exceeds the bound.

        A big folder takes long to look at; this takes at most a twentieth of our time,
        unless a look takes more than a quarter of a second. That is processor time:
        others that have the core let no node go unwatched.
        """
        if node.excess:
            return
        begun_s = time.process_time()
        members = self._members(node, processtree.walk())
        disk = self._disks.get(node.name)
        # Whoever serves a disk has the files that the node has; and never waits for it.
        holders = [p.pid for p in members] if disk is None else [disk.pid]
        data = footprint.measure(node.data_dir, holders, self._limits.data_bytes)
        node.excess = data.excess
        node.usage = Usage(
            mono_ns=time.monotonic_ns(),
            pid=node.pid or 0,
            cpu_ns=sum(processtree.cpu_ns(process.pid) for process in members),
            rss_bytes=sum(processtree.rss_bytes(process.pid) for process in members),
            files=sum(processtree.files(process.pid) for process in members),
            data_bytes=data.bytes,
        )
        cost_s = time.process_time() - begun_s
        pause_s = min(max(_MEASURE_EVERY_S, 20 * cost_s), _MEASURE_PAUSE_S_MAX)
        node.measure_at_s = time.monotonic() + pause_s
        if not node.excess:
            return
        node.excess += " (--node-data-mb)"
        if node.init is not None:
            os.kill(node.init, signal.SIGKILL)
        kill_all(members)


def reap_children(
    at_exec: Callable[[int], None] = tracer.let_go,
) -> list[tuple[int, int]]:
    """Pid and exit status of every child that has ended by now.

    Those that have stopped are let go of, or given to `at_exec` if they stopped at the
    beginning of their program.
    """
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | syscalls.WALL)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        if os.WIFSTOPPED(status) and tracer.is_at_exec(status >> 8):
            at_exec(pid)
        elif os.WIFSTOPPED(status):
            # A thread that was too late to stop for a clock to be set, and stops now.
            tracer.let_go(pid, tracer.signal_at_stop(status >> 8))
        else:
            ended.append((pid, os.waitstatus_to_exitcode(status)))


def setting_of(
    wall: Mapping[str, Any] | None, mono: Mapping[str, Any] | None
) -> ClockSetting:
    """The setting that a request tells of."""
    return ClockSetting(
        None if wall is None else ClockLine(**wall),
        None if mono is None else ClockLine(**mono),
    )


def kill_all(processes: list[Process]) -> None:
    """SIGKILL each process that is not dead already."""
    for process in processes:
        if process.state != "Z":
            processtree.send(process, signal.SIGKILL)


def kill_descendants() -> None:
    """Kill all descendants of this process, and wait until they are gone.

    Gives up after KILL_TIMEOUT_S: a process that an unresponsive disk holds in the
    kernel dies when the disk answers, and nothing makes it die sooner.
    """
    deadline_s = time.monotonic() + KILL_TIMEOUT_S
    while time.monotonic() < deadline_s:
        reap_children()
        table = processtree.walk()
        left = [p for p in table.tree({os.getpid()}) if p.pid != os.getpid()]
        if not left and table.complete:
            return
        kill_all(left)
        time.sleep(_JOB_POLL_S)


def cut_back(log_path: Path, bytes_max: int) -> None:
    """Bound a log: drop its middle once it has grown too long.

    It keeps a beginning of half the bound, and an end of an eighth: how the node
    started, and what it wrote last. What it writes while its log is cut stands before
    the mark: that is out of order, and not lost.
    """
    kept, tail = bytes_max // 2, bytes_max // 8
    try:
        with log_path.open("r+b") as log:
            size_bytes = log.seek(0, os.SEEK_END)
            if size_bytes <= bytes_max:
                return
            log.seek(size_bytes - tail)
            last = log.read(tail)
        with log_path.open("ab") as log:
            log.truncate(kept)
            dropped_bytes = size_bytes - kept - len(last)
            words = b"\n[splitbrain: %d bytes of log dropped here]\n" % dropped_bytes
            log.write(words + last)
    except OSError:
        return  # the log was removed, or its disk is full: no reason to fail the node


def _state_of(process: Process) -> str:
    states = {thread.state for thread in processtree.threads(process.pid)}
    return "".join(sorted(states)) or "Z"


def _is_in_netns(pid: int, netns_fd: int | None) -> bool:
    if netns_fd is None:
        return False
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/net"), os.fstat(netns_fd))
    except OSError:
        return False


def _owner_in_environment(pid: int) -> str | None:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    prefix = f"{spawn.OWNER_VARIABLE}=".encode()
    owners = [v.removeprefix(prefix) for v in variables if v.startswith(prefix)]
    return owners[0].decode(errors="replace") if owners else None
