"""The smallest set of calls that can't be ordered.

Calls are *weakened*; if the rest stays impossible, it did not need them. A call that
only reads may be dropped. A call that changes the state may not, since some read may
need it, but it may be allowed to take effect at any later time or never. And everything
before some position may be replaced by "the object was in some state or other", if the
states that the rest can tell apart are few. Each step only adds possible orders (proofs
at the functions), so the calls that are left are impossible by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from checkers.linearizability.calls import NEVER
from checkers.linearizability.search import search
from checkers.linearizability.windows import (
    Effort,
    clip,
    possible_starts,
    since,
    weaken,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.budget import Budget
    from checkers.linearizability.calls import Call
    from checkers.linearizability.outcome import Outcome
    from checkers.linearizability.specification import Model

FIRST_WINDOW: Final = 8
"""Calls in the first window that is tried; then twice as many, and so on."""


@dataclass(frozen=True)
class Core:
    """Calls that can't be ordered.

    Attributes:
        calls: All calls that take part, weakened ones included.
        strong: Those of them whose place in time is needed for the contradiction.
        starts: The model once for each state in which `calls` may begin.
        whole: True when they begin with the history, False in the middle.
        outcomes: What the search says of `calls`, once per start.
    """

    calls: tuple[Call, ...]
    strong: tuple[Call, ...]
    starts: tuple[Model, ...]
    whole: bool
    outcomes: tuple[Outcome, ...]


def shrink(calls: Sequence[Call], model: Model, stuck: Call, budget: Budget) -> Core:
    """Few of `calls`, of which no order leads past the return of `stuck`.

    Cost: bounded by EFFORT_MAX; stops early, with more calls than necessary, beyond.
    """
    effort = Effort(budget)
    everything = clip(calls, model, stuck.returned)
    kept, starts, whole = window(everything, model, effort)
    strong = {call.position for call in kept if call.returned != NEVER}
    strong.discard(stuck.position)
    reads = [c for c in kept if c.position in strong and model.read_only(c.operation)]
    kept = weaken_all(kept, reads, starts, effort)
    grows = any(call.operation.f in model.appends for call in kept)
    if not grows:  # appends that may happen at any time only make the search harder
        changes = [c for c in kept if c.position in strong and c not in reads]
        kept = weaken_all(kept, changes, starts, effort)
    # Real states make better reading than merged ones, but appends have too many.
    last = Effort(budget)
    outcomes = tuple(search(kept, s, last, merge=grows) for s in starts)
    return Core(
        tuple(kept),
        tuple(call for call in kept if call.returned != NEVER),
        tuple(starts),
        whole,
        outcomes,
    )


def impossible(calls: Sequence[Call], starts: Sequence[Model], effort: Effort) -> bool:
    """Whether `calls` are shown to have no order, from any of the starts."""
    effort.spend(len(calls) * len(starts))
    return all(search(calls, start, effort).linearizable is False for start in starts)


def weaken_all(
    calls: Sequence[Call],
    candidates: Sequence[Call],
    starts: Sequence[Model],
    effort: Effort,
) -> list[Call]:
    """Weaken as many of `candidates` as possible, in ever smaller groups."""
    kept = list(calls)
    left = list(candidates)
    size = len(left)
    while size and left and not effort.spent_by():
        needed: list[Call] = []
        for at in range(0, len(left), size):
            group = {call.position for call in left[at : at + size]}
            weaker = [
                w
                for call in kept
                if (w := weaken(call, starts[0]) if call.position in group else call)
            ]
            if not effort.spent_by() and impossible(weaker, starts, effort):
                kept = weaker
            else:
                needed += left[at : at + size]
        left = needed
        size //= 2
    return kept


# Windows


def window(
    calls: Sequence[Call], model: Model, effort: Effort
) -> tuple[list[Call], list[Model], bool]:
    """The shortest end of the history that is impossible from every state.

    Returns:
        Its calls, the models of its possible first states, and whether it is all.
    """
    by_invocation = sorted(call.invoked for call in calls)
    count = FIRST_WINDOW
    while count < len(calls) and not effort.spent_by():
        suffix = since(calls, model, by_invocation[-count])
        starts = possible_starts(suffix, model)
        if starts and impossible(suffix, starts, effort):
            return suffix, starts, False
        count *= 2
    return list(calls), [model], True
