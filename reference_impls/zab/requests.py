"""Requests under way, and how their answers find back.

A follower passes requests on in its session with the leader. So each answer comes after
the COMMIT that it rests on, and a client reads here what it wrote. When the session
breaks, this node won't learn what became of the requests, and tells the clients so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from reference_impls.actor import CRASH, TEMPORARILY_UNAVAILABLE, TIMEOUT, error
from reference_impls.zab import service

if TYPE_CHECKING:
    from reference_impls.actor import Body, Received
    from reference_impls.core import Outbox
    from reference_impls.zab.messages import Zxid
    from reference_impls.zab.sessions import Learner, Sessions


class Request(NamedTuple):
    """A request under way.

    Attributes:
        received: From a client, or the FORWARD of a follower.
        command: What it asks for.
        learner: The session in which it was passed on, if it was.
    """

    received: Received
    command: service.Command
    learner: Learner | None = None


@dataclass(eq=False)
class Requests:
    """Keeps the requests that aren't answered yet, and answers them."""

    out: Outbox
    sessions: Sessions  # in which requests are passed on, and answered

    # follower only: made anew with each leader
    forwarded: dict[int, Request] = field(default_factory=dict)
    last_forward_id: int = 0
    # leader only: made anew with each leadership
    batch: list[Request] = field(default_factory=list)  # proposed next
    waiting: dict[Zxid, list[Request]] = field(default_factory=dict)  # proposed

    def put_into_batch(self, request: Request) -> None:
        """Let it be proposed next, with all that arrives before the timer fires."""
        self.batch.append(request)
        self.out.set_timer("batch", 0)

    def take_batch(self) -> list[Request]:
        """Take all requests that are to be proposed now."""
        batch, self.batch = self.batch, []
        return batch

    def forward(self, request: Request) -> None:
        """Pass a write on to the leader; for a read, a sync, and read here after it."""
        self.last_forward_id += 1
        self.forwarded[self.last_forward_id] = request
        command = request.command
        if service.changes_nothing(command):
            command = {"type": "sync"}
        body = {"type": "forward", "id": self.last_forward_id, "request": command}
        self.sessions.tell_leader(body)

    # --- answers -----------------------------------------------------------------

    def answer(self, request: Request, reply: Body) -> None:
        """Answer a client, or the follower that passed the request on."""
        learner = request.learner
        if learner is None:
            self.out.reply(request.received, reply)
        elif self.sessions.learners.get(learner.name) is learner:
            number = request.received.body["id"]
            body = {"type": "forward_reply", "id": number, "reply": reply}
            self.sessions.tell(learner, body)

    def refuse(self, request: Request, why: str) -> None:
        """Answer that the request certainly has no effect."""
        text = f"{self.out.node}: {why}"
        self.answer(request, error(TEMPORARILY_UNAVAILABLE, text))

    def abandon_all(self, why: str) -> None:
        """Answer all requests, before this node stops leading or following.

        A write that was proposed or passed on may yet take effect, so its answer is
        indefinite; all others are refused.
        """
        for request in self.batch:
            self.refuse(request, f"{why}; the request was not proposed")
        proposed = [r for requests in self.waiting.values() for r in requests]
        for request, code, how in (
            *((r, CRASH, "proposed") for r in proposed),
            *((r, TIMEOUT, "passed on") for r in self.forwarded.values()),
        ):
            if service.changes_nothing(request.command):
                self.refuse(request, why)
            else:
                text = f"{self.out.node}: {how}, but {why}"
                self.answer(request, error(code, text))
        self.batch = []
        self.waiting = {}
        self.forwarded = {}
