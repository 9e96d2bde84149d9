"""Locks with fencing tokens: mutual exclusion, and refusal of clients that lost a lock.

Clients acquire locks, use them, and release them. Acquiring gives a token; `use` and
`release` name it (WIRE.md). Now and then a client uses a token that was granted earlier
to any client, as a process does that was paused and does not know that its lock has
gone to another. The service must refuse it.

An acquire without an answer may hold its lock for ever, as no client knows the token. A
release without an answer may leave its lock held. Either lock makes room for a new one,
as does a lock with enough operations (`workloads.objects`), so that the run goes on.
But it is asked for again now and then: a service that forgot the holder grants it.

Promise: each lock is linearizable (`linearizable`, model fenced-lock), so no client
gets a lock that another holds; and tokens grow, and stale ones are refused (`fencing`).
With `leases=true`, for services whose locks expire, only `fencing` judges: a lease that
ran out excludes nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import NodeReply
from harness.options import Flag, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.workload import WireCodec, Workload
from harness.workload.generator import PENDING, Flow, Generator, Invocation, place
from workloads.objects import Objects, last_looks
from workloads.transactional import COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from harness.history import Op
    from harness.verdict import Checker
    from harness.workload import WorkloadFactory
    from harness.workload.generator import Context, Event, Offer, Seeds, Step

OPTIONS = (
    Option("locks", "5", "locks in use at a time", Whole(1, 1000)),
    Option(
        "ops_per_lock",
        "200",
        "operations on a lock before a new one may follow",
        COUNT,
    ),
    Option("leases", "false", "locks may expire while they are held", Flag()),
)

STALE_SHARE = 0.2
"""Part of the operations of clients without a lock that use an old token."""

USES_MAX = 3
"""Uses between an acquire and its release."""

RELEASES_MAX = 3
"""Tries to release a lock, while nodes answer that they can't serve."""

REMEMBERED = 20
"""How many of the latest grants old tokens are chosen from."""


class LockCodec(WireCodec):
    """Acquire, use and release (WIRE.md)."""

    @override
    def request(self, op: Op) -> dict[str, Any]:
        if op.f == "acquire":
            return {"type": "acquire", "key": op.key}
        return {"type": op.f, "key": op.key, "token": op.value}

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        if body.get("type") != f"{op.f}_ok":
            raise NodeReply(
                definite=False, text=f"answered {op.f} with {body.get('type')!r}"
            )
        if op.f != "acquire":
            return op.ok(op.value)
        token = body.get("token")
        if type(token) is not int:
            raise NodeReply(definite=False, text=f"granted a lock with token {token!r}")
        return op.ok(token)

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return None


@dataclass
class _Hold:
    """A lock that a thread holds, and what the thread will still do with it."""

    key: int
    token: int
    uses_left: int
    releases_left: int = RELEASES_MAX


class _LockFlow(Flow):
    """Each thread acquires a lock, uses and releases it, and begins anew."""

    __slots__ = (
        "_granted",
        "_holds",
        "_objects",
        "_offered",
        "_offers",
        "_rngs",
        "_seeds",
    )

    def __init__(self, objects: Objects, seeds: Seeds) -> None:
        objects.begin(seeds.child("objects"))
        self._objects = objects
        self._seeds = seeds
        self._rngs: dict[int, Random] = {}
        self._holds: dict[int, _Hold] = {}
        # Thread -> its next operation, drawn once and kept until it is taken.
        self._offers: dict[int, Invocation] = {}
        self._offered = 0  # the thread of the last offer
        self._granted: list[tuple[int, int]] = []

    @override
    def next(self, ctx: Context) -> Step:
        self._objects.watch(ctx)
        free = ctx.within(ctx.clients)
        if not free.free:
            return PENDING
        thread = free.pick()
        assert isinstance(thread, int)
        if thread not in self._offers:
            self._offers[thread] = self._draw(thread)
        self._offered = thread
        return place(self._offers[thread], ctx)

    @override
    def take(self, offer: Offer) -> None:
        assert isinstance(offer, Invocation)
        del self._offers[self._offered]
        self._objects.used(offer.key)

    @override
    def update(self, ctx: Context, event: Event) -> None:
        op, thread = event.op, event.thread
        if not isinstance(thread, int):
            return
        self._objects.heard(op)
        hold = self._holds.get(thread)
        if op.f == "acquire":
            self._acquired(thread, op)
        elif hold is not None and op.f == "use":
            hold.uses_left -= 1
        elif hold is not None and op.f == "release":
            self._released(thread, hold, op)

    def _acquired(self, thread: int, op: Op) -> None:
        if op.type == "ok":
            uses = self._rng(thread).randint(0, USES_MAX)
            self._holds[thread] = _Hold(op.key, op.value, uses)
            self._granted = [*self._granted[1 - REMEMBERED :], (op.key, op.value)]
        elif op.type == "info":
            self._objects.give_up(op.key)

    def _released(self, thread: int, hold: _Hold, op: Op) -> None:
        hold.releases_left -= 1
        if op.type == "fail" and hold.releases_left:
            return
        if op.type != "ok":
            self._objects.give_up(hold.key)
        del self._holds[thread]

    def _draw(self, thread: int) -> Invocation:
        hold = self._holds.get(thread)
        if hold is not None:
            f = "use" if hold.uses_left > 0 else "release"
            return Invocation(f, hold.token, hold.key, thread)
        rng = self._rng(thread)
        if self._granted and rng.random() < STALE_SHARE:
            key, token = rng.choice(self._granted)
            return Invocation("use", token, key, thread)
        return Invocation("acquire", None, self._objects.choose_to_look_at(rng), thread)

    def _rng(self, thread: int) -> Random:
        """The thread's own generator: its draws must not depend on others' pace."""
        if thread not in self._rngs:
            self._rngs[thread] = self._seeds.child(thread).rng()
        return self._rngs[thread]


class Lock(Workload):
    """The workload that this module describes."""

    name = "lock"
    requires = frozenset({"lock"})
    codec: WireCodec = LockCodec()
    idempotent: frozenset[str] = frozenset()

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.name, OPTIONS, options)
        self.leases: bool = given["leases"]
        self._objects = Objects(given["locks"], given["ops_per_lock"])

    @override
    def generator(self, concurrency: int) -> Generator:
        return Generator(self.name, lambda seeds: _LockFlow(self._objects, seeds))

    @override
    def final_generator(self, concurrency: int) -> Generator:
        """Every thread tries to acquire the locks, as far as `last_looks` goes."""
        return last_looks(
            self._objects, lambda key: Invocation("acquire", key=key), concurrency
        )

    @override
    def checkers(self) -> dict[str, Checker]:
        """`fencing`, and without leases `linearizable` too."""
        leases = str(self.leases).lower()
        fencing = registry.find("checker", "fencing").factory({"leases": leases})
        if self.leases:
            return {"fencing": fencing}
        options = {"model": "fenced-lock"}
        linearizable = registry.find("checker", "linearizable").factory(options)
        return {"linearizable": linearizable, "fencing": fencing}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "lock",
    "locks with fencing tokens, acquired, used and released; one holder at a time",
    Lock,
    OPTIONS,
)
