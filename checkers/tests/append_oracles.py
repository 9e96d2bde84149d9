"""List-append by its definitions, tried out: every order, and every choice of writers.

The oracles of `isolation_oracles` run transactions in every order, repeated elements
included. Those that look at who wrote what take unique elements for granted: here every
append gets an element of its own, in every way that agrees with what was read.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

from checkers.tests.append_histories import name_of
from harness.history import History, Op

if TYPE_CHECKING:
    from collections.abc import Iterator

Group = tuple[str, str]


def as_text(history: History) -> History:
    """The history with JSON texts for keys and elements, which Python tells apart."""
    ops = []
    for op in history:
        micro_ops = [
            [f, name_of(key), value and list(map(name_of, value))]
            if f == "r"
            else [f, name_of(key), name_of(value)]
            for f, key, value in op.value
        ]
        ops.append(Op(op.index, op.time, op.process, op.type, op.f, micro_ops))
    return History(ops)


def with_unique_elements(history: History) -> Iterator[History]:
    """Every way to tell apart what was appended more than once.

    Elements of failed transactions may be read as well. A text becomes itself, "#" and
    a number; a read that shows more than was appended has numbers without an append. Of
    what one transaction appended the first is read first.
    """
    appends: Counter[Group] = Counter()
    rows: dict[Group, list[int]] = {}
    numbers: dict[tuple[int, int], int] = {}
    for row, (invoke, _) in enumerate(history.calls()):
        for place, (f, key, element) in enumerate(invoke.value):
            if f == "append":
                numbers[row, place] = appends[key, element]
                appends[key, element] += 1
                rows.setdefault((key, element), []).append(row)
    shown: Counter[Group] = Counter()
    for op in history:
        for f, key, value in op.value if op.type == "ok" else ():
            if f == "r":
                for element, times in Counter(value or ()).items():
                    shown[key, element] = max(shown[key, element], times)
    groups = [group for group in shown if appends[group] > 1]
    ways = []
    for group in groups:
        spare = range(appends[group], max(shown[group], appends[group]))
        pool = [*range(appends[group]), *spare]
        ways.append(
            [
                way
                for way in itertools.permutations(pool, shown[group])
                if _in_order(way, rows[group])
            ]
        )
    for chosen in itertools.product(*ways):
        yield _numbered(history, numbers, dict(zip(groups, chosen, strict=True)))


def _in_order(way: tuple[int, ...], rows: list[int]) -> bool:
    """Whether each transaction's appends are read in their order, from the first on."""
    for row in set(rows):
        mine = [i for i, r in enumerate(rows) if r == row]
        used = [i for i in way if i in mine]
        if used != mine[: len(used)]:
            return False
    return True


def _numbered(
    history: History,
    numbers: dict[tuple[int, int], int],
    way: dict[Group, tuple[int, ...]],
) -> History:
    ops = list(history.ops)
    for row, (invoke, end) in enumerate(history.calls()):
        for op in (invoke, end):
            if op is None:
                continue
            micro_ops: list[Any] = []
            for place, (f, key, value) in enumerate(op.value):
                if f == "append":
                    micro_ops.append([f, key, f"{value}#{numbers[row, place]}"])
                    continue
                seen: Counter[str] = Counter()
                elements = []
                for element in value or ():
                    which = way.get((key, element))
                    nth = seen[element]
                    elements.append(f"{element}#{which[nth] if which else nth}")
                    seen[element] += 1
                micro_ops.append([f, key, elements or None])
            ops[op.index] = Op(op.index, op.time, op.process, op.type, op.f, micro_ops)
    return History(ops)
