"""A file system that keeps apart what was written and what is durable.

What POSIX says of files and folders, at the level of inodes: the kernel has checked
permissions and resolved paths before it asks us, and it keeps locks and cached pages.

What becomes durable, and when:

- A file's contents with fsync or fdatasync of it, or a write with O_SYNC or O_DSYNC.
  msync(2) reaches us as writes and an fsync. sync_file_range(2) makes nothing durable,
  as its manual warns; sync(2) and syncfs(2) are not passed on to us by the kernel.
- Names as `names` says.
- Whatever was written longest ago, once more than `DIRTY_BYTES_MAX` wait: a kernel
  writes back by itself, too.

A loss of power takes the rest, or keeps a part of it that is drawn. Nothing orders
writes that were not synced, but for what no disk could tell apart:

- Pages are written as they are in memory: with a write, what was written before it to
  the same page is there, too.
- A file's allocation is journalled: with a write, there is what changed the file's size
  or holes before it.
- A write is torn between sectors, and at any byte where it makes the file longer: the
  file may end there.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import time
from typing import TYPE_CHECKING

from harness.host import syscalls
from harness.worlds.disks import Lost
from harness.worlds.os.disk.contents import Contents
from harness.worlds.os.disk.inodes import PIECE_BYTES, Inode, Piece, Version, write_all
from harness.worlds.os.disk.names import Names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.worlds.disks import Loss

ROOT = 1
DIRTY_BYTES_MAX = 64 << 20
_PATH_BYTES_MAX = 4000
_NAME_BYTES_MAX = 255
_VERSION_BYTES_MAX = 1 << 16
PAGE_BYTES, SECTOR_BYTES = 4096, 512
_TORN = 0.5
"""How often a kept piece is torn, where pieces can be."""


class FileSystem:
    """One node's files.

    Args:
        written: A folder, for what is written; what is there is durable.
        durable: An empty folder, ours alone.
        page_bytes: What is written back as one.
        sector_bytes: What a loss of power does not tear.
    """

    def __init__(
        self,
        written: str,
        durable: str,
        *,
        page_bytes: int = PAGE_BYTES,
        sector_bytes: int = SECTOR_BYTES,
    ) -> None:
        self._page_bytes = page_bytes
        self._sector_bytes = sector_bytes
        self.contents = Contents(os.fsencode(written), os.fsencode(durable))
        root = Inode(ROOT, stat.S_IFDIR | 0o755, times_ns=[time.time_ns()] * 3)
        self.inodes: dict[int, Inode] = {ROOT: root}
        self._names = Names(self.inodes, self._drop_if_unused)
        self._dirty: dict[Inode, None] = {}
        self._dirty_bytes = 0
        self._last_number = ROOT
        self._last_place = 2  # "." and ".." have 1 and 2
        self._adopt_below(root, b"", 0, {})

    def look(self, since_ns: int) -> bool:
        """Take over what others did to the folder of what is written.

        Whoever prepares a node's files while it is down does it there. If anything
        differs, all is durable afterwards.

        Args:
            since_ns: When we last wrote anything there.

        Returns:
            Whether anything differs.
        """
        root = self.inodes[ROOT]
        if not self._differs(root, b"", since_ns):
            return False
        self.sync_all()
        self._adopt_below(root, b"", since_ns, {})
        return True

    # what there is

    def inode(self, number: int) -> Inode:
        """The one of that number.

        Raises:
            OSError: ESTALE: it is gone.
        """
        try:
            return self.inodes[number]
        except KeyError:
            raise _error(errno.ESTALE) from None

    def lookup(self, folder: int, name: bytes) -> Inode:
        """Whom a name in a folder leads to."""
        if len(name) > _NAME_BYTES_MAX:
            raise _error(errno.ENAMETOOLONG)
        entry = self.inode(folder).entries.get(name)
        if entry is None:
            raise _error(errno.ENOENT)
        return self.inodes[entry[0]]

    def path(self, inode: Inode) -> bytes:
        """From the root, by one of its names; the last it had, if it has none."""
        parts: list[bytes] = []
        while inode.names:
            folder, name = next(iter(inode.names))
            parts.append(name)
            inode = self.inodes[folder]
        if inode.path:
            parts.append(inode.path)
        return b"/".join(reversed(parts))

    def listing(self, folder: int, after: int) -> Iterator[tuple[bytes, Inode, int]]:
        """Names, what they lead to, and their places; those with a place > `after`."""
        here = self.inode(folder)
        above = self.inodes[next(iter(here.names))[0]] if here.names else here
        if after < 1:
            yield b".", here, 1
        if after < 2:
            yield b"..", above, 2
        for name, (number, place) in here.entries.items():
            if place > after:
                yield name, self.inodes[number], place

    def blocks(self, inode: Inode) -> int:
        """How much room it takes up, in units of 512 bytes."""
        if not inode.is_file:
            return 0
        return os.fstat(self._written(inode)).st_blocks

    def remember(self, inode: Inode) -> None:
        """The kernel was told of it once more."""
        inode.lookups += 1

    def forget(self, number: int, times: int) -> None:
        """The kernel has forgotten so many times that it was told."""
        inode = self.inodes.get(number)
        if inode is not None:
            inode.lookups = max(0, inode.lookups - times)
            self._drop_if_unused(inode)

    # names

    def create(
        self,
        folder: int,
        name: bytes,
        mode: int,
        *,
        uid: int = 0,
        gid: int = 0,
        target: bytes = b"",
    ) -> Inode:
        """Make a file, folder, symbolic link or whatever else `mode` says."""
        parent = self._parent_of_new(folder, name)
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise _error(errno.EPERM)
        if parent.mode & stat.S_ISGID:
            gid = parent.gid
            mode |= stat.S_ISGID if stat.S_ISDIR(mode) else 0
        self._last_number += 1
        now_ns = time.time_ns()
        inode = Inode(self._last_number, mode, uid, gid, [now_ns] * 3)
        inode.target, inode.size = target, len(target)
        path = joined(self.path(parent), name)
        if len(path) > _PATH_BYTES_MAX:
            raise _error(errno.ENAMETOOLONG)
        self._make(inode, path)
        self.inodes[inode.number] = inode
        self._enter(parent, name, inode, now_ns)
        self._names.record("create", inode, ((folder, name), inode))
        return inode

    def link(self, number: int, folder: int, name: bytes) -> Inode:
        """Give a file one more name."""
        inode = self.inode(number)
        parent = self._parent_of_new(folder, name)
        if inode.is_folder:
            raise _error(errno.EPERM)
        if not inode.names:
            raise _error(errno.ENOENT)
        at = self.contents.at
        os.link(
            at(self.path(inode)),
            at(joined(self.path(parent), name)),
            follow_symlinks=False,
        )
        now_ns = time.time_ns()
        self._enter(parent, name, inode, now_ns)
        inode.times_ns[2] = now_ns
        self._names.record("link", inode, ((folder, name), inode))
        return inode

    def unlink(self, folder: int, name: bytes) -> None:
        """Take a file's name away; its contents stay for whoever has it open."""
        inode = self.lookup(folder, name)
        if inode.is_folder:
            raise _error(errno.EISDIR)
        self._remove(folder, name, inode)
        self._names.record("unlink", inode, ((folder, name), None))
        self._drop_if_unused(inode)

    def rmdir(self, folder: int, name: bytes) -> None:
        """Remove an empty folder."""
        inode = self.lookup(folder, name)
        if not inode.is_folder:
            raise _error(errno.ENOTDIR)
        if inode.entries:
            raise _error(errno.ENOTEMPTY)
        self._remove(folder, name, inode)
        self._names.record("unlink", inode, ((folder, name), None))
        self._drop_if_unused(inode)

    def rename(
        self,
        folder: int,
        name: bytes,
        new_folder: int,
        new_name: bytes,
        *,
        replace: bool = True,
    ) -> None:
        """Give a file or folder another name, in the place of whatever has it."""
        inode = self.lookup(folder, name)
        parent, new_parent = self.inode(folder), self.inode(new_folder)
        replaced = self._there(new_parent, new_name)
        if replaced is not None and not replace:
            raise _error(errno.EEXIST)
        if replaced is inode:
            return
        self._check_rename(inode, replaced, new_parent, new_name)
        source = self.contents.at(joined(self.path(parent), name))
        target = self.contents.at(joined(self.path(new_parent), new_name))
        if replaced is not None:
            self._remove(new_folder, new_name, replaced)
        os.rename(source, target)
        now_ns = time.time_ns()
        self._leave(parent, name, inode, now_ns)
        self._enter(new_parent, new_name, inode, now_ns)
        inode.times_ns[2] = now_ns
        self._names.record(
            "rename",
            inode,
            ((folder, name), None),
            ((new_folder, new_name), inode),
        )
        if replaced is not None:
            self._drop_if_unused(replaced)

    def exchange(
        self, folder: int, name: bytes, new_folder: int, new_name: bytes
    ) -> None:
        """Swap two names (RENAME_EXCHANGE)."""
        one, other = self.lookup(folder, name), self.lookup(new_folder, new_name)
        parent, new_parent = self.inode(folder), self.inode(new_folder)
        if one is other:
            return
        self._check_way(one, new_parent)
        self._check_way(other, parent)
        at = self.contents.at
        syscalls.exchange(
            at(joined(self.path(parent), name)),
            at(joined(self.path(new_parent), new_name)),
        )
        now_ns = time.time_ns()
        self._leave(parent, name, one, now_ns)
        self._leave(new_parent, new_name, other, now_ns)
        self._enter(parent, name, other, now_ns)
        self._enter(new_parent, new_name, one, now_ns)
        self._names.record(
            "rename",
            one,
            ((folder, name), other),
            ((new_folder, new_name), one),
        )

    # contents

    def read(self, number: int, offset: int, size: int) -> bytes:
        """What is written there, up to the end of the file."""
        inode = self._file(number)
        return os.pread(self._written(inode), size, offset)

    def write(self, number: int, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data`; not durable."""
        inode = self._file(number)
        if not data:
            return
        try:
            write_all(self._written(inode), data, offset)
        except OSError:
            # A part of it may be there: the disk below us is full.
            inode.size = os.fstat(self._written(inode)).st_size
            inode.diverged = True
            raise
        end = offset + len(data)
        if end > inode.size:
            inode.size = end
        inode.touch(time.time_ns())
        self._wrote(inode, Piece("write", offset, len(data), bytes(data)))

    def truncate(self, number: int, size: int) -> None:
        """Cut the file off, or make it longer with zeros."""
        inode = self._file(number)
        os.ftruncate(self._written(inode), size)
        inode.size = size
        inode.touch(time.time_ns())
        self._wrote(inode, Piece("truncate", size))

    def allocate(self, number: int, mode: int, offset: int, length: int) -> None:
        """As fallocate(2): make room, make holes, make zeros."""
        inode = self._file(number)
        clears = mode & (syscalls.FALLOC_PUNCH_HOLE | syscalls.FALLOC_ZERO_RANGE)
        fd, end = self._written(inode), offset + length
        syscalls.fallocate(fd, mode, offset, length)
        if clears:
            self._wrote(inode, Piece("zero", offset, length))
        if not mode & syscalls.FALLOC_KEEP_SIZE and end > inode.size:
            inode.size = end
            self._wrote(inode, Piece("extend", end))
        inode.touch(time.time_ns())

    def seek(self, number: int, offset: int, whence: int) -> int:
        """The next data or hole (SEEK_DATA, SEEK_HOLE)."""
        return os.lseek(self._written(self._file(number)), offset, whence)

    # durability

    def sync(self, number: int) -> None:
        """As fsync(2): what is written in a file or folder is durable, and its name."""
        inode = self.inode(number)
        self.write_back(inode)
        self._names.sync(inode)

    def write_back(self, inode: Inode) -> None:
        """Make a file's contents durable, as the kernel may at any time."""
        if inode.pieces:
            self._write_back(inode)

    def sync_all(self) -> None:
        """As sync(2)."""
        for inode in list(self._dirty):
            self._write_back(inode)
        self._names.commit_all()

    def fail_to_sync(self, number: int) -> None:
        """What was dirty is gone: no later sync writes it, and readers still see it."""
        inode = self.inode(number)
        if inode.pieces:
            self._clean(inode)
            inode.diverged = True

    def lose_power(self, loss: Loss, syncing: int | None = None) -> Lost:
        """Go on with what is durable.

        Inode numbers stay those of the same files; nobody has any of them open.

        Args:
            loss: What is kept.
            syncing: A file or folder that was being synced: a part of what that writes
                is durable.
        """
        dice = random.Random(f"{loss.seed} power")
        if syncing is not None and syncing in self.inodes:
            self._sync_in_part(self.inodes[syncing], dice, torn=loss.torn)
        paths = {inode: self.path(inode) for inode in self.inodes.values()}
        seen = {inode for inode in self._dirty if inode.names}
        gone = self._names.lose(loss.kept if loss.names else 1.0, dice)
        gone = [c for c in gone if c.about.names and c.kind != "unlink"]
        files = {paths[change.about] for change in gone}
        lost = _Tally()
        for inode in sorted(self._dirty, key=lambda one: one.number):
            before = lost.writes
            self._keep_some(inode, loss, dice, lost if inode in seen else _Tally())
            if lost.writes > before:
                files.add(paths[inode])
        self._dirty.clear()
        self._dirty_bytes = 0
        self._start_again(paths)
        return Lost(
            bytes=lost.bytes,
            writes=lost.writes,
            torn=lost.torn,
            kept=lost.kept,
            names=len(gone),
            files=tuple(sorted(os.fsdecode(path) for path in files)),
            during=syncing is not None,
        )

    def show(self, inode: Inode, version: Version) -> bool:
        """Have what is written be what is durable, which was changed to be `version`.

        Returns:
            False where something newer was written there, which is still to be seen.
        """
        if not inode.names:
            return False
        fd = self._written(inode)
        end = version.offset + len(version.data)
        newer = any(
            piece.kind != "write"
            or (piece.offset < end and piece.offset + piece.length > version.offset)
            for piece in inode.pieces
        )
        if not newer:
            write_all(fd, version.data, version.offset)
            inode.size = max(inode.size, end if version.data else 0)
        size = os.fstat(self.contents.durable_of(inode)).st_size
        if not inode.pieces and size < inode.size:
            os.ftruncate(fd, size)
            inode.size = size
        return not inode.pieces

    # helpers: names

    def _parent_of_new(self, folder: int, name: bytes) -> Inode:
        parent = self.inode(folder)
        if len(name) > _NAME_BYTES_MAX:
            raise _error(errno.ENAMETOOLONG)
        if name in parent.entries:
            raise _error(errno.EEXIST)
        if folder != ROOT and not parent.names:
            raise _error(errno.ENOENT)  # a folder that was removed
        return parent

    def _there(self, folder: Inode, name: bytes) -> Inode | None:
        entry = folder.entries.get(name)
        return None if entry is None else self.inodes[entry[0]]

    def _check_rename(
        self, inode: Inode, replaced: Inode | None, new_parent: Inode, new_name: bytes
    ) -> None:
        if len(new_name) > _NAME_BYTES_MAX:
            raise _error(errno.ENAMETOOLONG)
        self._check_way(inode, new_parent)
        if replaced is None:
            return
        if inode.is_folder and not replaced.is_folder:
            raise _error(errno.ENOTDIR)
        if replaced.is_folder and not inode.is_folder:
            raise _error(errno.EISDIR)
        if replaced.entries:
            raise _error(errno.ENOTEMPTY)

    def _check_way(self, inode: Inode, parent: Inode) -> None:
        """A folder does not go below itself."""
        while inode.is_folder and parent.names:
            if parent is inode:
                raise _error(errno.EINVAL)
            parent = self.inodes[next(iter(parent.names))[0]]

    def _make(self, inode: Inode, path: bytes) -> None:
        """Its counterpart in the folder of what is written."""
        at = self.contents.at(path)
        if inode.is_file:
            self.contents.create(inode, path)
        elif inode.is_folder:
            os.mkdir(at, 0o700 | inode.mode & 0o777)
        elif stat.S_ISLNK(inode.mode):
            os.symlink(inode.target, at)
        else:
            os.mknod(at, inode.mode)

    def _enter(self, folder: Inode, name: bytes, inode: Inode, now_ns: int) -> None:
        self._last_place += 1
        folder.entries[name] = (inode.number, self._last_place)
        folder.subfolders += inode.is_folder
        folder.touch(now_ns)
        inode.names.add((folder.number, name))
        inode.path = b""

    def _leave(self, folder: Inode, name: bytes, inode: Inode, now_ns: int) -> None:
        path = self.path(inode)
        del folder.entries[name]
        folder.subfolders -= inode.is_folder
        folder.touch(now_ns)
        inode.names.discard((folder.number, name))
        inode.times_ns[2] = now_ns
        if not inode.names:
            inode.path = path

    def _remove(self, folder: int, name: bytes, inode: Inode) -> None:
        parent = self.inodes[folder]
        at = self.contents.at(joined(self.path(parent), name))
        if inode.is_folder:
            os.rmdir(at)
        else:
            if inode.is_file and len(inode.names) == 1 and inode.lookups:
                self._written(inode)  # while there is a name to open it by
            os.unlink(at)
        self._leave(parent, name, inode, time.time_ns())

    def _drop_if_unused(self, inode: Inode) -> None:
        if inode.names or inode.lookups or inode.number == ROOT:
            return
        # Nobody will see what was written; what is durable may come back.
        self._clean(inode)
        self.contents.close_written(inode)
        if not (inode.saved_names or inode.mentions):
            self.inodes.pop(inode.number, None)
            self.contents.drop(inode)

    # helpers: contents

    def _file(self, number: int) -> Inode:
        inode = self.inode(number)
        if not inode.is_file:
            raise _error(errno.EISDIR if inode.is_folder else errno.EINVAL)
        return inode

    def _written(self, inode: Inode) -> int:
        if inode.written_fd >= 0:
            return inode.written_fd
        return self.contents.of(inode, self.path(inode))

    def _wrote(self, inode: Inode, piece: Piece) -> None:
        inode.pieces.append(piece)
        self._dirty[inode] = None
        self._dirty_bytes += PIECE_BYTES + len(piece.data)
        while self._dirty_bytes > DIRTY_BYTES_MAX:
            self._write_back(next(iter(self._dirty)))

    def _write_back(self, inode: Inode) -> None:
        """Make its contents durable."""
        fd = self.contents.durable_of(inode)
        *first, last = inode.pieces
        for piece in first:
            piece.put_into(fd)
        inode.previous = version(fd, last)
        last.put_into(fd)
        self._clean(inode)

    def _clean(self, inode: Inode) -> None:
        if inode.pieces:
            self._dirty_bytes -= inode.dirty_bytes
            inode.pieces = []
            del self._dirty[inode]

    # helpers: losses of power

    def _sync_in_part(self, inode: Inode, dice: random.Random, *, torn: bool) -> None:
        if not inode.pieces:
            return
        fd = self.contents.durable_of(inode)
        done = dice.randint(0, len(inode.pieces))
        pieces, left = inode.pieces[:done], inode.pieces[done:]
        for piece in pieces:
            piece.put_into(fd)
        if torn and left:
            self._tear(left[0], fd, dice.random()).put_into(fd)
        self._dirty_bytes -= inode.dirty_bytes
        inode.pieces = left
        inode.diverged = True
        self._dirty_bytes += inode.dirty_bytes
        if not left:
            del self._dirty[inode]

    def _keep_some(
        self, inode: Inode, loss: Loss, dice: random.Random, lost: _Tally
    ) -> None:
        """Put what is kept of a file's pieces into what is durable; forget the rest."""
        fd = self.contents.durable_of(inode)
        kept = self._drawn(inode, fd, loss, dice) if inode.saved_names else {}
        for place, piece in enumerate(inode.pieces):
            part = kept.get(place)
            if part is None:
                lost.writes += 1
                lost.bytes += len(piece.data)
                continue
            part.put_into(fd)
            if part is piece:
                lost.kept += 1
            else:
                lost.torn += 1
                lost.bytes += len(piece.data) - len(part.data)
        inode.pieces = []
        inode.diverged = True

    def _drawn(
        self, inode: Inode, fd: int, loss: Loss, dice: random.Random
    ) -> dict[int, Piece]:
        """Which pieces are kept, by their place, and what of them."""
        kept: dict[int, Piece] = {}
        pages: set[int] = set()
        draws = [(dice.random(), dice.random(), dice.random()) for _ in inode.pieces]
        for place, (chance, tears, cut) in reversed(list(enumerate(draws))):
            piece = inode.pieces[place]
            follows = piece.kind != "write" and bool(kept)
            if follows or pages & self._pages(piece):
                kept[place] = piece
            elif chance < loss.kept:
                torn = loss.torn and tears < _TORN
                part = self._tear(piece, fd, cut) if torn else piece
                if part.kind != "write" or part.data:
                    kept[place] = part
            if place in kept:
                pages |= self._pages(kept[place])
        return kept

    def _pages(self, piece: Piece) -> set[int]:
        if piece.kind != "write":
            return set()
        last = (piece.offset + piece.length - 1) // self._page_bytes
        return set(range(piece.offset // self._page_bytes, last + 1))

    def _tear(self, piece: Piece, fd: int, cut: float) -> Piece:
        """Its beginning, up to a byte where it can end; perhaps nothing, or all of it.

        Args:
            piece: To be torn.
            fd: The file, as it is durable.
            cut: From 0 to 1.
        """
        if piece.kind != "write":
            return piece
        begin, end = piece.offset, piece.offset + piece.length
        at = begin + int(cut * piece.length)
        if at < os.fstat(fd).st_size:
            at -= at % self._sector_bytes
        at = max(begin, min(at, end))
        return piece._replace(length=at - begin, data=piece.data[: at - begin])

    def _start_again(self, paths: dict[Inode, bytes]) -> None:
        """Have written what is durable, and only that."""
        for inode, path in paths.items():
            inode.lookups = 0
            if inode.is_file and inode.names:
                if inode.diverged or not inode.saved_names:
                    self.contents.close_written(inode)
                else:
                    self.contents.put_aside(inode, path)
            elif inode.is_file:
                self.contents.close_written(inode)
        self.contents.clear_written()
        had_names = {inode for inode in paths if inode.names}
        for inode in paths:
            inode.names.clear()
            inode.entries = {}
            inode.subfolders = 0
            inode.path = b""
        self._show(self.inodes[ROOT], had_names)
        for inode in paths:
            inode.saved_names = len(inode.names)
            self._drop_if_unused(inode)

    def _show(self, folder: Inode, had_names: set[Inode]) -> None:
        """Make what a folder durably holds, and all below it."""
        above = self.path(folder)
        for name, number in folder.saved.items():
            inode = self.inodes[number]
            path = joined(above, name)
            if inode.names:
                first = self.contents.at(self.path(inode))
                os.link(first, self.contents.at(path), follow_symlinks=False)
            elif not inode.is_file:
                self._make(inode, path)
            elif inode in had_names and not inode.diverged:
                self.contents.put_back(inode, path)
            else:
                self.contents.restore(inode, path)
                inode.diverged = False
            self._enter(folder, name, inode, folder.times_ns[1])
            if inode.is_file:
                inode.size = os.fstat(self._written(inode)).st_size
            if inode.is_folder:
                self._show(inode, had_names)

    # helpers: what others did to the folder of what is written

    def _differs(self, folder: Inode, above: bytes, since_ns: int) -> bool:
        found = self._found(above)
        if found.keys() != folder.entries.keys():
            return True
        for name, told in found.items():
            inode, path = self.inodes[folder.entries[name][0]], joined(above, name)
            if inode.is_folder and self._differs(inode, path, since_ns):
                return True
            if inode.is_file and told.st_mtime_ns > since_ns:
                return True
        return False

    def _adopt_below(
        self,
        folder: Inode,
        path: bytes,
        since_ns: int,
        known: dict[tuple[int, int], Inode],
    ) -> None:
        found = self._found(path)
        for name in folder.entries.keys() - found.keys():
            self._let_go(folder, name)
        for name, told in found.items():
            below, entry = joined(path, name), folder.entries.get(name)
            if entry is not None:
                inode = self.inodes[entry[0]]
                if inode.is_file and told.st_mtime_ns > since_ns:
                    self.contents.close_written(inode)
                    self.contents.adopt(inode, below)
                    inode.size = told.st_size
            else:
                inode = known.get((told.st_dev, told.st_ino)) or self._adopted(
                    told, below
                )
                known[told.st_dev, told.st_ino] = inode
                self._enter(folder, name, inode, folder.times_ns[1])
                folder.saved[name] = inode.number
                inode.saved_names += 1
            if inode.is_folder:
                self._adopt_below(inode, below, since_ns, known)

    def _found(self, path: bytes) -> dict[bytes, os.stat_result]:
        with os.scandir(self.contents.at(path)) as entries:
            found = {e.name: e.stat(follow_symlinks=False) for e in entries}
        return dict(sorted(found.items()))

    def _let_go(self, folder: Inode, name: bytes) -> None:
        """A name is gone, durably."""
        inode = self.inodes[folder.entries[name][0]]
        for below in list(inode.entries):
            self._let_go(inode, below)
        self._leave(folder, name, inode, time.time_ns())
        del folder.saved[name]
        inode.saved_names -= 1
        self._drop_if_unused(inode)

    def _adopted(self, told: os.stat_result, path: bytes) -> Inode:
        self._last_number += 1
        times_ns = [told.st_atime_ns, told.st_mtime_ns, told.st_ctime_ns]
        inode = Inode(self._last_number, told.st_mode, told.st_uid, told.st_gid)
        inode.times_ns, inode.size = times_ns, told.st_size
        self.inodes[inode.number] = inode
        if stat.S_ISLNK(told.st_mode):
            inode.target = os.readlink(self.contents.at(path))
        if inode.is_file:
            self.contents.adopt(inode, path)
        return inode


class _Tally:
    """What is counted while pieces are lost."""

    def __init__(self) -> None:
        self.bytes = self.writes = self.torn = self.kept = 0


def version(fd: int, piece: Piece) -> Version:
    """What a piece is about to replace in an open file."""
    size = os.fstat(fd).st_size
    if piece.kind != "write" or piece.offset >= size:
        return Version(size, piece.offset, b"")
    length = min(piece.length, _VERSION_BYTES_MAX)
    return Version(size, piece.offset, os.pread(fd, length, piece.offset))


def joined(folder: bytes, name: bytes) -> bytes:
    """The path of what has this name in the folder with this path."""
    return folder + b"/" + name if folder else name


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
