"""A set, judged by all its reads: what became of every element, and when.

Jepsen's `set-full`. For each element: it is *known* from the first of its add's
acknowledgement and a read that holds it. The latest *invocations* of reads with and
without it tell its fate: *stable* (present in the last read that could tell), *lost*
(known, and absent from reads begun later than any that held it), or *never read*. A
stable element that a read missed although it was known before that read began was
*stale*, which linearizability forbids.

Only the latest reads matter, so reads are gone through from the last one back, with
what is still undecided: nearly all of what was added is in the last read. An element is
no longer looked for once all reads that are left had ended when its add was invoked.

Where nodes converge, every node must have everything in the end. So a read of f
`final-read`, which a workload asks of every node, may miss no element that was known
before it began: one that others have is *missing at the end*.

What is lost may turn up later. But a stale element stays stale, or gets lost after all,
and a read that holds an element twice stays as it was: these are final.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkers.findings import draw
from checkers.functions import ADDS, READS, REMOVALS, Functions, stem
from checkers.set import SHRINKS
from checkers.tallies import (
    UNKNOWN_BEGIN,
    Kinds,
    acknowledged,
    began,
    contents,
    invocation,
    object_of,
    verdict_of,
)
from checkers.values import element, elements
from harness.options import Flag
from harness.registry import Option, Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping

    from checkers.functions import Known
    from harness.history import History, Op
    from harness.verdict import CheckerFactory

OPTIONS = (
    Option(
        "linearizable",
        "false",
        "stale reads are wrong too",
        Flag(),
    ),
)


FUNCTIONS = Functions(
    "the set-full checker",
    {"add": ADDS, "read": READS},
    source="add",
    against=dict.fromkeys(REMOVALS, SHRINKS),
)

FINAL = "final-read"
"""Reads of every node after it had time to hear of everything."""

QUANTILES = (0, 0.5, 0.95, 0.99, 1)
"""Of latencies, as Jepsen and Maelstrom tell them."""

NEVER = UNKNOWN_BEGIN
"""There was no such read; or nobody knows when it began, which proves nothing."""


@dataclass(slots=True)
class _Element:
    """What is known of one element; indices of the history."""

    value: Any
    key: Any
    tried: int
    known: Op | None = None
    last_present: int = NEVER
    """When the latest read with it began."""
    last_absent: int = NEVER
    """When the latest read without it began."""
    absent_read: Op | None = None
    """The completion of that read."""
    missed_by: Op | None = None
    """The completion of a final read that lacks it although it was known before."""

    @property
    def is_stable(self) -> bool:
        return self.last_absent < self.last_present

    @property
    def is_lost(self) -> bool:
        return self.is_stale and self.last_present < self.last_absent

    @property
    def is_stale(self) -> bool:
        return self.known is not None and self.known.index < self.last_absent


@dataclass(frozen=True, slots=True)
class _Read:
    """An ok read.

    Attributes:
        op: Its completion.
        begun: When it was invoked, or UNKNOWN_BEGIN.
        values: What it held.
    """

    op: Op
    begun: int
    values: Collection[Any]

    @property
    def latest(self) -> int:
        """The latest moment at which it may have begun."""
        return self.op.index if self.begun == UNKNOWN_BEGIN else self.begun

    def names(self) -> set[Hashable]:
        """What it held, by name; not kept, as that of all reads may be too much."""
        return elements(self.values)


@dataclass(slots=True)
class _Set:
    """The elements of one set, the reads of it, and what these held so far."""

    members: dict[Hashable, _Element] = field(default_factory=dict)
    reads: list[_Read] = field(default_factory=list)
    seen: set[Hashable] = field(default_factory=set)

    def add(self, op: Op, value: Any) -> None:
        """Take note of an event of an add."""
        new = _Element(value, op.key, op.index)
        one = self.members.setdefault(element(value), new)
        if op.type == "ok" and one.known is None:
            one.known = op

    def read(self, read: _Read, names: set[Hashable]) -> None:
        """Take note of a read that held `names`."""
        self.reads.append(read)
        for name in names - self.seen:
            if name in self.members:
                self.seen.add(name)
                one = self.members[name]
                one.known = one.known or read.op

    def decide(self) -> Iterable[_Element]:
        """The elements, with the latest reads that held each and that did not."""
        self._find_present()
        self._find_absent()
        for read in self.reads:
            if stem(read.op.f) == FINAL:
                self._find_missed(read)
        return self.members.values()

    def _find_missed(self, final: _Read) -> None:
        names = final.names()
        for name, one in self.members.items():
            is_owed = one.known is not None and one.known.index < final.begun
            if is_owed and name not in names:
                one.missed_by = one.missed_by or final.op

    def _find_present(self) -> None:
        undecided = set(self.members)
        for read in sorted(self.reads, key=lambda read: read.latest, reverse=True):
            if not undecided:
                return
            held = self._tried_by(read, undecided & read.names())
            for name in held:
                self.members[name].last_present = read.latest
            undecided.difference_update(held)

    def _find_absent(self) -> None:
        timed = [read for read in self.reads if read.begun != UNKNOWN_BEGIN]
        timed.sort(key=lambda read: read.begun)
        last_ends = list(itertools.accumulate((r.op.index for r in timed), max))
        by_try = sorted(self.members, key=lambda name: self.members[name].tried)
        undecided = set(self.members)
        for read, last_end in zip(reversed(timed), reversed(last_ends), strict=True):
            while by_try and self.members[by_try[-1]].tried > last_end:
                undecided.discard(by_try.pop())
            if not undecided:
                return
            lacking = self._tried_by(read, undecided - read.names())
            for name in lacking:
                one = self.members[name]
                one.last_absent, one.absent_read = read.begun, read.op
            undecided.difference_update(lacking)

    def _tried_by(self, read: _Read, names: Iterable[Hashable]) -> list[Hashable]:
        """Those whose add had been invoked when `read` ended."""
        end = read.op.index
        return [name for name in names if self.members[name].tried < end]


class SetFullChecker:
    """Judges what became of every element of a set."""

    presume_end = frozenset({"lost", "missing-at-end"})

    final_on_prefix = frozenset({"duplicate", "stale-read"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the set-full checker", OPTIONS, options)
        self._linearizable: bool = given["linearizable"]

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear in what was read, times two.

        Raises:
            HistoryError: A read of something that is no collection, or of elements of a
                kind that nobody added; or see `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        fates, duplicates = _fates(history, known)
        anomalies = list(duplicates)
        stale = 0
        for one in fates:
            if one.is_lost:
                anomalies.append(_missing(history, known, one, "lost"))
                continue
            if one.missed_by is not None:
                anomalies.append(_missing(history, known, one, "missing-at-end"))
            if one.is_stable and one.is_stale:
                stale += 1
                if self._linearizable:
                    anomalies.append(_missing(history, known, one, "stale-read"))
        stable = sum(one.is_stable for one in fates)
        stats: dict[str, Any] = {
            "elements": len(fates),
            "stable": stable,
            "lost": sum(one.is_lost for one in fates),
            "stale": stale,
            "missing_at_end": sum(e.missed_by is not None for e in fates),
            "never_read": sum(not (e.is_stable or e.is_lost) for e in fates),
            **_latencies(history, fates),
        }
        return verdict_of(
            anomalies,
            stats,
            judged=stable,
            empty="no element was ever seen for good",
            known=known,
        )


ENDS = {
    "lost": ", nor does any read begun later.",
    "stale-read": "; later reads do.",
    "missing-at-end": ". It was the final read{node}; others have it.",
}
"""Anomaly -> the end of the sentence about an element that a read misses."""


def _latencies(history: History, fates: Iterable[_Element]) -> dict[str, Any]:
    """Quantiles of how long stable elements took to be in every read, in ms.

    That is from the moment at which an element is known to the beginning of the last
    read that misses it. Empty if the history has no times, or no element is stable.
    """
    times = [
        (one.known.time, history[one.last_absent].time if one.is_stale else 0)
        for one in fates
        if one.is_stable and one.known is not None
    ]
    if not times or min(map(min, times)) < 0:
        return {}
    waits_ms = sorted(max(0, absent - known) / 1e6 for known, absent in times)
    last = len(waits_ms) - 1
    told = {f"{q:g}": round(waits_ms[round(q * last)], 3) for q in QUANTILES}
    return {"stable_latencies_ms": told}


def _fates(history: History, known: Known) -> tuple[list[_Element], list[Anomaly]]:
    """Every element that somebody tried to add, and reads that hold one twice."""
    sets: dict[Hashable, _Set] = {}
    duplicates: list[Anomaly] = []
    kinds = Kinds(op for op in history if known.role(op) == "add")
    for op in history:
        role = known.role(op)
        if role == "add" and op.type in {"invoke", "ok"}:
            value = op.value if op.type == "invoke" else acknowledged(history, op)
            sets.setdefault(object_of(op), _Set()).add(op, value)
        elif role == "read" and op.type == "ok":
            read = _Read(op, began(history, op), contents(history, op))
            names = read.names()
            if len(names) < len(read.values):
                duplicates += _duplicates(history, op)
            of_key = sets.setdefault(object_of(op), _Set())
            of_key.read(read, names)
            if not names <= of_key.members.keys():
                for value in read.values:
                    if element(value) not in of_key.members:
                        kinds.judge(history, op, object_of(op), value)
    return [one for each in sets.values() for one in each.decide()], duplicates


def _duplicates(history: History, read: Op) -> list[Anomaly]:
    values = {element(x): x for x in read.value}
    counts = Counter(map(element, read.value))
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


def _missing(history: History, known: Known, one: _Element, name: str) -> Anomaly:
    first = one.known
    read = one.missed_by if name == "missing-at-end" else one.absent_read
    assert first is not None
    assert read is not None
    begun = invocation(history, read)
    how = "acknowledged" if known.role(first) == "add" else "already in a read"
    sentence = (
        f"{one.value!r} was {how} (process {first.process}) before process "
        f"{read.process} began a read that does not hold it"
    )
    sentence += ENDS[name].format(node=f" of {read.node}" if read.node else "")
    reason = f"{one.value!r} was known before the read began"
    return Anomaly(
        name,
        (invocation(history, first).index, first.index, begun.index, read.index),
        sentence,
        witness=draw([(first.index, begun.index, "realtime", reason)]),
        key=one.key,
    )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "set-full",
    "what became of every element of a set: stable, lost, stale, never read",
    SetFullChecker,
    OPTIONS,
)
