"""Orders to look at: one of a key that has any, and how far orders of a broken key get.

A search decides. Here its answer is made visible: which operation took effect when, and
what the object was like after each. Nothing here changes a verdict.

A broken key has a first return that no order gets past (`Outcome.stuck`). Its longest
orders hold all calls that had returned before, and end in one of the states that the
object may have been in then. There may be a great many of them. What the operation that
can't be placed is held against is the state, so one order is shown for each state.

They are found breadth first: a *frontier* of configurations walks over the events of
the key, as in just-in-time linearization (`search`), with the same prunings. Each
configuration knows the one that it came from. So all states are found, and to each an
order that needs few of the calls whose return nobody saw by then. If that takes too
long, states that no operation tells apart are one; then not all are found.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from checkers.linearizability.budget import LimitExceeded, insist, paced
from checkers.linearizability.problem import Problem
from checkers.linearizability.search import search
from checkers.linearizability.specification import ILLEGAL
from checkers.linearizability.transitions import UNCHANGED, Transitions
from checkers.linearizability.windows import Effort, clip
from harness.verdict import Orders, Placed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checkers.linearizability.budget import Patience
    from checkers.linearizability.calls import Call
    from checkers.linearizability.specification import Model

ORDERS_MAX: Final = 4
"""Orders of a broken key that are shown."""

SEARCH_MAX: Final = 1_000_000
"""Configurations that the search for an order may look at: seconds."""

FRONTIER_MAX: Final = 100_000
"""Configurations that the frontier may hold, in sum over all events: half a second."""


class Found(NamedTuple):
    """The orders of the calls on one key.

    Attributes:
        orders: Positions in the given calls: an order of all that returned, or, of a
            broken key, of those that returned before `stuck` did. Calls whose return
            nobody saw by then are in it if they took effect.
        stuck: The call with whose return the key ceases to have an order, if it does.
        states: In how many states such orders may end; 0 if nobody counted them.
    """

    orders: tuple[tuple[int, ...], ...]
    stuck: int | None = None
    states: int = 1


Chain = tuple["Chain", int] | None
"""The calls that a configuration placed, the last one first: cheap to share."""


class Config(NamedTuple):
    """Where an order may have got to.

    Attributes:
        state: Its number in the table.
        placed: Which open live calls are in the order, by the bits of their slots.
        spent: How many crashed calls of each kind are in it.
        chain: All calls in it.
    """

    state: int
    placed: int
    spent: tuple[int, ...]
    chain: Chain


def find(calls: Sequence[Call], model: Model, patience: Patience) -> Found | None:
    """Orders of `calls`, all on one object; None if that takes too long.

    Cost: as of `search`, within SEARCH_MAX, and FRONTIER_MAX for a broken key.
    """
    outcome = search(calls, model, Effort(patience, SEARCH_MAX))
    if outcome.linearizable:
        return Found((outcome.order,))
    if outcome.linearizable is None:
        return None
    assert outcome.stuck is not None
    stuck = calls[outcome.stuck]
    prefix = clip(calls, model, stuck.returned)
    place = {call.position: n for n, call in enumerate(calls)}

    def named(order: Sequence[int]) -> tuple[int, ...]:
        return tuple(place[prefix[n].position] for n in order)

    for merge in (False, True):
        effort = Effort(patience, FRONTIER_MAX)
        ends = Frontier(prefix, model, effort, merge=merge).ends()
        if ends is not None:
            few = tuple(map(named, ends[:ORDERS_MAX]))
            return Found(few, outcome.stuck, 0 if merge else len(ends))
    # There are too many to hold them all, but one is better than none.
    prefix = [call for call in prefix if call.position != stuck.position]
    one = search(prefix, model, Effort(patience, SEARCH_MAX))
    return Found((named(one.order),), outcome.stuck, 0) if one.linearizable else None


def shown(key: Any, calls: Sequence[Call], model: Model, patience: Patience) -> Orders:
    """The orders of a key, with the states of the object in them."""
    initial = model.shows(model.initial)
    try:
        insist(patience)
        found = find(calls, model, patience)
        if found is None:
            why = f"{len(calls):,} operations are too many to be put in order in time"
            return Orders(key, len(calls), initial, why=why)
        orders = tuple(
            tuple(replayed(calls, order, model, patience)) for order in found.orders
        )
    except LimitExceeded as limit:
        return Orders(key, len(calls), initial, why=str(limit))
    stuck = None if found.stuck is None else calls[found.stuck].position
    return Orders(key, len(calls), initial, orders, stuck, found.states)


def replayed(
    calls: Sequence[Call], order: Sequence[int], model: Model, patience: Patience
) -> Iterator[Placed]:
    """The calls of an order, with the state after each.

    Raises:
        LimitExceeded: `patience` came to its end.
    """
    state, text = model.initial, model.shows(model.initial)
    for n in paced(order, patience):
        after = model.step(state, calls[n].operation)
        assert after is not ILLEGAL, calls[n]
        if after != state:
            state, text = after, model.shows(after)
        yield Placed(calls[n].position, text)


class Frontier:
    """All configurations in which orders may stand, event by event.

    Args:
        calls: Calls on one object that have no order.
        model: What the object may do.
        effort: When to give up.
        merge: Take states for one that no operation tells apart (`quotient`).
    """

    def __init__(
        self, calls: Sequence[Call], model: Model, effort: Effort, *, merge: bool
    ) -> None:
        problem = Problem.of(calls).narrowed()
        self.table = Transitions(model, problem.operations, merge=merge)
        self.kind_of = [self.table.kind_of[n] for n in problem.operation]
        self.bits, _ = problem.slots()
        self.events = problem.events
        self.names = problem.names
        self.live = problem.live
        self.effort = effort
        # Crashed calls that were invoked, of each kind, in order of invocation.
        kinds = dict.fromkeys(self.kind_of[call] for call in problem.crashed())
        self.crashed: dict[int, list[int]] = {kind: [] for kind in kinds}
        self.open: list[int] = []  # live calls, the one that returns first first

    def ends(self) -> list[tuple[int, ...]] | None:
        """For each state that orders end in, an order; None if that takes too long.

        Those that place the fewest calls come first.
        """
        frontier = [Config(0, 0, (0,) * len(self.crashed), None)]
        for event in self.events:
            if event >= self.live:
                self.crashed[self.kind_of[event]].append(event)
            elif event >= 0:
                self.open.append(event)
                self.open.sort()
            else:
                self.effort.spend(len(frontier))
                past, seen = self.past(~event, frontier)
                if self.effort.spent_by():
                    return None
                if not past:
                    return self.by_state(seen)
                frontier = past
                self.open.remove(~event)
        raise AssertionError("these calls have an order")

    def past(
        self, returning: int, frontier: Sequence[Config]
    ) -> tuple[list[Config], list[Config]]:
        """Which configurations get past a return, and all that were tried for it.

        Of those that differ only in the crashed calls that they spent, whoever spent
        fewer can do all that the others can.
        """
        bit = self.bits[returning]
        explored: dict[tuple[int, int], list[tuple[int, ...]]] = {}
        past: list[Config] = []
        seen: list[Config] = []
        todo = deque(frontier)
        while todo and not self.effort.spent_by():
            config = self.closed(todo.popleft())
            known = explored.setdefault((config.state, config.placed), [])
            if any(covers(less, config.spent) for less in known):
                continue
            known.append(config.spent)
            if config.placed & bit:
                past.append(config._replace(placed=config.placed & ~bit))
                continue
            seen.append(config)
            self.effort.spend(1)
            todo += self.choices(config)
        return past, seen

    def closed(self, config: Config) -> Config:
        """The configuration with all reads that are legal in its state."""
        row = self.table.rows[config.state]
        placed, chain = config.placed, config.chain
        for call in self.open:
            if not placed & self.bits[call] and row[self.kind_of[call]] == UNCHANGED:
                placed |= self.bits[call]
                chain = (chain, call)
        return config._replace(placed=placed, chain=chain)

    def choices(self, config: Config) -> Iterator[Config]:
        """What comes of each open call that may be next; one of those that are alike.

        A crashed call of whose kind a live one is open is not worth spending, nor is
        one that leaves the state as it is.
        """
        row = self.table.rows[config.state]
        tried: set[int] = set()
        for call in self.open:
            kind = self.kind_of[call]
            if config.placed & self.bits[call] or kind in tried:
                continue
            after = row[kind]
            if after >= 0:
                tried.add(kind)
                placed = config.placed | self.bits[call]
                yield Config(after, placed, config.spent, (config.chain, call))
        for n, (kind, members) in enumerate(self.crashed.items()):
            used = config.spent[n]
            if used == len(members) or kind in tried:
                continue
            after = row[kind]
            if after >= 0 and after != config.state:
                spent = (*config.spent[:n], used + 1, *config.spent[n + 1 :])
                chain = (config.chain, members[used])
                yield Config(after, config.placed, spent, chain)

    def by_state(self, configs: Sequence[Config]) -> list[tuple[int, ...]]:
        """An order to each state, of the fewest calls."""
        orders: dict[int, tuple[int, ...]] = {}
        for config in configs:
            order = tuple(self.names[call] for call in linked(config.chain))
            if len(order) < len(orders.get(config.state, (*order, 0))):
                orders[config.state] = order
        return sorted(orders.values(), key=len)


def covers(less: Sequence[int], more: Sequence[int]) -> bool:
    """Whether no more calls of any kind are spent than by the other."""
    return all(a <= b for a, b in zip(less, more, strict=True))


def linked(chain: Chain) -> list[int]:
    """The calls of a chain, the first one first."""
    calls: list[int] = []
    while chain is not None:
        chain, call = chain
        calls.append(call)
    return calls[::-1]
