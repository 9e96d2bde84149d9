"""A leadership's beginning and end: what all parts that only a leader uses do then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reference_impls.raft.log import NOOP, Entry
from reference_impls.raft.standing import LEADER

if TYPE_CHECKING:
    from reference_impls.actor import Now
    from reference_impls.core import Outbox
    from reference_impls.raft.log import Log
    from reference_impls.raft.membership import Membership
    from reference_impls.raft.options import Settings
    from reference_impls.raft.reads import Reads
    from reference_impls.raft.replication import Replication
    from reference_impls.raft.rounds import Rounds
    from reference_impls.raft.service import Service
    from reference_impls.raft.snapshot_sender import SnapshotSender
    from reference_impls.raft.standing import Standing


@dataclass(eq=False)
class Leadership:
    """Begins and ends a leadership, and keeps it up with heartbeats."""

    out: Outbox  # where the timers are set
    settings: Settings  # how often heartbeats are sent
    standing: Standing  # the term that is led
    log: Log  # gets a no-op
    rounds: Rounds  # begin anew with each leadership
    reads: Reads  # may have a lease anew; those that wait are refused at the end
    replication: Replication  # begins anew with each leadership
    snapshots: SnapshotSender  # sends none after the end
    service: Service  # refuses its batch at the end
    membership: Membership  # refuses a server that was to join at the end

    def begin(self, now: Now) -> None:
        """Lead this term: forget old leadership, and commit a no-op (paper 8)."""
        term = self.standing.current_term
        self.standing.become(LEADER, self.out.node)
        self.replication.begin_term()
        self.rounds.begin_term(now)
        self.reads.begin_term()
        self.out.cancel_timer("election")
        last_log_index = self.log.last_index
        self.out.observe("became_leader", term=term, last_log_index=last_log_index)
        self.out.set_timer("heartbeat", self.settings.heartbeat_ms)
        self.replication.append([Entry(term, NOOP)], now)
        self.service.lead(now)

    def heartbeat(self, now: Now) -> None:
        """Show that there is a leader, again and again (paper 5.2)."""
        self.out.set_timer("heartbeat", self.settings.heartbeat_ms)
        self.replication.heartbeat(now)

    def end(self) -> None:
        """Refuse what certainly has no effect; what was sent may still commit."""
        self.standing.leader = None
        self.out.cancel_timer("heartbeat")
        self.reads.refuse_all("lost its leadership before it could answer the read")
        self.service.refuse_batch()
        self.membership.give_up_catch_up(
            "lost its leadership before it changed the members"
        )
        self.snapshots.end()
