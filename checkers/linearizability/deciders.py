"""Which algorithm decides a key, and why that one.

Polynomial deciders want values that tell their writer: every value written, or put in,
once. Where values repeat the problem is NP-complete (Gibbons and Korach 1997; for
queues and stacks Gibbons, Bruno and Phillips 2002), and search decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from checkers.linearizability import chains, fifo, items, priority, sets, stack, zones
from checkers.linearizability.broken import ByRules
from checkers.linearizability.budget import LimitExceeded
from checkers.linearizability.calls import NEVER
from checkers.linearizability.containers import (
    FifoQueue,
    GrowOnlySet,
    Stack,
    UnorderedQueue,
)
from checkers.linearizability.evidence import UndecidedError, completed_at
from checkers.linearizability.windows import clip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from checkers.linearizability.accesses import Column, Mask
    from checkers.linearizability.budget import Patience
    from checkers.linearizability.calls import Call, CallTable
    from checkers.linearizability.evidence import Conflict
    from checkers.linearizability.specification import Model
    from harness.history import History

SEARCH: Final = "search"
"""The name of what decides everything else."""

NARROWING_MAX: Final = 2_000_000
"""Calls that may be judged again to find the first that can't be placed: seconds."""


@dataclass(frozen=True)
class Algorithm:
    """A polynomial algorithm for one kind of object.

    Attributes:
        name: As in the option `algorithm`, and in plans.
        because: Why it applies to a key, if it does.
        knows: Whether it is made for objects of that model.
    """

    name: str
    because: str
    knows: Callable[[Model], bool]


@dataclass(frozen=True)
class Sweep(Algorithm):
    """An algorithm that takes all keys of a history in one pass.

    Attributes:
        decide: What it found, and the keys that it can't decide. Takes the history, the
            model, and the positions of its calls as from `client_positions`.
    """

    decide: Callable[[History, Model, tuple[Column, Column]], zones.Swept]


@dataclass(frozen=True)
class Decider(Algorithm):
    """An algorithm that takes the calls on one key.

    Attributes:
        misfit: Why it doesn't apply to these calls; empty if it does.
        decide: What is wrong with the calls, or None. Raises UndecidedError when its
            rules don't settle it, LimitExceeded when patience ends.
        fits: To which keys of a table it applies, by number; the same as `misfit`, but
            of all keys at once. None if there is no such way.
    """

    misfit: Callable[[Model, Sequence[Call], Patience], str]
    decide: Callable[[Sequence[Call], Model, Patience], Conflict | None]
    fits: Callable[[Model, CallTable], Mask] | None = None


def is_register(model: Model) -> bool:
    """Whether some function returns the whole state."""
    return bool(model.reads)


ZONES: Final = Sweep(
    "zones",
    "only reads and writes, and no value is written twice",
    is_register,
    zones.sweep,
)
CHAINS: Final = Decider(
    "chains",
    "every value is written once, by write or cas",
    is_register,
    chains.misfit,
    chains.decide,
    chains.fits,
)
SETS: Final = Decider(
    "sets",
    "elements can be told apart, and are ordered by what was found of them",
    lambda model: isinstance(model, GrowOnlySet),
    sets.misfit,
    sets.decide,
)
FIFO: Final = Decider(
    "aspects",
    "it is certain which dequeue took which value",
    lambda model: isinstance(model, FifoQueue),
    items.misfit,
    fifo.decide,
)
COVERING: Final = Decider(
    "covering",
    "equal values can be told apart, or nothing was found empty",
    lambda model: isinstance(model, UnorderedQueue),
    priority.misfit,
    priority.decide,
)
BOTTOMS: Final = Decider(
    "bottoms",
    "every value is pushed once",
    lambda model: isinstance(model, Stack),
    items.misfit,
    stack.decide,
)

ALGORITHMS: Final = (ZONES, CHAINS, SETS, FIFO, COVERING, BOTTOMS)
"""All of them, those first that take all keys at once."""


class Choice(NamedTuple):
    """How a key is decided.

    Attributes:
        algorithm: The name of an algorithm, or of a search.
        why: Why, as a clause.
        decider: The decider; None if it was a sweep, or a search is to decide.
    """

    algorithm: str
    why: str
    decider: Decider | None = None


def sweep_of(model: Model) -> Sweep | None:
    """The algorithm that takes all objects of a kind at once, if there is one."""
    sweeps = (each for each in ALGORITHMS if isinstance(each, Sweep))
    return next((each for each in sweeps if each.knows(model)), None)


def decider_of(model: Model) -> Decider | None:
    """The algorithm for one object of a kind, if there is one."""
    deciders = (each for each in ALGORITHMS if isinstance(each, Decider))
    return next((each for each in deciders if each.knows(model)), None)


def choose(
    decider: Decider | None,
    model: Model,
    calls: Sequence[Call],
    insist_on: str,
    patience: Patience,
) -> Choice:
    """The algorithm for the calls on one key. Cost: linear.

    Args:
        decider: As from `decider_of`.
        model: What the object may do.
        calls: The calls.
        insist_on: SEARCH, or whatever else.
        patience: When to give up.

    Raises:
        LimitExceeded: `patience` came to its end.
    """
    if insist_on == SEARCH:
        return Choice(SEARCH, "as was asked for")
    if decider is None:
        return Choice(SEARCH, f"no other algorithm knows the {model.name} model")
    problem = decider.misfit(model, calls, patience)
    if problem:
        return Choice(SEARCH, problem)
    return Choice(decider.name, decider.because, decider)


# The first operation that can't be placed


def narrow(
    calls: Sequence[Call],
    model: Model,
    decider: Decider,
    conflict: Conflict,
    patience: Patience,
) -> ByRules:
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
    return ByRules(calls, prefix, stuck, conflict, low == high)
