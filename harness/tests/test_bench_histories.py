"""Histories made for benchmarks: well formed, and with the verdict they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness import registry
from harness.bench.histories import (
    KINDS,
    CannotPlantError,
    Shape,
    Timetable,
    generate,
    overwritten,
)
from harness.history import NO_COMPLETION, History
from harness.verdict import CheckResult, Limits, Verdict

SHAPES = st.builds(
    Shape,
    kind=st.sampled_from(KINDS),
    calls=st.integers(1, 120),
    clients=st.integers(1, 6),
    keys=st.integers(1, 4),
    crash=st.sampled_from([0.0, 0.05, 0.2]),
    think=st.sampled_from([0.0, 0.05, 3.0]),
    seed=st.integers(0, 2**32),
)

UNHURRIED = settings(deadline=None)
"""The first example imports the checker."""


def judged(history: History, kind: str) -> CheckResult:
    checker = registry.find("checker", "linearizable").factory({"model": kind})
    # A busy machine is no failure, and the first long search waits for a compiler.
    result: CheckResult = checker.check(history, Limits(time_s=300))
    return result


def planted(shape: Shape) -> History:
    spoilt = Shape(**{**shape.__dict__, "planted": True})
    try:
        return History(generate(spoilt))
    except CannotPlantError:
        assume(False)
        raise


@given(SHAPES)
@UNHURRIED
def test_every_call_is_there_and_events_pair_up_in_order_of_time(shape: Shape) -> None:
    history = History(generate(shape))
    assert len(history) == 2 * shape.calls
    assert len(list(history.calls())) == shape.calls
    assert NO_COMPLETION not in history.completion
    assert all(a.time <= b.time for a, b in zip(history, history.ops[1:], strict=False))


@given(SHAPES)
@UNHURRIED
def test_a_process_never_returns_after_an_info(shape: Shape) -> None:
    ended: set[object] = set()
    for op in generate(shape):
        assert op.process not in ended, shape
        if op.type == "info":
            ended.add(op.process)


@given(SHAPES)
@UNHURRIED
def test_no_more_operations_are_in_flight_than_there_are_clients(shape: Shape) -> None:
    in_flight = 0
    for op in generate(shape):
        in_flight += 1 if op.type == "invoke" else -1
        assert in_flight <= shape.clients


@given(SHAPES)
@UNHURRIED
def test_a_history_is_linearizable_by_construction(shape: Shape) -> None:
    result = judged(History(generate(shape)), shape.model)
    assert result.verdict is Verdict.VALID or result.vacuous, f"{shape}: {result}"


@given(SHAPES)
@settings(UNHURRIED, max_examples=settings().max_examples // 2)
def test_a_planted_violation_is_found(shape: Shape) -> None:
    result = judged(planted(shape), shape.model)
    assert result.verdict is Verdict.INVALID, f"{shape}: {result}"


@given(SHAPES)
@UNHURRIED
def test_planting_changes_the_answer_of_one_read_and_nothing_else(shape: Shape) -> None:
    spoilt = planted(shape)
    different = [(a, b) for a, b in zip(generate(shape), spoilt, strict=True) if a != b]
    [(read, _)] = different
    assert (read.f, read.type) in {("read", "ok"), ("dequeue", "ok")}


@given(SHAPES)
@UNHURRIED
def test_the_same_shape_gives_the_same_history(shape: Shape) -> None:
    assert generate(shape) == generate(shape)


def test_another_seed_gives_another_history() -> None:
    assert generate(Shape("register", 50, 3, seed=1)) != generate(
        Shape("register", 50, 3, seed=2)
    )


def test_registers_write_every_value_once() -> None:
    for kind in ("register", "kv"):
        ops = generate(Shape(kind, 500, 5, keys=3))
        written = [op.value for op in ops if op.f == "write" and op.type == "invoke"]
        assert len(written) == len(set(written)) > 100


def test_a_large_history_has_a_stale_read_planted_and_not_a_foreign_value() -> None:
    shape = Shape("register", 2000, 5, planted=True)
    history = History(generate(shape))
    written = {op.value for op in history if op.f == "write"}
    assert all(
        op.value in written
        for op in history
        if op.f == "read" and op.type == "ok" and op.value is not None
    )
    assert judged(history, "register").verdict is Verdict.INVALID


def test_crashed_operations_are_info_and_some_of_them_took_effect() -> None:
    history = History(generate(Shape("register", 2000, 5, crash=0.1)))
    lost = {op.value for op in history if op.type == "info" and op.f == "write"}
    seen = {op.value for op in history if op.type == "ok" and op.f == "read"}
    assert lost & seen
    assert lost - seen


def test_a_history_without_a_completed_read_has_no_place_for_a_violation() -> None:
    shape = Shape("register", 5, 1, crash=1.0, planted=True)
    with pytest.raises(CannotPlantError, match="no read completes"):
        generate(shape)


def test_a_write_counts_as_overwritten_only_by_one_that_began_after_it_ended() -> None:
    times = Timetable(
        process=np.array([0, 1, 2]),
        invoked=np.array([0.0, 1.0, 4.0]),
        returned=np.array([2.0, 3.0, 5.0]),
        effect=np.array([1.5, 2.5, 4.5]),
        crashed=np.zeros(3, bool),
    )
    writes = np.array([0, 1, 2])
    assert overwritten(writes, times, before=10.0) == 1
    assert overwritten(writes, times, before=3.5) is None
    assert overwritten(writes, times, before=0.5) is None
