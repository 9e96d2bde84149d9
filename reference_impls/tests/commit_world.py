"""The hostile world of `simulation`, for two-phase and three-phase commit.

AC1 to AC3 (Bernstein, Hadzilacos and Goodman 1987, 7.2) are checked on what nodes
observe, as it happens. AC5 is checked once the faults are over: no node is undecided,
and none has forgotten a decision. What clients saw must be strictly serializable: the
serialization graph, with an arrow from every transaction that ended to every one that
began later, has no cycle (their chapter 2).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from reference_impls import two_phase_commit
from reference_impls.actor import Received
from reference_impls.atomic_commit import ABORT, COMMIT, NO
from reference_impls.tests.simulation import MS, Plan, Simulation, Violation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from reference_impls.actor import Body

DEFINITE = {11, 12, 14, 30}
NEVER = 1 << 62


@dataclass
class CommitPlan(Plan):
    """A `Plan` for commit protocols."""

    protocol: ModuleType = two_phase_commit
    duration_ms: int = 5000
    settling_ms: int = 6000  # time for everybody to decide
    clients: int = 6
    keys: int = 12
    blackouts: int = 0  # how often all nodes crash at once
    # longest doubt of a participant that hasn't crashed
    patience_ms: float = float("inf")


CALM: Mapping[str, Any] = {
    "loss": 0.0,
    "duplicate": 0.0,
    "slow": 0.0,
    "crashes": 0,
    "partitions": 0,
}
"""Settings of a plan in which nothing fails."""


@dataclass
class Txn:
    """A client's transaction, and what became of it as far as the client knows."""

    id: str
    txn: list[list[Any]]
    invoked: int
    returned: int = NEVER
    outcome: str = "info"
    results: list[list[Any]] = field(default_factory=list)


class CommitWorld(Simulation[CommitPlan]):
    """The world. `run` raises Violation when the protocol broke a promise."""

    def __init__(self, seed: int, plan: CommitPlan) -> None:
        self.protocol = plan.protocol
        self.agreement = Agreement(self)
        super().__init__(seed, plan, self.agreement)
        self.txns: list[Txn] = []

    def check(self) -> None:
        super().check()
        check_serializable(self.txns, self.final_data(), self.agreement.outcomes())

    def plan_faults(self) -> None:
        super().plan_faults()
        for _ in range(self.plan.blackouts):
            self.at(self.random.randint(0, self.last_fault()), self.black_out)

    def black_out(self) -> None:
        for name in self.nodes:
            self.crash(name, self.random.randint(0, self.plan.restart_ms_max * MS))

    def invoke(self, client: int) -> None:
        """A client does one transaction at a time, each at any node that is up."""
        if self.now > self.plan.duration_ms * MS:
            return
        up = [node for node in self.nodes.values() if node.alive]
        if not up:
            self.at(self.now + 20 * MS, partial(self.invoke, client))
            return
        node = self.random.choice(up)
        txn = Txn(f"t{len(self.txns)}", self.draw_txn(), self.now)
        self.txns.append(txn)
        answered = [False]

        def done(reply: Body | None) -> None:
            if not answered[0]:
                answered[0] = True
                complete(txn, reply, self.now)
                pause = self.random.randint(0, 60 * MS)
                self.at(self.now + pause, partial(self.invoke, client))

        body = {"type": "txn", "id": txn.id, "txn": txn.txn}
        self.at(self.now + 1500 * MS, partial(done, None))
        node.step(Received(f"c{client}", body, node.now(), done))

    def draw_txn(self) -> list[list[Any]]:
        """Appends of unique values, and reads; now and then one that must abort."""
        txn: list[list[Any]] = []
        count = self.random.randint(1, min(4, self.plan.keys))
        for key in self.random.sample(range(self.plan.keys), count):
            if self.random.random() < 0.5:
                txn.append(["r", key, None])
            else:
                txn.append(["append", key, f"{len(self.txns)}.{len(txn)}"])
        if self.random.random() < 0.1:
            txn.append(["add", "none below zero", -1])
        return txn

    def final_data(self) -> dict[int, list[str]]:
        """The data of all shards at the end."""
        data: dict[int, list[str]] = {}
        for node in self.nodes.values():
            data |= node.core.shard.data
        return data


def complete(txn: Txn, reply: Body | None, now: int) -> None:
    """Note a transaction's outcome, as the client learns it from the answer."""
    if reply is None:
        return
    if reply["type"] == "txn_ok":
        txn.outcome, txn.returned, txn.results = COMMIT, now, reply["txn"]
    elif reply["code"] in DEFINITE:
        txn.outcome, txn.returned = ABORT, now


class Agreement:
    """AC1 to AC5 over all that nodes observe, and over their accounts in the end."""

    def __init__(self, world: CommitWorld) -> None:
        self.world = world
        self.decided: dict[str, str] = {}
        self.decided_by: dict[tuple[str, str, str], str] = {}
        self.votes: dict[str, dict[str, str]] = defaultdict(dict)
        self.voted_in_life: dict[tuple[str, str], int] = {}
        self.counts: dict[str, int] = defaultdict(int)
        self.longest_doubt_ms = 0.0

    def observe(self, node: str, kind: str, fields: dict[str, Any]) -> None:
        self.counts[kind] += 1
        if kind == "voted":
            self.votes[fields["id"]][node] = fields["vote"]
            self.voted_in_life[node, fields["id"]] = self.world.nodes[node].life
        elif kind == "decided":
            self.on_decided(node, fields["role"], fields["id"], fields["decision"])
        elif kind == "resolved":
            self.on_resolved(node, fields["id"], fields["waited_ms"])

    def on_decided(self, node: str, role: str, txn: str, decision: str) -> None:
        before = self.decided_by.setdefault((node, role, txn), decision)
        if before != decision:
            raise Violation(f"AC2: {node} as {role}: {before}, then {decision}: {txn}")
        first = self.decided.setdefault(txn, decision)
        if first != decision:
            raise Violation(f"AC1: {txn}: {first}, but {node} as {role}: {decision}")
        if decision == COMMIT and NO in self.votes[txn].values():
            raise Violation(f"AC3: {txn} is committed in spite of {self.votes[txn]}")

    def on_resolved(self, node: str, txn: str, waited_ms: float) -> None:
        """A participant that hasn't crashed waits no longer than the plan allows."""
        if self.voted_in_life.get((node, txn)) != self.world.nodes[node].life:
            return
        self.longest_doubt_ms = max(self.longest_doubt_ms, waited_ms)
        if waited_ms > self.world.plan.patience_ms:
            raise Violation(f"blocked: {node} was in doubt of {txn} for {waited_ms} ms")

    def check_logs(self) -> None:
        """AC5; that disks hold the decisions that were observed; and AC3 once more."""
        for name, node in self.world.nodes.items():
            core = node.core
            account = core.account(list(core.known))
            for txn, word in account["decisions"].items():
                self.check_word(name, "participant", txn, word)
            for txn, word in account["coordinated"].items():
                self.check_word(name, "coordinator", txn, word)
            for txn, part in core.parts.items():
                if part.decision == COMMIT and part.vote != "yes":
                    raise Violation(f"AC3: {name} never voted on {txn}: committed")
            if core.untold or core.shard.undo or core.shard.locks.claims:
                raise Violation(f"AC5: {name} isn't finished: {core.status()}")

    def check_word(self, node: str, role: str, txn: str, word: str) -> None:
        if word not in {COMMIT, ABORT}:
            raise Violation(f"AC5: {node} as {role} is still {word} on {txn}")
        self.on_decided(node, role, txn, word)

    def needless_aborts(self) -> list[str]:
        """AC4: transactions that were aborted though everybody voted yes."""
        return [
            txn
            for txn, decision in self.decided.items()
            if decision == ABORT and set(self.votes[txn].values()) == {"yes"}
        ]

    def outcomes(self) -> dict[str, str]:
        return self.decided


# --- strict serializability ----------------------------------------------------------


def check_serializable(
    txns: list[Txn], final: dict[int, list[str]], decided: dict[str, str]
) -> None:
    """Raise Violation unless the committed transactions have a serial order.

    That order must agree with real time, with the lists' final contents, and with what
    was read. Cost: linear in what was read.
    """
    for txn in txns:
        if txn.outcome != "info" and decided.get(txn.id, txn.outcome) != txn.outcome:
            raise Violation(f"{txn.id}: the client was told {txn.outcome}")
    committed = [txn for txn in txns if decided.get(txn.id) == COMMIT]
    writers = writers_of(committed)
    for key, values in final.items():
        if isinstance(values, list):
            check_list(key, values, writers)
    missing = set(writers) - {v for vs in final.values() for v in listed(vs)}
    if missing:
        raise Violation(f"committed, but not there: {sorted(missing)}")
    check_acyclic(graph(committed, final, writers))


def listed(values: Any) -> list[str]:
    return values if isinstance(values, list) else []


def writers_of(committed: list[Txn]) -> dict[str, str]:
    """Value -> the transaction that appended it."""
    return {
        value: txn.id for txn in committed for f, _, value in txn.txn if f == "append"
    }


def check_list(key: int, values: list[str], writers: dict[str, str]) -> None:
    if len(set(values)) < len(values):
        raise Violation(f"key {key}: something was appended twice: {values}")
    strangers = [value for value in values if value not in writers]
    if strangers:
        raise Violation(f"key {key}: {strangers} was never committed")


def graph(
    committed: list[Txn], final: dict[int, list[str]], writers: dict[str, str]
) -> dict[str, set[str]]:
    """Transaction -> the transactions that must come after it."""
    later: dict[str, set[str]] = {txn.id: set() for txn in committed}
    for values in final.values():
        for a, b in pairwise(listed(values)):
            later[writers[a]].add(writers[b])
    for txn in committed:
        for f, key, seen in txn.results:
            if f == "r":
                add_read(
                    later, txn.id, key, seen or [], listed(final.get(key)), writers
                )
    add_real_time(later, committed)
    return later


def add_real_time(later: dict[str, set[str]], committed: list[Txn]) -> None:
    """A transaction that ended comes before those that began later.

    Every end is a point on a line of time, so that few arrows say it. A transaction
    comes before the point of its end; a point comes before the next point, and before
    the transactions that begin between the two.
    """
    ended = sorted(
        (t for t in committed if t.returned != NEVER), key=lambda t: t.returned
    )
    begun = sorted(committed, key=lambda t: t.invoked)
    for i, txn in enumerate(ended):
        later[txn.id].add(f"@{i}")
        later[f"@{i}"] = {f"@{i + 1}"}
    later[f"@{len(ended)}"] = set()
    point = 0
    for txn in begun:
        while point < len(ended) and ended[point].returned < txn.invoked:
            point += 1
        if point:
            later[f"@{point - 1}"].add(txn.id)


def add_read(
    later: dict[str, set[str]],
    reader: str,
    key: int,
    seen: list[str],
    final: list[str],
    writers: dict[str, str],
) -> None:
    """The reader comes after what it saw and before what it didn't."""
    if final[: len(seen)] != seen:
        raise Violation(f"{reader} read {seen} of key {key}, which ends as {final}")
    if seen and writers[seen[-1]] != reader:
        later[writers[seen[-1]]].add(reader)
    if len(final) > len(seen) and writers[final[len(seen)]] != reader:
        later[reader].add(writers[final[len(seen)]])


def check_acyclic(later: dict[str, set[str]]) -> None:
    """Raise Violation if the graph has a cycle (Kahn's algorithm)."""
    incoming = dict.fromkeys(later, 0)
    for txn, others in later.items():
        for other in others - {txn}:
            incoming[other] += 1
    ready = [txn for txn, count in incoming.items() if not count]
    placed = 0
    while ready:
        txn = ready.pop()
        placed += 1
        for other in later[txn] - {txn}:
            incoming[other] -= 1
            if not incoming[other]:
                ready.append(other)
    if placed < len(later):
        raise Violation("not serializable: the serialization graph has a cycle")
