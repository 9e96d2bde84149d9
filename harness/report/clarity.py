"""Which anomalies to show, in which order, and which only repeat another.

A checker may explain hundreds of anomalies. A reader needs one of each sort, and first
the one that is understood soonest. So anomalies are grouped by what a failure's
fingerprint has of them, the checker and the name, and the clearest of each group stands
for it. The others are of the same sort.

One circle of operations may have several names: it is G-single-item, and so it is
G2-item, too. It is told once, under the plainest of its names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.report import glossary, witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.report.folder import Call
    from harness.report.witness import Witness
    from harness.verdict import CheckResult

GROUPS_MAX = 40
"""Groups of which an anomaly is shown."""

ALIKE_MAX = 5
"""Anomalies shown of one group, beside the first."""

SHOWN_MAX = 24
"""Anomalies shown in all."""


class Group(NamedTuple):
    """Anomalies of one checker and name.

    Attributes:
        first: The clearest.
        alike: Others that are shown, the clearest first.
        more: How many others were explained, and are not shown.
    """

    first: Witness
    alike: tuple[Witness, ...]
    more: int

    @property
    def shown(self) -> tuple[Witness, ...]:
        """All of it that is shown."""
        return self.first, *self.alike


@dataclass(frozen=True)
class Clarity:
    """How soon a reader understands an anomaly; the least is the clearest.

    Attributes:
        is_observed: Only nodes saw it: what a client saw comes first.
        operations: How many operations are blamed.
        is_weak: No read of a certain outcome is among them.
        is_open: The outcome of some is unknown.
        took_ns: From the first to the last of them.
        rank: The place of its name in the glossary.
    """

    is_observed: bool
    operations: float
    is_weak: bool
    is_open: bool
    took_ns: float
    rank: tuple[int, int]

    @classmethod
    def of(cls, told: Witness) -> Clarity:
        """The clarity of an anomaly."""
        calls = told.blamed
        times = [c.invoke.time for c in calls]
        times += [c.done.time for c in calls if c.done is not None]
        return cls(
            is_observed=not any(not call.is_event for call in calls),
            operations=len(calls) or math.inf,
            is_weak=not any(_is_strong(c.invoke.f, c.outcome, c.value) for c in calls),
            is_open=any(call.outcome == "info" for call in calls),
            took_ns=max(times) - min(times) if times else math.inf,
            rank=glossary.rank(told.name),
        )

    @property
    def key(self) -> tuple[bool, float, bool, bool, float, tuple[int, int]]:
        """What anomalies are sorted by."""
        return (
            *(self.is_observed, self.operations, self.is_weak),
            *(self.is_open, self.took_ns, self.rank),
        )


def _is_strong(f: str, outcome: str, value: object) -> bool:
    """Whether an operation tells for sure what was there."""
    if outcome != "ok":
        return False
    if f == "txn" and isinstance(value, list):
        return any(isinstance(step, list) and step[:1] == ["r"] for step in value)
    return "read" in f or f in {"dequeue", "poll", "drain"}


def grouped(
    found: Iterable[Witness], alike_max: int = ALIKE_MAX, shown_max: int = SHOWN_MAX
) -> list[Group]:
    """The groups, each with the anomalies that are shown of it.

    Args:
        found: Anomalies; those of checkers that matter more come first.
        alike_max: Anomalies shown of one group, beside the first.
        shown_max: Anomalies shown in all, as far as there are no more groups.

    Returns:
        The groups in the order of their checkers, then by their first anomalies. No
        more than GROUPS_MAX. Cost: n log n.
    """
    by_name: dict[tuple[str, str], list[Witness]] = {}
    checkers: dict[str, int] = {}
    for each in told_once(found):
        by_name.setdefault((each.checker, each.name), []).append(each)
        checkers.setdefault(each.checker, len(checkers))
    every = [sorted(group, key=_key) for group in by_name.values()]
    every.sort(key=lambda group: (checkers[group[0].checker], _key(group[0])))
    every = every[:GROUPS_MAX]
    left = max(0, shown_max - len(every))
    groups = []
    for group in every:
        alike = tuple(group[1 : 1 + min(alike_max, left)])
        left -= len(alike)
        groups.append(Group(group[0], alike, len(group) - 1 - len(alike)))
    return groups


def of_result(
    result: CheckResult,
    call_at: Callable[[Any], Call | None] | None,
    alike_max: int,
    shown_max: int,
) -> list[Group]:
    """The groups of one checker's anomalies; `call_at` is None without a history."""
    at = call_at or (lambda _: None)
    found = (witness.resolve(anomaly.as_json(), at) for anomaly in result.anomalies)
    return grouped(found, alike_max, shown_max)


def told_once(found: Iterable[Witness]) -> list[Witness]:
    """The anomalies without those that are another name for the same operations.

    The one that is kept has the plainest name; it has the others' as `also`.
    """
    kept: dict[tuple[str, object], list[Witness]] = {}
    for number, each in enumerate(found):
        ops = frozenset(call.name for call in each.blamed)
        # One operation may be wrong in several ways, and none at all tells nothing.
        same: object = ops if len(ops) > 1 else number
        kept.setdefault((each.checker, same), []).append(each)
    return [one for group in kept.values() for one in _merged(group)]


def _merged(group: Sequence[Witness]) -> list[Witness]:
    """Those of the plainest name, of which the first has the other names."""
    plainest = min(group, key=lambda each: glossary.rank(each.name)).name
    first, *rest = [each for each in group if each.name == plainest]
    others = {w.name: w.explanation for w in reversed(group) if w.name != plainest}
    names = sorted(others, key=glossary.rank)
    also = tuple((name, others[name]) for name in names)
    return [replace(first, also=also), *rest]


def _key(told: Witness) -> tuple[bool, float, bool, bool, float, tuple[int, int]]:
    return Clarity.of(told).key
