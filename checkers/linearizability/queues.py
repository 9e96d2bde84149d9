"""Search over a queue's or bag's dequeues: values repeat, and calls crashed.

Like `search`, but enqueues are put in order only when a dequeue tells which of them it
took. An enqueue fits any state. So when it returns, the plain search has to guess its
place among the enqueues open beside it, and learns whether the guess was right only
when all that was in the queue then has been dequeued. Here a state is the set of
enqueues that are taken.

A queue's history is linearizable iff its enqueues and its dequeues can each be put in
an order that respects real time, such that the k-th dequeue takes the value of the k-th
enqueue, and no dequeue returns before its enqueue, or an earlier one, is invoked. A
dequeue that found nothing divides both orders (CHECKERS.md, section 6). Proof: a cycle
of these orders and real time needs an edge from a dequeue to an enqueue; that is one of
real time, or leads over a dequeue that found nothing.

So a configuration consists of the next return of a dequeue that has no place in the
order yet, the open dequeues that have one, the enqueues that are taken, and how many
crashed dequeues are spent.

1. **Which enqueue.** A dequeue takes an enqueue of its value that is invoked by now.
   Enqueues that had returned before that one was invoked are *in its way*: they must
   have been taken before, or crashed dequeues take them now. If one of two enqueues
   returns no later than the other and has no more in its way, it is as good (exchange
   the two). So mostly there is one to try. Crashed enqueues, which never return, come
   last.
2. **When crashed dequeues take something.** They do so only when it is in the way of
   the next dequeue, or of a dequeue that found nothing. Otherwise they may as well come
   later, or never.
3. **Bags.** A dequeue may take any value, so nothing is in its way. But when a dequeue
   found the bag empty, every enqueue must have been taken that certainly came before:
   that returned before this dequeue was invoked, or before any call was invoked that
   has its place already. When a priority queue gives out a value, the same holds for
   the enqueues of better values.
4. **Memory and dominance**, as in `search`: a configuration fails if one failed that
   had taken the same enqueues and spent fewer crashed calls.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from checkers.linearizability.calls import Call
from checkers.linearizability.containers import (
    EMPTY,
    UNKNOWN,
    FifoQueue,
    PriorityQueue,
    UnorderedQueue,
    rank,
)
from checkers.linearizability.outcome import (
    NODES_PER_BUDGET_CHECK,
    PARTIAL_TAIL,
    PARTIALS_MAX,
    Outcome,
)
from checkers.linearizability.problem import Problem
from checkers.linearizability.specification import Operation

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from checkers.linearizability.budget import Patience

NOTHING: Final = -1
"""In place of an enqueue: the dequeue found nothing."""


class Choice(NamedTuple):
    """A dequeue that may come next.

    Attributes:
        dequeue: Its number.
        enqueue: What it takes, or NOTHING.
        skipped: Enqueues in the way, and the crashed dequeue that takes each.
    """

    dequeue: int
    enqueue: int
    skipped: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Frame:
    """A configuration with choices left; see `QueueSearch.run` for the rest.

    Attributes:
        depth: How many dequeues have a place.
        choices: What is left to try, the best last.
    """

    event: int
    mask: int
    taken: int
    spent: int
    latest: int
    waiting: list[int]
    depth: int
    choices: list[Choice]


class QueueSearch:
    """One depth-first search; see the module's docstring.

    Sets of calls are integers with a bit for each call's number, so that the lowest one
    is that of the call which returns first.
    """

    def __init__(
        self, calls: Sequence[Call], model: FifoQueue | UnorderedQueue, budget: Patience
    ) -> None:
        first = min((call.invoked for call in calls), default=0)
        held = contents(model)
        self.sorts = isinstance(model, FifoQueue)
        self.held = len(held)  # calls that stand for what the queue began with
        start = first - 2 * self.held
        begun = [
            Call(Operation(model.insert, item), start + 2 * n, start + 2 * n + 1, -1)
            for n, item in enumerate(held)
        ]
        self.problem = Problem.of([*begun, *calls] if begun else calls)
        self.events = self.problem.events
        self.budget = budget
        operations = [self.problem.operations[n] for n in self.problem.operation]
        self.enqueued = [operation.f == model.insert for operation in operations]
        self.value = [
            operation.argument if operation.f == model.insert else operation.result
            for operation in operations
        ]
        self.invoked, self.returned = self.problem.spans()
        enqueues = [call for call, is_one in enumerate(self.enqueued) if is_one]
        self.live = sum(1 << call for call in enqueues if call < self.problem.live)
        self.of_value: dict[object, int] = {}
        for call in enqueues:
            value = self.value[call]
            self.of_value[value] = self.of_value.get(value, 0) | 1 << call
        # Enqueues by invocation, and the set of the first so many.
        enqueues.sort(key=self.invoked.__getitem__)
        self.begun_at = [self.invoked[call] for call in enqueues]
        self.begun = sets_of_first(enqueues)
        # Live enqueues by return, likewise.
        done = [call for call in enqueues if call < self.problem.live]
        done.sort()
        self.done_at = [self.returned[call] for call in done]
        self.done = sets_of_first(done)
        # Crashed dequeues by what they took.
        self.takers: dict[object, int] = {}
        for call in self.problem.crashed():
            if not self.enqueued[call] and self.value[call] is not EMPTY:
                value = self.value[call]
                self.takers[value] = self.takers.get(value, 0) | 1 << call
        self.is_found_empty = EMPTY in self.value
        # Live enqueues that may not be inside when a value leaves, or nothing is found.
        self.better: dict[object, int] = {EMPTY: self.live}
        if isinstance(model, PriorityQueue):
            ahead = 0
            for _, values in groupby(sorted(self.of_value, key=rank), rank):
                level = 0
                for value in values:
                    self.better[value] = ahead
                    level |= self.of_value[value]
                ahead |= level & self.live
        # Whether it matters when dequeues were invoked.
        self.has_walls = self.is_found_empty or len(self.better) > 1

    def run(self) -> Outcome:
        """The search itself."""
        events, end = self.events, len(self.events)
        deepest = -1  # the return that no configuration got past
        partials: list[tuple[int, ...]] = []  # the ends of what they put in order
        # seen[configuration]: crashed calls that it was explored with.
        seen: dict[tuple[int, int, int], tuple[int, ...]] = {}
        stack: list[Frame] = []
        configurations = 0

        event = 0
        mask = 0  # open dequeues that have their place
        taken = 0  # enqueues that have theirs
        spent = 0  # crashed dequeues that took something
        latest = -1  # when the last of the dequeues that have a place was invoked
        waiting: list[int] = []  # open live dequeues that have none
        order: list[Choice] = []

        while True:
            # Walk to the next return of a dequeue that has no place yet.
            while event < end:
                call = events[event]
                if call >= 0:
                    if not self.enqueued[call] and call < self.problem.live:
                        waiting.append(call)
                elif not self.enqueued[~call]:
                    if not mask >> ~call & 1:
                        break
                    mask ^= 1 << ~call
                event += 1
            else:
                found = self.in_order(order)
                return self.renamed(Outcome.found(found, configurations, end))

            # A dequeue that found nothing comes at once if nothing is in its way.
            untaken = self.live & ~taken
            closed = [
                call
                for call in waiting
                if self.value[call] is EMPTY
                and not untaken & self.done_by(max(self.invoked[call], latest))
            ]
            if closed:
                for call in closed:
                    mask |= 1 << call
                    latest = max(latest, self.invoked[call])
                    waiting.remove(call)
                    order.append(Choice(call, NOTHING, ()))
                continue

            if event > deepest:
                deepest, partials = event, []
            configurations += 1
            if configurations % NODES_PER_BUDGET_CHECK == 0 and (
                limit := self.budget.exceeded()
            ):
                return self.stopped(deepest, partials, configurations, limit)

            key = (event, mask, taken & self.live)
            used = spent | taken & ~self.live
            explored = seen.get(key, ())
            if all(less & ~used for less in explored):
                seen[key] = (*explored, used)
                choices = list(self.choices(waiting, event, taken, spent, latest))
                if choices:
                    choices.reverse()
                    choices.sort(key=lambda choice: -len(choice.skipped))
                    stack.append(
                        Frame(
                            event,
                            mask,
                            taken,
                            spent,
                            latest,
                            waiting,
                            len(order),
                            choices,
                        )
                    )
                elif event == deepest and len(partials) < PARTIALS_MAX:
                    last = [choice.dequeue for choice in order[-PARTIAL_TAIL:]]
                    partials.append(tuple(last))

            while stack and not stack[-1].choices:
                stack.pop()
            if not stack:
                return self.stopped(deepest, partials, configurations, "")
            top = stack[-1]
            choice = top.choices.pop()
            event, mask, taken, spent = top.event, top.mask, top.taken, top.spent
            latest = max(top.latest, self.invoked[choice.dequeue])
            waiting = top.waiting.copy()
            waiting.remove(choice.dequeue)
            mask |= 1 << choice.dequeue
            for enqueue, taker in choice.skipped:
                taken |= 1 << enqueue
                spent |= 1 << taker
                latest = max(latest, self.invoked[taker])
                if not self.sorts:
                    latest = max(latest, self.invoked[enqueue])
            if choice.enqueue != NOTHING:
                taken |= 1 << choice.enqueue
                if not self.sorts:
                    latest = max(latest, self.invoked[choice.enqueue])
            del order[top.depth :]
            order.append(choice)

    def choices(
        self, waiting: Sequence[int], event: int, taken: int, spent: int, latest: int
    ) -> Iterator[Choice]:
        """The dequeues that may come next, the most urgent first.

        Of dequeues that took equal values, the most urgent stands for all. That is not
        so if something was found empty: then one that was invoked earlier leaves more
        room.
        """
        met: dict[object, int] = {}
        for call in sorted(waiting):
            value = self.value[call]
            if value is EMPTY:
                yield from self.walled(
                    Choice(call, NOTHING, ()), event, taken, spent, latest
                )
                continue
            since = met.get(value)
            if since is not None and (since < self.invoked[call] or not self.has_walls):
                continue
            met[value] = self.invoked[call]
            yield from self.takes(call, event, taken, spent, latest)

    def takes(
        self, call: int, event: int, taken: int, spent: int, latest: int
    ) -> Iterator[Choice]:
        """What a dequeue that is to come next may have taken."""
        begun = self.begun[bisect_left(self.begun_at, event)]
        candidates = self.of_value.get(self.value[call], 0) & ~taken & begun
        untaken = self.live & ~taken
        best = len(self.events) + 1
        while candidates:
            bit = candidates & -candidates
            candidates ^= bit
            enqueue = bit.bit_length() - 1
            if not self.sorts:
                if self.invoked[enqueue] < best:
                    best = self.invoked[enqueue]
                    choice = Choice(call, enqueue, ())
                    yield from self.walled(choice, event, taken, spent, latest)
                if not self.has_walls:
                    return
                continue
            in_the_way = untaken & self.done_by(self.invoked[enqueue])
            count = in_the_way.bit_count()
            if count < best:
                best = count
                for skipped in self.skips(in_the_way, event, spent):
                    yield Choice(call, enqueue, skipped)
                if not count:
                    return

    def walled(
        self, choice: Choice, event: int, taken: int, spent: int, latest: int
    ) -> Iterator[Choice]:
        """Which crashed dequeues take out what must not be inside for this dequeue.

        These are the better values whose enqueue returned before this dequeue was
        invoked, or before any call was invoked that has its place already.
        """
        better = self.better.get(self.value[choice.dequeue], 0) & ~taken
        since = max(self.invoked[choice.dequeue], latest)
        if choice.enqueue != NOTHING:
            since = max(since, self.invoked[choice.enqueue])
        tried: set[int] = set()
        todo = [since]
        while todo:
            since = todo.pop()
            in_the_way = better & self.done_by(since)
            if in_the_way in tried:
                continue
            tried.add(in_the_way)
            for skipped in self.skips(in_the_way, event, spent):
                last = max([since, *(self.invoked[taker] for _, taker in skipped)])
                if better & self.done_by(last) == in_the_way:
                    yield choice._replace(skipped=skipped)
                else:
                    todo.append(last)

    def skips(
        self, in_the_way: int, event: int, spent: int
    ) -> Iterator[tuple[tuple[int, int], ...]]:
        """Pairs of an enqueue that is in the way and a crashed dequeue that takes it.

        Crashed dequeues of a kind are spent in order of invocation. One that is known
        to have taken that value is good for nothing else, so it is spent first; but if
        something was found empty, it may have been invoked too late.
        """
        if not in_the_way:
            yield ()
            return
        bit = in_the_way & -in_the_way
        enqueue = bit.bit_length() - 1
        for kind in (self.value[enqueue], UNKNOWN):
            free = self.takers.get(kind, 0) & ~spent
            if not free:
                continue
            taker = (free & -free).bit_length() - 1
            if self.invoked[taker] >= event:
                continue
            for rest in self.skips(in_the_way ^ bit, event, spent | 1 << taker):
                yield ((enqueue, taker), *rest)
            if not self.has_walls:
                return

    def done_by(self, event: int) -> int:
        """The enqueues that had returned before an event."""
        return self.done[bisect_left(self.done_at, event)]

    def in_order(self, order: Sequence[Choice]) -> list[int]:
        """All calls that have a place, in a linear order.

        Each dequeue comes after its enqueue, and after all that returned before it was
        invoked, and each enqueue after those before it in their order.
        """
        takes: list[tuple[int, int]] = []
        for choice in order:
            skipped = list(choice.skipped)
            if len(self.better) > 1:  # the best leaves first
                skipped.sort(key=lambda each: rank(self.value[each[0]]))
            takes += [(taker, enqueue) for enqueue, taker in skipped]
            takes.append((choice.dequeue, choice.enqueue))
        if not self.sorts:
            return self.in_any_order(takes)
        line = [enqueue for _, enqueue in takes if enqueue != NOTHING]
        placed = set(line)
        line += [
            call
            for call in range(self.problem.live)
            if self.enqueued[call] and call not in placed
        ]
        place = {call: n for n, call in enumerate(line)}
        # Where in `line` the last one stands that returned by then.
        by_return = sorted((self.returned[call], n) for call, n in place.items())
        out: list[int] = []
        put = due = seen = 0
        for dequeue, enqueue in takes:
            while seen < len(line) and by_return[seen][0] < self.invoked[dequeue]:
                due = max(due, by_return[seen][1] + 1)
                seen += 1
            if enqueue != NOTHING:
                due = max(due, place[enqueue] + 1)
            out += line[put:due]
            put = max(put, due)
            out.append(dequeue)
        return out + line[put:]

    def in_any_order(self, takes: Sequence[tuple[int, int]]) -> list[int]:
        """All calls of a bag that have a place, in a linear order.

        Before each dequeue come the enqueues that returned before it was invoked.
        """
        live = [call for call in range(self.problem.live) if self.enqueued[call]]
        line: dict[int, None] = {}
        seen = 0
        for dequeue, enqueue in takes:
            due = self.invoked[dequeue]
            if enqueue != NOTHING:
                due = max(due, self.invoked[enqueue])
            while seen < len(live) and self.returned[live[seen]] < due:
                line[live[seen]] = None  # unless it came earlier
                seen += 1
            if enqueue != NOTHING:
                line[enqueue] = None
            line[dequeue] = None
        line |= dict.fromkeys(live)
        return list(line)

    def stopped(
        self,
        deepest: int,
        partials: Sequence[tuple[int, ...]],
        configurations: int,
        limit: str,
    ) -> Outcome:
        """The outcome when no order was found."""
        return self.renamed(
            Outcome.stopped(self.events, deepest, (), partials, configurations, limit)
        )

    def renamed(self, outcome: Outcome) -> Outcome:
        """The outcome in terms of the calls that were given."""
        outcome = outcome.renamed([name - self.held for name in self.problem.names])
        if not self.held:
            return outcome
        return replace(
            outcome,
            order=tuple(call for call in outcome.order if call >= 0),
            reached=max(outcome.reached - 2 * self.held, 0),
            events=outcome.events - 2 * self.held,
        )


def contents(model: FifoQueue | UnorderedQueue) -> list[Hashable]:
    """What a queue or bag begins with."""
    if isinstance(model, FifoQueue):
        assert isinstance(model.initial, tuple)
        return list(model.initial)
    assert isinstance(model.initial, frozenset)
    [held] = model.initial
    return [item for item, count in held for _ in range(count)]


def sets_of_first(calls: Sequence[int]) -> list[int]:
    """For each n the set of the first n calls."""
    out = [0]
    for call in calls:
        out.append(out[-1] | 1 << call)
    return out
