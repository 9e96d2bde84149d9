"""The few Linux calls that Python 3.11 has no function for, by way of libc.

Everything here raises OSError with the call's errno, as `os` does. No call allocates
in a way that is unsafe after fork: libc is opened at import.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from harness.errors import EXIT_HARNESS

CLONE_NEWNET = 0x40000000

PTRACE_GETREGS = 12
PTRACE_DETACH = 17
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207

WALL = 0x40000000
"""__WALL: also wait for threads that we trace and for children without SIGCHLD."""

_USER_REGISTERS = 27
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

try:
    _libc = ctypes.CDLL(None, use_errno=True)
    _libc.ptrace.argtypes = [ctypes.c_long] * 4
    _libc.ptrace.restype = ctypes.c_long
    _libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
except (OSError, AttributeError):  # not Linux: `doctor` explains, nobody else calls
    _libc = ctypes.CDLL(None)


def _checked(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send us `signal_number` when our parent's thread ends."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, `parent`, ends.

    More exactly when that thread of it ends which forked us: whoever forks from a
    thread does it from one that waits for us. Elsewhere than on Linux it does nothing
    but look whether the parent is still there.

    The parent may have ended before we asked: then nobody will ever send the signal,
    but we already have another parent, and end here.
    """
    if sys.platform.startswith("linux"):
        die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_HARNESS)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends (child subreaper)."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def set_process_name(name: str) -> None:
    """What `ps` and `top` show; at most 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _checked(_libc.prctl(_PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0), "prctl")


def enter_netns(namespace_fd: int) -> None:
    """Move this thread into the network namespace behind an open fd."""
    _checked(_libc.setns(namespace_fd, CLONE_NEWNET), "setns")


def ptrace(request: int, thread: int, address: int = 0, data: int = 0) -> None:
    """One ptrace request of the kind that returns nothing but success."""
    ctypes.set_errno(0)
    _checked(_libc.ptrace(request, thread, address, data), "ptrace")


def registers(thread: int) -> tuple[int, ...]:
    """A stopped tracee's general registers, in the order of `user_regs_struct`."""
    buffer = (ctypes.c_ulonglong * _USER_REGISTERS)()
    ptrace(PTRACE_GETREGS, thread, 0, ctypes.addressof(buffer))
    return tuple(buffer)
