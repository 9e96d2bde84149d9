"""Reads operations that have a line each, in the form in which Jepsen prints them.

    {:index 0, :type :invoke, :process 1, :time 12, :f :txn, :value [[:r 2 nil]]}

`edn` reads all of EDN, token by token. But nearly all lines of nearly all histories
have the same fields in the same order, and values of numbers and vectors, which differ
from JSON in their spelling only. One regular expression for each order of fields takes
such a line apart, several times as fast. It is made when `edn` has read the first line
of the kind. A line that isn't understood completely is left to `edn`, so that this
module saves time and decides nothing.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec

from harness.history import Op
from harness.history.formats.edn import Keyword

if TYPE_CHECKING:
    from collections.abc import Mapping

PATTERNS_MAX: Final = 8
"""Orders of fields that are known at the same time; a history has two or three."""

_INTEGER = "-?[0-9]{1,18}"
_NAME = "[A-Za-z][A-Za-z0-9_-]*+"
_INSIDE = "[0-9a-z ,.-]"


def _vectors(depth: int) -> str:
    """A pattern for vectors in vectors, at most `depth` deep."""
    if depth == 1:
        return rf"\[{_INSIDE}*+\]"
    return rf"\[(?:{_INSIDE}++|{_vectors(depth - 1)})*+\]"


MICRO_OPS: Final = ("append", "r", "w")
"""The functions of a transaction's operations that this module reads."""

_MICRO_OP = rf"\[:(?:{'|'.join(MICRO_OPS)}) (?:{_INSIDE}++|{_vectors(1)})*+\]"

_FIELDS: Final = {
    "index": _INTEGER,
    "time": _INTEGER,
    "process": f"{_INTEGER}|:{_NAME}",
    "type": ":(?:invoke|ok|fail|info)",
    "f": f":{_NAME}",
    "value": rf"nil|{_INTEGER}|{_vectors(4)}|\[{_MICRO_OP}(?:,? {_MICRO_OP})*+\]",
    "error": f"nil|:{_NAME}",
    "node": r'nil|"[^"\\]*+"',
}

_NEEDED: Final = frozenset({"type", "process", "f"})

_NOTATIONS: Final = {f"[:{f} ": f'["{f}" ' for f in MICRO_OPS}
"""How the operations of a transaction begin, in EDN and in JSON."""

ATOMS_MAX: Final = 1 << 16

_NOT_KNOWN: Final = object()


class JepsenLines:
    """Reads lines of the kinds that it has learned."""

    def __init__(self) -> None:
        self._patterns: list[re.Pattern[str]] = []
        self._atoms: dict[str, Any] = {}

    def learn(self, entry: Mapping[Any, Any]) -> None:
        """Learn to read lines with the fields of this operation, in their order."""
        fields = [str(name) for name in entry]
        is_plain = _NEEDED <= set(fields) <= _FIELDS.keys()
        if not is_plain or len(self._patterns) >= PATTERNS_MAX:
            return
        inside = ",? ".join(f":{name} (?P<{name}>{_FIELDS[name]})" for name in fields)
        pattern = re.compile(rf"\{{{inside}\}}")
        if pattern not in self._patterns:
            self._patterns.append(pattern)

    def op(self, line: str, index: int) -> Op | None:
        """The operation on a line; None if `edn` has to read it."""
        for pattern in self._patterns:
            if match := pattern.fullmatch(line):
                return self._op(match.groupdict(), index)
        return None

    def _op(self, fields: dict[str, str], index: int) -> Op | None:
        """The op that `jepsen_edn.op_from_map` makes of a line with these fields."""
        value = self._value(fields["value"], fields["f"]) if "value" in fields else None
        if value is _NOT_KNOWN:
            return None
        error, node = fields.get("error", "nil"), fields.get("node", "nil")
        return Op(
            index,
            int(fields.get("time", "-1")),
            self._atom(fields["process"]),
            self._atom(fields["type"]),
            self._atom(fields["f"]),
            value,
            None,
            None if error == "nil" else Keyword(error[1:]),
            None if node == "nil" else node[1:-1],
        )

    def _atom(self, text: str) -> Any:
        """A number, or the name of a keyword; each text is read once and remembered."""
        known = self._atoms.get(text)
        if known is None:
            known = sys.intern(text[1:]) if text[0] == ":" else int(text)
            if len(self._atoms) < ATOMS_MAX:
                self._atoms[text] = known
        return known

    @staticmethod
    def _value(text: str, f: str) -> Any:
        """The value that a text stands for; _NOT_KNOWN if `edn` has to read it."""
        if text == "nil":
            return None
        if text[0] != "[":
            return int(text)
        if ":" in text:
            if f != ":txn":
                return _NOT_KNOWN  # a keyword, which has to be written as one again
            for notation, json in _NOTATIONS.items():
                text = text.replace(notation, json)
        if "null" in text:
            return _NOT_KNOWN  # a symbol other than nil
        text = text.replace(", ", " ").replace(" ", ",").replace("nil", "null")
        try:
            return msgspec.json.decode(text)
        except ValueError:
            return _NOT_KNOWN
