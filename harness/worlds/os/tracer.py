"""Holds all threads of a process still for a moment, with ptrace(2).

It uses PTRACE_SEIZE rather than ATTACH, as that sends no SIGSTOP: a process that was
running runs on afterwards, and one that was paused (SIGSTOP) is still paused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.host import syscalls
from harness.worlds.os import processtree

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_TIMEOUT_S = 0.5

_EVENT_EXEC = 4
"""PTRACE_EVENT_EXEC: a new program took over, and has done nothing yet."""
_EVENT_STOP = 128
"""PTRACE_EVENT_STOP: the thread stopped because we asked, not for a signal."""
_POLL_S = 0.00005
_RIP = 16
"""Index of the instruction pointer among an x86-64 thread's registers."""


class CannotStop(HarnessError):  # noqa: N818 - reads as what happened
    """Not all threads of a process could be stopped; all run on as before."""


@contextlib.contextmanager
def held_still(pid: int) -> Iterator[list[int]]:
    """Stop every thread of `pid`, yield their ids, and let go of them again.

    Cost: about 50 us a thread.

    Raises:
        CannotStop: Another program traces the process, or a thread is stuck in the
            kernel.
        ProcessLookupError: There is no such process.
    """
    stopped: dict[int, int] = {}
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    try:
        # A thread that we have not stopped yet may start another, so look again.
        while fresh := set(_living_threads(pid)) - stopped.keys():
            for thread in fresh:
                _interrupt(thread)
            for thread in fresh:
                signal_held = _wait_for_stop(thread, deadline_s)
                if signal_held is not None:
                    stopped[thread] = signal_held
        if not stopped:
            raise ProcessLookupError(errno.ESRCH, f"no process {pid}")
        yield list(stopped)
    finally:
        for thread, signal_number in stopped.items():
            let_go(thread, signal_number)


def stop_at_exec(pid: int) -> None:
    """Have a process stop when it turns into another program, before that does a thing.

    Whoever waits for its parent's children then sees a stop that `is_at_exec`, and has
    to `let_go`.

    Raises:
        CannotStop: It may not be traced.
        ProcessLookupError: There is no such process.
    """
    try:
        syscalls.ptrace(syscalls.PTRACE_SEIZE, pid, data=syscalls.PTRACE_O_TRACEEXEC)
    except PermissionError as error:
        raise CannotStop(f"pid {pid} may not be traced") from error


def is_at_exec(stop: int) -> bool:
    """Whether a process stopped with this status because of `stop_at_exec`.

    Args:
        stop: Signal in the low byte, ptrace event above it.
    """
    return stop >> 8 == _EVENT_EXEC


def instruction_pointer(thread: int) -> int:
    """The address at which a stopped x86-64 thread will go on."""
    return syscalls.registers(thread)[_RIP]


def let_go(thread: int, signal_number: int = 0) -> None:
    """Detach from a stopped thread, handing it the signal that it stopped for."""
    with contextlib.suppress(ProcessLookupError):  # killed while stopped
        syscalls.ptrace(syscalls.PTRACE_DETACH, thread, 0, signal_number)


def signal_at_stop(stop: int) -> int:
    """The signal to hand back to a thread that stopped with this status.

    Args:
        stop: Signal in the low byte, ptrace event above it.
    """
    return 0 if stop >> 8 in {_EVENT_EXEC, _EVENT_STOP} else stop & 0xFF


def _living_threads(pid: int) -> list[int]:
    return [
        thread.pid
        for thread in processtree.threads(pid)
        if thread.state not in {"Z", "X"}
    ]


def _interrupt(thread: int) -> None:
    try:
        syscalls.ptrace(syscalls.PTRACE_SEIZE, thread)
        syscalls.ptrace(syscalls.PTRACE_INTERRUPT, thread)
    except ProcessLookupError:
        return  # it ended meanwhile
    except PermissionError as error:
        ended = (process := processtree.read(thread)) is None or process.state == "Z"
        if not ended:
            raise CannotStop(
                f"thread {thread} may not be traced "
                "(is a debugger or strace attached to it?)"
            ) from error


def _wait_for_stop(thread: int, deadline_s: float) -> int | None:
    """Wait until the thread has stopped.

    It waits for stops only, never for ends: the parent of a node's process must collect
    its exit status, even if it ends just now.

    Returns:
        The signal held back by the stop, 0 for none; None if the thread has ended.
    """
    while True:
        try:
            stop = os.waitid(os.P_PID, thread, os.WSTOPPED | os.WNOHANG | syscalls.WALL)
        except ChildProcessError:
            return None
        if stop is not None:
            return signal_at_stop(stop.si_status)
        now = processtree.read(thread)
        if now is None or now.state in {"Z", "X"}:
            return None
        if time.monotonic() > deadline_s:
            raise CannotStop(
                f"thread {thread} did not stop within {STOP_TIMEOUT_S} s "
                f"(it is in state {now.state})"
            )
        time.sleep(_POLL_S)
