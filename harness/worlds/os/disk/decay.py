"""Damage to what is durable: a bit flips, a file's end is gone, an old version is back.

Whoever reads the file sees it at once, as from a disk whose pages are not in memory;
but not where something newer was written and not synced yet: that is in memory. A file
that is restored from a snapshot is written back first, as the kernel may do at any
time, so that all of it is as it was.
"""

from __future__ import annotations

import fnmatch
import os
import random
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from harness.worlds.disks import Damage, Decayed, alike
from harness.worlds.os.disk.inodes import Version, write_all

if TYPE_CHECKING:
    from harness.worlds.os.disk.filesystem import FileSystem
    from harness.worlds.os.disk.inodes import Inode

_SHOWN_BYTES = 32
"""How much of what changed is told as evidence."""


class Decays:
    """The damage that was done to one file system."""

    def __init__(self, disk: FileSystem) -> None:
        self._disk = disk
        self._done: list[_Done] = []
        self._kept: dict[Damage, dict[str, bytes]] = {}
        """path in the file system -> path of the copy, for each snapshot."""
        self._numbers = count()

    def snapshot(self, damage: Damage) -> int:
        """Keep a copy of all files that it is for; returns how many."""
        contents = self._disk.contents
        self._kept[damage] = {
            path: contents.keep(inode, b"kept.%d" % next(self._numbers))
            for path, inode in durable_files(self._disk).items()
            if fnmatch.fnmatchcase(path, damage.files)
        }
        return len(self._kept[damage])

    def damage(self, damage: Damage) -> tuple[Decayed, list[Inode]]:
        """Damage a file that is drawn; says what was done, and to whom.

        Returns:
            No file, where none matches that has any bytes; or, to bring an old version
            back, none of which a sync has replaced anything; or, to restore one, none
            that has changed since the snapshot.
        """
        disk, dice = self._disk, random.Random(f"{damage.seed} decay")
        found = [
            (path, inode)
            for path, inode in sorted(durable_files(disk).items())
            if fnmatch.fnmatchcase(path, damage.files)
            and self._can(inode, path, damage)
        ]
        if not found:
            return Decayed(), []
        path, inode = dice.choice(found)
        fd = disk.contents.durable_of(inode)
        size = os.fstat(fd).st_size
        match damage.kind:
            case "flip":
                at = dice.randrange(size)
                [byte] = os.pread(fd, 1, at)
                version = Version(size, at, bytes([byte ^ 1 << dice.randrange(8)]))
            case "truncate":
                cut = dice.randrange(size)
                version = Version(cut, cut, b"")
            case "stale":
                assert inode.previous is not None
                version = inode.previous
            case "restore":
                disk.write_back(inode)
                version = self._snapshot_of(inode, path, damage)
        done = self._put(inode, version)
        self._done.append(done)
        if done.size_after < size:
            sizes = str(size), str(done.size_after)
            return Decayed(path, done.size_after, *sizes), [inode]
        shown = (text[:_SHOWN_BYTES].hex() for text in (done.before, done.after))
        return Decayed(path, done.at, *shown), [inode]

    def repair(self) -> list[Inode]:
        """Undo it, the last first, but where something else was written since.

        Returns:
            The files that are again as they were, once for each place.
        """
        for kept in self._kept.values():
            for copy in kept.values():
                os.unlink(copy)
        self._kept.clear()
        repaired: list[Inode] = []
        while self._done:
            done = self._done.pop()
            inode = done.inode
            if self._disk.inodes.get(inode.number) is not inode:
                continue
            fd = self._disk.contents.durable_of(inode)
            now = os.pread(fd, len(done.after), done.at)
            if now == done.after and os.fstat(fd).st_size == done.size_after:
                self._put(inode, Version(done.size_before, done.at, done.before))
                repaired.append(inode)
        return repaired

    def _can(self, inode: Inode, path: str, damage: Damage) -> bool:
        fd = self._disk.contents.durable_of(inode)
        size = os.fstat(fd).st_size
        match damage.kind:
            case "flip" | "truncate":
                return size > 0
            case "restore":
                if path not in self._kept.get(damage, {}):
                    return False
                self._disk.write_back(inode)
                was = self._snapshot_of(inode, path, damage)
                return was.size != os.fstat(fd).st_size or bool(was.data)
            case "stale":
                old = inode.previous
                if old is None or not size:
                    return False
                now = os.pread(fd, len(old.data), old.offset)
                return old.size < size or old.data != now

    def _snapshot_of(self, inode: Inode, path: str, damage: Damage) -> Version:
        """Of a file in a snapshot, all from the first to the last byte that differs."""
        with open(self._kept[damage][path], "rb") as kept:
            was = kept.read()
        fd = self._disk.contents.durable_of(inode)
        now = os.pread(fd, os.fstat(fd).st_size, 0)
        begin = alike(was, now)
        end = len(was)
        if len(was) == len(now):
            end -= alike(was[begin:][::-1], now[begin:][::-1])
        return Version(len(was), begin, was[begin:end])

    def _put(self, inode: Inode, version: Version) -> _Done:
        """Have a file durably be another version of itself."""
        fd = self._disk.contents.durable_of(inode)
        size = os.fstat(fd).st_size
        shrinks = version.size < size
        length = size - version.offset if shrinks else len(version.data)
        before = os.pread(fd, length, version.offset)
        write_all(fd, version.data, version.offset)
        if shrinks:
            os.ftruncate(fd, version.size)
        if not self._disk.show(inode, version):
            inode.diverged = True
        after = os.pread(fd, length, version.offset)
        size_after = os.fstat(fd).st_size
        return _Done(inode, version.offset, before, after, size, size_after)


@dataclass(frozen=True)
class _Done:
    """Bytes of a file that were replaced by others, and its sizes."""

    inode: Inode
    at: int
    before: bytes
    after: bytes
    size_before: int
    size_after: int


def durable_files(disk: FileSystem) -> dict[str, Inode]:
    """Path -> file, of all files that have a durable name."""
    found: dict[str, Inode] = {}
    folders = [(b"", disk.inode(1))]
    while folders:
        above, folder = folders.pop()
        for name, number in folder.saved.items():
            inode = disk.inodes[number]
            path = above + name
            if inode.is_folder:
                folders.append((path + b"/", inode))
            elif inode.is_file:
                found[os.fsdecode(path)] = inode
    return found
