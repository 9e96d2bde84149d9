"""The write-ahead log: what survives, what is cut off, what is refused."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impls import wal
from reference_impls.wal import (
    CorruptLogError,
    ForeignLogError,
    Identity,
    WriteAheadLog,
    frame_of,
    records_of,
    recover,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

IDENTITY = Identity("raft", 1, "n1")

records = st.dictionaries(
    st.text(max_size=3), st.integers() | st.text(max_size=20) | st.none(), max_size=3
)
batches = st.lists(st.lists(records, min_size=1, max_size=3), min_size=1, max_size=5)


def write(directory: Path, batches: Sequence[Sequence[Any]]) -> bytes:
    """The bytes of a log to which these batches were written."""
    log = WriteAheadLog(str(directory), IDENTITY, fsync=False)
    for batch in batches:
        for record in batch:
            log.append(record)
        log.sync()
    log.close()
    return (directory / wal.FILE_NAME).read_bytes()


def read(directory: Path) -> bytes:
    return (directory / wal.FILE_NAME).read_bytes()


def with_room(directory: Path, count: int) -> list[int]:
    """The sizes that a log's file had while so many records were synced, one by one."""
    log = WriteAheadLog(str(directory), IDENTITY)
    sizes = []
    for value in range(count):
        log.append({"v": value})
        log.sync()
        sizes.append(os.stat(log.path).st_size)
    log.close()
    return sizes


def build(batches: Sequence[Sequence[Any]]) -> list[bytes]:
    """The frames of a log to which these batches were written, the identity's first."""
    payloads = [IDENTITY.as_record(), *batches]
    frames, crc = [], 0
    for payload in payloads:
        frame, crc = frame_of(json.dumps(payload).encode(), crc)
        frames.append(frame)
    return frames


def reopen(directory: Path, identity: Identity = IDENTITY) -> WriteAheadLog:
    log = WriteAheadLog(str(directory), identity, fsync=False)
    log.close()
    return log


def test_records_come_back_in_order(tmp_path: Path) -> None:
    write(tmp_path, [[{"a": 1}, {"b": "ü"}], [{"c": None}]])
    write(tmp_path, [[{"d": [1, 2]}]])
    log = reopen(tmp_path)
    assert log.recovered == [{"a": 1}, {"b": "ü"}, {"c": None}, {"d": [1, 2]}]
    assert log.note == ""
    assert records_of(log.path) == log.recovered


def test_what_was_not_synced_is_not_there(tmp_path: Path) -> None:
    log = WriteAheadLog(str(tmp_path), IDENTITY, fsync=False)
    log.append({"a": 1})
    log.close()
    assert reopen(tmp_path).recovered == []


def test_a_batch_costs_one_fdatasync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []
    log = WriteAheadLog(str(tmp_path), IDENTITY)
    monkeypatch.setattr(os, "fdatasync", syncs.append)
    for value in range(10):
        log.append({"v": value})
    log.sync()
    log.sync()
    assert syncs == [log.fd]
    log.close()


@given(batches=batches, data=st.data())
def test_a_tail_torn_at_any_byte_loses_that_batch_only(
    batches: list[list[Any]], data: st.DataObject
) -> None:
    frames = build(batches)
    whole = b"".join(frames[:-1])
    cut = data.draw(st.integers(1, len(frames[-1]) - 1), label="bytes left")
    found = recover(whole + frames[-1][:cut], "wal")
    assert found.batches[1:] == batches[:-1]
    assert found.end == len(whole)
    assert "torn tail" in found.note


@given(batches=batches)
def test_sectors_that_never_reached_the_disk_are_a_torn_tail(
    batches: list[list[Any]],
) -> None:
    big = [[{"text": "x" * 2000}]]
    *kept, last = build([*batches, *big])
    whole = b"".join(kept)
    offset = len(whole)
    sector = -(-offset // wal.SECTOR_BYTES) * wal.SECTOR_BYTES - offset
    torn = last[:sector] + bytes(wal.SECTOR_BYTES) + last[sector + wal.SECTOR_BYTES :]
    found = recover(whole + torn, "wal")
    assert found.batches[1:] == batches
    assert "torn tail" in found.note


@given(batches=batches, data=st.data())
def test_a_flipped_bit_is_never_taken_for_a_record(
    batches: list[list[Any]], data: st.DataObject
) -> None:
    good = b"".join(build(batches))
    at = data.draw(st.integers(0, len(good) - 1), label="byte")
    bit = data.draw(st.integers(0, 7), label="bit")
    bad = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
    with pytest.raises(CorruptLogError, match="no torn tail"):
        recover(bad, "wal")


@given(batches=batches.filter(lambda b: len(b) > 1), data=st.data())
def test_a_frame_that_is_missing_or_comes_twice_is_noticed(
    batches: list[list[Any]], data: st.DataObject
) -> None:
    frames = build([[{"n": n}, *batch] for n, batch in enumerate(batches)])
    at = data.draw(st.integers(1, len(frames) - 2), label="frame")
    missing = frames[:at] + frames[at + 1 :]
    twice = [*frames[: at + 1], frames[at], *frames[at + 1 :]]
    for bad in (missing, twice):
        with pytest.raises(CorruptLogError):
            recover(b"".join(bad), "wal")


def test_a_node_goes_on_after_a_torn_tail(tmp_path: Path) -> None:
    data = write(tmp_path, [[{"a": 1}], [{"b": 2}]])
    (tmp_path / wal.FILE_NAME).write_bytes(data[:-3])
    log = WriteAheadLog(str(tmp_path), IDENTITY)
    assert log.recovered == [{"a": 1}]
    assert "cut off a torn tail" in log.note
    log.append({"c": 3})
    log.sync()
    log.close()
    assert reopen(tmp_path).recovered == [{"a": 1}, {"c": 3}]


def test_a_log_torn_in_its_first_frame_begins_anew(tmp_path: Path) -> None:
    data = write(tmp_path, [])
    for cut in range(len(data)):
        (tmp_path / wal.FILE_NAME).write_bytes(data[:cut])
        assert reopen(tmp_path).recovered == []
    assert (tmp_path / wal.FILE_NAME).read_bytes() == data


def test_corruption_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path, [[{"a": 1}], [{"b": 2}]]))
    data[-20] ^= 1
    path = tmp_path / wal.FILE_NAME
    path.write_bytes(data)
    with pytest.raises(CorruptLogError, match="restore the log"):
        reopen(tmp_path)
    assert path.read_bytes() == bytes(data)


def test_most_syncs_leave_the_file_as_long_as_it_was(tmp_path: Path) -> None:
    room_bytes = wal.REAL_FILES.room_bytes
    sizes = with_room(tmp_path, 400)
    assert all(size % room_bytes == 0 for size in sizes)
    assert len(set(sizes)) == len(wal.without_room(read(tmp_path))) // room_bytes + 1
    assert reopen(tmp_path).recovered == [{"v": value} for value in range(400)]
    assert records_of(str(tmp_path / wal.FILE_NAME)) == reopen(tmp_path).recovered


def test_a_log_goes_on_where_it_ended_and_not_behind_its_room(tmp_path: Path) -> None:
    with_room(tmp_path, 3)
    with_room(tmp_path, 3)
    log = reopen(tmp_path)
    assert log.recovered == [{"v": value} for value in (0, 1, 2) * 2]
    assert log.note == ""


def test_the_last_frame_is_no_less_trusted_for_the_room_behind_it(
    tmp_path: Path,
) -> None:
    with_room(tmp_path, 3)
    path = tmp_path / wal.FILE_NAME
    data = bytearray(read(tmp_path))
    end = len(wal.without_room(bytes(data)))
    data[end - 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptLogError, match="all of its bytes are there"):
        reopen(tmp_path)
    data[end - 3 :] = bytes(len(data) - end + 3)  # its end never reached the disk
    path.write_bytes(data)
    log = reopen(tmp_path)
    assert log.recovered == [{"v": 0}, {"v": 1}]
    assert "cut off a torn tail" in log.note


@pytest.mark.parametrize(
    ("identity", "what"),
    [
        (Identity("zab", 1, "n1"), "protocol is 'raft', not 'zab'"),
        (Identity("raft", 2, "n1"), "format is 1, not 2"),
        (Identity("raft", 1, "n2"), "node is 'n1', not 'n2'"),
    ],
)
def test_the_folder_of_another_is_refused(
    tmp_path: Path, identity: Identity, what: str
) -> None:
    write(tmp_path, [[{"a": 1}]])
    with pytest.raises(ForeignLogError, match=what):
        reopen(tmp_path, identity)


def test_a_file_that_is_no_log_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / wal.FILE_NAME).write_text("once upon a time\n" * 3)
    with pytest.raises(CorruptLogError):
        reopen(tmp_path)


def test_a_record_that_replaces_the_earlier_ones_is_all_that_comes_back(
    tmp_path: Path,
) -> None:
    log = WriteAheadLog(str(tmp_path), IDENTITY)
    for value in range(100):
        log.append({"v": value})
        log.sync()
    before = (tmp_path / wal.FILE_NAME).stat().st_size
    log.append({"in the same": "batch"})
    log.append({"sum": 4950}, replaces=True)
    log.append({"v": 100})
    log.sync()
    assert (tmp_path / wal.FILE_NAME).stat().st_size < before / 5
    log.append({"v": 101})
    log.sync()
    log.close()
    assert reopen(tmp_path).recovered == [{"sum": 4950}, {"v": 100}, {"v": 101}]
    assert os.listdir(tmp_path) == [wal.FILE_NAME]


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_a_crash_while_the_log_is_rewritten_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    class PowerCut(BaseException):
        """The machine stops here."""

    def stop(*_: object) -> None:
        raise PowerCut

    log = WriteAheadLog(str(tmp_path), IDENTITY)
    log.append({"a": 1})
    log.sync()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, stop)
        log.append({"b": 2}, replaces=True)
        with pytest.raises(PowerCut):
            log.sync()
    log.close()
    log = WriteAheadLog(str(tmp_path), IDENTITY)
    assert log.recovered == [{"a": 1}]
    log.append({"c": 3}, replaces=True)
    log.sync()
    log.close()
    assert reopen(tmp_path).recovered == [{"c": 3}]


def test_a_rewritten_log_is_durable_before_it_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    log = WriteAheadLog(str(tmp_path), IDENTITY)
    monkeypatch.setattr(os, "fsync", lambda _: calls.append("fsync"))
    rename = os.rename

    def noted_rename(old: str, new: str) -> None:
        calls.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "rename", noted_rename)
    log.append({"a": 1}, replaces=True)
    log.sync()
    log.close()
    assert calls == ["fsync", "rename", "fsync"], "content, name, folder"


def test_a_rewritten_log_is_still_nobody_elses(tmp_path: Path) -> None:
    log = WriteAheadLog(str(tmp_path), IDENTITY)
    log.append({"a": 1}, replaces=True)
    log.sync()
    with pytest.raises(ForeignLogError, match="another process"):
        WriteAheadLog(str(tmp_path), IDENTITY)
    log.close()
    reopen(tmp_path)


def test_two_processes_never_share_a_log(tmp_path: Path) -> None:
    log = WriteAheadLog(str(tmp_path), IDENTITY)
    with pytest.raises(ForeignLogError, match="another process"):
        WriteAheadLog(str(tmp_path), IDENTITY)
    log.close()
    reopen(tmp_path)
