"""Suites: what a file may say, and what its rows' outcomes mean."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from harness.campaign.coverage import Coverage
from harness.campaign.outcome import Outcome
from harness.campaign.suites import known, reading
from harness.campaign.suites.reading import check, load
from harness.campaign.suites.results import RowResult, exit_status, summary, table
from harness.campaign.suites.rows import Row
from harness.campaign.suites.tonight import Ended, Tonight
from harness.cli import cli
from harness.cli.suite import Out, tell
from harness.errors import EXIT_HARNESS, HarnessError, UsageError
from harness.run.records import VerdictRecord
from harness.worlds.os.disk import mounting


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return path


def result(expect: str, verdict: str, status: int = 0, **row: Any) -> RowResult:
    checkers = {
        "linearizable": {
            "verdict": verdict,
            "not": [],
            "stats": {"model": "register"},
            "anomalies": [{"name": "stale-read", "ops": [], "explanation": "so"}],
        },
        "atomic_commit": {
            "verdict": "valid",
            "not": [],
            "anomalies": [],
            "stats": {"in_doubt": 3, "late": 0},
        },
    }
    record = {
        "verdict": verdict,
        "checkers": checkers,
        "ops": {"ok": 5},
        "harness": {"ok": status != EXIT_HARNESS},
    }
    made = Row(name="r", system="raft", expect=expect, **row)  # type: ignore[arg-type]  # tests pass texts
    judged = msgspec.convert(record, VerdictRecord)
    return RowResult(made, (Outcome.of(made.experiment(0), judged, None),))


SKIPPED = RowResult(Row(name="e", system="etcd"), absent="etcd is not installed")


def test_defaults_reach_every_row_and_rows_override_them(tmp_path: Path) -> None:
    loaded = load(
        write(
            tmp_path,
            "name: s\ndefaults: {time_limit_s: 5, set: {reads: log}}\n"
            "rows:\n- {name: a, system: raft}\n"
            "- {name: b, system: raft, time_limit_s: 7, "
            "set: {fsync: true, heartbeat_ms: 20}}\n",
        )
    )
    rows = loaded.rows
    assert loaded.name == "s"
    assert [row.time_limit_s for row in rows] == [5, 7]
    assert rows[0].experiment(3).spec.options == {"reads": "log"}
    assert rows[1].experiment(3).spec.options == {"fsync": "true", "heartbeat_ms": "20"}
    assert rows[1].experiment(3).spec.seed == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "a suite is a mapping with `name` and `rows`, or a list of rows"),
        ("name: [", "line 1: not YAML"),
        ("name: s\nrows: []", "has no rows"),
        ("name: s\nrows: [{system: raft}]", "row 1 (no name): it lacks a `name`"),
        (
            "name: s\nrows: [{name: a, system: raft, nemsis: []}]",
            "line 2, column 32: there is no `nemsis`; did you mean nemesis",
        ),
        ("name: s\nrows: [{name: a, system: raft, expect: good}]", "'good'"),
        (
            "name: s\nrows: [{name: a, system: raft, nodes: x}]",
            "column 32: row 1 (a): Expected `int | null`",
        ),
        ("name: s\nrows: [{name: a, system: raft, seeds: 0}]", "seeds must be"),
        (
            "name: s\nrows: [{name: a, system: raft}, {name: a, system: raft}]",
            "two rows are called 'a'",
        ),
        (
            "name: s\nrows: [{name: a, system: raft}, "
            "{name: b, system: raft, expect: invalid, control: aa}]",
            "no row that is to be valid is called 'aa', its control; did you mean a?",
        ),
        ("!!python/object/apply:os.system [echo pwned]", "means nothing here"),
    ],
)
def test_a_bad_suite_is_refused_with_its_place(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(UsageError) as refused:
        load(write(tmp_path, text))
    assert complaint in str(refused.value)
    assert "suite.yaml" in str(refused.value)


def test_a_missing_suite_names_those_that_come_with_us(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="quick"):
        reading.find(Path("quik"))
    assert reading.find(Path("quick")).name == "quick.yaml"


def test_every_row_of_the_bundled_suites_is_possible() -> None:
    for path in reading.BUNDLED.glob("*.yaml"):
        suite = load(path)
        check(suite, suite.rows)


@pytest.fixture
def no_etcd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without etcd."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SPLITBRAIN_SYSTEMS", str(tmp_path))


WITH_ETCD = (
    "name: s\nrows:\n- {name: e, system: etcd}\n"
    "- {name: r, system: raft, world: sim, ops: 20, time_limit_s: 2}\n"
)


@pytest.mark.parametrize("place", ["", "suite.yaml/junit.xml"])
def test_junit_that_can_not_be_written_is_refused_before_anything_runs(
    tmp_path: Path, place: str
) -> None:
    write(tmp_path, WITH_ETCD).rename(tmp_path / "suite.yaml")
    arguments = [str(tmp_path / "suite.yaml"), "--results", str(tmp_path / "results")]
    with pytest.raises(UsageError, match=f"^cannot write {tmp_path / place}: "):
        cli.main(
            ["suite", *arguments, "--junit", str(tmp_path / place)],
            standalone_mode=False,
        )
    assert not (tmp_path / "results").exists()


def test_junit_that_a_disk_does_not_take_is_a_fault_of_ours_and_costs_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = load(write(tmp_path, "[{name: a, system: raft}]"))
    night = Tonight(suite, [], tmp_path, folder=tmp_path)
    ended = Ended([], Coverage(), known.Judged({}, [], []))
    with pytest.raises(HarnessError, match=r"^cannot write /dev/full: No space left"):
        tell(night, ended, Out(junit=Path("/dev/full")))
    assert "report: " in capsys.readouterr().out


@pytest.mark.usefixtures("no_etcd")
def test_a_row_whose_program_is_absent_is_skipped_and_counted(tmp_path: Path) -> None:
    arguments = ["suite", str(write(tmp_path, WITH_ETCD)), "--results", str(tmp_path)]
    junit = tmp_path / "junit.xml"
    done = CliRunner().invoke(
        cli, [*arguments, "--junit", str(junit)], standalone_mode=False
    )
    assert done.return_value == 0, done.output
    why = "etcd is not installed: splitbrain systems install etcd"
    assert f"e: skipped: {why}" in done.output
    assert done.output.splitlines()[-1] == "2 rows: 1 as expected, 1 skipped"
    (row,) = [line for line in done.output.splitlines() if line.startswith("e  ")]
    assert "skipped" in row
    assert why in row
    assert "UNEXPECTED" not in row
    assert '<skipped message="etcd is not installed' in junit.read_text("utf-8")
    done = CliRunner().invoke(
        cli, [*arguments, "--only", "e", "--json"], standalone_mode=False
    )
    assert done.return_value == 2, "nothing was run"
    (told,) = json.loads(done.output)["rows"]
    assert (told["verdict"], told["as_expected"]) == ("skipped", None)
    assert told["skipped"].startswith(why)


def test_a_row_is_skipped_whose_faults_need_disks_that_are_not_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounting, "why_no_disks", lambda: "/dev/fuse is not there")
    power = "{name: p, system: raft, nemesis: [kill, power]}"
    kill = "{name: k, system: raft, nemesis: [kill]}"
    simulated = "{name: s, system: raft, nemesis: [power], world: sim}"
    rot = "{name: r, system: raft, nemesis: [rot]}"
    path = write(tmp_path, f"name: s\nrows: [{power}, {kill}, {simulated}, {rot}]")
    loaded = load(path)
    (skipped,) = check(loaded, loaded.rows)
    assert skipped.row.name == "p"
    why = "--nemesis power can't be had here: /dev/fuse is not there"
    assert skipped.absent.startswith(why)


@pytest.mark.usefixtures("no_etcd")
def test_a_row_that_is_impossible_anywhere_is_refused_where_its_program_is_absent(
    tmp_path: Path,
) -> None:
    text = "name: s\nrows: [{name: e, system: etcd, workload: echo}]"
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match="row 'e': etcd can't serve workload 'echo'"):
        check(load(path), load(path).rows)


def test_a_row_that_asks_for_the_impossible_is_refused_before_any_runs(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, "name: s\nrows: [{name: a, system: raft, nemesis: [fire]}]")
    with pytest.raises(UsageError, match="row 'a': there is no nemesis called 'fire'"):
        check(load(path), load(path).rows)


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([result("valid", "valid")], 0),
        ([result("invalid", "invalid", 0)], 0),
        ([result("invalid", "valid", 1)], 1),
        ([result("valid", "invalid", 1)], 1),
        ([result("valid", "unknown", 2)], 2),
        ([result("valid", "unknown", 2), result("valid", "invalid", 1)], 1),
        ([result("valid", "valid"), result("valid", "valid", 255)], 255),
        ([result("valid", "invalid", 1), result("valid", "valid", 255)], 255),
        ([result("invalid", "invalid", anomaly="stale-read")], 0),
        ([result("invalid", "invalid", anomaly="G1c")], 1),
        ([result("valid", "valid", anomaly="stale-read")], 0),
        ([result("valid", "valid", anomaly="G1c")], 1),
        ([result("valid", "valid", shows={"in_doubt": ">= 3", "late": "= 0"})], 0),
        ([result("valid", "valid", shows={"in_doubt": ">= 4"})], 1),
        ([result("valid", "valid", shows={"nothing": ">= 0"})], 1),
        ([result("valid", "valid", shows={"model": "= 0"})], 1),
        ([result("valid", "valid"), SKIPPED], 0),
        ([result("valid", "invalid", 1), SKIPPED], 1),
        ([SKIPPED, SKIPPED], 2),
        ([], 2),
    ],
)
def test_the_exit_status_says_whether_all_came_out_as_expected(
    results: list[RowResult], status: int
) -> None:
    assert exit_status(results) == status


def test_what_a_row_should_have_shown_is_told() -> None:
    lacking = result(
        "valid",
        "valid",
        shows={"in_doubt": ">= 4", "nothing": "<= 1.5", "late": "= 0"},
        anomaly="G1c",
    )
    assert lacking.missing == [
        "in_doubt is 3, not >= 4",
        "nothing is not told, not <= 1.5",
        "no G1c was found",
    ]
    assert "in_doubt is 3, not >= 4" in table([lacking])
    assert lacking.as_json()["why"] == "; ".join(lacking.missing)


@pytest.mark.parametrize("text", ["3", "> 3", ">= many", ">= 1e3", ""])
def test_a_condition_that_is_none_is_refused_with_its_row(
    tmp_path: Path, text: str
) -> None:
    row = f"{{name: a, system: raft, shows: {{terms: '{text}'}}}}"
    path = write(tmp_path, f"name: s\nrows: [{row}]")
    with pytest.raises(UsageError, match=r"row 1 \(a\): shows: .* write a condition"):
        load(path)


def test_the_table_has_a_line_a_row_and_marks_surprises() -> None:
    lines = table([result("valid", "valid"), result("valid", "invalid", 1)]).split("\n")
    assert len(lines) == 4
    assert "as expected" in lines[2]
    assert "UNEXPECTED" in lines[3]
    assert "stale-read" in lines[3]


@pytest.mark.parametrize(
    ("row", "ends_early", "by"),
    [
        ({"expect": "valid"}, False, []),
        ({"expect": "invalid"}, True, []),
        ({"expect": "invalid", "anomaly": "stale-read"}, True, ["stale-read"]),
        ({"expect": "invalid", "shows": {"terms": ">= 3"}}, False, []),
        ({"expect": "invalid", "until_invalid": False}, False, []),
        ({"expect": "valid", "until_invalid": True}, True, []),
        ({"expect": "valid", "anomaly": "stale-read"}, False, []),
        ({"expect": "invalid", "until_anomaly": ["G0"]}, True, ["G0"]),
    ],
)
def test_a_row_that_expects_invalid_ends_once_it_is(
    row: dict[str, Any], ends_early: bool, by: list[str]
) -> None:
    spec = Row(name="a", system="raft", **row).experiment(1).spec
    assert (spec.until_invalid, spec.until_anomaly) == (ends_early, by)


def test_the_table_and_the_json_tell_when_a_row_was_convicted() -> None:
    early = result("invalid", "invalid")
    assert early.outcome is not None
    outcome = msgspec.structs.replace(early.outcome, convicted_s=3.21)
    early = dataclasses.replace(early, outcomes=(outcome,))
    lines = table([early, result("invalid", "invalid")]).split("\n")
    at = lines[0].index("convicted s")
    assert [line[at:].split()[0] for line in lines[2:]] == ["3.2", "-"]
    assert early.as_json()["convicted_s"] == 3.21


def test_the_last_line_counts_the_rows_and_leaves_out_what_there_is_none_of() -> None:
    good, bad = result("valid", "valid"), result("valid", "invalid", 1)
    assert summary([good]) == "1 row: 1 as expected"
    assert summary([bad, good, SKIPPED]) == (
        "3 rows: 1 as expected, 1 unexpected, 1 skipped"
    )
    assert summary([SKIPPED]) == "1 row: 0 as expected, 1 skipped"
