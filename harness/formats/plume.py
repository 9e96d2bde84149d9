"""The text format that Plume, PolySI, IsoVista and AWDIT share: reads and writes.

    r(0,4,1,3)      read of key 0 gave 4, in session 1, transaction 3
    w(0,5,1,3)      write of 5 to key 0
    w(0,6,1,-1)     write of an aborted transaction

Each transaction becomes one completion, f "txn", whose value lists its reads and
writes in order as `["r", key, value]` and `["w", key, value]`, and whose process is the
session. There is no real time, so the history is one of completions only; positions
tell the order within a session and nothing else. Reading only.

Value 0 is every key's initial value and nobody writes it, so a read of 0 is a read of
nothing, None. Nobody says which aborted writes belong together: each is a `fail` of its
own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from harness.history import History, HistoryError, Op, OpType

if TYPE_CHECKING:
    from harness.formats.source import Source

_LINE = re.compile(
    r"([rw])\((-?\d{1,18}),(-?\d{1,18}),(-?\d{1,18}),(-?\d{1,18})\)", re.ASCII
)
_ABORTED = -1


def read(source: Source) -> History:
    """The history in `source`. Cost: linear.

    Raises:
        HistoryError: Names file and line.
    """
    ops: list[Op] = []
    lines: list[int] = []
    by_transaction: dict[int, Op] = {}
    for number, line in source.lines():
        text = line.strip()
        if not text:
            continue
        count = len(ops)
        try:
            kind, key, value, session, transaction = _parse(text)
            mop = [kind, key, None if value == 0 else value]
            if transaction == _ABORTED:
                ops.append(_transaction(len(ops), session, "fail", [mop]))
            elif transaction in by_transaction:
                _extend(by_transaction[transaction], session, mop)
            else:
                op = _transaction(len(ops), session, "ok", [mop])
                by_transaction[transaction] = op
                ops.append(op)
        except HistoryError as problem:
            raise HistoryError(f"{source.name}:{number}: {problem}") from None
        lines += [number] * (len(ops) - count)
    history = History(ops, strict=False, source=source.name)
    history.lines = lines  # of each transaction, the first
    return history


def _parse(text: str) -> tuple[str, int, int, int, int]:
    match = _LINE.fullmatch(text)
    if match is None:
        raise HistoryError(
            f"{text[:60]!r} is neither r(KEY,VALUE,SESSION,TRANSACTION) nor w(...)"
        )
    kind, key, value, session, transaction = match.groups()
    if kind == "w" and int(value) == 0:
        raise HistoryError("writes 0, which is the initial value of every key")
    if kind == "r" and int(transaction) == _ABORTED:
        raise HistoryError("a read of an aborted transaction")
    return kind, int(key), int(value), int(session), int(transaction)


def _transaction(index: int, session: int, kind: OpType, mops: list[Any]) -> Op:
    return Op(index=index, time=-1, process=session, type=kind, f="txn", value=mops)


def _extend(op: Op, session: int, mop: list[Any]) -> None:
    if op.process != session:
        raise HistoryError(
            f"session {session} goes on with a transaction of session {op.process}"
        )
    op.value.append(mop)
