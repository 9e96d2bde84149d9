"""Aspects: decides FIFO queues whose values all differ, in O(n log n).

Henzinger, Sezgin and Vafeiadis, "Aspect-oriented linearizability proofs" (2013),
theorem 4: a queue's history is linearizable iff it has none of four violations.

- VFresh: a value comes out that was not put in, or before; VRepet: twice (`items`).
- VOrd: enq(x) precedes enq(y), and deq(y) precedes deq(x), or x never comes out.
- VWit: a dequeue finds nothing, and values that were certainly inside cover all of it.

They assume that every operation returned. Here some dequeues never return. Such a
dequeue may have taken a value x that never came out, provided that it began before x's
*deadline*: the first return of a dequeue that would make a VOrd with x. So these
dequeues are matched to these values. Earliest deadline first finds a matching if there
is one (no dequeue is better for one value and worse for another, as only its invocation
counts). If some dequeues found nothing, a matching is not enough, and it is tried out
which dequeue took which value (`items`).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from checkers.linearizability.budget import paced
from checkers.linearizability.calls import NEVER
from checkers.linearizability.evidence import (
    Conflict,
    ImpossibleError,
    Overdue,
    Overtaken,
)
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


def decide(calls: Sequence[Call], model: Model, patience: Patience) -> Conflict | None:
    """What is wrong with the calls on one queue, or None.

    Raises:
        UndecidedError: It hangs on what open dequeues took.
        LimitExceeded: `patience` came to its end.
    """
    try:
        items = gather(calls, model, patience)
    except ImpossibleError as problem:
        return problem.conflict
    if items.open_removes and not items.empties and not items.repeat:
        return overdue(items, patience)
    return decide_with_open_removes(
        items,
        lambda some: (
            out_of_order(some.items, patience) or false_empty(some.empties, some.items)
        ),
    )


def out_of_order(items: Sequence[Item], patience: Patience) -> Conflict | None:
    """The VOrd that is complete first, by one sweep over the enqueues; or None."""
    finished = sorted(items, key=lambda item: item.entered)
    slowest: Item | None = None
    worst: tuple[Item, Item] | None = None
    n = 0
    for item in paced(sorted(items, key=lambda item: item.insert.invoked), patience):
        while n < len(finished) and finished[n].entered < item.insert.invoked:
            if slowest is None or finished[n].leaves > slowest.leaves:
                slowest = finished[n]
            n += 1
        if (
            slowest is not None
            and slowest.leaves > item.left
            and (worst is None or item.left < worst[1].left)
        ):
            worst = slowest, item
    return None if worst is None else overtaken(*worst)


def overtaken(first: Item, second: Item) -> Conflict:
    """The second was enqueued after the first and dequeued before it."""
    return Conflict(Overtaken(first, second), (*first.calls, *second.calls))


def overdue(items: Items, patience: Patience) -> Conflict | None:
    """A VOrd that stands although open dequeues may have taken values; or None."""
    later = sorted(items.items, key=lambda item: item.insert.invoked)
    starts = [item.insert.invoked for item in later]
    # soonest[i]: of later[i:], the item that certainly was out first.
    soonest: list[Item] = list(later)
    for i in range(len(later) - 2, -1, -1):
        soonest[i] = min(later[i], soonest[i + 1], key=lambda item: item.left)
    needs: list[tuple[Item, Item]] = []
    wrong: list[tuple[Item, Item]] = []
    for item in paced(items.items, patience):
        place = bisect_right(starts, item.entered)
        if place == len(later) or soonest[place].left == NEVER:
            continue
        rival = soonest[place]
        if item.left == NEVER and item.leaves > rival.left:
            needs.append((item, rival))
        elif item.leaves > rival.left:
            wrong.append((item, rival))
    if wrong:
        return overtaken(*min(wrong, key=lambda pair: pair[1].left))
    needs.sort(key=lambda need: need[1].left)
    spare = sorted(items.open_removes, key=lambda call: call.invoked)
    for n, (item, rival) in enumerate(needs):
        if n >= len(spare) or spare[n].invoked > rival.left:
            return not_enough(needs[: n + 1], spare[:n], item, rival)
    return None


def not_enough(
    needs: Sequence[tuple[Item, Item]], spare: Sequence[Call], item: Item, rival: Item
) -> Conflict:
    """More values were in the way than open dequeues can have taken."""
    if not spare:
        return overtaken(item, rival)
    assert rival.remove is not None
    ahead = tuple(need.value for need, _ in needs)
    calls = {
        call.position: call for need in needs for part in need for call in part.calls
    } | {call.position: call for call in spare}
    return Conflict(
        Overdue(rival.remove, ahead, len(spare)),
        tuple(sorted(calls.values(), key=lambda call: call.position)),
    )
