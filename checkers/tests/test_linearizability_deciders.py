"""Polynomial deciders against the definition, on random and mutated histories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from checkers.linearizability.budget import Budget
from checkers.linearizability.calls import NEVER, partition
from checkers.linearizability.deciders import decider_of, narrow
from checkers.linearizability.evidence import UndecidedError
from checkers.linearizability.models import MODELS
from checkers.linearizability.oracle import first_impossible, linearizable
from checkers.linearizability.search import search
from checkers.linearizability.telling import tell
from checkers.linearizability.windows import clip
from checkers.linearizability.words import Witness, Words
from checkers.tests.histories import MANY, histories, with_repeats
from harness.verdict import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.calls import Call
    from checkers.linearizability.evidence import Conflict
    from checkers.linearizability.specification import Model
    from harness.history import History

KINDS = {
    "unique-cas": "cas-register",
    "fifo-queue": "fifo-queue",
    "unordered-queue": "unordered-queue",
    "priority-queue": "priority-queue",
    "stack": "stack",
    "set": "set",
    "shrinking-set": "set",
    "gset": "gset",
}
"""Kind of simulated history -> its model."""


def unlimited() -> Budget:
    return Budget(Limits())


def is_told(conflict: Conflict, history: History, model: Model) -> None:
    """Check that there are words for a conflict, and that its witness is part of it."""
    witness = Witness(Words(history, model))
    told = tell(conflict.evidence, witness)
    event(told.name)
    assert told.text.startswith("process ")
    assert told.text.endswith(".")
    assert set(witness.ops) <= {call.position for call in conflict.calls}


def agrees(calls: Sequence[Call], model: Model, history: History) -> None:
    """Compare the decider with the oracle, and its conflict with the oracle again."""
    decider = decider_of(model)
    assert decider is not None
    if decider.misfit(model, calls, unlimited()):
        event("misfit")
        return
    expected = linearizable(calls, model)
    try:
        conflict = decider.decide(calls, model, unlimited())
    except UndecidedError:
        event("undecided")
        return
    event(f"linearizable: {expected}")
    assert (conflict is None) is expected, (calls, conflict)
    if conflict is None:
        return
    is_told(conflict, history, model)
    assert not linearizable(conflict.calls, model), (calls, conflict.calls)
    strong = {c.position for c in conflict.calls if c.returned != NEVER}
    assert strong <= {c.position for c in calls if c.returned != NEVER}
    found = narrow(calls, model, decider, conflict, unlimited())
    first = first_impossible(calls, model)
    whole = search(calls, model, unlimited())
    assert whole.stuck is not None
    assert calls[whole.stuck] is first, calls
    if found.shortest:
        assert found.stuck is first, (calls, found)
    assert found.stuck.position in {c.position for c in found.conflict.calls}
    assert not linearizable(found.conflict.calls, model)


@pytest.mark.parametrize("kind", KINDS)
def test_a_decider_agrees_with_the_definition(kind: str) -> None:
    model = MODELS[KINDS[kind]].build("")

    @MANY
    @given(histories(kind, steps=24), st.integers(0, 32), st.booleans())
    def compare(history: History, cut: int, few: bool) -> None:
        if few and kind in {"fifo-queue", "priority-queue", "unordered-queue"}:
            history = with_repeats(history)
        calls: Sequence[Call] = partition(history, model).get(None, [])
        agrees(calls, model, history)
        agrees(clip(calls, model, cut), model, history)

    compare()
