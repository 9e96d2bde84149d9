"""Plans and nodes that can't work: a clear line, nothing left behind, and no run hangs.

Whatever a plan says is either refused in one line before anything starts, or carried
out: faults that contradict each other add up (`harness.faults.force`).
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli import run_command
from harness.errors import HarnessError, UsageError
from harness.faults.fault import Fault
from harness.judge import analysis
from harness.registry import plugins
from harness.run import execution
from harness.run.completing import complete
from harness.run.spec import TestSpec
from harness.tests.test_deaths import command
from harness.worlds.os.disk.mounting import why_no_disks
from harness.worlds.os.switch import why_no_switch
from harness.worlds.sim.offer import OFFER

if TYPE_CHECKING:
    from harness.run.store import RunFolder

EXAMPLE = Path(__file__).parents[2] / "examples" / "nodes" / "python" / "register.py"
NODES = ("n1", "n2", "n3")
OPTIONS = {
    "clock": {"modes": "bump+drift+strobe+freeze+scramble+wander+leap+restart"},
    "message": {"patterns": "append heartbeat"},
}
NEMESES = {
    kind: plugin.factory(OPTIONS.get(kind, {}))
    for kind, plugin in plugins("nemesis").items()
}

SIMULATED = sorted(k for k, n in NEMESES.items() if not OFFER.refusal(n.needs))
ODD = st.one_of(
    st.sampled_from([None, True, "", "x", "all", "leader", "observer", [], {}, ["n1"]]),
    st.sampled_from([["n9"], ["n1", "n1"], [["n1", "n2"]], [["n1", "n1"]], "\0", "*"]),
    st.sampled_from([-1, -0.5, 0, 1, 1e-9, 1e308, -1e308, 10**30, float("nan")]),
    st.floats(),
    st.integers(),
)


@st.composite
def odd_faults(draw: st.DrawFn, kinds: list[str]) -> dict[str, Any]:
    """A drawn fault, of which some parameters were replaced by odd ones."""
    kind = draw(st.sampled_from(kinds))
    drawn = NEMESES[kind].draw(Random(draw(st.integers(0, 1000))), NODES)
    data: dict[str, Any] = drawn.as_data()
    params = [name for name in data if name != "kind"]
    for name in draw(st.lists(st.sampled_from(params), max_size=2, unique=True)):
        data[name] = draw(ODD)
    return data


def fault_of(data: dict[str, Any]) -> Fault:
    return Fault(data["kind"], {k: v for k, v in data.items() if k != "kind"})


def why_refused(data: dict[str, Any]) -> str:
    fault = fault_of(data)
    try:
        NEMESES[fault.kind].validate(fault, NODES)
    except UsageError as refusal:
        return str(refusal)
    return ""


@given(data=odd_faults(sorted(NEMESES)))
def test_a_fault_is_valid_or_refused_in_one_line_that_names_its_kind(
    data: dict[str, Any],
) -> None:
    if why := why_refused(data):
        assert "\n" not in why
        assert why.startswith(f"plan: {data['kind']}")


def carried_out(written: list[dict[str, Any]], results: Path, seed: int) -> RunFolder:
    """A short simulated run of a plan."""
    kinds = sorted({step["fault"]["kind"] for step in written})
    spec = TestSpec(
        system="raft",
        workload="register",
        nemesis=kinds,
        nodes=3,
        rate=20.0,
        time_limit_s=2.0,
        seed=seed,
        world="sim",
        options={
            f"{kind}.{name}": text
            for kind in kinds
            for name, text in OPTIONS.get(kind, {}).items()
        },
    )
    complete(spec, planned=True)
    return execution.run(spec, results, plan=written)


STEPS = st.tuples(
    odd_faults(SIMULATED).filter(lambda data: not why_refused(data)),
    st.floats(0, 1.5),
    st.sampled_from([0.001, 0.1, 0.5, 1.0, 5.0]),
)


@pytest.mark.nightly
@settings(max_examples=max(20, settings().max_examples // 100))
@given(steps=st.lists(STEPS, min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_whatever_plan_is_not_refused_is_carried_out(
    steps: list[tuple[dict[str, Any], float, float]],
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    written = [
        {
            "at": {"time_s": at_s},
            "fault": {k: "leader" if v == "observer" else v for k, v in fault.items()},
            "heal": {"after_s": after_s},
        }
        for fault, at_s, after_s in steps
    ]
    ran = carried_out(written, tmp_path_factory.mktemp("odd"), seed).run()
    assert ran is not None
    assert (ran.ended, ran.errors) == ("complete", [])


def test_faults_that_contradict_each_other_are_carried_out_and_healed(
    tmp_path: Path,
) -> None:
    def step(at_s: float, after_s: float, kind: str, **params: Any) -> dict[str, Any]:
        fault = {"kind": kind, "target": ["n1", "n2"], **params}
        return {
            "at": {"time_s": at_s},
            "fault": fault,
            "heal": {"after_s": after_s},
        }

    wall = {"clock": "wall"}
    written = [
        step(0.1, 1.2, "clock", mode="freeze", **wall),
        step(0.1, 0.9, "clock", mode="bump", **wall, offset_ms=9000),
        step(0.2, 1.0, "clock", mode="strobe", **wall, offset_ms=-500, period_ms=20),
        step(0.2, 0.6, "clock", mode="drift", clock="mono", rate=3),
        step(0.3, 0.9, "clock", mode="freeze", clock="mono"),
        step(0.4, 0.7, "pause"),
        step(0.5, 0.3, "kill"),
        step(0.6, 0.6, "clock", mode="restart", **wall, offset_ms=-3000),
        step(0.7, 0.2, "power", kept=0.0),
        step(0.8, 0.4, "loss", loss=1.0),
        step(0.9, 0.4, "duplicate", duplicate=0.5),
    ]
    folder = carried_out(written, tmp_path, 3)
    ran = folder.run()
    assert ran is not None
    assert (ran.ended, ran.errors) == ("complete", [])
    told = folder.read_lines("faults.jsonl")
    ended = [line["id"] for line in told if line["event"] == "end"]
    assert sorted(ended) == list(range(len(written)))
    last = {}
    for sample in folder.read_lines("clocks.jsonl"):
        last[sample["node"]] = sample
    for node, sample in last.items():
        assert abs(sample["wall_offset_ms"]) < 30, node
        assert sample["mono_offset_ms"] == 0, node


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"at": {"time_s": -1}}, "`at` must be "),
        ({"at": {"time_s": 1, "observe": "x", "within_s": -1}}, "`at` must be "),
        ({"heal": {"after_s": -2}}, "`heal` must be "),
        ({"heal": {"after_s": 0}}, "`heal` must be "),
        ({"fault": {"kind": "delay", "delay_ms": -5}}, "delay_ms must be a number"),
        ({"fault": {"kind": "loss", "loss": -0.5}}, "loss must be a number"),
        ({"fault": {"kind": "disk", "mode": "slow", "delay_ms": -1}}, "delay_ms must"),
        (
            {"fault": {"kind": "clock", "mode": "drift", "clock": "wall", "rate": -1}},
            "rate must be a number from 0.001",
        ),
    ],
)
def test_negative_times_and_amounts_are_refused_before_anything_starts(
    step: dict[str, Any],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good: dict[str, Any] = {"fault": {"kind": "kill"}, "at": {"time_s": 1}}
    whole = {**good, "heal": {"after_s": 1}, **step}
    whole["fault"] = {"target": ["n1"], **whole["fault"]}
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump([whole]))
    results = tmp_path / "results"
    words = ["run", "raft", "--world", "sim", "--plan", str(plan)]
    assert run_command([*words, "--results", str(results)]) == 254
    err = capsys.readouterr().err
    assert reason in err
    assert len(err.splitlines()) == 1
    assert not results.exists()


async def fail(*_: Any) -> Any:
    raise HarnessError("the switch is gone")


@pytest.mark.parametrize("where", ["nemesis.clock.put", "nemesis.clock.Clock.heal"])
def test_a_fault_that_fails_half_way_is_a_failure_of_the_harness(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, fail)
    freeze = {"kind": "clock", "mode": "freeze", "clock": "wall", "target": ["n1"]}
    written = [{"at": {"time_s": 1}, "fault": freeze, "heal": {"after_s": 0.5}}]
    folder = carried_out(written, tmp_path, 5)
    ran = folder.run()
    assert ran is not None
    assert ran.ended == "failed"
    [error] = ran.errors
    assert "clock: HarnessError: the switch is gone" in error
    assert analysis.exit_status(analysis.judged(folder)) == 255


def test_a_pattern_that_takes_for_ever_ends_the_run_and_no_node(
    tmp_path: Path,
) -> None:
    pattern = r"(\w+[ -~]?)+\$\$"
    message = {"kind": "message", "target": ["n1"], "pattern": pattern, "loss": 0.5}
    written = [{"at": {"time_s": 0.5}, "fault": message, "heal": {"after_s": 1}}]
    folder = carried_out(written, tmp_path, 1)
    ran = folder.run()
    assert ran is not None
    assert ran.ended == "failed"
    assert all("took more than 0.1 s" in error for error in ran.errors), ran.errors
    told = folder.read_lines("faults.jsonl")
    assert not [line for line in told if line["kind"] in {"node-exit", "node-ended"}]
    assert analysis.exit_status(analysis.judged(folder)) == 255


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("part", "nemesis", "why"),
    [
        ("sb-disk-n2", "disk,kill", "the disk of n2 process hangs: no answer in 30 s"),
        ("sb-switch", "loss,partition", "the switch process hangs: no answer in 30 s"),
        ("sb-warden", "kill", "kill: it took more than 120 s"),
    ],
)
def test_a_part_of_ours_that_hangs_ends_the_run_and_is_named(
    part: str, nemesis: str, why: str, tmp_path: Path
) -> None:
    if cant := why_no_switch() or why_no_disks():
        pytest.skip(cant)
    started = command(
        tmp_path,
        *("run", "raft", "--nodes", "3", "--nemesis", nemesis, "--seed", "1"),
        *("--time-limit", "60"),
    )
    try:
        deadline_s = time.monotonic() + 60
        while not started.recorded_bytes():
            assert time.monotonic() < deadline_s, "it records nothing"
            time.sleep(0.1)
        started.part(part).send_signal(signal.SIGSTOP)
        out, err = started.process.communicate(timeout=300)
        assert started.process.returncode == 255, (out, err)
        assert why in " ".join(out.split())
        assert "Traceback" not in out + err
        started.nothing_is_left()
    finally:
        started.clear()


NEVER_AGAIN = """#!/bin/sh
if [ -e "$SPLITBRAIN_DATA/again" ]; then exec sleep 1000; fi
touch "$SPLITBRAIN_DATA/again"
exec {python} {example}
"""


@pytest.mark.nightly
def test_a_node_that_does_not_come_back_is_named_and_holds_up_no_run(
    tmp_path: Path,
) -> None:
    script = tmp_path / "once.sh"
    script.write_text(NEVER_AGAIN.format(python=sys.executable, example=EXAMPLE))
    script.chmod(0o755)
    plan = tmp_path / "plan.yaml"
    kill = {"kind": "kill", "target": ["n1"]}
    step = {"at": {"time_s": 1}, "fault": kill, "heal": {"after_s": 0.5}}
    plan.write_text(yaml.safe_dump([step]))
    started = command(
        tmp_path,
        *("run", f"launch:{script}", "--nodes", "2", "--plan", str(plan)),
        *("--time-limit", "3", "--seed", "1"),
    )
    try:
        out, err = started.process.communicate(timeout=120)
        assert started.process.returncode in {0, 2}, (out, err)
        assert "n1 did not serve again within 10 s" in out
        started.nothing_is_left()
    finally:
        started.clear()
