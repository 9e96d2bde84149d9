"""The breaches of sequential consistency in words, each with its witness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.findings import anomaly, shown
from checkers.sequence import saturation, versions
from checkers.sequence.evidence import (
    BrokenGuarantee,
    ForcedCircle,
    NoOrder,
    ReadOfNothing,
)

if TYPE_CHECKING:
    from checkers.findings import Edge
    from checkers.sequence.calls import Call, Calls, Version
    from checkers.sequence.evidence import Breach
    from checkers.sequence.saturation import Forced
    from checkers.sequence.versions import Step
    from harness.history import History
    from harness.verdict import Anomaly

STUCK_TOLD_MAX = 5
"""Calls named that can't be next."""


class Teller:
    """Tells the breaches of one history.

    Args:
        history: What is judged.
        calls: Its calls.
    """

    def __init__(self, history: History, calls: Calls) -> None:
        self.history = history
        self.calls = calls

    def tell(self, breach: Breach) -> Anomaly:
        """The anomaly of a breach."""
        match breach:
            case ReadOfNothing():
                return self.read_of_nothing(breach)
            case BrokenGuarantee():
                return self.broken_guarantee(breach)
            case ForcedCircle():
                return self.forced_circle(breach)
            case NoOrder():
                return self.no_order(breach)

    # --- versions, key by key ----------------------------------------------------

    def read_of_nothing(self, breach: ReadOfNothing) -> Anomaly:
        """Something read a value that no write brought about."""
        op, (key, value), failed = breach.read
        edges: list[Edge] = []
        why = "which nobody wrote"
        if failed is not None:
            why = f"whose write by process {self.history[failed].process} failed"
            edges = [(failed, op, "contradicts", why)]
        return anomaly(
            breach.name,
            f"process {self.history[op].process} read {shown(value)}{of_key(key)}, "
            f"{why}.",
            edges,
            ops=[op],
            key=self.history[op].key,
        )

    def broken_guarantee(self, breach: BrokenGuarantee) -> Anomaly:
        """A key's versions can't be ordered as all sessions saw them."""
        circle, name = breach.circle, breach.name
        steps = [step for step in circle if step.guarantee != versions.INITIAL]
        told = "; ".join(self.step(step) for step in steps)
        extra = ""
        if len(steps) < len(circle):
            extra = ", though that was there before any write"
        seen = self.calls.calls[steps[0].second].op
        return anomaly(
            name,
            f"No order of the versions{of_key(steps[0].before[0])} fits what sessions "
            f"saw ({name.replace('-', ' ')}): {told}{extra}.",
            self.edges_of(steps),
            ops=[seen],
            key=self.history[seen].key,
        )

    def edges_of(self, steps: list[Step]) -> list[Edge]:
        """In each step, the first call and then the second; and what links the steps.

        The second call of a step and the first of the next concern the same version.
        """
        edges = []
        for step in steps:
            a, b = (self.calls.calls[at] for at in (step.first, step.second))
            if a.op != b.op:
                edges.append((a.op, b.op, step.guarantee, self.step(step)))
        for one, two in zip(steps, [*steps[1:], steps[0]], strict=True):
            a, b = self.calls.calls[one.second], self.calls.calls[two.first]
            if a.op != b.op:
                edges.append((a.op, b.op, "same-version", value_of(one.after)))
        return edges

    def step(self, step: Step) -> str:
        """What a session did, as a clause."""
        session = self.calls.calls[step.second].session
        first, then = VERBS[step.guarantee]
        return (
            f"process {session} {first} {value_of(step.before)} and then {then} "
            f"{value_of(step.after)}"
        )

    # --- one order of everything -------------------------------------------------

    def forced_circle(self, breach: ForcedCircle) -> Anomaly:
        """A circle of calls, told from the earliest one on."""
        calls, circle = self.calls.calls, breach.circle
        start = circle.index(min(circle))
        circle = circle[start:] + circle[:start]
        edges = [
            (calls[f.before].op, calls[f.after].op, f.reason.kind, self.why(f))
            for f in circle
        ]
        told = "; ".join(f"({n}) {edge[3]}" for n, edge in enumerate(edges, 1))
        readers = [f.reason.reader for f in circle if f.reason.reader >= 0]
        return anomaly(
            breach.name,
            "No order of all calls explains what was read, as it would have to go in "
            f"a circle: {told}.",
            edges,
            ops=[calls[reader].op for reader in readers],
        )

    def why(self, forced: Forced) -> str:
        """Why one call must come before another, as a clause."""
        a, b = (self.calls.calls[at] for at in (forced.before, forced.after))
        match forced.reason.kind:
            case saturation.PROCESS:
                return f"{call_in_words(a)} before {call_in_words(b)}"
            case saturation.READS_FROM:
                return f"{call_in_words(b)}, which process {a.session} wrote"
            case saturation.OVERWRITTEN:
                reader = call_in_words(self.calls.calls[forced.reason.reader])
                return (
                    f"{call_in_words(a)} before {call_in_words(b)}, since it comes "
                    f"before {reader}"
                )
            case _:
                return f"{call_in_words(a)}, so before {call_in_words(b)}"

    def no_order(self, breach: NoOrder) -> Anomaly:
        """All orders were tried, and none explains what was read."""
        stuck = [self.calls.calls[at] for at in breach.stuck]
        told = "; ".join(map(call_in_words, stuck[:STUCK_TOLD_MAX]))
        return anomaly(
            breach.name,
            "There is no order of all calls that explains what was read. At best "
            f"{breach.furthest} of {len(self.calls.calls)} can be ordered; of what "
            f"comes next nothing can follow: {told}.",
            ops=[call.op for call in stuck],
        )


VERBS = {
    versions.MONOTONIC_READS: ("read", "read"),
    versions.READ_YOUR_WRITES: ("wrote", "read"),
    versions.WRITES_FOLLOW_READS: ("read", "wrote"),
    versions.MONOTONIC_WRITES: ("wrote", "wrote"),
}
"""What a session did with two versions, by the guarantee that rests on it."""


def call_in_words(call: Call) -> str:
    """A call as a clause: "process 3 read 5 of key 1"."""
    parts = []
    if call.sees is not None:
        parts.append(f"read {value_of(call.sees)}")
    if call.makes is not None:
        parts.append(f"wrote {value_of(call.makes)}")
    version = call.makes or call.sees
    assert version is not None
    return f"process {call.session} {' and '.join(parts)}{of_key(version[0])}"


def of_key(key: Any) -> str:
    """Of which key, for a sentence, where there are several."""
    return "" if key is None else f" of key {shown(key)}"


def value_of(version: Version) -> str:
    """A version's value for a sentence."""
    return "nothing" if version[1] is None else shown(version[1])
