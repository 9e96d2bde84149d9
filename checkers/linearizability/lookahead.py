"""What later operations of a register's history can still tell of its state.

In histories with many crashed calls (calls that never return), each of these may change
the register at any later time. Most such changes would be overwritten before any call
could tell, and need not be tried. There are three rules, all about *named* values: the
value that a read returned, or that a cas or a refused cas compared with.

1. **A state matters until it is overwritten for certain.** Among the writes and cas
   that are invoked after event `e` and return, let `h` be the first return. Calls that
   are invoked after `h` do not see the state of event `e` any more. So the state at `e`
   matters only if its value is named by a live call (one that returns) that returns at
   `e` or later and is invoked before `h`, or by a crashed cas, invoked before `h`, that
   makes a value that matters. All other values are one state, UNOBSERVED.
2. **A write that no call can see takes effect early.** From some event on, no call is
   left that could see what an open write writes, even if it comes as late as it may. It
   then takes effect just before the next other write, or at once while the state does
   not matter, and changes nothing for other calls.
3. **A crashed call is worth trying only for the call after it.** In a linear order,
   drop every crashed call that the next call does not observe; reads, cas and refused
   cas observe. What follows is as legal as before. So a crashed call is tried only if
   an open call can observe it, and only a call that observes comes next.

Where operations append, states are texts, and a state matters if a named text begins
with it: a read of "abc" observes the write of "a". An append overwrites nothing, and is
seen only by calls that name a text which contains what it appends. An append after a
crashed call makes that worth trying, too, as some call may observe both later.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from typing import TYPE_CHECKING, Final

from checkers.linearizability.specification import UNOBSERVED
from checkers.linearizability.transitions import DEAD
from harness.override import override

if TYPE_CHECKING:
    from collections.abc import (
        Collection,
        Container,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from checkers.linearizability.problem import Problem
    from checkers.linearizability.specification import Model, Operation
    from checkers.linearizability.transitions import Transitions

REGISTER: Final = frozenset({"read", "write", "cas", "cas-mismatch"})
"""The operations that the rules are about."""

LOOKS: Final = frozenset({"read", "cas", "cas-mismatch"})
"""Those that observe the state."""

STARTS_MAX: Final = 2_000
"""States in which a window of appends may begin; of more it tells little."""

NOBODY: Final = -1
"""In place of an event or a state: no call can see the value, or names one."""


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
        seen_until: By live call, for writes: the last event at which a call returns
            that could see what the write writes.
        onward: The states that a crashed cas could lead on from.
        apart: Whether changes leave alone what else somebody may look at; see
            `membership`.
    """

    apart = False

    def __init__(self, problem: Problem, table: Transitions) -> None:
        kinds = table.kinds
        kind_of = [table.kind_of[operation] for operation in problem.operation]
        self.unseen = table.number(UNOBSERVED)
        self.blind = [kind.f == "write" for kind in kinds]
        self.refusing = [kind.f == "cas-mismatch" for kind in kinds]
        self.names = [
            table.number(named_value(kind)) if kind.f in LOOKS else NOBODY
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
        self._invoked, self._returned = problem.spans()
        self._table = table
        self._overwritten = self._overwrites(table.read_only)
        self._crashed_cas(problem.crashed())
        self._watchers = sorted(
            (n for n in range(problem.live) if kinds[kind_of[n]].f in LOOKS),
            key=self._invoked.__getitem__,
        )
        self.seen_until = self._last_seen()
        # Where `reach` stands.
        self.alive: list[Container[int]] = []
        self._matter: list[frozenset[int]] = []  # the values that do
        self._onward: list[frozenset[int]] = []  # those from which crashed cas lead on
        self._coming = 0
        self._watching: set[int] = set()

    @staticmethod
    def of(problem: Problem, table: Transitions, model: Model) -> Lookahead | None:
        """The rules, or None for what is no register, or appends to what is no text."""
        if not model.reads:
            return None
        if all(kind.f in REGISTER for kind in table.kinds):
            return Lookahead(problem, table)
        made = [kind.result for kind in table.kinds if kind.f == "cas"]
        made += [kind.argument for kind in table.kinds if kind.f == "write"]
        if all(isinstance(value, str) or value is UNOBSERVED for value in made):
            return TextLookahead(problem, table)
        return None

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
            matter: frozenset[int] = frozenset()
            if events[at] < 0:
                named = {names[kind_of[call]] for call in watching}
                matter = self._led_to(named, horizon)
                watching.discard(~events[at])
            self._matter.append(matter)
            self.alive.append(self._states(matter))
            self._onward.append(matter & self.onward.keys())

    def _states(self, named: frozenset[int]) -> Container[int]:
        """The states that matter when these values do."""
        return named

    def merged(self, state: int, event: int) -> int:
        """What stands for a state that does not matter."""
        return self.unseen

    def away(self, state: int, kind: int) -> int:
        """How far a state is from one in which a call of that kind is legal."""
        return 1

    def needed(self, state: int, waiting: Sequence[int], stuck: int) -> list[list[int]]:
        """Kinds of crashed calls of which one is needed; not known for registers."""
        return []

    def unseen_writes(self, waiting: Sequence[int], event: int) -> list[int]:
        """The waiting calls whose write no call can see from `event` on."""
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
    ) -> Iterable[int]:
        """The kinds of crashed calls that an open call could observe right after them.

        Args:
            state: The present one.
            row: What each kind does in it.
            waiting: Open live calls.
            event: The return to be reached.
            pressed: Whether only a call that observes the state may come next, so no
                write.
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
        asked &= self._matter[event]
        asked |= self._onward[event]
        kinds = [kind for kind in kinds if self._made[kind] in asked]
        if pressed:
            return kinds
        writes = self._writes_of
        return [writes[each] for each in sorted(asked & writes.keys())] + kinds

    def _led_to(self, matter: set[int], horizon: int) -> frozenset[int]:
        """Those that matter, and the states from which crashed cas lead to them."""
        todo = list(matter)
        left = len(self.onward.keys() - matter)
        while todo and left:
            for state, since in self._sources.get(todo.pop(), {}).items():
                if state not in matter and since < horizon:
                    matter.add(state)
                    todo.append(state)
                    left -= 1
        return frozenset(matter)

    def _overwrites(self, read_only: Sequence[bool]) -> list[int]:
        """By event: when the next change that is invoked from there on has returned."""
        end = len(self._events)
        soonest = [end] * (end + 2)
        for event in range(end - 1, -1, -1):
            call = self._events[event]
            soonest[event] = soonest[event + 1]
            if 0 <= call < self._live and self._overwriting(call, read_only):
                soonest[event] = min(soonest[event], self._returned[call])
        return soonest

    def _overwriting(self, call: int, read_only: Sequence[bool]) -> bool:
        """Whether a call leaves nothing of the state that was there before it."""
        return not read_only[self._kind_of[call]]

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
            elif self.names[kind] != NOBODY:
                known = self._cas_from.setdefault(self.names[kind], [])
                if kind not in known:
                    known.append(kind)
                self.onward.setdefault(self.names[kind], since)
                sources = self._sources.setdefault(self._made[kind], {})
                sources.setdefault(self.names[kind], since)

    def _last_seen(self) -> list[int]:
        """What `seen_until` is to be.

        A write that comes as late as it may, when it returns, is overwritten by the
        next change. Calls that are invoked after that change do not see the write.
        """
        refused = [n for n in self._watchers if self.refusing[self._kind_of[n]]]
        seen_by_refused = self._latest(refused)  # content with any other value
        seen_by: dict[int, tuple[list[int], list[int]]] = {}
        end = len(self._events)
        until = [end] * self._live
        for call in range(self._live):
            kind = self._kind_of[call]
            if not self._unanswered(kind):
                continue
            if kind not in seen_by:
                seen_by[kind] = self._latest(self._seen_by(kind))
            horizon = self._overwritten[self._returned[call] + 1]
            if self._leads_on(kind) < horizon:
                continue
            until[call] = NOBODY
            for invoked, latest in (seen_by[kind], seen_by_refused):
                place = bisect_left(invoked, horizon)
                if place:
                    until[call] = max(until[call], latest[place - 1])
        return until

    def _unanswered(self, kind: int) -> bool:
        """Whether a kind of change fits any state; rule 2 is about such changes."""
        return self.blind[kind]

    def _seen_by(self, kind: int) -> Sequence[int]:
        """The calls that name what such a change makes, in order of invocation."""
        return self._watchers_of.get(self._made[kind], ())

    def _leads_on(self, kind: int) -> int:
        """When the first crashed cas began that may lead on from such a change."""
        return self.onward.get(self._made[kind], len(self._events))

    @cached_property
    def _watchers_of(self) -> dict[int, list[int]]:
        """The calls that observe, by the state that they name."""
        by_state: dict[int, list[int]] = {}
        for call in self._watchers:
            by_state.setdefault(self.names[self._kind_of[call]], []).append(call)
        return by_state

    def _latest(self, calls: Sequence[int]) -> tuple[list[int], list[int]]:
        """For each call, when it was invoked, and the latest return up to it."""
        invoked, latest = [], []
        last = NOBODY
        for call in calls:
            last = max(last, self._returned[call])
            invoked.append(self._invoked[call])
            latest.append(last)
        return invoked, latest


class TextLookahead(Lookahead):
    """The rules for a register of texts to which operations append."""

    def __init__(self, problem: Problem, table: Transitions) -> None:
        kinds = table.kinds
        self._appended = [
            kind.argument
            if kind.f == "append" and isinstance(kind.argument, str)
            else ""
            for kind in kinds
        ]
        super().__init__(problem, table)
        self._useful: dict[tuple[int, bool, frozenset[int]], Collection[int]] = {}
        self._made_by_cas = Openings(
            self._texts({made: made for made in self._sources})
        )
        self._writes = Openings(self._texts(self._writes_of))
        self._appends = Openings(
            {
                self._appended[kind]: kind
                for kind in map(self._kind_of.__getitem__, problem.crashed())
                if self._appended[kind]
            }
        )

    @override
    def starts(self) -> list[int]:
        """All beginnings of the texts that are named; none if these are too many."""
        number = self._table.number
        texts = {text for n in {*self.names} - {NOBODY} for text in [self._text(n)]}
        if sum(len(text) + 1 for text in texts) > STARTS_MAX:
            return []
        beginnings = {text[:n] for text in texts for n in range(len(text) + 1)}
        return sorted({self.unseen, *map(number, beginnings)})

    @override
    def useful(
        self,
        state: int,
        row: Mapping[int, int],
        waiting: Sequence[int],
        event: int,
        *,
        pressed: bool,
    ) -> Iterable[int]:
        """The kinds of crashed calls that lead to a beginning of a named text."""
        asked: set[int] = set()
        matter = self._matter[event]
        for call in waiting:
            kind = self._kind_of[call]
            if self.refusing[kind] and row[kind] == DEAD:
                every = [*self._writes_of.values(), *self._appends.values.values()]
                kept = [kind for kind in every if not pressed or not self.blind[kind]]
                return [*kept, *self._cas_from.get(state, [])]
            if self._appended[kind]:
                asked |= matter
            elif self.names[kind] != NOBODY:
                asked.add(self.names[kind])
        asked &= matter
        asked |= self._onward[event]
        key = state, pressed, frozenset(asked)
        known = self._useful.get(key)
        if known is None:
            known = self._useful[key] = self._leading_on(*key)
        return known

    def _leading_on(
        self, state: int, pressed: bool, asked: frozenset[int]
    ) -> Collection[int]:
        """The kinds of crashed calls that lead to the beginning of what is asked."""
        now = self._text(state)
        found: dict[int, None] = {}
        for text in map(self._text, sorted(asked)):
            if not pressed:
                found |= dict.fromkeys(self._writes.beginning(text))
            if state != self.unseen and text.startswith(now):
                found |= dict.fromkeys(self._appends.beginning(text[len(now) :]))
            for kind in self._cas_from.get(state, ()):
                if text.startswith(self._text(self._made[kind])):
                    found[kind] = None
        return found

    def _text(self, state: int) -> str:
        """The text of a state; empty for the state that stands for all others."""
        text = self._table.states[state]
        return text if isinstance(text, str) else ""

    def _texts(self, by_state: Mapping[int, int]) -> dict[str, int]:
        """What is given by state, by the states' texts."""
        return {
            self._text(state): value
            for state, value in by_state.items()
            if state != self.unseen
        }

    @override
    def _states(self, named: frozenset[int]) -> Container[int]:
        """Those whose text is a beginning of one of these values."""
        if not named:
            return named
        return Beginnings([self._text(n) for n in named], self._table)

    @override
    def _led_to(self, matter: set[int], horizon: int) -> frozenset[int]:
        todo = list(matter)
        while todo:
            for made in self._made_by_cas.beginning(self._text(todo.pop())):
                for state, since in self._sources[made].items():
                    if since < horizon and state not in matter:
                        matter.add(state)
                        todo.append(state)
        return frozenset(matter)

    @override
    def _overwriting(self, call: int, read_only: Sequence[bool]) -> bool:
        """Whether it is a change, and no append."""
        return not read_only[self._kind_of[call]] and (
            not self._appended[self._kind_of[call]]
        )

    @override
    def _unanswered(self, kind: int) -> bool:
        """Whether it is a write or an append; all states are texts, and fit it."""
        return self.blind[kind] or bool(self._appended[kind])

    @override
    def _seen_by(self, kind: int) -> Sequence[int]:
        """The calls that name a text which such a change may have helped to make.

        It begins with what a write wrote, and holds what an append appended.
        """
        named = [
            call
            for state, calls in self._watchers_of.items()
            if self._is_part(kind, self._text(state))
            for call in calls
        ]
        return sorted(named, key=self._invoked.__getitem__)

    @override
    def _leads_on(self, kind: int) -> int:
        return min(
            (
                since
                for state, since in self.onward.items()
                if self._is_part(kind, self._text(state))
            ),
            default=len(self._events),
        )

    def _is_part(self, kind: int, text: str) -> bool:
        """Whether a state with that text may have come about by such a change."""
        if self._appended[kind]:
            return self._appended[kind] in text
        made = self._made[kind]
        return made != self.unseen and text.startswith(self._text(made))


class Openings:
    """Texts with something for each, to be found where they begin another text."""

    def __init__(self, values: Mapping[str, int]) -> None:
        self.values = values
        self._lengths = sorted({len(text) for text in values})

    def beginning(self, text: str) -> Iterator[int]:
        """The values of the texts with which `text` begins, the shortest text first."""
        for length in self._lengths:
            if length > len(text):
                return
            found = self.values.get(text[:length])
            if found is not None:
                yield found


class Beginnings:
    """The states whose text is the beginning of one of some texts."""

    def __init__(self, texts: Sequence[str], table: Transitions) -> None:
        self._texts = sorted(texts)
        self._table = table
        self._known: dict[int, bool] = {}

    def __contains__(self, state: object) -> bool:
        assert isinstance(state, int)
        known = self._known.get(state)
        if known is None:
            text = self._table.states[state]
            known = isinstance(text, str) and self._is_beginning(text)
            self._known[state] = known
        return known

    def _is_beginning(self, text: str) -> bool:
        place = bisect_left(self._texts, text)
        return place < len(self._texts) and self._texts[place].startswith(text)
