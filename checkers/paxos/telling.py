"""The breaches of consensus in words, each with its witness."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from checkers.findings import anomaly, enumerate_names, name_of, shown
from checkers.paxos.evidence import (
    BallotOfTwoValues,
    BrokenPromise,
    ChangedItsMind,
    Disagreement,
    FailedChosen,
    ForgotAccepted,
    LearnedEarly,
    NeverProposed,
    NotChosen,
)
from checkers.paxos.instances import ACCEPTED, PROMISED, RECOVERED, ballot_of

if TYPE_CHECKING:
    from checkers.paxos.evidence import Breach
    from harness.verdict import Anomaly


def tell(breach: Breach) -> Anomaly:
    """The anomaly of a breach."""
    match breach:
        case BrokenPromise():
            return broken_promise(breach)
        case ForgotAccepted():
            return forgot_accepted(breach)
        case BallotOfTwoValues():
            return ballot_of_two_values(breach)
        case ChangedItsMind():
            return changed_its_mind(breach)
        case Disagreement():
            return disagreement(breach)
        case FailedChosen() | LearnedEarly() | NeverProposed():
            return invalid(breach)
        case NotChosen():
            return not_chosen(breach)


def of(key: Any) -> str:
    """The instance of a key for a sentence, where it has one."""
    return "" if key is None else f" for key {shown(key)}"


def broken_promise(breach: BrokenPromise) -> Anomaly:
    """An acceptor that went below a ballot."""
    op, before = breach.op, breach.before
    ballot, had = shown(op.value.get("ballot")), shown(before.ballot)
    return anomaly(
        breach.name,
        f"P1a is broken: acceptor {name_of(op)} {VERBS[op.f]} ballot {ballot} after it "
        f"had {before.kind} ballot {had}.",
        [(before.op, op.index, "contradicts", f"{before.kind} {had} before")],
        key=op.value.get("key"),
    )


VERBS = {PROMISED: PROMISED, ACCEPTED: ACCEPTED, RECOVERED: "came back bound by"}


def forgot_accepted(breach: ForgotAccepted) -> Anomaly:
    """A promise that does not tell what the acceptor accepted."""
    op, had, told = breach.op, breach.had, breach.op.value["accepted"]
    what = f"{shown(had.value)} at ballot {shown(had.ballot)}"
    instead = "nothing" if told is None else f"ballot {shown(ballot_of(told))}"
    return anomaly(
        breach.name,
        f"Phase 1(b) is broken: acceptor {name_of(op)} had accepted {what}, and with "
        f"its promise of ballot {shown(op.value.get('ballot'))} it told of {instead}; "
        "a value that was chosen so may be passed over.",
        [(had.op, op.index, "contradicts", f"accepted {what} before")],
        key=op.value.get("key"),
    )


def ballot_of_two_values(breach: BallotOfTwoValues) -> Anomaly:
    """A ballot at which two values were accepted."""
    one, other = breach.one, breach.other
    return anomaly(
        breach.name,
        f"Ballot {shown(other.ballot)} was used for two values: {one.node} accepted "
        f"{shown(one.value)} at it, and {other.node} {shown(other.value)}.",
        [(one.op, other.op, "contradicts", "another value at the same ballot")],
        key=breach.key,
    )


def changed_its_mind(breach: ChangedItsMind) -> Anomaly:
    """A node that learned two values."""
    before, later = breach.before, breach.later
    return anomaly(
        breach.name,
        f"Integrity is broken: {later.node} had learned {shown(before.value)}"
        f"{of(breach.key)}, and later {shown(later.value)}.",
        [(before.op, later.op, "contradicts", "learned another value before")],
        key=breach.key,
    )


def disagreement(breach: Disagreement) -> Anomaly:
    """Different values that were learned."""
    told = [
        f"{shown(side[0].value)} was learned by {enumerate_names(x.node for x in side)}"
        for side in breach.sides
    ]
    firsts = [side[0] for side in breach.sides]
    return anomaly(
        breach.name,
        f"Agreement is broken{of(breach.key)}: {', but '.join(told)}.",
        [
            (a.op, b.op, "contradicts", f"{shown(a.value)} is not {shown(b.value)}")
            for a, b in pairwise(firsts)
        ],
        key=breach.key,
    )


def invalid(breach: FailedChosen | LearnedEarly | NeverProposed) -> Anomaly:
    """A value that was learned without a proposal that explains it."""
    learned = breach.learned
    proposed: tuple[int, ...]
    match breach:
        case FailedChosen():
            proposed, why = breach.proposed, "whose proposal had failed for sure"
        case LearnedEarly():
            proposed, why = breach.proposed, "before anybody had proposed it"
        case NeverProposed():
            proposed, why = (), "which nobody proposed"
    what = f"{learned.node} learned {shown(learned.value)}{of(breach.key)}"
    return anomaly(
        breach.name,
        f"Validity is broken: {what}, {why}.",
        [(invoked, learned.op, "contradicts", why) for invoked in proposed],
        ops=[learned.op],
        key=breach.key,
    )


def not_chosen(breach: NotChosen) -> Anomaly:
    """A value that was learned, and that too few accepted."""
    learned, by = breach.learned, breach.by
    who = enumerate_names(sorted(by)) or "nobody"
    if learned.ballot is None:
        accepted = f"at no ballot did more than {who} accept it"
    else:
        accepted = f"at ballot {shown(learned.ballot)} only {who} accepted it"
    return anomaly(
        breach.name,
        f"{learned.node} learned {shown(learned.value)}{of(breach.key)}, which was "
        f"never chosen: {accepted}, and a majority of the {breach.acceptors} acceptors "
        f"is {breach.acceptors // 2 + 1}.",
        [(op, learned.op, "accepted", f"{n} accepted it") for n, op in by.items()],
        ops=[learned.op],
        key=breach.key,
    )
