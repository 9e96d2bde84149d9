"""The conductor tells what became of each fault, whatever its nemesis does."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from harness.faults.conductor import RETRY_S, Conductor
from harness.faults.fault import Fault, Skip, Strike
from harness.faults.nemesis import Nemesis
from harness.faults.plan import Step, Trigger
from harness.history import Op
from harness.override import override
from harness.run.lifecycle import Life, lives
from harness.run.records import FaultLine
from harness.worlds.capabilities import Capabilities
from harness.worlds.sim.loop import VirtualTimeLoop
from nemesis.kill import Kill
from nemesis.tests.fake_cluster import FakeCluster

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from random import Random

    from harness.faults.cluster import Cluster
    from harness.faults.force import Grip
    from harness.faults.states import Effect


class Scripted(Nemesis):
    """Kills n1, unless its script says "skip", or to raise or hang at a strike.

    Attributes:
        script: What the next strikes do; once it is empty, they succeed.
        heals: Whether heals succeed.
    """

    kind = "scripted"
    needs = Capabilities()
    background = False

    def __init__(self, *script: str, heals: bool = True) -> None:
        self.script = list(script)
        self.heals = heals

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        return Fault(self.kind)

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        pass

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        does = self.script.pop(0) if self.script else "succeed"
        if does == "skip":
            raise Skip("nobody leads")
        await cluster.kill(["n1"])
        if does == "hang":
            await asyncio.sleep(3600)
        if does == "raise":
            raise ValueError("half-way")
        return Strike(fault, "scripted", ("n1",), {}, True)

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        if not self.heals:
            raise ValueError("half-way")
        await cluster.restart(["n1"])
        return strike


class Scene:
    """A conductor of one scripted fault (step 0) and one kill of n2 (step 1)."""

    def __init__(self, nemesis: Nemesis) -> None:
        self.cluster = FakeCluster()
        self.lines: list[Mapping[str, Any]] = []
        plan = (
            Step(Trigger(time_s=0.0), Fault("scripted"), 10.0),
            Step(Trigger(time_s=0.1), Fault("kill", {"target": ["n2"]}), 10.0),
        )
        nemeses: dict[str, Nemesis] = {"scripted": nemesis, "kill": Kill({})}
        self.conductor = Conductor(
            plan, nemeses, cast("Cluster", self.cluster), self.lines.append
        )

    async def do(self, f: str, step: int | None = None) -> Any:
        done = await self.conductor.invoke(Op(0, 0, "nemesis", "info", f, step))
        return done.value

    @property
    def events(self) -> list[tuple[Any, str]]:
        return [(line["id"], line["event"]) for line in self.lines]

    @property
    def lives(self) -> list[Life]:
        lines = [
            msgspec.convert(line, FaultLine, from_attributes=True)
            for line in self.lines
        ]
        return lives(lines)[0]


def in_virtual_time(scenario: Coroutine[Any, Any, None]) -> None:
    loop = VirtualTimeLoop()  # type: ignore[abstract]  # see the loop's module
    try:
        loop.run_until_complete(scenario)
    finally:
        loop.close()


@pytest.mark.parametrize("heals_late", [False, True])
def test_a_strike_with_nothing_to_strike_is_tried_again_and_holds_up_no_other_step(
    heals_late: bool,
) -> None:
    async def scenario() -> None:
        scene = Scene(Scripted(*["skip"] * 5))
        assert await scene.do("start-scripted", 0) == "put off: nobody leads"
        assert scene.conductor.in_force() == frozenset()
        assert await scene.do("start-kill", 1) == "kill n2"
        assert scene.cluster.dead() == ("n2",)
        if heals_late:
            await asyncio.sleep(5.5 * RETRY_S)
            assert scene.conductor.in_force() == {"scripted", "kill"}
            assert await scene.do("stop-scripted", 0) == "scripted"
        else:
            await asyncio.sleep(2.5 * RETRY_S)
            assert await scene.do("stop-scripted", 0) is None
            await asyncio.sleep(10 * RETRY_S)
        await scene.do("heal")
        assert scene.cluster.dead() == ()
        await scene.conductor.close()
        [life, kill] = scene.lives
        assert kill.effect == "bit"
        assert life.effect == ("bit" if heals_late else "skipped")
        if not heals_late:
            assert life.skipped is not None
            assert life.skipped.evidence == {"reason": "nobody leads", "trials": 3}
            assert life.skipped.title == "scripted skipped: nobody leads"
            assert (0, "start") not in scene.events

    in_virtual_time(scenario())


@pytest.mark.parametrize("ended_by", ["heal", "close"])
def test_a_strike_that_is_still_put_off_when_the_run_ends_is_skipped(
    ended_by: str,
) -> None:
    async def scenario() -> None:
        scene = Scene(Scripted(*["skip"] * 9))
        await scene.do("start-scripted", 0)
        if ended_by == "heal":
            await scene.do("heal")
        await scene.conductor.close()
        assert scene.events == [(0, "asked"), (0, "skipped")]

    in_virtual_time(scenario())


def test_a_strike_that_the_end_of_a_run_cuts_off_was_not_skipped() -> None:
    async def scenario() -> None:
        scene = Scene(Scripted("skip", "hang"))
        await scene.do("start-scripted", 0)
        await asyncio.sleep(2 * RETRY_S)
        assert "n1" not in scene.cluster.running
        await scene.conductor.close()
        assert scene.events == [(0, "asked")]
        assert [life.effect for life in scene.lives] == ["indeterminate"]

    in_virtual_time(scenario())


@pytest.mark.parametrize("ended_by", ["stop-scripted", "close"])
def test_work_of_a_strike_that_failed_is_told_once_however_the_run_ends(
    ended_by: str,
) -> None:
    class Working(Scripted):
        @override
        async def strike(self, fault: Fault, cluster: Grip) -> Strike:
            async def work() -> None:
                raise ValueError("the switch died")

            cluster.meanwhile(work())
            return await super().strike(fault, cluster)

    async def scenario() -> None:
        unheard: list[Any] = []
        loop = asyncio.get_running_loop()
        cast("Any", loop).call_exception_handler = unheard.append
        scene = Scene(Working())
        await scene.do("start-scripted", 0)
        await asyncio.sleep(1.0)
        closes = ended_by == "close"
        ends = scene.conductor.close() if closes else scene.do(ended_by, 0)
        with pytest.raises(ValueError, match="the switch died"):
            await ends
        await scene.conductor.close()
        del scene
        gc.collect()
        assert unheard == []

    in_virtual_time(scenario())


@pytest.mark.parametrize("script", [["raise"], ["skip", "raise"]])
def test_a_nemesis_that_raises_amid_its_strike_leaves_nothing_in_force(
    script: list[str],
) -> None:
    async def scenario() -> None:
        scene = Scene(Scripted(*script))
        first = "start" if script == ["raise"] else "stop"
        if first == "stop":  # what is raised beside operations, the next one raises
            await scene.do("start-scripted", 0)
            await asyncio.sleep(2 * RETRY_S)
        with pytest.raises(ValueError, match="half-way"):
            await scene.do(f"{first}-scripted", 0)
        assert scene.cluster.dead() == ()
        await scene.conductor.close()
        assert scene.events == [(0, "asked"), (0, "failed")]
        failed = scene.lives[0].failed
        assert failed is not None
        assert failed.title == "scripted failed at its strike: ValueError: half-way"
        assert failed.evidence["released"] is True
        assert (scene.lives[0].effect, scene.lives[0].healed) == ("failed", True)

    in_virtual_time(scenario())


def test_a_nemesis_that_raises_amid_a_heal_leaves_nothing_in_force_of_any_fault() -> (
    None
):
    async def scenario() -> None:
        scene = Scene(Scripted(heals=False))
        await scene.do("start-scripted", 0)
        await scene.do("start-kill", 1)
        assert scene.cluster.dead() == ("n1", "n2")
        with pytest.raises(ValueError, match="half-way"):
            await scene.do("heal")
        assert scene.cluster.dead() == ()
        effects: list[Effect] = [life.effect for life in scene.lives]
        assert effects == ["failed", "bit"]
        assert all(life.healed for life in scene.lives)

    in_virtual_time(scenario())


def test_who_leads_is_asked_before_a_step_whose_time_is_known() -> None:
    class Slow(FakeCluster):
        async def leader(self) -> str | None:
            await asyncio.sleep(0.05)
            return self.leads

    async def scenario() -> None:
        scene = Scene(Scripted())
        scene.cluster = Slow()
        scene.cluster.tells_leader = True
        plan = tuple(
            Step(Trigger(time_s=time_s), Fault("kill", {"target": ["n2"]}), 0.5)
            for time_s in (0.0, 2.0, 2.05)
        )
        scene.conductor = Conductor(
            plan, {"kill": Kill({})}, cast("Cluster", scene.cluster), scene.lines.append
        )
        ahead = asyncio.create_task(scene.conductor.look_ahead())
        for step, at_s in enumerate((0.0, 2.0, 2.05)):
            await asyncio.sleep(at_s - asyncio.get_running_loop().time())
            scene.cluster.leads = None  # as if it was killed before it could answer
            await scene.do("start-kill", step)
            await asyncio.sleep(0.1)
            scene.cluster.leads = "n3"
        await ahead
        await scene.do("heal")
        await scene.conductor.close()
        found = [life.leader_start for life in scene.lives]
        leaders = [None if line is None else line.leader for line in found]
        assert leaders == [None, "n3", "n3"]

    in_virtual_time(scenario())


def test_who_leads_is_asked_beside_and_told_for_start_and_end() -> None:
    class Slow(FakeCluster):
        async def leader(self) -> str | None:
            await asyncio.sleep(0.5)
            return self.leads

    async def scenario() -> None:
        scene = Scene(Scripted())
        slow = Slow()
        slow.tells_leader = True
        scene.conductor = Conductor(
            (Step(Trigger(time_s=0.0), Fault("kill", {"target": ["n2"]}), 10.0),),
            {"kill": Kill({})},
            cast("Cluster", slow),
            scene.lines.append,
        )
        begun_s = asyncio.get_running_loop().time()
        await scene.do("start-kill", 0)
        assert asyncio.get_running_loop().time() == begun_s
        await asyncio.sleep(1)
        slow.leads = None
        await scene.do("stop-kill", 0)
        await asyncio.sleep(1)
        await scene.conductor.close()
        [life] = scene.lives
        assert life.leader_start is not None
        assert life.leader_end is not None
        assert (life.leader_start.leader, life.leader_end.leader) == ("n3", None)
        assert life.leader_end.title == "no node says that it leads"

    in_virtual_time(scenario())
