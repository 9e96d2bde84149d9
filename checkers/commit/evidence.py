"""The breaches of atomic commit: which promise, of which transaction, by whom.

AC1 to AC5 are those of Bernstein, Hadzilacos and Goodman (1987, chapter 7.2). In all of
them, `invoked` is the operation that began the transaction, if a client did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from checkers.commit.accounts import DECISIONS

if TYPE_CHECKING:
    from checkers.commit.accounts import Forgotten, Statement


class SplitDecision(NamedTuple):
    """AC1: all that decide decide alike.

    Attributes:
        committed, aborted: Who did which, at least one of each.
        told: What the client was told, if anything.
    """

    transaction: str
    invoked: int | None
    committed: tuple[Statement, ...]
    aborted: tuple[Statement, ...]
    told: Statement | None
    name: str = "split-decision"


class ClientMisled(NamedTuple):
    """AC1: a client is told what was decided.

    Attributes:
        told: What it was told.
        against: Who decided otherwise; at least one.
    """

    transaction: str
    invoked: int | None
    told: Statement
    against: tuple[Statement, ...]
    name: str = "client-misled"


class Reversal(NamedTuple):
    """AC2: nobody reverses or forgets a decision.

    Attributes:
        first: The decision.
        later: What the same actor said afterwards.
    """

    transaction: str
    first: Statement
    later: Statement

    @property
    def is_decision(self) -> bool:
        """Whether it decided again; else it did not know any more."""
        return self.later.word in DECISIONS

    @property
    def name(self) -> str:
        """Whether the decision was reversed or forgotten."""
        return "decision-reversed" if self.is_decision else "decision-forgotten"


class CommitDespiteNo(NamedTuple):
    """AC3: commit only if all participants voted yes.

    Attributes:
        committed: Who committed, by their own account, or the client by its answer.
        against: A vote that was no yes.
    """

    transaction: str
    committed: tuple[Statement, ...]
    against: Statement
    name: str = "commit-despite-no"


class CommitWithoutVote(NamedTuple):
    """AC3: commit only if all participants voted.

    Attributes:
        silent: A participant that committed, and never voted.
    """

    transaction: str
    invoked: int | None
    silent: Statement
    name: str = "commit-without-vote"


class NeedlessAbort(NamedTuple):
    """AC4: if all voted yes and nothing failed, commit.

    Attributes:
        votes: All yes.
        aborted: Who aborted; at least one.
    """

    transaction: str
    invoked: int | None
    votes: tuple[Statement, ...]
    aborted: tuple[Statement, ...]
    name: str = "needless-abort"


class BlockedAfterHeal(NamedTuple):
    """AC5: once failures are repaired for long enough, all decide.

    Attributes:
        undecided: How somebody stands with the transaction in the end.
        decided: Somebody else's decision, if there is one.
    """

    transaction: str
    invoked: int | None
    undecided: Statement
    decided: Statement | None
    name: str = "blocked-after-heal"


class ForgotPrecommit(NamedTuple):
    """The barrier of 3PC (7.5): who is over it is so in all its lives."""

    forgotten: Forgotten
    name: str = "forgot-precommit"


Breach = (
    SplitDecision
    | ClientMisled
    | Reversal
    | CommitDespiteNo
    | CommitWithoutVote
    | NeedlessAbort
    | BlockedAfterHeal
    | ForgotPrecommit
)
