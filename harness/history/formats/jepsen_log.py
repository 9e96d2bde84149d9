"""Operations as Jepsen prints them for people: its log, and `history.txt`.

    INFO  jepsen.util - 1 :ok :write 1
    INFO [2017-06-16 11:22:33,123] jepsen worker 0 - jepsen.util 1 :ok :write 1
    2022-05-10 16:54:02,231{GMT} INFO [jepsen worker 0] jepsen.util: 1 :ok :write 1
    1 :ok :write 1

The first form is of 2014, and the last is that of `history.txt`. Tabs separate process,
type, function, value and, if there is one, the error; in logs that other programs have
handled, blanks may do so. Other lines of a log are passed over, except those that
continue a value: exceptions are printed over several lines. There are no times. What we
write has the last form.

Choices: in the logs of 2014, which are of etcd's compare-and-set register, a `:fail` of
a `:cas` is etcd's answer that the value was another one, which is more than Jepsen's
"it did not happen": the operation has to fit into the order. Such completions carry
`extra["cas_fail_is_mismatch"]`. In the same logs a value of `:timed-out` is the reason
why there is no value, so it goes into `error`, where it is no answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

from harness.history import HistoryError, Op, OpType
from harness.history.formats import edn, jepsen_edn
from harness.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.history import History
    from harness.history.formats.source import Source

_LOGGER: Final = r"(?:[^\s\[{(#;][^\n]*?\s)?jepsen\.[\w.-]+?:?\s+(?:-\s+)?"
"""The text before a message: level, time and thread if there, then the logger."""

_CALL: Final = r"(?:(-?[0-9]{1,18})|:?([A-Za-z][\w./-]*+))\s+:(invoke|ok|fail|info)\s+"
"""Process and type, which begin a message that is an operation."""

_LOGGED: Final = re.compile(rf"\s*{_LOGGER}")
_OPERATION: Final = re.compile(rf"\s*({_LOGGER})?{_CALL}(\S+)(.*)", re.DOTALL)
_OLD: Final = re.compile(r"\s*INFO\s+jepsen\.util\s+-\s")
_TORN: Final = re.compile(r"\s*(?:[^\n]*?\s)?jepsen\.util:?\s+(?:-\s+)?-?[0-9]+\s+:")
_LOOKED_AT_MAX: Final = 200
"""Among this many lines one must look like an operation or a message of Jepsen."""

ERROR_LINES_MAX: Final = 50
"""Lines of an error that are kept; more would be a long stack trace."""

_TIMED_OUT: Final = edn.Keyword("timed-out")


def looks_so(head: str) -> bool:
    """Whether a file that begins with `head` is such a log."""
    lines = head.lstrip().split("\n", _LOOKED_AT_MAX)[:_LOOKED_AT_MAX]
    if _OPERATION.match(lines[0]):
        return True
    return lines[0][:1] not in "[{(#;" and any(map(_LOGGED.match, lines))


def read(
    source: Source, *, strict: bool = False, independent: bool | None = None
) -> History:
    """The history in `source`. Cost: linear, 10 us an operation.

    Args:
        source: An open file.
        strict: Refuse events that don't pair up.
        independent: Split clients' `[k v]` values into key and value; None does so if
            they can't be anything else.

    Raises:
        HistoryError: Names file and line.
    """
    reader = _Reader(source.name)
    for number, line in source.lines():
        reader.feed(number, line)
    reader.finish()
    return jepsen_edn.history_of(
        source.name, reader.ops, reader.lines, strict=strict, independent=independent
    )


def write(history: Iterable[Op]) -> Iterator[bytes]:
    """The lines of `history.txt`, as Jepsen's `op->str` has them (jepsen.util).

    A key stands in the value, `[key value]`, as `jepsen.independent` puts it there.
    Times and nodes have no place in this file.
    """
    for op in history:
        entry = jepsen_edn.map_from_op(op, has_tuples=True)
        process = entry["process"]
        told = [
            str(process) if op.is_client else edn.dumps(process),
            *(edn.dumps(entry[name]) for name in ("type", "f", "value")),
        ]
        if op.error is not None:
            error = op.error if isinstance(op.error, str) else edn.dumps(op.error)
            told.append(visible_line(error))
        yield "\t".join(told).encode() + b"\n"


class _Reader:
    """Reads lines; a value may take several."""

    def __init__(self, source: str) -> None:
        self.ops: list[Op] = []
        self.lines: list[int] = []
        self._source = source
        self._is_log = False  # in a log other lines may stand between operations
        self._value: edn.Reader | None = None  # of the last operation, while it is open
        self._values: list[Any] = []
        self._error_lines = 1  # of the last operation

    def feed(self, number: int, line: str) -> None:
        """Take in the next line."""
        match = _OPERATION.fullmatch(line)
        is_logged = bool((match and match[1]) or (not match and _LOGGED.match(line)))
        self._is_log |= is_logged
        if match or is_logged:
            self.finish()
        if match:
            self._begin(number, match)
        elif self._value is not None:
            self._go_on(number, line)
        elif is_logged and _TORN.match(line):
            raise self._error(number, f"an operation that is cut short: {line[-60:]!r}")
        elif not self._is_log and line.strip():
            self._explain(number, line)

    def finish(self) -> None:
        """Refuse an end inside of a value."""
        if self._value is not None and self.ops[-1].is_client:
            raise self._error(self.lines[-1], "the value of the operation doesn't end")
        self._value = None

    def _begin(self, number: int, match: re.Match[str]) -> None:
        logger, client, name, kind, f, rest = match.groups()
        op = Op(
            index=len(self.ops),
            time=-1,
            process=name if client is None else int(client),
            type=cast("OpType", kind),
            f=f.removeprefix(":"),
        )
        self.ops.append(op)
        self.lines.append(number)
        self._value = edn.Reader(self._source)
        self._values = []
        self._error_lines = 1
        self._go_on(number, rest.removeprefix("\t"))
        if logger and _OLD.match(logger):
            _as_in_2014(op)

    def _go_on(self, number: int, text: str) -> None:
        """Continue the value of the last operation; text behind it is the error."""
        assert self._value is not None
        op = self.ops[-1]
        text, _, error = text.partition("\t")
        try:
            self._values += [value for _, value in self._value.feed(number, text)]
            is_over = not self._value.is_inside
        except HistoryError:
            if op.is_client:
                raise
            self._values, is_over = [text.strip()], True
        if is_over:
            op.value, *more = self._values or [None]
            op.error = error.strip() or " ".join(map(edn.dumps, more)) or None
            self._value = None

    def _explain(self, number: int, line: str) -> None:
        """Add a line that is no operation to the last one's error, or refuse it."""
        if not self.ops or self.ops[-1].error is None:
            raise self._error(
                number,
                f"{line[:60]!r} is no operation as Jepsen prints it (PROCESS :TYPE "
                ":FUNCTION VALUE, perhaps after a logger's words)",
            )
        self._error_lines += 1
        if self._error_lines <= ERROR_LINES_MAX:
            self.ops[-1].error += "\n" + line

    def _error(self, number: int, reason: str) -> HistoryError:
        return HistoryError(f"{self._source}:{number}: {reason}")


def _as_in_2014(op: Op) -> None:
    """Change an operation of a log of 2014 into the present form."""
    if op.value == _TIMED_OUT and op.type != "invoke":
        op.value, op.error = None, str(_TIMED_OUT)
    elif op.type == "fail" and op.f == "cas" and op.error is None:
        op.extra = {"cas_fail_is_mismatch": True}
