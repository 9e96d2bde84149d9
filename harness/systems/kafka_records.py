"""Kafka's record batches, version 2: how messages lie in requests, answers and logs.

(Kafka's documentation, "Message Format".) No compression, no keys and no headers in
what is written; keys and headers are passed over in what is read. The checksum is held
against the batch, as Kafka's own consumers do.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HEAD: Final = struct.Struct(">qiib")
"""Base offset, length of what follows it, epoch of the leader, version."""

BODY: Final = struct.Struct(">hiqqqhii")
"""Attributes, last offset (from the base), first and last timestamp, producer's id and
epoch, first sequence number, number of records; under the checksum."""

VERSION: Final = 2
COMPRESSION, TRANSACTIONAL, CONTROL = 0x07, 0x10, 0x20
RECORDS_MAX: Final = 1 << 16
OFFSET_MAX: Final = 1 << 62


class Producer(NamedTuple):
    """Who wrote a batch, as far as the broker cares.

    Attributes:
        number: Its id; -1 for one that has none, and may repeat itself.
        epoch: Its epoch; a later one fences it.
    """

    number: int = -1
    epoch: int = -1


NOBODY: Final = Producer()


Kind: TypeAlias = Literal["data", "txn", "abort", "commit", "other"]


class Batch(NamedTuple):
    """A batch of a log.

    Attributes:
        last: The offset of its last record.
        producer: The id of who wrote it.
        kind: `data`; `txn` for data of a transaction; `abort` and `commit` for the mark
            at the end of one; `other` for marks of other sorts.
        records: Offset and value of each record of data.
    """

    last: int
    producer: int
    kind: Kind
    records: Sequence[tuple[int, bytes]]


def encoded(
    values: Sequence[bytes],
    now_ms: int,
    producer: Producer = NOBODY,
    sequence: int = -1,
    *,
    transactional: bool = False,
) -> bytes:
    """One batch with these values.

    Args:
        values: The values.
        now_ms: The time at which they are written.
        producer: Who writes it.
        sequence: The number of its first record among those of the producer.
        transactional: Whether it belongs to the producer's transaction.
    """
    records = b""
    for i, value in enumerate(values):
        record = b"\0" + varint(0) + varint(i) + varint(-1)
        record += varint(len(value)) + value + varint(0)
        records += varint(len(record)) + record
    attributes = TRANSACTIONAL if transactional else 0
    body = BODY.pack(
        attributes, len(values) - 1, now_ms, now_ms, *producer, sequence, len(values)
    )
    body += records
    checksum = struct.pack(">I", crc32c(body))
    return HEAD.pack(0, 4 + 1 + 4 + len(body), -1, VERSION) + checksum + body


def decoded(data: bytes) -> Iterator[Batch]:
    """The batches of an answer; the last one may be cut off, and is left out then.

    Raises:
        ValueError: They are none of ours, or damaged.
    """
    at = 0
    while at + HEAD.size + 4 + BODY.size <= len(data):
        base, length, _, version = HEAD.unpack_from(data, at)
        end = at + 8 + 4 + length
        body = at + HEAD.size + 4
        if version != VERSION or end < body + BODY.size:
            raise ValueError(f"no batch of version {VERSION} at byte {at}")
        if not 0 <= base <= OFFSET_MAX:
            raise ValueError(f"a batch at offset {base}")
        if end > len(data):
            return
        (checksum,) = struct.unpack_from(">I", data, at + HEAD.size)
        if checksum != crc32c(data[body:end]):
            raise ValueError(f"the checksum of the batch at offset {base} is wrong")
        yield _batch(base, data[body:end])
        at = end


def _batch(base: int, body: bytes) -> Batch:
    attributes, last, _, _, number, _, _, count = BODY.unpack_from(body)
    if attributes & COMPRESSION:
        raise ValueError("a batch is compressed")
    if not 0 <= count <= RECORDS_MAX or not 0 <= last <= RECORDS_MAX:
        raise ValueError(f"a batch of {count} records")
    at, records = BODY.size, []
    for _ in range(count):
        length, at = read_varint(body, at)
        record, at = body[at : at + length], at + length
        if length < 0 or at > len(body):
            raise ValueError("a record is longer than its batch")
        records.append(_record(record))
    kind: Kind
    if attributes & CONTROL:
        kind = MARKS.get(records[0].key, "other") if records else "other"
        return Batch(base + last, number, kind, ())
    values = [(base + record.delta, record.value) for record in records]
    kind = "txn" if attributes & TRANSACTIONAL else "data"
    return Batch(base + last, number, kind, values)


class _Record(NamedTuple):
    delta: int
    key: bytes
    value: bytes


MARKS: Final[Mapping[bytes, Kind]] = {
    b"\0\0\0\0": "abort",
    b"\0\0\0\1": "commit",
}
"""The keys of the marks at the end of transactions: a version, and a type."""


def _record(record: bytes) -> _Record:
    _, at = read_varint(record, 1)
    delta, at = read_varint(record, at)
    if not 0 <= delta <= RECORDS_MAX:
        raise ValueError("a record is outside of its batch")
    parts = []
    for _ in range(2):
        length, at = read_varint(record, at)
        end = at + max(length, 0)
        if end > len(record):
            raise ValueError("a record is cut off")
        parts.append(record[at:end])
        at = end
    return _Record(delta, *parts)


def varint(number: int) -> bytes:
    """A signed number in zigzag form, seven bits a byte."""
    return unsigned_varint(2 * number if number >= 0 else -2 * number - 1)


def unsigned_varint(number: int) -> bytes:
    """A number in seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The signed number at a place, and the place behind it; raises ValueError."""
    number, at = read_unsigned_varint(data, at)
    return number >> 1 ^ -(number & 1), at


def read_unsigned_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place behind it; raises ValueError."""
    number = 0
    for i in range(10):
        if at + i >= len(data):
            raise ValueError("a number is cut off")
        number |= (data[at + i] & 0x7F) << 7 * i
        if not data[at + i] & 0x80:
            return number, at + i + 1
    raise ValueError("a number has no end")


def crc32c(data: bytes) -> int:
    """The checksum of Castagnoli's polynomial; cost: linear, a microsecond a byte."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _shifted(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


_TABLE: Final = tuple(map(_shifted, range(256)))
