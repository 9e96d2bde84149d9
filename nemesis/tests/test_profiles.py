"""Profiles keep what they promise, and swarms leave something out."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.faults import profiles
from harness.faults.drawing import draw
from harness.faults.fault import Skip
from harness.faults.force import Force
from harness.faults.nemesis import Patterned
from harness.faults.plan import validate
from harness.faults.profiles import GENTLE, HARD, PROFILES, STANDARD, Profile
from harness.faults.targets import BREAK, KEEP, aim
from harness.options import Words
from harness.registry import plugins
from harness.worlds.events import Observed
from nemesis.tests.fake_cluster import FakeCluster

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.faults.cluster import Cluster
    from harness.faults.fault import Strike
    from harness.faults.force import Grip
    from harness.faults.nemesis import Nemesis
    from harness.faults.plan import Plan, Step
    from harness.faults.profiles import Regime

NODES = list(FakeCluster.nodes)
PLUGINS = plugins("nemesis")
MOMENTS = (Observed("became_leader"),)
SEEDS = st.integers(0, 10**6)


def regime(
    profile: Profile, kinds: Sequence[str] = (), swarm_seed: int | None = None
) -> Regime:
    swarm = None if swarm_seed is None else Random(swarm_seed)
    chosen = {kind: PLUGINS[kind] for kind in kinds or profile.kinds or sorted(PLUGINS)}
    return profiles.regime(profile, chosen, {}, swarm)


def nemeses(regime: Regime) -> dict[str, Nemesis]:
    out = {k: PLUGINS[k].factory(regime.options.get(k, {})) for k in regime.kinds}
    for nemesis in out.values():
        if isinstance(nemesis, Patterned):
            nemesis.patterns = ("append_entries",)
    return out


def plan_of(regime: Regime, seed: int, limit_s: float = 30.0) -> Plan:
    made = nemeses(regime)
    rhythm = regime.rhythm
    return draw(seed, made, NODES, time_limit_s=limit_s, moments=MOMENTS, rhythm=rhythm)


def span(step: Step) -> tuple[float, float]:
    """From when it may strike until it is healed at the latest."""
    return step.at.time_s or 0.0, step.at.latest_s + step.heal_after_s


@given(SEEDS, st.sampled_from([None, 1, 2, 3]), st.booleans())
def test_gentle_faults_come_one_at_a_time(
    seed: int, swarm: int | None, everything: bool
) -> None:
    plan = plan_of(regime(GENTLE, sorted(PLUGINS) if everything else (), swarm), seed)
    end_s = 0.0
    for step in plan:
        begin_s, until_s = span(step)
        assert begin_s >= end_s - 0.002, f"seed {seed}"
        end_s = until_s


async def standing_after(plan: Plan, made: dict[str, Nemesis]) -> list[bool]:
    """For each strike of a plan: whether a majority was left after it."""
    force = Force(cast("Cluster", FakeCluster()))
    events = [
        (at_s, not begins, i)
        for i, step in enumerate(plan)
        for at_s, begins in ((step.at.latest_s, True), (span(step)[1], False))
    ]
    struck: dict[int, tuple[Strike, Grip]] = {}
    left = []
    for _, ends, i in sorted(events):
        nemesis, grip = made[plan[i].fault.kind], force.grip(i)
        if ends and i in struck:
            strike, grip = struck.pop(i)
            await grip.stop_work()
            await nemesis.heal(strike, grip)
            await grip.release()
        elif not ends:
            try:
                strike = await nemesis.strike(aim(plan[i].fault, ("n2",)), grip)
            except Skip:
                continue
            struck[i] = strike, grip
            left.append(grip.standing().has_majority())
    return left


KINDS = ("partition", "kill", "pause", "loss", "duplicate")
"""Kinds whose strikes and heals take no time in a cluster of dictionaries."""


@given(SEEDS, st.sampled_from([None, 1, 2, 3]))
@settings(max_examples=settings().max_examples // 2)
def test_gentle_faults_always_leave_a_majority(seed: int, swarm: int | None) -> None:
    gentle = regime(GENTLE, KINDS, swarm)
    left = asyncio.run(standing_after(plan_of(gentle, seed), nemeses(gentle)))
    assert all(left), f"seed {seed}"


def test_hard_faults_break_the_majority_often_and_standard_ones_less() -> None:
    def part_broken(profile: Profile) -> float:
        made = regime(profile, ("partition", "kill", "pause"))
        left = [
            kept
            for seed in range(12)
            for kept in asyncio.run(standing_after(plan_of(made, seed), nemeses(made)))
        ]
        return left.count(False) / len(left)

    hard, standard = part_broken(HARD), part_broken(STANDARD)
    assert 0 < standard < 0.5 < hard


def test_hard_faults_are_many_and_most_overlap() -> None:
    def steps_and_company(profile: Profile) -> tuple[int, float]:
        count = met = 0
        for seed in range(10):
            spans = [span(step) for step in plan_of(regime(profile, KINDS), seed)]
            count += len(spans)
            met += sum(
                any(b < end and begin < e for j, (b, e) in enumerate(spans) if i != j)
                for i, (begin, end) in enumerate(spans)
            )
        return count, met / count

    (gentle, alone), (standard, some), (hard, most) = map(
        steps_and_company, (GENTLE, STANDARD, HARD)
    )
    assert hard > standard > gentle
    assert most > some > alone == 0.0
    assert most > 0.9


@given(SEEDS, st.sampled_from(list(PROFILES.values())), st.integers(1, 20))
def test_every_kind_strikes_if_there_is_a_second_for_each(
    seed: int, profile: Profile, count: int
) -> None:
    kinds = sorted(PLUGINS)[:count]
    slow = 4.0 if profile is GENTLE else 0.0  # which keeps quiet in between
    plan = plan_of(regime(profile, kinds), seed, 5.0 + (2 + slow) * len(kinds))
    assert {step.fault.kind for step in plan} == set(kinds), f"seed {seed}"


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)
@given(seed=SEEDS, swarm=st.none() | SEEDS)
@settings(max_examples=settings().max_examples // 3)  # for each of three profiles
def test_what_a_profile_or_swarm_draws_is_possible(
    profile: Profile, seed: int, swarm: int | None
) -> None:
    made = regime(profile, (), swarm)
    assert made == regime(profile, (), swarm)
    plan = plan_of(made, seed)
    assert plan == plan_of(made, seed)
    validate(plan, nemeses(made), NODES)


def test_a_swarm_leaves_out_kinds_words_and_amounts_each_now_and_then() -> None:
    swarms = [regime(STANDARD, sorted(PLUGINS), seed) for seed in range(60)]
    for kind in PLUGINS:
        count = sum(kind in swarm.kinds for swarm in swarms)
        assert 15 < count < 45, kind
    rhythms = {swarm.rhythm for swarm in swarms}
    assert len(rhythms) == len(swarms)
    kills = [
        swarm.options["kill"]["targets"] for swarm in swarms if "kill" in swarm.kinds
    ]
    assert any("leader" in targets for targets in kills)
    assert any("leader" not in targets for targets in kills)
    jumps = [
        float(swarm.options["clock"].get("bump_max_s", "60"))
        for swarm in swarms
        if "clock" in swarm.kinds
    ]
    assert all(6 <= jump <= 60 for jump in jumps)
    assert len(set(jumps)) > len(jumps) / 2


def test_a_swarm_of_a_gentle_profile_is_gentle_and_what_the_user_set_stays() -> None:
    kill = {"kill": PLUGINS["kill"]}
    for seed in range(20):
        gentle = profiles.regime(GENTLE, kill, {}, Random(seed))
        assert gentle.options["kill"]["targets"] == KEEP
        assert not gentle.rhythm.overlaps
        fixed = profiles.regime(HARD, kill, {"kill": {"targets": "one"}}, Random(seed))
        assert fixed.options["kill"]["targets"] == "one"


def words() -> Iterator[tuple[str, str, str]]:
    for profile in PROFILES.values():
        for option, chosen in profile.words.items():
            for word in dict.fromkeys(chosen):
                yield profile.name, option, word


@pytest.mark.parametrize(("profile", "option", "word"), list(words()))
def test_every_word_of_a_profile_is_known_to_some_kind(
    profile: str, option: str, word: str
) -> None:
    assert any(
        isinstance(known.kind, Words) and word in known.kind.known
        for plugin in PLUGINS.values()
        for known in plugin.options
        if known.name == option
    )


def test_every_kind_that_has_targets_is_told_whom_to_spare() -> None:
    for kind, plugin in PLUGINS.items():
        for option in plugin.options:
            if option.name == "targets":
                assert GENTLE.options(plugin)["targets"] == KEEP, kind
                breaks = BREAK in HARD.options(plugin)["targets"]
                # Rot damages a minority at most.
                harmless = kind == "rot" or plugin.factory({}).background
                assert breaks != harmless, kind
