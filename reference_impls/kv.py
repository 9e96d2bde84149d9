"""A key-value store, the state machine that the replicated logs drive.

Bodies and error codes are Maelstrom's `lin-kv`: `read{key}`, `write{key,value}`,
`cas{key,from,to}`. A key that was never written answers 20 (key-does-not-exist) to read
and cas; a cas that finds another value answers 22 (precondition-failed).

`acquire`, `use` and `release` are about locks with fencing tokens (`locks.py`).

`txn{txn}` does several things to several keys at once (`transactions.py`). A
transaction that can't be done answers 14 (abort) and has no effect.

A request of any type may carry `retry`, so that copies of it take effect once
(`sessions.py`).

Choices: keys are whole numbers or strings, so that a key is the same key however a
language spells it in JSON (1, 1.0 and true are one key to Python, three to others).
Values are any JSON and equal when they are the same JSON: 1 is not true.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from reference_impls import locks, sessions, transactions
from reference_impls.actor import (
    ABORT,
    KEY_DOES_NOT_EXIST,
    MALFORMED_REQUEST,
    NOT_SUPPORTED,
    PRECONDITION_FAILED,
    error,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS: Mapping[str, tuple[str, ...]] = {
    "read": ("key",),
    "write": ("key", "value"),
    "cas": ("key", "from", "to"),
    "txn": ("txn",),
    **locks.FIELDS,
}
"""Operation -> what it needs beside its type."""

VALUE_CHARS_MAX = 65_536
"""Longest key or value, as JSON. The limit keeps a batch of commands in one message."""

Command = dict[str, Any]
"""A checked request, with only the fields that belong to the operation."""


class KeyValueStore:
    """The state: what each key holds, locks, and what retrying clients were answered.

    Deterministic, so that replicas stay alike.
    """

    __slots__ = ("data", "locks", "sessions")

    def __init__(self) -> None:
        self.data: dict[int | str, Any] = {}
        self.locks = locks.Locks()
        self.sessions = sessions.Sessions()

    def apply(self, command: Command) -> dict[str, Any]:
        """Carry out a command, unless a copy of it was, and return the reply's body."""
        retry = command.get("retry")
        if retry is None:
            return self.execute(command)
        reply = self.sessions.answer(retry)
        if reply is None:
            reply = self.execute(command)
            self.sessions.remember(retry, reply)
        return reply

    def execute(self, command: Command) -> dict[str, Any]:
        """Carry out a command and return the reply's body."""
        if command["type"] == "txn":
            return self.transact(command["txn"])
        if command["type"] in locks.FIELDS:
            return self.locks.apply(command)
        key = command["key"]
        match command["type"]:
            case "write":
                self.data[key] = command["value"]
                return {"type": "write_ok"}
            case "cas":
                return self.compare_and_set(key, command["from"], command["to"])
            case _:
                return self.read(key)

    def answer_read(self, command: Command) -> dict[str, Any]:
        """The reply to a command that `is_read`."""
        if command["type"] == "txn":
            return self.transact(command["txn"])
        return self.read(command["key"])

    def transact(self, txn: list[transactions.MicroOp]) -> dict[str, Any]:
        """The reply to a transaction, which takes effect whole or not at all."""
        try:
            return {"type": "txn_ok", "txn": transactions.apply(self.data, txn)}
        except transactions.AbortError as why:
            return error(ABORT, str(why))

    def as_data(self) -> dict[str, Any]:
        """The state for a snapshot: JSON-able, and valid until a command is applied.

        Keys and values are pairs, as a JSON object would turn the key 1 into "1".
        """
        return {
            "data": list(self.data.items()),
            "locks": self.locks.as_data(),
            "sessions": self.sessions.as_data(),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> KeyValueStore:
        """A store from the data of `as_data`, also decoded JSON.

        Data from before there were locks will do too.
        """
        store = cls()
        store.data = dict(data["data"])
        store.locks = locks.Locks.from_data(data.get("locks", ()))
        store.sessions = sessions.Sessions.from_data(data["sessions"])
        return store

    def take_over(self, other: KeyValueStore) -> None:
        """Add another store's state, which wins where both hold a value."""
        self.data.update(other.data)
        self.locks.by_key.update(other.locks.by_key)
        self.sessions.by_client.update(other.sessions.by_client)

    def read(self, key: int | str) -> dict[str, Any]:
        """The reply to a read of `key`."""
        if key not in self.data:
            return error(KEY_DOES_NOT_EXIST, f"key {key!r} does not exist")
        return {"type": "read_ok", "value": self.data[key]}

    def compare_and_set(self, key: int | str, old: Any, new: Any) -> dict[str, Any]:
        """The reply to a cas, which takes effect only where `key` holds `old`."""
        if key not in self.data:
            return error(KEY_DOES_NOT_EXIST, f"key {key!r} does not exist")
        current = self.data[key]
        if not same(current, old):
            text = f"expected {shorten(old)}, but had {shorten(current)}"
            return error(PRECONDITION_FAILED, text)
        self.data[key] = new
        return {"type": "cas_ok"}


def parse(body: Mapping[str, Any]) -> tuple[Command | None, dict[str, Any] | None]:
    """Check a request.

    Returns:
        The command and None; or None and the body of the error to answer with.
    """
    kind = body.get("type")
    fields = FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None:
        return None, error(NOT_SUPPORTED, f"no operation {shorten(kind)}")
    command: Command = {"type": kind}
    for name in fields:
        if name not in body:
            return None, error(MALFORMED_REQUEST, f"{kind} needs {name!r}")
        value = body[name]
        if type(value) is not int and oversized(value):
            text = f"{name!r} is longer than {VALUE_CHARS_MAX} characters of JSON"
            return None, error(MALFORMED_REQUEST, text)
        command[name] = value
    if "retry" in body:
        retry = sessions.parse(body["retry"])
        if retry is None:
            text = "retry holds a client (a string) and a seq (a whole number)"
            return None, error(MALFORMED_REQUEST, text)
        command["retry"] = retry
    if kind == "txn":
        wrong = transactions.malformed(command["txn"])
        return (None, error(MALFORMED_REQUEST, wrong)) if wrong else (command, None)
    if type(command["key"]) not in {int, str}:
        text = "a key is a whole number or a string"
        return None, error(MALFORMED_REQUEST, text)
    if "token" in command and (wrong := locks.malformed(command)):
        return None, error(MALFORMED_REQUEST, wrong)
    return command, None


def is_read(command: Command) -> bool:
    """True when the command has no effect, so that failing it is always definite."""
    if command["type"] == "txn":
        return transactions.is_read_only(command["txn"])
    return bool(command["type"] == "read")


def same(a: Any, b: Any) -> bool:
    """Equality of JSON values; by Python's own, 1, 1.0 and true would be equal."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, dict)):
        return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    return bool(a == b)


def oversized(value: Any) -> bool:
    """True when a value's JSON is too long. Cost: none for numbers and short texts."""
    if isinstance(value, str):
        # A character takes six at worst: "\\u1234".
        return len(value) * 6 > VALUE_CHARS_MAX and is_long(value)
    return isinstance(value, (list, dict)) and is_long(value)


def is_long(value: Any) -> bool:
    """True when the JSON of `value` is longer than allowed."""
    return len(json.dumps(value)) > VALUE_CHARS_MAX


def shorten(value: Any) -> str:
    """A value as JSON for a message, cut to 60 characters."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
