"""Raft with one rule broken, eighteen times.

"Paper" is Ongaro and Ousterhout 2014, "thesis" Ongaro 2014.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls.actor import Persist
from reference_impls.mutants import Mutant
from reference_impls.raft import FOLLOWER, Raft

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from reference_impls import kv
    from reference_impls.actor import Body, Effect, Now, Received, Record


# --- what has to survive a crash -------------------------------------------------


class VoteNotDurable(Raft):
    """A restarted server forgets for whom it voted (paper, Figure 2).

    It votes again, and two leaders come out of one term.
    """

    def term_and_vote(self) -> dict[str, Any]:
        """Without the vote."""
        return {**super().term_and_vote(), "voted_for": None}


class TermNotDurable(Raft):
    """A restarted server forgets its term, but for what its log says (Figure 2).

    It votes in a term in which it had voted, and follows leaders of the past.
    """

    def recover(self, record: Record) -> None:
        """As if no term had been written down."""
        super().recover(record)
        self.current_term = self.log.last_term
        self.voted_for = None


class AckBeforeFsync(Raft):
    """A follower acknowledges entries, and writes them down a moment later.

    A majority may have forgotten by then what the leader took for committed. (Figure 2:
    persistent state is updated before responding to RPCs.)
    """

    late: Sequence[Effect] = ()

    def take_effects(self) -> list[Effect]:
        """What is to be written goes out with the next step's effects."""
        effects = [*self.late, *super().take_effects()]
        self.late = [effect for effect in effects if is_entries(effect)]
        return [effect for effect in effects if not is_entries(effect)]


def is_entries(effect: Effect) -> bool:
    """True for the record of an append."""
    return isinstance(effect, Persist) and "first" in effect.record


# --- elections -------------------------------------------------------------------


class TwoVotes(Raft):
    """A server votes for everyone who asks (paper 5.2: first come, first served)."""

    def may_vote_for(self, candidate: str, body: Body) -> bool:
        """Never mind an earlier vote in this term."""
        is_current = body["term"] == self.current_term
        return is_current and self.role == FOLLOWER and self.is_up_to_date(body)


class NoUpToDateCheck(Raft):
    """A server votes for candidates that lack committed entries (paper 5.4.1)."""

    def is_up_to_date(self, body: Body) -> bool:
        """Any log will do."""
        return True


class MajorityOffByOne(Raft):
    """Half of the members count as a majority (paper 5.2, 5.3).

    With an even number of them, two halves decide apart.
    """

    def majority(self) -> int:
        """Rounded down; but one at least."""
        return max(1, len(self.members.names) // 2)


# --- replication -----------------------------------------------------------------


class CommitOldTerm(Raft):
    """A leader commits old terms' entries by counting replicas (paper 5.4.2).

    Figure 8: another server may still be elected that has something else there.
    """

    def may_commit(self, index: int) -> bool:
        """Whatever its term."""
        return True


class TruncatesOnStaleAppend(Raft):
    """The end of an append is taken for the end of the log (Figure 2, rule 3).

    An append that comes late takes away entries that were acknowledged since.
    """

    def store_entries(self, prev_log_index: int, entries: Sequence[Any]) -> None:
        """Drop what follows, as far as it isn't known to be committed."""
        super().store_entries(prev_log_index, entries)
        first = max(prev_log_index + len(entries), self.commit_index) + 1
        if first <= self.log.last_index:
            self.truncate(first)
            self.persist_entries(first, [])


class KeepsConflict(Raft):
    """A conflicting suffix stays, and new entries follow it (Figure 2, rule 3)."""

    def already_stored(self, prev_log_index: int, entries: Sequence[Any]) -> int:
        """Whatever stands there is taken for the leader's."""
        return max(0, min(len(entries), self.log.last_index - prev_log_index))


class CommitPastMatch(Raft):
    """A follower commits as far as the leader did (paper, Figure 2, rule 5).

    "The last new entry" is the limit: what follows it may be another leader's.
    """

    def on_append_entries(self, src: str, body: Body, now: Now) -> None:
        """Commit beyond what this append has verified."""
        super().on_append_entries(src, body, now)
        if body["term"] == self.current_term and self.leader == src:
            self.commit(min(body["leader_commit"], self.log.last_index))


# --- clients ---------------------------------------------------------------------


class RetryAppliedTwice(Raft):
    """The state machine takes no notice of sessions (thesis 6.3)."""

    def apply_to_state(self, command: kv.Command) -> Body:
        """Every copy is a command of its own."""
        return self.state.execute(command)


class ReadIndexNoHeartbeat(Raft):
    """A leader reads without asking whether it still leads (thesis 6.4, step 3)."""

    def read_index(self, request: Received, command: kv.Command) -> None:
        """Its own word is good enough."""
        if self.may_read():
            self.answer(request, self.state.answer_read(command))
        else:
            super().read_index(request, command)


class ReadIndexNoNoop(Raft):
    """A leader reads before it knows what is committed (thesis 6.4, step 1).

    Its commit index may lie before writes that the last leader has answered.
    """

    def may_read(self) -> bool:
        """Without an entry of its own term committed."""
        return True


class ReadIndexReused(Raft):
    """A client's read is taken for a retry of its last one (thesis 6.4, step 2).

    So the old one's ReadIndex is used again, and its heartbeats, which say who led
    then; another may have led since.
    """

    confirmed: frozenset[tuple[int, str]] = frozenset()

    def read_index(self, request: Received, command: kv.Command) -> None:
        """Ask for heartbeats once a client and term."""
        client = (self.current_term, request.src)
        if client in self.confirmed and self.may_read():
            self.answer(request, self.state.answer_read(command))
        else:
            self.confirmed |= {client}
            super().read_index(request, command)


class LeaseIgnoresDrift(Raft):
    """The lease lasts as long as the followers' timeout, on whose clock ever.

    (thesis 6.4.1: by a bound on clock drift less)
    """

    def lease_ns(self) -> float:
        """As if all clocks ran at one rate."""
        return self.election_timeout_ms_min * 1e6


class SnapshotDropsSessions(Raft):
    """Snapshots hold the keys, and not the sessions (thesis 6.3).

    A server that recovers from one does a retried command again, others don't.
    """

    def state_data(self) -> dict[str, Any]:
        """Only what clients would ask for."""
        return {**super().state_data(), "sessions": []}


# --- membership ------------------------------------------------------------------


class ChangeBeforeNoop(Raft):
    """A leader changes the members before its term's no-op is committed.

    (raft-dev, July 2015: "bug in single-server membership changes".) The last leader's
    change may be alive: two majorities, of configurations two steps apart, need not
    meet.
    """

    def may_change_members(self) -> bool:
        """One change at a time, as in the thesis; its erratum is left out."""
        term, self.current_term = self.current_term, self.log.term_at(self.commit_index)
        try:
            return super().may_change_members()
        finally:
            self.current_term = term


class CountsRemovedServer(Raft):
    """A leader counts the answers of servers that are members no more (thesis 4.1)."""

    def is_quorum(self, servers: Iterable[str]) -> bool:
        """Whoever says so."""
        return len(set(servers)) >= self.majority()

    def quorum_value(self, values: Mapping[str, int], own: int) -> int:
        """Whoever got there, as many as the members' majority."""
        reached = sorted([own, *values.values()], reverse=True)
        return reached[self.majority() - 1]


def mutant(
    name: str,
    core: type[Raft],
    source: str,
    anomalies: tuple[str, ...],
    workload: str = "register",
    nemesis: tuple[str, ...] = ("partition", "kill"),
    limits: Mapping[str, str] | None = None,
    **options: str,
) -> Mutant:
    """A mutant whose docstring begins with the rule that it breaks."""
    assert core.__doc__ is not None
    rule = core.__doc__.split(" (")[0].split("\n")[0].rstrip(".")
    return Mutant(
        name, core, rule, source, anomalies, workload, options, nemesis, limits or {}
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
DONE_TWICE = ("duplicate-elements",)
MEMBERSHIP = ("membership", "partition")

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
        mutant("two-votes", TwoVotes, "paper 5.2", TWO_LEADERS, pre_vote="false"),
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
            nemesis=("kill",),
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
            reads="read_index",
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
            limits={
                "clock.modes": "drift",
                "clock.clocks": "mono",
                "clock.drift": "0.5",
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
            snapshot_entries="20",
        ),
        mutant(
            "change-before-noop",
            ChangeBeforeNoop,
            "raft-dev, July 2015",
            ("early-change", "two-leaders", *LOST_WRITE),
            nemesis=MEMBERSHIP,
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
