"""Experiments and outcomes as data, and the executor that gets one from the other."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import cli
from harness.campaign.carrying import keep
from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Finding, Fingerprint, Outcome
from harness.campaign.suites import reading
from harness.campaign.suites.rows import Row
from harness.errors import NotInstalledError, UsageError
from harness.judge import analysis
from harness.run import store
from harness.run.completing import complete
from harness.run.records import Activation, FaultRecord
from harness.run.spec import DEFAULTS, TestSpec
from harness.run.store import RunFolder
from harness.systems import mutants
from harness.tests.test_spec import SPECS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

# What a plan may say.

SECONDS = st.floats(0.001, 1000).map(lambda x: round(x, 3))
NODES = st.sampled_from(["n1", "n2", "n9"])
COUNTS = st.integers(1, 99)
EVENTS = st.fixed_dictionaries(
    {"observe": st.sampled_from(["became_leader", "voted"])},
    optional={"count": COUNTS, "node": NODES},
)
TRIGGERS = st.one_of(
    st.fixed_dictionaries({"time_s": SECONDS}),
    st.fixed_dictionaries({"ops": st.integers(0, 10**6)}),
    EVENTS,
    st.tuples(EVENTS, SECONDS, SECONDS).map(
        lambda x: {**x[0], "time_s": x[1], "within_s": x[2]}
    ),
)
FAULTS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["kill", "clock"])},
    optional={
        "target": st.lists(NODES, unique=True) | st.sampled_from(["all", "leader"]),
        "drift": SECONDS,
        "shape": st.text(max_size=5),
    },
)
STEPS = st.fixed_dictionaries(
    {
        "at": TRIGGERS,
        "fault": FAULTS,
        "heal": st.fixed_dictionaries({"after_s": SECONDS}),
    }
)
PLANS = st.none() | st.lists(STEPS, max_size=4)


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    """Complete ones, as the command line makes them."""
    spec, plan = draw(SPECS), draw(PLANS)
    spec.world = draw(st.sampled_from(["os", "sim"]))
    spec.options.pop("reads", None)  # which takes a few words only
    if spec.system == "raft" and draw(st.booleans()):
        spec.mutant = draw(st.sampled_from(sorted(mutants.every()["raft"])))
    if draw(st.booleans()):
        spec.rate = DEFAULTS["sim"]["rate"]
    complete(spec, planned=plan is not None)
    return Experiment(spec, plan)


@given(experiments())
def test_an_experiment_is_the_same_after_a_journey_as_json(one: Experiment) -> None:
    assert Experiment.decode(one.encode()) == one


@given(experiments(), st.integers(0, 10**9))
def test_experiments_are_equal_when_they_ask_for_the_same(
    one: Experiment, seed: int
) -> None:
    assert (one.with_seed(seed) == one) == (seed == one.spec.seed)
    assert one.with_seed(seed).with_seed(one.spec.seed) == one


def stored(one: Experiment, path: Path) -> RunFolder:
    """What a run of it writes, as far as that is read back."""
    folder = RunFolder(path)
    is_drawn = one.plan is None
    test = {
        "version": 1,
        "nodes": one.spec.node_names,
        "spec": store.as_data(one.spec),
        "plan": "drawn" if is_drawn else "written",
        "repro": shlex.join(one.command()),
    }
    folder.write_yaml("test.yaml", test)
    folder.write_yaml("plan.yaml", [] if one.plan is None else one.plan)
    return folder


@contextlib.contextmanager
def asked_for(command: list[str]) -> Iterator[Experiment]:
    """The experiment that the command line makes of a command."""
    with mock.patch("harness.cli.run.run_once", return_value=0) as run_once:
        cli.cli.main(command[command.index("run") :], standalone_mode=False)
    yield run_once.call_args.args[0]


@settings(max_examples=max(30, settings().max_examples // 3))
@given(experiments())
def test_the_experiment_in_a_folder_is_run_again_by_its_command(
    tmp_path_factory: pytest.TempPathFactory, one: Experiment
) -> None:
    folder = stored(one, tmp_path_factory.getbasetemp())
    loaded = Experiment.load(folder)
    assert loaded == one
    with asked_for(loaded.command()) as again:
        assert again == one
    assert ("--plan" in loaded.command()) == (one.plan is not None)


def test_the_rows_of_the_bundled_suites_are_run_again_by_their_commands() -> None:
    run_again = set()
    for path in reading.BUNDLED.glob("*.yaml"):
        for row in reading.load(path).rows:
            # A version of a real system may not be installed here.
            with contextlib.suppress(NotInstalledError):
                one = replace(row.experiment(7), plan=None)
                with asked_for(one.command()) as again:
                    again.spec.name = one.spec.name
                    assert again == one, row.name
                run_again.add(path.stem)
    assert {"quick", "nightly"} <= run_again


def test_a_row_of_a_mutant_has_what_it_declares_but_for_faults() -> None:
    def spec(**fields: Any) -> TestSpec:
        row = Row(name="r", system="raft", mutant="lease-ignores-drift", **fields)
        return row.experiment(1).spec

    assert spec().nemesis == []
    declared = mutants.find("raft", "lease-ignores-drift")
    assert declared.options.items() <= spec().options.items()
    assert declared.limits.items() <= spec(nemesis=["all"]).options.items()
    assert spec(world="sim").rate == DEFAULTS["sim"]["rate"]
    assert spec(world="sim", ops=90, time_limit_s=3).rate == 30
    assert spec(world="sim", ops=10**9, time_limit_s=1.0).rate == 1e6
    assert spec(world="sim", ops=1, time_limit_s=604_800.0).rate == 0.001


def test_a_plan_that_is_none_makes_no_experiment() -> None:
    with pytest.raises(UsageError, match="plan: step 1: `heal` must be"):
        Experiment(TestSpec(system="raft"), [{"fault": {"kind": "kill"}}])


PLAN = [{"at": {"time_s": 0.5}, "fault": {"kind": "kill", "target": ["n1"]}}]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A short simulated run under a written plan."""
    plan: Any = [{**step, "heal": {"after_s": 0.5}} for step in PLAN]
    spec = TestSpec(
        system="raft",
        world="sim",
        nodes=3,
        rate=50.0,
        time_limit_s=2.0,
        seed=3,
    )
    return keep(tmp_path_factory.mktemp("kept"), Experiment(spec, plan))


def test_a_run_tells_the_experiment_that_it_was(kept: Outcome) -> None:
    folder = RunFolder(Path(kept.folder))
    assert Experiment.load(folder) == kept.experiment
    assert kept.experiment.spec.nemesis == ["kill"], "what the plan has"
    with asked_for(kept.experiment.command()) as again:
        assert again == kept.experiment
    assert kept.repro.endswith(" --plan " + kept.experiment.command()[-1])


def test_a_run_is_repeated_from_wherever_it_is_judged_again(
    kept: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = shutil.copytree(kept.folder, tmp_path / "moved here")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    folder = RunFolder(Path("../moved here"))
    again = shlex.split(analysis.analyse(folder).repro)
    assert shutil.which(again[0]), "the program is named from here as well"
    assert Path(again[-1]).read_bytes() == (moved / "plan.yaml").read_bytes()
    with asked_for(again) as experiment:
        assert experiment == kept.experiment


def test_an_outcome_says_what_was_asked_applied_and_bit(kept: Outcome) -> None:
    one = FaultRecord(asked=1, applied=1, count=1, bit=1, healed=1)
    assert kept.faults == {"kill": one}
    assert kept.verdict == "valid"
    assert kept.status == 0
    assert kept.ops["ok"] > 20
    assert kept.figures["disks_read"] == 3
    assert kept.seconds > 0
    assert kept.cpu_s > 0


def test_a_folder_from_before_there_were_versions_is_read(
    kept: Outcome, tmp_path: Path
) -> None:
    path = Path(kept.folder)
    test = yaml.safe_load((path / "test.yaml").read_text())
    old = {k: v for k, v in test.items() if k not in {"version", "plan", "asked"}}
    old["spec"]["plan"] = yaml.safe_load((path / "plan.yaml").read_text())
    folder = RunFolder(tmp_path)
    folder.write_yaml("test.yaml", old)
    folder.write_text("plan.yaml", (path / "plan.yaml").read_text())
    assert Experiment.load(folder) == kept.experiment
    for name in ("run.json", "verdict.json"):
        told = json.loads((path / name).read_text())
        assert told.pop("version") == 1
        folder.write_json(name, told)
    before, after = (f.verdict() for f in (folder, RunFolder(path)))
    assert before is not None
    assert after is not None
    assert before.version == 0
    before.version = after.version
    assert before == after


def test_a_folder_of_a_later_version_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_json("run.json", {"version": 2})
    with pytest.raises(UsageError, match=r"run.json is of version 2, .* up to 1"):
        folder.run()


# Outcomes.

WORDS = st.text(max_size=8)
NUMBERS = st.integers(0, 10**9) | st.floats(0, 1e9)
RECORDS = st.builds(
    FaultRecord,
    asked=COUNTS,
    bit=COUNTS,
    knobs=st.dictionaries(WORDS, st.builds(Activation, asked=COUNTS, bit=COUNTS)),
)
OUTCOMES = st.builds(
    Outcome,
    experiment=experiments(),
    verdict=st.sampled_from(["valid", "unknown", "invalid", "error"]),
    reason=WORDS,
    interrupted=st.booleans(),
    findings=st.lists(st.builds(Finding, WORDS, WORDS, st.booleans()), max_size=3).map(
        tuple
    ),
    found=WORDS,
    figures=st.dictionaries(WORDS, NUMBERS, max_size=3),
    ops=st.dictionaries(WORDS, st.integers(0, 10**9), max_size=3),
    faults=st.dictionaries(WORDS, RECORDS, max_size=2),
    errors=st.lists(WORDS, max_size=2).map(tuple),
    refused=st.booleans(),
    run_s=SECONDS,
    seconds=SECONDS,
    cpu_s=SECONDS,
    folder=WORDS,
    repro=WORDS,
    died=WORDS,
)


@given(OUTCOMES)
def test_an_outcome_is_the_same_after_a_journey_as_json(one: Outcome) -> None:
    again = Outcome.decode(one.encode())
    assert again == one
    assert repr(again) == repr(one), "a whole number stays one"
    assert again.fingerprints == one.fingerprints


def test_failures_are_the_same_by_what_was_broken_and_not_by_the_run() -> None:
    def failure(seed: int, **fields: Any) -> Outcome:
        spec = TestSpec(system="raft", workload="set", seed=seed, mutant="m")
        found = (Finding("set", "lost"), Finding("availability", "outage", False))
        outcome = Outcome(experiment=Experiment(spec), verdict="invalid")
        return Outcome(
            experiment=outcome.experiment,
            verdict="invalid",
            **{"findings": found, **fields},
        )

    expected = {Fingerprint("set", "lost", "raft", "set", "m")}
    assert failure(1).fingerprints == failure(2, found="2 x lost").fingerprints
    assert failure(1).fingerprints == expected, "what was not promised is no failure"
    assert failure(1, findings=()).fingerprints == frozenset()


# The executor.


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What came of each scene."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness.tests.executor_scenes"),
            str(tmp_path_factory.mktemp("scenes")),
        ],
        env={"OPENBLAS_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return found


Scenes = dict[str, list[Any]]


def test_outcomes_come_first_done_first(scenes: Scenes) -> None:
    assert [answer["number"] for answer in scenes["order"]] == [1, 2, 0]
    assert [answer["number"] for answer in scenes["one after the other"]] == [0, 1]


def test_simulated_runs_share_a_worker_and_real_ones_do_not(scenes: Scenes) -> None:
    assert len({answer["pid"] for answer in scenes["one after the other"]}) == 1
    assert len({answer["pid"] for answer in scenes["real"]}) == 2


def test_an_experiment_whose_worker_was_killed_is_tried_again_and_says_so(
    scenes: Scenes,
) -> None:
    again, other = scenes["die once"]
    assert (again["number"], again["verdict"]) == (0, "valid")
    assert again["died"] == "was ended by SIGKILL: my last words"
    assert (other["number"], other["verdict"], other["died"]) == (1, "valid", "")


def test_a_second_death_is_a_failure_of_the_harness_and_costs_nobody_else(
    scenes: Scenes,
) -> None:
    dead, other = scenes["die"]
    assert (dead["verdict"], dead["status"]) == ("error", 255)
    assert "was ended by SIGKILL: my last words, as" in dead["errors"][0]
    assert dead["died"] == "was ended by SIGKILL: my last words"
    assert other["verdict"] == "valid"
    [left] = scenes["leave"]
    assert left["died"] == "ended with status 7"


def test_what_goes_wrong_in_a_worker_is_told_as_whose_fault_it_is(
    scenes: Scenes,
) -> None:
    refused, failed, bug, fine = scenes["troubles"]
    assert (refused["status"], refused["errors"]) == (254, ["no such thing"])
    assert (failed["status"], failed["errors"]) == (255, ["the disk is full"])
    assert (bug["status"], bug["errors"]) == (255, ["ValueError: a bug"])
    assert fine["status"] == 0


def test_an_experiment_that_takes_too_long_is_ended_and_not_tried_again(
    scenes: Scenes,
) -> None:
    late, other = scenes["overdue"]
    assert late["errors"] == ["it gave no answer in 0.3 s"]
    assert (late["died"], other["verdict"]) == ("", "valid")


def test_cancel_ends_what_is_under_way_and_begins_nothing_that_waited(
    scenes: Scenes,
) -> None:
    under_way, waiting, later = scenes["cancel"]
    assert (under_way["number"], under_way["interrupted"]) == (0, True)
    assert waiting == {"number": 1, "verdict": None}
    assert (later["number"], later["verdict"]) == (2, "valid")
    silent = scenes["cancel in silence"]
    assert [answer["verdict"] for answer in silent] == [None, None, "valid"]


def test_what_is_ended_by_force_has_nothing_to_say(scenes: Scenes) -> None:
    assert [answer["verdict"] for answer in scenes["kill"]] == [None, None]
    assert scenes["left"] == [], "no worker outlives its executor"


def test_nothing_goes_on_when_the_time_of_an_executor_is_over(scenes: Scenes) -> None:
    assert [answer["verdict"] for answer in scenes["out of time"]] == [None, None]


def test_pursuits_go_on_with_what_came_of_their_last_experiment(
    scenes: Scenes,
) -> None:
    lengths = {place: len(seen) for place, seen in scenes["pursue"]}
    assert lengths == {0: 2, 1: 0, 2: 3, 3: 1}
    for _, seen in scenes["pursue"]:
        assert seen == [f"turn {turn}" for turn in range(len(seen))]
