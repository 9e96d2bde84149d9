"""Causal reverse: a write is seen, and one that was over before it began is not.

Jepsen's `causal-reverse`. Values are written blindly, each once; reads give all values
that are there. Whoever sees w must see whatever was acknowledged before w was invoked:
strict serializability demands it, and serializability alone does not.

Theory: what was acknowledged by some moment only grows, so of all that a read saw the
one that was invoked last demands the most, and what it demands is a prefix of the
writes in order of acknowledgement.

Choice: of a value written more than once, the earliest acknowledgement and the earliest
invocation count, which demands the least.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checkers.findings import draw
from checkers.functions import READS, Functions
from checkers.tallies import (
    Kinds,
    acknowledged,
    began,
    completed,
    contents,
    invocation,
    is_attempt,
    outcome,
    verdict_of,
)
from checkers.values import element
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping

    from checkers.functions import Known
    from harness.history import History, Op
    from harness.verdict import CheckerFactory


@dataclass(slots=True)
class _Writes:
    """The writes of one independent key."""

    begun: dict[Hashable, int] = field(default_factory=dict)
    """Value -> when its first write was invoked."""
    place: dict[Hashable, int] = field(default_factory=dict)
    """Value -> its place in `acknowledged`."""
    acknowledged: list[Op] = field(default_factory=list)
    """First acknowledgements, in order."""
    indices: list[int] = field(default_factory=list)
    """Where they stand in the history."""


FUNCTIONS = Functions(
    "the causal-reverse checker",
    {"write": ("write", "insert"), "read": READS},
    source="write",
)


class CausalReverseChecker:
    """Judges which acknowledged writes a read lacks."""

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the causal-reverse checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear in what was read, but for a logarithm.

        Raises:
            HistoryError: A read of something that is no collection, or of values of a
                kind that nobody wrote; or see `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        kinds = Kinds(op for op in history if known.role(op) == "write")
        by_key = _writes(history, known)
        anomalies: list[Anomaly] = []
        reads, unexpected = 0, 0
        for read in completed(history, known, "read"):
            reads += 1
            writes = by_key.get(element(read.key), _Writes())
            seen = {element(value): value for value in contents(history, read)}
            for name, value in seen.items():
                if name not in writes.begun:
                    kinds.judge(history, read, element(read.key), value)
            written = [value for value in seen if value in writes.begun]
            unexpected += len(seen) - len(written)
            if not written:
                continue
            last = max(written, key=writes.begun.__getitem__)
            demanded = bisect_left(writes.indices, writes.begun[last])
            places = (writes.place.get(value, demanded) for value in written)
            if sum(place < demanded for place in places) < demanded:
                anomalies.append(_reverse(history, read, writes, last, seen))
        return verdict_of(
            anomalies,
            {
                "reads": reads,
                "acknowledged": sum(len(w.acknowledged) for w in by_key.values()),
                "unexpected": unexpected,
            },
            judged=reads,
            empty="no read succeeded",
            known=known,
        )


def _writes(history: History, known: Known) -> dict[Hashable, _Writes]:
    by_key: dict[Hashable, _Writes] = {}
    for op in history:
        if known.role(op) != "write":
            continue
        writes = by_key.setdefault(element(op.key), _Writes())
        value = element(acknowledged(history, op) if op.type == "ok" else op.value)
        if op.type == "ok" or (
            is_attempt(history, op) and outcome(history, op) != "fail"
        ):
            begun = op.index if op.type == "invoke" else began(history, op)
            writes.begun[value] = min(writes.begun.get(value, begun), begun)
        if op.type == "ok" and value not in writes.place:
            writes.place[value] = len(writes.acknowledged)
            writes.acknowledged.append(op)
            writes.indices.append(op.index)
    return by_key


def _reverse(
    history: History,
    read: Op,
    writes: _Writes,
    last: Hashable,
    seen: Collection[Hashable],
) -> Anomaly:
    begun = writes.begun[last]
    missing = [
        op
        for op in writes.acknowledged[: bisect_left(writes.indices, begun)]
        if element(op.value) not in seen
    ]
    first, later = missing[0], history[begun]
    more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
    before = (
        f"{first.value!r} was acknowledged before the write of {later.value!r} began"
    )
    edges = [
        (first.index, begun, "realtime", before),
        (begun, read.index, "wr", f"the read saw {later.value!r}"),
        (read.index, first.index, "rw", f"the read did not see {first.value!r}"),
    ]
    return Anomaly(
        "causal-reverse",
        (invocation(history, first).index, first.index, begun, read.index),
        f"Process {read.process} read {later.value!r:.60} without "
        f"{first.value!r:.60}{more}, "
        f"which process {first.process} had been acknowledged before process "
        f"{later.process} began to write {later.value!r}.",
        witness=draw(edges),
        key=read.key,
        details={"missing": [op.value for op in missing[:32]]},
    )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "causal-reverse",
    "who sees a write sees all that was acknowledged before it began",
    CausalReverseChecker,
)
