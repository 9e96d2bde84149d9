"""The rules of primary-order broadcast, each a function that yields its breaches.

`of_sequences` judges what clients read, `of_observed` what nodes observed. Each rule is
tested by the name of its breach in `test_total_order.py`, which also judges random
sequences by the paper's definitions.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

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
from checkers.broadcast.observed import SYNCHRONIZING
from checkers.broadcast.sequences import items, page_of
from checkers.values import is_below

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from checkers.broadcast.evidence import Breach
    from checkers.broadcast.observed import Observed, Primary
    from checkers.broadcast.sequences import Item, Seen, Sequences
    from harness.history import History


def of_sequences(history: History, sequences: Sequences) -> Iterator[Breach]:
    """What the sequences that clients read break.

    Raises:
        HistoryError: A message is of a kind that nobody broadcast.
    """
    yield from own_order(sequences)
    yield from one_sequence(sequences)
    yield from integrity(history, sequences)
    yield from real_time(sequences)
    yield from nothing_lost(sequences)


def of_observed(observed: Observed) -> Iterator[Breach]:
    """What the deliveries that nodes observed break, and the rules of Zab."""
    yield from one_order(observed)
    yield from one_primary(observed)
    yield from epochs_grow(observed)
    yield from primary_integrity(observed)
    yield from quorums(observed)
    yield from recent_histories(observed)


# --- sequences read by clients -------------------------------------------------------


def own_order(sequences: Sequences) -> Iterator[Breach]:
    """Each node's own sequence: it stays as it is, by zxid, and repeats nothing."""
    for position, before, after in sequences.changed:
        yield DeliveryChanged(position, before, after)
    for places in sequences.places.values():
        yield from by_zxid([places[position] for position in sorted(places)])
        yield from no_repetition(places)


def by_zxid(sequence: list[Seen]) -> Iterator[Breach]:
    """Primary order, local and global: zxids only grow."""
    for a, b in pairwise(sequence):
        if a.item.epoch is None or b.item.epoch is None:
            continue
        if a.item.zxid == b.item.zxid or is_below(b.item.zxid, a.item.zxid):
            yield OrderOfPrimaries(a, b)
            return


def no_repetition(places: Mapping[int, Seen]) -> Iterator[Breach]:
    """Integrity: no message is delivered twice."""
    first: dict[Hashable, tuple[int, Seen]] = {}
    for position in sorted(places):
        seen = places[position]
        if seen.item.message is None:
            continue
        at, before = first.setdefault(seen.item.message, (position, seen))
        if at != position:
            yield DuplicateDelivery(at, before, position, seen)


def one_sequence(sequences: Sequences) -> Iterator[Breach]:
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
            yield OtherItem(position, other, mine, ordered)


def integrity(history: History, sequences: Sequences) -> Iterator[Breach]:
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
            yield from was_broadcast(history, sequences, seen)


def was_broadcast(
    history: History, sequences: Sequences, seen: Seen
) -> Iterator[Breach]:
    """A delivered message was broadcast before, and that did not fail for sure."""
    sent = sequences.broadcasts.get(seen.item.message)
    if sent is None:
        know_its_kind(history, sequences, seen)
        yield NeverBroadcast(seen)
    elif sent.outcome == "fail":
        yield FailedDelivered(seen, sent)
    elif sent.invoked > seen.op:
        yield DeliveredEarly(seen, sent)


def know_its_kind(history: History, sequences: Sequences, seen: Seen) -> None:
    """Raises HistoryError for a message of a kind that nobody broadcast."""
    op = history[seen.op]
    _, messages, _ = page_of(history, op)
    for message, item in zip(messages, items(messages), strict=True):
        if item.message == seen.item.message:
            has_place = isinstance(message, list) and len(message) == 3
            content = message[2] if has_place else message
            sequences.kinds.judge(history, op, None, content)


def real_time(sequences: Sequences) -> Iterator[Breach]:
    """What was broadcast after another message was acknowledged comes after it.

    When a message is acknowledged it is delivered somewhere, so each later primary has
    it (primary integrity), and the same one broadcasts in order (local primary order).
    """
    told: set[tuple[Hashable, Hashable]] = set()
    for places in sequences.places.values():
        yield from in_real_time(sequences, places, told)


def in_real_time(
    sequences: Sequences,
    places: Mapping[int, Seen],
    told: set[tuple[Hashable, Hashable]],
) -> Iterator[Breach]:
    """Real time in one node's sequence; pairs in `told` are not yielded again."""
    earliest: tuple[int, Seen] | None = None
    for position in sorted(places, reverse=True):
        seen = places[position]
        sent = sequences.broadcasts.get(seen.item.message)
        if sent is None:
            continue
        if earliest is not None and earliest[0] < sent.invoked:
            acknowledged, later = earliest
            pair = (seen.item.message, later.item.message)
            if pair not in told:
                told.add(pair)
                yield OrderOfBroadcasts(seen, later, acknowledged, sent.invoked)
        if sent.outcome == "ok" and (earliest is None or sent.ended < earliest[0]):
            earliest = sent.ended, seen


def nothing_lost(sequences: Sequences) -> Iterator[Breach]:
    """What was acknowledged is in the sequences at the end."""
    whole = sequences.whole()
    if not whole:
        return
    kept = set().union(*whole.values())
    for message, sent in sequences.broadcasts.items():
        if sent.outcome == "ok" and message not in kept:
            yield LostMessage(message, sent, tuple(sorted(whole)))


# --- deliveries that nodes observed --------------------------------------------------


def one_order(observed: Observed) -> Iterator[Breach]:
    """Each item has one predecessor and one successor, whoever delivers it."""
    after: dict[Item, tuple[Seen, Seen]] = {}
    before: dict[Item, tuple[Seen, Seen]] = {}
    told: set[tuple[str, str]] = set()
    for run in observed.runs:
        yield from by_zxid(run)
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
                    yield OtherNeighbour(other, pair)


def one_primary(observed: Observed) -> Iterator[Breach]:
    """An epoch has one primary."""
    first: dict[Any, Primary] = {}
    for primary in observed.primaries:
        other = first.setdefault(primary.epoch, primary)
        if other.node != primary.node:
            yield TwoPrimaries(other, primary)


def epochs_grow(observed: Observed) -> Iterator[Breach]:
    """A node forgets no epoch that it accepted (f.1.2)."""
    yield from map(EpochWentBack, observed.falls)


def primary_integrity(observed: Observed) -> Iterator[Breach]:
    """A primary begins with all that anybody delivers of earlier epochs."""
    last: dict[Any, Seen] = {}
    for run in observed.runs:
        for seen in run:
            epoch = seen.item.epoch
            if epoch is not None and (
                epoch not in last or is_below(last[epoch].item.zxid, seen.item.zxid)
            ):
                last[epoch] = seen
    for primary in observed.primaries:
        if primary.epoch not in last or not isinstance(primary.last, tuple):
            continue
        for missed in last.values():
            is_earlier = is_below(missed.item.epoch, primary.epoch)
            if is_earlier and is_below(primary.last, missed.item.zxid):
                yield PrimaryLacks(primary, missed)


def quorums(observed: Observed) -> Iterator[Breach]:
    """A primary acts with the consent of more than half of the nodes.

    The nodes are those that observed anything, which may be fewer than there are. So a
    quorum that is too small may pass, but none is blamed wrongly.
    """
    for consent in observed.consents:
        if 2 * len(consent.consenting) <= len(observed.nodes):
            yield NoQuorum(consent, len(observed.nodes))


def recent_histories(observed: Observed) -> Iterator[Breach]:
    """An epoch begins with a history as recent as any of its quorum (l.1.2)."""
    for consent in observed.consents:
        if consent.step != SYNCHRONIZING:
            continue
        for other in consent.by:
            promise = observed.promises.get((other, consent.epoch, consent.node))
            if promise is not None and is_below(consent.recency, promise.recency):
                yield OlderHistory(consent, other, promise)
