"""Search that learns from its dead ends, for histories with crashed calls.

Like `search`, but for calls some of which never return. Each of these is a change that
may be spent once, whenever it is needed. The search is hard because it may turn out
much later that one was needed more elsewhere. So three prunings are added to the
memory, the read-only closure and the symmetry of `search`:

1. **Reasons** (nogoods, in constraint solvers). A configuration fails because too few
   crashed calls of some kinds are left; how many there are of all others does not
   matter. What is remembered is this reason: how many of which kinds have to be spent
   for it to fail. A configuration with the same event, mask and state that has spent
   those fails, too. If nothing was short, all of them fail. This includes dominance: a
   reason is never more than what was spent.
2. **Lookahead**, for registers (`lookahead`) and sets (`membership`): which state still
   matters, which open writes no call can see, and which crashed calls an open call
   could observe.
3. **Two orders, in turns.** One that fits at first may be hopeless later. So choices
   are tried by urgency, or by what lets the stuck call happen at once. Each order gets
   twice as long as the last time; then the search begins again in the other one, with
   all that it learned.

Where a reason comes from: a crashed call of some kind could go on from here, but all of
that kind that have been invoked are spent. So these are a reason. A dead end's reason
is all that is short there. If every choice at a configuration failed, it failed for all
their reasons together. A choice that spent a crashed call counts one less of its kind,
as the call was not spent before.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from checkers.linearizability.outcome import (
    NODES_PER_BUDGET_CHECK,
    PARTIAL_TAIL,
    PARTIALS_MAX,
    Outcome,
)
from checkers.linearizability.transitions import DEAD, UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from checkers.linearizability.budget import Patience
    from checkers.linearizability.lookahead import Lookahead
    from checkers.linearizability.membership import Membership
    from checkers.linearizability.problem import Problem
    from checkers.linearizability.transitions import Transitions

NEVER_SHORT: Final = (0,)
"""The reason of configurations that fail whatever is left: shared, to save memory."""

NOT_SHORT: Final = -1
"""In place of a reason: there is none."""

NO_CALL: Final = -1
"""In place of a call, where the choice is in which state to begin."""

NO_KEY: Final = -1
"""The key of what comes before all configurations."""


@dataclass(slots=True)
class Frame:
    """A configuration with choices left.

    Attributes:
        key: Event, mask and state, and whether a crashed call has yet to be observed.
        event, mask, spent, arrived, waiting: As in `LearningSearch.run`.
        depth: How many calls are linearized.
        choices: What is left to try: (call, its crashed bit or 0, next state).
        bit: The crashed bit of the choice that is being tried.
        reason: Why the choices so far failed, as crashed bits that must be spent.
    """

    key: int
    event: int
    mask: int
    spent: int
    arrived: int
    waiting: list[int]
    depth: int
    choices: list[tuple[int, int, int]]
    reason: int
    bit: int = 0


class LearningSearch:
    """One depth-first search; see the module's docstring, and `search.Search`.

    Args:
        problem: The calls, with crashed ones among them.
        table: What they do.
        budget: When to give up.
        look: The rules for the model; None for other models, and for real states.
        starts: The numbers of the states in which the calls may begin.

    Attributes:
        outcome: What it found, so far or in the end.
        again: Set this to begin again, with what was learned, in another order.
    """

    def __init__(
        self,
        problem: Problem,
        table: Transitions,
        budget: Patience,
        look: Lookahead | Membership | None,
        starts: Sequence[int] = (0,),
    ) -> None:
        self.events = problem.events
        self.bits, self.width = problem.slots()
        self.kind_of = [table.kind_of[operation] for operation in problem.operation]
        self.table = table
        self.budget = budget
        self.look = look
        self.starts = starts
        self.again = False
        self.outcome = Outcome(None)
        self.crashed_call = problem.crashed()
        # Crashed calls of each kind, as bits of `spent` in order of invocation; and by
        # each call the bit of the one of its kind before it, or 0.
        self.crashed: dict[int, int] = {}
        self.before: list[int] = []
        for n, call in enumerate(self.crashed_call):
            kind = self.kind_of[call]
            members = self.crashed.get(kind, 0)
            self.before.append(1 << members.bit_length() >> 1)
            self.crashed[kind] = members | 1 << n

    def run(self) -> Outcome:
        """Search until it is over."""
        for _ in self.turns():
            pass
        return self.outcome

    def turns(self) -> Iterator[int]:
        """The search itself: one long function, for the reason that `Search` gives.

        Yields:
            The deepest return reached, once per NODES_PER_BUDGET_CHECK configurations.
        """
        events, bits, width = self.events, self.bits, self.width
        kind_of, rows = self.kind_of, self.table.rows
        crashed, crashed_call, look = self.crashed, self.crashed_call, self.look
        end = len(events)
        deepest = -1  # the return that no configuration got past
        states: set[int] = set()  # in which configurations stand before it
        partials: list[tuple[int, ...]] = []  # the ends of what they linearized
        # failed[key]: the reasons why it did.
        failed: dict[int, tuple[int, ...]] = {}
        others = [(NO_CALL, 0, state) for state in self.starts[1:]]
        stack = [Frame(NO_KEY, 0, 0, 0, 0, [], 0, others.copy(), 0)]
        configurations = 0
        directed = look is not None  # which of two orders choices are tried in

        event = 0
        state = self.starts[0]
        mask = 0  # slots of open live calls that are linearized
        spent = 0  # crashed calls that are linearized
        arrived = 0  # crashed calls invoked so far, as bits
        waiting: list[int] = []  # open live calls that are not linearized, by number
        order: list[int] = []  # the calls linearized so far
        pressed = False  # whether the last one crashed, and is yet to be observed

        while True:
            # Walk to the next return whose call is not linearized yet.
            while event < end:
                i = events[event]
                if i >= 0:
                    if bits[i]:
                        insort(waiting, i)
                    else:
                        arrived = arrived << 1 | 1
                else:
                    bit = bits[~i]
                    if not mask & bit:
                        break
                    mask ^= bit
                event += 1
            else:
                self.outcome = Outcome.found(order, configurations, end)
                return

            if look is not None:
                if event > deepest:
                    look.reach(event)
                if state not in look.alive[event]:
                    state = look.merged(state, event)

            # Read-only closure; of what remains, the most urgent call of each kind.
            row = rows[state]
            urgent: set[int] = set()
            choices: list[tuple[int, int, int]] = []
            closed: list[int] = []
            for call in waiting:
                kind = kind_of[call]
                after = row[kind]
                if after >= 0:
                    if kind not in urgent:
                        urgent.add(kind)
                        choices.append((call, 0, after))
                elif after == UNCHANGED:
                    mask |= bits[call]
                    closed.append(call)
            unseen: list[int] = []
            if look is not None and (state == look.unseen or look.apart):
                unseen = look.unseen_writes(waiting, event)
                for call in unseen:
                    mask |= bits[call]
                closed += unseen
            if closed:
                pressed = False
                order += closed
                for call in closed:
                    waiting.remove(call)
                if unseen or mask & bits[~i]:
                    continue

            if event > deepest:
                deepest, states, partials = event, {state}, []
            elif event == deepest:
                states.add(state)
            configurations += 1
            if configurations % NODES_PER_BUDGET_CHECK == 0:
                limit = self.budget.exceeded()
                self.stopped(deepest, states, partials, configurations, limit)
                if limit:
                    return
                yield deepest
                if self.again:
                    self.again = False
                    directed = not directed
                    stack = [Frame(NO_KEY, 0, 0, 0, 0, [], 0, others.copy(), 0)]
                    event = mask = spent = arrived = 0
                    state, pressed = self.starts[0], False
                    waiting, order = [], []
                    continue

            key = ((state * end + event) << width | mask) << 1 | pressed
            for reason in failed.get(key, ()):
                if not reason & ~spent:
                    self.learn(stack[-1], reason)
                    break
            else:
                choices.reverse()  # the most urgent one last
                short = NOT_SHORT
                if look is not None and look.apart:
                    needed = look.needed(state, waiting, kind_of[~i])
                    short = self.shortage(needed, arrived & ~spent, arrived)
                if short != NOT_SHORT:
                    choices = []
                if pressed and look is not None:
                    choices = [c for c in choices if not look.blind[kind_of[c[0]]]]
                reason = max(short, 0)
                if arrived and short == NOT_SHORT:
                    useful: Iterable[int] = crashed
                    if look is not None:
                        useful = look.useful(
                            state, row, waiting, event, pressed=pressed
                        )
                    spare = []
                    for kind in useful:
                        here = crashed[kind] & arrived
                        after = row[kind]
                        if not here or kind in urgent or after < 0 or after == state:
                            continue
                        free = here & ~spent
                        if free:
                            bit = free & -free
                            crash = crashed_call[bit.bit_length() - 1]
                            spare.append((crash, bit, after))
                        else:
                            reason |= 1 << here.bit_length() >> 1
                    choices = spare + choices
                if directed:
                    self.direct(choices, ~i, arrived)
                if not choices and event == deepest and len(partials) < PARTIALS_MAX:
                    partials.append(tuple(order[-PARTIAL_TAIL:]))
                stack.append(
                    Frame(
                        key,
                        event,
                        mask,
                        spent,
                        arrived,
                        waiting,
                        len(order),
                        choices,
                        reason,
                    )
                )

            # Take the next choice of the deepest configuration that has one.
            while not stack[-1].choices:
                done = stack.pop()
                known = failed.get(done.key)
                if known is None:
                    failed[done.key] = (done.reason,) if done.reason else NEVER_SHORT
                else:
                    failed[done.key] = (*known, done.reason)
                if not stack:
                    self.stopped(deepest, states, partials, configurations, "")
                    return
                self.learn(stack[-1], done.reason)
            top = stack[-1]
            call, bit, state = top.choices.pop()
            event, mask, arrived = top.event, top.mask, top.arrived
            spent = top.spent | bit
            top.bit = bit
            pressed = bit > 0 and look is not None
            waiting = top.waiting.copy()
            if not bit and call != NO_CALL:
                waiting.remove(call)
            del order[top.depth :]
            if call == NO_CALL:
                continue
            mask |= bits[call]
            if look is not None and look.blind[kind_of[call]]:
                unseen = look.unseen_writes(waiting, event)
                for write in unseen:
                    mask |= bits[write]
                    waiting.remove(write)
                order += unseen
            order.append(call)

    def direct(
        self, choices: list[tuple[int, int, int]], stuck: int, arrived: int
    ) -> None:
        """The choices in the order of the second turn; the last one is tried first.

        Last come those that make the stuck call possible at once. Before these come
        other live calls, the most urgent one last. Before them come crashed calls,
        the kinds that were invoked most recently last: a call that takes effect after
        its client gave up mostly does so soon.
        """
        rows, kind_of, look = self.table.rows, self.kind_of, self.look
        wanted = kind_of[stuck]

        def rank(choice: tuple[int, int, int]) -> tuple[int, int]:
            call, bit, after = choice
            recent = (self.crashed[kind_of[call]] & arrived).bit_length() if bit else 0
            leads = 0
            if call != stuck and rows[after][wanted] == DEAD:
                leads = -1 if look is None else -look.away(after, wanted)
            return leads, recent - len(self.crashed_call) if bit else 1

        choices.sort(key=rank)

    def shortage(self, needed: Iterable[Sequence[int]], free: int, arrived: int) -> int:
        """The reason if no crashed call of some kind that is needed is left.

        Args:
            needed: Kinds, of which one is needed, for each thing that is.
            free: Crashed calls that are left.
            arrived: Crashed calls that were invoked.

        Returns:
            The reason, or NOT_SHORT if nothing is short.
        """
        for kinds in needed:
            members = [self.crashed[kind] for kind in kinds]
            if not any(some & free for some in members):
                reason = 0
                for some in members:
                    reason |= 1 << (some & arrived).bit_length() >> 1
                return reason
        return NOT_SHORT

    def learn(self, parent: Frame, reason: int) -> None:
        """Add why the choice that was tried last failed."""
        bit = parent.bit
        if bit and reason:
            kind = self.kind_of[self.crashed_call[bit.bit_length() - 1]]
            same = reason & self.crashed[kind]
            if same:
                reason ^= same
                reason |= self.before[same.bit_length() - 1]
        parent.reason |= reason

    def stopped(
        self,
        deepest: int,
        states: set[int],
        partials: list[tuple[int, ...]],
        configurations: int,
        limit: str,
    ) -> None:
        """Set the outcome for when no linearization was found so far."""
        reached = (self.table.states[s] for s in sorted(states))
        self.outcome = Outcome.stopped(
            self.events, deepest, reached, partials, configurations, limit
        )
