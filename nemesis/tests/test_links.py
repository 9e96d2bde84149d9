"""Link faults: one kind for each thing that a link can do wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import registry
from harness.errors import UsageError
from harness.faults.fault import Fault, Skip, Strike
from harness.faults.force import Force
from harness.worlds.network import LinkCounters, LinkRule
from nemesis.links import LinkFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.data import Json
    from harness.faults.cluster import Cluster
    from harness.worlds.network import Link

NODES = ("n1", "n2", "n3")
FIELDS = {
    "delay": "delay_ms",
    "loss": "loss",
    "duplicate": "duplicate",
    "reorder": "reorder",
    "corrupt": "corrupt",
    "bandwidth": "bandwidth_kbit_s",
    "mtu": "mtu_bytes",
    "reset": "reset",
    "half-open": "half_open",
}
AMOUNTS = dict.fromkeys(FIELDS, 0.5) | {"mtu": 500}


def nemesis(kind: str, **options: str) -> LinkFault:
    made = registry.find("nemesis", kind).factory(options)
    assert isinstance(made, LinkFault)
    return made


class FakeCluster:
    """Remembers rules; its links have treated `treated` frames of each kind."""

    nodes = NODES

    def __init__(self) -> None:
        self.network = self.processes = self.clocks = self
        self.rules: Mapping[Link, LinkRule] = {}
        self.treated: Counter[str] = Counter()
        self.leads: str | None = "n2"
        self.grip = Force(cast("Cluster", self)).grip(0)

    async def leader(self) -> str | None:
        return self.leads

    async def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        self.rules = rules

    def on_exit(self, callback: object) -> None:
        """Do nothing: no process of this cluster ends."""

    async def counters(self) -> Mapping[Link, LinkCounters]:
        return {
            (a, b): LinkCounters(**self.treated) for a in NODES for b in NODES if a != b
        }


def strike(kind: str, cluster: FakeCluster, **params: Json) -> tuple[LinkFault, Strike]:
    fault = nemesis(kind)
    return fault, asyncio.run(fault.strike(Fault(kind, params), cluster.grip))


@pytest.mark.parametrize("kind", FIELDS)
def test_a_kind_sets_its_own_number_and_asks_for_nothing_else(kind: str) -> None:
    cluster = FakeCluster()
    _, struck = strike(kind, cluster, target=["n1"], **{FIELDS[kind]: AMOUNTS[kind]})
    assert set(cluster.rules) == {
        ("n1", "n2"),
        ("n1", "n3"),
        ("n2", "n1"),
        ("n3", "n1"),
    }
    [rule] = set(cluster.rules.values())
    healthy = LinkRule()
    changed = {
        name
        for name in LinkRule.__dataclass_fields__
        if getattr(rule, name) != getattr(healthy, name)
    }
    assert changed == nemesis(kind).needs.network
    assert getattr(rule, FIELDS[kind]) == AMOUNTS[kind]
    assert struck.bit is None


@pytest.mark.parametrize("kind", FIELDS)
def test_only_frames_that_were_treated_prove_a_bite(kind: str) -> None:
    for treated in (0, 7):
        cluster = FakeCluster()
        cluster.treated[nemesis(kind).amount.counter] = 3
        fault, struck = strike(
            kind, cluster, target=["n1"], **{FIELDS[kind]: AMOUNTS[kind]}
        )
        cluster.treated[fault.amount.counter] += treated
        healed = asyncio.run(fault.heal(struck, cluster.grip))
        assert healed.bit is bool(treated)
        assert cluster.rules == {}
        asyncio.run(fault.heal(struck, cluster.grip))
        assert cluster.rules == {}


def test_the_leader_is_looked_up_when_the_fault_strikes() -> None:
    _, struck = strike("loss", FakeCluster(), target="leader", loss=0.2)
    assert struck.title == "loss 0.2: links of leader n2"


@given(seed=st.integers(), kind=st.sampled_from(sorted(FIELDS)))
def test_every_drawn_fault_validates(seed: int, kind: str) -> None:
    drawn = nemesis(kind).draw(Random(seed), NODES)
    nemesis(kind).validate(drawn, NODES)
    assert drawn == nemesis(kind).draw(Random(seed), NODES)


@pytest.mark.parametrize(
    ("direction", "links"),
    [
        ("outwards", {("n1", "n2"), ("n1", "n3")}),
        ("inwards", {("n2", "n1"), ("n3", "n1")}),
    ],
)
def test_a_fault_with_a_direction_leaves_the_other_one_alone(
    direction: str, links: set[Link]
) -> None:
    cluster = FakeCluster()
    _, struck = strike("delay", cluster, target=["n1"], delay_ms=5, direction=direction)
    assert set(cluster.rules) == links
    assert struck.title == f"delay 5 ms: links of n1, {direction}"


def test_a_fault_between_nodes_is_on_the_links_among_them() -> None:
    cluster = FakeCluster()
    between = {"target": ["n1", "n3"], "direction": "between"}
    strike("loss", cluster, loss=0.5, **between)
    assert set(cluster.rules) == {("n1", "n3"), ("n3", "n1")}
    with pytest.raises(Skip, match="no link between n1 and itself"):
        strike("loss", cluster, loss=0.5, **{**between, "target": ["n1"]})


def test_directions_are_drawn_on_request_and_else_cost_no_choice() -> None:
    usual, asked = Random(1), Random(1)
    loss = nemesis("loss")
    skewed = nemesis("loss", directions="outwards")
    for _ in range(20):
        drawn = loss.draw(usual, NODES)
        assert "direction" not in drawn.params
        directed = skewed.draw(asked, NODES)
        assert directed.params == {**drawn.params, "direction": "outwards"}
    every = nemesis("loss", directions="both+outwards+inwards")
    drawn_directions = {
        every.draw(asked, NODES).params.get("direction") for _ in range(50)
    }
    assert drawn_directions == {None, "outwards", "inwards"}


def test_the_largest_amount_can_be_limited() -> None:
    loss = nemesis("loss", max="0.1")
    amounts = [loss.draw(Random(i), NODES).number("loss") for i in range(100)]
    assert 0 < min(amounts) < max(amounts) <= 0.1


@pytest.mark.parametrize(
    ("kind", "params", "reason"),
    [
        ("loss", {"target": ["n1"]}, "loss must be a number from 0.001"),
        ("loss", {"target": ["n1"], "loss": 1.5}, "from 0.001 to 1, not 1.5"),
        ("loss", {"target": ["n9"], "loss": 0.5}, "there is no node"),
        ("delay", {"target": ["n1"], "loss": 0.5}, "no parameter 'loss'"),
        ("delay", {"target": ["n1"], "delay_ms": True}, "a number from 0.001"),
        ("mtu", {"target": ["n1"], "mtu_bytes": 500.5}, "a whole number from 1"),
        (
            "delay",
            {"target": ["n1"], "delay_ms": 5, "direction": "up"},
            "direction must be one of both, outwards, inwards, between, not 'up'",
        ),
    ],
)
def test_senseless_plans_are_refused(
    kind: str, params: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        nemesis(kind).validate(Fault(kind, params), NODES)


def test_a_senseless_maximum_is_refused() -> None:
    with pytest.raises(UsageError, match=r"from 0.001 to 1, or nothing"):
        nemesis("loss", max="2")
