"""A history file as bytes: opened, unpacked and cut into whole lines.

Every fault of a file that does not concern its meaning ends here as one `HistoryError`:
the file is missing, its gzip is damaged or cut short, unpacking it would never end, a
line is longer than any operation can be.
"""

from __future__ import annotations

import gzip
import os
import zlib
from codecs import BOM_UTF8
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from harness.history import HistoryError

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE_BYTES_MAX = 16 << 20
UNPACKED_BYTES_MAX = 4 << 30
"""About 40 million operations; a longer file is taken for a gzip bomb."""

PIECE_BYTES = 256 << 10
"""The approximate size of pieces of a long line; a token is never as long."""

_CHUNK_BYTES = 4 << 20
_GZIP_MAGIC = b"\x1f\x8b"


STANDARD_INPUT = Path("/dev/stdin")
"""Standard input, `-` on a command line. Its descriptor is read on and not opened anew:
a part of it may have been read already, and a socket can't be opened."""


class Source:
    """An open history file.

    Attributes:
        name: The path as the user gave it, for messages.
        head: The first bytes, unpacked; they tell formats apart.
        is_packed: Whether the file is compressed.
        can_be_read_again: Whether the lines are, unpacked, in a file of that name.

    Raises:
        HistoryError: From every method; one line that names the file.
    """

    def __init__(self, path: Path) -> None:
        is_stdin = path == STANDARD_INPUT
        self.name = "standard input" if is_stdin else str(path)
        self.head = b""
        self._read_bytes = 0
        try:
            self._file = os.fdopen(os.dup(0), "rb") if is_stdin else path.open("rb")
            self.is_packed = self._file.peek(2)[:2] == _GZIP_MAGIC
        except OSError as problem:
            raise HistoryError(f"{self.name}: {problem.strerror}") from None
        except ValueError as problem:
            raise HistoryError(f"{self.name!r}: {problem}") from None
        self._stream: BinaryIO | gzip.GzipFile = self._file
        if self.is_packed:
            self._stream = gzip.GzipFile(fileobj=self._file)
        try:
            self.head = self._read()
        except HistoryError:
            self._file.close()
            raise
        # Some editors begin UTF-8 with a byte order mark; no format has a use for it.
        self.is_signed = self.head.startswith(BOM_UTF8)
        self.head = self.head.removeprefix(BOM_UTF8)
        self.can_be_read_again = not (is_stdin or self.is_packed or self.is_signed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def blocks(self) -> Iterator[bytes]:
        """The file, cut anywhere."""
        block = self.head
        while block:
            yield block
            block = self._read()

    def chunks(self) -> Iterator[bytes]:
        """The file in pieces of whole lines; the last may lack its newline."""
        lines_read = 0
        rest = b""
        for block in self.blocks():
            cut = block.rfind(b"\n") + 1
            if cut:
                if rest:
                    self._refuse_long(len(rest) + block.index(b"\n"), lines_read)
                chunk = rest + block[:cut]
                rest = block[cut:]
                yield chunk
                lines_read += chunk.count(b"\n")
            else:
                rest += block
            self._refuse_long(len(rest), lines_read)
        if rest:
            yield rest

    def _refuse_long(self, line_bytes: int, lines_before: int) -> None:
        if line_bytes > LINE_BYTES_MAX:
            raise HistoryError(
                f"{self.name}:{lines_before + 1}: the line is longer than "
                f"{LINE_BYTES_MAX >> 20} MiB"
            )

    def lines(self) -> Iterator[tuple[int, str]]:
        """(number from 1, text without its newline) of each line."""
        number = 0
        for chunk in self.chunks():
            for line in chunk.removesuffix(b"\n").split(b"\n"):
                number += 1
                yield number, self._text(line, number)

    def pieces(self) -> Iterator[tuple[int, str]]:
        """(number from 1, text without newline) of lines, long ones in several pieces.

        All pieces of a line have its number. A piece ends after a blank or a comma, so
        it ends between tokens or in a string.
        """
        number = 1
        rest = b""
        for block in self.blocks():
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if len(line) <= PIECE_BYTES:
                    yield number, self._text(line, number)
                else:
                    for piece in _cut(line):
                        self._refuse_long(len(piece), number - 1)
                        yield number, self._text(piece, number)
                number += 1
            *pieces, rest = _cut(rest)
            for piece in pieces:
                yield number, self._text(piece, number)
            self._refuse_long(len(rest), number - 1)
        if rest:
            yield number, self._text(rest, number)

    def _text(self, line: bytes, number: int) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError as problem:
            raise HistoryError(
                f"{self.name}:{number}: not UTF-8: {problem.reason} at byte "
                f"{problem.start} of the line"
            ) from None

    def _read(self) -> bytes:
        try:
            block = self._stream.read(_CHUNK_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
            raise HistoryError(
                f"{self.name}: the gzip data is damaged or cut short after "
                f"{self._read_bytes} bytes unpacked: {problem}"
            ) from None
        except OSError as problem:
            raise HistoryError(f"{self.name}: {problem.strerror}") from None
        self._read_bytes += len(block)
        if self.is_packed and self._read_bytes > UNPACKED_BYTES_MAX:
            raise HistoryError(
                f"{self.name}: unpacks to more than {UNPACKED_BYTES_MAX >> 30} GiB"
            )
        return block


def _cut(line: bytes) -> Iterator[bytes]:
    """A line in pieces that end after a blank or comma; at least one."""
    begin = 0
    while len(line) - begin > PIECE_BYTES:
        near = begin + PIECE_BYTES
        end = max(line.rfind(blank, begin, near) for blank in (b" ", b",")) + 1
        if not end:
            ends = [line.find(blank, near) + 1 for blank in (b" ", b",")]
            end = min(filter(None, ends), default=0)
        if not end:
            break
        yield line[begin:end]
        begin = end
    yield line[begin:]
