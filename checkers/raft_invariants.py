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

What is on the disks at the end is judged like a recovery, and besides: the logs match,
each server still has what it knew to be committed, and whatever anyone knew to be
committed is on some disk.

All anomalies are final: each rests on events that happened, and on the order of one
server's own. What is read from disks after the run is no part of a prefix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from checkers.findings import PROMISES_EXAMPLES_MAX, collect, conclude
from checkers.functions import Functions
from checkers.raft import evidence
from checkers.raft.logs import Logs, replay
from checkers.raft.rules import Cluster, judge, leader_completeness, on_some_disk
from checkers.raft.telling import tell
from harness.registry import Plugin, settings
from harness.verdict import AllOf, nothing_to_judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from checkers.raft.evidence import Breach
    from harness.history import History, Op
    from harness.verdict import CheckResult, Limits

FUNCTIONS = Functions(
    "the raft_invariants checker", {}, observed="what servers observe of themselves"
)

ANOMALIES = AllOf(
    broken._field_defaults["name"] for broken in get_args(evidence.Breach)
)


class RaftInvariantsChecker:
    """Judges what the servers of one Raft cluster observed."""

    observes = True
    final_on_prefix = ANOMALIES

    def follow(self, source: str) -> Following:
        """Begin to judge servers that go on."""
        return Following()

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`.

        Cost: linear in the entries, and once more in the committed entries for each
        leader.

        Raises:
            HistoryError: See `Functions.of`.
        """
        cluster = Cluster()
        findings = collect(breaches(cluster, history), PROMISES_EXAMPLES_MAX)
        known = FUNCTIONS.of(history, has_observed=bool(cluster.counts))
        return known.weighed(
            conclude(
                findings.counts,
                [tell(history, breach) for breach in findings.examples],
                statistics(cluster),
                reason=unjudged(cluster),
            )
        )


class Following:
    """Judges servers while they go on, each event once, by all rules that need no more.

    Leader completeness is left to the end, as it looks at all leaders and commits.
    """

    def __init__(self) -> None:
        self._logs = Logs()
        self._cluster = Cluster()

    def feed(self, events: Sequence[Op]) -> Iterator[str]:
        """Judge the next events; those of each server have to be in its order."""
        for change in self._logs.replay(events):
            for breach in judge(self._cluster, change):
                yield breach.name


def breaches(cluster: Cluster, history: History) -> Iterator[Breach]:
    """All that is wrong; the cluster takes note of what its servers did."""
    for change in replay(history):
        yield from judge(cluster, change)
    yield from leader_completeness(cluster, history)
    yield from on_some_disk(cluster)


def statistics(cluster: Cluster) -> dict[str, Any]:
    """Figures for the report."""
    return {
        "servers": len(cluster.servers),
        "terms_led": len(cluster.leaders),
        "entries_committed": len(cluster.committed),
        "entries_seen": len(cluster.seen),
        "disks_read": len(cluster.disks),
        "events": dict(cluster.counts),
    }


def unjudged(cluster: Cluster) -> str:
    """Why the observations are not enough for a verdict; empty when they are."""
    if not cluster.counts:
        return nothing_to_judge("no server observed anything")
    if not cluster.leaders:
        return nothing_to_judge("no server was observed to become leader")
    if not cluster.committed and not cluster.applied:
        return nothing_to_judge("no server was observed to commit an entry")
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
