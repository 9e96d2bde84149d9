"""Which algorithm decides a key, and why that one.

Polynomial deciders want values that tell their writer: every value written, or put in,
once. Where values repeat the problem is NP-complete (Gibbons and Korach 1997; for
queues and stacks Gibbons, Bruno and Phillips 2002), and search decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from checkers.linearizability import chains, fifo, items, priority, sets, stack
from checkers.linearizability.budget import LimitExceeded
from checkers.linearizability.calls import NEVER
from checkers.linearizability.conflict import UndecidedError, completed_at
from checkers.linearizability.containers import (
    Container,
    FifoQueue,
    GrowOnlySet,
    Stack,
)
from checkers.linearizability.windows import clip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from checkers.linearizability.budget import Patience
    from checkers.linearizability.calls import Call
    from checkers.linearizability.conflict import Conflict
    from checkers.linearizability.specification import Model

SEARCH: Final = "search"
ZONES: Final = "zones"

NARROWING_MAX: Final = 2_000_000
"""Calls that may be judged again to find the first that can't be placed: seconds."""


@dataclass(frozen=True)
class Decider:
    """A polynomial algorithm for one kind of object.

    Attributes:
        name: As in the option `algorithm`, and in plans.
        because: Why it applies, where it does.
        misfit: Why it doesn't apply to these calls, or nothing.
        decide: What is wrong with the calls, or None. Raises UndecidedError when its
            rules don't settle it, LimitExceeded when patience ends.
    """

    name: str
    because: str
    misfit: Callable[[Model, Sequence[Call], Patience], str]
    decide: Callable[[Sequence[Call], Model, Patience], Conflict | None]


CHAINS = Decider(
    "chains",
    "every value is written once, by write or cas",
    chains.misfit,
    chains.decide,
)
SETS = Decider(
    "sets",
    "elements can be told apart, and are ordered by what was found of them",
    sets.misfit,
    sets.decide,
)
FIFO = Decider(
    "aspects",
    "it is certain which dequeue took which value",
    items.misfit,
    fifo.decide,
)
COVERING = Decider(
    "covering",
    "equal values can be told apart, or nothing was found empty",
    priority.misfit,
    priority.decide,
)
BOTTOMS = Decider("bottoms", "every value is pushed once", items.misfit, stack.decide)

DECIDERS: Final = (CHAINS, SETS, FIFO, COVERING, BOTTOMS)


@dataclass(frozen=True)
class Choice:
    """How a key is decided.

    Attributes:
        algorithm: The name of a decider, "zones" or "search".
        why: Why, as a clause.
        decider: The decider; None for zones and search.
    """

    algorithm: str
    why: str
    decider: Decider | None = None


def decider_of(model: Model) -> Decider | None:
    """The polynomial decider for a kind of object, if there is one."""
    if model.reads:
        return CHAINS
    if isinstance(model, GrowOnlySet):
        return SETS
    if isinstance(model, Stack):
        return BOTTOMS
    if isinstance(model, FifoQueue):
        return FIFO
    return COVERING if isinstance(model, Container) else None


def choose(
    model: Model, calls: Sequence[Call], insist_on: str, patience: Patience
) -> Choice:
    """The algorithm for the calls on one key. Cost: linear.

    Raises:
        LimitExceeded: `patience` came to its end.
    """
    decider = decider_of(model)
    if insist_on == SEARCH:
        return Choice(SEARCH, "as was asked for")
    if decider is None:
        return Choice(SEARCH, f"no other algorithm knows the {model.name} model")
    problem = decider.misfit(model, calls, patience)
    if problem:
        return Choice(SEARCH, problem)
    return Choice(decider.name, decider.because, decider)


# The first operation that can't be placed


@dataclass(frozen=True)
class Narrowed:
    """The shortest prefix that is known to be impossible.

    Attributes:
        calls: The calls up to there; what had not returned is open.
        stuck: The call whose return ends it.
        conflict: What is wrong with it.
        shortest: False when a shorter one may be impossible too: there was no time to
            try it, or the rules don't tell.
    """

    calls: Sequence[Call]
    stuck: Call
    conflict: Conflict
    shortest: bool


def narrow(
    calls: Sequence[Call],
    model: Model,
    decider: Decider,
    conflict: Conflict,
    patience: Patience,
) -> Narrowed:
    """Find the call at which the history ceases to be linearizable.

    Prefixes of a linearizable history are linearizable (`clip`), so there is one such
    call. Of very long histories it is the call at which the conflict that was found is
    complete, or one that was tried before patience ended.

    Cost: mostly two runs of the decider, at worst logarithmically many, within
    NARROWING_MAX.
    """
    ends = sorted(c.returned for c in calls if c.returned != NEVER)
    low, high = 0, ends.index(completed_at(conflict))  # prefixes before `low` are fine
    effort, step = NARROWING_MAX, 1
    prefix: Sequence[Call] = clip(calls, model, ends[high])
    while low < high and effort > 0 and not patience.exceeded():
        # Deciders name early conflicts, so what is tried first is just a bit earlier.
        middle = max(low, high - step)
        shorter = clip(calls, model, ends[middle])
        effort -= len(shorter)
        try:
            found = decider.decide(shorter, model, patience)
        except (LimitExceeded, UndecidedError):
            break
        if found is None:
            low = middle + 1
            step = (high - low + 1) // 2
        else:
            high, conflict, prefix = middle, found, shorter
            step = min(4 * step, (high - low + 1) // 2)
    stuck = next(c for c in calls if c.returned == ends[high])
    return Narrowed(prefix, stuck, conflict, low == high)
