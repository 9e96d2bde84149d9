"""Run a function in fresh namespaces, and leave nothing behind however it ends.

`run_isolated(main)` puts four processes in a row, each the guardian of the next:

    caller     keeps its own namespaces and terminal; forwards signals; waits
    anteroom   has unshared user, net, mount and pid namespaces, and
               holds a session of its own, so that a Ctrl-C in the terminal reaches the
               caller only and is delivered exactly once
    init       pid 1 of the new pid namespace: mounts /proc, reaps orphans
    controller runs `main`; an ordinary process with ordinary signal behaviour

The kernel cleans up: when pid 1 of a pid namespace ends, every process in it is killed,
and with the last process the network and mount namespaces go. So it suffices that init
never outlives a process above it (PR_SET_PDEATHSIG, prctl(2)) and ends when the
controller does. No handler of ours has to run, so even `kill -9` of any of the four
leaves nothing behind.

The anteroom exists because unshare(CLONE_NEWPID) moves only children; init exists as a
process of its own because pid 1 must reap all orphans, and a controller that did so
would steal the exit statuses of its own children.

See namespaces(7), user_namespaces(7), pid_namespaces(7). Linux only; `why_not_isolated`
says in plain words what a machine lacks for it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.errors import EXIT_HARNESS, HarnessError, UsageError
from harness.host import syscalls
from harness.host.interrupts import ECHO_S, stop_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOOK_EVERY_S = 0.5

_REPORT_CHARACTERS = 2000
"""A report fits any pipe (PIPE_BUF), as nobody reads it before the end."""


class IsolationError(HarnessError):
    """Fresh namespaces can't be had here; the message says why and what would help."""


def run_isolated(main: Callable[[], int], *, network: bool = True) -> int:
    """Run `main` in fresh namespaces; returns its exit status.

    They are user, mount, pid and, with `network`, net. `main` runs in a forked process
    with uid 0 of the user namespace, a private mount table and its own /proc; stdin,
    stdout and stderr are the caller's. Where root can't have a user namespace (in some
    containers), it does without one. A UsageError or HarnessError that leaves `main` is
    raised here again, with its text; any other exception is printed by the child, whose
    exit status then is 255. Stop signals (`harness.host.interrupts`) to the caller are
    passed on once each: SIGINT keeps its Python handler, the others raise
    SystemExit(128 + signal). The same signal again, more than a second later, kills
    everything at once, and the exit status is 128 + signal too.

    The caller must be in its main thread and, as with any fork, single-threaded.
    Cost: about 10 ms.

    Raises:
        IsolationError: Namespaces can't be had; `main` did not run.
        HarnessError: A signal killed `main` or a guardian of it, or `main` raised it.
        UsageError: `main` raised it.
    """
    return _run_isolated(main, [], network=network)


def _run_isolated(
    main: Callable[[], int], heard: list[int], *, network: bool = True
) -> int:
    """As `run_isolated`; `heard` gets the stop signals that come meanwhile."""
    if not sys.platform.startswith("linux"):
        raise IsolationError(f"namespaces exist on Linux only, this is {sys.platform}")
    wanted = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID
    if network:
        wanted |= syscalls.CLONE_NEWNET
    try:
        return _run_in(main, heard, functools.partial(_unshare, wanted, users=True))
    except IsolationError:
        if os.geteuid() != 0:
            raise
        return _run_in(main, heard, functools.partial(_unshare, wanted, users=False))


def _run_in(
    main: Callable[[], int], heard: list[int], unshare: Callable[[], None]
) -> int:
    """Run `main` in the namespaces that `unshare` makes; returns its exit status."""
    _flush()
    report_out, report_in = os.pipe()
    with _signals_held(), os.fdopen(report_out) as report:
        caller = os.getpid()
        child = _fork(lambda: _anteroom(main, unshare, caller, report_in))
        os.close(report_in)
        forwarding = _Forwarding(child, heard)
        status = _shepherd(child, forwarding)
        kind, _, text = report.read().partition("\n")
    if kind:
        raise _REPORTED[kind](text)
    if status < 0 and forwarding.insisted:
        return 128 + forwarding.insisted
    if status < 0:
        raise HarnessError(f"a guardian of the run was {_killed_by(status)}")
    return status


def why_not_isolated() -> str | None:
    """Why `run_isolated` does not work here, in plain words; None if it does."""
    return why_it_fails(lambda: 0)


def why_it_fails(attempt: Callable[[], int], *, network: bool = True) -> str | None:
    """Why `attempt` fails in isolation, in plain words; None if it works.

    A stop signal that comes meanwhile ends the attempt and is sent to this process once
    more, which is the one it was meant for.
    """
    heard: list[int] = []
    try:
        _run_isolated(attempt, heard, network=network)
        why = None
    except HarnessError as error:
        why = str(error)
    if heard:
        signal.raise_signal(heard[0])
    return why


def create_netns() -> int:
    """A new network namespace, as a file descriptor that keeps it alive.

    The calling thread is back in its own namespace on return. Cost: about 1 ms.
    """
    with _own_netns_kept():
        syscalls.unshare(syscalls.CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def in_netns(netns: int) -> Iterator[None]:
    """Have the calling thread in the network namespace `netns` within the block.

    Sockets stay in the namespace they were created in; /proc/sys/net shows the one that
    the reading thread is in.
    """
    with _own_netns_kept():
        syscalls.enter_netns(netns)
        yield


# The four processes, outermost first. Each returns its exit status. The report pipe
# carries at most one error from the inner ones to the caller.

_REPORTED = {kind.__name__: kind for kind in (IsolationError, HarnessError, UsageError)}


def _anteroom(
    main: Callable[[], int], unshare: Callable[[], None], caller: int, report: int
) -> int:
    os.setsid()
    try:
        unshare()
    except OSError as error:
        _tell(report, IsolationError(_why_unshare_failed(error)))
        return EXIT_HARNESS
    # Not before unshare: a change of credentials may clear these (prctl(2)).
    syscalls.die_with(caller)
    syscalls.be_traceable()  # the processes of a run look at each other's descriptors
    alive_out, alive_in = os.pipe()
    init = _fork(lambda: _init(main, report, alive_out, alive_in))
    os.close(alive_out)
    status = _shepherd(init, functools.partial(os.kill, init))
    if status < 0:
        _tell(report, HarnessError(f"the run's init process was {_killed_by(status)}"))
        return EXIT_HARNESS
    return status


def _init(main: Callable[[], int], report: int, alive_out: int, alive_in: int) -> int:
    syscalls.die_with_parent(signal.SIGKILL)
    # The anteroom may have died before that. getppid() doesn't tell, as it is 0 for a
    # parent in another pid namespace. But the anteroom holds the only other writing end
    # of this pipe.
    os.close(alive_in)
    if _hung_up(alive_out):
        return EXIT_HARNESS
    try:
        syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount_proc()
    except OSError as error:
        words = f"mounting a fresh /proc failed: {error.strerror}"
        _tell(report, IsolationError(words))
        return EXIT_HARNESS
    controller = _fork(lambda: _controller(main, report))
    status = _shepherd(controller, functools.partial(os.kill, controller), reap=-1)
    if status < 0:
        _tell(report, HarnessError(f"the controller was {_killed_by(status)}"))
        return EXIT_HARNESS
    return status


def _controller(main: Callable[[], int], report: int) -> int:
    # The report pipe stays open here and in all processes forked from here on: the
    # caller reads it to its end, and so returns only when all of them are gone.
    held = _held_signals()
    for number in held - {signal.SIGCHLD, signal.SIGINT}:
        signal.signal(number, _exit_on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
    try:
        return main()
    except (HarnessError, UsageError) as error:
        _tell(report, error)
        return EXIT_HARNESS


def _exit_on_signal(number: int, frame: object) -> NoReturn:
    # Only once: a second SystemExit would interrupt the clean-up that the first began.
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


# How they are made and watched.


def _fork(body: Callable[[], int]) -> int:
    """The pid of a new child that runs `body` and exits with the status it returns."""
    pid = os.fork()
    if pid != 0:
        return pid
    status = EXIT_HARNESS
    # No exception may unwind into the caller's frames: that would run its code twice.
    try:
        status = body()
    except SystemExit as stop:
        status = _status_of(stop)
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except BaseException:  # nor may any other, such as GeneratorExit
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            _flush()
        os._exit(status)


def _status_of(stop: SystemExit) -> int:
    """The exit status that the interpreter gives an uncaught SystemExit."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    print(stop.code, file=sys.stderr)  # noqa: T201 (as the interpreter does)
    return 1


def _shepherd(
    child: int, forward: Callable[[int], None], *, reap: int | None = None
) -> int:
    """Wait for `child`, passing stop signals on; returns its exit code or -signal.

    The signals must have been blocked since before the child was forked, so that none
    is missed between a look and a wait. With `reap=-1` orphans are reaped too.
    """
    held = _held_signals()
    while True:
        # Another thread of the caller that does not block SIGCHLD may have taken one.
        signalled = signal.sigtimedwait(held, _LOOK_EVERY_S)
        if signalled is not None and signalled.si_signo != signal.SIGCHLD:
            forward(signalled.si_signo)
            continue
        for pid, status in _ended(child if reap is None else reap):
            if pid == child:
                return os.waitstatus_to_exitcode(status)


def _ended(which: int) -> Iterator[tuple[int, int]]:
    """Pid and status of children that have ended, without waiting for others."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(which, os.WNOHANG))[0] != 0:
            yield ended


class _Forwarding:
    """Passes each stop signal on once; kills the child when one insists.

    A signal insists that comes again more than a second later.

    Attributes:
        insisted: The signal that insisted; 0 if none did.
    """

    def __init__(self, child: int, heard: list[int]) -> None:
        self.insisted = 0
        self._child = child
        self._heard = heard
        self._first_at: dict[int, float] = {}

    def __call__(self, number: int) -> None:
        now = time.monotonic()
        self._heard.append(number)
        if number not in self._first_at:
            self._first_at[number] = now
            os.kill(self._child, number)
        elif now - self._first_at[number] > ECHO_S:
            self.insisted = number
            os.kill(self._child, signal.SIGKILL)


def _held_signals() -> set[signal.Signals]:
    """The signals that `_shepherd` takes, without the stop signals that are ignored."""
    return {signal.SIGCHLD, *stop_signals()}


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Block the signals that `_shepherd` takes, within the block.

    SIGCHLD gets its default action, too: if the caller was started with it ignored (as
    some CI runners do), the kernel would reap its children and lose their statuses.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _held_signals())
    child_action = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, child_action or signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _hung_up(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))


def _tell(report: int, error: HarnessError | UsageError) -> None:
    """Have the caller raise this error."""
    kind = next(one for one in type(error).__mro__ if one.__name__ in _REPORTED)
    text = str(error)
    if len(text) > _REPORT_CHARACTERS:
        half = _REPORT_CHARACTERS // 2
        text = f"{text[:half]} [...] {text[-half:]}"
    with contextlib.suppress(BrokenPipeError):
        os.write(report, f"{kind.__name__}\n{text}".encode())


def _killed_by(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}"


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


# System calls.


def _unshare(wanted: int, *, users: bool) -> None:
    """Leave these namespaces of the caller; that of pids only our children leave.

    Args:
        wanted: CLONE_NEW... flags.
        users: Leave the user namespace, too; uid 0 in the new one is our present user.
    """
    if not users:
        syscalls.unshare(wanted)
        return
    uid, gid = os.geteuid(), os.getegid()
    wanted |= syscalls.CLONE_NEWUSER
    if uid == 0 and _unshare_with_all_ids(wanted):
        return
    if uid != 0:
        syscalls.unshare(wanted)
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    # The kernel demands that setgroups is denied before we may map a group ourselves.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _unshare_with_all_ids(wanted: int) -> bool:
    """Unshare as root, and map every user and group to its own id.

    So root of the run reaches everybody's files, as root did outside; but its
    capabilities don't reach the host's mounts, modules, clocks and network. Only a
    process that stays outside may map others' ids (user_namespaces(7)), hence the fork.

    Returns:
        Whether the ids could be mapped.
    """
    ours = os.getpid()
    done_out, done_in = os.pipe()

    def map_all() -> int:
        os.close(done_in)
        if not os.read(done_out, 1):
            return EXIT_HARNESS
        for kind in ("uid_map", "gid_map"):
            lines = Path(f"/proc/self/{kind}").read_text().splitlines()
            ranges = [(first, count) for first, _, count in map(str.split, lines)]
            text = "".join(f"{first} {first} {count}\n" for first, count in ranges)
            try:
                Path(f"/proc/{ours}/{kind}").write_text(text)
            except OSError:
                return EXIT_HARNESS  # a container's root may lack CAP_SETUID
        return 0

    mapper = _fork(map_all)
    os.close(done_out)
    try:
        syscalls.unshare(wanted)
        os.write(done_in, b"!")
    finally:
        os.close(done_in)
        _, status = os.waitpid(mapper, 0)
    return status == 0


_OBSTACLES = (
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "user namespaces are switched off for ordinary users; "
        "`sysctl -w syscalls.unprivileged_userns_clone=1` as root allows them",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor keeps ordinary users from user namespaces; "
        "`sysctl -w syscalls.apparmor_restrict_unprivileged_userns=0` as root allows "
        "them",
    ),
    *(
        (
            f"/proc/sys/user/max_{kind}_namespaces",
            "0",
            f"the limit on {kind} namespaces is 0; "
            f"`sysctl -w user.max_{kind}_namespaces=1000` as root raises it",
        )
        for kind in ("user", "net", "mnt", "pid")
    ),
)


def _why_unshare_failed(error: OSError) -> str:
    """The likeliest cause, in words that tell what to do about it."""
    for path, value, words in _OBSTACLES:
        if _read(path) == value and not (os.geteuid() == 0 and "ordinary" in words):
            return words
    if error.errno == errno.EINVAL:
        return "the kernel was built without some of user, net, mount, pid namespaces"
    if error.errno == errno.ENOSPC:
        return "a limit on namespaces is reached (sysctls user.max_*_namespaces)"
    if "Seccomp:\t2" in _read("/proc/self/status"):
        return (
            f"a seccomp filter (a container's?) forbids it ({error.strerror}); "
            "docker run --privileged, or --security-opt seccomp=unconfined, allows it"
        )
    return f"unshare: {error.strerror}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


@contextlib.contextmanager
def _own_netns_kept() -> Iterator[None]:
    """Have the calling thread back in its network namespace after the block."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        # If this failed, we would go on in a node's network, so the error is raised.
        syscalls.enter_netns(own)
        os.close(own)
