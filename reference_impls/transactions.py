"""One-shot transactions over a key-value state, which all services of keys serve.

A request `{"type": "txn", "txn": [[f, key, value], ...]}` lists micro-operations, done
in order and all at once; the answer `txn_ok` repeats them with results filled in:

    ["r", k, null]       the value of k, null when nothing was written
    ["w", k, v]          k holds v
    ["append", k, v]     v is added to the list that k holds (none: an empty one)
    ["add", k, d]        d is added to the number that k holds (none: 0); the result is
                         the new number, which may not be negative: else the whole
                         transaction aborts
    ["pop", k, null]     takes the first element off the list that k holds; null if none

"r", "w" and "append" are Maelstrom's; "add" gives banks and counters, and with them
participants that have a reason to vote no; "pop" gives queues. Replicated stores apply
a transaction as one command; commit protocols split it by shard (`keys`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

MICRO_OPS = ("r", "w", "append", "add", "pop")

MicroOp = list[Any]
"""[f, key, value]"""


class AbortError(Exception):
    """The transaction can't be done in this state, and so has no effect at all."""


def malformed(txn: Any) -> str:
    """Why `txn`, which anyone may have sent, is no transaction; "" if it is one."""
    if not isinstance(txn, list) or not txn:
        return "a transaction is a list of micro-operations, at least one"
    for micro in txn:
        if not isinstance(micro, list) or len(micro) != 3:
            return "a micro-operation is [f, key, value]"
        f, key, value = micro
        if f not in MICRO_OPS:
            return f"micro-operations are {', '.join(MICRO_OPS)}"
        if type(key) not in {int, str}:
            return "a key is a whole number or a string"
        if f == "add" and type(value) is not int:
            return "add needs a whole number"
    return ""


def keys(txn: Sequence[MicroOp]) -> list[int | str]:
    """The keys that a transaction touches, each once, in order of appearance."""
    return list(dict.fromkeys(micro[1] for micro in txn))


def is_read_only(txn: Sequence[MicroOp]) -> bool:
    """True when the transaction changes nothing."""
    return all(micro[0] == "r" for micro in txn)


def evaluate(
    state: Mapping[int | str, Any], txn: Sequence[MicroOp]
) -> tuple[list[MicroOp], dict[int | str, Any]]:
    """Work a transaction out without changing `state`.

    Returns:
        The transaction with its results, and what it would write.

    Raises:
        AbortError: It can't be done: a negative number, or a value of another kind.
    """
    writes: dict[int | str, Any] = {}
    done: list[MicroOp] = []
    for f, key, value in txn:
        before = writes[key] if key in writes else state.get(key)
        result = value
        match f:
            case "r":
                result = before
            case "w":
                writes[key] = value
            case "append":
                writes[key] = [*_list(before, key), value]
            case "add":
                result = writes[key] = _number(before, key) + value
                if result < 0:
                    raise AbortError(f"key {key!r} would fall to {result}")
            case _:
                rest = _list(before, key)
                result = rest[0] if rest else None
                if rest:
                    writes[key] = rest[1:]
        done.append([f, key, result])
    return done, writes


def apply(
    state: MutableMapping[int | str, Any], txn: Sequence[MicroOp]
) -> list[MicroOp]:
    """Carry out a transaction on `state`.

    Returns:
        The transaction with its results.

    Raises:
        AbortError: It can't be done; `state` is as it was.
    """
    done, writes = evaluate(state, txn)
    state.update(writes)
    return done


def _list(value: Any, key: int | str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise AbortError(f"key {key!r} holds no list")
    return value


def _number(value: Any, key: int | str) -> int:
    if value is None:
        return 0
    if type(value) is not int:
        raise AbortError(f"key {key!r} holds no number")
    return value
