"""Client sessions: a request that is sent again takes effect once (thesis 6.3).

A client that heard no answer can't tell whether its write was lost or the answer was,
and sending it again may do it twice. So it numbers its requests, and sends along

    "retry": {"client": "c3", "seq": 17, "first": 15}

`seq` is this request's number, and the same in every copy of it; numbers grow. `first`
is the lowest number whose answer the client still awaits; if it is left out, it is
`seq`. The state machine remembers the answers from `first` on, and gives them again
instead of doing the work again. No client waits for the answer to a copy below `first`,
so such a copy is not done at all.

`first` is the thesis's way to let one client have several requests under way. A client
that waits for each answer needs none of it.

Sessions are part of the replicated state, and hence of snapshots: a copy may come after
the log that held the original is gone.

Choices: a session begins with the first request of its client and never ends, just as
keys are never dropped. The thesis lets sessions expire, and must then refuse clients
that it no longer knows.
"""

from __future__ import annotations

from typing import Any

from reference_impls.actor import CRASH, error

CLIENT_CHARS_MAX = 200

Retry = dict[str, Any]
"""A request's `retry`, checked: client, seq and first."""


class Session:
    """The answers to one client: `replies` by request number, from `first` on."""

    __slots__ = ("first", "replies")

    def __init__(self, first: int, replies: dict[int, dict[str, Any]]) -> None:
        self.first = first
        self.replies = replies


class Sessions:
    """The sessions of all clients. Deterministic, so that replicas stay alike."""

    __slots__ = ("by_client",)

    def __init__(self) -> None:
        self.by_client: dict[str, Session] = {}

    def answer(self, retry: Retry) -> dict[str, Any] | None:
        """The remembered answer to a request, if it is a copy.

        Returns:
            The answer of the request that was done; an indefinite error for a number
            below `first`, as it may have been done or not; None if the request has yet
            to be done.
        """
        session = self.by_client.get(retry["client"])
        if session is None:
            return None
        if retry["seq"] < session.first:
            text = f"{retry['client']} no longer awaits its request {retry['seq']}"
            return error(CRASH, text)
        return session.replies.get(retry["seq"])

    def remember(self, retry: Retry, reply: dict[str, Any]) -> None:
        """Keep the answer until the client awaits it no longer."""
        session = self.by_client.get(retry["client"])
        if session is None:
            session = self.by_client[retry["client"]] = Session(retry["first"], {})
        if retry["first"] > session.first:
            session.first = retry["first"]
            for seq in [seq for seq in session.replies if seq < session.first]:
                del session.replies[seq]
        session.replies[retry["seq"]] = reply

    def as_data(self) -> list[Any]:
        """The state for a snapshot: JSON-able. Replies are shared, and never change."""
        return [
            [client, session.first, list(session.replies.items())]
            for client, session in self.by_client.items()
        ]

    @classmethod
    def from_data(cls, data: list[Any]) -> Sessions:
        """Sessions from the data of `as_data`, also decoded JSON."""
        sessions = cls()
        for client, first, replies in data:
            sessions.by_client[client] = Session(first, dict(replies))
        return sessions


def parse(value: Any) -> Retry | None:
    """A request's `retry` with `first` filled in; None if it is malformed."""
    if not isinstance(value, dict):
        return None
    client, seq = value.get("client"), value.get("seq")
    first = value.get("first", seq)
    if type(client) is not str or not 0 < len(client) <= CLIENT_CHARS_MAX:
        return None
    if type(seq) is not int or type(first) is not int or not 0 <= first <= seq:
        return None
    return {"client": client, "seq": seq, "first": first}
