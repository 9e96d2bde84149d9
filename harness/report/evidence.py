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

LIST_ITEMS_MAX = 24
"""Longest list that is not cut where there is a short form."""

ENDS_SHOWN = 3
"""Items shown at both ends of a list that is cut."""

MARKS_MAX = 6
"""Items in between that are shown with their neighbours."""

_WORD = re.compile(r"[^\s,;:.()\[\]'\"]+")

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


# Long values, cut in the middle


def focused(value: Any, keys: Collection[str], focus: Focus) -> str:
    """A transaction's named micro-operations, with long lists cut by `focus`."""
    parts: list[str] = []
    for is_named, group in groupby(steps(value) or (), lambda s: _is_named(s, keys)):
        some = list(group)
        if is_named:
            parts += [" ".join(map(focus.part, step)) for step in some]
        else:
            parts.append(f"({len(some)} more)")
    return bounded(_name_of(value) + ", ".join(parts))


class Focus:
    """Which items of long lists an anomaly is about: those are shown, and both ends.

    An item counts if the sentences name it, and so do the first two in which a list
    differs from another one of the anomaly.

    Args:
        told: The sentences of the anomaly.
        lists: The lists of its operations.
    """

    def __init__(self, told: Iterable[str], lists: Iterable[list[Any]]) -> None:
        self.words = {word for text in told for word in _WORD.findall(text)}
        self.lists = [each for each in lists if len(each) > ENDS_SHOWN]

    def part(self, part: Any) -> str:
        """A part of a micro-operation, or a value."""
        if isinstance(part, list) and len(part) > LIST_ITEMS_MAX:
            return f"[{self.items(part)}]"
        return bounded(_whole_part(part), SHORT_MAX)

    def items(self, items: list[Any]) -> str:
        """The items that count with their neighbours, and how many lie between."""
        texts = [figures.plain(item, KEY_CHARS_MAX) or "nil" for item in items]
        count = {n for n, text in enumerate(texts) if text in self.words}
        count |= {at for other in self.lists for at in _differing(items, other)}
        near = {m for n in sorted(count)[:MARKS_MAX] for m in range(n - 2, n + 3)}
        ends = {*range(ENDS_SHOWN), *range(len(items) - ENDS_SHOWN, len(items))}
        shown = sorted(n for n in near | ends if 0 <= n < len(items))
        parts, last = [], -1
        for n in shown:
            if n > last + 1:
                parts.append(f"\N{HORIZONTAL ELLIPSIS}({n - last - 1} more)")
            parts.append(texts[n])
            last = n
        return " ".join(parts)


def _differing(items: list[Any], other: list[Any]) -> list[int]:
    """Where a list begins to differ from another that begins alike; else empty."""
    if items is other or items[:1] != other[:1]:
        return []
    pairs = zip(items, other, strict=False)
    first = next((n for n, (a, b) in enumerate(pairs) if a != b), None)
    if first is None:
        first = min(len(items), len(other))
        return [] if len(items) == len(other) else [first - 1, first]
    return [first]


def lists_in(value: Any) -> list[list[Any]]:
    """The lists in a value, those of a transaction's reads included."""
    micro = steps(value)
    if micro is not None:
        return [part for step in micro for part in step if isinstance(part, list)]
    return [value] if isinstance(value, list) else []


def middle(text: str, others: Iterable[str]) -> str:
    """A long text, cut, with the place shown where it differs from others like it."""
    room = SHORT_MAX // 3
    cuts = [(0, room), (len(text) - room, len(text))]
    for other in others:
        pairs = enumerate(zip(text, other, strict=False))
        at = next((n for n, (a, b) in pairs if a != b), 0)
        if room < at < len(text) - room:
            cuts.insert(1, (max(room, at - 10), min(at + room, len(text) - room)))
            break
    parts, last = [], 0
    for begin, end in cuts:
        if begin > last:
            parts.append(f"\N{HORIZONTAL ELLIPSIS}({begin - last} characters more)")
        parts.append(text[begin:end])
        last = end
    return "".join(parts)


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
