"""The rules of Raft, each a function that yields its breaches.

Figures and sections are those of Ongaro and Ousterhout (2014). Most rules look at one
event and at what was seen before it (`judge`); two look at the whole once all events
are known (`leader_completeness`, `on_some_disk`).

A commit shows that its entries were committed in the server's term at that moment, or
before. That term is in the event, or the server leads it; else the term of its next
event that tells one is a bound, and too high a bound only excuses leaders.

Each rule is tested by the name of its breach in `test_raft_invariants.py`, and all
together against the paper's definitions in `test_raft_definitions.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from checkers.findings import name_of
from checkers.raft.evidence import (
    CommittedByCount,
    CommittedReplaced,
    DiskLacks,
    DoubleVote,
    EarlyChange,
    ForgotLog,
    ForgotVote,
    Lead,
    LeaderLacks,
    LeaderOverwrote,
    NeedlessDrop,
    OnNoDisk,
    OtherApplied,
    OtherCommand,
    OtherCommitted,
    OtherPredecessor,
    TermWentBack,
    TwoLeaders,
    VoteForOlderLog,
)
from checkers.raft.logs import Logs, entries_of, term_of, within
from checkers.values import freeze, is_below

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from checkers.raft.evidence import Breach
    from checkers.raft.logs import Change, Entry, Log
    from harness.history import History, Op

LEADER = "became_leader"
STEPS_DOWN = {
    "became_follower",
    "became_candidate",
    "became_pre_candidate",
    "lost_quorum",
    "restarted",
    "recovered",
    "on_disk",
}
"""Kinds after which a server doesn't lead."""

MAY_FOLLOW_A_CRASH = {"restarted", "recovered", "on_disk"}

ROLES = {LEADER, "became_follower", "became_candidate", "became_pre_candidate"}

TELLS_TERM = {LEADER, *STEPS_DOWN, "voted", "appended", "committed"}
"""Kinds whose term, if they have one, is the server's own, not an entry's."""


class Commit(NamedTuple):
    """All up to index `last` was committed in term `bound` or before."""

    last: int
    bound: Any
    op: int


@dataclass
class Server:
    """What one server is at, besides its log.

    Attributes:
        term: Its highest term so far, and the event that told it.
        leads: The term that it leads, or None.
        open_commits: Commits whose term isn't known yet.
        dropped: The entries that it dropped, by index, and the event, until it is known
            what it did that for.
    """

    term: tuple[Any, int] | None = None
    leads: Lead | None = None
    open_commits: list[tuple[int, int]] = field(default_factory=list)
    dropped: tuple[Mapping[int, Entry], int] | None = None


@dataclass
class Cluster:
    """What all servers are known to have done so far.

    Attributes:
        servers: By name.
        leaders: Term -> server -> event.
        led: Server -> the last event by which it became leader.
        votes: (server, term) -> candidate and event.
        seen: (index, term) -> the entry and the term before it (None: not known).
        committed: Index -> entry, and the event that committed it.
        applied: (index, field) -> value and event.
        commits: With the bound of each.
        disks: Server -> its log as read after the run.
        counts: Events by kind.
    """

    servers: dict[str, Server] = field(default_factory=lambda: defaultdict(Server))
    leaders: dict[Any, dict[str, int]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    led: dict[str, int] = field(default_factory=dict)
    votes: dict[tuple[str, Any], tuple[str, int]] = field(default_factory=dict)
    seen: dict[tuple[int, Any], tuple[Entry, Any]] = field(default_factory=dict)
    committed: dict[int, tuple[Entry, int]] = field(default_factory=dict)
    applied: dict[tuple[int, str], tuple[Any, int]] = field(default_factory=dict)
    commits: list[Commit] = field(default_factory=list)
    disks: dict[str, Log] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def judge(cluster: Cluster, change: Change) -> Iterator[Breach]:
    """Everything that one event breaks; the cluster takes note of the event."""
    op, log = change.op, change.log
    cluster.counts[op.f] += 1
    server = cluster.servers[name_of(op)]
    if op.f in STEPS_DOWN:
        server.leads = None
    # Most events break no rule, so rules are asked only if they could say anything.
    leads = server.leads is not None
    if op.f in TELLS_TERM and not stays_in_term(server, op):
        yield from follow_term(cluster, server, op)
    if change.gone:
        yield from leader_append_only(server, change)
        yield from keeps_committed(cluster, change)
    if change.gone or server.dropped is not None:
        yield from drops_for_conflict(server, change)
    match op.f:
        case "became_leader":
            yield from election_safety(cluster, op)
            cluster.led[name_of(op)] = op.index
            server.leads = Lead(term_of(op), op.index)
        case "voted":
            yield from one_vote(cluster, op, op.value.get("candidate"))
            yield from votes_for_no_older_log(change)
        case "joins":
            forget_life(cluster, name_of(op))
        case "recovered":
            yield from remembers(cluster, change)
        case "on_disk":
            cluster.disks[name_of(op)] = log
            yield from remembers(cluster, change)
            yield from log_matching(cluster, change)
            yield from still_has_committed(cluster, change)
        case "became_candidate":
            yield from one_vote(cluster, op, name_of(op))
        case "appended":
            yield from log_matching(cluster, change)
            if leads:
                yield from changes_members_in_time(server, change)
        case "committed":
            if leads:
                yield from counts_own_term(server, change)
            yield from commits_alike(cluster, server, change)
        case "applied":
            yield from applies_alike(cluster, op)
        case _:
            pass


def forget_life(cluster: Cluster, node: str) -> None:
    """A server that joins with an empty disk owes nothing that it promised before.

    It was removed, so that nobody counts on it. What others did with its votes, and
    what was committed with its help, is judged as ever.
    """
    cluster.servers[node] = Server()
    for key in [key for key in cluster.votes if key[0] == node]:
        del cluster.votes[key]


# --- terms and votes -----------------------------------------------------------------


def stays_in_term(server: Server, op: Op) -> bool:
    """Whether the event tells the term that is known; the server takes note of it."""
    term = op.value.get("term")
    if server.term is None or type(term) is not int or server.open_commits:
        return False
    if server.term[0] != term:
        return False
    server.term = (term, op.index)
    return True


def follow_term(cluster: Cluster, server: Server, op: Op) -> Iterator[Breach]:
    """A server's term never falls (Figure 2); it also bounds the commits before."""
    term = term_of(op)
    if term is None:
        return
    before = server.term
    if before is not None and is_below(term, before[0]):
        yield TermWentBack(op, term, *before)
        return
    server.term = (term, op.index)
    cluster.commits += [Commit(last, term, at) for last, at in server.open_commits]
    server.open_commits.clear()


def election_safety(cluster: Cluster, op: Op) -> Iterator[Breach]:
    """At most one leader in a term (5.2)."""
    term, node = term_of(op), name_of(op)
    leaders = cluster.leaders[term]
    for other, at in leaders.items():
        if other != node:
            yield TwoLeaders(op, term, other, at)
    leaders.setdefault(node, op.index)


def one_vote(cluster: Cluster, op: Op, candidate: Any) -> Iterator[Breach]:
    """A server votes for at most one candidate in a term (5.2), itself included."""
    node, term = name_of(op), term_of(op)
    before, at = cluster.votes.setdefault((node, term), (candidate, op.index))
    if before != candidate:
        yield DoubleVote(op, term, candidate, before, at)


def votes_for_no_older_log(change: Change) -> Iterator[Breach]:
    """A server's vote goes to a log at least as up to date as its own (5.4.1)."""
    op, log = change.op, change.log
    theirs = (freeze(op.value.get("last_log_term")), op.value.get("last_log_index"))
    own = (log.term_at(log.last) if log.last is not None else None, log.last)
    if None in theirs or None in own or not is_below(theirs, own):
        return
    at = log.entries[own[1]].op if own[1] in log.entries else op.index
    yield VoteForOlderLog(op, at, theirs, own)


# --- what survives a crash -----------------------------------------------------------


def remembers(cluster: Cluster, change: Change) -> Iterator[Breach]:
    """Vote and log survive a crash (Figure 2); for the term see `follow_term`."""
    op, term = change.op, term_of(change.op)
    vote = cluster.votes.get((name_of(op), term))
    if vote is not None and op.value.get("voted_for", vote[0]) != vote[0]:
        yield ForgotVote(op, term, op.value["voted_for"], *vote)
    if change.gone:
        first = next(iter(change.gone.values()))
        yield ForgotLog(op, first, len(change.gone))


def still_has_committed(cluster: Cluster, change: Change) -> Iterator[Breach]:
    """A server's disk holds at the end what the server knew to be committed."""
    op, log = change.op, change.log
    for index in within(cluster.committed, op.value["first"], log.committed):
        entry, at = cluster.committed[index]
        own = log.entries.get(index)
        if own is None or not own.same(entry):
            yield DiskLacks(op, index, entry, log.committed, at, own)
            return


def on_some_disk(cluster: Cluster) -> Iterator[Breach]:
    """What was committed is on a disk at the end; judged where all could be read."""
    logs = list(cluster.disks.values())
    if len(logs) < len(cluster.servers):
        return
    for index, (entry, at) in sorted(cluster.committed.items()):
        if not any(log.stands_for(index, entry) for log in logs):
            yield OnNoDisk(index, entry, at, tuple(sorted(cluster.disks)))
            return


# --- logs ----------------------------------------------------------------------------


def leader_append_only(server: Server, change: Change) -> Iterator[Breach]:
    """A leader never overwrites or deletes entries in its log (5.3)."""
    if server.leads is not None:
        lost = next(iter(change.gone.values()))
        yield LeaderOverwrote(change.op, server.leads, lost, len(change.gone))


def drops_for_conflict(server: Server, change: Change) -> Iterator[Breach]:
    """Entries go only for others that conflict (Figure 2, AppendEntries, rule 3).

    A server tells that it dropped them, and next what it put in their place. An append
    that came late, and says less than later ones did, conflicts with nothing.
    """
    op = change.op
    dropped, server.dropped = server.dropped, None
    if op.f == "truncated" and change.gone:
        before = dropped[0] if dropped else {}
        server.dropped = {**change.gone, **before}, op.index
        return
    if dropped is None or op.f in MAY_FOLLOW_A_CRASH:
        return
    gone, at = dropped
    if op.f == "appended":
        index = op.value["first"]
        instead, lost = change.log.entries.get(index), gone.get(index)
        if instead is None or lost is None or not instead.same(lost):
            return
    elif op.f not in {"committed", "voted", *ROLES}:
        server.dropped = dropped
        return
    are_back = op.f == "appended"
    yield NeedlessDrop(op, at, gone[min(gone)], len(gone), are_back)


def log_matching(cluster: Cluster, change: Change) -> Iterator[Breach]:
    """One index and term, one entry, and one entry before it (5.3).

    Equal neighbours everywhere make equal logs, by induction over the index.
    """
    op, log = change.op, change.log
    first, before = op.value["first"], log.term_at(op.value["first"] - 1)
    for index in range(first, first + len(op.value["entries"])):
        entry = log.entries[index]
        seen, seen_before = cluster.seen.get((index, entry.term), (entry, None))
        if seen is not entry and not entry.same(seen):
            yield OtherCommand(index, seen, entry)
        elif seen_before != before and None not in {seen_before, before}:
            yield OtherPredecessor(index, seen, entry, (seen_before, before))
        if seen_before is None:
            cluster.seen[index, entry.term] = (seen, before)
        before = entry.term


# --- commits -------------------------------------------------------------------------


def keeps_committed(cluster: Cluster, change: Change) -> Iterator[Breach]:
    """What a server knows to be committed never leaves its log or is replaced."""
    op, log = change.op, change.log
    if op.f not in {"appended", "truncated"}:
        return
    for index, lost in change.gone.items():
        kept = log.entries.get(index)
        if index > log.committed or (kept is not None and kept.same(lost)):
            continue
        _, at = cluster.committed.get(index, (None, lost.op))
        yield CommittedReplaced(op, index, lost, log.committed, at)
        return


def counts_own_term(server: Server, change: Change) -> Iterator[Breach]:
    """A leader commits by counting replicas of its own term's entries (5.4.2)."""
    op = change.op
    entry = change.log.entries.get(op.value["last"])
    if server.leads is None or entry is None or entry.term == server.leads.term:
        return
    yield CommittedByCount(op, server.leads, entry)


def changes_members_in_time(server: Server, change: Change) -> Iterator[Breach]:
    """A leader's first entry commits before it changes the members (raft-dev, 2015).

    Else a change of the last leader may be alive, and two majorities, of members two
    steps apart, need not meet.
    """
    op, log = change.op, change.log
    if server.leads is None or not any(map(is_change, entries_of(op))):
        return
    # What it knew may just have been replaced, which is told elsewhere.
    lost = change.gone.get(log.committed)
    known = log.term_at(log.committed) if lost is None else lost.term
    if known is not None and known != server.leads.term:
        yield EarlyChange(op, server.leads, log.committed, known)


def is_change(entry: Entry) -> bool:
    """Whether the entry is a configuration: its command lists the members."""
    return isinstance(entry.command, dict) and "members" in entry.command


def commits_alike(cluster: Cluster, server: Server, change: Change) -> Iterator[Breach]:
    """State machine safety (5.4.3): one entry is committed at an index."""
    op, log = change.op, change.log
    first, last, term = op.value["first"], op.value["last"], term_of(op)
    if term is not None:
        cluster.commits.append(Commit(last, term, op.index))
    elif server.leads is not None:
        cluster.commits.append(Commit(last, server.leads.term, op.index))
    else:
        server.open_commits.append((last, op.index))
    for index in within(log.entries, first, last):
        entry = log.entries[index]
        other, at = cluster.committed.setdefault(index, (entry, op.index))
        if other is not entry and not other.same(entry):
            yield OtherCommitted(op, index, entry, other, at)
            return


def applies_alike(cluster: Cluster, op: Op) -> Iterator[Breach]:
    """Whatever `applied` tells of an index is the same on all servers (5.4.3)."""
    index = op.value.get("index")
    for name, value in op.value.items():
        if name == "index":
            continue
        other, at = cluster.applied.setdefault((index, name), (value, op.index))
        if other != value:
            yield OtherApplied(op, index, name, value, other, at)
            return


def leader_completeness(cluster: Cluster, history: History) -> Iterator[Breach]:
    """What was committed in a term is in the logs of all later leaders (5.4)."""
    # A node may tell of terms in another form than the others do; it is passed over.
    form = Counter(type(c.bound) for c in cluster.commits).most_common(1)
    commits = [c for c in cluster.commits if type(c.bound) is form[0][0]]
    commits.sort(key=lambda c: (c.bound, c.last))
    furthest = list(accumulate(commits, further))
    # What a server did after it had led for the last time is of no interest here.
    theirs = (op for op in history if op.index <= cluster.led.get(name_of(op), -1))
    for change in Logs().replay(theirs) if commits else ():
        if change.op.f == LEADER and type(term_of(change.op)) is form[0][0]:
            before = bisect_left(commits, term_of(change.op), key=lambda c: c.bound)
            if before:
                yield from holds(
                    cluster, change, commits[:before], furthest[before - 1]
                )


def further(one: Commit, other: Commit) -> Commit:
    """The commit that reaches further."""
    return one if one.last >= other.last else other


def holds(
    cluster: Cluster, change: Change, earlier: list[Commit], furthest: Commit
) -> Iterator[Breach]:
    """A leader holds all entries committed before its term, as far as its log is known.

    Args:
        cluster: What all servers did.
        change: The server became leader.
        earlier: The commits of lower terms, by their bounds.
        furthest: The one of them that reaches furthest.
    """
    op, log = change.op, change.log
    told_end = op.value.get("last_log_index", log.last)
    end = told_end if isinstance(told_end, int) else log.last
    for index in within(cluster.committed, log.base[0] + 1, furthest.last):
        entry, at = cluster.committed[index]
        proof: Commit | None = furthest
        if is_below(furthest.bound, entry.term):
            # Another entry was committed there, which is told elsewhere if its server
            # knew it. This one may have been committed in a later term all the same.
            since = bisect_left(earlier, entry.term, key=lambda c: c.bound)
            proof = next((c for c in earlier[since:] if c.last >= index), None)
        if proof is None:
            continue
        own = log.entries.get(index)
        if own is not None and index <= (end or index):
            if own.same(entry):
                continue
        elif end is not None and index > end:
            own = None
        else:
            continue
        yield LeaderLacks(op, index, entry, at, proof.bound, proof.op, own, end)
        return
