"""Reads without the log: ReadIndex and leases (thesis 6.4)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from reference_impls.raft.server import Server

if TYPE_CHECKING:
    from reference_impls import kv
    from reference_impls.actor import Now, Received


class Reads(Server):
    """How a leader knows that it may answer from its own state."""

    def read_index(self, request: Received, command: kv.Command) -> None:
        """Answer once a majority confirms, after now, that this is the leader.

        The "batch" timer begins a round, for all reads that have arrived by then,
        unless one is under way: its end begins the next. A round that is lost ends with
        the next heartbeat's.
        """
        self.waiting_reads.append((self.read_round(), request, command))
        self.set_timer("batch", 0)

    def read_round(self) -> int:
        """The round that will confirm a read that arrives now.

        It must begin after the read arrived: an earlier one says nothing about writes
        that another leader took since.
        """
        return self.round + 1

    def on_round_acked(self, src: str, acked: int) -> None:
        """A follower answered a message of that round, in this term."""
        if self.acked_round[src] < acked <= self.round:
            self.acked_round[src] = acked
            self.on_quorum_round(self.quorum_value(self.acked_round, self.round))

    def on_quorum_round(self, acked: int) -> None:
        """A majority, as far as members go, answered that round and all before it."""
        while self.sent_rounds and self.sent_rounds[0][0] <= acked:
            self.quorum_contact_ns = self.sent_rounds.popleft()[1]
        self.answer_confirmed_reads()
        if self.reads_need_a_round() and not self.sent_rounds:
            self.set_timer("batch", 0)

    def reads_need_a_round(self) -> bool:
        """True when a read waits for a round that hasn't begun."""
        return bool(self.waiting_reads) and self.waiting_reads[-1][0] > self.round

    def answer_confirmed_reads(self) -> None:
        """Answer the reads whose round is confirmed (thesis 6.4, steps 1 to 5)."""
        if not self.waiting_reads or not self.may_read():
            return
        confirmed = self.sent_rounds[0][0] - 1 if self.sent_rounds else self.round
        while self.waiting_reads and self.waiting_reads[0][0] <= confirmed:
            _, request, command = self.waiting_reads.popleft()
            self.answer(request, self.state.answer_read(command))

    def may_read(self) -> bool:
        """Does the state cover all that was committed when a read arrived?

        An entry of this term is committed, so commit_index does (thesis 6.4, step 1),
        and entries are applied as they are committed (step 4).
        """
        return self.committed_in_this_term()

    def has_lease(self, now: Now) -> bool:
        """May the leader answer from its own state, by its clock alone? (thesis 6.4.1).

        A majority heard it at `quorum_contact_ns` or later, and refuses its votes to
        others for the minimum election timeout from then, unless this leader itself
        allowed it to vote.
        """
        age_ns = now.mono_ns - self.quorum_contact_ns
        return self.may_read() and not self.gave_up_lease and age_ns < self.lease_ns()

    def lease_ns(self) -> float:
        """How long a lease lasts on this clock.

        It must end before the followers' minimum timeout T does, in true time. If no
        clock deviates by more than the share d, a follower's T lasts at least T / (1 +
        d), and a lease of L on the leader's clock at most L / (1 - d).
        """
        bound = self.clock_drift_bound
        return self.election_timeout_ms_min * 1e6 * (1 - bound) / (1 + bound)

    def drop_reads(self, why: str) -> None:
        """Refuse the reads that wait; a read has no effect, so that is always true."""
        reads, self.waiting_reads = self.waiting_reads, deque()
        for _, request, _ in reads:
            self.refuse(request, why)
