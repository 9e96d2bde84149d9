"""Combinators of several generators: by chance, by time, by thread, by key."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from harness.workload.generator.flow import (
    DONE,
    PENDING,
    Context,
    Done,
    Event,
    Flow,
    Generator,
    GeneratorError,
    GeneratorLike,
    Invocation,
    Offer,
    Pending,
    Seeds,
    Step,
    Thread,
)
from harness.workload.generator.shape import Around, around, limit, map_ops
from harness.workload.generator.sources import FRUITLESS_MAX, as_generator, call_text

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence

# ---- By chance -----------------------------------------------------------------------


class _Mix(Flow):
    """Keeps to the branch it drew until an offer of that branch was taken.

    If it turned to another branch while the drawn one is pending, more would happen,
    but branches that need fewer threads or less time would be favoured.
    """

    __slots__ = ("_branches", "_drawn", "_ends", "_rng", "_shares")

    def __init__(
        self, branches: list[Flow], shares: Sequence[float], rng: random.Random
    ) -> None:
        self._branches = branches
        self._shares = list(shares)
        self._ends = list(accumulate(shares))
        self._rng = rng
        self._drawn = self._draw()

    def _draw(self) -> int:
        return bisect_right(self._ends, self._rng.random() * self._ends[-1])

    def next(self, ctx: Context) -> Step:
        while self._branches:
            step = self._branches[self._drawn].next(ctx)
            if step is not DONE:
                return step
            self._drop(self._drawn)
        return DONE

    def _drop(self, branch: int) -> None:
        """Remove a branch that is done; the others keep their proportions."""
        del self._branches[branch], self._shares[branch]
        self._ends = list(accumulate(self._shares))
        if self._branches:
            self._drawn = self._draw()

    def take(self, offer: Offer) -> None:
        self._branches[self._drawn].take(offer)
        self._drawn = self._draw()

    def update(self, ctx: Context, event: Event) -> None:
        for branch in self._branches:
            branch.update(ctx, event)


def mix(*likes: GeneratorLike, weights: Sequence[float] | None = None) -> Generator:
    """Draws for each operation one of several generators: evenly, or by `weights`.

    The operations started have these proportions, however busy the threads are. The
    part of a branch that is done goes to the others; the mix is done when all are.

    Raises:
        GeneratorError: `weights` is not one positive number for each generator.
    """
    generators = [as_generator(like) for like in likes]
    shares = [1.0] * len(generators) if weights is None else [float(w) for w in weights]
    if len(shares) != len(generators) or not all(0 < w < 1e300 for w in shares):
        raise GeneratorError(
            f"mix needs a positive weight for each of {len(generators)}: {weights}"
        )

    def start(seeds: Seeds) -> Flow:
        branches = [g.start(seeds.child(i)) for i, g in enumerate(generators)]
        return _Mix(branches, shares, seeds.rng()) if branches else _Nothing()

    return Generator(call_text("mix", *generators, weights and list(weights)), start)


class _Nothing(Flow):
    __slots__ = ()

    def next(self, ctx: Context) -> Step:
        return DONE

    def take(self, offer: Offer) -> None:
        raise AssertionError("nothing was offered")


# ---- By time -------------------------------------------------------------------------


def _before(waiting: Step, now_ns: int, offer_ns: int) -> bool:
    """Whether a pending step asks to be polled before `offer_ns`."""
    until_ns = waiting.until_ns if isinstance(waiting, Pending) else None
    return until_ns is not None and now_ns < until_ns < offer_ns


class _Part:
    """A flow, the threads it may use, and its weight in ties."""

    __slots__ = ("flow", "threads", "weight")

    def __init__(self, threads: int, flow: Flow, weight: int = 1) -> None:
        self.threads = threads
        self.flow = flow
        self.weight = weight


class _Parts(Flow):
    """Several flows side by side; passes on the soonest offer, in ties a drawn one.

    Args:
        divide: Makes the parts, once the threads are known.
        refill: Gives the next flow for a part that is done, or None.
    """

    __slots__ = ("_chosen", "_divide", "_parts", "_refill")

    def __init__(
        self,
        divide: Callable[[Context], list[_Part]],
        refill: Callable[[], Flow | None] = lambda: None,
    ) -> None:
        self._divide = divide
        self._refill = refill
        self._parts: list[_Part] | None = None
        self._chosen: _Part | None = None

    def next(self, ctx: Context) -> Step:
        if self._parts is None:
            self._parts = self._divide(ctx)
        best: Offer | None = None
        best_ns = tied = 0
        waiting: Step = DONE
        ended = False
        for part in self._parts:
            step = self._ask(part, ctx)
            if isinstance(step, Pending):
                waiting = _sooner(waiting, step)
            elif isinstance(step, Done):
                ended = True
            else:
                time_ns = step.time_ns or 0
                if best is None or time_ns < best_ns:
                    best, best_ns, tied, self._chosen = step, time_ns, part.weight, part
                elif time_ns == best_ns:
                    # Reservoir sampling: each part in a tie wins with its share.
                    tied += part.weight
                    if ctx.board.rng.random() * tied < part.weight:
                        best, self._chosen = step, part
        if ended:
            self._parts = [part for part in self._parts if part.weight]
        if best is None or _before(waiting, ctx.time_ns, best_ns):
            return waiting
        return best

    def _ask(self, part: _Part, ctx: Context) -> Step:
        """The next step of the part; its weight becomes 0 when it is done for good."""
        if not ctx.free & part.threads:
            return PENDING
        within = ctx.within(part.threads)
        for _ in range(FRUITLESS_MAX):
            step = part.flow.next(within)
            if step is not DONE:
                return step
            fresh = self._refill()
            if fresh is None:
                part.weight = 0
                return DONE
            part.flow = fresh
        raise GeneratorError(f"{FRUITLESS_MAX} generators in a row that do nothing")

    def take(self, offer: Offer) -> None:
        assert self._chosen is not None
        self._chosen.flow.take(offer)

    def update(self, ctx: Context, event: Event) -> None:
        bit = ctx.board.bit(event.thread)
        for part in self._parts or ():
            if part.threads & bit:
                part.flow.update(ctx.within(part.threads), event)


def _sooner(waiting: Step, pending: Pending) -> Pending:
    """The sooner one of `pending` and the step waited for so far."""
    if not isinstance(waiting, Pending) or waiting.until_ns is None:
        return pending
    if pending.until_ns is None or waiting.until_ns <= pending.until_ns:
        return waiting
    return pending


def any_of(*likes: GeneratorLike) -> Generator:
    """The soonest operation of any of the generators; done when all of them are."""
    generators = [as_generator(like) for like in likes]

    def start(seeds: Seeds) -> Flow:
        flows = [g.start(seeds.child(i)) for i, g in enumerate(generators)]
        return _Parts(lambda ctx: [_Part(ctx.threads, flow) for flow in flows])

    return Generator(call_text("any_of", *generators), start)


# ---- By thread -----------------------------------------------------------------------


class _Only(Around):
    """Narrows a flow to the threads that `choose` picks from a context."""

    __slots__ = ("_choose", "_name")

    def __init__(
        self, name: str, choose: Callable[[Context], int], inner: Flow
    ) -> None:
        super().__init__(inner)
        self._name = name
        self._choose = choose

    def next(self, ctx: Context) -> Step:
        threads = self._choose(ctx)
        if not ctx.threads & threads:
            raise GeneratorError(f"{self._name}: there is no such thread here")
        if not ctx.free & threads:
            return PENDING
        return self.inner.next(ctx.within(threads))

    def update(self, ctx: Context, event: Event) -> None:
        threads = self._choose(ctx)
        if threads & ctx.board.bit(event.thread):
            self.inner.update(ctx.within(threads), event)


def _clients(ctx: Context) -> int:
    return ctx.clients


def _nemesis(ctx: Context) -> int:
    return ctx.board.nemesis


def clients(like: GeneratorLike) -> Generator:
    """Runs `like` on client threads only."""
    inner = as_generator(like)
    text = call_text("clients", inner)
    return around(text, inner, lambda f, _: _Only("clients", _clients, f))


def nemesis(like: GeneratorLike) -> Generator:
    """Runs `like` on the nemesis thread only."""
    inner = as_generator(like)
    text = call_text("nemesis", inner)
    return around(text, inner, lambda f, _: _Only("nemesis", _nemesis, f))


def beside(client_like: GeneratorLike, nemesis_like: GeneratorLike) -> Generator:
    """One generator for clients beside one for the nemesis; done when both are."""
    return any_of(clients(client_like), nemesis(nemesis_like))


def each_thread(like: GeneratorLike) -> Generator:
    """Every thread goes through `like` by itself, with randomness of its own."""
    inner = as_generator(like)

    def start(seeds: Seeds) -> Flow:
        def divide(ctx: Context) -> list[_Part]:
            return [
                _Part(ctx.board.bit(thread), inner.start(seeds.child(thread)))
                for thread in ctx.members(ctx.threads)
            ]

        return _Parts(divide)

    return Generator(call_text("each_thread", inner), start)


def reserve(
    reserved: Sequence[tuple[int, GeneratorLike]], default: GeneratorLike
) -> Generator:
    """Keeps client threads for generators: `reserve([(5, writes), (2, cas)], reads)`.

    The first five threads write, the next two compare and set, all others read.

    Raises:
        GeneratorError: When first asked, if there are fewer threads than are reserved.
    """
    parts = [(count, as_generator(like)) for count, like in reserved]
    rest = as_generator(default)

    def start(seeds: Seeds) -> Flow:
        def divide(ctx: Context) -> list[_Part]:
            threads = _client_threads(ctx, "reserve")
            wanted = sum(count for count, _ in parts)
            if wanted > len(threads):
                raise GeneratorError(
                    f"reserve keeps {wanted} threads, but there are {len(threads)}"
                )
            sizes = [*parts, (len(threads) - wanted, rest)]
            return _divided(ctx, threads, sizes, seeds)

        return _Parts(divide)

    return Generator(call_text("reserve", *parts, rest), start)


def _client_threads(ctx: Context, name: str) -> list[Thread]:
    if not ctx.clients:
        raise GeneratorError(f"{name}: there is no such thread here as a client's")
    return ctx.members(ctx.clients)


def _divided(
    ctx: Context,
    threads: list[Thread],
    sizes: Sequence[tuple[int, Generator]],
    seeds: Seeds,
) -> list[_Part]:
    """Parts of `threads`, in order and of these sizes; empty ones are left out."""
    parts = []
    begin = 0
    for i, (size, generator) in enumerate(sizes):
        mask = sum(ctx.board.bit(thread) for thread in threads[begin : begin + size])
        begin += size
        if mask:
            parts.append(_Part(mask, generator.start(seeds.child(i)), size))
    return parts


# ---- By key --------------------------------------------------------------------------


def sequential_keys(
    keys: Iterable[Any],
    for_key: Callable[[Any], GeneratorLike],
    ops_per_key: int | None = None,
) -> Generator:
    """All client threads work on one key after another, as one of `concurrent_keys`."""
    return concurrent_keys(None, keys, for_key, ops_per_key)


def concurrent_keys(
    threads_per_key: int | None,
    keys: Iterable[Any],
    for_key: Callable[[Any], GeneratorLike],
    ops_per_key: int | None = None,
) -> Generator:
    """Groups of client threads, each of which works on an independent key of its own.

    A group goes through `for_key(key)`, at most `ops_per_key` operations of it, then
    takes the next key from `keys` (which may be endless). All operations get the key.
    There are as many whole groups as threads allow, and at least one; threads left over
    join the first groups. An operation still under way keeps its key when its group
    moves on.

    Args:
        threads_per_key: Size of a group; None for a single group of all threads.
        keys: The keys, in the order in which groups take them.
        for_key: Makes the generator for a key. Its draws depend on the seed and on the
            number of keys before it, not on the group that has the key.
        ops_per_key: Most operations per key; None for no limit but that of `for_key`.
    """
    if threads_per_key is not None and threads_per_key < 1:
        raise GeneratorError(f"{threads_per_key} threads can't work on a key")

    def start(seeds: Seeds) -> Flow:
        numbered = enumerate(iter(keys))

        def next_key() -> Flow | None:
            for number, key in numbered:
                inner = as_generator(for_key(key))
                bounded = inner if ops_per_key is None else limit(ops_per_key, inner)
                return map_ops(_keyed(key), bounded).start(seeds.child(number))
            return None

        def divide(ctx: Context) -> list[_Part]:
            parts = []
            for mask in _groups(ctx, threads_per_key):
                flow = next_key()
                if flow is not None:
                    parts.append(_Part(mask, flow, mask.bit_count()))
            return parts

        return _Parts(divide, next_key)

    name = getattr(for_key, "__name__", "function")
    return Generator(
        call_text("concurrent_keys", threads_per_key, name, ops_per_key), start
    )


def _groups(ctx: Context, size: int | None) -> list[int]:
    """The client threads in contiguous groups of at least `size`."""
    threads = _client_threads(ctx, "keys")
    count = 1 if size is None else max(1, len(threads) // size)
    small, larger = divmod(len(threads), count)
    masks = []
    begin = 0
    for i in range(count):
        end = begin + small + (i < larger)
        masks.append(sum(ctx.board.bit(thread) for thread in threads[begin:end]))
        begin = end
    return masks


def _keyed(key: Any) -> Callable[[Invocation], Invocation]:
    def with_key(op: Invocation) -> Invocation:
        return Invocation(op.f, op.value, key, op.thread, op.time_ns)

    return with_key
