"""Distributed transactions, and what every participant decided about each.

Every transaction has an id of its own and touches several keys, so several shards. At
the end every node is asked what it voted and decided (`decisions`), and asked again for
some seconds while it hasn't decided: AC5 gives it time, and its own timeouts may be
longer than the quiet before the first question. Promise: atomic
commit, AC1 to AC5 (Bernstein, Hadzilacos and Goodman 1987, chapter 7), judged by
`atomic_commit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.commit.accounts import DECISIONS
from harness import registry
from harness.errors import NodeReply, UsageError
from harness.options import SHARE, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import WireCodec, Workload
from harness.workload.generator import (
    DONE,
    PENDING,
    Context,
    Event,
    Flow,
    Generator,
    Invocation,
    Offer,
    Step,
    from_function,
)

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


PAUSES_S = (0.5, 1.0, 1.5, 2.0)
"""How long after each account that is open somewhere the node is asked again. Together
with the last they are shorter than a run's time for final operations."""


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
        """Every thread asks its node what it decided, until that is everything."""
        return Generator("until decided", lambda _: _UntilDecided(concurrency))

    @override
    def checkers(self) -> dict[str, Checker]:
        """`atomic_commit`, by AC1 to AC5."""
        return {"atomic_commit": registry.find("checker", "atomic_commit").factory({})}


class _UntilDecided(Flow):
    """Every client thread asks its node, and again while an answer is open somewhere.

    A node that doesn't answer is not asked again by the same thread.
    """

    __slots__ = ("_asked", "_due_ns")

    def __init__(self, concurrency: int) -> None:
        self._due_ns = dict.fromkeys(range(concurrency), 0)
        self._asked = dict.fromkeys(range(concurrency), 0)

    @override
    def next(self, ctx: Context) -> Step:
        free = [t for t in ctx.members(ctx.free & ctx.clients) if t in self._due_ns]
        waiting = [thread for thread in free if isinstance(thread, int)]
        if not waiting:
            # Threads at work may have to ask again.
            return PENDING if self._due_ns or any(self._asked.values()) else DONE
        thread = min(waiting, key=lambda thread: (self._due_ns[thread], thread))
        return Invocation(
            "decisions", None, None, thread, max(ctx.time_ns, self._due_ns[thread])
        )

    @override
    def take(self, offer: Offer) -> None:
        assert isinstance(offer, Invocation)
        assert isinstance(offer.thread, int)
        del self._due_ns[offer.thread]
        self._asked[offer.thread] += 1

    @override
    def update(self, ctx: Context, event: Event) -> None:
        thread, op = event.thread, event.op
        if thread not in self._asked or op.f != "decisions":
            return
        assert isinstance(thread, int)
        turn = self._asked[thread]
        if op.type == "ok" and is_open(op.value) and turn <= len(PAUSES_S):
            self._due_ns[thread] = ctx.time_ns + round(PAUSES_S[turn - 1] * 1e9)
        else:
            self._asked[thread] = 0


def is_open(account: Mapping[str, Any]) -> bool:
    """Whether a node's account has a transaction that it has not decided."""
    return any(word not in DECISIONS for word in account["decisions"].values())


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "commit",
    "transactions over shards, and what every node decided; judged by AC1 to AC5",
    Commit,
    OPTIONS,
)
