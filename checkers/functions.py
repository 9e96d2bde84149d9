"""Which functions of a history a checker knows, by any of their names, and which not.

A checker that tallies looks at additions and reads, or at enqueues and dequeues, and
passes over all else. So a history that has other names for these would be valid,
although nothing in it was looked at. Therefore names that mean one thing in Jepsen's
tests, in Maelstrom's workloads and in common queues are taken for it. Of the rest:

1. A checker that knows none of the operations refuses the history. It also does if it
   knows only the reads: then something that it doesn't know put there what they found.
2. Operations that do what its definition has no place for (removals from a set that
   only grows) are refused too: whatever they do would look like a fault.
3. All others are left out, and counted in a remark. Where they may have changed what
   was judged, an anomaly proves nothing, so the verdict is unknown; and where they are
   more than half of all operations, no verdict is valid.

A checker that also judges what nodes observed of themselves needs no operations: where
it knows none of them, they are left out, and what was observed is judged.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from checkers.findings import listed
from checkers.linearizability.calls import client_positions
from harness.history import NO_COMPLETION, HistoryError
from harness.history.columns import FAIL
from harness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from harness.history import History, Op
    from harness.verdict import CheckResult

READS = ("read", "final-read", "read-all", "get")
ADDS = ("add", "broadcast", "insert")
INCREMENTS = ("add", "increment", "inc", "incr")
DECREMENTS = ("decrement", "dec", "decr", "subtract", "sub")
REMOVALS = ("remove", "delete", "del", "clear", "pop")
ENQUEUES = ("enqueue", "enq", "push", "offer", "put")
DEQUEUES = ("dequeue", "deq", "pop", "take")

HARMLESS = frozenset(
    {
        *("init", "setup", "topology", "connect", "reconnect", "open", "close"),
        *("crash", "refresh", "flush", "sync", "status", "ping", "sleep", "log"),
        *("size", "length", "count", "peek", "contains", "member"),
        "debug-topic-partitions",
        *READS,
    }
)
"""What changes nothing that a tally counts."""

LISTED_MAX = 8
"""Functions named in a sentence."""


class Functions:
    """What a checker knows.

    Args:
        owner: Who it is, for messages: "the set checker".
        roles: Role -> the names that histories have for it, the usual one first.
        source: The role that puts there what reads find; empty if there is none.
        against: Names that the checker's definition has no place for -> what to do.
        observed: What else it judges, for messages: "what servers observe".
    """

    def __init__(
        self,
        owner: str,
        roles: Mapping[str, Collection[str]],
        *,
        source: str = "",
        against: Mapping[str, str] | None = None,
        observed: str = "",
    ) -> None:
        self.owner = owner
        self.roles = roles
        self.source = source
        self.against = against or {}
        self.observed = observed
        self._role_of = {name: role for role, names in roles.items() for name in names}

    def of(
        self,
        history: History,
        also: Mapping[str, str] | None = None,
        *,
        has_observed: bool = False,
    ) -> Known:
        """What the checker knows of a history. Cost: a pass over columns.

        Args:
            history: What is to be judged.
            also: Functions that have a role in this history by the form of their
                values, whatever they are called.
            has_observed: The history holds what `observed` says.

        Raises:
            HistoryError: It can't judge this history; says what it knows, and what
                there is.
        """
        calls, effective = _calls(history)
        role_of = {f: self._role_of.get(stem(f), "") for f in calls} | dict(also or {})
        roles = {f: role for f, role in role_of.items() if role and f in calls}
        left = {f: n for f, n in calls.items() if f not in roles}
        for f, n in left.items():
            if (what := self.against.get(stem(f))) and effective[f]:
                raise HistoryError(
                    f"{history.source}: {self.owner} has no place for {f!r:.60} "
                    f"({n} operations): {what}"
                )
        strange = {
            f: effective[f] for f in left if stem(f) not in HARMLESS and effective[f]
        }
        is_blind = bool(strange) and self.source not in {"", *roles.values()}
        if calls and (not roles or is_blind) and not (has_observed and not roles):
            raise HistoryError(
                f"{history.source}: {self.owner} knows {self._told()}, and this "
                f"history has {_listed(calls)}"
            )
        return Known(roles, Counter(left), calls.total(), Counter(strange))

    def _told(self) -> str:
        """The roles and their names, for a sentence."""
        told = []
        for names in self.roles.values():
            first, *others = names
            told.append(f"{first} (or {', '.join(others)})" if others else first)
        return " and ".join([*told, self.observed] if self.observed else told)


@dataclass(frozen=True)
class Known:
    """What a checker knows of one history.

    Attributes:
        roles: Function -> its role.
        left_out: Calls by function of which the checker knows nothing.
        calls: How many calls there are in all.
        strange: Those left out that may have changed something, by function.
    """

    roles: Mapping[str, str]
    left_out: Counter[str]
    calls: int
    strange: Counter[str]

    def role(self, op: Op) -> str:
        """What `op` is for the checker; an empty text if it is nothing."""
        return self.roles.get(op.f, "") if op.is_client else ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was left out, as a sentence; none where nothing was."""
        if not self.left_out:
            return ()
        total = self.left_out.total()
        return (
            f"{total} of {self.calls} operations were left out, as this checker knows "
            f"nothing of them: {_listed(self.left_out)}",
        )

    def weighed(self, result: CheckResult) -> CheckResult:
        """The result; a weaker one where operations were left out that may matter."""
        result = replace(result, remarks=(*result.remarks, *self.remarks))
        if not self.roles:
            return result  # it rests on what nodes observed, and on no operation
        if result.verdict is Verdict.INVALID and self.strange:
            names = ", ".join(sorted({one.name for one in result.anomalies}))
            reason = (
                f"{names} may be the doing of operations that this checker knows "
                f"nothing of: {_listed(self.strange)}"
            )
            return replace(
                result,
                verdict=Verdict.UNKNOWN,
                anomalies=(),
                not_models=(),
                reason=reason,
                stats={k: v for k, v in result.stats.items() if k != "anomalies"},
            )
        if result.verdict is Verdict.VALID and 2 * self.left_out.total() > self.calls:
            reason = "nothing is wrong with less than half of the operations"
            return replace(result, verdict=Verdict.UNKNOWN, reason=reason)
        return result


def stem(f: str) -> str:
    """A function's name as it is compared: `:Final_Read` is `final-read`."""
    return f.lower().lstrip(":").replace("_", "-")


def _calls(history: History) -> tuple[Counter[str], Counter[str]]:
    """Clients' calls by function: all, and those that didn't fail."""
    events = history.columns
    invoked, completed = client_positions(history)
    failed = (completed != NO_COMPLETION) & (events.type[completed] == FAIL)
    count = len(events.functions)
    totals, may = (
        np.bincount(events.f[at], minlength=count).tolist()
        for at in (invoked, invoked[~failed])
    )
    return (
        Counter({f: n for f, n in zip(events.functions, totals, strict=True) if n}),
        Counter(dict(zip(events.functions, may, strict=True))),
    )


def _listed(calls: Counter[str]) -> str:
    """Functions by how often they occur, for a sentence."""
    return listed([f"{f!r:.60} ({n})" for f, n in calls.most_common()], LISTED_MAX)
