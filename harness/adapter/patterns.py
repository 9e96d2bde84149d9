"""Requests with slots, and patterns of answers, as plain data.

A request may hold a `Slot`: a value that is drawn afresh for each conversation, or that
an earlier answer has brought. A pattern is JSON that an answer has to equal, with
`Slot` for such values, and with the classes below where equality says too much. What an
object of an answer has beyond its pattern is ignored, as WIRE.md has it.
"""

from __future__ import annotations

import abc
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.override import override

if TYPE_CHECKING:
    from collections.abc import Callable

Slots = dict[str, Any]
"""Name of a slot -> its value."""

SHOWN_CHARS_MAX = 120


@dataclass(frozen=True)
class Slot:
    """A value by its name."""

    name: str


class Pattern(abc.ABC):
    """What a value has to be, if it need not equal anything."""

    @abc.abstractmethod
    def misfit(self, value: Any, slots: Slots) -> str:
        """What is wrong with `value`, in a clause; empty if it fits."""


@dataclass(frozen=True)
class Either(Pattern):
    """One of several patterns."""

    patterns: tuple[Any, ...]

    @override
    def misfit(self, value: Any, slots: Slots) -> str:
        flaws = [misfit(pattern, value, slots) for pattern in self.patterns]
        return "" if "" in flaws else " and ".join(dict.fromkeys(flaws))


@dataclass(frozen=True)
class Whole(Pattern):
    """A whole number.

    Attributes:
        learn: The slot that gets it; none if empty.
        above: The slot whose number it has to exceed; none if empty.
    """

    learn: str = ""
    above: str = ""

    @override
    def misfit(self, value: Any, slots: Slots) -> str:
        if type(value) is not int:
            return f"{told(value)} is no whole number"
        if self.above and value <= slots[self.above]:
            return f"{value} is not above {slots[self.above]}"
        if self.learn:
            slots[self.learn] = value
        return ""


@dataclass(frozen=True)
class Sum(Pattern):
    """The number in a slot, plus another."""

    slot: str
    plus: int

    @override
    def misfit(self, value: Any, slots: Slots) -> str:
        return misfit(slots[self.slot] + self.plus, value, slots)


@dataclass(frozen=True)
class Bit(Pattern):
    """A sum that has the power of two in a slot as a summand; or has it not."""

    slot: str
    there: bool

    @override
    def misfit(self, value: Any, slots: Slots) -> str:
        if type(value) is not int:
            return f"{told(value)} is no whole number"
        if bool(value & slots[self.slot]) is self.there:
            return ""
        return f"{value} is a sum {'without' if self.there else 'with'} it"


@dataclass(frozen=True)
class Has(Pattern):
    """A list that has an element; or one that has it not."""

    element: Any
    there: bool = True

    @override
    def misfit(self, value: Any, slots: Slots) -> str:
        if not isinstance(value, list):
            return f"{told(value)} is no list"
        if self.there is any(not misfit(self.element, one, slots) for one in value):
            return ""
        verb = "is missing" if self.there else "is there"
        return f"{told(fill(self.element, slots))} {verb} in {told(value)}"


@dataclass(frozen=True)
class StartOf(Pattern):
    """A list that is the beginning of another, at least one element long."""

    whole: tuple[Any, ...]

    @override
    def misfit(self, value: Any, slots: Slots) -> str:
        if not isinstance(value, list) or not value:
            return f"{told(value)} is no list of messages"
        return misfit(list(self.whole[: len(value)]), value, slots)


@dataclass(frozen=True)
class MapTo(Pattern):
    """An object whose values all are some of a few words."""

    words: tuple[str, ...]

    @override
    def misfit(self, value: Any, slots: Slots) -> str:
        if not isinstance(value, dict):
            return f"{told(value)} is no object"
        strange = [word for word in value.values() if word not in self.words]
        known = ", ".join(self.words)
        return f"{told(strange[0])} is none of {known}" if strange else ""


@dataclass(frozen=True)
class Text(Pattern):
    """A text, or null if that is allowed too."""

    or_null: bool = False

    @override
    def misfit(self, value: Any, slots: Slots) -> str:
        if isinstance(value, str) or (self.or_null and value is None):
            return ""
        return f"{told(value)} is no text{' and not null' * self.or_null}"


@dataclass(frozen=True)
class Something(Pattern):
    """Anything but null."""

    @override
    def misfit(self, value: Any, slots: Slots) -> str:
        return "null is nothing" if value is None else ""


@dataclass(frozen=True)
class Judged(Pattern):
    """A value that a function has nothing against."""

    flaw: Callable[[Any], str]

    @override
    def misfit(self, value: Any, slots: Slots) -> str:
        return self.flaw(value)


def fill(template: Any, slots: Slots) -> Any:
    """The template with values in place of its slots; keys of objects become texts."""
    if isinstance(template, Slot):
        return slots[template.name]
    if isinstance(template, dict):
        return {
            slots[k.name] if isinstance(k, Slot) else k: fill(v, slots)
            for k, v in template.items()
        }
    if isinstance(template, list | tuple):
        return [fill(each, slots) for each in template]
    return template


def misfit(pattern: Any, value: Any, slots: Slots) -> str:
    """What keeps a value from fitting, in a clause; empty if it fits."""
    if isinstance(pattern, Pattern):
        return pattern.misfit(value, slots)
    if isinstance(pattern, Slot):
        return misfit(slots[pattern.name], value, slots)
    if isinstance(pattern, dict):
        if not isinstance(value, dict):
            return f"{told(value)} is no object"
        for name, wanted in pattern.items():
            key = slots[name.name] if isinstance(name, Slot) else name
            if key not in value:
                return f"there is no {key!r} in {told(value)}"
            if flaw := misfit(wanted, value[key], slots):
                return f"{key}: {flaw}"
        return ""
    if isinstance(pattern, list):
        if not isinstance(value, list) or len(value) != len(pattern):
            return f"{told(value)} is not {told(fill_known(pattern))}"
        flaws = (misfit(p, v, slots) for p, v in zip(pattern, value, strict=True))
        return next(filter(None, flaws), "")
    return unlike(pattern, value)


def unlike(wanted: Any, value: Any) -> str:
    """How a value differs from the one that is wanted; empty if it is the same."""
    if type(value) is type(wanted) and value == wanted:
        return ""
    why = ""
    if type(wanted) is int and type(value) is float and value == wanted:
        why = ": a whole number came back as a float"
    elif type(wanted) is int and value == str(wanted):
        why = ": a number came back as a text"
    elif isinstance(wanted, bool) != isinstance(value, bool) and value == wanted:
        why = ": a truth value is no number"
    return f"{told(value)} is not {told(wanted)}{why}"


def fill_known(pattern: Any) -> Any:
    """A pattern for messages: slots and patterns show as dots."""
    if isinstance(pattern, list | tuple):
        return [fill_known(each) for each in pattern]
    if isinstance(pattern, Slot | Pattern):
        return "..."
    return pattern


def told(value: Any) -> str:
    """A value for messages: as JSON, not too long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > SHOWN_CHARS_MAX:
        return f"{text[:SHOWN_CHARS_MAX]}... ({len(text)} characters)"
    return text
