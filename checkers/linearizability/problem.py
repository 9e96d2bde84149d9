"""What a search works on: the events of one key in order, and calls by urgency.

Calls have numbers here: of two that return, the one with the lesser number returns
first, and those that never return come last, in order of invocation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from checkers.linearizability.calls import NEVER, KeyCalls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.calls import Call
    from checkers.linearizability.specification import Operation


@dataclass(frozen=True)
class Problem:
    """The calls on one key.

    Attributes:
        operations: What the calls did, without repetition, and perhaps other things.
        operation: For each call the number of what it did.
        names: For each call its place in order of invocation.
        events: Invocations (the call's number) and returns (its complement, negative),
            in order. If both are one event, the invocation comes first. If several
            calls may have begun at one moment, they are in the order of `names`.
        live: How many return; those have the lesser numbers.
    """

    operations: Sequence[Operation]
    operation: Sequence[int]
    names: Sequence[int]
    events: Sequence[int]
    live: int

    @staticmethod
    def of(calls: Sequence[Call]) -> Problem:
        """The problem for calls of a table, or for a list of calls."""
        return of_key(calls) if isinstance(calls, KeyCalls) else of_list(calls)

    def narrowed(self) -> Problem:
        """The same problem, without operations that none of its calls did."""
        own = {n: k for k, n in enumerate(dict.fromkeys(self.operation))}
        if len(own) == len(self.operations):
            return self
        operations = [self.operations[n] for n in own]
        operation = [own[n] for n in self.operation]
        return Problem(operations, operation, self.names, self.events, self.live)

    def crashed(self) -> list[int]:
        """The calls that never return, in order of invocation."""
        if self.live == len(self.names):
            return []
        return [n for n in self.events if n >= self.live]

    def spans(self) -> tuple[list[int], list[int]]:
        """By call, where in `events` it is invoked, and where it returns.

        Calls that never return do so after all events.
        """
        invoked, returned = [0] * len(self.names), [len(self.events)] * len(self.names)
        for event, call in enumerate(self.events):
            if call >= 0:
                invoked[call] = event
            else:
                returned[~call] = event
        return invoked, returned

    def slots(self) -> tuple[list[int], int]:
        """One bit per live call, unique among those open together; 0 for the others.

        Returns:
            The bits by call, and how many different ones there are.
        """
        live = self.live
        bits = [0] * len(self.names)
        free: list[int] = []
        width = 0
        for event in self.events:
            if event < 0:
                free.append(bits[~event])
            elif event < live:
                if not free:
                    free.append(1 << width)
                    width += 1
                bits[event] = free.pop()
        return bits, width


def of_key(calls: KeyCalls) -> Problem:
    """From the columns of a table."""
    table, (start, stop) = calls.table, calls.rows
    events, starts = table.events
    rows = table.urgency[start:stop]
    return Problem(
        table.operations,
        table.operation[rows].tolist(),
        (rows - start).tolist(),
        events[starts[calls.key] : starts[calls.key + 1]].tolist(),
        len(calls) - calls.crashed,
    )


def of_list(calls: Sequence[Call]) -> Problem:
    """From a list of calls, such as a prefix or a conflict."""
    names = sorted(range(len(calls)), key=lambda name: calls[name].returned)
    marks: list[tuple[int, int, int]] = []
    live = 0
    for number, name in enumerate(names):
        call = calls[name]
        marks.append((2 * call.invoked, name, number))
        if call.returned != NEVER:
            marks.append((2 * call.returned + 1, name, ~number))
            live += 1
    marks.sort()
    known: dict[Operation, int] = {}
    operation = [known.setdefault(calls[name].operation, len(known)) for name in names]
    return Problem(
        list(known), operation, names, [event for _, _, event in marks], live
    )
