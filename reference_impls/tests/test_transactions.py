"""Transactions are done whole or not at all."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impls.transactions import (
    AbortError,
    apply,
    evaluate,
    is_read_only,
    keys,
    malformed,
)

KEYS = st.sampled_from([1, 2, "a"])
MICRO_OPS = st.one_of(
    st.tuples(st.sampled_from(["r", "pop"]), KEYS, st.none()),
    st.tuples(st.just("add"), KEYS, st.integers(-3, 3)),
    st.tuples(st.sampled_from(["w", "append"]), KEYS, st.integers(0, 9)),
).map(list)
TXNS = st.lists(MICRO_OPS, min_size=1, max_size=6)


def test_results_are_filled_in_and_later_micro_operations_see_earlier_ones() -> None:
    state: dict[Any, Any] = {"q": [1, 2], "n": 3}
    done = apply(
        state,
        [["r", "x", None], ["w", "x", 7], ["r", "x", None], ["append", "q", 5],
         ["pop", "q", None], ["add", "n", -3], ["pop", "none", None]],
    )  # fmt: skip
    assert done == [
        ["r", "x", None], ["w", "x", 7], ["r", "x", 7], ["append", "q", 5],
        ["pop", "q", 1], ["add", "n", 0], ["pop", "none", None],
    ]  # fmt: skip
    assert state == {"x": 7, "q": [2, 5], "n": 0}


@given(txns=st.lists(TXNS, max_size=8))
def test_an_abort_leaves_no_trace(txns: list[list[list[Any]]]) -> None:
    state: dict[Any, Any] = {}
    for txn in txns:
        assert malformed(txn) == ""
        before = copy.deepcopy(state)
        try:
            done = apply(state, txn)
        except AbortError:
            assert state == before
        else:
            assert [micro[:2] for micro in done] == [micro[:2] for micro in txn]


@given(txn=TXNS)
def test_evaluating_changes_nothing_and_reads_write_nothing(txn: list[Any]) -> None:
    state: dict[Any, Any] = {1: [4], 2: 5}
    before = copy.deepcopy(state)
    try:
        _, writes = evaluate(state, txn)
    except AbortError:
        writes = {}
    assert state == before
    assert set(writes) <= set(keys(txn))
    if is_read_only(txn):
        assert writes == {}


@pytest.mark.parametrize(
    "txn",
    [None, [], {}, [["r", 1]], [["x", 1, None]], [["r", True, None]],
     [["r", [1], None]], [["add", 1, "2"]], [["add", 1, True]], ["r"]],
)  # fmt: skip
def test_what_is_no_transaction_is_told_so(txn: Any) -> None:
    assert malformed(txn)
