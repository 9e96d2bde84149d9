"""Just-in-time linearization with five prunings: decides any model, in the end.

After Wing and Gong (1993), Lowe (2017) and Horn and Kroening (2015). The search walks
over the events of one key in order. Invocations open calls. At its return, a call must
have been linearized. If it was not, some open call is linearized now, and every choice
is tried, depth first. So a configuration is (event, which open calls are linearized
already, state), and no call is linearized before a return forces it.

What keeps that small:

1. **Memory** (Lowe): no configuration is explored twice. Live calls (those that return)
   share reusable slots, so a configuration costs one integer as wide as the number of
   clients, not as the history.
2. **Read-only closure**: a live call that is legal now and changes no state in any
   state where it is legal is linearized at once; postponing it can't help.
3. **Symmetry**: of open calls with equal operations only the one that returns first is
   tried; calls that never return come last, in order of invocation.
4. **Dominance**: of two configurations that differ only in which crashed calls (those
   that never return) they have spent, the one that spent a subset can do all that the
   other can. Nor is a crashed call worth spending that leaves the state as it is.
5. **Quotient**: states that no operation tells apart are one state (`quotient`).

Theory: linearizability of a register with repeated values is NP-complete (Gibbons and
Korach 1997), so the cost is exponential in the number of calls open at once in the
worst case, but linear in the history's length.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, Final

from checkers.linearizability.calls import KeyCalls
from checkers.linearizability.containers import FifoQueue, UnorderedQueue
from checkers.linearizability.learning import LearningSearch
from checkers.linearizability.lookahead import Lookahead
from checkers.linearizability.membership import Membership
from checkers.linearizability.outcome import (
    NODES_PER_BUDGET_CHECK,
    PARTIAL_TAIL,
    PARTIALS_MAX,
    Outcome,
)
from checkers.linearizability.problem import Problem
from checkers.linearizability.queues import QueueSearch
from checkers.linearizability.transitions import DEAD, UNCHANGED, Transitions
from checkers.linearizability.windows import Effort, clip, since

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from checkers.linearizability.budget import Patience
    from checkers.linearizability.calls import Call
    from checkers.linearizability.specification import Model

PLAIN_FIRST: Final = 100_000
"""Configurations that the plain search looks at first, if there is no lookahead."""

FIRST_PATIENCE: Final = 4
"""Turns that a search may be stuck before it begins again; each time twice as many."""

STUCK_MIN: Final = 8
"""Turns that a search must be stuck before it is tried whether that is in vain. Most
searches that end well begin again before, and had paid for the attempt with half of
their time."""

FIRST_WINDOW: Final = 16
"""Calls in the first window that is tried; then twice as many, and so on."""

Step = tuple[int, int, int]
"""A choice of a search: a call, its bit if it crashed or 0, and the next state."""

NOTHING_SPENT: Final = (0,)
"""The one set of spent crashed calls of most configurations: shared, to save memory."""


def search(
    calls: Sequence[Call],
    model: Model,
    budget: Patience,
    *,
    merge: bool = True,
    shared: Transitions | None = None,
) -> Outcome:
    """Decide whether `calls`, all on one object, are linearizable.

    Args:
        calls: The calls.
        model: What the object may do.
        budget: When to give up.
        merge: Use the quotient; without it, `Outcome.states` are real states.
        shared: A table of what the calls of all keys do, theirs among it.

    Cost: linear in the length, exponential in the calls open at once in the worst
    case; ends early, with `linearizable=None`, when `budget` is exceeded.
    """
    if (
        isinstance(calls, KeyCalls)
        and shared is not None
        and is_legal_by_return(calls, shared)
    ):
        start, stop = calls.rows
        order = calls.table.urgency[start : stop - calls.crashed] - start
        return Outcome.found(order.tolist(), 0, len(order) + len(calls))
    # A bag's real states are sets of all possible contents, which may be very many.
    if isinstance(model, UnorderedQueue) or (merge and isinstance(model, FifoQueue)):
        return QueueSearch(calls, model, budget).run()
    problem, table = pose(calls, model, shared, merge=merge)
    if problem.live == len(problem.names):
        return Search(problem, table, budget).run().renamed(problem.names)
    look = foresee(problem, table, model) if merge else None
    if look is None:
        # Without lookahead, learning mostly pays only if the plain search gets lost.
        first = Search(problem, table, Effort(budget, PLAIN_FIRST)).run()
        if first.linearizable is not None or budget.exceeded():
            return first.renamed(problem.names)
    searching = LearningSearch(problem, table, budget, look)
    return search_in_turns(searching, problem.names, calls, model, budget)


def is_legal_by_return(calls: KeyCalls, table: Transitions) -> bool:
    """Whether calls may have taken effect in the order in which they returned.

    That order respects real time, and crashed calls need not have happened. Many keys
    are decided by it, in a hundredth of the time that a search takes to get ready.
    """
    rows, kind_of = table.rows, table.kind_of
    row = rows[0]
    for operation in calls.by_return:
        after = row[kind_of[operation]]
        if after == DEAD:
            return False
        if after >= 0:
            row = rows[after]
    return True


def search_in_turns(
    searching: LearningSearch,
    names: Sequence[int],
    calls: Sequence[Call],
    model: Model,
    budget: Patience,
) -> Outcome:
    """Go on searching, begin again at times, or try to show that it is in vain.

    As the search goes depth first, an early choice is changed only after all later ones
    were tried. So if the search has been stuck at a return for long, the last calls
    before that return may be impossible from every state. To find out takes as much
    work again.
    """
    deepest, turns, window = -1, 0, Window(calls, model, budget)
    patience = FIRST_PATIENCE
    for event in searching.turns():
        turns += 1
        if event > deepest:
            deepest, turns, window = event, 0, Window(calls, model, budget)
        elif turns >= STUCK_MIN and turns.bit_count() == 1:
            so_far = searching.outcome.renamed(names)
            assert so_far.stuck is not None
            work = turns * NODES_PER_BUDGET_CHECK
            if window.is_impossible(calls[so_far.stuck], work):
                return so_far
        if turns >= patience:
            turns, patience = 0, 2 * patience
            searching.again = True
    return searching.outcome.renamed(names)


class Window:
    """The last calls before a return; more and more of them."""

    def __init__(self, calls: Sequence[Call], model: Model, budget: Patience) -> None:
        self.calls = calls
        self.model = model
        self.budget = budget
        self.count = FIRST_WINDOW

    def is_impossible(self, stuck: Call, work: int) -> bool:
        """Whether the last calls were found to be impossible from every state.

        Args:
            stuck: The call whose return it is.
            work: So many configurations may be looked at.
        """
        prefix = clip(self.calls, self.model, stuck.returned)
        invoked = sorted(call.invoked for call in prefix)
        effort = Effort(self.budget, work)
        while self.count < len(prefix):
            suffix = since(prefix, self.model, invoked[-self.count])
            problem, table = pose(suffix, self.model)
            look = foresee(problem, table, self.model)
            starts = look.starts() if look is not None else []
            if not starts:
                return False
            found = LearningSearch(problem, table, effort, look, starts).run()
            if found.linearizable is None:
                return False
            if not found.linearizable:
                return True
            self.count *= 2
        return False


def foresee(
    problem: Problem, table: Transitions, model: Model
) -> Lookahead | Membership | None:
    """The lookahead for the model; None if there is none."""
    return Lookahead.of(problem, table, model) or Membership.of(problem, table, model)


def pose(
    calls: Sequence[Call],
    model: Model,
    shared: Transitions | None = None,
    *,
    merge: bool = True,
) -> tuple[Problem, Transitions]:
    """What to search, and in which table; for the arguments see `search`."""
    problem = Problem.of(calls)
    if shared is not None:
        return problem, shared
    problem = problem.narrowed()
    return problem, Transitions(model, problem.operations, merge=merge)


class Search:
    """One depth-first search; see the module's docstring.

    Of two calls that return, the one with the lesser number returns first.

    `run` is one long function with one shape: walk to the next return that is not
    covered, close, remember, choose; when there is no choice left, back up. Its state
    lives in local variables, which is worth a factor of two here.
    """

    def __init__(self, problem: Problem, table: Transitions, budget: Patience) -> None:
        self.events = problem.events
        self.bits, self.width = problem.slots()
        self.kind_of = [table.kind_of[operation] for operation in problem.operation]
        self.table = table
        self.budget = budget
        # Crashed calls of each kind, as bits of `spent` in order of invocation.
        self.crashed: dict[int, int] = {}
        self.crashed_call = problem.crashed()
        for n, call in enumerate(self.crashed_call):
            kind = self.kind_of[call]
            self.crashed[kind] = self.crashed.get(kind, 0) | 1 << n

    def run(self) -> Outcome:
        """The search itself."""
        events, bits, width = self.events, self.bits, self.width
        kind_of, rows = self.kind_of, self.table.rows
        end = len(events)
        deepest = -1  # the return that no configuration got past
        states: set[int] = set()  # in which configurations stand before it
        partials: list[tuple[int, ...]] = []  # the ends of what they linearized
        # seen[configuration]: the sets of spent crashed calls it was explored with.
        seen: dict[int, tuple[int, ...]] = {}
        stack: list[tuple[int, int, int, int, list[int], int, list[Step]]] = []
        configurations = 0

        event = 0
        state = 0
        mask = 0  # slots of open live calls that are linearized
        spent = 0  # crashed calls that are linearized
        arrived = 0  # crashed calls invoked so far, as bits
        waiting: list[int] = []  # open live calls that are not linearized, by number
        order: list[int] = []  # the calls linearized so far

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
                return Outcome.found(order, configurations, end)

            # Read-only closure. Of the other calls, the most urgent of each kind is a
            # choice.
            row = rows[state]
            urgent: set[int] = set()
            choices: list[Step] = []
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
            if closed:
                order += closed
                for call in closed:
                    waiting.remove(call)
                if mask & bits[~i]:
                    continue

            if event > deepest:
                deepest, states, partials = event, {state}, []
            elif event == deepest:
                states.add(state)
            configurations += 1
            if configurations % NODES_PER_BUDGET_CHECK == 0 and (
                limit := self.budget.exceeded()
            ):
                return self.stopped(deepest, states, partials, configurations, limit)

            # Seen before, having spent no more? Then nothing new can come of it.
            key = (state * end + event) << width | mask
            explored = seen.get(key, ())
            for less in explored:
                if not less & ~spent:
                    break
            else:
                seen[key] = (*explored, spent) if explored or spent else NOTHING_SPENT
                choices.reverse()  # the most urgent one last
                if arrived:
                    choices = self.spare(state, arrived & ~spent, urgent) + choices
                if choices:
                    stack.append(
                        (event, mask, spent, arrived, waiting, len(order), choices)
                    )
                elif event == deepest and len(partials) < PARTIALS_MAX:
                    partials.append(tuple(order[-PARTIAL_TAIL:]))

            # Take the next choice of the deepest configuration that has one.
            while stack and not stack[-1][-1]:
                stack.pop()
            if not stack:
                return self.stopped(deepest, states, partials, configurations, "")
            event, mask, spent, arrived, waiting, depth, choices = stack[-1]
            call, bit, state = choices.pop()
            del order[depth:]
            order.append(call)
            mask |= bits[call]
            spent |= bit
            waiting = waiting.copy()
            if not bit:
                waiting.remove(call)

    def spare(self, state: int, free: int, urgent: Container[int]) -> list[Step]:
        """Choices among crashed calls: of each kind, the first that changes the state.

        Args:
            state: The present one.
            free: Crashed calls that were invoked and are not spent, as bits.
            urgent: Kinds of which a live call is tried already.
        """
        row = self.table.rows[state]
        choices = []
        for kind, members in self.crashed.items():
            members &= free
            if members and kind not in urgent:
                after = row[kind]
                if after >= 0 and after != state:
                    bit = members & -members
                    call = self.crashed_call[bit.bit_length() - 1]
                    choices.append((call, bit, after))
        return choices

    def stopped(
        self,
        deepest: int,
        states: set[int],
        partials: Sequence[tuple[int, ...]],
        configurations: int,
        limit: str,
    ) -> Outcome:
        """The outcome when no linearization was found."""
        reached = (self.table.states[s] for s in sorted(states))
        return Outcome.stopped(
            self.events, deepest, reached, partials, configurations, limit
        )
