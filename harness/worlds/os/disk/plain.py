"""Disks without FUSE: less of what `disks` can do, with what every kernel has.

Two things remain. A node's data folder can be a small tmpfs, which is full when we make
it no larger than what it holds: every write that needs one more page ends with ENOSPC,
whatever the file. And files of a node that is down can be damaged where they are.

It is less: no power is cut, as what is synced and what is not can't be told apart; no
rule is for some files only, fails a sync or delays one; no old version of a file is
known but those of a snapshot. No operation is counted either. That a disk was full is
proven by a write of ours, into a file without a name, when it is about to be mended.
What a tmpfs holds is copied into the run's folder at the end; a run that is killed
leaves no node's data.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import functools
import os
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.host import syscalls
from harness.override import override
from harness.worlds.disks import Decayed, DiskCounters, Disks, alike
from harness.worlds.os.disk.inodes import write_all
from harness.worlds.os.namespaces import why_it_fails

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.worlds.disks import Damage, DiskRule, Loss, Lost
    from harness.worlds.places import NodePlace

PROBED = "probe ENOSPC"
"""How counters call a write of ours that found the disk full."""

_SHOWN_BYTES = 32
_TRIES = 20
"""A node may write between our look at how much it holds and the bound that we set."""


class PlainDisks(Disks):
    """The data folders of real nodes.

    Args:
        places: Where nodes live.
        bytes_max: Room for each on a tmpfs; 0 leaves them where they are, and they are
            never full.

    Raises:
        OSError: A tmpfs can't be mounted.
    """

    def __init__(self, places: Mapping[str, NodePlace], bytes_max: int = 0) -> None:
        self._bytes_max = bytes_max
        self._folders = {
            name: _Folder(place.data_dir, place.data_dir.parent / "kept")
            for name, place in places.items()
        }
        self._counters = {name: DiskCounters() for name in places}
        self._full: set[str] = set()
        self._beneath: dict[str, int] = {}
        """node -> a descriptor of the folder that its tmpfs stands on."""
        if bytes_max:
            for name, place in places.items():
                self._mount(name, place.data_dir)

    def _mount(self, name: str, folder: Path) -> None:
        self._beneath[name] = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        told = folder.stat()
        options = f"size={self._bytes_max},mode={told.st_mode & 0o7777:o}"
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount("splitbrain", str(folder), "tmpfs", flags, options)
        os.chown(folder, told.st_uid, told.st_gid)

    @override
    async def cut_power(self, losses: Mapping[str, Loss]) -> Mapping[str, Lost]:
        """Raises HarnessError always; `offer` promises nobody that it can be."""
        raise HarnessError("without FUSE the power of a node can't be cut")

    @override
    async def set_rules(self, rules: Mapping[str, Sequence[DiskRule]]) -> None:
        """Raises HarnessError for any rule but one of a full disk."""
        for node, wanted in rules.items():
            for rule in wanted:
                if (rule.error, rule.files, rule.delay_ms) != ("ENOSPC", "*", 0):
                    raise HarnessError(f"without FUSE there is no {rule} on {node}")
        full = {node for node, wanted in rules.items() if wanted}
        for node in full - self._full:
            self._fill(node)
        for node in self._full - full:
            self._bound(node, self._bytes_max)
        self._full = full

    @override
    async def counters(self) -> Mapping[str, DiskCounters]:
        for node in self._full:
            if self._is_full(node):
                self._counters[node].errors[PROBED] += 1
        return {node: done.copy() for node, done in self._counters.items()}

    @override
    async def snapshot(self, node: str, damage: Damage) -> int:
        return self._folders[node].snapshot(damage)

    @override
    async def damage(self, node: str, damage: Damage) -> Decayed:
        return self._folders[node].damage(damage)

    @override
    async def repair(self, node: str) -> int:
        return self._folders[node].repair()

    def close(self) -> None:
        """Put what the tmpfs hold into the folders below; no node runs any more."""
        for name, beneath in self._beneath.items():
            folder = self._folders[name].path
            below = f"/proc/self/fd/{beneath}"
            shutil.copytree(
                folder, below, symlinks=True, dirs_exist_ok=True, copy_function=copied
            )
            syscalls.unmount(str(folder))
            os.close(beneath)
        self._beneath.clear()

    def _fill(self, node: str) -> None:
        path = self._folders[node].path
        for _ in range(_TRIES):
            told = os.statvfs(path)
            held = (told.f_blocks - told.f_bfree) * told.f_frsize
            with contextlib.suppress(OSError):  # EINVAL: it holds more already
                # A size of 0 would be no bound at all.
                self._bound(node, max(held, told.f_frsize))
                return
        raise HarnessError(f"{node} writes too fast for its disk to be made full")

    def _bound(self, node: str, size: int) -> None:
        path = str(self._folders[node].path)
        flags = syscalls.MS_REMOUNT | syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount("splitbrain", path, "tmpfs", flags, f"size={size}")

    def _is_full(self, node: str) -> bool:
        flags = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
        try:
            fd = os.open(self._folders[node].path, flags, 0o600)
            try:
                os.write(fd, b"?")
            finally:
                os.close(fd)
        except OSError as error:
            return error.errno == errno.ENOSPC
        return False


@dataclass(frozen=True)
class _Done:
    """Bytes of a file that were replaced by others, and its sizes."""

    path: Path
    at: int
    before: bytes
    after: bytes
    size_before: int
    size_after: int


class _Folder:
    """The files of one node, and the damage that was done to them.

    Args:
        path: Where they are.
        beside: A folder of ours, for snapshots; made when it is needed.
    """

    def __init__(self, path: Path, beside: Path) -> None:
        self.path = path
        self._beside = beside
        self._done: list[_Done] = []
        self._kept: dict[Damage, dict[str, Path]] = {}

    def snapshot(self, damage: Damage) -> int:
        """Keep a copy of all files that it is for; returns how many."""
        folder = self._beside / str(len(self._kept))
        folder.mkdir(parents=True)
        kept: dict[str, Path] = {}
        self._kept[damage] = kept
        for name, path in self._files(damage.files).items():
            kept[name] = folder / str(len(kept))
            shutil.copyfile(path, kept[name])
        return len(kept)

    def damage(self, damage: Damage) -> Decayed:
        """Damage a file that is drawn, if there is one that can be."""
        dice = random.Random(f"{damage.seed} decay")
        changes = {
            name: change
            for name, path in self._files(damage.files).items()
            if (change := self._change(name, path, damage, dice)) is not None
        }
        if not changes:
            return Decayed()
        name = dice.choice(sorted(changes))
        done = changes[name]
        _put(done.path, done.at, done.after, done.size_after)
        self._done.append(done)
        if done.size_after < done.size_before:
            sizes = str(done.size_before), str(done.size_after)
            return Decayed(name, done.size_after, *sizes)
        shown = (text[:_SHOWN_BYTES].hex() for text in (done.before, done.after))
        return Decayed(name, done.at, *shown)

    def repair(self) -> int:
        """Undo it, the last first, but where something else was written since."""
        shutil.rmtree(self._beside, ignore_errors=True)
        self._kept.clear()
        repaired = 0
        while self._done:
            done = self._done.pop()
            with contextlib.suppress(FileNotFoundError):
                now = done.path.read_bytes()
                there = now[done.at : done.at + len(done.after)]
                if len(now) == done.size_after and there == done.after:
                    _put(done.path, done.at, done.before, done.size_before)
                    repaired += 1
        return repaired

    def _files(self, pattern: str) -> dict[str, Path]:
        """Path in the folder -> path, of the files that a glob is for, in order."""
        found = {
            str(path.relative_to(self.path)): path
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
        return {n: path for n, path in found.items() if fnmatch.fnmatchcase(n, pattern)}

    def _change(
        self, name: str, path: Path, damage: Damage, dice: random.Random
    ) -> _Done | None:
        """What the damage would do to this file; None if it can do nothing."""
        now = path.read_bytes()
        size = len(now)
        match damage.kind:
            case "flip" if now:
                at = dice.randrange(size)
                flipped = bytes([now[at] ^ 1 << dice.randrange(8)])
                return _Done(path, at, now[at : at + 1], flipped, size, size)
            case "truncate" if now:
                cut = dice.randrange(size)
                return _Done(path, cut, now[cut:], b"", size, cut)
            case "restore" if name in self._kept.get(damage, {}):
                was = self._kept[damage][name].read_bytes()
                at = alike(was, now)
                if was != now:
                    return _Done(path, at, now[at:], was[at:], size, len(was))
        return None


def _put(path: Path, at: int, data: bytes, size: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        write_all(fd, data, at)
        os.ftruncate(fd, size)
    finally:
        os.close(fd)


def copied(source: str, target: str) -> None:
    """Copy a file; what is no file, such as a socket, is left out."""
    if os.path.isfile(source):
        shutil.copy2(source, target)


@functools.cache
def why_no_tmpfs() -> str:
    """Why a tmpfs can't be mounted here, in plain words; empty when it can."""
    return why_it_fails(_try, network=False) or ""


def _try() -> int:
    with tempfile.TemporaryDirectory() as folder:
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount("splitbrain", folder, "tmpfs", flags, "size=4096")
        try:
            Path(folder, "file").write_bytes(b"x" * 4096)
        finally:
            syscalls.unmount(folder)
    return 0
