"""Nemeses strike, leave evidence and heal, on a cluster made of dictionaries."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.errors import HarnessError
from harness.faults.conductor import Conductor
from harness.faults.fault import Fault, Skip
from harness.faults.force import RETURN_RATE
from harness.faults.plan import Step, Trigger
from harness.faults.targets import OBSERVER
from harness.history import Op
from harness.worlds.events import Observed
from harness.worlds.network import LinkRule
from nemesis.clock import Clock
from nemesis.kill import Kill
from nemesis.partition import Partition
from nemesis.pause import Pause
from nemesis.tests.fake_cluster import FakeCluster, gripped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.data import Json
    from harness.faults.cluster import Cluster
    from harness.faults.nemesis import Nemesis


def leap_of_mono(offset_ms: float) -> Fault:
    """A leap of the monotonic clock of n1."""
    params: dict[str, Json] = {
        "mode": "bump",
        "clock": "mono",
        "target": ["n1"],
        "offset_ms": offset_ms,
    }
    return Fault("clock", params)


def test_a_partition_that_dropped_nothing_did_not_bite() -> None:
    async def scenario(dropped: int) -> bool | None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Partition({})
        fault = Fault("partition", {"shape": "one", "cut": [["n1", "n2"]]})
        struck = await nemesis.strike(fault, cluster)
        assert fake.network.rules == {("n1", "n2"): LinkRule(cut=True)}
        fake.network.cut = {("n1", "n2"): dropped, ("n4", "n5"): 9}
        healed = await nemesis.heal(struck, cluster)
        assert fake.network.rules == {}
        assert healed is not None
        assert healed.evidence["frames_dropped"] == dropped
        return healed.bit

    assert asyncio.run(scenario(0)) is False
    assert asyncio.run(scenario(3)) is True


def test_the_leader_is_looked_up_when_the_fault_strikes() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Partition({})
        fault = Fault("partition", {"shape": "leader", "target": "leader"})
        strike = await nemesis.strike(fault, cluster)
        assert strike.title == "isolate leader n3: n1 n2 n4 n5 | n3"
        assert strike.evidence["target"] == "says that it leads"
        assert {a for a, b in fake.network.rules if b == "n3"} == {
            "n1",
            "n2",
            "n4",
            "n5",
        }

    asyncio.run(scenario())


def test_with_no_leader_known_one_is_guessed_and_title_and_evidence_say_so() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Kill({})
        fake.leads = None
        strike = await nemesis.strike(Fault("kill", {"target": "leader"}), cluster)
        assert strike.title == "kill n4 (answers changes soonest)"
        assert strike.evidence["target"] == "answers changes soonest"
        assert strike.bit is True

    asyncio.run(scenario())


def test_killed_nodes_are_started_again() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Kill({})
        fault = Fault("kill", {"target": ["n1", "n2"]})
        strike = await nemesis.strike(fault, cluster)
        assert strike.evidence["killed"] == {"n1": 100, "n2": 100}
        assert fake.dead() == ("n1", "n2")
        healed = await nemesis.heal(strike, cluster)
        assert fake.dead() == ()
        assert healed is not None
        restarted = healed.evidence["restarted"]
        assert isinstance(restarted, dict)
        assert set(restarted) == {"n1", "n2"}
        healed = await nemesis.heal(strike, cluster)
        assert healed.evidence["restarted"] == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["pause", "clock"])
def test_there_is_nothing_to_strike_in_nodes_that_do_not_run(kind: str) -> None:
    bump: dict[str, Json] = {"mode": "bump", "clock": "wall", "offset_ms": 100.0}
    nemesis = Pause({}) if kind == "pause" else Clock({})

    async def scenario() -> None:
        fake = FakeCluster()
        del fake.running["n2"]
        more: dict[str, Json] = bump if kind == "clock" else {}
        for target, skips in (["n2"], True), (["n2", "n3"], False):
            fault = Fault(kind, {"target": list(target), **more})
            nemesis.validate(fault, fake.nodes)
            with pytest.raises(Skip) if skips else contextlib.nullcontext():
                await nemesis.strike(fault, gripped(fake))

    asyncio.run(scenario())


@pytest.mark.parametrize("clock", ["wall", "mono"])
def test_a_bump_moves_one_clock_and_leaves_the_other(clock: str) -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Clock({})
        fault = Fault(
            "clock",
            {"mode": "bump", "clock": clock, "target": ["n1"], "offset_ms": 1500.0},
        )
        strike = await nemesis.strike(fault, cluster)
        moved = 1_500_000_000
        assert fake.offsets["n1"] == ([moved, 0] if clock == "wall" else [0, moved])
        assert fake.offsets["n2"] == [0, 0]
        assert strike.bit is True
        await nemesis.heal(strike, cluster)
        # A wall clock is set right; a monotonic one must not run backwards.
        assert fake.offsets["n1"] == ([0, 0] if clock == "wall" else [0, moved])
        assert fake.rates["n1"] == [1.0, 1.0 if clock == "wall" else RETURN_RATE]

    asyncio.run(scenario())


def test_a_drift_bites_by_the_time_it_is_healed() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Clock({})
        fault = Fault(
            "clock", {"mode": "drift", "clock": "mono", "target": ["n1"], "rate": 0.5}
        )
        strike = await nemesis.strike(fault, cluster)
        assert strike.bit is None
        assert fake.rates["n1"] == [1.0, 0.5]
        fake.offsets["n1"] = [0, -2_000_000_000]
        healed = await nemesis.heal(strike, cluster)
        assert healed is not None
        assert healed.bit is True
        # It drifts back: as fast as it drifted, the other way.
        assert fake.offsets["n1"] == [0, -2_000_000_000]
        assert fake.rates["n1"] == [1.0, 2.0]

    asyncio.run(scenario())


def test_settling_waits_until_monotonic_clocks_are_true_and_complains_of_others() -> (
    None
):
    async def scenario(*, returns: bool) -> None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Clock({})
        leap = leap_of_mono(100.0)
        await cluster.settle()  # nothing to wait for
        struck = await nemesis.strike(leap, cluster)
        await nemesis.heal(struck, cluster)
        if returns:
            loop = asyncio.get_running_loop()
            loop.call_later(0.05, fake.offsets["n1"].__setitem__, 1, 0)
        await cluster.settle()
        assert fake.offsets["n1"] == [0, 0]
        await cluster.settle()  # once is enough

    asyncio.run(scenario(returns=True))
    with pytest.raises(HarnessError, match=r"n1: its monotonic clock .*\+0.100 s"):
        asyncio.run(scenario(returns=False))


@pytest.mark.parametrize("is_healed", [False, True])
def test_a_clock_that_is_struck_again_while_it_returns_is_no_failure(
    is_healed: bool,
) -> None:
    """A strike that waits for a leader may come while another waits for clocks."""

    async def scenario() -> None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Clock({})
        leap = leap_of_mono(50.0)
        first = await nemesis.strike(leap, cluster)
        await nemesis.heal(first, cluster)

        async def meanwhile() -> None:
            await asyncio.sleep(0.01)
            again = await nemesis.strike(leap, cluster)
            if is_healed:
                await nemesis.heal(again, cluster)
                fake.offsets["n1"][1] = 0

        beside = asyncio.create_task(meanwhile())
        await cluster.settle()
        await beside
        assert (fake.offsets["n1"][1] == 0) is is_healed

    asyncio.run(scenario())


def test_a_strobe_jumps_to_and_fro_until_it_is_healed() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Clock({})
        fault = Fault(
            "clock",
            {
                "mode": "strobe",
                "clock": "wall",
                "target": ["n1"],
                "offset_ms": 100.0,
                "period_ms": 1,
            },
        )
        struck = await nemesis.strike(fault, cluster)
        seen: set[int] = set()
        async with asyncio.timeout(10):
            while len(seen) < 2:
                seen.add(fake.offsets["n1"][0])
                await asyncio.sleep(0)
        await nemesis.heal(struck, cluster)
        assert seen == {0, 100_000_000}
        assert fake.offsets["n1"] == [0, 0]

    asyncio.run(scenario())


def test_the_conductor_writes_down_start_end_and_what_healing_found() -> None:
    async def scenario() -> list[Mapping[str, Any]]:
        fake = FakeCluster()
        lines: list[Mapping[str, Any]] = []
        nemeses: dict[str, Nemesis] = {"kill": Kill({}), "pause": Pause({})}
        plan = (
            Step(Trigger(time_s=0.0), Fault("kill", {"target": ["n1"]}), 1.0),
            Step(Trigger(time_s=0.5), Fault("pause", {"target": ["n2"]}), 1.0),
        )
        conductor = Conductor(plan, nemeses, cast("Cluster", fake), lines.append)

        def op(f: str, value: int | None = None) -> Op:
            return Op(0, 0, "nemesis", "invoke", f, value)

        done = await conductor.invoke(op("start-kill", 0))
        assert (done.type, done.value) == ("info", "kill n1")
        await conductor.invoke(op("start-pause", 1))
        stopped = await conductor.invoke(op("stop-kill", 0))
        assert stopped.value == "kill n1"
        assert (await conductor.invoke(op("stop-kill", 0))).value is None
        del fake.running["n5"]  # died of itself
        await conductor.invoke(op("heal"))
        assert fake.dead() == ()
        assert fake.stopped == set()
        return lines

    lines = asyncio.run(scenario())
    assert [(line["event"], line["kind"], line["id"]) for line in lines] == [
        ("asked", "kill", 0),
        ("start", "kill", 0),
        ("asked", "pause", 1),
        ("start", "pause", 1),
        ("end", "kill", 0),
        ("end", "pause", 1),
        ("note", "node-start", None),
    ]


def test_a_fault_for_the_observer_of_an_event_strikes_that_node() -> None:
    cluster = FakeCluster()
    fault = Fault("kill", {"target": OBSERVER})
    step = Step(Trigger(time_s=0.0, event=Observed("voted"), within_s=1.0), fault, 1.0)
    written: list[Mapping[str, Any]] = []

    async def strike(value: Any) -> set[str]:
        conductor = Conductor(
            (step,), {"kill": Kill({})}, cast("Cluster", cluster), written.append
        )
        await conductor.invoke(Op(0, 0, "nemesis", "info", "start-kill", value))
        dead = set(cluster.dead())
        await conductor.invoke(Op(1, 0, "nemesis", "info", "stop-kill", 0))
        return dead

    assert asyncio.run(strike([0, "n4"])) == {"n4"}
    # Nobody observed it in time: the leader, n3, stands in.
    assert asyncio.run(strike(0)) == {"n3"}
    assert [line["event"] for line in written] == ["asked", "start", "end"] * 2
    aimed = [x["evidence"]["target"] for x in written if x["event"] == "asked"]
    assert aimed == [["n4"], "leader"]
