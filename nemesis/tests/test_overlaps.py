"""Any number of strikes may be in force, of one kind too; heals undo their own part."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.faults import conductor
from harness.faults.conductor import Conductor
from harness.faults.fault import Fault
from harness.faults.force import RETURN_RATE, SHARE_MIN, Skew
from harness.faults.plan import Plan, Step, Trigger
from harness.history import Op
from harness.registry import plugins
from harness.worlds.capabilities import CLOCKS
from harness.worlds.disks import Damage, DiskRule, Loss
from harness.worlds.network import LinkRule, merge
from nemesis.disk import rule_of
from nemesis.kill import Kill
from nemesis.tests.fake_cluster import FakeCluster

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.data import Json
    from harness.faults.cluster import Cluster
    from harness.faults.fault import NodeNames, Strike
    from harness.faults.force import Grip
    from harness.worlds.clocks import ClockSetting
    from harness.worlds.network import Link
    from harness.worlds.processes import Resource

NODES = FakeCluster.nodes
ENDS = ("kill", "power")
"""Kinds that end a node's process, and hold the node down."""
KINDS = {kind: plugin.factory({}) for kind, plugin in plugins("nemesis").items()}


class Homing(FakeCluster):
    """A cluster whose monotonic clocks return to true time at once.

    Attributes:
        return_rates: Node -> the rate at which its clock returned last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.return_rates: dict[str, float] = {}

    async def set_clock(self, node: str, setting: ClockSetting) -> None:
        await super().set_clock(node, setting)
        if setting.mono is not None and setting.mono.returns and node in self.running:
            self.return_rates[node] = setting.mono.rate
            self.offsets[node][1], self.rates[node][1] = 0, 1.0


class Stage:
    """A plan's conductor, told step by step what to do."""

    def __init__(self, *faults: Fault) -> None:
        self.cluster = Homing()
        self.lines: list[Mapping[str, Any]] = []
        self.follow(tuple(Step(Trigger(time_s=0.0), fault, 1.0) for fault in faults))

    def follow(self, plan: Plan) -> None:
        self.conductor = Conductor(
            plan, KINDS, cast("Cluster", self.cluster), self.lines.append
        )

    async def do(self, f: str, step: int | None = None) -> None:
        await self.conductor.invoke(Op(0, 0, "nemesis", "invoke", f, step))

    def end_of(self, step: int) -> Mapping[str, Any]:
        """The line of faults.jsonl about the end of `step`."""
        [line] = (x for x in self.lines if (x["id"], x["event"]) == (step, "end"))
        return line


class Model:
    """What should be in force, straight from the definitions of the faults.

    Attributes:
        in_force: Step -> its fault, and which life of each node it struck.
        life: Node -> how often it was killed.
    """

    def __init__(self) -> None:
        self.in_force: dict[int, tuple[Fault, dict[str, int]]] = {}
        self.life = dict.fromkeys(NODES, 0)
        self.leapt_ns = dict.fromkeys(NODES, 0)

    def start(self, step: int, fault: Fault) -> None:
        down = self.down()
        if fault.kind in {"pause", "clock", "limits"} and set(fault.target) <= down:
            return  # nothing runs that it could strike
        lives = {node: n for node, n in self.life.items() if node not in down}
        if is_restart(fault):
            for node in set(fault.target) - down:
                self.life[node] += 1
                self.leapt_ns[node] = 0
            lives = {node: n for node, n in self.life.items() if node not in down}
        self.in_force[step] = fault, lives
        if fault.kind in (*ENDS, "rot"):
            for node in set(fault.target) - down:
                self.life[node] += 1
                self.leapt_ns[node] = 0
        for node in self.struck("clock") if fault.kind == "clock" else ():
            if fault.text("clock") == "mono" and node in set(fault.target) - down:
                self.leapt_ns[node] += jump_ns(fault)

    def stop(self, step: int) -> None:
        self.in_force.pop(step, None)
        for node in NODES:
            if not self.clocks(node, "mono"):
                self.leapt_ns[node] = 0

    def down(self) -> set[str]:
        return {
            node
            for fault, _ in self.in_force.values()
            if fault.kind in ENDS
            for node in fault.target
        }

    def struck(self, kind: str) -> set[str]:
        """Nodes whose running process a fault of this kind struck and still holds."""
        return {
            node
            for fault, lives in self.in_force.values()
            if fault.kind == kind
            for node in fault.target
            if lives.get(node) == self.life[node]
        }

    def share(self, node: str) -> float:
        faults = [fault for fault, _ in self.in_force.values()]
        starved = [x for x in faults if x.kind == "starve" and node in x.target]
        share = math.prod(fault.number("share") for fault in starved)
        return round(max(SHARE_MIN, share), 9)

    def spare(self) -> dict[tuple[str, Resource], int]:
        """The least that strikes leave to the processes that they struck."""
        spare: dict[tuple[str, Resource], int] = {}
        for fault, lives in self.in_force.values():
            if fault.kind == "limits":
                for node in fault.target:
                    key: tuple[str, Resource] = node, "files"
                    if lives.get(node) == self.life[node]:
                        least = int(fault.number("spare"))
                        spare[key] = min(least, spare.get(key, least))
        return spare

    def clocks(self, node: str, clock: str) -> list[Fault]:
        return [
            fault
            for fault, lives in self.in_force.values()
            if fault.kind == "clock" and fault.text("clock") == clock
            if node in fault.target and lives.get(node) == self.life[node]
        ]

    def rules(self) -> dict[Link, LinkRule]:
        rules: dict[Link, list[LinkRule]] = {}
        for fault, _ in self.in_force.values():
            if fault.kind == "partition":
                for link in fault.pairs("cut"):
                    rules.setdefault(link, []).append(LinkRule(cut=True))
            elif fault.kind == "loss":
                for a in NODES:
                    for b in NODES:
                        if a != b and {a, b} & set(fault.target):
                            rule = LinkRule(loss=fault.number("loss"))
                            rules.setdefault((a, b), []).append(rule)
        return {link: merge(laid) for link, laid in rules.items()}

    def broken(self) -> dict[str, list[DiskRule]]:
        rules: dict[str, list[DiskRule]] = {}
        for fault, _ in self.in_force.values():
            if fault.kind == "disk":
                for node in fault.target:
                    rules.setdefault(node, []).append(rule_of(fault))
        return rules

    def damaged(self) -> set[str]:
        faults = [fault for fault, _ in self.in_force.values()]
        return {node for x in faults if x.kind == "rot" for node in x.target}

    def compare(self, cluster: FakeCluster) -> None:
        assert cluster.disks.rules == self.broken()
        assert set(cluster.disks.scars) == self.damaged()
        assert set(cluster.running) == set(NODES) - self.down()
        assert cluster.stopped == self.struck("pause")
        assert cluster.spare == self.spare()
        for node in NODES:
            assert round(cluster.shares.get(node, 1.0), 9) == self.share(node)
        assert cluster.network.rules == self.rules()
        for node in cluster.running:
            wall, mono = (self.clocks(node, clock) for clock in ("wall", "mono"))
            assert cluster.offsets[node] == [
                sum(jump_ns(fault) for fault in wall),
                self.leapt_ns[node],
            ]
            assert [round(rate, 9) for rate in cluster.rates[node]] == [
                round(math.prod(rate(fault) for fault in faults), 9)
                for faults in (wall, mono)
            ]


def jump_ns(fault: Fault) -> int:
    return int(fault.number("offset_ms", 0) * 1e6)


def rate(fault: Fault) -> float:
    if fault.params["mode"] == "freeze":
        return {"wall": 0.0, "mono": RETURN_RATE}[fault.text("clock")]
    return fault.number("rate", 1.0)


def is_restart(fault: Fault) -> bool:
    return fault.params.get("mode") == "restart"


def clock(clock: str, target: list[str], **amount: Json) -> Fault:
    mode = "drift" if "rate" in amount else "bump"
    params: dict[str, Json] = {"mode": mode, "clock": clock, "target": target}
    return Fault("clock", {**params, **amount})


# With more nodes, faults would hardly meet.
TARGETS = st.lists(st.sampled_from(NODES[:2]), min_size=1, unique=True)
FAULTS = st.one_of(
    st.builds(lambda t: Fault("kill", {"target": t}), TARGETS),
    st.builds(lambda t: Fault("power", {"target": t}), TARGETS),
    st.builds(lambda t: Fault("rot", {"target": t, "decay": "flip"}), TARGETS),
    st.builds(
        lambda t, mode: Fault("disk", {"target": t, "mode": mode, "delay_ms": 1.0}),
        TARGETS,
        st.sampled_from(["eio", "slow"]),
    ),
    st.builds(lambda t: Fault("pause", {"target": t}), TARGETS),
    st.builds(
        lambda t, share: Fault("starve", {"target": t, "share": share}),
        TARGETS,
        st.sampled_from([0.5, 0.25]),
    ),
    st.builds(
        lambda t, n: Fault("limits", {"target": t, "resource": "files", "spare": n}),
        TARGETS,
        st.integers(0, 3),
    ),
    st.builds(lambda t: Fault("loss", {"target": t, "loss": 0.25}), TARGETS),
    st.builds(
        lambda t: Fault("partition", {"cut": [[n, m] for n in t for m in NODES[3:]]}),
        st.lists(st.sampled_from(NODES[:3]), min_size=1, unique=True),
    ),
    st.builds(
        lambda c, t, ms: clock(c, t, offset_ms=ms),
        st.sampled_from(["wall", "mono"]),
        TARGETS,
        st.sampled_from([100.0, 2000.0]),
    ),
    st.builds(
        lambda c, t, rate: clock(c, t, rate=rate),
        st.sampled_from(["wall", "mono"]),
        TARGETS,
        st.sampled_from([0.5, 2.0, 1.5]),
    ),
    st.builds(
        lambda c, t: clock(c, t, mode="freeze"), st.sampled_from(CLOCKS), TARGETS
    ),
    st.builds(lambda t: clock("wall", t, mode="restart", offset_ms=-3000.0), TARGETS),
)


@given(
    faults=st.lists(FAULTS, min_size=1, max_size=8),
    turns=st.lists(st.integers(0, 99), max_size=24),
)
def test_what_is_in_force_is_what_unhealed_strikes_add_up_to(
    faults: list[Fault], turns: list[int]
) -> None:
    async def scenario() -> None:
        stage, model, begun = Stage(*faults), Model(), 0
        for turn in turns:
            if turn % 2 and begun < len(faults):
                await stage.do(f"start-{faults[begun].kind}", begun)
                model.start(begun, faults[begun])
                begun += 1
            elif begun:
                step = turn // 2 % begun
                await stage.do(f"stop-{faults[step].kind}", step)
                model.stop(step)
            model.compare(stage.cluster)
            kinds = {fault.kind for fault, _ in model.in_force.values()}
            assert stage.conductor.in_force() == kinds
        await stage.do("heal")
        Model().compare(stage.cluster)
        # Each strike that began has ended, once, with a verdict on whether it bit; or
        # there was nothing to strike until its time was over.
        over = {"end", "skipped"}
        ends = [line["id"] for line in stage.lines if line["event"] in over]
        assert sorted(ends) == list(range(begun))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conductor, "RETRY_S", 1e6)  # no trial depends on how fast we are
        asyncio.run(scenario())


def test_steps_that_a_plan_keeps_apart_stay_apart_when_they_are_late() -> None:
    async def scenario() -> Stage:
        stage = Stage()
        first, second = (Step(Trigger(time_s=at), KILLS[0], 2.0) for at in (1.0, 3.5))
        stage.follow((first, second))
        for f, step in ("start", 0), ("start", 1), ("stop", 0), ("stop", 1):
            await stage.do(f"{f}-kill", step)
            assert stage.conductor.in_force() == ({"kill"} if f == "start" else set())
        return stage

    lines = asyncio.run(scenario()).lines
    told = [(x["event"], x["id"]) for x in lines if x["event"] != "asked"]
    assert told == [("start", 0), ("end", 0), ("start", 1), ("end", 1)]


KILLS = [Fault("kill", {"target": t}) for t in (["n1", "n2"], ["n2", "n3"])]


def test_a_node_that_two_kills_hold_comes_back_with_the_second_heal() -> None:
    async def scenario() -> Stage:
        stage = Stage(*KILLS)
        await stage.do("start-kill", 0)
        await stage.do("start-kill", 1)
        await stage.do("stop-kill", 0)
        assert stage.cluster.dead() == ("n2", "n3")
        await stage.do("stop-kill", 1)
        assert stage.cluster.dead() == ()
        return stage

    stage = asyncio.run(scenario())
    assert set(stage.end_of(0)["evidence"]["restarted"]) == {"n1"}
    assert stage.end_of(0)["evidence"]["left_to_others"] == ["n2"]
    assert set(stage.end_of(1)["evidence"]["restarted"]) == {"n2", "n3"}
    assert stage.end_of(1)["evidence"]["held_for_longer"] == ["n2"]


def test_a_kill_of_what_is_down_bites_if_it_outlasts_the_other() -> None:
    async def scenario(*, outlasts: bool) -> Any:
        stage = Stage(KILLS[0], KILLS[0])
        for step in (0, 1):
            await stage.do("start-kill", step)
        for step in (0, 1) if outlasts else (1, 0):
            await stage.do("stop-kill", step)
        return stage.end_of(1)["bit"]

    assert asyncio.run(scenario(outlasts=True)) is True
    assert asyncio.run(scenario(outlasts=False)) is False


@pytest.mark.parametrize("order", [(0, 2), (2, 0)])
@pytest.mark.parametrize(
    "fault", [Fault("pause", {"target": ["n1"]}), clock("wall", ["n1"], offset_ms=100)]
)
def test_what_runs_after_a_restart_is_nobody_s_until_it_is_struck(
    fault: Fault, order: tuple[int, int]
) -> None:
    async def scenario() -> None:
        stage = Stage(fault, Fault("kill", {"target": ["n1"]}), fault)
        cluster = stage.cluster
        for f, step in ("start", 0), ("start", 1), ("stop", 1):
            await stage.do(f"{f}-kind", step)
        assert (cluster.stopped, cluster.offsets["n1"]) == (set(), [0, 0])
        await stage.do("start-kind", 2)
        struck = cluster.stopped, list(cluster.offsets["n1"])
        assert struck != (set(), [0, 0])
        for step in order:
            await stage.do("stop-kind", step)
            now = cluster.stopped, cluster.offsets["n1"]
            assert now == (struck if step == order[0] == 0 else (set(), [0, 0]))

    asyncio.run(scenario())


class Forgetful(Kill):
    """Takes hold of everything, and lets go of nothing."""

    async def do(
        self, fault: Fault, nodes: NodeNames, cluster: Grip
    ) -> tuple[dict[str, Json], bool]:
        await cluster.pause(["n4"])
        await cluster.starve(["n4"], 0.5)
        await cluster.limit("n4", "files", 1)
        await cluster.shape_links({("n4", "n5"): LinkRule(loss=0.5)})
        await cluster.rule_disks(["n3"], [DiskRule(error="EIO")])
        await cluster.damage("n3", Damage("flip"))
        await cluster.cut_power({"n3": Loss()})
        await cluster.skew("n5", "wall", Skew(1_000_000), 0)
        cluster.take("the keys")
        cluster.meanwhile(asyncio.sleep(1e6))
        return await super().do(fault, nodes, cluster)

    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        return strike


def test_whatever_a_kind_forgets_to_heal_is_let_go_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        stage = Stage(Fault("kill", {"target": ["n1"]}))
        await stage.do("start-kill", 0)
        assert stage.cluster.dead() == ("n1", "n3")
        assert stage.cluster.network.rules
        await stage.do("stop-kill", 0)
        Model().compare(stage.cluster)
        await stage.do("heal")

    monkeypatch.setitem(KINDS, "kill", Forgetful({}))
    asyncio.run(scenario())


class Failing(Forgetful):
    """Fails when half of it is done."""

    async def do(
        self, fault: Fault, nodes: NodeNames, cluster: Grip
    ) -> tuple[dict[str, Json], bool]:
        await super().do(fault, nodes, cluster)
        raise HarnessError("the switch is gone")


def test_a_strike_that_fails_half_way_is_healed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        stage = Stage(Fault("kill", {"target": ["n1"]}))
        with pytest.raises(HarnessError, match="the switch is gone"):
            await stage.do("start-kill", 0)
        Model().compare(stage.cluster)
        assert stage.conductor.in_force() == frozenset()
        await stage.do("heal")
        assert not [line for line in stage.lines if line["event"] == "start"]

    monkeypatch.setitem(KINDS, "kill", Failing({}))
    asyncio.run(scenario())


class FailsToHeal(Forgetful):
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        raise HarnessError("the switch is gone")


async def break_down() -> None:
    raise HarnessError("the switch is gone")


class FailsMeanwhile(Kill):
    async def do(
        self, fault: Fault, nodes: NodeNames, cluster: Grip
    ) -> tuple[dict[str, Json], bool]:
        cluster.meanwhile(break_down())
        return await super().do(fault, nodes, cluster)


@pytest.mark.parametrize("failing", [FailsToHeal, FailsMeanwhile])
def test_a_heal_that_fails_half_way_lets_go_all_the_same(
    failing: type[Kill], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        stage = Stage(Fault("kill", {"target": ["n1"]}))
        await stage.do("start-kill", 0)
        await asyncio.sleep(0)
        with pytest.raises(HarnessError, match="the switch is gone"):
            await stage.do("stop-kill", 0)
        Model().compare(stage.cluster)
        assert stage.conductor.in_force() == frozenset()
        await stage.do("heal")
        events = [line["event"] for line in stage.lines]
        assert events == ["asked", "start", "failed"]

    monkeypatch.setitem(KINDS, "kill", failing({}))
    asyncio.run(scenario())


def test_a_strobe_and_a_bump_of_one_clock_leave_each_other_alone() -> None:
    async def scenario() -> None:
        strobe: dict[str, Json] = {"mode": "strobe", "clock": "wall", "target": ["n1"]}
        amounts: dict[str, Json] = {"offset_ms": 100.0, "period_ms": 1}
        stage = Stage(
            clock("wall", ["n1"], offset_ms=5000.0),
            Fault("clock", strobe | amounts),
        )
        seen: set[int] = set()

        async def watch(count: int) -> None:
            seen.clear()
            async with asyncio.timeout(10):
                while len(seen) < count:
                    seen.add(stage.cluster.offsets["n1"][0] // 1_000_000)
                    await asyncio.sleep(0)

        await stage.do("start-clock", 0)
        await stage.do("start-clock", 1)
        await watch(2)
        assert seen == {5000, 5100}
        await stage.do("stop-clock", 0)
        await watch(2)
        assert seen == {0, 100}
        await stage.do("stop-clock", 1)
        assert stage.cluster.offsets["n1"] == [0, 0]

    asyncio.run(scenario())


def test_a_monotonic_clock_returns_as_fast_as_the_fastest_of_its_faults_would() -> None:
    async def scenario(*order: int) -> float:
        leap, drift = (
            clock("mono", ["n1"], offset_ms=1000.0),
            clock("mono", ["n1"], rate=0.5),
        )
        stage = Stage(leap, drift)
        for step in (0, 1):
            await stage.do("start-clock", step)
        for step in order:
            assert not stage.cluster.return_rates
            await stage.do("stop-clock", step)
        return stage.cluster.return_rates["n1"]

    assert asyncio.run(scenario(0, 1)) == asyncio.run(scenario(1, 0)) == RETURN_RATE
