"""The index says what folders say, and `splitbrain runs` finds what one asks for."""

from __future__ import annotations

import datetime
import json
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli.group import run_command
from harness.errors import UsageError
from harness.serve.index import Index
from harness.serve.queries import RunQuery, runs
from harness.tests.report_runs import write_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SYSTEMS = ("raft", "zab", "etcd")
KINDS = ("partition", "kill", 'it\'s "odd"')
STATES = ("valid", "invalid", "unknown")


def write(
    results: Path,
    number: int,
    *,
    system: str = "raft",
    state: str = "valid",
    expected: str = "",
    faults: dict[str, int] | None = None,
    anomaly: str = "stale-read",
    ops: int = 10,
) -> Path:
    """A run folder as small as one can be."""
    folder = (
        results / f"{system}-register" / f"2026120{1 + number % 9}T000000Z-{number}"
    )
    folder.mkdir(parents=True)
    started = f"2026-12-0{1 + number % 9}T00:00:{number % 60:02}+00:00"
    test = {
        "system": system,
        "workload": "register",
        "seed": number,
        "nemesis": sorted(faults or {}),
        "started_utc": started,
    }
    anomalies = [{"name": anomaly, "ops": [0], "explanation": f"Saw 100% of {number}."}]
    checker = {"verdict": state, "anomalies": anomalies if state == "invalid" else []}
    verdict = {
        "verdict": state,
        "expected": expected or None,
        "ops": {"ok": ops, "fail": 1, "info": 0},
        "faults": {k: {"applied": n, "bit": n} for k, n in (faults or {}).items()},
        "checkers": {"linearizable": checker},
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(test))
    (folder / "verdict.json").write_text(json.dumps(verdict))
    (folder / "run.json").write_text(json.dumps({"ended": "complete", "seconds": 2.5}))
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def index(results: Path) -> Iterator[Index]:
    opened = Index(results)
    yield opened
    opened.close()


def listed(index: Index, **asked: str) -> list[dict[str, Any]]:
    return runs(index.base, RunQuery.of(asked))[1]


def test_the_index_has_what_a_real_run_left(results: Path, index: Index) -> None:
    write_run(results / "raft-register" / "1", ops=1500, seconds=20)
    assert index.refresh() == 1
    (run,) = listed(index)
    verdict = json.loads((results / "raft-register/1/verdict.json").read_text())
    (anomaly,) = verdict["checkers"]["linearizable"]["anomalies"]
    assert run["state"] == "invalid"
    assert run["why"] == anomaly["explanation"]
    assert run["fingerprints"] == [
        f"{anomaly['name']} / linearizable / raft / register"
    ]
    assert run["system"] == "raft"
    assert run["path"] == "raft-register/1"
    applied = {k: v["applied"] for k, v in run["faults"].items()}
    assert applied == {k: v.get("applied", 0) for k, v in verdict["faults"].items()}


def test_a_run_that_changes_or_goes_is_read_again_or_forgotten(
    results: Path, index: Index
) -> None:
    folders = [write(results, number) for number in range(3)]
    assert index.refresh() == 3
    assert index.refresh() == 0
    shutil.rmtree(folders[0])
    verdict = json.loads((folders[1] / "verdict.json").read_text())
    verdict["verdict"] = "unknown"
    (folders[1] / "verdict.json").write_text(json.dumps(verdict))
    assert index.refresh() == 2
    assert sorted(run["state"] for run in listed(index)) == ["unknown", "valid"]


def test_a_lost_index_is_made_anew(results: Path) -> None:
    write(results, 1, state="invalid")
    first = Index(results)
    first.refresh()
    told = listed(first)
    first.close()
    for damage in (b"", b"this is no SQLite", None):
        if damage is None:
            (results / "index.sqlite").unlink()
        else:
            (results / "index.sqlite").write_bytes(damage)
        again = Index(results)
        assert not again.remark
        assert again.refresh() == 1
        assert listed(again) == told
        again.close()


def test_an_index_of_another_version_is_made_anew(results: Path) -> None:
    write(results, 1)
    base = sqlite3.connect(results / "index.sqlite")
    base.execute("create table runs (path text primary key)")
    base.execute("pragma user_version = 999")
    base.close()
    again = Index(results)
    assert again.refresh() == 1
    again.close()


def test_two_can_use_one_index(results: Path, index: Index) -> None:
    write(results, 1)
    other = Index(results)
    assert other.refresh() == 1
    assert index.refresh() == 0
    assert listed(index) == listed(other)
    other.close()


def test_links_and_damaged_folders_do_no_harm(
    results: Path, index: Index, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere, 5)
    (results / "away").symlink_to(elsewhere)
    broken = write(results, 1)
    for name in ("test.yaml", "run.json", "verdict.json"):
        (broken / name).write_bytes(b"{\xff[")
    assert index.refresh() == 1
    (run,) = listed(index)
    assert run["state"] == "unjudged"
    assert run["system"] == ""


def test_a_moved_suite_still_finds_its_runs(results: Path, index: Index) -> None:
    folder = write(results, 1)
    night = results / "suites" / "20261201T001253.547Z-quick"
    night.mkdir(parents=True)
    row = {"name": "raft", "verdict": "valid", "as_expected": True}
    away = f"/somewhere/else/{folder.relative_to(results)}"
    told = [row | {"run": away}, row | {"run": "/etc/../passwd"}, row | {"run": None}]
    (night / "suite.json").write_text(json.dumps({"suite": "quick", "rows": told}))
    index.refresh()
    found = index.base.execute(
        "select run from suite_rows order by position"
    ).fetchall()
    assert [run for (run,) in found] == [str(folder.relative_to(results)), "", ""]
    (suite,) = index.base.execute("select name, started_utc from suites").fetchall()
    assert tuple(suite) == ("quick", "2026-12-01T00:12:53")


specs = st.fixed_dictionaries(
    {
        "system": st.sampled_from(SYSTEMS),
        "state": st.sampled_from(STATES),
        "expected": st.sampled_from(["", *STATES]),
        "faults": st.dictionaries(st.sampled_from(KINDS), st.integers(0, 2)),
        "ops": st.integers(0, 50),
    }
)


@settings(
    max_examples=settings().max_examples // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    made=st.lists(specs, max_size=6),
    systems=st.sets(st.sampled_from([*SYSTEMS, "other"])),
    verdicts=st.sets(st.sampled_from([*STATES, "unexpected"])),
    kinds=st.sets(st.sampled_from(KINDS[:2])),
    text=st.sampled_from(["", "100%", "zab stale", "_", "nothing-has-this"]),
    sort=st.sampled_from(["time", "-time", "ops", "-ops"]),
)
def test_a_query_finds_what_a_look_at_each_run_would(
    tmp_path_factory: pytest.TempPathFactory,
    made: list[dict[str, Any]],
    systems: set[str],
    verdicts: set[str],
    kinds: set[str],
    text: str,
    sort: str,
) -> None:
    results = tmp_path_factory.mktemp("results")
    folders = {
        str(write(results, number, **spec).relative_to(results)): spec
        for number, spec in enumerate(made)
    }
    index = Index(results)
    index.refresh()
    everything = {run["path"]: run for run in listed(index)}
    assert set(everything) == set(folders)

    def is_meant(path: str) -> bool:
        spec, run = folders[path], everything[path]
        off = bool(spec["expected"]) and spec["expected"] != spec["state"]
        haystack = " ".join([path, run["system"], run["found"], run["why"]]).lower()
        return (
            (not systems or spec["system"] in systems)
            and (
                not verdicts
                or spec["state"] in verdicts
                or ("unexpected" in verdicts and off)
            )
            and (not kinds or any(spec["faults"].get(kind) for kind in kinds))
            and all(word in haystack for word in text.split())
        )

    query = RunQuery.of(
        {
            "system": ",".join(systems),
            "verdict": ",".join(verdicts),
            "fault": ",".join(kinds),
            "text": text,
            "sort": sort,
        }
    )
    total, found = runs(index.base, query)
    index.close()
    assert total == len(found)
    assert {run["path"] for run in found} == set(filter(is_meant, folders))
    keys = [run["ok"] + 1 if "ops" in sort else run["started_utc"] for run in found]
    assert keys == sorted(keys, reverse=sort.startswith("-"))


def test_pages_hold_each_run_once(results: Path, index: Index) -> None:
    for number in range(7):
        write(results, number)
    index.refresh()
    pages = [listed(index, limit="3", page=str(page)) for page in (1, 2, 3, 4)]
    assert [len(page) for page in pages] == [3, 3, 1, 0]
    assert len({run["path"] for page in pages for run in page}) == 7


@pytest.mark.parametrize(
    "asked",
    [
        {"sistem": "raft"},
        {"verdict": "invald"},
        {"sort": "tme"},
        {"page": "0"},
        {"page": "-1"},
        {"limit": "many"},
        {"since": "yesterday"},
        {"kind": "nightly"},
    ],
)
def test_a_question_without_meaning_is_refused(asked: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        RunQuery.of(asked)


def test_the_command_prints_a_table_or_json(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(results, 1, state="invalid", expected="valid", faults={"kill": 2})
    write(results, 2)
    assert run_command(["runs", str(results)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("! 2026-12-02 00:00:01 raft register kill")
    assert run_command(["runs", str(results), "--json", "--verdict", "unexpected"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["total"] == 1
    assert told["runs"][0]["faults"] == {"kill": {"applied": 2, "bit": 2}}
    assert run_command(["runs", str(results / "nowhere")]) == 254
    assert "is no folder" in capsys.readouterr().err


# what may go


def bulky(results: Path, number: int, *, days: float = 2, **how: Any) -> Path:
    """A run with a report, and something to free, begun so many days ago."""
    folder = write(results, number, **how)
    begun = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    test = yaml.safe_load((folder / "test.yaml").read_text())
    test["started_utc"] = begun.isoformat()
    (folder / "test.yaml").write_text(yaml.safe_dump(test))
    (folder / "report.html").write_text("a report")
    (folder / "history.jsonl").write_text("x" * 100)
    return folder


def whole(folders: list[Path]) -> list[bool]:
    return [(folder / "history.jsonl").exists() for folder in folders]


def pruned(results: Path, *words: str) -> int:
    return run_command(["runs", "prune", str(results), *words])


def test_the_newest_valid_runs_of_each_experiment_stay_whole(tmp_path: Path) -> None:
    raft = [bulky(tmp_path, number, days=9 - number) for number in range(3)]
    zab = [bulky(tmp_path, n, days=9 - n, system="zab") for n in range(2)]
    assert pruned(tmp_path, "--keep-valid", "1") == 0
    assert whole(raft) == [False, False, True]
    assert whole(zab) == [False, True]
    assert (raft[0] / "report.html").exists()
    assert (raft[0] / "verdict.json").exists()
    assert (raft[0] / "thinned.json").exists()


def test_a_dry_run_tells_what_would_go_and_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [bulky(tmp_path, number) for number in range(2)]
    assert pruned(tmp_path, "--keep-valid", "0", "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["freed_bytes"] == 200
    assert [run["bytes"] for run in told["runs"]] == [100, 100]
    assert whole(folders) == [True, True]
    assert pruned(tmp_path, "--keep-valid", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out) == told | {"dry_run": False}
    assert whole(folders) == [False, False]


def test_failures_and_runs_without_verdict_stay_unless_asked_for(
    tmp_path: Path,
) -> None:
    kept = [
        bulky(tmp_path, 1, state="invalid"),
        bulky(tmp_path, 2, state="unknown"),
        bulky(tmp_path, 3, state="valid", expected="invalid"),
        bulky(tmp_path, 4),
        bulky(tmp_path, 5),
    ]
    (kept[3] / "verdict.json").unlink()
    record = json.loads((kept[4] / "run.json").read_text())
    (kept[4] / "run.json").write_text(json.dumps(record | {"ended": "failed"}))
    assert pruned(tmp_path, "--keep-valid", "0", "--older-than", "0") == 0
    assert all(whole(kept))
    assert pruned(tmp_path, "--failures", "--older-than", "0") == 0
    assert not any(whole(kept))


def test_age_counts_from_the_beginning_of_a_run(tmp_path: Path) -> None:
    folders = [bulky(tmp_path, number, days=number) for number in range(4)]
    assert pruned(tmp_path, "--older-than", "1.5") == 0
    assert whole(folders) == [True, True, False, False]


def test_the_newest_stay_however_old_they_are(tmp_path: Path) -> None:
    folders = [bulky(tmp_path, number, days=number) for number in range(4)]
    assert pruned(tmp_path, "--older-than", "1.5", "--keep-valid", "3") == 0
    assert whole(folders) == [True, True, True, False]


def test_the_last_run_and_what_a_link_leads_to_stay(tmp_path: Path) -> None:
    results, other = tmp_path / "results", tmp_path / "other"
    last = bulky(results, 1)
    (results / "latest").symlink_to(last)
    elsewhere = bulky(other, 2)
    (results / "linked").symlink_to(elsewhere)
    assert pruned(results, "--keep-valid", "0", "--remove") == 0
    assert whole([last, elsewhere]) == [True, True]


def test_whole_folders_go_with_remove_but_none_that_may_be_under_way(
    tmp_path: Path,
) -> None:
    gone, unfinished = (bulky(tmp_path, n, days=0.1) for n in (1, 2))
    (unfinished / "report.html").unlink()
    assert pruned(tmp_path, "--keep-valid", "0", "--remove") == 0
    assert [gone.exists(), unfinished.exists()] == [False, True]


def test_a_run_that_can_not_go_is_told_of_and_the_others_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [bulky(tmp_path, number) for number in range(3)]
    (folders[1] / "thinned.json").mkdir()
    assert pruned(tmp_path, "--keep-valid", "0") == 255
    assert whole(folders) == [False, True, False]
    out, err = capsys.readouterr()
    assert "cannot write" in err
    assert "thinned 2 runs" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "say what may go"),
        (["--failures"], "say what may go"),
        (["--failures", "--keep-valid", "1"], "--failures wants --older-than"),
        (["--keep-valid", "-1"], "--keep-valid"),
        (["--older-than", "nan"], "--older-than"),
    ],
)
def test_a_policy_by_which_everything_would_go_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    folder = bulky(tmp_path, 1)
    assert pruned(tmp_path, *words) == 254
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1
    assert whole([folder]) == [True]


def test_list_need_not_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, 1)
    said = []
    for words in (["runs"], ["runs", "list"]):
        assert run_command([*words, str(tmp_path), "--json"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
