"""The cluster brings system, network and processes together."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from harness.faults.cluster import Cluster, exit_text
from harness.worlds.network import LinkRule, merge
from harness.worlds.processes import Ended, Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CHANCES = st.floats(0, 1)
RULES = st.builds(
    LinkRule,
    cut=st.booleans(),
    delay_ms=st.floats(0, 100),
    loss=CHANCES,
    duplicate=CHANCES,
    reorder=CHANCES,
    corrupt=CHANCES,
    bandwidth_kbit_s=st.none() | st.floats(1, 1000),
)


@given(rule=RULES)
def test_one_fault_alone_is_itself(rule: LinkRule) -> None:
    merged = merge([rule])
    assert merged.cut == rule.cut
    assert merged.delay_ms == rule.delay_ms
    assert abs(merged.loss - rule.loss) < 1e-9
    assert merged.bandwidth_kbit_s == rule.bandwidth_kbit_s


@given(one=RULES, other=RULES)
def test_two_faults_on_a_link_are_never_milder_than_either(
    one: LinkRule, other: LinkRule
) -> None:
    both = merge([one, other])
    for rule in (one, other):
        assert both.cut >= rule.cut
        assert both.delay_ms >= rule.delay_ms
        assert both.loss >= rule.loss - 1e-9
        assert both.corrupt >= rule.corrupt - 1e-9
        if rule.bandwidth_kbit_s is not None:
            assert both.bandwidth_kbit_s is not None
            assert both.bandwidth_kbit_s <= rule.bandwidth_kbit_s


class _Silent:
    """Processes of which none runs, and the ends that are told of them."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.tell: Callable[[Exit], None]

    def on_exit(self, callback: Callable[[Exit], None]) -> None:
        self.tell = callback

    def pid(self, node: str) -> int | None:
        return None


def test_a_node_that_exceeded_a_bound_is_told_of_and_never_started_again() -> None:
    processes: Any = _Silent()
    network: Any = SimpleNamespace(places={"n1": None, "n2": None})
    system: Any = SimpleNamespace(ready_timeout_s=1.0)
    notes: list[str] = []
    cluster = Cluster(
        system,
        network,
        processes,
        processes,
        lambda kind, _, title, __: notes.append(title),
    )
    processes.tell(Exit("n1", 7, -9, expected=False, why="its data is too big"))
    assert notes == ["n1 was killed and stays down: its data is too big"]
    assert cluster.kept_down == {"n1": notes[0]}
    assert cluster.dead() == ("n2",)
    assert asyncio.run(cluster.restart(["n1"])) == {}


def test_an_exit_that_a_fault_explains_is_told_apart_from_one_of_its_own() -> None:
    processes: Any = _Silent()
    network: Any = SimpleNamespace(places={"n1": None, "n2": None})
    system: Any = SimpleNamespace(ready_timeout_s=1.0)
    notes: list[tuple[str, str]] = []
    cluster = Cluster(
        system,
        network,
        processes,
        processes,
        lambda kind, _, title, __: notes.append((kind, title)),
    )
    cluster.why_it_may_end = {"n1": "as its disk failed", "n2": ""}.__getitem__
    crashed: list[str] = []
    cluster.on_crash = crashed.append
    processes.tell(Exit("n1", 7, 71, expected=False))
    processes.tell(Exit("n2", 8, 71, expected=False))
    assert notes == [
        ("node-ended", "n1 exited with status 71 as its disk failed"),
        ("node-exit", "n2 exited with status 71 on its own"),
    ]
    assert crashed == ["n1", "n2"], "a watchdog decides by what is in force"


class _Obedient(_Silent):
    """Processes that end when they are allowed to, whoever has stopped waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.pids = {"n1": 1}
        self.may_end = asyncio.Event()

    def pid(self, node: str) -> int | None:
        return self.pids.get(node)

    async def start(self, place: Any, _: object) -> int:
        self.pids[place.name] = 2
        return 2

    async def end(self, nodes: Sequence[str], _: float) -> Mapping[str, Ended]:
        await self.may_end.wait()
        pids = {node: self.pids.pop(node) for node in nodes}
        for node, pid in pids.items():
            self.tell(Exit(node, pid, -9, expected=True))
        return {node: Ended(pid, "SIGKILL", -9) for node, pid in pids.items()}


def test_a_restart_waits_for_an_end_whose_asker_was_cancelled() -> None:
    async def scenario() -> None:
        processes: Any = _Obedient()
        network: Any = SimpleNamespace(places={"n1": SimpleNamespace(name="n1")})
        system: Any = SimpleNamespace(ready_timeout_s=1.0, launch=lambda _: None)

        async def ready(_: object) -> bool:
            return True

        system.ready = ready
        cluster = Cluster(system, network, processes, processes, lambda *_: None)
        asking = asyncio.create_task(cluster.end(["n1"]))
        await asyncio.sleep(0)
        asking.cancel()
        restart = asyncio.create_task(cluster.restart(["n1"]))
        await asyncio.sleep(0)
        processes.may_end.set()
        started = await restart
        assert started["n1"]["pid"] == processes.pid("n1") == 2

    asyncio.run(scenario())


def test_no_fault_is_a_healthy_link() -> None:
    assert merge([]) == LinkRule()


def test_wait_statuses_are_told_in_words() -> None:
    assert exit_text(3) == "exited with status 3"
    assert exit_text(-9) == "was killed by SIGKILL"
    assert exit_text(-200) == "was killed by signal 200"
