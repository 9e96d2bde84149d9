"""The errors that clients met, by reason: how often, and when for the first time.

Errors that differ only in numbers count as one. They are counted from the history, so a
run that was never judged has them, too.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.report import figures
from harness.systems.wire import ERRORS

if TYPE_CHECKING:
    from harness.report.folder import Recording

TEXT_CHARS_MAX = 300
REASONS_MAX = 1000
"""Reasons told apart; a node can make up any number of them."""

_CODE = re.compile(r"(.*) \((\d{1,6})\)", re.DOTALL)
"""An error of the wire protocol as clients record it: "no such key (20)"."""

OTHERS = "other errors"


@dataclass
class Reason:
    """A reason, and the operations that it ended.

    Attributes:
        code: The code of the wire protocol; None if it has none.
        text: The error as it was met first.
        first_ns: When it was met first.
        outcomes: Outcome -> how many operations.
        functions: Function -> how many operations.
        nodes: Node -> how many operations.
    """

    code: int | None
    text: str
    first_ns: float
    outcomes: Counter[str] = field(default_factory=Counter)
    functions: Counter[str] = field(default_factory=Counter)
    nodes: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """How many operations it ended."""
        return self.functions.total()

    @property
    def name(self) -> str:
        """What the wire protocol calls its code; else empty."""
        known = ERRORS.get(self.code) if self.code is not None else None
        return known.name if known else ""


def reasons(folder: Recording) -> list[Reason]:
    """The reasons, the most frequent first. Cost: linear in operations."""
    found: dict[tuple[int | None, str], Reason] = {}
    for call in folder.calls:
        if call.done is None or call.error is None or call.outcome == "ok":
            continue
        code, text = _parts(call.error)
        key = code, re.sub(r"\d+", "#", text)
        if key not in found and len(found) >= REASONS_MAX:
            key, code, text = (None, OTHERS), None, OTHERS
        if key not in found:
            found[key] = Reason(code, text, call.done.time)
        reason = found[key]
        reason.first_ns = min(reason.first_ns, call.done.time)
        reason.outcomes[call.outcome] += 1
        reason.functions[figures.clip(call.invoke.f, 60)] += 1
        if call.node:
            reason.nodes[figures.clip(call.node, 60)] += 1
    return sorted(found.values(), key=lambda reason: -reason.count)


def _parts(error: Any) -> tuple[int | None, str]:
    """(code or None, text) of an operation's error."""
    text = figures.plain(error, TEXT_CHARS_MAX)
    match = _CODE.fullmatch(text)
    return (int(match[2]), match[1]) if match else (None, text)
