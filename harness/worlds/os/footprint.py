"""What a node leaves on the disk, and whether that exceeds a bound.

A broken or malicious node fills a disk in more ways than by large files: by millions of
empty ones, in folders nested so deeply that no path names them, and in files that it
unlinked but keeps open. Unlinked files that it only maps are not seen.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENTRY_BYTES_MIN = 4096
"""Least size that a file or folder counts for: its name and inode take up room, too."""


class Footprint(NamedTuple):
    """What a node takes up.

    Attributes:
        bytes: How much; no more than was counted, where that exceeds the bound.
        excess: How it exceeds the bound, in words; empty if it does not.
    """

    bytes: int
    excess: str = ""


def measure(folder: str, pids: Iterable[int], bytes_max: int) -> Footprint:
    """What a node takes up, unless that exceeds the bound.

    Files that vanish meanwhile don't count. Cost: a few microseconds for each file, up
    to the bound, and for each open descriptor.

    Args:
        folder: The node's data folder.
        pids: The node's processes.
        bytes_max: The bound.
    """
    total_bytes = 0
    counted: set[tuple[int, int]] = set()
    try:
        for entry in itertools.chain(_files(folder), _unlinked(folder, pids)):
            if entry.st_nlink != 1:
                name = (entry.st_dev, entry.st_ino)
                if name in counted:
                    continue
                counted.add(name)
            total_bytes += max(entry.st_blocks * 512, ENTRY_BYTES_MIN)
            if total_bytes > bytes_max:
                words = f"its data takes up more than {bytes_max / 1e6:.0f} MB"
                return Footprint(total_bytes, words)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            words = "its data folder is nested too deeply to be measured"
            return Footprint(total_bytes, words)
    return Footprint(total_bytes)


def size(folder: str) -> int:
    """The bytes of all files below a folder, as far as paths reach."""
    try:
        files = [file for file in _files(folder) if stat.S_ISREG(file.st_mode)]
    except OSError:
        return 0
    return sum(file.st_size for file in files)


def _files(folder: str) -> Iterator[os.stat_result]:
    """All files and folders below a folder.

    Raises:
        OSError: With errno ENAMETOOLONG, if one is nested too deeply for a path.
    """
    folders = [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        yield entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue


def _unlinked(folder: str, pids: Iterable[int]) -> Iterator[os.stat_result]:
    """Files without a name that these processes hold open, on the disk of a folder."""
    disk = os.stat(folder).st_dev
    for pid in pids:
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    held = os.stat(f"/proc/{pid}/fd/{number}")
                    if (
                        held.st_dev == disk
                        and held.st_nlink == 0
                        and stat.S_ISREG(held.st_mode)
                    ):
                        yield held
