"""Sequential consistency: is there one order of all operations that all could agree on?

Lamport (1979): the outcome is that of some order of all operations in which those of
each process stand in the process's own order. Unlike linearizability it allows stale
reads, if only nobody can tell: what ZooKeeper promises for reads without `sync`. It
isn't local, so all keys are judged together.

What a verdict means, for `guarantee=sequential`:

- valid: an order was found, and replayed: it explains every read;
- invalid: a session guarantee is broken, or a read is of what nobody wrote, or calls
  are forced into a circle (`checkers.sequence.saturation`), or all orders were tried;
- unknown: none of that within the limits. To decide it is NP-hard (Gibbons and Korach
  1997). The session guarantees hold then, and the reason says so.

With `guarantee=session` only the four session guarantees of Terry et al. (1994) are
judged, key by key, in linear time; sequential consistency implies them.

Choices: values written to a key differ, as in our workloads. Keys where they don't are
left out; what is found on the others is still proof, but valid is not claimed. A write
of unknown outcome that was seen happened after its session's earlier calls, however
late; one that nobody saw is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.findings import shown
from checkers.linearizability.budget import Budget
from checkers.promises.findings import Findings
from checkers.sequence import calls as reading
from checkers.sequence import order, saturation, versions
from harness.options import OneOf
from harness.registry import Option, Plugin, settings
from harness.verdict import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkers.sequence.calls import Call, Calls
    from harness.history import History
    from harness.verdict import CheckResult

FIRST_DEAD_ENDS_MAX = 300
"""Dead ends of the first search; then a proof that there is no order is tried."""

SEARCH_DEFAULT_S = 30.0
"""How long the search goes on when nobody set a limit: it may be exponential."""

NOT_SEQUENTIAL = "not-sequential"


class SequentialChecker:
    """Judges sequential consistency of registers.

    Args:
        sessions_only: Judge nothing but the session guarantees.
    """

    def __init__(self, *, sessions_only: bool = False) -> None:
        self.sessions_only = sessions_only

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history` within `limits`; see the module for what the verdict means.

        Cost: linear for the session guarantees; then exponential at worst, bounded by
        the time limit or 30 s, but near linear for most histories.

        Raises:
            HistoryError: See `Functions.of`, and `reading.attempts`.
        """
        time_s = SEARCH_DEFAULT_S if limits.time_s is None else limits.time_s
        budget = Budget(Limits(time_s, limits.memory_mb))
        known = reading.FUNCTIONS.of(history)
        calls = reading.gather(history, known)
        case = Case(history, calls)
        case.judge_versions()
        unknown = case.unjudged()
        if not self.sessions_only and not case.findings.counts and not unknown:
            unknown = case.judge_order(budget)
        if not unknown and calls.left_out:
            unknown = case.left_out()
        stats = {
            "guarantee": "session" if self.sessions_only else "sequential",
            "calls": len(calls.calls),
            "sessions": len(calls.sessions),
            "reads": calls.reads,
            "seconds": round(budget.seconds(), 3),
        }
        return known.weighed(
            case.findings.result(
                stats | case.stats, unknown=unknown, not_models=("sequential",)
            )
        )


class Case:
    """One history under judgement.

    Attributes:
        findings: The anomalies so far.
        stats: Figures about how it was decided.
    """

    def __init__(self, history: History, calls: Calls) -> None:
        self.history = history
        self.calls = calls
        self.findings = Findings(history)
        self.stats: dict[str, Any] = {}

    def unjudged(self) -> str:
        """Why there is nothing to judge; empty when there is."""
        if self.calls.reads or self.findings.counts:
            return ""
        return (
            f"nothing to judge: among {len(self.calls.calls)} calls that happened none "
            "is a read or a cas"
        )

    def left_out(self) -> str:
        """What can't be judged, as reads of it don't tell which write they saw."""
        keys = ", ".join(shown(key) for key in self.calls.left_out[:5])
        return f"values were written twice, or null was, to key {keys}"

    # --- versions, key by key ----------------------------------------------------

    def judge_versions(self) -> None:
        """Reads of nothing, and what each session may rely on."""
        for op, (key, value), failed in self.calls.unwritten:
            self.unwritten(op, key, value, failed)
        for circle in versions.circles(self.calls):
            self.session_guarantee(circle)

    def unwritten(self, op: int, key: Any, value: Any, failed: int | None) -> None:
        """Something read a value that no write brought about."""
        who = f"process {self.history[op].process}"
        if failed is None:
            name, why = "read-of-unwritten-value", "which nobody wrote"
        else:
            name = "read-of-failed-write"
            why = f"whose write by process {self.history[failed].process} failed"
        self.findings.add(
            name,
            f"{who} read {shown(value)}{of_key(key)}, {why}.",
            [] if failed is None else [(failed, op, "contradicts", why)],
            ops=[op],
            key=self.history[op].key,
        )

    def session_guarantee(self, circle: list[versions.Step]) -> None:
        """A key's versions can't be ordered as all sessions saw them."""
        name = versions.broken_guarantee(circle)
        steps = [step for step in circle if step.guarantee != versions.INITIAL]
        key = steps[0].before[0]
        told = "; ".join(self.step(step) for step in steps)
        extra = ""
        if len(steps) < len(circle):
            extra = ", though that was there before any write"
        edges = []
        for step in steps:
            a, b = (self.calls.calls[at] for at in (step.first, step.second))
            if a.op != b.op:
                edges.append((a.op, b.op, step.guarantee, self.step(step)))
        for one, two in zip(steps, [*steps[1:], steps[0]], strict=True):
            a, b = self.calls.calls[one.second], self.calls.calls[two.first]
            if a.op != b.op:
                edges.append((a.op, b.op, "same-version", value_of(one.after)))
        self.findings.add(
            name,
            f"No order of the versions{of_key(key)} fits what sessions saw "
            f"({name.replace('-', ' ')}): {told}{extra}.",
            edges,
            ops=[self.calls.calls[steps[0].second].op],
            key=self.history[self.calls.calls[steps[0].second].op].key,
        )

    def step(self, step: versions.Step) -> str:
        """What a session did, as a clause."""
        call = self.calls.calls[step.second]
        verbs = {
            versions.MONOTONIC_READS: ("read", "read"),
            versions.READ_YOUR_WRITES: ("wrote", "read"),
            versions.WRITES_FOLLOW_READS: ("read", "wrote"),
            versions.MONOTONIC_WRITES: ("wrote", "wrote"),
        }[step.guarantee]
        return (
            f"process {call.session} {verbs[0]} {value_of(step.before)} and then "
            f"{verbs[1]} {value_of(step.after)}"
        )

    # --- one order of everything ---------------------------------------------------

    def judge_order(self, budget: Budget) -> str:
        """Find an order, or a proof that there is none; else why neither was found."""
        cheap = versions.writers_before(self.calls)
        repair = order.Repair(self.calls, budget, cheap)
        outcome = repair.run()
        if repair.repairs:
            self.stats["repairs"] = repair.repairs
        if outcome.order is None:
            outcome = order.Search(self.calls, budget, FIRST_DEAD_ENDS_MAX, cheap).run()
        if outcome.order is None:
            forced = saturation.Saturation(self.calls, budget)
            circle = forced.circle()
            if circle:
                self.stats["decided_by"] = "a circle of forced order"
                self.forced_circle(circle)
                return ""
            if not outcome.exhausted:
                outcome = order.Search(self.calls, budget, None, forced.before()).run()
        return self.conclude(outcome)

    def conclude(self, outcome: order.Outcome) -> str:
        """What the search has shown; if nothing, why."""
        if outcome.order is not None:
            assert order.explains(self.calls, outcome.order), "a wrong order was found"
            self.stats["decided_by"] = "an order that explains all reads"
            return ""
        if outcome.exhausted:
            self.stats["decided_by"] = "all orders"
            self.no_order(outcome)
            return ""
        return (
            "neither an order of all calls nor a proof that there is none was found: "
            f"{outcome.limit}; the session guarantees hold, and the first "
            f"{outcome.furthest} of {len(self.calls.calls)} calls can be ordered"
        )

    def no_order(self, outcome: order.Outcome) -> None:
        """All orders were tried, and none explains what was read."""
        stuck = [self.calls.calls[at] for at in outcome.stuck]
        told = "; ".join(f"{self.told(call)}" for call in stuck[:5])
        self.findings.add(
            NOT_SEQUENTIAL,
            "There is no order of all calls that explains what was read. At best "
            f"{outcome.furthest} of {len(self.calls.calls)} can be ordered; of what "
            f"comes next nothing can follow: {told}.",
            ops=[call.op for call in stuck],
        )

    def forced_circle(self, circle: list[tuple[int, int, saturation.Reason]]) -> None:
        """Each of some calls must come before the next, and the last before the first.

        What the versions of a single key show has been told before.
        """
        calls = self.calls.calls
        first = circle.index(min(circle))
        circle = circle[first:] + circle[:first]
        edges = [
            (
                calls[a].op,
                calls[b].op,
                reason.kind,
                self.why(calls[a], calls[b], reason),
            )
            for a, b, reason in circle
        ]
        told = "; ".join(f"({n}) {edge[3]}" for n, edge in enumerate(edges, 1))
        readers = [calls[r.reader].op for _, _, r in circle if r.reader >= 0]
        self.findings.add(
            NOT_SEQUENTIAL,
            f"No order of all calls explains what was read, as it would have to go in "
            f"a circle: {told}.",
            edges,
            ops=readers,
        )

    def why(self, a: Call, b: Call, reason: saturation.Reason) -> str:
        """Why a must come before b, as a clause."""
        match reason.kind:
            case saturation.PROCESS:
                return f"{self.told(a)} before {self.told(b)}"
            case saturation.READS_FROM:
                return f"{self.told(b)}, which process {a.session} wrote"
            case saturation.OVERWRITTEN:
                reader = self.told(self.calls.calls[reason.reader])
                return (
                    f"{self.told(a)} before {self.told(b)}, since it comes before "
                    f"{reader}"
                )
            case _:
                return f"{self.told(a)}, so before {self.told(b)}"

    def told(self, call: Call) -> str:
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


def value_of(version: reading.Version) -> str:
    """A version's value for a sentence."""
    return "nothing" if version[1] is None else shown(version[1])


OPTIONS = (
    Option(
        "guarantee",
        "sequential",
        "one order of all operations (sequential), or only what each session may rely "
        "on, key by key (session)",
        OneOf("sequential", "session"),
    ),
)


def build(options: Mapping[str, str]) -> SequentialChecker:
    """The checker from its options. Raises UsageError for what it doesn't know."""
    given = settings("the sequential checker", OPTIONS, options)
    return SequentialChecker(sessions_only=given["guarantee"] == "session")


PLUGIN = Plugin(
    "sequential",
    "one order of all operations explains every read, stale ones too, in each session",
    build,
    OPTIONS,
    aliases=("sequential-consistency",),
)
