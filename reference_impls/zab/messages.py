"""What the nodes of Zab say to each other, and the numbers that they say it with.

The names are those of the paper (Junqueira, Reed and Serafini 2011): CEPOCH, NEWEPOCH,
ACK-E, NEWLEADER, and from ZooKeeper (Medeiros 2012, 4.1 and 4.2) the `notification` of
an election, TRUNC, DIFF, SNAP and UPTODATE, which the paper calls COMMIT of NEWLEADER.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from reference_impls.zab import service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from reference_impls.actor import Body


class Zxid(NamedTuple):
    """A transaction's id: the epoch of its primary, and its number there, from 1."""

    epoch: int
    counter: int


ZERO = Zxid(0, 0)
"""Before the first transaction."""


class Txn(NamedTuple):
    """A transaction; a list of three in JSON."""

    epoch: int
    counter: int
    command: service.Command

    @property
    def zxid(self) -> Zxid:
        """Its id."""
        return Zxid(self.epoch, self.counter)


class Vote(NamedTuple):
    """For whom a node votes, and how recent the history of that node is."""

    epoch: int
    zxid: Zxid
    leader: str


def txns_of(entries: Sequence[Any]) -> list[Txn]:
    """Transactions out of JSON."""
    return [Txn(*entry) for entry in entries]


# --- shapes --------------------------------------------------------------------------


def is_number(value: Any) -> bool:
    """True for a whole number that isn't negative."""
    return type(value) is int and value >= 0


def is_zxid(value: Any) -> bool:
    """True for a zxid's list of two."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(is_number(part) for part in value)
    )


def is_vote(value: Any) -> bool:
    """True for a vote's list of three."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and is_number(value[0])
        and is_zxid(value[1])
        and isinstance(value[2], str)
    )


def is_txns(value: Any) -> bool:
    """True for a list of transactions that the service knows."""
    return isinstance(value, list) and all(map(is_txn, value))


def is_txn(value: Any) -> bool:
    """True for one of them."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and is_zxid(value[:2])
        and isinstance(value[2], dict)
        and (value[2] == service.NULL or service.parse(value[2])[0] is not None)
    )


def is_body(value: Any) -> bool:
    """True for an object, or for the nothing that a heartbeat carries."""
    return value is None or isinstance(value, dict)


def is_dict(value: Any) -> bool:
    """True for an object."""
    return isinstance(value, dict)


def is_bool(value: Any) -> bool:
    """True for true and false."""
    return isinstance(value, bool)


def is_text(value: Any) -> bool:
    """True for a text."""
    return isinstance(value, str)


def is_list(value: Any) -> bool:
    """True for a list."""
    return isinstance(value, list)


OPEN: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "notification": {"round": is_number, "state": is_text, "vote": is_vote},
    "frame": {
        "sender": is_number,
        "receiver": is_number,
        "number": is_number,
        "ack": is_number,
        "body": is_body,
    },
}
"""Messages that arrive as they may: type -> field -> its shape."""

FRAMED: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    # discovery
    "cepoch": {"accepted_epoch": is_number},
    "newepoch": {"epoch": is_number},
    "ack_epoch": {"current_epoch": is_number, "zxid": is_zxid, "promised": is_bool},
    # synchronisation
    "snapshot": {"zxid": is_zxid, "part": is_dict},
    "truncate": {"zxid": is_zxid},
    "diff": {"txns": is_txns},
    "newleader": {"epoch": is_number},
    "ack_newleader": {"zxid": is_zxid},
    "uptodate": {"zxid": is_zxid},
    # broadcast
    "propose": {"txns": is_txns},
    "ack": {"zxid": is_zxid},
    "commit": {"zxid": is_zxid},
    # clients' requests
    "forward": {"id": is_number, "request": is_dict},
    "forward_reply": {"id": is_number, "reply": is_dict},
}
"""Messages that arrive in order, in a frame of the session with a leader."""


def well_formed(
    body: Body, kinds: Mapping[str, Mapping[str, Callable[[Any], bool]]]
) -> bool:
    """True when a message has every field of its type, in shape.

    Cost: a microsecond or two; a message that lies about its content isn't caught.
    """
    kind = body.get("type")
    fields = kinds.get(kind) if isinstance(kind, str) else None
    return fields is not None and all(
        name in body and fits(body[name]) for name, fits in fields.items()
    )
