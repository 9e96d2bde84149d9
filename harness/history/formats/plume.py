"""The text format that Plume, PolySI, IsoVista and AWDIT share: reads and writes.

    r(0,4,1,3)      read of key 0 gave 4, in session 1, transaction 3
    w(0,5,1,3)      write of 5 to key 0
    w(0,6,1,-1)     write of an aborted transaction

AWDIT has a second form, in which rules separate transactions and sessions:

    r 0 4
    w 0 5
    ---             the next transaction
    r 0 5
    ===             the next session, and transaction

Each transaction becomes one completion, f "txn", whose value lists its reads and
writes in order as `["r", key, value]` and `["w", key, value]`, and whose process is the
session. There is no real time, so the history has completions only; positions tell the
order within a session and nothing else. Reading only.

Value 0 is every key's initial value, so a read of 0 is a read of nothing, None. Some
histories have a transaction that writes the 0s, the first one or in a session of its
own. It is left out, because everything comes after it, which the file has no way to
say. A later write of 0 is a write of None, as if to delete the key. The file does not
say which aborted writes belong together: each is a `fail` of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from harness.history import History, HistoryError, Op, OpType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.history.formats.source import Source

SIGN: Final = re.compile(rb"\s*+[rw]\(-?\d|[\s=-]*+[rw][ \t]++-?\d++[ \t]++-?\d")
"""The pattern with which such a file begins."""

_INTEGER: Final = r"\s*(-?\d{1,20})\s*"
_LINE: Final = re.compile(rf"([rw])\({','.join([_INTEGER] * 4)}\)", re.ASCII)
_RULED_LINE: Final = re.compile(r"([rw])\s+(-?\d{1,20})\s+(-?\d{1,20})", re.ASCII)
_RULE: Final = re.compile("-+|=+")
_ABORTED: Final = -1


def read(source: Source) -> History:
    """The history in `source`. Cost: linear.

    Raises:
        HistoryError: Names file and line.
    """
    ops: list[Op] = []
    lines: list[int] = []
    by_transaction: dict[int, Op] = {}
    ruled_off = sessions_ruled_off = 0
    for number, line in source.lines():
        text = line.strip()
        if not text:
            continue
        if _RULE.fullmatch(text):
            ruled_off += 1
            sessions_ruled_off += text[0] == "="
            continue
        count = len(ops)
        try:
            if match := _RULED_LINE.fullmatch(text):
                kind, key, value = match[1], int(match[2]), int(match[3])
                session, transaction = sessions_ruled_off, ruled_off
            else:
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
    return history_of(source.name, ops, lines)


def history_of(source: str, ops: list[Op], lines: list[int]) -> History:
    """The history of transactions that are one completion each, and have no times.

    The transactions that write the initial values are left out.

    Args:
        source: The name of the source, for messages.
        ops: The completions. Those of a session are in the session's order.
        lines: The line in which each begins.
    """
    initial = set(_initial(ops))
    lines = [line for i, line in enumerate(lines) if i not in initial]
    ops = [op for i, op in enumerate(ops) if i not in initial]
    for index, op in enumerate(ops):
        op.index = index
    history = History(ops, strict=False, source=source)
    history.lines = lines
    if initial:
        history.remark = (
            "a transaction that writes the initial 0s is left out: what reads 0 reads "
            "a key before any other write of it"
        )
    return history


def _initial(ops: list[Op]) -> Iterator[int]:
    """The positions of the transactions that only write the initial 0s.

    Such a transaction is the first of all, or alone in its session, as AWDIT writes it.
    """
    sessions = Counter(op.process for op in ops)
    for i, op in enumerate(ops):
        is_apart = i == 0 or sessions[op.process] == 1
        if op.type == "ok" and is_apart:
            writes = [kind == "w" and value is None for kind, _, value in op.value]
            if all(writes):
                yield i


def _parse(text: str) -> tuple[str, int, int, int, int]:
    match = _LINE.fullmatch(text)
    if match is None:
        raise HistoryError(
            f"{text[:60]!r} is neither r(KEY,VALUE,SESSION,TRANSACTION) nor w(...)"
        )
    kind, key, value, session, transaction = match.groups()
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
