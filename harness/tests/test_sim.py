"""Whole runs in the simulator: what they find, and that they repeat to the byte."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import cli
from harness.campaign.carrying import discard, keep
from harness.campaign.experiment import Experiment
from harness.campaign.seeds import sweep
from harness.errors import UsageError
from harness.history import formats, observations
from harness.judge import analysis
from harness.registry import plugins
from harness.run import assembling, execution
from harness.run.completing import complete
from harness.run.controller import Controller
from harness.run.spec import DEFAULTS, TestSpec
from harness.run.store import RunFolder
from harness.worlds.sim import world
from harness.worlds.sim.offer import OFFER

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.campaign.outcome import Outcome

FAULTS = "partition,kill,pause,clock"
RECORDED = ("history.jsonl", "faults.jsonl", "clocks.jsonl")


def splitbrain(
    results: Path, *arguments: str, hash_seed: int = 0
) -> tuple[int, Any, str]:
    """Exit status, what `run --json` printed, and its complaint."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness", "run", *arguments),
            *("--world", "sim", "--results", str(results), "--json"),
        ],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


def spec_of(system: str, **fields: Any) -> TestSpec:
    spec = TestSpec(
        system=system, **{**DEFAULTS["sim"], "world": "sim", "workload": "", **fields}
    )
    complete(spec)
    return spec


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    arguments = ("raft", "--nemesis", FAULTS, "--time-limit", "3", "--seed", "11")
    folders = []
    for hash_seed in (1, 2):
        results = tmp_path / str(hash_seed)
        status, outcome, err = splitbrain(results, *arguments, hash_seed=hash_seed)
        assert status == 0, (outcome, err)
        folders.append(Path(outcome["run"]))
    for name in RECORDED:
        first, second = (folder / name for folder in folders)
        assert first.read_bytes() == second.read_bytes(), name
        assert first.stat().st_size > 0, name
    for node in ("n1", "n5"):
        first, second = (f / "nodes" / node / "observe.jsonl" for f in folders)
        assert first.read_bytes() == second.read_bytes(), node


def test_what_a_worker_ran_before_leaves_no_trace(tmp_path: Path) -> None:
    status, outcome, err = splitbrain(
        tmp_path, "raft", "--nemesis", "kill,clock", "--time-limit", "3", "--seed", "11"
    )
    assert status == 0, (outcome, err)
    one = Experiment(spec_of("raft", nemesis=["kill", "clock"], time_limit_s=3.0))
    discard(tmp_path, Experiment(spec_of("raft", mutant="two-votes", ops=20)))
    again = keep(tmp_path, one.with_seed(11))
    for name in RECORDED:
        first, second = (Path(x) / name for x in (outcome["run"], again.folder))
        assert first.read_bytes() == second.read_bytes(), name


@pytest.mark.parametrize("nodes", [1, 2, 4, 7])
@pytest.mark.parametrize(
    ("protocol", "faults"),
    [
        ("2pc", ["all"]),
        ("3pc", ["kill"]),
        ("paxos", ["all"]),
        ("multi_paxos", ["all"]),
        ("raft", ["all"]),
        ("zab", ["all"]),
    ],
)
def test_clusters_of_any_size_serve_and_keep_their_promises(
    protocol: str, faults: list[str], nodes: int, tmp_path: Path
) -> None:
    spec = spec_of(protocol, nodes=nodes, nemesis=faults, time_limit_s=6.0, seed=2)
    result = discard(tmp_path, Experiment(spec))
    assert result.verdict == "valid", result
    assert result.ops["ok"] > 50, result


def test_a_checker_beside_the_workload_s_is_shown_and_does_not_count(
    tmp_path: Path,
) -> None:
    arguments = ("raft", "--nemesis", "kill", "--time-limit", "4", "--seed", "1")
    also = ("--also", "availability", "--set", "availability.minimum=1")
    status, outcome, err = splitbrain(tmp_path, *arguments, *also)
    assert status == 0, (outcome, err)
    availability = outcome["checkers"]["availability"]
    assert (availability["verdict"], availability["promised"]) == ("invalid", False)
    assert outcome["verdict"] == "valid"
    assert "--also availability" in outcome["repro"]


def test_a_checker_beside_the_workload_s_must_exist(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for also, complaint in (
        (("--also", "avail"), "did you mean availability"),
        (("--set", "availability.minimum=1"), "takes no part in this run"),
        (("--also", "availability", "--set", "availability.min=1"), "no option 'min'"),
    ):
        with pytest.raises(SystemExit, match="254"):
            cli.main(["run", "raft", "--world", "sim", *also])
        assert complaint in capsys.readouterr().err


def test_local_reads_of_zab_are_stale_yet_sequential(tmp_path: Path) -> None:
    """What ZooKeeper promises (Hunt et al. 2010, 2.3): no more, and no less."""

    def judged_by(consistency: str, seed: int) -> Outcome:
        options = {"reads": "local", "register.consistency": consistency}
        faults = ["partition"]
        spec = spec_of("zab", options=options, nemesis=faults, seed=seed)
        return discard(tmp_path, Experiment(spec))

    for seed in range(1, 9):
        result = judged_by("sequential", seed)
        assert result.verdict == "valid", result
        if result.anomalies:
            assert result.anomalies == ["stale-read"], "of the checker that is shown"
            assert judged_by("linearizable", seed).verdict == "invalid"
            return
    raise AssertionError("no stale read in 8 seeds")


@pytest.mark.parametrize("workload", ["queue", "set", "register", "bank"])
def test_a_run_that_is_interrupted_is_not_convicted_of_what_it_did_not_get_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workload: str
) -> None:
    dice = random.Random(f"interrupts {workload}")

    def on_interrupt(sim: world.SimWorld, callback: Callable[[], None]) -> None:
        sim._loop.call_later(dice.uniform(0, 4), callback)

    monkeypatch.setattr(world.SimWorld, "on_interrupt", on_interrupt)
    for seed in range(1, 5):
        spec = spec_of(
            "raft", workload=workload, nemesis=["kill"], seed=seed, time_limit_s=3.0
        )
        outcome = analysis.analyse(execution.run(spec, tmp_path))
        assert outcome.verdict == "unknown", (seed, outcome)
        assert outcome.reason.startswith("interrupted after "), (seed, outcome)
        assert outcome.harness.ok, (seed, outcome)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_comes_too_late_for_a_run_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    finish = Controller._finish

    async def interrupted(controller: Controller) -> None:
        assert controller.ended == "complete"
        signal.raise_signal(number)
        await finish(controller)

    monkeypatch.setattr(Controller, "_finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        discard(tmp_path, Experiment(spec_of("raft", ops=20)))


def test_another_seed_gives_another_history(tmp_path: Path) -> None:
    spec = spec_of("raft", time_limit_s=2.0)
    found = [
        execution.run(Experiment(spec).with_seed(seed).spec, tmp_path).path
        / "history.jsonl"
        for seed in (1, 2)
    ]
    assert found[0].read_bytes() != found[1].read_bytes()


def test_raft_keeps_its_promises_under_every_fault(tmp_path: Path) -> None:
    status, outcome, err = splitbrain(
        tmp_path, "raft", "--nemesis", "all", "--seed", "3"
    )
    assert status == 0, (outcome, err)
    assert outcome["ops"]["ok"] > 300
    assert outcome["harness"] == {"ok": True, "errors": []}
    disks = {"power", "disk", "rot"}
    assert set(outcome["faults"]) >= {"partition", "kill", "pause", "clock", *disks}
    folder = RunFolder.open(Path(outcome["run"]))
    history = formats.load(folder.path / "history.jsonl")
    asked = [op.f for op in history if op.type == "invoke"]
    assert min(asked.count("read"), asked.count("write")) > len(asked) / 10
    observed = {op.f for op in observations.load(folder.path, ["n1", "n2", "n3"])}
    assert "became_follower" in observed
    assert "listens" in (folder.path / "nodes/n1/log").read_text()
    assert outcome["checkers"]["raft_invariants"]["stats"]["disks_read"] == 5
    assert (folder.path / "report.html").stat().st_size > 10_000


def test_a_run_repeats_by_the_command_that_it_prints(tmp_path: Path) -> None:
    status, outcome, err = splitbrain(
        tmp_path / "a",
        *("raft", "--nemesis", "partition", "--set", "reads=local", "--ops", "300"),
        *("--time-limit", "6", "--seed", "4", "--nodes", "3"),
    )
    assert status == 1, (outcome, err)
    system, *arguments = outcome["repro"].partition(" run ")[2].split()
    again = splitbrain(tmp_path / "b", system, *arguments)
    assert again[0] == 1, again[2]
    histories = [Path(o["run"]) / "history.jsonl" for o in (outcome, again[1])]
    assert histories[0].read_bytes() == histories[1].read_bytes()


def test_a_sweep_stops_at_the_first_seed_that_is_not_valid(tmp_path: Path) -> None:
    status, outcome, err = splitbrain(
        tmp_path,
        *("raft", "--nemesis", "partition", "--set", "reads=local", "--seed", "1"),
        *("--time-limit", "3", "--seeds", "50", "--jobs", "2"),
    )
    assert status == 1, (outcome, err)
    *before, last = outcome["seeds"]
    assert all(result["verdict"] == "valid" for result in before)
    assert (last["verdict"], last["anomalies"]) == ("invalid", ["stale-read"])
    assert f"--seed {last['seed']}" in last["repro"]
    assert outcome["last"]["seed"] == last["seed"]
    coverage = outcome["coverage"]
    assert coverage["runs"] == len(outcome["seeds"])
    [kind] = [one for one in coverage["faults"] if one["knob"] is None]
    assert kind["kind"] == "partition"
    assert kind["asked"] > 0
    kept = [path for path in tmp_path.glob("raft-register/*") if path.is_dir()]
    assert [str(path) for path in kept] == [outcome["last"]["run"]]


def test_workers_give_the_same_results_as_one_process() -> None:
    spec = spec_of("raft", nemesis=["kill", "clock"], time_limit_s=1.5)

    def results(jobs: int) -> list[tuple[Any, ...]]:
        found = sweep(Experiment(spec), range(2), jobs)
        return [(o.experiment, o.verdict, o.anomalies, o.ops) for o in found]

    assert results(1) == results(2)


def test_a_sweep_that_is_broken_off_leaves_no_process_behind() -> None:
    spec = spec_of("raft", time_limit_s=3.0)
    found = sweep(Experiment(spec), range(1000), 2)
    next(found)
    found.close()  # type: ignore[attr-defined]  # it is a generator
    import multiprocessing

    assert multiprocessing.active_children() == []


def test_without_fsync_a_power_failure_takes_what_was_promised(tmp_path: Path) -> None:
    """The option says so; and a disk that lost nothing would test nothing."""

    def verdict(nemesis: str, fsync: str, seed: int) -> str:
        options = {"fsync": fsync, f"{nemesis}.targets": "all"}
        spec = spec_of("raft", nemesis=[nemesis], options=options, time_limit_s=10.0)
        return discard(tmp_path, Experiment(spec).with_seed(seed)).verdict

    seeds = range(1, 5)
    broken = next((s for s in seeds if verdict("power", "false", s) == "invalid"), None)
    assert broken is not None, f"seeds {seeds} lost nothing"
    assert verdict("power", "true", broken) == "valid", f"seed {broken}"
    assert verdict("kill", "false", broken) == "valid", f"seed {broken}"


def test_time_is_virtual(tmp_path: Path) -> None:
    spec = spec_of("raft", time_limit_s=600.0, rate=0.5, nodes=3, seed=1)
    result = discard(tmp_path, Experiment(spec))
    assert result.verdict == "valid"
    assert result.ops["ok"] > 100


IMPOSSIBLE = [
    ({"system": "pysyncobj"}, "pysyncobj can't run in the simulator"),
    ({"system": "raft", "network": "proxy"}, "the simulator has its own"),
    ({"system": "raft", "nemesis": ["all", "kill"]}, "name no other kinds"),
    ({"system": "raft", "nemesis": ["none", "hard"]}, "name nothing else"),
    ({"system": "raft", "nemesis": ["hard", "kil"]}, "did you mean kill"),
    (
        {"system": "raft", "nemesis": ["gentle"], "options": {"clock.drift": "1"}},
        "'clock' takes no part",
    ),
    ({"system": "raft", "mutant": "vote-not-durabel"}, "did you mean vote-not-durable"),
    ({"system": "raft", "options": {"heartbeat_ms": "900"}}, "heartbeat_ms must be"),
]


@pytest.mark.parametrize(("fields", "reason"), IMPOSSIBLE)
def test_impossible_simulations_are_refused(
    fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        assembling.prepare(spec_of(**fields))


def test_options_of_faults_can_be_set_where_all_faults_are_asked_for() -> None:
    spec = spec_of("raft", nemesis=["all"], options={"clock.drift": "0.5"})
    parts, _, _ = assembling.prepare(spec)
    assert {"clock", "kill", "partition"} <= set(parts.nemeses)
    with pytest.raises(UsageError, match=r"clock.drift: .* no part"):
        assembling.prepare(spec_of("raft", nemesis=["kill"], options=spec.options))


@pytest.mark.parametrize(
    ("words", "profile", "kinds"),
    [
        (["gentle"], ["gentle"], {"partition", "kill", "pause", "delay", "loss"}),
        (["standard"], ["standard"], {"partition", "kill", "pause", "clock"}),
        (["hard"], ["hard"], None),
        (["swarm"], ["swarm"], None),
        (["all"], [], None),
        (["kill", "hard"], ["hard"], {"kill"}),
        (["all", "gentle", "swarm"], ["gentle", "swarm"], None),
        (["none"], [], set()),
    ],
)
def test_a_run_repeats_what_its_words_for_faults_meant(
    words: list[str], profile: list[str], kinds: set[str] | None
) -> None:
    spec = spec_of("raft", nemesis=words, seed=5)
    parts, schedule, _ = assembling.prepare(spec)
    assert spec.profile == profile
    able = {
        kind
        for kind, plugin in plugins("nemesis").items()
        if not OFFER.refusal(plugin.factory({}).needs)
    }
    assert able >= {"kill", "membership", "power"}
    assert set(spec.nemesis) == (able if kinds is None else kinds)
    assert set(parts.nemeses) <= set(spec.nemesis)
    command = spec.command()
    again = spec_of("raft", nemesis=[], seed=5)
    if "--nemesis" in command:
        again.nemesis = command[command.index("--nemesis") + 1].split(",")
    assert assembling.prepare(again)[1].plan == schedule.plan
    # A folder holds the spec as it is by now.
    assert assembling.prepare(spec)[1].plan == schedule.plan


def test_each_seed_of_a_swarm_has_faults_of_its_own_within_what_was_named() -> None:
    named = ["kill", "pause", "partition", "clock"]
    swarms = set()
    for seed in range(20):
        spec = spec_of("raft", nemesis=["swarm", *named], seed=seed)
        parts, _, _ = assembling.prepare(spec)
        assert spec.nemesis == named
        swarms.add(frozenset(parts.nemeses))
    assert len(swarms) > 8
    assert set().union(*swarms) == set(named)


def test_the_limits_of_a_mutant_go_with_its_faults() -> None:
    drift = {"clock.modes", "clock.clocks", "clock.drift", "clock.targets"}
    limits = {*drift, "partition.shapes"}
    for nemesis, set_too in (
        ([], limits),
        (["all"], limits),
        (["hard"], limits),
        (["standard"], limits),
        (["gentle"], {"partition.shapes"}),
        (["kill"], set()),
    ):
        spec = TestSpec(
            system="raft",
            workload="",
            nemesis=nemesis,
            world="sim",
            mutant="lease-ignores-drift",
        )
        complete(spec)
        assembling.prepare(spec)
        assert {key for key in spec.options if "." in key} == set_too


def test_other_systems_have_no_mutants() -> None:
    with pytest.raises(UsageError, match="pysyncobj has no mutant"):
        spec_of("pysyncobj", world="os", mutant="vote-not-durable")
