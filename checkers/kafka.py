"""Logs in the manner of Kafka: what was sent is polled, once, in order, by everybody.

Jepsen's `kafka`, with its rules and its names. Clients send messages to keys (topics'
partitions) and are told the offset of each; they poll the keys assigned to them, each
poll going on where the last one ended. See `checkers.logs`: `steps` for the form of
operations, `orders` for how the order of a log is found, `rules` and `cycles` for what
is looked for.

Allowed, as Kafka promises nothing else: `int-send-skip` and G0, as transactions' writes
interleave; `poll-skip` and `nonmonotonic-poll` where clients `subscribe`, so that their
keys may be taken away between polls; with `ww-deps`, G1c. These are counted as `also`.

How far clients' polls lagged behind their logs is a figure and no breach: see `lag`.

Beyond Jepsen: a message that nobody sent is a `garbage-read`; an assignment that seeks
to the beginning may go back; a message is `unseen` only if a client ended with
a poll of its key.

Offsets stay where they are, and what is known of a log only gets more: two records of
which one is behind the other, or others between them, stay so. So anomalies of offsets
are final, and aborted reads. A garbage read is not, as its message may be sent later;
nor is what depends on whether a client ever subscribes, nor, for now, cycles.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from checkers.findings import collect, conclude
from checkers.linearizability.budget import Budget, LimitExceeded
from checkers.logs.cycles import find_cycles
from checkers.logs.lag import figures, find_lags
from checkers.logs.orders import find_orders
from checkers.logs.rules import judge, never_polled
from checkers.logs.steps import FUNCTIONS, read_steps
from checkers.logs.telling import Teller
from harness.options import Flag, OneOf
from harness.registry import Option, Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits, Verdict, nothing_to_judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkers.findings import Findings
    from checkers.logs.evidence import Breach
    from checkers.logs.orders import Orders
    from checkers.logs.steps import Steps
    from harness.history import History
    from harness.verdict import CheckerFactory

OPTIONS = (
    Option(
        "sub-via",
        "auto",
        "how clients get their keys; auto: subscribe if the history has that",
        OneOf("auto", "assign", "subscribe"),
    ),
    Option(
        "ww-deps",
        "false",
        "the order of a log orders the transactions that wrote it",
        Flag(),
    ),
    Option(
        "unseen",
        "invalid",
        "the verdict when what was acknowledged was never polled, though nobody "
        "polled past it; a test that ends without catching up wants unknown",
        OneOf("invalid", "unknown"),
    ),
)

EXAMPLES_MAX = 8
"""Breaches of one rule that are told; all are counted."""

ALWAYS_ALLOWED = frozenset({"int-send-skip", "G0", "G0-process", "G0-realtime"})
ALLOWED_WITH_SUBSCRIBE = frozenset({"poll-skip", "nonmonotonic-poll"})
ALLOWED_WITH_WW = frozenset({"G1c", "G1c-process", "G1c-realtime"})


class KafkaChecker:
    """Judges logs by what clients sent and polled."""

    presume_end = frozenset({"unseen"})
    final_on_prefix = frozenset(
        {
            "inconsistent-offsets",
            "duplicate",
            "G1a",
            "precommitted-read",
            "int-poll-skip",
            "int-nonmonotonic-poll",
            "int-nonmonotonic-send",
            "nonmonotonic-send",
        }
    )

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the kafka checker", OPTIONS, options)
        self._sub_via: str = given["sub-via"]
        self._with_ww: bool = given["ww-deps"]
        self._unseen = Verdict.parse(given["unseen"])

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear, but for sorting.

        Raises:
            HistoryError: An operation of another form, or a message sent twice; or see
                `Functions.of`.
        """
        budget = Budget(limits)

        def pause() -> None:
            if limit := budget.exceeded():
                raise LimitExceeded(limit)

        known = FUNCTIONS.of(history)
        steps = read_steps(history, known)
        orders = find_orders(history, steps)
        findings = collect(judge(orders), EXAMPLES_MAX)
        cycles: dict[str, list[Anomaly]] = {}
        limit = ""
        try:
            cycles = find_cycles(history, orders, with_ww=self._with_ww, pause=pause)
        except LimitExceeded as exceeded:
            limit = str(exceeded)
        lag = figures(find_lags(history, steps))
        return known.weighed(self._result(orders, findings, cycles, limit, lag))

    def _result(
        self,
        orders: Orders,
        findings: Findings[Breach],
        cycles: Mapping[str, list[Anomaly]],
        limit: str,
        lag: Mapping[str, Any],
    ) -> CheckResult:
        counts = findings.counts + Counter({name: len(c) for name, c in cycles.items()})
        steps = orders.steps
        allowed = self._allowed(steps)
        doubt = limit and f"{limit} while looking for cycles"
        missed = sum(not has_looked for *_, has_looked in never_polled(orders))
        if missed:
            doubt = doubt or (
                f"{missed} acknowledged messages were never polled, but no client "
                "ended with a poll of their keys that succeeded"
            )
        if self._unseen is Verdict.UNKNOWN and counts["unseen"]:
            allowed |= {"unseen"}
            doubt = doubt or (
                f"{counts['unseen']} acknowledged messages were never polled"
            )
        has_looked = any(step.asks and step.outcome == "ok" for step in steps.all)
        bad = {name: n for name, n in counts.items() if name not in allowed}
        stats = _stats(orders) | {
            "breaches": bad,
            "also": {name: n for name, n in counts.items() if name in allowed},
            "not_looked_for": missed,
            "realtime_lag": lag,
        }
        teller = Teller(orders)
        anomalies = [teller.tell(one) for one in findings.examples if one.name in bad]
        anomalies += [cycle for name in cycles if name in bad for cycle in cycles[name]]
        anomalies.sort(key=lambda anomaly: anomaly.name)
        if bad:
            reason = limit
        elif stats["polled"]:
            reason = doubt
        else:
            nothing = (
                "no message was ever polled" if has_looked else "no poll succeeded"
            )
            reason = nothing_to_judge(nothing)
        return conclude(bad, anomalies, stats, reason=reason)

    def _allowed(self, steps: Steps) -> frozenset[str]:
        allowed = ALWAYS_ALLOWED
        subscribes = any(step.role == "subscribe" for step in steps.all)
        if self._sub_via == "subscribe" or (self._sub_via == "auto" and subscribes):
            allowed |= ALLOWED_WITH_SUBSCRIBE
        if self._with_ww:
            allowed |= ALLOWED_WITH_WW
        return allowed


def _stats(orders: Orders) -> dict[str, Any]:
    outcomes = Counter(step.outcome for step in orders.steps.transactions())
    return {
        "transactions": outcomes.total(),
        "committed": outcomes["ok"],
        "keys": len(orders.logs),
        "sent": len(orders.writer),
        "polled": len(orders.read_ok),
    }


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "kafka",
    "what is sent to logs is polled, once and in order",
    KafkaChecker,
    OPTIONS,
)
