"""The breaches of primary-order broadcast: which rule, who, and which operations.

The properties are those of Junqueira, Reed and Serafini (2011, section 3); steps such
as l.1.2 (a leader's) and f.1.2 (a follower's) are those of the algorithm there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

    from checkers.broadcast.observed import Consent, Fall, Primary, Promise
    from checkers.broadcast.sequences import Broadcast, Seen


class DeliveryChanged(NamedTuple):
    """Total order: what a node delivered stays where it is in its sequence.

    Attributes:
        position: Where it was another item later.
        before, after: The two.
    """

    position: int
    before: Seen
    after: Seen
    name: str = "delivery-changed"


class OrderOfPrimaries(NamedTuple):
    """Primary order, local within an epoch and global between two: zxids only grow.

    Attributes:
        first, then: Neighbours in the sequence of a node.
    """

    first: Seen
    then: Seen

    @property
    def is_local(self) -> bool:
        """Whether one primary broadcast both."""
        return bool(self.first.item.epoch == self.then.item.epoch)

    @property
    def name(self) -> str:
        """Which of the two properties is broken."""
        return "local-primary-order" if self.is_local else "global-primary-order"


class DuplicateDelivery(NamedTuple):
    """Integrity: no message is delivered twice.

    Attributes:
        at, again_at: Positions in the sequence of a node.
        first, again: What it delivered there.
    """

    at: int
    first: Seen
    again_at: int
    again: Seen
    name: str = "duplicate-delivery"


class OtherItem(NamedTuple):
    """Total order and agreement: nobody's n-th item differs from another's.

    Attributes:
        position: n.
        one, other: What two nodes delivered there.
        is_about_order: One of them delivered both: they disagree about the order. Else
            each lacks what the other has: no agreement.
    """

    position: int
    one: Seen
    other: Seen
    is_about_order: bool

    @property
    def name(self) -> str:
        """Which of the two properties is broken."""
        return "order-disagreement" if self.is_about_order else "agreement-broken"


class NeverBroadcast(NamedTuple):
    """Integrity: only what was broadcast is delivered."""

    seen: Seen
    name: str = "message-never-broadcast"


class FailedDelivered(NamedTuple):
    """Integrity: what was not broadcast for sure is not delivered."""

    seen: Seen
    sent: Broadcast
    name: str = "failed-message-delivered"


class DeliveredEarly(NamedTuple):
    """Integrity: nothing is delivered before it is broadcast."""

    seen: Seen
    sent: Broadcast
    name: str = "delivered-before-broadcast"


class OrderOfBroadcasts(NamedTuple):
    """Primary order: what was broadcast after another was acknowledged comes after it.

    Attributes:
        seen: It comes first in the sequence of a node.
        later: It comes later, though it was acknowledged before.
        acknowledged: The operation that acknowledged `later`.
        broadcast: The invocation that broadcast `seen`.
    """

    seen: Seen
    later: Seen
    acknowledged: int
    broadcast: int
    name: str = "broadcast-order"


class LostMessage(NamedTuple):
    """What was acknowledged is in the sequences at the end.

    Attributes:
        message: It is in none of them.
        sent: Its broadcast.
        nodes: Whose whole sequences were read.
    """

    message: Hashable
    sent: Broadcast
    nodes: tuple[str, ...]
    name: str = "lost-message"


class OtherNeighbour(NamedTuple):
    """Total order: an item has one predecessor and one successor everywhere.

    Attributes:
        one, other: Neighbours at two nodes, of which one item is the same.
    """

    one: tuple[Seen, Seen]
    other: tuple[Seen, Seen]
    name: str = "order-disagreement"


class TwoPrimaries(NamedTuple):
    """An epoch has one primary; these two are of the same."""

    first: Primary
    other: Primary
    name: str = "two-primaries"


class EpochWentBack(NamedTuple):
    """A node forgets no epoch that it accepted (f.1.2)."""

    fall: Fall
    name: str = "epoch-went-back"


class PrimaryLacks(NamedTuple):
    """Primary integrity: a primary has what anybody delivers of earlier epochs.

    Attributes:
        primary: It began to broadcast.
        missed: What it had not delivered by then.
    """

    primary: Primary
    missed: Seen
    name: str = "primary-integrity"


class NoQuorum(NamedTuple):
    """A primary acts with the consent of a quorum (l.2.1 and l.2.2).

    Attributes:
        consent: The step, and who had consented.
        nodes: How many nodes there are.
    """

    consent: Consent
    nodes: int
    name: str = "no-quorum"


class OlderHistory(NamedTuple):
    """An epoch begins with a history as recent as any of its quorum (l.1.2).

    Attributes:
        consent: The primary began its epoch.
        other: A node of its quorum with a more recent history.
        promise: What that node had told.
    """

    consent: Consent
    other: str
    promise: Promise
    name: str = "older-history"


Breach = (
    DeliveryChanged
    | OrderOfPrimaries
    | DuplicateDelivery
    | OtherItem
    | NeverBroadcast
    | FailedDelivered
    | DeliveredEarly
    | OrderOfBroadcasts
    | LostMessage
    | OtherNeighbour
    | TwoPrimaries
    | EpochWentBack
    | PrimaryLacks
    | NoQuorum
    | OlderHistory
)
