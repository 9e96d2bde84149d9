"""AppendEntries from the leader's side, and what may be committed (paper 5.3, 5.4.2).

There is one append in flight per follower. Heartbeats flow regardless, and the answer
to a later heartbeat shows that an earlier append was lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reference_impls.actor import Body, Now
    from reference_impls.core import Outbox
    from reference_impls.raft.commitment import Commitment
    from reference_impls.raft.log import Entry, Log
    from reference_impls.raft.options import Settings
    from reference_impls.raft.quorum import Quorum
    from reference_impls.raft.reads import Reads
    from reference_impls.raft.rounds import Rounds
    from reference_impls.raft.snapshot_sender import SnapshotSender
    from reference_impls.raft.standing import Standing


@dataclass(eq=False)
class Replication:
    """Brings the leader's entries into everyone's log; begins anew at each election."""

    out: Outbox  # where appends go
    settings: Settings  # how many entries one of them holds
    standing: Standing  # the term
    log: Log  # the leader's
    quorum: Quorum  # who has to store an entry
    rounds: Rounds  # the broadcast that an append belongs to
    reads: Reads  # those that wait for a round
    commitment: Commitment  # commits what a majority stores
    snapshots: SnapshotSender  # for followers that need what is compacted

    # index of the next entry to send to each server (Figure 2)
    next_index: dict[str, int] = field(default_factory=dict)
    # up to where each server's log equals this one (Figure 2)
    match_index: dict[str, int] = field(default_factory=dict)
    # each server's unanswered append: its round, and its last index
    in_flight: dict[str, tuple[int, int]] = field(default_factory=dict)
    # the last round whose answer by a server is void, as it may have another disk since
    void_round: dict[str, int] = field(default_factory=dict)

    def begin_term(self) -> None:
        """Reinitialize after election (Figure 2, volatile state on leaders)."""
        self.next_index = dict.fromkeys(self.out.peers, self.log.last_index + 1)
        self.match_index = dict.fromkeys(self.out.peers, 0)
        self.in_flight = {}
        self.void_round = dict.fromkeys(self.out.peers, 0)

    def distrust(self, peer: str) -> None:
        """Forget how far a server is, which may have come back with an empty disk."""
        self.next_index[peer] = self.log.last_index + 1
        self.match_index[peer] = 0
        self.in_flight.pop(peer, None)
        self.snapshots.give_up(peer)
        self.rounds.distrust(peer)
        self.void_round[peer] = self.rounds.round

    # --- sending (paper 5.3) -----------------------------------------------------

    def append(self, entries: list[Entry], now: Now) -> None:
        """Append to the leader's log and send to everyone.

        The sends come before the `Persist`, so the followers' disks work in parallel
        with this one (thesis 10.2.1). This server counts itself at once, which is safe
        because whatever follows from that, such as a reply, comes after the `Persist`.
        """
        first = self.log.last_index + 1
        self.log.extend(entries)
        self.begin_round(now)
        self.broadcast(heartbeat=False)
        if entries:
            self.log.persist(first, entries)
            self.out.observe("appended", first=first, entries=entries)
        self.advance_commit_index()

    def heartbeat(self, now: Now) -> None:
        """Show everyone that there is a leader (paper 5.2)."""
        self.begin_round(now)
        self.broadcast(heartbeat=True)

    def begin_round(self, now: Now) -> None:
        """Begin a round, to which all appends from here on belong."""
        if self.rounds.begin(now):
            self.reads.on_rounds_answered()

    def broadcast(self, *, heartbeat: bool) -> None:
        """Send each follower what it lacks, one append or chunk at a time.

        Followers at the same point get the same body, for the world to encode once.
        """
        base = self.log.base
        bodies: dict[tuple[int, bool], Body] = {}
        for peer in self.out.peers:
            next_index = self.next_index[peer]
            empty = peer in self.in_flight
            if empty:
                # The answer to this heartbeat will show whether the append in flight
                # arrived. Meanwhile its entries may have been compacted.
                next_index = max(next_index, base + 1)
            if next_index <= base:
                if heartbeat or peer not in self.snapshots.outgoing:
                    self.send_chunk(peer)
            elif heartbeat or not empty:
                point = (next_index, empty)
                if point not in bodies:
                    bodies[point] = self.append_entries(next_index, empty=empty)
                self.send_append(peer, bodies[point])

    def send_next(self, peer: str) -> None:
        """Send what a follower lacks next: entries, or a snapshot in their place."""
        if self.next_index[peer] <= self.log.base:
            self.send_chunk(peer)
        else:
            body = self.append_entries(self.next_index[peer], empty=False)
            self.send_append(peer, body)

    def send_append(self, peer: str, body: Body) -> None:
        """Send an AppendEntries, and remember it when it carries entries."""
        if body["entries"]:
            last = body["prev_log_index"] + len(body["entries"])
            self.in_flight[peer] = (self.rounds.round, last)
        self.rounds.sent_round[peer] = self.rounds.round
        self.out.send(peer, body)

    def send_chunk(self, peer: str) -> None:
        """Send a piece of the snapshot, in place of any append."""
        self.in_flight.pop(peer, None)
        self.snapshots.send_chunk(peer)

    def append_entries(self, next_index: int, *, empty: bool) -> Body:
        """AppendEntries' arguments (Figure 2) for a follower at `next_index`."""
        count = 0 if empty else self.settings.entries_per_append_max
        return {
            "type": "append_entries",
            "term": self.standing.current_term,
            "prev_log_index": next_index - 1,
            "prev_log_term": self.log.term_at(next_index - 1),
            "entries": self.log.since(next_index, count),
            "leader_commit": self.commitment.machine.commit_index,
            "round": self.rounds.round,
        }

    # --- answers -----------------------------------------------------------------

    def on_append_entries_reply(self, src: str, body: Body) -> None:
        """Learn how far a follower is, and that it still follows."""
        if not self.is_answer_to_this_leader(body):
            return
        self.hear_round(src, body)
        if body["round"] <= self.void_round[src]:
            return
        self.settle_in_flight(src, body)
        if body["success"]:
            self.on_match(src, body["match_index"])
        elif src not in self.in_flight and src not in self.snapshots.outgoing:
            self.next_index[src] = self.back_up(body)
            self.send_next(src)

    def on_install_snapshot_reply(self, src: str, body: Body) -> None:
        """Send the chunk that the follower wants, if that is news (Figure 13)."""
        if not self.is_answer_to_this_leader(body):
            return
        self.hear_round(src, body)
        if self.snapshots.take_answer(src, body):
            self.send_chunk(src)

    def is_answer_to_this_leader(self, body: Body) -> bool:
        """Is this an answer to what was sent in this term, which is led here?"""
        return self.standing.leads and bool(body["term"] == self.standing.current_term)

    def hear_round(self, src: str, body: Body) -> None:
        """Count the answer, whatever it says, as proof that the follower follows."""
        if self.rounds.hear(src, body["round"]):
            self.reads.on_rounds_answered()

    def settle_in_flight(self, src: str, body: Body) -> None:
        """Forget the append in flight if this answers it, or something sent later.

        In the latter case the append was lost, or the answer to it was.
        """
        sent_round, last = self.in_flight.get(src, (0, 0))
        acked = body["round"]
        answered = not body["success"] or body["match_index"] >= last
        if acked > sent_round or (acked == sent_round and answered):
            self.in_flight.pop(src, None)

    def on_match(self, src: str, match_index: int) -> None:
        """Note that the logs are equal up to `match_index`, and send the rest."""
        match_index = min(match_index, self.log.last_index)
        if match_index > self.match_index[src]:
            self.match_index[src] = match_index
            self.advance_commit_index()
        if src in self.in_flight:
            return
        self.next_index[src] = self.match_index[src] + 1
        self.snapshots.on_match(src, match_index)
        lacks_entries = self.next_index[src] <= self.log.last_index
        rounds = self.rounds
        lacks_round = bool(self.reads.waiting) and rounds.sent_round[src] < rounds.round
        if (lacks_entries or lacks_round) and src not in self.snapshots.outgoing:
            self.send_next(src)

    def back_up(self, body: Body) -> int:
        """The index to try next after a mismatch, a term at a time (paper 5.3).

        If this log has entries of the conflicting term, try behind the last of them;
        otherwise where the follower's entries of that term begin.
        """
        index: int = min(body["conflict_index"], self.log.last_index + 1)
        if body["conflict_term"]:
            index = self.log.last_index_of_term(body["conflict_term"]) + 1 or index
        return max(index, 1)

    # --- commitment (paper 5.3, 5.4.2) -------------------------------------------

    def advance_commit_index(self) -> None:
        """Figure 2, leaders: commit what a majority stores, if it is of this term."""
        last, committed = self.log.last_index, self.commitment.machine.commit_index
        if last == committed:
            return
        index = self.quorum.reached_by_majority(self.match_index, last)
        if index > committed and self.may_commit(index):
            self.commitment.commit(index)

    def may_commit(self, index: int) -> bool:
        """Count replicas of this term's entries only (paper 5.4.2, Figure 8)."""
        return self.log.term_at(index) == self.standing.current_term
