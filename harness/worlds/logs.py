"""Patterns in the logs of nodes: how often each was found, and where last.

The patterns are the user's, but the lines are those of nodes, which may write anything.
So only the beginning of a line is searched, and a search that takes too much processor
time is broken off: backtracking can take exponential time (`(a+)+$`). Lines that were
read together share that time: many that are each just fast enough would keep the run
from its clients. Such a pattern is given up, which is told as a problem of the run; it
counts no line from then on.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from typing import TYPE_CHECKING, AnyStr, NamedTuple

from harness.errors import UsageError
from harness.worlds.searches import SEARCH_S_MAX, WHY, in_time

if TYPE_CHECKING:
    from collections.abc import Iterable

LINE_CHARS_MAX = 4_000
"""A pattern is looked for in so much of a line."""

PATTERN_CHARS_MAX = 500


class Found(NamedTuple):
    """A line that matched.

    Attributes:
        at: A number that grows with time.
        node: The node whose log it stands in.
        said: What the pattern's first group matched; None without a group.
    """

    at: int
    node: str
    said: str | None


class LogPatterns:
    """Counts the lines that match each of the patterns followed.

    Attributes:
        problems: Sentences about patterns that were given up.
    """

    def __init__(self) -> None:
        self._patterns: dict[str, re.Pattern[str]] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._last: dict[str, Found] = {}
        self.problems: list[str] = []

    def follow(self, pattern: str) -> None:
        """Count lines that match from now on; raises UsageError for a bad pattern."""
        if pattern not in self._counts:
            self._patterns[pattern] = compiled(pattern)
            self._counts[pattern] = Counter()

    @property
    def are_followed(self) -> bool:
        """Whether any pattern is worth reading lines for."""
        return bool(self._patterns)

    def count(self, pattern: str) -> Counter[str]:
        """Node -> how many lines of its log matched so far; empty if not followed."""
        return self._counts.get(pattern, Counter())

    def last(self, pattern: str) -> Found | None:
        """The last line that matched; None if none has yet."""
        return self._last.get(pattern)

    def read(self, node: str, lines: Iterable[str], at: int) -> None:
        """Take note of new lines of a node's log, which were written about `at`."""
        searched = [line[:LINE_CHARS_MAX] for line in lines]
        for pattern, regex in list(self._patterns.items()):

            def look(pattern: str = pattern, regex: re.Pattern[str] = regex) -> None:
                self._look(node, searched, at, pattern, regex)

            try:
                in_time(look)
            except TimeoutError:
                del self._patterns[pattern]
                self.problems.append(
                    f"the pattern {pattern!r} was given up: to look for it in what was "
                    f"new in {node}'s log took more than {SEARCH_S_MAX:g} s; {WHY}"
                )

    def _look(
        self,
        node: str,
        lines: Iterable[str],
        at: int,
        pattern: str,
        regex: re.Pattern[str],
    ) -> None:
        for line in lines:
            match = regex.search(line)
            if match is None:
                continue
            self._counts[pattern][node] += 1
            last = self._last.get(pattern)
            if last is None or at >= last.at:
                said = match[1] if regex.groups else None
                self._last[pattern] = Found(at, node, said)


def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression; raises UsageError if `checked` refuses it."""
    return checked(pattern, "", "line")


def checked(
    pattern: str, nothing: AnyStr, what: str, flags: re.RegexFlag = re.NOFLAG
) -> re.Pattern[AnyStr]:
    """A user's pattern as a regular expression over texts or bytes.

    Args:
        pattern: The pattern; its characters stand for their UTF-8 bytes.
        nothing: An empty text or empty bytes, whichever is to be searched.
        what: What is searched, in messages.
        flags: For the expression.

    Raises:
        UsageError: It is none, it is too long, or it matches where there is nothing.
    """
    if len(pattern) > PATTERN_CHARS_MAX:
        raise UsageError(f"a pattern has at most {PATTERN_CHARS_MAX} characters")
    written = pattern if isinstance(nothing, str) else pattern.encode()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets that may mean something else once
            regex = re.compile(written, flags)
        matches_all = regex.search(nothing) is not None
    except (re.error, RecursionError, OverflowError) as problem:
        raise UsageError(
            f"{pattern!r:.60} is no regular expression: {problem}"
        ) from problem
    if matches_all:
        raise UsageError(f"{pattern!r:.60} matches every {what}, even an empty one")
    return regex
