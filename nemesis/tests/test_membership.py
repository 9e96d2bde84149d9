"""Operators change the members of a cluster, and bring the first ones back."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import NodeReply
from harness.faults.fault import Fault, Skip
from harness.faults.force import Force
from harness.worlds.sim.loop import VirtualTimeLoop
from nemesis.membership import MODES, Membership
from nemesis.tests.fake_cluster import FakeCluster, gripped

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from harness.data import Json
    from harness.faults.cluster import Cluster
    from harness.faults.fault import Strike


def in_virtual_time(main: Coroutine[None, None, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


class Administered(FakeCluster):
    """Nodes that let others join and leave when they are asked to.

    Attributes:
        now: The members.
        asked: Every request: its kind, the node that it is about, and who was asked.
        errors: Node -> what it answers whatever is asked of it.
        emptied: What was taken away, with the members of that moment.
        rejoins, starts_first: As `harness.systems.abilities.Administered` has them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = set(self.nodes)
        self.asked: list[tuple[str, str, str]] = []
        self.errors: dict[str, NodeReply] = {}
        self.emptied: list[tuple[str, set[str]]] = []
        self.operated = self
        self.rejoins = self.starts_first = True

    async def members(self) -> list[str]:
        return [node for node in self.nodes if node in self.now] if self.leads else []

    async def change(self, kind: str, node: str, through: str, _: float) -> None:
        self.asked.append((kind, node, through))
        await asyncio.sleep(0)
        if through in self.errors:
            raise self.errors[through]
        if through != self.leads:
            raise NodeReply(definite=True, text="doesn't lead", code=11)
        if kind == "remove":
            self.now.discard(node)
        elif kind == "add":
            assert not self.starts_first or node in self.running
            self.now.add(node)
        else:
            self.leads = node

    async def empty(self, node: str) -> int:
        assert node not in self.running
        self.emptied.append((node, set(self.now)))
        return 10


def operate(
    fake: Administered, changes: list[Json], disk: str = "old", patience_ms: float = 100
) -> Strike:
    """The healed strike of an operator who had time for all his changes."""

    async def scenario() -> Strike:
        cluster, nemesis = gripped(fake), Membership({})
        params: dict[str, Json] = {"changes": changes, "disk": disk}
        fault = Fault("membership", {**params, "patience_ms": patience_ms})
        nemesis.validate(fault, fake.nodes)
        struck = await nemesis.strike(fault, cluster)
        await asyncio.sleep(10.0)
        await cluster.stop_work()
        return await nemesis.heal(struck, cluster)

    healed: Strike = in_virtual_time(scenario())
    return healed


@pytest.mark.parametrize("leads", ["n3", None])
def test_an_operator_s_changes_are_undone_and_wait_until_it_is_known_what_to_undo(
    leads: str | None,
) -> None:
    async def scenario() -> None:
        fake = Administered()
        fake.leads = leads
        cluster, nemesis = gripped(fake), Membership({})
        changes: list[Json] = [["remove", "n1"]]
        fault = Fault("membership", {"changes": changes, "patience_ms": 1000.0})
        struck = await nemesis.strike(fault, cluster)
        await asyncio.sleep(1.0)
        assert bool(fake.asked) is bool(leads)
        fake.leads = "n3"
        await asyncio.sleep(1.0)
        await cluster.stop_work()
        healed = await nemesis.heal(struck, cluster)
        assert healed.bit is True
        removals = {node for kind, node, _ in fake.asked if kind == "remove"}
        assert removals == {"n1"}
        assert healed.evidence["members_healed"] == await fake.members()
        assert fake.now == set(fake.nodes)

    in_virtual_time(scenario())


def test_a_node_is_emptied_only_when_it_is_down_and_no_member() -> None:
    fake = Administered()
    healed = operate(fake, [["remove", "n1"], ["add", "n1"], ["add", "n2"]], "empty")
    assert fake.emptied == [("n1", {"n2", "n3", "n4", "n5"})]
    assert healed.evidence["came_with_empty_disk"] == {"n1": 1}
    assert healed.evidence["came_with_old_disk"] == {"n2": 1}, "it never left"
    assert set(fake.running) == set(fake.nodes)
    assert healed.all_knobs == {"disk empty": True}


def test_a_system_that_takes_no_old_disk_back_gets_empty_ones_and_adds_first() -> None:
    fake = Administered()
    fake.rejoins = fake.starts_first = False
    operate(fake, [["remove", "n1"], ["remove", "n2"], ["add", "n1"]])
    assert [node for node, _ in fake.emptied] == ["n1", "n2"], "n2 at the heal"
    assert fake.now == set(fake.running) == set(fake.nodes)


def test_an_operator_whom_no_node_tells_the_members_says_that_nothing_was_changed() -> (
    None
):
    fake = Administered()
    fake.leads = None
    healed = operate(fake, [["remove", "n1"]])
    assert not healed.bit
    assert "no node told who the members are" in str(healed.evidence["why"])
    assert not fake.asked
    told = operate(Administered(), [["remove", "n1"]]).evidence
    assert "why" not in told


def test_the_leader_is_removed_and_comes_back() -> None:
    fake = Administered()
    healed = operate(fake, [["remove", "leader"], ["add", "removed"]])
    assert ("remove", "n3", "n3") in fake.asked
    assert healed.evidence["done"] == {"remove": 1, "add": 1}


class Unled(Administered):
    """Members are known, but for a while nobody who leads."""

    def __init__(self, until: int) -> None:
        super().__init__()
        self.until = until
        self.sought = 0

    async def leader(self) -> str | None:
        self.sought += 1
        return self.leads if self.sought > self.until else None

    def seems_to_lead(self) -> tuple[str, str]:
        raise Skip("no leader is known")


@pytest.mark.parametrize(("until", "removed"), [(3, 1), (1_000_000, 0)])
def test_an_operator_waits_for_a_leader_to_remove_and_goes_on_without_one(
    until: int, removed: int
) -> None:
    fake = Unled(until)
    healed = operate(fake, [["remove", "leader"], ["remove", "n1"]])
    assert fake.sought > 3
    assert healed.evidence["done"] == {"remove": 1 + removed}


def test_who_is_no_member_or_serves_no_such_requests_is_asked_once_for_a_change() -> (
    None
):
    fake = Administered()
    fake.errors = {
        "n1": NodeReply(definite=True, text="no member", code=40),
        "n2": NodeReply(definite=True, text="what?", code=10),
        "n3": NodeReply(definite=False, text="nobody knows", code=13),
    }
    healed = operate(fake, [["remove", "n5"]])
    asked = Counter(through for _, _, through in fake.asked)
    assert asked["n1"] == asked["n2"] == 1
    assert asked["n3"] > 1, "it may do it yet"
    assert healed.bit is False
    assert healed.evidence["given_up"] == {"remove": 1}
    assert healed.evidence["answers"] == {
        "remove n5: 40 no member": 1,
        "remove n5: 10 what?": 1,
    }


@pytest.mark.parametrize("code", [10, 12, 22, 40])
def test_a_change_that_everybody_refuses_is_not_asked_for_again(code: int) -> None:
    fake = Administered()
    reply = NodeReply(definite=True, text="no", code=code)
    fake.errors = dict.fromkeys(fake.nodes, reply)
    healed = operate(fake, [["remove", "n5"]], patience_ms=5000)
    assert len(fake.asked) == 5
    assert healed.evidence["refused"] == {"remove": 1}
    assert healed.bit is False


def test_members_that_can_t_be_brought_back_are_named_and_come_back_at_last() -> None:
    async def scenario() -> None:
        fake = Administered()
        force, nemesis = Force(cast("Cluster", fake)), Membership({})
        cluster = force.grip(0)
        changes: list[Json] = [["remove", "n1"], ["remove", "n2"]]
        fault = Fault("membership", {"changes": changes, "patience_ms": 1000.0})
        struck = await nemesis.strike(fault, cluster)
        await asyncio.sleep(1.0)
        await cluster.stop_work()
        fake.errors["n3"] = NodeReply(definite=True, text="no quorum", code=11)
        healed = await nemesis.heal(struck, cluster)
        assert healed.evidence["members_missing"] == ["n1", "n2"]
        fake.errors.clear()
        [(title, evidence)] = await force.pay_debts()
        assert title == "all first members are members again"
        assert evidence["members_healed"] == list(fake.nodes)
        assert await force.pay_debts() == [], "it is paid once"

    in_virtual_time(scenario())


@given(
    mode=st.sampled_from(sorted(MODES)),
    seed=st.integers(0, 999),
    count=st.integers(1, 7),
)
def test_changes_are_such_as_an_operator_would_ask_for(
    mode: str, seed: int, count: int
) -> None:
    nodes = [f"n{i + 1}" for i in range(count)]
    fault = Membership({"modes": mode}).draw(Random(seed), nodes)
    Membership({}).validate(fault, nodes)
    inside, least = set(nodes), count
    for kind, word in fault.pairs("changes"):
        if kind == "remove":
            node = min(inside) if word == "leader" else word
            inside.remove(node)
        elif kind == "add":
            node = min(set(nodes) - inside) if word == "removed" else word
            assert node not in inside
            inside.add(node)
        least = min(least, len(inside))
    assert least >= 1, "somebody is always a member"
    if mode == "shrink":
        assert (least, inside) == (1, set(nodes))
    elif mode in {"leader", "replace"}:
        assert inside == set(nodes), "all have come back"
