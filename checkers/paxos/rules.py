"""The promises of consensus and two rules of Paxos, each a function with its breaches.

`of_acceptor` judges the events of acceptors one after the other, `of_instances` the
instances once all is read. Each rule is tested by the name of its breach in
`test_consensus.py`, and against definitions in `test_promises_definitions.py`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from checkers.findings import name_of
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
from checkers.paxos.instances import (
    ACCEPTED,
    APPLIED,
    KINDS,
    LEARNING,
    RECOVERED,
    Accepted,
    Ballot,
    Learned,
    ballot_of,
)
from checkers.values import freeze, is_below

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from checkers.paxos.evidence import Breach
    from checkers.paxos.instances import Instance, Instances
    from harness.history import History, Op


# --- acceptors, event by event -------------------------------------------------------


def of_acceptor(instances: Instances, op: Op) -> Iterator[Breach]:
    """What an event of an acceptor or learner breaks; the instances take note of it."""
    if op.f == APPLIED and "hash" in op.value:
        slot = instances.of(op.value.get("index"))
        entry = Learned(name_of(op), op.value["hash"], op.index, told=False)
        slot.learned.append(entry)
        return
    if op.f == RECOVERED and "ballot" in op.value:
        yield from keeps_promise(instances, op)
    if op.f not in KINDS:
        return
    instance = instances.of(op.value.get("key"))
    if op.f in LEARNING:
        if op.value.get("value") is not None:
            value = op.value["value"]
            ballot = op.value.get("ballot")
            learned = Learned(name_of(op), value, op.index, told=False, ballot=ballot)
            instance.learned.append(learned)
        return
    instances.acceptors.add(name_of(op))
    yield from keeps_promise(instances, op)
    if op.f == ACCEPTED and "value" in op.value:
        instances.acceptances_seen = True
        remember(instances, op)
        yield from one_value_a_ballot(instance, op)
    elif "accepted" in op.value:
        yield from tells_accepted(instances, op)


def keeps_promise(instances: Instances, op: Op) -> Iterator[Breach]:
    """P1a: an acceptor never goes below a ballot that it promised or accepted.

    A promise without a key holds for all instances, as multi-Paxos makes it.
    """
    node, key, ballot = name_of(op), op.value.get("key"), op.value.get("ballot")
    for which in dict.fromkeys((freeze(key), None)):
        before = instances.highest.get((node, which))
        if before is not None and is_below(ballot, before.ballot):
            yield BrokenPromise(op, before)
            return
    instances.highest[node, freeze(key)] = Ballot(ballot, op.f, op.index)


def remember(instances: Instances, op: Op) -> None:
    """From now on the acceptor has this proposal, or a higher one."""
    which = name_of(op), freeze(op.value.get("key"))
    before = instances.last_accepted.get(which)
    accepted = accepted_by(op)
    if before is None or not is_below(accepted.ballot, before.ballot):
        instances.last_accepted[which] = accepted


def accepted_by(op: Op) -> Accepted:
    """What an `accepted` event says."""
    return Accepted(
        name_of(op), op.value.get("ballot"), op.value.get("value"), op.index
    )


def tells_accepted(instances: Instances, op: Op) -> Iterator[Breach]:
    """Phase 1(b): a promise tells the highest proposal that the acceptor accepted."""
    told = op.value["accepted"]
    had = instances.last_accepted.get((name_of(op), freeze(op.value.get("key"))))
    if had is not None and (told is None or is_below(ballot_of(told), had.ballot)):
        yield ForgotAccepted(op, had)


def one_value_a_ballot(instance: Instance, op: Op) -> Iterator[Breach]:
    """At one ballot one value is proposed, so all accept the same (P2c's premise)."""
    accepted = accepted_by(op)
    ballot, value = freeze(accepted.ballot), freeze(accepted.value)
    instance.accepted[ballot, value].setdefault(accepted.node, op.index)
    values = instance.at_ballot[ballot]
    if value in values:
        return
    values[value] = accepted
    if len(values) == 2:
        one, other = values.values()
        yield BallotOfTwoValues(instance.key, one, other)


# --- instances, once all is read -----------------------------------------------------


def of_instances(history: History, instances: Instances) -> Iterator[Breach]:
    """What is wrong with what was learned.

    Raises:
        HistoryError: See `validity`.
    """
    for instance in instances.by_key.values():
        yield from integrity(instance)
        yield from agreement(instance)
        if instances.proposals_seen:
            yield from validity(history, instances, instance)
        if instances.acceptances_seen:
            yield from chosen(instance, instances.acceptors)


def integrity(instance: Instance) -> Iterator[Breach]:
    """A node that has learned a value never learns another."""
    first: dict[str, Learned] = {}
    for learned in instance.learned:
        before = first.setdefault(learned.node, learned)
        if freeze(before.value) != freeze(learned.value):
            yield ChangedItsMind(instance.key, before, learned)
            return


def agreement(instance: Instance) -> Iterator[Breach]:
    """No two nodes learn different values."""
    sides: dict[Hashable, list[Learned]] = defaultdict(list)
    for learned in instance.learned:
        sides[freeze(learned.value)].append(learned)
    if len(sides) > 1:
        yield Disagreement(instance.key, tuple(map(tuple, sides.values())))


def validity(
    history: History, instances: Instances, instance: Instance
) -> Iterator[Breach]:
    """Only what was proposed is learned.

    Before it was learned, too, where a client was told: its order with other clients'
    operations is known, that of a node's observations is not.

    Raises:
        HistoryError: A client was told a value of a kind that nobody proposed.
    """
    found: set[tuple[Hashable, str]] = set()
    for learned in instance.learned:
        value = freeze(learned.value)
        proposals = instance.proposals.get(value, [])
        begun = [p for p in proposals if p.invoked < learned.op or not learned.told]
        if any(p.outcome != "fail" for p in begun):
            continue
        proposed = tuple(p.invoked for p in proposals)
        breach: FailedChosen | LearnedEarly | NeverProposed
        if begun:
            breach = FailedChosen(instance.key, learned, proposed)
        elif proposals:
            breach = LearnedEarly(instance.key, learned, proposed)
        else:
            if learned.told:
                op = history[learned.op]
                instances.kinds.judge(history, op, freeze(op.key), learned.value)
            breach = NeverProposed(instance.key, learned)
        if (value, breach.name) not in found:
            found.add((value, breach.name))
            yield breach


def chosen(instance: Instance, acceptors: set[str]) -> Iterator[Breach]:
    """What is learned was accepted by a majority at one ballot.

    At that ballot, where the learner tells which it was; else at any. By the end: a
    learner may have counted too few, and still be right, as the others accepted later.
    """
    most: dict[Hashable, dict[str, int]] = {}
    for (_, value), by in instance.accepted.items():
        if len(by) > len(most.get(value, ())):
            most[value] = by
    seen: set[Hashable] = set()
    for learned in instance.learned:
        value, ballot = freeze(learned.value), freeze(learned.ballot)
        by = most.get(value, {})
        if ballot is not None:
            by = instance.accepted.get((ballot, value), {})
        if (ballot, value) not in seen and 2 * len(by) <= len(acceptors):
            seen.add((ballot, value))
            yield NotChosen(instance.key, learned, by, len(acceptors))
