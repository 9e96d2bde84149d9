"""What clients broadcast, and the sequences of deliveries that they read.

Operations are `broadcast` (ok: delivered at the node asked) and `delivered`, which
gives a page of the sequence of one node. A delivered item is [epoch, counter, message].
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from checkers.findings import name_of, shown
from checkers.tallies import Kinds, bad_op, outcome
from checkers.values import freeze

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from checkers.functions import Known
    from harness.history import History, Op


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
        """Its place in the order."""
        return self.epoch, self.counter

    def __str__(self) -> str:
        return f"{shown(self.message)} ({self.epoch}, {self.counter})"


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
        places_are: The types of epochs and counters; more than one pair is an error.
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
        if role == "broadcast" and op.type == "invoke":
            end = history.completion[op.index]
            sent = Broadcast(op.index, outcome(history, op), end)
            sequences.broadcasts[freeze(op.value)] = sent
            sequences.kinds.note(None, op.value)
        elif role == "delivered" and op.type == "ok":
            take_page(sequences, history, op)
    return sequences


def take_page(sequences: Sequences, history: History, op: Op) -> None:
    """Take note of a part of what a node delivered, from some position on."""
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
        HistoryError: The answer has another form.
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
