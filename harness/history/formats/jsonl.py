"""Histories as JSON: the lines of our own run folders, and the JSON of other tools.

One `Op` a line: `{"index":0,"time":12345,"process":0,"type":"invoke","f":"write",
"value":3,"key":1,"node":"n1"}`. Fields that are empty are left out.

Writing: one write() a line to a file opened for appending, so a controller killed with
-9 leaves every operation it had recorded, and at worst a torn last line (a full disk
can tear it; the kernel doesn't). Values that JSON has no notation for are written as
EDN, in an object with one field: `{"#edn":"1/2"}`; so `value` and `key` read back
unchanged.

Reading our own run folders is strict: a history decides verdicts, so a damaged one is
refused and never repaired in silence. Reading other files is as lenient as `jepsen_edn`
is, with the same code. They may be one array or values over several lines; `index` and
`time` may be missing, have gaps or be floats; `client` may stand for `process`; other
fields of an operation are kept in `extra`.
"""

from __future__ import annotations

import itertools
import os
import re
from array import array
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from harness.errors import HarnessError
from harness.history import History, HistoryError, Op, Pairing
from harness.history.columns import ColumnsBuilder
from harness.history.formats import (
    dbcop,
    edn,
    etcd,
    foreign,
    jepsen_edn,
    json_values,
)
from harness.history.formats.lean import LeanOps, one_a_line
from harness.history.formats.source import LINE_BYTES_MAX, Source
from harness.host.collector import collector_paused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DECODER = msgspec.json.Decoder(Op)


def _plain(value: Any) -> str:
    """The plain text of EDN's kinds of text; `_spelled` has replaced other values."""
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"JSON has no notation for {type(value).__name__}")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)

EDN_FIELD: Final = "#edn"
"""The only field of an object that stands for a value in EDN."""

_HAS_EDN: Final = b'"#edn"'
_EXACT: Final = {int, str, bool, type(None), edn.Keyword, edn.Symbol, edn.Char}
"""Types of values that read back from JSON as something equal."""
_EDN_ONLY: Final = (Decimal, Fraction, edn.Tagged)


def _spelled(value: Any) -> Any:
    """`value`, in which EDN stands for values that JSON would change or can't hold."""
    kind = type(value)
    if kind in _EXACT:
        return value
    if kind is list or isinstance(value, (list, tuple)):
        if _EXACT.issuperset(map(type, value)):
            return value
        return [_spelled(item) for item in value]
    if isinstance(value, dict):
        if all(isinstance(name, str) for name in value) and EDN_FIELD not in value:
            if _EXACT.issuperset(map(type, value.values())):
                return value
            return {name: _spelled(item) for name, item in value.items()}
        return {EDN_FIELD: edn.dumps(value)}
    if kind is float:
        return value if value - value == 0 else {EDN_FIELD: edn.dumps(value)}
    if isinstance(value, _EDN_ONLY):
        return {EDN_FIELD: edn.dumps(value)}
    return value


def _unspelled(value: Any) -> Any:
    """The value that `_spelled` turned into `value`."""
    if isinstance(value, list):
        return [_unspelled(item) for item in value]
    if isinstance(value, dict):
        text = value.get(EDN_FIELD)
        if len(value) == 1 and isinstance(text, str):
            return edn.loads(text, source=EDN_FIELD)
        return {name: _unspelled(item) for name, item in value.items()}
    return value


_SPELLED_FIELDS: Final = ("value", "key", "error", "extra")


def encode_line(op: Op) -> bytes:
    """The line for `op`, with its newline.

    Raises:
        HistoryError: The op holds something that neither JSON nor EDN has a form for.
    """
    try:
        if not (
            op.extra is None
            and type(op.key) in _EXACT
            and type(op.error) in _EXACT
            and type(op.value) in _EXACT
        ):
            for name in _SPELLED_FIELDS:
                field = getattr(op, name)
                if (spelled := _spelled(field)) is not field:
                    op = msgspec.structs.replace(op, **{name: spelled})
        line = _ENCODER.encode(op) + b"\n"
    except (HistoryError, TypeError, ValueError, RecursionError) as problem:
        raise HistoryError(f"op {op.index} can't be written: {problem}") from None
    if len(line) > LINE_BYTES_MAX:
        raise HistoryError(f"op {op.index} can't be written: {len(line)} bytes long")
    return line


class HistoryWriter:
    """Records a run's operations as they happen.

    Raises:
        HarnessError: From the constructor, if the file exists or can't be made; from
            `record`, if it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ops = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, 0o644)
        except OSError as problem:
            raise HarnessError(f"cannot make {path}: {problem.strerror}") from problem

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, op: Op) -> Op:
        """Give `op` the next index, write it, and return it as it was written.

        A result that JSON can't hold comes from a faulty client. Then nobody knows what
        the system did, so the completion becomes `info`.
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
        """Close the file; a second call does nothing."""
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
            ) from problem


class HistoryFollower:
    """Reads a history while a `HistoryWriter` writes it, each line once.

    Raises:
        HistoryError: From both methods; names file and line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ops: list[Op] = []
        self._columns = ColumnsBuilder()
        self._read_bytes = 0

    @property
    def events(self) -> int:
        """The number of ops read so far."""
        return len(self._ops)

    def read(self) -> None:
        """Take in the lines that have come since. Cost: linear in these."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read_bytes)
                fresh = file.read()
        except FileNotFoundError:  # the run has not begun yet
            return
        except OSError as problem:
            raise HistoryError(f"{self.path}: {problem.strerror}") from None
        whole = fresh[: fresh.rfind(b"\n") + 1]
        if not whole:
            return
        self._read_bytes += len(whole)
        name, before = str(self.path), len(self._ops)
        found = _plain_ops(name, whole, before)
        if found is None:
            found = _decode(name, whole, before, tolerate_torn_tail=False)
        self._columns.feed(found)
        self._ops += found

    def history(self) -> History:
        """The history as far as it was read. Cost: linear, 0.1 us an op."""
        return jepsen_edn.history_of(
            str(self.path),
            self._ops.copy(),
            range(1, len(self._ops) + 1),
            strict=True,
            independent=False,
            columns=self._columns.so_far(),
        )


def read(
    source: Source,
    *,
    strict: bool = False,
    independent: bool | None = None,
    lean: bool = False,
    tolerate_torn_tail: bool = False,
) -> History:
    """The history in `source`.

    Cost: linear, about a second for a million ops as we write them, ten for others.

    Args:
        source: An open file.
        strict: Read only lines as we write them. Otherwise an op's index is its
            position.
        independent: Split clients' `[k v]` values into key and value; None does so if
            they can't be anything else. With `strict` nothing is split.
        lean: Leave ops in the file (`LeanOps`), if possible.
        tolerate_torn_tail: Leave out a last line without newline that isn't JSON, as a
            crashed controller may leave one.

    Raises:
        HistoryError: Names file and line.
    """
    with collector_paused():
        has_no_lines = source.head.lstrip()[:1] == b"[" or b"\n" not in source.head
        if not strict and has_no_lines:
            return _read_foreign(source.name, source.blocks(), [], independent)
        chunks = source.chunks()
        if lean and not independent:
            left = LeanOps(Path(source.name), is_packed=not source.can_be_read_again)
            history, chunks = _read_lean(source.name, left, chunks)
            if history is not None:
                return history
        ops: list[Op] = []
        builder = ColumnsBuilder()
        for chunk in chunks:
            found = _plain_ops(source.name, chunk, len(ops))
            if found is None and not strict:
                rest = itertools.chain([chunk], chunks)
                return _read_foreign(source.name, rest, ops, independent)
            if found is None:
                found = _decode(
                    source.name, chunk, len(ops), tolerate_torn_tail=tolerate_torn_tail
                )
            if not strict:
                # The order of lines is the order of events, whatever indices they have.
                for i, op in enumerate(found, start=len(ops)):
                    op.index = i
            builder.feed(found)
            ops += found
        return jepsen_edn.history_of(
            source.name,
            ops,
            range(1, len(ops) + 1),
            strict=strict,
            independent=False if strict else independent,
            columns=builder.columns(),
        )


def _read_lean(
    name: str, ops: LeanOps, chunks: Iterator[bytes]
) -> tuple[History | None, Iterator[bytes]]:
    """The history with its ops left in the file, if all are as we write them.

    Returns:
        The history and no chunks; or None and all chunks, to be read in another way.
    """
    pairing = Pairing(lambda i: f"{name}:{i + 1}")
    for chunk in chunks:
        try:
            is_plain = _HAS_EDN not in chunk and ops.add(chunk, pairing)
        except HistoryError:
            is_plain = False
        if not is_plain:
            return None, itertools.chain(ops.chunks(), [chunk], chunks)
    try:
        bystanders = pairing.finish()
    except HistoryError:
        return None, ops.chunks()
    ops.set_aside(bystanders)
    history = History(
        ops, source=name, completion=pairing.completion, bystanders=bystanders
    )
    history.lines = range(1, len(ops) + 1)
    return history, chunks


def _read_foreign(
    name: str, blocks: Iterable[bytes], before: list[Op], independent: bool | None
) -> History:
    """The history of `before` and of `blocks`, which hold operations of other tools.

    Raises:
        HistoryError: Names file and line.
    """
    ops = before
    lines = array("L", range(1, len(ops) + 1))
    values = json_values.values(name, blocks, len(ops) + 1)
    for line, value in (entries := _unwrapped(values)):
        if not ops and dbcop.looks_so(value):
            return dbcop.read(name, itertools.chain([(line, value)], entries))
        if not ops and etcd.looks_so(value):
            return etcd.read(name, itertools.chain([(line, value)], entries))
        try:
            ops.append(_foreign_op(value, len(ops)))
        except (HistoryError, RecursionError) as problem:
            raise HistoryError(f"{name}:{line}: {problem}") from None
        lines.append(line)
    return jepsen_edn.history_of(
        name, ops, lines, strict=False, independent=independent
    )


_WRAPPERS: Final = ("history", "operations", "ops", "events")


def _unwrapped(values: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """The operations of `values`, taken out of an object that has them in a field."""
    for line, value in values:
        inside: list[Any] | None = None
        if isinstance(value, dict) and "type" not in value:
            lists = [value.get(name) for name in _WRAPPERS]
            inside = next((found for found in lists if _are_objects(found)), None)
        if inside is None:
            yield line, value
        else:
            yield from ((line, entry) for entry in inside)


def _are_objects(found: Any) -> bool:
    return (
        isinstance(found, list)
        and bool(found)
        and all(isinstance(entry, dict) for entry in found)
    )


_CLIENT_FIELDS: Final = ("client", "client_id", "clientId", "ClientId")


def _foreign_op(entry: Any, index: int) -> Op:
    """The op that a JSON object stands for.

    Raises:
        HistoryError: The object is no operation; says why, but not where.
    """
    entry = _unspelled(entry)
    if not isinstance(entry, dict):
        raise HistoryError(f"an operation is an object, not {entry!r:.60}")
    if entry.get("type") is None and (name := foreign.named(entry)):
        raise HistoryError(name)
    for name in ("type", "f", "process"):
        if isinstance(text := entry.get(name), str):
            entry[name] = text.removeprefix(":")
    if isinstance(kind := entry.get("type"), str):
        entry["type"] = kind.lower()
    if entry.get("process") is None:
        for name in _CLIENT_FIELDS:
            if entry.get(name) is not None:
                entry["process"] = entry.pop(name)
                break
    if isinstance(extra := entry.get("extra"), dict):
        del entry["extra"]
        entry = {**extra, **entry}
    return jepsen_edn.op_from_map(entry, index)


def write(history: Iterable[Op]) -> Iterator[bytes]:
    """The lines of a history."""
    return map(encode_line, history)


def _plain_ops(name: str, chunk: bytes, before: int) -> list[Op] | None:
    """The ops of a chunk of whole lines; None if a line is not as we write it.

    Raises:
        HistoryError: A value in EDN is damaged.
    """
    found = one_a_line(chunk, _DECODER)
    if found is not None and _HAS_EDN in chunk:
        for i, op in enumerate(found, start=before + 1):
            _unspell(op, f"{name}:{i}")
    return found


def _unspell(op: Op, where: str) -> None:
    try:
        for field in _SPELLED_FIELDS:
            setattr(op, field, _unspelled(getattr(op, field)))
    except (HistoryError, RecursionError) as problem:
        raise HistoryError(f"{where}: {problem}") from None


def _decode(
    name: str, chunk: bytes, before: int, *, tolerate_torn_tail: bool
) -> list[Op]:
    """The ops of a chunk that `_plain_ops` refuses, decoded line by line.

    `before` is how many lines came before it.

    Raises:
        HistoryError: Names the first wrong line and its fault.
    """
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
        if _HAS_EDN in line:
            _unspell(ops[-1], f"{name}:{before + i}")
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
