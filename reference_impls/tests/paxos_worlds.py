"""The hostile world of `simulation`, for single-decree and for Multi-Paxos.

Here are the clients of single-decree Paxos, and the promises of both that are checked
on what the cores `Observe`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from reference_impls import multi_paxos, paxos
from reference_impls.actor import Received
from reference_impls.tests.registers import RegisterPlan, RegisterWorld
from reference_impls.tests.simulation import MS, Simulation, Violation

if TYPE_CHECKING:
    from reference_impls.actor import Body
    from reference_impls.tests.simulation import SimulatedNode

KEYS_AT_A_TIME = 3
PROPOSALS_PER_KEY = 6


@dataclass
class PaxosPlan(RegisterPlan):
    """A `RegisterPlan` that says what may be expected at the end."""

    finishes: bool = True  # whether all must be learned some time after the last fault


# --- single-decree ----------------------------------------------------------------


class ConsensusPromises:
    """Agreement, validity, integrity, and learned implies chosen (Lamport 2001, 2.1).

    A value is chosen once a majority has accepted it under one ballot, at any times.
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
        """Do nothing: everything is checked as it happens."""


class ConsensusWorld(Simulation[PaxosPlan]):
    """Clients propose for a few keys at a time, and ask what was chosen."""

    protocol = paxos

    def __init__(self, seed: int, plan: PaxosPlan) -> None:
        self.consensus = ConsensusPromises(plan.nodes)
        super().__init__(seed, plan, self.consensus)
        self.values = 0
        self.unanswered: set[tuple[str, Any]] = set()

    def plan_faults(self) -> None:
        super().plan_faults()
        if self.plan.finishes:
            healed = self.last_fault() + (self.plan.restart_ms_max + 1) * MS
            self.at(healed, self.ask_for_everything)

    def check(self) -> None:
        super().check()
        if self.unanswered:
            raise Violation(f"termination: not learned: {sorted(self.unanswered)}")

    def invoke(self, client: int) -> None:
        """Send a proposal of a new value, or now and then a question."""
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
            self.consensus.proposed.setdefault(key, set()).add(self.values)
        self.ask(node, f"c{client}", body, partial(self.on_answer, key))

    def ask(self, node: SimulatedNode, client: str, body: Body, done: Any) -> None:
        node.step(Received(client, body, node.now(), done))

    def on_answer(self, key: int, body: Body) -> None:
        """Raise Violation if a client is told a value that isn't chosen."""
        value = body.get("value")
        if value is None:
            return
        if self.consensus.chosen.get(key) != value:
            raise Violation(f"a client heard of {value} for {key}, which isn't chosen")

    def ask_for_everything(self) -> None:
        """Ask each node for all that was chosen, once all faults are healed."""
        self.unanswered = {
            (n, key) for n in self.nodes for key in self.consensus.chosen
        }
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

    def __init__(self, world: LogWorld) -> None:
        self.world = world
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
        """All logs agree, and reach what was decided when the last fault ended."""
        logs = [node.core.decisions for node in self.world.nodes.values()]
        for log in logs:
            known = max(logs, key=len)[: len(log)]
            if log != known:
                raise Violation("prefixes: two logs differ")
        for node in self.world.nodes.values():
            if node.core.decided < self.target:
                raise Violation(f"{node.name} never caught up: {node.core.status()}")


class LogWorld(RegisterWorld[PaxosPlan]):
    """Clients' calls have to be linearizable."""

    protocol = multi_paxos

    def __init__(self, seed: int, plan: PaxosPlan) -> None:
        self.log = LogPromises(self)
        super().__init__(seed, plan, self.log)

    def plan_faults(self) -> None:
        super().plan_faults()
        if self.plan.finishes:
            self.at(self.last_fault(), self.note_target)

    def note_target(self) -> None:
        self.log.target = max(n.core.decided for n in self.nodes.values())
