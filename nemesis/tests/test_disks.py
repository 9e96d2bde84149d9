"""Faults of disks: the power goes, operations fail, and what was durable decays."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import UsageError
from harness.faults.fault import Fault
from harness.worlds.disks import Loss
from nemesis.power import Power, loss
from nemesis.tests.fake_cluster import FakeCluster, gripped

if TYPE_CHECKING:
    from harness.data import Json

NODES = FakeCluster.nodes


def test_the_power_goes_at_all_nodes_at_once_and_they_come_back() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Power({})
        params: dict[str, Json] = {
            "target": list(NODES[:2]),
            "kept": 0.25,
            "torn": True,
            "during": "fsync",
            "seed": 7,
        }
        strike = await nemesis.strike(Fault("power", params), cluster)
        same = Loss(kept=0.25, torn=True, names=True, during="fsync", seed=7)
        assert fake.disks.losses == {"n1": same, "n2": same}
        assert fake.dead() == NODES[:2]
        assert strike.title == "cut the power of n1 n2: 20 bytes lost"
        told: Any = strike.evidence["lost"]
        assert told["n1"] == {"pid": 100, "bytes": 10, "writes": 1, "files": ["wal"]}
        assert strike.bit is True
        healed = await nemesis.heal(strike, cluster)
        assert set(healed.evidence["restarted"]) == {"n1", "n2"}  # type: ignore[arg-type]  # a mapping
        assert fake.dead() == ()

    asyncio.run(scenario())


def test_a_cut_of_what_was_down_did_nothing_and_says_so() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        del fake.running["n1"]
        strike = await Power({}).strike(
            Fault("power", {"target": ["n1"]}), gripped(fake)
        )
        assert strike.title == "cut the power of n1: nothing was lost"
        assert strike.bit is False

    asyncio.run(scenario())


def test_what_a_cut_leaves_is_drawn_within_its_options() -> None:
    nemesis = Power({"kept_max": "0.5", "moments": "fsync", "targets": "all"})
    random = Random(1)
    drawn = [nemesis.draw(random, NODES) for _ in range(50)]
    losses = [loss(fault) for fault in drawn]
    assert {each.kept for each in losses} >= {0.0}
    assert 0.2 < max(each.kept for each in losses) <= 0.5
    assert {each.during for each in losses} == {"fsync"}
    assert {(each.torn, each.names) for each in losses} == {
        (torn, names) for torn in (True, False) for names in (True, False)
    }
    assert all(fault.target == NODES for fault in drawn)
    for fault in drawn:
        nemesis.validate(fault, NODES)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"kept": 1.5}, "kept"),
        ({"seed": -1}, "seed"),
        ({"torn": "yes"}, "torn must be true or false"),
        ({"during": "lunch"}, "during must be"),
        ({"target": ["n9"]}, "no node"),
        ({"loss": 1}, "no parameter"),
    ],
)
def test_a_cut_that_makes_no_sense_is_refused(
    params: dict[str, Json], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        Power({}).validate(Fault("power", {"target": ["n1"], **params}), NODES)
