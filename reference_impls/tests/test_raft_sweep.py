"""Raft in a hostile simulated world; and the same world convicting broken Rafts.

The seeds of a sweep can be moved: `SWEEP_SEEDS=1000:2000 pytest ...`. A failure names
its seed; `SWEEP_SEEDS=1234:1235` runs that one alone.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from reference_impls.actor import Effect, Now, Persist, Received
from reference_impls.raft import Raft
from reference_impls.tests.simulation import Plan, sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reference_impls import kv
    from reference_impls.actor import Body

WITHIN_BOUND = (0.91, 1.09)


def seeds(default: int) -> range:
    """The seeds to run, as asked for in the environment."""
    first, _, last = os.environ.get("SWEEP_SEEDS", f"0:{default}").partition(":")
    return range(int(first), int(last))


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(nodes=5), id="five-nodes"),
        pytest.param(Plan(nodes=3, clients=6), id="three-nodes"),
        pytest.param(Plan(nodes=4, loss=0.15, duplicate=0.15), id="bad-links"),
        pytest.param(Plan(crashes=14, fsync_ms_max=25.0), id="many-crashes-slow-disks"),
        pytest.param(Plan(slow=0.2, slow_ms_max=900.0), id="reordered"),
        pytest.param(Plan(options={"pre_vote": "false"}), id="no-pre-vote"),
        pytest.param(Plan(options={"reads": "read_index"}), id="read-index"),
        pytest.param(
            Plan(options={"reads": "lease"}, clock_rates=WITHIN_BOUND), id="lease"
        ),
        pytest.param(Plan(nodes=1, partitions=0, crashes=8), id="one-node"),
        pytest.param(Plan(nodes=2), id="two-nodes"),
    ],
)
def test_raft_keeps_its_promises_whatever_the_world_does(plan: Plan) -> None:
    broken = sweep(plan, seeds(25))
    assert broken is None, f"seed {broken[0]}: {broken[1]}"


def test_local_reads_are_stale_sooner_or_later() -> None:
    broken = sweep(Plan(options={"reads": "local"}), range(20))
    assert broken is not None
    assert "linearizability" in str(broken[1])


def test_a_lease_is_stale_when_a_clock_goes_beyond_its_bound() -> None:
    plan = Plan(options={"reads": "lease"}, clock_jumps=4, partitions=4, crashes=0)
    broken = sweep(plan, range(50))
    assert broken is not None
    assert "linearizability" in str(broken[1])


# --- mutants: each breaks one rule, and must be convicted
# ------------------------------


class VoteNotDurable(Raft):
    """Forgets in a crash for whom it voted (Figure 2: votedFor is persistent)."""

    def persist_term_and_vote(self) -> None:
        vote, self.voted_for = self.voted_for, None
        super().persist_term_and_vote()
        self.voted_for = vote


class TermNotDurable(Raft):
    """Forgets in a crash which term it was in (Figure 2: currentTerm is persistent)."""

    def persist_term_and_vote(self) -> None:
        return


class TwoVotes(Raft):
    """Votes for everyone who asks (5.2: at most one candidate in a given term)."""

    def may_vote_for(self, candidate: str, body: Body) -> bool:
        return body["term"] == self.current_term and self.is_up_to_date(body)


class NoUpToDateCheck(Raft):
    """Votes for candidates that lack committed entries (5.4.1)."""

    def is_up_to_date(self, body: Body) -> bool:
        return True


class AcknowledgesBeforeDurable(Raft):
    """Answers an append before its entries are on disk."""

    def take_effects(self) -> list[Effect]:
        effects = super().take_effects()
        return sorted(effects, key=lambda effect: isinstance(effect, Persist))


class TruncatesOnStaleAppend(Raft):
    """Takes the end of an append for the end of the log (5.3, Figure 2 rule 3)."""

    def store_entries(self, prev_log_index: int, entries: Sequence[Any]) -> None:
        super().store_entries(prev_log_index, entries)
        self.commit_index = min(self.commit_index, prev_log_index + len(entries))
        self.last_applied = self.commit_index
        self.truncate(prev_log_index + len(entries) + 1)


class KeepsConflict(Raft):
    """Leaves a conflicting suffix where it is (Figure 2 rule 3)."""

    def store_entries(self, prev_log_index: int, entries: Sequence[Any]) -> None:
        known = self.log.last_index - prev_log_index
        super().store_entries(prev_log_index + known, entries[known:])


class MajorityOffByOne(Raft):
    """Takes half of the servers for a majority."""

    def majority(self) -> int:
        return (len(self.peers) + 1) // 2


class CommitsPastMatch(Raft):
    """Follows leaderCommit beyond what this append verified (Figure 2 rule 5)."""

    def on_append_entries(self, src: str, body: Body, now: Now) -> None:
        super().on_append_entries(src, body, now)
        if body["term"] == self.current_term:
            self.commit(min(body["leader_commit"], self.log.last_index))


class ReadIndexWithoutHeartbeat(Raft):
    """Answers reads without asking whether it still leads (thesis 6.4, step 3)."""

    def read_index(self, request: Received, command: kv.Command) -> None:
        self.answer(request, self.state.read(command["key"]))


class LeaseNeverEnds(Raft):
    """Believes in its lease as long as it believes in its leadership."""

    def lease_ns(self) -> float:
        return 1e18


MANY_CRASHES = Plan(nodes=3, crashes=14, fsync_ms_max=10.0, slow=0.1)
SLOW_LEASE = {"reads": "lease", "election_timeout_ms_max": "700"}
DUELS = replace(
    MANY_CRASHES, crashes=80, restart_ms_max=3, options={"pre_vote": "false"}
)
SPLITS = Plan(partitions=10, crashes=2)


@pytest.mark.parametrize(
    ("mutant", "plan"),
    [
        (VoteNotDurable, DUELS),
        (TermNotDurable, MANY_CRASHES),
        (TwoVotes, Plan(slow=0.1)),
        (NoUpToDateCheck, SPLITS),
        (AcknowledgesBeforeDurable, MANY_CRASHES),
        (TruncatesOnStaleAppend, Plan(slow=0.1)),
        (KeepsConflict, SPLITS),
        (MajorityOffByOne, replace(SPLITS, nodes=4)),
        (CommitsPastMatch, SPLITS),
        (ReadIndexWithoutHeartbeat, replace(SPLITS, options={"reads": "read_index"})),
        (LeaseNeverEnds, replace(SPLITS, options=SLOW_LEASE)),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_broken_raft_is_convicted(mutant: type[Raft], plan: Plan) -> None:
    broken = sweep(replace(plan, core=mutant), range(400))
    assert broken is not None, f"{mutant.__name__} escaped"
