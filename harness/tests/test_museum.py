"""The museum: each weakness has a source and a control, and README's table knows it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from harness.campaign.suites import reading
from harness.campaign.suites.tonight import Tonight
from harness.cli.suite import Told
from harness.tests import museum

if TYPE_CHECKING:
    from pathlib import Path

    from harness.campaign.suites.rows import Row

SUITE = reading.load(museum.SUITE)
ROWS = museum.suite_rows()
BY_NAME = {row["name"]: row for row in ROWS}
WEAK = [row for row in ROWS if row.get("expect") == "invalid"]


def test_each_weakness_has_a_source_and_a_control_that_must_be_valid() -> None:
    for row in WEAK:
        assert row["source"], row["name"]
        assert "expect" not in BY_NAME[row["control"]], row["name"]
        assert BY_NAME[row["control"]]["system"] == row["system"], row["name"]


def test_the_readme_s_table_is_of_the_rows_that_there_are() -> None:
    shown = museum.MARK.search(museum.README.read_text())
    assert shown is not None
    lines = [line for line in shown[0].splitlines() if line.startswith("| ")][1:]
    named = [line.split(" | ")[0].removeprefix("| ") for line in lines]
    assert named == [row["name"] for row in WEAK], museum.RENEW


def result(path: Path, **rows: dict[str, Any]) -> Path:
    usual: dict[str, Any] = {
        "skipped": "",
        "convicted_s": None,
        "seconds": 9.0,
        "anomalies": [],
    }
    told = [{"name": BY_NAME_OF[key], **usual, **row} for key, row in rows.items()]
    path.write_text(json.dumps({"rows": told}))
    return path


FIRST = WEAK[0]
BY_NAME_OF = {"weak": FIRST["name"], "control": FIRST["control"]}


def test_tries_are_counted_and_their_median_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(seconds: float) -> dict[str, Any]:
        made = {"as_expected": True, "verdict": "invalid", "convicted_s": seconds}
        return {**made, "anomalies": ["lost-write"]}

    missed = {"as_expected": False, "verdict": "valid"}
    files = [
        result(tmp_path / "1", weak=found(4.0), control={"verdict": "valid"}),
        result(tmp_path / "2", weak=found(2.0), control={"verdict": "unknown"}),
        result(tmp_path / "3", weak=missed),
        result(tmp_path / "4", weak={**missed, "skipped": "not installed"}),
    ]
    line = museum.table(files).splitlines()[2]
    cells = line.strip("| ").split(" | ")
    assert cells[2:5] == ["lost-write", "2 of 3", "3.0"]
    assert cells[5] == f"valid 1 of 2: {FIRST['control']}"


@pytest.mark.nightly  # up to three runs of half a minute each
@pytest.mark.parametrize("row", SUITE.rows, ids=lambda row: row.name)
def test_each_row_comes_out_as_it_expects_where_its_system_is_installed(
    row: Row, tmp_path: Path
) -> None:
    night = Tonight(SUITE, [row], tmp_path)
    for lack in night.absent:
        pytest.skip(lack.absent)
    night.carry_out(1, Told(SUITE.name, as_json=True))
    [result] = night.ended([]).results
    assert result.as_expected, f"{result.line}, seed {result.seed}"
