from __future__ import annotations

import bisect
import itertools
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.faults import plan as plans
from harness.faults.fault import Fault
from harness.faults.plan import Plan, Step, Trigger
from harness.faults.retrigger import (
    AGO_S_MAX,
    LATE_S_MAX,
    Before,
    Sighting,
    retrigger,
)
from harness.worlds.events import Event, Logged, Observed, Passed

EVENTS: tuple[Event, ...] = (
    Observed("voted"),
    Observed("voted", "n1"),
    Logged(r"elected in term \S+", "n2"),
    Passed('"type":"vote"', "n1", "n2"),
)

milliseconds = st.integers(0, 20_000).map(lambda ms: ms / 1e3)


@st.composite
def triggers(draw: st.DrawFn) -> Trigger:
    match draw(st.sampled_from(["time", "time", "time", "ops", "event"])):
        case "time":
            return Trigger(time_s=draw(milliseconds))
        case "ops":
            return Trigger(ops=draw(st.integers(0, 1000)))
        case _:
            event = draw(st.sampled_from(EVENTS))
            return Trigger(draw(milliseconds), None, event, 2, within_s=0.7)


@st.composite
def drawn_plans(draw: st.DrawFn) -> Plan:
    steps = draw(
        st.lists(
            st.builds(
                Step,
                triggers(),
                st.sampled_from([Fault("kill", {}), Fault("pause", {})]),
                st.integers(1, 3_000).map(lambda ms: ms / 1e3),
            ),
            max_size=8,
        )
    )
    return tuple(sorted(steps, key=lambda step: step.at.time_s or 0.0))


def seen_at(event: Observed, times_s: list[float], began_s: float) -> list[Sighting]:
    """The last of these times before `began_s`, as a record tells of it."""
    before = times_s[: bisect.bisect_right(times_s, began_s)]
    if not before:
        return []
    since_s = before[-2] if len(before) > 1 else 0.0
    return [Sighting(event, before[-1], since_s, began_s / len(before))]


@st.composite
def recorded(draw: st.DrawFn) -> tuple[Plan, dict[int, Before], dict[str, list[float]]]:
    """A plan, what came before its steps, and all events by the name of their kind."""
    plan = draw(drawn_plans())
    times_s = {
        kind: sorted(draw(st.sets(milliseconds, max_size=30))) for kind in ("a", "b")
    }
    before = {}
    for number, step in enumerate(plan):
        began_s = (step.at.time_s or 0.0) + draw(st.sampled_from([0.0, 0.001, 0.04]))
        seen = [
            sighting
            for kind, all_s in times_s.items()
            for sighting in seen_at(Observed(kind), all_s, began_s)
        ]
        if draw(st.booleans()) or number == 0:
            before[number] = Before(began_s, seen)
    return plan, before, times_s


@given(recorded())
def test_only_triggers_that_were_times_change(
    record: tuple[Plan, dict[int, Before], dict[str, list[float]]],
) -> None:
    plan, before, _ = record
    rewritten = retrigger(plan, before)
    assert len(rewritten) == len(plan)
    for old, new in zip(plan, rewritten, strict=True):
        assert (new.fault, new.heal_after_s) == (old.fault, old.heal_after_s)
        if old.at.event is not None or old.at.ops is not None:
            assert new == old
    assert retrigger(rewritten, before) == rewritten
    assert retrigger(plan, {}) == plan


@given(recorded())
def test_a_rewritten_plan_is_read_back_from_yaml(
    record: tuple[Plan, dict[int, Before], dict[str, list[float]]],
) -> None:
    plan, before, _ = record
    rewritten = retrigger(plan, before)
    assert plans.parse(yaml.safe_load(plans.dump(rewritten)), "plan") == rewritten


@given(recorded())
def test_a_new_trigger_waits_for_the_event_that_came_before_the_step(
    record: tuple[Plan, dict[int, Before], dict[str, list[float]]],
) -> None:
    plan, before, times_s = record
    for number, (old, new) in enumerate(
        zip(plan, retrigger(plan, before), strict=True)
    ):
        if new == old:
            continue
        event, time_s, within_s = new.at.event, new.at.time_s, new.at.within_s
        assert isinstance(event, Observed)
        assert time_s is not None
        assert within_s is not None
        all_s, began_s = times_s[event.kind], before[number].began_s
        # If the run is the same again, the first one of its kind that is seen is it.
        first_s = all_s[bisect.bisect_left(all_s, time_s)]
        assert first_s == max(at_s for at_s in all_s if at_s <= began_s)
        assert began_s - AGO_S_MAX <= first_s <= time_s + within_s
        assert time_s + within_s <= began_s + LATE_S_MAX


@given(recorded())
def test_steps_of_a_kind_that_are_kept_apart_stay_apart(
    record: tuple[Plan, dict[int, Before], dict[str, list[float]]],
) -> None:
    plan, before, _ = record
    rewritten = retrigger(plan, before)
    for one, other in itertools.permutations(range(len(plan)), 2):
        if plan[one].fault.kind != plan[other].fault.kind:
            continue
        if apart(plan[one], plan[other]):
            assert apart(rewritten[one], rewritten[other])


def apart(one: Step, other: Step) -> bool:
    """Whether the plan has the one healed before the other begins."""
    if one.at.time_s is None or other.at.time_s is None:
        return False
    return one.at.latest_s + one.heal_after_s <= other.at.time_s


STEP = Step(Trigger(time_s=5.0), Fault("kill", {}), 1.0)


def rewritten(*seen: Sighting, step: Step = STEP, began_s: float = 5.0) -> Trigger:
    return retrigger((step,), {0: Before(began_s, seen)})[0].at


def test_a_rare_event_is_preferred_to_a_later_one_that_comes_all_the_time() -> None:
    rare = Sighting(Observed("became_leader", "n3"), 4.9, 0.5, interval_s=2.5)
    usual = Sighting(Observed("appended", "n3"), 4.996, 4.986, interval_s=0.010)
    assert rewritten(usual, rare).event == rare.event
    assert rewritten(usual).event == usual.event


def test_an_event_of_any_node_is_preferred_unless_one_node_tells_twice_as_much() -> (
    None
):
    any_node = Sighting(Observed("voted"), 4.95, 4.0, interval_s=1.0)
    one_node = Sighting(Observed("voted", "n2"), 4.95, 4.0, interval_s=1.5)
    assert rewritten(one_node, any_node).event == any_node.event
    rarer = replace(one_node, interval_s=4.0)
    assert rewritten(rarer, any_node).event == rarer.event


def test_of_a_message_and_an_observation_the_nearer_is_preferred_if_as_rare() -> None:
    message = Sighting(Passed('"type":"vote"', "n1", "n2"), 4.99, 2.0, interval_s=2.0)
    seen = Sighting(Observed("voted", "n2"), 4.9, 2.0, interval_s=2.0)
    assert rewritten(seen, message).event == message.event
    later = replace(seen, at_s=4.999)
    assert rewritten(later, message).event == later.event


@pytest.mark.parametrize(
    "sighting",
    [
        Sighting(Observed("old"), 5.0 - AGO_S_MAX - 0.01, 1.0, interval_s=100.0),
        Sighting(Observed("later"), 5.01, 1.0, interval_s=100.0),
        Sighting(Observed("usual"), 4.999, 4.998, interval_s=0.001),
        Sighting(Observed("all at once"), 5.0, 5.0, interval_s=0.0),
    ],
)
def test_an_event_that_tells_nothing_leaves_the_time(sighting: Sighting) -> None:
    assert rewritten(sighting) == STEP.at


def test_lines_of_a_log_are_counted_from_the_moment_since_which_they_are_known() -> (
    None
):
    sighting = Sighting(Logged("elected"), 4.95, 3.0, interval_s=0.5, count=3)
    assert rewritten(sighting) == Trigger(3.0, None, Logged("elected"), 3, 2.499)


def test_a_late_step_waits_for_what_it_hit_in_fact() -> None:
    sighting = Sighting(Observed("voted"), 6.25, 5.25, interval_s=2.0)
    at = rewritten(sighting, began_s=6.3)
    assert at == Trigger(5.75, None, Observed("voted"), 1, 1.049)
