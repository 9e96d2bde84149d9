"""Jepsen's log output, as Porcupine's test data has it.

    INFO  jepsen.util - 1	:invoke	:write	1
    INFO  jepsen.util - 1	:info	:write	:timed-out

Tabs or blanks separate process, type, function and value. There are no times. Reading
only; the operations are a compare-and-set register's.

Choices: a `:fail` of a `:cas` is etcd's answer that the value was another one, which
is more than Jepsen's "it did not happen": the operation has to fit into the order. Such
completions carry `extra["cas_fail_is_mismatch"]`. A value of `:timed-out` is the reason
why there is no value, so it goes into `error`, where it answers nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from harness.formats import edn
from harness.history import History, HistoryError, Op, OpType

if TYPE_CHECKING:
    from harness.formats.source import Source

_LINE = re.compile(
    r"INFO\s+jepsen\.util\s+-\s+(?:([0-9]{1,18})|:([\w-]+))\s+:(invoke|ok|fail|info)"
    r"\s+:([\w-]+)(?:\s+(\S.*))?"
)
_TIMED_OUT = edn.Keyword("timed-out")


def read(source: Source, *, strict: bool = True) -> History:
    """The history in `source`. Cost: linear.

    Raises:
        HistoryError: Names file and line.
    """
    ops: list[Op] = []
    lines: list[int] = []
    for number, line in source.lines():
        text = line.strip()
        if text:
            ops.append(_op(f"{source.name}:{number}", text, len(ops)))
            lines.append(number)
    history = History(
        ops,
        strict=strict,
        source=source.name,
        where=lambda i: f"{source.name}:{lines[i]}",
    )
    history.lines = lines
    return history


def _op(where: str, text: str, index: int) -> Op:
    match = _LINE.fullmatch(text)
    if match is None:
        raise HistoryError(
            f"{where}: {text[:60]!r} is not a line of Jepsen's log (INFO  jepsen.util "
            "- PROCESS :TYPE :FUNCTION VALUE)"
        )
    number, name, kind, f, value_text = match.groups()
    op = Op(
        index=index,
        time=-1,
        process=name if number is None else int(number),
        type=cast("OpType", kind),
        f=f,
        value=_value(where, value_text),
    )
    if op.value == _TIMED_OUT and kind != "invoke":
        op.value, op.error = None, str(_TIMED_OUT)
    elif kind == "fail" and f == "cas":
        op.extra = {"cas_fail_is_mismatch": True}
    return op


def _value(where: str, text: str | None) -> Any:
    return None if text is None else edn.loads(text, source=where)
