"""Echo: every answer is what was asked (Maelstrom's `echo`).

A wrong answer is wrong whatever follows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.functions import Functions
from checkers.tallies import began, completed, verdict_of
from checkers.values import element
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History
    from harness.verdict import CheckerFactory


ENVELOPE = {"type", "in_reply_to", "msg_id"}
"""What else the body of a message has."""

FUNCTIONS = Functions("the echo checker", {"echo": ("echo",)})


class EchoChecker:
    """Judges answers by what was asked."""

    final_on_prefix = frozenset({"wrong-echo"})

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the echo checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear.

        Raises:
            HistoryError: See `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        anomalies, judged = [], 0
        for op in completed(history, known, "echo"):
            begun = began(history, op)
            if begun < 0:
                continue  # nobody knows what was asked
            judged += 1
            asked = history[begun].value
            if not is_echo(asked, op.value):
                anomalies.append(
                    Anomaly(
                        "wrong-echo",
                        (begun, op.index),
                        f"Process {op.process} asked for an echo of {asked!r:.60} and "
                        f"got {op.value!r:.60}.",
                    )
                )
        return verdict_of(
            anomalies,
            {"echoes": judged},
            judged=judged,
            empty="nothing was echoed",
            known=known,
        )


def is_echo(asked: Any, got: Any) -> bool:
    """Whether `got` is what was asked.

    Maelstrom records the whole body of the answer, in which `echo` is what was asked.
    """
    if element(asked) == element(got):
        return True
    if not isinstance(got, dict) or "echo" not in got or not ENVELOPE & got.keys():
        return False
    is_body = isinstance(asked, dict) and "echo" in asked
    due = (asked, asked["echo"]) if is_body else (asked,)
    return element(got["echo"]) in map(element, due)


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "echo", "every answer is what was asked", EchoChecker
)
