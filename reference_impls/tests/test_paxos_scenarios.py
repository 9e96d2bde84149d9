"""Some scenario files of both Paxoses convict mutants, and so prove useful."""

from __future__ import annotations

import pytest

from reference_impls.mutants import multi_paxos, paxos
from reference_impls.tests.paxos_words import MULTI_PAXOS, PAXOS
from reference_impls.tests.scenario import replay


def replay_mutant(scenario: str, mutant: str) -> str:
    if scenario.startswith("paxos"):
        return replay(scenario, PAXOS, paxos.MUTANTS[mutant].core)
    return replay(scenario, MULTI_PAXOS, multi_paxos.MUTANTS[mutant].core)


def test_a_proposer_that_keeps_its_own_value_overturns_a_choice() -> None:
    assert "n3 => c2 propose_ok value=blue" in replay_mutant(
        "paxos/duel", "keeps-own-value"
    )


@pytest.mark.parametrize("mutant", ["promise-not-durable", "accept-ignores-promise"])
def test_an_acceptor_without_its_promise_accepts_what_came_too_late(
    mutant: str,
) -> None:
    late = "n2 observe accepted key=1 ballot=1.n1 value=red"
    assert late in replay_mutant("paxos/promise", mutant)
    assert late not in replay("paxos/promise", PAXOS)


def test_an_acceptor_that_forgets_a_promise_can_be_told_by_its_restart() -> None:
    """After the restart, its first ballot as a proposer would be an old one."""
    trace = replay_mutant("paxos/promise", "promise-not-durable")
    assert "n2 persist key=1 promised" not in trace


def test_a_gap_that_is_skipped_is_carried_out_before_anyone_accepted_it() -> None:
    trace = replay_mutant("multi_paxos/gap", "skips-gap")
    assert "n2 observe applied index=1" in trace
    assert "observe accepted ballot=2.n2 slots=[1]" not in trace
