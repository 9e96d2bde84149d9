"""The search of `search` for models with few states, compiled (`splitbrain[fast]`).

If a model has few reachable states, its `step` is run once for each of them and each
distinct operation. That makes a table, and the search needs no model any more: `kernel`
searches with numba, some fifty times as fast, and finds the same.

`kernel.advance` works on arrays made here, and returns before one overflows and every
so many configurations. Then there is time to make room, and to look at the limits.

Importing this takes half a second and the first search ten more: see `handover`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from checkers.linearizability import kernel
from checkers.linearizability.outcome import PARTIAL_TAIL, PARTIALS_MAX, Outcome
from checkers.linearizability.search import pose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from checkers.linearizability.budget import Budget
    from checkers.linearizability.calls import Call
    from checkers.linearizability.problem import Problem
    from checkers.linearizability.specification import Model
    from checkers.linearizability.transitions import Transitions

WIDTH_MAX: Final = 128
"""Live calls open at once; their slots are bits of two words."""

NODES_PER_TURN: Final = 50_000
"""Configurations between two looks at the limits: some 20 ms."""

FIRST_PLACES: Final = 1 << 4
"""Places for configurations at first. When half are used, their number is doubled."""

FIRST_ROOM: Final = 1 << 12
"""Frames, choices and chains that there is room for at first."""


class FastSearch:
    """One search by `kernel.advance`, and the arrays that it works on.

    The arrays are described at the arguments of `kernel.advance`.
    """

    def __init__(
        self,
        problem: Problem,
        bits: Sequence[int],
        width: int,
        table: Transitions,
        steps: NDArray[np.int32],
    ) -> None:
        self.events = problem.events
        self.names = problem.names
        self.table = table
        calls = len(bits)
        slot_of = np.array([bit.bit_length() - 1 for bit in bits], np.int32)
        kind_of = np.array(table.kind_of, np.int32)[problem.operation]
        crashed = np.array(problem.crashed(), np.int32)
        groups = list(dict.fromkeys(kind_of[crashed].tolist()))
        group_of = np.full(len(table.kinds), kernel.NOBODY, np.int32)
        group_of[groups] = range(len(groups))
        group = group_of[kind_of[crashed]]
        sizes = np.bincount(group, minlength=len(groups))
        self.problem = (
            np.array(self.events, np.int32),
            slot_of,
            kind_of,
            np.arange(calls),  # of two that return, the lesser number does so first
            steps,
            np.array(table.read_only, np.bool_),
            np.array(groups, np.int32),
            group_of,
            np.cumsum(sizes) - sizes,
            crashed[np.argsort(group, kind="stable")],
        )
        self.scalars = np.zeros(kernel.SCALARS, np.int64)
        self.scalars[kernel.REACHED] = -1
        self.order = np.zeros(calls, np.int32)
        self.standing = (
            self.scalars,
            np.zeros(2, np.uint64),
            np.zeros(len(groups), np.int32),
            np.zeros(len(groups), np.int32),
            np.full(width, kernel.NOBODY, np.int32),
            self.order,
        )
        self.seen = np.full((FIRST_PLACES, 3), kernel.NOBODY, np.int32)
        self.seen_mask = np.zeros((FIRST_PLACES, 2), np.uint64)
        self.chains: list[NDArray[Any]] = [
            np.zeros(FIRST_ROOM, np.int32),
            self.per_group(),
        ]
        self.frames: list[NDArray[Any]] = [
            np.zeros((FIRST_ROOM, 3), np.int64),
            np.zeros((FIRST_ROOM, 2), np.uint64),
            self.per_group(),
        ]
        self.choices = np.zeros((FIRST_ROOM + width + len(groups), 3), np.int32)
        self.urgent = (
            np.zeros(width, np.int32),
            np.zeros(len(table.kinds), np.int32),
            np.zeros(len(table.kinds), np.int64),
        )
        self.frontier = np.zeros(len(table.states), np.bool_)
        self.partials = np.zeros((PARTIALS_MAX, PARTIAL_TAIL), np.int32)
        self.partial_length = np.zeros(PARTIALS_MAX, np.int64)

    @staticmethod
    def prepare(
        calls: Sequence[Call], model: Model, shared: Transitions | None = None
    ) -> FastSearch | None:
        """A search that has not begun; None for what the kernel can't do.

        Args:
            calls: All calls on one object.
            model: What it may do.
            shared: As in `search`.
        """
        problem, table = pose(calls, model, shared)
        bits, width = problem.slots()
        if width > WIDTH_MAX:
            return None
        steps = table.whole
        if steps is None:
            return None
        return FastSearch(problem, bits, width, table, steps)

    def per_group(self) -> NDArray[np.int32]:
        """Room for sets of spent crashed calls."""
        return np.zeros((FIRST_ROOM, len(self.problem[6])), np.int32)

    def run(self, budget: Budget) -> Outcome:
        """The search itself."""
        while True:
            arrays: list[Any] = [
                *self.problem,
                *self.standing,
                self.seen,
                self.seen_mask,
            ]
            arrays += [*self.chains, *self.frames, self.choices, *self.urgent]
            arrays += [self.frontier, self.partials, self.partial_length]
            answer = kernel.advance(*arrays, NODES_PER_TURN)  # type: ignore[call-arg]  # as many as it has names for
            if answer in {kernel.YES, kernel.NO}:
                return self.outcome(found=answer == kernel.YES).renamed(self.names)
            if limit := budget.exceeded(self.more_bytes() if self.is_crowded() else 0):
                return self.outcome(found=False, limit=limit).renamed(self.names)
            if answer == kernel.FULL:
                self.make_room()

    def is_crowded(self) -> bool:
        """Whether the hash table has to grow."""
        return bool(2 * self.scalars[kernel.USED] >= len(self.seen))

    def more_bytes(self) -> int:
        """The memory that a larger hash table takes, beside the present one."""
        return 2 * (self.seen.nbytes + self.seen_mask.nbytes)

    def make_room(self) -> None:
        """Double the arrays that are nearly full."""
        if self.is_crowded():
            wide = np.full((2 * len(self.seen), 3), kernel.NOBODY, np.int32)
            wide_mask = np.zeros((2 * len(self.seen), 2), np.uint64)
            kernel.spread(self.seen, self.seen_mask, wide, wide_mask)
            self.seen, self.seen_mask = wide, wide_mask
        if self.scalars[kernel.CHAINS] + 1 >= len(self.chains[0]):
            self.chains = [doubled(array) for array in self.chains]
        if self.scalars[kernel.FRAMES] + 1 >= len(self.frames[0]):
            self.frames = [doubled(array) for array in self.frames]
        most = len(self.urgent[0]) + len(self.problem[6])
        if self.scalars[kernel.CHOICES] + most >= len(self.choices):
            self.choices = doubled(self.choices)

    def outcome(self, *, found: bool, limit: str = "") -> Outcome:
        """What `search.Search.run` would have returned."""
        configurations = int(self.scalars[kernel.CONFIGURATIONS])
        if found:
            order = self.order[: self.scalars[kernel.DEPTH]]
            return Outcome.found(order.tolist(), configurations, len(self.events))
        deepest = int(self.scalars[kernel.REACHED])
        dead_ends = int(self.scalars[kernel.PARTIALS])
        return Outcome.stopped(
            self.events,
            deepest,
            (self.table.states[s] for s in np.flatnonzero(self.frontier)),
            (
                tuple(partial[:length].tolist())
                for partial, length in zip(
                    self.partials[:dead_ends], self.partial_length, strict=False
                )
            ),
            configurations,
            limit,
        )


def doubled(array: NDArray[Any]) -> NDArray[Any]:
    """The array, followed by as many zeros."""
    return np.concatenate([array, np.zeros_like(array)])
