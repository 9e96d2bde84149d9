"""Searches with many calls that nobody saw return, against the definition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from checkers.linearizability import learning
from checkers.linearizability import search as searches
from checkers.linearizability.budget import Budget
from checkers.linearizability.calls import NEVER, Call
from checkers.linearizability.containers import EMPTY, UNKNOWN
from checkers.linearizability.models import MODELS
from checkers.linearizability.oracle import is_linearization, linearizable
from checkers.linearizability.search import Search, pose, search
from checkers.linearizability.specification import Operation
from checkers.tests.histories import FEWER, MANY
from harness.verdict import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkers.linearizability.specification import Model

VALUES = (None, 1, 2)
REGISTER = [
    *(Operation("read", None, value) for value in VALUES),
    *(Operation("write", value) for value in VALUES),
    *(Operation("cas", a, b) for a in VALUES for b in VALUES),
]
TEXTS = [
    *(Operation("read", None, text) for text in ("", "a", "ab", "ba", "aba")),
    *(Operation("append", text) for text in ("a", "b", "ba")),
    *(Operation("write", text) for text in ("", "a", "ab")),
    *(Operation("cas", a, b) for a, b in (("a", ""), ("ab", "a"), ("b", "ab"))),
]
SETS = [
    *(Operation(f, item) for f in ("add", "remove") for item in VALUES),
    *(Operation("contains", item, held) for item in VALUES for held in (True, False)),
]
QUEUES = [
    *(Operation("enqueue", item) for item in VALUES[1:]),
    *(Operation("dequeue", None, item) for item in (*VALUES[1:], EMPTY, UNKNOWN)),
]
OPERATIONS = {
    "cas-register": REGISTER,
    "cas-register with refusals": [
        *REGISTER,
        *(Operation("cas-mismatch", value, 0) for value in VALUES),
    ],
    "kv": TEXTS,
    "kv with refusals": [
        *TEXTS,
        *(Operation("cas-mismatch", text, "b") for text in ("", "a", "ab")),
    ],
    "mutex": [Operation("acquire"), Operation("release")],
    "set": SETS,
    "set with reads": [
        *SETS,
        *(
            Operation("read", None, frozenset(held))
            for held in ((), (1,), (2,), (1, 2), (None, 1, 2))
        ),
        *(Operation(f, 1, done) for f in ("add", "remove") for done in (True, False)),
    ],
    "fifo-queue": QUEUES,
    "unordered-queue": QUEUES,
    "priority-queue": QUEUES,
}


@st.composite
def mostly_crashed(draw: st.DrawFn, kind: str, calls_max: int = 9) -> list[Call]:
    """Calls of few different operations, of which two in three never return."""
    model = model_of(kind)
    drawn = draw(
        st.lists(
            st.tuples(
                st.sampled_from(OPERATIONS[kind]),
                st.integers(0, 15),
                st.integers(0, 6),
                st.integers(0, 2),
            ),
            min_size=2,
            max_size=calls_max,
        )
    )
    marks = []
    for n, (operation, start, length, luck) in enumerate(drawn):
        marks.append((start, 0, n))
        has_to = model.read_only(operation) or operation.result is EMPTY
        if (not luck or has_to) and operation.result is not UNKNOWN:
            marks.append((start + length, 1, n))
    at = {(n, end): place for place, (_, end, n) in enumerate(sorted(marks))}
    calls = [
        Call(operation, at[n, 0], at.get((n, 1), NEVER), at[n, 0])
        for n, (operation, *_) in enumerate(drawn)
    ]
    return sorted(calls, key=lambda call: call.invoked)


def model_of(kind: str) -> Model:
    return MODELS[kind.partition(" ")[0]].build("")


def agrees_with_the_definition(calls: Sequence[Call], model: Model) -> None:
    expected = linearizable(calls, model)
    event(f"linearizable: {expected}")
    problem, table = pose(calls, model)
    plain = Search(problem, table, Budget(Limits())).run().renamed(problem.names)
    learned = learning.LearningSearch(problem, table, Budget(Limits()), None).run()
    assert learned.linearizable is expected
    assert learned.reached == plain.reached
    for merge in (True, False):
        found = search(calls, model, Budget(Limits()), merge=merge)
        assert found.linearizable is expected
        assert found.reached == plain.reached
        assert found.stuck == plain.stuck
        if expected:
            assert is_linearization(found.order, calls, model)


@pytest.mark.parametrize("kind", OPERATIONS)
def test_histories_of_crashed_calls_are_decided_as_the_definition_says(
    kind: str,
) -> None:
    @MANY
    @given(mostly_crashed(kind))
    def check(calls: list[Call]) -> None:
        agrees_with_the_definition(calls, model_of(kind))

    check()


@pytest.mark.parametrize("kind", ["fifo-queue", "unordered-queue", "priority-queue"])
def test_queues_may_begin_with_something(kind: str) -> None:
    @FEWER
    @given(mostly_crashed(kind, 7), st.lists(st.sampled_from(VALUES[1:]), max_size=2))
    def check(calls: list[Call], held: list[int]) -> None:
        model = MODELS[kind].build(str(held))
        expected = linearizable(calls, model)
        event(f"linearizable: {expected}")
        found = search(calls, model, Budget(Limits()))
        problem, table = pose(calls, model, merge=False)
        plain = Search(problem, table, Budget(Limits())).run().renamed(problem.names)
        assert found.linearizable is expected
        assert (found.reached, found.events) == (plain.reached, plain.events)
        assert found.stuck == plain.stuck
        if expected:
            assert is_linearization(found.order, calls, model)

    check()


@pytest.mark.parametrize("kind", [k for k in OPERATIONS if "queue" not in k])
def test_turns_and_windows_change_no_verdict(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A turn for each configuration, and windows from the smallest on.
    monkeypatch.setattr(learning, "NODES_PER_BUDGET_CHECK", 1)
    monkeypatch.setattr(searches, "FIRST_WINDOW", 1)

    @MANY
    @given(mostly_crashed(kind))
    def check(calls: list[Call]) -> None:
        agrees_with_the_definition(calls, model_of(kind))

    check()
