"""Some of Zab's scenario files convict broken Zabs, and so prove useful."""

from __future__ import annotations

import pytest

from reference_impls.mutants.zab import MUTANTS
from reference_impls.tests.scenario import replay
from reference_impls.tests.zab_words import ZAB


def replay_mutant(scenario: str, mutant: str) -> str:
    return replay(f"zab/{scenario}", ZAB, MUTANTS[mutant].core)


def test_a_suffix_that_is_kept_shows_in_the_history() -> None:
    assert "history=[1.1 2.1]" in replay_mutant("truncate", "keeps-uncommitted-suffix")


def test_an_election_that_ignores_zxids_makes_the_highest_id_lead() -> None:
    trace = replay_mutant("election", "election-ignores-zxid")
    assert "n2 FOLLOWING broadcast" not in trace
    assert "n2 LEADING broadcast" not in trace


def test_a_commit_without_a_quorum_delivers_what_the_next_leader_lacks() -> None:
    with pytest.raises(AssertionError, match=r"up to .*counter=1.* is delivered"):
        replay_mutant("truncate", "commit-without-quorum")
