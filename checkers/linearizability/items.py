"""Values that go into a container and come out again, as intervals.

The deciders of queues, stacks and bags share this: inserts and removes are paired to
items (`intervals`), and removes that never returned are dealt with.

In queues and bags a value may go in several times, if it is certain which insert came
first. If neither of two inserts of a value is inside the other, the one that was
invoked first also returned first, and may as well have happened first: if it did not,
exchange the two. The same holds for removes. Queues give out equal values in the order
in which they went in, and for other containers it makes no difference. So the n-th
remove took what the n-th insert put in.

Deleting both operations of a value from a legal order leaves a legal order (the types
are closed under projection: Bouajjani et al. 2015, section 3; Lee and Mathur 2025). So:

- an insert that never returned, of a value that was not removed, is left out;
- a remove that never returned may have happened or not, if its value is known (the
  history was cut off before its return);
- other removes that never returned took an unknown value, if any. If the rest of the
  history has an order without them, they took none. If the rest has no order even
  without all values that they could have taken, it is impossible. In between, every
  conflict names values of which they must have taken one. Trying these values, in turn
  for every such remove, settles it (`Takers`); mostly there is only one to try. If that
  takes too long, it is left to the search.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Final

from checkers.linearizability.budget import paced
from checkers.linearizability.calls import NEVER
from checkers.linearizability.containers import (
    EMPTY,
    UNKNOWN,
    Container,
    Nothing,
    Stack,
)
from checkers.linearizability.evidence import (
    Conflict,
    FalseEmpty,
    ImpossibleError,
    TakenEarly,
    TakenTooOften,
    UndecidedError,
    Unknown,
    completed_at,
)
from checkers.linearizability.intervals import Item, Union, certain, cover
from checkers.linearizability.specification import show

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from checkers.linearizability.budget import Patience
    from checkers.linearizability.calls import Call
    from checkers.linearizability.specification import Model


TRIALS_EACH: Final = 16
"""For each open remove, how many trials of what it took are worth while."""


@dataclass(frozen=True)
class Items:
    """The calls on one container.

    Attributes:
        items: One per value, in order of insertion's invocation.
        empties: Removes that found nothing.
        open_removes: Removes that nobody saw return, of unknown values.
        repeat: Whether some value went in several times.
        unsure: Values of which more went in, for all that is known, than came out.
    """

    items: Sequence[Item]
    empties: Sequence[Call]
    open_removes: Sequence[Call]
    repeat: bool = False
    unsure: frozenset[Hashable] = frozenset()


def misfit(model: Model, calls: Sequence[Call], patience: Patience) -> str:
    """Why the items of a history can't be told apart; empty when they can.

    Raises:
        LimitExceeded: `patience` came to its end.
    """
    assert isinstance(model, Container)
    if model.initial != type(model)().initial:
        return "it does not begin empty"
    inserts, removes = by_value(paced(calls, patience), model)
    repeated = {value: some for value, some in inserts.items() if len(some) > 1}
    if not repeated:
        return ""
    value, (first, second, *_) = next(iter(repeated.items()))
    twice = (
        f"{show(value)} goes in twice, in ops {first.position} and {second.position}"
    )
    if isinstance(model, Stack):
        return twice
    for value in paced(repeated, patience):
        for some in (inserts[value], removes.get(value, [])):
            for one, other in pairwise(sorted(some, key=lambda call: call.invoked)):
                if one.returned > other.returned:
                    return (
                        f"either of ops {one.position} and {other.position}, both of "
                        f"{show(value)}, may have come first"
                    )
    return ""


ByValue = dict["Hashable", "list[Call]"]


def by_value(calls: Iterable[Call], model: Container) -> tuple[ByValue, ByValue]:
    """The inserts and the removes of each value that is known."""
    inserts: ByValue = {}
    removes: ByValue = {}
    for call in calls:
        if call.operation.f == model.insert:
            inserts.setdefault(call.operation.argument, []).append(call)
        elif not isinstance(call.operation.result, Nothing):
            removes.setdefault(call.operation.result, []).append(call)
    return inserts, removes


def gather(calls: Sequence[Call], model: Model, patience: Patience) -> Items:
    """Pair inserts with removes. Cost: linear.

    Raises:
        ImpossibleError: A value came out that never went in, or before, or too often.
    """
    assert isinstance(model, Container)
    inserts, removes = by_value(paced(calls, patience), model)
    flaws = []
    for value, taken in paced(removes.items(), patience):
        # Removes that may not have happened come last.
        taken.sort(key=lambda call: (call.returned, call.invoked))
        done = [call for call in taken if call.returned != NEVER]
        flaw = surplus(inserts.get(value, []), done, model.insert)
        if flaw is not None:
            flaws.append(flaw)
    if flaws:
        raise ImpossibleError(min(flaws, key=completed_at))
    items = []
    for value, put in paced(inserts.items(), patience):
        put.sort(key=lambda call: call.invoked)
        for insert, remove in zip_longest(put, removes.get(value, [])[: len(put)]):
            if insert.returned != NEVER or (remove and remove.returned != NEVER):
                items.append(Item(value, insert, remove))
    return Items(
        items,
        [
            call
            for call in calls
            if call.operation.result is EMPTY and call.returned != NEVER
        ],
        [call for call in calls if call.operation.result is UNKNOWN],
        any(len(put) > 1 for put in inserts.values()),
        frozenset(
            value
            for value, put in inserts.items()
            if len(put) > sum(c.returned != NEVER for c in removes.get(value, ()))
        ),
    )


def surplus(
    inserts: Sequence[Call], removes: Sequence[Call], insert: str
) -> Conflict | None:
    """The first remove of a value that had nothing left to take, if there is one.

    Args:
        inserts: All inserts of the value.
        removes: All its removes that returned, in that order.
        insert: The name of the function that inserts.
    """
    begun = sorted(inserts, key=lambda call: call.invoked)
    for k, remove in enumerate(removes):
        if k < len(begun) and begun[k].invoked < remove.returned:
            continue
        if not begun:
            return unknown(remove, insert)
        if k == 0:
            return future(begun[0], remove)
        return too_many(begun[:k], removes[: k + 1])
    return None


def decide_with_open_removes(
    items: Items, decide: Callable[[Items], Conflict | None]
) -> Conflict | None:
    """Decide by a rule that knows nothing of removes of unknown values.

    Raises:
        UndecidedError: What they took matters, and there is too much to try.
    """
    closed = replace(items, open_removes=())
    conflict = decide(closed)
    if conflict is None or not items.open_removes:
        return conflict
    sure = [item for item in items.items if item.value not in items.unsure]
    without = decide(replace(closed, items=sure))
    if without is not None:
        return without
    if items.repeat:
        raise UndecidedError(
            "values repeat, and so it matters which of them the open op "
            f"{items.open_removes[0].position} took"
        )
    takers = Takers(decide, items.open_removes)
    if takers.settle(closed, conflict, items.open_removes):
        return None
    return takers.refutation(conflict)


class Takers:
    """Tries which open remove took what.

    A conflict is impossible by itself as long as its items stay where they are. So if
    there is an order, some open remove took one of them, out of those that nobody is
    known to have removed, and began before all of the conflict had returned.

    Attributes:
        met: All calls of the conflicts met, by position: impossible together, whatever
            was taken, once everything has been tried.
    """

    def __init__(
        self, decide: Callable[[Items], Conflict | None], removes: Sequence[Call]
    ) -> None:
        self._decide = decide
        self._open = {call.position for call in removes}
        self._left = TRIALS_EACH * len(removes)
        self.met: dict[int, Call] = {call.position: call for call in removes}

    def settle(self, items: Items, conflict: Conflict, spare: Sequence[Call]) -> bool:
        """Whether the spare removes can have taken what resolves the conflict.

        Raises:
            UndecidedError: There is too much to try.
        """
        for call in conflict.calls:
            self.met.setdefault(call.position, call)
        blamed = {call.position for call in conflict.calls}
        too_late = completed_at(conflict)
        for n, item in enumerate(items.items):
            if item.insert.position not in blamed or item.left != NEVER:
                continue
            if item.remove is not None and item.remove.position in self._open:
                continue  # it is taken already
            for taker in spare:
                if taker.invoked > too_late:
                    break
                self._left -= 1
                if self._left < 0:
                    raise UndecidedError(
                        f"too much depends on what the {len(self._open)} open ops took"
                    )
                known = taker.operation._replace(result=item.value)
                taken = item._replace(remove=taker._replace(operation=known))
                others = [*items.items[:n], taken, *items.items[n + 1 :]]
                tried = replace(items, items=others)
                left = [call for call in spare if call is not taker]
                still = self._decide(tried)
                if still is None or self.settle(tried, still, left):
                    return True
        return False

    def refutation(self, conflict: Conflict) -> Conflict:
        """The conflict with all that was tried to resolve it."""
        return replace(
            conflict, calls=tuple(self.met[place] for place in sorted(self.met))
        )


# What is wrong with a value by itself


def too_many(inserts: Sequence[Call], removes: Sequence[Call]) -> Conflict:
    """A value came out more often than it had gone in."""
    return Conflict(TakenTooOften(tuple(removes)), (*inserts, *removes))


def unknown(remove: Call, insert: str) -> Conflict:
    """A value came out that nobody put in."""
    return Conflict(Unknown(remove, insert, remove.operation.result), (remove,))


def future(insert: Call, remove: Call) -> Conflict:
    """A value came out before it was put in."""
    return Conflict(TakenEarly(insert, remove), (insert, remove))


# What was found empty


def false_empty(empties: Iterable[Call], items: Sequence[Item]) -> Conflict | None:
    """The first remove that found nothing although something was always inside."""
    union = Union()
    for item in certain(items):
        union.add(item.entered, item.leaves)
    wrong = [call for call in empties if union.covers(call.invoked, call.returned)]
    if not wrong:
        return None
    empty = min(wrong, key=lambda call: call.returned)
    chain = cover(items, empty.invoked, empty.returned)
    calls = (empty, *(call for item in chain for call in item.calls))
    return Conflict(FalseEmpty(empty, tuple(chain)), calls)
