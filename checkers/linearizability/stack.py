"""Bottoms: decides stacks whose values all differ, in O(n d), d the nesting depth.

After Lee and Mathur, "Efficient decrease-and-conquer linearizability monitoring"
(2025), section 5, and Abdulla et al., "Efficient linearizability monitoring" (2025).

A value whose push and pop overlap fits in anywhere, as an adjacent push and pop. Every
other is certainly on the stack in the closed interval from the return of its push to
the invocation of its pop. The maximal unions of these are *segments*. Between segments
the stack can be empty, so pops that found nothing need to reach a gap, and each segment
is a problem of its own. Inside, the stack is never empty, so some value is at the
bottom all along: its push can come first, and its pop last. That is one whose push
began before the segment starts and whose pop returned after it ends. Without such a
value there is no order. With it, the rest has to be a stack's history by itself, so the
value is deleted, and what remains falls into segments again.

A round, a few numpy passes, deletes all such values of all segments: a value that can
be at the bottom of a segment can also be at that of the smaller ones that are left.
There are as many rounds as values lie on top of one another. If these are many, as when
a stack is filled and then drained, values are peeled off one by one with two heaps,
without looking for segments in between: a value that can be at the bottom of several
segments taken as one can also be at the bottom of its own.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from checkers.linearizability.budget import LimitExceeded, insist, paced
from checkers.linearizability.calls import NEVER
from checkers.linearizability.evidence import Conflict, ImpossibleError, NoBottom
from checkers.linearizability.items import (
    Items,
    decide_with_open_removes,
    false_empty,
    gather,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.budget import Patience
    from checkers.linearizability.calls import Call
    from checkers.linearizability.intervals import Item
    from checkers.linearizability.specification import Model

Rows = NDArray[np.intp]

PUSHING, ENTERED, LEAVES, LEFT = range(4)
"""Columns: when a push was invoked and returned, and its pop."""

PEEL_EVERY: Final = 64
"""Rounds between two peelings, which cost as much, and may get nowhere."""


def decide(calls: Sequence[Call], model: Model, patience: Patience) -> Conflict | None:
    """What is wrong with the calls on one stack, or None.

    Raises:
        UndecidedError: It hangs on what open pops took.
        LimitExceeded: `patience` came to its end.
    """
    try:
        items = gather(calls, model, patience)
    except ImpossibleError as problem:
        return problem.conflict
    return decide_with_open_removes(items, lambda some: fits(some, patience))


def fits(items: Items, patience: Patience) -> Conflict | None:
    """What is wrong by the rules, without open pops; or None."""
    stuck = bottomless(items.items, patience)
    if stuck:
        return no_bottom(fewest(stuck, patience))
    return false_empty(items.empties, items.items)


def bottomless(items: Sequence[Item], patience: Patience) -> list[Item]:
    """The values of a segment of which none can be at the bottom, if there is one."""
    table = np.array(
        [(i.insert.invoked, i.entered, i.leaves, i.left) for i in items], np.int64
    ).reshape(-1, 4)
    live = np.flatnonzero(table[:, ENTERED] < table[:, LEAVES])
    live = live[np.argsort(table[live, ENTERED], kind="stable")]
    rounds = 0
    while live.size:
        insist(patience)
        if rounds % PEEL_EVERY == 0:
            live = peel(live, table, patience)
            if not live.size:
                break
        rounds += 1
        pushing, start, end, left = table[live].T
        reach = np.maximum.accumulate(end)
        first = np.flatnonzero(np.append(True, start[1:] > reach[:-1]))
        segment = np.zeros(live.size, np.int64)
        segment[first[1:]] = 1
        segment = np.cumsum(segment)
        starts, ends = start[first], np.maximum.reduceat(end, first)
        bottom = (pushing <= starts[segment]) & (left >= ends[segment])
        settled = np.logical_or.reduceat(bottom, first)
        if not settled.all():
            bad = int(np.argmin(settled))
            return [items[i] for i in live[segment == bad].tolist()]
        live = live[~bottom]
    return []


def peel(live: Rows, table: NDArray[np.int64], patience: Patience) -> Rows:
    """The rows that are left when bottoms are deleted one by one, as long as possible.

    Args:
        live: Rows of `table`, in order of `entered`.
        table: The columns PUSHING, ENTERED, LEAVES, LEFT.
        patience: When to give up.

    Cost: n log n, in Python.
    """
    rows = table[live].tolist()
    by_push = sorted(range(len(rows)), key=lambda i: rows[i][PUSHING])
    by_end = sorted(range(len(rows)), key=lambda i: rows[i][LEAVES])
    gone = bytearray(len(rows))
    lasting: list[tuple[int, int]] = []  # heap: the longest first
    lowest = pushed = 0
    for _ in paced(rows, patience):
        while (
            pushed < len(rows)
            and rows[by_push[pushed]][PUSHING] <= (rows[lowest][ENTERED])
        ):
            i = by_push[pushed]
            heappush(lasting, (-rows[i][LEFT], i))
            pushed += 1
        while by_end and gone[by_end[-1]]:
            by_end.pop()
        if not lasting or -lasting[0][0] < rows[by_end[-1]][LEAVES]:
            break
        gone[heappop(lasting)[1]] = 1
        while lowest < len(rows) and gone[lowest]:
            lowest += 1
    kept: Rows = live[np.frombuffer(gone, np.uint8) == 0]
    return kept


def fewest(items: Sequence[Item], patience: Patience) -> list[Item]:
    """Few of `items` that still have no order: ever smaller groups are left out.

    If patience ends early, more are kept than need be, but they have no order either.
    """
    kept = list(items)
    size = len(kept) // 2
    while size and not patience.exceeded():
        at = 0
        while at < len(kept):
            fewer = kept[:at] + kept[at + size :]
            try:
                stuck = bottomless(fewer, patience)
            except LimitExceeded:
                return kept
            if stuck:
                kept = stuck
            else:
                at += size
        size = min(size, len(kept)) // 2
    return kept


def no_bottom(items: Sequence[Item]) -> Conflict:
    """Every value was pushed too late or popped too early to be at the bottom."""
    ordered = sorted(items, key=lambda item: item.insert.position)
    last = max(
        (item.remove for item in ordered if item.left != NEVER and item.remove),
        key=lambda call: call.returned,
    )
    start = min(ordered, key=lambda item: item.entered)
    end = max(ordered, key=lambda item: item.leaves)
    evidence = NoBottom(tuple(ordered), last, start, end)
    return Conflict(evidence, tuple(call for item in ordered for call in item.calls))
