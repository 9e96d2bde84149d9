"""A set, judged by all its reads: what became of every element, and when.

Jepsen's `set-full`. For each element: it is *known* from the first of its add's
acknowledgement and a read that holds it. The latest *invocations* of reads with and
without it tell its fate: *stable* (present in the last read that could tell), *lost*
(known, and absent from reads begun later than any that held it), or *never read*. A
stable element that a read missed although it was known before that read began was
*stale*, which linearizability forbids.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from checkers.tallies import (
    UNKNOWN_BEGIN,
    began,
    chain,
    contents,
    element,
    invocation,
    object_of,
    verdict_of,
)
from harness.registry import Option, Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

OPTIONS = (
    Option(
        "linearizable",
        "false",
        "stale reads are wrong too",
        ("true", "false"),
    ),
)


NEVER = UNKNOWN_BEGIN
"""There was no such read; or nobody knows when it began, which proves nothing."""


@dataclass(slots=True)
class _Element:
    """What is known of one element; indices of the history."""

    value: Any
    key: Any
    known: Op | None = None
    last_present: int = NEVER
    """When the latest read with it began."""
    last_absent: int = NEVER
    """When the latest read without it began."""
    absent_read: Op | None = None
    """The completion of that read."""

    @property
    def is_stable(self) -> bool:
        return self.last_absent < self.last_present

    @property
    def is_lost(self) -> bool:
        return self.is_stale and self.last_present < self.last_absent

    @property
    def is_stale(self) -> bool:
        return self.known is not None and self.known.index < self.last_absent


class SetFullChecker:
    """See the module."""

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the set-full checker", OPTIONS, options)
        self._linearizable = given["linearizable"] == "true"

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Cost: reads times elements of a set.

        Raises:
            HistoryError: A read of something that is no collection.
        """
        elements, duplicates = _fates(history)
        anomalies = list(duplicates)
        stale = 0
        for one in elements:
            if one.is_lost:
                anomalies.append(_missing(history, one, "lost"))
            elif one.is_stable and one.is_stale:
                stale += 1
                if self._linearizable:
                    anomalies.append(_missing(history, one, "stale-read"))
        stable = sum(one.is_stable for one in elements)
        stats = {
            "elements": len(elements),
            "stable": stable,
            "lost": sum(one.is_lost for one in elements),
            "stale": stale,
            "never_read": sum(not (e.is_stable or e.is_lost) for e in elements),
        }
        return verdict_of(
            anomalies,
            stats,
            judged=stable,
            empty="no element was ever seen for good",
        )


def _fates(history: History) -> tuple[list[_Element], list[Anomaly]]:
    """Every element that somebody tried to add, and reads that hold one twice."""
    sets: dict[Any, dict[Any, _Element]] = {}
    duplicates: list[Anomaly] = []
    for op in history:
        if not op.is_client:
            continue
        members = sets.setdefault(object_of(op), {})
        if op.f == "add" and op.type in {"invoke", "ok"}:
            one = members.setdefault(element(op.value), _Element(op.value, op.key))
            if op.type == "ok" and one.known is None:
                one.known = op
        elif op.f == "read" and op.type == "ok":
            values = contents(history, op)
            counts = Counter(map(element, values))
            if len(counts) < len(values):
                duplicates += _duplicates(history, op, counts)
            begun = began(history, op)
            # A read without a recorded beginning may have begun just before it ended.
            latest = op.index if begun == UNKNOWN_BEGIN else begun
            for name, one in members.items():
                if name in counts:
                    one.known = one.known or op
                    one.last_present = max(one.last_present, latest)
                elif one.last_absent < begun:
                    one.last_absent, one.absent_read = begun, op
    return [one for members in sets.values() for one in members.values()], duplicates


def _duplicates(history: History, read: Op, counts: Counter[Any]) -> list[Anomaly]:
    values = {element(x): x for x in read.value}
    return [
        Anomaly(
            "duplicate",
            (invocation(history, read).index, read.index),
            f"A read by process {read.process} holds {values[name]!r} {count} times; a "
            "set holds nothing twice.",
            key=read.key,
        )
        for name, count in counts.items()
        if count > 1
    ]


def _missing(history: History, one: _Element, name: str) -> Anomaly:
    known, read = one.known, one.absent_read
    assert known is not None
    assert read is not None
    begun = invocation(history, read)
    how = "acknowledged" if known.f == "add" else "already in a read"
    sentence = (
        f"{one.value!r} was {how} (process {known.process}) before process "
        f"{read.process} began a read that does not hold it"
    )
    sentence += (
        ", nor does any read begun later." if name == "lost" else "; later reads do."
    )
    return Anomaly(
        name,
        (invocation(history, known).index, known.index, begun.index, read.index),
        sentence,
        witness=chain(
            (
                known.index,
                begun.index,
                "realtime",
                f"{one.value!r} was known before the read began",
            )
        ),
        key=one.key,
    )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "set-full",
    "what became of every element of a set: stable, lost, stale, never read",
    SetFullChecker,
    OPTIONS,
)
