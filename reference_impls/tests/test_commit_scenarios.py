"""Some scenario files of the commit protocols convict mutants, and so prove useful."""

from __future__ import annotations

from reference_impls.mutants import three_phase_commit, two_phase_commit
from reference_impls.tests.commit_words import THREE_PHASE, TWO_PHASE
from reference_impls.tests.scenario import replay


def replay_mutant(scenario: str, mutant: str) -> str:
    if scenario.startswith("two"):
        return replay(scenario, TWO_PHASE, two_phase_commit.MUTANTS[mutant].core)
    return replay(scenario, THREE_PHASE, three_phase_commit.MUTANTS[mutant].core)


def test_a_participant_that_aborts_on_its_own_doesn_t_wait_and_may_be_wrong() -> None:
    trace = replay_mutant(
        "two_phase_commit/cooperative_termination", "prepared-timeout-aborts"
    )
    assert "n2 observe decided t1 decision=commit by=n1" in trace
    assert "n3 observe decided t1 decision=abort by=n3" in trace


def test_a_decision_that_is_not_logged_in_time_turns_into_its_opposite() -> None:
    trace = replay_mutant(
        "two_phase_commit/cooperative_termination", "decide-before-log"
    )
    assert "n1 observe decided t1 decision=commit" in trace
    assert "n1 observe decided t1 decision=abort" in trace


def test_early_unlocking_lets_others_read_what_may_be_aborted() -> None:
    trace = replay_mutant("two_phase_commit/locks", "unlock-at-prepare")
    assert "n2 => client txn_ok txn=r:plum:1" in trace


def test_without_the_barrier_nobody_has_crossed_it_when_the_coordinator_commits() -> (
    None
):
    trace = replay_mutant("three_phase_commit/dies_before_barrier", "skip-barrier")
    assert "pre_commit" not in trace
    assert "n1 observe decided" in trace


def test_participants_that_forget_the_barrier_overturn_a_commit() -> None:
    trace = replay_mutant("three_phase_commit/total_failure", "precommit-not-durable")
    assert "n1 observe decided t1 decision=commit by=n1" in trace
    assert "n2 observe decided t1 decision=abort by=n3" in trace
