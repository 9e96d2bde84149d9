"""Log compaction (paper 7): a snapshot in place of the entries that led to it.

A server takes a snapshot by itself once `snapshot_entries` entries were applied since
the last, or installs the leader's. It goes to disk in one record that replaces all
earlier ones, so the log there shrinks as the one in memory does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reference_impls.raft.snapshot import Contents, Snapshot

if TYPE_CHECKING:
    from reference_impls.actor import Record
    from reference_impls.core import Outbox
    from reference_impls.raft.log import Log
    from reference_impls.raft.machine import StateMachine
    from reference_impls.raft.options import Settings
    from reference_impls.raft.requests import Requests
    from reference_impls.raft.standing import Standing


@dataclass(eq=False)
class Compaction:
    """Replaces entries that were applied by a snapshot."""

    out: Outbox  # where a snapshot is made durable
    settings: Settings  # how long the log may get
    standing: Standing  # the term and the vote, which the record repeats
    log: Log  # what gets shorter
    machine: StateMachine  # what the entries amount to
    requests: Requests  # those who wait for what a snapshot jumps over; and `life`

    snapshot: Snapshot | None = None  # covers all up to the log's base

    def compact(self) -> None:
        """Replace what was applied by a snapshot, if it is long enough."""
        length = self.machine.last_applied - self.log.base
        enough = self.settings.snapshot_entries
        if enough and length >= enough:
            self.take_snapshot()

    def take_snapshot(self) -> None:
        """Replace the log up to `last_applied` by the state it amounts to."""
        log, index = self.log, self.machine.last_applied
        term = log.term_at(index)
        self.snapshot = Snapshot.of(index, term, self.state_data(), log.members)
        log.compact(index, term)
        log.members.compact(index)
        self.persist()
        self.out.observe("took_snapshot", index=index, term=term)

    def state_data(self) -> dict[str, Any]:
        """The state as data, with the sessions: a copy may come later (thesis 6.3)."""
        return self.machine.state.as_data()

    def install(self, snapshot: Snapshot, contents: Contents) -> None:
        """Replace state and log by the leader's snapshot (Figure 13, rules 5 to 8).

        Entries that follow it stay, and their configurations with them.
        """
        log = self.log
        assert snapshot.last_index > self.machine.commit_index, "a snapshot of the past"
        self.requests.abandon_up_to(snapshot.last_index)
        log.compact(snapshot.last_index, snapshot.last_term)
        kept = log.since(log.base + 1)
        log.begin_after(snapshot.last_index, snapshot.last_term)
        self.adopt(snapshot, contents)
        log.extend(kept)
        self.persist()
        self.out.observe(
            "installed_snapshot",
            index=snapshot.last_index,
            term=snapshot.last_term,
            last_log_index=log.last_index,
        )

    def adopt(self, snapshot: Snapshot, contents: Contents) -> None:
        """Put what the snapshot says in place of state and members."""
        self.snapshot = snapshot
        self.machine.stand_at(snapshot.last_index, contents.state)
        self.log.members = contents.members

    # --- the disk ----------------------------------------------------------------

    def persist(self) -> None:
        """Make all that is kept durable in one record, so the earlier ones may go."""
        record = {
            **self.standing.record(),
            "life": self.requests.life,
            "snapshot": self.snapshot,
            "entries": self.log.since(self.log.base + 1),
        }
        self.out.persist(record, replaces=True)

    def recover(self, record: Record) -> None:
        """Begin with the snapshot that the record holds, if any."""
        if "snapshot" in record:
            snapshot = Snapshot(*record["snapshot"])
            contents = snapshot.contents()
            assert contents is not None, "the disk holds a snapshot that is none"
            self.log.begin_after(snapshot.last_index, snapshot.last_term)
            self.adopt(snapshot, contents)
