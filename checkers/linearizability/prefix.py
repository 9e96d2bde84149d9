"""What was proved of a key whose search a limit ended, so that its reader can check it.

A search that stops early has still shown that the history is linearizable up to some
event. That is worth little without an order to look at, and a search keeps no order of
a prefix. So the prefix is searched again by itself. If that takes too long, a shorter
one is searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from checkers.linearizability.budget import Budget
from checkers.linearizability.search import search
from checkers.linearizability.windows import Effort, clip
from harness.verdict import Limits

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from checkers.linearizability.calls import Call
    from checkers.linearizability.outcome import Outcome
    from checkers.linearizability.specification import Model

SHARES: Final = (1.0, 0.9, 0.75, 0.5, 0.25)
"""Parts of the calls that returned, one after the other tried to be put in order."""

EFFORT_MAX: Final = 10_000
"""Configurations and calls that each of SHARES may cost: some 0.01 s."""

SECONDS_MAX: Final = 0.2
"""What all of SHARES may take, since time is up already; see `harness.judge.check`."""

CALLS_MAX: Final = 50_000
"""Calls on a key. Of longer keys no order is sought: to cut them takes too long."""


@dataclass(frozen=True)
class Proved:
    """A prefix of one key that is linearizable.

    Attributes:
        events: How many invocations and returns of the key it has.
        of: How many there are.
        stuck: The history position of the call that could not be placed in time.
        calls: The first so many calls that returned are in `order`.
        order: A linear order, by history position, with open calls that took effect.
    """

    events: int
    of: int
    stuck: int
    calls: int
    order: tuple[int, ...]

    def as_json(self, key: Hashable) -> dict[str, Any]:
        """For the figures of a result."""
        return {
            **({} if key is None else {"key": key}),
            "events": self.events,
            "of": self.of,
            "not_placed": self.stuck,
            "calls": self.calls,
            "order": list(self.order),
        }

    def __str__(self) -> str:
        """As a clause."""
        text = f"its first {self.events} of {self.of} events are linearizable"
        if self.order:
            text += f" (stats.proved has an order of the first {self.calls} answers)"
        return f"{text}, op {self.stuck} could not be placed in time"


def proved(calls: Sequence[Call], model: Model, outcome: Outcome) -> Proved | None:
    """What a search that a limit ended has proved; None if it got nowhere.

    Cost: bounded by EFFORT_MAX for each of SHARES, and by SECONDS_MAX.
    """
    if outcome.stuck is None:
        return None
    stuck = calls[outcome.stuck]
    order: tuple[int, ...] = ()
    count = 0
    if len(calls) <= CALLS_MAX:
        before = sorted(c.returned for c in calls if c.returned < stuck.returned)
        order, count = in_order(calls, model, before)
    return Proved(outcome.reached, outcome.events, stuck.position, count, order)


def in_order(
    calls: Sequence[Call], model: Model, ends: Sequence[int]
) -> tuple[tuple[int, ...], int]:
    """An order of the longest prefix that is quickly put in order.

    Args:
        calls: All calls on the key.
        model: What the object may do.
        ends: When the calls returned that may end the prefix.

    Returns:
        The order and how many returns the prefix has; empty and 0 if there is none.
    """
    budget = Budget(Limits(time_s=SECONDS_MAX))
    for share in SHARES:
        count = int(len(ends) * share)
        if not count:
            break
        prefix = clip(calls, model, ends[count - 1])
        found = search(prefix, model, Effort(budget, EFFORT_MAX))
        if found.linearizable:
            return tuple(prefix[i].position for i in found.order), count
    return (), 0
