"""Some of Raft's scenario files convict broken Rafts, and so prove useful."""

from __future__ import annotations

import pytest

from reference_impls.mutants import with_part
from reference_impls.mutants.raft import MUTANTS
from reference_impls.raft import Raft
from reference_impls.raft.following import Following
from reference_impls.tests.raft_words import RAFT
from reference_impls.tests.scenario import replay


class TruncatedMeansFailed(Following):
    """Tells a client that its write failed as soon as its entry is truncated here."""

    def truncate(self, first: int) -> None:
        requests = self.commitment.requests
        for index in [i for i in requests.proposed if i >= first]:
            requests.refuse(requests.proposed.pop(index).request, "truncated")
        super().truncate(first)


def test_figure_8_shows_what_committing_old_terms_by_counting_loses() -> None:
    with pytest.raises(AssertionError, match="is committed"):
        replay("figure_8", RAFT, MUTANTS["commit-old-term"].core)


def test_a_truncated_entry_may_still_commit_elsewhere() -> None:
    name = "truncated_yet_committed"
    broken = with_part(Raft, TruncatedMeansFailed)
    assert "c1 error code=11" in replay(name, RAFT, broken)
    assert "c1 error" not in replay(name, RAFT)
    assert "c1 write_ok" in replay(name, RAFT)


def test_a_change_before_the_no_op_makes_two_majorities_that_do_not_meet() -> None:
    name = "change_before_noop"
    broken = replay(name, RAFT, MUTANTS["change-before-noop"].core)
    for trace, removed in ((replay(name, RAFT), False), (broken, True)):
        assert ("n2 => op remove_ok" in trace) is (removed)
        assert "n1 observe became_leader term=3" in trace
