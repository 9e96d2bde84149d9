"""Anomalies for programs: the list in `check --json`, beside the number of each.

The form is that of verdict.json and of `--explain`'s result.json (`Anomaly.as_json`),
with the lines of the file if they are known. All of it is JSON, even for values that
only EDN can hold. All of it is bounded, as a history may have thousands of anomalies
and values of megabytes; the rest is counted.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.report import figures, tally
from harness.verdict import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.history import History
    from harness.verdict import Anomaly, CheckResult

TOLD_OF_A_NAME_MAX = 20
"""Most anomalies of one name in the list."""

OPS_MAX = 100
EDGES_MAX = 100
TEXT_CHARS_MAX = 2000
"""Longest sentence, and longest key or detail as JSON."""

FIGURE_CHARS_MAX = 20_000
_TOLD_ELSEWHERE = {"crashed", "plan"}


def anomalies(result: CheckResult, history: History | None) -> dict[str, Any]:
    """The fields of `check --json` about anomalies.

    They are `found`, the anomalies; `left_out`, the number of others of each name; and
    `keys_left_out`, the number of other broken keys, whose anomalies have no name.

    Args:
        result: The checker's result.
        history: The history that it judged; None if it is gone. Then lines are missing.
    """
    told: Counter[str] = Counter()
    found = []
    lines = _Lines(history if result.over == OPERATIONS else None)
    for anomaly in result.anomalies:
        if told[anomaly.name] < TOLD_OF_A_NAME_MAX:
            told[anomaly.name] += 1
            found.append(_anomaly(anomaly, lines))
    all_of_them = tally.of_result(result)
    left_out = {name: n - told[name] for name, n in all_of_them.names.items()}
    return {
        "found": found,
        "left_out": {name: n for name, n in left_out.items() if n > 0},
        **_left_out("keys", all_of_them.unnamed),
    }


def stats(result: CheckResult) -> dict[str, Any]:
    """A checker's figures; a figure that is too long becomes a text that is cut."""
    return {
        name: _bounded(figure, FIGURE_CHARS_MAX)
        for name, figure in result.stats.items()
        if name not in _TOLD_ELSEWHERE
    }


class _Lines:
    """Tells the lines of the file that hold some ops, if they are known."""

    def __init__(self, history: History | None) -> None:
        self._lines = None if history is None else history.lines

    def of(self, ops: Iterable[int]) -> dict[str, list[int]]:
        """`{"lines": [...]}`, one for each op; empty if they are not known."""
        return {} if self._lines is None else {"lines": [self._lines[i] for i in ops]}


def _anomaly(anomaly: Anomaly, lines: _Lines) -> dict[str, Any]:
    ops = anomaly.ops[:OPS_MAX]
    out: dict[str, Any] = {"name": anomaly.name, "ops": list(ops)}
    out |= _left_out("ops", len(anomaly.ops) - len(ops))
    out |= lines.of(ops)
    out["explanation"] = figures.clip(anomaly.explanation, TEXT_CHARS_MAX)
    if anomaly.key is not None:
        out["key"] = _bounded(anomaly.key)
    if anomaly.details:
        out["details"] = {name: _bounded(v) for name, v in anomaly.details.items()}
    if anomaly.witness is not None:
        out["witness"] = _witness(anomaly, ops, lines)
    return out


def _witness(anomaly: Anomaly, ops: Iterable[int], lines: _Lines) -> dict[str, Any]:
    assert anomaly.witness is not None
    edges = list(anomaly.witness.edges(data=True))
    shown = edges[:EDGES_MAX]
    ends = [end for source, target, _ in shown for end in (source, target)]
    nodes = [node for node in dict.fromkeys([*ops, *ends]) if node in anomaly.witness]
    return {
        "nodes": nodes,
        **_left_out("nodes", len(anomaly.witness) - len(nodes)),
        **lines.of(nodes),
        "edges": [
            {"source": source, "target": target, **_edge(data)}
            for source, target, data in shown
        ],
        **_left_out("edges", len(edges) - len(shown)),
    }


def _edge(data: Mapping[str, Any]) -> dict[str, Any]:
    """Why one operation comes before the other: kind and reason."""
    return {name: figures.clip(str(v), TEXT_CHARS_MAX) for name, v in data.items()}


def _left_out(what: str, number: int) -> dict[str, int]:
    return {f"{what}_left_out": number} if number > 0 else {}


def _bounded(value: Any, chars_max: int = TEXT_CHARS_MAX) -> Any:
    """A value as JSON; a text that is cut if it is too long or no JSON."""
    try:
        text = json.dumps(value, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return figures.value(value, chars_max)
    if len(text) > chars_max:
        return figures.clip(text, chars_max)
    return json.loads(text)
