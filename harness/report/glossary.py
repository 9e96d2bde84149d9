"""What the names of anomalies mean, and what checkers demand, in plain words.

Each entry has a sentence or two, and where the name or the rule comes from. Entries
stand from plain to technical: of several names for the same operations, the one that
stands first is the clearest (`rank`).

Cycles of transactions have three variants, as in Elle: `G1c` has dependencies only,
`G1c-process` takes the order of one client's transactions as well, and `G1c-realtime`
takes the order in which transactions ended and began. One entry serves all three.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Entry(NamedTuple):
    """An entry: one or two sentences, and where they come from."""

    meaning: str
    source: str


HERLIHY = "Herlihy and Wing 1990, linearizability"
ADYA = "Adya 1999"
ELLE = "Kingsbury and Alvaro 2020, Elle"
TERRY = "Terry et al. 1994, session guarantees"
BISWAS = "Biswas and Enea 2019"
CERONE = "Cerone and Gotsman 2016"
RAFT = "Ongaro and Ousterhout 2014, Raft"
PAXOS = "Lamport 2001, Paxos Made Simple"
ZAB = "Junqueira, Reed and Serafini 2011, Zab"
COMMIT = "Bernstein, Hadzilacos and Goodman 1987, section 7.3"
KAFKA = "Jepsen, the kafka checker"
LAMPORT = "Lamport 1979, sequential consistency"
LEASES = "Kleppmann 2016, fencing tokens"
OURS = "splitbrain"

ENTRIES: Mapping[str, Entry] = {
    # One object: registers, sets, queues, stacks
    "stale-read": Entry(
        "A read returned something that had been replaced before the read began: what "
        "another client had already been told was done is missing from it.",
        HERLIHY,
    ),
    "lost-write": Entry(
        "A write was acknowledged, and later operations behave as if it had never "
        "been.",
        HERLIHY,
    ),
    "lost-update": Entry(
        "Two operations read the same version and both replaced it, so that one of "
        "them overwrote the other without having seen it.",
        "Berenson et al. 1995, P4",
    ),
    "lost": Entry(
        "Something was acknowledged, and is gone: later reads, or the final drain of "
        "a queue, don't show it.",
        "Jepsen, set, set-full and total-queue",
    ),
    "lost-append": Entry(
        "An append was acknowledged, and a transaction that began after that read a "
        "list without it.",
        ELLE,
    ),
    "missing-at-end": Entry(
        "In the end, when nodes should have converged, one lacks an element that was "
        "acknowledged and that others have.",
        "Jepsen, set-full",
    ),
    "write-skew": Entry(
        "Two transactions each read what the other one then replaced. Each decided by "
        "what was no longer so, and together they may break a rule that each kept.",
        "Berenson et al. 1995, A5B",
    ),
    "wrong-total": Entry(
        "Money moves between accounts, and a read of all of them adds up to another "
        "sum: it saw a transfer half done, or money was made or lost.",
        "Jepsen, bank",
    ),
    "negative-value": Entry("An account owes, and must not.", "Jepsen, bank"),
    "nil-balance": Entry("A read of all accounts found one empty.", "Jepsen, bank"),
    "unexpected-key": Entry(
        "A read of all accounts found one that nobody made.", "Jepsen, bank"
    ),
    "duplicate": Entry(
        "Something is there twice: an element in a set, or a message at two offsets "
        "of a log.",
        "Jepsen, set-full and kafka",
    ),
    "duplicated": Entry("An id that must be unique was given out twice.", "Jepsen"),
    "wrong-echo": Entry(
        "A node answered something else than it was told.", "Maelstrom"
    ),
    "unexpected": Entry(
        "Something came out that nobody put in, or that was taken out before.",
        "Jepsen, set, queue and total-queue",
    ),
    "unexpected-value": Entry(
        "A read returned a value that nothing written so far explains.",
        "Jepsen, causal",
    ),
    "out-of-bounds": Entry(
        "A read of a counter is below all that was surely added, or above all that "
        "may have been.",
        "Jepsen, counter",
    ),
    "impossible-sum": Entry(
        "A final read of a counter is a sum that no choice of the unacknowledged "
        "additions explains.",
        "Maelstrom, pn-counter",
    ),
    "unknown-value": Entry("A value was read that nobody ever wrote.", HERLIHY),
    "unknown-element": Entry("Something came out that nobody put in.", HERLIHY),
    "failed-value": Entry("A value was read whose write had failed for sure.", HERLIHY),
    "failed-element": Entry(
        "Something came out although putting it in had failed for sure.", HERLIHY
    ),
    "value-from-future": Entry("A value was read before its write began.", HERLIHY),
    "element-from-future": Entry(
        "Something came out before anybody began to put it in.", HERLIHY
    ),
    "read-from-future": Entry("A read saw a write that began after it.", HERLIHY),
    "read-of-failed-write": Entry(
        "A read saw a write that had failed for sure.", HERLIHY
    ),
    "read-of-unwritten-value": Entry("A value was read that nobody wrote.", HERLIHY),
    "duplicate-value": Entry(
        "A value was taken out, or written once and replaced, and is there again.",
        HERLIHY,
    ),
    "duplicate-element": Entry(
        "An element came out more often than it went in.", HERLIHY
    ),
    "cas-cycle": Entry(
        "Compare-and-set operations succeeded whose expected and new values form no "
        "chain: each needs another one to come first.",
        HERLIHY,
    ),
    "false-empty": Entry(
        "A queue or stack said that it was empty while something was in it for sure.",
        HERLIHY,
    ),
    "fifo-violation": Entry(
        "What went into a queue first did not come out first.", HERLIHY
    ),
    "lifo-violation": Entry("A stack did not give what was put onto it last.", HERLIHY),
    "priority-violation": Entry(
        "A priority queue gave something while something more urgent was in it.",
        HERLIHY,
    ),
    "set-violation": Entry(
        "Operations on one element of a set contradict each other in every order.",
        HERLIHY,
    ),
    "incomparable-reads": Entry(
        "Two reads of a set that only grows each hold something that the other lacks.",
        HERLIHY,
    ),
    # Locks and leaders
    "two-holders": Entry("Two clients held one lock at the same time.", LEASES),
    "double-acquire": Entry(
        "A lock was acquired while another client held it.", HERLIHY
    ),
    "use-without-lock": Entry(
        "What a lock protects was used by a client that did not hold it.", HERLIHY
    ),
    "release-of-free-lock": Entry("A lock was released that nobody held.", HERLIHY),
    "stale-token-accepted": Entry(
        "What a lock protects was used with an old token after a newer one had been "
        "seen: the former holder was not fenced off.",
        LEASES,
    ),
    "token-granted-twice": Entry(
        "Two grants of a lock have one fencing token, so nobody can tell them apart.",
        LEASES,
    ),
    "token-not-greater": Entry(
        "A later grant of a lock has no greater fencing token than one before it.",
        LEASES,
    ),
    "two-leaders": Entry(
        "Two nodes led one term, which is what a split brain is.",
        f"{RAFT}, section 5.2, election safety",
    ),
    "unstable-leadership": Entry(
        "More terms passed than the workload allows: leaders did not last.", OURS
    ),
    # Atomic commit
    "split-decision": Entry(
        "One participant committed a transaction and another one aborted it.",
        f"{COMMIT}, AC1",
    ),
    "client-misled": Entry(
        "A client was told another outcome of its transaction than participants "
        "decided.",
        f"{COMMIT}, AC1",
    ),
    "decision-reversed": Entry(
        "A node decided a transaction, and later the other way.", f"{COMMIT}, AC2"
    ),
    "decision-forgotten": Entry(
        "A node decided a transaction, and later did not know of it.",
        f"{COMMIT}, AC2",
    ),
    "commit-despite-no": Entry(
        "A transaction was committed although a participant had voted no.",
        f"{COMMIT}, AC3",
    ),
    "commit-without-vote": Entry(
        "A transaction was committed by a participant that never voted.",
        f"{COMMIT}, AC3",
    ),
    "needless-abort": Entry(
        "All voted yes, nothing failed, and the transaction was aborted all the same.",
        f"{COMMIT}, AC4",
    ),
    "blocked-after-heal": Entry(
        "All faults were healed, and a transaction stays undecided: somebody waits "
        "for good, perhaps with locks.",
        f"{COMMIT}, AC5",
    ),
    "forgot-precommit": Entry(
        "A participant of three-phase commit had precommitted, and after a crash no "
        "longer knew.",
        "Bernstein, Hadzilacos and Goodman 1987, section 7.5",
    ),
    # Consensus
    "disagreement": Entry(
        "Two nodes learned different values of one instance of consensus.",
        f"{PAXOS}, safety",
    ),
    "changed-its-mind": Entry(
        "A node learned a value, and later another one of the same instance.",
        f"{PAXOS}, safety",
    ),
    "value-never-proposed": Entry(
        "A value was learned that nobody proposed.", f"{PAXOS}, safety"
    ),
    "learned-before-proposed": Entry(
        "A value was learned before anybody proposed it.", f"{PAXOS}, safety"
    ),
    "failed-proposal-chosen": Entry(
        "A value was learned whose proposal had failed for sure.", f"{PAXOS}, safety"
    ),
    "learned-not-chosen": Entry(
        "A node learned a value that no majority of acceptors had accepted.",
        f"{PAXOS}, section 2.3",
    ),
    "broken-promise": Entry(
        "An acceptor went below a ballot that it had promised or accepted.",
        f"{PAXOS}, P1a",
    ),
    "forgot-accepted": Entry(
        "An acceptor's promise left out the newest proposal that it had accepted.",
        f"{PAXOS}, phase 1(b)",
    ),
    "ballot-of-two-values": Entry(
        "Two values were accepted at one ballot.", f"{PAXOS}, P2c"
    ),
    # Raft
    "committed-entry-lost": Entry(
        "An entry of the log was committed, and is gone from a server's log or disk.",
        f"{RAFT}, section 5.4.3, state machine safety",
    ),
    "different-entries-committed": Entry(
        "Two servers committed different entries at one place of the log.",
        f"{RAFT}, section 5.4.3, state machine safety",
    ),
    "state-machines-differ": Entry(
        "Two servers applied the same entry and came to different results.",
        f"{RAFT}, section 5.4.3, state machine safety",
    ),
    "leader-lacks-committed": Entry(
        "A server became leader without an entry that had been committed.",
        f"{RAFT}, section 5.4, leader completeness",
    ),
    "log-mismatch": Entry(
        "Two logs have an entry of the same place and term, and differ in it or "
        "before it.",
        f"{RAFT}, section 5.3, log matching",
    ),
    "leader-overwrote-log": Entry(
        "A leader deleted or replaced entries of its own log.",
        f"{RAFT}, section 5.3, leader append-only",
    ),
    "double-vote": Entry(
        "A server voted for two candidates in one term.", f"{RAFT}, section 5.2"
    ),
    "vote-for-older-log": Entry(
        "A server voted for a candidate whose log was behind its own.",
        f"{RAFT}, section 5.4.1",
    ),
    "forgot-vote": Entry(
        "A server came back from a crash without its vote.",
        f"{RAFT}, Figure 2, persistent state",
    ),
    "forgot-log": Entry(
        "A server came back from a crash without the end of its log.",
        f"{RAFT}, Figure 2, persistent state",
    ),
    "term-went-back": Entry("A server's term fell.", f"{RAFT}, Figure 2"),
    "dropped-without-conflict": Entry(
        "A follower dropped entries of its log that conflicted with nothing.",
        f"{RAFT}, Figure 2, AppendEntries, rule 3",
    ),
    "committed-by-count": Entry(
        "A leader committed an entry of an earlier term by counting replicas, which "
        "is not safe.",
        f"{RAFT}, section 5.4.2",
    ),
    "early-change": Entry(
        "A leader changed the members before it had committed an entry of its own "
        "term.",
        "Ongaro 2015, raft-dev, on single-server changes",
    ),
    # Broadcast
    "lost-message": Entry(
        "A broadcast was acknowledged, and no node has delivered it in the end.",
        f"{ZAB}, section 3",
    ),
    "order-disagreement": Entry(
        "Two nodes delivered the same messages in different orders.",
        f"{ZAB}, section 3, total order",
    ),
    "agreement-broken": Entry(
        "Two nodes delivered different messages at the same place, each without the "
        "other's.",
        f"{ZAB}, section 3, agreement",
    ),
    "delivery-changed": Entry(
        "What a node had delivered was later replaced by something else.",
        f"{ZAB}, section 3, total order",
    ),
    "duplicate-delivery": Entry(
        "A node delivered a message twice.", f"{ZAB}, section 3, integrity"
    ),
    "message-never-broadcast": Entry(
        "A message was delivered that nobody broadcast.",
        f"{ZAB}, section 3, integrity",
    ),
    "failed-message-delivered": Entry(
        "A message was delivered whose broadcast had failed for sure.",
        f"{ZAB}, section 3, integrity",
    ),
    "delivered-before-broadcast": Entry(
        "A message was delivered before anybody broadcast it.",
        f"{ZAB}, section 3, integrity",
    ),
    "broadcast-order": Entry(
        "A message was broadcast after another one had been acknowledged, and was "
        "delivered before it.",
        f"{ZAB}, section 3, primary order",
    ),
    "local-primary-order": Entry(
        "Two messages of one primary were delivered in another order than it "
        "broadcast them.",
        f"{ZAB}, section 3, local primary order",
    ),
    "global-primary-order": Entry(
        "A message of a later epoch was delivered before one of an earlier epoch.",
        f"{ZAB}, section 3, global primary order",
    ),
    "primary-integrity": Entry(
        "A primary began to broadcast without something that was delivered of an "
        "earlier epoch.",
        f"{ZAB}, section 3, primary integrity",
    ),
    "two-primaries": Entry("One epoch had two primaries.", f"{ZAB}, section 3"),
    "epoch-went-back": Entry(
        "A node forgot an epoch that it had accepted.", f"{ZAB}, step f.1.2"
    ),
    "no-quorum": Entry(
        "A primary acted without the consent of a majority.",
        f"{ZAB}, steps l.2.1 and l.2.2",
    ),
    "older-history": Entry(
        "An epoch began with a history older than one that its quorum had told.",
        f"{ZAB}, step l.1.2",
    ),
    # Nodes and service
    "node-crash": Entry(
        "A node exited on its own, and no fault of the run explains it.", OURS
    ),
    "log-match": Entry(
        "A line of a node's log matches the pattern that the run forbids.", "Jepsen"
    ),
    "outage": Entry(
        "For longer than the run allows, clients waited and nobody got an answer.",
        OURS,
    ),
    "unavailable": Entry("Fewer operations were answered than the run asks for.", OURS),
    "no-ok": Entry("Operations of one kind never succeeded.", "Jepsen, stats"),
    # Logs in the manner of Kafka
    "unseen": Entry(
        "A message was acknowledged, and nobody polled it in the end.", KAFKA
    ),
    "poll-skip": Entry(
        "A client's poll left out messages that lie between two that it polled.", KAFKA
    ),
    "nonmonotonic-poll": Entry(
        "A client's poll went back to messages before those that it had polled.", KAFKA
    ),
    "nonmonotonic-send": Entry(
        "A client's later message lies before its earlier one in the log.", KAFKA
    ),
    "int-poll-skip": Entry(
        "Within one transaction, polls left out messages in between.", KAFKA
    ),
    "int-nonmonotonic-poll": Entry(
        "Within one transaction, polls went back in the log.", KAFKA
    ),
    "int-send-skip": Entry(
        "Within one transaction, messages sent one after another have others between "
        "them. Kafka allows that.",
        KAFKA,
    ),
    "int-nonmonotonic-send": Entry(
        "Within one transaction, a later message lies before an earlier one.", KAFKA
    ),
    "precommitted-read": Entry(
        "A transaction polled a message that it had sent itself and not yet committed.",
        KAFKA,
    ),
    "inconsistent-offsets": Entry("One offset held two messages.", KAFKA),
    # Sessions and causality
    "read-your-writes": Entry(
        "A client wrote something, and its next reads don't show it.", TERRY
    ),
    "own-write-missed": Entry(
        "A client wrote something, and its next reads don't show it.",
        f"{TERRY}, read your writes",
    ),
    "monotonic-reads": Entry(
        "A client read something, and a later read of its own shows what was before "
        "that.",
        TERRY,
    ),
    "read-went-back": Entry(
        "A client read something, and a later read of its own shows what was before "
        "that.",
        f"{TERRY}, monotonic reads",
    ),
    "monotonic-writes": Entry(
        "A client's writes took effect in another order than it made them.", TERRY
    ),
    "writes-reordered": Entry(
        "A client's writes took effect in another order than it made them.",
        f"{TERRY}, monotonic writes",
    ),
    "writes-follow-reads": Entry(
        "A client wrote after it had read something, and its write is ordered before "
        "what it read.",
        TERRY,
    ),
    "write-before-read": Entry(
        "A client wrote after it had read something, and its write is ordered before "
        "what it read.",
        f"{TERRY}, writes follow reads",
    ),
    "causal-reverse": Entry(
        "A read shows a write, and misses one that was over before that one began.",
        "Jepsen, causal-reverse",
    ),
    "broken-link": Entry(
        "An operation does not follow the one that its client had issued before it.",
        "Jepsen, causal",
    ),
    "long-fork": Entry(
        "Two reads saw two writes in opposite orders: each saw one of them, and not "
        "the other.",
        "Sovran et al. 2011, parallel snapshot isolation",
    ),
    "causal-violation": Entry(
        "Somebody saw an effect without its cause: a write that what it had seen "
        "rests on is missing.",
        BISWAS,
    ),
    "fractured-read": Entry(
        "A transaction saw a part of another one's writes, and for another key what "
        "was before them.",
        f"Bailis et al. 2014, read atomic; {BISWAS}",
    ),
    "non-monotonic-read": Entry(
        "A transaction saw a write of another one, and after that what was before "
        "another write of it.",
        BISWAS,
    ),
    "monotonic-cycle": Entry(
        "Keys only grow, and observations of them fit into no order: each must come "
        "before the next, and the last before the first.",
        f"{ELLE}, monotonic keys",
    ),
    # Transactions: values
    "G1a": Entry(
        "Aborted read: something was read whose transaction, or send, had failed.",
        f"{ADYA}, G1a",
    ),
    "G1b": Entry(
        "Intermediate read: a value was read that its transaction went on to replace.",
        f"{ADYA}, G1b",
    ),
    "dirty-update": Entry(
        "A transaction built on what a failed transaction had written.", ELLE
    ),
    "internal": Entry(
        "A transaction's read contradicts what it had read or written itself before.",
        f"{CERONE}, INT; {ELLE}",
    ),
    "future-read": Entry(
        "A transaction read what it, or another one, wrote only later.", ELLE
    ),
    "garbage-read": Entry("A value was read that nobody wrote.", ELLE),
    "duplicate-elements": Entry("A list holds an element twice.", ELLE),
    "incompatible-order": Entry(
        "Two reads of one list disagree: neither is the beginning of the other, so "
        "no order of appends explains both.",
        ELLE,
    ),
    "cyclic-versions": Entry(
        "The versions of one key can't be put in order: each would have to come "
        "before the next, and the last before the first.",
        ELLE,
    ),
    # Transactions: cycles
    "G0": Entry(
        "Dirty write: transactions overwrote each other in a circle, so that no order "
        "of them explains what was kept.",
        f"{ADYA}, G0",
    ),
    "G1c": Entry(
        "Circular information flow: each transaction overwrote or read what the one "
        "before it had written, round to the first.",
        f"{ADYA}, G1c",
    ),
    "G1": Entry("An aborted, intermediate or circular read.", f"{ADYA}, G1"),
    "G-cursor": Entry(
        "A transaction replaced a version of a key other than the one that it had "
        "read: an update was lost.",
        f"{ADYA}, G-cursor",
    ),
    "G-single-item": Entry(
        "Read skew: in a circle of transactions, one did not see what another wrote, "
        "though by the other steps it came after that one.",
        f"{ADYA}, G-single; {ELLE}",
    ),
    "G-single": Entry(
        "Read skew: a circle of dependencies in which one transaction did not see "
        "what another wrote.",
        f"{ADYA}, G-single",
    ),
    "G-monotonic": Entry(
        "While it ran, a transaction saw the database go back in time.",
        f"{ADYA}, G-monotonic",
    ),
    "G-MSR": Entry(
        "A read of a transaction saw no consistent state, or an older one than its "
        "reads before.",
        f"{ADYA}, G-MSR",
    ),
    "G-SIb": Entry(
        "A circle with one missed write, in which starts and commits count as well.",
        f"{ADYA}, G-SIb",
    ),
    "G-SI": Entry(
        "What snapshot isolation forbids: transactions did not read from one snapshot.",
        f"{ADYA}, G-SI",
    ),
    "G-prefix": Entry(
        "Two transactions saw histories of which neither is the beginning of the "
        "other.",
        f"{CERONE}, prefix consistency",
    ),
    "G-nonadjacent-item": Entry(
        "In a circle of transactions, several did not see what the next one wrote, "
        "but no two of these steps follow each other: snapshot isolation forbids it.",
        f"{ELLE}; {CERONE}",
    ),
    "G-nonadjacent": Entry(
        "A circle with several missed writes, no two of which follow each other.",
        f"{ELLE}; {CERONE}",
    ),
    "G-update": Entry(
        "A transaction saw something that no serial order of those that write "
        "explains.",
        f"{ADYA}, G-update",
    ),
    "G2-item": Entry(
        "In a circle of transactions, two or more did not see what the next one "
        "wrote. Write skew is the smallest case; serializability forbids it.",
        f"{ADYA}, G2-item",
    ),
    "G2": Entry(
        "A circle of transactions, some of which did not see what others wrote, by "
        "key or by predicate: two inserts that exclude each other both succeeded.",
        f"{ADYA}, G2",
    ),
    # Whatever only a search of all orders can show
    "not-sequential": Entry(
        "No one order of all operations, with each client's own in the order in which "
        "it made them, explains what was read.",
        LAMPORT,
    ),
    "nonlinearizable": Entry(
        "No order of the operations explains all answers, if each takes effect at one "
        "moment between its begin and its end.",
        HERLIHY,
    ),
}
"""Name of an anomaly -> its entry, the plainest first."""

VARIANTS: Mapping[str, str] = {
    "-process": "Here the order of one client's transactions is a part of the circle.",
    "-realtime": (
        "Here real time is a part of the circle: one transaction was over before "
        "another began."
    ),
}
"""End of the name of a cycle -> what that adds to its meaning."""

PROMISES: Mapping[str, str] = {
    "linearizable": (
        "each object behaves as if there were one copy of it: every operation takes "
        "effect at one moment between its begin and its end"
    ),
    "sequential": (
        "one order of all operations explains every answer, and keeps each client's "
        "operations in their order"
    ),
    "list-append": "transactions behave as if they ran one after another",
    "rw-register": "transactions behave as if they ran one after another",
    "adya-g2": "of two inserts that exclude each other, at most one succeeds",
    "atomic_commit": (
        "all participants of a transaction decide alike, for good, and commit only if "
        "all voted yes"
    ),
    "availability": "enough operations are answered, and soon enough",
    "bank": "every read of all accounts adds up to the same total, and none owes",
    "causal": "operations appear in the causal order in which they were issued",
    "causal-reverse": (
        "whoever sees a write sees all that was acknowledged before that write began"
    ),
    "consensus": (
        "of each instance one value is learned, which was proposed and chosen, and "
        "for ever"
    ),
    "counter": "a read of the counter lies between what was surely and maybe added",
    "crashes": "no node exits on its own",
    "echo": "every answer is what was asked",
    "fencing": "one client holds a lock at a time, and stale tokens are refused",
    "kafka": "what is sent to logs is polled, once and in order",
    "log-file-pattern": "no line of a node's log matches the forbidden pattern",
    "long-fork": "all reads see writes in one order",
    "messages": "nothing; it only counts messages",
    "monotonic": "observations of keys that only grow fit into one order",
    "one_leader": "at most one node leads in a term",
    "pn-counter": "in the end every read of the counter is a possible sum",
    "queue": "nothing leaves a queue that did not enter it",
    "raft_invariants": (
        "Raft's rules hold: one leader a term, and what is committed stays, the same "
        "everywhere"
    ),
    "set": "the last read holds all that was added, and nothing else",
    "set-full": "what was added stays, and every later read shows it",
    "stats": "operations of every kind succeed at least once",
    "total-queue": "what entered the queue comes out of it, and nothing else does",
    "total_order": "every node delivers the same messages in the same order",
    "unhandled-exceptions": "nothing; it only counts what clients did not expect",
    "unique-ids": "no id is given out twice",
}
"""Checker -> what it holds the system to, as a clause."""

MODELS: Mapping[str, str] = {
    "read-uncommitted": "transactions don't overwrite each other's writes in a circle",
    "read-committed": "transactions read only what others have committed",
    "monotonic-atomic-view": (
        "once a transaction sees a part of another one, it sees all of it from then on"
    ),
    "cursor-stability": "what a transaction has read is not overwritten unseen",
    "read-atomic": "a transaction sees all of another one's writes, or none",
    "causal": "whoever sees an effect sees its causes",
    "PRAM": "everybody sees one client's writes in the order in which it made them",
    "read-your-writes": "a client sees its own writes",
    "monotonic-reads": "what a client sees never goes back",
    "monotonic-writes": "a client's writes take effect in the order it made them",
    "writes-follow-reads": "a write comes after what its client had read",
    "repeatable-read": "what a transaction has read stays so until it is over",
    "parallel-snapshot-isolation": (
        "a transaction reads a snapshot, and nobody replaces what it replaces"
    ),
    "snapshot-isolation": (
        "a transaction reads one snapshot, and nobody replaces meanwhile what it "
        "replaces"
    ),
    "serializable": "transactions behave as if they ran one after another",
    "strong-session-serializable": (
        "transactions behave as if they ran one after another, each client's in its "
        "order"
    ),
    "strict-serializable": (
        "transactions behave as if they ran one after another, and none before one "
        "that was over when it began"
    ),
}
"""Consistency model -> what it demands, as a clause; the rest are named alone."""


def entry(name: str) -> Entry | None:
    """The entry of an anomaly; None if there is none, as of a user's own checker."""
    if found := ENTRIES.get(name):
        return found
    for suffix, more in VARIANTS.items():
        base = name.removesuffix(suffix)
        if base != name and base.startswith("G") and base in ENTRIES:
            meaning, source = ENTRIES[base]
            return Entry(f"{meaning} {more}", source)
    return None


def told(name: str) -> str:
    """The meaning of an anomaly with its source, as text; empty if there is none."""
    found = entry(name)
    return "" if found is None else f"{found.meaning} ({found.source}.)"


def names() -> list[str]:
    """Every name that has an entry, variants included."""
    cycles = [name for name in ENTRIES if name.startswith("G")]
    return [*ENTRIES, *(name + suffix for name in cycles for suffix in VARIANTS)]


@cache
def rank(name: str) -> tuple[int, int]:
    """The place of a name among all, the plainest first; then a variant's."""
    base, level = name, 0
    for number, suffix in enumerate(VARIANTS, 1):
        if name not in ENTRIES and name.endswith(suffix):
            base, level = name.removesuffix(suffix), number
    order = list(ENTRIES)
    return (order.index(base) if base in ENTRIES else len(order), level)
