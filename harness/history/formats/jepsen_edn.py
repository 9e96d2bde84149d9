"""Jepsen's `history.edn`: one operation map a line, or one vector of them.

    {:index 0, :time 10529, :type :invoke, :process 0, :f :write, :value 3}

Reading is lenient where the histories in circulation are loose. The order of the lines
is the order of events: `:index` and `:time` may be missing, odd or have gaps. `:f` may
be missing in histories of transactions. Without `:process`, an invocation belongs to
the next completion, and each such call gets a process of its own, since its session is
not known. Completions without invocations are let through; `completions_only` of the
history says so.

`jepsen.independent` puts `[k v]` into `:value` for operation `v` on key `k`. The text
does not tell this from an ordinary pair, but a read does: it is invoked with nil, or
with `[k nil]`. If no read is invoked like this, the user has to say `independent`.
Histories that have `:key` need no such option.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sized
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast, get_args

from harness.history import (
    History,
    HistoryError,
    Op,
    OpType,
    is_client,
    set_bystanders_aside,
)
from harness.history.formats import edn, foreign
from harness.history.formats.jepsen_lines import MICRO_OPS, JepsenLines
from harness.host.collector import collector_paused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.history.columns import Columns
    from harness.history.formats.source import Source

_TYPES = frozenset(get_args(OpType))
_FIELDS = frozenset(
    {"index", "time", "process", "type", "f", "value", "key", "error", "node"}
)
_TIMES = (float, Decimal, Fraction)
_SECONDS_MAX = 10**10
_UNSET = -1
_NOBODY = ""
"""The process of ops that lack one, until all lines are read."""


def read(
    source: Source, *, strict: bool = False, independent: bool | None = None
) -> History:
    """The history in `source`. Cost: linear, 3 us a tidy line, 15 us any other.

    Args:
        source: An open file.
        strict: Refuse events that don't pair up; -1 and gaps in `:index` are allowed.
        independent: Split clients' `[k v]` values into key and value; None does so if
            they can't be anything else.

    Raises:
        HistoryError: Names file and line.
    """
    ops: list[Op] = []
    lines = array("L")
    with collector_paused():
        for line, op in _read_ops(source):
            ops.append(op)
            lines.append(line)
    return history_of(source.name, ops, lines, strict=strict, independent=independent)


def history_of(
    source: str,
    ops: list[Op],
    lines: Sequence[int],
    *,
    strict: bool,
    independent: bool | None,
    columns: Columns | None = None,
) -> History:
    """The history of operations that another program recorded.

    Args:
        source: The name of the source, for messages.
        ops: The operations.
        lines: The line of each.
        strict: Refuse events that don't pair up.
        independent: Split clients' `[k v]` values into key and value; None does so if
            they can't be anything else.
        columns: The columns of `ops`, if they are known.

    Raises:
        HistoryError: The events don't pair up although `strict`, or a value has no key
            although `independent`.
    """
    if columns is None:
        _number_nobodies(ops)
    bystanders: frozenset[str] = frozenset()
    if columns is None or columns.has_names:
        bystanders = set_bystanders_aside(ops)
        if bystanders:
            columns = None
    is_guess = independent is None and _looks_independent(ops)
    if independent or is_guess:
        for line, op in zip(lines, ops, strict=True):
            if op.is_client and op.key is None:
                _split_key(op, f"{source}:{line}")
        columns = None
    history = History(
        ops,
        strict=strict,
        source=source,
        where=lambda i: f"{source}:{lines[i]}",
        columns=columns,
        bystanders=bystanders,
    )
    history.lines = lines
    if is_guess:
        history.remark = (
            "values are [key value] as jepsen.independent has them, and every key was "
            "judged by itself (if they are not: --no-independent)"
        )
    return history


def _read_ops(source: Source) -> Iterator[tuple[int, Op]]:
    """(line, op) of each operation, as the file has them.

    Raises:
        HistoryError: Names file and line.
    """
    reader = edn.Reader(source.name, unwrap=True)
    plain = JepsenLines()
    index, number = 0, 1
    for number, text in source.pieces():
        if reader.is_between and (op := plain.op(text, index)) is not None:
            yield number, op
            index += 1
            continue
        for line, value in reader.feed(number, text):
            try:
                op = op_from_map(value, index)
            except HistoryError as problem:
                raise HistoryError(f"{source.name}:{line}: {problem}") from None
            plain.learn(value)
            yield line, op
            index += 1
    reader.finish(number)


def write(history: Iterable[Op]) -> Iterator[bytes]:
    """The lines of a history, as Jepsen reads them.

    Keys are written as `jepsen.independent` does, `:value [k v]`, if a reader can tell
    that from an ordinary pair; else as `:key`.
    """
    ops = history if isinstance(history, Sized) else list(history)
    has_tuples = _shows_keys(ops)
    for op in ops:
        yield edn.dumps(map_from_op(op, has_tuples=has_tuples)).encode() + b"\n"


def op_from_map(entry: Any, index: int) -> Op:
    """The op that one map of a history stands for.

    Raises:
        HistoryError: The map is no operation; says why, but not where.
    """
    if not isinstance(entry, dict):
        raise HistoryError(f"an operation is a map, not {edn.dumps(entry):.60}")
    kind = entry.get("type")
    if kind is None and (name := foreign.named(entry)):
        raise HistoryError(name)
    if not isinstance(kind, str) or kind not in _TYPES:
        raise HistoryError(
            f":type is {edn.dumps(kind):.60}, not :invoke, :ok, :fail or :info"
        )
    process = _process(entry.get("process"))
    node = entry.get("node")
    return Op(
        index=index,
        time=_time(entry.get("time")),
        process=process,
        type=cast("OpType", sys.intern(str(kind))),
        f=_function(entry.get("f"), process),
        value=entry.get("value"),
        key=entry.get("key"),
        error=entry.get("error"),
        node=str(node) if isinstance(node, str) else None,
        extra=_extra(entry),
    )


def map_from_op(op: Op, *, has_tuples: bool) -> dict[str, Any]:
    """One map of a history, with keywords where Jepsen has them.

    With `has_tuples` the key is put into the value, as `jepsen.independent` does.
    """
    value = op.value
    if op.f == "txn" and isinstance(value, list | tuple):
        value = [_micro_op(mop) for mop in value]
    if op.key is not None and has_tuples:
        value = [op.key, value]
    entry = {
        "index": op.index,
        "time": op.time,
        "type": edn.Keyword(op.type),
        "process": op.process if op.is_client else edn.Keyword(op.process),
        "f": edn.Keyword(op.f),
        "value": value,
    }
    if op.key is not None and not has_tuples:
        entry["key"] = op.key
    if op.error is not None:
        entry["error"] = op.error
    if op.node is not None:
        entry["node"] = op.node
    for name, more in (op.extra or {}).items():
        entry.setdefault(name, more)
    return {edn.Keyword(name): field for name, field in entry.items()}


def _process(process: Any) -> int | str:
    if type(process) is int:
        return process
    if process is None:
        return _NOBODY
    if type(process) is float and process.is_integer():
        return int(process)
    if isinstance(process, str):
        return sys.intern(str(process))
    raise HistoryError(f":process is {edn.dumps(process):.60}, no number and no name")


def _time(time: Any) -> int:
    """A time in nanoseconds; _UNSET if it is no number, as no order depends on times.

    A number with a decimal point is taken for seconds, as most clocks with such numbers
    tell seconds, unless these would be centuries.
    """
    if type(time) is int:
        return time
    if type(time) not in _TIMES:
        return _UNSET
    return int(time * 10**9 if abs(time) < _SECONDS_MAX else time)


def _function(f: Any, process: int | str) -> str:
    """The function; missing `:f` is "txn", or "" for a nemesis.

    Only histories of transactions leave out `:f`, and nemeses in any history.
    """
    if isinstance(f, str):
        return sys.intern(str(f))
    if f is not None:
        return edn.dumps(f)
    return "txn" if is_client(process) else ""


def _extra(entry: dict[Any, Any]) -> dict[str, Any] | None:
    is_odd = {
        "node": not isinstance(entry.get("node", ""), str),
        "time": type(entry.get("time", 0)) not in {int, *_TIMES},
    }
    if entry.keys() <= _FIELDS and not any(is_odd.values()):
        return None
    extra = {
        str(name) if isinstance(name, str) else edn.dumps(name): value
        for name, value in entry.items()
        if name not in _FIELDS or (is_odd.get(name) and value is not None)
    }
    return extra or None


def _micro_op(mop: Any) -> Any:
    if isinstance(mop, list | tuple) and mop and isinstance(mop[0], str):
        return [edn.Keyword(mop[0]), *mop[1:]]
    return mop


def _told_again(part: Any) -> Any:
    """A part of a transaction's value, as it has to be read to be written again.

    `JepsenLines` reads the function of a micro-operation as a text, and `map_from_op`
    makes a keyword of it again. It would not do so in a part of the transaction.
    """
    is_list = isinstance(part, list) and bool(part)
    is_micro_op = is_list and isinstance(part[0], str) and part[0] in MICRO_OPS
    return _micro_op(part) if is_micro_op else part


def _looks_independent(ops: Iterable[Op]) -> bool:
    """Whether all clients' values are `[k v]`, and those of invoked reads `[k nil]`."""
    reads = 0
    for op in ops:
        if not op.is_client:
            continue
        value = op.value
        if type(value) is not list or op.key is not None:
            return False
        if len(value) != 2 and not _is_triple(op):
            return False
        if op.f == "read" and op.type == "invoke":
            if not _may_be_key(value[0]) or value[1] is not None:
                return False
            reads += 1
    return reads > 0


def _shows_keys(ops: Iterable[Op]) -> bool:
    """Whether `_looks_independent` will be true once every key is in its value."""
    reads = 0
    for op in ops:
        if not op.is_client:
            continue
        if not _may_be_key(op.key):
            return False
        if op.f == "read" and op.type == "invoke":
            if op.value is not None:
                return False
            reads += 1
    return reads > 0


def _is_triple(op: Op) -> bool:
    """Whether an op is a cas of `[key from to]`; some write `[key [from to]]` so."""
    return op.f == "cas" and len(op.value) == 3


def _may_be_key(key: Any) -> bool:
    return key is not None and not isinstance(key, list)


def _split_key(op: Op, where: str) -> None:
    value = op.value
    if isinstance(value, list) and _is_triple(op):
        op.key, op.value = value[0], value[1:]
        return
    if not isinstance(value, list) or len(value) != 2:
        raise HistoryError(
            f"{where}: :value is {edn.dumps(value):.60}, not [key value] as in a "
            "history of independent keys"
        )
    op.key, op.value = map(_told_again, value) if op.f == "txn" else value


def _number_nobodies(ops: list[Op]) -> None:
    """Give each call without a process one of its own."""
    nobodies = [op for op in ops if op.process == _NOBODY]
    if not nobodies:
        return
    numbers = [op.process for op in ops if isinstance(op.process, int)]
    process = max(numbers, default=-1) + 1
    is_open = False
    for op in nobodies:
        if op.type == "invoke" and is_open:
            process += 1
        op.process = process
        is_open = op.type == "invoke"
        if not is_open:
            process += 1
