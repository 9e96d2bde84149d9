"""Values, lists and names, as sentences show them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from checkers.findings import enumerated, listed, shortened
from checkers.isolation.transactions import plain

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

SHOWN_MAX = 40
"""Characters of a value in a sentence."""

LISTED_MAX, ENDING = 12, 11
"""Elements of a list in a sentence; of a longer one so many from its end."""

NAMED_MAX = 4
"""Transactions that a sentence calls by name."""


def show(value: Hashable) -> str:
    """A frozen value for a sentence: short, and nil where there is none.

    Text stands without quotes, unless it could be taken for another value.
    """
    value = plain(value)
    if value is None:
        return "nil"
    if isinstance(value, str) and not _LIKE_ANOTHER.fullmatch(value):
        text = value
    elif isinstance(value, str | bool | list | dict):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = repr(value)
    return shortened(text, SHOWN_MAX)


_LIKE_ANOTHER = re.compile(r"|nil|null|true|false|[-+.\d].*|[\[{].*", re.DOTALL)


def show_all(names: Sequence[str]) -> str:
    """Two or more names for a sentence; of many, the first."""
    if len(names) == 2:
        return f"{enumerated(names)} both"
    if len(names) > NAMED_MAX:
        return f"{listed(names, NAMED_MAX)} all"
    return f"{enumerated(names)} all"


def show_list(elements: Sequence[Any]) -> str:
    """A list for a sentence; of a long one, the end."""
    if len(elements) > LISTED_MAX:
        return "[... " + " ".join(map(show, elements[-ENDING:])) + "]"
    return "[" + " ".join(map(show, elements)) + "]"
