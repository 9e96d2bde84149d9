"""Cobra's logs: transactions in binary, a file per session (`T0.log`, ...).

    S txn                            a transaction begins
    R txn write key value            a read of the value of a transaction's write
    W write key value                a write
    C txn                            the transaction commits

A record is a letter and big-endian numbers of 8 bytes (Tan et al. 2020; the shape is
that of the loaders of CobraVerifier, PolySI and AWDIT). Keys and values are hashes, so
a written value is named by its `write`, which no other write has. Reading only.

As in `plume`, each transaction becomes one completion, f "txn", its process is the
session, and nothing is known of real time. A transaction that has not committed when
the log ends is one of unknown outcome.

A read of an initial value or of nothing is a read of None. Reads of values that Cobra's
own garbage collection wrote are left out, since its writes are in no log. A read of a
deleted key doesn't tell which transaction deleted it, so a history that has one is
refused.
"""

from __future__ import annotations

import os
import re
import struct
from typing import TYPE_CHECKING, Any, Final

from harness.history import History, HistoryError, Op, OpType
from harness.host.collector import collector_paused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from harness.history.formats.source import Source

SIGN: Final = re.compile(rb"S(?=[^\n]{0,8}[\x00-\x08]).{8}(?:[RWC]|\Z)", re.DOTALL)
"""A transaction's start and its number in 8 bytes, then the letter of a read, a write
or its end, if the log goes on."""

_INITIAL: Final = 0xBEBEEBEE
_NULL: Final = 0xDEADBEEF
_DELETED: Final = 0xABCDEFAB
_COLLECTOR: Final = frozenset({0x23332333, 0x66666666})
"""The numbers that stand for writes of Cobra's garbage collection."""

_NUMBERS: Final = {
    letter: struct.Struct(f">{count}q")
    for letter, count in ((b"S", 1), (b"R", 4), (b"W", 3), (b"C", 1))
}


def logs_of(folder: Path) -> list[Path]:
    """The logs in a folder, by the numbers in their names; empty if it has others."""
    if not os.path.isdir(folder):
        return []
    logs = sorted(folder.glob("*.log"), key=lambda path: (len(path.name), path.name))
    heads = [_head(path) for path in logs]
    is_one = any(heads) and all(not head or SIGN.match(head) for head in heads)
    return logs if is_one else []


def _head(path: Path) -> bytes:
    """The first bytes of a file; empty if it can't be read."""
    if not os.path.isfile(path):
        return b"no file"
    try:
        with path.open("rb") as file:
            return file.read(10)
    except OSError:
        return b"closed"


def read(name: str, sessions: Iterable[Source]) -> History:
    """The history in some sessions. Cost: linear, 1 us a read or write.

    Args:
        name: The name of the history, for messages.
        sessions: Open files.

    Raises:
        HistoryError: A log is damaged; names the file and the byte.
    """
    ops: list[Op] = []
    writers: dict[tuple[int, int], int] = {}
    reads: list[tuple[list[Any], int, int]] = []
    left_out = 0
    with collector_paused():
        for number, source in enumerate(sessions):
            session = _Session(source, number, writers, reads)
            ops += session.transactions()
            left_out += session.left_out
    for mop, txn, write in reads:
        # The transaction that is read from did not make that write: the read gets a
        # value that no transaction wrote, which a checker will report.
        if writers.get((mop[1], write)) != txn:
            mop[2] = f"write {write} of transaction {txn}"
    for index, op in enumerate(ops):
        op.index = index
    history = History(ops, strict=False, source=name)
    if len({op.process for op in ops}) < 2:
        # The log of a single session has no lines; transactions are counted instead.
        history.lines = range(1, len(ops) + 1)
    if left_out:
        history.remark = (
            f"{left_out} reads by Cobra's garbage collection are left out, as their "
            "writes are in no log"
        )
    return history


class _Session:
    """The reading of one file.

    Attributes:
        left_out: How many reads of Cobra's own writes were left out.
    """

    def __init__(
        self,
        source: Source,
        number: int,
        writers: dict[tuple[int, int], int],
        reads: list[tuple[list[Any], int, int]],
    ) -> None:
        self.left_out = 0
        self._source = source
        self._number = number
        self._writers = writers
        self._reads = reads

    def transactions(self) -> list[Op]:
        """All transactions.

        Raises:
            HistoryError: Something else stands in the file; names the byte.
        """
        ops: list[Op] = []
        txn: int | None = None
        mops: list[list[Any]] = []
        for at, letter, numbers in self._records():
            if (letter == b"S") is not (txn is None):
                where = "outside of a transaction" if txn is None else "inside of one"
                raise self._wrong(at, f"{letter!r} {where}")
            if txn is None:
                txn, mops = numbers[0], []
            elif letter == b"W":
                mops.append(self._write(at, txn, *numbers[:2]))
            elif letter == b"R":
                mops += self._read(at, *numbers[:3])
            elif numbers[0] != txn:
                raise self._wrong(at, f"an end of {numbers[0]} in transaction {txn}")
            else:
                ops.append(self._op("ok", mops))
                txn = None
        if txn is not None:
            ops.append(self._op("info", mops))
        return ops

    def _records(self) -> Iterator[tuple[int, bytes, tuple[int, ...]]]:
        """(position, letter, numbers) of each record."""
        rest, at = b"", 0
        for block in self._source.blocks():
            data, begin = rest + block, 0
            while begin < len(data):
                letter = data[begin : begin + 1]
                form = _NUMBERS.get(letter)
                if form is None:
                    raise self._wrong(
                        at + begin, f"a record that begins with {letter!r}"
                    )
                end = begin + 1 + form.size
                if end > len(data):
                    break
                yield at + begin, letter, form.unpack_from(data, begin + 1)
                begin = end
            rest, at = data[begin:], at + begin
        if rest:
            raise self._wrong(at, "a record that is cut short")

    def _op(self, kind: OpType, mops: list[list[Any]]) -> Op:
        return Op(-1, -1, self._number, kind, "txn", mops)

    def _write(self, at: int, txn: int, write: int, key: int) -> list[Any]:
        if self._writers.setdefault((key, write), txn) != txn:
            problem = f"a second transaction with write {write} of key {key}"
            raise self._wrong(at, f"{problem}: nobody can tell which of them was read")
        return ["w", key, write]

    def _read(self, at: int, txn: int, write: int, key: int) -> list[list[Any]]:
        if txn == write == _DELETED:
            problem = f"a read of key {key}, which was deleted"
            raise self._wrong(at, f"{problem}, and no log tells by whom")
        if write in _COLLECTOR and txn == _INITIAL:
            self.left_out += 1
            return []
        if {txn, write} <= {_INITIAL, _NULL}:
            return [["r", key, None]]
        mop = ["r", key, write]
        self._reads.append((mop, txn, write))
        return [mop]

    def _wrong(self, at: int, what: str) -> HistoryError:
        return HistoryError(f"{self._source.name}: byte {at} of a log of Cobra: {what}")
