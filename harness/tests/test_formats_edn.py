"""EDN as a notation: what reads, what writes, what is refused."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.history import HistoryError
from harness.history.formats import edn
from harness.history.formats.edn import Char, Keyword, Set, Symbol, Tagged


def _read_set(elements: set[int | str]) -> Set:
    read = edn.loads(edn.dumps(elements))
    assert isinstance(read, Set)
    return read


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.from_regex(r"[a-zA-Z][a-zA-Z0-9*+!_?.-]*(/[a-z]+)?", fullmatch=True)
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.fractions()
    | TEXT
    | NAMES.map(Keyword)
    | NAMES.filter(lambda name: name not in {"nil", "true", "false"}).map(Symbol)
    | st.characters(exclude_categories=["Cs", "C", "Z"]).map(Char)
    | st.sampled_from("\n\r \t\f\b").map(Char)
)
KEYS = st.integers() | TEXT | NAMES.map(Keyword)
VALUES: st.SearchStrategy[Any] = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(KEYS, inner, max_size=5)
        | st.sets(st.integers() | TEXT, max_size=5).map(_read_set)
        | st.tuples(NAMES.filter(lambda n: "." not in n), inner).map(
            lambda pair: Tagged(*pair)
        )
    ),
    max_leaves=20,
)


def kinds(value: Any) -> Any:
    """The classes inside a value, which == doesn't see."""
    if isinstance(value, list):
        return [type(value), *map(kinds, value)]
    if isinstance(value, dict):
        return [(type(k), kinds(v)) for k, v in value.items()]
    if isinstance(value, Tagged):
        return kinds(value.value)
    return type(value)


@given(VALUES)
def test_what_is_written_reads_back_as_the_same_value_of_the_same_class(
    value: Any,
) -> None:
    back = edn.loads(edn.dumps(value))
    assert back == value
    assert kinds(back) == kinds(value)


@given(VALUES)
def test_written_text_stays_on_one_line(value: Any) -> None:
    assert "\n" not in edn.dumps(value)
    assert "\r" not in edn.dumps(value)


@given(st.text() | st.text(alphabet='[](){}#_"\\;:,. \n01aN/Mu+-'))
@settings(max_examples=5 * settings().max_examples)
def test_any_text_reads_or_is_refused_with_a_history_error(text: str) -> None:
    try:
        value = edn.loads(text)
    except HistoryError:
        return
    assert edn.loads(edn.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nil", None),
        ("[true false]", [True, False]),
        ("(1 2)", [1, 2]),
        ("[1,2,,3]", [1, 2, 3]),
        ("1N", 1),
        ("-17", -17),
        ("+17", 17),
        ("1.5M", Decimal("1.5")),
        ("2/4", Fraction(1, 2)),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (":a.b/c-d?", "a.b/c-d?"),
        ("+", "+"),
        ("-", "-"),
        ("...", "..."),
        (r"[\a \newline \u0041 \o101 \( \, \\]", ["a", "\n", "A", "A", "(", ",", "\\"]),
        (r'"tab\t quote\" back\\ \u00e9 \101"', 'tab\t quote" back\\ é A'),
        (r'"\ud83d\ude00"', "\U0001f600"),
        ('"two\nlines"', "two\nlines"),
        ("[1 ; a comment ] \n 2]", [1, 2]),
        ("[1 #_ 2 3]", [1, 3]),
        ("[#_ #_ 1 2 3]", [3]),
        ("[#_ [1 #_ 2 {:a 3}] #_:x]", []),
        ("#{3 1 2}", [1, 2, 3]),
        ("{:a {:b [1]}}", {"a": {"b": [1]}}),
        ("{[1 2] 3 #{4} 5 {6 7} 8}", {(1, 2): 3, frozenset({4}): 5}),
        ('#inst "2026"', Tagged("inst", "2026")),
        ("[#_ #inst 1 2]", [2]),
        ("#jepsen.history.Op{:index 1}", {"index": 1}),
        ("[[:append 1 2]\n [:r 1 nil]]", [["append", 1, 2], ["r", 1, None]]),
    ],
)
def test_every_notation_reads_as_documented(text: str, value: Any) -> None:
    read = edn.loads(text)
    if isinstance(value, dict) and len(value) != len(read):
        assert {k: read[k] for k in value} == value
    else:
        assert read == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "0 values"),
        ("1 2", "2 values"),
        ("[1 2", "ends inside of a value"),
        ("\n\n[1\n2", ":1: the text ends inside of what begins in line 1"),
        ("[1\n\n2]]", ":3: ']' closes nothing"),
        ("(1]", "']' closes nothing"),
        ("{:a}", "no value"),
        ("{:a 1 :a 2}", "same key twice"),
        ("#{1 1}", "same element twice"),
        ("#{[1] [1]}", "same element twice"),
        ('"abc', "doesn't end"),
        (r'"\q"', "no escape"),
        (r'"\ud83d"', "surrogate"),
        (r"\abc", "no character"),
        (r"\uD800", "surrogate"),
        ("1/0", "not a number"),
        ("017a", "not a number"),
        ("9" * 5000, "not a number"),
        ("1e" + "9" * 30 + "M", "not a number"),
        ("##NotANumber", "neither a set nor a tag"),
        ("#", "neither"),
        ("#_", "ends inside"),
        ("[#_]", "closes nothing"),
        ("[#inst]", "closes nothing"),
        (":", "not EDN"),
        ("\x00", "not EDN"),
        ("[" * 100_000, "deep"),
        ("#_ " * 100_000, "deep"),
        ("#a " * 100_000, "deep"),
    ],
)
def test_what_is_not_edn_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(HistoryError) as caught:
        edn.loads(text, source="x.edn")
    assert reason in str(caught.value)
    assert str(caught.value).startswith("x.edn:")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "text",
    [" " * 1_000_000, '"' + "\\" * 1_000_000, ";" * 1_000_000, "#" * 1_000_000,
     '"' * 1_000_001, "a" * 1_000_000 + "\x00", ("[" * 100 + "]" * 100) * 5_000],
    ids=["blanks", "backslashes", "comment", "hashes", "quotes", "name", "nests"],
)  # fmt: skip
def test_no_text_makes_the_reader_backtrack(text: str) -> None:
    # A quadratic reader would take hours, so any end to this will do.
    with pytest.raises(HistoryError):
        edn.loads(text)


@pytest.mark.parametrize(
    "value", [object(), Decimal("NaN"), Decimal("Infinity"), [[b"bytes"]]]
)
def test_what_edn_has_no_notation_for_is_not_written(value: Any) -> None:
    with pytest.raises(HistoryError, match="no notation"):
        edn.dumps(value)


def test_a_value_nested_too_deep_is_not_written() -> None:
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    with pytest.raises(HistoryError, match="deep"):
        edn.dumps(value)


def test_equal_sets_read_as_equal_lists_in_whatever_order_they_are_written() -> None:
    assert edn.loads("#{:b 1 [2 3] :a}") == edn.loads("#{[2 3] :a :b 1}")


def test_keywords_compare_as_strings_and_are_written_as_keywords() -> None:
    assert edn.loads("[:r :x nil]") == ["r", "x", None]
    assert edn.dumps(edn.loads("[:r :x nil]")) == "[:r :x nil]"
    assert edn.dumps(["r", Keyword("not a keyword"), Keyword("")]) == (
        '["r" "not a keyword" ""]'
    )


def test_values_can_come_in_pieces_and_know_the_line_they_began_in() -> None:
    reader = edn.Reader("x.edn", unwrap=False)
    pieces = enumerate(["{:a", "1} {:b 2}", "", "3 4"], start=1)
    assert list(reader.values(pieces)) == [
        (1, {"a": 1}), (2, {"b": 2}), (4, 3), (4, 4),
    ]  # fmt: skip


@pytest.mark.parametrize("opening", ["[", "("])
def test_a_text_that_is_one_vector_can_give_its_elements(opening: str) -> None:
    closing = {"[": "]", "(": ")"}[opening]
    lines = ["; all of it", opening + "{:a 1}", "{:b", "2}", closing]
    reader = edn.Reader("x.edn", unwrap=True)
    assert list(reader.values(enumerate(lines, start=1))) == [
        (2, {"a": 1}), (3, {"b": 2}),
    ]  # fmt: skip


def test_an_unwrapped_vector_must_end() -> None:
    reader = edn.Reader("x.edn", unwrap=True)
    with pytest.raises(HistoryError, match=r"x\.edn:2: the text ends inside"):
        list(reader.values([(1, "[{:a 1}"), (2, "{:b 2}")]))
