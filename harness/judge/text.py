"""The result of the check of a file, in words for a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.report import clarity, figures, glossary, tally, witness
from harness.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.judge.check import FileResult

_NOT_IN_TEXT = {"crashed", "plan", "proved", "seconds"}
"""Figures that the text leaves out: it has them elsewhere, or programs use them."""

_ANOMALIES_SHOWN_MAX = 10
_TOLD_IN_FULL_MAX = 3
"""Anomalies told with operations and reasons; each of the others is a line."""

_LINE_CHARS_MAX = 200
"""Longest line of an anomaly that is not told in full."""

_VALUE_CHARS_MAX = 60


def render_text(result: FileResult) -> str:
    """The result in words: verdict, anomalies with their operations, figures."""
    lines = [_headline(result)]
    if result.result.anomalies:
        lines += [*_anomalies(result), ""]
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


def _anomalies(result: FileResult) -> Iterator[str]:
    """The clearest anomaly of each sort in full, others in a line, then what is meant.

    If there are only few, all of them are told in full.
    """
    call_at = None if result.history is None else witness.calls_of(result.history)
    groups = clarity.of_result(
        result.result, call_at, _ANOMALIES_SHOWN_MAX - 1, _ANOMALIES_SHOWN_MAX
    )
    every = [each for group in groups for each in group.shown]
    every = every[:_ANOMALIES_SHOWN_MAX]
    full = every if len(every) <= _TOLD_IN_FULL_MAX else [g.first for g in groups]
    full = full[:_TOLD_IN_FULL_MAX]
    for told in every:
        is_full = any(told is each for each in full)
        if is_full:
            yield ""
        key = f", key {told.key}" if told.key else ""
        line = f"  {told.name}{key}: {told.explanation}"
        yield line if is_full else figures.clip(line, _LINE_CHARS_MAX)
        if is_full:
            yield from (f"    {each}" for each in witness.as_text(told))
        if is_full and told.also:
            yield f"    also {', '.join(name for name, _ in told.also)}"
    hidden = sum(len(group.shown) + group.more for group in groups) - len(every)
    untold = tally.of_result(result.result).total - len(result.result.anomalies)
    if (more := hidden + untold) > 0:
        yield from ("", f"  ... and {more} more anomalies")
    names = dict.fromkeys(told.name for told in every)
    meanings = [f"  {name}: {glossary.told(name)}" for name in names]
    yield from ("", *(each for each in meanings if not each.endswith(": ")))


def _value(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
    except (TypeError, ValueError):  # a mapping with keys that are no JSON
        text = repr(value)
    if len(text) > _VALUE_CHARS_MAX:
        text = text[: _VALUE_CHARS_MAX - 3] + "..."
    return text
