"""Files that nodes can write, read by a controller that nodes must not harm.

A node owns its folder `nodes/n1`. In the place of a file it may put a pipe without a
writer, a link to /dev/zero or to another user's file, a folder, or a terabyte of zeros
that take up no space. Opening the pipe blocks for ever; reading the others never ends,
or shows data that are not the node's. So a name is read only if it is that of a regular
file, and no more of it than `FILE_BYTES_MAX`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINE_BYTES_MAX = 16 << 20
"""Longest line, as in a history. A longer one holds no event."""

FILE_BYTES_MAX = 512 << 20
"""Longest file; it has room for some four million events of one node."""

FRESH_BYTES_MAX = 64 << 20
"""Most that is read at a time of a file that a node goes on writing."""

LINE_CHARGE_BYTES_MIN = 64
"""Bytes that a line counts for at least: an object in memory is larger than `{}`."""

AT_ONCE_BYTES_MAX = min(LINE_BYTES_MAX, FILE_BYTES_MAX // LINE_CHARGE_BYTES_MIN)
"""A file of so many bytes has neither too long a line nor too many lines."""

_DECODER = msgspec.json.Decoder(dict[str, Any])


class NotPlainError(OSError):
    """The name of a file is that of something else, such as a pipe."""


def open_plain(path: Path, *, follows_links: bool = False) -> BinaryIO:
    """Open a regular file for reading. Never blocks.

    Args:
        path: The file's name.
        follows_links: Whether `path` may be a link to a regular file.

    Raises:
        NotPlainError: `path` is neither file, folder nor link, but a pipe or the like.
        OSError: There is no such file, or `path` is a folder or a link.
    """
    more = os.O_NONBLOCK | os.O_CLOEXEC | (0 if follows_links else os.O_NOFOLLOW)
    # `os.fdopen` refuses a folder, but would leave its descriptor open.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | more))  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NotPlainError(errno.EINVAL, "not a regular file", str(path))
    return file


def content(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        OSError: The file can't be opened by `open_plain`, or is longer than
            `FILE_BYTES_MAX`.
    """
    with open_plain(path) as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


def objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines. Torn and foreign lines are passed over.

    Raises:
        OSError: The file can't be opened by `open_plain`, or is longer than
            `FILE_BYTES_MAX`.
    """
    read_bytes = 0
    is_rest = False  # whether the next bytes continue a line that is too long
    with open_plain(path) as file:
        found_at_once = at_once(file.read(AT_ONCE_BYTES_MAX + 1))
        if found_at_once is not None:
            yield from found_at_once
            return
        file.seek(0)
        while line := file.readline(LINE_BYTES_MAX):
            read_bytes += max(len(line), LINE_CHARGE_BYTES_MIN)
            if read_bytes > FILE_BYTES_MAX:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
            is_whole = line.endswith(b"\n") or len(line) < LINE_BYTES_MAX
            if is_whole and not is_rest:
                try:
                    found = _DECODER.decode(line)
                except (ValueError, RecursionError):  # of UTF-8 and of JSON
                    pass
                else:
                    yield found
            is_rest = not is_whole


def at_once(data: bytes) -> list[dict[str, Any]] | None:
    """The objects of lines that each hold one, as most files have them.

    Returns:
        None if the lines have to be looked at one by one.
    """
    lines = data.count(b"\n")
    # No object goes on over a brace that closes and one that opens, so lines that end
    # and begin with these hold whole objects, and as many objects as lines one each.
    if len(data) > AT_ONCE_BYTES_MAX or not (
        data.startswith(b"{")
        and data.endswith(b"}\n")
        and data.count(b"}\n{") == lines - 1
    ):
        return None
    try:
        found = _DECODER.decode_lines(data)
    except (ValueError, RecursionError):  # of UTF-8 and of JSON
        return None
    return found if len(found) == lines else None


class ObjectsFollower:
    """Reads a file of JSON lines while a node writes it, each line once.

    Torn and foreign lines are passed over, as `objects` does.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """The objects that have come since, of no more than `FRESH_BYTES_MAX`.

        Raises:
            OSError: The file can't be opened by `open_plain`.
        """
        with open_plain(self._path) as file:
            file.seek(self._read_bytes)
            fresh = file.read(FRESH_BYTES_MAX)
        end = fresh.rfind(b"\n") + 1
        if not end and len(fresh) >= LINE_BYTES_MAX:
            end = len(fresh)  # a line that is too long holds no event
        self._read_bytes += end
        for line in fresh[:end].splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                yield _DECODER.decode(line)


def clear(path: Path) -> None:
    """Remove the file, link or whole folder of this name, if there is one.

    Raises:
        OSError: It can't be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except IsADirectoryError:
        shutil.rmtree(path)
