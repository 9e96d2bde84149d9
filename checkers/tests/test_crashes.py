"""A node that exits on its own is a finding; one that somebody ended is none."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.findings import EXAMPLES_MAX
from checkers.tests.counting_histories import check
from checkers.tests.histories import MANY
from harness.errors import UsageError
from harness.history import History
from harness.verdict import CheckResult, Verdict


def line(kind: str, status: Any, node: str = "n1", **more: Any) -> dict[str, Any]:
    return {
        "time": 4_200_000_000,
        "id": None,
        "event": "note",
        "kind": kind,
        "title": f"{node} ended with status {status}",
        "nodes": [node],
        "evidence": {"pid": 7, "status": status},
        **more,
    }


def judged(lines: list[Any], **options: str) -> CheckResult:
    with tempfile.TemporaryDirectory() as folder:
        text = "".join(json.dumps(each) + "\n" for each in lines)
        Path(folder, "faults.jsonl").write_text(text, encoding="utf-8")
        return check(
            "crashes", History([], source=f"{folder}/history.jsonl"), **options
        )


STATUSES = st.sampled_from([0, 1, 3, 65, 70, 71, 255, -1, -2, -6, -9, -11, -15])
LINES = st.builds(
    line,
    st.sampled_from(["node-exit", "node-ended", "node-absent", "kill", "kept-down"]),
    STATUSES,
    st.sampled_from(["n1", "n2", "n3"]),
)


@MANY
@given(lines=st.lists(LINES, max_size=30), excused=st.sets(st.integers(0, 99)))
def test_just_the_ends_that_nothing_and_nobody_explains_are_findings(
    lines: list[dict[str, Any]], excused: set[int]
) -> None:
    by_others = {-1, -2, -9, -15}  # SIGHUP, SIGINT, SIGKILL, SIGTERM
    expected = [
        (each["nodes"][0], each["evidence"]["status"])
        for each in lines
        if each["kind"] == "node-exit"
        and each["evidence"]["status"] not in by_others | excused
    ]
    result = judged(lines, excused=",".join(map(str, excused)))
    assert result.verdict is (Verdict.INVALID if expected else Verdict.VALID)
    found = [(a.details["node"], a.details["status"]) for a in result.anomalies]
    assert found == expected[:EXAMPLES_MAX]
    assert sum(result.stats["crashes"].values()) == len(expected)
    ends = sum(each["kind"] == "node-exit" for each in lines)
    assert result.stats["spared"] == ends - len(expected)
    assert bool(result.remarks) == (ends > len(expected))


def test_a_finding_says_who_when_and_where_to_look() -> None:
    result = judged([line("node-exit", -11, "n2")])
    assert result.anomalies[0].explanation == (
        "n2 ended with status -11 at 4.2 s, and no fault in force explains that "
        "(see nodes/n2/log)."
    )


def test_a_machine_that_fails_its_node_is_no_finding_unless_asked_for() -> None:
    ends = [line("node-exit", 71)]
    assert judged(ends).verdict is Verdict.VALID
    assert judged(ends, excused="").verdict is Verdict.INVALID
    told = judged([*ends, line("node-exit", -9)]).remarks
    assert told == (
        "n1 ended with status 71 at 4.2 s, the first of 2 such ends: that may be the "
        "work of the machine, and counts as no crash.",
    )


@pytest.mark.parametrize(
    "odd",
    [
        *(None, [], "node-exit", {"kind": "node-exit"}),
        line("node-exit", "3"),
        line("node-exit", True),
        line("node-exit", 3, nodes=[]),
        line("node-exit", 3, evidence=None),
    ],
)
def test_lines_that_tell_of_no_end_are_passed_over(odd: Any) -> None:
    assert judged([odd]).verdict is Verdict.VALID


def test_a_line_without_time_or_title_is_told_all_the_same() -> None:
    (found,) = judged([line("node-exit", 3, time="soon", title=4)]).anomalies
    assert found.explanation.startswith("n1 ended with status 3 at 0.0 s")


def test_without_the_faults_of_a_run_there_is_nothing_to_judge() -> None:
    result = check("crashes", History([], source="/nowhere/history.jsonl"))
    assert result.verdict is Verdict.UNKNOWN
    assert result.vacuous


@pytest.mark.parametrize("text", ["x", "-1", "256", "1,,2"])
def test_statuses_that_no_process_has_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="exit statuses with commas"):
        judged([], excused=text)
