"""Covering: decides priority queues and bags whose values all differ, in O(n log n).

Lee and Mathur, "Efficient decrease-and-conquer linearizability monitoring" (2025),
section 6. A value may leave a priority queue at a moment when nothing better is inside.
So a history is linearizable iff

- every remove returned a value that was put in, not earlier, and not twice (`items`);
- the remove of each v has a moment, after v's insert began, at which no better value is
  certainly inside;
- so has every remove that found nothing, with all values taken for better.

The moments can be chosen one by one: each other value is put in as late as it may be,
or taken out as early. Values are tried best first, so that the union of the certain
intervals of all better values grows as the sweep goes on. A bag is a priority queue in
which no value is better than another, and only the last rule is left.

A bag that was never found empty may hold a value several times. Then each value is an
object of its own (locality), and it is enough that the k-th of its removes to return
did so after the k-th of its inserts had begun.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from checkers.linearizability.budget import insist, paced
from checkers.linearizability.calls import NEVER
from checkers.linearizability.containers import (
    EMPTY,
    PriorityQueue,
    UnorderedQueue,
    rank,
)
from checkers.linearizability.evidence import (
    Conflict,
    ImpossibleError,
    SmallerInside,
    completed_at,
)
from checkers.linearizability.intervals import Union, cover
from checkers.linearizability.items import (
    Items,
    by_value,
    decide_with_open_removes,
    false_empty,
    gather,
    surplus,
)
from checkers.linearizability.items import misfit as items_misfit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.budget import Patience
    from checkers.linearizability.calls import Call
    from checkers.linearizability.intervals import Item
    from checkers.linearizability.specification import Model


def misfit(model: Model, calls: Sequence[Call], patience: Patience) -> str:
    """Why neither of the two ways applies; empty when one does."""
    problem = items_misfit(model, calls, patience)
    if not problem or isinstance(model, PriorityQueue):
        return problem
    if model.initial != type(model)().initial:
        return problem
    empty = next((c for c in calls if c.operation.result is EMPTY), None)
    if empty is None:
        return ""
    return f"{problem}, and op {empty.position} found it empty"


def decide(calls: Sequence[Call], model: Model, patience: Patience) -> Conflict | None:
    """What is wrong with the calls on one bag or priority queue, or None.

    Raises:
        UndecidedError: It hangs on what open removes took.
        LimitExceeded: `patience` came to its end.
    """
    if items_misfit(model, calls, patience):
        return by_count(calls, model, patience)
    try:
        items = gather(calls, model, patience)
    except ImpossibleError as problem:
        return problem.conflict
    sorts = isinstance(model, PriorityQueue)
    return decide_with_open_removes(
        items, lambda some: fits(some, patience, sorts=sorts)
    )


def by_count(
    calls: Sequence[Call], model: Model, patience: Patience
) -> Conflict | None:
    """What is wrong with a bag that was never found empty, value by value; or None."""
    assert isinstance(model, UnorderedQueue)
    inserts, removes = by_value(paced(calls, patience), model)
    flaws = []
    for value, taken in removes.items():
        done = sorted(
            (call for call in taken if call.returned != NEVER),
            key=lambda call: call.returned,
        )
        flaw = surplus(inserts.get(value, []), done, model.insert)
        if flaw is not None:
            flaws.append(flaw)
    return min(flaws, key=completed_at, default=None)


def fits(items: Items, patience: Patience, *, sorts: bool) -> Conflict | None:
    """What is wrong by the last two rules, without open removes; or None."""
    if not sorts:
        insist(patience)
        return false_empty(items.empties, items.items)
    worst, settled = overtaking(items.items, patience)
    if worst is not None:
        conflict: Conflict | None = preferred(worst, settled)
    else:
        insist(patience)
        conflict = false_empty(items.empties, settled)
    return conflict and with_what_cannot_be(conflict, items.items, settled)


def with_what_cannot_be(
    conflict: Conflict, items: Sequence[Item], settled: Sequence[Item]
) -> Conflict:
    """The conflict with the removes that can't have happened, and the reason why.

    The conflict takes it for granted that they did not happen.
    """
    voided = {
        before.insert.position: before
        for before, after in zip(
            sorted(items, key=lambda item: item.insert.position),
            sorted(settled, key=lambda item: item.insert.position),
            strict=True,
        )
        if before.remove is not after.remove
    }
    calls = {call.position: call for call in conflict.calls}
    todo = list(conflict.calls)
    while todo:
        item = voided.pop(todo.pop().position, None)
        if item is None:
            continue
        more = [*item.calls]
        for other in what_was_better(item, settled):
            more += other.calls
        todo += [call for call in more if call.position not in calls]
        calls.update((call.position, call) for call in more)
    return replace(conflict, calls=tuple(calls.values()))


def overtaking(
    items: Sequence[Item], patience: Patience
) -> tuple[Item | None, list[Item]]:
    """The first item that left although something better was always inside.

    Returns:
        That item or None; and all items, without removes that can't have happened.
    """
    better = Union()
    worst: Item | None = None
    settled: list[Item] = []
    ordered = sorted(items, key=lambda item: rank(item.value))
    for _, equals in groupby(paced(ordered, patience), lambda item: rank(item.value)):
        group = []
        for item in equals:
            since = max(item.insert.invoked, item.leaves)
            kept = item
            if item.remove is not None and better.covers(since, item.left):
                if item.left == NEVER:  # it did not return, so it did not happen
                    kept = item._replace(remove=None)
                elif worst is None or item.left < worst.left:
                    worst = item
            group.append(kept)
        for item in group:
            if item.entered < item.leaves:
                better.add(item.entered, item.leaves)
        settled += group
    return worst, settled


def what_was_better(item: Item, settled: Sequence[Item]) -> list[Item]:
    """A few better items: at any moment while `item` left, one of them was inside."""
    best = [other for other in settled if rank(other.value) < rank(item.value)]
    return cover(best, max(item.insert.invoked, item.leaves), item.left)


def preferred(item: Item, settled: Sequence[Item]) -> Conflict:
    """Something better was inside while `item` was taken out."""
    remove = item.remove
    assert remove is not None
    chain = what_was_better(item, settled)
    others = tuple(call for other in chain for call in other.calls)
    evidence = SmallerInside(remove, tuple(chain))
    return Conflict(evidence, (item.insert, remove, *others))
