"""Primary-order broadcast: one order of messages, the same at every node.

The properties of Zab (Junqueira, Reed and Serafini 2011, section 3), over the sequences
that nodes delivered. A delivered item is [epoch, counter, message].

- integrity: only what was broadcast is delivered, and no message twice;
- total order: if a node delivers a before b, a node that delivers b delivers a before;
- agreement: of two nodes, one delivers all that the other does;
- local primary order: within an epoch, in the order in which its primary broadcast;
- global primary order: messages of an earlier epoch before those of a later one;
- primary integrity: a primary has delivered all that anybody delivers of earlier
  epochs before it broadcasts.

and the rules of Zab that they rest on, whose breach comes before any harm:

- an epoch begins, and later its primary broadcasts, with a quorum's consent (V, l.2.1
  and l.2.2);
- it begins with a history as recent as any of that quorum (l.1.2);
- a node forgets no epoch that it accepted (f.1.2).

For clients these mean, and that is judged too: what was acknowledged is never lost, and
a message that was broadcast after another was acknowledged comes after it.

Two kinds of history are understood:

- the `broadcast` workload's: `broadcast` (ok: delivered at the node asked) and pages of
  sequences (`delivered`). Total order and agreement hold together just if all sequences
  are prefixes of the longest, that is, if nobody's n-th item differs from another's.
- what nodes observed: `delivered`, `new_epoch`, `synchronizing`, `became_leader`,
  `recovered`. A node
  begins anew at some point of its sequence after a restart or a snapshot, so only
  neighbours are known: an item must have the same predecessor and successor everywhere.

A message is lost if its sender was told that it is delivered and the whole sequences
read after the last broadcast lack it. A node that is merely behind is counted.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from checkers.findings import enumerate_names, name_of, shown
from checkers.functions import Functions
from checkers.promises.findings import Findings
from checkers.tallies import Kinds, bad_op
from checkers.values import freeze, is_below
from harness.history import NO_COMPLETION
from harness.registry import Plugin, settings

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from checkers.functions import Known
    from harness.history import History, Op
    from harness.verdict import CheckResult, Limits

FUNCTIONS = Functions(
    "the total_order checker",
    {"broadcast": ("broadcast",), "delivered": ("delivered",)},
    observed="what nodes observe of their deliveries",
)

OBSERVED = {"delivered", "new_epoch", "synchronizing", "became_leader", "recovered"}
BEGINS_ANEW = {"restarted", "recovered", "snapshot_installed"}


class Item(NamedTuple):
    """A delivered message.

    Attributes:
        epoch, counter: Its place in the order (the zxid); frozen, as is the message.
        message: None for one that carries nothing.
    """

    epoch: Any
    counter: Any
    message: Hashable

    @property
    def zxid(self) -> tuple[Any, Any]:
        """What orders it."""
        return self.epoch, self.counter

    def __str__(self) -> str:
        return f"{shown(self.message)} ({self.epoch}, {self.counter})"


class Consent(NamedTuple):
    """A primary took a step that needs a quorum's consent.

    Attributes:
        node: The primary.
        epoch: Its epoch.
        by: Who had consented, beside itself.
        step: What it did: "began" or "broadcast in".
        op: The event.
    """

    node: str
    epoch: Any
    by: list[str]
    step: str
    op: int


class Promise(NamedTuple):
    """A node accepted an epoch: how recent its history was then, and the event."""

    recency: Any
    op: int


class Seen(NamedTuple):
    """An item that a node delivered, and where it says so."""

    item: Item
    node: str
    op: int


class Broadcast(NamedTuple):
    """A client's broadcast: its invocation, how it ended, and where."""

    invoked: int
    outcome: str
    ended: int


@dataclass
class Sequences:
    """What clients did and read.

    Attributes:
        broadcasts: By frozen message.
        places: Node -> position -> what it delivered there, as told last.
        final: Node -> position -> item, as read after the last broadcast.
        ends: Node -> length of its sequence, where its end was read then.
        last_broadcast: Position in the history of the last event of a broadcast.
        changed: Pairs of items that one node had at one position.
        kinds: Of messages that were broadcast.
        places_are: What epochs and counters are.
    """

    broadcasts: dict[Hashable, Broadcast] = field(default_factory=dict)
    places: dict[str, dict[int, Seen]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    final: dict[str, dict[int, Item]] = field(default_factory=lambda: defaultdict(dict))
    ends: dict[str, int] = field(default_factory=dict)
    last_broadcast: int = -1
    changed: list[tuple[int, Seen, Seen]] = field(default_factory=list)
    kinds: Kinds = field(default_factory=Kinds)
    places_are: set[tuple[type, type]] = field(default_factory=set)

    def whole(self) -> dict[str, set[Hashable]]:
        """Node -> messages, of the nodes whose whole final sequence was read."""
        return {
            node: {self.final[node][i].message for i in range(end)}
            for node, end in self.ends.items()
            if all(i in self.final[node] for i in range(end))
        }


def read_sequences(history: History, known: Known) -> Sequences:
    """Read what clients saw. Cost: linear in the items read.

    Raises:
        HistoryError: A page is none, or orders its items by what can't be compared.
    """
    sequences = Sequences()
    for op in history:
        if known.role(op) == "broadcast":
            sequences.last_broadcast = op.index
    for op in history:
        role = known.role(op)
        if not role:
            continue
        end = history.completion[op.index]
        if role == "broadcast" and op.type == "invoke":
            outcome = "info" if end == NO_COMPLETION else history[end].type
            sequences.broadcasts[freeze(op.value)] = Broadcast(op.index, outcome, end)
            sequences.kinds.note(None, op.value)
        elif role == "delivered" and op.type == "ok":
            take_page(sequences, history, op)
    return sequences


def take_page(sequences: Sequences, history: History, op: Op) -> None:
    """A part of what a node delivered, from some position on."""
    start, messages, more = page_of(history, op)
    node = name_of(op)
    is_final = history.completion[op.index] > sequences.last_broadcast
    for position, item in enumerate(items(messages), start):
        sequences.places_are.add((type(item.epoch), type(item.counter)))
        seen = Seen(item, node, op.index)
        before = sequences.places[node].setdefault(position, seen)
        if before.item != item:
            sequences.changed.append((position, before, seen))
            sequences.places[node][position] = seen
        if is_final:
            sequences.final[node][position] = item
    if len(sequences.places_are) > 1:
        raise bad_op(history, op, "its items are not like those before: no order")
    if is_final and not more:
        end = start + len(messages)
        sequences.ends[node] = max(sequences.ends.get(node, 0), end)


def page_of(history: History, op: Op) -> tuple[int, list[Any], bool]:
    """Where a page begins, its items, and whether the sequence goes on behind it.

    Raises:
        HistoryError: It has another form.
    """
    if isinstance(op.value, list):
        return 0, op.value, False
    value = op.value if isinstance(op.value, dict) else {}
    messages = value.get("messages")
    start = value.get("from", 0)
    if not isinstance(messages, list) or type(start) is not int or start < 0:
        problem = f"delivered of {op.value!r:.60}, which is no page of messages"
        raise bad_op(history, op, problem)
    return start, messages, value.get("more") is True


def items(messages: Iterable[Any]) -> Iterator[Item]:
    """Items from their wire form; whatever has another form is one without a place."""
    for message in messages:
        if isinstance(message, list) and len(message) == 3:
            yield Item(*map(freeze, message))
        else:
            yield Item(None, None, freeze(message))


@dataclass
class Observed:
    """What nodes observed of their own deliveries.

    Attributes:
        runs: Unbroken runs of deliveries, each of one life of a node.
        leaders: (epoch, node, last zxid before it broadcast, event).
        epochs: Node -> the highest epoch that it accepted, and the event.
        fallen: Pairs of events of a node whose epoch went back.
        nodes: All that observed anything.
        consents: Steps that need a quorum.
        promises: (node, epoch, its leader) -> what the node told that leader.
    """

    runs: list[list[Seen]] = field(default_factory=list)
    leaders: list[tuple[Any, str, Any, int]] = field(default_factory=list)
    epochs: dict[str, tuple[Any, int]] = field(default_factory=dict)
    fallen: list[tuple[str, Any, int, Any, int]] = field(default_factory=list)
    nodes: set[str] = field(default_factory=set)
    consents: list[Consent] = field(default_factory=list)
    promises: dict[tuple[str, Any, Any], Promise] = field(default_factory=dict)


def read_observed(history: History) -> Observed:
    """Read what nodes observed. Cost: linear."""
    observed = Observed()
    runs: dict[str, list[Seen]] = {}
    for op in history:
        if op.is_client or not isinstance(op.value, dict):
            continue
        node = name_of(op)
        observed.nodes.add(node)
        if op.f in BEGINS_ANEW:
            runs.pop(node, None)
        if op.f == "delivered":
            if node not in runs:
                runs[node] = []
                observed.runs.append(runs[node])
            runs[node].append(Seen(delivered(op), node, op.index))
        elif op.f == "became_leader":
            epoch, last = (freeze(op.value.get(name)) for name in ("term", "last_zxid"))
            observed.leaders.append((epoch, node, last, op.index))
        take_epoch(observed, node, op)
        take_consent(observed, node, op)
    return observed


def delivered(op: Op) -> Item:
    """The item of a `delivered` event."""
    value = op.value
    content = value["message"] if "message" in value else value.get("command")
    return Item(
        freeze(value.get("epoch")), freeze(value.get("counter")), freeze(content)
    )


def take_epoch(observed: Observed, node: str, op: Op) -> None:
    """The epoch that a node accepted, now or before it restarted."""
    name = {"new_epoch": "epoch", "recovered": "accepted_epoch"}.get(op.f, "")
    epoch = op.value.get(name)
    if not isinstance(epoch, int):
        return
    before = observed.epochs.setdefault(node, (epoch, op.index))
    if epoch < before[0]:
        observed.fallen.append((node, before[0], before[1], epoch, op.index))
    else:
        observed.epochs[node] = (epoch, op.index)


def take_consent(observed: Observed, node: str, op: Op) -> None:
    """What a node promised, and on whose promises it acted."""
    told = op.value
    if op.f == "new_epoch" and "last_zxid" in told:
        which = (node, freeze(told.get("epoch")), freeze(told.get("leader")))
        observed.promises[which] = Promise(recency_of(op), op.index)
    for kind, who, step in CONSENTS:
        by = told.get(who)
        if op.f == kind and isinstance(by, list):
            epoch = freeze(told.get("term"))
            consent = Consent(node, epoch, [str(n) for n in by], step, op.index)
            observed.consents.append(consent)


CONSENTS = (
    ("synchronizing", "promised", "began"),
    ("became_leader", "acked", "broadcast in"),
)
"""Kinds of event, the field that tells who had consented, and what was done then."""


def recency_of(op: Op) -> Any:
    """How recent a node's history is: the epoch that it adopted last, its end."""
    return freeze([op.value.get("current_epoch"), op.value.get("last_zxid")])


class TotalOrderChecker:
    """Judges the order in which nodes delivered messages."""

    observes = True

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Linear in the items, so `limits` is not needed.

        Raises:
            HistoryError: See `read_sequences`; or a message that a client read is of a
                kind that nobody broadcast; or see `Functions.of`.
        """
        findings = Findings(history)
        has_observed = any(op.f in OBSERVED and not op.is_client for op in history)
        known = FUNCTIONS.of(history, has_observed=has_observed)
        sequences, observed = read_sequences(history, known), read_observed(history)
        own_order(findings, sequences)
        one_sequence(findings, sequences)
        integrity(findings, sequences)
        real_time(findings, sequences)
        nothing_lost(findings, sequences)
        one_order(findings, observed)
        primaries(findings, observed)
        quorums(findings, observed)
        recent_histories(findings, observed)
        return known.weighed(
            findings.result(
                statistics(sequences, observed), unknown=unjudged(sequences, observed)
            )
        )


# --- sequences read by clients -------------------------------------------------------


def own_order(findings: Findings, sequences: Sequences) -> None:
    """Each node's own sequence: it stays as it is, by zxid, and repeats nothing."""
    for position, before, after in sequences.changed:
        findings.add(
            "delivery-changed",
            f"Total order is broken: {before.node} delivered {before.item} as item "
            f"{position} of its sequence, and later had {after.item} there.",
            [(before.op, after.op, "contradicts", f"another item {position}")],
        )
    for places in sequences.places.values():
        by_zxid(findings, [places[position] for position in sorted(places)])
        no_repetition(findings, places)


def by_zxid(findings: Findings, sequence: list[Seen]) -> None:
    """Primary order, local and global: zxids only grow."""
    for a, b in pairwise(sequence):
        if a.item.epoch is None or b.item.epoch is None:
            continue
        if a.item.zxid != b.item.zxid and not is_below(b.item.zxid, a.item.zxid):
            continue
        local = a.item.epoch == b.item.epoch
        findings.add(
            "local-primary-order" if local else "global-primary-order",
            f"{'Local' if local else 'Global'} primary order is broken: {b.node} "
            f"delivered {b.item} after {a.item}.",
            [(a.op, b.op, "delivered-before", f"{a.item}, then {b.item}")],
            ops=[a.op],
        )
        return


def no_repetition(findings: Findings, places: Mapping[int, Seen]) -> None:
    """Integrity: no message is delivered twice."""
    first: dict[Hashable, tuple[int, Seen]] = {}
    for position in sorted(places):
        seen = places[position]
        if seen.item.message is None:
            continue
        at, before = first.setdefault(seen.item.message, (position, seen))
        if at != position:
            findings.add(
                "duplicate-delivery",
                f"Integrity is broken: {seen.node} delivered "
                f"{shown(seen.item.message)} twice, as items {at} and {position}.",
                [(before.op, seen.op, "contradicts", "the same message again")]
                if before.op != seen.op
                else (),
                ops=[seen.op],
            )


def one_sequence(findings: Findings, sequences: Sequences) -> None:
    """Total order and agreement: nobody's n-th item differs from another's.

    The first disagreement of two nodes is told; what follows it is the same one.
    """
    at: dict[int, Seen] = {}
    where = {
        node: {seen.item: position for position, seen in places.items()}
        for node, places in sequences.places.items()
    }
    for node, places in sequences.places.items():
        told: set[str] = set()
        for position in sorted(places):
            mine = places[position]
            other = at.setdefault(position, mine)
            if other.item == mine.item or other.node in told:
                continue
            told.add(other.node)
            ordered = mine.item in where[other.node] or other.item in where[node]
            disagree(findings, other, mine, position, in_both=ordered)


def disagree(
    findings: Findings, one: Seen, other: Seen, position: int, *, in_both: bool
) -> None:
    """Two nodes delivered different items at one position."""
    rule = "Total order" if in_both else "Agreement"
    findings.add(
        "order-disagreement" if in_both else "agreement-broken",
        f"{rule} is broken: item {position} is {one.item} at {one.node}, but "
        f"{other.item} at {other.node}.",
        [(one.op, other.op, "contradicts", f"another item {position}")],
        details={"position": position},
    )


def integrity(findings: Findings, sequences: Sequences) -> None:
    """Only what a client broadcast is delivered."""
    if not sequences.broadcasts:
        return
    earliest: dict[Hashable, Seen] = {}
    for places in sequences.places.values():
        for seen in places.values():
            before = earliest.setdefault(seen.item.message, seen)
            if seen.op < before.op:
                earliest[seen.item.message] = seen
    for message, seen in earliest.items():
        if message is not None:
            was_broadcast(findings, sequences, seen)


def was_broadcast(findings: Findings, sequences: Sequences, seen: Seen) -> None:
    """It was, before it was delivered, and it didn't fail for sure."""
    sent = sequences.broadcasts.get(seen.item.message)
    if sent is None:
        know_its_kind(findings.history, sequences, seen)
        name, why = "message-never-broadcast", "which nobody broadcast"
    elif sent.outcome == "fail":
        name, why = "failed-message-delivered", "whose broadcast had failed for sure"
    elif sent.invoked > seen.op:
        name, why = "delivered-before-broadcast", "before anybody had broadcast it"
    else:
        return
    findings.add(
        name,
        f"Integrity is broken: {seen.node} delivered {seen.item}, {why}.",
        [(sent.invoked, seen.op, "contradicts", why)] if sent else (),
        ops=[seen.op],
    )


def know_its_kind(history: History, sequences: Sequences, seen: Seen) -> None:
    """Raises HistoryError for a message of a kind that nobody broadcast."""
    op = history[seen.op]
    _, messages, _ = page_of(history, op)
    for message, item in zip(messages, items(messages), strict=True):
        if item.message == seen.item.message:
            has_place = isinstance(message, list) and len(message) == 3
            content = message[2] if has_place else message
            sequences.kinds.judge(history, op, None, content)


def real_time(findings: Findings, sequences: Sequences) -> None:
    """What was broadcast after another message was acknowledged comes after it.

    When a message is acknowledged it is delivered somewhere, so each later primary has
    it (primary integrity), and the same one broadcasts in order (local primary order).
    """
    told: set[tuple[Hashable, Hashable]] = set()
    for places in sequences.places.values():
        in_real_time(findings, sequences, places, told)


def in_real_time(
    findings: Findings,
    sequences: Sequences,
    places: Mapping[int, Seen],
    told: set[tuple[Hashable, Hashable]],
) -> None:
    """The same for one node's sequence; pairs that were `told` are not told again."""
    earliest: tuple[int, Seen] | None = None
    for position in sorted(places, reverse=True):
        seen = places[position]
        sent = sequences.broadcasts.get(seen.item.message)
        if sent is None:
            continue
        if earliest is not None and earliest[0] < sent.invoked:
            later = earliest[1]
            pair = (seen.item.message, later.item.message)
            if pair not in told:
                told.add(pair)
                too_early(findings, seen, later, (earliest[0], sent.invoked))
        if sent.outcome == "ok" and (earliest is None or sent.ended < earliest[0]):
            earliest = sent.ended, seen


def too_early(
    findings: Findings, seen: Seen, later: Seen, ops: tuple[int, int]
) -> None:
    """What was broadcast later comes first; `ops`: the other's end, its invocation."""
    acknowledged, broadcast = ops
    findings.add(
        "broadcast-order",
        f"Primary order is broken: {seen.node} delivered {seen.item} before "
        f"{later.item}, which had been acknowledged before that was broadcast.",
        [
            (acknowledged, broadcast, "realtime", "acknowledged before"),
            (broadcast, acknowledged, "delivered-before", f"at {seen.node}"),
        ],
        ops=[seen.op],
    )


def nothing_lost(findings: Findings, sequences: Sequences) -> None:
    """What was acknowledged is in the sequences at the end."""
    whole = sequences.whole()
    if not whole:
        return
    kept = set().union(*whole.values())
    for message, sent in sequences.broadcasts.items():
        if sent.outcome != "ok" or message in kept:
            continue
        findings.add(
            "lost-message",
            f"{shown(message)} is lost: {name_of(findings.history[sent.ended])} "
            "acknowledged its broadcast, but it is in none of the whole sequences that "
            f"{enumerate_names(sorted(whole))} had at the end.",
            [(sent.invoked, sent.ended, "acknowledged", "delivered, said the node")],
            details={"message": message},
        )


# --- deliveries that nodes observed --------------------------------------------------


def one_order(findings: Findings, observed: Observed) -> None:
    """Each item has one predecessor and one successor, whoever delivers it."""
    after: dict[Item, tuple[Seen, Seen]] = {}
    before: dict[Item, tuple[Seen, Seen]] = {}
    told: set[tuple[str, str]] = set()
    for run in observed.runs:
        by_zxid(findings, run)
        for a, b in pairwise(run):
            pair = (a, b)
            for other in (
                after.setdefault(a.item, pair),
                before.setdefault(b.item, pair),
            ):
                if (other[0].item, other[1].item) == (a.item, b.item):
                    continue
                nodes = (other[0].node, a.node)
                if nodes not in told:
                    told.add(nodes)
                    neighbours_differ(findings, other, pair)


def neighbours_differ(
    findings: Findings, one: tuple[Seen, Seen], other: tuple[Seen, Seen]
) -> None:
    """Two nodes delivered an item, and next to it different ones."""
    told = [
        f"{a.node} delivered {b.item} right after {a.item}" for a, b in (one, other)
    ]
    findings.add(
        "order-disagreement",
        f"Total order is broken: {told[0]}, but {told[1]}.",
        [
            (one[0].op, one[1].op, "delivered-before", f"at {one[0].node}"),
            (other[0].op, other[1].op, "delivered-before", f"at {other[0].node}"),
            (one[1].op, other[1].op, "contradicts", "different neighbours"),
        ],
    )


def primaries(findings: Findings, observed: Observed) -> None:
    """One primary in an epoch, epochs only grow, and primary integrity."""
    first: dict[Any, tuple[str, int]] = {}
    for epoch, node, _, op in observed.leaders:
        other, at = first.setdefault(epoch, (node, op))
        if other != node:
            findings.add(
                "two-primaries",
                f"Both {other} and {node} became primary of epoch {epoch}.",
                [(at, op, "contradicts", f"{other} is primary of {epoch} already")],
            )
    for node, high, at, low, op in observed.fallen:
        findings.add(
            "epoch-went-back",
            f"{node} had accepted epoch {high}, and later {low}; the epoch that a node "
            "accepted never falls.",
            [(at, op, "contradicts", f"epoch {high}, then {low}")],
        )
    primary_integrity(findings, observed)


def primary_integrity(findings: Findings, observed: Observed) -> None:
    """A primary begins with all that anybody delivers of earlier epochs."""
    last: dict[Any, Seen] = {}
    for run in observed.runs:
        for seen in run:
            epoch = seen.item.epoch
            if epoch is not None and (
                epoch not in last or is_below(last[epoch].item.zxid, seen.item.zxid)
            ):
                last[epoch] = seen
    for epoch, node, began_with, op in observed.leaders:
        if epoch not in last or not isinstance(began_with, tuple):
            continue
        for missed in last.values():
            is_earlier = is_below(missed.item.epoch, epoch)
            if is_earlier and is_below(began_with, missed.item.zxid):
                findings.add(
                    "primary-integrity",
                    f"Primary integrity is broken: {node} broadcast in epoch {epoch} "
                    f"without having delivered {missed.item}, which {missed.node} "
                    f"delivered; its history ended at {began_with}.",
                    [(missed.op, op, "contradicts", "delivered, but not by it")],
                )


def quorums(findings: Findings, observed: Observed) -> None:
    """A primary acts with the consent of more than half of the nodes.

    Of those that observed anything, which may be fewer than there are: so too few may
    pass, and nobody is blamed wrongly.
    """
    for node, epoch, by, step, op in observed.consents:
        consenting = {node, *by}
        if 2 * len(consenting) > len(observed.nodes):
            continue
        count = len(observed.nodes)
        findings.add(
            "no-quorum",
            f"{node} {step} epoch {epoch} with the consent of "
            f"{enumerate_names(sorted(consenting))} alone, and a quorum of the {count} "
            f"nodes is {count // 2 + 1}; the others may know nothing of its history.",
            ops=[op],
        )


def recent_histories(findings: Findings, observed: Observed) -> None:
    """An epoch begins with a history as recent as any of its quorum (l.1.2)."""
    for node, epoch, by, _, op in observed.consents:
        event = findings.history[op]
        if event.f != "synchronizing":
            continue
        own = recency_of(event)
        for other in by:
            promise = observed.promises.get((other, epoch, node))
            if promise is None or not is_below(own, promise.recency):
                continue
            findings.add(
                "older-history",
                f"{node} began epoch {epoch} with a history that ends with "
                f"{own[1]} of epoch {own[0]}, although {other}, of its quorum, had "
                f"told it of {promise.recency[1]} of epoch {promise.recency[0]}; what "
                "lies between may have been delivered.",
                [(promise.op, op, "contradicts", f"{other} has a more recent one")],
            )


def statistics(sequences: Sequences, observed: Observed) -> dict[str, Any]:
    """Figures for the report."""
    whole = sequences.whole()
    longest = max(map(len, whole.values()), default=0)
    behind = {n: longest - len(m) for n, m in sorted(whole.items()) if len(m) < longest}
    return {
        "broadcasts": len(sequences.broadcasts),
        "acknowledged": sum(b.outcome == "ok" for b in sequences.broadcasts.values()),
        "sequences_read": len(sequences.places),
        "delivered_most": max(map(len, sequences.places.values()), default=0),
        "behind_at_end": behind,
        "deliveries_observed": sum(map(len, observed.runs)),
        "epochs_led": len({leader[0] for leader in observed.leaders}),
    }


def unjudged(sequences: Sequences, observed: Observed) -> str:
    """Why the history is not enough for a verdict; empty when it is."""
    read = any(sequences.places.values())
    if not read and not observed.runs:
        return "nothing to judge: no node delivered any message"
    acknowledged = any(b.outcome == "ok" for b in sequences.broadcasts.values())
    if acknowledged and not sequences.whole():
        return (
            "no node's whole sequence was read after the last broadcast, so nobody "
            "knows whether acknowledged messages were lost"
        )
    return ""


def build(options: Mapping[str, str]) -> TotalOrderChecker:
    """The checker. Raises UsageError for any option, as it has none."""
    settings("the total_order checker", (), options)
    return TotalOrderChecker()


PLUGIN = Plugin(
    "total_order",
    "every node delivers the same messages in one order, by primary and epoch (Zab)",
    build,
    aliases=("total-order",),
)
