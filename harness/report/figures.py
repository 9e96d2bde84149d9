"""Formats figures and values: counts, durations, operation values."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

VALUE_CHARS_MAX = 120
"""Longer values are cut in tables and pictures; the raw file has them whole."""


def count(number: float) -> str:
    """1234567 -> "1,234,567"."""
    if isinstance(number, float) and not number.is_integer():
        return f"{number:,.2f}"
    return f"{int(number):,}"


def plural(number: int, noun: str, plural_noun: str = "") -> str:
    """2, "fault" -> "2 faults"."""
    return f"{count(number)} {noun if number == 1 else plural_noun or noun + 's'}"


def duration(ns: float) -> str:
    """A length of time in the unit that suits it: "830 us", "12.3 ms", "4.20 s"."""
    if not math.isfinite(ns):
        return "?"
    size = abs(ns)
    if size < 1e6:
        return f"{ns / 1e3:.0f} \N{MICRO SIGN}s"
    if size < 1e9:
        return f"{ns / 1e6:.1f} ms"
    if size < 120e9:
        return f"{ns / 1e9:.2f} s"
    minutes, seconds = divmod(round(ns / 1e9), 60)
    return f"{minutes} min {seconds} s"


def moment(ns: float) -> str:
    """A point in time since the start of the run: "12.345 s"."""
    return f"{ns / 1e9:,.3f} s"


def clip(text: str, chars_max: int = VALUE_CHARS_MAX) -> str:
    """`text`, cut to `chars_max` characters with an ellipsis."""
    return text if len(text) <= chars_max else text[: chars_max - 1] + "\u2026"


def value(thing: Any, chars_max: int = VALUE_CHARS_MAX) -> str:
    """A value of an operation on one line, as compact JSON; "" for None."""
    if thing is None:
        return ""
    if type(thing) is int:
        return str(thing)
    if type(thing) is str:
        return clip(visible(json.dumps(thing, ensure_ascii=False)), chars_max)
    try:
        text = json.dumps(thing, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        text = repr(thing)
    return clip(visible(text), chars_max)


def plain(thing: Any, chars_max: int = 2000) -> str:
    """Like `value`, but a string has no quotes and may have several lines."""
    if isinstance(thing, str):
        return clip(visible(thing), chars_max)
    return value(thing, chars_max)


def leaves(
    thing: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, leaf) of the scalars, and lists of scalars, inside nested data."""
    if isinstance(thing, dict):
        for key, inner in thing.items():
            yield from leaves(inner, (*path, str(key)))
    elif isinstance(thing, list) and any(isinstance(i, dict | list) for i in thing):
        for number, inner in enumerate(thing):
            yield from leaves(inner, (*path, str(number)))
    else:
        yield path, thing
