"""The write-ahead log against files that a bad disk or a forger left in its place.

A damaged log is refused with the typed error, or read up to where it tore: what is read
is a prefix of what was written. Forged logs, with checksums that are right, may hold
anything.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reference_impls import wal
from reference_impls.wal import (
    CorruptLogError,
    Identity,
    WalError,
    WriteAheadLog,
    frame_of,
    records_of,
    recover,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IDENTITY = Identity("raft", 1, "n1")

RECORDS = st.dictionaries(
    st.text(max_size=3), st.integers() | st.text(max_size=20) | st.none(), max_size=3
)
BATCHES = st.lists(st.lists(RECORDS, min_size=1, max_size=3), max_size=4)


def log_of(payloads: list[bytes]) -> bytes:
    data, crc = b"", 0
    for payload in payloads:
        frame, crc = frame_of(payload, crc)
        data += frame
    return data


def encoded(batches: list[Any]) -> list[bytes]:
    return [json.dumps(batch).encode() for batch in [IDENTITY.as_record(), *batches]]


@st.composite
def damages(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` after one to three accidents."""
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 40)))
        match draw(st.integers(0, 5)):
            case 0:
                data = data[:begin]
            case 1:
                data = data[:begin] + draw(st.binary(max_size=20)) + data[end:]
            case 2:
                data = data[:begin] + bytes(end - begin) + data[end:]
            case 3:
                data = data[:begin] + data[begin:end] * 2 + data[end:]
            case 4:
                data += draw(st.binary(max_size=40))
            case _:
                data += bytes(draw(st.integers(1, 1_200)))
    return data


@given(batches=BATCHES, data=st.data())
def test_a_damaged_log_gives_a_prefix_of_what_was_written_or_the_typed_error(
    batches: list[Any], data: st.DataObject
) -> None:
    whole = log_of(encoded(batches))
    damaged = data.draw(damages(whole), label="damaged")
    try:
        found = recover(damaged, "wal")
    except CorruptLogError:
        return
    written = [IDENTITY.as_record(), *batches]
    assert found.batches == written[: len(found.batches)]
    assert found.note or found.end == len(damaged)
    if not found.note:
        assert damaged == whole[: found.end]


@given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda b: b * 40))
def test_noise_is_no_log(scratch: Path, data: bytes) -> None:
    path = scratch / wal.FILE_NAME
    path.write_bytes(data)
    try:
        log = WriteAheadLog(str(scratch), IDENTITY, fsync=False)
    except WalError:
        assert path.read_bytes() == data
        return
    log.close()
    assert log.recovered == []


PAYLOADS = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [
            *(b"", b"1", b"null", b"{}", b"[1]", b"[[]]", b"[{}]", b'"x"', b"[NaN]"),
            *(b"[" * 5_000, b"[{}]\xff", b"9" * 5_000, b"\0" * 600),
        ]
    ),
)


@example([*encoded([[{"a": 1}]]), b"1"])
@example([b"[" * 5_000])
@given(
    st.lists(PAYLOADS, max_size=3)
    | st.lists(PAYLOADS, max_size=3).map(
        lambda forged: [*encoded([[{"a": 1}]]), *forged]
    )
)
def test_a_forged_log_holds_records_or_is_refused(
    scratch: Path, payloads: list[bytes]
) -> None:
    path = scratch / wal.FILE_NAME
    path.write_bytes(log_of(payloads))
    for read in (opened, records_of):
        try:
            records = read(str(path))
        except WalError:
            continue
        assert all(type(record) is dict for record in records)


def opened(path: str) -> list[Any]:
    log = WriteAheadLog(os.path.dirname(path), IDENTITY, fsync=False)
    log.close()
    return list(log.recovered)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wal")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def terabyte(path: Path) -> None:
    """A file of a terabyte of zeros that takes up no space."""
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("prank", [pipe, endless, folder, terabyte])
def test_who_inspects_a_log_neither_waits_nor_reads_for_ever(
    tmp_path: Path, prank: Callable[[Path], None]
) -> None:
    prank(tmp_path / "wal")
    with pytest.raises((CorruptLogError, OSError)):
        records_of(str(tmp_path / "wal"))


def test_headers_that_lie_everywhere_cost_no_more_than_the_log_is_long() -> None:
    """Recovery looks for a later frame at every offset; here each looks like one."""
    count = 60_000
    data = bytearray()
    for n in range(count):
        words = struct.pack("<II", 12 * (count - n - 1), 0)
        data += words + struct.pack("<I", zlib.crc32(words))
    with pytest.raises(CorruptLogError):
        recover(bytes(data), "wal")
