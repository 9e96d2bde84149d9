"""DBCop's histories in JSON: transactions by session, with their reads and writes.

    [[{"events": [{"Write": {"variable": 0, "version": 1}}], "committed": true}, ...],
     ...]

A file has a list of sessions, each a list of transactions, or an object with such a
list in `data`. An event may also be `["w", 0, 1]`, and in files of 2019
`{"write": true, "variable": 0, "value": 1, "success": true}`. DBCop also wrote
`history.bincode`, which only the program that wrote it can read.

Each transaction becomes one completion and its process is the session, as in `plume`,
which has the other rules too. A version 0 or null that is read is the initial one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.history import History, HistoryError, Op
from harness.history.formats import plume

if TYPE_CHECKING:
    from collections.abc import Iterable


def looks_so(entry: Any) -> bool:
    """Whether the first value of a JSON text is a history of DBCop."""
    if isinstance(entry, dict):
        return isinstance(entry.get("data"), list) and "type" not in entry
    return isinstance(entry, list) and all(
        isinstance(transaction, dict) and "events" in transaction
        for transaction in entry
    )


def read(source: str, values: Iterable[tuple[int, Any]]) -> History:
    """The history in JSON values and the lines where they begin.

    Raises:
        HistoryError: Names file and line.
    """
    ops: list[Op] = []
    lines: list[int] = []
    session = 0
    for line, value in values:
        sessions = value["data"] if isinstance(value, dict) else [value]
        for transactions in sessions:
            if not isinstance(transactions, list):
                raise HistoryError(f"{source}:{line}: a session is a list")
            for transaction in transactions:
                try:
                    op = _op(transaction, len(ops), session)
                except (HistoryError, LookupError, TypeError, ValueError):
                    text = f"{transaction!r:.100}"
                    raise HistoryError(
                        f"{source}:{line}: {text} is no transaction as DBCop writes it"
                    ) from None
                ops.append(op)
                lines.append(line)
            session += 1
    return plume.history_of(source, ops, lines)


def _op(transaction: dict[str, Any], index: int, session: int) -> Op:
    mops = [_micro_op(event) for event in transaction["events"]]
    is_done = transaction.get("committed", transaction.get("success", True))
    return Op(index, -1, session, "ok" if is_done else "fail", "txn", mops)


def _micro_op(event: Any) -> list[Any]:
    """An event as `["r", key, value]` or `["w", key, value]`."""
    if isinstance(event, list):
        kind, key, value = event
    elif "write" in event:
        kind, key, value = "rw"[event["write"]], event["variable"], event["value"]
    else:
        ((name, found),) = event.items()
        kind, key, value = name[0].lower(), found["variable"], found["version"]
    if kind not in {"r", "w"} or not isinstance(key, int | str):
        raise ValueError(event)
    return [kind, key, None if value == 0 else value]
