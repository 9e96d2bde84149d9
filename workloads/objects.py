"""The objects of a workload: in use, then at rest, and looked at to the end of the run.

A workload works on several registers, locks or sets at a time. It goes on to new ones,
as the cost of judging an object grows with the object's history. But if a system
forgets a write, only a later look at the same object shows it, and only until another
write hides it. So:

- An object stays in use until it has had enough operations, for at least as long as a
  fault lasts, and until no fault is in force. An object with very many operations is
  given up without these conditions.
- Whenever a fault strikes or ends, some of the objects in use are given up. The writes
  under way at that moment are then the last ones to these objects. Recovery tends to
  forget just such writes; in an object that stays in use the next write would hide it.
- An object that was given up is at rest: nothing changes it any more, but it is looked
  at again. Its turn comes first after its last change, after a look that failed, and
  after a fault strikes or ends; otherwise now and then; and at the end of the run.
- Some objects are kept in use for the whole run. They are used less often the longer
  the run lasts, so that their histories grow only with the logarithm of its length.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from harness.override import override
from harness.workload.generator import (
    DONE,
    PENDING,
    Flow,
    Generator,
    Invocation,
    Seeds,
    place,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from harness.history import Op
    from harness.workload.generator import Context, Event, Offer, Step, Thread

STAY_NS: Final = 5_000_000_000
"""Least time for which an object is in use: longer than any fault that a plan draws."""

OPS_FACTOR: Final = 10
"""Times the operations that are enough after which an object is given up at once."""

REST_CHANCE: Final = 0.5
"""Chance of each object in use to be given up when a fault strikes or ends."""

KEPT_SHARE: Final = 0.2
"""Part of the objects that are kept for the whole run. Of two or more objects, at least
one is kept; a single one never is."""

LOOK_SHARE: Final = 0.1
"""Part of the looks (reads, or acquires of locks) that go to an object at rest."""

LAST_LOOKS: Final = 2000
"""Operations at the end of a run for looks at an object by every thread."""

TRIES_MAX: Final = 3
"""Most looks at the end of a run at an object that answers none of them, beside those
by every thread."""


class Objects:
    """Which objects a run works on; they are numbered from 0.

    Args:
        count: Objects in use at a time.
        ops_each: Operations on an object that are enough: a new one may follow.
        ops_most: Operations after which a new object follows at once; OPS_FACTOR times
            `ops_each` if not given.
    """

    def __init__(self, count: int, ops_each: int, ops_most: int | None = None) -> None:
        self._ops_each = ops_each
        self._ops_most = ops_each * OPS_FACTOR if ops_most is None else ops_most
        self._count = count
        self._kept = max(1, int(count * KEPT_SHARE)) if count > 1 else 0
        self.begin(Seeds("objects"))

    def begin(self, seeds: Seeds) -> None:
        """Begin anew; `seeds` draws which objects faults make the workload give up."""
        self._random = seeds.rng()
        self._uses = dict.fromkeys(range(self._count), 0)
        self._since_ns = dict.fromkeys(range(self._count), 0)
        self._next = self._count
        self._at_rest: dict[int, None] = {}
        self._due: dict[int, None] = {}  # the last one is looked at first
        self._now_ns = 0
        self._calm = True
        self._fault_turns = 0

    @property
    def in_use(self) -> list[int]:
        """The objects in use."""
        return list(self._uses)

    @property
    def at_rest(self) -> list[int]:
        """The objects that were given up, in that order."""
        return list(self._at_rest)

    def watch(self, ctx: Context) -> None:
        """Take note of the time, and of faults that have struck or ended."""
        self._now_ns = ctx.time_ns
        self._calm = not ctx.board.faults
        if ctx.board.fault_turns == self._fault_turns:
            return
        self._fault_turns = ctx.board.fault_turns
        for key, uses in list(self._uses.items()):
            if key >= self._kept and uses and self._random.random() < REST_CHANCE:
                self.give_up(key)
        self._due = dict.fromkeys(self._at_rest)

    def choose(self, random: Random) -> int:
        """One of the objects in use, to change it.

        A kept object is left out while it has had more operations than the logarithm of
        the run's time allows.
        """
        allowed = self._ops_each * math.log2(2 + self._now_ns / STAY_NS)
        return random.choice(
            [k for k, n in self._uses.items() if k >= self._kept or n < allowed]
        )

    def choose_to_look_at(self, random: Random) -> int:
        """One of the objects in use or at rest, for an operation that shows its state.

        An object that is due for a look comes before the others at rest.
        """
        if not self._at_rest or random.random() >= LOOK_SHARE:
            return self.choose(random)
        if self._due:
            return self._due.popitem()[0]
        return random.choice(self.at_rest)

    def used(self, key: int) -> None:
        """Count an operation on `key`; give `key` up if it has had enough."""
        if key not in self._uses:
            return
        self._uses[key] += 1
        uses, age_ns = self._uses[key], self._now_ns - self._since_ns[key]
        enough = uses >= self._ops_each and self._calm and age_ns >= STAY_NS
        if key >= self._kept and (enough or uses >= self._ops_most):
            self.give_up(key)

    def give_up(self, key: int) -> None:
        """Begin a new object in place of `key`, which is at rest from now on."""
        if key not in self._uses:
            return
        del self._uses[key], self._since_ns[key]
        self._uses[self._next] = 0
        self._since_ns[self._next] = self._now_ns
        self._next += 1
        self._at_rest[key] = self._due[key] = None

    def heard(self, op: Op) -> None:
        """Take note that `op` has completed.

        If it may have changed an object at rest, or was a look at one that failed, that
        object is due for a look.
        """
        nothing_new = "ok" if op.f == "read" else "fail"
        if op.type != nothing_new and op.key in self._at_rest:
            self._due[op.key] = None


class _DrawnFlow(Flow):
    """One operation after another on `objects`, each drawn by a function."""

    __slots__ = ("_draw", "_objects", "_offer", "_random")

    def __init__(
        self, objects: Objects, draw: Callable[[Random], Invocation], seeds: Seeds
    ) -> None:
        objects.begin(seeds.child("objects"))
        self._objects = objects
        self._draw = draw
        self._random = seeds.rng()
        self._offer = draw(self._random)

    @override
    def next(self, ctx: Context) -> Step:
        self._objects.watch(ctx)
        return place(self._offer, ctx)

    @override
    def take(self, offer: Offer) -> None:
        self._offer = self._draw(self._random)

    @override
    def update(self, ctx: Context, event: Event) -> None:
        self._objects.heard(event.op)


def drawn(objects: Objects, draw: Callable[[Random], Invocation]) -> Generator:
    """Operations without end, each drawn by `draw` from a random source."""
    return Generator("objects", lambda seeds: _DrawnFlow(objects, draw, seeds))


class _LastLooks(Flow):
    """Every thread looks at the objects in use, then at those at rest, latest first.

    Objects at rest beyond LAST_LOOKS are looked at by one thread each. So are objects
    whose looks all failed, until one succeeds or TRIES_MAX is reached.
    """

    __slots__ = (
        "_anybody",
        "_asks",
        "_everybody",
        "_look",
        "_offer",
        "_seen",
        "_tries",
    )

    def __init__(
        self, objects: Objects, look: Callable[[int], Invocation], concurrency: int
    ) -> None:
        at_rest = objects.at_rest[::-1]
        shared = max(0, LAST_LOOKS // concurrency - len(objects.in_use))
        everybody = [*objects.in_use, *at_rest[:shared]]
        self._look = look
        self._everybody = {t: deque(everybody) for t in range(concurrency)}
        self._anybody = deque(at_rest[shared:])
        self._asks: dict[Thread, int] = {}  # the object that each thread looks at
        self._seen: set[int] = set()
        self._tries: Counter[int] = Counter()
        self._offer: deque[int] = self._anybody  # where the last offer came from

    @override
    def next(self, ctx: Context) -> Step:
        for thread in ctx.members(ctx.free & ctx.clients):
            assert isinstance(thread, int)
            self._offer = self._everybody[thread] or self._anybody
            if self._offer:
                look = self._look(self._offer[0])
                return place(Invocation(look.f, look.value, look.key, thread), ctx)
        if any(self._everybody.values()) or self._anybody or not ctx.idle:
            return PENDING
        return DONE

    @override
    def take(self, offer: Offer) -> None:
        assert isinstance(offer, Invocation)
        assert offer.thread is not None
        key = self._asks[offer.thread] = self._offer.popleft()
        if self._offer is self._anybody:
            self._tries[key] += 1

    @override
    def update(self, ctx: Context, event: Event) -> None:
        key = self._asks.pop(event.thread, None)
        if key is None:
            return
        if event.op.type == "ok":
            self._seen.add(key)
        elif (
            self._tries[key] < TRIES_MAX
            and key not in self._seen
            and key not in self._anybody
        ):
            self._anybody.append(key)


def last_looks(
    objects: Objects, look: Callable[[int], Invocation], concurrency: int
) -> Generator:
    """Final operations: a look at all objects.

    Every thread, so every node, looks at the objects in use, then at those at rest, the
    latest first, until LAST_LOOKS operations are spent. The rest are looked at once.

    Args:
        objects: The run's objects, as they are when the final operations begin.
        look: Makes the operation that looks at an object.
        concurrency: Number of client threads.
    """

    def start(_: Seeds) -> Flow:
        return _LastLooks(objects, look, concurrency)

    return Generator("last looks", start)
