"""List-append with repeated elements and odd values, against the definitions."""

from __future__ import annotations

from hypothesis import assume, event, given
from hypothesis import strategies as st

from checkers import list_append
from checkers.tests import isolation_oracles as oracles
from checkers.tests.append_histories import lists, right_lists
from checkers.tests.append_oracles import as_text, with_unique_elements
from checkers.tests.histories import FEWER, MANY
from checkers.tests.isolation_histories import judge
from checkers.tests.test_isolation_definitions import ORDERS, oracle, show
from harness.history import History, Op
from harness.verdict import Verdict

ADYA = (
    "cursor-stability",
    "monotonic-view",
    "monotonic-snapshot-read",
    "consistent-view",
    "update-serializable",
)


@MANY
@given(lists(), st.sampled_from(sorted(ORDERS)))
def test_lists_of_whatever_values_are_valid_just_when_some_execution_explains_them(
    history: History, model: str
) -> None:
    result = judge(list_append.build({"consistency": model}), history)
    event(f"{model}: {result.verdict}, {result.stats.get('worlds', 0)} worlds")
    expected = Verdict.VALID if oracle(model)(as_text(history)) else Verdict.INVALID
    assert result.verdict is expected, show(history, result)


@FEWER
@given(lists(transactions=4, is_changed=False), st.sampled_from(ADYA))
def test_lists_are_free_of_phenomena_just_when_some_choice_of_writers_is(
    history: History, model: str
) -> None:
    """Reads aren't changed here: levels this weak say nothing of own appends."""
    result = judge(list_append.build({"consistency": model}), history)
    event(f"{model}: {result.verdict}, {result.stats.get('worlds', 0)} worlds")
    right = any(
        oracles.satisfies_adya(unique, model)
        for unique in with_unique_elements(as_text(history))
    )
    expected = Verdict.VALID if right else Verdict.INVALID
    assert result.verdict is expected or (
        right and "the order in which" in result.reason
    ), show(history, result)


@FEWER
@given(right_lists(), st.sampled_from(["strict-serializable", "snapshot-isolation"]))
def test_what_a_right_database_did_is_valid_however_often_clients_repeat_themselves(
    history: History, model: str
) -> None:
    result = judge(list_append.build({"consistency": model}), history)
    event(f"{result.verdict}")
    assert result.verdict is not Verdict.INVALID, show(history, result)


@MANY
@given(lists())
def test_an_append_is_lost_just_when_no_read_shows_it_from_some_read_on(
    history: History,
) -> None:
    result = judge(list_append.build({}), history)
    assume(not result.stats.get("worlds"))
    lost = result.stats["anomalies"].get("lost-append", 0)
    assert lost == lost_appends(as_text(history)), show(history, result)


def test_an_append_that_a_list_shows_twice_is_seen_wherever_it_stands() -> None:
    twice = [["append", "x", 1], ["r", "x", [1, 1]]]
    history = History(
        [
            Op(0, 0, 0, "invoke", "txn", [["append", "x", 1], ["r", "x", None]]),
            Op(1, 1, 0, "ok", "txn", twice),
            Op(2, 2, 0, "invoke", "txn", [["r", "x", None]]),
            Op(3, 3, 0, "ok", "txn", [["r", "x", [1]]]),
        ]
    )
    result = judge(list_append.build({}), history)
    assert result.verdict is Verdict.INVALID
    assert "lost-append" not in result.stats["anomalies"]


def lost_appends(history: History) -> int:
    """How many acknowledged appends are missing from some read on."""
    done = [
        (invoke.index, end.index, end.value)
        for invoke, end in history.calls()
        if end is not None and end.type == "ok"
    ]
    reads = [
        (start, end, key, value or [])
        for start, end, micro_ops in done
        for f, key, value in micro_ops
        if f == "r"
    ]
    lost = 0
    for _, returned, micro_ops in done:
        for f, key, element in micro_ops:
            if f == "append":
                mine = [read for read in reads if read[2] == key]
                shown = [end for _, end, _, value in mine if element in value]
                since = max([returned, *shown])
                lost += any(start > since for start, _, _, _ in mine)
    return lost
