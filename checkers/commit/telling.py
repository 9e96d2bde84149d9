"""The breaches of atomic commit in words, each with its witness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.commit.accounts import ABORT, COMMIT
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
from checkers.findings import anomaly, enumerate_names, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checkers.commit.accounts import Statement
    from checkers.commit.evidence import Breach
    from checkers.findings import Edge
    from harness.verdict import Anomaly

PAST = {COMMIT: "committed", ABORT: "aborted"}


def tell(breach: Breach) -> Anomaly:
    """The anomaly of a breach."""
    match breach:
        case SplitDecision():
            return split_decision(breach)
        case ClientMisled():
            return client_misled(breach)
        case Reversal():
            return reversal(breach)
        case CommitDespiteNo():
            return commit_despite_no(breach)
        case CommitWithoutVote():
            return commit_without_vote(breach)
        case NeedlessAbort():
            return needless_abort(breach)
        case BlockedAfterHeal():
            return blocked_after_heal(breach)
        case ForgotPrecommit():
            return forgot_precommit(breach)


def decided(invoked: int | None, *statements: Statement) -> list[Edge]:
    """Arrows from a transaction, if its begin is known, to what was decided of it."""
    if invoked is None:
        return []
    return [
        (invoked, s.op, "decided", f"{s.actor} says {s.word}")
        for s in statements
        if s.op != invoked
    ]


def actors(statements: Iterable[Statement]) -> str:
    """Who made the statements."""
    return enumerate_names(statement.actor for statement in statements)


def split_decision(breach: SplitDecision) -> Anomaly:
    """Some committed and some aborted."""
    name, told = breach.transaction, breach.told
    one, other = breach.committed[0], breach.aborted[0]
    client = ""
    if told is not None:
        client = f"; its client was told that it {PAST[told.word]}"
    reason = f"{one.actor} committed, {other.actor} aborted"
    return anomaly(
        breach.name,
        f"AC1 (agreement) is broken: transaction {name} was committed by "
        f"{actors(breach.committed)} but aborted by {actors(breach.aborted)}{client}.",
        [
            *decided(breach.invoked, one, other),
            (one.op, other.op, "contradicts", reason),
        ],
        details={"transaction": name, "rule": "AC1"},
    )


def client_misled(breach: ClientMisled) -> Anomaly:
    """The client was told one thing, and another was decided."""
    name, told, against = breach.transaction, breach.told, breach.against
    first = against[0]
    reason = f"the client was told {told.word}, {first.actor} says {first.word}"
    return anomaly(
        breach.name,
        f"AC1 (agreement) is broken: the client of transaction {name} was told that it "
        f"{PAST[told.word]}, but {actors(against)} {PAST[first.word]} it.",
        [
            *decided(breach.invoked, first),
            (told.op, first.op, "contradicts", reason),
        ],
        details={"transaction": name, "rule": "AC1"},
    )


def reversal(breach: Reversal) -> Anomaly:
    """Somebody did not stay with a decision."""
    name, first, later = breach.transaction, breach.first, breach.later
    return anomaly(
        breach.name,
        f"AC2 is broken: {first.actor} said {first.word} of transaction {name} and "
        f"{'also' if breach.is_decision else 'later'} {later.word}; a decision is "
        "final.",
        [(first.op, later.op, "contradicts", f"{first.word}, then {later.word}")],
        details={"transaction": name, "rule": "AC2"},
    )


def commit_despite_no(breach: CommitDespiteNo) -> Anomaly:
    """A commit against a vote."""
    name, committed, against = breach.transaction, breach.committed, breach.against
    return anomaly(
        breach.name,
        f"AC3 is broken: transaction {name} was committed, says {actors(committed)}, "
        f"although {against.actor} voted {against.word}.",
        [(against.op, committed[0].op, "contradicts", f"a vote {against.word}")],
        details={"transaction": name, "rule": "AC3"},
    )


def commit_without_vote(breach: CommitWithoutVote) -> Anomaly:
    """A commit without a vote of somebody who took part."""
    name, silent = breach.transaction, breach.silent
    return anomaly(
        breach.name,
        f"AC3 is broken: {silent.actor} took part in transaction {name}, which was "
        "committed, but it never voted.",
        decided(breach.invoked, silent),
        ops=[silent.op],
        details={"transaction": name, "rule": "AC3"},
    )


def needless_abort(breach: NeedlessAbort) -> Anomaly:
    """An abort that all had voted against, and nothing enforced."""
    name, aborted = breach.transaction, breach.aborted
    return anomaly(
        breach.name,
        f"AC4 is broken: nothing failed, and {actors(breach.votes)} voted yes on "
        f"transaction {name}, but it was aborted, says {actors(aborted)}.",
        decided(breach.invoked, aborted[0]),
        ops=[aborted[0].op],
        details={"transaction": name, "rule": "AC4"},
    )


def blocked_after_heal(breach: BlockedAfterHeal) -> Anomaly:
    """Somebody is undecided though nothing has kept him from deciding for long."""
    name, undecided, other = breach.transaction, breach.undecided, breach.decided
    decision, edges = "", []
    if other is not None:
        decision = f", which {other.actor} {PAST[other.word]}"
        reason = "decided there, undecided here"
        edges = [(other.op, undecided.op, "undecided", reason)]
    return anomaly(
        breach.name,
        f"AC5 is broken: {undecided.actor} is still {shown(undecided.word)} on "
        f"transaction {name}{decision}, long after all failures were repaired.",
        edges,
        ops=[undecided.op]
        if breach.invoked is None
        else [undecided.op, breach.invoked],
        details={"transaction": name, "rule": "AC5"},
    )


def forgot_precommit(breach: ForgotPrecommit) -> Anomaly:
    """A participant that came back before the barrier."""
    node, name, at, back = breach.forgotten
    return anomaly(
        breach.name,
        f"The barrier of 3PC is broken: {node} had acknowledged preCommit of {name}, "
        "and came back uncertain of it; others may commit on the strength of that "
        "acknowledgement, while it helps to abort.",
        [(at, back, "contradicts", "it was over the barrier")],
    )
