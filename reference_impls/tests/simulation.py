"""A small world for the Raft core: seeded, in virtual time, hostile.

Messages are lost, delayed, duplicated and reordered; links are cut; nodes crash and
keep what was durable, plus whatever of the rest happened to reach the disk; clocks may
run apart; an operator adds and removes members and moves the leadership. Clients may
send a request again, to another node, until they know. While it runs, the properties of
the paper's Figure 3 are checked on what the cores `Observe`; afterwards, that what
clients saw is linearizable.
"""

from __future__ import annotations

import heapq
import json
import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from reference_impls import raft
from reference_impls.actor import (
    INDEFINITE,
    TEMPORARILY_UNAVAILABLE,
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
    from collections.abc import Callable, Iterable

MS = 1_000_000
UNSETTLED = INDEFINITE | {TEMPORARILY_UNAVAILABLE}
NEVER = 1 << 62
STATES_MAX = 20_000


class Violation(AssertionError):  # noqa: N818  # a broken promise, not an error
    """A promise of Raft was broken."""


@dataclass
class Plan:
    """What the world does to the nodes. Probabilities are per message."""

    nodes: int = 5
    clients: int = 4
    duration_ms: int = 4000
    loss: float = 0.02
    duplicate: float = 0.02
    delay_ms_max: float = 12.0
    slow: float = 0.01
    slow_ms_max: float = 250.0
    fsync_ms_max: float = 3.0
    crashes: int = 4
    crash_leaders: float = 0.0  # share of the crashes that strike who leads
    partitions: int = 4
    partition_leaders: float = 0.0  # share of the partitions that isolate who leads
    churn_ms: float = 0.0  # how long the cluster is split this way, and then that
    churn_at_election: float = 0.0  # chance that it is split anew as someone is elected
    strike_changes: float = 0.0  # chance that a leader is cut off as it changes members
    restart_ms_max: int = 400
    clock_rates: tuple[float, float] = (1.0, 1.0)
    clock_jumps: int = 0
    changes: int = 0  # how often an operator asks for another member, or leader
    attempts: int = 1  # how often a client sends a request, at most
    attempt_ms: int = 1500  # how long it waits for the answer
    settles: bool = False  # clients must be served once the faults are over
    options: dict[str, str] = field(default_factory=dict)
    core: type[Any] | None = None


@dataclass
class Call:
    """A client's operation; `returned` is NEVER when nobody knows."""

    client: int
    f: str
    key: int
    argument: Any
    invoked: int
    returned: int = NEVER
    outcome: str = "info"
    value: Any = None

    def __str__(self) -> str:
        end = "?" if self.returned == NEVER else self.returned // 1000
        return (
            f"c{self.client} {self.f} {self.key} {self.argument!r} -> {self.outcome} "
            f"{self.value!r} [{self.invoked // 1000}, {end}] us"
        )


class SimulatedNode:
    """One core with its disk, timers and clock."""

    def __init__(self, world: Simulation, name: str, peers: list[str]) -> None:
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
        self.core: Any  # Raft; other protocols' tests build on this world
        self.rate = world.random.uniform(*world.plan.clock_rates)
        self.offset = 0
        self.timers: dict[str, int] = {}

    def now(self) -> Now:
        reading = int(self.world.now * self.rate) + self.offset
        return Now(reading, reading)

    def start(self) -> None:
        plan = self.world.plan
        options = settings(raft.OPTIONS, plan.options)
        self.core = (plan.core or raft.Raft)(self.name, self.peers, options)
        self.alive = True
        self.life += 1
        # A round trip through JSON, as on a real disk, so that nothing is shared.
        self.carry_out(self.core.start(json.loads(json.dumps(self.durable))))

    def crash(self) -> None:
        """Lose everything but the disk, and maybe not all that wasn't synced."""
        kept = self.world.random.randint(0, len(self.unsynced))
        self.write(self.unsynced[:kept])
        self.unsynced, self.held, self.timers = [], [], {}
        self.alive = self.syncing = False
        self.life += 1

    def write(self, records: list[Record]) -> None:
        """Records reach the disk; one that replaces the earlier ones does so there."""
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
            elif self.unsynced and has_to_wait(effect):
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
                self.world.properties.observe(self.name, kind, dict(fields))
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
        """All that was persisted up to now is durable, so all that was held leaves."""
        if life != self.life:
            return
        self.write(self.unsynced)
        self.unsynced = []
        self.syncing = False
        held, self.held = self.held, []
        for effect in held:
            self.carry_out_now(effect)


def has_to_wait(effect: Effect) -> bool:
    """True for what tells anyone of records before it.

    Observations other than `committed` are checked against the core's state, so they
    are taken at the step that made them.
    """
    if isinstance(effect, Observe):
        return effect.kind == "committed"
    return isinstance(effect, Send | Reply)


class Simulation:
    """The world. `run` raises Violation when Raft broke a promise."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.random = random.Random(seed)
        self.plan = plan
        self.now = 0
        self.sequence = 0
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.cut: set[tuple[str, str]] = set()
        self.properties: Any = Properties(self)
        names = [f"n{i + 1}" for i in range(plan.nodes)]
        self.nodes = {
            name: SimulatedNode(self, name, [n for n in names if n != name])
            for name in names
        }
        self.calls: list[Call] = []
        self.values = 0

    def run(self) -> Simulation:
        for node in self.nodes.values():
            node.start()
        for client in range(self.plan.clients):
            self.at(self.random.randint(0, 300 * MS), partial(self.invoke, client))
        self.plan_faults()
        end = self.plan.duration_ms * MS
        while self.queue and self.queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self.queue)
            action()
        self.properties.check_logs()
        check_linearizable(self.calls)
        if self.plan.settles:
            self.check_settled()
        return self

    def check_settled(self) -> None:
        """Some call that began after the last fault was answered ok."""
        calm = self.plan.duration_ms * MS * 3 // 4
        if not any(c.outcome == "ok" and c.invoked > calm for c in self.calls):
            raise Violation("liveness: nobody is served long after the last fault")

    def at(self, when: int, action: Callable[[], None]) -> None:
        self.sequence += 1
        heapq.heappush(self.queue, (when, self.sequence, action))

    def turn(self) -> int:
        """How long a node's turn takes: what arrives meanwhile joins the batch."""
        return self.random.randint(0, MS // 2)

    # --- faults ------------------------------------------------------------------

    def plan_faults(self) -> None:
        """Every fault ends before the last quarter, so that the cluster comes back."""
        last = self.plan.duration_ms * MS * 3 // 4
        for _ in range(self.plan.crashes):
            down = self.random.randint(0, last)
            name = self.random.choice(list(self.nodes))
            if self.random.random() < self.plan.crash_leaders:
                name = ""
            pause = self.random.randint(0, self.plan.restart_ms_max * MS)
            self.at(down, partial(self.crash, name, pause))
        for _ in range(self.plan.partitions):
            start = self.random.randint(0, last)
            length = self.random.randint(50 * MS, 900 * MS)
            self.at(start, self.partition)
            self.at(min(start + length, last), self.heal)
        if self.plan.churn_ms:
            self.churn()
        for _ in range(self.plan.clock_jumps):
            self.at(self.random.randint(0, last), self.jump)
        for _ in range(self.plan.changes):
            self.at(self.random.randint(0, last), self.administer)

    def crash(self, name: str, pause: int) -> None:
        """Crash that node, or who leads, and restart it after a pause."""
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
        """Split the cluster in two otherwise than it was, or not at all; go on so."""
        self.split()
        if self.now < self.plan.duration_ms * MS * 3 // 4:
            wait = int(self.random.uniform(0, 2 * self.plan.churn_ms) * MS)
            self.at(self.now + wait, self.churn)

    def split(self) -> None:
        """Split the cluster in random halves, or not at all, or heal it at the end."""
        self.heal()
        if self.now >= self.plan.duration_ms * MS * 3 // 4:
            return
        half = len(self.nodes) // 2
        size = self.random.choice((0, half, half))
        self.isolate(set(self.random.sample(list(self.nodes), size)))

    def on_members(self, name: str) -> None:
        """Someone has a new configuration, and perhaps is the only one so far."""
        if self.leads(name) and self.random.random() < self.plan.strike_changes:
            self.heal()
            self.isolate({name})

    def isolate(self, side: set[str]) -> None:
        """Cut all links between `side` and the others."""
        other = set(self.nodes) - side
        self.cut |= {link for a in side for b in other for link in ((a, b), (b, a))}

    def on_elected(self) -> None:
        """Someone leads: a moment at which a split may hurt."""
        if self.random.random() < self.plan.churn_at_election:
            self.split()

    def jump(self) -> None:
        """A leader's clock is set back, and then it is cut off."""
        for name, node in self.nodes.items():
            if self.leads(name):
                node.offset -= self.random.randint(1000 * MS, 3000 * MS)
                self.isolate({name})

    def heal(self) -> None:
        self.cut.clear()

    def leads(self, name: str) -> bool:
        node = self.nodes[name]
        return bool(node.alive and node.core.role == raft.LEADER)

    def administer(self) -> None:
        """An operator asks for a change, mostly of who leads at the moment.

        One who leads is about to be removed now and then; mostly there are enough
        members for several majorities.
        """
        leaders = [name for name in self.nodes if self.leads(name)]
        name = self.random.choice(leaders or list(self.nodes))
        node = self.nodes[name]
        if not node.alive:
            return
        members = node.core.status()["members"]
        others = [other for other in self.nodes if other not in members]
        body = {"type": "remove_server", "node": self.random.choice(members)}
        if others and self.random.random() < 0.6:
            body = {"type": "add_server", "node": self.random.choice(others)}
        elif self.random.random() < 0.2:
            to = self.random.choice(list(self.nodes))
            body = {"type": "transfer_leadership", "to": to}
        node.step(Received("operator", body, node.now(), lambda _: None))

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

    # --- clients -----------------------------------------------------------------

    def invoke(self, client: int) -> None:
        """A client does one operation at a time."""
        call = self.choose_call(client)
        self.calls.append(call)
        body = request_body(call)
        if self.plan.attempts > 1:
            body["retry"] = {"client": f"c{client}", "seq": self.values}
        self.attempt(call, body, 1)

    def attempt(self, call: Call, body: dict[str, Any], count: int) -> None:
        """Send a copy of the request to any node that is up."""
        up = [node for node in self.nodes.values() if node.alive]
        if not up:
            self.at(self.now + 20 * MS, partial(self.attempt, call, body, count))
            return
        node = self.random.choice(up)
        answered = [False]

        def done(reply: Body | None) -> None:
            if answered[0]:
                return
            answered[0] = True
            pause = self.random.randint(0, 30 * MS)
            unsettled = reply is None or reply.get("code") in UNSETTLED
            if unsettled and count < self.plan.attempts:
                again = partial(self.attempt, call, body, count + 1)
                self.at(self.now + pause, again)
                return
            # A refusal speaks of one copy only.
            if reply is not None and not (unsettled and count > 1):
                complete(call, reply, self.now)
            self.at(self.now + pause, partial(self.invoke, call.client))

        request = Received(f"c{call.client}", body, node.now(), done)
        self.at(self.now + self.plan.attempt_ms * MS, partial(done, None))
        node.step(request)

    def choose_call(self, client: int) -> Call:
        """Written values are unique; a cas starts from one of the last few."""
        self.values += 1
        key = self.random.randint(0, 1)
        f = self.random.choice(("read", "read", "write", "cas"))
        argument: Any = None
        if f == "write":
            argument = self.values
        elif f == "cas":
            argument = (max(1, self.values - self.random.randint(1, 6)), self.values)
        return Call(client, f, key, argument, self.now)

    def reply(self, request: Received, body: Body) -> None:
        assert callable(request.channel)
        request.channel(body)


def request_body(call: Call) -> dict[str, Any]:
    """What the client sends."""
    body: dict[str, Any] = {"type": call.f, "key": call.key}
    if call.f == "write":
        body["value"] = call.argument
    elif call.f == "cas":
        body["from"], body["to"] = call.argument
    return body


def complete(call: Call, body: Body, now: int) -> None:
    """What the client makes of the answer."""
    code = body.get("code")
    if code is None:
        call.outcome, call.value = "ok", body.get("value")
    elif code == 20 and call.f == "read":
        call.outcome = "ok"
    elif code in INDEFINITE:
        return
    elif code in {20, 22}:
        call.outcome = "mismatch"
    else:
        call.outcome = "fail"
    call.returned = now


class Properties:
    """The five properties of the paper's Figure 3, as far as each can be seen.

    Attributes:
        logs: Every node's log as it observed it, with what it has compacted since.
        committed: What was committed at each index, by whoever did first.
    """

    def __init__(self, world: Simulation) -> None:
        self.world = world
        self.leaders: dict[int, str] = {}
        self.logs: dict[str, dict[int, Any]] = {}
        self.committed: dict[int, Any] = {}
        self.counts: dict[str, int] = {}

    def observe(self, node: str, kind: str, fields: dict[str, Any]) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        match kind:
            case "became_leader":
                self.world.on_elected()
                self.election_safety(node, fields["term"])
                self.leader_completeness(node)
            case "members":
                self.world.on_members(node)
            case "appended":
                log = self.logs.setdefault(node, {})
                log.update(enumerate(map(tuple, fields["entries"]), fields["first"]))
            case "recovered":
                log = self.world.nodes[node].core.log
                entries = log.since(log.base + 1)
                self.logs[node] = dict(enumerate(map(tuple, entries), log.base + 1))
            case "committed":
                self.state_machine_safety(node, fields["first"], fields["last"])
            case "installed_snapshot":
                self.snapshot_safety(node, fields["index"], fields["term"])
            case "truncated":
                self.leader_append_only(node)
            case _:
                pass

    def election_safety(self, node: str, term: int) -> None:
        """At most one leader can be elected in a given term."""
        other = self.leaders.setdefault(term, node)
        if other != node:
            raise Violation(f"election safety: {other} and {node} lead term {term}")

    def leader_completeness(self, node: str) -> None:
        """A committed entry is in the logs of the leaders of all higher terms.

        Entries that its snapshot covers were checked when it committed them.
        """
        log = self.world.nodes[node].core.log
        for index, entry in self.committed.items():
            if index <= log.base:
                continue
            if index > log.last_index or tuple(log[index]) != entry:
                raise Violation(
                    f"leader completeness: {node} leads without entry {index} {entry}"
                )

    def state_machine_safety(self, node: str, first: int, last: int) -> None:
        """No two servers apply different entries at the same index."""
        for index in range(first, last + 1):
            entry = self.logs[node][index]
            known = self.committed.setdefault(index, entry)
            if known != entry:
                raise Violation(
                    f"state machine safety: {node} applies {entry} at {index}, where "
                    f"{known} was applied"
                )

    def snapshot_safety(self, node: str, index: int, term: int) -> None:
        """A snapshot is of what was committed."""
        if index not in self.committed or self.committed[index][0] != term:
            raise Violation(
                f"state machine safety: {node} installs a snapshot that ends with "
                f"index {index} of term {term}, where {self.committed.get(index)} was "
                "committed"
            )

    def leader_append_only(self, node: str) -> None:
        """A leader never overwrites or deletes entries in its log."""
        if self.world.nodes[node].core.role == raft.LEADER:
            raise Violation(f"leader append-only: {node} truncates its log")

    def check_logs(self) -> None:
        """Log matching: same index and term, then the same log up to there."""
        logs = [node.core.log for node in self.world.nodes.values()]
        for i, a in enumerate(logs):
            for b in logs[i + 1 :]:
                first = max(a.base, b.base) + 1
                last = min(a.last_index, b.last_index)
                while last >= first and a[last].term != b[last].term:
                    last -= 1
                count = max(0, last + 1 - first)
                if a.since(first, count) != b.since(first, count):
                    raise Violation(f"log matching: logs part before index {last}")
        self.check_states()

    def check_states(self) -> None:
        """Servers that applied as much have the same state, sessions included."""
        states: dict[int, Any] = {}
        for name, node in self.world.nodes.items():
            state = json.dumps(node.core.state.as_data())
            known = states.setdefault(node.core.last_applied, state)
            if known != state:
                at = node.core.last_applied
                raise Violation(
                    f"state machine safety: {name} has {state} after entry {at}, "
                    f"another {known}"
                )


# --- linearizability -----------------------------------------------------------------


def check_linearizable(calls: list[Call]) -> None:
    """Raise Violation unless each key's calls have a legal order (Wing and Gong 1993).

    Cost: exponential in concurrency, which is a handful here. A key whose many calls
    without an answer lead to more than STATES_MAX states is passed over.
    """
    for key in sorted({call.key for call in calls}):
        relevant = [c for c in calls if c.key == key and matters(c)]
        if not has_legal_order(sorted(relevant, key=lambda c: c.invoked)):
            story = "\n".join(str(c) for c in relevant)
            raise Violation(f"linearizability: key {key} has no legal order:\n{story}")


def matters(call: Call) -> bool:
    """Failed calls had no effect; reads without an answer say nothing."""
    return call.outcome != "fail" and not (call.f == "read" and call.outcome == "info")


def has_legal_order(calls: list[Call]) -> bool:
    """Depth-first search over (which calls are done, value), each state once."""
    returns = [c.returned for c in calls]
    required = {i for i, c in enumerate(calls) if c.returned != NEVER}
    seen: set[tuple[frozenset[int], Any]] = set()
    stack: list[tuple[int, frozenset[int], Any]] = [(0, frozenset(), None)]
    # `low`: all calls before it are done; `done`: further ones that are.
    while stack:
        low, done, value = stack.pop()
        while low in done:
            done -= {low}
            low += 1
        if not any(i >= low and i not in done for i in required):
            return True
        state = (done | {-low - 1}, value)
        if state in seen:
            continue
        if len(seen) > STATES_MAX:
            return True
        seen.add(state)
        first_return = min(
            (returns[i] for i in range(low, len(calls)) if i not in done),
            default=NEVER,
        )
        for i in range(low, len(calls)):
            if calls[i].invoked > first_return:
                break
            if i not in done:
                legal, after = apply(calls[i], value)
                if legal:
                    stack.append((low, done | {i}, after))
    return False


def apply(call: Call, value: Any) -> tuple[bool, Any]:
    """Is the call's outcome possible when the register holds `value`? And then?"""
    if call.f == "read":
        return call.value == value, value
    if call.f == "write":
        return True, call.argument
    old, new = call.argument
    matches = value is not None and value == old
    if call.outcome == "mismatch":
        return not matches, value
    if call.outcome == "info":
        return matches, new
    return matches, new


def sweep(plan: Plan, seeds: Iterable[int]) -> tuple[int, Violation] | None:
    """The first seed whose run breaks a promise, and which; None if none does.

    A core that trips over its own assertions counts as convicted too.
    """
    for seed in seeds:
        try:
            Simulation(seed, plan).run()
        except Violation as e:
            return seed, e
        except AssertionError as e:
            return seed, Violation(f"a core's own assertion failed: {e}")
    return None
