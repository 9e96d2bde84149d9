"""Turns a fork of the warden into a node's process.

What a node finds: a session of its own, its network namespace, /dev/null as stdin, its
log as stdout and stderr, no other descriptor, default signals, no core dumps, a small
clean environment. It is killed when the warden ends.

The child says over a pipe why it could not start; the pipe closes by itself when the
new program takes over, so end of file means that it runs.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from harness.osworld import kernel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

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
"""What nodes get of the controller's own environment; the rest would make runs differ
from one shell to the next."""

OWNER_VARIABLE = "SPLITBRAIN_OWNER"
"""Tells whose a daemonised process is, once its ancestors are gone."""

_REPORT_FD = 3


@dataclass(frozen=True)
class Order:
    """One process to start.

    Attributes:
        owner: The node's name; see `OWNER_VARIABLE`.
        argv: The command; `argv[0]` is looked up on the environment's PATH.
        env: Added to the clean environment.
        cwd: Where it starts; None is where the controller runs.
        log_path: Gets stdout and stderr, appended.
        netns_fd: The network namespace; None is the controller's own.
    """

    owner: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None
    log_path: Path
    netns_fd: int | None


@dataclass(frozen=True)
class Started:
    """A forked child, and the pipe over which it may still report a failure."""

    pid: int
    report_fd: int


def clean_environment(order: Order) -> dict[str, str]:
    """The environment of a node: little of ours, then what its system asks for."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {
        "PATH": os.defpath,
        **inherited,
        # A node killed with -9 must not take its last log lines with it.
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        **order.env,
        OWNER_VARIABLE: order.owner,
    }


def start(order: Order) -> Started:
    """Fork the process; the caller reads `report_fd` to the end, then closes it.

    Raises:
        OSError: There is no room for another process or pipe.
    """
    report_fd, child_report_fd = os.pipe()
    warden_pid = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        os.close(report_fd)
        os.close(child_report_fd)
        raise
    if pid == 0:
        try:
            _become(order, warden_pid, child_report_fd)
        finally:
            os._exit(127)  # whatever happens: never a second warden
    os.close(child_report_fd)
    os.set_blocking(report_fd, False)
    return Started(pid, report_fd)


def _become(order: Order, warden_pid: int, report_fd: int) -> NoReturn:
    environment = clean_environment(order)
    try:
        os.setsid()
        kernel.die_with_parent(signal.SIGKILL)
        if os.getppid() != warden_pid:
            os._exit(127)  # it ended between fork and prctl
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if order.netns_fd is not None:
            kernel.enter_netns(order.netns_fd)
        _redirect(order.log_path)
        if order.cwd is not None:
            os.chdir(order.cwd)
        report_fd = _close_all_but(report_fd)
        _restore_signals()
    except OSError as error:
        _fail(report_fd, str(error))
    try:
        os.execvpe(  # noqa: S606 - there is no shell, by intent
            order.argv[0], list(order.argv), environment
        )
    except (OSError, ValueError, IndexError) as error:
        _fail(report_fd, _why_not_started(error, order.argv[0], environment["PATH"]))


def _redirect(log_path: Path) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _close_all_but(report_fd: int) -> int:
    if report_fd != _REPORT_FD:
        os.dup2(report_fd, _REPORT_FD, inheritable=False)
    os.closerange(_REPORT_FD + 1, os.sysconf("SC_OPEN_MAX"))
    return _REPORT_FD


def _restore_signals() -> None:
    """Undo what a new program would inherit: ignored and blocked signals."""
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
