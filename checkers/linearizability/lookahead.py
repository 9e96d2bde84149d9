"""What later operations of a register's history can still tell of its state.

For histories with many crashed calls (those that nobody saw return), each of which may
change the register at any later time. Most of these changes would be overwritten before
anybody could tell, and need not be tried. Three rules, all about *named* values: what a
read returned, or what a cas or a refused cas compared with.

1. **A state matters until it is overwritten for certain.** Let a write or cas that
   returned be invoked after event `e`, and return at `h`, the least such return. Who is
   invoked after `h` does not see the state of event `e` any more. So the state at `e`
   matters only if its value is named by a live call (one that returns) that returns at
   `e` or later and is invoked before `h`, or by a crashed cas, invoked before `h`, that
   makes a value that matters. All other values are one state, UNOBSERVED.
2. **A write that nobody can see is got over with.** From some event on nobody is left
   who could see what an open write writes, even if it comes as late as it may. It then
   takes effect just before the next other write, or at once while the state does not
   matter, and changes nothing for anybody.
3. **A crashed call is worth it only for the next one.** In a linear order, drop every
   crashed call that the next call does not observe, as a read, a cas or a refused cas
   does: what follows is as legal as before. So a crashed call is tried only if somebody
   open can observe it, and only a call that observes comes next.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from checkers.linearizability.specification import UNOBSERVED
from checkers.linearizability.transitions import DEAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from checkers.linearizability.problem import Problem
    from checkers.linearizability.specification import Model, Operation
    from checkers.linearizability.transitions import Transitions

REGISTER: Final = frozenset({"read", "write", "cas", "cas-mismatch"})
"""The operations that the rules are about."""

NOBODY: Final = -1
"""The last event at which somebody can see a value that nobody can see."""


def named_value(operation: Operation) -> object:
    """The value that a read, a cas or a refused cas names."""
    return operation.result if operation.f == "read" else operation.argument


class Lookahead:
    """The rules for one register.

    Attributes:
        alive: For each return, as far as `reach` was asked for, the numbers of the
            states that matter just before it; empty for invocations.
        unseen: The number of the state that stands for all others.
        blind: Whether a kind of operation writes without looking.
        refusing: Whether a kind is a refused cas.
        names: By kind, the number of the state that it names; NOBODY for writes.
        seen_until: By live call, for writes: the last event, by which everybody has
            returned who could see what it writes.
        onward: The states that a crashed cas could lead on from.
    """

    def __init__(self, problem: Problem, table: Transitions) -> None:
        kinds = table.kinds
        kind_of = [table.kind_of[operation] for operation in problem.operation]
        self.unseen = table.number(UNOBSERVED)
        self.blind = [kind.f == "write" for kind in kinds]
        self.refusing = [kind.f == "cas-mismatch" for kind in kinds]
        self.names = [
            NOBODY if kind.f == "write" else table.number(named_value(kind))
            for kind in kinds
        ]
        self._made = [
            table.number(kind.result if kind.f == "cas" else kind.argument)
            if kind.f in {"cas", "write"}
            else NOBODY
            for kind in kinds
        ]
        self._events = problem.events
        self._kind_of = kind_of
        self._live = problem.live
        end = len(problem.events)
        self._invoked = [0] * len(kind_of)
        self._returned = [end] * len(kind_of)
        for event, call in enumerate(problem.events):
            if call >= 0:
                self._invoked[call] = event
            else:
                self._returned[~call] = event
        self._overwritten = self._overwrites(table.read_only)
        self._crashed_cas(problem.crashed())
        self._watchers = sorted(
            (n for n in range(problem.live) if not self.blind[kind_of[n]]),
            key=self._invoked.__getitem__,
        )
        self.seen_until = self._last_seen()
        # Where `reach` stands.
        self.alive: list[frozenset[int]] = []
        self._onward: list[frozenset[int]] = []  # those from which crashed cas lead on
        self._coming = 0
        self._watching: set[int] = set()

    @staticmethod
    def of(problem: Problem, table: Transitions, model: Model) -> Lookahead | None:
        """The rules, or None for what is no register or appends."""
        if not model.reads or any(kind.f not in REGISTER for kind in table.kinds):
            return None
        return Lookahead(problem, table)

    def starts(self) -> list[int]:
        """The states that anybody can tell apart, for a history of unknown start."""
        return sorted({self.unseen, *self.names} - {NOBODY})

    def reach(self, event: int) -> None:
        """Find out which states matter up to an event. Cost: linear, over all calls."""
        events, invoked, kind_of = self._events, self._invoked, self._kind_of
        watchers, watching, names = self._watchers, self._watching, self.names
        for at in range(len(self.alive), event + 1):
            horizon = self._overwritten[at + 1]
            while self._coming < len(watchers):
                call = watchers[self._coming]
                if invoked[call] >= horizon:
                    break
                watching.add(call)
                self._coming += 1
            alive: frozenset[int] = frozenset()
            if events[at] < 0:
                matter = {names[kind_of[call]] for call in watching}
                alive = self._led_to(matter, horizon)
                watching.discard(~events[at])
            self.alive.append(alive)
            self._onward.append(alive & self.onward.keys())

    def unseen_writes(self, waiting: Sequence[int], event: int) -> list[int]:
        """Those of some open live calls whose write nobody can see from `event` on."""
        until, blind, kind_of = self.seen_until, self.blind, self._kind_of
        return [n for n in waiting if until[n] < event and blind[kind_of[n]]]

    def useful(
        self,
        state: int,
        row: Mapping[int, int],
        waiting: Sequence[int],
        event: int,
        *,
        pressed: bool,
    ) -> Iterable[int]:
        """The kinds of crashed calls that somebody could observe right after them.

        Args:
            state: The present one.
            row: What each kind does in it.
            waiting: Open live calls.
            event: The return to be reached.
            pressed: Whether only who observes the state may come next, so no write.
        """
        asked: set[int] = set()
        refused = False  # a refused cas that can't be here: any other state will do
        for call in waiting:
            kind = self._kind_of[call]
            asked.add(self.names[kind])
            refused |= self.refusing[kind] and row[kind] == DEAD
        kinds = self._cas_from.get(state, [])
        if refused:
            return kinds if pressed else [*self._writes_of.values(), *kinds]
        asked &= self.alive[event]
        asked |= self._onward[event]
        kinds = [kind for kind in kinds if self._made[kind] in asked]
        if pressed:
            return kinds
        writes = self._writes_of
        return [writes[each] for each in sorted(asked & writes.keys())] + kinds

    def _led_to(self, matter: set[int], horizon: int) -> frozenset[int]:
        """With the states from which crashed cas lead to those that matter."""
        todo = list(matter)
        while todo:
            for state, since in self._sources.get(todo.pop(), {}).items():
                if since < horizon and state not in matter:
                    matter.add(state)
                    todo.append(state)
        return frozenset(matter)

    def _overwrites(self, read_only: Sequence[bool]) -> list[int]:
        """By event: when the next change that is invoked from there on has returned."""
        end = len(self._events)
        soonest = [end] * (end + 2)
        for event in range(end - 1, -1, -1):
            call = self._events[event]
            soonest[event] = soonest[event + 1]
            if 0 <= call < self._live and not read_only[self._kind_of[call]]:
                soonest[event] = min(soonest[event], self._returned[call])
        return soonest

    def _crashed_cas(self, crashed: Sequence[int]) -> None:
        """Where crashed cas lead from and to, and since when at the earliest."""
        self._sources: dict[int, dict[int, int]] = {}
        self.onward: dict[int, int] = {}
        self._writes_of: dict[int, int] = {}  # kinds of crashed writes, by state made
        self._cas_from: dict[int, list[int]] = {}  # and of cas, by state named
        for call in crashed:  # in order of invocation
            kind, since = self._kind_of[call], self._invoked[call]
            if self.blind[kind]:
                self._writes_of[self._made[kind]] = kind
            else:
                known = self._cas_from.setdefault(self.names[kind], [])
                if kind not in known:
                    known.append(kind)
                self.onward.setdefault(self.names[kind], since)
                sources = self._sources.setdefault(self._made[kind], {})
                sources.setdefault(self.names[kind], since)

    def _last_seen(self) -> list[int]:
        """See `seen_until`.

        A write that comes when it returns, at the latest, is overwritten by the next
        change; who is invoked after that does not see it.
        """
        by_state: dict[int, list[int]] = {}
        refused: list[int] = []
        for call in self._watchers:
            kind = self._kind_of[call]
            by_state.setdefault(self.names[kind], []).append(call)
            if self.refusing[kind]:  # content with any other value
                refused.append(call)
        seen_by = {state: self._latest(calls) for state, calls in by_state.items()}
        seen_by_refused = self._latest(refused)
        end = len(self._events)
        until = [end] * self._live
        for call in range(self._live):
            kind = self._kind_of[call]
            if not self.blind[kind]:
                continue
            horizon = self._overwritten[self._returned[call] + 1]
            state = self._made[kind]
            if self.onward.get(state, end) < horizon:
                continue
            until[call] = NOBODY
            for invoked, latest in (seen_by.get(state, ([], [])), seen_by_refused):
                place = bisect_left(invoked, horizon)
                if place:
                    until[call] = max(until[call], latest[place - 1])
        return until

    def _latest(self, calls: Sequence[int]) -> tuple[list[int], list[int]]:
        """When they were invoked, and the latest return of each and those before."""
        invoked, latest = [], []
        last = NOBODY
        for call in calls:
            last = max(last, self._returned[call])
            invoked.append(self._invoked[call])
            latest.append(last)
        return invoked, latest
