"""The parts of the simulator: loop, links, clocks, disk, and a node's duties."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError, NodeReply
from harness.systems.logs import open_log
from harness.systems.wire import WireCounters
from harness.worlds.clocks import TRUE_CLOCKS, ClockLine, ClockSetting
from harness.worlds.disks import Damage, DiskRule, Loss
from harness.worlds.events import Observed
from harness.worlds.network import LinkRule, MessageRule
from harness.worlds.sim.client import Dialler
from harness.worlds.sim.clock import MONO_EPOCH_NS, NodeClock
from harness.worlds.sim.conditions import (
    FSYNC_MS,
    LATENCY_MS,
    WORST,
    Conditions,
    lasting_ns,
)
from harness.worlds.sim.disks import SimDisks
from harness.worlds.sim.loop import VirtualTimeLoop
from harness.worlds.sim.network import SimLink, SimNetwork
from harness.worlds.sim.node import (
    EXIT_DATA,
    EXIT_INVARIANT,
    EXIT_MACHINE,
    EXIT_RAISED,
    SimNode,
)
from harness.worlds.sim.observed import Journal
from reference_impls.actor import (
    Effect,
    Event,
    Observe,
    Persist,
    Received,
    Record,
    Reply,
    Send,
    SetTimer,
    TimerFired,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

MS = 1_000_000
CALM = Conditions(latency_ms=1.0, fsync_ms=10.0, cut_holds=False)


def new_loop() -> VirtualTimeLoop:
    return VirtualTimeLoop()  # type: ignore[abstract]  # see the loop's module


def virtually(main: Coroutine[Any, Any, Any], loop: VirtualTimeLoop) -> Any:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)


# --- the loop --------------------------------------------------------------------


def test_an_hour_passes_at_once_and_to_the_nanosecond() -> None:
    loop = new_loop()

    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert virtually(main(), loop) == 3600.0
    assert loop.now_ns == 3600 * 10**9


def test_timers_fire_in_order_of_time_and_then_of_setting() -> None:
    loop = new_loop()
    fired: list[int] = []

    async def main() -> None:
        for number, delay_s in enumerate((0.3, 0.1, 0.1, 0.2)):
            loop.call_later(delay_s, fired.append, number)
        loop.call_later(0.15, fired.append, -1).cancel()
        loop.at_ns(100 * MS, fired.append, 9)
        await asyncio.sleep(1)

    virtually(main(), loop)
    assert fired == [1, 2, 9, 3, 0]


def test_a_timeout_comes_in_virtual_time() -> None:
    loop = new_loop()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()

    virtually(main(), loop)
    assert loop.now_ns == 5 * 10**9


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


def test_waiting_for_what_cannot_come_is_an_error_and_not_a_hang() -> None:
    loop = new_loop()
    waiting = wait_for_ever()
    with pytest.raises(HarnessError, match="can't come"):
        loop.run_until_complete(waiting)
    for task in asyncio.all_tasks(loop):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)


def test_a_failure_that_nobody_waits_for_ends_the_simulation() -> None:
    loop = new_loop()

    def broken(_: None) -> None:
        raise KeyError("ours")

    async def main() -> None:
        loop.call_soon(broken, None)
        await asyncio.sleep(1)

    with pytest.raises(KeyError, match="ours"):
        virtually(main(), loop)


def test_real_threads_and_sockets_have_no_place_in_it() -> None:
    async def main() -> None:
        with pytest.raises(NotImplementedError):
            await asyncio.to_thread(print)
        with pytest.raises(NotImplementedError):
            await asyncio.open_connection("127.0.0.1", 1)

    virtually(main(), new_loop())


# --- conditions ------------------------------------------------------------------


@given(st.integers(0, 10**6))
def test_conditions_come_from_the_seed_and_stay_within_bounds(seed: int) -> None:
    conditions = Conditions.draw(seed)
    assert conditions == Conditions.draw(seed)
    assert LATENCY_MS[0] <= conditions.latency_ms <= LATENCY_MS[1]
    assert FSYNC_MS[0] <= conditions.fsync_ms <= FSYNC_MS[1]


def test_what_takes_time_takes_as_long_as_its_mean_says() -> None:
    rng = Random(1)
    times_ms = [lasting_ns(rng, 2.0) / 1e6 for _ in range(5000)]
    assert 1.0 <= min(times_ms) <= max(times_ms) <= 2.0 * WORST
    assert 1.8 <= sum(times_ms) / len(times_ms) <= 2.1


# --- clocks ----------------------------------------------------------------------


def pass_time(loop: VirtualTimeLoop, ms: int) -> None:
    loop.now_ns += ms * MS


def test_wall_and_monotonic_clocks_are_skewed_apart() -> None:
    loop = new_loop()
    clock = NodeClock(loop)
    clock.set(ClockSetting(wall=ClockLine(-5 * MS), mono=ClockLine(rate=2.0)))
    pass_time(loop, 10)
    reading = clock.reading()
    assert (reading.wall_offset_ns, reading.mono_offset_ns) == (-5 * MS, 10 * MS)


@given(st.floats(0.1, 10.0), st.integers(0, 10**10))
def test_a_deadline_is_due_when_the_node_wakes_for_it(rate: float, wait: int) -> None:
    loop = new_loop()
    clock = NodeClock(loop)
    clock.set(ClockSetting(mono=ClockLine(rate=rate)))
    deadline_ns = MONO_EPOCH_NS + wait
    loop.now_ns = clock.when_ns(deadline_ns)
    assert clock.now().mono_ns >= deadline_ns


@given(
    st.floats(0.01, 0.99),
    st.integers(-(10**9), 10**9),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=20),
)
def test_a_clock_returns_to_the_truth_without_ever_running_backwards(
    rate: float, ahead_ns: int, steps_ns: list[int]
) -> None:
    loop = new_loop()
    clock = NodeClock(loop)
    clock.set(ClockSetting(mono=ClockLine(ahead_ns)))
    clock.set(ClockSetting(mono=ClockLine(None, rate, returns=True)))
    assert abs(clock.reading().mono_offset_ns) == abs(ahead_ns)
    shown_ns = [clock.now().mono_ns]
    for step_ns in steps_ns:
        loop.now_ns += step_ns
        shown_ns.append(clock.now().mono_ns)
        offset_ns = clock.reading().mono_offset_ns
        assert abs(offset_ns) <= abs(ahead_ns)
        assert offset_ns * ahead_ns >= 0
        # A timer that is set now wakes the node when it is due, or just after.
        due_ns = clock.now().mono_ns + 10**8
        before_ns, loop.now_ns = loop.now_ns, clock.when_ns(due_ns)
        assert 0 <= clock.now().mono_ns - due_ns <= 200
        loop.now_ns = before_ns
    assert shown_ns == sorted(shown_ns)
    loop.now_ns += 101 * 10**9
    assert clock.reading().mono_offset_ns == 0


# --- links -----------------------------------------------------------------------


class Traffic:
    """One link, and what came out of it: (time in ms, message)."""

    def __init__(self, conditions: Conditions = CALM, seed: int = 1) -> None:
        self.loop = new_loop()
        self.link = SimLink(("n1", "n2"), seed, conditions, self.loop)
        self.link.deliver = lambda _, data: self.arrived.append(
            (self.loop.now_ns / MS, int(data))
        )
        self.arrived: list[tuple[float, int]] = []

    def send(self, count: int, gap_ms: float = 1.0) -> None:
        async def main() -> None:
            for number in range(count):
                self.link.send(b"%d" % number)
                await asyncio.sleep(gap_ms / 1000)

        self.run(main())

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        async def then_wait() -> None:
            await main
            await asyncio.sleep(10)

        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(then_wait())

    @property
    def messages(self) -> list[int]:
        return [number for _, number in self.arrived]


def test_a_healthy_link_loses_nothing_and_keeps_the_order() -> None:
    traffic = Traffic(Conditions(3.0, 1.0, cut_holds=True))
    traffic.send(500, gap_ms=0.1)
    assert traffic.messages == list(range(500))
    assert traffic.link.counters().forwarded == 500


@pytest.mark.parametrize(
    ("rule", "counter"),
    [
        (LinkRule(loss=0.3), "lost"),
        (LinkRule(corrupt=0.3), "corrupted"),
        (LinkRule(duplicate=0.3), "duplicated"),
        (LinkRule(reorder=0.3), "reordered"),
        (LinkRule(delay_ms=30), "delayed"),
        (LinkRule(jitter_ms=30), "delayed"),
        (LinkRule(bandwidth_kbit_s=900), "delayed"),
        (LinkRule(cut=True), "cut"),
    ],
)
def test_every_rule_of_the_os_world_bites_and_counts(
    rule: LinkRule, counter: str
) -> None:
    traffic = Traffic()
    traffic.link.set_rule(rule)
    traffic.send(300)
    count = getattr(traffic.link.counters(), counter)
    assert count >= 30
    messages = traffic.messages
    assert len(messages) == 300 - count * (counter in {"lost", "corrupted", "cut"}) + (
        count if counter == "duplicated" else 0
    )
    in_order = messages == sorted(messages)
    assert in_order == (counter not in {"reordered", "duplicated"})


def test_a_narrow_link_drops_what_its_queue_does_not_hold() -> None:
    traffic = Traffic()
    traffic.link.set_rule(LinkRule(bandwidth_kbit_s=10))
    traffic.send(300)
    assert traffic.link.counters().lost > 100
    assert len(traffic.messages) + traffic.link.counters().lost == 300


def test_a_reset_takes_what_is_on_its_way_and_comes_before_a_new_connection() -> None:
    traffic = Traffic(Conditions(5.0, 5.0, cut_holds=True))

    async def main() -> None:
        traffic.link.send(b"1")
        traffic.link.set_rule(LinkRule(reset=1.0))
        traffic.link.send(b"2")
        traffic.link.set_rule(LinkRule(reset=1e-12))
        for number in range(3, 203):
            traffic.link.send(b"%d" % number)
            await asyncio.sleep(0.001)

    traffic.run(main())
    counters = traffic.link.counters()
    assert (counters.resets, counters.connects) == (1, 1)
    assert traffic.messages == list(range(traffic.messages[0], 203))
    assert counters.lost == traffic.messages[0] - 2  # all before, but the second
    assert 50 <= traffic.messages[0] <= 60


def test_a_long_message_waits_for_the_heal_where_a_cut_one_would() -> None:
    traffic = Traffic(Conditions(1.0, 1.0, cut_holds=True))

    async def main() -> None:
        traffic.link.set_rule(LinkRule(mtu_bytes=105))
        traffic.link.send(b"000001")
        traffic.link.send(b"2")
        await asyncio.sleep(1)
        traffic.link.set_rule(LinkRule(mtu_bytes=104))
        await asyncio.sleep(1)
        traffic.link.set_rule(LinkRule())

    traffic.run(main())
    assert traffic.messages == [2, 1]
    assert traffic.arrived[1][0] >= 2000
    assert traffic.link.counters().oversized == 1


@pytest.mark.parametrize(
    ("rule", "arrives"),
    [
        (MessageRule("7$", loss=1.0), [1, 2]),
        (MessageRule("7$", reset=1.0), []),
        (MessageRule("7$", delay_ms=50), [1, 2, 7]),
        (MessageRule("7$", cut=1.0), [1, 7]),
        (MessageRule("5", loss=1.0), [1, 7, 2]),
    ],
)
def test_a_rule_of_messages_treats_those_that_it_names(
    rule: MessageRule, arrives: list[int]
) -> None:
    traffic = Traffic()

    async def main() -> None:
        traffic.link.set_rule(LinkRule(messages=(rule,)))
        for data in (b"1", b"7", b"2"):
            traffic.link.send(data)

    traffic.run(main())
    assert traffic.messages == arrives
    assert traffic.link.counters().matched == (arrives != [1, 7, 2])


def test_a_link_stays_cut_behind_a_message_when_a_fault_of_the_way_back_ends() -> None:
    traffic = Traffic()
    link, back = traffic.link, SimLink(("n2", "n1"), 1, CALM, traffic.loop)
    link.twin, back.twin = back, link

    async def main() -> None:
        back.set_rule(LinkRule(delay_ms=5))
        link.set_rule(LinkRule(messages=(MessageRule("7$", cut=1.0),)))
        link.send(b"7")
        back.set_rule(LinkRule())
        link.send(b"1")
        assert (link.severed, back.severed) == (True, True)
        link.set_rule(LinkRule())
        assert (link.severed, back.severed) == (False, False)

    traffic.run(main())
    assert link.counters().cut == 1


def cut_then_heal(traffic: Traffic) -> None:
    async def main() -> None:
        traffic.link.set_rule(LinkRule(cut=True))
        traffic.link.send(b"1")
        await asyncio.sleep(2)
        traffic.link.set_rule(LinkRule())
        traffic.link.send(b"2")

    traffic.run(main())


def test_what_a_cut_held_arrives_after_the_heal_or_never() -> None:
    lossy = Traffic(Conditions(1.0, 1.0, cut_holds=False))
    cut_then_heal(lossy)
    assert lossy.messages == [2]
    stalling = Traffic(Conditions(1.0, 1.0, cut_holds=True))
    cut_then_heal(stalling)
    assert stalling.messages == [1, 2]
    assert stalling.arrived[0][0] >= 2000
    assert stalling.link.counters().cut == 1


def test_what_is_on_its_way_when_the_cut_comes_is_cut() -> None:
    traffic = Traffic()

    async def main() -> None:
        traffic.link.send(b"1")
        traffic.link.set_rule(LinkRule(cut=True))

    traffic.run(main())
    assert traffic.messages == []
    assert traffic.link.counters().cut == 1


def test_the_dice_of_a_link_do_not_depend_on_other_traffic() -> None:
    alone, again = Traffic(seed=5), Traffic(seed=5)
    for traffic in (alone, again):
        traffic.link.set_rule(LinkRule(loss=0.5, jitter_ms=5))
        traffic.send(100)
    assert alone.arrived == again.arrived


# --- a node ----------------------------------------------------------------------


class Scripted:
    """A core that does as it is told, and remembers what it heard."""

    def __init__(self, do: Callable[[Event], list[Effect]]) -> None:
        self.do = do
        self.heard: list[Event] = []
        self.recovered: list[Record] = []

    def start(self, recovered: Sequence[Record]) -> list[Effect]:
        self.recovered = list(recovered)
        return []

    def step(self, event: Event) -> list[Effect]:
        self.heard.append(event)
        return self.do(event)

    def status(self) -> Mapping[str, Any]:
        return {"role": "leader", "term": 4}


class Bench:
    """Node n1 alone, with a peer n2 that only listens."""

    def __init__(
        self,
        tmp_path: Path,
        do: Callable[[Event], list[Effect]],
        *,
        fsync: bool = True,
    ) -> None:
        self.loop = new_loop()
        self.network = SimNetwork(["n1", "n2"], tmp_path, 1, CALM, self.loop)
        self.sent: list[tuple[float, bytes]] = []
        link = self.network.links["n1", "n2"]
        link.deliver = lambda _, data: self.sent.append((self.loop.now_ns / MS, data))
        self.cores: list[Scripted] = []
        self.exits: list[int] = []
        self.journal = Journal(["n1"], tmp_path)

        def build() -> Any:
            self.cores.append(Scripted(do))
            return self.cores[-1]

        def on_exit(node: SimNode, status: int) -> None:
            self.exits.append(status)
            node.crash()

        self.node = SimNode(
            "n1",
            build,
            lambda files: open_log("core", 1, "n1", files, fsync=fsync),
            {"n2": link},
            fsync=fsync,
            conditions=CALM,
            rng=Random(1),
            loop=self.loop,
            journal=self.journal,
            on_exit=on_exit,
        )
        self.dialler = Dialler({"n1": self.node}, CALM, Random(2), self.loop)
        self.counters = WireCounters()

    async def up(self) -> None:
        self.node.start(1001 + len(self.cores))
        await asyncio.sleep(0.1)

    async def dial(self) -> Any:
        return await self.dialler.dial(
            self.network.places["n1"], self.counters, timeout_s=1.0
        )

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        return virtually(main, self.loop)


def persist_then_tell(event: Event) -> list[Effect]:
    if isinstance(event, TimerFired):
        return []
    return [
        Send("n2", {"early": True}),
        Persist({"n": 1}),
        Send("n2", {"late": True}),
        Reply(event, {"type": "ok"}),
        Observe("done", {"n": 1}),
    ]


def test_what_follows_a_record_leaves_only_once_that_is_durable(tmp_path: Path) -> None:
    bench = Bench(tmp_path, persist_then_tell)

    async def main() -> tuple[float, float]:
        await bench.up()
        connection = await bench.dial()
        asked_ms = bench.loop.now_ns / MS
        await connection.call("c1", "n1", {"type": "go"})
        answered_ms = bench.loop.now_ns / MS
        await asyncio.sleep(1)
        return asked_ms, answered_ms

    asked_ms, answered_ms = bench.run(main())
    (early_ms, early), (late_ms, late) = bench.sent
    assert (early, late) == (b'{"early":true}', b'{"late":true}')
    assert early_ms - asked_ms < 7 <= late_ms - asked_ms
    assert answered_ms - asked_ms > 5
    assert bench.journal.sightings(Observed("done")) == {("n1",): 1}


@pytest.mark.parametrize("power", [False, True])
def test_what_ends_a_node_while_its_disk_works_takes_answer_and_observation(
    tmp_path: Path, power: bool
) -> None:
    """Beside them the record, if it was the power, and nothing else."""
    stepped = asyncio.Event()

    def persist_and_say_so(event: Event) -> list[Effect]:
        stepped.set()
        return persist_then_tell(event)

    bench = Bench(tmp_path, persist_and_say_so)

    async def main() -> None:
        await bench.up()
        connection = await bench.dial()
        call = asyncio.create_task(connection.call("c1", "n1", {"type": "go"}))
        await stepped.wait()
        await asyncio.sleep(0.001)
        assert bench.node.syncing
        if power:
            lost = bench.node.lose_power(Loss(), Random(0))
            assert (lost.pid, lost.writes, lost.files) == (1001, 1, ("wal",))
        else:
            assert bench.node.crash() == 1001
        with pytest.raises(NodeReply, match="connection closed") as broken:
            await call
        assert not broken.value.definite
        with pytest.raises(NodeReply, match="refused") as refused:
            await bench.dial()
        assert refused.value.definite
        await bench.up()
        await asyncio.sleep(1)

    bench.run(main())
    assert [data for _, data in bench.sent] == [b'{"early":true}']
    assert bench.cores[1].recovered == ([] if power else [{"n": 1}])
    assert bench.journal.sightings(Observed("done")) == {("n1",): 0}


def test_power_that_fails_amid_a_sync_leaves_all_of_it_or_nothing_told(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, persist_then_tell)
    disks = SimDisks({"n1": bench.node}, bench.loop, lambda _: None)
    left = []

    async def main() -> None:
        for seed in range(8):
            await bench.up()
            connection = await bench.dial()
            call = asyncio.create_task(connection.call("c1", "n1", {"type": "go"}))
            lost = await disks.cut_power({"n1": Loss(during="fsync", seed=seed)})
            assert lost["n1"].during
            left.append(lost["n1"].writes)
            with pytest.raises(NodeReply, match="connection closed"):
                await call

    bench.run(main())
    assert set(left) == {0, 1}
    assert len(bench.cores[-1].recovered) == left[:-1].count(0)
    assert bench.journal.sightings(Observed("done")) == {("n1",): 0}


def test_power_that_waits_for_a_sync_in_vain_fails_all_the_same(tmp_path: Path) -> None:
    bench = Bench(tmp_path, persist_then_tell)
    disks = SimDisks({"n1": bench.node}, bench.loop, lambda _: None)

    async def main() -> float:
        await bench.up()
        begun_ns = bench.loop.now_ns
        lost = await disks.cut_power({"n1": Loss(during="fsync", within_s=0.25)})
        assert (lost["n1"].pid, lost["n1"].during) == (1001, False)
        return (bench.loop.now_ns - begun_ns) / 1e9

    assert bench.run(main()) == 0.25


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        (DiskRule(operations=frozenset({"write"}), error="ENOSPC"), EXIT_MACHINE),
        (DiskRule(operations=frozenset({"fsync"}), error="EIO"), EXIT_MACHINE),
    ],
)
def test_a_disk_that_fails_ends_the_process_before_it_answers(
    tmp_path: Path, rule: DiskRule, status: int
) -> None:
    bench = Bench(tmp_path, persist_then_tell)

    async def main() -> None:
        await bench.up()
        connection = await bench.dial()
        bench.node.disk.rules = [rule]
        with pytest.raises(NodeReply, match="connection closed"):
            await connection.call("c1", "n1", {"type": "go"})

    bench.run(main())
    bench.journal.write()
    assert bench.exits == [status]
    assert "wal" in (tmp_path / "nodes/n1/log").read_text().splitlines()[-1]


def test_a_slow_disk_delays_what_waits_for_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, persist_then_tell)

    async def main() -> float:
        await bench.up()
        bench.node.disk.rules = [
            DiskRule(operations=frozenset({"fsync"}), delay_ms=300.0),
            DiskRule(operations=frozenset({"write"}), delay_ms=200.0),
        ]
        connection = await bench.dial()
        begun_ns = bench.loop.now_ns
        await connection.call("c1", "n1", {"type": "go"})
        return (bench.loop.now_ns - begun_ns) / 1e6

    assert 500 < bench.run(main()) < 540


def test_a_node_refuses_a_log_that_has_rotted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, persist_then_tell)

    async def main() -> None:
        await bench.up()
        await (await bench.dial()).call("c1", "n1", {"type": "go"})
        bench.node.crash()
        bench.node.disk.damage(Damage("flip"), Random(3))
        await bench.up()
        assert bench.exits == [EXIT_DATA]
        bench.node.disk.repair()
        await bench.up()

    bench.run(main())
    assert len(bench.cores) == 2, "none was made from a bad log"
    assert bench.cores[1].recovered == [{"n": 1}]


def test_a_durable_record_comes_back_after_a_loss_of_power(tmp_path: Path) -> None:
    bench = Bench(tmp_path, persist_then_tell)

    async def main() -> None:
        await bench.up()
        await (await bench.dial()).call("c1", "n1", {"type": "go"})
        bench.node.lose_power(Loss(), Random(0))
        await bench.up()

    bench.run(main())
    assert bench.cores[1].recovered == [{"n": 1}]


def test_a_paused_node_hears_everything_once_it_goes_on(tmp_path: Path) -> None:
    def tick(event: Event) -> list[Effect]:
        if isinstance(event, TimerFired):
            return []
        timer = [SetTimer("tick", 50, 50)] if event.body["type"] == "begin" else []
        return [*timer, Reply(event, {"type": "ok"})]

    bench = Bench(tmp_path, tick)

    async def main() -> list[type]:
        await bench.up()
        connection = await bench.dial()
        await connection.call("c1", "n1", {"type": "begin"})
        heard = bench.cores[0].heard
        bench.node.pause()
        heard.clear()
        calls = [
            asyncio.create_task(connection.call("c1", "n1", {"type": "go"}))
            for _ in range(3)
        ]
        await asyncio.sleep(5)
        assert not heard
        assert not any(call.done() for call in calls)
        bench.node.resume()
        await asyncio.gather(*calls)
        await asyncio.sleep(1)
        return [type(event) for event in heard]

    # As the runtime: first what has arrived, then what is due.
    assert bench.run(main()) == [Received, Received, Received, TimerFired]


def test_timers_follow_the_node_s_own_clock(tmp_path: Path) -> None:
    fired_ms: list[float] = []

    def tick(event: Event) -> list[Effect]:
        if isinstance(event, TimerFired):
            fired_ms.append(bench.loop.now_ns / MS - started_ms[0])
            return []
        return [SetTimer("tick", 100, 100), Reply(event, {"type": "ok"})]

    started_ms = [0.0]
    bench = Bench(tmp_path, tick)

    async def once(setting: ClockSetting) -> None:
        bench.node.set_clock(TRUE_CLOCKS)
        connection = await bench.dial()
        await connection.call("c1", "n1", {"type": "go"})
        started_ms[0] = bench.loop.now_ns / MS
        bench.node.set_clock(setting)
        await asyncio.sleep(2)

    async def main() -> None:
        await bench.up()
        await once(ClockSetting(mono=ClockLine(rate=0.1)))
        await once(ClockSetting(mono=ClockLine(rate=4.0)))
        await once(ClockSetting(mono=ClockLine(10**9)))
        await once(ClockSetting(mono=ClockLine(-(10**9))))

    bench.run(main())
    slow, fast, leapt, back = fired_ms
    assert 950 < slow < 1000
    assert 20 < fast < 26
    assert leapt < 1
    assert 95 < back < 101


def test_timers_of_0_ms_come_when_all_that_has_arrived_was_heard(
    tmp_path: Path,
) -> None:
    batches: list[int] = []
    batch: list[Event] = []

    def collect(event: Event) -> list[Effect]:
        if isinstance(event, TimerFired):
            batches.append(len(batch))
            batch.clear()
            return []
        batch.append(event)
        return [SetTimer("batch", 0, 0), Reply(event, {"type": "ok"})]

    bench = Bench(tmp_path, collect)

    async def main() -> None:
        await bench.up()
        connection = await bench.dial()
        bench.node.pause()
        calls = [connection.call("c1", "n1", {"type": "go"}) for _ in range(5)]
        waiting = asyncio.gather(*calls)
        await asyncio.sleep(0.1)
        bench.node.resume()
        await waiting

    bench.run(main())
    assert batches == [5]


@pytest.mark.parametrize(
    ("failure", "status"),
    [(AssertionError("broken"), EXIT_INVARIANT), (KeyError("bug"), EXIT_RAISED)],
)
def test_a_core_that_fails_ends_its_process_and_is_logged(
    tmp_path: Path, failure: Exception, status: int
) -> None:
    def fail(_: Event) -> list[Effect]:
        raise failure

    bench = Bench(tmp_path, fail)

    async def main() -> None:
        await bench.up()
        connection = await bench.dial()
        with pytest.raises(NodeReply, match="closed"):
            await connection.call("c1", "n1", {"type": "go"})

    bench.run(main())
    bench.journal.write()
    assert bench.exits == [status]
    assert type(failure).__name__ in (tmp_path / "nodes/n1/log").read_text()


def test_a_node_tells_its_status_and_its_clocks_itself(tmp_path: Path) -> None:
    bench = Bench(tmp_path, persist_then_tell)

    async def main() -> list[Mapping[str, Any]]:
        await bench.up()
        bench.node.set_clock(ClockSetting(wall=ClockLine(-(10**15))))
        connection = await bench.dial()
        return [
            await connection.call("c-harness", "n1", {"type": kind, "echo": 7})
            for kind in ("status", "clock", "echo", "init")
        ]

    status, clock, echo, init = bench.run(main())
    assert status == {"type": "status_ok", "role": "leader", "term": 4}
    assert clock["wall_ns"] < 1_767_000_000_000_000_000
    assert (echo["echo"], init["type"]) == (7, "init_ok")
    assert not bench.cores[0].heard


def test_an_answer_that_nobody_waits_for_is_counted_as_late(tmp_path: Path) -> None:
    bench = Bench(tmp_path, persist_then_tell)

    async def main() -> None:
        await bench.up()
        connection = await bench.dial()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await connection.call("c1", "n1", {"type": "go"})
        await asyncio.sleep(1)

    bench.run(main())
    assert bench.counters.late == 1


@settings(max_examples=settings().max_examples // 4, deadline=None)
@given(st.integers(0, 10**6))
def test_requests_of_one_connection_arrive_in_order(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), lambda e: [Reply(e, {"type": "ok"})])  # type: ignore[arg-type]  # no timers
        bench.dialler = Dialler({"n1": bench.node}, CALM, Random(seed), bench.loop)

        async def main() -> None:
            await bench.up()
            connection = await bench.dial()
            calls = (
                connection.call("c1", "n1", {"type": "go", "n": n}) for n in range(20)
            )
            await asyncio.gather(*calls)

        bench.run(main())
        heard = [e.body["n"] for e in bench.cores[0].heard if isinstance(e, Received)]
        assert heard == list(range(20))
