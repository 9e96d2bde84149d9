"""Zones and search against the definition, on random and mutated histories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given

from checkers.linearizability import accesses, zones
from checkers.linearizability.budget import Budget
from checkers.linearizability.calls import NEVER, Call, partition
from checkers.linearizability.models import MODELS, CasRegister, Register
from checkers.linearizability.oracle import is_linearization, linearizable
from checkers.linearizability.search import search
from checkers.linearizability.specification import ILLEGAL, Operation
from checkers.linearizable import LinearizableChecker
from checkers.tests.histories import FEWER, MANY, histories
from harness.history import History, Op
from harness.verdict import Limits, Verdict, where_vacuous

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.specification import Model

NO_LIMITS = Limits()
KINDS = (
    "register",
    "unique",
    "cas-register",
    "kv",
    "mutex",
    "fenced-lock",
    "multi-register",
)


def model_of(kind: str) -> Model:
    return MODELS["register" if kind == "unique" else kind].build("")


def agree_with_the_definition(history: History, model: Model) -> bool:
    """Compare search, merged and not, with the oracle on every key."""
    everything = True
    for calls in partition(history, model).values():
        expected = linearizable(calls, model)
        outcome = search(calls, model, Budget(NO_LIMITS))
        plain = search(calls, model, Budget(NO_LIMITS), merge=False)
        assert outcome.linearizable is expected, calls
        assert plain.linearizable is expected, calls
        if expected:
            assert is_linearization(outcome.order, calls, model), calls
        everything = everything and expected
    event(f"linearizable: {everything}")
    return everything


@MANY
@given(histories("unique", keys=2, steps=34))
def test_zones_search_and_the_definition_agree_on_unique_writes(
    history: History,
) -> None:
    model = Register()
    expected = agree_with_the_definition(history, model)
    table = accesses.columns(history, model)
    outcome = zones.check(table)
    assert len(outcome.decided) == len(table.keys)
    assert (not outcome.violations) is expected
    for n, key in enumerate(table.keys):
        calls = partition(history, model, {key})[key]
        assert (n not in outcome.violations) is linearizable(calls, model)


@MANY
@given(histories("register", keys=3, steps=40))
def test_the_checker_is_as_good_as_its_parts_on_several_keys(history: History) -> None:
    model = Register()
    good = [linearizable(calls, model) for calls in partition(history, model).values()]
    result = LinearizableChecker(model).check(history, NO_LIMITS)
    result = where_vacuous(result, Verdict.VALID)
    assert result.verdict is (Verdict.VALID if all(good) else Verdict.INVALID)
    assert len(result.anomalies) == good.count(False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_correct_object_is_never_convicted(kind: str) -> None:
    @FEWER
    @given(histories(kind, keys=1 if kind == "multi-register" else 2, lies=False))
    def check(history: History) -> None:
        checker = LinearizableChecker(model_of(kind))
        result = checker.check(history, NO_LIMITS)
        assert where_vacuous(result, Verdict.VALID).verdict is Verdict.VALID

    check()


# Metamorphic: what must not change a verdict


def verdict(history: History) -> Verdict:
    checker = LinearizableChecker(CasRegister())
    return where_vacuous(checker.check(history, NO_LIMITS), Verdict.VALID).verdict


def renamed(history: History, *, offset: int) -> History:
    """The same history with other values, as texts, and other process numbers."""

    def rename(value: object) -> object:
        if isinstance(value, list):
            return [rename(item) for item in value]
        return None if value is None else f"v{value}"

    return History(
        [
            Op(
                op.index,
                op.time,
                op.process + offset if isinstance(op.process, int) else op.process,
                op.type,
                op.f,
                rename(op.value),
                f"key {op.key}",
            )
            for op in history
        ]
    )


@FEWER
@given(histories("cas-register", keys=2, steps=40))
def test_renaming_values_keys_and_processes_changes_no_verdict(
    history: History,
) -> None:
    assert verdict(renamed(history, offset=1000)) is verdict(history)


@FEWER
@given(histories("cas-register", steps=40))
def test_a_read_that_fits_at_the_end_keeps_a_history_linearizable(
    history: History,
) -> None:
    model = CasRegister()
    calls: Sequence[Call] = partition(history, model).get(None, [])
    outcome = search(calls, model, Budget(NO_LIMITS), merge=False)
    if not outcome.linearizable:
        return
    state = model.initial
    for i in outcome.order:
        state = model.step(state, calls[i].operation)
    assert state is not ILLEGAL
    n = len(history)
    more = [Op(n, 0, 999, "invoke", "read"), Op(n + 1, 0, 999, "ok", "read", state)]
    assert verdict(History([*history, *more])) is Verdict.VALID
    wrong = [Op(n, 0, 999, "invoke", "read"), Op(n + 1, 0, 999, "ok", "read", "never")]
    assert verdict(History([*history, *wrong])) is Verdict.INVALID


@FEWER
@given(histories("cas-register", steps=40))
def test_dropping_a_read_never_convicts(history: History) -> None:
    model = CasRegister()
    calls: Sequence[Call] = partition(history, model).get(None, [])
    reads = [call for call in calls if call.operation.f == "read"]
    if not reads or not search(calls, model, Budget(NO_LIMITS)).linearizable:
        return
    for read in reads:
        rest = [call for call in calls if call is not read]
        assert search(rest, model, Budget(NO_LIMITS)).linearizable


def test_the_oracle_knows_real_time() -> None:
    write = Call(Operation("write", 1), 0, 1, 0)
    read = Call(Operation("read", None, None), 2, 3, 2)
    assert not linearizable([write, read], Register())
    assert linearizable([write._replace(returned=NEVER), read], Register())
    assert linearizable([write, read._replace(invoked=0)], Register())
