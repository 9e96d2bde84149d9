"""The picture of a witness in a terminal."""

from __future__ import annotations

import io
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import terminal
from harness.history import Op
from harness.report import sketch, summary
from harness.report.folder import Call
from harness.report.witness import Witness
from harness.tests.report_runs import write_run
from harness.tests.test_report import EVIL, poisoned

if TYPE_CHECKING:
    from pathlib import Path


def call(start: int, end: int | None, process: int, value: Any = 1) -> Call:
    begun = Op(start, start, process, "invoke", "write", value)
    if end is None:
        return Call(begun, None)
    return Call(begun, Op(end, end, process, "ok", "write", value))


def drawn(*calls: Call, marks: sketch.Marks = sketch.BOXES) -> list[str]:
    ordered = sorted(calls, key=lambda each: each.invoke.time)
    return sketch.sketch(Witness("x", "", calls=tuple(ordered)), marks)


def test_bars_stand_in_order_of_time_in_lanes_of_their_processes() -> None:
    first, second, times = drawn(call(0, 10, 1), call(20, 30, 2))
    assert first.startswith("process 1         ├A write 1─")
    assert second.startswith("process 2         ")
    assert first.index("┤") < second.index("├B write 1─")
    assert times.split() == ["0.000", "s"]


def test_overlapping_bars_overlap_and_an_open_one_reaches_the_edge() -> None:
    first, second, _ = drawn(call(0, None, 1), call(5, 30, 2))
    assert "┤" not in first
    assert len(first) == sketch.WIDTH
    assert first.index("├") < second.index("├")


def test_ascii_does_where_lines_can_t_be_drawn() -> None:
    lines = drawn(call(0, 10, 1), call(20, None, 2), marks=sketch.ASCII)
    assert all(line.isascii() for line in lines)
    assert lines[0].startswith("process 1         [A write 1--")


SPANS = st.tuples(st.integers(0, 10**9), st.integers(0, 10**6) | st.none())


@given(st.lists(SPANS, min_size=1, max_size=20), st.text(max_size=40))
def test_any_witness_fits_and_no_bar_hides_another(
    spans: list[tuple[int, int | None]], value: str
) -> None:
    calls = [
        call(start, None if took is None else start + took, lane, value)
        for lane, (start, took) in enumerate(spans)
    ]
    lines = drawn(*calls)
    assert all(len(line) <= sketch.WIDTH for line in lines), lines
    lanes = [line[sketch.NAME_WIDTH + 1 :] for line in lines[:-1]]
    begins = [re.search(r"[├●]([A-Z])", lane) for lane in lanes]
    assert [b[1] for b in begins if b] == list("ABCDEFGHIJKL"[: len(lanes)])


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with one stale read."""
    return write_run(tmp_path / "run", ops=300, seconds=8)


OURS = re.compile(r"\x1b\[[0-9;]+m")


def test_colours_are_ours_alone_whatever_a_node_says(run_dir: Path) -> None:
    plain, painted = summary(run_dir), summary(run_dir, colour=True)
    assert OURS.search(painted)
    assert OURS.sub("", painted) == plain
    hostile = summary(poisoned(shutil.copytree(run_dir, run_dir / "x")), colour=True)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", OURS.sub("", hostile))
    assert hostile.count("\x1b") == len(OURS.findall(hostile))
    assert EVIL not in hostile


class Screen(io.TextIOWrapper):
    """A terminal of some encoding."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "encoding", "colours", "boxes"),
    [
        ({}, "utf-8", True, True),
        ({"NO_COLOR": "1"}, "utf-8", False, True),
        ({"TERM": "dumb"}, "utf-8", False, True),
        ({}, "ascii", True, False),
    ],
)
def test_a_terminal_gets_what_it_can_show(
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    encoding: str,
    colours: bool,
    boxes: bool,
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    raw = io.BytesIO()
    screen = Screen(raw, encoding=encoding, errors="backslashreplace")
    monkeypatch.setattr("sys.stdout", screen)
    terminal.say_run(run_dir)
    screen.flush()
    said = raw.getvalue().decode(encoding)
    assert bool(OURS.search(said)) == colours
    assert ("├A" in said) == boxes
    assert ("[A" in said) != boxes
    assert "\\u2" not in said
