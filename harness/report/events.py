"""Nodes' observations of their protocol, which surround an anomaly in its picture.

An anomaly names two or three operations; they came about by messages that arrived and
messages that didn't. Reference nodes observe their steps (`Observe`), and those about
the same transaction, key or term are drawn around the anomaly.

Few runs record messages (`--messages`), and none is needed here: a message is concluded
to have arrived from a step that nothing else can cause, as a participant's preCommit
follows from its coordinator's; `MESSAGES` lists such steps. A message is claimed to be
lost only if its link was cut when it was sent, and the step that it would have caused
never came or the step that its absence causes did.

Times are the nodes' own, moved to the time of the run with the samples of
`clocks.jsonl`; a skew between two samples stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.report import figures
from harness.report.folder import mapping, sequence, string, strings
from harness.report.witness import LOST, MESSAGE, Edge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.history import Op
    from harness.report.folder import Call, Fault, Recording
    from harness.report.witness import Witness

CONTEXT_MAX = 40
"""Events shown around an anomaly; if there are more, the first of them."""

SLACK_NS = 2_000_000
"""How much two corrected clocks may still disagree."""


@dataclass(frozen=True)
class Message:
    """A message that is known by its effect.

    Attributes:
        name: The protocol's name for it.
        sent: The kind of event at which it is sent.
        received: The kind of event that it causes at another node.
        sender: The field of the received event that names the sender; "" if any node's
            event may have been the cause.
        same: Fields on which both events agree.
        to_all: Whether it is sent to every participant, so that it shows if one never
            received it.
    """

    name: str
    sent: str
    received: str
    sender: str = ""
    same: tuple[str, ...] = ()
    to_all: bool = False


MESSAGES = (
    Message("vote", "voted", "precommitting"),
    Message("preCommit", "precommitting", "precommitted", to_all=True),
    Message("preAbort", "turning_back", "preaborted", to_all=True),
    Message("decision", "decided", "decided", sender="by", same=("decision",)),
    Message("promise", "promised", "proposed", same=("ballot",)),
    Message("accept", "proposed", "accepted", same=("ballot",)),
    Message("request", "became_candidate", "voted", sender="candidate", same=("term",)),
    Message("vote", "voted", "became_leader", same=("term",)),
)
ACKNOWLEDGED = {"precommitted": "turning_back"}
"""Step that is answered -> the step that a missing answer causes."""

IMPLIED = {
    "precommitted": "precommitting",
    "preaborted": "turning_back",
    "resolved": "decided",
    "in_doubt": "terminating",
    "accepted": "proposed",
    "chosen": "learned",
}
"""Step -> the step that includes it, which alone is shown if a node takes both."""
AT_ONCE_NS = 1_000_000

ROLES = {
    "precommitting": "coordinator",
    "turning_back": "coordinator",
    "proposed": "proposer",
    "became_leader": "leader",
    "became_candidate": "candidate",
}


def surround(
    folder: Recording, witness: Witness, anomaly: Mapping[str, Any]
) -> Witness:
    """The witness with nodes' observations of the matter, and messages between them."""
    wanted = _subject(anomaly)
    if not wanted:
        return witness
    around = [folder.event(op) for op in folder.observed if _is_about(op, wanted)]
    if any(event.invoke.time < 0 for event in around):
        return witness  # the events have no place in the time of the run
    have = {call.name for call in witness.calls}
    fresh = [event for event in _once(around) if event.name not in have]
    calls = sorted(
        [*witness.calls, *fresh[:CONTEXT_MAX]],
        key=lambda call: (call.invoke.time, not call.is_event, call.invoke.index),
    )
    place = {call.name: position for position, call in enumerate(calls)}
    old = [place[call.name] for call in witness.calls]
    edges = [
        e._replace(source=old[e.source], target=old[e.target]) for e in witness.edges
    ]
    messages = _arrived(calls)
    return replace(
        witness,
        calls=tuple(calls),
        edges=(*edges, *_lost(calls, messages, folder.faults), *messages),
        roles=_roles(calls),
        context=frozenset(place[event.name] for event in fresh[:CONTEXT_MAX]),
        context_more=max(0, len(fresh) - CONTEXT_MAX),
    )


def _subject(anomaly: Mapping[str, Any]) -> dict[str, Any]:
    """The fields by which events concern an anomaly."""
    details = mapping(anomaly.get("details"))
    if "transaction" in details:
        return {"id": details["transaction"]}
    if anomaly.get("key") is not None:
        return {"key": anomaly["key"]}
    return {"term": details["term"]} if "term" in details else {}


def _is_about(op: Op, wanted: Mapping[str, Any]) -> bool:
    fields = op.value
    return all(name in fields and fields[name] == it for name, it in wanted.items())


def _once(events: Iterable[Call]) -> list[Call]:
    """Events in order of time, without repetitions and those that others include."""
    events = list(events)
    said = {(e.node, e.invoke.f): e.invoke.time for e in events}
    seen: set[str] = set()
    kept = []
    for event in sorted(events, key=lambda event: event.invoke.time):
        fields = {k: v for k, v in mapping(event.invoke.value).items() if k != "role"}
        text = repr((event.node, event.invoke.f, fields))
        stronger = said.get((event.node, IMPLIED.get(event.invoke.f, "")))
        is_implied = (
            stronger is not None and abs(stronger - event.invoke.time) <= AT_ONCE_NS
        )
        if text not in seen and not is_implied:
            kept.append(event)
        seen.add(text)
    return kept


def _roles(calls: Iterable[Call]) -> dict[str, str]:
    """Node -> its role, by the first of its events that tells it."""
    roles: dict[str, str] = {}
    for call in calls:
        if not call.is_event:
            continue
        fields = mapping(call.invoke.value)
        told = ROLES.get(call.invoke.f) or string(fields.get("role"))
        if told and told != "participant":
            roles.setdefault(string(call.node), figures.clip(told, 16))
    for call in calls:
        if call.is_event and "vote" in mapping(call.invoke.value):
            roles.setdefault(string(call.node), "participant")
    return roles


# Messages


def _arrived(calls: Sequence[Call]) -> list[Edge]:
    """An arrow for each message that must have arrived."""
    return [
        edge
        for target, event in enumerate(calls)
        if event.is_event
        for message in MESSAGES
        if message.received == event.invoke.f
        for edge in _causes(calls, target, message)
    ]


def _causes(calls: Sequence[Call], target: int, message: Message) -> list[Edge]:
    """Arrows from the latest event of each possible sender to the one it caused."""
    event = calls[target]
    fields = mapping(event.invoke.value)
    latest: dict[str, int] = {}
    for source, sent in enumerate(calls):
        node = string(sent.node)
        if (
            sent.is_event
            and sent.invoke.f == message.sent
            and sent.node != event.node
            and sent.invoke.time <= event.invoke.time + SLACK_NS
            and message.sender in {"", *fields}
            and (not message.sender or fields[message.sender] == node)
            and _agree(mapping(sent.invoke.value), fields, message.same)
        ):
            latest[node] = source
    return [
        Edge(source, target, MESSAGE, f"{message.name} from {node} to {event.node}")
        for node, source in latest.items()
    ]


def _agree(a: Mapping[str, Any], b: Mapping[str, Any], names: Iterable[str]) -> bool:
    return all(a.get(name) == b.get(name) for name in names)


def _lost(
    calls: Sequence[Call], messages: Sequence[Edge], faults: Sequence[Fault]
) -> list[Edge]:
    """An arrow for each message that a cut link kept from its effect."""
    voters = {string(c.node) for c in calls if c.is_event and c.invoke.f == "voted"}
    reached = {(edge.source, calls[edge.target].node) for edge in messages}
    lost: list[Edge] = []
    for source, event in enumerate(calls):
        if not event.is_event:
            continue
        node, kind = string(event.node), event.invoke.f
        for message in MESSAGES:
            if message.to_all and message.sent == kind:
                for other in sorted(voters - {node}):
                    if (source, other) not in reached:
                        lost += _never(calls, source, other, message.name, faults)
    return _unacknowledged(calls, faults) + lost


def _unacknowledged(calls: Sequence[Call], faults: Sequence[Fault]) -> list[Edge]:
    """The arrow of the answer whose absence made a node turn back.

    The node does not tell which answer was missing. This takes the last one sent among
    those whose link was cut meanwhile.
    """
    missing: list[Edge] = []
    for target, reaction in enumerate(calls):
        other, reacted_ns = string(reaction.node), reaction.invoke.time
        for source in range(target - 1, -1, -1):
            event = calls[source]
            node, sent_ns = string(event.node), event.invoke.time
            if ACKNOWLEDGED.get(event.invoke.f) != reaction.invoke.f or node == other:
                continue
            cut = _cut_between(faults, f"{node}->{other}", sent_ns, reacted_ns)
            if cut is not None:
                why = f"no acknowledgement from {node} reached {other}: {_told(cut)}"
                missing.append(Edge(source, target, LOST, why))
                break
    return missing


def _never(
    calls: Sequence[Call], source: int, other: str, name: str, faults: Sequence[Fault]
) -> list[Edge]:
    """The arrow of a message that did not arrive, to the other node's next event."""
    event = calls[source]
    node, sent_ns = string(event.node), event.invoke.time
    cut = _cut_between(faults, f"{node}->{other}", sent_ns, sent_ns)
    after = [
        position
        for position, call in enumerate(calls)
        if position > source and call.is_event and string(call.node) == other
    ]
    if cut is None or not after:
        return []
    why = f"{name} from {node} to {other} met a cut link: {_told(cut)}"
    return [Edge(source, after[0], LOST, why)]


def _told(fault: Fault) -> str:
    return figures.clip(f"{fault.kind} {fault.title}", 120)


def _cut_between(
    faults: Sequence[Fault], link: str, first_ns: float, last_ns: float
) -> Fault | None:
    """The first fault that cut the link at a moment between these; None if none did."""
    for fault in faults:
        end_ns = float("inf") if fault.end_ns is None else fault.end_ns
        meets = (
            fault.applied
            and fault.start_ns <= last_ns + SLACK_NS
            and first_ns <= end_ns
        )
        if meets and link in strings(sequence(fault.evidence.get("cut"))):
            return fault
    return None
