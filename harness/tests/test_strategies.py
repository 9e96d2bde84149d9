"""Strategies: what they draw can be run, and shrinks to something small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from harness import registry
from harness.campaign import strategies
from harness.campaign.torture import experiment
from harness.errors import UsageError
from harness.faults import plan as plans
from harness.run import assembling

if TYPE_CHECKING:
    from harness.campaign.torture import Ask
    from harness.run.spec import PlanData

SIM: Ask = {"world": "sim", "nodes": 3, "time_limit_s": 8}
SYSTEMS = ("raft", "2pc")


@given(data=st.data())
@settings(max_examples=settings().max_examples // 5)
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_plan_can_be_run_and_ends_in_time(
    system: str, data: st.DataObject
) -> None:
    drawn = data.draw(strategies.plans(system, **SIM))
    asked = experiment(system, {**SIM, "plan": drawn})
    _, schedule, _ = assembling.prepare(asked.spec, asked.plan)
    assert [step.as_data() for step in schedule.plan] == drawn
    assert len(drawn) <= strategies.STEPS_MAX
    begins = [step.at.time_s or 0.0 for step in schedule.plan]
    assert begins == sorted(begins)
    for step in schedule.plan:
        assert 0 < step.heal_after_s <= SIM["time_limit_s"] - step.at.latest_s + 0.001


@given(ask=strategies.experiments("raft", world="sim"))
@settings(max_examples=settings().max_examples // 5)
def test_every_experiment_can_be_run(ask: Ask) -> None:
    asked = experiment("raft", ask)
    assert asked.spec.workload == ask["workload"]
    assembling.prepare(asked.spec, asked.plan)


@given(ask=strategies.experiments("raft", world="sim", seed=4, workload="set"))
@settings(max_examples=settings().max_examples // 10)
def test_what_was_asked_for_is_not_drawn(ask: Ask) -> None:
    assert (ask["world"], ask["seed"], ask["workload"]) == ("sim", 4, "set")


def test_kinds_of_fault_are_those_asked_for_or_all() -> None:
    def kinds(ask: Ask) -> set[str]:
        return {nemesis.kind for nemesis in strategies.armed("raft", ask).nemeses}

    assert kinds({**SIM, "nemesis": "kill,pause"}) == {"kill", "pause"}
    assert kinds(SIM) >= {"partition", "kill", "clock", "power", "rot"}


def test_plans_shrink_to_one_short_early_step() -> None:
    def strikes(plan: PlanData) -> bool:
        return any(step["fault"]["kind"] == "kill" for step in plan)

    ask: Ask = {**SIM, "nemesis": ["partition", "kill"]}
    [step] = find(strategies.plans("raft", **ask), strikes)
    assert step["at"] == {"time_s": 0.0}
    assert step["heal"] == {"after_s": strategies.SHORTEST_MS / 1000}


def test_plans_wait_for_events_where_the_system_has_some() -> None:
    def waits(plan: PlanData) -> bool:
        return any("observe" in step["at"] for step in plan)

    [step] = find(strategies.plans("raft", **SIM), waits)
    assert step["at"]["count"] == 1
    assert plans.parse([step], "plan")[0].at.latest_s < SIM["time_limit_s"]


def test_a_short_run_has_short_steps() -> None:
    ask: Ask = {"world": "sim", "nodes": 3, "time_limit_s": 0.1}
    found = find(strategies.plans("raft", **ask), lambda plan: len(plan) == 2)
    assert all(step["heal"]["after_s"] <= 0.1 for step in found)


def test_workloads_are_those_that_the_system_serves() -> None:
    drawn: set[str] = set()

    @given(strategies.workloads("2pc"))
    def draw(name: str) -> None:
        drawn.add(name)
        registry.find("workload", name)

    draw()
    assert "commit" in drawn
    assert "consensus" not in drawn
    assert find(strategies.workloads("launch:true"), lambda _: True) == "register"
    assert find(strategies.workloads("raft"), lambda _: True) == "register"


def test_an_impossible_run_is_refused_when_a_plan_is_drawn() -> None:
    strategy = strategies.plans("raftt", **SIM)
    with pytest.raises(UsageError, match="did you mean raft"):
        find(strategy, lambda _: True)
