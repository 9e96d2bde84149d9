"""Echo: every answer is what was asked (Maelstrom's `echo`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.tallies import began, completed, element, verdict_of
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History
    from harness.verdict import CheckerFactory


class EchoChecker:
    """See the module."""

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the echo checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Cost: linear."""
        anomalies, judged = [], 0
        for op in completed(history, "echo"):
            begun = began(history, op)
            if begun < 0:
                continue  # nobody knows what was asked
            judged += 1
            asked = history[begun].value
            if element(asked) != element(op.value):
                anomalies.append(
                    Anomaly(
                        "wrong-echo",
                        (begun, op.index),
                        f"Process {op.process} asked for an echo of {asked!r:.60} and "
                        f"got {op.value!r:.60}.",
                    )
                )
        return verdict_of(
            anomalies, {"echoes": judged}, judged=judged, empty="nothing was echoed"
        )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "echo", "every answer is what was asked", EchoChecker
)
