"""The rw-register checker against definitions, on histories that hold anything."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from hypothesis import assume, event, given
from hypothesis import strategies as st

from checkers import rw_register
from checkers.tests import register_oracles as oracles
from checkers.tests.histories import FEWER, MANY
from checkers.tests.isolation_histories import Simulation, corrupt, judge
from checkers.tests.register_histories import wild
from harness.history import History
from harness.verdict import CheckResult, Limits, Verdict

MAY_STAY_OPEN = {"monotonic-view", "monotonic-snapshot-read"}
"""Models for which orders of writes are not tried: where each order is impossible for a
reason of its own, the verdict is unknown."""

OF_EXECUTIONS = [
    model
    for model in oracles.MODELS
    if model.endswith(("serializable", "snapshot-isolation"))
    and model not in {"update-serializable", "parallel-snapshot-isolation"}
]


def check(history: History, **options: str) -> CheckResult:
    given = {name.replace("_", "-"): value for name, value in options.items()}
    return judge(rw_register.build(given), history)


def show(history: History, result: CheckResult) -> str:
    lines = [f"{op.process} {op.type} {op.value}" for op in history]
    return "\n".join([*lines, str(result)])


def compare(history: History, model: str, result: CheckResult, *, right: bool) -> None:
    """A verdict must be that of the definition, and be told in sentences."""
    event(f"{model}: {result.verdict}")
    if model in MAY_STAY_OPEN and result.verdict is Verdict.UNKNOWN:
        assert "the order in which" in result.reason
        return
    expected = Verdict.VALID if right else Verdict.INVALID
    assert result.verdict is expected, f"{model}\n{show(history, result)}"
    for anomaly in result.anomalies:
        assert anomaly.explanation.endswith(".")


@MANY
@given(wild(), st.sampled_from(oracles.MODELS))
def test_whatever_values_there_are_a_verdict_is_that_of_the_definition(
    history: History, model: str
) -> None:
    result = check(history, consistency=model)
    right = oracles.satisfies(oracles.case(history), model)
    compare(history, model, result, right=right)


@MANY
@given(
    st.sampled_from([0, 1, True, "1", "x"]), st.sampled_from(oracles.MODELS), st.data()
)
def test_the_initial_value_may_be_written_like_any_other(
    initial: Any, model: str, data: st.DataObject
) -> None:
    history = data.draw(wild(initial=initial))
    result = check(history, consistency=model, initial=json.dumps(initial))
    right = oracles.satisfies(oracles.case(history, initial), model)
    compare(history, model, result, right=right)


@MANY
@given(wild(), st.sampled_from(OF_EXECUTIONS))
def test_own_writes_may_stay_out_of_sight(history: History, model: str) -> None:
    result = check(history, consistency=model, own_writes="invisible")
    case = oracles.case(history, own_writes_show=False)
    compare(history, model, result, right=oracles.satisfies(case, model))


def collapsed(history: History, count: int, *, nil: bool) -> History:
    """The history with so many values for each key, one of them nil if need be."""
    ops = copy.deepcopy(list(history.ops))
    for micro_op in {id(m): m for op in ops for m in op.value}.values():
        if micro_op[2] is not None:
            value = micro_op[2] % count
            micro_op[2] = None if nil and not value else value
    return History(ops)


@FEWER
@given(
    st.integers(0, 1 << 32),
    st.sampled_from(oracles.MODELS),
    st.sampled_from([2, 5, 20]),
    st.booleans(),
)
def test_fewer_values_make_no_right_history_wrong(
    seed: int, model: str, count: int, nil: bool
) -> None:
    """Whoever wrote what was read explains it still, however long the history is."""
    rng = random.Random(seed)
    simulation = Simulation(
        False, rng, keys=rng.randint(1, 6), crashes=0.1, skew=rng.random() < 0.5
    )
    history = simulation.history(rng.randint(8, 30), rng.randint(2, 6))
    for _ in range(rng.choice([0, 0, 1])):
        history = corrupt(history, rng)
    assume(check(history, consistency=model).verdict is Verdict.VALID)
    few = collapsed(history, count, nil=nil)
    checker = rw_register.build({"consistency": model})
    result = checker.check(few, Limits(time_s=2))
    event(f"{model}: {result.verdict}")
    assert result.verdict is not Verdict.INVALID, show(few, result)
