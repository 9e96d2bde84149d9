"""Why then: runs that take another course from a moment on, and what they tell."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.campaign import why
from harness.campaign.carrying import keep
from harness.campaign.experiment import Experiment
from harness.campaign.why import Moment, jump_among, next_moment, steepest
from harness.cli.group import run_command
from harness.report import chances
from harness.report.folder import load
from harness.report.rates import Rate
from harness.run import assembling, execution
from harness.run.spec import TestSpec
from harness.run.store import RunFolder
from harness.worlds.world import FreshDice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

S = 1_000_000_000
CUT = [["n1", "n2"], ["n2", "n1"], ["n3", "n2"], ["n2", "n3"]]
PLAN = [
    {
        "at": {"time_s": 2.0},
        "fault": {"kind": "partition", "shape": "one", "cut": CUT},
        "heal": {"after_s": 1.5},
    }
]
SPLIT = TestSpec(
    system="3pc",
    workload="commit",
    nodes=3,
    concurrency=3,
    rate=60.0,
    time_limit_s=4.0,
    seed=53,
    world="sim",
)
"""A transaction is about to commit as a node is cut off: not so for most seeds."""


@pytest.fixture(scope="module")
def split() -> Iterator[Path]:
    """The folder of a run in which 3PC splits, by chance."""
    with tempfile.TemporaryDirectory() as results:
        outcome = keep(Path(results), Experiment(SPLIT, PLAN))
        assert outcome.anomalies == ["split-decision"], outcome.reason
        yield Path(outcome.folder)


def history(tmp_path: Path, fresh: FreshDice | None) -> list[str]:
    """The lines of a run's history."""
    spec = msgspec.structs.replace(SPLIT, time_limit_s=2.0)
    parts, schedule, rung = assembling.prepare(spec, [])
    folder = RunFolder(Path(tempfile.mkdtemp(dir=tmp_path)))
    execution.carry_out(spec, parts, schedule, folder, rung, fresh_dice=fresh)
    return (folder.path / "history.jsonl").read_text().splitlines()


def test_chance_takes_another_course_from_a_moment_on_and_not_before(
    tmp_path: Path,
) -> None:
    plain = history(tmp_path, None)
    begun_ns = 0
    for seed in (1, 2):
        fresh = FreshDice(begun_ns_of(tmp_path) + S, seed)
        other = history(tmp_path, fresh)
        same = next(i for i, pair in enumerate(zip(plain, other, strict=False))
                    if pair[0] != pair[1])  # fmt: skip
        moment_ns = json.loads(plain[same])["time"]
        assert moment_ns >= begun_ns + S
        assert moment_ns < begun_ns + 2 * S
        assert other == history(tmp_path, fresh), "the same dice, the same run"
    assert plain == history(tmp_path, None)


def begun_ns_of(tmp_path: Path) -> int:
    """Where true time stands as the run's time begins."""
    spec = msgspec.structs.replace(SPLIT, time_limit_s=2.0)
    parts, schedule, rung = assembling.prepare(spec, [])
    folder = RunFolder(Path(tempfile.mkdtemp(dir=tmp_path)))
    execution.carry_out(spec, parts, schedule, folder, rung)
    run = folder.run()
    assert run is not None
    assert run.start_mono_ns is not None
    return run.start_mono_ns


# --- which moments, and where the jump is ---------------------------------------------


def measure(
    rate_at: Callable[[int], Rate], end_ns: int, wanted: int
) -> tuple[Moment, ...]:
    """The moments that are measured if the rates are these."""
    known: dict[int, Moment] = {}
    while (at_ns := next_moment(known, end_ns, wanted)) is not None:
        assert at_ns not in known
        assert 0 <= at_ns <= end_ns
        known[at_ns] = Moment(at_ns, rate_at(at_ns))
    return tuple(known[at_ns] for at_ns in sorted(known))


@given(
    st.integers(1, 60 * S),
    st.floats(0.001, 0.999),
    st.integers(2, 40),
    st.integers(8, 50),
)
def test_a_step_is_found_between_two_moments_that_halve_with_each_moment(
    end_ns: int, part: float, wanted: int, runs: int
) -> None:
    step_ns = max(1, int(end_ns * part))
    moments = measure(
        lambda at_ns: Rate(runs if at_ns >= step_ns else 0, runs), end_ns, wanted
    )
    assert len(moments) <= wanted
    jump = jump_among(moments)
    assert jump is not None
    before, after = jump
    assert before.at_ns < step_ns <= after.at_ns
    halved = end_ns / 2 ** max(0, wanted - 3)
    assert after.at_ns - before.at_ns <= max(halved + 2, why.CLOSEST_NS)


rates = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=8
)


@given(rates)
def test_the_jump_is_the_closest_rise_beyond_doubt(
    pairs: list[tuple[int, int]],
) -> None:
    moments = [
        Moment(place * place * 100, Rate(min(pair), max(pair)))
        for place, pair in enumerate(pairs)
    ]
    apart = [
        (b.at_ns - a.at_ns, a, b)
        for a in moments
        for b in moments
        if a.at_ns < b.at_ns and a.rate.upper() < b.rate.lower()
    ]
    jump = jump_among(moments)
    if not apart:
        assert jump == steepest(moments)
        return
    assert jump is not None
    assert jump[1].at_ns - jump[0].at_ns == min(gap for gap, _, _ in apart)
    assert any((a, b) == jump for _, a, b in apart)


@given(rates)
def test_without_doubt_there_is_no_rise_or_the_steepest(
    pairs: list[tuple[int, int]],
) -> None:
    moments = [
        Moment(place * 100, Rate(min(pair), max(pair)))
        for place, pair in enumerate(pairs)
    ]
    found = steepest(moments)
    rises = [b.rate.observed - a.rate.observed for a, b in pairwise(moments)]
    if max(rises, default=0.0) <= 0:
        assert found is None
    else:
        assert found is not None
        assert found[1].rate.observed - found[0].rate.observed == max(rises)


# --- a real one -----------------------------------------------------------------------


@pytest.mark.nightly
def test_the_moment_that_mattered_is_when_the_cut_met_a_transaction(
    split: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Early on the split is unlikely; once the node is cut off it is certain."""
    told = explained(split, capsys, moments=5, runs=6)
    assert told["runs"] == 1 + 5 * 6
    assert {each["anomaly"] for each in told["failure"]} == {"split-decision"}
    assert told["moments"][-1]["hits"] == 6, "what has happened can't be undone"
    jump = told["jump"]
    assert jump["clear"]
    assert jump["before"]["at_s"] < 2.0 < jump["after"]["at_s"] < 3.0
    low_s, high_s = (jump[side]["at_s"] for side in ("before", "after"))
    for each in told["around"]:
        assert low_s - 0.06 < each["at_s"] < high_s + 0.06
    assert any(each["kind"] == "message" for each in told["around"])
    html = (split / "report.html").read_text()
    assert "Why then?" in html
    assert 'class="chances"' in html


@pytest.mark.nightly
def test_the_moment_is_found_to_a_few_milliseconds_and_the_same_again(
    split: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = explained(split, capsys, moments=16, runs=8)
    jump = told["jump"]
    assert jump["clear"]
    assert jump["after"]["at_s"] - jump["before"]["at_s"] < 0.05
    assert any("precommitting" in each["text"] for each in told["around"])
    kinds = {each["kind"] for each in told["around"]}
    assert kinds == {"fault", "message", "observation", "operation"}
    assert run_command(["explain", str(split), "--moments", "16", "--runs", "8"]) == 0
    assert "Most was decided between" in capsys.readouterr().out
    assert json.loads((split / "why.json").read_text()) == told


def explained(
    folder: Path, capsys: pytest.CaptureFixture[str], *, moments: int, runs: int
) -> Any:
    """What `explain --json` says, and stores."""
    numbers = ["--moments", str(moments), "--runs", str(runs)]
    assert run_command(["explain", str(folder), *numbers, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((folder / "why.json").read_text())
    return told


def test_what_is_known_when_it_is_interrupted_is_kept_with_the_remarks(
    split: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = changed(split, tmp_path, "test.yaml", versions={"commit": "elsewhere"})
    rates = iter([Rate(0, 2), Rate(2, 2)])

    def measured(*_: object) -> Rate:
        try:
            return next(rates)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(why, "measured", measured)
    assert run_command(["explain", str(folder), "--json"]) == 2
    out, err = capsys.readouterr()
    told = json.loads((folder / "why.json").read_text())
    assert json.loads(out) == told
    assert told["interrupted"]
    assert [each["hits"] for each in told["moments"]] == [0, 2]
    assert {each["kind"] for each in told["around"]} <= {"fault", "operation"}
    assert any("elsewhere" in remark for remark in told["remarks"])
    assert "recorded with commit elsewhere" in err
    assert "interrupted after 2 of 20 moments" in err
    assert "Why then?" in (folder / "report.html").read_text()


def test_an_explanation_that_has_measured_nothing_yet_stores_nothing(
    split: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = changed(split, tmp_path, "test.yaml")

    def measured(*_: object) -> Rate:
        raise KeyboardInterrupt

    monkeypatch.setattr(why, "measured", measured)
    assert run_command(["explain", str(folder)]) == 2
    assert "interrupted before the end" in capsys.readouterr().err
    assert not (folder / "why.json").exists()


# --- bad input ------------------------------------------------------------------------


def complaint(capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    """What `explain` says of a folder that it refuses."""
    assert run_command(["explain", str(folder)]) == 254
    return capsys.readouterr().err


def changed(split: Path, tmp_path: Path, name: str, **fields: object) -> Path:
    """A copy of the folder's files, with other fields in one of them."""
    folder = tmp_path / "run"
    folder.mkdir()
    for each in split.iterdir():
        if each.suffix in {".yaml", ".json", ".jsonl"}:
            (folder / each.name).write_text(each.read_text())
    data = yaml.safe_load((folder / name).read_text())
    (folder / name).write_text(json.dumps({**data, **fields}))
    return folder


def test_runs_that_can_t_be_explained_are_refused_with_the_reason(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is no run folder" in complaint(capsys, tmp_path)
    real = yaml.safe_load((split / "test.yaml").read_text())["spec"] | {"world": "os"}
    cases: list[tuple[str, dict[str, object], str]] = [
        ("test.yaml", {"spec": real}, "real processes"),
        ("run.json", {"ended": "interrupted"}, "ended interrupted"),
        ("run.json", {"start_mono_ns": None}, "when the run began"),
        ("verdict.json", {"verdict": "valid", "checkers": {}}, "no failure to explain"),
        ("run.json", {"ended": 3}, "run.json"),
    ]
    for number, (name, fields, reason) in enumerate(cases):
        place = tmp_path / str(number)
        place.mkdir()
        assert reason in complaint(capsys, changed(split, place, name, **fields))
    cut = changed(split, tmp_path, "run.json")
    (cut / "run.json").unlink()
    assert "has no run.json" in complaint(capsys, cut)


def test_the_faults_that_are_repeated_are_those_of_the_record(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = changed(split, tmp_path, "run.json")
    (folder / "plan.yaml").write_text("- at: {time_s: 1.0}\n")
    assert "plan.yaml" in complaint(capsys, folder)
    (folder / "plan.yaml").unlink()
    assert "has no plan.yaml" in complaint(capsys, folder)
    test = yaml.safe_load((folder / "test.yaml").read_text())
    test |= {"plan": "drawn", "spec": {**test["spec"], "nemesis": ["partition"]}}
    (folder / "test.yaml").write_text(json.dumps(test))
    plan = (split / "plan.yaml").read_text()
    (folder / "plan.yaml").write_text(plan)
    loaded = why.load(RunFolder.open(folder))
    assert loaded.experiment.plan == yaml.safe_load(plan)


def test_a_failure_that_never_comes_back_is_said_to_be_of_other_code(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = json.loads((split / "verdict.json").read_text())
    text = json.dumps(verdict["checkers"]).replace("split-decision", "reversal")
    folder = changed(split, tmp_path, "verdict.json", checkers=json.loads(text))
    assert "does not fail in the same way any more" in complaint(capsys, folder)


# --- the picture ----------------------------------------------------------------------

rubbish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
moment = st.fixed_dictionaries(
    {
        "at_s": rubbish | st.floats(0, 5),
        "hits": rubbish | st.integers(0, 5),
        "runs": rubbish | st.integers(0, 5),
        "lower": rubbish | st.floats(0, 1),
        "upper": rubbish | st.floats(0, 1),
    }
)
whys = st.fixed_dictionaries(
    {
        "moments": rubbish | st.lists(moment),
        "jump": rubbish | st.fixed_dictionaries({"before": moment, "after": moment}),
        "around": rubbish | st.lists(rubbish),
    }
)


@given(rubbish | whys)
def test_a_page_survives_whatever_why_json_holds(split_json: object) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "why.json").write_text(json.dumps(split_json))
        found = chances.read(folder)
        if found is not None:
            drawn = str(chances.chart(found, load(folder)))
            assert drawn.startswith("<svg")
            assert "nan" not in drawn
            assert "inf" not in drawn.replace("info", "")


def test_an_experiment_with_fresh_dice_is_another_one() -> None:
    plain = Experiment(SPLIT)
    fresh = replace(plain, fresh_dice=FreshDice(5, 1))
    assert plain != fresh
    assert Experiment.decode(fresh.encode()) == fresh
    assert plain.encode() != fresh.encode()
