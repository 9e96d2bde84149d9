"""The objects of a workload: in use, then at rest, and looked at to the end of the run.

A workload works on several registers, locks or sets at a time, and goes on to new ones:
the cost of judging an object grows with its history. But what a system forgets, only a
later look at the same object shows, and only until another write hides it. So:

- An object is in use until it has seen enough operations, for no shorter than a fault
  lasts, and not before the faults in force have ended. One that is used very much is
  given up all the same.
- Whenever a fault has struck or ended, some of the objects in use are given up, so that
  the writes that were under way then are the last ones to them. Recovery forgets just
  those, and in an object that stays in use the next write hides it.
- An object that was given up is at rest: nothing changes it any more, but it is looked
  at again. This comes first after its last change, after a look that failed, and after
  a fault has struck or ended; now and then otherwise; and at the end of the run.
- Some objects are kept in use for the whole run, and seldomer the longer it lasts, so
  that the cost of judging them grows with its logarithm only.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

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
"""How long an object is in use at least: longer than any fault that a plan draws."""

OPS_FACTOR: Final = 10
"""An object that saw so many times its operations is given up whatever goes on."""

REST_CHANCE: Final = 0.5
"""Part of the objects in use that are given up when a fault strikes or ends."""

KEPT_SHARE: Final = 0.2
"""Part of the objects that are kept for the whole run: one at least, unless there is
but one."""

LOOK_SHARE: Final = 0.1
"""Part of the reads, or of what stands for them, that look at an object at rest."""

LAST_LOOKS: Final = 2000
"""Operations at the end of a run that look at an object from every thread."""

TRIES_MAX: Final = 3
"""How often anybody looks at an object in the end until it answers."""


class Objects:
    """Which objects a run works on; they are numbered from 0.

    Args:
        count: Objects in use at a time.
        ops_each: Operations on one before another may follow.
        ops_most: Operations after which another follows at once; OPS_FACTOR times as
            many as `ops_each` if not given.
    """

    def __init__(self, count: int, ops_each: int, ops_most: int | None = None) -> None:
        self._ops_each = ops_each
        self._ops_most = ops_each * OPS_FACTOR if ops_most is None else ops_most
        self._count = count
        self._kept = max(1, int(count * KEPT_SHARE)) if count > 1 else 0
        self.begin(Seeds("objects"))

    def begin(self, seeds: Seeds) -> None:
        """Begin anew; `seeds` decides what is given up when a fault strikes or ends."""
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
        """Those that were given up, in that order."""
        return list(self._at_rest)

    def watch(self, ctx: Context) -> None:
        """See what time it is, and whether faults have struck or ended."""
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
        """One of the objects in use; a kept one, while it is not ahead of its time."""
        allowed = self._ops_each * math.log2(2 + self._now_ns / STAY_NS)
        return random.choice(
            [k for k, n in self._uses.items() if k >= self._kept or n < allowed]
        )

    def choose_to_look_at(self, random: Random) -> int:
        """One of the objects in use or at rest, for an operation that may tell."""
        if not self._at_rest or random.random() >= LOOK_SHARE:
            return self.choose(random)
        if self._due:
            return self._due.popitem()[0]
        return random.choice(self.at_rest)

    def used(self, key: int) -> None:
        """There is one more operation on `key`, which may have been the last."""
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
        """`op` has completed: what changed an object at rest calls for a look at it."""
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

    def next(self, ctx: Context) -> Step:
        self._objects.watch(ctx)
        return place(self._offer, ctx)

    def take(self, offer: Offer) -> None:
        self._offer = self._draw(self._random)

    def update(self, ctx: Context, event: Event) -> None:
        self._objects.heard(event.op)


def drawn(objects: Objects, draw: Callable[[Random], Invocation]) -> Generator:
    """Operations without end, each drawn by `draw` from a random source."""
    return Generator("objects", lambda seeds: _DrawnFlow(objects, draw, seeds))


class _LastLooks(Flow):
    """Every thread looks at the objects in use, and at the others, the latest first.

    Those beyond LAST_LOOKS are looked at once, by anybody. So are those that answered
    nobody, some times more.
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
        self._asks: dict[Thread, int] = {}  # what each thread looks at
        self._seen: set[int] = set()
        self._tries: Counter[int] = Counter()
        self._offer: deque[int] = self._anybody  # where the last offer came from

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

    def take(self, offer: Offer) -> None:
        assert isinstance(offer, Invocation)
        assert offer.thread is not None
        key = self._asks[offer.thread] = self._offer.popleft()
        if self._offer is self._anybody:
            self._tries[key] += 1

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

    Every thread, so every node, looks at those in use, and at the others too, the
    latest first, as far as LAST_LOOKS goes. Those beyond are looked at once.

    Args:
        objects: Those of the run, as they are when the final operations begin.
        look: The operation that looks at an object.
        concurrency: Number of client threads.
    """

    def start(_: Seeds) -> Flow:
        return _LastLooks(objects, look, concurrency)

    return Generator("last looks", start)
