"""Reads documents that people write and runs leave behind: suites, plans, run folders.

Reading is strict and bounded: the data consist of dicts with texts for keys, lists,
texts, finite numbers, true, false and null, and so can be kept as JSON. Everything else
is refused in one line that names the file, the place and the remedy: a date (YAML makes
one of 2001-02-03), a number such as nan, a repeated key, a document that is nested
deeper or unfolds to more than any sensible one.

YAML's events are read one by one, as PyYAML's own composer recurses and unfolds aliases
without end ("billion laughs"). An alias counts as much as the value that it stands for.

Only plain files are opened: reading a pipe might wait for ever, reading a device might
never end.
"""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from harness.errors import HarnessError, UsageError
from harness.host import nodefiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BYTES_MAX = 4 << 20
"""Most values of a document. A suite of a thousand rows has a tenth of that."""

DEPTH_MAX = 40
VALUES_MAX = 200_000
CHARS_PER_VALUE = 100
"""Length of text that counts as one more value."""
DIGITS_MAX = 18

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_MERGE = object()


def read_bytes(path: Path, *, bytes_max: int = BYTES_MAX) -> bytes:
    """The bytes of a plain file.

    Raises:
        UsageError: `path` is no plain file, can't be read, or is larger than
            `bytes_max`.
    """
    try:
        with nodefiles.open_plain(path, follows_links=True) as file:
            data = file.read(bytes_max + 1)
    except nodefiles.NotPlainError:
        raise UsageError(f"{path} is not a plain file, so it is not read") from None
    except OSError as problem:
        raise UsageError(f"cannot read {path}: {problem.strerror}") from None
    except ValueError as problem:  # a NUL in its name
        raise UsageError(f"cannot read {str(path)!r}: {problem}") from None
    if len(data) > bytes_max:
        raise UsageError(
            f"{path} is larger than {bytes_max >> 20} MiB, which is too large for it"
        )
    return data


def read_text(path: Path) -> str:
    """The text of a plain file in UTF-8.

    Raises:
        UsageError: `path` is no plain file, can't be read, is too large, or is not
            UTF-8 (names the line).
    """
    data = read_bytes(path)
    try:
        return data.decode()
    except UnicodeDecodeError as bad:
        line = data.count(b"\n", 0, bad.start) + 1
        raise UsageError(
            f"{path}, line {line}: not UTF-8 text: {bad.reason} "
            f"(byte {data[bad.start]:#04x})"
        ) from None


Route = tuple[str | int, ...]
"""The keys and places in lists that lead to a value of a document."""


@dataclass(frozen=True)
class Mark:
    """A place in a text, counted from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


class Marks:
    """Where the values of a document stand: a key for what it names, else the value."""

    def __init__(self) -> None:
        self._by_path: dict[Route, Mark] = {}

    def put(self, path: Route, mark: Mark) -> None:
        """Note where a value stands."""
        self._by_path[path] = mark

    def of(self, path: Route) -> Mark:
        """Where a value stands, or else the innermost around it that is known."""
        while path and path not in self._by_path:
            path = path[:-1]
        return self._by_path.get(path, Mark(1, 1))


def read_yaml(path: Path, marks: Marks | None = None) -> Any:
    """The plain data of a YAML file; None if it is empty.

    `marks` is told where each value stands.

    Raises:
        UsageError: The file can't be read, or `parse_yaml` refuses its text.
    """
    return parse_yaml(read_text(path), str(path), marks)


def read_json(path: Path) -> Any:
    """The plain data of a JSON file.

    Raises:
        UsageError: The file can't be read, or is not JSON (names the line).
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """The plain data of a JSON text.

    Raises:
        UsageError: The text is no JSON, or has a number such as NaN; names `where`.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as bad:
        line = f", line {bad.lineno}" if "\n" in text.rstrip("\n") else ""
        raise UsageError(f"{where}{line}: not JSON: {bad.msg}") from None
    except RecursionError:
        raise UsageError(f"{where}: nested too deep") from None
    except ValueError as bad:
        raise UsageError(f"{where}: not JSON: {bad}") from None


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.40} is too large")
    return value


def parse_yaml(text: str, source: str, marks: Marks | None = None) -> Any:
    """The plain data of one YAML document; None if it is empty.

    `marks` is told where each value stands; what an alias stands for has the alias's.

    Raises:
        UsageError: The text is no YAML, or has something that this module refuses;
            names `source` and the line.
    """
    try:
        return _Builder(_LOADER(text), source, marks).build()
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        last = len(text.splitlines()) or 1  # the end of the text lies in its last line
        line = f", line {min(mark.line + 1, last)}" if mark is not None else ""
        what = getattr(problem, "problem", None) or getattr(problem, "reason", None)
        raise UsageError(
            f"{source}{line}: not YAML: {what or 'it cannot be parsed'}"
        ) from None
    except UnicodeEncodeError:
        raise UsageError(f"{source}: not YAML: it holds half a character") from None


@dataclass
class _Open:
    """A list or mapping that is being read.

    Attributes:
        value: The items so far.
        anchor: The name by which aliases refer to it, or None.
        begun: How many values there were before it.
        key: In a mapping, the key whose value comes next.
        has_key: Whether there is such a key.
        merged: Keys that came from a merge; the mapping's own keys override them.
        path: What leads to it.
    """

    value: list[Any] | dict[str, Any]
    anchor: str | None
    begun: int
    path: Route
    key: Any = None
    has_key: bool = False
    merged: set[str] = field(default_factory=set)


class _Builder:
    """Makes plain data of YAML's events."""

    def __init__(self, loader: Any, source: str, marks: Marks | None) -> None:
        self._loader = loader
        self._source = source
        self._marks = marks
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0
        self._result: Any = None
        self._documents = 0

    def build(self) -> Any:
        """The document's data."""
        while self._loader.check_event():
            event = self._loader.get_event()
            match event:
                case yaml.DocumentStartEvent():
                    self._documents += 1
                    if self._documents > 1:
                        raise self._refused(event, "a second document begins here")
                case yaml.ScalarEvent():
                    value = self._scalar(event)
                    size = 1 + len(event.value) // CHARS_PER_VALUE
                    self._anchor(event.anchor, value, size)
                    self._put(event, value, size)
                case yaml.AliasEvent():
                    if event.anchor not in self._anchors:
                        what = f"*{event.anchor} stands for nothing that came before"
                        raise self._refused(event, what)
                    self._put(event, *self._anchors[event.anchor])
                case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                    self._begin(event)
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    done = self._stack.pop()
                    size = 1 + self._values - done.begun
                    self._anchor(done.anchor, done.value, size)
                    self._values = done.begun
                    self._put(event, done.value, size)
                case _:
                    pass
        return self._result

    def _begin(self, event: Any) -> None:
        if len(self._stack) >= DEPTH_MAX:
            raise self._refused(event, f"nested deeper than {DEPTH_MAX} levels")
        is_map = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in {None, "!", _TAG + ("map" if is_map else "seq")}:
            raise self._refused(event, f"the tag {event.tag!r:.60} means nothing here")
        into = self._stack[-1] if self._stack else None
        if into is not None and isinstance(into.value, dict) and not into.has_key:
            raise self._refused(event, "a key must be a word")
        path = self._path()
        if into is None or isinstance(into.value, list):
            self._mark(event, path)
        self._stack.append(
            _Open({} if is_map else [], event.anchor, self._values, path)
        )

    def _path(self) -> Route:
        """What leads to the value that comes next; the mapping itself for a key."""
        if not self._stack:
            return ()
        into = self._stack[-1]
        if isinstance(into.value, list):
            return (*into.path, len(into.value))
        return (*into.path, into.key) if isinstance(into.key, str) else into.path

    def _mark(self, event: Any, path: Route) -> None:
        if self._marks is not None:
            at = event.start_mark
            self._marks.put(path, Mark(at.line + 1, at.column + 1))

    def _anchor(self, name: str | None, value: Any, size: int) -> None:
        if name is not None:
            self._anchors[name] = (value, size)

    def _put(self, event: Any, value: Any, size: int) -> None:
        """Put a value in its place: the end of a list, a key or its value."""
        self._values += size
        if self._values > VALUES_MAX:
            raise self._refused(event, f"unfolds to more than {VALUES_MAX} values")
        if not self._stack:
            self._result = value
            return
        into = self._stack[-1]
        if isinstance(into.value, list):
            if value is _MERGE:
                raise self._refused(event, "<< belongs into a mapping")
            if isinstance(event, yaml.ScalarEvent | yaml.AliasEvent):
                self._mark(event, self._path())
            into.value.append(value)
        elif not into.has_key:
            if value is not _MERGE and not isinstance(value, str):
                what = f"a key must be a word, and {value!r:.60} is none: quote it"
                raise self._refused(event, what)
            if value is not _MERGE and value in into.value:
                if value not in into.merged:
                    raise self._refused(event, f"the key {value!r:.60} comes twice")
                into.merged.discard(value)
            into.key, into.has_key = value, True
            if value is not _MERGE:
                self._mark(event, self._path())
        else:
            if into.key is _MERGE:
                self._merge(event, into, value)
            else:
                into.value[into.key] = value
            into.has_key = False

    def _merge(self, event: Any, into: _Open, value: Any) -> None:
        """YAML's `<<`: take over another mapping's keys, except for present ones."""
        assert isinstance(into.value, dict)
        for more in value if isinstance(value, list) else [value]:
            if not isinstance(more, dict):
                raise self._refused(event, "<< takes a mapping, or a list of mappings")
            for name in more.keys() - into.value.keys():
                into.value[name] = more[name]
                into.merged.add(name)

    def _scalar(self, event: Any) -> Any:
        """The value of a scalar; an unquoted one follows YAML's rules."""
        tag = event.tag
        if tag in {None, "!"}:
            implicit = event.implicit if tag is None else (False, True)
            tag = self._loader.resolve(yaml.ScalarNode, event.value, implicit)
        match tag.removeprefix(_TAG):
            case "str":
                return event.value
            case "null":
                return None
            case "merge":
                return _MERGE
            case "bool" | "int" | "float" as kind:
                return self._number(event, tag, kind)
            case "timestamp":
                what = f"{event.value:.60} is a date: quote it, if it is a text"
                raise self._refused(event, what)
            case other:
                raise self._refused(event, f"{other!r:.60} means nothing here")

    def _number(self, event: Any, tag: str, kind: str) -> Any:
        node = yaml.ScalarNode(tag, event.value)
        what = f"{event.value!r:.60} is no number that can be used"
        if len(event.value) > 4 * DIGITS_MAX:
            raise self._refused(event, what)
        try:
            value = getattr(self._loader, f"construct_yaml_{kind}")(node)
        except (ValueError, KeyError, IndexError, OverflowError):
            raise self._refused(event, what) from None
        if kind != "bool" and not abs(value) < 10**DIGITS_MAX:
            raise self._refused(event, what)
        return value

    def _refused(self, event: Any, what: str) -> UsageError:
        return UsageError(f"{self._source}, line {event.start_mark.line + 1}: {what}")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of writing `path` within the block into HarnessError.

    The disk is full, the folder is gone or read-only, there are no descriptors left.
    """
    try:
        yield
    except OSError as problem:
        raise HarnessError(f"cannot write {path}: {problem.strerror}") from problem


@contextlib.contextmanager
def making_room(what: str) -> Iterator[None]:
    """Turn errors of making a place for results within the block into UsageError.

    Args:
        what: What can't be written then, and where: "results to PATH".
    """
    try:
        yield
    except OSError as problem:
        raise UsageError(
            f"cannot write {what}: {problem.strerror}; "
            "choose another place with --results DIR"
        ) from None
