"""A node's cage: it can harm neither the run, nor its peers, nor the host.

A node is somebody's program, as good as hostile when it is broken. What it finds:

    processes   its own only, in a pid namespace with an init of ours. So it can signal
                or trace neither controller, switch, warden nor peers, and whatever it
                leaves behind ends when that init does.
    files       all of the machine's, read-only, but for its data folder, folders that
                its system asks for (`Launch.writable`), and a /tmp and /dev/shm of its
                own. The run folder (history, logs, peers' data) is hidden; so are
                /run and what lies in /tmp beside sockets and pipes, because a server of
                the host's that listens on one would do what the node may not.
    devices     null, zero, full, random, urandom, tty and pseudo-terminals.
    rights      no capabilities, none to be had (no_new_privs, an empty bounding set),
                no user namespaces to try for them, and no keys of whoever started it.

The keeper forks two children into a new pid namespace (pid_namespaces(7)): the init,
and the node, which so is our own child, with an exit status that nobody has to pass on.
The node then puts on its cage from the outside in: mounts while it holds the run's
capabilities; last a user namespace that holds nothing, so that not even capabilities
in there would move a mount. It sees itself as the user who started splitbrain, or as
nobody when that was root: it has none of root's rights, and programs that find
themselves root try to use them.

The view of the files is built at a node's first start and kept as a mount namespace,
so what it leaves in /tmp and /dev/shm outlives a kill, as on a machine of its own. Each
start copies the view, and adds the /proc of its pid namespace.

Not kept from a node: reading what the user may read; sockets and pipes in the file
system in other places than those above, and vsock(7), which has no namespaces;
processor time, memory and the number of processes.
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
"""What a node may put into its /tmp and its /dev/shm: both are memory."""

NOBODY = 65534
"""Who root's nodes see themselves as; also the kernel's word for users not mapped."""

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
"""Each entry of /tmp that a node sees costs a mount at every start."""
_PEEK_MAX = 200
"""So many entries of a folder in /tmp are looked at for a socket or pipe."""
_TREE = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
_TMPFS = syscalls.MS_NOSUID | syscalls.MS_NODEV


@dataclass(frozen=True)
class Bounds:
    """What one node may touch of the file system.

    Attributes:
        hidden: The run folder.
        data_dir: Its own, below that.
        writable: Files and folders that exist, anywhere.
        needed: What it must see, wherever it lies: its working folder and program.
    """

    hidden: str
    data_dir: str
    writable: Sequence[str]
    needed: Sequence[str]


@dataclass(frozen=True)
class View:
    """A node's mount namespace, and its root folder in it, as open descriptors.

    The root is kept because entering a mount namespace leaves a chroot.
    """

    mounts_fd: int
    root_fd: int

    @classmethod
    def of_this_process(cls) -> View:
        """As it is now."""
        return cls(
            os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC),
            os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
        )

    def enter(self) -> None:
        """Move this process into it."""
        syscalls.enter(self.mounts_fd, syscalls.CLONE_NEWNS)
        os.fchdir(self.root_fd)
        os.chroot(".")


def outer_id(kind: str) -> int:
    """Who uid 0 (`kind` "uid_map") or gid 0 ("gid_map") of the run is outside of it."""
    with open(f"/proc/self/{kind}") as lines:
        inside, outside, _ = next(iter(lines)).split()
    return int(outside) if inside == "0" else 0


# the init of a node's pid namespace


def fork_init(own_pids_fd: int, own_pidfd: int) -> int:
    """Fork the init of a new pid namespace, and have our next child born into it.

    `leave_init` ends that. Raises OSError, with all as it was.

    Args:
        own_pids_fd: Our own pid namespace.
        own_pidfd: Us.
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
    """Have our next child born into our own pid namespace again."""
    syscalls.enter(own_pids_fd, syscalls.CLONE_NEWPID)


def _be_init(parent_pidfd: int) -> NoReturn:
    """Sleep. The kernel reaps, as we ignore SIGCHLD, and ends all when we end.

    Nothing in the namespace can signal us, as we handle no signal, nor trace us, which
    would lead out: we see the files of the run.
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


# what the node does itself, between fork and exec


def build_view(bounds: Bounds) -> None:
    """Make this process' files those of a node; see the module.

    Cost: about 2 ms, and 20 us for each entry of /tmp.

    Raises:
        OSError: A part of it can't be had here.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    granted = {path: _hold(path) for path in (bounds.data_dir, *bounds.writable)}
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
    # Now, as the run folder may lie in one of those.
    _hide(bounds.hidden, inside)
    for path, held in granted.items():
        set_attributes(path, drop=syscalls.MS_RDONLY)
        os.close(held)


def put_on(uid: int, gid: int) -> None:
    """Cage this process, which has the node's view already, and is alone in it.

    Args:
        uid: Who it is to see itself as.
        gid: The same for its group.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC)
    syscalls.mount_proc()
    knobs = os.open("/proc/sys", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for path in _kernel_knobs():
        syscalls.mount(path, path, flags=syscalls.MS_BIND)
        set_attributes(path, add=_TREE | syscalls.MS_NOEXEC)
    syscalls.leave_session_keyring()
    with contextlib.suppress(OSError):
        # None to be had: it then keeps the ids of the run, and has no rights either.
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        _map_self(uid, gid)
        _forbid_user_namespaces(knobs)
    os.close(knobs)
    syscalls.forgo_privileges()


def _kernel_knobs() -> list[str]:
    """What can be written in /proc beside processes; root's need no capability for it.

    Such as sys, sysrq-trigger, pressure and fs, and whatever a module adds.
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
    """In ours, for good: who creates one holds all capabilities in it."""
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
    """What kernels before 5.12 need a call for each mount for."""
    with open("/proc/self/mountinfo", "rb") as lines:
        paths = [line.split()[4].decode("unicode_escape") for line in lines]
    for path in paths:
        # A mount that another one covers can't be named; nor can a node reach it.
        with contextlib.suppress(
            FileNotFoundError, PermissionError, NotADirectoryError
        ):
            _remount(path.encode("latin-1").decode(errors="surrogateescape"), add=_TREE)


def set_attributes(path: str, *, add: int = 0, drop: int = 0) -> None:
    """Change MS_RDONLY and its kin on one mount, on any kernel."""
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
    """Mount nothing on a folder but the ways to these paths below it.

    Args:
        folder: Has nothing else in it from now on.
        shown: Path -> an open descriptor of what is there.
    """
    syscalls.mount("tmpfs", folder, "tmpfs", _TMPFS, "mode=755,size=1m")
    for path, held in shown.items():
        _make_stub(path, folder=stat.S_ISDIR(os.fstat(held).st_mode))
        syscalls.mount(_held(held), path, flags=syscalls.MS_BIND | syscalls.MS_REC)
    set_attributes(folder, add=syscalls.MS_RDONLY)


def _seen_below(folder: str, needed: Sequence[str]) -> list[str]:
    """What is needed and lies in a folder, but for what lies in others of these."""
    everything = {*needed, *map(os.path.realpath, needed)}
    below = [p for p in everything if _is_below(p, folder) and os.path.exists(p)]
    return [p for p in below if not any(_is_below(p, other) for other in below)]


def _closed_ways(needed: Sequence[str]) -> list[str]:
    """Folders that we pass with root's capabilities, and the node can't: outer first.

    Such as a user's home, when root runs what lies there.
    """
    ways = {
        str(folder)
        for path in needed
        for start in (path, os.path.realpath(path))
        for folder in Path(start).parents
    }
    return [way for way in sorted(ways, key=len) if not _may_pass(way)]


def _may_pass(folder: str) -> bool:
    """Without capabilities; also if it can't be told, or can't be helped."""
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
    """Mount a new folder on one, in which these entries of it still show."""
    below = _hold(folder)
    syscalls.mount("tmpfs", folder, "tmpfs", _TMPFS, options)
    for entry in kept:
        # One that is gone by now, or may not be entered, is none of the node's.
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
    """Files and folders in a folder for temporary files, but for those of servers.

    tmux, ssh-agent, X and editors keep a socket there, in a folder of its own.
    """
    ways = {
        os.path.relpath(path, folder).split(os.sep)[0]
        for path in (*needed, *map(os.path.realpath, needed))
        if _is_below(path, folder)
    }
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if entry.name in ways or _is_safe(entry)]
    # Those on our way first.
    return sorted(found, key=lambda one: one.name not in ways)[:_TMP_ENTRIES_MAX]


def _is_safe(entry: os.DirEntry[str]) -> bool:
    if entry.is_dir(follow_symlinks=False):
        return not _holds_door(entry.path)
    return entry.is_symlink() or entry.is_file()


def _holds_door(folder: str) -> bool:
    """Or may hold one, for all that we can see."""
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
    """Something for another thing to be mounted on."""
    os.makedirs(path if folder else os.path.dirname(path), exist_ok=True)
    if not folder:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _hold(path: str) -> int:
    """Keep a file or folder at hand that is about to be covered."""
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def _held(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"
