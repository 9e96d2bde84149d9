"""Raft (Ongaro and Ousterhout 2014; Ongaro's thesis 2014), serving `kv`.

Names are the paper's in Python's spelling: `current_term, voted_for, log, commit_index,
last_applied, next_index, match_index`. Figure 2's rules, and those beyond, are in small
methods, each with its source:

    server.py       the state and the disk; what a quorum is
    election.py     terms, roles, votes: paper 5.1, 5.2, 5.4.1; pre-vote (thesis 9.6),
                    leader stickiness (4.2.3)
    replication.py  AppendEntries from both sides, commitment, the state machine: paper
                    5.3, 5.4.2; conflict back-up by term; stepping down without a
                    majority (thesis 6.2); the leader's disk beside the others' (10.2.1)
    snapshots.py    log compaction, InstallSnapshot in chunks: paper 7
    membership.py   servers that come and go, one at a time, learners first: thesis 4,
                    with the rule of 2015; leadership transfer (3.10)
    reads.py        ReadIndex and leases: thesis 6.4
    requests.py     clients, passed on and tried again by sessions: thesis 6.3
    core.py         the actor: which event goes where
    log.py, members.py, snapshot.py, messages.py     what the parts speak of

What survives a crash: `current_term`, `voted_for`, `log` and the last snapshot, through
`Persist`, before any message that depends on them leaves. All else is volatile and
rebuilt.

Choices:

- *Batches.* Requests wait until everything that has arrived was delivered (a timer of 0
  ms), then go to the log, the disk and the followers together.
- *Rounds.* Every message of a leader carries the number of the broadcast it belongs to,
  and its answer, success or not, echoes it. A round that a majority answered in this
  term proves that this node still led when the round was *sent*. ReadIndex, the lease
  and the step-down rest on that one fact.
- *One append in flight* per follower; heartbeats flow regardless, and the answer to a
  later heartbeat tells that an earlier append was lost.
- *Everyone gets the log*, members or not: a server that isn't one is a learner.
- *A snapshot covers all that was applied.* A follower that is one entry behind at that
  moment may need the whole state; real systems keep some entries for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls.actor import (
    COUNT,
    MS,
    Flag,
    Number,
    OneOf,
    Option,
    ServerNames,
    Whole,
)
from reference_impls.raft.core import Raft
from reference_impls.raft.log import NOOP, Entry, Log
from reference_impls.raft.messages import MESSAGES, well_formed
from reference_impls.raft.server import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reference_impls.actor import Actor

__all__ = [
    "CANDIDATE",
    "FOLLOWER",
    "FORMAT_VERSION",
    "LEADER",
    "MESSAGES",
    "MOMENTS",
    "NOOP",
    "OPTIONS",
    "PRE_CANDIDATE",
    "SUMMARY",
    "Entry",
    "Log",
    "Raft",
    "build",
    "well_formed",
]

SUMMARY = "Raft with a replicated key-value store"
FORMAT_VERSION = 2
"""Of the records in the log on disk."""

MOMENTS = (
    "became_candidate",
    "voted",
    "became_leader",
    "became_follower",
    "truncated",
    "appended",
    "committed",
    "members",
)
"""Events at which a fault may hurt most: something has begun, and isn't done yet."""

CHUNK = Whole(1, 10_000_000)

OPTIONS = (
    Option(
        "reads",
        "log",
        "how a read is made linearizable: log (an entry like a write), read_index (a "
        "round of heartbeats), lease (the leader's clock, good while clocks keep "
        "within clock_drift_bound), local (not at all: any node answers from "
        "its own state)",
        OneOf("log", "read_index", "lease", "local"),
    ),
    Option(
        "election_timeout_ms_min", "150", "least wait for a leader before electing", MS
    ),
    Option(
        "election_timeout_ms_max", "300", "most wait for a leader before electing", MS
    ),
    Option("heartbeat_ms", "50", "how often a leader shows that it is there", MS),
    Option("pre_vote", "true", "ask for votes before raising the term", Flag()),
    Option(
        "clock_drift_bound",
        "0.1",
        "with reads=lease: no clock runs more than this share too fast or too slow",
        Number(0.0, 0.999),
    ),
    Option(
        "initial_members",
        "",
        "who votes in a new cluster, as n1,n2,n3; the others get the log, and wait to "
        "be added. Empty: all",
        ServerNames(),
    ),
    Option(
        "snapshot_entries",
        "10000",
        "how many entries are applied before a snapshot replaces them; 0: never",
        Whole(0, 1_000_000_000),
    ),
    Option(
        "snapshot_chunk_chars",
        "65536",
        "how much of a snapshot one message holds",
        CHUNK,
    ),
    Option("entries_per_append_max", "128", "most entries in one message", COUNT),
    Option("request_timeout_ms", "1000", "when an unanswered request is given up", MS),
)


def build(
    node: str,
    peers: Sequence[str],
    options: Mapping[str, Any],
    core: type[Raft] | None = None,
) -> Actor:
    """A server called `node`; `options` are complete, see OPTIONS.

    Args:
        node: Its name.
        peers: The other servers' names.
        options: A value for each of OPTIONS.
        core: The class to build: Raft, or a mutant of it.

    Raises:
        ValueError: Options or names that make no sense together.
    """
    refuse_duplicates([node, *peers], "the cluster")
    server = (core or Raft)(node, peers, options)
    if server.election_timeout_ms_min > server.election_timeout_ms_max:
        raise ValueError("election_timeout_ms_min is above election_timeout_ms_max")
    if server.heartbeat_ms >= server.election_timeout_ms_min:
        raise ValueError("heartbeat_ms must be below election_timeout_ms_min")
    refuse_duplicates(server.members.names, "initial_members")
    unknown = sorted(set(server.members.names) - set(server.servers))
    if unknown:
        servers = ", ".join(server.servers)
        raise ValueError(
            f"initial_members: there is no {unknown[0]!r} (there are: {servers})"
        )
    return server


def refuse_duplicates(names: Sequence[str], where: str) -> None:
    """Raise ValueError for a name that stands there twice."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: there are two servers called {name!r}")
