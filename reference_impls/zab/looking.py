"""Phase 0: look for a leader, and give up the one there was (Medeiros 2012, 4.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reference_impls.zab.election import LOOKING, Election, Tell
from reference_impls.zab.messages import Vote
from reference_impls.zab.standing import ELECTION

if TYPE_CHECKING:
    from reference_impls.actor import Body
    from reference_impls.core import Outbox
    from reference_impls.zab.disk import Disk
    from reference_impls.zab.messages import Zxid
    from reference_impls.zab.options import Settings
    from reference_impls.zab.requests import Requests
    from reference_impls.zab.sessions import Sessions
    from reference_impls.zab.standing import Standing


@dataclass(eq=False)
class Looking:
    """Finds the node to follow, or finds that this node may lead."""

    out: Outbox
    settings: Settings  # how long votes are waited for
    standing: Standing
    disk: Disk  # how recent the own history is
    sessions: Sessions  # end when the node gives up
    requests: Requests  # are abandoned when the node gives up

    election: Election = field(init=False)
    elected: str | None = None  # the outcome, until the node acts on it

    def __post_init__(self) -> None:
        self.election = Election(self.out.node, len(self.out.servers), self.vote_order)

    def begin(self) -> None:
        """Vote for oneself and tell everyone."""
        self.standing.enter(LOOKING, ELECTION, None)
        for timer in ("init", "silence", "tick"):
            self.out.cancel_timer(timer)
        self.election.begin(Vote(*self.disk.end(), self.out.node))
        self.tell_vote_to_all()
        self.consider_votes()

    def give_up(self, why: str) -> None:
        """Stop leading or following, and start over with an election."""
        state, epoch = self.standing.state, self.disk.accepted_epoch
        self.out.observe("gave_up", state=state, epoch=epoch, why=why)
        self.requests.abandon_all(why)
        self.sessions.learners.clear()
        self.begin()

    # --- which vote is better (l.1.2) ----------------------------------------------

    def vote_order(self, vote: Vote) -> tuple[Any, ...]:
        """The most recent history wins; the highest id if there are several."""
        return (*self.recency(vote.epoch, vote.zxid), vote.leader)

    def recency(self, epoch: int, zxid: Zxid) -> tuple[Any, ...]:
        """How recent a history is: by f.a, then by its last zxid (l.1.2)."""
        return (epoch, zxid)

    # --- votes -------------------------------------------------------------------

    def notification(self) -> Body:
        """This node's vote."""
        return {
            "type": "notification",
            "round": self.election.round,
            "state": self.standing.state,
            "vote": self.election.vote,
        }

    def tell_vote_to_all(self) -> None:
        """Tell everyone this node's vote, and again later, as it may get lost."""
        self.out.broadcast(self.notification())
        if self.out.peers:
            tick_ms = self.settings.tick_ms
            self.out.set_timer("notify", tick_ms, 2 * tick_ms)

    def on_notify(self) -> None:
        """Tell this node's vote once more, if the votes so far decide nothing."""
        if self.standing.state == LOOKING:
            self.tell_vote_to_all()

    def on_notification(self, src: str, body: Body) -> None:
        """Count a vote; one who has found a leader tells those who look for one."""
        if self.standing.state != LOOKING:
            if body["state"] == LOOKING:
                self.out.send(src, self.notification())
            return
        match self.election.hear(src, body):
            case Tell.ALL:
                self.out.cancel_timer("finalize")
                self.tell_vote_to_all()
            case Tell.SENDER:
                self.out.send(src, self.notification())
            case Tell.NOBODY:
                pass
        self.consider_votes()

    def consider_votes(self) -> None:
        """See whether a leader is found; a quorum waits a little for a better vote."""
        serving = self.election.serving_leader()
        if serving is not None:
            self.elected = serving
        elif self.election.is_unanimous():
            self.elected = self.election.vote.leader
        elif self.election.has_quorum():
            self.out.set_timer("finalize", self.settings.finalize_ms)

    def on_finalize(self) -> None:
        """Take the quorum's vote, as no better one came in time."""
        if self.standing.state == LOOKING and self.election.has_quorum():
            self.elected = self.election.vote.leader
