"""The breaches of Raft's rules in words, each with its witness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.findings import anomaly, enumerate_names, name_of, shown
from checkers.raft.evidence import (
    CommittedByCount,
    CommittedReplaced,
    DiskLacks,
    DoubleVote,
    EarlyChange,
    ForgotLog,
    ForgotVote,
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

if TYPE_CHECKING:
    from checkers.raft.evidence import Breach
    from checkers.raft.logs import Entry
    from harness.history import History
    from harness.verdict import Anomaly


def tell(history: History, breach: Breach) -> Anomaly:
    """The anomaly of a breach that the events of `history` show."""
    match breach:
        case TwoLeaders():
            return two_leaders(breach)
        case TermWentBack():
            return term_went_back(breach)
        case DoubleVote():
            return double_vote(breach)
        case VoteForOlderLog():
            return vote_for_older_log(breach)
        case ForgotVote():
            return forgot_vote(breach)
        case ForgotLog():
            return forgot_log(breach)
        case LeaderOverwrote():
            return leader_overwrote(breach)
        case NeedlessDrop():
            return needless_drop(breach)
        case OtherCommand() | OtherPredecessor():
            return log_mismatch(history, breach)
        case LeaderLacks():
            return leader_lacks(history, breach)
        case OtherCommitted():
            return other_committed(history, breach)
        case OtherApplied():
            return other_applied(history, breach)
        case CommittedReplaced():
            return committed_replaced(breach)
        case DiskLacks():
            return disk_lacks(breach)
        case OnNoDisk():
            return on_no_disk(history, breach)
        case CommittedByCount():
            return committed_by_count(breach)
        case EarlyChange():
            return early_change(breach)


# --- terms and votes ------------------------------------------------------------------


def two_leaders(breach: TwoLeaders) -> Anomaly:
    """Election safety."""
    op, term, other = breach.op, breach.term, breach.other
    reason = f"{other} leads term {term} already"
    return anomaly(
        breach.name,
        f"Election safety is broken: both {other} and {name_of(op)} became leader "
        f"in term {term}.",
        [(breach.at, op.index, "contradicts", reason)],
        details={"term": term},
    )


def term_went_back(breach: TermWentBack) -> Anomaly:
    """A term that fell."""
    op, term, before = breach.op, breach.term, breach.before
    return anomaly(
        breach.name,
        f"Figure 2 is broken: {name_of(op)} was in term {before}, and later in "
        f"term {term}; a server's term never falls.",
        [(breach.at, op.index, "contradicts", f"term {before}, then {term}")],
    )


def double_vote(breach: DoubleVote) -> Anomaly:
    """Two votes of one server in one term."""
    op, term = breach.op, breach.term
    reason = f"the vote in term {term} was given"
    return anomaly(
        breach.name,
        f"Figure 2 is broken: {name_of(op)} voted in term {term} for "
        f"{breach.before} and for {breach.candidate}.",
        [(breach.at, op.index, "contradicts", reason)],
        details={"term": term},
    )


def vote_for_older_log(breach: VoteForOlderLog) -> Anomaly:
    """A vote for a log that lacks what the voter has."""
    op, at = breach.op, breach.at
    (their_term, their_index), (own_term, own_index) = breach.theirs, breach.own
    reason = "its own log is more up to date"
    return anomaly(
        breach.name,
        f"The voting rule (5.4.1) is broken: {name_of(op)} voted in term "
        f"{op.value['term']} for {op.value['candidate']}, whose log ended with "
        f"index {their_index} of term {their_term}, although its own ended with "
        f"index {own_index} of term {own_term}; what that leader lacks may have "
        "been committed.",
        [(at, op.index, "contradicts", reason)] if at != op.index else (),
        ops=[op.index],
    )


# --- what survives a crash ------------------------------------------------------------


def forgot_vote(breach: ForgotVote) -> Anomaly:
    """A vote that a crash undid."""
    op, term = breach.op, breach.term
    return anomaly(
        breach.name,
        f"Figure 2 is broken: {name_of(op)} voted in term {term} for "
        f"{breach.before}, and when it came back in that term its vote was for "
        f"{breach.vote or 'nobody'}; it may vote twice.",
        [(breach.at, op.index, "contradicts", f"it voted in term {term}")],
        details={"term": term},
    )


def forgot_log(breach: ForgotLog) -> Anomaly:
    """Entries that a crash undid."""
    op, first = breach.op, breach.first
    reason = "it was in the log, durably"
    return anomaly(
        breach.name,
        f"Figure 2 is broken: {name_of(op)} came back without the last "
        f"{breach.entries} entries of its log, {in_words(first)} the first of them; "
        "others may have counted on them.",
        [(first.op, op.index, "contradicts", reason)],
    )


def disk_lacks(breach: DiskLacks) -> Anomaly:
    """What a server knew to be committed, and its disk does not have."""
    op, index = breach.op, breach.log_index
    has = "nothing" if breach.own is None else in_words(breach.own)
    return anomaly(
        breach.name,
        f"State machine safety is broken: {name_of(op)} knew that all up to index "
        f"{breach.committed} was committed, and {in_words(breach.entry)} was at "
        f"index {index}, but its disk has {has} there.",
        [(breach.at, op.index, "contradicts", f"index {index} is committed")],
        details={"index": index},
    )


def on_no_disk(history: History, breach: OnNoDisk) -> Anomaly:
    """What was committed, and no disk has."""
    entry, at = breach.entry, breach.at
    return anomaly(
        breach.name,
        f"{in_words(entry)} was committed at index {breach.log_index}, as "
        f"{name_of(history[at])} knew, but after the run it is on no disk of "
        f"{enumerate_names(breach.disks)}.",
        [(entry.op, at, "appended", in_words(entry))],
        ops=[at],
        details={"index": breach.log_index},
    )


# --- logs -----------------------------------------------------------------------------


def leader_overwrote(breach: LeaderOverwrote) -> Anomaly:
    """A leader that lost entries of its own."""
    op, lead, lost = breach.op, breach.lead, breach.lost
    return anomaly(
        breach.name,
        f"Leader append-only is broken: {name_of(op)} {op.f} from index "
        f"{op.value['first']} on while it led term {lead.term}, and lost "
        f"{breach.entries} of its own entries by that.",
        [
            (lead.since, op.index, "contradicts", f"it leads term {lead.term}"),
            (lost.op, op.index, "overwrites", f"an entry of term {lost.term}"),
        ],
    )


def needless_drop(breach: NeedlessDrop) -> Anomaly:
    """Entries that were dropped for nothing."""
    op, at, first = breach.op, breach.dropped_at, breach.first
    how = "and put nothing in their place"
    if breach.are_back:
        how = "and appended the very same again"
    return anomaly(
        breach.name,
        f"AppendEntries, rule 3, is broken: {name_of(op)} dropped {breach.entries} "
        f"entries from {in_words(first)} on, {how}; the leader may have counted on "
        "them.",
        [
            (first.op, at, "appended", in_words(first)),
            (at, op.index, "contradicts", how),
        ],
    )


def log_mismatch(history: History, breach: OtherCommand | OtherPredecessor) -> Anomaly:
    """Two logs that hold an entry of the same index and term, but differ."""
    index, seen, entry = breach.log_index, breach.seen, breach.entry
    match breach:
        case OtherCommand():
            commands = f"{shown(seen.command)} and {shown(entry.command)}"
            what = f"have the commands {commands}"
        case OtherPredecessor():
            one, other = breach.before
            what = f"follow entries of different terms, {one} and {other}"
    return anomaly(
        breach.name,
        f"Log matching is broken: the entries of index {index} and term "
        f"{entry.term} in the logs of {name_of(history[seen.op])} and "
        f"{name_of(history[entry.op])} {what}.",
        [(seen.op, entry.op, "contradicts", f"another log up to index {index}")],
        ops=[seen.op, entry.op],
        details={"index": index, "term": entry.term},
    )


# --- commits --------------------------------------------------------------------------


def leader_lacks(history: History, breach: LeaderLacks) -> Anomaly:
    """A leader without what was committed before."""
    op, index, bound = breach.op, breach.log_index, breach.bound
    instead = f"ends at index {breach.end}"
    if breach.own is not None:
        instead = f"holds {in_words(breach.own)} instead"
    committed = f"index {index} was committed before"
    return anomaly(
        breach.name,
        f"Leader completeness is broken: {in_words(breach.entry)} was committed at "
        f"index {index} in term {bound} or before, as {name_of(history[breach.proof])} "
        f"knew, but the log of {name_of(op)}, leader of term {op.value['term']}, "
        f"{instead}.",
        [
            (breach.at, op.index, "contradicts", committed),
            (breach.proof, op.index, "lower-term", f"term {bound} at most"),
        ],
        details={"index": index, "term": op.value["term"]},
    )


def other_committed(history: History, breach: OtherCommitted) -> Anomaly:
    """Two servers that committed different entries."""
    op, index, at = breach.op, breach.log_index, breach.at
    entry, other = breach.entry, breach.other
    return anomaly(
        breach.name,
        f"State machine safety is broken: at index {index} {name_of(history[at])} "
        f"committed {in_words(other)}, but {name_of(op)} committed "
        f"{in_words(entry)}.",
        [
            (at, op.index, "contradicts", f"another entry at index {index}"),
            (other.op, at, "appended", in_words(other)),
            (entry.op, op.index, "appended", in_words(entry)),
        ],
        details={"index": index},
    )


def other_applied(history: History, breach: OtherApplied) -> Anomaly:
    """Two servers that applied an entry and came to different ends."""
    op, index, at, field = breach.op, breach.log_index, breach.at, breach.field
    return anomaly(
        breach.name,
        f"State machine safety is broken: after applying index {index}, the "
        f"{field} of {name_of(history[at])} is {shown(breach.other)}, and that of "
        f"{name_of(op)} is {shown(breach.value)}.",
        [(at, op.index, "contradicts", f"another {field} at index {index}")],
        details={"index": index},
    )


def committed_replaced(breach: CommittedReplaced) -> Anomaly:
    """A server that lost what it knew to be committed."""
    op, index = breach.op, breach.log_index
    return anomaly(
        breach.name,
        f"State machine safety is broken: {name_of(op)} {op.f} from index "
        f"{op.value['first']} on, and lost {in_words(breach.lost)} at index "
        f"{index}, although it knew that all up to {breach.committed} was "
        "committed.",
        [(breach.at, op.index, "contradicts", f"index {index} is committed")],
    )


def committed_by_count(breach: CommittedByCount) -> Anomaly:
    """A leader that counted replicas of an earlier term's entry."""
    op, lead, entry = breach.op, breach.lead, breach.entry
    return anomaly(
        breach.name,
        f"The commitment rule (5.4.2) is broken: {name_of(op)}, leader of term "
        f"{lead.term}, committed up to index {op.value['last']}, "
        f"{in_words(entry)}; an entry of an earlier term that a majority stores "
        "may still be overwritten (Figure 8).",
        [
            (lead.since, op.index, "contradicts", f"it leads term {lead.term}"),
            (entry.op, op.index, "appended", in_words(entry)),
        ],
    )


def early_change(breach: EarlyChange) -> Anomaly:
    """A leader that changed the members too early."""
    op, lead = breach.op, breach.lead
    return anomaly(
        breach.name,
        "The rule of single-server changes (raft-dev, 2015) is broken: "
        f"{name_of(op)} changed the members as leader of term {lead.term}, before "
        "an entry of that term was committed: it knew of index "
        f"{breach.committed}, of term {breach.term}.",
        [(lead.since, op.index, "contradicts", f"it leads term {lead.term}")],
    )


def in_words(entry: Entry) -> str:
    """An entry for a sentence."""
    return f"{shown(entry.command)} of term {entry.term}"
