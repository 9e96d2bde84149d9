"""Checks of histories that no file could hold, as `splitbrain check` does them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from harness import check
from harness.verdict import Limits

if TYPE_CHECKING:
    from harness.check import FileResult
    from harness.history import History


LIMITS = Limits(time_s=20.0)


def judged(checker: str, history: History, **options: str) -> FileResult:
    """What `splitbrain check` makes of a history, which a reader has just read.

    No file can hold NaN, and JSON lines no huge numbers; a checker is to bear them all
    the same, as no reader says what it leaves to checkers.
    """
    history.lines = range(1, len(history) + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "load", lambda *_, **__: history)
        files = check.check_files([history.source], checker, options, limits=LIMITS)
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
    assert check.render_text(result)
