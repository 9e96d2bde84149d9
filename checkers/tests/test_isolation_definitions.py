"""The isolation checkers against the definitions, tried on every possible execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import assume, event, given
from hypothesis import strategies as st

from checkers import list_append, rw_register
from checkers.tests import isolation_oracles as oracles
from checkers.tests.histories import MANY
from checkers.tests.isolation_histories import histories
from harness.verdict import CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.history import History

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


def committed(history: History) -> bool:
    return any(op.type == "ok" for op in history)


def show(history: History, result: CheckResult) -> str:
    lines = [f"{op.process} {op.type} {op.value}" for op in history]
    return "\n".join([*lines, str(result)])


@MANY
@given(histories(lists=True), st.sampled_from(sorted(ORDERS)))
def test_lists_are_valid_just_when_some_execution_explains_them(
    history: History, model: str
) -> None:
    assume(committed(history))
    result = list_append.build({"consistency": model}).check(history, Limits())
    event(f"{model}: {result.verdict}")
    expected = Verdict.VALID if oracle(model)(history) else Verdict.INVALID
    assert result.verdict is expected, show(history, result)


@MANY
@given(histories(lists=False), st.sampled_from(sorted(ORDERS)))
def test_registers_are_valid_just_when_some_execution_explains_them(
    history: History, model: str
) -> None:
    assume(committed(history))
    result = rw_register.build({"consistency": model}).check(history, Limits())
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
    assume(committed(history))
    result = rw_register.build({"consistency": model}).check(history, Limits())
    event(f"{model}: {result.verdict}")
    assume("internal" not in result.stats.get("also_found", ()))
    right = oracles.satisfies_axiom(history, model, sessions=model != "read-committed")
    expected = Verdict.VALID if right else Verdict.INVALID
    assert result.verdict is expected, show(history, result)
