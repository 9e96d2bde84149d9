"""From a history to calls, all at once, as one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from checkers.linearizability.calls import NEVER, Call, partition
from checkers.linearizability.models import KV, CasRegister, Register
from checkers.linearizability.problem import Problem
from checkers.linearizability.specification import freeze
from checkers.tests.histories import MANY
from harness.errors import UsageError
from harness.history import History, Op

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from checkers.linearizability.specification import Model, Operation

PLAIN = st.sampled_from([None, 0, 1, 2, "1", "bool", "list", True, 1.0])
PAIRS = st.lists(PLAIN, min_size=2, max_size=2)
VALUES = st.one_of(PLAIN, PLAIN, PAIRS, st.lists(PLAIN, max_size=3), st.just({"a": 1}))
EVENTS = st.tuples(
    st.sampled_from([0, 1, 2, "nemesis"]),
    st.sampled_from(["invoke", "invoke", "ok", "ok", "fail", "info"]),
    st.sampled_from(["read", "write", "write", "cas"]),
    VALUES,
    PAIRS,
    st.sampled_from([None, "x", 1, [1]]),
    st.sampled_from([None, {"cas_fail_is_mismatch": True}, {"other": 1}]),
)


def history_of(events: list[tuple[Any, ...]]) -> History:
    """A foreign history: some of its events may not pair up."""
    ops = [
        Op(i, i, process, kind, f, pair if f == "cas" else value, key, extra=extra)
        for i, (process, kind, f, value, pair, key, extra) in enumerate(events)
    ]
    return History(ops, strict=False)


def one_by_one(history: History, model: Model) -> dict[Hashable, list[Call]]:
    """The definition of `partition`."""

    def when(i: int) -> int:
        """Between any two events, and before all, there is room for one more."""
        return 2 * (i + 1) if history.completions_only else i

    found: dict[Hashable, list[Call]] = {}
    done_at: dict[int | str, int] = {}
    for i, op in enumerate(history.ops):
        j = history.completion[i]
        if op.is_client and (op.type == "invoke" or j < 0):
            alone = op.type != "invoke"
            end = i if alone else j
            completed = history.ops[end] if end >= 0 else None
            calls = found.setdefault(freeze(op.key), [])
            operation = model.operation(op, completed)
            if operation is None:
                pass
            elif completed is not None and completed.type != "info":
                began = when(done_at.get(op.process, -1)) + 1 if alone else when(i)
                calls.append(Call(operation, began, when(end), i))
            elif not model.read_only(operation):
                calls.append(Call(operation, 0 if alone else when(i), NEVER, i))
        done_at[op.process] = i
    for calls in found.values():
        calls.sort(key=lambda call: call.invoked)
    return found


def listed(found: Mapping[Hashable, Sequence[Call]]) -> dict[Hashable, list[Call]]:
    """The calls themselves, made one after the other."""
    return {key: list(calls) for key, calls in found.items()}


@MANY
@given(
    st.lists(EVENTS, max_size=20), st.sampled_from([Register(), CasRegister(), KV()])
)
def test_calls_made_all_at_once_are_those_made_one_by_one(
    events: list[tuple[Any, ...]], model: Model
) -> None:
    history = history_of(events)
    expected: object
    found: object
    try:
        expected = one_by_one(history, model)
    except UsageError as problem:
        expected = str(problem)
    try:
        found = listed(partition(history, model))
    except UsageError as problem:
        found = str(problem)
    assert found == expected


@MANY
@given(
    st.lists(EVENTS, max_size=20), st.sets(st.sampled_from([None, "x", 1]).map(freeze))
)
def test_keys_can_be_chosen(events: list[tuple[Any, ...]], only: set[Any]) -> None:
    events = [event for event in events if event[2] != "cas"]
    history = history_of(events)
    every = listed(partition(history, Register()))
    chosen = {key: calls for key, calls in every.items() if key in only}
    assert listed(partition(history, Register(), only)) == chosen


@MANY
@given(
    st.lists(EVENTS, max_size=20), st.sampled_from([Register(), CasRegister(), KV()])
)
def test_a_search_is_posed_the_same_by_columns_as_by_calls(
    events: list[tuple[Any, ...]], model: Model
) -> None:
    try:
        found = partition(history_of(events), model)
    except UsageError:
        return
    for calls in found.values():
        posed = Problem.of(calls)
        expected = Problem.of(list(calls))
        assert told(posed) == told(posed.narrowed()) == told(expected)
        assert posed.names == expected.names
        assert posed.events == expected.events
        assert posed.live == expected.live
        returned = [calls[name].returned for name in posed.names]
        assert returned == sorted(returned)


def told(problem: Problem) -> list[Operation]:
    """What each call did."""
    return [problem.operations[n] for n in problem.operation]


@MANY
@given(st.lists(EVENTS, min_size=4, max_size=20), st.data())
def test_each_call_is_made_once_however_it_is_asked_for(
    events: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    events = [event for event in events if event[2] != "cas"]
    for calls in partition(history_of(events), Register()).values():
        seen: dict[int, Call] = {}
        for _ in range(3):
            stop = data.draw(st.integers(0, len(calls)))
            if data.draw(st.booleans()):
                some = calls[:stop]
            else:
                some = [call for _, call in zip(range(stop), calls, strict=False)]
            assert len(some) == stop
            for n, call in enumerate(some):
                assert seen.setdefault(n, call) is call
        assert len(list(calls)) == len(calls)
