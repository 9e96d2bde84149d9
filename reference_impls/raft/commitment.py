"""Commitment: what follows from knowing that entries are committed (paper 5.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reference_impls.core import Outbox
    from reference_impls.raft.compaction import Compaction
    from reference_impls.raft.log import Log
    from reference_impls.raft.machine import StateMachine
    from reference_impls.raft.reads import Reads
    from reference_impls.raft.requests import Requests
    from reference_impls.raft.standing import Standing


@dataclass(eq=False)
class Commitment:
    """Applies what is committed, and tells those who wait for that."""

    out: Outbox  # where it is observed
    standing: Standing  # the term
    log: Log  # the entries
    machine: StateMachine  # what they are applied to
    requests: Requests  # who waits for an entry
    reads: Reads  # reads that wait for one of this term
    compaction: Compaction  # what may now be replaced by a snapshot

    def commit(self, index: int) -> None:
        """Raise commit_index to `index`, if that is higher, and apply up to there."""
        machine = self.machine
        if index <= machine.commit_index:
            return
        first, machine.commit_index = machine.commit_index + 1, index
        term = self.standing.current_term
        self.out.observe("committed", first=first, last=index, term=term)
        while machine.last_applied < machine.commit_index:
            machine.last_applied += 1
            entry = self.log[machine.last_applied]
            result = machine.carry_out(entry.command)
            self.requests.settle(machine.last_applied, entry, result)
        if self.reads.waiting:
            self.reads.answer_confirmed()
        self.compaction.compact()
