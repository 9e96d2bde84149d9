"""The breaches of consensus: which promise or rule, who, and which operations.

Sections, phases and P1a are those of Paxos Made Simple (Lamport 2001). `key` is that of
the instance concerned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkers.paxos.instances import Accepted, Ballot, Learned
    from harness.history import Op


class BrokenPromise(NamedTuple):
    """P1a: an acceptor never goes below a ballot that it promised or accepted.

    Attributes:
        op: It promised, accepted or came back bound by a ballot.
        before: A higher one that it was bound by.
    """

    op: Op
    before: Ballot
    name: str = "broken-promise"


class ForgotAccepted(NamedTuple):
    """Phase 1(b): a promise tells the highest proposal that the acceptor accepted.

    Attributes:
        op: The promise; it tells of a lower one, or of none.
        had: What the acceptor had accepted.
    """

    op: Op
    had: Accepted
    name: str = "forgot-accepted"


class BallotOfTwoValues(NamedTuple):
    """P2c's premise: at one ballot one value is proposed, so all accept the same."""

    key: Any
    one: Accepted
    other: Accepted
    name: str = "ballot-of-two-values"


class ChangedItsMind(NamedTuple):
    """Integrity: a node that has learned a value never learns another."""

    key: Any
    before: Learned
    later: Learned
    name: str = "changed-its-mind"


class Disagreement(NamedTuple):
    """Agreement: no two nodes learn different values.

    Attributes:
        sides: For each value that was learned, who learned it; two or more.
    """

    key: Any
    sides: tuple[tuple[Learned, ...], ...]
    name: str = "disagreement"


class FailedChosen(NamedTuple):
    """Validity: what was not proposed for sure is not learned.

    Attributes:
        learned: Of a value whose proposals had all failed, or came later.
        proposed: The invocations of these.
    """

    key: Any
    learned: Learned
    proposed: tuple[int, ...]
    name: str = "failed-proposal-chosen"


class LearnedEarly(NamedTuple):
    """Validity: nothing is learned before it is proposed.

    Attributes:
        learned: Of a value whose proposals all came later.
        proposed: The invocations of these.
    """

    key: Any
    learned: Learned
    proposed: tuple[int, ...]
    name: str = "learned-before-proposed"


class NeverProposed(NamedTuple):
    """Validity: only what was proposed is learned."""

    key: Any
    learned: Learned
    name: str = "value-never-proposed"


class NotChosen(NamedTuple):
    """Learned implies chosen: a majority accepted the value at one ballot.

    Attributes:
        learned: At a ballot, if that is known.
        by: Who accepted the value at that ballot, or else at the ballot at which most
            did, and the events.
        acceptors: How many acceptors there are.
    """

    key: Any
    learned: Learned
    by: Mapping[str, int]
    acceptors: int
    name: str = "learned-not-chosen"


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
