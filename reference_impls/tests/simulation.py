"""A small world for cores: seeded, in virtual time, hostile.

Messages are lost, delayed, duplicated and reordered; links are cut; nodes crash and
keep what was durable, plus whatever of the rest happened to reach the disk; clocks may
run apart. Each protocol's world derives from this one and says which core its nodes
run, what its clients do (`registers`), and which promises are checked: some on what the
cores `Observe` while it runs, some in the end.
"""

from __future__ import annotations

import heapq
import json
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from reference_impls.actor import (
    Body,
    CancelTimer,
    Effect,
    Event,
    Now,
    Observe,
    Persist,
    Received,
    Record,
    Reply,
    Send,
    SetTimer,
    TimerFired,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

    from reference_impls.mutants import Mutant

MS = 1_000_000


DISK_FAULTS = frozenset({"power", "disk", "rot"})


def exposed_elsewhere(mutants: Mapping[str, Mutant]) -> set[str]:
    """Names of the mutants that declare faults of disks.

    A crash in this world takes some of what was not durable, so it exposes some of
    them, too; `harness/tests/test_disk_faults.py` has all of them convicted.
    """
    return {name for name, m in mutants.items() if DISK_FAULTS & set(m.nemesis)}


class Violation(AssertionError):  # noqa: N818  # a broken promise, not an error
    """A protocol's promise was broken."""


@dataclass
class Plan:
    """What the world does to the nodes. Probabilities are per message."""

    nodes: int = 5
    clients: int = 4
    duration_ms: int = 4000
    settling_ms: int = 0  # time after that, for nodes to finish what they began
    loss: float = 0.02
    duplicate: float = 0.02
    delay_ms_max: float = 12.0
    slow: float = 0.01
    slow_ms_max: float = 250.0
    fsync_ms_max: float = 3.0
    crashes: int = 4
    crash_leaders: float = 0.0  # share of the crashes that strike the leader
    partitions: int = 4
    partition_ms: tuple[int, int] = (50, 900)  # how long one lasts
    partition_leaders: float = 0.0  # share of the partitions that isolate the leader
    churn_ms: float = 0.0  # mean time from one random split to the next; 0: no churn
    restart_ms_max: int = 400
    clock_rates: tuple[float, float] = (1.0, 1.0)
    clock_jumps: int = 0
    options: dict[str, str] = field(default_factory=dict)
    core: type[Any] | None = None  # a mutant in place of the protocol's own


P = TypeVar("P", bound=Plan)


class Promises(Protocol):
    """What a world's nodes must keep; both methods raise Violation."""

    def observe(self, node: str, kind: str, fields: dict[str, Any]) -> None:
        """Check what a node has just observed."""

    def check_logs(self) -> None:
        """Check what the nodes hold at the end."""


class SimulatedNode:
    """One core with its disk, timers and clock."""

    def __init__(self, world: Simulation[Any], name: str, peers: list[str]) -> None:
        self.world = world
        self.name = name
        self.peers = peers
        self.durable: list[Record] = []
        self.unsynced: list[Record] = []
        self.replacing: list[Record] = []
        self.held: list[Effect] = []
        self.syncing = False
        self.life = 0
        self.alive = False
        self.core: Any
        self.rate = world.random.uniform(*world.plan.clock_rates)
        self.offset = 0
        self.timers: dict[str, int] = {}

    def now(self) -> Now:
        reading = int(self.world.now * self.rate) + self.offset
        return Now(reading, reading)

    def start(self) -> None:
        self.core = self.world.build(self.name, self.peers)
        self.alive = True
        self.life += 1
        # A round trip through JSON, as on a real disk, so that nothing is shared.
        self.carry_out(self.core.start(json.loads(json.dumps(self.durable))))

    def crash(self) -> None:
        """Lose everything but the disk, which may also hold some unsynced records."""
        kept = self.world.random.randint(0, len(self.unsynced))
        self.write(self.unsynced[:kept])
        self.unsynced, self.held, self.timers = [], [], {}
        self.alive = self.syncing = False
        self.life += 1

    def write(self, records: list[Record]) -> None:
        """Put records on the disk; one that replaces the earlier ones removes them."""
        for record in records:
            if any(record is other for other in self.replacing):
                self.durable.clear()
            self.durable.append(record)
        self.replacing = []

    def step(self, event: Event) -> None:
        self.carry_out(self.core.step(event))

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                self.unsynced.append(effect.record)
                if effect.replaces:
                    self.replacing.append(effect.record)
                self.begin_sync()
            elif self.unsynced and self.world.waits_for_disk(effect):
                self.held.append(effect)
            else:
                self.carry_out_now(effect)

    def carry_out_now(self, effect: Effect) -> None:
        match effect:
            case Send(dest, body):
                self.world.send(self.name, dest, body)
            case Reply(request, body):
                self.world.reply(request, body)
            case SetTimer(name, low, high):
                wait = self.world.random.uniform(low, high) * MS / self.rate
                self.set_timer(name, int(wait) if high else self.world.turn())
            case CancelTimer(name):
                self.timers.pop(name, None)
            case Observe(kind, fields):
                self.world.promises.observe(self.name, kind, dict(fields))
            case Persist():
                raise AssertionError("records are never held")

    def set_timer(self, name: str, wait: int) -> None:
        due = self.world.now + wait
        self.timers[name] = due
        self.world.at(due, partial(self.fire, name, due, self.life))

    def fire(self, name: str, due: int, life: int) -> None:
        if life == self.life and self.timers.get(name) == due:
            del self.timers[name]
            self.step(TimerFired(name, self.now()))

    def begin_sync(self) -> None:
        if not self.syncing:
            self.syncing = True
            wait = self.world.random.uniform(0, self.world.plan.fsync_ms_max)
            when = self.world.now + int(wait * MS)
            self.world.at(when, partial(self.end_sync, self.life))

    def end_sync(self, life: int) -> None:
        """Make all that was persisted durable, and let go what waited for that."""
        if life != self.life:
            return
        self.write(self.unsynced)
        self.unsynced = []
        self.syncing = False
        held, self.held = self.held, []
        for effect in held:
            self.carry_out_now(effect)


class Simulation(ABC, Generic[P]):
    """The world. `run` raises Violation when the protocol broke a promise."""

    protocol: ModuleType

    def __init__(self, seed: int, plan: P, promises: Promises) -> None:
        self.random = random.Random(seed)
        self.plan = plan
        self.promises = promises
        self.now = 0
        self.sequence = 0
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.cut: set[tuple[str, str]] = set()
        names = [f"n{i + 1}" for i in range(plan.nodes)]
        self.nodes = {
            name: SimulatedNode(self, name, [n for n in names if n != name])
            for name in names
        }

    # --- what a protocol adds ----------------------------------------------------

    def build(self, name: str, peers: list[str]) -> Any:
        """A core, not started."""
        protocol, plan = self.protocol, self.plan
        core = {} if plan.core is None else {"core": plan.core}
        options = settings(protocol.OPTIONS, plan.options)
        return protocol.build(name, peers, options, **core)

    @abstractmethod
    def invoke(self, client: int) -> None:
        """Begin the client's next operation, and have another one follow it."""

    def waits_for_disk(self, effect: Effect) -> bool:
        """True for effects that must wait for the records before them."""
        return isinstance(effect, Send | Reply | Observe)

    def check(self) -> None:
        """Check what must hold at the end."""
        self.promises.check_logs()

    # --- time --------------------------------------------------------------------

    def run(self) -> Self:
        for node in self.nodes.values():
            node.start()
        for client in range(self.plan.clients):
            self.at(self.random.randint(0, 300 * MS), partial(self.invoke, client))
        self.plan_faults()
        end = (self.plan.duration_ms + self.plan.settling_ms) * MS
        while self.queue and self.queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self.queue)
            action()
        self.check()
        return self

    def at(self, when: int, action: Callable[[], None]) -> None:
        self.sequence += 1
        heapq.heappush(self.queue, (when, self.sequence, action))

    def turn(self) -> int:
        """How long a node's turn takes: what arrives meanwhile joins the batch."""
        return self.random.randint(0, MS // 2)

    # --- faults ------------------------------------------------------------------

    def plan_faults(self) -> None:
        """Schedule faults, all of which end before the last quarter of the run."""
        last = self.last_fault()
        for _ in range(self.plan.crashes):
            down = self.random.randint(0, last)
            name = self.random.choice(list(self.nodes))
            if self.random.random() < self.plan.crash_leaders:
                name = ""
            pause = self.random.randint(0, self.plan.restart_ms_max * MS)
            self.at(down, partial(self.crash, name, pause))
        for _ in range(self.plan.partitions):
            start = self.random.randint(0, last)
            low, high = self.plan.partition_ms
            length = self.random.randint(low * MS, high * MS)
            self.at(start, self.partition)
            self.at(min(start + length, last), self.heal)
        if self.plan.churn_ms:
            self.churn()
        for _ in range(self.plan.clock_jumps):
            self.at(self.random.randint(0, last), self.jump)

    def last_fault(self) -> int:
        """The time by which the last fault is over."""
        return self.plan.duration_ms * MS * 3 // 4

    def crash(self, name: str, pause: int) -> None:
        """Crash that node, or the leader if `name` is empty; restart it later."""
        names = [name] if name else [n for n in self.nodes if self.leads(n)]
        for node in map(self.nodes.__getitem__, names):
            if node.alive:
                node.crash()
                self.at(self.now + pause, node.start)

    def partition(self) -> None:
        """Cut one node off, split in two, or cut single directions."""
        names = list(self.nodes)
        self.random.shuffle(names)
        aimed = self.random.random() < self.plan.partition_leaders
        match 0 if aimed else self.random.randint(0, 3):
            case 0:
                leaders = [n for n in names if self.leads(n)]
                side = set(leaders[:1] or names[:1])
            case 1:
                side = set(names[: len(names) // 2])
            case 2:
                side = {names[0]}
            case _:
                self.cut |= {(names[0], n) for n in names[1:]}
                return
        self.isolate(side)

    def churn(self) -> None:
        """Split the cluster anew, again and again until the last fault."""
        self.split()
        if self.now < self.last_fault():
            wait = int(self.random.uniform(0, 2 * self.plan.churn_ms) * MS)
            self.at(self.now + wait, self.churn)

    def split(self) -> None:
        """Split the cluster in random halves, or not at all, or heal it at the end."""
        self.heal()
        if self.now >= self.last_fault():
            return
        half = len(self.nodes) // 2
        size = self.random.choice((0, half, half))
        self.isolate(set(self.random.sample(list(self.nodes), size)))

    def isolate(self, side: set[str]) -> None:
        """Cut all links between `side` and the others."""
        other = set(self.nodes) - side
        self.cut |= {link for a in side for b in other for link in ((a, b), (b, a))}

    def jump(self) -> None:
        """Set a leader's clock back, and cut the leader off."""
        for name, node in self.nodes.items():
            if self.leads(name):
                node.offset -= self.random.randint(1000 * MS, 3000 * MS)
                self.isolate({name})

    def heal(self) -> None:
        self.cut.clear()

    def leads(self, name: str) -> bool:
        """True for a node that is up and says that it leads."""
        node = self.nodes[name]
        return bool(node.alive and node.core.status()["role"] == "leader")

    # --- messages ----------------------------------------------------------------

    def send(self, src: str, dest: str, body: Body) -> None:
        copies = 1 + (self.random.random() < self.plan.duplicate)
        text = json.dumps(body)
        for _ in range(copies):
            if self.random.random() < self.plan.loss:
                continue
            slow = self.random.random() < self.plan.slow
            most = self.plan.slow_ms_max if slow else self.plan.delay_ms_max
            delay = int(self.random.uniform(0.1, most) * MS)
            self.at(self.now + delay, partial(self.deliver, src, dest, text))

    def deliver(self, src: str, dest: str, text: str) -> None:
        node = self.nodes[dest]
        if node.alive and (src, dest) not in self.cut:
            node.step(Received(src, json.loads(text), node.now()))

    def reply(self, request: Received, body: Body) -> None:
        assert callable(request.channel)
        request.channel(body)


def sweep(
    world: Callable[[int, P], Simulation[P]], plan: P, seeds: Iterable[int]
) -> tuple[int, Violation] | None:
    """The first seed whose run breaks a promise, and which; None if none does.

    A core that trips over its own assertions counts as convicted too.
    """
    for seed in seeds:
        try:
            world(seed, plan).run()
        except Violation as e:
            return seed, e
        except AssertionError as e:
            return seed, Violation(f"a core's own assertion failed: {e}")
    return None
