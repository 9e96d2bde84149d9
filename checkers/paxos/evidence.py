"""The breaches of consensus: which promise or rule, who, and which operations.

Sections, phases and P1a are those of Paxos Made Simple (Lamport 2001). `key` is that of
the instance concerned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkers.paxos.instances import Accepted, Ballot, Learned
    from harness.history import Op


@dataclass(frozen=True, slots=True)
class BrokenPromise:
    """P1a: an acceptor never goes below a ballot that it promised or accepted.

    Attributes:
        op: It promised, accepted or came back bound by a ballot.
        before: A higher one that it was bound by.
    """

    name: ClassVar[str] = "broken-promise"
    op: Op
    before: Ballot


@dataclass(frozen=True, slots=True)
class ForgotAccepted:
    """Phase 1(b): a promise tells the highest proposal that the acceptor accepted.

    Attributes:
        op: The promise; it tells of a lower one, or of none.
        had: What the acceptor had accepted.
    """

    name: ClassVar[str] = "forgot-accepted"
    op: Op
    had: Accepted


@dataclass(frozen=True, slots=True)
class BallotOfTwoValues:
    """P2c's premise: at one ballot one value is proposed, so all accept the same."""

    name: ClassVar[str] = "ballot-of-two-values"
    key: Any
    one: Accepted
    other: Accepted


@dataclass(frozen=True, slots=True)
class ChangedItsMind:
    """Integrity: a node that has learned a value never learns another."""

    name: ClassVar[str] = "changed-its-mind"
    key: Any
    before: Learned
    later: Learned


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Agreement: no two nodes learn different values.

    Attributes:
        sides: For each value that was learned, who learned it; two or more.
    """

    name: ClassVar[str] = "disagreement"
    key: Any
    sides: tuple[tuple[Learned, ...], ...]


@dataclass(frozen=True, slots=True)
class FailedChosen:
    """Validity: what was not proposed for sure is not learned.

    Attributes:
        learned: Of a value whose proposals had all failed, or came later.
        proposed: The invocations of these.
    """

    name: ClassVar[str] = "failed-proposal-chosen"
    key: Any
    learned: Learned
    proposed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LearnedEarly:
    """Validity: nothing is learned before it is proposed.

    Attributes:
        learned: Of a value whose proposals all came later.
        proposed: The invocations of these.
    """

    name: ClassVar[str] = "learned-before-proposed"
    key: Any
    learned: Learned
    proposed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NeverProposed:
    """Validity: only what was proposed is learned."""

    name: ClassVar[str] = "value-never-proposed"
    key: Any
    learned: Learned


@dataclass(frozen=True, slots=True)
class NotChosen:
    """Learned implies chosen: a majority accepted the value at one ballot.

    Attributes:
        learned: At a ballot, if that is known.
        by: Who accepted the value at that ballot, or else at the ballot at which most
            did, and the events.
        acceptors: How many acceptors there are.
    """

    name: ClassVar[str] = "learned-not-chosen"
    key: Any
    learned: Learned
    by: Mapping[str, int]
    acceptors: int


Breach = (
    BrokenPromise
    | ForgotAccepted
    | BallotOfTwoValues
    | ChangedItsMind
    | Disagreement
    | FailedChosen
    | LearnedEarly
    | NeverProposed
    | NotChosen
)
