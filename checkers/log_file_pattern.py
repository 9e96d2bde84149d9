"""Nodes' logs must not hold a pattern, such as `panic:`.

Jepsen's `log-file-pattern`: a regular expression is looked for in each line of every
node's log. Logs lie beside the history: in a run folder of ours under `nodes/n1/log`,
in Jepsen's store under `n1/db.log`, which `files` can name.

An anomaly tells node, file, line, and what stands there.

Like all checkers this one reads no more than what a run left behind; it is the only one
that looks beyond the history. What nodes write is not trusted: long lines are cut, what
is no UTF-8 is replaced, and links that lead out of the folder are not followed.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkers.findings import Findings, conclude
from harness.errors import UsageError
from harness.history import HistoryError
from harness.options import Checked
from harness.registry import Option, Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits, nothing_to_judge
from harness.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.history import History
    from harness.verdict import CheckerFactory


def pattern_of(text: str) -> re.Pattern[str] | None:
    """The regex that a text is; None if it is empty. Raises ValueError for no regex."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of syntax that may change
            return re.compile(text) if text else None
    except (re.error, RecursionError, OverflowError) as bad:
        raise ValueError(str(bad)) from None


def paths_of(text: str) -> tuple[str, ...]:
    """The patterns of paths. Raises ValueError for one that leads out of the folder."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        parts = Path(name).parts
        if not parts or Path(name).is_absolute() or ".." in parts:
            raise ValueError(
                "logs lie beside the history, so give their path from there, "
                "without '..'"
            )
    return names


OPTIONS = (
    Option(
        "pattern",
        "",
        "regular expression that no line of a log may match",
        Checked("a regular expression", pattern_of),
    ),
    Option(
        "files",
        "nodes/*/log",
        "logs, as patterns of paths beside the history, with commas",
        Checked("patterns of paths with commas", paths_of),
    ),
)

MATCH = "log-match"

LINE_BYTES_MAX = 1 << 16
LINE_CHARS_SHOWN_MAX = 300
CUT = "\N{HORIZONTAL ELLIPSIS}"
BEFORE_MATCH_CHARS_MAX = 100
"""Characters of a long line shown before what matches."""


class LogFilePatternChecker:
    """Judges the logs that nodes wrote, line by line."""

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings("the log-file-pattern checker", OPTIONS, options)
        if given["pattern"] is None:
            raise UsageError(
                "the log-file-pattern checker needs a pattern, such as "
                "--option 'pattern=panic:'"
            )
        self._pattern: re.Pattern[str] = given["pattern"]
        self._files: tuple[str, ...] = given["files"]

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: linear in the logs.

        Raises:
            HistoryError: A log can't be read.
        """
        folder = Path(history.source).parent
        findings: Findings[Anomaly] = Findings()
        try:
            logs = self._logs(folder)
            for log, pattern in logs.items():
                name = str(log.relative_to(folder))
                node = node_of(name, pattern)
                for number, line in _lines(log):
                    match = self._pattern.search(line)
                    if match is not None and findings.wants(MATCH):
                        findings.keep(_anomaly(name, node, number, match))
        except (OSError, ValueError) as problem:
            raise HistoryError(
                f"{folder}: the logs called {' or '.join(self._files)} can't be read: "
                f"{problem}"
            ) from None
        stats = {"logs": len(logs), "matches": findings.counts[MATCH]}
        reason = ""
        if not logs:
            reason = nothing_to_judge(
                f"no log of a node beside the history: nothing in {folder} is called "
                f"{' or '.join(self._files)}"
            )
        return conclude(findings.counts, findings.examples, stats, reason=reason)

    def _logs(self, folder: Path) -> dict[Path, str]:
        """The logs, and by which pattern each was found."""
        root = folder.resolve()
        found: dict[Path, str] = {}
        for pattern in self._files:
            for path in folder.glob(pattern):
                if path.is_file() and path.resolve().is_relative_to(root):
                    found.setdefault(path, pattern)
        return dict(sorted(found.items()))


def _anomaly(log: str, node: str | None, number: int, match: re.Match[str]) -> Anomaly:
    where: dict[str, Any] = {
        **({} if node is None else {"node": node}),
        "file": log,
        "line": number,
        "text": _shown(match),
    }
    whose = log if node is None else f"{node}'s log"
    return Anomaly(
        MATCH,
        (),
        f"Line {number} of {whose} matches {match.re.pattern!r}.",
        details=where,
    )


def node_of(log: str, pattern: str) -> str | None:
    """Whose log it is: what the first star of `nodes/*/log` stands for."""
    for part, name in zip(Path(pattern).parts, Path(log).parts, strict=False):
        if "*" in part:
            before, _, after = part.partition("*")
            star = re.escape(before) + "(.+)" + re.escape(after)
            found = re.fullmatch(star, name)
            return None if found is None else visible_line(found[1])
    return None


def _shown(match: re.Match[str]) -> str:
    """The line, escaped; of a long one, the part that matches and what is beside it."""
    line, start = match.string, 0
    if len(line) > LINE_CHARS_SHOWN_MAX:
        start = max(0, match.start() - BEFORE_MATCH_CHARS_MAX)
    end = start + LINE_CHARS_SHOWN_MAX
    before, after = CUT * (start > 0), CUT * (end < len(line))
    return before + visible_line(line[start:end]) + after


def _lines(log: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line; a longer line comes in pieces."""
    number, is_rest = 0, False
    with log.open("rb") as file:
        while piece := file.readline(LINE_BYTES_MAX):
            number += not is_rest
            is_rest = not piece.endswith(b"\n")
            yield number, piece.decode("utf-8", "replace").rstrip("\r\n")


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "log-file-pattern",
    "no line of a node's log matches a pattern",
    LogFilePatternChecker,
    OPTIONS,
)
