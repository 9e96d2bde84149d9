"""The isolation checkers against the definitions, tried on every possible execution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from checkers import list_append, rw_register
from checkers.tests import isolation_oracles as oracles
from checkers.tests.histories import FEWER, MANY
from checkers.tests.isolation_histories import (
    histories,
    judge,
    shuffled,
    transactions,
)
from harness.history import History, Op
from harness.verdict import CheckResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

ORDERS = {
    "serializable": oracles.no_order,
    "strong-session-serializable": oracles.same_session,
    "strict-serializable": oracles.either,
    "snapshot-isolation": oracles.no_order,
    "strong-session-snapshot-isolation": oracles.same_session,
    "strong-snapshot-isolation": oracles.either,
}


def oracle(model: str) -> Callable[[History], bool]:
    """The definition of a model that is one of executions."""
    check = (
        oracles.is_snapshot_isolated
        if model.endswith("snapshot-isolation")
        else oracles.is_serializable
    )
    return lambda history: check(history, ORDERS[model])


def show(history: History, result: CheckResult) -> str:
    lines = [f"{op.process} {op.type} {op.value}" for op in history]
    return "\n".join([*lines, str(result)])


@MANY
@given(histories(lists=True), st.sampled_from(sorted(ORDERS)))
def test_lists_are_valid_just_when_some_execution_explains_them(
    history: History, model: str
) -> None:
    result = judge(list_append.build({"consistency": model}), history)
    event(f"{model}: {result.verdict}")
    expected = Verdict.VALID if oracle(model)(history) else Verdict.INVALID
    assert result.verdict is expected, show(history, result)


@MANY
@given(histories(lists=False), st.sampled_from(sorted(ORDERS)))
def test_registers_are_valid_just_when_some_execution_explains_them(
    history: History, model: str
) -> None:
    result = judge(rw_register.build({"consistency": model}), history)
    event(f"{model}: {result.verdict}")
    expected = Verdict.VALID if oracle(model)(history) else Verdict.INVALID
    assert result.verdict is expected, show(history, result)


@MANY
@given(
    histories(lists=False),
    st.sampled_from(["read-committed", "read-atomic", "causal"]),
)
def test_registers_satisfy_an_axiom_just_when_some_commit_order_does(
    history: History, model: str
) -> None:
    result = judge(rw_register.build({"consistency": model}), history)
    event(f"{model}: {result.verdict}")
    assume("internal" not in result.stats.get("also_found", ()))
    right = oracles.satisfies_axiom(history, model, sessions=model != "read-committed")
    expected = Verdict.VALID if right else Verdict.INVALID
    assert result.verdict is expected, show(history, result)


GUARANTEES = (
    "read-your-writes",
    "monotonic-reads",
    "monotonic-writes",
    "writes-follow-reads",
)


@MANY
@given(shuffled(), st.sampled_from(GUARANTEES), st.booleans())
def test_session_guarantees_hold_just_when_versions_can_be_ordered_as_they_demand(
    history: History, guarantee: str, lists: bool
) -> None:
    if lists:
        history = as_lists(history)
    build = list_append.build if lists else rw_register.build
    result = judge(build({"consistency": guarantee}), history)
    event(f"{guarantee}: {result.verdict}")
    assume(not {"incompatible-order"} & set(result.stats.get("also_found", ())))
    right = oracles.keeps_guarantee(history, guarantee)
    expected = Verdict.VALID if right else Verdict.INVALID
    assert result.verdict is expected, show(history, result)
    if result.verdict is Verdict.INVALID:
        assert guarantee in result.not_models


def test_a_read_that_is_repeated_too_late_is_no_repetition() -> None:
    """It sees the later write of a session, and then still not the earlier one."""
    history = transactions("ax1@1 ; ay2@1 ; rxry2rx@2")
    for guarantee, expected in (
        ("monotonic-writes", Verdict.INVALID),
        ("read-your-writes", Verdict.VALID),
    ):
        result = judge(list_append.build({"consistency": guarantee}), history)
        assert result.verdict is expected
        holds = oracles.keeps_guarantee(history, guarantee)
        assert holds is (expected is Verdict.VALID)


@FEWER
@given(shuffled(), st.booleans())
def test_causal_consistency_keeps_all_session_guarantees(
    history: History, lists: bool
) -> None:
    if lists:
        history = as_lists(history)
    build = list_append.build if lists else rw_register.build
    causal = judge(build({"consistency": "causal"}), history)
    assume(causal.verdict is Verdict.VALID)
    for guarantee in GUARANTEES:
        result = judge(build({"consistency": guarantee}), history)
        assert result.verdict is Verdict.VALID, show(history, result)


@MANY
@given(shuffled(transactions=4), st.sampled_from(sorted(oracles.AXIOMS)))
def test_registers_are_valid_just_when_visibility_and_arbitration_can_be_chosen(
    history: History, model: str
) -> None:
    result = judge(rw_register.build({"consistency": model}), history)
    event(f"{model}: {result.verdict}")
    right = oracles.has_abstract_execution(history, oracles.AXIOMS[model])
    expected = Verdict.VALID if right else Verdict.INVALID
    assert result.verdict is expected, show(history, result)


@MANY
@given(shuffled(transactions=4), st.sampled_from(sorted(oracles.AXIOMS)))
def test_lists_are_valid_just_when_visibility_and_arbitration_can_be_chosen(
    registers: History, model: str
) -> None:
    history = as_lists(registers)
    result = judge(list_append.build({"consistency": model}), history)
    event(f"{model}: {result.verdict}")
    right = oracles.has_abstract_execution(history, oracles.AXIOMS[model])
    expected = Verdict.VALID if right else Verdict.INVALID
    assert result.verdict is expected, show(history, result)


def test_one_of_two_unread_appends_saw_the_other_in_parallel_snapshots() -> None:
    """Whichever came first, the other one did not see what it wrote."""
    history = transactions("rxax1ay2 ryax3")
    axioms = oracles.AXIOMS["parallel-snapshot-isolation"]
    assert not oracles.has_abstract_execution(history, axioms)
    for model in ("parallel-snapshot-isolation", "consistent-view"):
        result = judge(list_append.build({"consistency": model}), history)
        assert result.verdict is Verdict.INVALID
        assert "both wrote to key x. If" in result.anomalies[0].explanation
    result = judge(list_append.build({"consistency": "prefix"}), history)
    assert result.verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("model", "line", "expected"),
    [
        ("parallel-snapshot-isolation", "wx1 wy1 rx1ry rxry1 wz1 wz2", Verdict.VALID),
        ("parallel-snapshot-isolation", "wx1wz1 wy1wz2 rx1ry rxry1", Verdict.INVALID),
        ("parallel-snapshot-isolation", "rxwx1wy2 rywx3", Verdict.INVALID),
        ("consistent-view", "rxwx1wy2 rywx3", Verdict.INVALID),
        ("prefix", "rxwx1wy2 rywx3", Verdict.VALID),
        ("prefix", "wx1wz1 wy1wz2 rx1rz1 ry1rz2 rx1ry rxry1", Verdict.INVALID),
    ],
)
def test_orders_of_writes_are_tried_where_no_sequence_of_events_will_do(
    model: str, line: str, expected: Verdict
) -> None:
    """There is no snapshot isolated execution, and no version order is known."""
    history = transactions(line, lists=False)
    result = judge(rw_register.build({"consistency": model}), history)
    assert result.verdict is expected, show(history, result)
    if model in oracles.AXIOMS and len(history) <= 8:  # which takes 24 orders, not 720
        right = oracles.has_abstract_execution(history, oracles.AXIOMS[model])
        assert right is (expected is Verdict.VALID)
    for anomaly in result.anomalies:
        assert anomaly.explanation.endswith(".")
        assert anomaly.witness is not None


def as_lists(history: History) -> History:
    """Reads of a register become reads of the list that ends in it.

    Each key's lists grow in the order in which its values were read. Reads behind a
    transaction's own write are left out, and writes that it replaced itself.
    """
    grown: dict[Any, list[Any]] = {}
    ops = []
    for op in history:
        micro_ops: list[list[Any]] = []
        mine = set()
        last = {key: value for f, key, value in op.value if f == "w"}
        for f, key, value in op.value:
            if f == "w":
                mine.add(key)
                if value == last[key]:
                    micro_ops.append(["append", key, value])
            elif key not in mine:
                values = grown.setdefault(key, [])
                if value is not None and value not in values:
                    values.append(value)
                end = 0 if value is None else values.index(value) + 1
                seen = None if op.type == "invoke" else values[:end]
                micro_ops.append(["r", key, seen])
        ops.append(Op(op.index, op.time, op.process, op.type, op.f, micro_ops))
    return History(ops)
