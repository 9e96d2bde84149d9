"""Errors that no client expected, most frequent first.

Jepsen's `unhandled-exceptions`: it reports and never convicts, since an exception in a
client says nothing about the system. What a client doesn't catch ends in an `info`
operation: with `:exception` in Jepsen's histories, a map whose `:via` begins with the
class that was thrown, and with the error "client crashed: CLASS: MESSAGE" in ours.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from checkers.findings import conclude
from harness.registry import Plugin, settings
from harness.verdict import nothing_to_judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory, CheckResult, Limits

_CRASH = re.compile(r"(?:client|nemesis) crashed: (?:([A-Za-z_][\w.]*): )?")

MESSAGE_CHARS_MAX = 200


class UnhandledExceptionsChecker:
    """Counts the errors that no client expected."""

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the unhandled-exceptions checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear."""
        counts: Counter[str] = Counter()
        example: dict[str, Op] = {}
        ended = 0
        for op in history:
            ended += op.is_client and op.type != "invoke"
            name = exception_class(op)
            if name is not None:
                counts[name] += 1
                example.setdefault(name, op)
        exceptions = [
            {
                "class": name,
                "count": count,
                "op": example[name].index,
                "f": example[name].f,
                "error": str(example[name].error)[:MESSAGE_CHARS_MAX],
            }
            for name, count in counts.most_common()
        ]
        stats = {"unhandled": counts.total(), "exceptions": exceptions}
        reason = "" if ended else nothing_to_judge("no operation ever ended")
        return conclude({}, (), stats, reason=reason)


def exception_class(op: Op) -> str | None:
    """The class of the exception that ended `op`; None where none did."""
    if op.type != "info":
        return None
    exception = (op.extra or {}).get("exception")
    if exception is not None:
        via = exception.get("via") if isinstance(exception, dict) else None
        first = via[0] if isinstance(via, list) and via else exception
        name = first.get("type") if isinstance(first, dict) else None
        return str(name) if name is not None else "unnamed"
    crash = _CRASH.match(op.error) if isinstance(op.error, str) else None
    return (crash[1] or "unnamed") if crash else None


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "unhandled-exceptions",
    "what clients did not expect, most frequent first; never invalid",
    UnhandledExceptionsChecker,
)
