"""Faults of processes in whole runs: slow starts, crash loops, starvation, crashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.campaign.carrying import keep
from harness.campaign.experiment import Experiment
from harness.faults.cluster import RESTART_WAIT_S_MAX
from harness.history import formats
from harness.judge import analysis
from harness.report import text
from harness.run.completing import complete
from harness.run.spec import DEFAULTS, TestSpec
from harness.run.store import RunFolder
from harness.workload import OP_TIMEOUT_S
from harness.workload.generator import HEAL
from harness.worlds.sim.clock import MONO_EPOCH_NS
from harness.worlds.sim.node import SimNode

if TYPE_CHECKING:
    from harness.campaign.outcome import Outcome

SECOND_LIFE = 1006
"""The first pid in the simulator that no first process of five nodes has."""


def simulated(tmp_path: Path, plan: list[dict[str, Any]], **fields: Any) -> Outcome:
    asked = {"seed": 7, "time_limit_s": 5.0, "rate": 20.0, **fields}
    spec = TestSpec(
        system="raft",
        **{**DEFAULTS["sim"], "world": "sim", "workload": "", **asked},
        nemesis=sorted({step["fault"]["kind"] for step in plan}),
    )
    complete(spec)
    return keep(tmp_path, Experiment(spec, plan))


def step(at_s: float, heal_s: float, **fault: Any) -> dict[str, Any]:
    return {"at": {"time_s": at_s}, "fault": fault, "heal": {"after_s": heal_s}}


def lines_of(outcome: Outcome, kind: str) -> list[Any]:
    lines = Path(outcome.folder, "faults.jsonl").read_text(encoding="utf-8")
    return [x for x in map(json.loads, lines.splitlines()) if x["kind"] == kind]


@pytest.fixture
def never_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that are started a second time never get to serve."""
    begin = SimNode._begin

    def begin_once(node: SimNode, pid: int) -> None:
        if pid < SECOND_LIFE:
            begin(node, pid)

    monkeypatch.setattr(SimNode, "_begin", begin_once)


@pytest.mark.usefixtures("never_back")
def test_slow_restarts_hold_up_neither_the_plan_nor_the_end_of_the_run(
    tmp_path: Path,
) -> None:
    plan = [
        step(0.5, 0.5, kind="kill", target=["n1"]),
        step(3.0, 0.5, kind="kill", target=["n2"]),
        step(4.6, 5.0, kind="kill", target=["n3"], delay_s=3600),
    ]
    outcome = simulated(tmp_path, plan)
    starts = [
        x["time"] / 1e9 for x in lines_of(outcome, "kill") if x["event"] == "start"
    ]
    assert starts == pytest.approx([0.5, 3.0, 4.6], abs=0.1)
    titles = [x["title"] for x in lines_of(outcome, "node-absent")]
    assert titles == [
        f"{node} did not serve again within 10 s" for node in ("n1", "n2", "n3")
    ]
    # Three nodes are waited for, and the end of the run for no longer than for one.
    history = formats.load(Path(outcome.folder, "history.jsonl"))
    begun, done = (op.time / 1e9 for op in history if op.f == HEAL)
    assert begun <= 5.0 + OP_TIMEOUT_S + 0.1
    assert done - begun <= RESTART_WAIT_S_MAX + 0.2
    assert not outcome.errors
    assert "n1 did not serve again within 10 s" in text.summary(Path(outcome.folder))


def test_a_crash_loop_kills_each_new_process_of_a_node(tmp_path: Path) -> None:
    plan = [step(0.5, 4.0, kind="kill", target=["n1", "n2"], times=3, signal="term")]
    outcome = simulated(tmp_path, plan)
    assert outcome.verdict == "valid", outcome
    (end,) = [x for x in lines_of(outcome, "kill") if x["event"] == "end"]
    assert end["evidence"]["kills"] == 3
    assert end["evidence"]["ended_by"]["n1"].startswith("SIGTERM, status -15")
    restarted = end["evidence"]["restarted"]
    assert {of["pid"] for of in restarted.values()} == {1010, 1011}


def test_starved_nodes_stand_still_as_told_and_keep_their_promises(
    tmp_path: Path,
) -> None:
    fault = {"kind": "starve", "target": ["n1", "n2", "n3", "n4", "n5"], "share": 0.2}
    outcome = simulated(tmp_path, [step(1.0, 3.0, **fault)])
    assert outcome.verdict == "valid", outcome
    (end,) = [x for x in lines_of(outcome, "starve") if x["event"] == "end"]
    assert end["bit"] is True
    # 30 periods of 100 ms, in each of which a node stands still for 80 ms.
    for got in end["evidence"]["starved"].values():
        assert got == {"stops": 30, "stopped_ms": 2400.0}


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each first process of a node breaks an invariant after 2 s of the run."""
    turn = SimNode._turn

    def turn_for_a_while(node: SimNode) -> None:
        turn(node)
        is_old = node.clock.now().mono_ns - MONO_EPOCH_NS > 2 * 10**9
        assert not (is_old and 0 < node.pid < SECOND_LIFE), "an invariant is broken"

    monkeypatch.setattr(SimNode, "_turn", turn_for_a_while)


@pytest.mark.usefixtures("fragile")
@pytest.mark.parametrize("watchdog", [True, False])
def test_a_node_that_dies_by_itself_is_shown_judged_and_started_if_asked(
    watchdog: bool, tmp_path: Path
) -> None:
    outcome = simulated(tmp_path, [], watchdog=watchdog)
    folder = RunFolder(Path(outcome.folder))
    record = folder.verdict()
    assert record is not None
    assert record.verdict == "invalid", record
    crashes = record.checkers["crashes"]
    assert crashes.stats["crashes"] == {f"n{i}": 1 for i in range(1, 6)}
    assert crashes.anomalies[0].name == "node-crash"
    assert "exited with status 70 on its own" in crashes.anomalies[0].explanation
    assert any("exited with status 70" in one for one in record.remarks)
    assert analysis.exit_status(record) == 1
    summary = text.summary(folder.path)
    assert "exited with status 70 on its own" in summary
    page = (folder.path / "report.html").read_text(encoding="utf-8")
    assert "exited with status 70 on its own" in page
    restarts = lines_of(outcome, "node-restart")
    assert len(restarts) == (5 if watchdog else 0)
    assert ("--watchdog" in outcome.repro) is watchdog
