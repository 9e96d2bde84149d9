"""How many messages nodes exchanged for each operation: Maelstrom's `msgs-per-op`.

Like `crashes`, this checker reads what a run left beside its history: in `run.json`,
the counts of every link between nodes, and of requests to services and their answers.
A message counts once it is sent, whatever becomes of it. Where links carry frames or
streams and not messages, it is these that are counted: to compare is for runs of one
kind of network.

Nothing here is a fault: the verdict is valid wherever there is something to count.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkers.tallies import is_first, verdict_of
from harness.registry import Plugin, settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History
    from harness.verdict import CheckerFactory, CheckResult, Limits

RUN = "run.json"
SENT = ("forwarded", "cut", "lost", "oversized")
"""What became of a message of a link, each time another thing; see `LinkCounters`."""
AGAIN = "duplicated"


class MessagesChecker:
    """Counts messages between nodes."""

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the messages checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Count the messages of a run. Cost: linear."""
        run = _run_beside(history)
        operations = sum(op.is_client and is_first(history, op) for op in history)
        if not operations or run is None:
            empty = f"no client asked anything, or there is no {RUN} beside the history"
            return verdict_of([], {}, judged=0, empty=empty)
        between = sum(
            sum(_count(link, name) for name in SENT) - _count(link, AGAIN)
            for link in _members(run, "network").values()
        )
        services = _count(_members(run, "counters"), "service_messages")
        stats = {
            "operations": operations,
            "between_nodes": between,
            "with_services": services,
            "msgs_per_op": round((between + services) / operations, 3),
        }
        return verdict_of([], stats, judged=operations, empty="")


def _run_beside(history: History) -> Mapping[str, Any] | None:
    """What run.json holds; None if there is none that can be read."""
    try:
        text = (Path(history.source).parent / RUN).read_text(encoding="utf-8")
        told = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _members(told: Any, name: str) -> Mapping[str, Any]:
    found = told.get(name) if isinstance(told, dict) else None
    return found if isinstance(found, dict) else {}


def _count(told: Any, name: str) -> int:
    found = told.get(name) if isinstance(told, dict) else None
    return found if type(found) is int else 0


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "messages",
    "how many messages nodes exchanged for each operation; judges nothing",
    MessagesChecker,
)
