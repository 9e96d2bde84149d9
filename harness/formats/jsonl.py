"""Histories as JSON lines, the format of our own run folders.

One `Op` a line: `{"index":0,"time":12345,"process":0,"type":"invoke","f":"write",
"value":3,"key":1,"node":"n1"}`. Fields that are empty are left out.

Writing: one write() a line to a file opened for appending, so a controller killed with
-9 leaves every operation it had recorded, and at worst a torn last line (a full disk
can tear it; the kernel doesn't). Reading is strict: a history decides verdicts, so what
is damaged is refused and never repaired in silence.
"""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from harness.collector import collector_paused
from harness.columns import ColumnsBuilder
from harness.errors import HarnessError
from harness.formats.lean import LeanOps
from harness.formats.source import LINE_BYTES_MAX, Source
from harness.history import History, HistoryError, Op, Pairing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

_DECODER = msgspec.json.Decoder(Op)


def _plain(value: Any) -> str:
    """EDN's kinds of text, and ratios; JSON has a notation for its other values."""
    if isinstance(value, str | Fraction):
        return str(value)
    raise TypeError(f"JSON has no notation for {type(value).__name__}")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)


def encode_line(op: Op) -> bytes:
    """The line for `op`, with its newline.

    Raises:
        HistoryError: The op holds something that JSON can't.
    """
    try:
        line = _ENCODER.encode(op) + b"\n"
    except (TypeError, ValueError, RecursionError) as problem:
        raise HistoryError(f"op {op.index} can't be written: {problem}") from None
    if len(line) > LINE_BYTES_MAX:
        raise HistoryError(f"op {op.index} can't be written: {len(line)} bytes long")
    return line


class HistoryWriter:
    """Records a run's operations as they happen.

    Raises:
        HarnessError: From the constructor, when the file exists or can't be made;
            from `record`, when it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ops = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, 0o644)
        except OSError as problem:
            raise HarnessError(f"cannot make {path}: {problem.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def record(self, op: Op) -> Op:
        """Give `op` the next index, write it, and return it as it was written.

        A result that has no place in JSON comes from a client gone wrong: what the
        system did is then known to nobody, so the completion becomes `info`.
        """
        op.index = self.ops
        try:
            line = encode_line(op)
        except HistoryError as problem:
            if op.type == "invoke":
                raise HarnessError(str(problem)) from None
            op.type, op.value, op.error = "info", None, str(problem)
            line = encode_line(op)
        self._write(line)
        self.ops += 1
        return op

    def close(self) -> None:
        """Close the file; harmless when it is closed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, line: bytes) -> None:
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except OSError as problem:
            raise HarnessError(
                f"cannot write to {self.path}: {problem.strerror}"
            ) from None


def read(
    source: Source,
    *,
    strict: bool = True,
    lean: bool = False,
    tolerate_torn_tail: bool = False,
) -> History:
    """The history in `source`. Cost: linear, about a second for a million ops.

    Args:
        source: An open file.
        strict: See `History`. Off, an op's index is its position.
        lean: Leave ops in the file, where that can be done; see `LeanOps`.
        tolerate_torn_tail: Leave out a last line without its newline when it isn't
            JSON: what a crashed controller may leave.

    Raises:
        HistoryError: Names file and line.
    """
    ops: list[Op] = []
    with collector_paused():
        if lean and strict:
            return _read_lean(source)
        builder = ColumnsBuilder()
        for chunk in source.chunks():
            found = _decode(
                source.name, chunk, len(ops), tolerate_torn_tail=tolerate_torn_tail
            )
            if not strict:
                # The order of lines is the order of events, whatever they say.
                for i, op in enumerate(found, start=len(ops)):
                    op.index = i
            builder.feed(found)
            ops += found
        history = History(
            ops,
            strict=strict,
            source=source.name,
            where=lambda i: f"{source.name}:{i + 1}",
            columns=builder.columns(),
        )
        history.lines = range(1, len(ops) + 1)
        return history


def _read_lean(source: Source) -> History:
    """The history, with its ops left in the file.

    Raises:
        HistoryError: Names file and line.
    """
    ops = LeanOps(Path(source.name), is_packed=not source.can_be_read_again)
    pairing = Pairing(lambda i: f"{source.name}:{i + 1}")
    for chunk in source.chunks():
        if not ops.add(chunk, pairing):
            _decode(source.name, chunk, len(ops), tolerate_torn_tail=False)
            raise AssertionError("what is no operation decodes as one")
    history = History(ops, source=source.name, completion=pairing.completion)
    history.lines = range(1, len(ops) + 1)
    return history


def write(history: Iterable[Op]) -> Iterator[bytes]:
    """The lines of a history."""
    return map(encode_line, history)


def _decode(
    name: str, chunk: bytes, before: int, *, tolerate_torn_tail: bool
) -> list[Op]:
    """The ops of a chunk of whole lines, `before` of which came before it.

    The decoder knows nothing of lines: it passes over blank ones and takes values side
    by side. One value to each newline is what lines must come to; where they don't, or
    where decoding fails, the same lines are decoded one by one to find the culprit.
    """
    lines = chunk.count(b"\n") + (not chunk.endswith(b"\n"))
    try:
        found = _DECODER.decode_lines(chunk)
        if len(found) == lines:
            return found
    except (ValueError, RecursionError):
        pass
    is_whole = chunk.endswith(b"\n")
    pieces = chunk.removesuffix(b"\n").split(b"\n")
    ops: list[Op] = []
    for i, line in enumerate(pieces, start=1):
        try:
            ops.append(_DECODER.decode(line))
        except (ValueError, RecursionError) as problem:
            is_tail = i == len(pieces) and not is_whole
            if is_tail and tolerate_torn_tail:
                break
            reason = _reason(line, problem, is_tail=is_tail)
            raise HistoryError(f"{name}:{before + i}: {reason}") from None
    return ops


def _reason(line: bytes, problem: Exception, *, is_tail: bool) -> str:
    if not line.strip():
        return "the line is empty"
    if isinstance(problem, RecursionError):
        return "nested too deep"
    try:
        line.decode()
    except UnicodeDecodeError as bad:
        if is_tail and bad.reason == "unexpected end of data":
            return "the last line is cut short, in the middle of a character"
        return f"not UTF-8: {bad.reason} at byte {bad.start} of the line"
    if is_tail and not isinstance(problem, msgspec.ValidationError):
        return f"the last line is cut short: {problem}"
    if isinstance(problem, msgspec.ValidationError):
        fields = _FIELDS if "field" in str(problem) else ""
        return f"not an operation: {problem}{fields}"
    at = _BYTE.search(str(problem))
    near = f", at {line[int(at[1]) :][:24]!r}" if at else ""
    return f"not JSON: {problem}{near}"


_BYTE = re.compile(r"\(byte (\d+)\)")


_FIELDS = f" (the fields of an operation: {', '.join(Op.__struct_fields__)})"
