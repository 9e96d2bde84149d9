"""Standard output and standard error that no reader and no disk can break.

A reader may leave early (`splitbrain check ... | head -1`), and Python's ways of taking
that lead to exit status 1, which here means: invalid. So output to a pipe without a
reader is dropped, and the command ends with the status that it would have had. Output
that a full disk did not take is remembered as lost, as the user still wants it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer

_READER_IS_GONE = {errno.EPIPE, errno.ECONNRESET}


class Outlet(io.RawIOBase):
    """A file descriptor to which writing always succeeds.

    Attributes:
        problem: Why output was lost that a reader still wants; empty if none was.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.problem: OSError | None = None

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Whether the descriptor is that of a terminal."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of `data`, or drop all of it; returns the number of bytes."""
        while True:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:  # another process made the shared pipe non-blocking
                select.select([], [self._fd], [])
            except OSError as problem:
                if problem.errno not in _READER_IS_GONE:
                    self.problem = problem
                return memoryview(data).nbytes


@contextlib.contextmanager
def outlets() -> Iterator[Outlet]:
    """Put outlets in the place of `sys.stdout` and `sys.stderr`; gives the former.

    They stay after the block, as the interpreter writes and flushes until it ends.
    Streams that are replaced already, as by tests, are left alone. Descriptors that
    were closed from the start are opened to /dev/null: else the next file to be opened
    would become standard output.
    """
    for fd in (0, 1, 2):
        _open_if_closed(fd)
    out, err = Outlet(1), Outlet(2)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(out, sys.stdout, line_buffering=out.isatty())
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(err, sys.stderr, line_buffering=True)
    try:
        yield out
    finally:
        sys.stdout.flush()


def _open_if_closed(fd: int) -> None:
    try:
        os.fstat(fd)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != fd:
            os.dup2(nowhere, fd)
            os.close(nowhere)


def _text(outlet: Outlet, like: TextIO | None, *, line_buffering: bool) -> TextIO:
    """A text stream; characters that its encoding lacks are written as escapes."""
    return io.TextIOWrapper(
        io.BufferedWriter(outlet),
        encoding="utf-8" if like is None else like.encoding,
        errors="backslashreplace",
        line_buffering=line_buffering,
    )
