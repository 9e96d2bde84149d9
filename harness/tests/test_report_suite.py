"""The suite's index and its JUnit XML."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.report import build_index, write_junit
from harness.report.index import write_summary

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ROWS: list[dict[str, Any]] = [
    {
        "name": "raft",
        "system": "raft",
        "workload": "register",
        "nemesis": ["partition", "kill"],
        "expected": "valid",
        "verdict": "valid",
        "ops": 12345,
        "seconds": 31.5,
        "report": "raft/report.html",
    },
    {
        "name": "raft, local reads",
        "system": "raft",
        "workload": "register",
        "nemesis": "partition",
        "expected": "invalid",
        "verdict": "invalid",
        "why": "A read returned an old value.",
        "seconds": 20.0,
    },
    {
        "name": "lease & skew <b>",
        "system": "raft",
        "expected": "invalid",
        "verdict": "valid",
        "seconds": 20.0,
    },
    {
        "name": "etcd",
        "verdict": "error",
        "system": "etcd",
        "error": "Traceback\nOSError: no etcd\x00",
    },
]


def test_the_index_counts_and_links_and_marks_what_is_off(tmp_path: Path) -> None:
    html = build_index(tmp_path, ROWS).read_text("utf-8")
    assert "2 of 4 not as expected" in html
    assert 'href="./raft/report.html"' in html
    assert "12,345" in html
    assert html.count('class="off"') == 2
    assert "&lt;b&gt;" in html
    assert "<script" not in html


def test_an_index_of_a_clean_suite_says_so(tmp_path: Path) -> None:
    assert "All as expected" in build_index(tmp_path, ROWS[:2]).read_text("utf-8")


SKIPPED = {"name": "e", "verdict": "skipped", "skipped": "no etcd"}


def test_what_was_skipped_is_counted_and_is_neither_success_nor_surprise(
    tmp_path: Path,
) -> None:
    html = build_index(tmp_path, [*ROWS[:2], SKIPPED]).read_text("utf-8")
    assert "All as expected" in html
    assert "2 as expected; 1 row skipped." in html
    assert "no etcd" in html
    assert 'class="off"' not in html
    html = build_index(tmp_path, [SKIPPED]).read_text("utf-8")
    assert "Nothing was run" in html
    assert 'class="verdict unknown"' in html


def test_an_empty_suite_is_not_a_success(tmp_path: Path) -> None:
    html = build_index(tmp_path, []).read_text("utf-8")
    assert "Nothing was run" in html
    assert 'class="verdict unknown"' in html


def test_reports_are_linked_relative_to_the_suite(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a", "report": tmp_path / "x y" / "report.html"},
        {"name": "b", "report": "javascript:alert(1)"},
        {"name": "c", "report": "//evil.example/x"},
        {"name": "d", "run": "javascript:alert(1)//"},
    ]
    html = build_index(tmp_path, rows).read_text("utf-8")
    links = re.findall(r'href="([^"]*)"', html)
    assert links[0] == "./x%20y/report.html"
    assert all(link.startswith("./") for link in links)


def test_rows_as_the_suite_runner_writes_them_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {
        "name": "local reads",
        "expected": "invalid",
        "verdict": "invalid",
        "as_expected": False,
        "anomalies": ["lost-update"],
        "ops": {"ok": 1000, "fail": 200, "info": 3},
        "run": "results/raft-register/x",
        "error": "",
    }
    suite_dir = tmp_path / "results" / "suites" / "quick"
    html = build_index(suite_dir, [row]).read_text("utf-8")
    assert "1,203" in html
    assert "lost-update" in html
    assert 'class="off"' in html
    assert 'href="./../../raft-register/x/report.html"' in html


def test_every_form_tells_when_a_run_was_convicted(tmp_path: Path) -> None:
    row = {"name": "a", "verdict": "invalid", "expected": "invalid", "convicted_s": 3.2}
    build_index(tmp_path, [row])
    write_junit([row], tmp_path / "junit.xml")
    write_summary("s", [row], {}, tmp_path / "summary.md")
    for name in ("index.html", "junit.xml", "summary.md"):
        assert "after 3.2 s" in (tmp_path / name).read_text("utf-8"), name


def test_junit_tells_passes_failures_and_errors_apart(tmp_path: Path) -> None:
    path = tmp_path / "ci" / "junit.xml"
    write_junit([*ROWS, SKIPPED], path)
    suite = ElementTree.parse(path).getroot()[0]
    assert suite.attrib["tests"] == "5"
    assert suite.attrib["failures"] == "1"
    assert suite.attrib["errors"] == "1"
    assert suite.attrib["skipped"] == "1"
    outcomes = [
        [child.tag for child in case if child.tag != "system-out"] for case in suite
    ]
    assert outcomes == [[], [], ["failure"], ["error"], ["skipped"]]
    failure = suite[2].find("failure")
    assert failure is not None
    assert failure.attrib["message"].startswith("valid, expected invalid")
    skipped = suite[4].find("skipped")
    assert skipped is not None
    assert skipped.attrib["message"] == "no etcd"
    error = suite[3].find("error")
    assert error is not None
    assert "OSError: no etcd" in (error.text or "")


OFF = {
    "name": "raft-leases",
    "verdict": "invalid",
    "expected": "valid",
    "found": "3 x stale-read",
    "why": "Process 0 read 81 from n1 although 83 had been *written* before.",
    "repro": "splitbrain run raft --set reads=lease --seed 7",
}


def test_a_failure_in_junit_names_anomaly_sentence_and_command(tmp_path: Path) -> None:
    write_junit([OFF], tmp_path / "junit.xml")
    (failure,) = ElementTree.parse(tmp_path / "junit.xml").getroot().iter("failure")
    assert failure.attrib["message"] == (
        f"invalid, expected valid: 3 x stale-read: {OFF['why']} "
        "(repeat: splitbrain run raft --set reads=lease --seed 7)"
    )
    assert "repeat: splitbrain run raft" in (failure.text or "")


def test_a_summary_begins_with_what_failed(tmp_path: Path) -> None:
    good = {"name": "good", "verdict": "valid", "why": "It kept all promises."}
    write_summary("night", [good, OFF], {}, tmp_path / "summary.md")
    told = (tmp_path / "summary.md").read_text("utf-8")
    head, table = told.split("| run |")
    assert head.splitlines() == [
        "## night: 1 of 2 as expected",
        "",
        "**raft-leases** is invalid, expected valid: 3 x stale-read  ",
        r"Process 0 read 81 from n1 although 83 had been \*written\* before.",
        "",
        "```sh",
        "splitbrain run raft --set reads=lease --seed 7",
        "```",
        "",
    ]
    assert table.index("raft-leases") < table.index("good")


def test_a_command_can_not_end_its_block(tmp_path: Path) -> None:
    evil = {**OFF, "repro": "splitbrain run '```\n# boo ````'"}
    write_summary("s", [evil], {}, tmp_path / "summary.md")
    lines = (tmp_path / "summary.md").read_text("utf-8").splitlines()
    fence = lines.index("`````sh")
    assert lines[fence + 2] == "`````"
    assert "# boo" not in [line[:5] for line in lines]


def test_a_summary_of_any_number_of_rows_is_one_that_github_shows(
    tmp_path: Path,
) -> None:
    rows = [
        {**OFF, "name": f"row {n} " + "\N{CAT}" * 190, "nemesis": "\N{CAT}" * 190}
        for n in range(2000)
    ]
    coverage = {
        "sentence": "s",
        "faults": [{"kind": "\N{CAT}" * 190, "runs": 3} for _ in range(2000)],
    }
    write_summary("night", rows, coverage, tmp_path / "summary.md")
    told = (tmp_path / "summary.md").read_bytes()
    assert 600_000 < len(told) <= 900_000
    shown = told.decode().count("\n| row ")
    assert f"And {2000 - shown} more." in told.decode()


values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
)


@settings(
    max_examples=settings().max_examples // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.dictionaries(st.sampled_from([*ROWS[0], "why", "error"]), values)))
def test_any_rows_make_wellformed_xml_and_html(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    write_junit(rows, tmp_path / "junit.xml")
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert len(root[0]) == len(rows)
    assert "<script" not in build_index(tmp_path, rows).read_text("utf-8")
