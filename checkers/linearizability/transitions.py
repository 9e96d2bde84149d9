"""A model as a table: what each operation does in each state that can be reached.

States and operations have numbers, so that a search compares and looks up small
integers. States that no operation tells apart are one (`quotient`).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from checkers.linearizability.quotient import Quotient
from checkers.linearizability.specification import ILLEGAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from checkers.linearizability.specification import Model, Operation, State

DEAD: Final = -1
"""In the table: the operation is illegal."""

UNCHANGED: Final = -2
"""In the table: the operation is legal, and of a kind that never changes the state."""

TABLE_MAX: Final = 300_000
"""Pairs of state and operation in a whole table; that many take half a second."""


class Transitions:
    """The model as a table over numbered states and operations, filled on demand.

    Args:
        model: What the object may do.
        operations: What the calls did; each thing once is enough.
        merge: Use the quotient.

    Attributes:
        states: The states met so far; number 0 is the initial one.
        rows: `rows[state][kind]` is the next state's number, DEAD or UNCHANGED.
        kinds: The operations that can be told apart.
        kind_of: The number of the kind of each of `operations`.
        read_only: Whether a kind changes no state.
    """

    def __init__(
        self, model: Model, operations: Sequence[Operation], *, merge: bool
    ) -> None:
        self._model = model
        self._quotient = Quotient(model, operations, trivial=not merge)
        merged = list(map(self._quotient.operation, operations))
        numbers = {kind: n for n, kind in enumerate(dict.fromkeys(merged))}
        self.kinds = list(numbers)
        self.kind_of = [numbers[kind] for kind in merged]
        self.read_only = [model.read_only(kind) for kind in self.kinds]
        initial = self._quotient.state(model.initial)
        self.states: list[State] = [initial]
        self.rows = [Row(self, 0)]
        self._numbers: dict[State, int] = {initial: 0}

    def step(self, state: int, kind: int) -> int:
        """The next state's number, or DEAD. Cost: a step of the model."""
        after = self._model.step(self.states[state], self.kinds[kind])
        if after is ILLEGAL:
            return DEAD
        return self.number(after)

    def number(self, state: State) -> int:
        """The number of a state, which is merged with others where that is possible."""
        state = self._quotient.state(state)
        number = self._numbers.setdefault(state, len(self.states))
        if number == len(self.states):
            self.states.append(state)
            self.rows.append(Row(self, number))
        return number

    @cached_property
    def whole(self) -> NDArray[np.int32] | None:
        """The next state's number, or DEAD, by state and kind; None for too many.

        Cost: a step of the model for each pair.
        """
        kinds = range(len(self.kinds))
        rows: list[list[int]] = []
        while len(rows) < len(self.states):
            if len(self.states) * len(kinds) > TABLE_MAX:
                return None
            rows.append([self.step(len(rows), kind) for kind in kinds])
        return np.array(rows, np.int32).reshape(len(rows), len(kinds))


class Row(dict[int, int]):
    """What each kind of operation does in one state.

    The model is asked about a kind when it is first looked up.
    """

    __slots__ = ("_state", "_table")

    def __init__(self, table: Transitions, state: int) -> None:
        self._table = table
        self._state = state

    def __missing__(self, kind: int) -> int:
        after = self._table.step(self._state, kind)
        if after != DEAD and self._table.read_only[kind]:
            after = UNCHANGED
        self[kind] = after
        return after
