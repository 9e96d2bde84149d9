"""Checks as `splitbrain check` does them, but in this process.

Also of histories that no file could hold.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from harness.judge import check
from harness.judge.text import render_text
from harness.verdict import Limits

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from harness.history import History
    from harness.judge.check import FileResult


LIMITS = Limits(time_s=20.0)


def check_files(
    paths: Iterable[str | os.PathLike[str]],
    checker: str,
    options: Mapping[str, str],
    format: str = "auto",  # noqa: A002  # as in `harness.judge.check.judge_of`
    limits: Limits = Limits(),  # noqa: B008  # frozen
    *,
    independent: bool | None = None,
    strict: bool | None = None,
) -> Iterator[FileResult]:
    """The result of each file in turn, as it is asked for; see `judge_of`."""
    judge = check.judge_of(
        checker, options, format, limits, independent=independent, strict=strict
    )

    def results() -> Iterator[FileResult]:
        for path in paths:
            result = judge(path)
            yield result
            result.history = None  # whoever keeps results doesn't keep histories

    return results()


def judged(checker: str, history: History, **options: str) -> FileResult:
    """What `splitbrain check` makes of a history, which a reader has just read.

    No file can hold NaN, and JSON lines no huge numbers; a checker is to bear them all
    the same, as no reader says what it leaves to checkers.
    """
    history.lines = range(1, len(history) + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "load", lambda *_, **__: history)
        files = check_files([history.source], checker, options, limits=LIMITS)
        return next(files)


def assert_sane(result: FileResult) -> None:
    """A verdict, or bad input with its place; and either can be printed."""
    assert not result.has_crashed, result.result.reason
    assert not result.result.reason.startswith("the time limit"), result.result.reason
    if result.error:
        place = re.escape(result.file) + r"(:\d+)?: "
        assert re.match(place, result.error), result.error
        assert "\n" not in result.error
    json.dumps(result.as_json(), allow_nan=False)
    assert render_text(result)
