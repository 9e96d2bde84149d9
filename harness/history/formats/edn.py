r"""EDN, the data notation of Clojure (github.com/edn-format/edn): text in, values out.

The reader reads all that stands in Jepsen's histories, and is safe on untrusted bytes;
the writer writes the same values. Notation and values:

    nil true false 1 1N 1.5 1.5M 1/2    None, bool, int, float, Decimal, Fraction
    "text" :keyword symbol \c            str, Keyword, Symbol, Char (all of them str)
    ##Inf ##-Inf ##NaN                  Symbol
    [1 2] (1 2)                         list; Clojure holds the two equal as well
    #{1 2}                              Set: a list, in an order of its own making
    {:a 1}                              dict; collections as keys are frozen
    #:ns{:a 1}                          {:ns/a 1}
    #inst "2026-01-01"                  Tagged

Keywords are strings without their colon, so a checker compares `mop[0] == "append"`
whether the history was JSON or EDN; only the writer tells `:append` from `"append"`.

Theory: one regular expression cuts a line into tokens in C; a pushdown automaton over
them keeps its stack in a list. Nothing recurses, so nesting can't exhaust Python's
stack, and every repetition in the expression is possessive, so no input backtracks.

Choices: more than EDN is read, as Clojure's printer leaves it in histories, and no
verdict depends on most of it: `#object[...]` with its hexadecimal addresses,
`#error {...}`, `#"pattern"`, `#'var`, and `#<...>` of old versions. The infinities and
NaN are symbols: NaN as a number is not equal to itself, so a register that returns the
value written would be called broken, and JSON has no notation for any of the three.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from harness.history import HistoryError

DEPTH_MAX = 128
"""Depth of collections inside collections; code that uses the values may recurse."""

STRING_CHARS_MAX = 16 << 20
"""Longest string: a quote too many must not make a string of gigabytes."""

SETS_DEPTH_MAX = 8
"""Depth of sets inside sets; each sorts its elements by their texts."""

_CACHED_ATOMS_MAX = 1 << 16
_CACHED_ATOM_CHARS_MAX = 32


class Keyword(str):
    """`:name`, held without its colon."""

    __slots__ = ()


class Symbol(str):
    """A bare `name`."""

    __slots__ = ()


class Char(str):
    r"""One character, `\c`."""

    __slots__ = ()


class Set(list[Any]):
    """A set, as a list without duplicates.

    Elements may be unhashable, and a list is JSON-able. The reader sorts elements, so
    sets read from texts that mean the same are equal (unless they hold maps).
    """

    __slots__ = ()


class FrozenMap(dict[Any, Any]):
    """A map inside a map's key; its values are frozen as well."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]  # dict says None: unhashable
        return hash(frozenset(self.items()))


@dataclass(frozen=True)
class Tagged:
    """`#tag value`, of which the reader does not know the meaning."""

    tag: str
    value: Any


def loads(text: str, *, source: str = "EDN") -> Any:
    """The one value that `text` holds. Cost: linear, about 0.4 us a token.

    Raises:
        HistoryError: The text is not EDN, has no value or several, or exceeds a limit.
    """
    reader = Reader(source, numbered="\n" in text)
    values = list(reader.values([(1, text)]))
    if len(values) != 1:
        raise HistoryError(f"{source}: {len(values)} values where one belongs")
    return values[0][1]


# Reading

_TOKEN = re.compile(
    r"""
    (?> [\s,]++ | ;[^\n]*+ )*+              # blanks and comments
    ( \#? " (?> [^"\\]++ | \\. )*+ "        # string, or pattern
    | \#\{ | \#_ | [()\[\]{}]               # collections, discard
    | \#< [^<>\n]*+ (?> < [^<>\n]*+ > [^<>\n]*+ )*+ >   # an object, before Clojure 1.7
    | \\. [^\s,;"()\[\]{}\\]*+              # character
    | [^\s,;"()\[\]{}\\]++                  # number, keyword, symbol, #tag
    | .                                     # what has no business here
    | \Z )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|[0-3]?[0-7]{1,2}|.)", re.DOTALL)
_STRING_REST = re.compile(r'(?>[^"\\]++|\\.)*+"', re.DOTALL)
_INTEGER = re.compile(r"([+-]?[0-9]+)N?")
_HEXADECIMAL = re.compile(r"[+-]?0[xX][0-9a-fA-F]+N?")
_RATIO = re.compile(r"([+-]?[0-9]+)/([0-9]+)")
_FLOAT = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)(M?)")
_NUMBER_START = re.compile(r"[+-]?[0-9]")
_NAME = r"[\w.*+!?$%&=<>|/@~^'-][\w.*+!?$%&=<>|/@~^'#:-]*+"
_KEYWORD = re.compile(":" + _NAME)
_SYMBOL = re.compile(_NAME)
_TAG = re.compile(r"#(?:[^\W\d]|::?)[\w.*+!?$%&=<>|/:#'-]*+")
_UNTOUCHED = ("##", "#<", '#"', "#'")
"""Beginnings of tokens that are whole values, although `#` would open a tag."""
_BEYOND_NUMBERS = frozenset({"##Inf", "##-Inf", "##NaN"})

_CLOSER = {"(": ")", "[": "]", "{": "}", "#{": "}"}
_CLOSERS = frozenset(_CLOSER.values())
_DISCARD = "#_"
_TOP = ""
"""The frame that stands for the text itself."""
_CONTAINERS = frozenset({*_CLOSER, _TOP})
"""Frames that collect values; the others are prefixes and take the next value."""

_ESCAPES = {
    "t": "\t", "r": "\r", "n": "\n", "b": "\b", "f": "\f", '"': '"', "\\": "\\",
}  # fmt: skip
_CHAR_NAMES = {
    "newline": "\n", "return": "\r", "space": " ", "tab": "\t",
    "formfeed": "\f", "backspace": "\b",
}  # fmt: skip
_UNSEEN = object()


class _Malformed(Exception):  # noqa: N818  # a mere reason; values() adds the place
    """Why a token can't stand where it does; `token` counts within the piece."""

    token = 0


class Reader:
    """Reads EDN piece by piece; a piece may end inside a string, but in no other token.

    Args:
        source: The name of the source, for messages.
        numbered: Whether messages name lines, too.
        unwrap: Whether a text that is one vector or list gives its elements instead,
            each with its own line number, of which one at a time is held.
    """

    def __init__(
        self, source: str, *, numbered: bool = True, unwrap: bool = False
    ) -> None:
        self._source = source
        self._numbered = numbered
        self._unwrap = unwrap
        self._wrapper = ""  # the token that will close the unwrapped vector
        self._is_over = False  # whether it was closed
        self._began = 1  # line of the outermost value that is open
        self._string: list[str] = []  # the parts so far of an open string
        self._string_chars = 0
        self._string_began = self._string_line = 1
        self._comment_line = 0  # the rest of this line is a comment
        self._atoms: dict[str, Any] = {"nil": None, "true": True, "false": False}
        # The innermost open frame, and those around it.
        self._opener = _TOP
        self._items: list[Any] = []
        self._stack: list[tuple[str, list[Any]]] = []

    def values(self, pieces: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
        """(number of the line where it begins, value) of each value at the top.

        Args:
            pieces: (number of its first line, text); usually one line each.

        Raises:
            HistoryError: Something is no EDN; names the line and the reason.
        """
        number = 1
        for number, piece in pieces:
            yield from self.feed(number, piece)
        self.finish(number)

    def feed(self, number: int, piece: str) -> Iterator[tuple[int, Any]]:
        """(line, value) of the values that end in one piece.

        Pieces with the same number are parts of one line.
        """
        first = number
        if self._string:
            first = self._string_began
            whole = self._end_of_string(number, piece)
            if whole is None:
                return
            piece = whole
        elif number == self._comment_line:
            return
        elif self._opener == _TOP:
            self._began = number
        tokens = _TOKEN.findall(piece)
        if '"' in tokens:  # a lone quote begins a string that ends in a later piece
            self._begin_string(number, piece, tokens)
        elif ";" in piece and _ends_in_comment(piece):
            self._comment_line = number
        if self._unwrap:
            self._take_wrapper(tokens)
        try:
            self._parse(tokens)
        except _Malformed as reason:
            line = first + _newlines_before(piece, reason.token)
            raise self._error(line, str(reason)) from None
        for value in self._completed():
            yield self._began, value
            self._began = number

    def _begin_string(self, number: int, piece: str, tokens: list[str]) -> None:
        """Keep the string that `piece` ends in, and take it out of `tokens`."""
        at = tokens.index('"')
        del tokens[at:]
        match = next(itertools.islice(_TOKEN.finditer(piece), at, None))
        self._string = [piece[match.start(1) :]]
        self._string_chars = len(self._string[0])
        self._string_began = self._string_line = number

    def _end_of_string(self, number: int, piece: str) -> str | None:
        """The open string and the rest of `piece` after it; None if it goes on."""
        if number != self._string_line:
            piece = "\n" + piece
            self._string_line = number
        match = _STRING_REST.match(piece)
        self._string_chars += len(piece)
        if self._string_chars > STRING_CHARS_MAX:
            raise self._error(
                self._string_began,
                f"a string that is longer than {STRING_CHARS_MAX >> 20} Mi characters",
            )
        self._string.append(piece)
        if match is None:
            return None
        whole, self._string = "".join(self._string), []
        return whole

    def finish(self, number: int) -> None:
        """Refuse an end inside of a value; `number` is the last piece's line."""
        if self._string:
            raise self._error(self._string_began, "a string that doesn't end")
        if self._opener != _TOP:
            raise self._error(number, self._unfinished(self._began))
        if self._wrapper:
            raise self._error(number, self._unfinished(1))

    @property
    def is_inside(self) -> bool:
        """Whether a value has begun and not ended."""
        return self._opener != _TOP or bool(self._string)

    @property
    def is_between(self) -> bool:
        """Whether values at the top have been read, and another may begin now."""
        return (
            self._opener == _TOP
            and not self._unwrap
            and not self._is_over
            and not self._string
        )

    def _error(self, line: int, reason: str) -> HistoryError:
        place = f"{self._source}:{line}" if self._numbered else self._source
        return HistoryError(f"{place}: {reason}")

    def _unfinished(self, began: int) -> str:
        if not self._numbered:
            return "the text ends inside of a value"
        return f"the text ends inside of what begins in line {began}"

    def _take_wrapper(self, tokens: list[str]) -> None:
        if any(tokens):
            self._unwrap = False
            if tokens[0] in {"[", "("}:
                self._wrapper = _CLOSER[tokens[0]]
                tokens[0] = ""

    def _completed(self) -> list[Any]:
        """Take the values that are complete out of the outermost frame."""
        if not self._stack:
            done, self._items = self._items, []
            return done
        items = self._stack[0][1]
        done = items[:]
        items.clear()
        return done

    def _parse(self, tokens: list[str]) -> None:
        """Push `tokens` through the automaton."""
        atoms, stack = self._atoms, self._stack
        opener, items = self._opener, self._items
        place = 0
        try:
            for place, token in enumerate(tokens):  # noqa: B007  # for the except
                value = atoms.get(token, _UNSEEN)
                if value is _UNSEEN:
                    if not token:
                        continue
                    if self._is_over:
                        raise _Malformed(  # noqa: TRY301  # the except adds the place
                            f"{_shown(token)} after the end of the vector"
                        )
                    if token in _CLOSER or (
                        token[0] == "#" and not token.startswith(_UNTOUCHED)
                    ):
                        stack.append((opener, items))
                        opener, items = self._open(token), []
                        continue
                    if token not in _CLOSERS:
                        value = self._atom(token)
                    elif opener == _TOP and token == self._wrapper:
                        self._wrapper, self._is_over = "", True
                        atoms.clear()  # so that the check above sees every atom
                        continue
                    elif _CLOSER.get(opener) == token:
                        value = _BUILD[opener](items)
                        opener, items = stack.pop()
                    else:
                        raise _Malformed(  # noqa: TRY301  # the except adds the place
                            f"{token!r} closes nothing that is open"
                        )
                while opener not in _CONTAINERS:
                    prefix = opener
                    opener, items = stack.pop()
                    if prefix == _DISCARD:
                        break
                    value = _tagged(prefix[1:], value)
                else:
                    items.append(value)
        except _Malformed as reason:
            reason.token = place
            raise
        self._opener, self._items = opener, items

    def _open(self, token: str) -> str:
        if len(self._stack) > DEPTH_MAX:
            raise _Malformed(f"nested more than {DEPTH_MAX} deep")
        if token == "#{":  # noqa: S105  # not that kind of token
            around = [opener for opener, _ in self._stack]
            if around.count(token) >= SETS_DEPTH_MAX:
                raise _Malformed(f"sets in sets more than {SETS_DEPTH_MAX} deep")
        if token not in _CLOSER and token != _DISCARD and not _TAG.fullmatch(token):
            raise _Malformed(f"{_shown(token)} is neither a set nor a tag")
        return token

    def _atom(self, token: str) -> Any:
        value = _atom(token)
        if (
            len(token) <= _CACHED_ATOM_CHARS_MAX
            and token[0] != '"'
            and len(self._atoms) < _CACHED_ATOMS_MAX
        ):
            self._atoms[token] = value
        return value


def _ends_in_comment(piece: str) -> bool:
    ends = (match[0] for match in _TOKEN.finditer(piece) if not match[1])
    return any(";" in blanks.rpartition("\n")[2] for blanks in ends)


def _newlines_before(piece: str, token: int) -> int:
    for i, match in enumerate(_TOKEN.finditer(piece)):
        if i == token:
            return piece.count("\n", 0, match.start(1))
    return 0


def _shown(token: str) -> str:
    return repr(token if len(token) <= 40 else token[:40] + "...")


def _atom(token: str) -> Any:
    first = token[0]
    if first == '"':
        return _string(token)
    if first == "#":
        return _printed(token)
    if first == ":" and _KEYWORD.fullmatch(token):
        return Keyword(token[1:])
    if first == "\\":
        return _char(token[1:])
    if _NUMBER_START.match(token):
        return _number(token)
    if _SYMBOL.fullmatch(token):
        return Symbol(token)
    raise _Malformed(f"{_shown(token)} is not EDN")


def _printed(token: str) -> Any:
    """The value of a token that Clojure prints with a `#` and EDN doesn't have."""
    if token.startswith('#"'):
        return Tagged("regex", token[2:-1])
    if token in _BEYOND_NUMBERS or token.startswith(("#<", "#'")):
        return Symbol(token)
    raise _Malformed(f"{_shown(token)} is neither a set nor a tag")


def _string(token: str) -> str:
    if len(token) < 2:
        raise _Malformed("a string that doesn't end in its line")
    text = token[1:-1]
    if "\\" not in text:
        return text
    return _whole_characters(_ESCAPE.sub(_unescape, text))


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] == "u" and len(code) == 5:
        return chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8))
    if code not in _ESCAPES:
        raise _Malformed(f"\\{code} is no escape in a string")
    return _ESCAPES[code]


def _whole_characters(text: str) -> str:
    """Join the surrogate pairs of a text: Java's escapes are units of UTF-16."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise _Malformed("half of a surrogate pair in a string") from None


def _char(name: str) -> Char:
    if len(name) == 1:
        return Char(name)
    if name in _CHAR_NAMES:
        return Char(_CHAR_NAMES[name])
    if re.fullmatch(r"u[0-9a-fA-F]{4}", name):
        return Char(_whole_characters(chr(int(name[1:], 16))))
    if re.fullmatch(r"o[0-3]?[0-7]{1,2}", name):
        return Char(chr(int(name[1:], 8)))
    raise _Malformed(f"{_shown(chr(92) + name)} is no character")


def _number(token: str) -> int | float | Decimal | Fraction | Symbol:
    try:
        if match := _INTEGER.fullmatch(token):
            return int(match[1])
        if _HEXADECIMAL.fullmatch(token):
            return int(token.removesuffix("N"), 16)
        if match := _FLOAT.fullmatch(token):
            number = Decimal(match[1]) if match[2] else float(match[1])
            if math.isfinite(number):
                return number
            return Symbol("##-Inf" if number < 0 else "##Inf")  # as Clojure reads 1e400
        if match := _RATIO.fullmatch(token):
            return Fraction(int(match[1]), int(match[2]))
    except (ValueError, ArithmeticError):
        pass  # more digits than Python reads, a zero denominator, a huge exponent
    raise _Malformed(f"{_shown(token)} is not a number")


def _map(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise _Malformed("a map with a key that has no value")
    keys, values = items[::2], items[1::2]
    try:
        built = dict(zip(keys, values, strict=True))
    except TypeError:
        built = dict(zip(map(freeze, keys), values, strict=True))
    if len(built) != len(keys):
        raise _Malformed("a map with the same key twice")
    return built


def _set(items: list[Any]) -> Set:
    kinds = set(map(type, items))
    if len(kinds) > 1 or not kinds <= {int, str, Keyword}:
        texts = [dumps(item) for item in items]
        if len(set(texts)) != len(texts):
            raise _Malformed("a set with the same element twice")
        return Set(
            item for _, item in sorted(zip(texts, items, strict=True), key=_text)
        )
    if len(set(items)) != len(items):
        raise _Malformed("a set with the same element twice")
    return Set(sorted(items))


def _text(pair: tuple[str, Any]) -> str:
    return pair[0]


_BUILD: Mapping[str, Callable[[list[Any]], Any]] = {
    "(": list, "[": list, "{": _map, "#{": _set,
}  # fmt: skip


def _tagged(tag: str, value: Any) -> Any:
    """The value with a tag.

    Records print as `#a.b.Record{...}`; as data they are the map they hold. In the map
    of `#:ns{...}` names that have no namespace of their own are in `ns`.
    """
    if tag[0] == ":" and isinstance(value, dict):
        return {_named(tag.lstrip(":"), key): item for key, item in value.items()}
    if "." in tag and isinstance(value, dict):
        return value
    return Tagged(tag, value)


def _named(namespace: str, name: Any) -> Any:
    """The full name of a key inside of `#:namespace{...}`."""
    if not isinstance(name, Keyword | Symbol):
        return name
    own, slash, rest = name.partition("/")
    if not slash or not rest:
        return type(name)(f"{namespace}/{name}")
    return type(name)(rest) if own == "_" else name


def freeze(value: Any) -> Any:
    """A hashable value that is equal to the frozen form of every equal value."""
    if isinstance(value, Set):
        return frozenset(map(freeze, value))
    if isinstance(value, list):
        return tuple(map(freeze, value))
    if isinstance(value, dict):
        return FrozenMap({freeze(k): freeze(v) for k, v in value.items()})
    if isinstance(value, Tagged):
        return Tagged(value.tag, freeze(value.value))
    return value


# Writing

_PLAIN = re.compile(r'[^"\\\x00-\x1f\x7f-\x9f]*+')
_ESCAPED = {
    **{ord(char): f"\\{letter}" for letter, char in _ESCAPES.items()},
}
_CHAR_NAMES_BACK = {char: name for name, char in _CHAR_NAMES.items()}
_INT64 = range(-(2**63), 2**63)


def dumps(value: Any) -> str:
    """The text of `value`, on one line. It reads back as an equal value of its class.

    Raises:
        HistoryError: EDN has no notation for a value inside of it.
    """
    return _dumps(value, 0)


def _dumps(value: Any, depth: int) -> str:
    if depth > DEPTH_MAX:
        raise HistoryError(f"cannot write EDN nested more than {DEPTH_MAX} deep")
    match value:
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case str():
            return _dumps_text(value)
        case int():
            return str(value) if value in _INT64 else f"{value}N"
        case float() | Decimal() if math.isfinite(value):
            return f"{value}M" if isinstance(value, Decimal) else repr(value)
        case float():
            return {math.inf: "##Inf", -math.inf: "##-Inf"}.get(value, "##NaN")
        case Fraction():
            return f"{value.numerator}/{value.denominator}"
        case Set() | set() | frozenset():
            return f"#{{{_dumps_all(value, depth)}}}"
        case list() | tuple():
            return f"[{_dumps_all(value, depth)}]"
        case Mapping():
            pairs = (part for item in value.items() for part in item)
            return f"{{{_dumps_all(pairs, depth)}}}"
        case Tagged():
            return f"#{value.tag} {_dumps(value.value, depth + 1)}"
        case _:
            pass
    raise HistoryError(f"EDN has no notation for {type(value).__name__} {value!r:.60}")


def _dumps_all(values: Iterable[Any], depth: int) -> str:
    return " ".join([_dumps(value, depth + 1) for value in values])


def _dumps_text(text: str) -> str:
    match text:
        case Keyword() if _KEYWORD.fullmatch(":" + text):
            return ":" + text
        case Symbol() if _SYMBOL.fullmatch(text) and not _NUMBER_START.match(text):
            return str(text)
        case Symbol() if text in _BEYOND_NUMBERS:
            return str(text)
        case Char():
            return "\\" + _CHAR_NAMES_BACK.get(text, text)
        case _:
            pass
    return '"' + text.translate(_ESCAPED) + '"'
