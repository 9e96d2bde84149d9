"""How much was found wrong: the same in the terminal, as JSON, and in the page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from checkers.linearizable import build
from harness.campaign.outcome import Outcome
from harness.campaign.suites.results import RowResult, cells
from harness.campaign.suites.rows import Row
from harness.history import History, Op
from harness.judge.check import FileResult
from harness.judge.text import render_text
from harness.report import tally
from harness.report.text import summary
from harness.run.records import CheckRecord, VerdictRecord
from harness.tests.report_runs import write_run
from harness.tests.test_report import page_of
from harness.verdict import Anomaly, CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from pathlib import Path

BROKEN = 322
"""Keys; more than are explained."""


@pytest.fixture(scope="module")
def broken() -> FileResult:
    """On each of many keys a stale read; the first of them breaks last."""
    ops: list[Op] = []
    for stage in (("write", 1), ("write", 2), ("read", 1)):
        for key in reversed(range(BROKEN)):
            for kind in ("invoke", "ok"):
                ops.append(Op(len(ops), len(ops), 0, kind, *stage, key=key))
    history = History(ops)
    result = build({"model": "register"}).check(history, Limits())
    return FileResult("h.jsonl", result, len(ops), history=history)


def test_the_terminal_says_how_many_keys_are_broken_and_how_many_are_explained(
    broken: FileResult,
) -> None:
    lines = render_text(broken).splitlines()
    assert lines[0].startswith(
        "invalid  h.jsonl: 322 keys broken, 20 explained: 20 x stale-read; not "
    )
    assert lines[2].startswith("  stale-read, key 321: ")
    assert "  ... and 312 more anomalies" in lines


def test_json_counts_the_keys_that_nobody_explained(broken: FileResult) -> None:
    told = broken.as_json()
    assert told["anomalies"] == {"stale-read": 20}
    assert told["keys_left_out"] == BROKEN - 20
    assert [found["key"] for found in told["found"]] == [*range(321, 301, -1)]
    assert told["stats"]["keys_broken"] == BROKEN
    assert told["stats"]["keys_explained"] == 20


def test_a_verdict_counts_as_the_result_does(broken: FileResult) -> None:
    written = json.loads(json.dumps(broken.result.as_json()))
    assert tally.of_json(written) == tally.of_result(broken.result)
    assert tally.of_json(written).total == BROKEN


def test_the_report_and_its_text_count_broken_keys(
    broken: FileResult, tmp_path: Path
) -> None:
    run_dir = write_run(tmp_path, ops=1500, seconds=20)
    path = run_dir / "verdict.json"
    verdict = json.loads(path.read_text())
    verdict["checkers"] = {"linearizable": broken.result.as_json()}
    path.write_text(json.dumps(verdict))
    said = "322 keys broken, 20 explained"
    assert f"Anomalies: {said}: 20 x stale-read" in summary(run_dir)
    assert "And 321 further anomalies." in " ".join(summary(run_dir).split())
    text = page_of(run_dir).text
    assert text.count(said) == 2  # above the anomalies, and beside the checker
    assert "14 further anomalies like A1 in verdict.json" in text
    assert "302 anomalies were counted, and not explained." in text


def test_the_table_of_a_suite_counts_broken_keys(broken: FileResult) -> None:
    checkers = {"linearizable": CheckRecord.of(broken.result)}
    record = VerdictRecord(verdict="invalid", checkers=checkers)
    asked = Row(name="r", system="raft")
    row = RowResult(asked, (Outcome.of(asked.experiment(1), record, None),))
    assert cells(row)[-1] == "322 keys broken, 20 explained: 20 x stale-read"
    assert row.as_json()["anomalies"] == ["stale-read"]


def test_a_checker_that_counts_by_name_is_believed() -> None:
    found = (Anomaly("G1c", (0,), "so"), Anomaly("G0", (1,), "so"))
    result = CheckResult(
        Verdict.INVALID, found, stats={"anomalies": {"G1c": 3000, "G0": 1}}
    )
    assert str(tally.of_result(result)) == "3,000 x G1c (1 explained), 1 x G0"
    assert tally.of_result(result).total == 3001


@pytest.mark.parametrize("stats", [{}, {"anomalies": 7}, {"keys_broken": "many"}])
def test_figures_that_make_no_sense_count_for_nothing(stats: dict[str, Any]) -> None:
    told = tally.of_json({"anomalies": [{"name": "G0"}, 5], "stats": stats})
    assert str(told) == "1 x G0, 1 x anomaly"
    assert str(tally.of_json({"stats": stats})) == ""
