"""What a write-ahead log asks of a file system, and the real one.

A simulator has a file system of its own, with page cache and disk apart, so that what
the log makes of a crash is tested there and not modelled (`harness.worlds.sim.disk`).
Descriptors are whole numbers; every call raises OSError when the disk fails.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Protocol

from reference_impls.override import override

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reference_impls.actor import Record


class Files(Protocol):
    """The file operations of a log.

    Attributes:
        room_bytes: A log that is synced fills its file with zeros up to a multiple of
            this; 1 for no zeros.
    """

    room_bytes: int

    def make_folder(self, path: str) -> None:
        """Make a folder, and those above it, where there is none."""
        ...

    def open(self, path: str, *, empty: bool = False) -> int:
        """A descriptor for reading and writing; the file is made if it isn't there.

        Args:
            path: The file's.
            empty: Whatever it holds goes.
        """
        ...

    def close(self, fd: int) -> None:
        """Let go of a file, and of its lock."""
        ...

    def lock(self, fd: int, path: str) -> bool:
        """Hold the file for the life of the process.

        Returns:
            False where another process holds it, or where it has lost that name.
        """
        ...

    def read(self, fd: int) -> bytes:
        """All that the file holds."""
        ...

    def write(self, fd: int, data: bytes, at: int) -> None:
        """Write all of `data` from that offset on."""
        ...

    def truncate(self, fd: int, size: int) -> None:
        """Let the file end there."""
        ...

    def sync_data(self, fd: int) -> None:
        """Wait until the file's contents are durable (fdatasync)."""
        ...

    def sync(self, fd: int) -> None:
        """Wait until the file is durable, but for its name (fsync)."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in the place of the file that has it."""
        ...

    def sync_folder(self, path: str) -> None:
        """Wait until the names in a folder are durable."""
        ...


class Log(Protocol):
    """What a world that runs a core asks of the core's log.

    Attributes:
        recovered: The records found, in order.
        note: What recovery cut off; empty if nothing.
        pending: Records appended, and not written yet.
    """

    recovered: Sequence[Record]
    note: str
    pending: list[Record]

    def append(self, record: Record, *, replaces: bool = False) -> None:
        """Add a record to the next batch, perhaps in place of all that there is."""
        ...

    def write(self) -> None:
        """Hand the batch to the operating system; it is not durable yet."""
        ...

    def sync(self) -> None:
        """Write the batch, if there is one, and wait until it is durable."""
        ...


class RealFiles(Files):
    """Those of the operating system."""

    room_bytes = 4096

    @override
    def make_folder(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    @override
    def open(self, path: str, *, empty: bool = False) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if empty else 0)
        return os.open(path, flags, 0o644)

    @override
    def close(self, fd: int) -> None:
        os.close(fd)

    @override
    def lock(self, fd: int, path: str) -> bool:
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(fd), os.stat(path))
        return False

    @override
    def read(self, fd: int) -> bytes:
        size = os.fstat(fd).st_size
        data = bytearray()
        while chunk := os.pread(fd, size - len(data), len(data)):
            data += chunk
        return bytes(data)

    @override
    def write(self, fd: int, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(fd, view, at)
            view, at = view[count:], at + count

    @override
    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    @override
    def sync_data(self, fd: int) -> None:
        os.fdatasync(fd)

    @override
    def sync(self, fd: int) -> None:
        os.fsync(fd)

    @override
    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    @override
    def sync_folder(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
