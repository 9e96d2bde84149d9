"""Plans are pure data from a seed, and survive YAML."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.faults.drawing import BACKGROUND_S_MIN, RELAY_S, draw, end_s
from harness.faults.fault import Fault
from harness.faults.plan import Plan, Step, Trigger, dump, parse, tracks, validate
from harness.faults.profiles import Rhythm
from harness.faults.schedule import Schedule, build
from harness.faults.targets import OBSERVER
from harness.workload.generator import (
    NEMESIS,
    Board,
    Context,
    Invocation,
    Pending,
    Seeds,
)
from harness.worlds.events import Logged, Observed, Passed
from nemesis.clock import Clock
from nemesis.kill import Kill
from nemesis.partition import Partition
from nemesis.pause import Pause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.faults.nemesis import Nemesis
    from harness.worlds.events import Event, Where

NODES = ["n1", "n2", "n3", "n4", "n5"]


def everything() -> dict[str, Nemesis]:
    return {
        nemesis.kind: nemesis
        for nemesis in (Partition({}), Kill({}), Pause({}), Clock({}))
    }


MOMENTS = (Observed("became_leader"), Logged("snapshot .* begins"))


def random_plan(
    seed: int, limit_s: float, count: int = 5, moments: Sequence[Event] = MOMENTS
) -> Plan:
    nodes = [f"n{i + 1}" for i in range(count)]
    return draw(seed, everything(), nodes, time_limit_s=limit_s, moments=moments)


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
        assert step.at.latest_s + step.heal_after_s <= limit_s + 0.002


@given(seed=st.integers(), limit_s=st.floats(1, 300))
def test_two_faults_of_one_kind_never_overlap(seed: int, limit_s: float) -> None:
    ends: dict[str, float] = {}
    for step in random_plan(seed, limit_s):
        begin = step.at.time_s
        assert begin is not None
        assert begin >= ends.get(step.fault.kind, 0.0)
        ends[step.fault.kind] = step.at.latest_s + step.heal_after_s


@given(seed=st.integers(), limit_s=st.floats(10, 60))
def test_a_fault_that_is_relayed_ends_just_after_the_next_of_its_kind_begins(
    seed: int, limit_s: float
) -> None:
    rhythm = Rhythm((0.5, 1.5), (0.1, 0.3), 0.3, 0.3, relay_chance=0.9)
    plan = draw(seed, everything(), NODES, time_limit_s=limit_s, rhythm=rhythm)
    validate(plan, everything(), NODES)
    relays = 0
    last: dict[str, float] = {}
    for step in plan:
        begin_s, kind = step.at.time_s, step.fault.kind
        assert begin_s is not None
        end_s = begin_s + step.heal_after_s
        assert end_s <= limit_s + 0.002
        overlap_s = last.get(kind, 0.0) - begin_s
        assert overlap_s <= RELAY_S[1] + 0.002
        assert overlap_s <= 0.002 or kind != "clock"
        relays += overlap_s > 0.002
        last[kind] = max(end_s, last.get(kind, 0.0))
    assert relays or len(plan) < 6, seed


@given(seed=st.integers(), limit_s=st.floats(1, 300))
def test_a_drawn_plan_has_one_track_a_kind(seed: int, limit_s: float) -> None:
    plan = random_plan(seed, limit_s)
    kinds = [step.fault.kind for step in plan]
    assert len(set(zip(kinds, tracks(plan), strict=True))) == len(set(kinds))


def test_steps_that_overlap_or_wait_for_what_nobody_foresees_run_on_their_own() -> None:
    def step(kind: str, **at: Any) -> Step:
        return Step(Trigger(**at), Fault(kind, {"target": ["n1"]}), 2.0)

    plan = (
        step("kill", time_s=0.0),
        step("kill", time_s=1.0),
        step("pause", time_s=1.5),
        step("kill", time_s=2.0),
        step("kill", ops=10),
        step("kill", event=Observed("voted")),
        step("kill", time_s=2.5, event=Observed("voted"), within_s=1.0),
        step("kill", time_s=3.0),
        step("kill", time_s=9.0),
    )
    assert tracks(plan) == [0, 1, 2, 0, 3, 4, 5, 1, 0]


@given(seed=st.integers())
def test_the_next_clock_fault_comes_when_monotonic_clocks_have_returned(
    seed: int,
) -> None:
    nemesis, felt_until_s = Clock({}), 0.0
    plan = draw(seed, {"clock": nemesis}, NODES, time_limit_s=120, moments=MOMENTS)
    for step in plan:
        assert step.at.time_s is not None
        assert step.at.time_s >= felt_until_s - 0.001
        end_s = step.at.latest_s + step.heal_after_s
        felt_until_s = end_s + nemesis.lingers_s(step.fault, step.heal_after_s)


@given(st.integers(), st.floats(0.001, 100), st.floats(0.001, 60))
def test_jumps_of_wall_and_leaps_of_monotonic_clocks_have_bounds_of_their_own(
    seed: int, bump_max_s: float, leap_max_s: float
) -> None:
    limits = {"wall": bump_max_s, "mono": leap_max_s}
    options = {"bump_max_s": f"{bump_max_s!r}", "leap_max_s": f"{leap_max_s!r}"}
    random, nemesis = Random(seed), Clock({"modes": "bump", **options})
    for _ in range(20):
        fault = nemesis.draw(random, NODES)
        jump_s = fault.number("offset_ms") / 1000
        assert abs(jump_s) <= limits[fault.text("clock")] * 1.001
        assert jump_s > 0 or fault.text("clock") == "wall"


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


def test_some_faults_wait_for_a_moment_and_some_of_these_strike_its_observer() -> None:
    steps = [step for seed in range(50) for step in random_plan(seed, 30.0)]
    aimed = [step for step in steps if step.at.event is not None]
    assert {step.at.event for step in aimed} == set(MOMENTS)
    assert 0.3 < len(aimed) / len(steps) < 0.5
    observers = [s for s in aimed if s.fault.params.get("target") == OBSERVER]
    assert {step.fault.kind for step in observers} == set(everything())
    assert all(s in aimed for s in steps if s.fault.params.get("target") == OBSERVER)


@given(seed=st.integers())
def test_without_moments_every_fault_has_its_time(seed: int) -> None:
    assert all(step.at.event is None for step in random_plan(seed, 30.0, 5, ()))


def test_what_makes_other_faults_worse_lasts_and_has_company() -> None:
    alone = together = 0
    for seed in range(100):
        plan = random_plan(seed, 30.0)
        for clock in (step for step in plan if step.fault.kind == "clock"):
            assert clock.heal_after_s >= BACKGROUND_S_MIN
            begin, end = clock.at.time_s or 0, clock.at.latest_s + clock.heal_after_s
            others = (step.at.time_s or 0 for step in plan if step is not clock)
            met = any(begin <= other < end for other in others)
            alone, together = alone + (not met), together + met
    assert together > 2 * alone


def test_what_strikes_beside_a_wrong_clock_is_often_for_the_nodes_that_have_it() -> (
    None
):
    same = others = 0
    for seed in range(60):
        plan = draw(seed, everything(), NODES, time_limit_s=30)
        for clock in (step for step in plan if step.fault.kind == "clock"):
            begin_s, until_s = clock.at.time_s or 0.0, end_s(clock)
            target = clock.fault.params["target"]
            for step in plan:
                at_s = step.at.time_s or 0.0
                if step.fault.kind != "clock" and begin_s <= at_s < until_s:
                    meets = step.fault.params.get("target") == target
                    same, others = same + meets, others + (not meets)
    assert others > same > others / 2, (same, others)


def test_faults_meet_at_nodes_only_as_far_as_the_user_lets_them() -> None:
    one = {"clock": Clock({}), "kill": Kill({"targets": "one"})}
    rings = {"clock": Clock({}), "partition": Partition({"shapes": "ring"})}
    for seed in range(20):
        for step in draw(seed, one, NODES, time_limit_s=30):
            target = step.fault.params["target"]
            assert step.fault.kind == "clock" or len(target) == 1, seed  # type: ignore[arg-type]
        for step in draw(seed, rings, NODES, time_limit_s=30):
            assert step.fault.params.get("shape", "ring") == "ring", seed


def test_a_kind_that_waits_for_events_does_so_each_time_and_strikes_the_observer() -> (
    None
):
    nemeses = {"kill": Kill({"events": "became_leader"}), "pause": Pause({})}
    for seed in range(20):
        plan = draw(seed, nemeses, NODES, time_limit_s=30, moments=MOMENTS)
        for step in plan:
            if step.fault.kind == "kill":
                assert step.at.event == MOMENTS[0], seed
                assert step.fault.params["target"] == OBSERVER, seed
        assert any(step.fault.kind == "kill" for step in plan), seed
    unknown = {"kill": Kill({"events": "became_lader"})}
    with pytest.raises(UsageError, match=r"kill.events: .* did you mean became_leader"):
        draw(1, unknown, NODES, time_limit_s=30, moments=MOMENTS)


@pytest.mark.parametrize("word", ["all", "leader"])
def test_what_is_for_the_leader_or_all_alone_is_not_for_an_observer(word: str) -> None:
    nemeses = {"kill": Kill({"targets": word, "ways": "plain"})}
    plan = draw(1, nemeses, NODES, time_limit_s=60, moments=MOMENTS)
    expected = NODES if word == "all" else word
    assert any(step.at.event is not None for step in plan)
    assert all(step.fault.params["target"] == expected for step in plan)


@given(seed=st.integers(), limit_s=st.floats(1, 120))
@settings(max_examples=settings().max_examples // 4)  # writing YAML is slow
def test_a_plan_survives_yaml(seed: int, limit_s: float) -> None:
    plan = random_plan(seed, limit_s)
    assert parse(yaml.safe_load(dump(plan)), "plan.yaml") == plan


def test_triggers_of_every_sort_survive_yaml() -> None:
    triggers = (
        Trigger(time_s=1.5),
        Trigger(ops=100),
        Trigger(event=Observed("became_leader", "n2"), count=2),
        Trigger(event=Observed("became_leader")),
        Trigger(time_s=2.0, event=Observed("voted"), count=3, within_s=0.5),
        Trigger(time_s=2.0, event=Observed("voted", "n1"), within_s=0.5),
        Trigger(event=Logged(r"term=\d+: 'leads'", "n2"), count=2),
        Trigger(time_s=2.0, event=Logged("snapshot"), within_s=0.5),
        Trigger(event=Passed('"type":"vote"', "n1", "n2"), count=3),
        Trigger(time_s=2.0, event=Passed("vote", receiver="n2"), within_s=0.5),
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
        ({"at": {"observe": "x", "time_s": 1}}, "`at` must be"),
        ({"at": {"observe": "x", "within_s": 1}}, "`at` must be"),
        ({"at": {"time_s": 1, "within_s": 1}}, "`at` must be"),
        ({"fault": {"kind": "kill", "target": "observer"}}, "needs a trigger that"),
        ({"at": {"observe": "x", "node": "n9"}}, "no node 'n9'"),
        ({"at": {"observe": "x", "log": "y"}}, "`at` must be"),
        ({"at": {"log": ""}}, "`at` must be"),
        ({"at": {"log": 7}}, "`at` must be"),
        ({"at": {"log": "x", "time_s": 1}}, "`at` must be"),
        ({"at": {"log": "x", "node": "n9"}}, "no node 'n9'"),
        ({"at": {"log": "(x"}}, "step 1: log: '(x' is no regular expression"),
        ({"at": {"log": "x*"}}, "'x*' matches every line"),
        ({"at": {"log": "x" * 501}}, "at most 500 characters"),
        ({"at": {"message": "x", "node": "n1"}}, "`at` must be"),
        ({"at": {"message": "x", "from": "n9"}}, "no node 'n9'"),
        ({"at": {"message": "x", "to": "n9"}}, "no node 'n9'"),
        ({"at": {"message": "x", "from": "n1", "to": "n1"}}, "nothing to itself"),
        ({"at": {"message": "(x"}}, "step 1: message: '(x' is no regular expression"),
        ({"at": {"message": "x*"}}, "'x*' matches every message"),
        ({"heal": {}}, "a number from 0.001"),
        ({"heal": {"after_s": 0}}, "a number from 0.001"),
        ({"heal": {"after_s": float("inf")}}, "a number from 0.001"),
        ({"fault": {"target": ["n1"]}}, "needs a `kind`"),
        ({"fault": {"kind": "flood"}}, "not among this run's nemeses"),
        ({"fault": {"kind": "kill", "target": ["n6"]}}, "no node 'n6'"),
        (
            {"fault": {"kind": "kill", "target": "n1"}},
            "target must be 'leader', 'observer', 'keep-majority', 'break-majority', a "
            "list of nodes, or",
        ),
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
        (
            {
                "fault": {
                    "kind": "clock",
                    "mode": "bump",
                    "clock": "mono",
                    "target": "leader",
                    "offset_ms": 60_001,
                }
            },
            "offset_ms must be ",
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


def test_an_operation_for_the_nemesis_is_a_plain_invocation() -> None:
    heal = build({}, NODES, seed=1, time_limit_s=1).heal()
    assert isinstance(heal, Invocation)
    assert heal.thread == "nemesis"


# Plans at work

VOTED = Observed("voted")


class Clockwork:
    """A plan's flow, asked again and again in virtual time."""

    def __init__(self, *steps: Step) -> None:
        self.seen: dict[tuple[Event, str], int] = {}
        schedule = Schedule(steps, everything())
        self.flow = schedule.generator(self.sightings).start(Seeds("test"))
        self.board = Board(0, 1)
        self.now_ns = 0

    def sightings(self, event: Event) -> dict[Where, int]:
        if isinstance(event, Passed):
            return {
                link: self.seen.get((event, " ".join(link)), 0)
                for link in itertools.permutations(NODES, 2)
                if event.is_on(link)
            }
        nodes = [node for node in NODES if event.is_at(node)]
        anywhere = replace(event, node=None)
        return {(node,): self.seen.get((anywhere, node), 0) for node in nodes}

    def happen(self, node: str, event: Event = VOTED) -> None:
        self.seen[event, node] = self.seen.get((event, node), 0) + 1

    def run_to(self, time_s: float) -> list[tuple[float, str, Any]]:
        """The operations that the flow starts until `time_s`: (time, f, value)."""
        started = []
        threads = self.board.bit(NEMESIS)
        while self.now_ns <= time_s * 1e9:
            ctx = Context(self.now_ns, threads, threads, self.board)
            step = self.flow.next(ctx)
            if isinstance(step, Invocation) and (step.time_ns or 0) <= self.now_ns:
                self.flow.take(step)
                started.append((round(self.now_ns / 1e9, 2), step.f, step.value))
            elif isinstance(step, Invocation | Pending):
                until = step.time_ns if isinstance(step, Invocation) else step.until_ns
                assert until is not None
                assert until > self.now_ns, "asked to be asked again at once"
                if until > time_s * 1e9:
                    break
                self.now_ns = until
            else:
                break
        self.now_ns = max(self.now_ns, int(time_s * 1e9))
        return started


KILL = Fault("kill", {"target": OBSERVER})
FOR_A_VOTE = Trigger(time_s=1.0, event=VOTED, count=2, within_s=0.5)


def test_a_step_for_a_moment_counts_from_its_time_on_and_names_the_observer() -> None:
    works = Clockwork(Step(FOR_A_VOTE, KILL, 0.3))
    for _ in range(5):
        works.happen("n1")
    assert works.run_to(1.1) == []
    works.happen("n4")
    assert works.run_to(1.2) == []
    works.happen("n4")
    assert works.run_to(2.0) == [
        (1.2, "start-kill", [0, "n4"]),
        (1.5, "stop-kill", 0),
    ]


def test_a_moment_that_does_not_come_holds_nothing_up() -> None:
    later = Step(Trigger(time_s=1.1), Fault("pause", {"target": ["n1"]}), 1.0)
    works = Clockwork(Step(FOR_A_VOTE, KILL, 0.3), later)
    assert works.run_to(3.0) == [
        (1.1, "start-pause", 1),
        (1.5, "start-kill", 0),
        (1.8, "stop-kill", 0),
        (2.1, "stop-pause", 1),
    ]


def test_what_others_break_while_a_step_waits_may_bring_its_event() -> None:
    election = Step(Trigger(time_s=1.1), Fault("pause", {"target": ["n1"]}), 1.0)
    works = Clockwork(Step(FOR_A_VOTE, KILL, 0.3), election)
    assert works.run_to(1.2) == [(1.1, "start-pause", 1)]
    works.happen("n2")
    works.happen("n3")
    assert works.run_to(1.4) == [(1.2, "start-kill", [0, "n2"])]


def test_a_step_without_a_limit_holds_back_those_after_it() -> None:
    waits = Step(Trigger(event=VOTED), KILL, 0.3)
    later = Step(Trigger(time_s=1.1), Fault("pause", {"target": ["n1"]}), 1.0)
    works = Clockwork(waits, later)
    assert works.run_to(2.0) == []
    works.happen("n2")
    started = [(2.0, "start-kill", [0, "n2"]), (2.0, "start-pause", 1)]
    assert works.run_to(2.1) == started


def test_a_step_that_waits_for_a_moment_holds_up_no_healing() -> None:
    first = Step(Trigger(time_s=0.9), Fault("pause", {"target": ["n1"]}), 0.3)
    works = Clockwork(first, Step(FOR_A_VOTE, KILL, 0.3))
    assert works.run_to(1.3) == [(0.9, "start-pause", 0), (1.2, "stop-pause", 0)]
    works.happen("n2")
    works.happen("n3")
    assert works.run_to(1.4) == [(1.3, "start-kill", [1, "n2"])]


def test_a_trigger_without_a_time_counts_from_the_start_and_waits_for_ever() -> None:
    trigger = Trigger(event=Observed("voted", "n2"), count=2)
    works = Clockwork(Step(trigger, KILL, 0.3))
    works.happen("n1")
    works.happen("n1")
    works.happen("n2")
    assert works.run_to(50.0) == []
    works.happen("n2")
    assert works.run_to(50.1) == [(50.0, "start-kill", [0, "n2"])]


def test_a_step_waits_for_a_line_in_a_log_as_for_an_observation() -> None:
    line = Logged("snapshot")
    works = Clockwork(Step(Trigger(event=line, count=2), KILL, 0.3))
    works.happen("n1", line)
    works.happen("n3")
    assert works.run_to(5.0) == []
    works.happen("n3", line)
    assert works.run_to(5.1) == [(5.0, "start-kill", [0, "n1"])]


def test_a_step_waits_for_a_message_and_strikes_the_ends_of_its_link() -> None:
    vote = Passed("vote", receiver="n2")
    works = Clockwork(Step(Trigger(event=vote, count=2), KILL, 0.3))
    works.happen("n3 n2", vote)
    works.happen("n2 n3", vote)
    assert works.run_to(5.0) == []
    works.happen("n3 n2", vote)
    assert works.run_to(5.1) == [(5.0, "start-kill", [0, "n3", "n2"])]
