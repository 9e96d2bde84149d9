"""The few Linux calls that Python 3.11 has no function for, made through libc.

All functions raise OSError with the call's errno, as `os` does. None allocates in a way
that is unsafe after fork: libc is opened at import.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import sys

from harness.errors import EXIT_HARNESS

# <sched.h>
CLONE_NEWNS = 0x0002_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

# <sys/mount.h>; MOUNT_ATTR_* of mount_setattr(2) are the same bits.
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x4_0000

# <linux/falloc.h>
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 0x1, 0x2, 0x10

PTRACE_GETREGS = 12
PTRACE_DETACH = 17
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
PTRACE_O_TRACEEXEC = 0x10

WALL = 0x40000000
"""__WALL: also wait for threads that we trace and for children without SIGCHLD."""

_USER_REGISTERS = 27
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_SECUREBITS_LOCKED = 0xEF
"""Uid 0 gets no privileges, none are raised or kept, and that for good: all bits of
<linux/securebits.h> except SECBIT_KEEP_CAPS."""
_CAPABILITIES_MAX = 64
_CAPABILITY_VERSION_3 = 0x2008_0522
_SYS_MOUNT_SETATTR = 442
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}.get(platform.machine())
_KEYCTL_JOIN_SESSION_KEYRING = 1
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_RENAME_EXCHANGE = 2
_MNT_DETACH = 2

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

    More exactly, it does so when the thread ends that forked us, so we must be forked
    by a thread that waits for us. On other systems than Linux this only looks whether
    the parent is still there.

    The parent may have ended before we asked. Then no signal will ever come, but we
    have another parent already, and end here.
    """
    if sys.platform.startswith("linux"):
        die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_HARNESS)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends (child subreaper)."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def set_process_name(name: str) -> None:
    """Set the name that `ps` and `top` show; at most 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _checked(_libc.prctl(_PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0), "prctl")


def enter_netns(namespace_fd: int) -> None:
    """Move this thread into the network namespace behind an open fd."""
    enter(namespace_fd, CLONE_NEWNET)


def be_untraceable() -> None:
    """Allow tracing us, and reading our /proc, only with CAP_SYS_PTRACE over us."""
    _checked(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl")


def be_traceable() -> None:
    """Allow others of our user to trace us and to read our /proc, as is usual.

    A process that has changed its user, be it back and forth, allows it no more, nor do
    those that it forks (`PR_SET_DUMPABLE` in prctl(2)).
    """
    _checked(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")


def unshare(namespaces: int) -> None:
    """Leave the namespaces of these kinds for new ones."""
    _checked(_libc.unshare(namespaces), "unshare")


def enter(namespace_fd: int, kind: int) -> None:
    """Move into the namespace of that kind behind an open fd."""
    _checked(_libc.setns(namespace_fd, kind), "setns")


def mount(
    source: str, target: str, kind: str | None = None, flags: int = 0, data: str = ""
) -> None:
    """Mount a file system, or with MS_BIND the file or folder at `source`."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount: {os.strerror(number)}", target)


def unmount(target: str) -> None:
    """Take a mount away: its name now, the rest when nobody uses it any more."""
    _checked(_libc.umount2(os.fsencode(target), _MNT_DETACH), "umount2")


def mount_proc() -> None:
    """Show the processes of our pid namespace on /proc."""
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def set_mount_attributes(
    path: str, *, add: int = 0, drop: int = 0, recursive: bool = False
) -> None:
    """Change flags such as MS_RDONLY on the mount at `path`, or all below it, too.

    It uses mount_setattr(2), so it raises ENOSYS before Linux 5.12.
    """
    attributes = (ctypes.c_uint64 * 4)(add, drop, 0, 0)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_long(_AT_FDCWD),
        os.fsencode(path),
        ctypes.c_long(_AT_RECURSIVE if recursive else 0),
        attributes,
        ctypes.c_long(ctypes.sizeof(attributes)),
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount_setattr: {os.strerror(number)}", path)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Manipulate the room that a file takes up; `mode` is of FALLOC_* bits."""
    call = _libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length))
    _checked(call, "fallocate")


def exchange(one: bytes, other: bytes) -> None:
    """Have two paths swap what they lead to."""
    call = _libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE)
    _checked(call, "renameat2")


def forgo_privileges() -> None:
    """Give up all capabilities, and every way to gain any, for us and descendants.

    A process without capabilities may call it, too: it need not drop any.
    """
    for capability in range(_CAPABILITIES_MAX):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _libc.prctl(_PR_SET_SECUREBITS, _SECUREBITS_LOCKED, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def leave_session_keyring() -> None:
    """Have an empty keyring instead of the inherited one with its keys (keyrings(7)).

    If the kernel has no keys, or a filter forbids them, there are none to be read.
    """
    if _SYS_KEYCTL is None:
        return
    join = ctypes.c_long(_KEYCTL_JOIN_SESSION_KEYRING)
    if _libc.syscall(ctypes.c_long(_SYS_KEYCTL), join, None) < 0:
        number = ctypes.get_errno()
        if number not in {errno.ENOSYS, errno.EPERM}:
            raise OSError(number, f"keyctl: {os.strerror(number)}")


def ptrace(request: int, thread: int, address: int = 0, data: int = 0) -> None:
    """Make a ptrace request of a kind that returns only success."""
    ctypes.set_errno(0)
    _checked(_libc.ptrace(request, thread, address, data), "ptrace")


def registers(thread: int) -> tuple[int, ...]:
    """A stopped tracee's general registers, in the order of `user_regs_struct`."""
    buffer = (ctypes.c_ulonglong * _USER_REGISTERS)()
    ptrace(PTRACE_GETREGS, thread, 0, ctypes.addressof(buffer))
    return tuple(buffer)
