"""Damage to what is durable: a bit flips, a file's end is gone, an old version is back.

Whoever reads the file sees it at once, as from a disk whose pages are not in memory;
but not where something newer was written and not synced yet: that is in memory.
"""

from __future__ import annotations

import fnmatch
import os
import random
from typing import TYPE_CHECKING

from harness.worlds.disks import Damage, Decayed
from harness.worlds.os.disk.inodes import Version, write_all

if TYPE_CHECKING:
    from harness.worlds.os.disk.filesystem import FileSystem
    from harness.worlds.os.disk.inodes import Inode

_SHOWN_BYTES = 32
"""How much of what changed is told as evidence."""


def decay(disk: FileSystem, damage: Damage) -> tuple[Decayed, Inode | None]:
    """Damage a file that is drawn; says what was done, and to whom.

    Returns:
        No file, where none matches that has any bytes, or, to bring an old version
        back, none of which a sync has replaced anything.
    """
    dice = random.Random(f"{damage.seed} decay")
    found = [
        (path, inode)
        for path, inode in sorted(durable_files(disk).items())
        if fnmatch.fnmatchcase(path, damage.files) and _can(disk, inode, damage)
    ]
    if not found:
        return Decayed(), None
    path, inode = dice.choice(found)
    fd = disk.contents.durable_of(inode)
    size = os.fstat(fd).st_size
    match damage.kind:
        case "flip":
            at = dice.randrange(size)
            [byte] = os.pread(fd, 1, at)
            version = Version(size, at, bytes([byte ^ 1 << dice.randrange(8)]))
        case "truncate":
            version = Version(dice.randrange(size), 0, b"")
        case "stale":
            assert inode.previous is not None
            version = inode.previous
    at, length = version.offset, min(len(version.data), _SHOWN_BYTES)
    before = os.pread(fd, length, at).hex()
    _put(fd, version)
    if not disk.show(inode, version):
        inode.diverged = True
    after = os.pread(fd, length, at).hex()
    if version.size < size:
        at, before, after = version.size, str(size), str(os.fstat(fd).st_size)
    return Decayed(path, at, before, after), inode


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


def _put(fd: int, version: Version) -> None:
    write_all(fd, version.data, version.offset)
    if version.size < os.fstat(fd).st_size:
        os.ftruncate(fd, version.size)
