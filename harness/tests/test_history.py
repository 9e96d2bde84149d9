"""What a history accepts, and how it pairs invocations with completions."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.history import (
    NO_COMPLETION,
    History,
    HistoryError,
    Op,
    OpType,
    columns,
    pair,
)


def op(index: int, process: int | str, kind: OpType, f: str = "read") -> Op:
    return Op(index=index, time=index * 10, process=process, type=kind, f=f)


def test_an_invocation_pairs_with_the_next_completion_of_its_process() -> None:
    history = History(
        [op(0, 0, "invoke"), op(1, 1, "invoke"), op(2, 0, "ok"), op(3, 1, "fail")]
    )
    assert history.completion == [2, 3, 0, 1]
    assert [(a.index, b and b.index) for a, b in history.calls()] == [(0, 2), (1, 3)]
    assert not history.completions_only


def test_an_invocation_that_never_returns_has_no_completion() -> None:
    history = History([op(0, 0, "invoke"), op(1, 1, "invoke"), op(2, 1, "info")])
    assert history.completion == [NO_COMPLETION, 2, 1]
    assert next(iter(history.calls()))[1] is None
    assert not history.completions_only


@pytest.mark.parametrize("name", ["nemesis", ":nemesis", "Nemesis-2", "watcher"])
def test_nemeses_and_bystanders_are_no_clients_and_pair_with_nothing(name: str) -> None:
    history = History([op(0, name, "info", "kill"), op(1, name, "info", "kill")])
    assert history.completion == [NO_COMPLETION, NO_COMPLETION]
    assert list(history.calls()) == []
    assert not history.completions_only


def test_clients_may_have_names_for_numbers() -> None:
    history = History(
        [
            op(0, "c0", "invoke"),
            op(1, "client1", "invoke"),
            op(2, "watcher", "info", "kill"),
            op(3, "client1", "info"),
            op(4, "c0", "ok"),
        ]
    )
    assert history.completion == [4, 3, NO_COMPLETION, 1, 0]
    assert [op.is_client for op in history] == [True, True, False, True, True]


def test_a_name_that_never_invoked_may_be_a_client_where_nobody_invokes() -> None:
    history = History([op(0, "c0", "info"), op(1, "c1", "ok")], strict=False)
    assert all(op.is_client for op in history)
    assert history.completions_only


@given(data=st.data())
def test_names_pair_as_numbers_do(data: st.DataObject) -> None:
    kinds: st.SearchStrategy[OpType] = st.sampled_from(get_args(OpType))
    drawn = data.draw(st.lists(st.tuples(st.integers(0, 3), kinds), max_size=12))
    numbers = [op(i, process, kind) for i, (process, kind) in enumerate(drawn)]
    words = [op(i, f"c{process}", kind) for i, (process, kind) in enumerate(drawn)]
    by_name = History(words, strict=False)
    for a, b in zip(numbers, words, strict=True):
        # What only says info is a bystander's, and no client's here either.
        a.process = a.process if b.is_client else "nemesis"
    by_number = History(numbers, strict=False)
    assert by_name.completion == by_number.completion
    assert by_name.completions_only == by_number.completions_only
    assert is_refused(words) == is_refused(numbers)


def is_refused(ops: list[Op]) -> bool:
    try:
        History(ops)
    except HistoryError:
        return True
    return False


@pytest.mark.parametrize(
    ("ops", "reason"),
    [
        ([op(1, 0, "invoke")], "index 1 is out of sequence, expected 0"),
        ([op(0, 0, "invoke"), op(0, 0, "ok")], "index 0 is out of sequence"),
        ([op(0, 0, "invoke"), op(2, 0, "ok")], "index 2 is out of sequence"),
        ([op(0, 0, "ok")], "without having invoked"),
        ([op(0, 0, "invoke"), op(1, 0, "invoke")], "while its read (op 0) is open"),
        ([op(0, 0, "invoke"), op(1, 1, "ok")], "process 1 completes read without"),
        (
            [op(0, 0, "invoke", "write"), op(1, 0, "ok")],
            "completes read but invoked write (op 0)",
        ),
    ],
)
def test_a_strict_history_refuses_events_that_do_not_pair_up(
    ops: list[Op], reason: str
) -> None:
    with pytest.raises(HistoryError) as caught:
        History(ops, source="some.jsonl")
    assert reason in str(caught.value)
    assert str(caught.value).startswith("some.jsonl: op ")


def test_a_lenient_history_takes_completions_without_invocations() -> None:
    history = History([op(0, 0, "ok"), op(1, 0, "ok")], strict=False)
    assert history.completions_only
    assert history.completion == [NO_COMPLETION, NO_COMPLETION]


def test_of_two_open_calls_of_one_process_a_lenient_history_pairs_neither() -> None:
    # Pairing the first completion with either would claim a real-time order.
    history = History(
        [op(0, 0, "invoke"), op(1, 0, "invoke"), op(2, 0, "ok"), op(3, 1, "invoke"),
         op(4, 0, "ok"), op(5, 1, "ok")],
        strict=False,
    )  # fmt: skip
    assert history.completion == [
        NO_COMPLETION, NO_COMPLETION, NO_COMPLETION, 5, NO_COMPLETION, 3,
    ]  # fmt: skip
    assert history.completions_only


def test_leniency_changes_nothing_about_a_good_history() -> None:
    ops = [op(0, 0, "invoke"), op(1, 3, "invoke"), op(2, 3, "info"), op(3, 0, "ok")]
    assert History(ops).completion == History(ops, strict=False).completion


PROCESSES = st.sampled_from([0, 1, 2, 2**70, "nemesis"])
KINDS = st.sampled_from(["invoke", "invoke", "ok", "fail", "info"])
FUNCTIONS = st.sampled_from(["read", "read", "read", "write"])


@given(st.lists(st.tuples(PROCESSES, KINDS, FUNCTIONS), max_size=12))
def test_pairing_by_columns_agrees_with_pairing_one_by_one(
    events: list[tuple[int | str, OpType, str]],
) -> None:
    ops = [op(i, *event) for i, event in enumerate(events)]
    partner = columns.pair(columns.columns(ops))
    try:
        expected = pair(ops, str)
    except HistoryError:
        assert partner is None
    else:
        assert partner is not None
        assert partner.tolist() == expected


def test_columns_tell_who_did_what_on_which_key() -> None:
    ops = [op(0, 7, "invoke", "write"), op(1, "nemesis", "info", "kill"),
           op(2, 7, "ok", "write"), op(3, 2**70, "invoke")]  # fmt: skip
    ops[0].key, ops[2].key = 5, 5
    events = History(ops).columns
    assert events.process.tolist() == [0, columns.NAMED, 0, 2]
    assert events.type.tolist() == [
        columns.INVOKE, columns.INFO, columns.OK, columns.INVOKE,
    ]  # fmt: skip
    assert [events.functions[n] for n in events.f] == ["write", "kill", "write", "read"]
    assert events.key is not None
    assert [events.keys[n] for n in events.key] == [5, None, 5, None]
    ops[0].key = ops[2].key = [5]
    assert History(ops).columns.key is None


PLAIN = st.sampled_from([None, 0, 1, True, 1.0, "", "1", "list"])
VALUES: st.SearchStrategy[Any] = st.one_of(
    PLAIN, st.lists(PLAIN, max_size=3), st.just({})
)


@given(st.lists(VALUES, max_size=12), st.integers(1, 5))
def test_values_have_one_number_exactly_when_they_are_equal(
    values: list[Any], at_a_time: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "OPS_AT_A_TIME", at_a_time)
        ops = [Op(i, i, 0, "invoke", "write", v) for i, v in enumerate(values)]
        events = columns.columns(ops)
    numbers = events.value.tolist()
    for value, number in zip(values, numbers, strict=True):
        inside = value if type(value) is list else [value]
        is_pair = type(value) is not list or len(value) == 2
        is_plain = {int, str, type(None)}.issuperset(map(type, inside))
        has_number = is_pair and is_plain and value != {}
        assert (number != columns.UNNUMBERED) is has_number
        if has_number:
            known = tuple(value) if type(value) is list else value
            assert events.value_numbers[known] == number
    numbered = [(v, n) for v, n in zip(values, numbers, strict=True) if n >= 0]
    for value, number in numbered:
        assert [n == number for _, n in numbered] == [v == value for v, _ in numbered]
