"""What the checkers share that count rather than order: sets, queues, counters, banks.

Rules are those of Jepsen's checkers of the same names (jepsen.checker, and its tests).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import networkx as nx

from harness.registry import Option
from harness.verdict import Anomaly, CheckResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from harness.history import History, Op

VACUOUS = Option(
    "vacuous",
    "valid",
    "the verdict when nothing happened that could be judged",
    ("valid", "unknown"),
)

SHOWN_MAX = 20
"""Anomalies told one by one; the rest is counted."""


def completed(history: History, f: str) -> Iterable[Op]:
    """The ok completions of `f` by clients, in order."""
    return (op for op in history if op.type == "ok" and op.f == f and op.is_client)


def invocation(history: History, op: Op) -> Op:
    """The invocation of a completion; the completion itself where there is none."""
    j = history.completion[op.index]
    return history[j] if j >= 0 else op


def element(value: Any) -> Hashable:
    """A value as a member of sets; whatever can't be hashed goes by its JSON."""
    try:
        hash(value)
    except TypeError:
        return msgspec.json.encode(value, enc_hook=str, order="deterministic")
    return value if not isinstance(value, bool) else ("bool", value)


def verdict_of(
    anomalies: Sequence[Anomaly],
    stats: Mapping[str, Any],
    *,
    judged: int,
    empty: str,
    vacuous: Verdict = Verdict.UNKNOWN,
) -> CheckResult:
    """INVALID with anomalies, `vacuous` when nothing was judged, else VALID.

    `empty` says what was missing.
    """
    if anomalies:
        shown = tuple(anomalies[:SHOWN_MAX])
        stats = {**stats, "anomalies": len(anomalies)}
        return CheckResult(Verdict.INVALID, shown, stats=stats)
    if not judged:
        return CheckResult(vacuous, reason=empty, stats=stats)
    return CheckResult(Verdict.VALID, stats=stats)


def chain(*steps: tuple[int, int, str, str]) -> nx.DiGraph[int]:
    """A witness from (op, op, kind, reason) edges."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    for source, target, kind, reason in steps:
        graph.add_edge(source, target, kind=kind, reason=reason)
    return graph
