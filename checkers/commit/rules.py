"""The promises of atomic commit, each a function that yields its breaches.

Each is tested by the name of its breach in `test_atomic_commit.py`, and all together
against definitions over all pairs of statements in `test_promises_definitions.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.commit.accounts import ABORT, COMMIT, DECISIONS
from checkers.commit.evidence import (
    BlockedAfterHeal,
    ClientMisled,
    CommitDespiteNo,
    CommitWithoutVote,
    ForgotPrecommit,
    NeedlessAbort,
    Reversal,
    SplitDecision,
)
from checkers.tallies import invocation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkers.commit.accounts import Accounts, Statement, Transaction
    from checkers.commit.evidence import Breach
    from harness.history import History


def judge(
    history: History, accounts: Accounts, *, no_failures: bool, healed: bool
) -> Iterator[Breach]:
    """All that is broken.

    Args:
        history: What the accounts were read from.
        accounts: What was said of all transactions.
        no_failures: Nothing failed, so that AC4 is judged.
        healed: All was repaired before the last accounts, so that AC5 is judged.
    """
    for transaction in accounts.transactions.values():
        yield from agreement(transaction)
        yield from no_reversal(history, transaction)
        yield from only_if_all_voted_yes(transaction)
    yield from barrier(accounts)
    if no_failures:
        yield from commit_if_all_yes(accounts)
    if healed:
        yield from all_decide(accounts)


def agreement(transaction: Transaction) -> Iterator[Breach]:
    """AC1: all that decide decide alike, and as the client was told."""
    committed, aborted = transaction.by(COMMIT), transaction.by(ABORT)
    name, invoked, told = transaction.id, transaction.invoked, transaction.told
    if committed and aborted:
        yield SplitDecision(name, invoked, (*committed,), (*aborted,), told)
        return
    against = aborted if told and told.word == COMMIT else committed
    if told is not None and against:
        yield ClientMisled(name, invoked, told, (*against,))


def no_reversal(history: History, transaction: Transaction) -> Iterator[Breach]:
    """AC2: whoever has decided stays with it."""
    for statements in transaction.states.values():
        pair = reversal(history, statements)
        if pair is not None:
            yield Reversal(transaction.id, *pair)


def reversal(
    history: History, statements: list[Statement]
) -> tuple[Statement, Statement] | None:
    """Two statements of one actor: a decision, and then another or none after all."""
    first: Statement | None = None
    for later in statements:
        if first is None:
            first = later if later.word in DECISIONS else None
        elif later.word == first.word:
            continue
        elif later.word in DECISIONS or follows(history, later, first):
            return first, later
    return None


def follows(history: History, later: Statement, first: Statement) -> bool:
    """Whether `later` was certainly said after `first` had been.

    An account that was asked for before `first` was answered may be the older one. A
    node's own observations are in their true order.
    """
    return invocation(history, history[later.op]).index > first.op


def only_if_all_voted_yes(transaction: Transaction) -> Iterator[Breach]:
    """AC3: commit only if all participants voted yes."""
    committed = transaction.by(COMMIT)
    if not committed and transaction.told and transaction.told.word == COMMIT:
        committed = [transaction.told]
    if not committed:
        return
    against = next((s for s in transaction.votes if s.word != "yes"), None)
    if against is not None:
        yield CommitDespiteNo(transaction.id, (*committed,), against)
        return
    voters = {s.actor for s in transaction.votes}
    silent = next((s for s in transaction.unvoted if s.actor not in voters), None)
    if silent is not None:
        yield CommitWithoutVote(transaction.id, transaction.invoked, silent)


def barrier(accounts: Accounts) -> Iterator[Breach]:
    """The rule of 3PC that a participant over the barrier stays there (7.5)."""
    yield from map(ForgotPrecommit, accounts.forgotten)


def is_needless(transaction: Transaction) -> bool:
    """Whether it was aborted although all that voted said yes."""
    aborted = transaction.by(ABORT) or (
        transaction.told is not None and transaction.told.word == ABORT
    )
    votes = {s.word for s in transaction.votes}
    return bool(aborted) and votes == {"yes"}


def commit_if_all_yes(accounts: Accounts) -> Iterator[Breach]:
    """AC4, where nothing failed."""
    for transaction in filter(is_needless, accounts.transactions.values()):
        votes, told = transaction.votes, transaction.told
        aborted = transaction.by(ABORT) or [told or votes[0]]
        name, invoked = transaction.id, transaction.invoked
        yield NeedlessAbort(name, invoked, (*votes,), (*aborted,))


def all_decide(accounts: Accounts) -> Iterator[Breach]:
    """AC5: by the last accounts, everybody that took part has decided."""
    for (_, name), statement in accounts.final.items():
        if statement.word not in DECISIONS:
            transaction = accounts.transactions[name]
            others = (s for s in transaction.decisions if s.op != statement.op)
            decided = next(others, None)
            yield BlockedAfterHeal(name, transaction.invoked, statement, decided)
