"""Many keys at once: orders that are found without a search.

Of many short keys, most have an order that suggests itself. A search of one key takes
longer to get ready than to run, so here all keys take each step together, as numpy
columns. The steps are those of just-in-time linearization (`search`) without a way
back: at each return, in order,

1. open calls that only read are linearized if they are legal now;
2. the call that returns is linearized, if that is still to be done;
3. if it is illegal now, but legal after one other open call, both are.

A key whose calls get through all steps is linearizable: the calls were linearized in
that order, each between its invocation and its return. Crashed calls need not have
happened. Of other keys nothing is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from checkers.linearizability.transitions import DEAD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from checkers.linearizability.accesses import Column, Mask
    from checkers.linearizability.calls import CallTable
    from checkers.linearizability.specification import Model
    from checkers.linearizability.transitions import Transitions

FEW: Final = 16
"""Of fewer keys, one by one is as fast as together. When fewer are left, they are left
to that."""

AHEAD: Final = 3
"""How many of the next calls to return are tried before the one that returns."""


def pays(keys: int, table: CallTable, model: Model) -> bool:
    """Whether it is worth while to try so many keys together.

    A table of all states must cost less than looking at each call. A register's states
    are the values that operations name, but for appends.
    """
    operations = table.operations
    states = {value for each in operations for value in each[1:]}
    return (
        keys >= FEW
        and len(states) * len(operations) <= len(table.key)
        and not any(each.f in model.appends for each in operations)
    )


def linearizable(table: CallTable, moves: Transitions) -> Mask:
    """By key number, whether an order was found.

    Args:
        table: The calls.
        moves: What the calls do, as one table.

    Cost: some 40 numpy operations for each return of a key, as long as FEW keys get
    that far; and `Transitions.whole`. None is found if that is too large.
    """
    found = np.zeros(len(table.keys), np.bool_)
    steps = moves.whole
    if steps is None:
        return found
    starts = np.array(table.starts, np.int64)
    counts = np.diff(starts) - np.array(table.crashed, np.int64)
    # The longest first, so that those which still have returns are the first few.
    keys = np.argsort(-counts, kind="stable")
    keys = keys[counts[keys] > 0]
    lengths = counts[keys]
    walk = Walk(table, moves, steps, starts[keys], starts[keys] + lengths)
    for step in range(int(lengths.max(initial=0))):
        active = int(np.searchsorted(-lengths, -step))
        if np.count_nonzero(walk.states[:active] != DEAD) < FEW:
            walk.states[:active] = DEAD
            break
        walk.take(step, active)
    found[keys] = walk.states != DEAD
    return found


class Walk:
    """Keys on their way, step by step.

    Args:
        table: The calls.
        moves: What they do.
        steps: The next state, or DEAD, by state and kind of operation.
        start, stop: Where the returns of each key begin and end in `table.urgency`.

    Attributes:
        states: The state of each key, or DEAD.
    """

    def __init__(
        self,
        table: CallTable,
        moves: Transitions,
        steps: NDArray[np.int32],
        start: Column,
        stop: Column,
    ) -> None:
        rows = table.urgency
        self.kind = np.array(moves.kind_of, np.int64)[table.operation[rows]]
        self.pure = np.array(moves.read_only, np.bool_)[self.kind]
        self.invoked, self.returned = table.invoked[rows], table.returned[rows]
        self.done = np.zeros(len(rows), np.bool_)
        # Nothing is legal in the state DEAD, whose row is the last, as it is -1.
        dead = np.full((1, steps.shape[1]), DEAD, np.int32)
        self.steps = np.concatenate([steps, dead])
        self.start, self.stop = start, stop
        self.states = np.zeros(len(start), np.int32)

    def take(self, step: int, active: int) -> None:
        """Linearize the call that returns at this step, of each of the first keys."""
        now = self.start[:active] + step
        state = self.states[:active]
        others = [self.open_beside(now, n, active) for n in range(1, AHEAD + 1)]
        for call, is_open in [(now, True), *others]:
            reads = is_open & self.pure[call] & ~self.done[call]
            reads &= self.steps[state, self.kind[call]] != DEAD
            self.done[call] |= reads
        (due,) = np.nonzero(~self.done[now])
        call, before = self.kind[now[due]], state[due]
        after = self.steps[before, call]
        for other, is_open in others:
            (stuck,) = np.nonzero((after == DEAD) & is_open[due] & (before != DEAD))
            helper = other[due[stuck]]
            helped = self.steps[before[stuck], self.kind[helper]]
            both = self.steps[helped, call[stuck]]
            good = (both != DEAD) & ~self.done[helper]
            after[stuck[good]] = both[good]
            self.done[helper[good]] = True
        state[due] = after

    def open_beside(self, now: Column, n: int, active: int) -> tuple[Column, Mask]:
        """The n-th call to return after those, and whether it is open with them."""
        other = now + n
        exists = other < self.stop[:active]
        other = np.where(exists, other, now)
        return other, exists & (self.invoked[other] < self.returned[now])
