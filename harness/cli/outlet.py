"""Standard output and standard error that no reader and no disk can break.

A reader that has had enough goes (`splitbrain check ... | head -1`), and Python's ways
of taking that note lead to exit status 1, which here means: invalid. So what is written
to a pipe without a reader goes nowhere, and the command ends with the status that it
would have had. What a full disk did not take is remembered, as nobody asked to lose it.
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
        problem: Why something was lost that a reader may still be waiting for.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.problem: OSError | None = None

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Whether that is a terminal."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of `data`, or lose all of it; how many bytes that is."""
        while True:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:  # somebody who shares the pipe made it so
                select.select([], [self._fd], [])
            except OSError as problem:
                if problem.errno not in _READER_IS_GONE:
                    self.problem = problem
                return memoryview(data).nbytes


@contextlib.contextmanager
def outlets() -> Iterator[Outlet]:
    """Put outlets in the place of `sys.stdout` and `sys.stderr`; gives the former.

    They stay: until it ends, the interpreter writes and flushes. Streams that somebody
    has replaced, as tests do, are left alone. Descriptors that the starter closed are
    opened to nowhere, or the next file to be opened would be taken for one of them.
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
    """A stream of text; characters that its encoding lacks are spelled out."""
    return io.TextIOWrapper(
        io.BufferedWriter(outlet),
        encoding="utf-8" if like is None else like.encoding,
        errors="backslashreplace",
        line_buffering=line_buffering,
    )
