"""Locks with fencing tokens: tokens grow, and only the newest one opens anything.

A client that was paused does not know that it lost its lock. So each grant comes with a
token greater than all before, and what is done under the lock names its token (Burrows
2006, 2.4; Kleppmann 2016). Judged lock by lock (`Op.key`), each in linear time:

- an acquire's token is greater than those of all acquires that returned before it
  began, and is nobody else's;
- `use` and `release` by a token are refused once a greater one was granted, or once
  that token was released;
- nobody holds the lock while another does: between an acquire's return and the first
  attempt at a release, its holder holds the lock for certain. It is not certain if some
  release had begun before the acquire returned: its client may have guessed the token.

With `leases=true` the last rule is off: where locks expire, fencing is all there is.

Choices: it is by the token that one holds a lock, not by process or node, as a holder
may hand its token on. An acquire of unknown outcome proves nothing, as nobody knows its
token. All of this follows from linearizability: `linearizable` with the model
fenced-lock sees more, but explains it less plainly, and can't judge leases.

All anomalies are final. Each grant and use is judged by what came before it, and by
releases that had begun before it ended: one that is open in a prefix may have worked
there, which excuses the most.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checkers.findings import (
    PROMISES_EXAMPLES_MAX,
    Findings,
    anomaly,
    conclude,
    name_of,
    shown,
)
from checkers.functions import Functions
from checkers.tallies import (
    UNKNOWN_BEGIN,
    bad_op,
    began,
    invocation,
    is_first,
    object_of,
    outcome,
)
from harness.options import Flag
from harness.registry import Option, Plugin, settings
from harness.verdict import nothing_to_judge

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from checkers.functions import Known
    from harness.history import History, Op
    from harness.verdict import Anomaly, CheckerFactory, CheckResult, Limits

FUNCTIONS = Functions(
    "the fencing checker",
    {"acquire": ("acquire",), "use": ("use",), "release": ("release",)},
)

OPTIONS = (Option("leases", "false", "locks may expire while held", Flag()),)


@dataclass
class Lock:
    """What is known of one lock at some point of the history.

    Attributes:
        granted: The ok acquire by its token.
        newest: The greatest token of an acquire that has returned; None before that.
        holding: Tokens held for certain, with their ok acquires.
        released: Tokens that were released for certain, with their ok releases.
        attempts: By token, when each attempt at a release that may have worked began
            and ended, of the whole history.
    """

    granted: dict[int, Op] = field(default_factory=dict)
    newest: int | None = None
    holding: dict[int, Op] = field(default_factory=dict)
    released: dict[int, Op] = field(default_factory=dict)
    attempts: dict[int, list[tuple[int, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )


class FencingChecker:
    """Judges acquires, uses and releases of locks; see the module."""

    final_on_prefix = frozenset(
        {
            "token-granted-twice",
            "token-not-greater",
            "two-holders",
            "stale-token-accepted",
        }
    )

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the fencing checker", OPTIONS, options)
        self._leases: bool = given["leases"]

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear.

        Raises:
            HistoryError: A token that is no whole number; or see `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        case = Case(history, known, leases=self._leases)
        ops = [op for op in history if known.role(op)]
        for op in ops:
            case.foresee(op)
        for op in ops:
            case.see(op)
        unknown = ""
        if not case.judged:
            unknown = nothing_to_judge(
                "no lock was granted twice, and no token was tried after its time"
            )
        found = case.findings
        return known.weighed(
            conclude(found.counts, found.examples, case.stats(), reason=unknown)
        )


class Case:
    """One history under judgement.

    Attributes:
        known: What each op is.
        findings: The anomalies so far.
        judged: How many grants came after another, and tokens were tried after their
            time.
    """

    def __init__(self, history: History, known: Known, *, leases: bool) -> None:
        self.history = history
        self.known = known
        self.findings: Findings[Anomaly] = Findings(PROMISES_EXAMPLES_MAX)
        self.judged = 0
        self._leases = leases
        self._locks: dict[Hashable, Lock] = defaultdict(Lock)
        # Index of an invocation -> the ok op for which it must not succeed.
        self._before: dict[int, Op | None] = {}
        self._counts = dict.fromkeys(("grants", "uses", "stale_refused"), 0)

    def stats(self) -> dict[str, int]:
        """Figures for the report."""
        return {"locks": len(self._locks), **self._counts}

    def foresee(self, op: Op) -> None:
        """Note an attempt at a release, where the history first tells of it."""
        how = outcome(self.history, op)
        if (
            self.known.role(op) != "release"
            or how == "fail"
            or not is_first(self.history, op)
        ):
            return
        begun = op.index if op.type == "invoke" else UNKNOWN_BEGIN
        end = op.index if op.type != "invoke" else self.history.completion[op.index]
        attempts = self._locks[object_of(op)].attempts[number(self.history, op)]
        attempts.append((begun, end if how == "ok" else math.inf))

    def see(self, op: Op) -> None:
        """Judge the next op of the history."""
        lock = self._locks[object_of(op)]
        if op.type == "invoke":
            self.begin(lock, op)
            return
        reason = self._before.pop(invocation(self.history, op).index, None)
        if self.known.role(op) == "acquire":
            if op.type == "ok":
                self.grant(lock, op, reason)
        elif op.type == "ok":
            self.accept(lock, op, reason)
        elif op.type == "fail" and reason is not None:
            self.judged += 1
            self._counts["stale_refused"] += 1

    def begin(self, lock: Lock, op: Op) -> None:
        """Something is asked for: note what it comes too late for."""
        newest = None if lock.newest is None else lock.granted[lock.newest]
        role = self.known.role(op)
        if role == "acquire":
            self._before[op.index] = newest
            return
        token = number(self.history, op)
        late = newest is not None and newest.value > token
        self._before[op.index] = newest if late else lock.released.get(token)
        if role == "release" and outcome(self.history, op) != "fail":
            lock.holding.pop(token, None)

    def grant(self, lock: Lock, op: Op, before: Op | None) -> None:
        """A lock was granted; `before` is the newest grant when it was asked for."""
        token = number(self.history, op)
        self._counts["grants"] += 1
        self.judged += bool(lock.granted)
        twin = lock.granted.get(token)
        if twin is not None:
            self.add(
                "token-granted-twice", twin, op, f"token {token} was granted twice"
            )
        elif before is not None and token <= before.value:
            why = f"token {token} was granted after {before.value} had been"
            self.add("token-not-greater", before, op, why)
        begun = began(self.history, op)
        is_sure = not any(
            since < op.index and end > begun for since, end in lock.attempts[token]
        )
        if is_sure and not self._leases:
            for other in lock.holding.values():
                why = (
                    f"{who(other)} had not begun to release it (token {other.value}) "
                    f"when {who(op)} got it too (token {token})"
                )
                self.add("two-holders", other, op, why)
        lock.granted.setdefault(token, op)
        if is_sure:
            lock.holding[token] = op
        if lock.newest is None or token > lock.newest:
            lock.newest = token

    def accept(self, lock: Lock, op: Op, reason: Op | None) -> None:
        """Something was done under a lock; `reason` is why it should not have been."""
        token = number(self.history, op)
        role = self.known.role(op)
        self._counts["uses"] += role == "use"
        if reason is not None:
            self.judged += 1
            past = "granted" if self.known.role(reason) == "acquire" else "released"
            why = (
                f"{op.f} by token {token} was accepted after token {reason.value} had "
                f"been {past}"
            )
            self.add("stale-token-accepted", reason, op, why)
        if role == "release":
            lock.released.setdefault(token, op)

    def add(self, name: str, first: Op, second: Op, why: str) -> None:
        """An anomaly of two ops."""
        if not self.findings.wants(name):
            return
        whose = "the lock" if second.key is None else f"lock {shown(second.key)}"
        edge = (first.index, second.index, "contradicts", why)
        self.findings.keep(anomaly(name, f"Of {whose}, {why}.", [edge], key=second.key))


def who(op: Op) -> str:
    """Who holds a lock, and at which node it asked."""
    return f"process {op.process}" + (f" (at {name_of(op)})" if op.node else "")


def number(history: History, op: Op) -> int:
    """The token that an op is about.

    Raises:
        HistoryError: It is no whole number.
    """
    if type(op.value) is not int:
        raise bad_op(
            history,
            op,
            f"{op.f} of {op.value!r:.60}: the fencing checker needs tokens that are "
            "whole numbers",
        )
    return op.value


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "fencing",
    "fencing tokens of locks grow, stale ones are refused, and one client holds a lock",
    FencingChecker,
    OPTIONS,
)
