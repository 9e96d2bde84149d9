"""Combinators of time: time limits, rates, delays.

Choices. A pace that has fallen behind catches up, but only on the last CATCH_UP_NS:
timers and the event loop cause that much lateness, and without making up for it a pace
of 1,000 a second would really be 500. If clients are slower than the pace, the
operations that they could not take are lost, and never become a burst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.workload.generator.flow import (
    DONE,
    NS_PER_S,
    Context,
    Flow,
    Generator,
    GeneratorError,
    GeneratorLike,
    Invocation,
    Log,
    Offer,
    Pending,
    Step,
)
from harness.workload.generator.shape import Around, around
from harness.workload.generator.sources import as_generator, call_text, nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.workload.generator.flow import Seeds

CATCH_UP_NS = 10_000_000


class _TimeLimit(Around):
    __slots__ = ("_deadline_ns", "_duration_ns")

    def __init__(self, duration_ns: int, inner: Flow) -> None:
        super().__init__(inner)
        self._duration_ns = duration_ns
        self._deadline_ns: int | None = None

    def next(self, ctx: Context) -> Step:
        if self._deadline_ns is None:
            self._deadline_ns = ctx.time_ns + self._duration_ns
        deadline_ns = self._deadline_ns
        if ctx.time_ns >= deadline_ns:
            return DONE
        step = self.inner.next(ctx)
        if step is DONE:
            return DONE
        if isinstance(step, Pending):
            # An event may still make it offer something before the deadline.
            if step.until_ns is not None and step.until_ns <= deadline_ns:
                return step
            return Pending(deadline_ns)
        assert isinstance(step, (Invocation, Log))
        return step if (step.time_ns or 0) < deadline_ns else Pending(deadline_ns)


def time_limit(seconds: float, like: GeneratorLike) -> Generator:
    """Operations of `like` that start within `seconds` of its turn.

    Operations under way at the end are not cut short. The limit lasts its whole time,
    unless `like` is done sooner.
    """
    inner = as_generator(like)
    ns = nanoseconds(seconds)
    text = call_text("time_limit", seconds, inner)
    return around(text, inner, lambda f, _: _TimeLimit(ns, f))


class _Pace(Around):
    """Holds each operation until it is due; `gap` draws the time to the next one."""

    __slots__ = ("_due_ns", "_first_gap", "_gap")

    def __init__(
        self, inner: Flow, gap: Callable[[], int], first_gap: Callable[[], int]
    ) -> None:
        super().__init__(inner)
        self._gap = gap
        self._first_gap = first_gap
        self._due_ns: int | None = None

    def next(self, ctx: Context) -> Step:
        if self._due_ns is None:
            self._due_ns = ctx.time_ns + self._first_gap()
        step = self.inner.next(ctx)
        if not isinstance(step, Invocation) or (step.time_ns or 0) >= self._due_ns:
            return step
        return Invocation(step.f, step.value, step.key, step.thread, self._due_ns)

    def take(self, offer: Offer) -> None:
        if isinstance(offer, Invocation):
            begun_ns, due_ns = offer.time_ns, self._due_ns
            assert begun_ns is not None
            assert due_ns is not None
            self._due_ns = max(due_ns, begun_ns - CATCH_UP_NS) + self._gap()
        self.inner.take(offer)


def stagger(seconds: float, like: GeneratorLike) -> Generator:
    """Operations of `like`, on average this long apart, all threads taken together.

    The gaps are random, uniform between nothing and twice `seconds`.
    """
    inner = as_generator(like)
    widest_ns = 2 * nanoseconds(seconds)

    def wrap(flow: Flow, seeds: Seeds) -> Flow:
        rng = seeds.rng()

        def gap() -> int:
            return int(rng.random() * widest_ns)

        return _Pace(flow, gap, gap)

    return around(call_text("stagger", seconds, inner), inner, wrap)


def rate(per_second: float, like: GeneratorLike) -> Generator:
    """Operations of `like` at random, on average so many a second, as by `stagger`."""
    if not 0 < per_second <= NS_PER_S:
        raise GeneratorError(f"{per_second} operations a second is no rate")
    return stagger(1 / per_second, like)


def delay(seconds: float, like: GeneratorLike) -> Generator:
    """Operations of `like` exactly this long apart, the first at once."""
    inner = as_generator(like)
    gap_ns = nanoseconds(seconds)
    text = call_text("delay", seconds, inner)
    return around(text, inner, lambda f, _: _Pace(f, lambda: gap_ns, lambda: 0))
