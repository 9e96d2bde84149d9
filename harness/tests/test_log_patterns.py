"""Patterns are looked for in whatever nodes write, in bounded time."""

from __future__ import annotations

import re
import signal
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.worlds.logs import LINE_CHARS_MAX, LogPatterns, compiled

PATTERNS = (r"n\d leads", "term=([0-9]+)", "^stepping down$")
LINES = st.lists(
    st.sampled_from(
        ["n2 leads", "n1 leads, term=12", "stepping down", "stepping down."]
    )
    | st.text(max_size=20)
)


@given(lines=LINES)
def test_each_pattern_counts_the_lines_in_which_it_is_found(lines: list[str]) -> None:
    patterns = LogPatterns()
    for pattern in PATTERNS:
        patterns.follow(pattern)
    for at, line in enumerate(lines):
        patterns.read("n2" if at % 2 else "n1", [line], at)
    for pattern in PATTERNS:
        hits = [i for i, line in enumerate(lines) if re.search(pattern, line)]
        counts = patterns.count(pattern)
        assert counts["n1"] == sum(i % 2 == 0 for i in hits)
        assert counts["n2"] == sum(i % 2 for i in hits)
        last = patterns.last(pattern)
        assert (last is None) == (not hits)
        if last is not None:
            assert last.at == hits[-1]
            match = re.search(pattern, lines[hits[-1]])
            assert match is not None
            assert last.said == (match[1] if match.re.groups else None)
    assert patterns.problems == []


def test_a_search_that_would_take_for_ever_is_given_up_and_told() -> None:
    patterns = LogPatterns()
    patterns.follow("(a+)+$")
    patterns.follow("b$")
    before = signal.getsignal(signal.SIGVTALRM)
    begun_s = time.process_time()
    patterns.read("n1", ["a" * 60 + "b"] * 50, 1)
    assert time.process_time() - begun_s < 2
    assert patterns.count("b$") == {"n1": 50}
    (problem,) = patterns.problems
    assert "the pattern '(a+)+$' was given up" in problem
    assert signal.getsignal(signal.SIGVTALRM) is before


def test_lines_that_are_each_just_fast_enough_take_no_longer_together() -> None:
    patterns = LogPatterns()
    patterns.follow("x.*x.*y")
    begun_s = time.process_time()
    patterns.read("n1", ["x" * 400] * 5_000, 1)
    assert time.process_time() - begun_s < 2
    (problem,) = patterns.problems
    assert "what was new in n1's log took more than 0.1 s" in problem


def test_only_the_beginning_of_a_long_line_is_searched() -> None:
    patterns = LogPatterns()
    patterns.follow("needle")
    patterns.read("n1", ["x" * LINE_CHARS_MAX + "needle", "needle" + "x" * 10**6], 1)
    assert patterns.count("needle") == {"n1": 1}


@given(st.text("ab[](){}*+?|.^$\\1-,\n", max_size=30))
@example("[[a]")
def test_a_pattern_is_compiled_or_refused(text: str) -> None:
    try:
        regex = compiled(text)
    except UsageError:
        return
    assert regex.search("") is None


def test_a_pattern_that_can_not_be_is_refused_with_its_reason() -> None:
    for pattern, why in (
        ("(", "is no regular expression"),
        (".*", "matches every line"),
        ("x" * 501, "at most 500 characters"),
    ):
        with pytest.raises(UsageError, match=re.escape(why)):
            compiled(pattern)
