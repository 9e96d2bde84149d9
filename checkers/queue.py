"""An unordered queue: nothing comes out that did not go in.

Jepsen's `queue`, with its rule for the unknown: an element is in from the moment that
its enqueue was invoked, and out from the moment that its dequeue returned. So each
dequeue is judged by what came before its return, and nothing later excuses it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from checkers.functions import DEQUEUES, ENQUEUES, Functions
from checkers.tallies import Kinds, invocation, is_attempt, named, object_of, verdict_of
from checkers.total_queue import taken
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History
    from harness.verdict import CheckerFactory

OUT = frozenset({"dequeue", "drain"})

FUNCTIONS = Functions(
    "the queue checker",
    {"enqueue": ENQUEUES, "dequeue": DEQUEUES, "drain": ("drain",)},
    source="enqueue",
)


class QueueChecker:
    """Judges what leaves a queue by what entered it."""

    final_on_prefix = frozenset({"unexpected"})

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the queue checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear.

        Raises:
            HistoryError: Something was dequeued of a kind that nobody enqueued; or see
                `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        kinds = Kinds(op for op in history if known.role(op) == "enqueue")
        # Without an invocation on record, it may have begun before all else.
        inside: Counter[Any] = Counter(
            named(op, op.value)
            for op in history
            if known.role(op) == "enqueue"
            and op.type != "invoke"
            and is_attempt(history, op)
        )
        dequeues, anomalies = 0, []
        for op in history:
            role = known.role(op)
            if role == "enqueue" and op.type == "invoke":
                inside[named(op, op.value)] += 1
            for value in taken(history, op, role) if role in OUT else ():
                dequeues += 1
                name = named(op, value)
                if inside[name]:
                    inside[name] -= 1
                    continue
                kinds.judge(history, op, object_of(op), value)
                anomalies.append(
                    Anomaly(
                        "unexpected",
                        (invocation(history, op).index, op.index),
                        f"Process {op.process} dequeued {value!r:.60}, which was not "
                        "in the queue: nobody had enqueued it, or it was taken before.",
                        key=op.key,
                    )
                )
        return verdict_of(
            anomalies,
            {"dequeues": dequeues},
            judged=dequeues,
            empty="nothing was dequeued",
            known=known,
        )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "queue", "nothing leaves a queue that did not enter it", QueueChecker
)
