"""Plans are pure data from a seed, and survive YAML."""

from __future__ import annotations

import contextlib
import itertools
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.generator import Invocation
from nemesis import plan as plans
from nemesis.clock import Clock
from nemesis.kill import Kill
from nemesis.partition import Partition
from nemesis.pause import Pause
from nemesis.plan import Plan, Step, Trigger, draw, dump, parse, validate
from nemesis.schedule import build

if TYPE_CHECKING:
    from nemesis.fault import Nemesis

NODES = ["n1", "n2", "n3", "n4", "n5"]


def everything() -> dict[str, Nemesis]:
    return {
        nemesis.kind: nemesis
        for nemesis in (Partition({}), Kill({}), Pause({}), Clock({}))
    }


def random_plan(seed: int, limit_s: float, count: int = 5) -> Plan:
    nodes = [f"n{i + 1}" for i in range(count)]
    return draw(seed, everything(), nodes, time_limit_s=limit_s)


@given(seed=st.integers(), limit_s=st.floats(1, 300), count=st.integers(2, 9))
def test_the_same_seed_draws_the_same_plan(
    seed: int, limit_s: float, count: int
) -> None:
    assert random_plan(seed, limit_s, count) == random_plan(seed, limit_s, count)


@given(seed=st.integers(), limit_s=st.floats(0.5, 300), count=st.integers(2, 9))
def test_every_fault_is_possible_and_ends_before_the_time_is_up(
    seed: int, limit_s: float, count: int
) -> None:
    plan = random_plan(seed, limit_s, count)
    validate(plan, everything(), [f"n{i + 1}" for i in range(count)])
    for step in plan:
        assert step.at.time_s is not None
        assert step.heal_after_s > 0
        assert step.at.time_s + step.heal_after_s <= limit_s + 0.002


@given(seed=st.integers(), limit_s=st.floats(1, 300))
def test_two_faults_of_one_kind_never_overlap(seed: int, limit_s: float) -> None:
    ends: dict[str, float] = {}
    for step in random_plan(seed, limit_s):
        begin = step.at.time_s
        assert begin is not None
        assert begin >= ends.get(step.fault.kind, 0.0)
        ends[step.fault.kind] = begin + step.heal_after_s


@given(seed=st.integers())
def test_half_a_minute_has_room_for_every_kind(seed: int) -> None:
    kinds = {step.fault.kind for step in random_plan(seed, 30.0)}
    assert kinds == {"partition", "kill", "pause", "clock"}


def test_faults_overlap_now_and_then() -> None:
    def overlaps(plan: Plan) -> bool:
        spans = [(s.at.time_s or 0, (s.at.time_s or 0) + s.heal_after_s) for s in plan]
        return any(b[0] < a[1] for a, b in itertools.pairwise(spans))

    count = sum(overlaps(random_plan(seed, 30.0)) for seed in range(50))
    assert 20 <= count <= 50


@given(seed=st.integers(), limit_s=st.floats(1, 120))
@settings(deadline=None)  # writing YAML is slow, and its time no concern of ours
def test_a_plan_survives_yaml(seed: int, limit_s: float) -> None:
    plan = random_plan(seed, limit_s)
    assert parse(yaml.safe_load(dump(plan)), "plan.yaml") == plan


def test_triggers_of_every_sort_survive_yaml() -> None:
    triggers = (
        Trigger(time_s=1.5),
        Trigger(ops=100),
        Trigger(observe="became_leader", node="n2", count=2),
        Trigger(observe="became_leader"),
    )
    fault = Kill({}).draw(Random(0), NODES)
    plan = tuple(Step(trigger, fault, 1.0) for trigger in triggers)
    assert parse(yaml.safe_load(dump(plan)), "plan.yaml") == plan


STEP: dict[str, Any] = {
    "at": {"time_s": 1},
    "fault": {"kind": "kill", "target": ["n1"]},
    "heal": {"after_s": 1},
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"at": None}, "`at` must be"),
        ({"at": {"time_s": -1}}, "`at` must be"),
        ({"at": {"time_s": True}}, "`at` must be"),
        ({"at": {"time_s": 1, "ops": 2}}, "`at` must be"),
        ({"at": {"observe": "x", "count": 0}}, "`at` must be"),
        ({"at": {"observe": "x", "node": "n9"}}, "no node 'n9'"),
        ({"heal": {}}, "above zero"),
        ({"heal": {"after_s": 0}}, "above zero"),
        ({"heal": {"after_s": float("inf")}}, "above zero"),
        ({"fault": {"target": ["n1"]}}, "needs a `kind`"),
        ({"fault": {"kind": "flood"}}, "not among this run's nemeses"),
        ({"fault": {"kind": "kill", "target": ["n6"]}}, "no node 'n6'"),
        ({"fault": {"kind": "kill", "target": "n1"}}, "must be 'leader' or a list"),
        ({"fault": {"kind": "kill", "targets": []}}, "no parameter 'targets'"),
        ({"fault": {"kind": "partition"}}, "either `cut` or `target`"),
        ({"fault": {"kind": "partition", "cut": [["n1"]]}}, "not a [from, to] link"),
        (
            {"fault": {"kind": "clock", "mode": "jump", "clock": "wall"}},
            "mode must be one of",
        ),
        (
            {
                "fault": {
                    "kind": "clock",
                    "mode": "bump",
                    "clock": "mono",
                    "target": "leader",
                    "offset_ms": -5,
                }
            },
            "never jumps backwards",
        ),
        ({"when": 3}, "a step has"),
    ],
)
def test_a_senseless_step_is_refused_with_its_reason(
    change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=r".") as refused:
        validate(parse([{**STEP, **change}], "plan.yaml"), everything(), NODES)
    assert complaint in str(refused.value)


def test_a_plan_that_is_no_list_is_refused() -> None:
    with pytest.raises(UsageError, match="a plan is a list of steps"):
        parse({"steps": []}, "plan.yaml")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["at", "fault", "heal", "kind",
                                                       "time_s", "after_s", "x"]),
                                      inner, max_size=4), max_leaves=12))  # fmt: skip
def test_no_data_makes_the_parser_crash(data: Any) -> None:
    with contextlib.suppress(UsageError):
        validate(parse(data, "plan.yaml"), everything(), NODES)


def test_broken_yaml_names_its_line() -> None:
    with pytest.raises(UsageError, match=r"plan.yaml: line 2"):
        plans.load_yaml("a: 1\nb: [", "plan.yaml")


def test_an_operation_for_the_nemesis_is_a_plain_invocation() -> None:
    heal = build({}, NODES, seed=1, time_limit_s=1).heal()
    assert isinstance(heal, Invocation)
    assert heal.thread == "nemesis"
