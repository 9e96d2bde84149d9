"""Every model of the registry against the definition: the search, and the checker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.linearizability.models import MODELS
from checkers.tests.histories import MANY, histories, with_repeats
from checkers.tests.test_linearizability_algorithms import agree_with_the_definition
from checkers.tests.test_linearizability_models import verdict
from harness.verdict import Verdict

if TYPE_CHECKING:
    from harness.history import History

KINDS_OF = {name: (name,) for name in MODELS} | {
    "register": ("register", "unique"),
    "cas-register": ("cas-register", "unique-cas"),
    "set": ("set", "shrinking-set"),
}
"""Model -> kinds of simulated objects; a model of another kind needs one of its own."""

QUEUES = {"fifo-queue", "unordered-queue", "priority-queue", "stack"}


@pytest.mark.parametrize("name", MODELS)
def test_search_and_checker_agree_with_the_definition(name: str) -> None:
    model = MODELS[name].build("")

    @MANY
    @given(st.sampled_from(KINDS_OF[name]).flatmap(histories), st.booleans())
    def compare(judged: History, few: bool) -> None:
        if few and name in QUEUES:
            judged = with_repeats(judged)
        right = agree_with_the_definition(judged, model)
        assert (verdict(judged, model) is Verdict.VALID) is right

    compare()
