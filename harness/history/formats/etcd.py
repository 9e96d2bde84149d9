"""Operations of etcd's robustness tests, as Porcupine's operations in JSON.

    {"ClientId": 1, "Input": {"Type": "range", "Range": {"Start": "key0", ...}, ...},
     "Call": 117, "Output": {"Range": {"KVs": [{"Key": "key0", "Value": {"Value": "7"},
     "ModRevision": 8}], "Count": 1}, "Revision": 8, "Error": ""}, "Return": 210}

Each client has a file, `client-1/operations.json`; the folder of all clients' folders
is a history. The shape is that of `tests/robustness/model/types.go` and
`report/client.go` of etcd, from 2023 on. The files of other tests that use Porcupine
have other Inputs.

The effect of a request on a key becomes a `read` or a `write` of that key, so that
`linearizable` can judge each key as a register; a delete is a write of None. A
transaction does all of its parts at one moment. Split by key they are less constrained:
so an invalid verdict is still a proof, while a valid one says nothing about what is
left out here. The history's remark names that:

- the conditions of transactions: a branch that was carried out is not questioned;
- the reads of a request of unknown outcome;
- reads of old revisions, reads of keys without values, and reads that etcd's tests call
  not linearizable;
- keys that have a lease, since they vanish with it, and no client learns when;
- compactions, defragmentations, and requests that were refused.

A value of 20 characters or more may be told by its hash, so all such values are named
by their hashes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness.history import History, HistoryError, Op, OpType
from harness.history.formats import json_values
from harness.history.formats.source import Source
from harness.host.collector import collector_paused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_FIELDS: Final = {"ClientId", "Input", "Call", "Output", "Return"}
_TYPES: Final = frozenset(
    {"range", "txn", "leaseGrant", "leaseRevoke", "defragment", "compact"}
)
_HASHED_CHARS_MIN: Final = 20
_NOT_LINEARIZABLE: Final = -1
_FNV_OFFSET: Final = 2166136261
_FNV_PRIME: Final = 16777619
_ONE_OF_MANY: Final = re.compile(r"(.*/)?client-\d+/operations\.json")


class Part(NamedTuple):
    """The effect of a request on one key."""

    f: str
    key: str
    value: Any


@dataclass
class Request:
    """One request.

    Attributes:
        call, returned: The times of both, in nanoseconds.
        outcome: ok or info.
        parts: Its effects.
        line: Its line in the file.
    """

    call: int
    returned: int
    outcome: OpType
    parts: list[Part]
    line: int


@dataclass
class _Reading:
    """All that was read from the files of all clients."""

    requests: list[Request] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    leased: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)


def looks_so(entry: Any) -> bool:
    """Whether a JSON value is an operation of etcd's tests."""
    if not isinstance(entry, dict) or not entry.keys() >= _FIELDS:
        return False
    asked = entry["Input"]
    kind = asked.get("Type") if isinstance(asked, dict) else None
    return isinstance(kind, str) and kind in _TYPES


def files_of(folder: Path) -> list[Path]:
    """The files of all clients in a folder; empty if it is no folder of clients."""
    if not os.path.isdir(folder):
        return []
    return sorted(folder.glob("client-*/operations.json"))


def read_files(folder: Path, files: Iterable[Path]) -> History:
    """The history of all clients.

    Raises:
        HistoryError: Names file and line.
    """
    reading = _Reading()
    entries: list[tuple[str, int, Any]] = []
    for path in files:
        with Source(path) as source, collector_paused():
            values = json_values.values(source.name, source.blocks(), 1)
            entries += ((source.name, line, value) for line, value in values)
    _take(reading, entries)
    history, _ = _history(str(folder), reading)
    return history


def read(name: str, values: Iterable[tuple[int, Any]]) -> History:
    """The history in JSON values and the lines where they begin.

    Raises:
        HistoryError: A value is no operation; names file and line. Or the file is that
            of one client among many.
    """
    if _ONE_OF_MANY.fullmatch(name):
        raise HistoryError(
            f"{name}: the operations of one client of etcd's robustness tests, which "
            "mean nothing without the others'; take the folder that all of them are in"
        )
    reading = _Reading()
    _take(reading, [(name, line, value) for line, value in values])
    history, lines = _history(name, reading)
    history.lines = lines
    return history


def _take(reading: _Reading, entries: list[tuple[str, int, Any]]) -> None:
    """Read all operations: first the names of all keys, then the effects on them."""
    for _, _, entry in entries:
        for put in _puts(entry):
            reading.keys.add(put["Key"])
            if put.get("LeaseID"):
                reading.leased.add(put["Key"])
    for name, line, entry in entries:
        try:
            reading.requests.append(_request(reading, entry, line))
        except (AttributeError, LookupError, TypeError, ValueError):
            raise HistoryError(
                f"{name}:{line}: {entry!r:.100} is no operation as etcd's robustness "
                "tests write it"
            ) from None


def _puts(entry: Any) -> Iterator[Mapping[str, Any]]:
    """All puts that a request might make; none if the request is malformed."""
    asked = entry.get("Input") if isinstance(entry, dict) else None
    txn = asked.get("Txn") if isinstance(asked, dict) else None
    for name in ("OperationsOnSuccess", "OperationsOnFailure"):
        for operation in (txn.get(name) if isinstance(txn, dict) else None) or ():
            put = operation.get("Put") if isinstance(operation, dict) else None
            if isinstance(put, dict) and isinstance(put.get("Key"), str) and put["Key"]:
                yield put


def _request(reading: _Reading, entry: Mapping[str, Any], line: int) -> Request:
    asked, told = entry["Input"], entry["Output"]
    call, returned = entry["Call"], entry["Return"]
    if type(call) is not int or type(returned) is not int:
        raise TypeError
    silent = ("Error", "Persisted", "PartialResponse")
    is_known = not any(told.get(name) for name in silent)
    parts = list(_parts(reading, asked, told if is_known else None))
    outcome: OpType = "ok" if is_known else "info"
    return Request(call, max(call, returned), outcome, parts, line)


def _parts(
    reading: _Reading, asked: Mapping[str, Any], told: Mapping[str, Any] | None
) -> Iterator[Part]:
    """The effects of a request on each key; `told` is None if there was no answer."""
    kind = asked["Type"]
    if told is not None and told.get("ClientError"):
        reading.left_out["refused requests"] += 1
    elif told is not None and told.get("Revision") == _NOT_LINEARIZABLE:
        reading.left_out["answers that need not be linearizable"] += 1
    elif kind == "range":
        wanted = asked["Range"]
        if wanted.get("Revision"):
            reading.left_out["reads of old revisions"] += 1
        elif told is not None:
            yield from _reads(reading, wanted, told["Range"])
    elif kind == "txn":
        yield from _transaction(reading, asked["Txn"], told)
    else:
        reading.left_out[f"{kind} requests"] += 1


def _transaction(
    reading: _Reading, txn: Mapping[str, Any], told: Mapping[str, Any] | None
) -> Iterator[Part]:
    reading.left_out["conditions of transactions"] += bool(txn.get("Conditions"))
    on_success = txn["OperationsOnSuccess"] or ()
    on_failure = txn.get("OperationsOnFailure") or ()
    if told is None:
        # Either branch may have been carried out, so each part is a possible effect.
        for operation in (*on_success, *on_failure):
            if operation["Type"] != "range-operation":
                yield _change(operation)
        return
    done = on_failure if told["Txn"]["Failure"] else on_success
    results = told["Txn"]["Results"] or ()
    if len(done) != len(results):
        raise ValueError
    for operation, result in zip(done, results, strict=True):
        if operation["Type"] == "range-operation":
            yield from _reads(reading, operation["Range"], result)
        else:
            yield _change(operation)


def _change(operation: Mapping[str, Any]) -> Part:
    if operation["Type"] == "put-operation":
        put = operation["Put"]
        return Part("write", _text(put["Key"]), _value(put["Value"]))
    if operation["Type"] == "delete-operation":
        return Part("write", _text(operation["Delete"]["Key"]), None)
    raise ValueError


def _reads(
    reading: _Reading, wanted: Mapping[str, Any], found: Mapping[str, Any]
) -> Iterator[Part]:
    """A read of each key in a range; None is read of an absent key."""
    if wanted.get("KeysOnly"):
        reading.left_out["reads of keys without values"] += 1
        return
    there = {
        _text(kv["Key"]): _value(kv.get("Value") or {}) for kv in found["KVs"] or ()
    }
    start, end = _text(wanted["Start"]), _text(wanted.get("End") or "")
    is_whole = found.get("Count", 0) <= len(there)
    for key in sorted(reading.keys | there.keys()):
        within = key == start if not end else start <= key < end or end == "\0"
        if within and (key in there or is_whole):
            yield Part("read", key, there.get(key))


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError
    return text


def _value(told: Mapping[str, Any]) -> str:
    """A value, or the name that stands for its hash."""
    value, digest = _text(told.get("Value", "")), told.get("Hash") or 0
    if type(digest) is not int:
        raise TypeError
    if len(value.encode()) >= _HASHED_CHARS_MIN:
        digest = _fnv1a(value.encode())
    return f"hash {digest}" if digest else value


def _fnv1a(data: bytes) -> int:
    """The hash of 32 bits with which etcd's tests tell long values."""
    digest = _FNV_OFFSET
    for byte in data:
        digest = (digest ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return digest


def _history(name: str, reading: _Reading) -> tuple[History, list[int]]:
    """The history, and the line of each of its ops."""
    events: list[tuple[int, bool, int, Request, Part, int]] = []
    free: list[tuple[int, int]] = []
    processes = 0
    count = 0
    for request in sorted(reading.requests, key=lambda one: one.call):
        for part in request.parts:
            if part.key in reading.leased:
                reading.left_out["operations on keys with a lease"] += 1
                continue
            # A process with an answer may be used again, but not one without an answer.
            ready = [one for one in free if one[0] < request.call]
            if ready:
                free.remove(ready[0])
                process = ready[0][1]
            else:
                process, processes = processes, processes + 1
            events.append((request.call, False, count, request, part, process))
            if request.outcome == "ok":
                events.append((request.returned, True, count, request, part, process))
                free.append((request.returned, process))
            count += 1
    # Calls come before returns at the same time: they are concurrent.
    events.sort(key=lambda event: event[:3])
    ops: list[Op] = []
    lines: list[int] = []
    for time, is_end, _, request, part, process in events:
        value = part.value if is_end or part.f == "write" else None
        kind: OpType = "ok" if is_end else "invoke"
        ops.append(Op(len(ops), time, process, kind, part.f, value, part.key))
        lines.append(request.line)
    history = History(ops, strict=False, source=name)
    left = +reading.left_out
    if left:
        told = ", ".join(f"{n} {what}" for what, n in sorted(left.items()))
        history.remark = f"no part of the history: {told}"
    return history, lines
