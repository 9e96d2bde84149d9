"""The breaches of primary-order broadcast: which rule, who, and which operations.

The properties are those of Junqueira, Reed and Serafini (2011, section 3); steps such
as l.1.2 (a leader's) and f.1.2 (a follower's) are those of the algorithm there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Hashable

    from checkers.broadcast.observed import Consent, Fall, Primary, Promise
    from checkers.broadcast.sequences import Broadcast, Seen


@dataclass(frozen=True, slots=True)
class DeliveryChanged:
    """Total order: what a node delivered stays where it is in its sequence.

    Attributes:
        position: Where it was another item later.
        before, after: The two.
    """

    name: ClassVar[str] = "delivery-changed"
    position: int
    before: Seen
    after: Seen


@dataclass(frozen=True, slots=True)
class OrderOfPrimaries:
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


@dataclass(frozen=True, slots=True)
class DuplicateDelivery:
    """Integrity: no message is delivered twice.

    Attributes:
        at, again_at: Positions in the sequence of a node.
        first, again: What it delivered there.
    """

    name: ClassVar[str] = "duplicate-delivery"
    at: int
    first: Seen
    again_at: int
    again: Seen


@dataclass(frozen=True, slots=True)
class OtherItem:
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


@dataclass(frozen=True, slots=True)
class NeverBroadcast:
    """Integrity: only what was broadcast is delivered."""

    name: ClassVar[str] = "message-never-broadcast"
    seen: Seen


@dataclass(frozen=True, slots=True)
class FailedDelivered:
    """Integrity: what was not broadcast for sure is not delivered."""

    name: ClassVar[str] = "failed-message-delivered"
    seen: Seen
    sent: Broadcast


@dataclass(frozen=True, slots=True)
class DeliveredEarly:
    """Integrity: nothing is delivered before it is broadcast."""

    name: ClassVar[str] = "delivered-before-broadcast"
    seen: Seen
    sent: Broadcast


@dataclass(frozen=True, slots=True)
class OrderOfBroadcasts:
    """Primary order: what was broadcast after another was acknowledged comes after it.

    Attributes:
        seen: It comes first in the sequence of a node.
        later: It comes later, though it was acknowledged before.
        acknowledged: The operation that acknowledged `later`.
        broadcast: The invocation that broadcast `seen`.
    """

    name: ClassVar[str] = "broadcast-order"
    seen: Seen
    later: Seen
    acknowledged: int
    broadcast: int


@dataclass(frozen=True, slots=True)
class LostMessage:
    """What was acknowledged is in the sequences at the end.

    Attributes:
        message: It is in none of them.
        sent: Its broadcast.
        nodes: Whose whole sequences were read.
    """

    name: ClassVar[str] = "lost-message"
    message: Hashable
    sent: Broadcast
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OtherNeighbour:
    """Total order: an item has one predecessor and one successor everywhere.

    Attributes:
        one, other: Neighbours at two nodes, of which one item is the same.
    """

    name: ClassVar[str] = "order-disagreement"
    one: tuple[Seen, Seen]
    other: tuple[Seen, Seen]


@dataclass(frozen=True, slots=True)
class TwoPrimaries:
    """An epoch has one primary; these two are of the same."""

    name: ClassVar[str] = "two-primaries"
    first: Primary
    other: Primary


@dataclass(frozen=True, slots=True)
class EpochWentBack:
    """A node forgets no epoch that it accepted (f.1.2)."""

    name: ClassVar[str] = "epoch-went-back"
    fall: Fall


@dataclass(frozen=True, slots=True)
class PrimaryLacks:
    """Primary integrity: a primary has what anybody delivers of earlier epochs.

    Attributes:
        primary: It began to broadcast.
        missed: What it had not delivered by then.
    """

    name: ClassVar[str] = "primary-integrity"
    primary: Primary
    missed: Seen


@dataclass(frozen=True, slots=True)
class NoQuorum:
    """A primary acts with the consent of a quorum (l.2.1 and l.2.2).

    Attributes:
        consent: The step, and who had consented.
        nodes: How many nodes there are.
    """

    name: ClassVar[str] = "no-quorum"
    consent: Consent
    nodes: int


@dataclass(frozen=True, slots=True)
class OlderHistory:
    """An epoch begins with a history as recent as any of its quorum (l.1.2).

    Attributes:
        consent: The primary began its epoch.
        other: A node of its quorum with a more recent history.
        promise: What that node had told.
    """

    name: ClassVar[str] = "older-history"
    consent: Consent
    other: str
    promise: Promise


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
