"""What nodes observed of their own deliveries, epochs and primaries.

Events are `delivered`, `new_epoch`, `synchronizing`, `became_leader` and `recovered`. A
node begins anew at some point of its sequence after a restart or a snapshot, so only
neighbours are known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from checkers.broadcast.sequences import Item, Seen
from checkers.findings import name_of
from checkers.values import freeze

if TYPE_CHECKING:
    from harness.history import History, Op

SYNCHRONIZING, LEADS = "synchronizing", "became_leader"
OBSERVED = {"delivered", "new_epoch", SYNCHRONIZING, LEADS, "recovered"}
BEGINS_ANEW = {"restarted", "recovered", "snapshot_installed"}


class Consent(NamedTuple):
    """A primary took a step that needs a quorum's consent.

    Attributes:
        node: The primary.
        epoch: Its epoch.
        by: Who had consented, beside itself.
        step: The kind of the event: SYNCHRONIZING (it began its epoch) or LEADS (it
            began to broadcast).
        recency: How recent its history was, as the event tells.
        op: The event.
    """

    node: str
    epoch: Any
    by: list[str]
    step: str
    recency: Any
    op: int

    @property
    def consenting(self) -> list[str]:
        """Who consented, the primary among them; sorted."""
        return sorted({self.node, *self.by})


class Promise(NamedTuple):
    """A node accepted an epoch: how recent its history was then, and the event."""

    recency: Any
    op: int


class Primary(NamedTuple):
    """A node began to broadcast in an epoch, after the item of zxid `last`."""

    epoch: Any
    node: str
    last: Any
    op: int


class Fall(NamedTuple):
    """A node that had accepted epoch `high` accepted `low` later; with the events."""

    node: str
    high: Any
    at: int
    low: Any
    op: int


@dataclass
class Observed:
    """What nodes observed of their own deliveries.

    Attributes:
        runs: Unbroken runs of deliveries, each of one life of a node.
        primaries: In the order of the history.
        epochs: Node -> the highest epoch that it accepted, and the event.
        falls: Where a node's epoch went back.
        nodes: All that observed anything.
        consents: Steps that need a quorum.
        promises: (node, epoch, its leader) -> what the node told that leader first.
    """

    runs: list[list[Seen]] = field(default_factory=list)
    primaries: list[Primary] = field(default_factory=list)
    epochs: dict[str, tuple[Any, int]] = field(default_factory=dict)
    falls: list[Fall] = field(default_factory=list)
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
        elif op.f == LEADS:
            epoch, last = (freeze(op.value.get(name)) for name in ("term", "last_zxid"))
            observed.primaries.append(Primary(epoch, node, last, op.index))
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
    """Take note of the epoch that a node accepted, now or before it restarted."""
    name = {"new_epoch": "epoch", "recovered": "accepted_epoch"}.get(op.f, "")
    epoch = op.value.get(name)
    if not isinstance(epoch, int):
        return
    before = observed.epochs.setdefault(node, (epoch, op.index))
    if epoch < before[0]:
        observed.falls.append(Fall(node, *before, epoch, op.index))
    else:
        observed.epochs[node] = (epoch, op.index)


def take_consent(observed: Observed, node: str, op: Op) -> None:
    """Take note of what a node promised, and on whose promises it acted."""
    told = op.value
    if op.f == "new_epoch" and "last_zxid" in told:
        which = (node, freeze(told.get("epoch")), freeze(told.get("leader")))
        # The first: later ones, as after a restart, are not what the leader went by.
        observed.promises.setdefault(which, Promise(recency_of(op), op.index))
    by = told.get(CONSENTS[op.f]) if op.f in CONSENTS else None
    if isinstance(by, list):
        epoch, who = freeze(told.get("term")), [str(name) for name in by]
        consent = Consent(node, epoch, who, op.f, recency_of(op), op.index)
        observed.consents.append(consent)


CONSENTS = {SYNCHRONIZING: "promised", LEADS: "acked"}
"""Kinds of event that need a quorum's consent, and the field with those who gave it."""


def recency_of(op: Op) -> Any:
    """How recent a node's history is: the epoch that it adopted last, its end."""
    return freeze([op.value.get("current_epoch"), op.value.get("last_zxid")])
