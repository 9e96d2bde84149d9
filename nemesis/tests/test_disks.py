"""Faults of disks: the power goes, operations fail, and what was durable decays."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import UsageError
from harness.faults.fault import Fault
from harness.worlds.disks import Damage, Decayed, DiskRule, Loss
from nemesis.disk import Disk
from nemesis.power import Power, loss
from nemesis.rot import Rot
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
        assert strike.all_knobs == {"torn": False, "during fsync": False}
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


def test_a_failing_disk_is_mended_and_what_ended_itself_is_started_again() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Disk({})
        fake.disks.done["n1"].errors["fsync EIO"] = 3  # before this strike
        params: dict[str, Json] = {
            "target": ["n1", "n2"],
            "mode": "eio",
            "files": "wal*",
            "operations": ["fsync", "write"],
        }
        strike = await nemesis.strike(Fault("disk", params), cluster)
        assert strike.title == "disk fsync and write of wal* EIO: n1 n2"
        assert strike.bit is None
        rule = DiskRule("wal*", frozenset({"fsync", "write"}), "EIO")
        assert fake.disks.rules == {"n1": [rule], "n2": [rule]}
        fake.disks.done["n1"].errors["fsync EIO"] += 1
        await fake.kill(["n1"])  # its own exit, as far as anybody knows
        healed = await nemesis.heal(strike, cluster)
        assert fake.disks.rules == {}
        assert fake.dead() == ()
        assert healed.bit is True
        assert healed.evidence["met"] == {"n1": {"fsync EIO": 1}}
        assert healed.knobs == {"fsync EIO": True, "write EIO": False}
        assert healed.evidence["ended_themselves"] == ["n1"]

    asyncio.run(scenario())


def test_a_failing_disk_that_nobody_used_did_not_bite() -> None:
    async def scenario() -> None:
        cluster, nemesis = gripped(FakeCluster()), Disk({})
        params: dict[str, Json] = {"target": ["n1"], "mode": "slow", "delay_ms": 5.0}
        strike = await nemesis.strike(Fault("disk", params), cluster)
        assert strike.title == "disk fsync 5 ms longer: n1"
        assert (await nemesis.heal(strike, cluster)).bit is False

    asyncio.run(scenario())


def test_a_slow_disk_is_healed_when_what_began_on_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []

    async def note(seconds: float) -> None:
        waited.append(seconds)

    async def scenario() -> None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Disk({})
        params: dict[str, Json] = {"target": ["n1"], "mode": "slow", "delay_ms": 700.0}
        for delayed in (0, 1):
            strike = await nemesis.strike(Fault("disk", params), cluster)
            fake.disks.done["n1"].delayed["fsync"] += delayed
            monkeypatch.setattr(asyncio, "sleep", note)
            assert (await nemesis.heal(strike, cluster)).bit is bool(delayed)

    asyncio.run(scenario())
    assert waited == [0.7]


def test_a_node_that_another_strike_holds_down_is_not_started_by_a_mended_disk() -> (
    None
):
    async def scenario() -> None:
        fake = FakeCluster()
        first = gripped(fake)
        second = first._force.grip(1)
        params: dict[str, Json] = {"target": ["n1"], "mode": "eio"}
        strike = await Disk({}).strike(Fault("disk", params), first)
        await second.kill(["n1"])
        await Disk({}).heal(strike, first)
        assert fake.dead() == ("n1",)
        await second.restart(["n1"])
        assert fake.dead() == ()

    asyncio.run(scenario())


def test_a_node_that_ends_itself_over_its_disk_is_excused_and_no_other() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        grip = gripped(fake)
        assert fake.why_it_may_end("n1") == ""
        await grip.rule_disks(["n1"], [DiskRule(delay_ms=9.0)])
        assert fake.why_it_may_end("n1") == "", "slowness is no reason"
        await grip.rule_disks(["n1"], [DiskRule(error="ENOSPC")])
        await grip.damage("n2", Damage("flip"))
        assert fake.why_it_may_end("n1") == "as its disk failed"
        assert fake.why_it_may_end("n2") == "as its disk was damaged"
        assert fake.why_it_may_end("n3") == ""
        await grip.release()
        # What a process has met stays an excuse until it ends.
        assert fake.why_it_may_end("n1") == "as its disk failed"
        await fake.kill(["n1", "n2"])
        await fake.restart(["n1", "n2"])
        assert {fake.why_it_may_end(node) for node in NODES} == {""}

    asyncio.run(scenario())


def test_rot_strikes_a_node_at_rest_and_is_repaired() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Rot({})
        fault = Fault("rot", {"target": ["n1"], "decay": "flip", "seed": 3})
        strike = await nemesis.strike(fault, cluster)
        assert strike.evidence["killed"] == {"n1": 100}
        assert strike.bit is True
        damaged: Any = strike.evidence["damaged"]
        assert damaged["n1"] == {"file": "wal", "at": 7, "before": "00", "after": "01"}
        assert set(strike.evidence["started"]) == {"n1"}  # type: ignore[arg-type]  # a mapping
        healed = await nemesis.heal(strike, cluster)
        assert healed.evidence["repaired"] == {"n1": 1}
        assert not fake.disks.scars

    asyncio.run(scenario())


def test_rot_never_has_more_than_a_minority_unless_asked() -> None:
    async def struck(*targets: list[Json], **options: str) -> list[Any]:
        fake = FakeCluster()
        force, nemesis = gripped(fake)._force, Rot(options)
        out = []
        for owner, target in enumerate(targets):
            fault = Fault("rot", {"target": target, "decay": "flip"})
            strike = await nemesis.strike(fault, force.grip(owner))
            out.append((strike.nodes, strike.title))
        return out

    assert asyncio.run(struck(["n1", "n2", "n3"])) == [
        (("n1", "n2"), "flip on the disk of n1 n2, not n3: a minority at a time")
    ]
    assert [nodes for nodes, _ in asyncio.run(struck(["n1", "n2"], ["n2", "n3"]))] == [
        ("n1", "n2"),
        ("n2",),
    ]
    beyond = asyncio.run(struck(list(NODES), beyond="true"))
    assert beyond == [(NODES, "flip on the disk of n1 n2 n3 n4 n5")]


def test_rot_that_found_nothing_to_damage_did_not_bite() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        fake.disks.decayed = Decayed()
        fault = Fault("rot", {"target": ["n1"], "decay": "stale"})
        strike = await Rot({}).strike(fault, gripped(fake))
        assert strike.bit is False
        assert strike.evidence["damaged"] == {}
        assert fake.why_it_may_end("n1") == "", "it met nothing"

    asyncio.run(scenario())


RESTORE: dict[str, Json] = {"target": ["n1"], "decay": "restore", "after_ms": 20}


def test_a_snapshot_is_restored_when_its_time_has_come_and_repaired() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        begun, go_on = fake.disks.snag = asyncio.Event(), asyncio.Event()
        force, nemesis = gripped(fake)._force, Rot({"kinds": "restore"})
        grip = force.grip(7)
        strike = await nemesis.strike(Fault("rot", RESTORE), grip)
        assert strike.bit is None
        assert strike.evidence["kept_files"] == {"n1": 2}
        assert fake.disks.snapshots == [("n1", Damage("restore"))]
        assert "n1" in fake.running
        assert force.grip(8).damaged() == {"n1"}, "it counts among the damaged"
        assert fake.why_it_may_end("n1") == "", "but is none yet"
        go_on.set()
        await begun.wait()
        await grip.stop_work()
        healed = await nemesis.heal(strike, grip)
        told: Any = healed.evidence
        assert told["killed"] == {"n1": 100}
        assert told["damaged"]["n1"]["file"] == "wal"
        assert set(told["started"]) == {"n1"}
        assert told["repaired"] == {"n1": 1}
        assert healed.bit is True
        assert "n1" in fake.running

    asyncio.run(scenario())


def test_a_snapshot_whose_fault_is_healed_before_its_time_did_not_bite() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        grip, nemesis = gripped(fake), Rot({"kinds": "restore"})
        fault = Fault("rot", {**RESTORE, "after_ms": 60_000})
        strike = await nemesis.strike(fault, grip)
        await grip.stop_work()
        healed = await nemesis.heal(strike, grip)
        assert healed.bit is False
        assert "damaged" not in healed.evidence
        assert fake.running["n1"] == 100, "it was never killed"

    asyncio.run(scenario())


def test_a_heal_that_comes_amid_a_restoration_waits_for_its_end() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        grip, nemesis = gripped(fake), Rot({"kinds": "restore"})
        begun, go_on = fake.disks.snag = asyncio.Event(), asyncio.Event()
        strike = await nemesis.strike(Fault("rot", RESTORE), grip)
        await begun.wait()
        stopping = asyncio.create_task(grip.stop_work())
        await asyncio.sleep(0)
        go_on.set()
        await stopping
        assert (await nemesis.heal(strike, grip)).bit is True
        assert "n1" in fake.running

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "nemesis",
    [Disk({}), Rot({}), Rot({"kinds": "stale"}), Rot({"kinds": "restore"})],
)
def test_what_is_drawn_is_what_a_plan_may_say(nemesis: Any) -> None:
    random = Random(1)
    drawn = [nemesis.draw(random, NODES) for _ in range(50)]
    for fault in drawn:
        nemesis.validate(fault, NODES)
    assert len({str(fault.params) for fault in drawn}) > 10


@pytest.mark.parametrize(
    ("nemesis", "params", "why"),
    [
        (Disk({}), {"mode": "wet"}, "mode must be one of eio, enospc, slow"),
        (Disk({}), {"mode": "eio", "operations": ["chew"]}, "must be some of"),
        (Disk({}), {"mode": "eio", "operations": []}, "must be some of"),
        (Disk({}), {"mode": "eio", "delay_ms": 4.0}, "delay_ms is for mode slow"),
        (Disk({}), {"mode": "slow"}, "delay_ms must be"),
        (Disk({}), {"mode": "eio", "files": 7}, "files must be a glob"),
        (Rot({}), {"decay": "moss"}, "decay must be one of flip, truncate, stale"),
        (Rot({}), {"decay": "flip", "seed": "x"}, "seed must be"),
        (Rot({}), {"decay": "restore"}, "after_ms must be"),
        (Rot({}), {"decay": "flip", "after_ms": 5}, "after_ms is for decay restore"),
        (Rot({}), {"decay": "flip", "files": 7}, "files must be a glob"),
    ],
)
def test_faults_of_disks_that_make_no_sense_are_refused(
    nemesis: Any, params: dict[str, Json], why: str
) -> None:
    fault = Fault(nemesis.kind, {"target": ["n1"], **params})
    with pytest.raises(UsageError, match=why):
        nemesis.validate(fault, NODES)
