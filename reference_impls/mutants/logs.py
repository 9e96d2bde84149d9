"""Write-ahead logs with one rule broken, for mutants of any protocol.

Each loses, or makes up, what a core relies on; what an observer sees of it depends on
the protocol. The rules are those of `reference_impls.wal`.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

from reference_impls.override import override
from reference_impls.wal import (
    HEADER,
    NEW_FILE_NAME,
    Recovery,
    WriteAheadLog,
    batch_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reference_impls.actor import Record


class FsyncOmitted(WriteAheadLog):
    """A node takes for durable what it wrote (fsync(2)).

    When the power fails, it forgets what it has answered.
    """

    @override
    def sync_frame(self) -> None:
        """Trust the page cache."""


class FsyncOfWrongFile(WriteAheadLog):
    """A node syncs another file than the one that it wrote (fsync(2)).

    That is the file to which the log is rewritten at times.
    """

    @override
    def sync_frame(self) -> None:
        fd = self.files.open(os.path.join(self.directory, NEW_FILE_NAME))
        self.files.sync(fd)
        self.files.close(fd)


class FolderNotSynced(WriteAheadLog):
    """A node does not sync the folder after a rename (fsync(2), rename(2)).

    When the power fails, a log that was rewritten is the old one again, and a new one
    isn't there at all.
    """

    @override
    def sync_names(self) -> None:
        """Trust that names follow contents."""


class TornTailBelieved(WriteAheadLog):
    """A node believes a record of which the disk holds the beginning only.

    It was never durable, and what is missing may be half of a number.
    """

    @override
    def recover(self, data: bytes) -> Recovery:
        found = super().recover(data)
        if found.note and found.batches:
            torn = data[found.end + HEADER.size :]
            believed = mended(torn.decode(errors="replace"))
            found.batches.append(believed)
            for record in believed:
                self.append(record)
        return found


def mended(torn: str) -> Sequence[Record]:
    """The records of a batch that breaks off, with every bracket closed."""
    closers = []
    for char in torn:
        if char in "[{":
            closers.append("]" if char == "[" else "}")
        elif char in "]}" and closers:
            closers.pop()
    with contextlib.suppress(ValueError):
        records: Sequence[Record] = json.loads(torn + "".join(reversed(closers)))
        return records
    return ()


class ChecksumUnchecked(WriteAheadLog):
    """A node believes what its log says, whatever the checksums say.

    A bit that flipped in a record makes another record of it.
    """

    @override
    def recover(self, data: bytes) -> Recovery:
        found = Recovery()
        while len(data) - found.end >= HEADER.size:
            length, crc, _ = HEADER.unpack_from(data, found.end)
            begin = found.end + HEADER.size
            payload = data[begin : begin + length]
            if len(payload) < length:
                break
            found.batches.append(batch_of(payload, found, self.path))
            found.last, found.end, found.crc = found.end, begin + length, crc
        return found


class ErrorsIgnored(WriteAheadLog):
    """A node goes on when its disk fails (Rebello et al., USENIX ATC 2020).

    What it could not write, or make durable, it has answered.
    """

    @override
    def write(self) -> None:
        with contextlib.suppress(OSError):
            super().write()

    @override
    def sync(self) -> None:
        with contextlib.suppress(OSError):
            super().sync()
