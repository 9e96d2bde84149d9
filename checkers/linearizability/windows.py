"""Parts of a history that are as impossible as the whole.

Each function only adds possible orders, as it proves: so whatever has none by itself
shows that the history has none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from checkers.linearizability.budget import Patience
from checkers.linearizability.calls import NEVER
from checkers.linearizability.models import KV, CasRegister, Mutex, Register
from checkers.linearizability.outcome import NODES_PER_BUDGET_CHECK
from checkers.linearizability.specification import UNOBSERVED
from harness.override import override

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from checkers.linearizability.calls import Call
    from checkers.linearizability.specification import Model

EFFORT_MAX: Final = 60_000
"""Configurations and calls that shrinking may look at: a fraction of a second."""


class Effort(Patience):
    """A budget that counts work instead of seconds, so that shrinking is repeatable."""

    def __init__(self, budget: Patience, effort_max: int = EFFORT_MAX) -> None:
        self._budget = budget
        self._left = effort_max

    def spend(self, amount: int) -> None:
        """Take note of work done."""
        self._left -= amount

    @override
    def exceeded(self) -> str:
        # The search calls this once per so many nodes.
        self.spend(NODES_PER_BUDGET_CHECK)
        return self.spent_by()

    def spent_by(self) -> str:
        """Which limit is exceeded, if any."""
        return "enough" if self._left < 0 else self._budget.exceeded()


def clip(calls: Sequence[Call], model: Model, horizon: int) -> list[Call]:
    """The history up to position `horizon`, which is as impossible as the whole.

    Calls that had not returned by then are left open. A linear order of the whole, cut
    after the last call that has returned by `horizon`, is one of the clipped calls.
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


def since(calls: Sequence[Call], model: Model, cut: int) -> list[Call]:
    """The calls that matter from position `cut` on, when any state may be the first.

    Take a linear order of all calls, and in it the last call that returned before
    `cut`. The calls behind it are in a linear order from some state. Some calls that
    were open at `cut` are not among them, as they came earlier; so all calls that were
    open at `cut` are weakened.
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
