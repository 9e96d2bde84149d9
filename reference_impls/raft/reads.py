"""Reads without the log: ReadIndex and leases (thesis 6.4)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reference_impls import kv
    from reference_impls.actor import Now, Received
    from reference_impls.core import Outbox
    from reference_impls.raft.log import Log
    from reference_impls.raft.machine import StateMachine
    from reference_impls.raft.options import Settings
    from reference_impls.raft.requests import Requests
    from reference_impls.raft.rounds import Rounds
    from reference_impls.raft.standing import Standing


@dataclass(eq=False)
class Reads:
    """Answers reads from the leader's own state, once that is known to be safe."""

    out: Outbox  # sets the timer of the batch
    settings: Settings  # the lease's length and its clocks' drift
    standing: Standing  # the term
    log: Log  # whose entry was committed last
    machine: StateMachine  # what reads are answered from
    rounds: Rounds  # the proof of leadership
    requests: Requests  # answers the reads

    # reads, each with the round that will confirm it, in that order
    waiting: deque[tuple[int, Received, kv.Command]] = field(default_factory=deque)
    gave_up_lease: bool = False  # this leader let voters disregard it in this term

    def begin_term(self) -> None:
        """Allow a lease again, in a new term."""
        self.gave_up_lease = False

    # --- ReadIndex (thesis 6.4) --------------------------------------------------

    def read_index(self, request: Received, command: kv.Command) -> None:
        """Answer once a majority confirms, after now, that this is the leader.

        The "batch" timer begins a round for all reads that have arrived by then. If a
        round is under way, its end begins the next one instead. A round whose messages
        get lost ends with that of the next heartbeat.
        """
        self.waiting.append((self.round_for_now(), request, command))
        self.out.gather("batch", self.rounds.patience_ms())

    def round_for_now(self) -> int:
        """The round that will confirm a read that arrives now.

        It must begin after the read arrived: an earlier one says nothing about writes
        that another leader took since.
        """
        return self.rounds.round + 1

    def on_rounds_answered(self) -> None:
        """Answer what is confirmed now, and begin the next round if a read needs it."""
        self.answer_confirmed()
        if self.need_a_round() and not self.rounds.sent_rounds:
            self.out.set_timer("batch", 0)

    def need_a_round(self) -> bool:
        """True when a read waits for a round that hasn't begun."""
        return bool(self.waiting) and self.waiting[-1][0] > self.rounds.round

    def answer_confirmed(self) -> None:
        """Answer the reads whose round is confirmed (thesis 6.4, steps 1 to 5)."""
        if not self.waiting or not self.may_read():
            return
        confirmed = self.rounds.confirmed()
        while self.waiting and self.waiting[0][0] <= confirmed:
            _, request, command = self.waiting.popleft()
            self.answer_from_state(request, command)

    def answer_from_state(self, request: Received, command: kv.Command) -> None:
        """Answer a read with what this server has applied."""
        self.requests.answer(request, self.machine.state.answer_read(command))

    def may_read(self) -> bool:
        """Does the state cover all that was committed when a read arrived?

        An entry of this term is committed, so commit_index does (thesis 6.4, step 1),
        and entries are applied as they are committed (step 4).
        """
        last_committed = self.log.term_at(self.machine.commit_index)
        return last_committed == self.standing.current_term

    # --- the lease (thesis 6.4.1) ------------------------------------------------

    def has_lease(self, now: Now) -> bool:
        """May the leader answer from its own state, by its clock alone?

        A majority heard it at `quorum_contact_ns` or later, and refuses its votes to
        others for the minimum election timeout from then, unless this leader itself
        allowed it to vote.
        """
        age_ns = now.mono_ns - self.rounds.quorum_contact_ns
        return self.may_read() and not self.gave_up_lease and age_ns < self.lease_ns()

    def lease_ns(self) -> float:
        """How long a lease lasts on this clock.

        It must end before the followers' minimum timeout T does, in true time. If no
        clock deviates by more than the share d, a follower's T lasts at least T / (1 +
        d), and a lease of L on the leader's clock at most L / (1 - d).
        """
        bound = self.settings.clock_drift_bound
        shortest_ns = self.settings.election_timeout_ms_min * 1e6
        return shortest_ns * (1 - bound) / (1 + bound)

    def give_up_lease(self) -> None:
        """Have no lease any more in this term, as voters may disregard this leader."""
        self.gave_up_lease = True

    def refuse_all(self, why: str) -> None:
        """Refuse the reads that wait: a read has no effect, so that is always true."""
        reads, self.waiting = self.waiting, deque()
        for _, request, _ in reads:
            self.requests.refuse(request, why)
