"""What cores have in common: they gather a step's effects, in order.

A core calls `send`, `persist`, `observe` and so on as it goes, and hands the gathered
effects to the world at the end of the step (`take_effects`). A core of one piece
derives from `Core`; one that is composed of parts gives each of them the same `Outbox`.
`well_formed` checks a peer's message before a core trusts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from reference_impls.actor import (
    Actor,
    Body,
    CancelTimer,
    Effect,
    Observe,
    Persist,
    Record,
    Reply,
    Send,
    SetTimer,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from reference_impls.actor import Received

S = TypeVar("S", bound="DataclassInstance")

Fields = Mapping[str, Callable[[Any], bool]]
"""What a message must hold beside its type: field -> whether a value is possible."""


class Outbox:
    """The effects of a step, in order, and the names of the servers.

    Args:
        node: The server's name.
        peers: The other servers.

    Attributes:
        servers: All servers, this one included, in the same order on each.
    """

    def __init__(self, node: str, peers: Sequence[str]) -> None:
        self.node = node
        self.peers = tuple(peers)
        self.servers = tuple(sorted((node, *peers)))
        self.effects: list[Effect] = []

    def take_effects(self) -> list[Effect]:
        """The effects since the last call, in order."""
        effects, self.effects = self.effects, []
        return effects

    def persist(self, record: Record, *, replaces: bool = False) -> None:
        """Make a record durable before any effect that follows leaves.

        Args:
            record: What to keep.
            replaces: The record says all that earlier ones said, so they may go.
        """
        self.effects.append(Persist(record, replaces))

    def send(self, dest: str, body: Body) -> None:
        """Send to a peer."""
        self.effects.append(Send(dest, body))

    def broadcast(self, body: Body) -> None:
        """Send to all peers."""
        for peer in self.peers:
            self.send(peer, body)

    def reply(self, request: Received, body: Body) -> None:
        """Answer a client."""
        self.effects.append(Reply(request, body))

    def set_timer(self, name: str, min_ms: float, max_ms: float | None = None) -> None:
        """(Re)start a timer; without `max_ms` there is no randomness in it."""
        self.effects.append(
            SetTimer(name, min_ms, min_ms if max_ms is None else max_ms)
        )

    def gather(self, name: str, patience_ms: float) -> None:
        """Let a timer fire when all that has arrived was delivered, or that much later.

        Setting it again for 0 ms ends the patience.
        """
        self.effects.append(SetTimer(name, 0, 0, patience_ms))

    def cancel_timer(self, name: str) -> None:
        """Stop a timer."""
        self.effects.append(CancelTimer(name))

    def observe(self, kind: str, **fields: Any) -> None:
        """Tell the world what happened."""
        self.effects.append(Observe(kind, fields))


class Core(Outbox, Actor):
    """An actor of one piece, which gathers its own effects."""

    def majority(self) -> int:
        """How many servers are more than half of them."""
        return len(self.servers) // 2 + 1

    def is_quorum(self, servers: Iterable[str]) -> bool:
        """True for a majority of the servers; any two of those have one in common."""
        return len(set(servers)) >= self.majority()


def chosen(settings: type[S], options: Mapping[str, Any]) -> S:
    """A core's settings, picked out of all options.

    Args:
        settings: A dataclass with a field for each option of the core.
        options: Values by name.
    """
    return settings(**{field.name: options[field.name] for field in fields(settings)})


# --- what peers say --------------------------------------------------------------


def well_formed(body: Body, messages: Mapping[str, Fields]) -> bool:
    """True when a message has every field of its type, with a possible value.

    `messages` holds the fields of each type. Cost: a microsecond or two; a message that
    lies about its content isn't caught.
    """
    kind = body.get("type")
    fields = messages.get(kind) if isinstance(kind, str) else None
    if fields is None:
        return False
    for name, check in fields.items():
        if name not in body:
            return False
        value = body[name]
        if check is is_count:  # most fields are counts: a call less for each
            if type(value) is not int or value < 0:
                return False
        elif not check(value):
            return False
    return True


def is_count(value: Any) -> bool:
    """True for a whole number that isn't negative; booleans are none."""
    return type(value) is int and value >= 0


def is_key(value: Any) -> bool:
    """True for a whole number or string, which is one key however JSON spells it."""
    return type(value) in {int, str}


def is_anything(value: Any) -> bool:
    """True for any JSON."""
    return True


def is_object(value: Any) -> bool:
    """True for a JSON object."""
    return type(value) is dict


def is_flag(value: Any) -> bool:
    """True for a boolean."""
    return type(value) is bool


def is_text(value: Any) -> bool:
    """True for a string."""
    return type(value) is str
