"""Raft's safety, by what every server observed of itself.

The properties of Figure 3 (Ongaro and Ousterhout 2014), over all logs that ever were:

- election safety: at most one leader in a term;
- leader append-only: a leader never overwrites or deletes entries of its log;
- log matching: logs that hold an entry of the same index and term are identical in all
  entries up to there;
- leader completeness: what was committed in a term is in the logs of the leaders of all
  higher terms;
- state machine safety: no two servers commit or apply different entries at an index,
  and none drops what it knew to be committed;

and the rules that they rest on, whose breach comes before any harm, and often without:

- a server votes for one candidate in a term, whose log is no older than its own; its
  term never falls (Figure 2; 5.2, 5.4.1);
- term, vote and log survive a crash (Figure 2, persistent state);
- a server drops entries only for others that conflict with them (Figure 2,
  AppendEntries, rule 3);
- a leader commits by counting replicas of entries of its own term only (5.4.2);
- it changes the members only once an entry of its term is committed (raft-dev, 2015).

Events (`harness.history.observations`; kind and fields, others are passed over):

    became_leader{term, last_log_index}      became_follower{term}
    became_candidate{term}
    voted{term, candidate, last_log_index?, last_log_term?}: its candidate's log
    appended{first, entries: [[term, command], ...]}
    truncated{first, last}                   committed{first, last, term?}
    applied{index, term?, ...}               lost_quorum{term}
    installed_snapshot{index, term, last_log_index}
    recovered{term?, voted_for?, last_log_index?, last_log_term?}      restarted{}
    on_disk{term, voted_for, first, prev_log_term, entries, last_log_index,
            last_log_term}: what was read from its data folder after the run

What is on the disks at the end is judged like a recovery, and besides: the logs match,
each server still has what it knew to be committed, and whatever anyone knew to be
committed is on some disk.

Each server's log is rebuilt from its own events alone, as nothing orders the events of
different servers. What can't be known is not assumed: a crash may take the events of
a server's last instant, so after it only entries known to be committed are certain,
and the others if `recovered` confirms them by the log's end (by log matching).

A commit shows that its entries were committed in the server's term at that moment, or
before. That term is in the event, or the server leads it; else the term of its next
event that tells one is a bound, and too high a bound only excuses leaders.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from checkers.findings import enumerate_names, name_of, shown
from checkers.functions import Functions
from checkers.promises.findings import Findings
from checkers.values import freeze
from harness.registry import Plugin, settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.history import History, Op
    from harness.verdict import CheckResult, Limits

TERM = (int, list)
"""What a term is: a number, or the ballot of a protocol whose ballots are pairs."""

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


FUNCTIONS = Functions(
    "the raft_invariants checker", {}, observed="what servers observe of themselves"
)

FIELDS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "became_leader": {"term": TERM},
    "became_candidate": {"term": TERM},
    "voted": {"term": TERM, "candidate": str},
    "appended": {"first": int, "entries": list},
    "truncated": {"first": int},
    "committed": {"first": int, "last": int},
    "applied": {"index": int},
    "installed_snapshot": {"index": int, "last_log_index": int},
    "on_disk": {"first": int, "entries": list, "last_log_index": int},
}
"""What an event must have to be understood; a kind that isn't here needs nothing."""

NOTHING: Mapping[str, type] = {}


class Entry(NamedTuple):
    """An entry that a server's log held, and the event that says so."""

    term: Any
    command: Any
    op: int

    def same(self, other: Entry) -> bool:
        """Whether it is the same entry, wherever it was seen."""
        return bool(self.term == other.term and self.command == other.command)


def within(known: Mapping[int, Any], first: int, last: int) -> list[int]:
    """The indices from `first` to `last` that are known, in order.

    A node may say what it likes of where its log ends.
    """
    if last - first < len(known):
        return [i for i in range(first, last + 1) if i in known]
    return sorted(i for i in known if first <= i <= last)


@dataclass
class Log:
    """A server's log, as far as its events tell.

    Attributes:
        entries: By index; an index up to `last` that is missing is unknown.
        last: Index of the last entry; None after a restart, until it is known again.
        base: Index and term of the entry that a snapshot ends with.
        committed: Highest index that the server ever knew to be committed.
    """

    entries: dict[int, Entry] = field(default_factory=dict)
    last: int | None = 0
    base: tuple[int, Any] = (0, 0)
    committed: int = 0

    def drop(self, first: int) -> dict[int, Entry]:
        """Entries from `first` on go; returns those that were known, by index."""
        if self.last is None:
            last = max(self.entries, default=0)
        else:
            last = self.last
            self.last = min(last, first - 1)
        return {i: self.entries.pop(i) for i in within(self.entries, first, last)}

    def append(self, first: int, entries: list[Entry]) -> None:
        """The log holds `entries` from `first` on, and nothing behind them."""
        self.entries.update(enumerate(entries, first))
        self.last = first + len(entries) - 1

    def restart(self) -> None:
        """Only what is committed is certain; the end of the log is not known."""
        self.last = None
        for index in [i for i in self.entries if i > self.committed]:
            del self.entries[index]

    def install(self, index: int, term: Any, last: int) -> None:
        """A snapshot covers all up to `index`; the log now ends at `last`."""
        self.drop(last + 1)
        self.last = last
        self.base = (index, term)
        self.committed = max(self.committed, index)

    def read(self, first: int, prev_term: Any, entries: list[Entry]) -> None:
        """The log from `first` on was read; what a snapshot stands in for is kept."""
        self.entries = {i: e for i, e in self.entries.items() if i < first}
        self.base = (first - 1, prev_term)
        self.append(first, entries)

    def term_at(self, index: int) -> Any:
        """Term of the entry at `index`; 0 before the first, None when not known."""
        if index == 0:
            return 0
        if index in self.entries:
            return self.entries[index].term
        return self.base[1] if index == self.base[0] else None

    def stands_for(self, index: int, entry: Entry) -> bool:
        """Whether it holds that entry, or a snapshot that covers it."""
        own = self.entries.get(index)
        return index <= self.base[0] or (own is not None and own.same(entry))


class Change(NamedTuple):
    """An event, with the server's log after it, and what it took off the log."""

    op: Op
    log: Log
    gone: Mapping[int, Entry]


def replay(history: History) -> Iterator[Change]:
    """Rebuild all logs, event by event. Cost: linear in events and entries."""
    logs: dict[str, Log] = defaultdict(Log)
    tails: dict[str, dict[int, Entry]] = defaultdict(dict)
    for op in history:
        if op.is_client or not is_understood(op):
            continue
        node = name_of(op)
        log = logs[node]
        gone: Mapping[int, Entry] = {}
        match op.f:
            case "appended":
                first, entries = op.value["first"], entries_of(op)
                gone = log.drop(first)
                log.append(first, entries)
            case "truncated":
                gone = log.drop(op.value["first"])
            case "committed":
                log.committed = max(log.committed, op.value["last"])
            case "restarted":
                tails[node] = dict(log.entries)
                log.restart()
            case "recovered":
                gone = forgotten(tails[node], op.value)
                confirm(log, tails[node], op.value)
            case "on_disk":
                gone = forgotten(log.entries, op.value)
                prev_term = freeze(op.value.get("prev_log_term"))
                log.read(op.value["first"], prev_term, entries_of(op))
            case "installed_snapshot":
                log.install(op.value["index"], term_of(op), op.value["last_log_index"])
            case _:
                pass
        yield Change(op, log, gone)


def is_understood(op: Op) -> bool:
    """Whether an event has the fields of its kind."""
    value = op.value
    return (
        isinstance(value, dict)
        and all(
            isinstance(value.get(name), kind)
            for name, kind in FIELDS.get(op.f, NOTHING).items()
        )
        and ("entries" not in FIELDS.get(op.f, NOTHING) or are_entries(value))
    )


def are_entries(fields: Mapping[str, Any]) -> bool:
    """Whether an event's entries are pairs of term and command."""
    return all(
        isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], TERM)
        for entry in fields["entries"]
    )


def term_of(op: Op) -> Any:
    """The term that an event tells, or None."""
    return freeze(op.value.get("term"))


def entries_of(op: Op) -> list[Entry]:
    """The entries of an `appended`."""
    return [
        Entry(freeze(term), command, op.index) for term, command in op.value["entries"]
    ]


def confirm(log: Log, tail: Mapping[int, Entry], fields: Mapping[str, Any]) -> None:
    """A server tells, as it starts, where its log ends.

    If that very entry was seen before, so were all up to there: its log matches.
    """
    last, term = fields.get("last_log_index"), freeze(fields.get("last_log_term"))
    if not isinstance(last, int):
        return
    log.last = last
    if last in tail and tail[last].term == term:
        log.entries.update((i, e) for i, e in tail.items() if i <= last)


def forgotten(
    tail: Mapping[int, Entry], fields: Mapping[str, Any]
) -> Mapping[int, Entry]:
    """What the log held before the crash, and holds no more.

    A shorter log alone proves nothing: the server may have replaced its end in its last
    instant, unseen. But then its last entry is another than it had there.
    """
    last, term = fields.get("last_log_index"), freeze(fields.get("last_log_term"))
    if not isinstance(last, int) or last >= max(tail, default=0):
        return {}
    had = tail[last].term if last in tail else None
    if last and (had is None or had != term):
        return {}
    return {i: tail[i] for i in sorted(tail) if i > last}


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
        leads: The term that it leads and since which event, or None.
        open_commits: Commits whose term isn't known yet.
        dropped: The entries that it dropped, by index, and the event, until it is known
            what it did that for.
    """

    term: tuple[Any, int] | None = None
    leads: tuple[Any, int] | None = None
    open_commits: list[tuple[int, int]] = field(default_factory=list)
    dropped: tuple[Mapping[int, Entry], int] | None = None


@dataclass
class Evidence:
    """What the first pass over a history collects.

    Attributes:
        servers: By name.
        leaders: Term -> server -> event.
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
    votes: dict[tuple[str, Any], tuple[str, int]] = field(default_factory=dict)
    seen: dict[tuple[int, Any], tuple[Entry, Any]] = field(default_factory=dict)
    committed: dict[int, tuple[Entry, int]] = field(default_factory=dict)
    applied: dict[tuple[int, str], tuple[Any, int]] = field(default_factory=dict)
    commits: list[Commit] = field(default_factory=list)
    disks: dict[str, Log] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


class RaftInvariantsChecker:
    """Judges what the servers of one Raft cluster observed."""

    observes = True

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`.

        Cost: linear in the entries, and once more in the committed entries for each
        leader.

        Raises:
            HistoryError: See `Functions.of`.
        """
        findings = Findings(history)
        evidence = Evidence()
        for change in replay(history):
            evidence.counts[change.op.f] += 1
            judge(evidence, findings, change)
        leader_completeness(evidence, findings, history)
        on_some_disk(evidence, findings)
        known = FUNCTIONS.of(history, has_observed=bool(evidence.counts))
        return known.weighed(
            findings.result(statistics(evidence), unknown=unjudged(evidence))
        )


def judge(evidence: Evidence, findings: Findings, change: Change) -> None:
    """Everything that one event can break."""
    op, log = change.op, change.log
    server = evidence.servers[name_of(op)]
    if op.f in STEPS_DOWN:
        server.leads = None
    follow_term(findings, evidence, server, op)
    leader_append_only(findings, server, change)
    keeps_committed(evidence, findings, change)
    drops_for_conflict(findings, server, change)
    match op.f:
        case "became_leader":
            election_safety(evidence, findings, op)
            server.leads = (term_of(op), op.index)
        case "voted":
            one_vote(evidence, findings, op, op.value.get("candidate"))
            votes_for_no_older_log(findings, change)
        case "recovered":
            remembers(evidence, findings, change)
        case "on_disk":
            evidence.disks[name_of(op)] = log
            remembers(evidence, findings, change)
            log_matching(evidence, findings, change)
            still_has_committed(evidence, findings, change)
        case "became_candidate":
            one_vote(evidence, findings, op, name_of(op))
        case "appended":
            log_matching(evidence, findings, change)
            changes_members_in_time(findings, server, change)
        case "committed":
            counts_own_term(findings, server, change)
            commit(evidence, findings, server, op, log)
        case "applied":
            state_machine_safety(evidence, findings, op)
        case _:
            pass


def follow_term(findings: Findings, evidence: Evidence, server: Server, op: Op) -> None:
    """A server's term never falls (Figure 2); it also bounds the commits before."""
    term = term_of(op)
    if term is None or op.f not in TELLS_TERM:
        return
    before = server.term
    if before is not None and is_below(term, before[0]):
        findings.add(
            "term-went-back",
            f"Figure 2 is broken: {name_of(op)} was in term {before[0]}, and later in "
            f"term {term}; a server's term never falls.",
            [(before[1], op.index, "contradicts", f"term {before[0]}, then {term}")],
        )
        return
    server.term = (term, op.index)
    evidence.commits += [Commit(last, term, at) for last, at in server.open_commits]
    server.open_commits.clear()


def election_safety(evidence: Evidence, findings: Findings, op: Op) -> None:
    """At most one leader in a term (5.2)."""
    term, node = term_of(op), name_of(op)
    leaders = evidence.leaders[term]
    for other, at in leaders.items():
        if other == node:
            continue
        findings.add(
            "two-leaders",
            f"Election safety is broken: both {other} and {node} became leader in term "
            f"{term}.",
            [(at, op.index, "contradicts", f"{other} leads term {term} already")],
            details={"term": term},
        )
    leaders.setdefault(node, op.index)


def one_vote(evidence: Evidence, findings: Findings, op: Op, candidate: Any) -> None:
    """A server votes for at most one candidate in a term (5.2), itself included."""
    node, term = name_of(op), term_of(op)
    before, at = evidence.votes.setdefault((node, term), (candidate, op.index))
    if before != candidate:
        findings.add(
            "double-vote",
            f"Figure 2 is broken: {node} voted in term {term} for {before} and for "
            f"{candidate}.",
            [(at, op.index, "contradicts", f"the vote in term {term} was given")],
            details={"term": term},
        )


def votes_for_no_older_log(findings: Findings, change: Change) -> None:
    """A server's vote goes to a log at least as up to date as its own (5.4.1)."""
    op, log = change.op, change.log
    theirs = (freeze(op.value.get("last_log_term")), op.value.get("last_log_index"))
    own = (log.term_at(log.last) if log.last is not None else None, log.last)
    if None in theirs or None in own or not is_below(theirs, own):
        return
    at = log.entries[own[1]].op if own[1] in log.entries else op.index
    findings.add(
        "vote-for-older-log",
        f"The voting rule (5.4.1) is broken: {name_of(op)} voted in term "
        f"{op.value['term']} for {op.value['candidate']}, whose log ended with index "
        f"{theirs[1]} of term {theirs[0]}, although its own ended with index {own[1]} "
        f"of term {own[0]}; what that leader lacks may have been committed.",
        [(at, op.index, "contradicts", "its own log is more up to date")]
        if at != op.index
        else (),
        ops=[op.index],
    )


def drops_for_conflict(findings: Findings, server: Server, change: Change) -> None:
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
    first = gone[min(gone)]
    if op.f == "appended":
        index = op.value["first"]
        instead, lost = change.log.entries.get(index), gone.get(index)
        if instead is None or lost is None or not instead.same(lost):
            return
        how = "and appended the very same again"
    elif op.f in {"committed", "voted", *ROLES}:
        how = "and put nothing in their place"
    else:
        server.dropped = dropped
        return
    findings.add(
        "dropped-without-conflict",
        f"AppendEntries, rule 3, is broken: {name_of(op)} dropped {len(gone)} "
        f"entries from {told(first)} on, {how}; the leader may have counted on them.",
        [(first.op, at, "appended", told(first)), (at, op.index, "contradicts", how)],
    )


def is_below(one: Any, other: Any) -> bool:
    """Whether it is lower, where the two can be compared."""
    try:
        return bool(one < other)
    except TypeError:
        return False


def remembers(evidence: Evidence, findings: Findings, change: Change) -> None:
    """Vote and log survive a crash (Figure 2); for the term see `follow_term`."""
    op, term = change.op, term_of(change.op)
    vote = evidence.votes.get((name_of(op), term))
    if vote is not None and op.value.get("voted_for", vote[0]) != vote[0]:
        findings.add(
            "forgot-vote",
            f"Figure 2 is broken: {name_of(op)} voted in term {term} for {vote[0]}, "
            "and when it came back in that term its vote was for "
            f"{op.value['voted_for'] or 'nobody'}; it may vote twice.",
            [(vote[1], op.index, "contradicts", f"it voted in term {term}")],
            details={"term": term},
        )
    if change.gone:
        first = next(iter(change.gone.values()))
        findings.add(
            "forgot-log",
            f"Figure 2 is broken: {name_of(op)} came back without the last "
            f"{len(change.gone)} entries of its log, {told(first)} the first of them; "
            "others may have counted on them.",
            [(first.op, op.index, "contradicts", "it was in the log, durably")],
        )


def still_has_committed(evidence: Evidence, findings: Findings, change: Change) -> None:
    """A server's disk holds at the end what the server knew to be committed."""
    op, log = change.op, change.log
    for index in within(evidence.committed, op.value["first"], log.committed):
        entry, at = evidence.committed[index]
        own = log.entries.get(index)
        if own is not None and own.same(entry):
            continue
        has = "nothing" if own is None else told(own)
        findings.add(
            "committed-entry-lost",
            f"State machine safety is broken: {name_of(op)} knew that all up to index "
            f"{log.committed} was committed, and {told(entry)} was at index {index}, "
            f"but its disk has {has} there.",
            [(at, op.index, "contradicts", f"index {index} is committed")],
            details={"index": index},
        )
        return


def on_some_disk(evidence: Evidence, findings: Findings) -> None:
    """What was committed is on a disk at the end; judged where all could be read."""
    logs = list(evidence.disks.values())
    if len(logs) < len(evidence.servers):
        return
    for index, (entry, at) in sorted(evidence.committed.items()):
        if any(log.stands_for(index, entry) for log in logs):
            continue
        findings.add(
            "committed-entry-lost",
            f"{told(entry)} was committed at index {index}, as "
            f"{name_of(findings.history[at])} knew, but after the run it is on no "
            f"disk of {enumerate_names(sorted(evidence.disks))}.",
            [(entry.op, at, "appended", told(entry))],
            ops=[at],
            details={"index": index},
        )
        return


def counts_own_term(findings: Findings, server: Server, change: Change) -> None:
    """A leader commits by counting replicas of its own term's entries (5.4.2)."""
    op = change.op
    entry = change.log.entries.get(op.value["last"])
    if server.leads is None or entry is None or entry.term == server.leads[0]:
        return
    findings.add(
        "committed-by-count",
        f"The commitment rule (5.4.2) is broken: {name_of(op)}, leader of term "
        f"{server.leads[0]}, committed up to index {op.value['last']}, {told(entry)}; "
        "an entry of an earlier term that a majority stores may still be overwritten "
        "(Figure 8).",
        [
            (
                server.leads[1],
                op.index,
                "contradicts",
                f"it leads term {server.leads[0]}",
            ),
            (entry.op, op.index, "appended", told(entry)),
        ],
    )


def changes_members_in_time(findings: Findings, server: Server, change: Change) -> None:
    """A leader's first entry commits before it changes the members (raft-dev, 2015).

    Else a change of the last leader may be alive, and two majorities, of members two
    steps apart, need not meet.
    """
    op, log = change.op, change.log
    if server.leads is None or not any(map(is_change, entries_of(op))):
        return
    term, since = server.leads
    # What it knew may just have been replaced, which is told elsewhere.
    lost = change.gone.get(log.committed)
    known = log.term_at(log.committed) if lost is None else lost.term
    if known is None or known == term:
        return
    findings.add(
        "early-change",
        f"The rule of single-server changes (raft-dev, 2015) is broken: {name_of(op)} "
        f"changed the members as leader of term {term}, before an entry of that term "
        f"was committed: it knew of index {log.committed}, of term {known}.",
        [(since, op.index, "contradicts", f"it leads term {term}")],
    )


def is_change(entry: Entry) -> bool:
    """Whether the entry is a configuration: its command lists the members."""
    return isinstance(entry.command, dict) and "members" in entry.command


def leader_append_only(findings: Findings, server: Server, change: Change) -> None:
    """A leader never overwrites or deletes entries in its log (5.3)."""
    if server.leads is None or not change.gone:
        return
    term, since = server.leads
    op, lost = change.op, next(iter(change.gone.values()))
    findings.add(
        "leader-overwrote-log",
        f"Leader append-only is broken: {name_of(op)} {op.f} from index "
        f"{op.value['first']} on while it led term {term}, and lost "
        f"{len(change.gone)} of its own entries by that.",
        [
            (since, op.index, "contradicts", f"it leads term {term}"),
            (lost.op, op.index, "overwrites", f"an entry of term {lost.term}"),
        ],
    )


def keeps_committed(evidence: Evidence, findings: Findings, change: Change) -> None:
    """What a server knows to be committed never leaves its log or is replaced."""
    op, log = change.op, change.log
    if not change.gone or op.f not in {"appended", "truncated"}:
        return
    for index, lost in change.gone.items():
        kept = log.entries.get(index)
        if index > log.committed or (kept is not None and kept.same(lost)):
            continue
        _, at = evidence.committed.get(index, (None, lost.op))
        findings.add(
            "committed-entry-lost",
            f"State machine safety is broken: {name_of(op)} {op.f} from index "
            f"{op.value['first']} on, and lost {told(lost)} at index {index}, although "
            f"it knew that all up to {log.committed} was committed.",
            [(at, op.index, "contradicts", f"index {index} is committed")],
        )
        return


def log_matching(evidence: Evidence, findings: Findings, change: Change) -> None:
    """One index and term, one entry, and one entry before it (5.3).

    Equal neighbours everywhere make equal logs, by induction over the index.
    """
    op, log = change.op, change.log
    first, before = op.value["first"], log.term_at(op.value["first"] - 1)
    for index in range(first, first + len(op.value["entries"])):
        entry = log.entries[index]
        seen, seen_before = evidence.seen.get((index, entry.term), (entry, None))
        if not entry.same(seen):
            what = f"{shown(seen.command)} and {shown(entry.command)}"
            mismatch(findings, seen, entry, index, f"have the commands {what}")
        elif None not in {seen_before, before} and seen_before != before:
            what = f"follow entries of different terms, {seen_before} and {before}"
            mismatch(findings, seen, entry, index, what)
        if seen_before is None:
            evidence.seen[index, entry.term] = (seen, before)
        before = entry.term


def mismatch(
    findings: Findings, seen: Entry, entry: Entry, index: int, what: str
) -> None:
    """Two logs that hold an entry of the same index and term, but differ."""
    nodes = " and ".join(name_of(findings.history[e.op]) for e in (seen, entry))
    findings.add(
        "log-mismatch",
        f"Log matching is broken: the entries of index {index} and term {entry.term} "
        f"in the logs of {nodes} {what}.",
        [(seen.op, entry.op, "contradicts", f"another log up to index {index}")],
        ops=[seen.op, entry.op],
        details={"index": index, "term": entry.term},
    )


def commit(
    evidence: Evidence, findings: Findings, server: Server, op: Op, log: Log
) -> None:
    """State machine safety (5.4.3): one entry is committed at an index."""
    first, last = op.value["first"], op.value["last"]
    if term_of(op) is not None:
        evidence.commits.append(Commit(last, term_of(op), op.index))
    elif server.leads is not None:
        evidence.commits.append(Commit(last, server.leads[0], op.index))
    else:
        server.open_commits.append((last, op.index))
    for index in within(log.entries, first, last):
        entry = log.entries[index]
        other, at = evidence.committed.setdefault(index, (entry, op.index))
        if other is entry or other.same(entry):
            continue
        findings.add(
            "different-entries-committed",
            f"State machine safety is broken: at index {index} "
            f"{name_of(findings.history[at])} committed {told(other)}, but "
            f"{name_of(op)} committed {told(entry)}.",
            [
                (at, op.index, "contradicts", f"another entry at index {index}"),
                (other.op, at, "appended", told(other)),
                (entry.op, op.index, "appended", told(entry)),
            ],
            details={"index": index},
        )
        return


def told(entry: Entry) -> str:
    """An entry for a sentence."""
    return f"{shown(entry.command)} of term {entry.term}"


def state_machine_safety(evidence: Evidence, findings: Findings, op: Op) -> None:
    """Whatever `applied` tells of an index is the same on all servers."""
    index = op.value.get("index")
    for name, value in op.value.items():
        if name == "index":
            continue
        other, at = evidence.applied.setdefault((index, name), (value, op.index))
        if other == value:
            continue
        findings.add(
            "state-machines-differ",
            f"State machine safety is broken: after applying index {index}, the {name} "
            f"of {name_of(findings.history[at])} is {shown(other)}, and that of "
            f"{name_of(op)} is {shown(value)}.",
            [(at, op.index, "contradicts", f"another {name} at index {index}")],
            details={"index": index},
        )
        return


def leader_completeness(
    evidence: Evidence, findings: Findings, history: History
) -> None:
    """What was committed in a term is in the logs of all later leaders (5.4)."""
    # A node may tell of terms in another form than the others do; it is passed over.
    form = Counter(type(c.bound) for c in evidence.commits).most_common(1)
    commits = [c for c in evidence.commits if type(c.bound) is form[0][0]]
    commits.sort(key=lambda c: (c.bound, c.last))
    furthest = list(accumulate(commits, further))
    for change in replay(history) if commits else ():
        if change.op.f == LEADER and type(term_of(change.op)) is form[0][0]:
            before = bisect_left(commits, term_of(change.op), key=lambda c: c.bound)
            if before:
                holds(evidence, findings, change, furthest[before - 1])


def further(one: Commit, other: Commit) -> Commit:
    """The commit that reaches further."""
    return one if one.last >= other.last else other


def holds(
    evidence: Evidence, findings: Findings, change: Change, proof: Commit
) -> None:
    """A leader holds all entries up to that commit, as far as its log is known."""
    op, log = change.op, change.log
    told_end = op.value.get("last_log_index", log.last)
    end = told_end if isinstance(told_end, int) else log.last
    for index in within(evidence.committed, log.base[0] + 1, proof.last):
        entry, at = evidence.committed[index]
        if is_below(proof.bound, entry.term):
            continue  # another entry was committed there, which is told elsewhere
        own = log.entries.get(index)
        if own is not None and index <= (end or index):
            if own.same(entry):
                continue
            instead = f"holds {told(own)} instead"
        elif end is not None and index > end:
            instead = f"ends at index {end}"
        else:
            continue
        findings.add(
            "leader-lacks-committed",
            f"Leader completeness is broken: {told(entry)} was committed at index "
            f"{index} in term {proof.bound} or before, as "
            f"{name_of(findings.history[proof.op])} knew, but the log of "
            f"{name_of(op)}, leader of term {op.value['term']}, {instead}.",
            [
                (at, op.index, "contradicts", f"index {index} was committed before"),
                (proof.op, op.index, "lower-term", f"term {proof.bound} at most"),
            ],
            details={"index": index, "term": op.value["term"]},
        )
        return


def statistics(evidence: Evidence) -> dict[str, Any]:
    """Figures for the report."""
    return {
        "servers": len(evidence.servers),
        "terms_led": len(evidence.leaders),
        "entries_committed": len(evidence.committed),
        "entries_seen": len(evidence.seen),
        "disks_read": len(evidence.disks),
        "events": dict(evidence.counts),
    }


def unjudged(evidence: Evidence) -> str:
    """Why the observations are not enough for a verdict; empty when they are."""
    if not evidence.counts:
        return "nothing to judge: no server observed anything"
    if not evidence.leaders:
        return "nothing to judge: no server was observed to become leader"
    if not evidence.committed and not evidence.applied:
        return "nothing to judge: no server was observed to commit an entry"
    return ""


def build(options: Mapping[str, str]) -> RaftInvariantsChecker:
    """The checker. Raises UsageError for any option, as it has none."""
    settings("the raft_invariants checker", (), options)
    return RaftInvariantsChecker()


PLUGIN = Plugin(
    "raft_invariants",
    "Raft's five safety properties, over what every server observed of itself",
    build,
    aliases=("raft-invariants",),
)
