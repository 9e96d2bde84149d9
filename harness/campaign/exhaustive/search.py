"""Breadth-first search for the shortest way to a broken promise.

All states that can be reached in d moves are judged before any that takes more. So the
first broken promise that is found has no shorter way, and if none is found, there is
none within the depth. The order of moves is fixed, and so is all that is found.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.campaign.exhaustive.judging import Breach, Judge
    from harness.campaign.exhaustive.space import Move, Space, State

LOOK_EVERY = 512
"""States between two looks at the clock."""

STATES_MAX = 5_000_000
"""States that are kept at most; they take some 400 bytes each."""

BUDGET, MEMORY, INTERRUPTED = "budget", "memory", "interrupted"
"""What ended a search before its depth was reached."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to.

    Attributes:
        depth: All that takes up to so many moves was judged.
        states: Different states of the cluster that are up to so many moves away; if a
            breach was found, those that were reached before.
        transitions: Moves that were made.
        steps: Different steps of cores among them.
        judged: Different histories that checkers judged.
        seconds: How long it took.
        complete: There is nothing beyond that depth within the bounds.
        cut: What ended it before the depth was reached: BUDGET, MEMORY or INTERRUPTED;
            empty if nothing did.
        breach: The promise that is broken; None if none is.
        way: The moves that lead to it.
    """

    depth: int
    states: int
    transitions: int
    steps: int
    judged: int
    seconds: float
    complete: bool = False
    cut: str = ""
    breach: Breach | None = None
    way: tuple[Move, ...] = ()


class Search:
    """One search; `run` carries it out.

    Args:
        space: Where.
        judge: Who says that a promise is broken.
        depth: Most moves on a way.
        budget_s: Seconds after which it ends; None for no limit.
        show: Told about the depth, states and seconds so far, now and then.
    """

    def __init__(
        self,
        space: Space,
        judge: Judge,
        depth: int,
        budget_s: float | None = None,
        show: Callable[[int, int, float], None] = lambda *_: None,
    ) -> None:
        self._space = space
        self._judge = judge
        self._depth = depth
        self._budget_s = budget_s
        self._show = show
        self._parents: dict[State, State | None] = {}
        self._transitions = 0
        self._begun_s = time.monotonic()

    def run(self) -> Found:
        """Search. An interrupt ends it, with what was found so far."""
        first = self._space.first()
        self._parents[first] = None
        level, depth = [first], 0
        if breach := self._judge.breach(first):
            return self._found(depth, breach=breach)
        while level and depth < self._depth:
            reached = len(self._parents)
            try:
                further = self._next_level(level, depth)
            except KeyboardInterrupt:
                further = INTERRUPTED
            if isinstance(further, str):
                return replace(self._found(depth, cut=further), states=reached)
            level, breach, last = further
            depth += 1
            if breach is not None:
                return self._found(depth, breach=breach, way=self._way(last))
        return self._found(depth, complete=not level)

    @property
    def states(self) -> set[State]:
        """All states that were reached."""
        return set(self._parents)

    def _next_level(
        self, level: list[State], depth: int
    ) -> tuple[list[State], Breach | None, State] | str:
        """The states one move further; up to the first that breaks a promise.

        Returns:
            The states, the breach and the state that has it; or what has run out.
        """
        out: list[State] = []
        parents, judge, moves = self._parents, self._judge.breach, self._space.moves
        for count, state in enumerate(level):
            if not count % LOOK_EVERY and (what := self._run_out(depth)):
                return what
            for _, new in moves(state):
                self._transitions += 1
                if new in parents:
                    continue
                parents[new] = state
                if breach := judge(new):
                    return out, breach, new
                out.append(new)
        return out, None, level[-1]

    def _run_out(self, depth: int) -> str:
        """What has run out; empty if nothing has."""
        took_s = time.monotonic() - self._begun_s
        self._show(depth, len(self._parents), took_s)
        if len(self._parents) > STATES_MAX:
            return MEMORY
        over = self._budget_s is not None and took_s > self._budget_s
        return BUDGET if over else ""

    def _way(self, last: State) -> tuple[Move, ...]:
        """The moves that lead to a state, found again from state to state."""
        states = [last]
        while (before := self._parents[states[-1]]) is not None:
            states.append(before)
        states.reverse()
        way = []
        for state, after in pairwise(states):
            way.append(
                next(move for move, new in self._space.moves(state) if new == after)
            )
        return tuple(way)

    def _found(
        self,
        depth: int,
        *,
        complete: bool = False,
        cut: str = "",
        breach: Breach | None = None,
        way: tuple[Move, ...] = (),
    ) -> Found:
        return Found(
            depth,
            len(self._parents),
            self._transitions,
            self._space.lives.steps,
            self._judge.judged,
            time.monotonic() - self._begun_s,
            complete=complete,
            cut=cut,
            breach=breach,
            way=way,
        )
