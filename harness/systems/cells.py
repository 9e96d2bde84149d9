"""The meaning of the wire protocol's requests for a store of values under names.

It is for systems that don't serve our requests themselves but have something to build
on: transactions of a database, commands of a replicated log. A system that can read
some cells, decide, and write some cells, all in one step, serves all of SERVICES with
three functions: which cells a request is about (`cells_of`), whether it only reads
(`is_read`), and what it answers and writes (`decide`).

A key is a whole number or a text, and the name of its cell is `key/` and the key as
JSON, so that 1 and "1" are two. Locks have cells of their own, which hold the last
token and whether it holds the lock.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from harness.errors import NodeReply
from harness.systems.services import TRANSACTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SERVICES: Final = TRANSACTIONS | {"register", "cas", "lock"}

NOT_SUPPORTED, MALFORMED_REQUEST, ABORT = 10, 12, 14
KEY_DOES_NOT_EXIST, PRECONDITION_FAILED = 20, 22

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "read": ("key",),
    "write": ("key", "value"),
    "cas": ("key", "from", "to"),
    "txn": ("txn",),
    "acquire": ("key",),
    "use": ("key", "token"),
    "release": ("key", "token"),
}
"""Type of request -> the fields that it needs beside."""

LOCKS: Final = frozenset({"acquire", "use", "release"})
MICRO_OPS: Final = ("r", "w", "append", "add", "pop")

Body = dict[str, Any]


def cells_of(body: Mapping[str, Any]) -> list[str]:
    """The cells that a request is about, each once.

    Raises:
        NodeReply: It is no request of SERVICES, or a malformed one; a definite failure.
    """
    kind = body.get("type")
    if not isinstance(kind, str) or kind not in FIELDS:
        raise refusal(NOT_SUPPORTED, f"{kind!r:.60} is not supported")
    for name in FIELDS[kind]:
        if name not in body:
            raise refusal(MALFORMED_REQUEST, f"there is no {name} in the request")
    if "token" in FIELDS[kind] and type(body["token"]) is not int:
        raise refusal(MALFORMED_REQUEST, "a token is a whole number")
    if kind == "txn":
        return list(dict.fromkeys(cell("key", key) for _, key, _ in _micro_ops(body)))
    return [cell("lock" if kind in LOCKS else "key", body["key"])]


def is_read(body: Mapping[str, Any]) -> bool:
    """Whether a request that has cells only asks for values."""
    if body["type"] == "txn":
        return all(f == "r" for f, _, _ in body["txn"])
    return bool(body["type"] == "read")


def decide(
    body: Mapping[str, Any], held: Mapping[str, Any]
) -> tuple[Body, dict[str, Any]]:
    """The answer to a request that has cells, and the values that it writes to them.

    Args:
        body: The request.
        held: Cell -> its value, for those of its cells that were ever written.

    Raises:
        NodeReply: The request can't be carried out in this state; a definite failure,
            as nothing is written.
    """
    kind = body["type"]
    if kind == "txn":
        done, writes = _transact(body["txn"], held)
        return {"type": "txn_ok", "txn": done}, writes
    (cell,) = cells_of(body)
    if kind in LOCKS:
        return _lock(body, cell, held)
    if kind == "write":
        return {"type": "write_ok"}, {cell: body["value"]}
    if cell not in held:
        raise refusal(KEY_DOES_NOT_EXIST, f"there is no key {body['key']}")
    if kind == "read":
        return {"type": "read_ok", "value": held[cell]}, {}
    if not _same(held[cell], body["from"]):
        text = f"expected {body['from']!r:.60}, but it is {held[cell]!r:.60}"
        raise refusal(PRECONDITION_FAILED, text)
    return {"type": "cas_ok"}, {cell: body["to"]}


def refusal(code: int, text: str) -> NodeReply:
    """A definite error."""
    return NodeReply(definite=True, text=text, code=code)


def cell(kind: str, key: Any) -> str:
    """The name of the cell of a key (`kind` "key") or of a lock ("lock").

    Raises:
        NodeReply: It can't be a key.
    """
    if type(key) not in {int, str}:
        raise refusal(MALFORMED_REQUEST, "a key must be a whole number or a text")
    return f"{kind}/{json.dumps(key)}"


def _micro_ops(body: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    txn = body["txn"]
    if not isinstance(txn, list) or not txn:
        raise refusal(MALFORMED_REQUEST, "a transaction is a list of micro-operations")
    for micro in txn:
        if not isinstance(micro, list) or len(micro) != 3 or micro[0] not in MICRO_OPS:
            text = f"a micro-operation is [f, key, value], f one of {MICRO_OPS}"
            raise refusal(MALFORMED_REQUEST, text)
        if micro[0] == "add" and type(micro[2]) is not int:
            raise refusal(MALFORMED_REQUEST, "add needs a whole number")
    return txn


def _transact(
    txn: Sequence[Sequence[Any]], held: Mapping[str, Any]
) -> tuple[list[list[Any]], dict[str, Any]]:
    """Do the micro-operations in turn; each sees the writes of those before it."""
    writes: dict[str, Any] = {}
    done = []
    for f, key, value in txn:
        name = cell("key", key)
        before = writes[name] if name in writes else held.get(name)
        result = value
        if f == "r":
            result = before
        elif f == "w":
            writes[name] = value
        elif f == "append":
            writes[name] = [*_as(list, before, key), value]
        elif f == "add":
            result = writes[name] = _as(int, before, key) + value
            if result < 0:
                raise refusal(ABORT, f"key {key!r} would fall to {result}")
        else:
            elements = _as(list, before, key)
            result = elements[0] if elements else None
            if elements:
                writes[name] = elements[1:]
        done.append([f, key, result])
    return done, writes


def _as(kind: type[Any], value: Any, key: int | str) -> Any:
    """`value`, which must be of that type, or an empty one for None."""
    if value is None:
        return kind()
    if type(value) is not kind:
        raise refusal(ABORT, f"key {key!r} holds something else")
    return value


def _lock(
    body: Mapping[str, Any], cell: str, held: Mapping[str, Any]
) -> tuple[Body, dict[str, Any]]:
    token, is_held = held.get(cell, (0, False))
    if body["type"] == "acquire":
        if is_held:
            raise refusal(PRECONDITION_FAILED, f"lock {body['key']} is held")
        return {"type": "acquire_ok", "token": token + 1}, {cell: [token + 1, True]}
    if not is_held or not _same(body["token"], token):
        text = f"token {body['token']!r:.60} does not hold lock {body['key']}"
        raise refusal(PRECONDITION_FAILED, text)
    writes = {cell: [token, False]} if body["type"] == "release" else {}
    return {"type": f"{body['type']}_ok"}, writes


def _same(a: Any, b: Any) -> bool:
    """Whether two values are the same JSON, in which 1 is not true."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
