"""The breaches of Raft's rules: which rule, who, and which events.

Sections and figures are those of Ongaro and Ousterhout (2014). Several rules that guard
one property share its name: whatever a committed entry is lost by, it is
`committed-entry-lost`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from checkers.raft.logs import Entry
    from harness.history import Op


class Lead(NamedTuple):
    """A server leads a term since an event."""

    term: Any
    since: int


class TwoLeaders(NamedTuple):
    """Election safety (5.2): at most one leader in a term.

    Attributes:
        op: A server became leader of `term`.
        other: Who leads it already.
        at: The event by which the other became leader.
    """

    op: Op
    term: Any
    other: str
    at: int
    name: str = "two-leaders"


class TermWentBack(NamedTuple):
    """A server's term never falls (Figure 2).

    Attributes:
        op: It tells of `term`.
        before: The higher term that it was in.
        at: The event that told it.
    """

    op: Op
    term: Any
    before: Any
    at: int
    name: str = "term-went-back"


class DoubleVote(NamedTuple):
    """A server votes for at most one candidate in a term (5.2).

    Attributes:
        op: It votes for `candidate` in `term`.
        before: For whom it voted in that term before.
        at: The event of that vote.
    """

    op: Op
    term: Any
    candidate: Any
    before: Any
    at: int
    name: str = "double-vote"


class VoteForOlderLog(NamedTuple):
    """A vote goes to a log at least as up to date as the voter's own (5.4.1).

    Attributes:
        op: The vote.
        at: The event of the voter's last entry, or else the vote.
        theirs, own: Term and index of the last entry of the candidate, of the voter.
    """

    op: Op
    at: int
    theirs: tuple[Any, Any]
    own: tuple[Any, Any]
    name: str = "vote-for-older-log"


class ForgotVote(NamedTuple):
    """A server's vote survives a crash (Figure 2, persistent state).

    Attributes:
        op: It came back in `term`, with a `vote` that is another one or nobody's.
        before: For whom it had voted.
        at: The event of that vote.
    """

    op: Op
    term: Any
    vote: Any
    before: Any
    at: int
    name: str = "forgot-vote"


class ForgotLog(NamedTuple):
    """A server's log survives a crash (Figure 2, persistent state).

    Attributes:
        op: It came back without the end of its log.
        first: The first entry that is gone.
        entries: How many are.
    """

    op: Op
    first: Entry
    entries: int
    name: str = "forgot-log"


class LeaderOverwrote(NamedTuple):
    """Leader append-only (5.3): a leader never overwrites or deletes its entries.

    Attributes:
        op: It did that.
        lead: The term that it led.
        lost: The first entry that is gone.
        entries: How many are.
    """

    op: Op
    lead: Lead
    lost: Entry
    entries: int
    name: str = "leader-overwrote-log"


class NeedlessDrop(NamedTuple):
    """Entries go only for others that conflict (Figure 2, AppendEntries, rule 3).

    Attributes:
        op: It shows that there was no conflict.
        dropped_at: The event by which entries were dropped.
        first: The first of them.
        entries: How many were.
        are_back: The very same were appended again; else nothing took their place.
    """

    op: Op
    dropped_at: int
    first: Entry
    entries: int
    are_back: bool
    name: str = "dropped-without-conflict"


class OtherCommand(NamedTuple):
    """Log matching (5.3): entries of one index and term have the same command.

    Attributes:
        log_index: Theirs.
        seen, entry: The two, which are of one term.
    """

    log_index: int
    seen: Entry
    entry: Entry
    name: str = "log-mismatch"


class OtherPredecessor(NamedTuple):
    """Log matching (5.3): entries of one index and term follow the same entries.

    Attributes:
        log_index: Theirs.
        seen, entry: The two, which are of one term.
        before: The terms of the entries before the one and before the other.
    """

    log_index: int
    seen: Entry
    entry: Entry
    before: tuple[Any, Any]
    name: str = "log-mismatch"


class LeaderLacks(NamedTuple):
    """Leader completeness (5.4): later leaders hold what was committed.

    Attributes:
        op: A server became leader.
        log_index, entry: What was committed where.
        at: The event that committed it.
        bound: The term in which that was, or a later one.
        proof: The event that shows that.
        own: What the leader holds at that index instead, if it holds anything.
        end: Where its log ends, as far as that is known.
    """

    op: Op
    log_index: int
    entry: Entry
    at: int
    bound: Any
    proof: int
    own: Entry | None
    end: int | None
    name: str = "leader-lacks-committed"


class OtherCommitted(NamedTuple):
    """State machine safety (5.4.3): one entry is committed at an index.

    Attributes:
        op: A server committed `entry`.
        log_index: Where.
        other: What was committed there before.
        at: The event that did that.
    """

    op: Op
    log_index: int
    entry: Entry
    other: Entry
    at: int
    name: str = "different-entries-committed"


class OtherApplied(NamedTuple):
    """State machine safety (5.4.3): applying an entry comes to the same everywhere.

    Attributes:
        op: A server applied the entry at `log_index`.
        field: What of the outcome differs.
        value: It on that server.
        other: It on another.
        at: The event that told that.
    """

    op: Op
    log_index: Any
    field: str
    value: Any
    other: Any
    at: int
    name: str = "state-machines-differ"


class CommittedReplaced(NamedTuple):
    """State machine safety: what a server knows to be committed stays in its log.

    Attributes:
        op: By this it went.
        log_index, lost: What went from where.
        committed: Up to where the server knew that all was committed.
        at: The event that committed it, or else the one that appended it.
    """

    op: Op
    log_index: int
    lost: Entry
    committed: int
    at: int
    name: str = "committed-entry-lost"


class DiskLacks(NamedTuple):
    """State machine safety: a server's disk has what the server knew to be committed.

    Attributes:
        op: The disk was read after the run.
        log_index, entry: What was committed where.
        committed: Up to where the server knew that all was committed.
        at: The event that committed it.
        own: What the disk has there, if anything.
    """

    op: Op
    log_index: int
    entry: Entry
    committed: int
    at: int
    own: Entry | None
    name: str = "committed-entry-lost"


class OnNoDisk(NamedTuple):
    """State machine safety: what was committed is on some disk after the run.

    Attributes:
        log_index, entry: What was committed where.
        at: The event that committed it.
        disks: The servers whose disks were read, which are all.
    """

    log_index: int
    entry: Entry
    at: int
    disks: tuple[str, ...]
    name: str = "committed-entry-lost"


class CommittedByCount(NamedTuple):
    """A leader commits by counting replicas of its own term's entries only (5.4.2).

    Attributes:
        op: It committed.
        lead: The term that it leads.
        entry: The last entry that it committed, of another term.
    """

    op: Op
    lead: Lead
    entry: Entry
    name: str = "committed-by-count"


class EarlyChange(NamedTuple):
    """A leader commits an entry of its term before it changes the members.

    Ongaro's amendment of single-server changes (raft-dev, 2015).

    Attributes:
        op: It appended the change.
        lead: The term that it leads.
        committed: Up to where it knew that all was committed.
        term: The term of the entry there.
    """

    op: Op
    lead: Lead
    committed: int
    term: Any
    name: str = "early-change"


Breach = (
    TwoLeaders
    | TermWentBack
    | DoubleVote
    | VoteForOlderLog
    | ForgotVote
    | ForgotLog
    | LeaderOverwrote
    | NeedlessDrop
    | OtherCommand
    | OtherPredecessor
    | LeaderLacks
    | OtherCommitted
    | OtherApplied
    | CommittedReplaced
    | DiskLacks
    | OnNoDisk
    | CommittedByCount
    | EarlyChange
)
