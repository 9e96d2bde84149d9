"""The messages between Zab's nodes, and the zxids, transactions and votes in them.

The names are those of the paper (Junqueira, Reed and Serafini 2011): CEPOCH, NEWEPOCH,
ACK-E, NEWLEADER, and from ZooKeeper (Medeiros 2012, 4.1 and 4.2) the `notification` of
an election, TRUNC, DIFF, SNAP and UPTODATE, which the paper calls COMMIT of NEWLEADER.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from reference_impls.core import is_count, is_flag, is_object, is_text
from reference_impls.zab import service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reference_impls.core import Fields


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
    """A vote for `leader`, and how recent the history of that node is."""

    epoch: int
    zxid: Zxid
    leader: str


def txns_of(entries: Sequence[Any]) -> list[Txn]:
    """Transactions out of JSON."""
    return [Txn(*entry) for entry in entries]


def in_chunks(txns: list[Txn], size: int) -> list[list[Txn]]:
    """The transactions, `size` at a time."""
    return [txns[i : i + size] for i in range(0, len(txns), size)]


# --- shapes --------------------------------------------------------------------------


def is_zxid(value: Any) -> bool:
    """True for a zxid's list of two."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(is_count(part) for part in value)
    )


def is_vote(value: Any) -> bool:
    """True for a vote's list of three."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and is_count(value[0])
        and is_zxid(value[1])
        and isinstance(value[2], str)
    )


def is_txns(value: Any) -> bool:
    """True for a list of transactions that the service knows."""
    return isinstance(value, list) and all(map(is_txn, value))


def is_txn(value: Any) -> bool:
    """True for a transaction that the service knows."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and is_zxid(value[:2])
        and isinstance(value[2], dict)
        and (value[2] == service.NULL or service.parse(value[2])[0] is not None)
    )


def is_body(value: Any) -> bool:
    """True for an object, or for None, which a heartbeat carries."""
    return value is None or isinstance(value, dict)


OPEN: Mapping[str, Fields] = {
    "notification": {"round": is_count, "state": is_text, "vote": is_vote},
    "frame": {
        "sender": is_count,
        "receiver": is_count,
        "number": is_count,
        "ack": is_count,
        "body": is_body,
    },
}
"""Messages outside of sessions, which may be lost or reordered: type -> field -> shape.
A frame is one of them; its session puts frames in order."""

FRAMED: Mapping[str, Fields] = {
    # discovery
    "cepoch": {"accepted_epoch": is_count},
    "newepoch": {"epoch": is_count},
    "ack_epoch": {"current_epoch": is_count, "zxid": is_zxid, "promised": is_flag},
    # synchronisation
    "snapshot": {"zxid": is_zxid, "part": is_object},
    "truncate": {"zxid": is_zxid},
    "diff": {"txns": is_txns},
    "newleader": {"epoch": is_count},
    "ack_newleader": {"zxid": is_zxid},
    "uptodate": {"zxid": is_zxid},
    # broadcast
    "propose": {"txns": is_txns},
    "ack": {"zxid": is_zxid},
    "commit": {"zxid": is_zxid},
    # clients' requests
    "forward": {"id": is_count, "request": is_object},
    "forward_reply": {"id": is_count, "reply": is_object},
}
"""Messages that arrive in order, in frames of a session: type -> field -> shape."""
