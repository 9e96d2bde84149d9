"""Orders that are shown: each is checked against model, real time and brute force."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.linearizability import orders
from checkers.linearizability.budget import Budget
from checkers.linearizability.calls import NEVER, partition
from checkers.linearizability.models import MODELS
from checkers.linearizability.oracle import first_impossible, is_linearization
from checkers.linearizability.specification import ILLEGAL
from checkers.linearizability.windows import clip
from checkers.linearizable import LinearizableChecker
from checkers.tests.histories import FEWER, forgetting, histories, history, with_repeats
from checkers.tests.test_linearizability_definition import FORGOTTEN, KINDS_OF
from checkers.tests.test_linearizability_models import QUEUES
from harness.verdict import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.calls import Call
    from checkers.linearizability.specification import Model, State
    from harness.history import History

STALE = """
    0 invoke write 1
    0 ok     write 1
    1 invoke write 2
    2 invoke write 3
    1 ok     write 2
    0 invoke read
    0 ok     read 1
    2 ok     write 3
"""


def before(calls: Sequence[Call], model: Model, stuck: Call) -> list[Call]:
    """The calls up to the return of `stuck`, and without it."""
    prefix = clip(calls, model, stuck.returned)
    return [call for call in prefix if call.position != stuck.position]


def ends(calls: Sequence[Call], model: Model, stuck: Call) -> set[State]:
    """By brute force: the states of all orders of what returned before `stuck` did.

    They may hold calls that were open then, but for `stuck`.
    """
    known = before(calls, model, stuck)
    found: set[State] = set()
    seen: set[tuple[frozenset[Call], State]] = set()
    todo = [(frozenset(known), model.initial)]
    while todo:
        left, state = todo.pop()
        if (left, state) in seen:
            continue
        seen.add((left, state))
        if all(call.returned == NEVER for call in left):
            found.add(state)
        for call in left:
            if any(other.returned < call.invoked for other in left):
                continue
            after = model.step(state, call.operation)
            if after is not ILLEGAL:
                todo.append((left - {call}, after))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_orders_prove_what_they_are_shown_for(name: str) -> None:
    model = MODELS[name].build("")

    @FEWER
    @given(st.sampled_from(KINDS_OF[name]).flatmap(histories), st.booleans(), FORGOTTEN)
    def compare(judged: History, few: bool, forgotten: set[int]) -> None:
        if few and name in QUEUES:
            judged = with_repeats(judged)
        judged = forgetting(judged, forgotten)
        for calls in partition(judged, model).values():
            check(list(calls), model)

    compare()


def check(calls: list[Call], model: Model) -> None:
    """Compare what is found with the definition."""
    first = first_impossible(calls, model)
    found = orders.find(calls, model, Budget(Limits()))
    assert found is not None
    if first is None:
        (order,) = found.orders
        assert found.stuck is None
        assert is_linearization(order, calls, model)
        return
    assert found.stuck is not None
    assert calls[found.stuck] == first
    reached: set[State] = set()
    for order in found.orders:
        # An order as long as any: nothing is missing that returned before.
        prefix = before(calls, model, first)
        place = {call.position: n for n, call in enumerate(prefix)}
        named = [place[calls[n].position] for n in order]
        assert is_linearization(named, prefix, model)
        state = model.initial
        for n in order:
            state = model.step(state, calls[n].operation)
        assert model.step(state, first.operation) is ILLEGAL
        reached.add(state)
    possible = ends(calls, model, first)
    assert reached <= possible
    assert len(reached) == len(found.orders) == min(found.states, orders.ORDERS_MAX)
    assert found.states == len(possible)


def test_a_stale_read_is_held_against_each_value_that_was_possible() -> None:
    checker = LinearizableChecker(MODELS["register"].build(""))
    (shown,) = checker.orders(history(STALE), None, Limits())
    assert shown.stuck == 5
    assert {order[-1].after for order in shown.orders} == {"2", "3"}
    assert shown.initial == "nil"


@pytest.mark.parametrize(
    ("name", "initial", "text"),
    [
        ("register", "", "nil"),
        ("cas-register", '{"a": [1, true]}', '{"a": [1, true]}'),
        ("kv", "", '""'),
        ("multi-register", "{:x 1, :y 2}", '"x" = 1, "y" = 2'),
        ("multi-register", "", "all nil"),
        ("mutex", "true", "held"),
        ("mutex", "", "free"),
        ("fenced-lock", "", "free"),
        ("fenced-lock", "7", "free, last token 7"),
        ("fifo-queue", "[3, 1, 2]", "[3, 1, 2]"),
        ("stack", "", "empty"),
        ("set", "[3, 1, 2]", "{1, 2, 3}"),
        ("gset", '["b", 10, "a", 9]', '{9, 10, "a", "b"}'),
        ("unordered-queue", "[2, 1, 2]", "{1, 2, 2}"),
        ("priority-queue", "", "empty"),
        ("counter", "-3", "-3"),
    ],
)
def test_states_are_shown_as_the_field_writes_them(
    name: str, initial: str, text: str
) -> None:
    model = MODELS[name].build(initial)
    assert model.shows(model.initial) == text


def test_of_many_items_both_ends_are_shown() -> None:
    model = MODELS["set"].build(str(list(range(1000))))
    shown = model.shows(model.initial)
    assert shown == (
        "{0, 1, 2, 3, 4, 5, ... 988 more ..., 994, 995, 996, 997, 998, 999}"
    )
