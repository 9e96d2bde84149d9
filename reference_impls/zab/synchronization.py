"""Phase 2, synchronization: a quorum comes to hold the leader's history.

The leader's own history is the initial history of its epoch (l.1.2). It brings each
follower level (Medeiros 2012, 4.2), and serves once a quorum has acknowledged that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reference_impls.zab.messages import in_chunks
from reference_impls.zab.standing import BROADCAST, SYNCHRONIZATION

if TYPE_CHECKING:
    from reference_impls.actor import Body
    from reference_impls.core import Outbox
    from reference_impls.zab.broadcast import Broadcast
    from reference_impls.zab.delivery import Delivery
    from reference_impls.zab.disk import Disk
    from reference_impls.zab.looking import Looking
    from reference_impls.zab.messages import Zxid
    from reference_impls.zab.options import Settings
    from reference_impls.zab.sessions import Learner, Sessions
    from reference_impls.zab.standing import Standing


@dataclass(eq=False)
class Synchronization:
    """Makes the followers' histories equal the leader's."""

    out: Outbox
    settings: Settings  # how many transactions one message holds
    standing: Standing
    disk: Disk  # the history
    sessions: Sessions
    looking: Looking  # gives up when it can't be done
    delivery: Delivery  # delivers the initial history
    broadcast: Broadcast  # what comes next

    incoming: dict[str, Any] = field(default_factory=dict)  # to adopt; follower only

    # --- the leader --------------------------------------------------------------

    def try_begin(self) -> None:
        """Begin the epoch with this history, once a quorum promised (l.2.1)."""
        sessions, epoch = self.sessions, self.standing.epoch
        if not sessions.has_quorum(lambda f: f.promised):
            return
        self.standing.reach(SYNCHRONIZATION)
        began_from, self.disk.current_epoch = self.disk.current_epoch, epoch
        self.disk.persist_epochs()
        self.out.observe(
            "synchronizing",
            term=epoch,
            promised=[f.name for f in sessions.learners.values() if f.promised],
            current_epoch=began_from,
            last_zxid=self.disk.history.last_zxid,
        )
        for learner in sessions.learners.values():
            if learner.end is not None:
                self.synchronize(learner)
        self.try_broadcast()

    def synchronize(self, learner: Learner) -> None:
        """Bring a follower level (Medeiros 2012, 4.2), then ask it to agree (l.2.1).

        TRUNC drops what it has and this history lacks, DIFF brings what it lacks. A
        follower that is behind the oldest transaction kept here gets the state, SNAP.
        """
        assert learner.end is not None
        _, end = learner.end
        tell, history = self.sessions.tell, self.disk.history
        if end < history.base:
            common = self.delivery.delivered
            for part in [{}, *self.delivery.service.parts()]:
                tell(learner, {"type": "snapshot", "zxid": common, "part": part})
        else:
            common = history.last_up_to(end)
            if common != end:
                tell(learner, {"type": "truncate", "zxid": common})
        size = self.settings.txns_per_message_max
        for txns in in_chunks(history.after(common), size):
            tell(learner, {"type": "diff", "txns": txns})
        tell(learner, {"type": "newleader", "epoch": self.standing.epoch})
        learner.is_fed = True

    def on_ack_newleader(self, learner: Learner, zxid: Zxid) -> None:
        """Note that a follower is level, and let it serve if this leader does."""
        learner.acked = zxid
        if self.standing.phase == SYNCHRONIZATION:
            self.try_broadcast()
        else:
            self.bring_up_to_date(learner)
            self.broadcast.advance_commit()

    def may_broadcast(self) -> bool:
        """True once a quorum acknowledged NEWLEADER (l.2.2)."""
        return self.sessions.has_quorum(lambda f: f.acked is not None)

    def try_broadcast(self) -> None:
        """Lead: this history is committed, and new transactions may follow (l.2.2)."""
        if not self.may_broadcast():
            return
        self.standing.reach(BROADCAST)
        self.broadcast.counter = 0
        self.out.cancel_timer("init")
        zxid, epoch = self.disk.history.last_zxid, self.standing.epoch
        self.delivery.deliver_up_to(zxid)
        level = [f for f in self.sessions.learners.values() if f.acked is not None]
        acked = [f.name for f in level]
        self.out.observe("became_leader", term=epoch, last_zxid=zxid, acked=acked)
        for learner in level:
            self.bring_up_to_date(learner)

    def bring_up_to_date(self, learner: Learner) -> None:
        """Let a follower deliver what is committed, and serve."""
        learner.is_up_to_date = True
        body = {"type": "uptodate", "zxid": self.delivery.delivered}
        self.sessions.tell(learner, body)

    # --- a follower --------------------------------------------------------------

    def on_history(self, body: Body) -> None:
        """Keep a piece of the leader's history until NEWLEADER comes."""
        match body["type"]:
            case "snapshot":
                parts = self.incoming.setdefault("parts", [])
                parts.append(body["part"])
                self.incoming["snapshot"] = body["zxid"]
            case "truncate":
                self.incoming["truncate"] = body["zxid"]
            case _:
                self.incoming.setdefault("txns", []).extend(body["txns"])

    def on_newleader(self, epoch: int) -> None:
        """Adopt the leader's history and its epoch, both or neither (f.2.1).

        They are in one record: an epoch without its history would let a node win
        elections that lacks what was delivered.
        """
        disk = self.disk
        if epoch != disk.accepted_epoch:
            self.looking.give_up(f"{self.standing.leader} leads epoch {epoch}")
            return
        adopted, self.incoming = self.incoming, {}
        self.delivery.install(adopted)
        disk.current_epoch = epoch
        self.standing.reach(SYNCHRONIZATION)
        disk.persist_epochs(**adopted)
        if "snapshot" in adopted:
            self.out.observe("snapshot_installed", zxid=disk.history.base)
        zxid = disk.history.last_zxid
        self.sessions.tell_leader({"type": "ack_newleader", "zxid": zxid})

    def on_uptodate(self, zxid: Zxid) -> None:
        """Deliver the leader's history, now that it leads (f.2.2), and serve."""
        self.standing.reach(BROADCAST)
        self.out.cancel_timer("init")
        term, leader = self.disk.current_epoch, self.standing.leader
        self.out.observe("became_follower", term=term, leader=leader)
        self.delivery.deliver_up_to(zxid)
