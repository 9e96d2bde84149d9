"""Turns a fork of the warden into a node's process.

A node gets a session of its own, its network namespace, its cage if there is one
(`cage`), /dev/null as stdin, its log as stdout and stderr, no other descriptor, default
signals, no core dumps, no privileges unless its system is trusted with them, and a
small clean environment. It is killed when the warden ends.

The child says over a socket why it could not start. The socket closes by itself when
the new program takes over, so end of file means that the program runs. At a node's
first start the socket also carries the descriptors of its view of the files. A child
that is to be `held` says that it is about to turn into its program, and waits until it
is let go: meanwhile the warden arranges to stop it there.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.host import syscalls
from harness.worlds.os import cage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "JAVA_HOME",
    "PYTHONPATH",
)
"""The variables of the controller's own environment that nodes get. The others would
make runs differ from one shell to the next."""

OWNER_VARIABLE = "SPLITBRAIN_OWNER"
"""Names the node that a daemonised process belongs to, once its ancestors are gone."""

VIEW_BUILT = b"\0"
"""The byte that comes with the descriptors of a view, before any text."""

HELD = b"\1"
"""The byte with which a child says that it waits to be let go; no text has it."""
GO = b"!"

CAGE_TIMEOUT_S = 5.0

_REPORT_FD = 3


@dataclass(frozen=True)
class Disk:
    """A disk of ours, mounted beside the data folder in whose place a node sees it.

    Attributes:
        mounted: Where.
        pid: Who serves it, and holds what is written to it.
    """

    mounted: str
    pid: int


@dataclass(frozen=True)
class Order:
    """One process to start.

    Attributes:
        owner: The node's name, the value of `OWNER_VARIABLE`.
        argv: The command; `argv[0]` is looked up on the environment's PATH. A process
            with no command ends at once.
        env: Variables added to the clean environment.
        cwd: The working directory; None for the controller's.
        log_path: The file that stdout and stderr are appended to.
        netns_fd: The network namespace; None for the controller's own.
        trusted: Whether it keeps the privileges that the warden has.
        cell: The cage; None for none.
        mounts: Without a cage, folders to be mounted in the place of others: path ->
            what is to be there.
        held: Whether it waits before its program takes over.
    """

    owner: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None
    log_path: Path
    netns_fd: int | None
    trusted: bool = False
    cell: Cell | None = None
    mounts: Mapping[str, str] = field(default_factory=dict)
    held: bool = False


@dataclass(frozen=True)
class Warder:
    """The process that forks the nodes, as far as caging needs it.

    Attributes:
        pids_fd: Its pid namespace.
        pidfd: The process itself.
        ids: User and group that nodes see themselves as.
    """

    pids_fd: int
    pidfd: int
    ids: tuple[int, int]

    @classmethod
    def of_this_process(cls) -> Warder:
        """The warder for this process, which will fork the nodes."""
        uid, gid = (cage.outer_id(kind) for kind in ("uid_map", "gid_map"))
        return cls(
            os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC),
            os.pidfd_open(os.getpid()),
            (uid or cage.NOBODY, gid or cage.NOBODY),
        )


@dataclass(frozen=True)
class Cell:
    """One node's cage: its bounds, and its view once that is built."""

    warder: Warder
    bounds: cage.Bounds
    view: cage.View | None


@dataclass(frozen=True)
class Started:
    """A forked child, and the socket over which it may still report a failure.

    `init` is the init of its pid namespace; None if it has no namespace of its own.
    """

    pid: int
    init: int | None
    report: socket.socket

    def take_report(self) -> tuple[bytes, cage.View | None]:
        """The bytes and the view that have come by now; no bytes at end of file.

        Raises:
            BlockingIOError: Nothing has come.
        """
        text, descriptors, _, _ = socket.recv_fds(self.report, 4096, 2)
        return text, cage.View(*descriptors) if descriptors else None


def clean_environment(order: Order) -> dict[str, str]:
    """The environment of a node: some of our variables, then those of its system."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    if order.cell is not None:
        inherited.pop("TMPDIR", None)  # a caged node may write its own /tmp only
    return {
        "PATH": os.defpath,
        **inherited,
        # A node killed with -9 must not take its last log lines with it.
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        **order.env,
        OWNER_VARIABLE: order.owner,
    }


def why_no_cage(warder: Warder, run_dir: str) -> str:
    """Why a node can't be caged here, in plain words; empty if it can.

    It cages a child that does nothing, as any of the namespaces and mounts may be
    missing or forbidden. Cost: about 10 ms.
    """
    bounds = cage.Bounds(run_dir, data_dir=run_dir, writable=(), needed=())
    order = Order(
        "", [], {}, "/", Path(os.devnull), None, False, Cell(warder, bounds, None)
    )
    started = start(order)
    assert started.init is not None
    said = b""
    with started.report as report:
        report.settimeout(CAGE_TIMEOUT_S)
        try:
            while chunk := report.recv(4096):
                said += chunk
        except TimeoutError:
            said = b"it takes too long"
    os.kill(started.init, signal.SIGKILL)
    for pid in (started.pid, started.init):
        os.waitpid(pid, 0)
    return said.removeprefix(VIEW_BUILT).decode(errors="replace")


def start(order: Order) -> Started:
    """Fork the process; the caller reads its `report` to the end, then closes it.

    Raises:
        OSError: There can't be another process or socket.
    """
    report, child_report = socket.socketpair()
    warden_pid = os.getpid()
    init = None
    try:
        if order.cell is not None:
            warder = order.cell.warder
            init = cage.fork_init(warder.pids_fd, warder.pidfd)
        try:
            pid = os.fork()
        finally:
            if order.cell is not None and os.getpid() == warden_pid:
                cage.leave_init(order.cell.warder.pids_fd)
    except OSError:
        if init is not None:
            os.kill(init, signal.SIGKILL)
        report.close()
        child_report.close()
        raise
    if pid == 0:
        try:
            _become(order, warden_pid, child_report)
        finally:
            os._exit(127)  # in any case: there must never be a second warden
    child_report.close()
    report.setblocking(False)
    return Started(pid, init, report)


def _become(order: Order, warden_pid: int, report: socket.socket) -> NoReturn:
    environment = clean_environment(order)
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if order.netns_fd is not None:
            syscalls.enter_netns(order.netns_fd)
        cwd = os.getcwd() if order.cwd is None else order.cwd
        _log_to(order.log_path)
        if order.cell is not None:
            _cage(order.cell, report)
        elif order.mounts:
            _mount(order.mounts)
        if order.cell is None and not order.trusted:
            syscalls.forgo_privileges()
        if order.cell is None:
            syscalls.die_with(warden_pid)  # caged, it dies with its init
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(cwd)
        _restore_signals()
    except OSError as error:
        _fail(report.fileno(), str(error))
    if not order.argv:
        os._exit(0)  # the order was only to find out whether a process can start
    report_fd = _close_all_but(report.detach())
    if order.held:
        os.write(report_fd, HELD)
        os.read(report_fd, len(GO))
    try:
        os.execvpe(  # noqa: S606 - there is no shell, by intent
            order.argv[0], list(order.argv), environment
        )
    except (OSError, ValueError, IndexError) as error:
        _fail(report_fd, _why_not_started(error, order.argv[0], environment["PATH"]))


def _cage(cell: Cell, report: socket.socket) -> None:
    if cell.view is not None:
        cell.view.enter()
    else:
        cage.build_view(cell.bounds)
        view = cage.View.of_this_process()
        socket.send_fds(report, [VIEW_BUILT], [view.mounts_fd, view.root_fd])
    cage.put_on(*cell.warder.ids)


def _mount(mounts: Mapping[str, str]) -> None:
    cage.own_mounts()
    for path, source in mounts.items():
        syscalls.mount(source, path, flags=syscalls.MS_BIND)


def _log_to(log_path: Path) -> None:
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _close_all_but(report_fd: int) -> int:
    if report_fd != _REPORT_FD:
        os.dup2(report_fd, _REPORT_FD, inheritable=False)
    os.closerange(_REPORT_FD + 1, os.sysconf("SC_OPEN_MAX"))
    return _REPORT_FD


def _restore_signals() -> None:
    """Unblock and stop ignoring signals, as a new program would inherit both."""
    for number in signal.valid_signals():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _why_not_started(error: Exception, command: str, path: str) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    found = shutil.which(command, path=path)
    if found is None and os.path.basename(command) == command:
        # A folder on PATH that we may not search counts as not having it.
        return os.strerror(errno.ENOENT)
    if found is not None and error.errno == errno.ENOENT:
        return f"{error.strerror} (the interpreter that its first line names)"
    return error.strerror


def _fail(report_fd: int, reason: str) -> NoReturn:
    os.write(report_fd, reason.encode(errors="replace"))
    os._exit(127)
