"""Atomic commit in a hostile simulated world; and that world convicting broken cores.

The seeds of a sweep can be moved: `SWEEP_SEEDS=1000:2000 pytest ...`. A failure names
its seed; `SWEEP_SEEDS=1234:1235` runs that one alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from reference_impls import three_phase_commit, two_phase_commit
from reference_impls.mutants import three_phase_commit as mutants_3pc
from reference_impls.mutants import two_phase_commit as mutants_2pc
from reference_impls.tests.commit_world import CALM, CommitPlan, CommitWorld
from reference_impls.tests.seeds import seeds
from reference_impls.tests.simulation import exposed_elsewhere, sweep

if TYPE_CHECKING:
    from types import ModuleType

PROTOCOLS = [
    pytest.param(two_phase_commit, id="2pc"),
    pytest.param(three_phase_commit, id="3pc"),
]


def crashes(**changes: Any) -> CommitPlan:
    """Three-phase commit's world: crashes, copies and bounded delays, nothing else."""
    plan = CommitPlan(
        protocol=three_phase_commit,
        loss=0.0,
        partitions=0,
        slow=0.05,
        slow_ms_max=100.0,
        patience_ms=4000.0,
    )
    return replace(plan, **changes)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(CommitPlan(), id="five-nodes"),
        pytest.param(CommitPlan(nodes=3, blackouts=2), id="three-nodes-blackouts"),
        pytest.param(CommitPlan(loss=0.15, duplicate=0.15), id="bad-links"),
        pytest.param(CommitPlan(crashes=20, fsync_ms_max=25.0), id="many-crashes"),
        pytest.param(CommitPlan(slow=0.2, slow_ms_max=900.0), id="reordered"),
        pytest.param(CommitPlan(clock_rates=(0.3, 3.0)), id="clocks-run-apart"),
        pytest.param(CommitPlan(options={"deadlock": "timeout"}), id="lock-timeouts"),
        pytest.param(CommitPlan(keys=3), id="contention"),
        pytest.param(CommitPlan(nodes=1, partitions=0, crashes=8), id="one-node"),
        pytest.param(CommitPlan(nodes=2), id="two-nodes"),
    ],
)
def test_two_phase_commit_keeps_its_promises_whatever_the_world_does(
    plan: CommitPlan,
) -> None:
    broken = sweep(CommitWorld, plan, seeds(2))
    assert broken is None, f"seed {broken[0]}: {broken[1]}"


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(crashes(), id="five-nodes"),
        pytest.param(crashes(crashes=20), id="many-crashes"),
        pytest.param(crashes(crashes=20, restart_ms_max=2500), id="long-absences"),
        pytest.param(crashes(crashes=10, fsync_ms_max=25.0), id="slow-disks"),
        pytest.param(crashes(crashes=6, blackouts=3), id="blackouts"),
        pytest.param(crashes(nodes=3, crashes=10, blackouts=1), id="three-nodes"),
        pytest.param(crashes(keys=3), id="contention"),
        pytest.param(crashes(options={"termination": "simple"}), id="simple"),
        pytest.param(crashes(nodes=1, crashes=8), id="one-node"),
    ],
)
def test_three_phase_commit_keeps_its_promises_when_nodes_crash(
    plan: CommitPlan,
) -> None:
    broken = sweep(CommitWorld, plan, seeds(2))
    assert broken is None, f"seed {broken[0]}: {broken[1]}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_failures_whatever_all_vote_for_is_committed(
    protocol: ModuleType,
) -> None:
    """AC4 (Bernstein, Hadzilacos and Goodman 1987, 7.2)."""
    for seed in range(3):
        plan = CommitPlan(protocol=protocol, duration_ms=3000, **CALM)
        world = CommitWorld(seed, plan).run()
        assert world.agreement.needless_aborts() == [], f"seed {seed}"
        assert list(world.agreement.decided.values()).count("commit") > 100


def test_two_phase_commit_blocks_while_a_coordinator_is_away() -> None:
    plan = CommitPlan(crashes=8, partitions=0, restart_ms_max=3000)
    waits = [CommitWorld(s, plan).run().agreement for s in range(3)]
    assert max(w.longest_doubt_ms for w in waits) > 1000
    assert all(w.counts["in_doubt"] >= w.counts["resolved"] > 0 for w in waits)


@pytest.mark.parametrize(
    "termination", [pytest.param("elect", marks=pytest.mark.nightly), "simple"]
)
def test_a_partition_splits_three_phase_commit(termination: str) -> None:
    """This is the protocol's known weakness, no bug of the core; the world sees it."""
    plan = crashes(
        crashes=0,
        partitions=2,
        partition_ms=(2000, 3000),
        clients=12,
        keys=60,
        patience_ms=float("inf"),
        options={"termination": termination},
    )
    broken = sweep(CommitWorld, plan, range(60))
    assert broken is not None
    assert "AC1" in str(broken[1])


# --- mutants: each breaks one rule, and must be convicted -----------------------------

STORMY = CommitPlan(crashes=20, loss=0.05, fsync_ms_max=10.0)

PLANS_2PC = {
    "decide-before-log": STORMY,
    "vote-before-log": STORMY,
    "prepared-timeout-aborts": STORMY,
    "commit-on-majority": CommitPlan(**CALM),
    "unlock-at-prepare": CommitPlan(**CALM),
    "abort-keeps-writes": CommitPlan(**CALM),
}

PLANS_3PC = {
    "skip-barrier": crashes(crashes=20, fsync_ms_max=10.0),
    "precommit-not-durable": crashes(blackouts=8, fsync_ms_max=10.0),
    "commit-sent-once": crashes(crashes=20, restart_ms_max=2500),
}


def test_every_mutant_is_put_to_the_test() -> None:
    for plans, mutants in (
        (PLANS_2PC, mutants_2pc.MUTANTS),
        (PLANS_3PC, mutants_3pc.MUTANTS),
    ):
        assert set(plans) | exposed_elsewhere(mutants) == set(mutants)


@pytest.mark.parametrize("name", PLANS_2PC)
def test_a_broken_two_phase_commit_is_convicted(name: str) -> None:
    plan = replace(PLANS_2PC[name], core=mutants_2pc.MUTANTS[name].core)
    assert sweep(CommitWorld, plan, range(60)) is not None, f"{name} escaped"


@pytest.mark.parametrize("name", PLANS_3PC)
def test_a_broken_three_phase_commit_is_convicted(name: str) -> None:
    plan = replace(PLANS_3PC[name], core=mutants_3pc.MUTANTS[name].core)
    assert sweep(CommitWorld, plan, range(100)) is not None, f"{name} escaped"
