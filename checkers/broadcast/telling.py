"""The breaches of primary-order broadcast in words, each with its witness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.broadcast.evidence import (
    DeliveredEarly,
    DeliveryChanged,
    DuplicateDelivery,
    EpochWentBack,
    FailedDelivered,
    LostMessage,
    NeverBroadcast,
    NoQuorum,
    OlderHistory,
    OrderOfBroadcasts,
    OrderOfPrimaries,
    OtherItem,
    OtherNeighbour,
    PrimaryLacks,
    TwoPrimaries,
)
from checkers.broadcast.observed import LEADS, SYNCHRONIZING
from checkers.findings import anomaly, enumerate_names, name_of, shown

if TYPE_CHECKING:
    from checkers.broadcast.evidence import Breach
    from harness.history import History
    from harness.verdict import Anomaly


def tell(history: History, breach: Breach) -> Anomaly:
    """The anomaly of a breach that `history` shows."""
    match breach:
        case DeliveryChanged():
            return delivery_changed(breach)
        case OrderOfPrimaries():
            return order_of_primaries(breach)
        case DuplicateDelivery():
            return duplicate_delivery(breach)
        case OtherItem():
            return other_item(breach)
        case NeverBroadcast() | FailedDelivered() | DeliveredEarly():
            return unfounded(breach)
        case OrderOfBroadcasts():
            return order_of_broadcasts(breach)
        case LostMessage():
            return lost_message(history, breach)
        case OtherNeighbour():
            return other_neighbour(breach)
        case TwoPrimaries():
            return two_primaries(breach)
        case EpochWentBack():
            return epoch_went_back(breach)
        case PrimaryLacks():
            return primary_lacks(breach)
        case NoQuorum():
            return no_quorum(breach)
        case OlderHistory():
            return older_history(breach)


# --- sequences read by clients -------------------------------------------------------


def delivery_changed(breach: DeliveryChanged) -> Anomaly:
    """A node's sequence that was another one later."""
    position, before, after = breach.position, breach.before, breach.after
    return anomaly(
        breach.name,
        f"Total order is broken: {before.node} delivered {before.item} as item "
        f"{position} of its sequence, and later had {after.item} there.",
        [(before.op, after.op, "contradicts", f"another item {position}")],
    )


def order_of_primaries(breach: OrderOfPrimaries) -> Anomaly:
    """A sequence that does not go by zxid."""
    a, b = breach.first, breach.then
    return anomaly(
        breach.name,
        f"{'Local' if breach.is_local else 'Global'} primary order is broken: "
        f"{b.node} delivered {b.item} after {a.item}.",
        [(a.op, b.op, "delivered-before", f"{a.item}, then {b.item}")],
    )


def duplicate_delivery(breach: DuplicateDelivery) -> Anomaly:
    """A message twice in a sequence."""
    first, again = breach.first, breach.again
    edge = (first.op, again.op, "contradicts", "the same message again")
    return anomaly(
        breach.name,
        f"Integrity is broken: {again.node} delivered {shown(again.item.message)} "
        f"twice, as items {breach.at} and {breach.again_at}.",
        [edge] if first.op != again.op else (),
        ops=[again.op],
    )


def other_item(breach: OtherItem) -> Anomaly:
    """Two nodes that delivered different items at one position."""
    position, one, other = breach.position, breach.one, breach.other
    rule = "Total order" if breach.is_about_order else "Agreement"
    return anomaly(
        breach.name,
        f"{rule} is broken: item {position} is {one.item} at {one.node}, but "
        f"{other.item} at {other.node}.",
        [(one.op, other.op, "contradicts", f"another item {position}")],
        details={"position": position},
    )


def unfounded(breach: NeverBroadcast | FailedDelivered | DeliveredEarly) -> Anomaly:
    """A delivery without a broadcast that explains it."""
    seen = breach.seen
    match breach:
        case NeverBroadcast():
            sent, why = None, "which nobody broadcast"
        case FailedDelivered():
            sent, why = breach.sent, "whose broadcast had failed for sure"
        case DeliveredEarly():
            sent, why = breach.sent, "before anybody had broadcast it"
    return anomaly(
        breach.name,
        f"Integrity is broken: {seen.node} delivered {seen.item}, {why}.",
        [] if sent is None else [(sent.invoked, seen.op, "contradicts", why)],
        ops=[seen.op],
    )


def order_of_broadcasts(breach: OrderOfBroadcasts) -> Anomaly:
    """A message that comes before one that had been acknowledged before it was sent."""
    seen, acknowledged = breach.seen, breach.acknowledged
    return anomaly(
        breach.name,
        f"Primary order is broken: {seen.node} delivered {seen.item} before "
        f"{breach.later.item}, which had been acknowledged before that was broadcast.",
        [
            (acknowledged, breach.broadcast, "realtime", "acknowledged before"),
            (breach.broadcast, acknowledged, "delivered-before", f"at {seen.node}"),
        ],
        ops=[seen.op],
    )


def lost_message(history: History, breach: LostMessage) -> Anomaly:
    """An acknowledged message that nobody has in the end."""
    sent = breach.sent
    return anomaly(
        breach.name,
        f"{shown(breach.message)} is lost: {name_of(history[sent.ended])} acknowledged "
        "its broadcast, but it is in none of the whole sequences that "
        f"{enumerate_names(breach.nodes)} had at the end.",
        [(sent.invoked, sent.ended, "acknowledged", "delivered, said the node")],
        details={"message": breach.message},
    )


# --- deliveries that nodes observed --------------------------------------------------


def other_neighbour(breach: OtherNeighbour) -> Anomaly:
    """Two nodes that delivered an item, and next to it different ones."""
    one, other = breach.one, breach.other
    told = [
        f"{a.node} delivered {b.item} right after {a.item}" for a, b in (one, other)
    ]
    return anomaly(
        breach.name,
        f"Total order is broken: {told[0]}, but {told[1]}.",
        [
            (one[0].op, one[1].op, "delivered-before", f"at {one[0].node}"),
            (other[0].op, other[1].op, "delivered-before", f"at {other[0].node}"),
            (one[1].op, other[1].op, "contradicts", "different neighbours"),
        ],
    )


def two_primaries(breach: TwoPrimaries) -> Anomaly:
    """Two nodes that are primary of one epoch."""
    first, other = breach.first, breach.other
    reason = f"{first.node} is primary of {first.epoch} already"
    return anomaly(
        breach.name,
        f"Both {first.node} and {other.node} became primary of epoch {first.epoch}.",
        [(first.op, other.op, "contradicts", reason)],
    )


def epoch_went_back(breach: EpochWentBack) -> Anomaly:
    """A node whose epoch fell."""
    node, high, at, low, op = breach.fall
    return anomaly(
        breach.name,
        f"{node} had accepted epoch {high}, and later {low}; the epoch that a node "
        "accepted never falls.",
        [(at, op, "contradicts", f"epoch {high}, then {low}")],
    )


def primary_lacks(breach: PrimaryLacks) -> Anomaly:
    """A primary without what was delivered of earlier epochs."""
    primary, missed = breach.primary, breach.missed
    return anomaly(
        breach.name,
        f"Primary integrity is broken: {primary.node} broadcast in epoch "
        f"{primary.epoch} without having delivered {missed.item}, which "
        f"{missed.node} delivered; its history ended at {primary.last}.",
        [(missed.op, primary.op, "contradicts", "delivered, but not by it")],
    )


def no_quorum(breach: NoQuorum) -> Anomaly:
    """A step without a quorum's consent."""
    consent, count = breach.consent, breach.nodes
    return anomaly(
        breach.name,
        f"{consent.node} {STEPS[consent.step]} epoch {consent.epoch} with the consent "
        f"of {enumerate_names(consent.consenting)} alone, and a quorum of the {count} "
        f"nodes is {count // 2 + 1}; the others may know nothing of its history.",
        ops=[consent.op],
    )


STEPS = {SYNCHRONIZING: "began", LEADS: "broadcast in"}
"""What a primary did with an epoch, by the kind of the event."""


def older_history(breach: OlderHistory) -> Anomaly:
    """A primary whose history is older than one of its quorum."""
    consent, other, promise = breach.consent, breach.other, breach.promise
    (own_epoch, own_end), (epoch, end) = consent.recency, promise.recency
    return anomaly(
        breach.name,
        f"{consent.node} began epoch {consent.epoch} with a history that ends with "
        f"{own_end} of epoch {own_epoch}, although {other}, of its quorum, had told it "
        f"of {end} of epoch {epoch}; what lies between may have been delivered.",
        [(promise.op, consent.op, "contradicts", f"{other} has a more recent one")],
    )
