"""Consensus: one value per instance, somebody's proposal, and for ever.

The promises of Paxos Made Simple (Lamport 2001, section 2.1), per key, each key being
an instance of its own:

- agreement: no two different values are learned;
- validity: what is learned was proposed, before it was learned, and not by a proposal
  that its client was told had failed for sure;
- integrity: a node doesn't change its mind;
- learned implies chosen: a majority accepted the value at one ballot.

Two kinds of history are understood, also mixed: the operations of the `consensus`
workload (`propose`, whose answer is the chosen value, and `learn`), and what nodes
observed of themselves (`promised`, `accepted`, `learned`, `chosen`; `applied` says that
the entry at an index, an instance of its own, is known by its hash). The latter also
show two rules of the protocol at work, whose breach goes before disagreement:

- an acceptor keeps its promises, through restarts (P1a): having promised a ballot it
  neither promises nor accepts a lower one;
- a ballot belongs to one proposer, which proposes one value at it (P2c's premise).

Choices: a majority is counted among the acceptors that the observations show, which
may be fewer than there are; so too small a majority may pass, and none is called
too small wrongly. The node's answer that it has not learned (null) is never an anomaly:
learning may be forgotten, being chosen is not. An instance on which nobody ever learns
anything is no breach either (FLP); such stalemates are counted.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from checkers.findings import enumerate_names, name_of, shown
from checkers.functions import Functions
from checkers.promises.findings import Findings
from checkers.tallies import Kinds
from checkers.values import freeze, is_below
from harness.history import NO_COMPLETION
from harness.registry import Plugin, settings

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from checkers.functions import Known
    from harness.history import History, Op
    from harness.verdict import CheckResult, Limits

FUNCTIONS = Functions(
    "the consensus checker",
    {"propose": ("propose",), "learn": ("learn",)},
    observed="what acceptors and learners observe",
)

PROMISED, ACCEPTED, APPLIED = "promised", "accepted", "applied"
RECOVERED = "recovered"
"""An acceptor came back, bound by this ballot."""
LEARNING = {"learned", "chosen"}


class Learned(NamedTuple):
    """Somebody has it that a value was chosen.

    Attributes:
        node: Who.
        value: What.
        op: Where it says so.
        told: Whether that is an answer to a client, or else an observation.
        ballot: At which it was chosen, if that is known.
    """

    node: str
    value: Any
    op: int
    told: bool
    ballot: Any = None


class Proposal(NamedTuple):
    """A client proposed it: from where on, and how the call ended."""

    invoked: int
    outcome: str


class Ballot(NamedTuple):
    """A ballot that an acceptor promised or accepted, with the event that says so."""

    ballot: Any
    kind: str
    op: int


class Accepted(NamedTuple):
    """A proposal that an acceptor accepted, with the event that says so."""

    ballot: Any
    value: Any
    op: int


@dataclass
class Instance:
    """One instance of consensus.

    Attributes:
        key: Its key.
        learned: All values learned, in the order of the history.
        proposals: By frozen value.
        accepted: By (ballot, value): acceptor -> event. Frozen.
        at_ballot: By frozen ballot: the values accepted, with the events.
    """

    key: Any
    learned: list[Learned] = field(default_factory=list)
    proposals: dict[Hashable, list[Proposal]] = field(
        default_factory=lambda: defaultdict(list)
    )
    accepted: dict[tuple[Hashable, Hashable], dict[str, int]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    at_ballot: dict[Hashable, dict[Hashable, tuple[str, Any, int]]] = field(
        default_factory=lambda: defaultdict(dict)
    )


@dataclass
class Evidence:
    """A history, read once.

    Attributes:
        instances: By frozen key.
        acceptors: Nodes that promised or accepted anything.
        highest: Per (node, key): the highest ballot that it is bound by.
        last_accepted: Per (node, key): the highest proposal that it accepted.
        kinds: Of what was proposed to each instance.
        proposals_seen: Whether proposing clients are part of the history at all.
        acceptances_seen: Whether acceptances are.
    """

    instances: dict[Hashable, Instance] = field(default_factory=dict)
    acceptors: set[str] = field(default_factory=set)
    highest: dict[tuple[str, Hashable], Ballot] = field(default_factory=dict)
    last_accepted: dict[tuple[str, Hashable], Accepted] = field(default_factory=dict)
    kinds: Kinds = field(default_factory=Kinds)
    proposals_seen: bool = False
    acceptances_seen: bool = False

    def instance(self, key: Any) -> Instance:
        """The instance of that key."""
        frozen = freeze(key)
        if frozen not in self.instances:
            self.instances[frozen] = Instance(key)
        return self.instances[frozen]


class ConsensusChecker:
    """Judges every instance of consensus in a history."""

    observes = True

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Linear, so `limits` is not needed.

        Raises:
            HistoryError: A client was told a value of a kind that nobody proposed; or
                see `Functions.of`.
        """
        has_observed = any(is_observation(op) for op in history)
        known = FUNCTIONS.of(history, has_observed=has_observed)
        findings = Findings(history)
        evidence = Evidence()
        for op in history:
            if op.is_client:
                take_call(evidence, history, known, op)
            elif is_observation(op):
                take_observation(evidence, findings, op)
        for instance in evidence.instances.values():
            integrity(findings, instance)
            agreement(findings, instance)
            if evidence.proposals_seen:
                validity(findings, instance, evidence.kinds)
            if evidence.acceptances_seen:
                chosen(findings, instance, evidence.acceptors)
        return known.weighed(
            findings.result(statistics(evidence), unknown=unjudged(evidence))
        )


def take_call(evidence: Evidence, history: History, known: Known, op: Op) -> None:
    """A client's proposal, or what it was told."""
    role = known.role(op)
    if not role:
        return
    instance = evidence.instance(op.key)
    if role == "propose" and op.type == "invoke":
        evidence.proposals_seen = True
        end = history.completion[op.index]
        evidence.kinds.note(freeze(op.key), op.value)
        outcome = "info" if end == NO_COMPLETION else history[end].type
        instance.proposals[freeze(op.value)].append(Proposal(op.index, outcome))
    elif op.type == "ok" and op.value is not None:
        instance.learned.append(Learned(name_of(op), op.value, op.index, told=True))


def is_observation(op: Op) -> bool:
    """Whether a node says something of its own acceptor or learner."""
    tells = isinstance(op.value, dict) and not op.is_client
    return tells and op.f in {APPLIED, RECOVERED, *KINDS}


def take_observation(evidence: Evidence, findings: Findings, op: Op) -> None:
    """What a node says of its own acceptor or learner."""
    if op.f == APPLIED and "hash" in op.value:
        slot = evidence.instance(op.value.get("index"))
        entry = Learned(name_of(op), op.value["hash"], op.index, told=False)
        slot.learned.append(entry)
        return
    if op.f == RECOVERED and "ballot" in op.value:
        keep_promise(evidence, findings, op)
    if op.f not in KINDS:
        return
    instance = evidence.instance(op.value.get("key"))
    if op.f in LEARNING:
        if op.value.get("value") is not None:
            value = op.value["value"]
            ballot = op.value.get("ballot")
            learned = Learned(name_of(op), value, op.index, told=False, ballot=ballot)
            instance.learned.append(learned)
        return
    evidence.acceptors.add(name_of(op))
    keep_promise(evidence, findings, op)
    if op.f == ACCEPTED and "value" in op.value:
        evidence.acceptances_seen = True
        remember(evidence, op)
        one_value_a_ballot(findings, instance, op)
    elif "accepted" in op.value:
        tell_accepted(evidence, findings, op)


KINDS = {PROMISED, ACCEPTED, *LEARNING}


def keep_promise(evidence: Evidence, findings: Findings, op: Op) -> None:
    """P1a: an acceptor never goes below a ballot that it promised or accepted.

    A promise without a key holds for all instances, as multi-Paxos makes it.
    """
    node, key, ballot = name_of(op), op.value.get("key"), op.value.get("ballot")
    for which in dict.fromkeys((freeze(key), None)):
        before = evidence.highest.get((node, which))
        if before is None or not is_below(ballot, before.ballot):
            continue
        findings.add(
            "broken-promise",
            f"P1a is broken: acceptor {node} {VERBS[op.f]} ballot {shown(ballot)} "
            f"after it had {before.kind} ballot {shown(before.ballot)}.",
            [
                (
                    before.op,
                    op.index,
                    "contradicts",
                    f"{before.kind} {shown(before.ballot)} before",
                )
            ],
            key=key,
        )
        return
    evidence.highest[node, freeze(key)] = Ballot(ballot, op.f, op.index)


def remember(evidence: Evidence, op: Op) -> None:
    """From now on the acceptor has this proposal, or a higher one."""
    which = name_of(op), freeze(op.value.get("key"))
    ballot, before = op.value.get("ballot"), evidence.last_accepted.get(which)
    if before is None or not is_below(ballot, before.ballot):
        value = op.value.get("value")
        evidence.last_accepted[which] = Accepted(ballot, value, op.index)


def tell_accepted(evidence: Evidence, findings: Findings, op: Op) -> None:
    """Phase 1(b): a promise tells the highest proposal that the acceptor accepted."""
    node, key, told = name_of(op), op.value.get("key"), op.value["accepted"]
    had = evidence.last_accepted.get((node, freeze(key)))
    if had is None or not (told is None or is_below(ballot_of(told), had.ballot)):
        return
    what = f"{shown(had.value)} at ballot {shown(had.ballot)}"
    instead = "nothing" if told is None else f"ballot {shown(ballot_of(told))}"
    findings.add(
        "forgot-accepted",
        f"Phase 1(b) is broken: acceptor {node} had accepted {what}, and with its "
        f"promise of ballot {shown(op.value.get('ballot'))} it told of {instead}; a "
        "value that was chosen so may be passed over.",
        [(had.op, op.index, "contradicts", f"accepted {what} before")],
        key=key,
    )


def ballot_of(proposal: Any) -> Any:
    """The ballot of a proposal, which is a pair of ballot and value."""
    return proposal[0] if isinstance(proposal, list | tuple) and proposal else proposal


VERBS = {PROMISED: PROMISED, ACCEPTED: ACCEPTED, RECOVERED: "came back bound by"}


def one_value_a_ballot(findings: Findings, instance: Instance, op: Op) -> None:
    """At one ballot one value is proposed, so all accept the same."""
    node, ballot, value = name_of(op), op.value.get("ballot"), op.value.get("value")
    instance.accepted[freeze(ballot), freeze(value)].setdefault(node, op.index)
    values = instance.at_ballot[freeze(ballot)]
    if freeze(value) in values:
        return
    values[freeze(value)] = (node, value, op.index)
    if len(values) != 2:
        return
    (other, other_value, other_op), _ = values.values()
    findings.add(
        "ballot-of-two-values",
        f"Ballot {shown(ballot)} was used for two values: {other} accepted "
        f"{shown(other_value)} at it, and {node} {shown(value)}.",
        [(other_op, op.index, "contradicts", "another value at the same ballot")],
        key=instance.key,
    )


def integrity(findings: Findings, instance: Instance) -> None:
    """A node that has learned a value never learns another."""
    first: dict[str, Learned] = {}
    for learned in instance.learned:
        before = first.setdefault(learned.node, learned)
        if freeze(before.value) == freeze(learned.value):
            continue
        findings.add(
            "changed-its-mind",
            f"Integrity is broken: {learned.node} had learned {shown(before.value)}"
            f"{of(instance)}, and later {shown(learned.value)}.",
            [(before.op, learned.op, "contradicts", "learned another value before")],
            key=instance.key,
        )
        return


def of(instance: Instance) -> str:
    """The instance for a sentence, where it has a name."""
    return "" if instance.key is None else f" for key {shown(instance.key)}"


def agreement(findings: Findings, instance: Instance) -> None:
    """No two nodes learn different values."""
    sides: dict[Hashable, list[Learned]] = defaultdict(list)
    for learned in instance.learned:
        sides[freeze(learned.value)].append(learned)
    if len(sides) < 2:
        return
    told = [
        f"{shown(side[0].value)} was learned by {enumerate_names(x.node for x in side)}"
        for side in sides.values()
    ]
    firsts = [side[0] for side in sides.values()]
    findings.add(
        "disagreement",
        f"Agreement is broken{of(instance)}: {', but '.join(told)}.",
        [
            (a.op, b.op, "contradicts", f"{shown(a.value)} is not {shown(b.value)}")
            for a, b in pairwise(firsts)
        ],
        key=instance.key,
    )


def validity(findings: Findings, instance: Instance, kinds: Kinds) -> None:
    """Only what was proposed is learned.

    Before it was learned, too, where a client was told: its order with other clients'
    operations is known, that of a node's observations is not.

    Raises:
        HistoryError: See `ConsensusChecker.check`.
    """
    told: set[tuple[Hashable, str]] = set()
    for learned in instance.learned:
        value = freeze(learned.value)
        proposals = instance.proposals.get(value, [])
        begun = [p for p in proposals if p.invoked < learned.op or not learned.told]
        if any(p.outcome != "fail" for p in begun):
            continue
        what = f"{learned.node} learned {shown(learned.value)}{of(instance)}"
        edges = [(p.invoked, learned.op) for p in proposals]
        if begun:
            name, why = "failed-proposal-chosen", "whose proposal had failed for sure"
        elif proposals:
            name, why = "learned-before-proposed", "before anybody had proposed it"
        else:
            if learned.told:
                op = findings.history[learned.op]
                kinds.judge(findings.history, op, freeze(op.key), learned.value)
            name, why = "value-never-proposed", "which nobody proposed"
        if (value, name) in told:
            continue
        told.add((value, name))
        findings.add(
            name,
            f"Validity is broken: {what}, {why}.",
            [(a, b, "contradicts", why) for a, b in edges],
            ops=[learned.op],
            key=instance.key,
        )


def chosen(findings: Findings, instance: Instance, acceptors: set[str]) -> None:
    """What is learned was accepted by a majority at one ballot.

    At that ballot, where the learner tells which it was; else at any. By the end: a
    learner may have counted too few, and still be right, as the others accepted later.
    """
    majority = len(acceptors) // 2 + 1
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
        if (ballot, value) in seen or len(by) >= majority:
            continue
        seen.add((ballot, value))
        who = enumerate_names(sorted(by)) or "nobody"
        where = "no ballot" if ballot is None else f"ballot {shown(learned.ballot)}"
        only = "did more than" if ballot is None else "only"
        accepted = "accept" if ballot is None else "accepted"
        findings.add(
            "learned-not-chosen",
            f"{learned.node} learned {shown(learned.value)}{of(instance)}, which was "
            f"never chosen: at {where} {only} {who} {accepted} it, and a majority "
            f"of the {len(acceptors)} acceptors is {majority}.",
            [(op, learned.op, "accepted", f"{n} accepted it") for n, op in by.items()],
            ops=[learned.op],
            key=instance.key,
        )


def statistics(evidence: Evidence) -> dict[str, Any]:
    """Figures for the report."""
    instances = evidence.instances.values()
    return {
        "instances": len(instances),
        "learned": sum(bool(i.learned) for i in instances),
        "stalemates": sum(bool(i.proposals) and not i.learned for i in instances),
        "proposals": sum(len(p) for i in instances for p in i.proposals.values()),
        "acceptors_observed": len(evidence.acceptors),
    }


def unjudged(evidence: Evidence) -> str:
    """Why the history is not enough for a verdict; empty when it is."""
    if any(instance.learned for instance in evidence.instances.values()):
        return ""
    return (
        "nothing to judge: nobody learned a value of any of "
        f"{len(evidence.instances)} instances"
    )


def build(options: Mapping[str, str]) -> ConsensusChecker:
    """The checker. Raises UsageError for any option, as it has none."""
    settings("the consensus checker", (), options)
    return ConsensusChecker()


PLUGIN = Plugin(
    "consensus",
    "one value per instance is learned, which was proposed and chosen, and for ever",
    build,
)
