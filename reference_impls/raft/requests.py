"""Clients' requests: served, passed on to the leader, and tried again (thesis 6).

A server that doesn't lead passes a request on, and keeps it until it has the answer. A
new leader gets it anew: the old one may have been lost with it, or may have replicated
it. So that this takes effect once, a write carries the session of the server that
passes it on (`sessions.py`), if it has none of its client's. The numbers of that
session grow across restarts: `life`, on disk, counts the billions.

A server that comes to lead serves what it had passed on as if it had come from a peer.

What a client is told. A write that left the leader's hands may still commit after its
leadership, whoever leads then. It is answered ok or failed once an entry is committed
at its index, and otherwise, after a while, 13: nobody knows. An entry that was
truncated here isn't thereby dead: another node may hold it and win the next election
(Figure 8). Of a request that was passed on there may be copies, so no refusal of one is
the last word: it waits for a next leader, or for its time to be up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reference_impls import kv
from reference_impls.actor import (
    CRASH,
    MALFORMED_REQUEST,
    TEMPORARILY_UNAVAILABLE,
    TIMEOUT,
    Received,
    error,
)
from reference_impls.raft.membership import ADMIN, Membership
from reference_impls.raft.reads import Reads
from reference_impls.raft.server import LEADER, Waiting

if TYPE_CHECKING:
    from reference_impls.actor import Body, Now

REQUESTS_PER_LIFE = 1_000_000_000

SERVERS = "server "
"""How the sessions of servers begin; no client may call itself like that."""

ANYONE = {"client": ""}

UNSETTLED = frozenset({TIMEOUT, TEMPORARILY_UNAVAILABLE, CRASH})
"""Answers to a copy of a request that say nothing of other copies."""


@dataclass(frozen=True, slots=True)
class OwnForward(Received):
    """A request that this server had passed on, and now serves as the leader."""


class Requests(Membership, Reads):
    """How requests get an answer, wherever they arrive."""

    def on_request(self, request: Received) -> None:
        """A client's request: check it, then serve it or pass it on."""
        kind = request.body.get("type")
        if type(kind) is str and kind in ADMIN:
            self.on_admin(request)
            return
        command, flaw = kv.parse(request.body)
        if command is None:
            assert flaw is not None
            self.answer(request, flaw)
            return
        if command.get("retry", ANYONE)["client"].startswith(SERVERS):
            text = f"clients that begin with {SERVERS!r} are the servers' own"
            self.answer(request, error(MALFORMED_REQUEST, text))
        elif self.reads == "local" and kv.is_read(command):
            self.answer(request, self.state.answer_read(command))
        elif self.role == LEADER:
            self.serve(request, command)
        elif self.leader is not None:
            self.forward(request, command)
        else:
            self.refuse(request, "no leader is known")

    def serve(self, request: Received, command: kv.Command) -> None:
        """The leader's part, by the kind of request and the way of reading."""
        if not kv.is_read(command) or self.reads == "log":
            self.propose(request, command)
        elif self.reads == "lease" and self.has_lease(request.now):
            self.answer(request, self.state.answer_read(command))
        else:
            self.read_index(request, command)

    def propose(self, request: Received, command: kv.Command) -> None:
        """Put the command into the batch that goes to the log next."""
        self.batch.append((request, command))
        self.set_timer("batch", 0)

    # --- passing on --------------------------------------------------------------

    def forward(self, request: Received, command: kv.Command) -> None:
        """Pass a request on to the leader."""
        number = self.next_forward_id()
        waiting = self.forwarded[number] = self.waiting(request, command)
        if not kv.is_read(command):
            first = next(iter(self.forwarded))
            mine = {"client": SERVERS + self.node, "seq": number, "first": first}
            command.setdefault("retry", mine)
        self.send_forward(number, waiting)

    def next_forward_id(self) -> int:
        """Numbers only ever grow: a new life is on disk before it uses its first."""
        if not self.last_forward_id:
            self.life += 1
            self.persist({"life": self.life})
            self.last_forward_id = self.life * REQUESTS_PER_LIFE
        self.last_forward_id += 1
        return self.last_forward_id

    def send_forward(self, number: int, waiting: Waiting) -> None:
        """Send the leader a copy of the request."""
        assert self.leader is not None
        body = {"type": "forward", "id": number, "request": waiting.command}
        self.send(self.leader, body)

    def on_new_leader(self, leader: str, now: Now | None) -> None:
        """A leader is known: it gets what is still unanswered, in order."""
        self.settle_transfer(leader)
        for number, waiting in list(self.forwarded.items()):
            if leader != self.node:
                self.send_forward(number, waiting)
            else:
                assert now is not None
                body = {"type": "forward", "id": number}
                self.serve(OwnForward(self.node, body, now), waiting.command)

    def on_forward(self, request: Received) -> None:
        """A request that a follower passed on."""
        if self.role != LEADER:
            self.refuse(request, "does not lead")
            return
        command, flaw = kv.parse(request.body["request"])
        if command is None:
            assert flaw is not None
            self.answer(request, flaw)
        else:
            self.serve(request, command)

    def on_forward_reply(self, number: int, reply: Body) -> None:
        """The leader's answer to a request that was passed on."""
        if reply.get("code") not in UNSETTLED:
            waiting = self.forwarded.pop(number, None)
            if waiting is not None:
                self.answer(waiting.request, reply)

    # --- answers -----------------------------------------------------------------

    def answer(self, request: Received, reply: Body) -> None:
        """Answer a client, or the server that passed the request on."""
        if isinstance(request, OwnForward):
            self.on_forward_reply(request.body["id"], reply)
        elif request.src in self.peers:
            body = {"type": "forward_reply", "id": request.body["id"], "reply": reply}
            self.send(request.src, body)
        else:
            self.reply(request, reply)

    def refuse(self, request: Received, why: str) -> None:
        """Answer that this copy of the request certainly has no effect."""
        self.answer(request, error(TEMPORARILY_UNAVAILABLE, f"{self.node}: {why}"))

    def waiting(self, request: Received, command: kv.Command) -> Waiting:
        """Note that a request is under way, and see to it that it ends some day."""
        if not self.sweeping:
            self.sweeping = True
            self.set_timer("sweep", self.request_timeout_ms)
        return Waiting(request, command, self.current_term, self.sweep)

    def on_sweep(self) -> None:
        """Give up what waited for a whole timeout: nobody knows what becomes of it."""
        for index in [i for i, w in self.proposed.items() if w.since < self.sweep]:
            self.abandon_proposed(index)
        for number in [n for n, w in self.forwarded.items() if w.since < self.sweep]:
            self.abandon_forwarded(number)
        self.sweep += 1
        self.sweeping = bool(self.proposed or self.forwarded)
        if self.sweeping:
            self.set_timer("sweep", self.request_timeout_ms)

    def abandon_proposed(self, index: int) -> None:
        """Tell whoever waits for `index` that nobody knows (Figure 8)."""
        waiting = self.proposed.pop(index, None)
        if waiting is not None:
            text = f"{self.node}: proposed, but not known to be committed"
            self.answer(waiting.request, error(CRASH, text))

    def abandon_forwarded(self, number: int) -> None:
        """Tell a client that nobody knows; a read has no effect whatever became of it.

        No later copy can do it either: the session's `first` moves on.
        """
        waiting = self.forwarded.pop(number)
        if kv.is_read(waiting.command):
            self.refuse(waiting.request, "passed the read on, but had no answer")
        else:
            text = f"{self.node}: passed on, but never answered"
            self.answer(waiting.request, error(TIMEOUT, text))
