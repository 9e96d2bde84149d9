"""Sources of operations: single ones, functions, sequences, repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from harness.workload.generator.flow import (
    DONE,
    PENDING,
    Context,
    DrawFunction,
    Event,
    Flow,
    Generator,
    GeneratorError,
    GeneratorLike,
    Invocation,
    Log,
    Offer,
    Pending,
    Seeds,
    Step,
)

if TYPE_CHECKING:
    import random

FRUITLESS_MAX = 10_000
"""Empty generators that a source may yield in a row before it counts as endless."""


def as_generator(like: GeneratorLike) -> Generator:
    """The generator that `like` stands for.

    An `Invocation` is done once, a function is called for one operation after another,
    an iterable is gone through in order (its items may be any of these).

    Raises:
        GeneratorError: `like` is none of these.
    """
    if isinstance(like, Generator):
        return like
    if isinstance(like, Invocation):
        return single(like)
    if callable(like):
        return from_function(like)
    if isinstance(like, Iterable) and not isinstance(like, (str, bytes, dict)):
        return from_iterable(like)
    raise GeneratorError(f"{like!r} is no generator, operation, function or iterable")


def place(operation: Invocation, ctx: Context) -> Step:
    """`operation` as an offer on a free thread; PENDING while no thread is free."""
    time_ns = operation.time_ns
    if time_ns is None or time_ns < ctx.time_ns:
        time_ns = ctx.time_ns
    thread = operation.thread
    if thread is None:
        if not ctx.free:
            return PENDING
        thread = ctx.pick()
    else:
        bit = ctx.board.bit(thread)
        if not ctx.threads & bit:
            raise GeneratorError(
                f"{operation.f} is for thread {thread}, which this part of the "
                f"generator can't use (it has {ctx.members(ctx.threads)})"
            )
        if not ctx.free & bit:
            return PENDING
    return Invocation(operation.f, operation.value, operation.key, thread, time_ns)


class _Once(Flow):
    __slots__ = ("_operation", "_taken")

    def __init__(self, operation: Invocation) -> None:
        self._operation = operation
        self._taken = False

    def next(self, ctx: Context) -> Step:
        return DONE if self._taken else place(self._operation, ctx)

    def take(self, offer: Offer) -> None:
        self._taken = True


def single(operation: Invocation) -> Generator:
    """Does `operation` once."""
    return Generator(f"once({operation.f})", lambda _: _Once(operation))


class _Chain(Flow):
    """One flow after another; `_advance` gives the next one, or None at the end.

    Single operations are not made into flows, which spares the commonest source (a
    function that draws an operation) a flow for each.
    """

    __slots__ = ("_advance", "_current")

    def __init__(self, advance: Callable[[], Flow | Invocation | None]) -> None:
        self._advance = advance
        self._current: Flow | Invocation | None = None

    def next(self, ctx: Context) -> Step:
        for _ in range(FRUITLESS_MAX):
            current = self._current
            if current is None:
                current = self._current = self._advance()
                if current is None:
                    self._advance = _nothing
                    return DONE
            if isinstance(current, Invocation):
                return place(current, ctx)
            step = current.next(ctx)
            if step is not DONE:
                return step
            self._current = None
        raise GeneratorError(
            f"a source gave {FRUITLESS_MAX} generators in a row that do nothing"
        )

    def take(self, offer: Offer) -> None:
        if isinstance(self._current, Flow):
            self._current.take(offer)
        else:
            self._current = None

    def update(self, ctx: Context, event: Event) -> None:
        if isinstance(self._current, Flow):
            self._current.update(ctx, event)


def _nothing() -> None:
    """The `_advance` of a chain that has ended."""


def _begin(like: GeneratorLike, seeds: Seeds) -> Flow | Invocation:
    return like if isinstance(like, Invocation) else as_generator(like).start(seeds)


def from_function(function: DrawFunction) -> Generator:
    """Calls `function` with a random source for one operation after another.

    The function may also return a generator, which is then finished before the next
    call. None ends it. It is called once for each operation that is taken (not for each
    call of `next`), so it may count, but should draw from the given source only.
    """

    def start(seeds: Seeds) -> Flow:
        rng: random.Random = seeds.rng()
        number = 0

        def advance() -> Flow | Invocation | None:
            nonlocal number
            drawn = function(rng)
            number += 1
            return None if drawn is None else _begin(drawn, seeds.child(number))

        return _Chain(advance)

    return Generator(getattr(function, "__name__", "function"), start)


def from_iterable(items: Iterable[Any]) -> Generator:
    """Goes through `items`, each an operation or a generator, lazily and in order.

    An item does not wait for the operations of the one before; `phases` does.

    Raises:
        GeneratorError: On the second start, if `items` can be gone through only once.
    """
    spent = False

    def start(seeds: Seeds) -> Flow:
        nonlocal spent
        iterator: Iterator[Any] = iter(items)
        if spent and iterator is items:
            raise GeneratorError("an iterator was used up; give a list or a function")
        spent = True
        numbered = enumerate(iterator)

        def advance() -> Flow | Invocation | None:
            number, item = next(numbered, (0, None))
            return None if item is None else _begin(item, seeds.child(number))

        return _Chain(advance)

    text = repr(items) if isinstance(items, (list, tuple)) else type(items).__name__
    return Generator(text, start)


def then(*likes: GeneratorLike) -> Generator:
    """Generators in turn, without waiting for outstanding operations in between."""
    generators = [as_generator(like) for like in likes]
    return Generator(call_text("then", *generators), from_iterable(generators).start)


def repeat(like: GeneratorLike, times: int | None = None) -> Generator:
    """Begins `like` again whenever it is done; without end, or `times` times.

    Every round draws anew, as it is another place in the tree.
    """
    inner = as_generator(like)

    def start(seeds: Seeds) -> Flow:
        number = 0

        def advance() -> Flow | Invocation | None:
            nonlocal number
            if times is not None and number >= times:
                return None
            number += 1
            if isinstance(like, Invocation):
                return like
            return inner.start(seeds.child(number))

        return _Chain(advance)

    return Generator(call_text("repeat", inner, times), start)


class _Sleep(Flow):
    __slots__ = ("_duration_ns", "_until_ns")

    def __init__(self, duration_ns: int) -> None:
        self._duration_ns = duration_ns
        self._until_ns: int | None = None

    def next(self, ctx: Context) -> Step:
        if self._until_ns is None:
            self._until_ns = ctx.time_ns + self._duration_ns
        return DONE if ctx.time_ns >= self._until_ns else Pending(self._until_ns)

    def take(self, offer: Offer) -> None:
        raise AssertionError("a sleep offers nothing")


def sleep(seconds: float) -> Generator:
    """Pauses for some time, counted from its turn and a free thread on."""
    duration_ns = nanoseconds(seconds)
    return Generator(call_text("sleep", seconds), lambda _: _Sleep(duration_ns))


class _Message(Flow):
    __slots__ = ("_taken", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._taken = False

    def next(self, ctx: Context) -> Step:
        return DONE if self._taken else Log(self._text, ctx.time_ns)

    def take(self, offer: Offer) -> None:
        self._taken = True


def log(text: str) -> Generator:
    """Shows `text` when its turn comes."""
    return Generator(call_text("log", text), lambda _: _Message(text))


def nanoseconds(seconds: float) -> int:
    """`seconds` as a whole number of nanoseconds.

    Raises:
        GeneratorError: `seconds` is negative, or no finite number.
    """
    if not 0 <= seconds < float("inf"):
        raise GeneratorError(f"{seconds} is no length of time in seconds")
    return round(seconds * 1e9)


def call_text(name: str, *arguments: object) -> str:
    """The text of a call of a combinator; arguments that are None are left out."""
    given = [str(argument) for argument in arguments if argument is not None]
    return f"{name}({', '.join(given)})"
