"""The smallest set of calls that can't be ordered.

Calls are *weakened*, and what stays impossible did not need them. A call that only
reads may be dropped. A call that changes the state may not, since some read may need
it; but it may be allowed to take effect at any later time or never. And everything
before some position may be replaced by "the object was in some state or other", where
the states that the rest can tell apart are few. Each step only adds possible orders
(proofs at the functions), so what is left over is impossible by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from checkers.linearizability.calls import NEVER
from checkers.linearizability.models import KV, CasRegister, Mutex, Register
from checkers.linearizability.outcome import NODES_PER_BUDGET_CHECK
from checkers.linearizability.search import search
from checkers.linearizability.specification import UNOBSERVED

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from checkers.linearizability.budget import Budget
    from checkers.linearizability.calls import Call
    from checkers.linearizability.outcome import Outcome
    from checkers.linearizability.specification import Model

EFFORT_MAX: Final = 60_000
"""Configurations and calls that shrinking may look at: a fraction of a second."""

FIRST_WINDOW: Final = 8
"""Calls in the first window that is tried; then twice as many, and so on."""


class Effort:
    """A budget that counts work instead of seconds, so that shrinking is repeatable."""

    def __init__(self, budget: Budget, effort_max: int = EFFORT_MAX) -> None:
        self._budget = budget
        self._left = effort_max

    def spend(self, amount: int) -> None:
        """Take note of work done."""
        self._left -= amount

    def exceeded(self) -> str:
        """As `Budget.exceeded`; called by the search once per so many nodes."""
        self.spend(NODES_PER_BUDGET_CHECK)
        return self.spent_by()

    def spent_by(self) -> str:
        """Which limit is exceeded, if any."""
        return "enough" if self._left < 0 else self._budget.exceeded()


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


def clip(calls: Sequence[Call], model: Model, horizon: int) -> list[Call]:
    """The history up to position `horizon`, which is as impossible as the whole.

    What had not returned by then is left open. A linear order of the whole, cut after
    the last call that has returned by `horizon`, is one of the clipped calls.
    """
    return [
        clipped
        for call in calls
        if call.invoked < horizon
        if (clipped := call if call.returned <= horizon else weaken(call, model))
    ]


def weaken(call: Call, model: Model) -> Call | None:
    """The call as if nobody knew whether it happened; None when it only reads."""
    if model.read_only(call.operation):
        return None
    return call._replace(returned=NEVER)


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


def since(calls: Sequence[Call], model: Model, cut: int) -> list[Call]:
    """The calls that matter from position `cut` on, when any state may be the first.

    Take a linear order of all calls, and in it the last call that returned before
    `cut`. What follows is an order of the rest from some state. It lacks, of the calls
    that were open at `cut`, those that came earlier; so all of these are weakened.
    """
    return [
        kept
        for call in calls
        if call.returned >= cut
        if (kept := call if call.invoked >= cut else weaken(call, model))
    ]


def possible_starts(calls: Sequence[Call], model: Model) -> list[Model]:
    """The model in each state that `calls` can tell apart; empty when too many.

    For a register these are the values that reads and cas name, and one more.
    """
    if isinstance(model, Mutex):
        return [replace(model, initial=held) for held in (False, True)]
    if not isinstance(model, Register | CasRegister | KV):
        return []
    if any(call.operation.f in model.appends for call in calls):
        return []
    named: dict[Hashable, None] = {}
    for call in calls:
        f, argument, result = call.operation
        if f == "read":
            named[result] = None
        elif f in {"cas", "cas-mismatch"}:
            named[argument] = None
    return [replace(model, initial=state) for state in (*named, UNOBSERVED)]
