"""Phase 1, discovery: a new epoch, which a quorum promises to accept.

A leader whose history is behind a follower's gives up. So does a leader that hears of a
later epoch than its own; the epoch of its next attempt is later still. ZooKeeper leaves
a follower of such an epoch out until the leader dies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reference_impls.zab.election import FOLLOWING, LEADING
from reference_impls.zab.messages import Zxid
from reference_impls.zab.standing import DISCOVERY

if TYPE_CHECKING:
    from reference_impls.actor import Body
    from reference_impls.core import Outbox
    from reference_impls.zab.disk import Disk
    from reference_impls.zab.looking import Looking
    from reference_impls.zab.options import Settings
    from reference_impls.zab.sessions import Learner, Sessions
    from reference_impls.zab.standing import Standing
    from reference_impls.zab.synchronization import Synchronization


@dataclass(eq=False)
class Discovery:
    """Begins an epoch: chooses it as the leader, or promises it as a follower."""

    out: Outbox
    settings: Settings  # how long it may take
    standing: Standing
    disk: Disk  # what was promised
    sessions: Sessions
    looking: Looking  # gives up; and says how recent a history is
    synchronization: Synchronization  # what comes next

    epoch_seen: int = 0  # the latest that anyone spoke of

    def begin(self, leader: str) -> None:
        """Lead or follow, as the election has it."""
        if leader == self.out.node:
            self.lead()
        else:
            self.follow(leader)

    def lead(self) -> None:
        """Be the prospective leader, until a quorum agrees or time is up."""
        self.standing.enter(LEADING, DISCOVERY, self.out.node)
        self.standing.epoch = 0
        self.sessions.learners = {}
        self.set_timers()
        self.try_new_epoch()

    def follow(self, leader: str) -> None:
        """Tell the prospective leader the last epoch promised (f.1.1)."""
        self.standing.enter(FOLLOWING, DISCOVERY, leader)
        self.sessions.open_to_leader()
        self.synchronization.incoming = {}
        self.set_timers()
        promised = self.disk.accepted_epoch
        self.sessions.tell_leader({"type": "cepoch", "accepted_epoch": promised})

    def set_timers(self) -> None:
        """Stop the election's timers; limit how long the next phases may take."""
        self.out.cancel_timer("notify")
        self.out.cancel_timer("finalize")
        self.out.set_timer("init", self.settings.init_ms)
        if self.out.peers:
            self.out.set_timer("tick", self.settings.tick_ms)

    # --- the leader --------------------------------------------------------------

    def on_cepoch(self, learner: Learner, accepted_epoch: int) -> None:
        """Note a follower's last promise; tell a latecomer the epoch (l.3.3)."""
        epoch = self.standing.epoch
        learner.accepted_epoch = accepted_epoch
        self.epoch_seen = max(self.epoch_seen, accepted_epoch)
        if not epoch:
            self.try_new_epoch()
        elif accepted_epoch > epoch:
            self.looking.give_up(f"{learner.name} promised epoch {accepted_epoch}")
        else:
            self.sessions.tell(learner, {"type": "newepoch", "epoch": epoch})

    def try_new_epoch(self) -> None:
        """With a quorum's CEPOCHs, choose an epoch later than all of them (l.1.1)."""
        if not self.sessions.has_quorum(lambda f: f.accepted_epoch is not None):
            return
        epoch = max(self.epoch_seen, self.disk.accepted_epoch) + 1
        self.standing.epoch = epoch
        self.accept_epoch(epoch)
        for learner in self.sessions.learners.values():
            if learner.accepted_epoch is not None:
                self.sessions.tell(learner, {"type": "newepoch", "epoch": epoch})
        self.synchronization.try_begin()

    def on_ack_epoch(self, learner: Learner, body: Body) -> None:
        """Note a follower's promise and the end of its history (l.1.2, l.3.4)."""
        learner.end = (body["current_epoch"], Zxid(*body["zxid"]))
        learner.promised = body["promised"]
        recency = self.looking.recency
        if self.standing.phase != DISCOVERY:
            self.synchronization.synchronize(learner)
        elif recency(*learner.end) > recency(*self.disk.end()):
            self.looking.give_up(f"{learner.name} has a more recent history")
        else:
            self.synchronization.try_begin()

    # --- a follower --------------------------------------------------------------

    def on_newepoch(self, epoch: int) -> None:
        """Promise, and tell how recent this node's history is (f.1.2).

        A node promises an epoch only once. If it had promised this one before, maybe to
        another leader, it follows, but its answer doesn't count.
        """
        disk = self.disk
        if epoch < disk.accepted_epoch:
            self.looking.give_up(f"{self.standing.leader} is of epoch {epoch}")
            return
        promised = epoch > disk.accepted_epoch
        if promised:
            self.accept_epoch(epoch)
        self.sessions.tell_leader(
            {
                "type": "ack_epoch",
                "current_epoch": disk.current_epoch,
                "zxid": disk.history.last_zxid,
                "promised": promised,
            }
        )

    def accept_epoch(self, epoch: int) -> None:
        """Promise, durably before any answer, to follow no leader of earlier epochs."""
        disk = self.disk
        disk.accepted_epoch = epoch
        self.epoch_seen = max(self.epoch_seen, epoch)
        disk.persist_epochs()
        self.out.observe(
            "new_epoch",
            epoch=epoch,
            leader=self.standing.leader,
            current_epoch=disk.current_epoch,
            last_zxid=disk.history.last_zxid,
        )
