"""Files that nodes can write, read by a controller that nodes must not harm.

A node owns its folder `nodes/n1`. In the place of a file it may put a pipe that nobody
writes to, a link to /dev/zero or to somebody else's file, a folder, or a terabyte of
zeros that take up no space. To open the first blocks for ever, and to read the others
never ends, or tells what is none of the node's. So only what is a regular file by its
own name is read, and no more of it than `FILE_BYTES_MAX`.
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
"""As in a history. A longer line holds no event."""

FILE_BYTES_MAX = 512 << 20
"""Some four million events of one node."""

LINE_CHARGE_BYTES_MIN = 64
"""What a line counts for at least: an object in memory is larger than `{}`."""

_DECODER = msgspec.json.Decoder(dict[str, Any])


class NotPlainError(OSError):
    """Something that is no regular file, such as a pipe, has the name of one."""


def open_plain(path: Path, *, follows_links: bool = False) -> BinaryIO:
    """Open a regular file for reading. Never blocks.

    Args:
        path: Its name.
        follows_links: Whether a link to such a file will do.

    Raises:
        NotPlainError: Something else has its name.
        OSError: There is none, or a folder or a link has its name.
    """
    more = os.O_NONBLOCK | os.O_CLOEXEC | (0 if follows_links else os.O_NOFOLLOW)
    # `os.fdopen` would leave the descriptor of a folder open when it refuses it.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | more))  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NotPlainError(errno.EINVAL, "not a regular file", str(path))
    return file


def objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines. Torn and foreign lines are passed over.

    Raises:
        OSError: See `open_plain`; or the file is longer than `FILE_BYTES_MAX`.
    """
    read_bytes = 0
    is_rest = False  # of a line that is too long
    with open_plain(path) as file:
        while line := file.readline(LINE_BYTES_MAX):
            read_bytes += max(len(line), LINE_CHARGE_BYTES_MIN)
            if read_bytes > FILE_BYTES_MAX:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
            is_whole = line.endswith(b"\n") or len(line) < LINE_BYTES_MAX
            if is_whole and not is_rest:
                # Bad UTF-8 and bad JSON are ValueErrors.
                with contextlib.suppress(ValueError, RecursionError):
                    yield _DECODER.decode(line)
            is_rest = not is_whole


def clear(path: Path) -> None:
    """Remove whatever has this name, a folder with all that is in it.

    Raises:
        OSError: It can't be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except IsADirectoryError:
        shutil.rmtree(path)
