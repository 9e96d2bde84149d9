"""Raft (Ongaro and Ousterhout 2014; Ongaro's thesis 2014), serving `kv`.

Names are the paper's in Python's spelling: `current_term, voted_for, log, commit_index,
last_applied, next_index, match_index`. A server is composed of parts (`core.py`), each
of which owns its state and holds the rules about it, with their sources. A part knows
only those above it in this list:

    standing.py           the term, the vote, the role: paper 5.1
    log.py, members.py    the entries, and the configurations among them: thesis 4.1
    quorum.py             what counts as a majority of the members: thesis 4.1
    machine.py            what committed entries do: paper 5.3, thesis 6.3
    requests.py           who waits for what; passed on, tried again: thesis 6.3
    rounds.py             the proof that a leader still leads: thesis 6.2, 6.4
    reads.py              ReadIndex and leases: thesis 6.4
    compaction.py         snapshots taken and installed: paper 7
    commitment.py         what follows from a commit: paper 5.3
    snapshot_sender.py    InstallSnapshot, the leader's side: paper 7, Figure 13
    replication.py        AppendEntries, the leader's side; what may be committed:
                          paper 5.3, 5.4.2; the leader's disk beside the others':
                          thesis 10.2.1
    transfer.py           leadership on its way to another: thesis 3.10
    membership.py         servers that come and go, learners first: thesis 4, with the
                          rule of 2015
    service.py            clients' requests where they arrive: thesis 6
    leadership.py         how a leadership begins and ends: paper 8
    election.py           roles and votes: paper 5.2, 5.4.1; pre-vote (thesis 9.6),
                          leader stickiness (4.2.3), stepping down (6.2)
    following.py          AppendEntries, the follower's side: paper 5.3
    snapshot_receiver.py  InstallSnapshot, the follower's side: paper 7, Figure 13
    core.py               the actor: the parts, and which event goes where

    snapshot.py           a snapshot, whole and in chunks
    messages.py           the shapes of messages
    options.py            what can be set

The tests stand in `reference_impls/tests`, in the order of their sources:
`test_raft_paper.py` has the paper's sections and the thesis on elections, reads and
leases, `test_raft_thesis.py` transfer, membership, snapshots and sessions.
`reference_impls/mutants/raft.py` shows what breaks without a rule.

What survives a crash: `current_term`, `voted_for`, `log` and the last snapshot, through
`Persist`, before any message that depends on them leaves. All else is volatile and
rebuilt.

Choices:

- *Batches.* Requests wait until everything that has arrived was delivered (a timer of 0
  ms), and on a real machine until the round under way is over (`Rounds.patience_ms`).
  Then they go to the log, the disk and the followers together.
- *Rounds.* Every message of a leader carries a number, which its answer echoes.
  ReadIndex, the lease and the step-down rest on that (`rounds.py`).
- *One append in flight* per follower. Heartbeats flow regardless, and the answer to a
  later heartbeat shows that an earlier append was lost.
- *Everyone gets the log*, members or not: a server that isn't one is a learner.
- *A snapshot covers all that was applied.* A follower that is one entry behind at that
  moment may need the whole state; real systems keep some entries for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_impls.raft.core import Raft
from reference_impls.raft.log import NOOP, Entry, Log
from reference_impls.raft.messages import MESSAGES, well_formed
from reference_impls.raft.options import OPTIONS
from reference_impls.raft.standing import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE

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
FORMAT_VERSION = 3
"""Version of the records in the log on disk."""

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


def build(
    node: str,
    peers: Sequence[str],
    options: Mapping[str, Any],
    core: type[Raft] | None = None,
) -> Actor:
    """A server called `node`; `options` holds a value for each of OPTIONS.

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
    settings = server.settings
    if settings.election_timeout_ms_min > settings.election_timeout_ms_max:
        raise ValueError("election_timeout_ms_min is above election_timeout_ms_max")
    if settings.heartbeat_ms >= settings.election_timeout_ms_min:
        raise ValueError("heartbeat_ms must be below election_timeout_ms_min")
    refuse_duplicates(server.members.names, "initial_members")
    unknown = sorted(set(server.members.names) - set(server.out.servers))
    if unknown:
        servers = ", ".join(server.out.servers)
        raise ValueError(
            f"initial_members: there is no {unknown[0]!r} (there are: {servers})"
        )
    return server


def refuse_duplicates(names: Sequence[str], where: str) -> None:
    """Raise ValueError for a name that is twice in `names`."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: there are two servers called {name!r}")
