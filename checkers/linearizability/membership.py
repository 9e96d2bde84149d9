"""What later operations of a set's history can still tell of its elements.

The three rules of `lookahead`, element by element. Whether an element is inside is a
register, which adds and removes write, and `contains` reads; a read of the whole set
reads all elements at once. An add or remove that told whether it changed something both
reads and writes.

1. **An element matters until it is overwritten for certain.** Let `h` be the least
   return of a change of the element that is invoked after event `e`. The element
   matters at `e` if some call looks at it that returns at `e` or later, and is invoked
   before `h`. Other elements count as absent.
2. **A change that no call can see takes effect at once**, as it leaves all other
   elements alone.
3. **Crashed calls come just before a call that needs them.** In a linear order, move
   each crashed change behind all calls that don't look at its element. Drop it if the
   next call that touches the element doesn't look. The crashed changes that are left
   stand in blocks, each before a call that looks, and do all that this call lacks.
4. **Some calls are lost.** A call that has to come next may lack an element that no
   open call and no crashed one can change. Then there is no order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from checkers.linearizability.containers import GrowOnlySet

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Hashable, Mapping, Sequence

    from checkers.linearizability.problem import Problem
    from checkers.linearizability.specification import Model
    from checkers.linearizability.transitions import Transitions

NO_STATE: Final = -1
"""In place of the state that stands for all others, which sets don't have."""

NOBODY: Final = -1
"""In place of the last event at which a change can be seen: no call can see it."""


class Everything:
    """Contains all states: every element matters."""

    def __contains__(self, _: object) -> bool:
        return True


EVERYTHING: Final = Everything()


class AllBut:
    """The states without elements that don't matter."""

    def __init__(self, lost: frozenset[Hashable], table: Transitions) -> None:
        self.lost = lost
        self._table = table

    def __contains__(self, state: object) -> bool:
        assert isinstance(state, int)
        held = self._table.states[state]
        return isinstance(held, frozenset) and held.isdisjoint(self.lost)


class Intervals:
    """Calls by when they were invoked, and by when they returned."""

    def __init__(self, calls: Sequence[tuple[int, int]], end: int) -> None:
        by_invocation = sorted(calls)
        self.invoked = [invoked for invoked, _ in by_invocation]
        # The least return of those from each place on, and the latest up to each.
        self.soonest = [end] * (len(calls) + 1)
        for n in range(len(calls) - 1, -1, -1):
            self.soonest[n] = min(self.soonest[n + 1], by_invocation[n][1])
        self.latest = [NOBODY]
        for _, returned in by_invocation:
            self.latest.append(max(self.latest[-1], returned))
        by_return = sorted((returned, invoked) for invoked, returned in calls)
        self.returned = [returned for returned, _ in by_return]
        self.first = [end] * (len(calls) + 1)
        for n in range(len(calls) - 1, -1, -1):
            self.first[n] = min(self.first[n + 1], by_return[n][1])

    def overwritten(self, event: int) -> int:
        """The least return of those that are invoked at an event or later."""
        return self.soonest[bisect_left(self.invoked, event)]

    def last_before(self, event: int) -> int:
        """The latest return of those that are invoked before an event."""
        return self.latest[bisect_left(self.invoked, event)]

    def first_until(self, event: int) -> int:
        """The first invocation of those that return at an event or later."""
        return self.first[bisect_left(self.returned, event)]


class Membership:
    """The rules for one set; the attributes are those of `Lookahead`."""

    apart = True

    def __init__(self, problem: Problem, table: Transitions) -> None:
        kinds = self._kinds = table.kinds
        self._kind_of = [table.kind_of[operation] for operation in problem.operation]
        self._table = table
        self._events = problem.events
        self.unseen = NO_STATE
        self.alive: list[Container[int]] = []
        self.blind = [
            kind.f in {"add", "remove"} and kind.result is None for kind in kinds
        ]
        end = len(problem.events)
        invoked, returned = problem.spans()
        changes: dict[Hashable, list[tuple[int, int]]] = defaultdict(list)
        looks: dict[Hashable, list[tuple[int, int]]] = defaultdict(list)
        reads: list[tuple[int, int]] = []
        for call in range(problem.live):
            kind = self._kind_of[call]
            f, element, result = kinds[kind]
            when = invoked[call], returned[call]
            if f == "read":
                reads.append(when)
                continue
            if not self.blind[kind]:
                looks[element].append(when)
            if f != "contains" and result is not False:
                changes[element].append(when)
        self._reads = Intervals(reads, end)
        none = Intervals([], end)
        elements = {*changes, *looks}
        self._changes = {
            each: Intervals(changes[each], end) if each in changes else none
            for each in elements
        }
        self._looks = {
            each: Intervals(looks[each], end) if each in looks else none
            for each in elements
        }
        self.seen_until = [end] * problem.live
        for call in range(problem.live):
            kind = self._kind_of[call]
            if self.blind[kind]:
                element = kinds[kind].argument
                until = self._changes[element].overwritten(returned[call] + 1)
                self.seen_until[call] = max(
                    self._looks[element].last_before(until),
                    self._reads.last_before(until),
                )
        # Kinds of crashed changes: by element, and whether they put it in.
        self._crashed: dict[tuple[Hashable, bool], list[int]] = defaultdict(list)
        for kind in dict.fromkeys(self._kind_of[call] for call in problem.crashed()):
            what = kinds[kind]
            if what.f in {"add", "remove"}:
                self._crashed[what.argument, what.f == "add"].append(kind)
        self._lacking: dict[tuple[int, int], Collection[tuple[Hashable, bool]]] = {}

    @staticmethod
    def of(problem: Problem, table: Transitions, model: Model) -> Membership | None:
        """The rules, or None for what is no set."""
        if not isinstance(model, GrowOnlySet):
            return None
        return Membership(problem, table)

    def starts(self) -> list[int]:
        """An empty list: too many states can be told apart."""
        return []

    def reach(self, event: int) -> None:
        """Find out which elements matter up to an event."""
        for at in range(len(self.alive), event + 1):
            first_read = self._reads.first_until(at)
            if self._events[at] >= 0 or first_read <= at:
                self.alive.append(EVERYTHING)
                continue
            lost = frozenset(
                element
                for element, looks in self._looks.items()
                if min(looks.first_until(at), first_read)
                >= self._changes[element].overwritten(at)
            )
            self.alive.append(AllBut(lost, self._table) if lost else EVERYTHING)

    def merged(self, state: int, event: int) -> int:
        """The state without what does not matter."""
        kept, held = self.alive[event], self._table.states[state]
        assert isinstance(kept, AllBut)
        assert isinstance(held, frozenset)
        return self._table.number(held - kept.lost)

    def unseen_writes(self, waiting: Sequence[int], event: int) -> list[int]:
        """The waiting calls whose change no call can see from `event` on."""
        until = self.seen_until
        return [n for n in waiting if until[n] < event]

    def useful(
        self,
        state: int,
        row: Mapping[int, int],
        waiting: Sequence[int],
        event: int,
        *,
        pressed: bool,
    ) -> Collection[int]:
        """The kinds of crashed calls that do what an open call lacks."""
        found: dict[int, None] = {}
        for call in waiting:
            kind = self._kind_of[call]
            if self.blind[kind]:
                continue
            lacking = self.lacking(state, kind)
            if all(each in self._crashed for each in lacking):
                for each in lacking:
                    found |= dict.fromkeys(self._crashed[each])
        return found

    def lacking(self, state: int, kind: int) -> Collection[tuple[Hashable, bool]]:
        """What has to change before a call that looks: (element, whether it enters)."""
        known = self._lacking.get((state, kind))
        if known is None:
            known = self._lacking[state, kind] = self._differences(state, kind)
        return known

    def _differences(self, state: int, kind: int) -> Collection[tuple[Hashable, bool]]:
        f, element, result = self._kinds[kind]
        held = self._table.states[state]
        assert isinstance(held, frozenset)
        if f == "read":
            if not isinstance(result, frozenset):
                return ()
            return [(each, each in result) for each in held ^ result]
        # An add that changed something found its element absent.
        wanted = result if f == "contains" else (f == "add") is not bool(result)
        return () if (element in held) is wanted else ((element, bool(wanted)),)

    def away(self, state: int, kind: int) -> int:
        """How many changes a call that looks lacks in a state."""
        return len(self.lacking(state, kind))

    def needed(self, state: int, waiting: Sequence[int], stuck: int) -> list[list[int]]:
        """For each element that only crashed calls can change, their kinds.

        Args:
            state: The present one.
            waiting: Open live calls.
            stuck: The kind of call that has to come now, or after some of them.
        """
        if self.blind[stuck]:
            return []
        lacking = self.lacking(state, stuck)
        if not lacking:
            return []
        offered = set()
        for call in waiting:
            f, element, result = self._kinds[self._kind_of[call]]
            if f in {"add", "remove"} and result is not False:
                offered.add((element, f == "add"))
        return [self._crashed.get(each, []) for each in lacking if each not in offered]
