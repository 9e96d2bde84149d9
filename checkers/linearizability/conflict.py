"""What a polynomial decider says: a few calls that can't be ordered, and why.

A decider gives no linear order and needs no search; what it finds is a contradiction
between a handful of calls. They are impossible by themselves, whatever the others did,
so that they can be checked again by search, and shown to a reader as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from checkers.linearizability.calls import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from checkers.linearizability.calls import Call
    from checkers.linearizability.explain import Words


@dataclass(frozen=True)
class Conflict:
    """Calls that can't be ordered.

    Attributes:
        name: The anomaly's name.
        calls: The calls, impossible by themselves. Their operations may be weaker than
            what happened: reads of whole sets are cut down to the elements concerned.
        tell: Why it is impossible, as a sentence.
        forced: Pairs of calls of which the first must come before the second, and why;
            with real time they make the contradiction.
        missing: What nobody did, where that is all that is wrong: function and value.
    """

    name: str
    calls: tuple[Call, ...]
    tell: Callable[[Words], str]
    forced: tuple[tuple[Call, Call, str], ...] = ()
    missing: tuple[str, Hashable] | None = None


def completed_at(conflict: Conflict) -> int:
    """When the last of its calls returned that did."""
    return max((c.returned for c in conflict.calls if c.returned != NEVER), default=-1)


class ImpossibleError(Exception):
    """Raised where a decider meets a contradiction, caught where it answers."""

    def __init__(self, conflict: Conflict) -> None:
        super().__init__(conflict.name)
        self.conflict = conflict


class UndecidedError(Exception):
    """The rules of a decider don't settle this history; the text says why."""
