"""An unordered queue: nothing comes out that did not go in.

Jepsen's `queue`, with its rule for the unknown: an element is in from the moment that
its enqueue was invoked, and out from the moment that its dequeue returned.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from checkers.tallies import (
    VACUOUS,
    Kinds,
    invocation,
    is_attempt,
    named,
    object_of,
    verdict_of,
)
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History
    from harness.verdict import CheckerFactory

OPTIONS = (VACUOUS,)


class QueueChecker:
    """See the module."""

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the queue checker", OPTIONS, options)
        self._vacuous = Verdict.parse(given["vacuous"])

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Cost: linear.

        Raises:
            HistoryError: Something was dequeued of a kind that nobody enqueued.
        """
        kinds = Kinds(history, "enqueue")
        # What nobody invoked on record may have been invoked before all else.
        inside: Counter[Any] = Counter(
            named(op, op.value)
            for op in history
            if op.f == "enqueue"
            and op.is_client
            and op.type != "invoke"
            and is_attempt(history, op)
        )
        dequeues, anomalies = 0, []
        for op in history:
            if not op.is_client:
                continue
            if op.f == "enqueue" and op.type == "invoke":
                inside[named(op, op.value)] += 1
            elif op.f == "dequeue" and op.type == "ok" and op.value is not None:
                dequeues += 1
                name = named(op, op.value)
                if inside[name]:
                    inside[name] -= 1
                    continue
                kinds.judge(history, op, object_of(op), op.value)
                anomalies.append(
                    Anomaly(
                        "unexpected",
                        (invocation(history, op).index, op.index),
                        f"Process {op.process} dequeued {op.value!r:.60}, which was "
                        "not in the queue: nobody had enqueued it, or it was taken "
                        "before.",
                        key=op.key,
                    )
                )
        return verdict_of(
            anomalies,
            {"dequeues": dequeues},
            judged=dequeues,
            empty="nothing was dequeued",
            vacuous=self._vacuous,
        )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "queue", "nothing leaves a queue that did not enter it", QueueChecker, OPTIONS
)
