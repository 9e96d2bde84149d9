"""Reads, writes and compare-and-sets of registers: the first test of any store.

Several registers (`keys`) are in use at a time; each is given up for a new one some
time after `ops_per_key` operations (`workloads.objects`).

Every value written is new to the whole run, so a read names the write that it saw. A
stale read can't hide behind an equal value. Without cas, such a history can be judged
without any search.

A cas expects a value that was lately seen in its register, so that many succeed.

Promise, by the option `consistency`:

- linearizable: each register is linearizable (Herlihy and Wing 1990);
- sequential: all registers together are sequentially consistent, as in ZooKeeper, whose
  reads may be stale (Hunt et al. 2010, 2.3). Each client keeps to one node, as
  ZooKeeper's sessions do. The verdict on linearizability is shown, but doesn't count;
- session: each client sees the registers move forward only, and sees its own writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import NodeReply
from harness.options import SHARE, Flag, OneOf, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.verdict import Unpromised
from harness.workload import WireCodec, Workload
from harness.workload.generator import Flow, Generator, Invocation, place
from workloads.looked_at import LookedAt
from workloads.objects import Objects, last_looks
from workloads.transactional import COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WorkloadFactory
    from harness.workload.generator import Context, Event, Offer, Seeds, Step

CAS_SHARE = 0.4
"""Part of the updates that are compare-and-set, where cas is on."""

KEY_MISSING = 20
"""Maelstrom's key-does-not-exist."""

OPTIONS = (
    Option("keys", "5", "registers in use at a time", Whole(1, 1000)),
    Option(
        "ops_per_key",
        "600",
        "operations on a register before a new one may follow",
        COUNT,
    ),
    Option("cas", "true", "compare-and-set beside reads and writes", Flag()),
    Option("read_share", "0.5", "part of the client threads that only read", SHARE),
    Option(
        "consistency",
        "linearizable",
        "what the registers promise, and so who judges",
        OneOf("linearizable", "sequential", "session"),
    ),
)


class RegisterCodec(WireCodec):
    """Operations as bodies of Maelstrom's lin-kv workload (WIRE.md)."""

    @override
    def request(self, op: Op) -> dict[str, Any]:
        if op.f == "read":
            return {"type": "read", "key": op.key}
        if op.f == "write":
            return {"type": "write", "key": op.key, "value": op.value}
        before, after = op.value
        return {"type": "cas", "key": op.key, "from": before, "to": after}

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        if body.get("type") != f"{op.f}_ok":
            raise NodeReply(
                definite=False, text=f"answered {op.f} with {body.get('type')!r}"
            )
        if op.f != "read":
            return op.ok(op.value)
        if "value" not in body:
            raise NodeReply(definite=False, text="answered read without a value")
        return op.ok(body["value"])

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        """A register that nobody wrote reads as null."""
        if op.f == "read" and error.code == KEY_MISSING:
            return op.ok(None)
        return None


class _RegisterFlow(Flow):
    """Random operations on the registers in use, with values that never repeat."""

    __slots__ = (
        "_last_seen",
        "_next_read",
        "_next_update",
        "_objects",
        "_parts",
        "_reads_next",
        "_rng",
        "_shared",
        "_work",
        "_written",
    )

    def __init__(self, workload: Register, seeds: Seeds) -> None:
        self._work = workload
        self._objects = workload.objects
        self._objects.begin(seeds.child("objects"))
        self._rng = seeds.rng()
        self._last_seen: dict[int, Any] = {}
        self._written = 0
        # If readers and updaters are both free, chance decides. At a slow pace all
        # threads are free all the time, and under a fixed rule the kind that comes
        # first would get all the operations.
        self._reads_next = False
        self._shared = 0  # the threads that were shared out last, and how
        self._parts = (0, 0)
        self._next_read = self._draw_read()
        self._next_update = self._draw_update()

    @override
    def next(self, ctx: Context) -> Step:
        self._objects.watch(ctx)
        readers, updaters = self._shares(ctx)
        if ctx.free & readers and (self._reads_next or not ctx.free & updaters):
            return place(self._next_read, ctx.within(readers))
        return place(self._next_update, ctx.within(updaters))

    @override
    def take(self, offer: Offer) -> None:
        assert isinstance(offer, Invocation)
        self._reads_next = self._rng.random() < self._work.read_share
        if offer.f == "read":
            self._objects.used(self._next_read.key)
            self._next_read = self._draw_read()
        else:
            self._objects.used(self._next_update.key)
            self._next_update = self._draw_update()

    @override
    def update(self, ctx: Context, event: Event) -> None:
        op = event.op
        self._objects.heard(op)
        if op.type == "ok":
            seen = op.value[1] if op.f == "cas" else op.value
            if seen is not None:
                self._last_seen[op.key] = seen

    def _shares(self, ctx: Context) -> tuple[int, int]:
        """Two sets of threads, as bits: those that read and those that update."""
        clients = ctx.clients
        if clients != self._shared:
            count = clients.bit_count()
            if count == 1:
                return (clients, 0) if self._reads_next else (0, clients)
            share = min(max(1, round(count * self._work.read_share)), count - 1)
            low = clients & ((1 << share) - 1)
            self._shared, self._parts = clients, (low, clients & ~low)
        return self._parts

    def _draw_read(self) -> Invocation:
        return Invocation("read", key=self._objects.choose_to_look_at(self._rng))

    def _draw_update(self) -> Invocation:
        key = self._objects.choose(self._rng)
        self._written += 1
        before = self._last_seen.get(key)
        if self._work.cas and before is not None and self._rng.random() < CAS_SHARE:
            return Invocation("cas", [before, self._written], key)
        return Invocation("write", self._written, key)


class Register(Workload):
    """The workload that this module describes."""

    name = "register"
    codec: WireCodec = RegisterCodec()
    idempotent: frozenset[str] = frozenset({"read"})

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.cas: bool = given["cas"]
        self.requires = frozenset({"register", "cas"} if self.cas else {"register"})
        self.consistency: str = given["consistency"]
        self.read_share: float = given["read_share"]
        self.objects = Objects(given["keys"], given["ops_per_key"])

    @override
    def generator(self, concurrency: int) -> Generator:
        return Generator(self.name, lambda seeds: _RegisterFlow(self, seeds))

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Every thread reads the registers, as far as `last_looks` goes."""
        return last_looks(
            self.objects, lambda key: Invocation("read", key=key), concurrency
        )

    @override
    def checkers(self) -> dict[str, Checker]:
        """The judge of what `consistency` promises; `linearizable` is always shown."""
        model = "cas-register" if self.cas else "register"
        factory = registry.find("checker", "linearizable").factory
        linearizable = LookedAt(
            factory({"model": model}),
            changes={"write", "cas"},
            looks={"read", "cas"},
        )
        if self.consistency == "linearizable":
            return {"linearizable": linearizable}
        sequential = registry.find("checker", "sequential").factory
        return {
            "sequential": sequential({"guarantee": self.consistency}),
            "linearizable": Unpromised(linearizable),
        }


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "register",
    "reads, writes and cas on several registers, judged by linearizability or less",
    Register,
    OPTIONS,
)
