"""A node's cage: it can harm neither the run, nor its peers, nor the host.

A node is somebody's program; when it is broken, it is as good as hostile. It finds:

    processes   its own only, in a pid namespace with an init of ours. So it can signal
                or trace neither controller, switch, warden nor peers, and processes
                that it leaves behind end when that init does.
    files       all of the machine's, read-only. It can write its data folder, folders
                that its system asks for (`Launch.writable`), and a /tmp and /dev/shm of
                its own. The run folder (history, logs, peers' data) is hidden. So are
                /run and the folders in /tmp that hold sockets or pipes, because a
                server of the host that listens there would do what the node may not.
    devices     null, zero, full, random, urandom, tty and pseudo-terminals.
    rights      no capabilities, and no way to get any (no_new_privs, an empty bounding
                set, no new user namespaces), and none of the keys of the user who
                started it.

The keeper forks two children into a new pid namespace (pid_namespaces(7)): the init,
and the node. So the node is our own child, and nobody has to pass on its exit status.
The node then puts on its cage from the outside in: mounts while it holds the run's
capabilities; last a user namespace that holds nothing, so that not even capabilities
in there would move a mount. It sees itself as the user who started splitbrain. If that
was root it sees itself as nobody: it has none of root's rights, and programs that find
themselves root try to use them.

The view of the files is built at a node's first start and kept as a mount namespace,
so what it leaves in /tmp and /dev/shm outlives a kill, as on a machine of its own. Each
start copies the view, and adds the /proc of its pid namespace.

The cage does not keep a node from reading what the user may read; from sockets and
pipes in other places of the file system than those above; from vsock(7), which has no
namespaces; and from using up processor time, memory and the number of processes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.host import syscalls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TMP_MB, SHM_MB = 512, 256
"""Size of a node's /tmp and of its /dev/shm; both are memory."""

NOBODY = 65534
"""The user that root's nodes see themselves as; to the kernel, any unmapped user."""

_TMP = ("/tmp", "/var/tmp")  # noqa: S108 - their names, and nothing is put there
_HIDDEN = ("/run", "/var/run")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_TMP_ENTRIES_MAX = 1000
"""Entries of /tmp that a node sees at most; each costs a mount at every start."""
_PEEK_MAX = 200
"""Entries of each folder in /tmp that are searched for a socket or pipe."""
_TREE = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
_TMPFS = syscalls.MS_NOSUID | syscalls.MS_NODEV


@dataclass(frozen=True)
class Bounds:
    """The part of the file system that one node may touch.

    Attributes:
        hidden: The run folder.
        data_dir: The node's data folder, which lies in the run folder.
        disk: The mounted disk that it finds there; empty for the folder itself.
        writable: Files and folders that it may write; they exist, and lie anywhere.
        needed: Paths that it must see wherever they lie: working folder and program.
    """

    hidden: str
    data_dir: str
    writable: Sequence[str]
    needed: Sequence[str]
    disk: str = ""


@dataclass(frozen=True)
class View:
    """A node's mount namespace, and its root folder in it, as open descriptors.

    The root is kept because entering a mount namespace leaves a chroot.
    """

    mounts_fd: int
    root_fd: int

    @classmethod
    def of_this_process(cls) -> View:
        """The view that this process has now."""
        return cls(
            os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC),
            os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
        )

    def enter(self) -> None:
        """Move this process into the view."""
        syscalls.enter(self.mounts_fd, syscalls.CLONE_NEWNS)
        os.fchdir(self.root_fd)
        os.chroot(".")


def outer_id(kind: str) -> int:
    """The id outside the run of its uid 0 (`kind` "uid_map") or gid 0 ("gid_map")."""
    with open(f"/proc/self/{kind}") as lines:
        inside, outside, _ = next(iter(lines)).split()
    return int(outside) if inside == "0" else 0


# the init of a node's pid namespace


def fork_init(own_pids_fd: int, own_pidfd: int) -> int:
    """Fork the init of a new pid namespace, and have our children born into it.

    `leave_init` ends the latter.

    Args:
        own_pids_fd: Our own pid namespace.
        own_pidfd: This process.

    Returns:
        The pid of the init.

    Raises:
        OSError: There can be no such process; nothing has changed.
    """
    syscalls.unshare(syscalls.CLONE_NEWPID)
    try:
        pid = os.fork()
    except OSError:
        leave_init(own_pids_fd)
        raise
    if pid == 0:
        try:
            _be_init(own_pidfd)
        finally:
            os._exit(1)
    return pid


def leave_init(own_pids_fd: int) -> None:
    """Have our children born into our own pid namespace again."""
    syscalls.enter(own_pids_fd, syscalls.CLONE_NEWPID)


def _be_init(parent_pidfd: int) -> NoReturn:
    """Sleep as the init of a namespace, all of whose processes end when we end.

    The kernel reaps them, as we ignore SIGCHLD. Nothing in the namespace can signal us,
    as we handle no signal. Nor can it trace us, which would lead out of the cage: we
    see the files of the run.
    """
    syscalls.die_with_parent(signal.SIGKILL)
    poll = select.poll()
    poll.register(parent_pidfd, select.POLLIN)
    if poll.poll(0):
        os._exit(1)  # it ended between fork and prctl
    os.setsid()
    syscalls.set_process_name("sb-init")
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.closerange(0, os.sysconf("SC_OPEN_MAX"))
    syscalls.forgo_privileges()
    syscalls.be_untraceable()
    while True:
        signal.pause()


# steps of the node itself, between fork and exec


def own_mounts() -> None:
    """Give this process mounts of its own: nobody else sees what it mounts."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)


def build_view(bounds: Bounds) -> None:
    """Make this process see the files that a node sees.

    Cost: about 2 ms, and 20 us for each entry of /tmp.

    Raises:
        OSError: The kernel can't do a part of it.
    """
    own_mounts()
    granted = {path: _hold(path) for path in (bounds.data_dir, *bounds.writable)}
    if bounds.disk:
        os.close(granted[bounds.data_dir])
        granted[bounds.data_dir] = _hold(bounds.disk)
    needed = [*bounds.needed, bounds.hidden, *granted]
    _make_tree_read_only()
    _private_dev()
    for path in _closed_ways(needed):
        _cover(path, _entries(path), "mode=755,size=1m")
    for path in _TMP:
        if _is_folder(path):
            kept = _not_beside_doors(path, needed)
            _cover(path, kept, f"mode=1777,size={TMP_MB}m")
    for path in _HIDDEN:
        if _is_folder(path):
            _hide(path, {one: _hold(one) for one in _seen_below(path, needed)})
    inside = {p: fd for p, fd in granted.items() if _is_below(p, bounds.hidden)}
    for path, held in granted.items():
        if path not in inside:
            syscalls.mount(_held(held), path, flags=syscalls.MS_BIND | syscalls.MS_REC)
    # Only now, as the run folder may lie in one of the folders mounted before.
    _hide(bounds.hidden, inside)
    for path, held in granted.items():
        set_attributes(path, drop=syscalls.MS_RDONLY)
        os.close(held)


def put_on(uid: int, gid: int) -> None:
    """Cage this process, which has the node's view already, and is alone in it.

    Args:
        uid: The user id that it will see itself as.
        gid: The group id that it will see itself as.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC)
    syscalls.mount_proc()
    knobs = os.open("/proc/sys", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for path in _kernel_knobs():
        syscalls.mount(path, path, flags=syscalls.MS_BIND)
        set_attributes(path, add=_TREE | syscalls.MS_NOEXEC)
    syscalls.leave_session_keyring()
    with contextlib.suppress(OSError):
        # Without a user namespace it keeps the ids of the run, but no rights either.
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        _map_self(uid, gid)
        _forbid_user_namespaces(knobs)
    os.close(knobs)
    syscalls.forgo_privileges()


def _kernel_knobs() -> list[str]:
    """Entries of /proc beside processes that root can write without a capability.

    They are sys, sysrq-trigger, pressure and fs, among others that modules add.
    """
    return [
        entry.path
        for entry in _entries("/proc")
        if not entry.name.isdigit()
        and not entry.is_symlink()
        and (entry.is_dir() or entry.stat().st_mode & 0o222)
    ]


def _map_self(uid: int, gid: int) -> None:
    for name, text in (
        ("uid_map", f"{uid} 0 1"),
        ("setgroups", "deny"),
        ("gid_map", f"{gid} 0 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _forbid_user_namespaces(knobs: int) -> None:
    """Forbid user namespaces below ours for good: each gives its maker capabilities."""
    limit = os.open("user/max_user_namespaces", os.O_WRONLY, dir_fd=knobs)
    try:
        os.write(limit, b"0")
    finally:
        os.close(limit)


# parts of the view


def _make_tree_read_only() -> None:
    try:
        syscalls.set_mount_attributes("/", add=_TREE, recursive=True)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        make_mounts_read_only_one_by_one()


def make_mounts_read_only_one_by_one() -> None:
    """Make all mounts read-only with a call for each, as kernels before 5.12 need."""
    with open("/proc/self/mountinfo", "rb") as lines:
        paths = [line.split()[4].decode("unicode_escape") for line in lines]
    for path in paths:
        # A mount that another one covers can't be named; nor can a node reach it.
        with contextlib.suppress(
            FileNotFoundError, PermissionError, NotADirectoryError
        ):
            _remount(path.encode("latin-1").decode(errors="surrogateescape"), add=_TREE)


def set_attributes(path: str, *, add: int = 0, drop: int = 0) -> None:
    """Change flags such as MS_RDONLY of one mount, on any kernel."""
    try:
        syscalls.set_mount_attributes(path, add=add, drop=drop)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        _remount(path, add=add, drop=drop)


def _remount(path: str, *, add: int = 0, drop: int = 0) -> None:
    # A remount sets all flags anew, and may not take away what a parent namespace set.
    now = os.statvfs(path).f_flag & (_TREE | syscalls.MS_NOEXEC)
    flags = (now | add) & ~drop
    syscalls.mount("none", path, flags=syscalls.MS_REMOUNT | syscalls.MS_BIND | flags)


def _private_dev() -> None:
    there = [name for name in _DEVICES if os.path.exists(f"/dev/{name}")]
    devices = [(name, _hold(f"/dev/{name}")) for name in there]
    syscalls.mount("tmpfs", "/dev", "tmpfs", _TMPFS, "mode=755,size=64k")
    for name, held in devices:
        path = f"/dev/{name}"
        _make_stub(path, folder=False)
        syscalls.mount(_held(held), path, flags=syscalls.MS_BIND)
        os.close(held)
        set_attributes(path, drop=syscalls.MS_NODEV)
    for name, target in _LINKS.items():
        os.symlink(target, f"/dev/{name}")
    os.mkdir("/dev/pts")
    with contextlib.suppress(OSError):  # a kernel without them
        options = "newinstance,ptmxmode=0666,mode=620"
        syscalls.mount(
            "devpts", "/dev/pts", "devpts", _TMPFS & ~syscalls.MS_NODEV, options
        )
    os.mkdir("/dev/shm")  # noqa: S108 - its name
    syscalls.mount("tmpfs", "/dev/shm", "tmpfs", _TMPFS, f"mode=1777,size={SHM_MB}m")  # noqa: S108
    set_attributes("/dev", add=syscalls.MS_RDONLY)


def _hide(folder: str, shown: Mapping[str, int]) -> None:
    """Mount an empty folder on one, with nothing in it but these paths below it.

    Args:
        folder: The folder to hide.
        shown: Path below it -> an open descriptor of what is there.
    """
    syscalls.mount("tmpfs", folder, "tmpfs", _TMPFS, "mode=755,size=1m")
    for path, held in shown.items():
        _make_stub(path, folder=stat.S_ISDIR(os.fstat(held).st_mode))
        syscalls.mount(_held(held), path, flags=syscalls.MS_BIND | syscalls.MS_REC)
    set_attributes(folder, add=syscalls.MS_RDONLY)


def _seen_below(folder: str, needed: Sequence[str]) -> list[str]:
    """The paths needed that lie in a folder, without those that lie in one another."""
    everything = {*needed, *map(os.path.realpath, needed)}
    below = [p for p in everything if _is_below(p, folder) and os.path.exists(p)]
    return [p for p in below if not any(_is_below(p, other) for other in below)]


def _closed_ways(needed: Sequence[str]) -> list[str]:
    """Folders on the way to `needed` that the node can't pass, outer ones first.

    We pass them with root's capabilities: a user's home, if root runs what lies there.
    """
    ways = {
        str(folder)
        for path in needed
        for start in (path, os.path.realpath(path))
        for folder in Path(start).parents
    }
    return [way for way in sorted(ways, key=len) if not _may_pass(way)]


def _may_pass(folder: str) -> bool:
    """Whether a process without capabilities may pass a folder.

    True as well if that can't be found out, or if we can't read the folder either.
    """
    try:
        told = os.stat(folder)
    except OSError:
        return True
    if told.st_uid == os.geteuid():
        needs = stat.S_IXUSR
    elif told.st_gid in {os.getegid(), *os.getgroups()}:
        needs = stat.S_IXGRP
    else:
        needs = stat.S_IXOTH
    return bool(told.st_mode & needs) or not os.access(folder, os.R_OK | os.X_OK)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _cover(folder: str, kept: Sequence[os.DirEntry[str]], options: str) -> None:
    """Mount a new folder on one, in which `kept` entries of the old still show."""
    below = _hold(folder)
    syscalls.mount("tmpfs", folder, "tmpfs", _TMPFS, options)
    for entry in kept:
        # An entry that is gone by now, or may not be entered, is of no use to the node.
        with contextlib.suppress(OSError):
            target = os.path.join(folder, entry.name)
            if entry.is_symlink():
                os.symlink(os.readlink(entry.name, dir_fd=below), target)
                continue
            _make_stub(target, folder=entry.is_dir())
            source = f"{_held(below)}/{entry.name}"
            syscalls.mount(source, target, flags=syscalls.MS_BIND | syscalls.MS_REC)
    os.close(below)


def _not_beside_doors(folder: str, needed: Sequence[str]) -> list[os.DirEntry[str]]:
    """The entries of a folder for temporary files that a node may see.

    Folders with a socket or pipe are left out, unless they lead to what it needs: tmux,
    ssh-agent, X and editors each keep a socket in a folder there.
    """
    ways = {
        os.path.relpath(path, folder).split(os.sep)[0]
        for path in (*needed, *map(os.path.realpath, needed))
        if _is_below(path, folder)
    }
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if entry.name in ways or _is_safe(entry)]
    # Entries on the way to what is needed come first, so that the bound spares them.
    return sorted(found, key=lambda one: one.name not in ways)[:_TMP_ENTRIES_MAX]


def _is_safe(entry: os.DirEntry[str]) -> bool:
    if entry.is_dir(follow_symlinks=False):
        return not _holds_door(entry.path)
    return entry.is_symlink() or entry.is_file()


def _holds_door(folder: str) -> bool:
    """Whether a folder holds a socket or pipe; True too if we can't look into it."""
    try:
        with os.scandir(folder) as entries:
            first = [entry for entry, _ in zip(entries, range(_PEEK_MAX), strict=False)]
            modes = [stat.S_IFMT(_mode(entry)) for entry in first]
            return stat.S_IFSOCK in modes or stat.S_IFIFO in modes
    except OSError:
        return True


def _mode(entry: os.DirEntry[str]) -> int:
    if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
        return 0  # known without asking the disk
    try:
        return entry.stat(follow_symlinks=False).st_mode
    except OSError:
        return 0


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _make_stub(path: str, *, folder: bool) -> None:
    """Make an empty file or folder, to mount something on."""
    os.makedirs(path if folder else os.path.dirname(path), exist_ok=True)
    if not folder:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _hold(path: str) -> int:
    """A descriptor of a file or folder that is about to be covered."""
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def _held(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"
