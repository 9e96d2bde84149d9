"""The ops of a history file, left in the file until they are asked for.

Held as `Op`s, a history of a million transactions that read lists takes gigabytes. A
checker that looks at each value once does not need them all at a time. So the file is
read twice: first, lines are checked and paired, and only process and kind of each op
are kept; then `values` gives out the values, some at a time. Single ops, such as those
of an anomaly, are decoded again when they are asked for.

A file that is compressed, or comes from a pipe, can't be read twice, so its lines are
kept in memory.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec
import numpy as np

from harness.history import Bystander, HistoryError, Op, OpType, Pairing, is_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]

T = TypeVar("T")

OP_TYPES: tuple[OpType, ...] = ("invoke", "ok", "fail", "info")
"""The types of ops, by their numbers in `LeanOps.kind`."""

NOBODY = -1 << 63
"""In `LeanOps.process`: a process that is no client."""

_FIRST_NAME = NOBODY + 1
"""In `LeanOps.process`: the number of the first client that has a name."""

_KIND = {name: i for i, name in enumerate(OP_TYPES)}
_NULL = msgspec.Raw(b"null")


class _Header(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An `Op` whose value is not decoded, and only known to be JSON."""

    index: int
    time: int
    process: int | str
    type: OpType
    f: str
    value: msgspec.Raw = _NULL
    key: Any = None
    error: Any = None
    node: str | None = None
    extra: dict[str, Any] | None = None


class _Value(msgspec.Struct, gc=False):
    """An op of which only the value is decoded."""

    value: Any = None


_HEADERS = msgspec.json.Decoder(_Header)
_VALUES = msgspec.json.Decoder(_Value)
_OPS = msgspec.json.Decoder(Op)


def one_a_line(chunk: bytes, decoder: msgspec.json.Decoder[T]) -> list[T] | None:
    """The values of a chunk of whole lines; None if a line does not hold just one.

    The decoder does not know lines: it passes over blank ones and takes several values
    in one. So there must be as many values as newlines.
    """
    lines = chunk.count(b"\n") + (not chunk.endswith(b"\n"))
    try:
        found = decoder.decode_lines(chunk)
    except (ValueError, RecursionError):
        return None
    return found if len(found) == lines else None


class LeanOps(Sequence[Op]):
    """Ops that are decoded when they are asked for.

    Attributes:
        kind: For each op the place of its type in `OP_TYPES`.
        process: For each op its process, or NOBODY. A client with a name has a
            negative number.
        functions: The functions of all ops.
    """

    def __init__(self, path: Path, *, is_packed: bool) -> None:
        self.kind = array("b")
        self.process = array("q")
        self.functions: set[str] = set()
        self._names: dict[str, int] = {}
        self._bystanders: dict[int | str, Bystander] = {}
        self._name = str(path)
        self._ends = array("q")  # op -> where its line ends, newline included
        self._sizes: list[
            tuple[int, int]
        ] = []  # chunk -> where it begins, its first op
        self._kept: list[bytes] = []
        self._file = -1
        self._bytes = 0
        if not is_packed and stat.S_ISREG(path.stat().st_mode):
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def add(self, chunk: bytes, pairing: Pairing) -> bool:
        """Take in a chunk of whole lines.

        Returns:
            False if a line is bad; then nothing of the chunk is taken in.

        Raises:
            HistoryError: From `pairing`; or the number of a process is too large.
        """
        headers = one_a_line(chunk, _HEADERS)
        if headers is None:
            return False
        pairing.feed(headers)
        self.kind.extend([_KIND[header.type] for header in headers])
        try:
            self.process.extend(
                [p if type(p := h.process) is int else self._number(p) for h in headers]
            )
        except OverflowError:
            i = len(self.process) + 1
            raise HistoryError(f"{self._name}:{i}: the process is no number") from None
        self.functions.update({header.f for header in headers})
        self._sizes.append((self._bytes, len(self._ends)))
        newlines = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n"))
        ends = newlines + (self._bytes + 1)
        self._bytes += len(chunk)
        if len(ends) < len(headers):
            ends = np.append(ends, self._bytes)
        self._ends.frombytes(ends.astype(np.int64).tobytes())
        if self._file < 0:
            self._kept.append(chunk)
        return True

    def _number(self, name: Any) -> int:
        """The number that stands for a name in `process`."""
        if not is_client(name):
            return NOBODY
        return self._names.setdefault(name, _FIRST_NAME + len(self._names))

    def set_aside(self, bystanders: Iterable[str]) -> None:
        """Make bystanders of these names, which is known once all chunks are there."""
        self._bystanders = {name: Bystander(name) for name in bystanders}
        numbers = [self._names[name] for name in bystanders]
        process = np.frombuffer(self.process, np.int64)
        process[np.isin(process, numbers)] = NOBODY

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Op: ...
    @overload
    def __getitem__(self, index: slice) -> list[Op]: ...
    def __getitem__(self, index: int | slice) -> Op | list[Op]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        begin = self._ends[index - 1] if index else 0
        op: Op = self._decode(_OPS.decode, self._read(begin, self._ends[index]), index)
        op.process = self._bystanders.get(op.process, op.process)
        return op

    def __iter__(self) -> Iterator[Op]:
        for first, chunk in self._chunks():
            found = self._decode(_OPS.decode_lines, chunk, first)
            for op in found if self._bystanders else ():
                op.process = self._bystanders.get(op.process, op.process)
            yield from found

    def values(self, wanted: Mask) -> Iterator[tuple[int, Any]]:
        """Position and value of each op for which `wanted` is true, in order."""
        for first, chunk in self._chunks():
            found = self._decode(_VALUES.decode_lines, chunk, first)
            chosen = np.flatnonzero(wanted[first : first + len(found)]).tolist()
            for i in chosen:
                yield first + i, found[i].value

    def chunks(self) -> Iterator[bytes]:
        """The lines that were taken in, in chunks."""
        return (chunk for _, chunk in self._chunks())

    def _chunks(self) -> Iterator[tuple[int, bytes]]:
        """(number of its first op, its lines) of each chunk."""
        ends = [begin for begin, _ in self._sizes] + [self._bytes]
        for (begin, first), end in zip(self._sizes, ends[1:], strict=True):
            yield first, self._read(begin, end)

    def _read(self, begin: int, end: int) -> bytes:
        if self._file >= 0:
            return os.pread(self._file, end - begin, begin)
        at = int(np.searchsorted([b for b, _ in self._sizes], begin, "right")) - 1
        base = self._sizes[at][0]
        return self._kept[at][begin - base : end - base]

    def _decode(self, decode: Callable[[bytes], Any], data: bytes, first: int) -> Any:
        """Decode lines to ops or values.

        Raises:
            HistoryError: A value has a fault that only decoding shows, or the file has
                changed since it was opened.
        """
        try:
            return decode(data)
        except (ValueError, RecursionError) as problem:
            reason = str(problem)
        for i, line in enumerate(data.splitlines(), start=first + 1):
            try:
                _OPS.decode(line)
            except (ValueError, RecursionError) as problem:
                text = f"{self._name}:{i}: not an operation: {problem}"
                raise HistoryError(text) from None
        raise HistoryError(f"{self._name}: {reason}")
