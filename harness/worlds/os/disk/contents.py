"""Where the bytes of files are kept: as they were written, and as they are durable.

What is written stands in a folder of ordinary files, under the names that they have in
the file system, so that a run's folder shows a node's data as it would without us. What
is durable stands beside, a file for each, called by its number. What separates the two
is in memory: the pieces that were written and not synced.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
from collections import OrderedDict
from typing import TYPE_CHECKING

from harness.worlds.os.disk.inodes import write_all

if TYPE_CHECKING:
    from harness.worlds.os.disk.inodes import Inode

_DESCRIPTORS_MAX = 2000
_CHUNK_BYTES = 1 << 20


class Contents:
    """The files behind the file system.

    Args:
        written: The folder of what is written.
        durable: The folder of what is durable; ours alone.
    """

    def __init__(self, written: bytes, durable: bytes) -> None:
        self.written = written
        self._durable = durable
        self._open: OrderedDict[Inode, None] = OrderedDict()
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._open_max = min(_DESCRIPTORS_MAX, max(8, allowed // 4))

    def at(self, path: bytes) -> bytes:
        """Where something is written that has this path in the file system."""
        return self.written + b"/" + path if path else self.written

    def create(self, inode: Inode, path: bytes) -> None:
        """Make a new, empty file."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(self.at(path), flags, 0o600 | inode.mode & 0o777)
        self._hold(inode)
        inode.written_fd = fd

    def of(self, inode: Inode, path: bytes) -> int:
        """An open descriptor of what is written."""
        if inode.written_fd < 0:
            fd = os.open(self.at(path), os.O_RDWR | os.O_CLOEXEC)
            self._hold(inode)
            inode.written_fd = fd
        return inode.written_fd

    def durable_of(self, inode: Inode) -> int:
        """An open descriptor of what is durable; empty until it is written to."""
        if inode.durable_fd < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            fd = os.open(self._durable_path(inode), flags, 0o600)
            self._hold(inode)
            inode.durable_fd = fd
        return inode.durable_fd

    def keep(self, inode: Inode, name: bytes) -> bytes:
        """Copy what is durable aside; the path of the copy."""
        path = self._durable + b"/" + name
        with open(path, "wb") as kept:
            copy(self.durable_of(inode), kept.fileno())
        return path

    def adopt(self, inode: Inode, path: bytes) -> None:
        """What is written is durable."""
        source, target = self.of(inode, path), self.durable_of(inode)
        os.ftruncate(target, 0)
        copy(source, target)

    def restore(self, inode: Inode, path: bytes) -> None:
        """What is durable is written."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.at(path))
        self.create(inode, path)
        copy(self.durable_of(inode), inode.written_fd)

    def put_aside(self, inode: Inode, path: bytes) -> None:
        """Take away the name of what is written, and keep it for `put_back`."""
        os.rename(self.at(path), self._durable_path(inode) + b".written")

    def put_back(self, inode: Inode, path: bytes) -> None:
        """Give it a name again."""
        os.rename(self._durable_path(inode) + b".written", self.at(path))

    def drop(self, inode: Inode) -> None:
        """It is gone for good."""
        if not inode.is_file:
            return
        self._close(inode)
        self._open.pop(inode, None)
        for path in (
            self._durable_path(inode),
            self._durable_path(inode) + b".written",
        ):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def close_written(self, inode: Inode) -> None:
        """Let go of the descriptor of what is written."""
        if inode.written_fd >= 0:
            os.close(inode.written_fd)
            inode.written_fd = -1

    def clear_written(self) -> None:
        """Remove all that is written."""
        for entry in os.scandir(self.written):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)

    def _durable_path(self, inode: Inode) -> bytes:
        return self._durable + b"/%d" % inode.number

    def _hold(self, inode: Inode) -> None:
        """Count its descriptors as used just now, and close those of another."""
        self._open[inode] = None
        self._open.move_to_end(inode)
        if len(self._open) > self._open_max:
            # What has no name could not be opened again.
            others = (one for one in self._open if one is not inode and one.names)
            if (oldest := next(others, None)) is not None:
                self._close(oldest)
                del self._open[oldest]

    def _close(self, inode: Inode) -> None:
        self.close_written(inode)
        if inode.durable_fd >= 0:
            os.close(inode.durable_fd)
            inode.durable_fd = -1


def copy(source: int, target: int) -> None:
    """All bytes of a file into an empty one, holes as holes."""
    size, at = os.fstat(source).st_size, 0
    os.ftruncate(target, size)
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:  # ENXIO: a hole up to the end
            return
        end = os.lseek(source, at, os.SEEK_HOLE)
        while at < end:
            chunk = os.pread(source, min(_CHUNK_BYTES, end - at), at)
            if not chunk:
                return
            write_all(target, chunk, at)
            at += len(chunk)
