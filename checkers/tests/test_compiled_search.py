"""The compiled search against the one in Python: the same in everything it finds."""

from __future__ import annotations

import importlib.util
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings

from checkers.linearizability import fast, handover, kernel
from checkers.linearizability.budget import Budget
from checkers.linearizability.calls import partition
from checkers.linearizability.fast import FastSearch
from checkers.linearizability.models import MODELS, CasRegister
from checkers.linearizability.oracle import is_linearization
from checkers.linearizability.search import Search, pose
from checkers.linearizable import LinearizableChecker
from checkers.tests.histories import EXAMPLES, FEWER, histories
from harness.bench.histories import Shape, generate
from harness.history import History
from harness.verdict import Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.calls import Call
    from checkers.linearizability.outcome import Outcome
    from checkers.linearizability.specification import Model

NO_LIMITS = Limits()
KINDS = ("register", "cas-register", "kv", "mutex", "multi-register")

needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None,
    reason="numba is not installed: pip install 'splitbrain[fast]'",
)


@pytest.fixture(params=["compiled", "as plain Python"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kernel as numba compiles it, and as it stands there."""
    if request.param == "as plain Python":
        for name in ("place_of", "advance", "spread"):
            monkeypatch.setattr(kernel, name, inspected(getattr(kernel, name)))
    elif kernel.numba is None:
        pytest.skip("numba is not installed: pip install 'splitbrain[fast]'")
    return str(request.param)


def inspected(function: object) -> object:
    """The Python function that numba compiles."""
    return getattr(function, "py_func", function)


def interpreted(calls: Sequence[Call], model: Model) -> Outcome:
    problem, table = pose(calls, model)
    return Search(problem, table, Budget(NO_LIMITS)).run().renamed(problem.names)


def searched(
    calls: Sequence[Call], model: Model, limits: Limits = NO_LIMITS
) -> Outcome:
    found = FastSearch.prepare(calls, model)
    assert found is not None
    with np.errstate(over="ignore"):
        return found.run(Budget(limits))


@pytest.mark.parametrize("kind", KINDS)
def test_it_explores_the_same_configurations_and_finds_the_same(
    kind: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So little room that all of it has to grow, and so short turns that there are many.
    monkeypatch.setattr(fast, "FIRST_PLACES", 4)
    monkeypatch.setattr(fast, "FIRST_ROOM", 2)
    monkeypatch.setattr(fast, "NODES_PER_TURN", 3)
    model = MODELS[kind].build("")

    # Arrays are slow in plain Python, which only has to show what numba makes of it.
    examples = FEWER if how == "compiled" else settings(max_examples=EXAMPLES // 10)

    @examples
    @given(histories(kind, steps=40))
    def check(history: History) -> None:
        for calls in partition(history, model).values():
            expected = interpreted(calls, model)
            outcome = searched(calls, model)
            assert outcome.linearizable is expected.linearizable, how
            assert outcome.configurations == expected.configurations
            assert outcome.reached == expected.reached
            assert outcome.stuck == expected.stuck
            assert set(outcome.states) == set(expected.states)
            assert len(outcome.partials) == len(expected.partials)
            if outcome.linearizable:
                assert is_linearization(outcome.order, calls, model)

    check()


@needs_numba
@pytest.mark.parametrize("planted", [False, True])
@pytest.mark.parametrize("crash", [0.0, 0.02])
def test_long_histories_come_out_the_same(planted: bool, crash: float) -> None:
    for seed in range(3):
        shape = Shape("cas-register", 400, 5, crash=crash, planted=planted, seed=seed)
        (calls,) = partition(History(generate(shape)), CasRegister()).values()
        expected = interpreted(calls, CasRegister())
        outcome = searched(calls, CasRegister())
        assert outcome.linearizable is expected.linearizable is not planted
        assert outcome.configurations == expected.configurations
        if outcome.linearizable:
            assert is_linearization(outcome.order, calls, CasRegister())
        else:
            assert set(outcome.states) == set(expected.states)


HARD = Shape("cas-register", 20_000, 100)
"""A million configurations and more."""


@needs_numba
def test_the_limit_of_time_is_kept_to_within_a_second() -> None:
    (calls,) = partition(History(generate(HARD)), CasRegister()).values()
    searched(calls[:20], CasRegister())  # compiles
    begun_s = time.process_time()
    budget = Budget(Limits(time_s=0.3))
    found = FastSearch.prepare(calls, CasRegister())
    assert found is not None
    outcome = found.run(budget)
    assert outcome.linearizable is None
    assert "time limit" in outcome.limit
    assert outcome.reached > 0
    # Processor time: the clock also counts what a busy machine does meanwhile.
    assert time.process_time() - begun_s < 1.3


@needs_numba
def test_the_limit_of_memory_is_kept_before_room_is_made() -> None:
    (calls,) = partition(History(generate(HARD)), CasRegister()).values()
    outcome = searched(calls, CasRegister(), Limits(memory_mb=20, time_s=60))
    assert outcome.linearizable is None
    assert "memory limit" in outcome.limit


def test_it_leaves_to_python_what_has_too_many_states_or_open_calls() -> None:
    many_states = Shape("kv", 2000, 3)
    model = MODELS["kv"].build("")
    (calls,) = partition(History(generate(many_states)), model).values()
    assert FastSearch.prepare(calls, model) is None
    crowd = Shape("cas-register", 1000, fast.WIDTH_MAX + 1)
    (calls,) = partition(History(generate(crowd)), CasRegister()).values()
    assert FastSearch.prepare(calls, CasRegister()) is None
    outcome, algorithm = handover.search_fast(
        calls, CasRegister(), Budget(Limits(time_s=0.1)), "always"
    )
    assert algorithm == handover.PLAIN
    assert outcome.linearizable is not False


@needs_numba
def test_a_hard_search_is_handed_over_and_an_easy_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handover, "handover_after", lambda: 2000)
    for shape, algorithm in (
        (Shape("cas-register", 1000, 5), handover.PLAIN),
        (Shape("cas-register", 5000, 20), handover.COMPILED),
    ):
        checker = LinearizableChecker(CasRegister(), explain_plan=True)
        result = checker.check(History(generate(shape)), NO_LIMITS)
        assert result.verdict is Verdict.VALID
        assert result.stats["algorithms"] == {algorithm: 1}
        assert algorithm in str(result.stats["plan"])
    never = LinearizableChecker(CasRegister(), compiled="never")
    result = never.check(History(generate(shape)), NO_LIMITS)
    assert result.stats["algorithms"] == {handover.PLAIN: 1}


def test_without_numba_python_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "is_installed", lambda: False)
    checker = LinearizableChecker(CasRegister(), compiled="always")
    history = History(generate(Shape("cas-register", 200, 5)))
    result = checker.check(history, NO_LIMITS)
    assert result.stats["algorithms"] == {handover.PLAIN: 1}
