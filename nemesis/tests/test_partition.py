"""Each shape of partition cuts the links that its name says."""

from __future__ import annotations

import asyncio
import itertools
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.faults.fault import Fault, Skip, Strike
from nemesis.partition import (
    STANDING,
    Partition,
    describe,
    grudge,
    majorities_ring,
    spread,
)
from nemesis.tests.fake_cluster import FakeCluster, gripped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.data import Json

SPREAD: dict[str, Any] = {
    "shape": "spread",
    "order": ["n1", "n2"],
    "back": ["n2", "n1"],
    "pace_ms": 50.0,
}
NODES = ["n1", "n2", "n3", "n4", "n5"]
NAMES = st.integers(3, 9).map(lambda n: [f"n{i + 1}" for i in range(n)])


def sees(node: str, nodes: list[str], cut: set[tuple[str, str]]) -> set[str]:
    """The nodes that `node` can talk to in both directions, itself included."""
    return {m for m in nodes if (node, m) not in cut and (m, node) not in cut}


@given(nodes=NAMES, shape=st.sampled_from([s for s in STANDING if s != "leader"]))
def test_every_shape_cuts_something_and_never_a_node_from_itself(
    nodes: list[str], shape: str
) -> None:
    cut = grudge(shape, nodes)
    assert cut
    assert cut <= {(a, b) for a, b in itertools.permutations(nodes, 2)}


@given(nodes=NAMES, shape=st.sampled_from(["one", "halves", "minority", "bridge"]))
def test_all_shapes_but_one_way_cut_both_directions(
    nodes: list[str], shape: str
) -> None:
    cut = grudge(shape, nodes)
    assert cut == {(b, a) for a, b in cut}


@given(nodes=NAMES)
def test_a_minority_has_no_majority_and_the_rest_has(nodes: list[str]) -> None:
    cut = grudge("minority", nodes)
    sizes = sorted(len(sees(node, nodes, cut)) for node in nodes)
    assert sizes[0] <= len(nodes) // 2 < sizes[-1]


@given(nodes=st.integers(5, 9).map(lambda n: [f"n{i + 1}" for i in range(n)]))
def test_in_a_ring_everyone_sees_another_majority(nodes: list[str]) -> None:
    cut = majorities_ring(nodes)
    views = [frozenset(sees(node, nodes, cut)) for node in nodes]
    assert len(set(views)) == len(nodes)
    assert all(len(view) > len(nodes) // 2 for view in views)


def test_only_the_bridge_sees_everyone() -> None:
    cut = grudge("bridge", NODES)
    everyone = [n for n in NODES if sees(n, NODES, cut) == set(NODES)]
    assert everyone == ["n1"]


def test_one_way_lets_the_other_direction_through() -> None:
    cut = grudge("one-way", NODES)
    assert cut == {("n1", other) for other in NODES[1:]}


@given(seed=st.integers())
def test_every_drawn_partition_validates(seed: int) -> None:
    partition = Partition({})
    partition.validate(partition.draw(Random(seed), NODES), NODES)


def test_all_shapes_are_drawn_in_the_long_run() -> None:
    random = Random(1)
    drawn = {Partition({}).draw(random, NODES).params["shape"] for _ in range(300)}
    assert drawn == set(STANDING)


@pytest.mark.parametrize(
    ("target", "shape"),
    [("leader", "leader"), (["n2"], "one"), (["n2", "n3"], "minority")],
)
def test_a_partition_isolates_the_nodes_of_another_fault_if_that_shape_is_drawn(
    target: str | list[str], shape: str
) -> None:
    partition, ring = Partition({}), Partition({"shapes": "ring"})
    fault = partition.draw(Random(1), NODES)
    aimed = partition.aimed_at(fault, target, NODES)
    assert aimed.params == {"shape": shape, "target": target}
    partition.validate(aimed, NODES)
    assert ring.aimed_at(fault, target, NODES) == fault
    assert partition.aimed_at(fault, NODES, NODES) == fault, "nobody would be left"
    apart = Partition({"shapes": "spread"}).draw(Random(1), NODES)
    assert partition.aimed_at(apart, target, NODES) == apart


def test_two_nodes_can_be_parted_too() -> None:
    random = Random(1)
    for _ in range(50):
        fault = Partition({}).draw(random, ["n1", "n2"])
        assert fault.params.get("cut") or fault.params["target"] == "leader"


def test_a_link_is_cut_between_two_nodes_and_nowhere_else() -> None:
    async def scenario(target: list[str]) -> Strike:
        fault = Fault("partition", {"shape": "link", "target": target})
        return await Partition({}).strike(fault, gripped(FakeCluster()))

    struck = asyncio.run(scenario(["n2", "n4"]))
    assert struck.evidence["cut"] == ["n2->n4", "n4->n2"]
    assert struck.title == "link: n2 -/- n4"
    with pytest.raises(Skip, match="a link has two ends, and n2 is one"):
        asyncio.run(scenario(["n2"]))
    drawn = Partition({"shapes": "link"}).draw(Random(1), NODES)
    assert len(drawn.pairs("cut")) == 2


def test_a_single_node_can_not() -> None:
    with pytest.raises(UsageError, match="needs more than 1 nodes"):
        grudge("one", ["n1"])


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ("one", "n1 | n2 n3 n4 n5"),
        ("minority", "n1 n2 | n3 n4 n5"),
        ("one-way", "n1 -/-> n2, n1 -/-> n3, n1 -/-> n4, n1 -/-> n5"),
        ("bridge", "n2 -/- n4, n2 -/- n5, n3 -/- n4, n3 -/- n5"),
    ],
)
def test_titles_say_who_is_parted_from_whom(shape: str, text: str) -> None:
    assert describe(grudge(shape, NODES), NODES) == text


def test_unknown_shapes_name_their_neighbours() -> None:
    with pytest.raises(UsageError, match="did you mean bridge"):
        Partition({"shapes": "brigde"})


@given(seed=st.integers(), nodes=NAMES)
def test_a_drawn_spread_isolates_node_by_node_and_brings_back_in_another_order(
    seed: int, nodes: list[str]
) -> None:
    partition = Partition({"shapes": "spread"})
    fault = partition.draw(Random(seed), nodes)
    partition.validate(fault, nodes)
    order, back = fault.names("order"), fault.names("back")
    assert sorted(order) == sorted(back)
    assert order != back
    alone: set[str] = set()
    for what, node, cut in spread(order, back, nodes):
        alone = alone | {node} if what == "isolated" else alone - {node}
        for each in nodes:
            expected = {each} if each in alone else set(nodes) - alone
            assert sees(each, nodes, cut) == expected
    assert not alone
    assert not cut


def test_a_spread_runs_its_course_and_the_heal_ends_it_at_any_point() -> None:
    async def scenario(wait_s: float) -> tuple[list[int], Mapping[str, Json]]:
        fake = FakeCluster()
        grip, partition = gripped(fake), Partition({})
        fault = Fault("partition", SPREAD | {"pace_ms": 5.0})
        partition.validate(fault, fake.nodes)
        strike = await partition.strike(fault, grip)
        cut: list[int] = []
        deadline_s = asyncio.get_running_loop().time() + wait_s
        while asyncio.get_running_loop().time() < deadline_s and len(cut) < 4:
            if (now := cuts(fake)) not in cut[-1:]:
                cut.append(now)
            await asyncio.sleep(0.001)
        await grip.stop_work()
        fake.network.cut = {("n1", "n3"): 7}
        healed = await partition.heal(strike, grip)
        assert not fake.network.rules
        return cut, healed.evidence

    def cuts(fake: FakeCluster) -> int:
        return sum(rule.cut for rule in fake.network.rules.values())

    # One alone of five, two alone, one alone, nobody: links that are cut.
    cut, evidence = asyncio.run(scenario(10.0))
    assert cut == [8, 14, 8, 0]
    assert evidence == {"frames_dropped": 7, "isolated": 2, "back": 2}
    cut, evidence = asyncio.run(scenario(0.0))
    assert evidence["back"] == 0


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"order": "n1"}, "`order` must be a list of nodes"),
        ({"order": ["n1", "n9"]}, "there is no node 'n9'"),
        ({"back": ["n1", "n1"]}, "names n1 twice"),
        ({"back": ["n1"]}, "`back` must name the nodes of `order`"),
        ({"pace_ms": 0}, "pace_ms must be a number from 5"),
        ({"cut": []}, "no parameter 'cut'"),
    ],
)
def test_senseless_spreads_are_refused(params: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Partition({}).validate(Fault("partition", SPREAD | params), NODES)


@pytest.mark.parametrize("shape", ["ring", "rign", ["one"], {"one": 1}, 3, None])
def test_a_target_is_isolated_and_takes_no_other_shape(shape: Any) -> None:
    params = {"shape": shape, "target": ["n1"]}
    with pytest.raises(UsageError, match="with a target, shape must be one of one, "):
        Partition({}).validate(Fault("partition", params), NODES)


def test_a_link_has_two_ends() -> None:
    nemesis, link = Partition({}), {"shape": "link"}
    nemesis.validate(Fault("partition", link | {"target": "observer"}), NODES)
    nemesis.validate(Fault("partition", link | {"target": ["n1", "n2"]}), NODES)
    with pytest.raises(UsageError, match="needs a target of two nodes"):
        nemesis.validate(Fault("partition", link | {"target": ["n1"]}), NODES)
