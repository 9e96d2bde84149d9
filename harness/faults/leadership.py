"""Guesses who leads if no node says so: the node that answers changes soonest.

In most systems that have a leader, changes go through it: other nodes refuse them, or
pass them on and answer later. A foreign system need not tell who leads (`status`,
WIRE.md), but the times of its clients' operations show it.
"""

from __future__ import annotations

from collections import deque
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from harness.history import Op

RECENT_NS: Final = 3_000_000_000
"""Answers older than this don't count: a node that led then may lead no more."""

ANSWERS_MIN: Final = 5
"""Answers that a node needs for its median to count."""

ANSWERS_MAX: Final = 50
"""Answers that are remembered for each node."""

SOONER: Final = 0.8
"""A node counts as the soonest if its median is below this part of the next one's."""


class Leadership:
    """Watches clients' operations, and guesses who leads.

    Args:
        nodes: The nodes' names.
        changes_nothing: Functions that every node may answer by itself.
        seed: Draws the node if the answers show no leader.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        changes_nothing: Collection[str] = (),
        seed: int | str = 0,
    ) -> None:
        self._changes_nothing = changes_nothing
        self._random = Random(f"leader {seed}")
        self._began_ns: dict[int | str, int] = {}
        self._answers: dict[str, deque[tuple[int, int]]] = {
            node: deque(maxlen=ANSWERS_MAX) for node in nodes
        }
        self._now_ns = 0

    def watch(self, op: Op) -> None:
        """Take note of an event of the history."""
        self._now_ns = op.time
        if op.type == "invoke":
            self._began_ns[op.process] = op.time
            return
        began_ns = self._began_ns.pop(op.process, None)
        if began_ns is None or op.type != "ok" or op.f in self._changes_nothing:
            return
        if op.node in self._answers:
            self._answers[op.node].append((op.time, op.time - began_ns))

    def guess(self, among: Sequence[str]) -> tuple[str, str]:
        """The node of `among` that may lead, and why, for the title of a fault."""
        since_ns = self._now_ns - RECENT_NS
        took = {
            node: [ns for at_ns, ns in answers if at_ns >= since_ns]
            for node, answers in self._answers.items()
        }
        answering = [node for node in among if took[node]]
        if len(answering) == 1 and len(among) > 1:
            return answering[0], "the only one that answers changes"
        medians = {n: median(took[n]) for n in answering if len(took[n]) >= ANSWERS_MIN}
        soonest = sorted(medians, key=lambda node: medians[node])[:2]
        if len(soonest) == 2 and medians[soonest[0]] < SOONER * medians[soonest[1]]:
            return soonest[0], "answers changes soonest"
        return self._random.choice(among), "drawn, as no leader is known"
