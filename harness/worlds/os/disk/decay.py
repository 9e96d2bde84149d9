"""Damage to what is durable: a bit flips, a file's end is gone, an old version is back.

Whoever reads the file sees it at once, as from a disk whose pages are not in memory;
but not where something newer was written and not synced yet: that is in memory.
"""

from __future__ import annotations

import fnmatch
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.worlds.disks import Damage, Decayed
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

    def damage(self, damage: Damage) -> tuple[Decayed, list[Inode]]:
        """Damage a file that is drawn; says what was done, and to whom.

        Returns:
            No file, where none matches that has any bytes, or, to bring an old version
            back, none of which a sync has replaced anything.
        """
        disk, dice = self._disk, random.Random(f"{damage.seed} decay")
        found = [
            (path, inode)
            for path, inode in sorted(durable_files(disk).items())
            if fnmatch.fnmatchcase(path, damage.files) and _can(disk, inode, damage)
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
        repaired: list[Inode] = []
        while self._done:
            done = self._done.pop()
            inode = done.inode
            if self._disk.inodes.get(inode.number) is not inode:
                continue
            fd = self._disk.contents.durable_of(inode)
            now = os.pread(fd, len(done.before), done.at)
            if now == done.after and os.fstat(fd).st_size == done.size_after:
                self._put(inode, Version(done.size_before, done.at, done.before))
                repaired.append(inode)
        return repaired

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


def _can(disk: FileSystem, inode: Inode, damage: Damage) -> bool:
    size = os.fstat(disk.contents.durable_of(inode)).st_size
    if damage.kind != "stale":
        return size > 0
    old = inode.previous
    if old is None or not size:
        return False
    now = os.pread(disk.contents.durable_of(inode), len(old.data), old.offset)
    return old.size < size or old.data != now
