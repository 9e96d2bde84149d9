"""Raft with one rule broken, twenty-five times.

"Paper" is Ongaro and Ousterhout 2014, "thesis" Ongaro 2014.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls.core import Outbox
from reference_impls.mutants import Mutant, power_amid, told_first, with_part
from reference_impls.mutants.logs import (
    ChecksumUnchecked,
    ErrorsIgnored,
    FolderNotSynced,
    FsyncOfWrongFile,
    FsyncOmitted,
    TornTailBelieved,
)
from reference_impls.override import override
from reference_impls.raft import FOLLOWER, Raft
from reference_impls.raft.compaction import Compaction
from reference_impls.raft.election import Election
from reference_impls.raft.following import Following
from reference_impls.raft.machine import StateMachine
from reference_impls.raft.membership import Membership
from reference_impls.raft.quorum import Quorum
from reference_impls.raft.reads import Reads
from reference_impls.raft.replication import Replication
from reference_impls.raft.standing import Standing
from reference_impls.wal import WriteAheadLog

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reference_impls import kv
    from reference_impls.actor import Body, Effect, Now, Received, Record


# --- what has to survive a crash -------------------------------------------------


class VoteNotDurable(Standing):
    """A restarted server forgets for whom it voted (paper, Figure 2).

    It votes again, and two leaders come out of one term.
    """

    @override
    def record(self) -> dict[str, Any]:
        return {**super().record(), "voted_for": None}


class TermNotDurable(Raft):
    """A restarted server forgets its term, but for what its log says (Figure 2).

    It votes in a term in which it had voted, and follows leaders of the past.
    """

    @override
    def recover(self, record: Record) -> None:
        super().recover(record)
        self.standing.current_term = self.log.last_term
        self.standing.voted_for = None


class AckBeforeFsync(Outbox):
    """A follower acknowledges entries before they are durable (paper, Figure 2).

    (Persistent state is updated before responding to RPCs.) They are written, so kills
    do no harm; when the power fails, a majority may have forgotten what the leader
    took for committed.
    """

    @override
    def take_effects(self) -> list[Effect]:
        return told_first(super().take_effects(), is_entries)


def is_entries(record: Record) -> bool:
    """True for the record of an append."""
    return "first" in record


class VoteBeforeFsync(Outbox):
    """A server votes before its vote is durable (paper, Figure 2).

    When the power fails, it votes again, and two leaders come out of one term.
    """

    @override
    def take_effects(self) -> list[Effect]:
        return told_first(super().take_effects(), lambda x: "voted_for" in x)


# --- elections -------------------------------------------------------------------


class TwoVotes(Election):
    """A server votes for everyone who asks (paper 5.2: first come, first served)."""

    @override
    def may_vote_for(self, candidate: str, body: Body) -> bool:
        """Never mind an earlier vote in this term."""
        standing = self.standing
        is_current = body["term"] == standing.current_term
        return is_current and standing.role == FOLLOWER and self.is_up_to_date(body)


class NoUpToDateCheck(Election):
    """A server votes for candidates that lack committed entries (paper 5.4.1)."""

    @override
    def is_up_to_date(self, body: Body) -> bool:
        return True


class MajorityOffByOne(Quorum):
    """Half of the members count as a majority (paper 5.2, 5.3).

    With an even number of them, two halves decide apart.
    """

    @override
    def majority(self) -> int:
        """Half of the members, rounded down; but one at least."""
        return max(1, len(self.log.members.names) // 2)


# --- replication -----------------------------------------------------------------


class CommitOldTerm(Replication):
    """A leader commits old terms' entries by counting replicas (paper 5.4.2).

    Figure 8: another server may still be elected that has something else there.
    """

    @override
    def may_commit(self, index: int) -> bool:
        return True


class TruncatesOnStaleAppend(Following):
    """The end of an append is taken for the end of the log (Figure 2, rule 3).

    An append that comes late takes away entries that were acknowledged since.
    """

    @override
    def store_entries(self, prev_log_index: int, entries: Sequence[Any]) -> None:
        """Drop what follows, as far as it isn't known to be committed."""
        super().store_entries(prev_log_index, entries)
        last_new_entry = prev_log_index + len(entries)
        first = max(last_new_entry, self.machine.commit_index) + 1
        if first <= self.log.last_index:
            self.truncate(first)
            self.log.persist(first, [])


class KeepsConflict(Following):
    """A conflicting suffix stays, and new entries follow it (Figure 2, rule 3)."""

    @override
    def already_stored(self, prev_log_index: int, entries: Sequence[Any]) -> int:
        """Treat every entry that stands there as the leader's."""
        return max(0, min(len(entries), self.log.last_index - prev_log_index))


class CommitPastMatch(Following):
    """A follower commits as far as the leader did (paper, Figure 2, rule 5).

    "The last new entry" is the limit: what follows it may be another leader's.
    """

    @override
    def on_append_entries(self, src: str, body: Body, now: Now) -> None:
        """Commit beyond what this append has verified."""
        super().on_append_entries(src, body, now)
        standing = self.standing
        if body["term"] == standing.current_term and standing.leader == src:
            last = self.log.last_index
            self.commitment.commit(min(body["leader_commit"], last))


# --- clients ---------------------------------------------------------------------


class RetryAppliedTwice(StateMachine):
    """The state machine takes no notice of sessions (thesis 6.3)."""

    @override
    def apply_to_state(self, command: kv.Command) -> Body:
        """Treat every copy as a command of its own."""
        return self.state.execute(command)


class ReadIndexNoHeartbeat(Reads):
    """A leader reads without asking whether it still leads (thesis 6.4, step 3)."""

    @override
    def read_index(self, request: Received, command: kv.Command) -> None:
        """Answer at once."""
        if self.may_read():
            self.answer_from_state(request, command)
        else:
            super().read_index(request, command)


class ReadIndexNoNoop(Reads):
    """A leader reads before it knows what is committed (thesis 6.4, step 1).

    Its commit index may lie before writes that the last leader has answered.
    """

    @override
    def may_read(self) -> bool:
        return True


class ReadIndexReused(Reads):
    """A client's read is taken for a retry of its last one (thesis 6.4, step 2).

    So the old read's ReadIndex and heartbeats are used again. They say who led then;
    another may have led since.
    """

    confirmed: frozenset[tuple[int, str]] = frozenset()

    @override
    def read_index(self, request: Received, command: kv.Command) -> None:
        """Ask for heartbeats only once for each client and term."""
        client = (self.standing.current_term, request.src)
        if client in self.confirmed and self.may_read():
            self.answer_from_state(request, command)
        else:
            self.confirmed |= {client}
            super().read_index(request, command)


class LeaseIgnoresDrift(Reads):
    """The lease lasts as long as the followers' timeout, whatever the clocks' drift.

    It must be shorter, by a bound on clock drift (thesis 6.4.1).
    """

    @override
    def lease_ns(self) -> float:
        """The length of a lease if all clocks run at one rate."""
        return self.settings.election_timeout_ms_min * 1e6


class SnapshotDropsSessions(Compaction):
    """Snapshots hold the keys, and not the sessions (thesis 6.3).

    A server that recovers from one carries out a retried command again; others don't.
    """

    @override
    def state_data(self) -> dict[str, Any]:
        return {**super().state_data(), "sessions": []}


# --- membership ------------------------------------------------------------------


class ChangeBeforeNoop(Membership):
    """A leader changes the members before its term's no-op is committed.

    (raft-dev, July 2015: "bug in single-server membership changes".) The last leader's
    change may be alive: two majorities, of configurations two steps apart, need not
    meet.
    """

    @override
    def committed_in_this_term(self) -> bool:
        return True


class CountsRemovedServer(Quorum):
    """A leader counts the answers of servers that are members no more (thesis 4.1)."""

    @override
    def is_quorum(self, servers: Iterable[str]) -> bool:
        """True for as many servers as the members' majority, also of other servers."""
        return len(set(servers)) >= self.majority()

    @override
    def reached_by_majority(self, values: Mapping[str, int], own: int) -> int:
        """The highest number that as many servers have reached."""
        reached = sorted([own, *values.values()], reverse=True)
        return reached[self.majority() - 1]


def mutant(
    name: str,
    broken: type[Any],
    source: str,
    anomalies: tuple[str, ...],
    workload: str = "register",
    nemesis: tuple[str, ...] = ("partition", "kill"),
    limits: Mapping[str, str] | None = None,
    **options: str,
) -> Mutant:
    """A mutant of the core or a part, whose docstring begins with the broken rule."""
    assert broken.__doc__ is not None
    log = broken if issubclass(broken, WriteAheadLog) else None
    core = Raft
    if log is None:
        core = broken if issubclass(broken, Raft) else with_part(Raft, broken)
    rule = broken.__doc__.split(" (")[0].split("\n")[0].rstrip(".")
    return Mutant(
        name,
        core,
        rule,
        source,
        anomalies,
        workload,
        options,
        nemesis,
        limits or {},
        log,
    )


STALE_READ = ("stale-read",)
LOST_WRITE = (
    "leader-lacks-committed",
    "different-entries-committed",
    "committed-entry-lost",
    "stale-read",
    "lost-write",
    "lost-update",
)
TWO_LEADERS = ("double-vote", "two-leaders")
FORGOT = ("forgot-log", "forgot-vote", "term-went-back", *LOST_WRITE, *TWO_LEADERS)
DONE_TWICE = ("duplicate-elements",)
MEMBERSHIP = ("membership", "partition")
LOSE_LEADER = {
    "kill.targets": "leader",
    "kill.ways": "plain",
    "partition.shapes": "leader",
}
"""What has many leaders follow each other."""

MUTANTS: Mapping[str, Mutant] = {
    each.name: each
    for each in (
        mutant(
            "vote-not-durable",
            VoteNotDurable,
            "paper, Figure 2",
            ("forgot-vote", *TWO_LEADERS),
            nemesis=("kill",),
            pre_vote="false",
        ),
        mutant(
            "term-not-durable",
            TermNotDurable,
            "paper, Figure 2",
            ("term-went-back", "forgot-vote", *TWO_LEADERS),
            nemesis=("kill",),
            pre_vote="false",
        ),
        mutant(
            "fsync-omitted",
            FsyncOmitted,
            "paper, Figure 2; fsync(2)",
            FORGOT,
            nemesis=("power",),
            limits={"power.kept_max": "0"},
        ),
        mutant(
            "fsync-of-wrong-file",
            FsyncOfWrongFile,
            "paper, Figure 2; fsync(2)",
            FORGOT,
            nemesis=("power",),
            limits={"power.kept_max": "0"},
        ),
        mutant(
            "folder-not-synced",
            FolderNotSynced,
            "fsync(2)",
            FORGOT,
            nemesis=("power",),
            snapshot_entries="20",
        ),
        mutant(
            "torn-tail-believed",
            TornTailBelieved,
            "reference_impls.wal",
            (
                "log-mismatch",
                *FORGOT,
                "node-crash",
            ),  # half a record may fell its reader
            nemesis=("power",),
            limits={"power.moments": "fsync"},
        ),
        mutant(
            "checksum-unchecked",
            ChecksumUnchecked,
            "reference_impls.wal",
            ("log-mismatch", *FORGOT),
            nemesis=("rot",),
        ),
        mutant(
            "disk-errors-ignored",
            ErrorsIgnored,
            "Rebello et al., USENIX ATC 2020",
            FORGOT,
            nemesis=("disk", "power"),
        ),
        mutant(
            "two-votes",
            TwoVotes,
            "paper 5.2",
            TWO_LEADERS,
            # Two must stand for election at once: so often, and after like timeouts.
            limits=LOSE_LEADER,
            pre_vote="false",
            election_timeout_ms_max="170",
        ),
        mutant(
            "no-up-to-date-check",
            NoUpToDateCheck,
            "paper 5.4.1",
            ("vote-for-older-log", *LOST_WRITE),
        ),
        mutant(
            "commit-old-term",
            CommitOldTerm,
            "paper 5.4.2, Figure 8",
            ("committed-by-count", *LOST_WRITE),
            entries_per_append_max="1",
            pre_vote="false",
        ),
        mutant(
            "ack-before-fsync",
            AckBeforeFsync,
            "paper, Figure 2",
            ("forgot-log", *LOST_WRITE),
            nemesis=("power",),
        ),
        mutant(
            "vote-before-fsync",
            VoteBeforeFsync,
            "paper, Figure 2",
            ("forgot-vote", "term-went-back", *TWO_LEADERS),
            nemesis=("disk", "kill", "power"),
            limits={
                **power_amid("voted,became_candidate"),
                "kill.targets": "leader",
            },
            pre_vote="false",
        ),
        mutant(
            "truncates-on-stale-append",
            TruncatesOnStaleAppend,
            "paper, Figure 2, AppendEntries, rule 3",
            ("dropped-without-conflict", *LOST_WRITE),
        ),
        mutant(
            "keeps-conflict",
            KeepsConflict,
            "paper, Figure 2, AppendEntries, rule 3",
            ("log-mismatch", *LOST_WRITE),
        ),
        mutant(
            "commit-past-match",
            CommitPastMatch,
            "paper, Figure 2, AppendEntries, rule 5",
            LOST_WRITE,
        ),
        mutant(
            "majority-off-by-one",
            MajorityOffByOne,
            "paper 5.2, 5.3",
            ("two-leaders", *LOST_WRITE),
            initial_members="n1,n2,n3,n4",
        ),
        mutant(
            "retry-applied-twice",
            RetryAppliedTwice,
            "thesis 6.3",
            DONE_TWICE,
            workload="list_append",
        ),
        mutant(
            "read-index-no-heartbeat",
            ReadIndexNoHeartbeat,
            "thesis 6.4, step 3",
            STALE_READ,
            nemesis=("partition",),
            reads="read_index",
        ),
        mutant(
            "read-index-no-noop",
            ReadIndexNoNoop,
            "thesis 6.4, step 1",
            STALE_READ,
            # With an entry a message, a new leader's no-op comes long after heartbeats.
            limits={"kill.targets": "leader+minority", "kill.ways": "plain"},
            reads="read_index",
            entries_per_append_max="1",
        ),
        mutant(
            "read-index-reused",
            ReadIndexReused,
            "thesis 6.4, step 2",
            STALE_READ,
            nemesis=("partition", "pause"),
            reads="read_index",
        ),
        mutant(
            "lease-ignores-drift",
            LeaseIgnoresDrift,
            "thesis 6.4.1",
            STALE_READ,
            nemesis=("clock", "partition"),
            # A lease is too long where a leader whose clock is slow is cut off; drawn
            # among all nodes, the two meet in one run of fifty.
            limits={
                "clock.modes": "drift",
                "clock.clocks": "mono",
                "clock.drift": "0.5",
                "clock.targets": "leader",
                "partition.shapes": "leader",
            },
            reads="lease",
            clock_drift_bound="0.5",
            election_timeout_ms_min="400",
            election_timeout_ms_max="500",
        ),
        mutant(
            "snapshot-drops-sessions",
            SnapshotDropsSessions,
            "thesis 6.3",
            DONE_TWICE,
            workload="list_append",
            # A server that was cut off when a leader died has missed answers. It asks
            # again, and has been sent a snapshot by then.
            limits={**LOSE_LEADER, "partition.shapes": "one+leader"},
            snapshot_entries="20",
            request_timeout_ms="5000",
        ),
        mutant(
            "change-before-noop",
            ChangeBeforeNoop,
            "raft-dev, July 2015",
            ("early-change", "two-leaders", *LOST_WRITE),
            # While disks are slow, a new leader's no-op takes long to be committed.
            nemesis=("disk", *MEMBERSHIP),
            limits={
                "disk.modes": "slow",
                "disk.targets": "all",
                "disk.delay_max_ms": "200",
                "membership.modes": "churn",
                "membership.disks": "old",
                "partition.shapes": "leader",
            },
            initial_members="n1,n2,n3,n4",
        ),
        mutant(
            "counts-removed-server",
            CountsRemovedServer,
            "thesis 4.1",
            ("two-leaders", *LOST_WRITE),
            nemesis=MEMBERSHIP,
        ),
    )
}
