"""Combinators that cut, join and rewrite: limit, phases, until_ok, map, filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.override import override
from harness.workload.generator.flow import (
    DONE,
    PENDING,
    Context,
    Event,
    Flow,
    Generator,
    GeneratorError,
    GeneratorLike,
    Invocation,
    Offer,
    Step,
    Thread,
)
from harness.workload.generator.sources import (
    FRUITLESS_MAX,
    as_generator,
    call_text,
    from_iterable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.workload.generator.flow import Seeds


class Around(Flow):
    """A flow around another one, to which it passes everything on by default."""

    __slots__ = ("inner",)

    def __init__(self, inner: Flow) -> None:
        self.inner = inner

    @override
    def next(self, ctx: Context) -> Step:
        return self.inner.next(ctx)

    @override
    def take(self, offer: Offer) -> None:
        self.inner.take(offer)

    @override
    def update(self, ctx: Context, event: Event) -> None:
        self.inner.update(ctx, event)


def around(
    text: str, like: GeneratorLike, wrap: Callable[[Flow, Seeds], Flow]
) -> Generator:
    """A generator whose flow is that of `like`, wrapped by `wrap`."""
    inner = as_generator(like)
    return Generator(text, lambda seeds: wrap(inner.start(seeds.child(0)), seeds))


class _Limit(Around):
    __slots__ = ("_left",)

    def __init__(self, count: int, inner: Flow) -> None:
        super().__init__(inner)
        self._left = count

    def next(self, ctx: Context) -> Step:
        return self.inner.next(ctx) if self._left > 0 else DONE

    def take(self, offer: Offer) -> None:
        self._left -= isinstance(offer, Invocation)
        self.inner.take(offer)


def limit(count: int, like: GeneratorLike) -> Generator:
    """At most `count` operations of `like` (messages don't count)."""
    inner = as_generator(like)
    return around(
        call_text("limit", count, inner), inner, lambda f, _: _Limit(count, f)
    )


def once(like: GeneratorLike) -> Generator:
    """The first operation of `like`."""
    return limit(1, like)


class _Synchronize(Around):
    __slots__ = ("_begun",)

    def __init__(self, inner: Flow) -> None:
        super().__init__(inner)
        self._begun = False

    def next(self, ctx: Context) -> Step:
        if not self._begun:
            if not ctx.idle:
                return PENDING
            self._begun = True
        return self.inner.next(ctx)


def synchronize(like: GeneratorLike) -> Generator:
    """Begins `like` when all threads that it may use are idle."""
    inner = as_generator(like)
    text = call_text("synchronize", inner)
    return around(text, inner, lambda f, _: _Synchronize(f))


def phases(*likes: GeneratorLike) -> Generator:
    """Generators in turn; each begins when all operations before have completed."""
    generators = [as_generator(like) for like in likes]
    joined = from_iterable([synchronize(g) for g in generators])
    return Generator(call_text("phases", *generators), joined.start)


class _Until(Around):
    __slots__ = ("_is_enough",)

    def __init__(self, is_enough: Callable[[], bool], inner: Flow) -> None:
        super().__init__(inner)
        self._is_enough = is_enough

    def next(self, ctx: Context) -> Step:
        return DONE if self._is_enough() else self.inner.next(ctx)


def until(is_enough: Callable[[], bool], like: GeneratorLike) -> Generator:
    """Operations of `like` until `is_enough`, which must then stay so.

    Up to there they are those of `like` alone, chance included.
    """
    inner = as_generator(like)
    text = call_text("until", inner)
    return Generator(text, lambda seeds: _Until(is_enough, inner.start(seeds)))


class _UntilOk(Around):
    __slots__ = ("_mine", "_succeeded")

    def __init__(self, inner: Flow) -> None:
        super().__init__(inner)
        self._mine: set[Thread] = set()
        self._succeeded = False

    def next(self, ctx: Context) -> Step:
        return DONE if self._succeeded else self.inner.next(ctx)

    def take(self, offer: Offer) -> None:
        if isinstance(offer, Invocation) and offer.thread is not None:
            self._mine.add(offer.thread)
        self.inner.take(offer)

    def update(self, ctx: Context, event: Event) -> None:
        # Looked at before the event is passed on: a thread runs one operation at a
        # time, so the completion is ours if the thread's last operation was.
        if event.thread in self._mine:
            self._mine.discard(event.thread)
            self._succeeded |= event.op.type == "ok"
        self.inner.update(ctx, event)


def until_ok(like: GeneratorLike) -> Generator:
    """Operations of `like` until one of them is ok."""
    inner = as_generator(like)
    return around(call_text("until_ok", inner), inner, lambda f, _: _UntilOk(f))


class _Map(Around):
    __slots__ = ("_function",)

    def __init__(
        self, function: Callable[[Invocation], Invocation], inner: Flow
    ) -> None:
        super().__init__(inner)
        self._function = function

    def next(self, ctx: Context) -> Step:
        step = self.inner.next(ctx)
        return self._function(step) if isinstance(step, Invocation) else step


def map_ops(
    function: Callable[[Invocation], Invocation], like: GeneratorLike
) -> Generator:
    """Rewrites operations with `function`, which must be pure: `next` may repeat it.

    It may change f, value and key and delay the time, but not change the thread.
    """
    inner = as_generator(like)
    text = call_text("map_ops", getattr(function, "__name__", "function"), inner)
    return around(text, inner, lambda f, _: _Map(function, f))


def f_map(names: Mapping[str, str], like: GeneratorLike) -> Generator:
    """Renames functions: f becomes `names[f]`, if `names` has it."""

    def rename(op: Invocation) -> Invocation:
        f = names.get(op.f, op.f)
        return Invocation(f, op.value, op.key, op.thread, op.time_ns)

    return map_ops(rename, like)


class _Filter(Around):
    __slots__ = ("_wanted",)

    def __init__(self, wanted: Callable[[Invocation], bool], inner: Flow) -> None:
        super().__init__(inner)
        self._wanted = wanted

    def next(self, ctx: Context) -> Step:
        for _ in range(FRUITLESS_MAX):
            step = self.inner.next(ctx)
            if not isinstance(step, Invocation) or self._wanted(step):
                return step
            self.inner.take(
                Invocation(step.f, step.value, step.key, None, step.time_ns)
            )
        raise GeneratorError(f"{FRUITLESS_MAX} operations in a row were filtered out")


def filter_ops(wanted: Callable[[Invocation], bool], like: GeneratorLike) -> Generator:
    """Passes on the operations that are `wanted`, and throws the others away.

    `wanted` must go by f, value and key alone, as thread and time may differ between
    two calls of `next`. An operation thrown away counts as taken inside `like`:
    `filter_ops(p, limit(10, g))` gives at most ten, `limit(10, filter_ops(p, g))` ten.
    """
    inner = as_generator(like)
    text = call_text("filter_ops", getattr(wanted, "__name__", "function"), inner)
    return around(text, inner, lambda f, _: _Filter(wanted, f))
