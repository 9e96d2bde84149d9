"""Requests that a server can't serve itself go to the leader, and the answers back.

A replicated log has one server at a time that may propose. The others pass clients'
requests on to it:

- A request carries a number that only ever grows, so that a copy of it, made by the
  network, isn't a second write (`is_first_copy`).
- It names the term of the leader it is meant for. Any other leader refuses it, unless
  an earlier life of that server may have taken a copy of it: then only silence is
  honest.
- Every request that waits is answered: when the leader's term is over, or when a
  timeout has passed. By then nobody here knows what became of it.

A term is any number that grows from leader to leader and belongs to one of them.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, NamedTuple

from reference_impls import kv
from reference_impls.actor import TEMPORARILY_UNAVAILABLE, TIMEOUT, Body, error
from reference_impls.core import Core, is_count, is_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reference_impls.actor import Received
    from reference_impls.core import Fields

SEEN_FORWARDS_MAX = 10_000

FORWARD_MESSAGES: Mapping[str, Fields] = {
    "forward": {"term": is_count, "id": is_count, "request": is_object},
    "forward_reply": {"id": is_count, "reply": is_object},
}


class Waiting(NamedTuple):
    """A request that isn't answered yet.

    Attributes:
        request: The client's, or a peer's `forward`.
        term: The term in which it was proposed, or forwarded.
        since: The sweep (`ForwardingCore.on_sweep`) in which it came.
    """

    request: Received
    term: int
    since: int


class ForwardingCore(Core, abc.ABC):
    """A core whose clients may talk to any server.

    Args:
        node: The server's name.
        peers: The other servers.
        request_timeout_ms: When an unanswered request is given up.
    """

    def __init__(
        self, node: str, peers: Sequence[str], request_timeout_ms: float
    ) -> None:
        super().__init__(node, peers)
        self.request_timeout_ms = request_timeout_ms
        self.forwarded: dict[int, Waiting] = {}
        self.last_forward_id = 0
        self.seen_forwards: set[tuple[str, int]] = set()
        self.seen_forwards_before: set[tuple[str, int]] = set()
        self.recovered_term = 0  # in terms up to this, an earlier life may have led
        self.sweep = 0
        self.sweeping = False

    # --- what the protocol adds --------------------------------------------------

    @abc.abstractmethod
    def leading_term(self) -> int | None:
        """The term that this server leads; None when it doesn't lead."""

    @abc.abstractmethod
    def serve(self, request: Received, command: kv.Command) -> None:
        """Serve a checked command as the leader."""

    @abc.abstractmethod
    def give_up_proposed(self) -> bool:
        """Answer what was proposed before this sweep.

        Returns:
            True if a later proposal still waits.
        """

    # --- a request's way ---------------------------------------------------------

    def forward(
        self, request: Received, command: kv.Command, leader: str, term: int
    ) -> None:
        """Pass a request on. Ids only ever grow, restarts included."""
        self.last_forward_id = max(self.last_forward_id + 1, request.now.mono_ns)
        self.forwarded[self.last_forward_id] = self.waiting(request, term)
        body = {
            "type": "forward",
            "term": term,
            "id": self.last_forward_id,
            "request": command,
        }
        self.send(leader, body)

    def on_forward(self, request: Received) -> None:
        """Serve a request that another server passed on, at most once."""
        body = request.body
        if not self.is_first_copy(request.src, body["id"]):
            return
        if body["term"] == self.leading_term():
            self.parse_and_serve(request, body["request"])
        elif body["term"] > self.recovered_term:
            self.refuse(request, "does not lead in that term")

    def parse_and_serve(self, request: Received, body: Body) -> None:
        """Check a forwarded request as if a client had sent it, and serve it."""
        command, flaw = kv.parse(body)
        if command is None:
            assert flaw is not None
            self.answer(request, flaw)
        else:
            self.serve(request, command)

    def is_first_copy(self, src: str, forward_id: int) -> bool:
        """Remember a forwarded request.

        Two generations of SEEN_FORWARDS_MAX requests bound the memory: a request is
        remembered for at least one of them.

        Returns:
            False for a copy of a request that came before.
        """
        copy = (src, forward_id)
        if copy in self.seen_forwards or copy in self.seen_forwards_before:
            return False
        self.seen_forwards.add(copy)
        if len(self.seen_forwards) >= SEEN_FORWARDS_MAX:
            self.seen_forwards_before = self.seen_forwards
            self.seen_forwards = set()
        return True

    def on_forward_reply(self, body: Body) -> None:
        """Hand the leader's answer to the client whose request was passed on."""
        waiting = self.forwarded.pop(body["id"], None)
        if waiting is not None:
            self.answer(waiting.request, body["reply"])

    # --- answers -----------------------------------------------------------------

    def answer(self, request: Received, reply: Body) -> None:
        """Answer a client, or the server that passed the request on."""
        if request.src in self.peers:
            body = {"type": "forward_reply", "id": request.body["id"], "reply": reply}
            self.send(request.src, body)
        else:
            self.reply(request, reply)

    def refuse(self, request: Received, why: str) -> None:
        """Answer that the request certainly has no effect."""
        self.answer(request, error(TEMPORARILY_UNAVAILABLE, f"{self.node}: {why}"))

    def abandon_forwarded(self, why: str) -> None:
        """Answer that nobody knows what became of the requests that were passed on.

        To say so at once, and not after a timeout, frees clients for a new leader while
        the old one may still believe that it leads.
        """
        for waiting in self.forwarded.values():
            text = f"{self.node}: passed on, but {why}"
            self.answer(waiting.request, error(TIMEOUT, text))
        self.forwarded.clear()

    # --- patience ----------------------------------------------------------------

    def waiting(self, request: Received, term: int) -> Waiting:
        """Note that a request is under way; a sweep ends it if nothing else does."""
        if not self.sweeping:
            self.sweeping = True
            self.set_timer("sweep", self.request_timeout_ms)
        return Waiting(request, term, self.sweep)

    def on_sweep(self) -> None:
        """Give up what waited for a whole timeout: nobody knows what becomes of it."""
        still_waits = self.give_up_proposed()
        for key in [k for k, w in self.forwarded.items() if w.since < self.sweep]:
            request = self.forwarded.pop(key).request
            text = f"{self.node}: passed on, but never answered"
            self.answer(request, error(TIMEOUT, text))
        self.sweep += 1
        self.sweeping = still_waits or bool(self.forwarded)
        if self.sweeping:
            self.set_timer("sweep", self.request_timeout_ms)
