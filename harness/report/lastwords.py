"""The last words of nodes: the ends of their logs, where there is nothing else to see.

If no operation succeeded, the reason is as a rule in the log of a node that did not
come up. So these logs come first, those that end with trouble before others.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.report.loglines import TROUBLE, level

if TYPE_CHECKING:
    from harness.report.folder import Recording
    from harness.run.store import LogTail

LOGS_MAX = 3
LINES_MAX = 25


def trouble_count(text: str) -> int:
    """How many lines of a log look like errors."""
    return sum(level(line) == TROUBLE for line in text.splitlines())


def last_words(folder: Recording) -> list[tuple[LogTail, str]]:
    """Logs with their last lines; none if an operation succeeded."""
    if folder.outcomes["ok"]:
        return []
    told = [log for log in folder.logs if log.text.strip()]
    told.sort(key=lambda log: _since_trouble(log.text))
    return [(log, last_lines(log.text)) for log in told[:LOGS_MAX]]


def _since_trouble(text: str) -> float:
    """How many lines ago a log told of trouble."""
    lines = reversed(text.rstrip().splitlines())
    return next((n for n, line in enumerate(lines) if level(line) == TROUBLE), math.inf)


def last_lines(text: str, lines_max: int = LINES_MAX) -> str:
    """The last lines of a log; from the last trouble on, if that is farther back."""
    lines = text.rstrip().splitlines()
    first = max(0, len(lines) - lines_max)
    troubles = [n for n, line in enumerate(lines) if level(line) == TROUBLE]
    if troubles and troubles[-1] < first:
        first = troubles[-1]
    return "\n".join(lines[first : first + lines_max])
