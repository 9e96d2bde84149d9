"""Linearizability by its definition: try every order. Obviously right, exponential.

For tests only, and for histories of a dozen calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.linearizability.calls import NEVER
from checkers.linearizability.specification import ILLEGAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.calls import Call
    from checkers.linearizability.specification import Model, State


def linearizable(calls: Sequence[Call], model: Model) -> bool:
    """Whether some order of all returned calls and some crashed ones is legal.

    Cost: exponential in the number of calls.
    """
    return extendable(frozenset(calls), model.initial, model, set())


def extendable(
    left: frozenset[Call],
    state: State,
    model: Model,
    failed: set[tuple[frozenset[Call], State]],
) -> bool:
    """Whether the calls in `left` can all follow in `state`.

    A call can come next iff no other call returned before it was invoked. What can't
    be extended is remembered in `failed`, so as not to try it twice.
    """
    if all(call.returned == NEVER for call in left):
        return True
    if (left, state) in failed:
        return False
    for call in left:
        if any(other.returned < call.invoked for other in left):
            continue
        after = model.step(state, call.operation)
        if after is not ILLEGAL and extendable(left - {call}, after, model, failed):
            return True
    failed.add((left, state))
    return False


def is_linearization(order: Sequence[int], calls: Sequence[Call], model: Model) -> bool:
    """Whether `order` (positions in `calls`) proves that `calls` are linearizable.

    Every returned call is in it, and no call twice. No call stands behind another that
    was invoked after its return. The model accepts each step.
    """
    required = {i for i, call in enumerate(calls) if call.returned != NEVER}
    if len(set(order)) != len(order) or not required <= set(order):
        return False
    state = model.initial
    latest_invocation = -1
    for i in order:
        if calls[i].returned < latest_invocation:
            return False
        latest_invocation = max(latest_invocation, calls[i].invoked)
        state = model.step(state, calls[i].operation)
        if state is ILLEGAL:
            return False
    return True


def first_impossible(calls: Sequence[Call], model: Model) -> Call | None:
    """The call with whose return the calls cease to be linearizable, if they do.

    Calls that have not returned by then may take effect or not, as crashed ones.
    """
    for last in sorted(calls, key=lambda call: call.returned):
        if last.returned == NEVER:
            return None
        prefix = [
            call if call.returned <= last.returned else call._replace(returned=NEVER)
            for call in calls
            if call.invoked < last.returned
        ]
        if not linearizable(prefix, model):
            return last
    return None
