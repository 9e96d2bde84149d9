"""A write-ahead log: records survive a crash in order, each whole or not at all.

The file is a chain of frames: a header of three little-endian words (payload length,
checksum of the payload, checksum of those two), then the payload, JSON. One frame holds
what one `sync` made durable, so that a batch costs one write and one fdatasync. The
payload checksum of a frame starts from that of the frame before it (CRC-32, chained),
so a frame that was dropped, repeated or moved is noticed as well as one that was
altered. The first frame says whose log this is: protocol, format version, node.

Recovery tells three endings apart.

- *Torn tail.* The crash came between write and fdatasync: the last frame is shorter
  than it says, or one of its 512-byte sectors never reached the disk and reads as
  zeros. Nobody was told that it was durable. It is cut off, and a note says so.
- *Corruption.* A frame is complete, yet isn't what was written; or a bad frame is
  followed by a good one, which was written only once the bad one was durable. A node
  that went on from here might have forgotten a promise, so it must stop:
  `CorruptLogError`.
- *Another's log.* The protocol, version or node is wrong: `ForeignLogError`.

Behind the last frame there may be zeros, room for later ones (`Files.room_bytes`). Most
frames then leave the file as long as it was, and fdatasync need not write its inode: on
ext4 a third of its time. A frame ends with a bracket of JSON, so no zero at the end of
a file belongs to one.

A record may replace all earlier ones (log compaction). Then the batch goes to a new
file, which takes the old one's name once it is durable: at every moment, the name leads
to a whole log, the old or the new.

Choices: a bit that flips within the last frame counts as corruption, not as a torn
tail, unless it hits the length of a frame that is incomplete anyway. etcd draws the
same line.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from reference_impls.files import RealFiles
from reference_impls.json_text import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reference_impls.actor import Record
    from reference_impls.files import Files

REAL_FILES = RealFiles()

FILE_NAME = "wal"
NEW_FILE_NAME = "wal.new"
"""A log that is being rewritten. It doesn't count before it is renamed."""
LAYOUT_VERSION = 1
"""Version of the frames; the protocol's own records have a format version too."""

READ_BYTES_MAX = 1 << 30
"""Longest log that `records_of` reads."""

HEADER = struct.Struct("<III")
SECTOR_BYTES = 512


class WalError(Exception):
    """The log can't be used; the message says why and what to do."""


class CorruptLogError(WalError):
    """The log isn't what was written."""


class ForeignLogError(WalError):
    """The log belongs to another protocol, version, node or running process."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The protocol, record format and node that a log belongs to."""

    protocol: str
    format_version: int
    node: str

    def as_record(self) -> dict[str, Any]:
        """The first record of the file."""
        return {
            "wal": LAYOUT_VERSION,
            "protocol": self.protocol,
            "format": self.format_version,
            "node": self.node,
        }


@dataclass(slots=True)
class Recovery:
    """What reading a log found.

    Attributes:
        batches: The payload of every good frame, in order.
        last: The offset of the last good frame.
        end: The offset of the next frame, in bytes.
        crc: The chained checksum at `end`.
        note: What was cut off and why; empty if nothing was.
    """

    batches: list[Any] = field(default_factory=list)
    last: int = 0
    end: int = 0
    crc: int = 0
    note: str = ""


class Rewritten(NamedTuple):
    """A file that is to take the log's place: its path, descriptor, end, checksum."""

    path: str
    fd: int
    end: int
    crc: int


class WriteAheadLog:
    """An open log. `append` buffers; `sync` makes everything appended durable.

    A record that `replaces` all before it makes `sync` rewrite the log, at the price of
    two more flushes, of the new file's content and of its name.

    Args:
        directory: Where the file lies; made if it isn't there.
        identity: What the log must belong to.
        fsync: False trusts the page cache: records survive a crash of the process, but
            not of the machine.
        files: The file system that it lies in.

    Attributes:
        recovered: The records found, in order.
        note: What recovery cut off; empty if nothing.

    Raises:
        CorruptLogError, ForeignLogError: From the constructor; the file is
            left as it is.
        OSError: The disk failed. After a failed `sync` nothing is known about what is
            durable, so the process must end (a second fdatasync may lie).
    """

    def __init__(
        self,
        directory: str,
        identity: Identity,
        *,
        fsync: bool = True,
        files: Files = REAL_FILES,
    ) -> None:
        files.make_folder(directory)
        self.path = os.path.join(directory, FILE_NAME)
        self.directory = directory
        self.identity = identity
        self.fsync = fsync
        self.files = files
        self.pending: list[Record] = []
        self.replaces = False
        self.dirty = False
        self.size = 0  # of the file, room included
        self.rewritten: Rewritten | None = None
        self.fd = files.open(self.path)
        try:
            self._lock()
            contents = files.read(self.fd)
            data = without_room(contents)
            found = self.recover(data)
            self._adopt(found, data, len(contents))
        except BaseException:  # whatever happened, closing releases the lock
            files.close(self.fd)
            raise
        self.note = found.note
        self.recovered: Sequence[Record] = [
            record for batch in found.batches[1:] for record in batch
        ]

    def append(self, record: Record, *, replaces: bool = False) -> None:
        """Add a record to the next batch; with `replaces`, in place of all earlier."""
        if replaces:
            self.replaces = True
            self.pending.clear()
        self.pending.append(record)

    def write(self) -> None:
        """Hand the batch to the operating system as one frame; not durable yet."""
        if not self.pending:
            return
        assert self.rewritten is None
        batch = encode(self.pending).encode()
        self.pending.clear()
        if self.replaces:
            self.replaces = False
            self._write_anew(batch)
            return
        self._write(batch)
        self.dirty = True

    def sync(self) -> None:
        """Write the batch, if there is one, and wait until it is durable."""
        self.write()
        if self.rewritten is not None:
            self._put_in_place(self.rewritten)
        elif self.dirty:
            self.dirty = False
            if self.fsync:
                self.sync_frame()

    def close(self) -> None:
        """Close the file. Records not yet synced are lost, as in a crash."""
        self.files.close(self.fd)

    # What the log relies on

    def recover(self, data: bytes) -> Recovery:
        """Read the file's contents as far as they are good; see `recover`."""
        return recover(data, self.path)

    def sync_frame(self) -> None:
        """Make durable what was appended to the file."""
        self.files.sync_data(self.fd)

    def sync_names(self) -> None:
        """Make the names in the folder durable, not only contents."""
        self.files.sync_folder(self.directory)

    # Inside

    def _lock(self) -> None:
        """Hold the file for the life of the process: two writers would ruin it.

        A file that lost its name between open and lock was rewritten by the process
        that holds the new one.
        """
        if not self.files.lock(self.fd, self.path):
            raise ForeignLogError(f"{self.path}: another process is using this log")

    def _adopt(self, found: Recovery, data: bytes, size: int) -> None:
        """Check whose log it is, cut off what isn't good, and be ready to append.

        Args:
            found: What was read.
            data: The file's contents without the room behind them.
            size: The file's.

        What was read may never have left the page cache: the last life may have died
        between write and fdatasync, or because that failed. This life is about to rely
        on it. After a failure, Linux takes the pages for clean and a second fdatasync
        says that all is well, so the last frame is written again before it is synced;
        all earlier ones were durable when it was written.
        """
        if found.batches:
            refuse_foreign(found.batches[0], self.identity, self.path)
        if found.end < size:
            self.files.truncate(self.fd, found.end)
        self.end, self.crc = found.end, found.crc
        if not found.batches:
            frame, self.crc = self._identity_frame()
            self.files.write(self.fd, frame, 0)
            self.end = len(frame)
        elif self.fsync:
            self.files.write(self.fd, data[found.last : found.end], found.last)
        if self.fsync:
            self.files.sync(self.fd)
            self.sync_names()

    def _write_anew(self, batch: bytes) -> None:
        """Begin a new file with `batch`, which is to take the old one's place.

        The new file is locked before anyone can find it under the log's name.
        """
        path = os.path.join(self.directory, NEW_FILE_NAME)
        fd = self.files.open(path, empty=True)
        try:
            self.files.lock(fd, path)
            first, crc = self._identity_frame()
            second, crc = frame_of(batch, crc)
            self.files.write(fd, first + second, 0)
        except BaseException:  # the old log is still the log
            self.files.close(fd)
            raise
        self.rewritten = Rewritten(path, fd, len(first) + len(second), crc)

    def _put_in_place(self, new: Rewritten) -> None:
        """Make the new file durable, then give it the log's name."""
        self.rewritten = None
        try:
            if self.fsync:
                self.files.sync(new.fd)
            self.files.rename(new.path, self.path)
            if self.fsync:
                self.sync_names()
        except BaseException:  # the old log is still the log
            self.files.close(new.fd)
            raise
        self.files.close(self.fd)
        self.fd, self.end, self.crc = new.fd, new.end, new.crc
        self.size = new.end

    def _identity_frame(self) -> tuple[bytes, int]:
        """The first frame of every file, and its checksum."""
        return frame_of(encode(self.identity.as_record()).encode(), 0)

    def _write(self, payload: bytes) -> None:
        frame, crc = frame_of(payload, self.crc)
        end = self.end + len(frame)
        self.files.write(self.fd, frame + self._room_behind(end), self.end)
        self.end = end
        self.crc = crc

    def _room_behind(self, end: int) -> bytes:
        """Zeros to write behind a frame that ends there, if the file ends before."""
        if not self.fsync or end <= self.size:
            return b""
        self.size = end + -end % self.files.room_bytes
        return bytes(self.size - end)


def frame_of(payload: bytes, crc: int) -> tuple[bytes, int]:
    """A frame that follows one with checksum `crc`, and its own checksum."""
    crc = zlib.crc32(payload, crc)
    words = struct.pack("<II", len(payload), crc)
    return words + struct.pack("<I", zlib.crc32(words)) + payload, crc


def without_room(contents: bytes) -> bytes:
    """A file's contents up to the last byte that isn't zero."""
    return contents.rstrip(b"\0")


class Flaw(NamedTuple):
    """What is wrong with a frame, and whether all of its bytes are there."""

    text: str
    complete: bool


def recover(data: bytes, name: str) -> Recovery:
    """Read a log as far as it is good.

    Raises:
        CorruptLogError: Something that had been durable isn't there any more.
    """
    found = Recovery()
    while found.end < len(data):
        payload = read_frame(data, found.end, found.crc)
        if isinstance(payload, Flaw):
            refuse_corruption(data, found, payload, name)
            lost = len(data) - found.end
            found.note = (
                f"{name}: cut off a torn tail of {lost} bytes at offset {found.end} "
                f"({payload.text}); it was never durable"
            )
            break
        found.batches.append(batch_of(payload, found, name))
        found.crc = zlib.crc32(payload, found.crc)
        found.last = found.end
        found.end += HEADER.size + len(payload)
    return found


def batch_of(payload: bytes, found: Recovery, name: str) -> Any:
    """What a good frame holds: the log's identity in the first, records in others.

    Raises:
        CorruptLogError: Its checksum is right, and yet no node wrote it.
    """
    try:
        batch = decode(payload.decode())
    except (ValueError, RecursionError):
        batch = None
    is_first = not found.batches
    if not is_first and not (
        type(batch) is list and all(type(record) is dict for record in batch)
    ):
        raise CorruptLogError(
            f"{name}: the frame at offset {found.end} holds no records, though its "
            "checksum is right: this was not written by a node"
        )
    return batch


def read_frame(data: bytes, start: int, crc: int) -> bytes | Flaw:
    """The payload of the frame at `start`, which follows one with checksum `crc`."""
    if len(data) - start < HEADER.size:
        return Flaw("the frame's header is incomplete", complete=False)
    length, payload_crc, header_crc = HEADER.unpack_from(data, start)
    if zlib.crc32(data[start : start + 8]) != header_crc:
        return Flaw("the frame's header has a wrong checksum", complete=True)
    payload = data[start + HEADER.size : start + HEADER.size + length]
    if len(payload) < length:
        text = f"the frame has {len(payload)} of {length} bytes"
        return Flaw(text, complete=False)
    if zlib.crc32(payload, crc) != payload_crc:
        return Flaw("the frame's payload has a wrong checksum", complete=True)
    return payload


def refuse_corruption(data: bytes, found: Recovery, flaw: Flaw, name: str) -> None:
    """Raise CorruptLogError unless the bad frame at the end can be a torn tail."""
    later = next(later_frames(data, found.end), None)
    if later is not None:
        why = f"a later frame at offset {later} is intact"
    elif flaw.complete and not has_lost_sector(data, found.end):
        why = "all of its bytes are there"
    else:
        return
    raise CorruptLogError(
        f"{name}: {flaw.text} at offset {found.end}, after {len(found.batches)} good "
        f"frames, and this is no torn tail: {why}. The node may have forgotten what it "
        "promised; restore the log, or remove the data folder and let the node join "
        "as a new member"
    )


def later_frames(data: bytes, start: int) -> Iterator[int]:
    """Offsets after `start` at which a whole frame seems to begin.

    The chained checksum of a frame after a gap can't be verified, as it starts from
    what is lost; its header can, and its payload must be JSON. Cost: linear, with a
    small factor, since a candidate needs a plausible length first.
    """
    for offset in range(start + 1, len(data) - HEADER.size):
        length, _, header_crc = HEADER.unpack_from(data, offset)
        end = offset + HEADER.size + length
        if end > len(data) or zlib.crc32(data[offset : offset + 8]) != header_crc:
            continue
        if data[offset + HEADER.size] not in b"[{":
            continue  # before a copy of what may be the whole rest
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(data[offset + HEADER.size : end])
            yield offset


def has_lost_sector(data: bytes, start: int) -> bool:
    """True when a sector of the file from `start` on never reached the disk."""
    while start < len(data):
        end = min(len(data), (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if not any(data[start:end]):
            return True
        start = end
    return False


def refuse_foreign(first: Any, identity: Identity, name: str) -> None:
    """Raise ForeignLogError unless the first record is this node's."""
    expected = identity.as_record()
    if first == expected:
        return
    if not isinstance(first, dict):
        raise ForeignLogError(f"{name}: not a log of a reference node")
    wrong = [
        f"{key} is {first.get(key)!r}, not {value!r}"
        for key, value in expected.items()
        if first.get(key) != value
    ]
    raise ForeignLogError(
        f"{name}: this data folder belongs to another: {'; '.join(wrong)}"
    )


def records_of(path: str) -> Sequence[Record]:
    """The records of a log that nobody has open, for tests and checkers.

    Raises:
        CorruptLogError: As in `recover`; or it is no file that a node would write.
        OSError: The file can't be opened or read.
    """
    return records_in(contents_of(path), path)


def records_in(data: bytes, name: str) -> Sequence[Record]:
    """The records of a log with these contents. Raises CorruptLogError."""
    found = recover(without_room(data), name)
    return [record for batch in found.batches[1:] for record in batch]


def contents_of(path: str) -> bytes:
    """All of a log's file, if it is one that a node would write.

    Raises:
        CorruptLogError: It is none.
        OSError: There is none.
    """
    # A node may have put a pipe there, or a link, or a terabyte of zeros.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > READ_BYTES_MAX:
            raise CorruptLogError(
                f"{path}: not a regular file of at most {READ_BYTES_MAX >> 20} MiB"
            )
        return file.read()
