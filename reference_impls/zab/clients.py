"""Clients' requests: answered here, proposed, or passed on to the leader.

*Sync is a broadcast.* ZooKeeper's leader answers a sync from what it has in hand, so
that a leader which was deposed, and doesn't know yet, lets a stale read pass. Hunt et
al. 2010, 4.4, propose a null transaction, unless others are pending. Here those that
were proposed before the sync arrived don't count: their acknowledgements may be older
than the sync, and older than the next leader. So a sync waits for a transaction of its
own batch (`Broadcast.on_batch`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reference_impls.actor import Received
from reference_impls.zab import service
from reference_impls.zab.requests import Request

if TYPE_CHECKING:
    from reference_impls.actor import Body
    from reference_impls.core import Outbox
    from reference_impls.zab.delivery import Delivery
    from reference_impls.zab.options import Settings
    from reference_impls.zab.requests import Requests
    from reference_impls.zab.sessions import Learner, Sessions
    from reference_impls.zab.standing import Standing


@dataclass(eq=False)
class Clients:
    """Handles a request where it arrives."""

    out: Outbox
    settings: Settings  # the way of reading
    standing: Standing
    sessions: Sessions  # the time
    requests: Requests
    delivery: Delivery  # what reads are answered from

    def on_request(self, received: Received) -> None:
        """Check a client's request, then serve it or pass it on."""
        command, flaw = service.parse(received.body)
        if command is None:
            assert flaw is not None
            self.out.reply(received, flaw)
            return
        request = Request(received, command)
        if not self.standing.serves:
            self.requests.refuse(request, "no leader serves yet")
        elif self.is_local(command):
            self.requests.answer(request, self.delivery.service.answer(command))
        elif self.standing.leads:
            self.requests.put_into_batch(request)
        else:
            self.requests.forward(request)

    def is_local(self, command: service.Command) -> bool:
        """May any node answer this from its own state? (Hunt et al. 2010, 2.3)."""
        if command["type"] == "delivered":
            return True
        is_read = service.changes_nothing(command) and command["type"] != "sync"
        return is_read and self.settings.reads == "local"

    def on_forward(self, learner: Learner, body: Body) -> None:
        """Propose what a follower passed on; its session brings it exactly once."""
        received = Received(learner.name, body, self.sessions.now)
        command, flaw = service.parse(body["request"])
        request = Request(received, command or {}, learner)
        if command is None:
            assert flaw is not None
            self.requests.answer(request, flaw)
        elif self.standing.serves:
            self.requests.put_into_batch(request)
        else:
            self.requests.refuse(request, "does not serve yet")

    def on_forward_reply(self, body: Body) -> None:
        """Answer as the leader did; all that its answer rests on is delivered here."""
        request = self.requests.forwarded.pop(body["id"], None)
        if request is None:
            return
        reply = body["reply"]
        if reply.get("type") == "sync_ok":
            reply = self.delivery.service.answer(request.command)
        self.requests.answer(request, reply)
