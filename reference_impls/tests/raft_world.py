"""The hostile world of `simulation`, for Raft.

An operator adds and removes members and moves the leadership. The properties of the
paper's Figure 3 are checked on what the cores `Observe`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reference_impls import raft
from reference_impls.actor import Observe, Received, settings
from reference_impls.tests.registers import RegisterPlan, RegisterWorld
from reference_impls.tests.simulation import MS, Violation

if TYPE_CHECKING:
    from reference_impls.actor import Effect


@dataclass
class RaftPlan(RegisterPlan):
    """A `RegisterPlan` with faults that are aimed at elections and member changes."""

    churn_at_election: float = 0.0  # chance of a new split when a leader is elected
    strike_changes: float = 0.0  # chance that a leader is cut off as it changes members
    changes: int = 0  # how often an operator asks for another member, or leader
    empties: int = 0  # how often an operator removes a server and empties its disk


class RaftWorld(RegisterWorld[RaftPlan]):
    """The world. `run` raises Violation when Raft broke a promise."""

    protocol = raft

    def __init__(self, seed: int, plan: RaftPlan) -> None:
        super().__init__(seed, plan, Properties(self))
        self.emptied: Counter[str] = Counter()

    def build(self, name: str, peers: list[str]) -> Any:
        """A core, which is told how often its disk was emptied."""
        options = settings(raft.OPTIONS, self.plan.options)
        options["incarnation"] = self.emptied[name]
        return raft.build(name, peers, options, core=self.plan.core)

    def waits_for_disk(self, effect: Effect) -> bool:
        """True for messages, and of the observations only for `committed`.

        The others are checked against the core's state at the same step.
        """
        if isinstance(effect, Observe):
            return effect.kind == "committed"
        return super().waits_for_disk(effect)

    def plan_faults(self) -> None:
        super().plan_faults()
        for _ in range(self.plan.changes):
            self.at(self.random.randint(0, self.last_fault()), self.administer)
        for _ in range(self.plan.empties):
            self.at(self.random.randint(0, self.last_fault()), self.empty)

    def on_members(self, name: str) -> None:
        """Maybe cut off a leader that has a new configuration, which few may have."""
        if self.leads(name) and self.random.random() < self.plan.strike_changes:
            self.heal()
            self.isolate({name})

    def on_elected(self) -> None:
        """Maybe split the cluster anew, which may hurt at this moment."""
        if self.random.random() < self.plan.churn_at_election:
            self.split()

    def administer(self) -> None:
        """Send an operator's request for a change, to the leader if there is one.

        It adds a server more often than it removes one, so that there are mostly enough
        members for several majorities. Now and then it removes the leader.
        """
        leaders = [name for name in self.nodes if self.leads(name)]
        name = self.random.choice(leaders or list(self.nodes))
        node = self.nodes[name]
        if not node.alive:
            return
        members = node.core.status()["members"]
        others = [other for other in self.nodes if other not in members]
        body = {"type": "remove", "node": self.random.choice(members)}
        if others and self.random.random() < 0.6:
            body = {"type": "add", "node": self.random.choice(others)}
        elif self.random.random() < 0.2:
            to = self.random.choice(list(self.nodes))
            body = {"type": "transfer", "node": to}
        node.step(Received("operator", body, node.now(), lambda _: None))

    def empty(self) -> None:
        """Crash a server; if the leader removes it, it comes back with an empty disk.

        Otherwise it comes back with the disk that it had.
        """
        leaders = [name for name in self.nodes if self.leads(name)]
        others = [
            n for n, node in self.nodes.items() if node.alive and n not in leaders
        ]
        if not leaders or not others:
            return
        name = self.random.choice(others)
        node = self.nodes[name]
        node.crash()
        life = node.life

        def come_back(body: Any = None) -> None:
            if node.alive or node.life != life:
                return
            if body is not None and body["type"] == "remove_ok":
                node.durable.clear()
                self.emptied[name] += 1
            node.start()

        self.at(self.now + 1500 * MS, come_back)
        leader = self.nodes[leaders[0]]
        body = {"type": "remove", "node": name}
        leader.step(Received("operator", body, leader.now(), come_back))


class Properties:
    """The five properties of the paper's Figure 3, as far as each can be seen.

    Attributes:
        logs: Every node's log as it observed it, also what it has compacted since.
        committed: Index -> the entry that was committed there first.
    """

    def __init__(self, world: RaftWorld) -> None:
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
            case "joins":
                self.logs[node] = {}
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
        """A snapshot ends with an entry that was committed."""
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
        """Servers that applied equally much have the same state, sessions included."""
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
