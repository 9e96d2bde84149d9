"""The parts of a transaction that an anomaly rests on, which are shown at full length.

"T2 did not observe T1's append of 39 to key 5" is proved by the whole list that T2 read
under key 5, and by nothing less. Other micro-operations of a long transaction only
distract. So an arrow of a witness names some: those on the keys that its reason
mentions, or else on all keys that both of its ends touch. The others are folded: their
number stands for them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from harness.report import figures

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from harness.report.folder import Call

CHARS_MAX = 20_000
"""Longest text of one transaction: a history may hold anything. The rest is counted."""

SHORT_MAX = 120
"""Longest text of a transaction that is never folded."""

ITEMS_MAX = 12
"""Micro-operations, and items of a list, that a label shows."""

KEY_CHARS_MAX = 200

ORDERS = frozenset({"realtime", "process", "session", "program-order"})
"""Kinds of arrows that only concern the times of transactions, not their content."""

Named = frozenset[str]
"""The named keys, as `key_text` writes them."""


def key_text(key: Any) -> str:
    """A key as a text that differs for different keys: 1, true and "1" are three."""
    return figures.value(key, KEY_CHARS_MAX)


def steps(value: Any) -> list[list[Any]] | None:
    """The micro-operations of a transaction; None if the value is no transaction."""
    if isinstance(value, dict):
        value = value.get("txn")
    if not isinstance(value, list) or not value:
        return None
    return value if all(isinstance(step, list) for step in value) else None


def named(
    calls: Sequence[Call], edges: Iterable[tuple[int, int, str, str]], key: Any
) -> dict[tuple[bool, int], Named]:
    """`Call.name` -> the keys that are named, for each transaction among `calls`.

    Args:
        calls: The operations of a witness.
        edges: Its arrows: positions in `calls`, kind and reason.
        key: The key that the anomaly is about; None if it is about several.
    """
    known: dict[int, dict[str, Any]] = {}
    for position, call in enumerate(calls):
        micro = None if call.is_event else steps(call.value)
        if micro is not None:
            known[position] = {key_text(s[1]): s[1] for s in micro if len(s) > 1}
    found: dict[int, set[str]] = defaultdict(set)
    for source, target, kind, reason in edges:
        if kind not in ORDERS and source in known and target in known:
            shared = known[source].keys() & known[target].keys()
            told = {text for text in shared if tells_of(reason, known[source][text])}
            for end in (source, target):
                found[end] |= told or shared or known[end].keys()
    if key is not None:
        for position, keys in known.items():
            found[position] |= {key_text(key)} & keys.keys()
    if not any(found.values()):
        found = {position: set(keys) for position, keys in known.items()}
    return {calls[i].name: frozenset(found.get(i, ())) for i in known}


def tells_of(reason: str, key: Any) -> bool:
    """Whether the sentence mentions the key, as in "... of 39 to key 5"."""
    forms = {str(key), repr(key), key_text(key)}
    told = "|".join(re.escape(form) for form in forms if form)
    return bool(re.search(rf"\bkey ({told})(?![\w-])", reason))


def unfolded(value: Any) -> str:
    """A transaction with all of its micro-operations."""
    return bounded(_name_of(value) + ", ".join(map(_whole_step, steps(value) or ())))


def folded(value: Any, keys: Collection[str]) -> str:
    """A transaction with its named micro-operations whole, and the others counted.

    A short transaction is not folded.
    """
    everything = unfolded(value)
    if len(everything) <= SHORT_MAX:
        return everything
    parts: list[str] = []
    for is_named, group in groupby(steps(value) or (), lambda s: _is_named(s, keys)):
        some = list(group)
        parts += map(_whole_step, some) if is_named else [f"({len(some)} more)"]
    return bounded(_name_of(value) + ", ".join(parts))


def bounded(text: str, chars_max: int = CHARS_MAX) -> str:
    """`text`; if it is too long, its beginning, and how much more there is."""
    left = len(text) - chars_max
    if left <= 0:
        return text
    # A text longer than CHARS_MAX may have been cut to about that length before.
    least = "at least " if len(text) > CHARS_MAX > chars_max else ""
    return f"{text[:chars_max]}\N{HORIZONTAL ELLIPSIS} ({least}{left} characters more)"


def label(value: Any) -> str:
    """A transaction in a few words: its first steps, and the end of each list."""
    micro = steps(value)
    if micro is None:
        return ""
    told = [" ".join(map(_short_part, step)) for step in micro[:ITEMS_MAX]]
    more = [f"({len(micro) - ITEMS_MAX} more)"] if len(micro) > ITEMS_MAX else []
    return _name_of(value) + ", ".join(told + more)


def _is_named(step: Sequence[Any], keys: Collection[str]) -> bool:
    return len(step) > 1 and key_text(step[1]) in keys


def _name_of(value: Mapping[str, Any] | list[Any]) -> str:
    """The name of a transaction and a colon; empty if it has no name."""
    if isinstance(value, dict):
        return f"{figures.plain(value.get('id'), 24)}: "
    return ""


def _whole_step(step: Sequence[Any]) -> str:
    return " ".join(map(_whole_part, step))


def _whole_part(part: Any) -> str:
    """[1, [2, 3]] as "[1 [2,3]]"; None as nil."""
    if isinstance(part, list):
        items = (figures.plain(item, CHARS_MAX) or "nil" for item in part)
        return f"[{' '.join(items)}]"
    return "nil" if part is None else figures.plain(part, CHARS_MAX)


def _short_part(part: Any) -> str:
    if isinstance(part, list):
        items = [figures.plain(item, 20) or "nil" for item in part[-ITEMS_MAX:]]
        if len(part) > ITEMS_MAX:
            items.insert(0, "\N{HORIZONTAL ELLIPSIS}")
        return f"[{' '.join(items)}]"
    return "nil" if part is None else figures.plain(part, 24)
