"""The hostile simulated world of `simulation`, for single-decree and Multi-Paxos.

Loss, duplication, reordering, cuts, crashes that keep only what was durable, clocks
that run apart: all as for Raft. Here are the clients of each service, and the promises
that are checked on what the cores `Observe`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from reference_impls import multi_paxos, paxos
from reference_impls.actor import (
    Body,
    Effect,
    Observe,
    Persist,
    Received,
    Reply,
    Send,
    settings,
)
from reference_impls.tests.simulation import (
    MS,
    Plan,
    SimulatedNode,
    Simulation,
    Violation,
)

if TYPE_CHECKING:
    from types import ModuleType

KEYS_AT_A_TIME = 3
PROPOSALS_PER_KEY = 6


@dataclass
class PaxosPlan(Plan):
    """A plan, for a core of one of the two protocols.

    Attributes:
        mutant: What to build in place of the protocol's own core.
        finishes: Everything is expected to be over some time after the last fault.
    """

    mutant: type[Any] | None = None
    finishes: bool = True


class PaxosNode(SimulatedNode):
    """A node of either protocol. All that it says or shows waits for its disk."""

    world: PaxosWorld

    def start(self) -> None:
        plan, protocol = self.world.paxos_plan, self.world.protocol
        options = settings(protocol.OPTIONS, plan.options)
        core = {} if plan.mutant is None else {"core": plan.mutant}
        self.core = protocol.build(self.name, self.peers, options, **core)
        self.alive = True
        self.life += 1
        self.carry_out(self.core.start(json.loads(json.dumps(self.durable))))

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                self.unsynced.append(effect.record)
                self.begin_sync()
            elif self.unsynced and isinstance(effect, Send | Reply | Observe):
                self.held.append(effect)
            else:
                self.carry_out_now(effect)


class PaxosWorld(Simulation):
    """What both protocols share; `promises` judges what is observed."""

    protocol: ModuleType

    def __init__(self, seed: int, plan: PaxosPlan, promises: Any) -> None:
        super().__init__(seed, plan)
        self.paxos_plan = plan
        self.properties = promises
        names = list(self.nodes)
        self.nodes = {
            name: PaxosNode(self, name, [n for n in names if n != name])
            for name in names
        }

    def leads(self, name: str) -> bool:
        node = self.nodes[name]
        return node.alive and node.core.status()["role"] == "leader"


# --- single-decree ----------------------------------------------------------------


class ConsensusPromises:
    """Agreement, validity, integrity, and learned implies chosen (Lamport 2001, 2.1).

    A value is chosen once a majority accepted it under one ballot, ever.
    """

    def __init__(self, nodes: int) -> None:
        self.majority = nodes // 2 + 1
        self.proposed: dict[Any, set[Any]] = {}
        self.accepted: dict[tuple[Any, ...], set[str]] = {}
        self.chosen: dict[Any, Any] = {}
        self.learned: dict[tuple[str, Any], Any] = {}

    def observe(self, node: str, kind: str, fields: dict[str, Any]) -> None:
        key, value = fields["key"], fields.get("value")
        if kind == "accepted":
            acceptors = self.accepted.setdefault((key, fields["ballot"], value), set())
            acceptors.add(node)
            if len(acceptors) >= self.majority:
                self.choose(key, value)
        elif kind == "learned":
            self.learn(node, key, value)

    def choose(self, key: Any, value: Any) -> None:
        known = self.chosen.setdefault(key, value)
        if known != value:
            raise Violation(f"agreement: {known} and {value} are chosen for key {key}")
        if value not in self.proposed.get(key, ()):
            raise Violation(f"validity: nobody proposed {value} for key {key}")

    def learn(self, node: str, key: Any, value: Any) -> None:
        if self.chosen.get(key) != value:
            raise Violation(f"{node} learned {value} for key {key}, which isn't chosen")
        before = self.learned.setdefault((node, key), value)
        if before != value:
            raise Violation(f"integrity: {node} learned {before}, then {value}")

    def check_logs(self) -> None:
        """Everything is checked as it happens."""


class ConsensusWorld(PaxosWorld):
    """Clients propose for a few keys at a time, and ask what was chosen."""

    protocol = paxos

    def __init__(self, seed: int, plan: PaxosPlan) -> None:
        self.promises = ConsensusPromises(plan.nodes)
        super().__init__(seed, plan, self.promises)
        self.unanswered: set[tuple[str, Any]] = set()
        if plan.finishes:
            healed_ms = plan.duration_ms * 3 // 4 + plan.restart_ms_max + 1
            self.at(healed_ms * MS, self.ask_for_everything)

    def run(self) -> ConsensusWorld:
        super().run()
        if self.unanswered:
            raise Violation(f"termination: not learned: {sorted(self.unanswered)}")
        return self

    def invoke(self, client: int) -> None:
        """Mostly proposals; each value is new."""
        node = self.nodes[self.random.choice(list(self.nodes))]
        self.at(
            self.now + self.random.randint(0, 50 * MS), partial(self.invoke, client)
        )
        if not node.alive:
            return
        self.values += 1
        key = self.values // PROPOSALS_PER_KEY + self.random.randrange(KEYS_AT_A_TIME)
        body = {"type": "learn", "key": key}
        if self.random.random() < 0.8:
            body |= {"type": "propose", "value": self.values}
            self.promises.proposed.setdefault(key, set()).add(self.values)
        self.ask(node, f"c{client}", body, partial(self.on_answer, key))

    def ask(self, node: SimulatedNode, client: str, body: Body, done: Any) -> None:
        node.step(Received(client, body, node.now(), done))

    def on_answer(self, key: int, body: Body) -> None:
        """All clients hear of the same value, and it is chosen."""
        value = body.get("value")
        if value is None:
            return
        if self.promises.chosen.get(key) != value:
            raise Violation(f"a client heard of {value} for {key}, which isn't chosen")

    def ask_for_everything(self) -> None:
        """With all faults healed, each node can tell what was chosen."""
        self.unanswered = {(n, key) for n in self.nodes for key in self.promises.chosen}
        for name, key in sorted(self.unanswered):
            done = partial(self.on_final_answer, name, key)
            self.ask(self.nodes[name], "c", {"type": "learn", "key": key}, done)

    def on_final_answer(self, name: str, key: int, body: Body) -> None:
        self.on_answer(key, body)
        if body.get("value") is not None:
            self.unanswered.discard((name, key))


# --- Multi-Paxos ------------------------------------------------------------------


class LogPromises:
    """One leader a term, and the same command in the same slot everywhere."""

    def __init__(self) -> None:
        self.world: LogWorld
        self.leaders: dict[int, str] = {}
        self.applied: dict[int, tuple[int, int]] = {}
        self.target = 0

    def observe(self, node: str, kind: str, fields: dict[str, Any]) -> None:
        if kind == "became_leader":
            other = self.leaders.setdefault(fields["term"], node)
            if other != node:
                raise Violation(f"{other} and {node} lead term {fields['term']}")
        elif kind == "applied":
            entry = (fields["term"], fields["hash"])
            known = self.applied.setdefault(fields["index"], entry)
            if known != entry:
                raise Violation(f"prefixes: {node} differs in slot {fields['index']}")

    def check_logs(self) -> None:
        """Prefixes are identical, and everyone caught up with the faults' end."""
        logs = [node.core.decisions for node in self.world.nodes.values()]
        for log in logs:
            known = max(logs, key=len)[: len(log)]
            if log != known:
                raise Violation("prefixes: two logs differ")
        for node in self.world.nodes.values():
            if node.core.decided < self.target:
                raise Violation(f"{node.name} never caught up: {node.core.status()}")


class LogWorld(PaxosWorld):
    """The clients of `simulation`, whose calls have to be linearizable."""

    protocol = multi_paxos

    def __init__(self, seed: int, plan: PaxosPlan) -> None:
        promises = LogPromises()
        super().__init__(seed, plan, promises)
        promises.world = self
        if plan.finishes:
            self.at(plan.duration_ms * MS * 3 // 4, self.note_target)

    def note_target(self) -> None:
        self.properties.target = max(n.core.decided for n in self.nodes.values())


def sweep(
    world: type[PaxosWorld], plan: PaxosPlan, seeds: range
) -> tuple[int, Violation] | None:
    """The first seed whose run breaks a promise, and which; None if none does.

    A core that trips over its own assertions counts as convicted too.
    """
    for seed in seeds:
        try:
            world(seed, plan).run()  # type: ignore[call-arg]  # each adds its promises
        except Violation as e:
            return seed, e
        except AssertionError as e:
            return seed, Violation(f"a core's own assertion failed: {e}")
    return None
