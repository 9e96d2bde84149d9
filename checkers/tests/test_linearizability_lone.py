"""A completion without its invocation was invoked nobody knows when.

Foreign histories hold them, and reading them as operations of a single instant would
convict the correct.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.tests.histories import FEWER, MANY, forgetting, histories
from checkers.tests.test_linearizability_algorithms import agree_with_the_definition
from checkers.tests.test_linearizability_models import KINDS, model_of, verdict
from harness.history import History, Op
from harness.verdict import Verdict


@pytest.mark.parametrize("kind", KINDS)
def test_forgetting_invocations_never_convicts_a_correct_object(kind: str) -> None:
    @FEWER
    @given(histories(kind, lies=False), st.sets(st.integers(0, 30)))
    def forget(complete: History, forgotten: set[int]) -> None:
        judged = forgetting(complete, forgotten)
        assert verdict(judged, model_of(kind)) is not Verdict.INVALID, judged.ops

    forget()


@MANY
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([None, 1, 2])),
        min_size=2,
        max_size=4,
    ),
    st.permutations([1, 2, 3]),
    st.data(),
)
def test_where_nothing_tells_of_invocations_zones_are_those_of_the_definition(
    reads: list[tuple[int, int | None]], written: list[int], data: st.DataObject
) -> None:
    """Many of the calls may have begun at the same time: with the history."""
    told = [("read", *read) for read in reads]
    for value in written:
        place = data.draw(st.integers(0, len(told)))
        told.insert(place, ("write", data.draw(st.integers(0, 3)), value))
    ops = [Op(i, i, by, "ok", f, value) for i, (f, by, value) in enumerate(told)]
    judged, model = History(ops, strict=False), model_of("register")
    right = agree_with_the_definition(judged, model)
    assert (verdict(judged, model) is Verdict.VALID) is right


def test_a_lone_write_may_have_begun_before_everything() -> None:
    """The write of 2 may have come before that of 1, which was answered first."""
    lone = [
        Op(0, 0, 0, "ok", "write", 1),
        Op(1, 1, 1, "ok", "write", 2),
        Op(2, 2, 2, "ok", "read", 1),
    ]
    history = History(lone, strict=False)
    for kind in ("register", "cas-register"):
        assert verdict(history, model_of(kind)) is Verdict.VALID
    lone[2].value = 3
    assert verdict(History(lone, strict=False), model_of("register")) is (
        Verdict.INVALID
    )


def test_what_began_between_two_events_began_after_neither() -> None:
    """The enqueue of 1 began when its process was idle: perhaps before 1 came out."""
    lone = [
        Op(0, 0, 2, "invoke", "dequeue"),
        Op(1, 1, 0, "ok", "dequeue"),
        Op(2, 2, 2, "ok", "dequeue", 1),
        Op(3, 3, 0, "ok", "enqueue", 1),
    ]
    for kind in ("fifo-queue", "unordered-queue"):
        assert verdict(History(lone, strict=False), model_of(kind)) is Verdict.VALID
    # It began after that process was done with what it did before.
    lone[1], lone[2] = Op(1, 1, 2, "ok", "dequeue", 1), Op(2, 2, 0, "ok", "dequeue")
    for kind in ("fifo-queue", "unordered-queue"):
        assert verdict(History(lone, strict=False), model_of(kind)) is Verdict.INVALID


def test_an_open_pop_of_which_only_the_end_is_known_may_have_come_first() -> None:
    """It took 1 before the stack was found empty; the other one came too late."""
    ops = [
        Op(0, 0, 0, "invoke", "push", 1),
        Op(1, 1, 0, "ok", "push", 1),
        Op(2, 2, 0, "invoke", "pop"),
        Op(3, 3, 0, "ok", "pop"),
        Op(4, 4, 1, "invoke", "pop"),
        Op(5, 5, 2, "info", "pop"),
    ]
    assert verdict(History(ops, strict=False), model_of("stack")) is Verdict.VALID
    assert verdict(History(ops[:5], strict=False), model_of("stack")) is Verdict.INVALID


def test_even_what_may_have_begun_at_any_time_comes_after_the_initial_value() -> None:
    """A cas from nil comes before the write, which had returned when 2 was read."""
    ops = [
        Op(0, 0, 1, "invoke", "cas", [None, 2]),
        Op(1, 1, 2, "ok", "write", 1),
        Op(2, 2, 0, "invoke", "read"),
        Op(3, 3, 1, "ok", "cas", [None, 2]),
        Op(4, 4, 0, "ok", "read", 2),
    ]
    judged = History(ops, strict=False)
    assert verdict(judged, model_of("cas-register")) is Verdict.INVALID
    ops[4].value = 1
    judged = History(ops, strict=False)
    assert verdict(judged, model_of("cas-register")) is Verdict.VALID
