"""Phase 3, broadcast: propose, acknowledge, commit, in the order of zxids.

Requests wait until everything that has arrived was delivered (a timer of 0 ms), then
are proposed, sent and made durable together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reference_impls.zab import service
from reference_impls.zab.messages import ZERO, Txn, in_chunks

if TYPE_CHECKING:
    from reference_impls.core import Outbox
    from reference_impls.zab.delivery import Delivery
    from reference_impls.zab.disk import Disk
    from reference_impls.zab.messages import Zxid
    from reference_impls.zab.options import Settings
    from reference_impls.zab.requests import Request, Requests
    from reference_impls.zab.sessions import Learner, Sessions
    from reference_impls.zab.standing import Standing


@dataclass(eq=False)
class Broadcast:
    """Brings transactions from the leader to everyone, in order."""

    out: Outbox
    settings: Settings  # how many transactions one message holds
    standing: Standing  # the epoch
    disk: Disk  # where transactions are accepted
    delivery: Delivery  # where they go once they are committed
    sessions: Sessions
    requests: Requests  # those that are proposed

    counter: int = 0  # of the last transaction in this epoch; leader only

    # --- the leader --------------------------------------------------------------

    def on_batch(self) -> None:
        """Give the requests that have arrived zxids, and propose them (l.3.1).

        A sync waits for a transaction of its own batch (Hunt et al. 2010, 4.4), the
        null transaction if there is no other.
        """
        waiting = self.requests.waiting
        txns: list[Txn] = []
        syncs: list[Request] = []
        for request in self.requests.take_batch():
            if service.changes_nothing(request.command):
                syncs.append(request)
            else:
                txns.append(self.next_txn(request.command))
                waiting[txns[-1].zxid] = [request]
        if syncs and not txns:
            txns.append(self.next_txn(service.NULL))
        if syncs:
            waiting.setdefault(txns[-1].zxid, []).extend(syncs)
        if txns:
            self.propose(txns)

    def next_txn(self, command: service.Command) -> Txn:
        """The next transaction of this epoch."""
        self.counter += 1
        return Txn(self.standing.epoch, self.counter, command)

    def propose(self, txns: list[Txn]) -> None:
        """Accept the transactions and send them to all who have the history.

        The sends come before the `Persist`, so the followers' disks work in parallel
        with this one. This node counts itself at once, which is safe because whatever
        follows from that comes after the `Persist`.
        """
        self.disk.history.extend(txns)
        for chunk in in_chunks(txns, self.settings.txns_per_message_max):
            for learner in self.sessions.learners.values():
                if learner.is_fed:
                    self.sessions.tell(learner, {"type": "propose", "txns": chunk})
        self.disk.persist_txns(txns)
        self.advance_commit()

    def on_ack(self, learner: Learner, zxid: Zxid) -> None:
        """Note an acknowledgement; it covers all before it, as channels are FIFO."""
        if learner.acked is not None and zxid > learner.acked:
            learner.acked = zxid
            self.advance_commit()

    def advance_commit(self) -> None:
        """Commit what a quorum acknowledged, in the order of zxids (l.3.2)."""
        zxid = self.quorum_acked()
        if zxid <= self.delivery.delivered:
            return
        for learner in self.sessions.learners.values():
            if learner.is_up_to_date:
                self.sessions.tell(learner, {"type": "commit", "zxid": zxid})
        self.delivery.deliver_up_to(zxid)

    def quorum_acked(self) -> Zxid:
        """The last zxid that a majority holds, this node included (l.3.2)."""
        acked = [learner.acked or ZERO for learner in self.sessions.learners.values()]
        acked += [ZERO] * (len(self.out.peers) - len(acked))
        acked.append(self.disk.history.last_zxid)
        acked.sort(reverse=True)
        return acked[len(acked) // 2]

    # --- a follower --------------------------------------------------------------

    def on_propose(self, txns: list[Txn]) -> None:
        """Accept in the order of arrival, and acknowledge once durable (f.3.1)."""
        history = self.disk.history
        history.extend(txns)
        self.disk.persist_txns(txns)
        self.sessions.tell_leader({"type": "ack", "zxid": history.last_zxid})

    def on_commit(self, zxid: Zxid) -> None:
        """Deliver, once all that comes before is delivered (f.3.2)."""
        if self.standing.serves:
            self.delivery.deliver_up_to(zxid)
