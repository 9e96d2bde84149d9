"""Majorities are kept or broken as brute force would have it."""

from __future__ import annotations

import asyncio
import itertools
from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.faults.fault import Fault, Skip
from harness.faults.force import Force
from harness.faults.quorum import Standing
from harness.faults.targets import (
    BREAK,
    KEEP,
    LEADER,
    OBSERVER,
    WORDS,
    aim,
    draw_target,
    for_observer,
    resolve_target,
    validate_target,
)
from harness.worlds.network import LinkRule
from nemesis.kill import Kill
from nemesis.partition import Partition
from nemesis.tests.fake_cluster import FakeCluster, gripped

if TYPE_CHECKING:
    from collections.abc import Collection

    from harness.faults.cluster import Cluster
    from harness.faults.fault import Target
    from harness.worlds.network import Link

NODES = FakeCluster.nodes


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    nodes = [f"n{i + 1}" for i in range(draw(st.integers(1, 6)))]
    links = [(a, b) for a in nodes for b in nodes if a != b]
    cut = draw(st.sets(st.sampled_from(links), max_size=12)) if links else set()
    return Standing(nodes, draw(st.sets(st.sampled_from(nodes))), cut)


def brute_majority(standing: Standing, without: Collection[str]) -> bool:
    """Whether some set of more than half the nodes is a star, by trying every set."""
    left = [n for n in standing.nodes if n in standing.up and n not in without]
    for size in range(len(standing.nodes) // 2 + 1, len(left) + 1):
        for group in itertools.combinations(left, size):
            for hub in group:
                spokes = [(hub, n) for n in group if n != hub]
                if not {*spokes, *((b, a) for a, b in spokes)} & set(standing.cut):
                    return True
    return False


@given(standings(), st.randoms(use_true_random=False))
def test_a_majority_is_left_as_brute_force_has_it(
    standing: Standing, random: Random
) -> None:
    without = [n for n in standing.nodes if random.random() < 0.3]
    assert standing.has_majority(without) == brute_majority(standing, without)


@given(standings(), st.randoms(use_true_random=False))
def test_what_is_spared_keeps_a_majority_and_as_much_as_possible_is_struck(
    standing: Standing, random: Random
) -> None:
    order = random.sample(list(standing.nodes), len(standing.nodes))
    spare = standing.spare(order)
    if not standing.has_majority():
        assert spare == []
        return
    assert standing.has_majority(spare)
    assert set(spare) <= set(standing.up)
    for node in set(standing.up) - set(spare):
        assert not standing.has_majority([*spare, node])


@given(standings(), st.randoms(use_true_random=False))
def test_what_is_to_break_a_majority_breaks_it_and_strikes_no_more_than_that(
    standing: Standing, random: Random
) -> None:
    order = random.sample(list(standing.nodes), len(standing.nodes))
    broken = standing.breaking(order)
    assert bool(broken) == standing.has_majority()
    if broken:
        assert set(broken) <= set(standing.up)
        assert not standing.has_majority(broken)
        assert standing.has_majority(broken[:-1])


def resolved(target: Target, cluster: FakeCluster) -> tuple[tuple[str, ...], str]:
    return asyncio.run(resolve_target(target, gripped(cluster)))


def test_targets_know_what_other_strikes_hold_down_paused_or_cut_off() -> None:
    async def scenario() -> None:
        cluster = FakeCluster()
        force = Force(cast("Cluster", cluster))
        grip, other = force.grip(0), force.grip(1)
        order = ("n1", "n2", "n3", "n4", "n5")
        assert (await resolve_target({BREAK: order}, grip))[0] == ("n1", "n2", "n3")
        assert (await resolve_target({KEEP: order}, grip))[0] == ("n1", "n2")
        await other.kill(["n2"])
        assert (await resolve_target({BREAK: order}, grip))[0] == ("n1", "n3")
        assert (await resolve_target({KEEP: order}, grip))[0] == ("n1",)
        await other.pause(["n4"])
        assert (await resolve_target({BREAK: order}, grip))[0] == ("n1",)
        with pytest.raises(Skip, match="no majority would be left without n1 or n2"):
            await resolve_target({KEEP: ("n1", "n2")}, grip)
        await other.resume(["n4"])
        cut = [(a, b) for a in ("n3", "n4", "n5") for b in ("n3", "n4", "n5") if a != b]
        await other.shape_links({link: LinkRule(cut=True) for link in cut})
        # n1 still reaches n3, n4 and n5, though they don't reach each other.
        assert grip.standing().has_majority()
        assert (await resolve_target({BREAK: order}, grip)) == (
            ("n1",),
            "breaks the majority",
        )
        more = {("n1", node): LinkRule(cut=True) for node in ("n3", "n4")}
        await force.grip(2).shape_links(more)
        with pytest.raises(Skip, match="no majority to break: 4 of 5 nodes are up"):
            await resolve_target(BREAK, grip)

    asyncio.run(scenario())


def test_a_node_that_died_by_itself_is_not_counted_in() -> None:
    cluster = FakeCluster()
    del cluster.running["n1"], cluster.running["n5"]
    assert resolved(BREAK, cluster)[0] == ("n2",)
    with pytest.raises(Skip):
        resolved(KEEP, cluster)


def test_the_leader_may_be_among_those_that_keep_a_majority() -> None:
    assert resolved({KEEP: (LEADER, "n3", "n1")}, FakeCluster()) == (
        ("n3", "n1"),
        "keeps a majority",
    )


@given(st.integers(1, 9), st.sampled_from(WORDS), st.integers())
def test_every_word_draws_a_target_that_a_plan_may_have(
    count: int, word: str, seed: int
) -> None:
    nodes = [f"n{i + 1}" for i in range(count)]
    for fault in (
        Fault("kill", {"target": draw_target(Random(seed), word, nodes)}),
        for_observer(Fault("kill", {"target": draw_target(Random(seed), word, nodes)})),
    ):
        validate_target("kill", fault.params["target"], nodes)


def test_a_fault_that_keeps_a_majority_keeps_it_at_its_observer_too() -> None:
    gentle = for_observer(Fault("kill", {"target": {KEEP: ["n1", "n2"]}}))
    assert gentle.params == {"target": {KEEP: [OBSERVER]}}
    assert aim(gentle, ("n4",)).target == {KEEP: ("n4",)}
    assert aim(gentle, ()).target == {KEEP: (LEADER,)}
    hard = for_observer(Fault("kill", {"target": {BREAK: ["n1", "n2"]}}))
    assert aim(hard, ("n4",)).target == ("n4",)


@pytest.mark.parametrize(
    "target",
    [
        {},
        {KEEP: []},
        {KEEP: "n1"},
        {KEEP: ["n1"], BREAK: ["n2"]},
        {"keep": ["n1"]},
        {BREAK: ["n9"]},
        {BREAK: [["n1"]]},
        {KEEP: ["n1", "n1"]},
        [LEADER],
        "majority",
    ],
)
def test_a_target_that_names_no_nodes_is_refused(target: Any) -> None:
    with pytest.raises(UsageError, match=r"^plan: kill: "):
        validate_target("kill", target, NODES)


def test_nodes_that_are_to_leave_no_majority_are_each_cut_off_alone() -> None:
    async def scenario() -> tuple[set[Link], str]:
        cluster = FakeCluster()
        grip = gripped(cluster)
        fault = Fault("partition", {"target": {BREAK: ["n4", "n1", "n2", "n3", "n5"]}})
        Partition({}).validate(fault, NODES)
        strike = await Partition({}).strike(fault, grip)
        assert not grip.standing().has_majority()
        return set(cluster.network.rules), strike.title

    cut, title = asyncio.run(scenario())
    assert title == "isolate n4 n1 n2 (breaks the majority): n1 | n2 | n3 n5 | n4"
    assert ("n1", "n2") in cut
    assert ("n3", "n5") not in cut


@given(st.integers())
def test_a_kill_that_breaks_the_majority_says_so(seed: int) -> None:
    kill = Kill({"targets": BREAK})
    fault = kill.draw(Random(seed), NODES)
    strike = asyncio.run(kill.strike(fault, gripped(FakeCluster())))
    assert len(strike.nodes) == 3
    assert strike.evidence["target"] == "breaks the majority"
    assert strike.title.endswith(" (breaks the majority)")
