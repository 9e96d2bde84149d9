"""The write-ahead log of nodes that run on cores, loaded by name as cores are.

In the os world a node opens it itself, in its data folder (`reference_impls.runtime`).
The simulator opens the same log over a file system of its own.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

from harness.errors import SplitbrainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.worlds.places import NodePlace
    from reference_impls.actor import Record
    from reference_impls.files import Files, Log

WAL = "reference_impls.wal"


class UnusableLogError(SplitbrainError):
    """A node can't use its log; says why."""


def open_log(
    protocol: str,
    format_version: int,
    node: str,
    files: Files,
    *,
    fsync: bool,
    kind: type[Any] | None = None,
) -> Log:
    """The log of a node in the root folder of `files`.

    Args:
        protocol: Whose log it is, with `format_version` and `node`.
        format_version: Of the protocol's records.
        node: The node's name.
        files: The file system.
        fsync: Whether it waits for the disk.
        kind: The class of the log, if another than the shipped one.

    Raises:
        UnusableLogError: The log is corrupt, or another's.
        OSError: The disk failed.
    """
    wal = importlib.import_module(WAL)
    identity = wal.Identity(protocol, format_version, node)
    try:
        log: Log = (kind or wal.WriteAheadLog)("", identity, fsync=fsync, files=files)
    except wal.WalError as flaw:
        raise UnusableLogError(str(flaw)) from flaw
    return log


@functools.cache
def file_name() -> str:
    """What a log's file is called in its folder."""
    name: str = importlib.import_module(WAL).FILE_NAME
    return name


def records_in(data: bytes, name: str) -> Sequence[Record]:
    """The records of a log with these contents.

    Raises:
        UnusableLogError: It is corrupt.
    """
    wal = importlib.import_module(WAL)
    try:
        records: Sequence[Record] = wal.records_in(data, name)
    except wal.WalError as flaw:
        raise UnusableLogError(str(flaw)) from flaw
    return records


def read_log(place: NodePlace) -> Sequence[Record]:
    """The records in a node's data folder.

    Raises:
        UnusableLogError: The log is corrupt, or its file is none of a node's.
        OSError: There is none.
    """
    wal = importlib.import_module(WAL)
    path = str(place.data_dir / wal.FILE_NAME)
    try:
        data: bytes = wal.contents_of(path)
    except wal.WalError as flaw:
        raise UnusableLogError(str(flaw)) from flaw
    return records_in(data, path)
