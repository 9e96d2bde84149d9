"""Isolation: what a run sees, how signals reach it, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psutil
import pytest

from harness.errors import HarnessError, SplitbrainError, UsageError
from harness.host import interrupts, syscalls
from harness.tests import osworld_nodes as nodes
from harness.tests.osworld_nodes import isolated
from harness.worlds.os import namespaces
from harness.worlds.os.namespaces import (
    create_netns,
    in_netns,
    run_isolated,
    why_not_isolated,
)
from harness.worlds.os.switch import why_no_switch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OBSTACLE = why_not_isolated()
pytestmark = pytest.mark.skipif(
    _OBSTACLE is not None, reason=f"no namespaces here: {_OBSTACLE}"
)
_NO_SWITCH = why_no_switch()


def _raise(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("main", "status"),
    [
        (lambda: 0, 0),
        (lambda: 254, 254),
        (lambda: _raise(SystemExit(3)), 3),
        (lambda: _raise(SystemExit()), 0),
        (lambda: _raise(SystemExit("no luck")), 1),
        (lambda: _raise(KeyboardInterrupt()), 130),
        (lambda: _raise(ValueError("a bug")), 255),
    ],
)
def test_the_exit_status_is_what_it_would_be_without_isolation(
    main: Callable[[], int], status: int
) -> None:
    assert run_isolated(main) == status


class _SpecialError(UsageError):
    pass


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (HarnessError("in so\nmany words"), HarnessError),
        (_SpecialError("in so\nmany words"), UsageError),
    ],
)
def test_an_error_of_ours_is_raised_where_the_run_was_asked_for(
    error: SplitbrainError, kind: type[SplitbrainError]
) -> None:
    with pytest.raises(kind, match=r"^in so\nmany words$") as caught:
        run_isolated(lambda: _raise(error))
    assert caught.type is kind


def test_a_very_long_error_keeps_its_beginning_and_end() -> None:
    text = "first " + "words " * 100_000 + "last"
    with pytest.raises(HarnessError, match=r"^first .*\[\.\.\.\].* last$"):
        run_isolated(lambda: _raise(HarnessError(text)))


def test_an_exception_is_printed_where_it_happened(
    capfd: pytest.CaptureFixture[str],
) -> None:
    run_isolated(lambda: _raise(ValueError("a bug")))
    assert "ValueError: a bug" in capfd.readouterr().err


def test_output_buffered_before_is_printed_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    sys.stdout.write("before ")
    run_isolated(lambda: sys.stdout.write("within ") * 0)
    sys.stdout.write("after\n")
    assert capfd.readouterr().out == "before within after\n"


def test_a_run_is_root_alone_among_its_processes_and_interfaces() -> None:
    def body() -> None:
        assert os.getuid() == 0
        assert sorted(filter(str.isdigit, os.listdir("/proc"))) == ["1", "2"]
        assert [name for _, name in socket.if_nameindex() if "eth" in name] == []

    isolated(body)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may map others' ids")
def test_root_of_a_run_reaches_everybodys_files(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.touch(mode=0o600)
    os.chown(theirs, 1234, 1234)

    def body() -> None:
        theirs.write_text("seen")
        os.chown(tmp_path, 1235, 1235)

    isolated(body)
    assert theirs.read_text() == "seen"
    assert (tmp_path.stat().st_uid, tmp_path.stat().st_gid) == (1235, 1235)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_processes_of_a_run_see_each_other_though_its_caller_changed_its_user() -> None:
    def body() -> None:
        ended, end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(end)
            os.read(ended, 1)
            os._exit(0)
        assert os.stat(f"/proc/{child}/fd/{ended}").st_ino == os.fstat(ended).st_ino
        os.close(end)
        os.waitpid(child, 0)

    def caller() -> None:
        os.seteuid(1234)
        os.seteuid(0)
        isolated(body)

    isolated(caller)


def test_a_run_has_a_user_namespace_of_its_own_where_one_can_be_had() -> None:
    outside = os.stat("/proc/self/ns/user").st_ino

    def body() -> None:
        assert os.stat("/proc/self/ns/user").st_ino != outside

    isolated(body)


@pytest.mark.skipif(os.geteuid() != 0, reason="others need a user namespace")
def test_root_does_without_a_user_namespace_where_none_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outside = os.stat("/proc/self/ns/user").st_ino
    real = namespaces._unshare

    def refuse_users(wanted: int, *, users: bool) -> None:
        if users:
            raise PermissionError(1, "not permitted")
        real(wanted, users=False)

    def body() -> None:
        assert os.stat("/proc/self/ns/user").st_ino == outside
        assert os.getpid() == 2

    monkeypatch.setattr(namespaces, "_unshare", refuse_users)
    isolated(body)


def test_mounts_of_a_run_are_its_own(tmp_path: Path) -> None:
    def body() -> None:
        syscalls.mount("tmpfs", str(tmp_path), "tmpfs")
        assert str(tmp_path) in Path("/proc/self/mounts").read_text()
        (tmp_path / "file").touch()

    isolated(body)
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert list(tmp_path.iterdir()) == []


def test_orphans_are_reaped() -> None:
    def body() -> None:
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                os.execvp("true", ["true"])
            os._exit(0)
        os.waitpid(child, 0)
        nodes.eventually(
            lambda: psutil.pids() == [1, 2], "the orphan is neither alive nor a zombie"
        )

    isolated(body)


def test_an_ignored_child_signal_does_not_lose_the_exit_status() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run_isolated(lambda: 9) == 9
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_network_namespace_is_another_one_and_left_after_the_block() -> None:
    def body() -> None:
        own = os.stat("/proc/thread-self/ns/net").st_ino
        netns = create_netns()
        assert os.stat("/proc/thread-self/ns/net").st_ino == own
        with contextlib.suppress(RuntimeError), in_netns(netns):
            inside = os.stat("/proc/thread-self/ns/net").st_ino
            assert inside == os.fstat(netns).st_ino != own
            raise RuntimeError
        assert os.stat("/proc/thread-self/ns/net").st_ino == own

    isolated(body)


@pytest.mark.skipif(_NO_SWITCH is not None, reason=f"no switch here: {_NO_SWITCH}")
def test_the_hosts_interfaces_are_as_before() -> None:
    before = socket.if_nameindex()
    assert why_no_switch() is None
    assert socket.if_nameindex() == before


# A whole run in a process of its own, to be ended in every way there is.

_RUN = """
import os, signal, sys, tempfile
from pathlib import Path
from harness.host import syscalls
from harness.worlds.os.namespaces import in_netns, run_isolated
from harness.worlds.os.switch import why_no_switch

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" ignores it
    folder = sys.argv[2]
    syscalls.mount("tmpfs", folder, "tmpfs")
    netns = []
    if sys.argv[3] == "switch":
        from harness.worlds.os.switch import SwitchNetwork
        network = SwitchNetwork.create(["n1", "n2"], Path(folder), port=7, seed=1)
        netns = list(network.netns_fds.values())
    for fd in netns:
        if os.fork() == 0:                 # a node ...
            with in_netns(fd):
                os.setsid()
                if os.fork() == 0:         # ... and a daemon of its
                    signal.pause()
                signal.pause()
    kinds = [os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("net", "mnt", "pid")]
    print(*kinds, *(os.fstat(fd).st_ino for fd in netns), flush=True)
    sys.stdin.readline()
    if sys.argv[4] == "raise":
        raise RuntimeError("on purpose")
    return 5

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
status = run_isolated(main)
print("status", status, flush=True)
sys.exit(status)
"""


@dataclass
class Run:
    """A run in progress, and what identifies all that belongs to it."""

    caller: subprocess.Popen[str]
    tag: str
    namespaces: set[int]
    held_by: set[psutil.Process] = field(default_factory=set)

    def guardians(self) -> list[psutil.Process]:
        """The anteroom, init and controller."""
        found = [psutil.Process(self.caller.pid)]
        for _ in range(3):
            found.append(min(found[-1].children(), key=lambda one: one.pid))
        return found[1:]

    def processes(self) -> list[int]:
        """All that carry the tag: the caller and whatever is forked from it."""
        return [
            one.pid
            for one in psutil.process_iter(["cmdline", "status"])
            if self.tag in (one.info["cmdline"] or [])
        ]

    def holders(self) -> set[psutil.Process]:
        """Who is in one of its namespaces, or keeps one by an open file."""
        found = set()
        for pid, inode in _namespaces_in_use():
            if inode in self.namespaces:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.add(psutil.Process(pid))
        return found


def _namespaces_in_use() -> Iterator[tuple[int, int]]:
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        for folder in (f"/proc/{pid}/ns", f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    yield from ((pid, inode) for inode in _inode(f"{folder}/{name}"))


def _inode(link: str) -> list[int]:
    """Of the namespace that a link in /proc leads to, if it is one."""
    with contextlib.suppress(OSError, ValueError):
        kind, _, inode = os.readlink(link).partition(":[")
        if kind in ("net", "mnt", "pid"):
            return [int(inode.rstrip("]"))]
    return []


@contextlib.contextmanager
def _run(folder: Path, ending: str = "return") -> Iterator[Run]:
    tag = f"tag-{uuid4()}"
    rung = "bare" if _NO_SWITCH else "switch"
    with subprocess.Popen(
        [sys.executable, "-c", _RUN, tag, str(folder), rung, ending],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as caller:
        assert caller.stdout is not None
        try:
            inodes = {int(word) for word in caller.stdout.readline().split()}
            assert len(inodes) == (3 if _NO_SWITCH else 5)
            run = Run(caller, tag, inodes)
            run.held_by = run.holders()
            assert len(run.held_by) >= 3
            yield run
        finally:
            caller.kill()


def _nothing_stays(run: Run, folder: Path, interfaces: list[tuple[int, str]]) -> None:
    nodes.eventually(lambda: run.processes() == [], "all its processes are gone")
    # Of those who held one: others who run tests here get the same numbers again.
    nodes.eventually(
        lambda: run.held_by.isdisjoint(run.holders()), "its namespaces are gone"
    )
    for mounts in Path("/proc").glob("[0-9]*/mounts"):
        with contextlib.suppress(OSError):
            assert str(folder) not in mounts.read_text()
    assert list(folder.iterdir()) == []
    assert socket.if_nameindex() == interfaces


@pytest.mark.parametrize("ending", ["return", "raise"])
def test_nothing_stays_behind_after_success_or_exception(
    ending: str, tmp_path: Path
) -> None:
    interfaces = socket.if_nameindex()
    with _run(tmp_path, ending) as run:
        out, err = run.caller.communicate("\n", timeout=nodes.DEADLINE_S)
        assert run.caller.returncode == (5 if ending == "return" else 255)
        assert ("on purpose" in err) == (ending == "raise")
        assert out == f"status {run.caller.returncode}\n"
    _nothing_stays(run, tmp_path, interfaces)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_stays_behind_after_a_stop_signal(
    number: signal.Signals, tmp_path: Path
) -> None:
    interfaces = socket.if_nameindex()
    with _run(tmp_path) as run:
        run.caller.send_signal(number)
        assert run.caller.wait(nodes.DEADLINE_S) == 128 + number
    _nothing_stays(run, tmp_path, interfaces)


def test_nothing_stays_behind_after_kill_9_of_the_caller(tmp_path: Path) -> None:
    interfaces = socket.if_nameindex()
    with _run(tmp_path) as run:
        run.caller.kill()
    _nothing_stays(run, tmp_path, interfaces)


@pytest.mark.parametrize("which", ["anteroom", "init", "controller"])
def test_kill_9_of_a_guardian_is_a_harness_error_and_nothing_stays(
    which: str, tmp_path: Path
) -> None:
    interfaces = socket.if_nameindex()
    with _run(tmp_path) as run:
        names = ("anteroom", "init", "controller")
        run.guardians()[names.index(which)].kill()
        _, err = run.caller.communicate(timeout=nodes.DEADLINE_S)
        assert "HarnessError" in err
        assert "killed by SIGKILL" in err
    _nothing_stays(run, tmp_path, interfaces)


_COUNT = """
import signal, sys, time
from harness.worlds.os.namespaces import run_isolated

def main():
    seen = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    print("ready", flush=True)
    while not seen:
        time.sleep(0.01)  # pause() would sleep on after a signal that came just before
    print("interrupted", flush=True)
    signal.sigwait([signal.SIGTERM])
    return len(seen)

sys.exit(run_isolated(main))
"""


def test_ctrl_c_in_a_terminal_is_delivered_exactly_once() -> None:
    keyboard, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", _COUNT],
        text=True,
        stdin=terminal,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "ready\n"
        os.write(keyboard, b"\x03")
        assert caller.stdout.readline() == "interrupted\n"
        caller.terminate()
    os.close(keyboard)
    os.close(terminal)
    assert caller.returncode == 1


_STUBBORN = """
import signal, sys
from harness.worlds.os import namespaces

def main():
    signal.signal(signal.SIGTERM, lambda number, frame: print("heard", flush=True))
    print("ready", flush=True)
    while True:
        signal.pause()

namespaces.ECHO_S = 0.0
sys.exit(namespaces.run_isolated(main))
"""


def test_a_second_signal_ends_a_run_that_does_not_obey_the_first() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _STUBBORN],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "ready\n"
        caller.terminate()
        assert caller.stdout.readline() == "heard\n"
        caller.terminate()
        _, err = caller.communicate(timeout=nodes.DEADLINE_S)
    assert (caller.returncode, err) == (128 + signal.SIGTERM, "")


def test_a_stop_signal_that_comes_during_a_probe_is_not_lost() -> None:
    ours = os.getpid()

    def attempt() -> int:
        os.write(asks, b"!")
        signal.pause()
        return 0

    answers, asks = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.read(answers, 1)
        os.kill(ours, signal.SIGTERM)
        os._exit(0)
    try:
        with interrupts.raised(), pytest.raises(KeyboardInterrupt):
            namespaces.why_it_fails(attempt)
    finally:
        os.waitpid(helper, 0)
        os.close(answers)
        os.close(asks)


def test_obstacles_are_told_in_words_that_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(namespaces, "_read", lambda path: "0")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    words = namespaces._why_unshare_failed(PermissionError(1, "not permitted"))
    assert "sysctl -w syscalls.unprivileged_userns_clone=1" in words


def test_a_kernel_that_refuses_is_an_isolation_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(wanted: int, *, users: bool) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(namespaces, "_unshare", refuse)
    with pytest.raises(namespaces.IsolationError, match="permitted"):
        run_isolated(lambda: 0)
    assert why_not_isolated() is not None
