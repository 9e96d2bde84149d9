"""Looks for one order of all calls that explains what every session saw.

Sequential consistency (Lamport 1979): the outcome is that of some order of all
operations, in which each session's stand in their own order. To find one is NP-hard in
general (Gibbons and Korach 1997), even if it is known which write each read saw. But
histories of real stores are friendly, and three facts make the search short; all three
are exact, so that a search that ends without an order has shown that there is none:

- a read whose version is the current one is taken at once: it changes nothing;
- a version isn't overwritten while somebody still has to read it: as values are unique,
  it never returns;
- what is ahead depends only on how far each session got and on the current versions.

Which write to take next is guessed: the one with the earliest deadline, which is when
it, or a call that must come after it, is known to have happened.

A wrong guess shows late, when every session waits for another, and by then there are
too many ways back. `Repair` looks for the guess that was wrong, and tries no other: it
orders long histories of real stores, but shows nothing when it fails.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from harness.override import override

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from checkers.linearizability.budget import Patience
    from checkers.sequence.calls import Call, Calls, Version

CHECK_EVERY = 256
"""Writes between two looks at the limits."""


class Outcome(NamedTuple):
    """What the search came to.

    Attributes:
        order: Positions of all calls, in an order that explains everything; or None.
        exhausted: There is no such order.
        limit: Which limit ended the search, as a clause; empty if none did.
        furthest: The longest explained beginning that was found.
        stuck: The calls that were next then.
    """

    order: list[int] | None
    exhausted: bool
    limit: str
    furthest: int
    stuck: list[int]


class Choice(NamedTuple):
    """A choice of the search: how far the order was, and which calls are untried."""

    length: int
    others: list[int]


class Search:
    """One search, step by step, with the way back.

    Args:
        calls: What is to be ordered.
        patience: May end the search early.
        dead_ends_max: Dead ends after which it gives up; None for no such limit.
        before: For each call, others that must come before it in any order that
            explains the history; empty where none are known.
    """

    def __init__(
        self,
        calls: Calls,
        patience: Patience,
        dead_ends_max: int | None = None,
        before: Sequence[Sequence[int]] = (),
    ) -> None:
        self.calls = calls.calls
        self.queues = list(calls.sessions.values())
        self.session_of = {s: i for i, s in enumerate(calls.sessions)}
        self.patience = patience
        self.dead_ends_max = dead_ends_max
        self.heads = [0] * len(self.queues)
        self.current: dict[Hashable, Hashable] = {}
        self.needed = Counter(c.sees for c in self.calls if c.sees is not None)
        self.before = before or [()] * len(self.calls)
        self.deadlines = deadlines(calls, self.before)
        self.taken = bytearray(len(self.calls))
        self.order: list[int] = []
        # What each write of `order` overwrote.
        self.replaced: list[Hashable] = []
        self.choices: list[Choice] = []
        self.dead: set[Hashable] = set()
        # Sessions by their next call: those that write, and those that read a version.
        self.writing: set[int] = set()
        self.waiting: dict[Version | None, set[int]] = defaultdict(set)
        for session in range(len(self.queues)):
            self.enter(session)
        self.furthest = 0
        self.frontier = self.heads.copy()

    def run(self) -> Outcome:
        """Search until an order is found, none is left, or a limit is reached."""
        steps = 0
        limit = ""
        self.take_reads(list(range(len(self.queues))))
        while len(self.order) < len(self.calls) and not limit:
            self.remember_progress()
            candidates = self.candidates()
            if candidates and not (self.dead and self.situation() in self.dead):
                self.choices.append(Choice(len(self.order), candidates))
            if not self.advance():
                return Outcome(None, True, "", self.furthest, self.stuck())
            steps += 1
            if steps % CHECK_EVERY == 0:
                limit = self.patience.exceeded()
            if self.dead_ends_max is not None and len(self.dead) > self.dead_ends_max:
                limit = f"{self.dead_ends_max} dead ends were met"
        order = None if limit else self.order
        return Outcome(order, False, limit, self.furthest, self.stuck())

    def advance(self) -> bool:
        """Take the best call left of the latest choice; False if none has any left."""
        while self.choices:
            length, others = self.choices[-1]
            self.undo(length)
            if others:
                self.take_write(others.pop())
                return True
            self.dead.add(self.situation())
            self.choices.pop()
        return False

    def take_write(self, at: int) -> None:
        """Take a write, and then all reads that it makes possible."""
        call = self.calls[at]
        self.take(at)
        ready = self.waiting[call.makes]
        self.take_reads([self.session_of[call.session], *ready])

    def take_reads(self, sessions: Sequence[int]) -> None:
        """Take all reads of these sessions that see the current version.

        Other sessions have none, as no other version has become the current one.
        """
        for session in sessions:
            queue = self.queues[session]
            while (head := self.heads[session]) < len(queue):
                call = self.calls[queue[head]]
                if call.makes is not None or not self.is_current(call):
                    break
                self.take(queue[head])

    def enter(self, session: int) -> None:
        """File a session under its next call."""
        head, queue = self.heads[session], self.queues[session]
        if head < len(queue):
            call = self.calls[queue[head]]
            if call.makes is None:
                self.waiting[call.sees].add(session)
            else:
                self.writing.add(session)

    def leave(self, session: int) -> None:
        """Take a session out again, before its next call is another one."""
        head, queue = self.heads[session], self.queues[session]
        if head < len(queue):
            self.waiting[self.calls[queue[head]].sees].discard(session)
            self.writing.discard(session)

    def move(self, session: int, by: int) -> None:
        """Take the session one call further, or one back."""
        self.leave(session)
        self.heads[session] += by
        self.enter(session)

    def is_current(self, call: Call) -> bool:
        """Whether the version that the call saw is there now."""
        assert call.sees is not None
        key, value = call.sees
        return self.current.get(key) == value

    def candidates(self) -> list[int]:
        """Writes that may be next, the likeliest last."""
        found = [
            at
            for at in (self.queues[s][self.heads[s]] for s in self.writing)
            if self.may_write(self.calls[at])
            and all(self.taken[b] for b in self.before[at])
        ]
        found.sort(key=lambda at: (self.deadlines[at], at), reverse=True)
        return found

    def may_write(self, call: Call) -> bool:
        """Whether a write may be next: nobody else needs the version it overwrites."""
        if call.makes is None or (call.sees is not None and not self.is_current(call)):
            return False
        key = call.makes[0]
        waiting = self.needed[key, self.current.get(key)]
        return waiting == (call.sees is not None)

    def take(self, at: int) -> None:
        """Put the call at that position next into the order."""
        call = self.calls[at]
        self.move(self.session_of[call.session], 1)
        if call.sees is not None:
            self.needed[call.sees] -= 1
        if call.makes is not None:
            key, value = call.makes
            self.replaced.append(self.current.get(key))
            self.put(key, value)
        self.order.append(at)
        self.taken[at] = True

    def undo(self, length: int) -> None:
        """Shorten the order to that length."""
        while len(self.order) > length:
            at = self.order.pop()
            self.taken[at] = False
            call = self.calls[at]
            self.move(self.session_of[call.session], -1)
            if call.sees is not None:
                self.needed[call.sees] += 1
            if call.makes is not None:
                self.put(call.makes[0], self.replaced.pop())

    def put(self, key: Hashable, value: Hashable) -> None:
        """Set the current value of a key; None removes the key."""
        if value is None:
            self.current.pop(key, None)
        else:
            self.current[key] = value

    def situation(self) -> Hashable:
        """All that the rest of the search depends on."""
        return tuple(self.heads), frozenset(self.current.items())

    def remember_progress(self) -> None:
        """Keep how far the longest beginning went, and where it got stuck."""
        if len(self.order) > self.furthest or not self.order:
            self.furthest = len(self.order)
            self.frontier = self.heads.copy()

    def stuck(self) -> list[int]:
        """The calls that came next where the longest beginning ended."""
        return [
            queue[head]
            for queue, head in zip(self.queues, self.frontier, strict=True)
            if head < len(queue)
        ]


class Repair(Search):
    """A search that goes back to the one guess that was wrong, and mends it.

    Sessions that all wait for one another do so because of a write that was taken too
    early: `late` waits until nobody needs the current version of its key, and who
    needs it waits for `late`, or for something after it. So `late` should have come
    before the write of that version. If the waiting is for nothing but versions yet to
    be written, that is a proof (rule `overwritten` of `saturation`); else it is a
    guess, which is made once, and taken back where it blocks the way.

    Args:
        calls: What is to be ordered.
        patience: May end the search early.
        before: As for `Search`.
    """

    def __init__(
        self, calls: Calls, patience: Patience, before: Sequence[Sequence[int]]
    ) -> None:
        self.proofs = [list(own) for own in before]
        super().__init__(calls, patience, before=self.proofs)
        self.writer = calls.writer
        self.calls_of = calls.sessions
        self.readers: dict[Version, list[int]] = defaultdict(list)
        for at, call in enumerate(self.calls):
            if call.sees is not None:
                self.readers[call.sees].append(at)
        # The place in `order` of each call that was taken.
        self.position = [0] * len(self.calls)
        self.repairs = 0
        self.mended: set[tuple[int, int]] = set()
        self.guesses: dict[int, list[int]] = {}  # write -> writes that it waits for

    @override
    def run(self) -> Outcome:
        """Search until an order is found, a wrong guess is not, or a limit is met."""
        steps = 0
        limit = ""
        self.take_reads(list(range(len(self.queues))))
        while len(self.order) < len(self.calls) and not limit:
            self.remember_progress()
            candidates = self.candidates()
            if candidates:
                self.take_write(candidates[-1])
            elif not self.mend():
                limit = f"what was wrong was not found after {self.repairs} repairs"
            steps += 1
            if steps % CHECK_EVERY == 0:
                limit = limit or self.patience.exceeded()
        order = None if limit else self.order
        return Outcome(order, False, limit, self.furthest, self.stuck())

    @override
    def take(self, at: int) -> None:
        self.position[at] = len(self.order)
        super().take(at)

    @override
    def candidates(self) -> list[int]:
        return [
            at
            for at in super().candidates()
            if at not in self.guesses or all(self.taken[b] for b in self.guesses[at])
        ]

    def mend(self) -> bool:
        """Go back to a write that was taken too early; False when none is found."""
        proved: list[tuple[int, int, int]] = []
        guessed: list[tuple[int, int, int]] = []
        for session in self.writing:
            late = self.queues[session][self.heads[session]]
            early = self.overwritten_by(late)
            if early is None or (late, early) in self.mended:
                continue
            if self.follows(late, early):
                continue
            found = (self.position[early], early, late)
            (proved if self.needed_after(late, session) else guessed).append(found)
        if not proved and not guessed:
            return self.take_back()
        length, early, late = max(proved or guessed)
        self.mended.add((late, early))
        self.repairs += 1
        self.undo(length)
        if proved:
            self.proofs[early].append(late)
        else:
            self.guesses.setdefault(early, []).append(late)
        return True

    def take_back(self) -> bool:
        """Drop the guesses that a session waits for; False without any."""
        blocked = [
            at
            for at in (self.queues[s][self.heads[s]] for s in self.writing)
            if not all(self.taken[b] for b in self.guesses.get(at, ()))
        ]
        for at in blocked:
            del self.guesses[at]
        return bool(blocked)

    def overwritten_by(self, late: int) -> int | None:
        """The write whose version `late` may not overwrite yet; None without one."""
        call = self.calls[late]
        assert call.makes is not None
        if call.sees is not None or self.may_write(call):
            return None
        key = call.makes[0]
        value = self.current.get(key)
        return None if value is None else self.writer[key, value]

    def follows(self, late: int, early: int) -> bool:
        """Whether `late` comes after `early` in any order that explains everything."""
        since = self.position[early]
        seen = {late}
        waiting = [late]
        while waiting:
            at = waiting.pop()
            call = self.calls[at]
            others = [*self.before[at]]
            if call.place:
                others.append(self.calls_of[call.session][call.place - 1])
            if call.sees in self.writer:
                others.append(self.writer[call.sees])
            for other in others:
                if other == early:
                    return True
                later = not self.taken[other] or self.position[other] > since
                if later and other not in seen:
                    seen.add(other)
                    waiting.append(other)
        return False

    def needed_after(self, late: int, session: int) -> bool:
        """Whether somebody who needs the current version waits for `late` for sure."""
        makes = self.calls[late].makes
        assert makes is not None
        key = makes[0]
        waiting = [
            self.session_of[self.calls[at].session]
            for at in self.readers[key, self.current.get(key)]
            if not self.taken[at]
        ]
        reached = set(waiting)
        while waiting:
            if session in reached:
                return True
            for other in self.waits_for(waiting.pop()):
                if other not in reached:
                    reached.add(other)
                    waiting.append(other)
        return session in reached

    def waits_for(self, session: int) -> list[int]:
        """The sessions that this one waits for in any order that explains everything.

        For the version that its next call sees, or for what comes before that call.
        """
        at = self.queues[session][self.heads[session]]
        call = self.calls[at]
        wanted = [other for other in self.before[at] if not self.taken[other]]
        if call.sees is not None and not self.is_current(call):
            writer = self.writer.get(call.sees)
            wanted += [] if writer is None else [writer]
        return [self.session_of[self.calls[other].session] for other in wanted]


def deadlines(calls: Calls, before: Sequence[Sequence[int]]) -> list[int]:
    """For each call, when it had happened at the latest, as an index of the history.

    That is when the call was shown to have happened, or one was that must come after
    it. Cost: linear.
    """
    latest = [call.shown for call in calls.calls]
    known = {at: set(others) for at, others in enumerate(before)}
    for own in calls.sessions.values():
        for a, b in pairwise(own):
            known[b].add(a)
    for at, call in enumerate(calls.calls):
        writer = calls.writer.get(call.sees) if call.sees else None
        if writer is not None:
            known[at].add(writer)
    try:
        order = list(TopologicalSorter(known).static_order())
    except CycleError:
        return latest  # then there is no order to be found anyway
    for at in reversed(order):
        for other in known[at]:
            latest[other] = min(latest[other], latest[at])
    return latest


def explains(calls: Calls, order: list[int]) -> bool:
    """Whether an order is one that explains everything. Cost: linear."""
    current: dict[Hashable, Hashable] = {}
    places: Counter[int] = Counter()
    for at in order:
        call = calls.calls[at]
        if call.place != places[call.session]:
            return False
        places[call.session] += 1
        if call.sees is not None and current.get(call.sees[0]) != call.sees[1]:
            return False
        if call.makes is not None:
            current[call.makes[0]] = call.makes[1]
    return len(order) == len(calls.calls)
