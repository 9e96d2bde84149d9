"""Raft in a hostile simulated world; and the same world convicting broken Rafts.

The seeds of a sweep can be moved: `SWEEP_SEEDS=1000:2000 pytest ...`. A failure names
its seed; `SWEEP_SEEDS=1234:1235` runs that one alone.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from reference_impls.mutants.raft import MUTANTS
from reference_impls.raft import Raft
from reference_impls.tests.raft_world import RaftPlan, RaftWorld
from reference_impls.tests.seeds import seeds
from reference_impls.tests.simulation import exposed_elsewhere, sweep

WITHIN_BOUND = (0.91, 1.09)
SNAPSHOTS = {"snapshot_entries": "12", "snapshot_chunk_chars": "100"}
RETRIES = RaftPlan(attempts=6, attempt_ms=200, duplicate=0.2)
CHANGES = RaftPlan(changes=40, attempts=4, attempt_ms=300, settles=True)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(RaftPlan(nodes=5), id="five-nodes"),
        pytest.param(RaftPlan(nodes=3, clients=6), id="three-nodes"),
        pytest.param(RaftPlan(nodes=7, options=SNAPSHOTS), id="seven-nodes"),
        pytest.param(RaftPlan(nodes=4, loss=0.15, duplicate=0.15), id="bad-links"),
        pytest.param(
            RaftPlan(crashes=14, fsync_ms_max=25.0), id="many-crashes-slow-disks"
        ),
        pytest.param(RaftPlan(slow=0.2, slow_ms_max=900.0), id="reordered"),
        pytest.param(RaftPlan(options={"pre_vote": "false"}), id="no-pre-vote"),
        pytest.param(RaftPlan(options={"reads": "read_index"}), id="read-index"),
        pytest.param(
            RaftPlan(options={"reads": "lease"}, clock_rates=WITHIN_BOUND), id="lease"
        ),
        pytest.param(RaftPlan(nodes=1, partitions=0, crashes=8), id="one-node"),
        pytest.param(RaftPlan(nodes=2), id="two-nodes"),
        pytest.param(
            RaftPlan(options=SNAPSHOTS, loss=0.15, crashes=14, slow=0.1), id="snapshots"
        ),
        pytest.param(replace(RETRIES, settles=True), id="retries"),
        pytest.param(replace(RETRIES, options=SNAPSHOTS), id="retries-snapshots"),
        pytest.param(CHANGES, id="members"),
        pytest.param(
            replace(CHANGES, nodes=3, empties=12, duplicate=0.2), id="empty-disks"
        ),
        pytest.param(
            replace(CHANGES, options={**SNAPSHOTS, "initial_members": "n1,n2,n3"}),
            id="members-snapshots",
        ),
        pytest.param(
            replace(
                CHANGES,
                options={**SNAPSHOTS, "reads": "lease"},
                clock_rates=WITHIN_BOUND,
            ),
            id="members-lease",
        ),
    ],
)
def test_raft_keeps_its_promises_whatever_the_world_does(plan: RaftPlan) -> None:
    broken = sweep(RaftWorld, plan, seeds(3))
    assert broken is None, f"seed {broken[0]}: {broken[1]}"


def test_local_reads_are_stale_sooner_or_later() -> None:
    broken = sweep(RaftWorld, RaftPlan(options={"reads": "local"}), range(20))
    assert broken is not None
    assert "linearizability" in str(broken[1])


def test_a_lease_is_stale_when_a_clock_goes_beyond_its_bound() -> None:
    plan = RaftPlan(options={"reads": "lease"}, clock_jumps=4, partitions=4, crashes=0)
    broken = sweep(RaftWorld, plan, range(50))
    assert broken is not None
    assert "linearizability" in str(broken[1])


# --- mutants: each breaks one rule, and must be convicted -----------------------------

QUICK = {
    "election_timeout_ms_min": "60",
    "election_timeout_ms_max": "120",
    "heartbeat_ms": "20",
}
CRASHES = RaftPlan(nodes=3, crashes=14, fsync_ms_max=10.0, slow=0.1)
DUELS = replace(CRASHES, crashes=80, restart_ms_max=3)
SPLITS = RaftPlan(partitions=10, crashes=2)
TURMOIL = RaftPlan(
    clients=2,
    loss=0.3,
    fsync_ms_max=1.0,
    crashes=150,
    crash_leaders=0.9,
    restart_ms_max=40,
    partitions=30,
    options=QUICK,
)
SKEW = RaftPlan(
    nodes=3,
    clients=3,
    attempt_ms=100,
    loss=0.0,
    slow=0.0,
    crashes=0,
    partitions=6,
    partition_leaders=1.0,
    clock_rates=(0.55, 1.45),
)
HALF_CHANGED = RaftPlan(
    clients=1,
    loss=0.05,
    delay_ms_max=20.0,
    crashes=0,
    partitions=0,
    churn_ms=500.0,
    churn_at_election=0.8,
    changes=600,
    strike_changes=0.6,
    options={"pre_vote": "false"},
)

PLANS = {
    "vote-not-durable": DUELS,
    "term-not-durable": DUELS,
    "two-votes": RaftPlan(slow=0.1),
    "no-up-to-date-check": SPLITS,
    "commit-old-term": TURMOIL,
    "ack-before-fsync": CRASHES,
    "truncates-on-stale-append": RaftPlan(
        slow=0.2, slow_ms_max=100.0, crashes=14, partitions=6
    ),
    "keeps-conflict": SPLITS,
    "commit-past-match": SPLITS,
    "majority-off-by-one": SPLITS,
    "retry-applied-twice": replace(RETRIES, crashes=6, partitions=6),
    "read-index-no-heartbeat": SPLITS,
    "read-index-no-noop": RaftPlan(clients=8, slow=0.1, partitions=8, crashes=8),
    "read-index-reused": replace(SPLITS, clients=8),
    "lease-ignores-drift": SKEW,
    "snapshot-drops-sessions": RETRIES,
    "change-before-noop": HALF_CHANGED,
    "counts-removed-server": replace(SPLITS, changes=100),
}


FIRST = {
    "change-before-noop": 73,
    "term-not-durable": 30,
    "ack-before-fsync": 118,
    "vote-not-durable": 195,
    "commit-old-term": 74,
    "read-index-no-noop": 62,
    "read-index-reused": 25,
    "lease-ignores-drift": 110,
}
"""A seed known to convict, of mutants that many seeds acquit: tried before the rest."""


def test_every_mutant_is_put_to_the_test() -> None:
    assert set(PLANS) | exposed_elsewhere(MUTANTS) == set(MUTANTS)


@pytest.mark.parametrize("name", PLANS)
def test_a_broken_raft_is_convicted(name: str) -> None:
    mutant = MUTANTS[name]
    options = {**PLANS[name].options, **mutant.options}
    plan = replace(PLANS[name], core=mutant.core, options=options)
    tried = [FIRST.get(name, 0), *range(500)]
    assert sweep(RaftWorld, plan, tried) is not None, f"{name} escaped"


@pytest.mark.parametrize("name", ["change-before-noop", "lease-ignores-drift"])
def test_where_a_broken_raft_trips_the_real_one_walks(name: str) -> None:
    options = {**PLANS[name].options, **MUTANTS[name].options}
    broken = sweep(
        RaftWorld, replace(PLANS[name], core=Raft, options=options), seeds(4)
    )
    assert broken is None, f"seed {broken[0]}: {broken[1]}"
