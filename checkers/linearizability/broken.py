"""A key that was found broken, in the terms of the algorithm that found it.

All three ways name the return that ends the key's shortest impossible prefix, or one
close to it. Of several broken keys, those that broke first are explained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.accesses import Columns
    from checkers.linearizability.calls import Call
    from checkers.linearizability.evidence import Conflict
    from checkers.linearizability.outcome import Outcome

Flaw = Literal["unwritten", "future", "conflict"]
"""A value that was never written, one read before it was written, two clusters that
each must precede the other."""


class Violation(NamedTuple):
    """Why zones find a key not linearizable; clusters are given by value numbers.

    Attributes:
        key: The key's number.
        flaw: Which rule is broken.
        first: The value concerned.
        second: For a conflict, the other value.
        position: When the contradiction is known: of a value by itself, when its first
            read returned; of two, when the last call that shows it was invoked. From
            `zones.shortest`, when the call returned that ends the shortest impossible
            prefix.
    """

    key: int
    flaw: Flaw
    first: int
    second: int
    position: int


class ByZones(NamedTuple):
    """Zones found it broken.

    Attributes:
        table: All calls.
        cut: Those up to where the key ceased to be linearizable.
        violation: What is wrong with the key then.
    """

    table: Columns
    cut: Columns
    violation: Violation

    @property
    def broke(self) -> int:
        """When the key broke: the position of the return that shows it."""
        return self.violation.position


class ByRules(NamedTuple):
    """A polynomial decider found it broken.

    Attributes:
        everything: All calls on the key.
        calls: Those of the shortest prefix that is known to be impossible. What had not
            returned by then is open.
        stuck: The call whose return ends that prefix.
        conflict: What is wrong with it.
        shortest: False when a shorter prefix may be impossible too: there was no time
            to try it, or the rules don't tell.
    """

    everything: Sequence[Call]
    calls: Sequence[Call]
    stuck: Call
    conflict: Conflict
    shortest: bool

    @property
    def broke(self) -> int:
        """When the key broke: the position of the return that shows it."""
        return self.stuck.returned


class BySearch(NamedTuple):
    """A search found it broken.

    Attributes:
        calls: All calls on the key.
        stuck: The call whose return no order leads past.
        outcome: What the search found.
    """

    calls: Sequence[Call]
    stuck: Call
    outcome: Outcome

    @property
    def broke(self) -> int:
        """When the key broke: the position of the return that shows it."""
        return self.stuck.returned

    @staticmethod
    def at(calls: Sequence[Call], outcome: Outcome) -> BySearch:
        """From an outcome that says "not linearizable"."""
        assert outcome.linearizable is False
        assert outcome.stuck is not None
        return BySearch(calls, calls[outcome.stuck], outcome)


Broken = ByZones | ByRules | BySearch
