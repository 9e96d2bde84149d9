"""No checker without an oracle: which one it is, how much it sees, and that it bites.

An oracle is a property test that compares the verdict with the definition, on small
random histories. A checker that is new must be entered here; models of `linearizable`
have theirs in `test_linearizability_definition`. That an oracle can fail is shown by
checkers that lie: each must soon be caught by what compares it with the truth.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from checkers.tests import (
    test_crashes,
    test_fencing,
    test_isolation_definitions,
    test_kafka,
    test_linearizability_algorithms,
    test_messages,
    test_orders_of_reads,
    test_promises_definitions,
    test_raft_definitions,
    test_run_figures,
    test_sequential,
    test_tallies_definitions,
    test_total_order,
)
from checkers.tests.histories import EXAMPLES
from harness import registry
from harness.verdict import Anomaly, CheckResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

tallies = test_tallies_definitions
promises = test_promises_definitions
reads = test_orders_of_reads
isolation = test_isolation_definitions

ORACLES: dict[str, Any] = {
    "adya-g2": reads.test_one_insert_a_key_may_succeed,
    "atomic_commit": (promises.test_atomic_commit_is_judged_by_all_pairs_of_statements),
    "availability": test_run_figures.test_too_few_answers_are_told,
    "bank": tallies.test_a_bank_has_all_its_money,
    "causal": reads.test_a_causal_register_has_a_run_that_explains_it,
    "causal-reverse": reads.test_who_sees_a_write_sees_what_was_over_before_it,
    "consensus": promises.test_consensus_is_judged_by_all_pairs_of_claims,
    "counter": tallies.test_a_counter_lies_within_its_bounds,
    "echo": tallies.test_an_echo_is_what_was_asked_to_the_letter,
    "fencing": test_fencing.test_the_sweep_convicts_exactly_what_the_definition_does,
    "kafka": test_kafka.test_every_breach_is_found_and_no_other,
    "linearizable": (
        test_linearizability_algorithms.test_the_checker_is_as_good_as_its_parts_on_several_keys
    ),
    "list-append": (
        isolation.test_lists_are_valid_just_when_some_execution_explains_them
    ),
    "crashes": (
        test_crashes.test_just_the_ends_that_nothing_and_nobody_explains_are_findings
    ),
    "log-file-pattern": test_run_figures.test_every_line_of_every_log_is_looked_at,
    "long-fork": reads.test_reads_without_a_long_fork_fit_an_order_of_the_writes,
    "messages": test_messages.test_every_message_is_counted_by_its_fate,
    "monotonic": reads.test_observations_without_a_cycle_fit_an_order,
    "one_leader": promises.test_no_two_nodes_lead_in_one_term,
    "pn-counter": tallies.test_a_counter_ends_as_a_sum_of_what_may_have_been_added,
    "queue": tallies.test_a_queue_gives_what_it_was_given,
    "raft_invariants": (
        test_raft_definitions.test_raft_is_judged_by_all_pairs_of_moments
    ),
    "rw-register": (
        isolation.test_registers_are_valid_just_when_some_execution_explains_them
    ),
    "sequential": test_sequential.test_the_verdict_is_that_of_the_definition,
    "set": tallies.test_a_set_is_judged_by_its_last_read,
    "set-full": tallies.test_every_element_of_a_set_has_its_fate,
    "stats": test_run_figures.test_every_function_must_have_worked_once,
    "total_order": test_total_order.test_what_clients_read_is_judged_item_by_item,
    "total-queue": tallies.test_what_went_into_a_drained_queue_came_out,
    "unhandled-exceptions": (
        test_run_figures.test_every_exception_is_counted_once_and_the_first_is_shown
    ),
    "unique-ids": tallies.test_ids_are_pairwise_different,
}

NEEDED = {"log-file-pattern": {"pattern": "x"}}
"""Options without which a checker can't be made."""

NEVER_INVALID = {"messages", "unhandled-exceptions"}


def test_every_checker_has_an_oracle() -> None:
    assert set(registry.plugins("checker")) == set(ORACLES)


@pytest.mark.parametrize("name", ORACLES)
def test_every_oracle_sees_enough_histories(name: str) -> None:
    used: settings = ORACLES[name]._hypothesis_internal_use_settings
    assert used.max_examples >= EXAMPLES >= 100


def test_every_night_draws_many_histories_of_its_own() -> None:
    nightly = settings.get_profile("nightly")
    assert nightly.max_examples >= 20_000
    assert not nightly.derandomize


def acquit(result: CheckResult) -> CheckResult:
    """Call valid what is not."""
    if result.verdict is Verdict.INVALID:
        return replace(result, verdict=Verdict.VALID, anomalies=())
    return result


def convict(result: CheckResult) -> CheckResult:
    """Call invalid what is not."""
    if result.verdict is Verdict.VALID:
        invented = Anomaly("invented", (), "This is made up.")
        return replace(result, verdict=Verdict.INVALID, anomalies=(invented,))
    return result


@pytest.mark.parametrize("lie", [acquit, convict])
@pytest.mark.parametrize("name", ORACLES)
def test_a_checker_that_lies_is_caught_by_its_oracle(
    name: str,
    lie: Callable[[CheckResult], CheckResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if lie is acquit and name in NEVER_INVALID:
        return
    oracle = ORACLES[name]
    # What is found here is no failure to be tried again.
    used: settings = oracle._hypothesis_internal_use_settings
    forgetful = settings(used, database=None)
    monkeypatch.setattr(oracle, "_hypothesis_internal_use_settings", forgetful)
    kind = type(registry.find("checker", name).factory(NEEDED.get(name, {})))
    honest = kind.check

    def lying(self: Any, *given: Any) -> CheckResult:
        return lie(honest(self, *given))

    random = Random(name)
    for _ in range(TRIALS_MAX):
        drawn = random.randbytes(4000)
        oracle.hypothesis.fuzz_one_input(drawn)
        with monkeypatch.context() as patch:
            patch.setattr(kind, "check", lying)
            try:
                oracle.hypothesis.fuzz_one_input(drawn)
            except AssertionError:
                return
    pytest.fail(f"no lie in {TRIALS_MAX} histories was noticed")


TRIALS_MAX = 300
