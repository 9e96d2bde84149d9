"""JSON as other programs write it: values one after the other, or one array of them.

    {"type":"invoke",...}            a value a line, with blank lines or without
    {                                values over several lines
      "type": "invoke", ...
    }
    [{"type":"invoke",...}, ...]     an array, whose elements are the values

An array may be of any length, in one line or many, as its elements are decoded one by
one. They are read by Python's decoder rather than msgspec's, since it can tell where a
value in the middle of a text ends.

Choices: `NaN` and `Infinity`, which are no JSON but are written by Python and others,
become the symbols that EDN has for them, and so do numbers too large for a float; `edn`
says why they don't become numbers.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

from harness.history import HistoryError
from harness.history.formats.edn import Symbol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VALUE_CHARS_MAX: Final = 512 << 20
"""Longest value: a bracket too many must not make a value of gigabytes. A whole history
in a field of one object may have hundreds of megabytes."""

_BETWEEN: Final = re.compile(r"[\s,\x1e]*+")
"""Separators of values: blanks, commas, and the record separator of RFC 7464."""

_TAIL_CHARS: Final = 64
"""A fault this near to the end of a text may only mean that the text goes on."""

_BEYOND_NUMBERS: Final = {
    "Infinity": Symbol("##Inf"),
    "-Infinity": Symbol("##-Inf"),
    "NaN": Symbol("##NaN"),
}


def _float(text: str) -> float | Symbol:
    number = float(text)
    if math.isfinite(number):
        return number
    return _BEYOND_NUMBERS["-Infinity" if number < 0 else "Infinity"]


_DECODER: Final = json.JSONDecoder(
    parse_float=_float, parse_constant=_BEYOND_NUMBERS.__getitem__
)


def values(
    source: str, blocks: Iterable[bytes], line: int = 1
) -> Iterator[tuple[int, Any]]:
    """(line where it begins, value) of each value. Cost: linear, 5 us an operation.

    Args:
        source: The name of the source, for messages.
        blocks: The bytes, cut anywhere.
        line: The number of the first line.

    Raises:
        HistoryError: Something is no JSON; names the line and the reason.
    """
    reader = _Reader(source, line)
    for text in _decoded(source, blocks, line):
        yield from reader.feed(text)
    yield from reader.finish()


class _Reader:
    """Takes values off the front of a text that comes in pieces."""

    def __init__(self, source: str, line: int) -> None:
        self._source = source
        self._line = line  # in which `_text` begins
        self._text = ""
        self._enough = 0  # characters that may hold a whole value
        self._is_array: bool | None = None
        self._is_over = False

    def feed(self, text: str, *, is_last: bool = False) -> Iterator[tuple[int, Any]]:
        """The values that end in `text`."""
        text = self._text + text
        if len(text) < min(self._enough, VALUE_CHARS_MAX) and not is_last:
            self._text = text
            return
        at, line, counted = 0, self._line, 0
        while (begin := self._skip(text, at, line)) < len(text):
            line += text.count("\n", counted, begin)
            counted = begin
            if self._is_over:
                raise self._error(line, f"{text[begin:][:24]!r} after the array's end")
            try:
                value, at = _DECODER.raw_decode(text, begin)
            except json.JSONDecodeError as problem:
                if not is_last and _may_go_on(problem, len(text)):
                    at = begin
                    break
                raise self._refusal(problem, line, begin, is_last=is_last) from None
            except RecursionError:
                raise self._error(line, "nested too deep") from None
            except ValueError as problem:  # more digits than Python reads
                raise self._error(line, f"not JSON: {problem}") from None
            yield line, value
        else:
            at = len(text)
        self._line = line + text.count("\n", counted, at)
        self._text = text[at:]
        # Decode again only once the text has doubled, so that the cost stays linear.
        self._enough = 2 * len(self._text)
        if len(self._text) > VALUE_CHARS_MAX:
            raise self._error(
                self._line,
                f"a value that is longer than {VALUE_CHARS_MAX >> 20} Mi characters",
            )

    def finish(self) -> Iterator[tuple[int, Any]]:
        """The values that end with the text."""
        yield from self.feed("", is_last=True)
        if self._is_array and not self._is_over:
            raise self._error(
                self._line, "the array doesn't end: the file is cut short"
            )

    def _skip(self, text: str, at: int, line: int) -> int:
        """The position at which the next value begins, past an array's brackets."""
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # matches all
        if self._is_array is None and at < len(text):
            self._is_array = text[at] == "["
            if self._is_array:
                return self._skip(text, at + 1, line)
        if self._is_array and not self._is_over and text.startswith("]", at):
            self._is_over = True
            return self._skip(text, at + 1, line)
        return at

    def _refusal(
        self, problem: json.JSONDecodeError, line: int, begin: int, *, is_last: bool
    ) -> HistoryError:
        near = problem.doc[problem.pos :][:24]
        where = line + problem.doc.count("\n", begin, problem.pos)
        if is_last and _may_go_on(problem, len(problem.doc)):
            return self._error(where, f"the last line is cut short: {problem.msg}")
        return self._error(where, f"not JSON: {problem.msg}, at {near!r}")

    def _error(self, line: int, reason: str) -> HistoryError:
        return HistoryError(f"{self._source}:{line}: {reason}")


def _may_go_on(problem: json.JSONDecodeError, size: int) -> bool:
    """Whether the problem may vanish once more of the text is there."""
    is_near_the_end = problem.pos >= size - _TAIL_CHARS
    return is_near_the_end or problem.msg.startswith("Unterminated string")


def _decoded(source: str, blocks: Iterable[bytes], line: int) -> Iterator[str]:
    """The blocks as text.

    Raises:
        HistoryError: The blocks are no UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    block = b""
    try:
        for block in blocks:
            yield decoder.decode(block)
            line += block.count(b"\n")
        block = b""
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as problem:
        line += problem.object.count(b"\n", 0, problem.start)
        raise HistoryError(f"{source}:{line}: not UTF-8: {problem.reason}") from None
