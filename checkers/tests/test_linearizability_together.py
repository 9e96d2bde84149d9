"""Orders found for many keys at once, against the definition and one key at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from checkers.linearizability import chains, together
from checkers.linearizability.budget import Budget
from checkers.linearizability.calls import SPARSE, distinct, partition, sorted_by
from checkers.linearizability.models import CasRegister
from checkers.linearizability.oracle import linearizable
from checkers.linearizability.search import is_legal_by_return
from checkers.linearizability.transitions import Transitions
from checkers.linearizable import LinearizableChecker, build
from checkers.tests.histories import FEWER, MANY, forgetting, histories
from harness.bench.histories import Shape, generate
from harness.history import History
from harness.verdict import Limits, Verdict, where_vacuous

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

NO_LIMITS = Limits()
NUMBERS = st.one_of(
    st.lists(st.integers(0, 9), max_size=12),
    st.lists(st.integers(0, 10**6), max_size=12, unique=True),
    st.permutations(range(9)),
)


def registers() -> SearchStrategy[History]:
    kinds = st.sampled_from(["cas-register", "register", "unique-cas"])
    return kinds.flatmap(lambda kind: histories(kind, keys=3, steps=50))


@MANY
@given(registers(), st.sets(st.integers(0, 15)))
def test_only_keys_that_are_linearizable_are_found_so(
    whole: History, forgotten: set[int]
) -> None:
    model = CasRegister()
    keys = partition(forgetting(whole, forgotten), model)
    if not keys:
        return
    table = next(iter(keys.values())).table
    moves = Transitions(model, table.operations, merge=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(together, "FEW", 1)
        found = together.linearizable(table, moves)
    fits = chains.fits(model, table)
    for calls in keys.values():
        event(f"found: {found[calls.key]}")
        assert not found[calls.key] or linearizable(calls, model), calls
        if len(calls) > calls.crashed and is_legal_by_return(calls, moves):
            assert found[calls.key], calls
        alike = not chains.misfit(model, calls, Budget(NO_LIMITS))
        assert fits[calls.key] is np.bool_(alike), calls


@FEWER
@given(registers())
def test_a_verdict_is_the_same_when_keys_are_taken_together(history: History) -> None:
    model = CasRegister()
    good = [linearizable(calls, model) for calls in partition(history, model).values()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(together, "FEW", 1)
        checker = LinearizableChecker(model, explain_plan=True)
        result = checker.check(history, NO_LIMITS)
    result = where_vacuous(result, Verdict.VALID)
    assert result.verdict is (Verdict.VALID if all(good) else Verdict.INVALID)
    assert len(result.anomalies) == good.count(False)


def test_most_of_many_short_keys_need_no_search_and_the_plan_is_what_it_was() -> None:
    history = History(
        generate(Shape("cas-register", 2_800, 800, 400, think=3.0, planted=True))
    )
    plain = build({"algorithm": "search"}).check(history, NO_LIMITS)
    planned = build({"explain-plan": "true"}).check(history, NO_LIMITS)
    assert planned.verdict is plain.verdict is Verdict.INVALID
    assert [a.name for a in planned.anomalies] == [a.name for a in plain.anomalies]
    assert planned.stats["configurations"] < plain.stats["configurations"] / 2
    lines = planned.stats["plan"]
    assert sum(line["keys"] for line in lines) == planned.stats["keys"]
    assert all(line["why"] for line in lines)


@given(NUMBERS)
def test_what_is_counted_is_as_if_it_were_sorted(numbers: list[int]) -> None:
    column = np.array(numbers, np.int64)
    event(f"few gaps: {max(numbers, default=0) < SPARSE * len(numbers)}")
    assert sorted_by(column).tolist() == np.argsort(column, kind="stable").tolist()
    _, *expected = np.unique(column, return_index=True, return_inverse=True)
    for ours, theirs in zip(distinct(column), expected, strict=True):
        assert ours.tolist() == theirs.tolist()
