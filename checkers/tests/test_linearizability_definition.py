"""Every model of the registry against the definition: the search, and the checker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.linearizability.calls import partition
from checkers.linearizability.models import MODELS
from checkers.linearizability.oracle import first_impossible
from checkers.linearizable import LinearizableChecker
from checkers.tests.histories import FEWER, MANY, forgetting, histories, with_repeats
from checkers.tests.test_linearizability_algorithms import agree_with_the_definition
from checkers.tests.test_linearizability_models import QUEUES, verdict
from harness.verdict import Limits, Verdict

if TYPE_CHECKING:
    from harness.history import History

KINDS_OF = {name: (name,) for name in MODELS} | {
    "register": ("register", "unique"),
    "cas-register": ("cas-register", "unique-cas"),
    "set": ("set", "shrinking-set"),
}
"""Model -> kinds of simulated objects; a model of another kind needs one of its own."""

FORGOTTEN: st.SearchStrategy[set[int]] = st.one_of(
    st.just(set()), st.sets(st.integers(0, 25)), st.just(set(range(100)))
)
"""Invocations that nobody recorded: none, some, or all."""


@pytest.mark.parametrize("name", MODELS)
def test_search_and_checker_agree_with_the_definition(name: str) -> None:
    model = MODELS[name].build("")

    @MANY
    @given(st.sampled_from(KINDS_OF[name]).flatmap(histories), st.booleans(), FORGOTTEN)
    def compare(judged: History, few: bool, forgotten: set[int]) -> None:
        if few and name in QUEUES:
            judged = with_repeats(judged)
        judged = forgetting(judged, forgotten)
        right = agree_with_the_definition(judged, model)
        assert (verdict(judged, model) is Verdict.VALID) is right

    compare()


@pytest.mark.parametrize("name", MODELS)
def test_what_is_reported_is_the_first_that_is_impossible(name: str) -> None:
    model = MODELS[name].build("")
    keys = 2 if model.by_key else 1

    @FEWER
    @given(
        st.sampled_from(KINDS_OF[name]).flatmap(
            lambda kind: histories(kind, keys=keys)
        ),
        st.booleans(),
        FORGOTTEN,
        st.sampled_from(["auto", "search"]),
    )
    def compare(
        judged: History, few: bool, forgotten: set[int], algorithm: str
    ) -> None:
        if few and name in QUEUES:
            judged = with_repeats(judged)
        judged = forgetting(judged, forgotten)
        firsts = [
            first
            for calls in partition(judged, model).values()
            if (first := first_impossible(calls, model))
        ]
        checker = LinearizableChecker(model, algorithm=algorithm)
        anomalies = checker.check(judged, Limits()).anomalies
        told = [anomaly.details["first_impossible_op"] for anomaly in anomalies]
        firsts.sort(key=lambda call: call.returned)
        assert told == [call.position for call in firsts]
        assert all(n in a.ops for n, a in zip(told, anomalies, strict=True))

    compare()
