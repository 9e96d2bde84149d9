"""Distributed transactions, and what every participant decided about each.

Every transaction has an id of its own and touches several keys, so several shards. At
the end every node is asked what it voted and decided (`decisions`). Promise: atomic
commit, AC1 to AC5 (Bernstein, Hadzilacos and Goodman 1987, chapter 7), judged by
`atomic_commit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import NodeReply, UsageError
from harness.options import SHARE, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import WireCodec, Workload
from harness.workload.generator import Generator, Invocation, from_function
from workloads.transactional import once_per_thread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WorkloadFactory

OPTIONS = (
    Option("keys", "40", "keys that transactions choose from", Whole(2, 10_000)),
    Option("keys_per_txn", "3", "keys that a transaction touches", Whole(1, 1000)),
    Option(
        "doomed_share", "0.1", "transactions that a participant must vote no on", SHARE
    ),
)


class CommitCodec(WireCodec):
    """Transactions with ids, and the nodes' own accounts of them (WIRE.md)."""

    @override
    def request(self, op: Op) -> dict[str, Any]:
        if op.f == "decisions":
            return {"type": "decisions"}
        return {"type": "txn", "id": op.value["id"], "txn": op.value["txn"]}

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        if body.get("type") != f"{op.f}_ok":
            raise NodeReply(
                definite=False, text=f"answered {op.f} with {body.get('type')!r}"
            )
        if op.f == "txn":
            return op.ok({"id": op.value["id"], "txn": body.get("txn")})
        told = {name: body.get(name) for name in ("decisions", "votes", "coordinated")}
        if not all(isinstance(part, dict) for part in told.values()):
            raise NodeReply(definite=False, text="answered decisions without them")
        return op.ok(told)

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return None


class Commit(Workload):
    """The workload that this module describes."""

    name = "commit"
    requires = frozenset({"commit"})
    codec: WireCodec = CommitCodec()
    idempotent: frozenset[str] = frozenset({"decisions"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.keys: int = given["keys"]
        self.keys_per_txn: int = given["keys_per_txn"]
        self.doomed_share: float = given["doomed_share"]
        if self.keys_per_txn > self.keys:
            raise UsageError(
                f"commit: keys_per_txn={self.keys_per_txn} is more than there are: "
                f"keys={self.keys}"
            )
        self._begun = 0

    @override
    def generator(self, concurrency: int) -> Generator:
        """Transactions of writes; `doomed_share` of them a participant must refuse."""
        self._begun = 0

        def draw(random: Random) -> Invocation:
            self._begun += 1
            keys = random.sample(range(self.keys), self.keys_per_txn)
            txn: list[list[Any]] = [["w", f"k{key}", self._begun] for key in keys]
            if random.random() < self.doomed_share:
                # Numbers must not fall below zero, so this key's shard votes no.
                txn[-1] = ["add", f"n{keys[-1]}", -1]
            return Invocation("txn", {"id": f"t{self._begun}", "txn": txn})

        return from_function(draw)

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Every thread asks its node what it voted and decided."""
        return once_per_thread(lambda: [Invocation("decisions")], concurrency)

    @override
    def checkers(self) -> dict[str, Checker]:
        """`atomic_commit`, by AC1 to AC5."""
        return {"atomic_commit": registry.find("checker", "atomic_commit").factory({})}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "commit",
    "transactions over shards, and what every node decided; judged by AC1 to AC5",
    Commit,
    OPTIONS,
)
