"""The result of the check of a file, in words for a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.report import tally, witness
from harness.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.history import History
    from harness.judge.check import FileResult
    from harness.verdict import Anomaly

_NOT_IN_TEXT = {"crashed", "plan", "proved", "seconds"}
"""Figures that the text leaves out: it has them elsewhere, or programs use them."""

_ANOMALIES_SHOWN_MAX = 10
_VALUE_CHARS_MAX = 60


def render_text(result: FileResult) -> str:
    """The result in words: verdict, anomalies with their operations, figures."""
    lines = [_headline(result)]
    anomalies = result.result.anomalies
    for anomaly in anomalies[:_ANOMALIES_SHOWN_MAX]:
        lines += ["", *_anomaly_lines(anomaly, result.history)]
    if len(anomalies) > _ANOMALIES_SHOWN_MAX:
        more = tally.of_result(result.result).total - _ANOMALIES_SHOWN_MAX
        lines += ["", f"  ... and {more} more anomalies"]
    if anomalies:
        lines.append("")
    if result.error:
        return visible_line(lines[0])
    if result.history is not None and result.history.remark:
        lines.append(f"  {result.history.remark}")
    lines += [f"  {remark}" for remark in result.result.remarks]
    lines.append(f"  {result.ops} ops, {result.seconds:.2f} s")
    lines += [
        f"  {name.replace('_', ' ')}: {_value(figure)}"
        for name, figure in result.result.stats.items()
        if name not in _NOT_IN_TEXT and figure not in ({}, [], None)
    ]
    lines += [
        f"  plan: {step['algorithm']} for {step['which']}: {step['why']}"
        for step in result.result.stats.get("plan", ())
    ]
    return "\n".join(visible_line(line) for text in lines for line in text.split("\n"))


def _headline(result: FileResult) -> str:
    if result.error:
        # The message itself names the file and the line.
        return f"error  {result.error}"
    line = f"{result.verdict}  {result.file}"
    if found := str(tally.of_result(result.result)):
        line += f": {found}"
    if result.result.not_models:
        line += f"; not {', '.join(result.result.not_models)}"
    if result.result.reason:
        line += f": {result.result.reason}"
    return line


def _anomaly_lines(anomaly: Anomaly, history: History | None) -> Iterator[str]:
    key = "" if anomaly.key is None else f", key {_value(anomaly.key)}"
    yield f"  {anomaly.name}{key}: {anomaly.explanation}"
    if history is not None:
        told = witness.resolve(anomaly.as_json(), witness.calls_of(history))
        yield from (f"    {line}" for line in witness.as_text(told))


def _value(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
    except (TypeError, ValueError):  # a mapping with keys that are no JSON
        text = repr(value)
    if len(text) > _VALUE_CHARS_MAX:
        text = text[: _VALUE_CHARS_MAX - 3] + "..."
    return text
