"""Thresholds: decides sets, element by element, or by the order of whole reads.

**Sets that grow**, with reads of the whole set and repeated adds, in O(n log n). What
reads returned must form a chain by inclusion. It gives every read a rank, and every
element, between the last read that lacks it and the first that holds it:

    rank(read) = 2 g + 1, g its place in the chain;  rank(x) = 2 g of the first holder

A read that lacks x comes before all adds of x. A read that holds x comes after one add,
and that may as well be the one invoked first (it can stand where any other stood). So
the whole order is forced, except among operations of one rank. The set is linearizable
iff no operation returned before one of lower rank was invoked: sort by rank, and
compare each return with the latest invocation of any lower rank. `contains x` is bound
on one side only. If it found x absent, it comes before the adds of x and everything of
higher rank; if present, after the first add and everything of lower rank. A further add
of x only comes after everything of lower rank than x. Theory: real time is an interval
order, so a shortest cycle in its union with another order has one edge of real time (if
a<b and c<d, then a<d or c<b), and comparing pairs is enough.

**Sets that shrink**, without reads of the whole set, are independent objects, one for
each element (locality). An element that was added once and removed once is decided by
its thresholds (CHECKERS.md, section 6; Lee and Mathur 2025, section 4). Its add must
come before `latest_add`, the first return of an operation that needs it inside. Its
remove must come after `earliest_remove`, the last invocation of such an operation. If
`latest_add` is before `earliest_remove`, the element was inside all the while between,
and each operation that found it absent must reach beyond. A remove that did not say
whether it removed something may also have come first, and found nothing. One that
never returned need not have happened. Elements that were added or removed several times
are left to the search, one at a time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from checkers.linearizability.budget import LimitExceeded, insist, paced
from checkers.linearizability.calls import NEVER
from checkers.linearizability.containers import GrowOnlySet
from checkers.linearizability.evidence import (
    Conflict,
    Doubled,
    ImpossibleError,
    Incomparable,
    Misplaced,
    OutOfRank,
    Unknown,
)
from checkers.linearizability.search import search
from checkers.linearizability.specification import Operation, show

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from checkers.linearizability.budget import Patience
    from checkers.linearizability.calls import Call
    from checkers.linearizability.specification import Model


def misfit(model: Model, calls: Sequence[Call], patience: Patience) -> str:
    """Why neither of the two ways applies; empty when one does."""
    assert isinstance(model, GrowOnlySet)
    insist(patience)
    if model.initial:
        return "it does not begin empty"
    whole = next((c for c in calls if c.operation.f == "read"), None)
    other = next((c for c in calls if shrinks(c)), None)
    if whole is None or other is None:
        return ""
    return (
        f"op {whole.position} reads the whole set, and op {other.position} is a "
        f"{other.operation.f} that may depend on what it holds"
    )


def shrinks(call: Call) -> bool:
    """Whether a set that only grows can't have it: a remove, or an add with an answer.

    An add that found its element there is no more than a `contains`.
    """
    f, _, result = call.operation
    return f == "remove" or (f == "add" and result is True)


def decide(calls: Sequence[Call], model: Model, patience: Patience) -> Conflict | None:
    """What is wrong with the calls on one set, or None.

    Raises:
        LimitExceeded: `patience` came to its end.
    """
    try:
        if any(shrinks(call) for call in calls):
            return by_element(calls, model, patience)
        return growing(calls, patience)
    except ImpossibleError as problem:
        return problem.conflict


# Sets that grow


class Ranked(NamedTuple):
    """A call that comes after all that ranks below `low`, before all above `high`.

    The two are the same for reads and first adds.
    """

    call: Call
    low: int
    high: int


@dataclass(frozen=True)
class Growth:
    """The history of a set that grows, by what its operations say.

    Attributes:
        adds: Element -> its adds, in order of invocation.
        reads: Reads of the whole set.
        present, absent: Element -> calls that found it there, or not.
    """

    adds: dict[Hashable, list[Call]]
    reads: list[Call]
    present: dict[Hashable, list[Call]]
    absent: dict[Hashable, list[Call]]


def sort_out(calls: Sequence[Call], patience: Patience) -> Growth:
    """Group the calls. Cost: linear."""
    out = Growth(defaultdict(list), [], defaultdict(list), defaultdict(list))
    for call in paced(calls, patience):
        f, element, result = call.operation
        if f == "read":
            if call.returned != NEVER:
                out.reads.append(call)
        elif f == "contains" or result is False:
            if call.returned != NEVER:
                there = result if f == "contains" else f == "add"
                (out.present if there else out.absent)[element].append(call)
        else:
            out.adds[element].append(call)
    return out


def growing(calls: Sequence[Call], patience: Patience) -> Conflict | None:
    """What is wrong with the calls on a set that grows, by their ranks."""
    growth = sort_out(calls, patience)
    chain = inclusion_chain(growth.reads, patience)
    level = levels(chain, patience)
    unknown_elements(growth, level)
    top = len(chain)
    ranked: list[Ranked] = []
    for g, reads in enumerate(chain):
        ranked += [Ranked(read, 2 * g + 1, 2 * g + 1) for read in reads]
    for element, adds in paced(growth.adds.items(), patience):
        rank = 2 * level.get(element, top)
        seen = element in level or element in growth.present
        first, *others = sorted(adds, key=lambda call: call.invoked)
        if seen or first.returned != NEVER:
            ranked.append(Ranked(first, rank, rank))
        ranked += [Ranked(c, rank, NEVER) for c in others if c.returned != NEVER]
    for element, found in growth.present.items():
        rank = 2 * level.get(element, top)
        ranked += [Ranked(call, rank, NEVER) for call in found]
    for element, missed in growth.absent.items():
        rank = 2 * level.get(element, top)
        ranked += [Ranked(call, -1, rank) for call in missed]
    pair = out_of_rank(ranked, patience) or out_of_turn(growth, patience)
    if pair is None:
        return None
    return contradiction(*pair, growth)


def inclusion_chain(reads: Sequence[Call], patience: Patience) -> list[list[Call]]:
    """The reads in groups of equal results, each included in the next.

    Raises:
        ImpossibleError: A read holds an element twice, or two reads differ both ways.
    """
    doubled = [read for read in reads if isinstance(read.operation.result, tuple)]
    if doubled:
        raise ImpossibleError(twice(min(doubled, key=lambda read: read.returned)))
    groups: list[list[Call]] = []
    last: frozenset[Hashable] = frozenset()
    for read in paced(sorted(reads, key=lambda read: len(found(read))), patience):
        now = found(read)
        if groups and not last <= now:
            raise ImpossibleError(incomparable(groups[-1][0], read))
        if groups and len(last) == len(now):
            groups[-1].append(read)
        else:
            groups.append([read])
        last = now
    return groups


def found(read: Call) -> frozenset[Hashable]:
    """What a read of the whole set returned."""
    result = read.operation.result
    assert isinstance(result, frozenset)
    return result


def levels(chain: Sequence[Sequence[Call]], patience: Patience) -> dict[Hashable, int]:
    """For each element, the first group of reads that hold it."""
    level: dict[Hashable, int] = {}
    last: frozenset[Hashable] = frozenset()
    for g, reads in enumerate(paced(chain, patience)):
        now = found(reads[0])
        for element in now - last:
            level[element] = g
        last = now
    return level


def unknown_elements(growth: Growth, level: Iterable[Hashable]) -> None:
    """Refuse elements that were seen and never added.

    Raises:
        ImpossibleError: There is one.
    """
    ghosts = [e for e in (*level, *growth.present) if not growth.adds.get(e)]
    if not ghosts:
        return
    strange = set(ghosts)
    witnesses = [
        *(read for read in growth.reads if not strange.isdisjoint(found(read))),
        *(call for e in ghosts for call in growth.present.get(e, ())),
    ]
    witness = min(witnesses, key=lambda call: call.returned)
    seen = {witness.operation.argument}
    if witness.operation.f == "read":
        seen = strange & found(witness)
    raise ImpossibleError(never_added(witness, min(seen, key=show)))


def out_of_rank(
    ranked: Sequence[Ranked], patience: Patience
) -> tuple[Call, Call] | None:
    """A call that returned before one of lower rank was invoked, or None."""
    # latest[i]: of the i calls with the lowest upper bounds, the last to be invoked.
    by_high = sorted(ranked, key=lambda one: one.high)
    latest: list[Call] = []
    for one in paced(by_high, patience):
        before = latest[-1] if latest else one.call
        latest.append(max(before, one.call, key=lambda call: call.invoked))
    worst: tuple[Call, Call] | None = None
    n = 0
    for one in paced(sorted(ranked, key=lambda one: one.low), patience):
        while n < len(by_high) and by_high[n].high < one.low:
            n += 1
        if n and one.call.returned < latest[n - 1].invoked:
            pair = one.call, latest[n - 1]
            if worst is None or pair[1].returned < worst[1].returned:
                worst = pair
    return worst


def out_of_turn(growth: Growth, patience: Patience) -> tuple[Call, Call] | None:
    """Two calls on one element, perhaps of one rank, in the wrong order; or None.

    The first of them returned before the second was invoked.
    """
    for element, adds in paced(growth.adds.items(), patience):
        first = min(adds, key=lambda call: call.invoked)
        present = growth.present.get(element, [])
        early = min(present, key=lambda call: call.returned, default=None)
        if early is not None and early.returned < first.invoked:
            return early, first
        late = max(
            growth.absent.get(element, []),
            key=lambda call: call.invoked,
            default=None,
        )
        if late is None:
            continue
        done = min([*adds, *present], key=lambda call: call.returned)
        if done.returned < late.invoked:
            return done, late
    return None


# What is wrong


def needs(call: Call, element: Hashable) -> bool | None:
    """Whether a call finds the element present, absent, or doesn't say."""
    f, argument, result = call.operation
    if f == "read":
        return element in found(call)
    if argument != element or (f == "add" and result is not False):
        return None
    if f == "contains":
        assert isinstance(result, bool)
        return result
    return f == "add"


def only(call: Call, elements: set[Hashable]) -> Call:
    """The call as if there were no other elements."""
    if call.operation.f != "read":
        return call
    return call._replace(operation=Operation("read", None, found(call) & elements))


def contradiction(early: Call, late: Call, growth: Growth) -> Conflict:
    """`early` returned before `late` was invoked, and ranks higher."""
    involved: dict[int, Call] = {early.position: early, late.position: late}
    elements: set[Hashable] = set()
    for call in (early, late):
        if call.operation.f != "read":
            elements.add(call.operation.argument)
    if early.operation.f == late.operation.f == "read":
        elements.add(min(found(early) - found(late), key=show))
    elif len(elements) == 2:
        # Some read holds the late one's element, and not the early one's.
        x, y = late.operation.argument, early.operation.argument
        between = next(r for r in growth.reads if x in found(r) and y not in found(r))
        involved[between.position] = between
    for element in elements:
        for call in growth.adds[element]:
            involved[call.position] = call
    calls = tuple(only(call, elements) for _, call in sorted(involved.items()))
    told = tuple(sorted(elements, key=show))
    return Conflict(OutOfRank(early, late, told), calls)


def twice(read: Call) -> Conflict:
    """A read holds an element twice."""
    return Conflict(Doubled(read), (read,))


def never_added(call: Call, element: Hashable) -> Conflict:
    """An element was found that nobody added."""
    return Conflict(Unknown(call, "add", element), (only(call, {element}),))


def incomparable(first: Call, second: Call) -> Conflict:
    """Each of two reads holds an element that the other lacks."""
    x = min(found(first) - found(second), key=show)
    y = min(found(second) - found(first), key=show)
    return Conflict(
        Incomparable(first, second, x, y),
        (only(first, {x, y}), only(second, {x, y})),
    )


# Sets that shrink


def by_element(
    calls: Sequence[Call], model: Model, patience: Patience
) -> Conflict | None:
    """What is wrong with some element, each judged by itself; or None."""
    elements: dict[Hashable, list[Call]] = defaultdict(list)
    for call in paced(calls, patience):
        elements[call.operation.argument].append(call)
    broken: list[list[Call]] = []
    for own in paced(elements.values(), patience):
        good = one_element(own, model, patience)
        if good is False:
            broken.append(own)
    if not broken:
        return None
    worst = min(broken, key=lambda own: max(c.returned for c in own))
    return misplaced(fewest(worst, model, patience))


def one_element(own: Sequence[Call], model: Model, patience: Patience) -> bool:
    """Whether the calls on one element have an order.

    Raises:
        LimitExceeded: Only a search can tell, and it ran out of patience.
    """
    adds = [c for c in own if changes(c, "add")]
    removes = [c for c in own if changes(c, "remove")]
    if len(adds) <= 1 and len(removes) <= 1:
        return added_once(own, adds, removes)
    outcome = search(own, model, patience)
    if outcome.linearizable is None:
        raise LimitExceeded(outcome.limit)
    return outcome.linearizable


def changes(call: Call, f: str) -> bool:
    """Whether the call may have changed whether the element is there."""
    return call.operation.f == f and call.operation.result is not False


def added_once(
    own: Sequence[Call], adds: Sequence[Call], removes: Sequence[Call]
) -> bool:
    """The thresholds: whether calls with at most one add and one remove fit."""
    present = [c for c in own if c.returned != NEVER and finds(c) is True]
    absent = [c for c in own if c.returned != NEVER and finds(c) is False]
    add = adds[0] if adds else None
    remove = removes[0] if removes else None
    for was_added in (True, False):
        if was_added and add is None:
            continue
        if not was_added and add is not None and add.returned != NEVER:
            continue
        kept = add if was_added else None
        if remove is None:
            if thresholds(kept, None, present, absent):
                return True
            continue
        if thresholds(kept, remove, present, absent):
            return True
        if remove.returned == NEVER and thresholds(kept, None, present, absent):
            return True
        if remove.operation.result is None and thresholds(
            kept, None, present, [*absent, remove]
        ):
            return True
    return False


def finds(call: Call) -> bool | None:
    """Whether a call that changes nothing found its element; None if it changes it."""
    f, _, result = call.operation
    if f == "contains":
        assert isinstance(result, bool)
        return result
    return f == "add" if result is False else None


def thresholds(
    add: Call | None,
    remove: Call | None,
    present: Sequence[Call],
    absent: Sequence[Call],
) -> bool:
    """Whether what was found fits `add` and then `remove`, if both took effect."""
    if add is None:
        return remove is None and not present
    gone_invoked, gone = (
        (NEVER, NEVER) if remove is None else (remove.invoked, remove.returned)
    )
    latest_add = min([add.returned, gone, *(c.returned for c in present)])
    earliest_remove = max([add.invoked, gone_invoked, *(c.invoked for c in present)])
    if add.invoked > latest_add or earliest_remove > gone:
        return False
    return latest_add >= earliest_remove or all(
        c.invoked < latest_add or c.returned > earliest_remove for c in absent
    )


def fewest(own: Sequence[Call], model: Model, patience: Patience) -> list[Call]:
    """Few of the calls on one element that still have no order.

    Calls that only find it are left out if possible. If patience ends early, more are
    kept than need be, but they have no order either.
    """
    kept = list(own)
    size = len(kept)
    while size:
        at = 0
        while at < len(kept):
            fewer = [
                c
                for n, c in enumerate(kept)
                if not at <= n < at + size or finds(c) is None
            ]
            if patience.exceeded():
                return kept
            try:
                good = len(fewer) == len(kept) or one_element(fewer, model, patience)
            except LimitExceeded:
                return kept
            if not good:
                kept = fewer
            else:
                at += size
        size //= 2
    return kept


def misplaced(own: Sequence[Call]) -> Conflict:
    """The calls on one element have no order."""
    last = max((c for c in own if c.returned != NEVER), key=lambda c: c.returned)
    element = last.operation.argument
    changing = [c for c in own if finds(c) is None]
    if not changing and finds(last):
        return never_added(last, element)
    others = tuple(call for call in own if call is not last)
    return Conflict(Misplaced(last, others, finds(last) is not None), tuple(own))
