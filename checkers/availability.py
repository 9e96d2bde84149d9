"""How much of what clients asked was answered, and for how long nothing was.

Availability is the fraction of all operations that ended ok: overall, by function, by
node, and by window of time, in which an operation counts when it began. With
`counts=ok,fail` a definite failure is an answer too, for workloads in which a
compare-and-set may fail by right.

An outage lies between two answers, or after the last one: it begins with the first
moment at which somebody waits, and ends with the next answer. So the pauses of clients
that try again belong to it, the time in which nobody had asked yet does not, and while
others are answered, one client that waits for a node that is gone sees no outage.

Nothing here is a fault of the system by itself: a partition takes a minority's answers
away by right. So the verdict is valid unless something was asked for: a `minimum`, an
`outage-s-max`, or a `minimum-healthy` for operations that began when no fault was at
work. Faults are those of the nemesis in the history: from `start-KIND` to `stop-KIND`,
`kill` to `start`, `pause` to `resume`, or else `start` to `stop`; `heal` ends all.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from checkers.tallies import is_first, outcome, verdict_of
from harness.options import SHARE, Number, OneOf, OrNone
from harness.registry import Option, Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

SECONDS_MAX = 1e9

OPTIONS = (
    Option(
        "minimum", "0", "smallest part of all operations that must be answered", SHARE
    ),
    Option(
        "minimum-healthy",
        "0",
        "the same of those that began while no fault was at work",
        SHARE,
    ),
    Option(
        "outage-s-max",
        "",
        "longest outage allowed, in seconds; any if empty",
        OrNone(Number(0.0, SECONDS_MAX)),
    ),
    Option("counts", "ok", "what counts as an answer", OneOf("ok", "ok,fail")),
    Option(
        "window-s", "1", "length of a window, in seconds", Number(1e-6, SECONDS_MAX)
    ),
)

SECOND_NS = 1_000_000_000
WINDOWS_MAX = 1000
"""Windows of a history; a longer one has longer windows, not more."""

OPS_NAMED_MAX = 10
"""Unanswered operations named when too little was answered."""


@dataclass(frozen=True)
class Question:
    """One call: when it began and ended, and whether it was answered.

    Attributes:
        op: Where the history first tells of it.
        begin_ns, end_ns: Its interval; the end of the history where it never ended.
        answered: Whether what came of it counts as an answer.
        faults: Kinds of faults that were at work when it began.
    """

    op: Op
    begin_ns: int
    end_ns: int
    answered: bool
    faults: frozenset[str]


@dataclass(frozen=True)
class Outage:
    """A time in which somebody waited and nobody got an answer."""

    begin_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.end_ns - self.begin_ns) / SECOND_NS


class AvailabilityChecker:
    """Judges how much was answered, and how long nothing was."""

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the availability checker", OPTIONS, options)
        self._minimum: float = given["minimum"]
        self._minimum_healthy: float = given["minimum-healthy"]
        self._window_s: float = given["window-s"]
        outage_s_max: float | None = given["outage-s-max"]
        self._outage_s_max = math.inf if outage_s_max is None else outage_s_max
        self._answers: list[str] = given["counts"].split(",")

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: n log n."""
        asked = self._questions(history)
        healthy = [one for one in asked if not one.faults]
        stats: dict[str, Any] = {
            "operations": len(asked),
            "answered": sum(one.answered for one in asked),
            "fraction": round(_fraction(asked), 6),
            "by_f": _by(asked, lambda op: op.f),
            "by_node": _by(asked, lambda op: op.node),
            "healthy": round(_fraction(healthy), 6) if healthy else None,
            "during": {
                kind: round(_fraction([one for one in asked if kind in one.faults]), 6)
                for kind in sorted({kind for one in asked for kind in one.faults})
            },
        }
        anomalies = [
            *_too_little(asked, self._minimum, ""),
            *_too_little(healthy, self._minimum_healthy, " begun without any fault"),
        ]
        has_times = all(one.begin_ns >= 0 for one in asked)
        if has_times and asked:
            stats |= self._windows(asked)
            outages = find_outages(asked)
            longest = max(outages, key=lambda one: one.seconds, default=None)
            stats["longest_outage_s"] = round(longest.seconds, 6) if longest else 0.0
            anomalies += [
                self._too_long(one, asked)
                for one in outages
                if one.seconds > self._outage_s_max
            ]
        return verdict_of(
            anomalies,
            stats,
            judged=len(asked),
            empty="no client asked anything",
            doubt="the history has no times, so nobody knows how long outages were"
            if math.isfinite(self._outage_s_max) and not has_times
            else "",
        )

    def _questions(self, history: History) -> list[Question]:
        end_ns = max((op.time for op in history), default=0)
        asked = []
        faults = _Faults(history)
        for op in history:
            faults.see(op)
            if not op.is_client or not is_first(history, op):
                continue
            j = history.completion[op.index]
            ended_ns = op.time if op.type != "invoke" else end_ns
            if j >= 0:
                ended_ns = history[j].time
            answered = outcome(history, op) in self._answers
            ended_ns = max(ended_ns, op.time)
            asked.append(Question(op, op.time, ended_ns, answered, faults.at_work()))
        return asked

    def _windows(self, asked: Sequence[Question]) -> dict[str, Any]:
        """Availability by window; None for a window in which nobody asked."""
        first_ns = min(one.begin_ns for one in asked)
        span_ns = max(one.begin_ns for one in asked) - first_ns + 1
        window_ns = max(
            math.ceil(self._window_s * SECOND_NS), math.ceil(span_ns / WINDOWS_MAX)
        )
        total: Counter[int] = Counter()
        good: Counter[int] = Counter()
        for one in asked:
            at = (one.begin_ns - first_ns) // window_ns
            total[at] += 1
            good[at] += one.answered
        count = max(total) + 1
        return {
            "window_s": window_ns / SECOND_NS,
            "windows": [
                round(good[at] / total[at], 3) if total[at] else None
                for at in range(count)
            ],
            "windows_without_answer": sum(not good[at] for at in total),
        }

    def _too_long(self, outage: Outage, asked: Sequence[Question]) -> Anomaly:
        waited = [
            one.op.index
            for one in asked
            if one.begin_ns < outage.end_ns and one.end_ns > outage.begin_ns
        ]
        return Anomaly(
            "outage",
            tuple(waited[:OPS_NAMED_MAX]),
            f"Nobody got an answer for {outage.seconds:.3f} s, from "
            f"{outage.begin_ns / SECOND_NS:.3f} s on, though {len(waited)} "
            f"operations waited for one; {self._outage_s_max:g} s are allowed.",
            details={"begin_ns": outage.begin_ns, "end_ns": outage.end_ns},
        )


class _Faults:
    """Which faults are at work, as the nemesis tells.

    An op of the nemesis is two events. A fault counts from the first event of its start
    to the second one of its end.
    """

    def __init__(self, history: History) -> None:
        self._kills = any(op.f == "kill" and not op.is_client for op in history)
        self._active: Counter[str] = Counter()
        self._begun: str | None = None

    def see(self, op: Op) -> None:
        """Take note of an event."""
        if op.is_client:
            return
        is_second = self._begun == op.f
        self._begun = None if is_second else op.f
        opens, closes = self._meaning(op.f)
        if opens and not is_second:
            self._active[opens] += 1
        elif closes and is_second:
            self._active[closes] -= 1
        elif op.f == "heal" and is_second:
            self._active.clear()

    def _meaning(self, f: str) -> tuple[str, str]:
        """(kind of fault that begins, kind that ends)."""
        if f in {"kill", "pause"}:
            return f, ""
        if f == "resume":
            return "", "pause"
        if f == "start" and self._kills:
            return "", "kill"
        if f in {"start", "stop"}:
            return ("fault", "") if f == "start" else ("", "fault")
        begin, kind = f.removeprefix("start-"), f.removeprefix("stop-")
        return (begin if begin != f else ""), (kind if kind != f else "")

    def at_work(self) -> frozenset[str]:
        """Kinds of faults that are at work now."""
        return frozenset(kind for kind, count in self._active.items() if count > 0)


def _too_little(
    asked: Sequence[Question], minimum: float, which: str
) -> Iterator[Anomaly]:
    if not asked or _fraction(asked) >= minimum:
        return
    missed = [one.op.index for one in asked if not one.answered]
    yield Anomaly(
        "unavailable",
        tuple(missed[:OPS_NAMED_MAX]),
        f"{len(asked) - len(missed)} of {len(asked)} operations{which} were answered "
        f"({_fraction(asked):.2%}); at least {minimum:.2%} must be.",
    )


def find_outages(asked: Sequence[Question]) -> list[Outage]:
    """All outages, in order. Cost: n log n."""
    answers_ns = {one.end_ns for one in asked if one.answered}
    bounds = sorted({*answers_ns, max(one.end_ns for one in asked)})
    by_begin = sorted(asked, key=lambda one: one.begin_ns)
    outages: list[Outage] = []
    at, previous_ns = 0, by_begin[0].begin_ns
    latest_end_ns = previous_ns  # of what began before the last answer
    for bound_ns in bounds:
        first = at
        open_until_ns = latest_end_ns
        while at < len(by_begin) and by_begin[at].begin_ns < bound_ns:
            latest_end_ns = max(latest_end_ns, by_begin[at].end_ns)
            at += 1
        if open_until_ns > previous_ns:
            outages.append(Outage(previous_ns, bound_ns))
        elif at > first:
            outages.append(Outage(by_begin[first].begin_ns, bound_ns))
        previous_ns = bound_ns
    return outages


def _fraction(asked: Sequence[Question]) -> float:
    return sum(one.answered for one in asked) / len(asked) if asked else 0.0


def _by(
    asked: Sequence[Question], part: Callable[[Op], str | None]
) -> dict[str, float]:
    parts: dict[str, list[Question]] = {}
    for one in asked:
        name = part(one.op)
        if name is not None:
            parts.setdefault(name, []).append(one)
    return {name: round(_fraction(some), 6) for name, some in sorted(parts.items())}


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "availability",
    "how much was answered, and for how long nothing was; a minimum can be asked for",
    AvailabilityChecker,
    OPTIONS,
)
