"""The watchdog starts what exits on its own, and leaves to faults what is theirs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from harness.faults.watchdog import RESTART_AFTER_S_MAX, Watchdog
from harness.worlds.sim.loop import VirtualTimeLoop
from harness.worlds.world import TrueTime
from nemesis.tests.fake_cluster import FakeCluster, gripped

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from harness.data import Json
    from harness.faults.cluster import Cluster


class Scene:
    """A cluster whose nodes can crash, in virtual time, and its watchdog's notes."""

    def __init__(self) -> None:
        loop = cast("VirtualTimeLoop", asyncio.get_running_loop())
        self.fake = FakeCluster()
        self.fake.time = TrueTime(lambda: loop.now_ns, lambda: loop.now_ns)
        self.notes: list[tuple[float, str]] = []
        self.loop = loop
        self.watchdog = Watchdog(cast("Cluster", self.fake), self.note)

    def note(
        self, kind: str, nodes: Sequence[str], _: str, __: Mapping[str, Json]
    ) -> None:
        assert kind == "node-restart"
        self.notes.append((self.loop.now_ns / 1e9, nodes[0]))

    def crash(self, node: str) -> None:
        del self.fake.running[node]
        self.fake.on_crash(node)


def virtually(main: Coroutine[Any, Any, None]) -> None:
    loop = VirtualTimeLoop()  # type: ignore[abstract]  # see the loop's module
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main)


def test_a_node_that_exits_again_and_again_is_waited_for_ever_longer() -> None:
    async def story() -> None:
        scene = Scene()
        waits = []
        for _ in range(8):
            before_s = scene.loop.now_ns / 1e9
            scene.crash("n2")
            await asyncio.sleep(5)
            assert scene.fake.dead() == ()
            waits.append(round(scene.notes[-1][0] - before_s, 3))
        assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 3.2, 3.2]
        assert waits[-1] == RESTART_AFTER_S_MAX
        await asyncio.sleep(10)
        scene.crash("n2")
        scene.crash("n3")
        await asyncio.sleep(0.11)
        assert [node for _, node in scene.notes[-2:]] == ["n2", "n3"]
        await scene.watchdog.close()

    virtually(story())


def test_a_node_that_a_fault_holds_down_is_left_to_it() -> None:
    async def story() -> None:
        scene = Scene()
        strike = gripped(scene.fake)
        scene.crash("n2")
        await strike.kill(["n2"])
        await asyncio.sleep(5)
        assert scene.notes == []
        assert scene.fake.dead() == ("n2",)
        await strike.restart(["n2"])
        assert scene.fake.dead() == ()
        await scene.watchdog.close()

    virtually(story())


def test_what_a_healed_fault_explains_keeps_no_node_down() -> None:
    async def main() -> None:
        fake = FakeCluster()
        cluster = gripped(fake)
        await cluster.limit("n1", "files", 0)
        assert fake.held_down("n1"), "it would only end again"
        await cluster.unlimit()
        assert fake.why_it_may_end("n1") == "while its files had a low limit"
        assert not fake.held_down("n1")

    virtually(main())


def test_what_is_started_by_others_first_is_not_started_twice() -> None:
    async def story() -> None:
        scene = Scene()
        scene.crash("n2")
        await scene.fake.restart(["n2"])
        await asyncio.sleep(5)
        assert scene.notes == []
        await scene.watchdog.close()

    virtually(story())


def test_a_closed_watchdog_starts_nothing() -> None:
    async def story() -> None:
        scene = Scene()
        scene.crash("n2")
        await scene.watchdog.close()
        scene.crash("n3")
        await asyncio.sleep(5)
        assert scene.fake.dead() == ("n2", "n3")

    virtually(story())
