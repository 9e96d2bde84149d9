from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pytest
import yaml

from harness import cli
from harness.campaign import replay
from harness.campaign.carrying import keep
from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Finding, Outcome
from harness.campaign.replay import Replay, Replays
from harness.cli.replay import status, summary
from harness.errors import UsageError
from harness.host import release
from harness.report.rates import Rate
from harness.run import assembling
from harness.run.completing import complete
from harness.run.spec import DEFAULTS, TestSpec
from harness.run.store import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSIONS = {"splitbrain": "1", "commit": "abc", "python": "3", "kernel": "6"}


@pytest.fixture(autouse=True)
def _version_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout with changes is of no version that could be compared."""
    monkeypatch.setattr(release, "versions", lambda: dict(VERSIONS))


def simulate(results: Path, system: str, **fields: Any) -> Path:
    spec = TestSpec(
        system=system,
        workload="",
        nemesis=["partition"],
        world="sim",
        **{**DEFAULTS["sim"], "time_limit_s": 2.5, **fields},
    )
    complete(spec, planned=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release, "versions", lambda: dict(VERSIONS))
        return Path(keep(results, Experiment(spec)).folder)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run that fails: cut-off leaders answer reads."""
    results = tmp_path_factory.mktemp("recorded")
    run = simulate(results, "raft", seed=2, options={"reads": "local"})
    assert json.loads((run / "verdict.json").read_text())["verdict"] == "invalid"
    return run


@pytest.fixture(scope="module")
def without_failure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("valid"), "raft", seed=1)


@pytest.fixture
def valid(without_failure: Path, tmp_path: Path) -> Path:
    """A copy of a simulated run that kept its promises."""
    return Path(shutil.copytree(without_failure, tmp_path / "valid"))


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(recorded, tmp_path / "run"))


def command(
    capsys: pytest.CaptureFixture[str], run: Path, *arguments: str
) -> tuple[int, str, str]:
    """Exit status, output and complaint of `replay`."""
    results = str(run.parent / "results")
    exit_status = cli.run_command(
        ["replay", str(run), "--results", results, *arguments]
    )
    out, err = capsys.readouterr()
    return exit_status, out, err


def test_a_simulated_run_repeats_to_the_byte(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_status, out, err = command(capsys, run, "--times", "2")
    assert (exit_status, err) == (1, ""), out
    assert "the same history and faults as in the record, to the byte" in out
    assert "failed 2 of 2, rate 0.34 to 1.00 (Wilson 95 %)" in out
    assert not (run.parent / "results").exists()


def test_json_has_the_rate_and_each_replay(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_status, out, _ = command(capsys, run, "--json")
    told = json.loads(out)
    assert exit_status == 1
    assert told["rate"] == Rate(1, 1).as_json()
    assert told["verdict"] == told["recorded"]["verdict"] == "invalid"
    (one,) = told["replays"]
    assert one["same"]
    assert one["trigger"] == "time"
    assert one["anomalies"] == told["recorded"]["anomalies"] == ["stale-read"]


def edit_line(file: Path, number: int, old: str, new: str) -> None:
    lines = file.read_text().splitlines(keepends=True)
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new, 1)
    file.write_text("".join(lines))


def test_a_difference_is_a_failure_of_the_harness_that_says_where(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_line(run / "history.jsonl", 7, '"process":', '"process":9')
    exit_status, out, err = command(capsys, run)
    assert exit_status == 255
    assert "history.jsonl, line 7: it was `" in err
    assert "`, and is `" in err
    kept = err.rpartition("see ")[2].strip()
    assert (Path(kept) / "history.jsonl").is_file()
    assert "to the byte" not in out


def test_a_difference_of_another_version_is_told_and_no_failure_of_the_harness(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_line(run / "faults.jsonl", 1, '"time":', '"time":1')
    monkeypatch.setattr(release, "versions", lambda: {**VERSIONS, "commit": "def"})
    exit_status, out, err = command(capsys, run)
    assert (exit_status, err) == (1, ""), out
    assert "recorded with commit abc, this is def" in out
    assert "differs from the record, as other code may: faults.jsonl, line 1" in out


@pytest.mark.parametrize("commit", ["abc-dirty", "abc"])
def test_changes_that_no_commit_has_make_it_other_code(
    run: Path, monkeypatch: pytest.MonkeyPatch, commit: str
) -> None:
    test = yaml.safe_load((run / "test.yaml").read_text())
    test["versions"]["commit"] = commit
    (run / "test.yaml").write_text(yaml.safe_dump(test))
    monkeypatch.setattr(release, "versions", lambda: {**VERSIONS, "commit": commit})
    loaded = replay.load(RunFolder.open(run))
    assert loaded.same_code == (commit == "abc")
    assert len(loaded.remarks) == (commit != "abc")


def test_a_record_that_was_cut_short_is_compared_as_far_as_it_goes(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("run.json", "verdict.json", "report.html"):
        (run / name).unlink()
    for name in ("history.jsonl", "faults.jsonl"):
        file = run / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    exit_status, out, err = command(capsys, run)
    assert (exit_status, err) == (1, ""), out
    assert "the record ends where its controller was killed" in out
    assert "to the byte" in out
    edit_line(run / "history.jsonl", 3, '"process":', '"process":9')
    exit_status, _, err = command(capsys, run)
    assert exit_status == 255
    assert "history.jsonl, line 3" in err


def test_a_run_without_failure_is_replayed_and_said_to_have_none(
    valid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_status, out, _ = command(capsys, valid)
    assert exit_status == 0
    assert "1 of 1 had no failure, as the record has none (it is valid)" in out


def test_a_failure_that_never_comes_back_is_told_with_what_differed(
    valid: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = valid
    verdict = json.loads((run / "verdict.json").read_text())
    verdict["verdict"] = verdict["checkers"]["linearizable"]["verdict"] = "invalid"
    verdict["checkers"]["linearizable"]["anomalies"] = [
        {"name": "lost-update", "ops": [0], "explanation": "made up"}
    ]
    verdict["ops"]["ok"] += 3000
    (run / "verdict.json").write_text(json.dumps(verdict))
    monkeypatch.setattr(release, "versions", lambda: {**VERSIONS, "kernel": "7"})
    exit_status, out, _ = command(capsys, run)
    assert exit_status == 0
    assert "0 of 1: not reproduced\n" in out
    assert "here is what differed:" in out
    assert "operations a second that ended ok" in out
    assert "kernel: 6 in the record, 7 here" in out
    assert "fewer than 79% of runs" in out


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda run: (run / "test.yaml").unlink(), "no run folder"),
        (lambda run: (run / "test.yaml").write_text("spec: ["), "test.yaml"),
        (lambda run: (run / "faults.jsonl").write_text("{]\n"), "faults.jsonl, line 1"),
        (lambda run: write_plan(run, target=["n9"]), "n9"),
        (lambda run: (run / "plan.yaml").write_text("at: 1"), "plan.yaml"),
        (lambda run: say_written(run), "has no plan.yaml"),
        (lambda run: (run / "history.jsonl").unlink(), "history.jsonl"),
        (lambda run: os.truncate(run / "history.jsonl", 999), "is cut off in its last"),
    ],
)
def test_a_folder_that_can_not_be_repeated_is_refused_in_a_line(
    run: Path, capsys: pytest.CaptureFixture[str], damage: Any, says: str
) -> None:
    damage(run)
    (run / "verdict.json").unlink(missing_ok=True)
    exit_status, _, err = command(capsys, run)
    assert exit_status == 254
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["replay", "shrink", "explain"])
def test_a_name_that_no_folder_can_have_is_no_run(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert cli.run_command([name, "x" * 5000]) == 254
    assert "is no run folder" in capsys.readouterr().err


def write_plan(run: Path, **params: Any) -> None:
    step = {
        "at": {"time_s": 1.0},
        "fault": {"kind": "partition", "shape": "one", **params},
        "heal": {"after_s": 1.0},
    }
    (run / "plan.yaml").write_text(yaml.safe_dump([step]))


def say_written(run: Path) -> None:
    test = yaml.safe_load((run / "test.yaml").read_text())
    (run / "test.yaml").write_text(yaml.safe_dump({**test, "plan": "written"}))
    (run / "plan.yaml").unlink()


@pytest.mark.parametrize("world", ["os", "sim"])
def test_a_place_where_nothing_can_be_written_is_refused_before_a_run(
    recorded: Path, tmp_path: Path, world: Literal["os", "sim"]
) -> None:
    (tmp_path / "file").write_text("")
    loaded = replay.load(RunFolder.open(recorded))
    asked = replace(loaded, test=msgspec.structs.replace(loaded.test))
    asked.test.spec = msgspec.structs.replace(loaded.test.spec, world=world)
    with pytest.raises(UsageError, match="choose another place with --results"):
        replay.replayed(asked, 1, tmp_path / "file")
    with pytest.raises(UsageError, match="choose another place with --results"):
        replay.replayed(asked, 1, tmp_path / "file" / "deeper")


def test_to_see_whether_there_is_a_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    replay.try_place(tmp_path / "mine")
    replay.try_place(tmp_path / "new" / "deeper")
    assert [each.name for each in tmp_path.rglob("*")] == ["mine"]


def test_a_budget_of_nothing_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("--times", "0"), ("--jobs", "0"), ("--times", "many")):
        assert command(capsys, run, *words)[0] == 254


def test_a_simulated_run_is_replayed_with_its_strikes_at_events_if_asked_for(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_status, out, err = command(capsys, run, "--triggers", "event", "--json")
    assert exit_status in {0, 1}, err
    [one] = json.loads(out)["replays"]
    assert one["trigger"] == "event"
    assert "difference" not in one
    assert one["same"] == (exit_status == 1)
    plan = yaml.safe_load((Path(one["run"]) / "plan.yaml").read_text())
    before = yaml.safe_load((run / "plan.yaml").read_text())
    assert [step["fault"] for step in plan] == [step["fault"] for step in before]
    assert any({"observe", "message"} & set(step["at"]) for step in plan)


def test_a_plan_without_times_has_no_other_triggers(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "plan.yaml").write_text("[]")
    exit_status, _, err = command(capsys, run, "--triggers", "event")
    assert exit_status == 254
    assert "no step of this run has a telling event" in err


def test_a_plan_that_is_drawn_otherwise_now_is_replayed_as_it_is_stored(
    run: Path,
) -> None:
    plan = yaml.safe_load((run / "plan.yaml").read_text())
    plan[0]["heal"]["after_s"] += 0.1
    (run / "plan.yaml").write_text(yaml.safe_dump(plan))
    loaded = replay.load(RunFolder.open(run))
    assert loaded.variants["time"].plan == plan
    assert any("plan.yaml holds other steps" in each for each in loaded.remarks)
    (run / "plan.yaml").unlink()
    loaded = replay.load(RunFolder.open(run))
    assert loaded.variants["time"].plan is None
    assert any("plan.yaml is missing" in each for each in loaded.remarks)


@pytest.mark.parametrize("can_be_had", [True, False])
def test_a_replay_is_on_the_network_of_the_record_if_that_can_be_had(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, can_be_had: bool
) -> None:
    loaded = replay.load(RunFolder.open(recorded))
    real = msgspec.structs.replace(loaded.test.spec, world="os")
    test = msgspec.structs.replace(loaded.test, spec=real, rung="switch")

    def prepare(spec: TestSpec, _: object) -> tuple[str, str, str]:
        if spec.network == "switch" and not can_be_had:
            raise UsageError("there are no namespaces")
        return "parts", "schedule", "rung"

    monkeypatch.setattr(assembling, "prepare", prepare)
    asked, *_, remarks = replay.prepared(Experiment(real), test)
    assert asked.spec.network == ("switch" if can_be_had else "auto")
    why = "not on the network of the record (switch): there are no namespaces"
    assert remarks == ([] if can_be_had else [why])


# What is made of the replays


def an_outcome(recorded: Path, verdict: str, *anomalies: str, why: str = "") -> Outcome:
    loaded = replay.load(RunFolder.open(recorded))
    return Outcome(
        experiment=loaded.variants["time"],
        verdict=verdict,  # type: ignore[arg-type]  # one of them
        findings=tuple(Finding("linearizable", name) for name in anomalies),
        reason=why,
    )


def replays(recorded: Path, outcomes: Iterable[Outcome]) -> Replays:
    loaded = replay.load(RunFolder.open(recorded))
    made = [
        Replay("time", outcome, replay.is_same(loaded, outcome)) for outcome in outcomes
    ]
    return Replays(loaded, made)


def test_only_failures_with_a_common_fingerprint_are_the_same(recorded: Path) -> None:
    same = an_outcome(recorded, "invalid", "stale-read", "lost-update")
    other = an_outcome(recorded, "invalid", "lost-update")
    valid = an_outcome(recorded, "valid")
    broken = an_outcome(recorded, "error", why="the disk is full")
    found = replays(recorded, [same, other, other, valid, broken])
    assert found.rate() == Rate(1, 4)
    assert found.otherwise == {"lost-update": 2}
    assert status(found) == 255
    text = summary(found)
    assert "failed 1 of 4, rate 0.05 to 0.70 (Wilson 95 %)" in text
    assert "failed otherwise: lost-update, 2 of 4" in text
    assert "the harness failed once: the disk is full" in text


def test_the_exit_status_is_that_of_the_worst_replay(recorded: Path) -> None:
    valid, unknown = (an_outcome(recorded, word) for word in ("valid", "unknown"))
    other = an_outcome(recorded, "invalid", "lost-update")
    assert status(replays(recorded, [valid, valid])) == 0
    assert status(replays(recorded, [valid, unknown])) == 2
    assert status(replays(recorded, [other, unknown])) == 1
    interrupted = replays(recorded, [valid])
    interrupted.interrupted = True
    assert status(interrupted) == 2


def test_nothing_is_claimed_if_no_replay_was_judged(recorded: Path) -> None:
    assert summary(replays(recorded, [])) == "no replay was judged"
    unknown = an_outcome(recorded, "unknown", why="n1 did not serve")
    found = replays(recorded, [unknown, unknown])
    assert found.rate() == Rate(0, 0)
    text = summary(found)
    assert text.startswith("no replay was judged\n")
    assert "unknown 2 times: n1 did not serve" in text
    assert "not reproduced" not in text


# Real processes


@pytest.mark.nightly
def test_a_real_failure_comes_back_by_times_and_by_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--nemesis", "partition", "--until-invalid", "--seed", "1", "--json"]
    words += ["--time-limit", "30", "--results", str(tmp_path)]
    cli.run_command(["run", "raft", "--set", "reads=local", *words])
    run = Path(json.loads(capsys.readouterr().out)["run"])
    exit_status, out, err = command(capsys, run, "--times", "4", "--json")
    told = json.loads(out)
    assert exit_status == 1, (out, err)
    assert told["rate"]["runs"] == 4
    assert told["rate"]["hits"] >= 1
    for one in told["replays"]:
        assert (Path(one["run"]) / "report.html").is_file()
