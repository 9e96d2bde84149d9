"""Kinds of value for options: each parses a text and says what it allows.

An option of a plug-in, a flag of the command line and a number in a plan come from
people, so each has a kind with bounds. A value outside is refused in one line before
anything starts, and code that uses values need not check them again.

Choices: texts are read strictly. Python's `int` and `float` also take "1_000", "nan",
spaces around a number and digits of other scripts; a person who writes these probably
meant something else.

Every parse is linear in the text, and most stop at its first character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
NUMBER = re.compile(
    r"-?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:e[-+]?[0-9]{1,3})?",
    re.IGNORECASE,
)
SHOWN_CHARS_MAX = 60


class Kind(Protocol):
    """A kind of value."""

    @property
    def told(self) -> str:
        """The allowed values, to follow "it takes": "a whole number from 1 to 9"."""
        ...

    def parse(self, text: str) -> Any:
        """The value that `text` stands for.

        Raises:
            ValueError: The text is not allowed; its message may say why.
            UsageError: The text is not allowed, as code says that has other callers.
        """
        ...


@dataclass(frozen=True)
class Whole:
    """A whole number from `least` to `most`; an int."""

    least: int
    most: int

    @property
    def told(self) -> str:
        """The bounds, in words."""
        return f"a whole number from {self.least} to {self.most}"

    def parse(self, text: str) -> int:
        """The number that `text` stands for; ValueError if it is not allowed."""
        if not WHOLE.fullmatch(text) or not self.admits(int(text)):
            raise ValueError
        return int(text)

    def admits(self, value: object) -> bool:
        """Whether a value of JSON or YAML is such a number; true and false are not."""
        return type(value) is int and self.least <= value <= self.most


@dataclass(frozen=True)
class Number:
    """A number from `least` to `most`, with a point or without; a float."""

    least: float
    most: float

    @property
    def told(self) -> str:
        """The bounds, in words."""
        return f"a number from {self.least:.15g} to {self.most:.15g}"

    def parse(self, text: str) -> float:
        """The number that `text` stands for; ValueError if it is not allowed."""
        if not NUMBER.fullmatch(text) or not self.admits(float(text)):
            raise ValueError
        return float(text)

    def admits(self, value: object) -> bool:
        """Whether a value of JSON or YAML is such a number; nan never is."""
        return type(value) in {int, float} and self.least <= value <= self.most  # type: ignore[operator]  # numbers compare


@dataclass(frozen=True)
class Availability(Number):
    """A part of a whole, which may be called `total`; a float."""

    least: float = 0.0
    most: float = 1.0

    @property
    def told(self) -> str:
        """The bounds, in words."""
        return f"total, or {super().told}"

    def parse(self, text: str) -> float:
        """The part that `text` stands for; ValueError if it is not allowed."""
        return self.most if text == "total" else super().parse(text)


@dataclass(frozen=True)
class Duration:
    """A length of time, in seconds or with a unit: 90, 90s, 1.5m, 2h; seconds."""

    least_s: float
    most_s: float

    @property
    def told(self) -> str:
        """The form and the bounds, in words."""
        return (
            f"seconds, or a number with the unit s, m or h, from {self.least_s:.15g} "
            f"to {self.most_s:.15g} s"
        )

    def parse(self, text: str) -> float:
        """The seconds that `text` stands for; ValueError if it is not allowed."""
        unit_s = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
        number = text if unit_s is None else text[:-1]
        if not NUMBER.fullmatch(number):
            raise ValueError
        seconds = float(number) * (unit_s or 1.0)
        if not self.least_s <= seconds <= self.most_s:
            raise ValueError
        return seconds


SHARE = Number(0.0, 1.0)
"""A part of a whole, from none to all."""


class OneOf:
    """One of a few words."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices
        self.told = f"one of {', '.join(choices)}"

    def parse(self, text: str) -> str:
        """The word; ValueError if it is none of them."""
        if text not in self.choices:
            raise ValueError
        return text


@dataclass(frozen=True)
class Flag:
    """Yes or no; a bool."""

    told: str = "true or false"
    choices: tuple[str, ...] = ("true", "false")

    def parse(self, text: str) -> bool:
        """Whether `text` is "true"; ValueError if it is neither."""
        if text not in self.choices:
            raise ValueError
        return text == "true"


@dataclass(frozen=True)
class Text:
    """One line of printable text: no control characters, nor marks of direction."""

    chars_max: int = 1000

    @property
    def told(self) -> str:
        """The rule, in words."""
        return f"one line of printable text, at most {self.chars_max} characters"

    def parse(self, text: str) -> str:
        """The text itself; ValueError if it is too long, or not printable."""
        if len(text) > self.chars_max or not text.isprintable():
            raise ValueError
        return text


@dataclass(frozen=True)
class Words:
    """Some of a few words, joined by plus signs or commas; a tuple of them."""

    known: tuple[str, ...]

    @property
    def told(self) -> str:
        """The words, in a sentence."""
        return f"one or more of {', '.join(self.known)}, joined by +"

    @property
    def choices(self) -> tuple[str, ...]:
        """The words."""
        return self.known

    def parse(self, text: str) -> tuple[str, ...]:
        """The words of `text`; ValueError if one is not known."""
        words = tuple(Text().parse(text).replace("+", ",").split(","))
        for word in words:
            if word not in self.known:
                raise ValueError(f"{word!r} is none of them" * (len(words) > 1))
        return words


@dataclass(frozen=True)
class Names:
    """Names with commas between them, or nothing; a tuple of them.

    Attributes:
        of: The things that they name, in the plural.
        pattern: The pattern of each name.
        chars_max: The length of all names together.
    """

    of: str
    pattern: str = r"\S(?:.*\S)?"
    chars_max: int = 1000

    @property
    def told(self) -> str:
        """The rule, in words."""
        return f"names of {self.of} with commas, or nothing"

    def parse(self, text: str) -> tuple[str, ...]:
        """The names in `text`; ValueError if one does not fit the pattern."""
        if not text:
            return ()
        names = tuple(n.strip(" ") for n in Text(self.chars_max).parse(text).split(","))
        for name in names:
            if not re.fullmatch(self.pattern, name):
                reason = f"{name!r} is no such name" if len(names) > 1 else ""
                raise ValueError(reason)
        return names


@dataclass(frozen=True)
class OrNone:
    """A value of another kind, or nothing, which is None."""

    kind: Kind

    @property
    def told(self) -> str:
        """The values of the other kind, in words, or nothing."""
        return f"{self.kind.told}, or nothing"

    def parse(self, text: str) -> Any:
        """None for an empty text; else the other kind's value, or its errors."""
        return self.kind.parse(text) if text else None


@dataclass(frozen=True)
class Checked:
    """The value that a function gives for a line of text.

    The function raises the errors of `Kind.parse`.
    """

    told: str
    function: Callable[[str], Any]
    chars_max: int = 1000

    def parse(self, text: str) -> Any:
        """The function's value, or its errors; ValueError if `text` is no such line."""
        return self.function(Text(self.chars_max).parse(text))


def shown(text: str) -> str:
    """A user's text for a message: one line, not too long, nothing hidden."""
    if len(text) > SHOWN_CHARS_MAX:
        return f"{text[: SHOWN_CHARS_MAX - 3]!r}... ({len(text)} characters)"
    return text if text.isprintable() and text.strip() == text else repr(text)


RUN_NUMBERS: Mapping[str, tuple[str, Whole | Number]] = {
    "--nodes": ("nodes", Whole(1, 64)),
    "--concurrency": ("concurrency", Whole(1, 1000)),
    "--time-limit": ("time_limit_s", Number(0.1, 7 * 86_400.0)),
    "--op-timeout": ("op_timeout_s", Number(0.01, 3600.0)),
    "--rate": ("rate", Number(0.001, 1e6)),
    "--availability": ("availability", Availability()),
    "--ops": ("ops", Whole(1, 10**9)),
    "--node-data-mb": ("node_data_mb", Whole(1, 10**6)),
    "--node-log-mb": ("node_log_mb", Whole(1, 10**6)),
    "--seed": ("seed", Whole(-(10**15), 10**15)),
}
"""Numbers of a run: command line flag -> (field of `TestSpec`, kind of its value)."""
