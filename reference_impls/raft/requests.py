"""Requests that aren't answered yet: passed on, proposed, tried again (thesis 6).

A server that doesn't lead passes a request on, and keeps it until it has the answer. If
the leader changes meanwhile, the server passes the request on again: nobody here knows
whether the old leader has replicated it. So that the request takes effect once, a write
carries the session of the server that passes it on (`sessions.py`), unless its client
has given it one. The numbers of that session grow across restarts: the server's `life`,
a count on disk, makes up the digits from a billion on. If the disk was emptied, the
server's incarnation makes up those from a trillion on.

A server that comes to lead serves what it had passed on as if it had come from a peer.

What a client is told. A write that left the leader may still commit after that leader's
term, whoever leads then. It is answered ok or failed once an entry is committed at its
index. If none is after a while, the answer is 13: nobody knows. An entry that was
truncated here may yet commit: another node may hold it and win the next election
(Figure 8). Of a request that was passed on there may be several copies. If one of them
is refused, another may have taken effect, so the request still waits for a next leader
or for its timeout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from reference_impls import kv
from reference_impls.actor import (
    CRASH,
    TEMPORARILY_UNAVAILABLE,
    TIMEOUT,
    Received,
    error,
    value,
)

if TYPE_CHECKING:
    from reference_impls.actor import Body, Now, Record
    from reference_impls.core import Outbox
    from reference_impls.raft.log import Entry
    from reference_impls.raft.options import Settings
    from reference_impls.raft.standing import Standing

REQUESTS_PER_LIFE = 1_000_000_000
LIVES_PER_INCARNATION = 1_000

SERVERS = "server "
"""How the client's name in a server's session begins. No client may use this prefix."""

UNSETTLED = frozenset({TIMEOUT, TEMPORARILY_UNAVAILABLE, CRASH})
"""Answers to a copy of a request that say nothing of other copies."""


@value
class OwnForward(Received):
    """A request that this server had passed on, and now serves as the leader."""


class Waiting(NamedTuple):
    """A request that isn't answered yet.

    Attributes:
        request: The client's request, or a peer's `forward`.
        command: What it asks for.
        term: The term in which it was proposed, or passed on.
        since: The sweep (`Requests.on_sweep`) in which it came.
    """

    request: Received
    command: kv.Command
    term: int
    since: int


@dataclass(eq=False)
class Requests:
    """Keeps the requests that aren't answered yet, and answers them."""

    out: Outbox  # where answers go
    settings: Settings  # how long a request may wait
    standing: Standing  # whom requests are passed on to

    life: int = 0  # how often this server began to pass requests on; persistent
    last_forward_id: int = 0
    # requests that were passed on, by the number they went under
    forwarded: dict[int, Waiting] = field(default_factory=dict)
    # requests by the index of their entry; they outlive a leadership
    proposed: dict[int, Waiting] = field(default_factory=dict)
    sweep: int = 0
    sweeping: bool = False

    def recover(self, record: Record) -> None:
        """Take back how many lives there were, if the record holds that."""
        if "life" in record:
            self.life = record["life"]

    # --- passing on --------------------------------------------------------------

    def forward(self, request: Received, command: kv.Command) -> None:
        """Pass a request on to the leader."""
        number = self.next_forward_id()
        waiting = self.forwarded[number] = self.waiting(request, command)
        if not kv.is_read(command):
            first = next(iter(self.forwarded))
            mine = {"client": SERVERS + self.out.node, "seq": number, "first": first}
            command.setdefault("retry", mine)
        self.send_forward(number, waiting)

    def next_forward_id(self) -> int:
        """The next number; a new life is on disk before it uses its first."""
        if not self.last_forward_id:
            least = self.settings.incarnation * LIVES_PER_INCARNATION
            self.life = max(self.life + 1, least)
            self.out.persist({"life": self.life})
            self.last_forward_id = self.life * REQUESTS_PER_LIFE
        self.last_forward_id += 1
        return self.last_forward_id

    def send_forward(self, number: int, waiting: Waiting) -> None:
        """Send the leader a copy of the request."""
        assert self.standing.leader is not None
        body = {"type": "forward", "id": number, "request": waiting.command}
        self.out.send(self.standing.leader, body)

    def forward_again(self) -> None:
        """Send a new leader what is still unanswered, in order."""
        for number, waiting in self.forwarded.items():
            self.send_forward(number, waiting)

    def own_forwards(self, now: Now) -> list[tuple[OwnForward, kv.Command]]:
        """The requests that this server had passed on, to be served by itself."""
        return [
            (
                OwnForward(self.out.node, {"type": "forward", "id": number}, now),
                waiting.command,
            )
            for number, waiting in self.forwarded.items()
        ]

    def on_forward_reply(self, number: int, reply: Body) -> None:
        """Answer a request that was passed on, if the leader's answer is final."""
        if reply.get("code") not in UNSETTLED:
            waiting = self.forwarded.pop(number, None)
            if waiting is not None:
                self.answer(waiting.request, reply)

    # --- proposing ---------------------------------------------------------------

    def propose_at(self, index: int, request: Received, command: kv.Command) -> None:
        """Let the request wait for the entry that is about to be appended there."""
        self.abandon_proposed(index)
        self.proposed[index] = self.waiting(request, command)

    def settle(self, index: int, entry: Entry, result: Body | None) -> None:
        """Answer the request that waits for `index`, where `entry` is applied now."""
        waiting = self.proposed.pop(index, None)
        if waiting is None:
            return
        if waiting.term == entry.term and result is not None:
            self.answer(waiting.request, result)
        else:
            # Another entry is committed at its index, so this one never will be.
            self.refuse(waiting.request, "overwritten by another leader's entry")

    # --- answers -----------------------------------------------------------------

    def answer(self, request: Received, reply: Body) -> None:
        """Answer a client, or the server that passed the request on."""
        if isinstance(request, OwnForward):
            self.on_forward_reply(request.body["id"], reply)
        elif request.src in self.out.peers:
            body = {"type": "forward_reply", "id": request.body["id"], "reply": reply}
            self.out.send(request.src, body)
        else:
            self.out.reply(request, reply)

    def refuse(self, request: Received, why: str) -> None:
        """Answer that this copy of the request certainly has no effect."""
        text = f"{self.out.node}: {why}"
        self.answer(request, error(TEMPORARILY_UNAVAILABLE, text))

    # --- patience ----------------------------------------------------------------

    def waiting(self, request: Received, command: kv.Command) -> Waiting:
        """Note that a request is under way; a sweep ends it if nothing else does."""
        if not self.sweeping:
            self.sweeping = True
            self.out.set_timer("sweep", self.settings.request_timeout_ms)
        return Waiting(request, command, self.standing.current_term, self.sweep)

    def on_sweep(self) -> None:
        """Give up what waited for a whole timeout: nobody knows what becomes of it."""
        for index in [i for i, w in self.proposed.items() if w.since < self.sweep]:
            self.abandon_proposed(index)
        for number in [n for n, w in self.forwarded.items() if w.since < self.sweep]:
            self.abandon_forwarded(number)
        self.sweep += 1
        self.sweeping = bool(self.proposed or self.forwarded)
        if self.sweeping:
            self.out.set_timer("sweep", self.settings.request_timeout_ms)

    def abandon_up_to(self, index: int) -> None:
        """Answer those that wait for entries up to `index`: nobody knows."""
        for proposed in [i for i in self.proposed if i <= index]:
            self.abandon_proposed(proposed)

    def abandon_proposed(self, index: int) -> None:
        """Answer the request that waits for `index`: nobody knows (Figure 8)."""
        waiting = self.proposed.pop(index, None)
        if waiting is not None:
            text = f"{self.out.node}: proposed, but not known to be committed"
            self.answer(waiting.request, error(CRASH, text))

    def abandon_forwarded(self, number: int) -> None:
        """Answer a write with "nobody knows", and refuse a read, which has no effect.

        No later copy takes effect either, as the session's `first` moves on.
        """
        waiting = self.forwarded.pop(number)
        if kv.is_read(waiting.command):
            self.refuse(waiting.request, "passed the read on, but had no answer")
        else:
            text = f"{self.out.node}: passed on, but never answered"
            self.answer(waiting.request, error(TIMEOUT, text))
