"""Linearization points of a run, and how far orders of its broken keys get."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from harness import report
from harness.cli.group import cli
from harness.errors import UsageError
from harness.report import folder, points, story
from harness.report.page import SCRIPTS, asset
from harness.tests.test_sim import spec_of

if TYPE_CHECKING:
    from pathlib import Path

    from harness.report.folder import Recording
    from harness.report.points import Points


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of Raft with stale reads on some keys."""
    from harness.judge import analysis
    from harness.run import execution

    results = tmp_path_factory.mktemp("results")
    spec = spec_of(
        "raft",
        workload="register",
        nemesis=["partition"],
        seed=1,
        time_limit_s=5.0,
        options={"reads": "local"},
    )
    ran = execution.run(spec, results)
    assert analysis.analyse(ran).verdict == "invalid"
    return ran.path


def look(run_dir: Path, asked: str | None = None) -> tuple[Recording, Points]:
    loaded = folder.load(run_dir)
    return loaded, points.of_run(loaded, story.tell(loaded).anomalies, asked)


def test_every_point_lies_within_its_operation_and_shows_what_was_read(
    run_dir: Path,
) -> None:
    loaded, found = look(run_dir)
    assert found.keys
    assert len(set(found.calls)) == len(found.calls) > 5
    assert found.times == sorted(found.times)
    for at, time_us, state in zip(found.calls, found.times, found.states, strict=True):
        call = loaded.calls[at]
        assert call.outcome in {"ok", "info"}
        assert call.invoke.time // 1000 <= time_us
        if call.outcome == "ok":
            assert call.done is not None
            assert time_us <= call.done.time // 1000
        if call.invoke.f == "read":
            value = "nil" if call.value is None else str(call.value)
            assert state == value


def test_all_that_succeeded_on_a_key_that_holds_has_a_point(run_dir: Path) -> None:
    loaded, found = look(run_dir)
    key = loaded.calls[found.calls[0]].invoke.key
    placed = set(found.calls)
    for at, call in enumerate(loaded.calls):
        if call.invoke.key == key and call.outcome == "ok":
            assert at in placed, call


def test_each_stale_read_is_stuck_behind_the_longest_order(run_dir: Path) -> None:
    loaded = folder.load(run_dir)
    told = story.tell(loaded).anomalies
    found = points.of_run(loaded, told)
    assert told
    for anomaly in told:
        far = found.far[anomaly.checker, anomaly.key]
        assert far.stuck is not None
        assert far.stuck.invoke.index == anomaly.details["first_impossible_op"]
        for way in far.ways:
            assert len(way.steps) == min(way.placed, points.STEPS_MAX)
            assert far.said != f"read \N{RIGHTWARDS ARROW} {way.after}"
        first, second = far.lines
        assert first.startswith("The longest orders hold ")
        assert second.startswith(f"Op {far.stuck.number}, {far.said}, ")


def test_the_page_has_a_table_of_each_order_without_scripts(run_dir: Path) -> None:
    page = report.build(run_dir).read_text()
    text = page.split("<script", 1)[0]
    assert "How far any order gets" in text
    assert "The object after it" in text
    assert 'id="points"' in text


def test_only_the_key_that_was_asked_for_has_points(run_dir: Path) -> None:
    loaded, everything = look(run_dir)
    key = loaded.calls[everything.calls[0]].invoke.key
    _, found = look(run_dir, str(key))
    assert found.keys == 1
    assert {loaded.calls[at].invoke.key for at in found.calls} == {key}


def test_a_key_that_is_not_there_is_refused(run_dir: Path) -> None:
    with pytest.raises(UsageError, match="no operation on a key 'nowhere'"):
        look(run_dir, "nowhere")


def test_a_long_run_is_only_looked_at_on_request(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "CALLS_MAX", 10)
    monkeypatch.setattr(points, "BROKEN_CALLS_MAX", 10)
    _, found = look(run_dir)
    assert not found.calls
    assert "only on request" in found.why
    for far in found.far.values():
        (line,) = far.lines
        assert "--points KEY" in line
    _, found = look(run_dir, points.EVERY_KEY)
    assert found.calls


def test_a_run_whose_checkers_are_not_known_has_a_report_without_points(
    run_dir: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    (copy / "test.yaml").write_text("workload: 7\n")
    _, found = look(copy)
    assert not found.calls
    assert not found.far
    assert report.build(copy).exists()


def test_lines_that_are_missing_cost_the_points_and_not_the_report(
    run_dir: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    lines = (copy / "history.jsonl").read_text().splitlines()
    (copy / "history.jsonl").write_text("\n".join(lines[:20] + lines[30:]))
    _, found = look(copy)
    assert not found.calls
    assert report.build(copy).exists()


def test_a_checker_that_crashes_over_orders_costs_nothing_else(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from checkers.linearizability import orders

    def crash(*_: object) -> None:
        raise ZeroDivisionError("in a model of yours")

    monkeypatch.setattr(orders, "shown", crash)
    _, found = look(run_dir)
    assert not found.calls
    assert "ZeroDivisionError: in a model of yours" in found.why


def test_explanations_of_a_check_say_how_far_an_order_gets(
    run_dir: Path, tmp_path: Path
) -> None:
    history = str(run_dir / "history.jsonl")
    done = CliRunner().invoke(
        cli,
        ["check", history, "--explain", str(tmp_path), "--json"],
        standalone_mode=False,
    )
    told = json.loads(done.output.splitlines()[0])
    assert told["verdict"] == "invalid"
    text = (tmp_path / "history" / "01-stale-read.txt").read_text()
    stuck = {one["details"]["first_impossible_op"] for one in told["found"]}
    assert "The longest orders hold " in text
    assert any(f"Op {op}, " in text for op in stuck)
    assert "How far any order gets" in (tmp_path / "index.html").read_text()


def test_no_two_scripts_of_the_page_have_a_function_of_one_name() -> None:
    # All scripts share one scope, where the later of two would silently win.
    text = "\n".join(map(asset, SCRIPTS))
    names = Counter(re.findall(r"^(?:async )?function (\w+)", text, re.MULTILINE))
    assert [name for name, times in names.items() if times > 1] == []
