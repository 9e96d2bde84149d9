"""Looks: operations that depend on the state. Without them a history shows nothing.

Writes alone can't contradict one another: any order of them will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from checkers.linearizability.containers import blind_functions
from harness.history import NO_COMPLETION
from harness.history.columns import INFO

if TYPE_CHECKING:
    from checkers.linearizability.accesses import Column
    from checkers.linearizability.specification import Model
    from harness.history import History


def blind(model: Model) -> frozenset[str]:
    """The functions that don't depend on the state."""
    return model.writes | model.appends | blind_functions(model)


def some_succeeded(history: History, model: Model) -> bool:
    """Whether some operation succeeded that could have contradicted the others."""
    unseeing = blind(model)
    return any(
        op.type == "ok"
        and (op.f not in unseeing or isinstance(op.value, bool | list | tuple))
        and op.is_client
        for op in history
    )


def pending(history: History, model: Model, positions: tuple[Column, Column]) -> int:
    """How many operations depend on the state and never returned.

    Args:
        history: What happened.
        model: Says which functions depend on the state.
        positions: As from `client_positions`.
    """
    events = history.columns
    invoked, completed = positions
    is_open = (completed == NO_COMPLETION) | (events.type[completed] == INFO)
    calls = np.bincount(events.f[invoked[is_open]], minlength=len(events.functions))
    unseeing = blind(model)
    looks = np.array([f not in unseeing for f in events.functions], np.bool_)
    return int(calls[looks].sum())
