"""Searches and explanations that can't keep what they find, or find nothing out."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
import yaml

from harness.campaign import replay, why
from harness.campaign.exploration.search import REASONS_MAX, Search
from harness.campaign.explore import Explored
from harness.campaign.outcome import Outcome
from harness.campaign.shrinking.search import shrink
from harness.cli.exploration import told
from harness.cli.group import run_command
from harness.errors import HarnessError
from harness.report.rates import Rate
from harness.run.store import RunFolder
from harness.tests.test_exploration import space
from harness.tests.test_replay import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.campaign.experiment import Experiment


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("failed")
    return simulate(results, "raft", seed=2, options={"reads": "local"})


@pytest.mark.parametrize("place", ["file", "file/below", "/dev/null/x"])
def test_a_place_that_can_hold_no_results_is_refused_before_a_run(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    words = ("explore", "raft", "--world", "sim", "--runs", "1")
    assert run_command([*words, "--results", str(tmp_path / place)]) == 254
    said = capsys.readouterr().err
    assert "choose another place with --results DIR" in said
    assert said.count("\n") == 1


def test_an_explanation_that_could_not_be_stored_is_told(
    failed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: RunFolder, name: str, data: object) -> None:
        raise HarnessError(f"cannot write {folder.path / name}: No space left")

    monkeypatch.setattr(RunFolder, "write_json", full)
    words = ("explain", str(failed), "--moments", "2", "--runs", "1")
    assert run_command(words) == 255
    out, err = capsys.readouterr()
    assert "3 runs; not stored" in out
    assert err.endswith(
        "splitbrain: the harness failed: cannot write "
        f"{failed / 'why.json'}: No space left\n"
    )


@pytest.mark.parametrize("command", ["shrink", "explain"])
def test_a_folder_that_takes_no_result_is_refused_before_a_run(
    failed: Path,
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    assert run_command([command, str(failed)]) == 254
    assert "copy the run to a place of yours first" in capsys.readouterr().err


def test_runs_that_could_not_be_judged_are_told_with_a_reason(tmp_path: Path) -> None:
    search = Search(space(), 1)
    for number in range(REASONS_MAX + 5):
        proposal = search.propose()
        why = f"n1 did not serve: \x1b[31m{number}" if number else ""
        outcome = Outcome(
            experiment=proposal.experiment, verdict="unknown", reason=why, seconds=1.0
        )
        search.learn(proposal, outcome)
    assert len(search.tally.unclear) == REASONS_MAX
    assert "15 unknown (n1 did not serve: \\x1b[31m1)" in told(
        Explored(search, tmp_path)
    )


def edited(run: Path, fault: dict[str, object]) -> None:
    """Put one step in the place of the run's plan."""
    step = {"at": {"time_s": 1.0}, "fault": fault, "heal": {"after_s": 1.0}}
    (run / "plan.yaml").write_text(yaml.safe_dump([step]))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"kind": "partitoin"}, "did you mean partition?"),
        ({"kind": "kill", "target": ["n9"]}, "there is no node 'n9'"),
        ({"kind": "partition", "cut": [[[[]]]]}, "not a [from, to] link"),
    ],
)
@pytest.mark.parametrize("command", ["replay", "shrink", "explain"])
def test_an_edited_plan_that_makes_no_sense_is_named(
    failed: Path,
    tmp_path: Path,
    command: str,
    fault: dict[str, object],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Path(shutil.copytree(failed, tmp_path / "run"))
    edited(run, fault)
    assert run_command([command, str(run)]) == 254
    said = capsys.readouterr().err
    assert says in said
    assert said.startswith(f"splitbrain: {run / 'plan.yaml'}: ")
    assert said.count("\n") == 1


def test_an_edited_plan_may_have_faults_of_other_kinds(
    failed: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(failed, tmp_path / "run"))
    edited(run, {"kind": "kill", "target": ["n1"]})
    loaded = replay.load(RunFolder.open(run))
    assert loaded.variants["time"].spec.nemesis == ["partition", "kill"]
    assert any("those in plan.yaml are replayed" in each for each in loaded.remarks)


class Mute:
    """An executor of runs in which no node ever serves."""

    def __init__(self, *_: object, **__: object) -> None:
        self._asked: list[Experiment] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, experiment: Experiment) -> int:
        self._asked.append(experiment)
        return len(self._asked) - 1

    def as_completed(self) -> Iterator[tuple[int, Outcome]]:
        reason = "n1 did not serve: \x1b[31m"
        number = len(self._asked) - 1
        yield (
            number,
            Outcome(experiment=self._asked[number], verdict="unknown", reason=reason),
        )


def test_a_failure_that_is_not_seen_as_nothing_runs_is_said_to_be_so(
    failed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.campaign.shrinking.search.Processes", Mute)
    recorded = replay.load(RunFolder.open(failed))
    found = shrink(
        recorded.variants["time"], recorded.outcome.fingerprints, budget_s=60
    )
    assert found.ended == "not reproduced"
    assert found.remarks == [
        "10 of 10 runs could not be judged: n1 did not serve: \\x1b[31m"
    ]


@pytest.mark.parametrize("measured", [1, 3])
def test_an_explanation_that_is_interrupted_keeps_what_it_has(
    failed: Path,
    tmp_path: Path,
    measured: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Path(shutil.copytree(failed, tmp_path / "run"))
    known = replay.load(RunFolder.open(run)).outcome
    rates = iter([Rate(0, 5), Rate(5, 5), Rate(1, 5)][:measured])

    def measure(*_: object) -> Rate:
        if (rate := next(rates, None)) is None:
            raise KeyboardInterrupt
        return rate

    monkeypatch.setattr(why, "carried_out", lambda *_: [known])
    monkeypatch.setattr(why, "measured", measure)
    assert run_command(["explain", str(run), "--json"]) == 2
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["interrupted"]
    assert f"interrupted after {measured} of 20 moments" in err
    assert len(found["moments"]) == measured
    assert json.loads((run / "why.json").read_text()) == found


@pytest.mark.parametrize(
    ("before", "stays"),
    [
        pytest.param({"moments": [{}] * 20}, True, id="whole"),
        pytest.param({"moments": [{}] * 3, "interrupted": True}, True, id="longer"),
        pytest.param({"moments": [{}] * 2, "interrupted": True}, False, id="as-long"),
        pytest.param({"moments": [{}], "interrupted": True}, False, id="shorter"),
        pytest.param({}, False, id="damaged"),
    ],
)
def test_a_part_of_an_explanation_takes_the_place_of_no_longer_one(
    failed: Path,
    tmp_path: Path,
    before: dict[str, object],
    stays: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Path(shutil.copytree(failed, tmp_path / "run"))
    known = replay.load(RunFolder.open(run)).outcome
    rates = iter([Rate(0, 5), Rate(5, 5)])

    def measure(*_: object) -> Rate:
        if (rate := next(rates, None)) is None:
            raise KeyboardInterrupt
        return rate

    monkeypatch.setattr(why, "carried_out", lambda *_: [known])
    monkeypatch.setattr(why, "measured", measure)
    (run / "why.json").write_text(json.dumps(before))
    assert run_command(["explain", str(run)]) == 2
    said = capsys.readouterr().out
    assert ("why.json has more moments" in said) is stays
    assert (json.loads((run / "why.json").read_text()) == before) is stays
