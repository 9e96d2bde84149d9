"""Faults of processes: how they end, start again, starve, and run out of things."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError, UsageError
from harness.faults.conductor import Conductor
from harness.faults.fault import Fault, Skip
from harness.faults.plan import Step, Trigger
from harness.history import Op
from nemesis.kill import WAYS, Kill
from nemesis.limits import Limits
from nemesis.starve import Starve
from nemesis.tests.fake_cluster import FakeCluster, gripped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.data import Json
    from harness.faults.cluster import Cluster
    from harness.faults.nemesis import Nemesis

NODES = list(FakeCluster.nodes)


def kill(**params: Json) -> Fault:
    return Fault("kill", {"target": ["n1", "n2", "n3"], **params})


class Ordered(FakeCluster):
    """Remembers in which order nodes were started, and rests in real time."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[str] = []

    async def restart(self, nodes: Sequence[str]) -> dict[str, Any]:
        self.starts += [node for node in nodes if node not in self.running]
        return await super().restart(nodes)

    async def rest(self, seconds: float) -> bool:
        await asyncio.sleep(seconds / 100)
        return await super().rest(seconds)


def test_a_plain_kill_is_sigkill_to_all_and_says_how_far_apart_they_were() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        strike = await Kill({}).strike(kill(), gripped(fake))
        assert fake.patience_s == 0
        assert strike.title == "kill n1 n2 n3"
        assert strike.evidence == {
            "killed": {"n1": 100, "n2": 100, "n3": 100},
            "spread_ns": 2000,
        }

    asyncio.run(scenario())


def test_sigterm_comes_first_where_the_plan_says_so_and_evidence_tells() -> None:
    async def scenario() -> None:
        fake = FakeCluster()
        cluster, nemesis = gripped(fake), Kill({})
        fault = kill(signal="term", patience_s=0.5)
        strike = await nemesis.strike(fault, cluster)
        assert fake.patience_s == 0.5
        assert strike.title == "terminate n1 n2 n3"
        told = cast("Mapping[str, str]", strike.evidence["ended_by"])
        assert told["n1"].startswith("SIGTERM, status 0")
        healed = await nemesis.heal(strike, cluster)
        assert healed.all_knobs == {"signal term": True}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (["n3", "n1", "n2"], ["n3", "n1", "n2"]),
        ("reverse", ["n3", "n2", "n1"]),
        (None, ["n1", "n2", "n3"]),
        (["n5", "n2"], ["n2", "n1", "n3"]),
    ],
)
def test_nodes_start_again_in_the_order_of_the_plan_each_after_its_time(
    order: Json, expected: list[str]
) -> None:
    async def scenario() -> None:
        fake, nemesis = Ordered(), Kill({})
        cluster = gripped(fake)
        given_ = {} if order is None else {"order": order}
        strike = await nemesis.strike(kill(**given_, apart_s=2, delay_s=1), cluster)
        healed = await nemesis.heal(strike, cluster)
        assert fake.starts == expected
        assert fake.rests == [1, 3, 5]
        assert fake.dead() == ()
        restarted = cast("Mapping[str, Any]", healed.evidence["restarted"])
        assert set(restarted) == set(expected)
        late = {"late start": True}
        assert healed.knobs == late | ({"starts in order": True} if order else {})

    asyncio.run(scenario())


def test_starts_that_come_at_once_prove_neither_an_order_nor_a_delay() -> None:
    async def scenario() -> None:
        nemesis, cluster = Kill({}), gripped(FakeCluster())
        strike = await nemesis.strike(kill(order="reverse", delay_s=0), cluster)
        healed = await nemesis.heal(strike, cluster)
        assert healed.knobs == {"starts in order": False, "late start": False}

    asyncio.run(scenario())


def test_a_crash_loop_kills_whatever_serves_until_it_was_killed_often_enough() -> None:
    async def scenario() -> None:
        fake, nemesis = Ordered(), Kill({})
        cluster = gripped(fake)
        strike = await nemesis.strike(kill(times=4), cluster)
        assert strike.title == "kill up to 4 times n1 n2 n3"
        for _ in range(200):
            await asyncio.sleep(0)
        assert fake.starts == ["n1", "n2", "n3"] * 3
        await cluster.stop_work()
        assert fake.dead() == ("n1", "n2", "n3")
        healed = await nemesis.heal(strike, cluster)
        assert healed.evidence["kills"] == 4
        assert healed.knobs == {"crash loop": True}
        assert fake.dead() == ()

    asyncio.run(scenario())


def test_what_starts_late_is_felt_until_it_starts() -> None:
    late = kill(order=["n3", "n1", "n2"], apart_s=2, delay_s=30)
    assert Kill({}).lingers_s(late, 1.0) == 34
    assert Kill({}).lingers_s(kill(), 1.0) == 0


def test_a_crash_loop_starts_no_node_that_another_strike_holds_down() -> None:
    async def scenario() -> None:
        fake = Ordered()
        stage = Stage(fake, {"kill": Kill({})}, kill(), kill(times=3))
        await stage.do("start-kill", 0)
        await stage.do("start-kill", 1)
        for _ in range(100):
            await asyncio.sleep(0)
        assert fake.starts == []
        await stage.do("heal")
        assert fake.dead() == ()

    asyncio.run(scenario())


@given(seed=st.integers(), count=st.integers(1, 9), way=st.sampled_from(WAYS))
def test_every_way_that_is_drawn_can_be_written_too(
    seed: int, count: int, way: str
) -> None:
    nodes = [f"n{i + 1}" for i in range(count)]
    for nemesis in (Kill({"ways": way}), Starve({}), Limits({})):
        nemesis.validate(nemesis.draw(Random(seed), nodes), nodes)


@pytest.mark.parametrize(
    ("nemesis", "params", "message"),
    [
        (Kill({}), {"signal": "hup"}, "signal must be kill or term"),
        (Kill({}), {"patience_s": 1}, "patience_s needs signal: term"),
        (Kill({}), {"times": 0}, "times must be"),
        (Kill({}), {"times": 2.5}, "times must be"),
        (Kill({}), {"order": ["n1"]}, "order must be 'reverse', or name each node"),
        (Kill({}), {"order": ["n1", "n1"]}, "order must be"),
        (Kill({}), {"order": "forward"}, "order must be"),
        (Kill({}), {"order": [["n1"], 2]}, "order must be"),
        (Kill({}), {"delay_s": -1}, "delay_s must be"),
        (Starve({}), {"share": 0}, "share must be"),
        (Starve({}), {}, "share must be"),
        (Limits({}), {"resource": "threads", "spare": 1}, "resource must be files"),
        (Limits({}), {"resource": "files"}, "spare must be"),
        (Limits({}), {"resource": "files", "spare": 1, "x": 1}, "no parameter 'x'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(
    nemesis: Nemesis, params: dict[str, Json], message: str
) -> None:
    fault = Fault(nemesis.kind, {"target": ["n1", "n2"], **params})
    with pytest.raises(UsageError, match=message) as refused:
        nemesis.validate(fault, NODES)
    assert "\n" not in str(refused.value)


def test_a_starved_node_s_evidence_is_of_the_time_of_the_fault_alone() -> None:
    async def scenario() -> None:
        fake, nemesis = FakeCluster(), Starve({})
        cluster = gripped(fake)
        fault = Fault("starve", {"target": ["n2"], "share": 0.05})
        strike = await nemesis.strike(fault, cluster)
        assert fake.shares == {"n2": 0.05}
        assert strike.bit is None
        healed = await nemesis.heal(strike, cluster)
        assert fake.shares == {"n2": 1.0}
        got = {"stops": 10, "stopped_ms": 500.0, "cpu_ms": 0.0}
        assert healed.evidence["starved"] == {"n2": got}
        assert healed.bit is True

    asyncio.run(scenario())


def test_a_limit_bites_where_it_reads_back_and_waits_for_a_node_that_runs() -> None:
    async def scenario(target: list[str]) -> bool | None:
        fake, nemesis = FakeCluster(), Limits({})
        del fake.running["n2"]
        cluster = gripped(fake)
        params: dict[str, Json] = {"target": target, "resource": "files", "spare": 2}
        strike = await nemesis.strike(Fault("limits", params), cluster)
        assert fake.spare == {("n1", "files"): 2}
        healed = await nemesis.heal(strike, cluster)
        assert fake.spare == {}
        assert fake.dead() == (() if "n2" in target else ("n2",))
        return healed.bit

    assert asyncio.run(scenario(["n1"])) is True
    assert asyncio.run(scenario(["n1", "n2"])) is True
    with pytest.raises(Skip, match="nothing to limit: n2 down"):
        asyncio.run(scenario(["n2"]))


def test_a_node_that_ends_under_a_limit_is_explained_by_it() -> None:
    async def scenario() -> None:
        fake, nemesis = FakeCluster(), Limits({})
        cluster = gripped(fake)
        params: dict[str, Json] = {"target": ["n1"], "resource": "memory", "spare": 0}
        strike = await nemesis.strike(Fault("limits", params), cluster)
        assert fake.why_it_may_end("n1") == "while its memory had a low limit"
        assert fake.why_it_may_end("n2") == ""
        await nemesis.heal(strike, cluster)
        assert fake.why_it_may_end("n1") == "while its memory had a low limit"
        await fake.kill(["n1"])
        await fake.restart(["n1"])
        assert fake.why_it_may_end("n1") == ""

    asyncio.run(scenario())


class Stage:
    """A conductor of these faults, told what to do, and the lines that it writes."""

    def __init__(
        self, fake: FakeCluster, nemeses: Mapping[str, Nemesis], *faults: Fault
    ) -> None:
        self.lines: list[Mapping[str, Any]] = []
        self.conductor = Conductor(
            tuple(Step(Trigger(time_s=0.0), fault, 1.0) for fault in faults),
            nemeses,
            cast("Cluster", fake),
            self.lines.append,
        )

    async def do(self, f: str, step: int | None = None) -> None:
        await self.conductor.invoke(Op(0, 0, "nemesis", "invoke", f, step))


class Slow(FakeCluster):
    """Nodes serve again when the event is set."""

    def __init__(self) -> None:
        super().__init__()
        self.serve = asyncio.Event()

    async def restart(self, nodes: Sequence[str]) -> dict[str, Any]:
        if any(node not in self.running for node in nodes):
            await self.serve.wait()
        return await super().restart(nodes)

    def hurry(self) -> None:
        self.serve.set()


def test_a_slow_restart_goes_on_beside_the_plan_and_writes_its_end_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.faults.conductor.HEAL_PATIENCE_S", 0.0)

    async def scenario() -> None:
        fake = Slow()
        stage = Stage(fake, {"kill": Kill({})}, kill(), kill(target=["n5"]))
        await stage.do("start-kill", 0)
        await stage.do("stop-kill", 0)
        assert [line["event"] for line in stage.lines] == ["asked", "start"]
        assert stage.conductor.in_force() == {"kill"}
        await stage.do("start-kill", 1)
        assert fake.dead() == ("n1", "n2", "n3", "n5")
        await stage.do("heal")
        assert fake.dead() == ()
        ends = [line["id"] for line in stage.lines if line["event"] == "end"]
        assert sorted(ends) == [0, 1]
        assert stage.conductor.in_force() == frozenset()

    asyncio.run(scenario())


class Broken(FakeCluster):
    """Nodes can't be started."""

    async def restart(self, nodes: Sequence[str]) -> dict[str, Any]:
        await asyncio.sleep(0.01)
        raise HarnessError("the warden is gone")


def test_a_heal_that_fails_beside_the_plan_fails_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.faults.conductor.HEAL_PATIENCE_S", 0.0)

    async def scenario() -> None:
        stage = Stage(Broken(), {"kill": Kill({})}, kill())
        await stage.do("start-kill", 0)
        await stage.do("stop-kill", 0)
        with pytest.raises(HarnessError, match="the warden is gone"):
            await stage.do("heal")

    asyncio.run(scenario())


def test_a_run_that_ends_without_a_heal_gives_up_the_restarts_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.faults.conductor.HEAL_PATIENCE_S", 0.0)

    async def scenario() -> None:
        stage = Stage(Slow(), {"kill": Kill({})}, kill())
        await stage.do("start-kill", 0)
        await stage.do("stop-kill", 0)
        await stage.conductor.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert others == set()

    asyncio.run(scenario())
