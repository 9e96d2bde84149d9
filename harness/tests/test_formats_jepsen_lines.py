"""Lines read by regular expression, against the same lines read token by token."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from harness.history import HistoryError
from harness.history.formats import edn, jepsen_edn, load
from harness.history.formats.jepsen_lines import JepsenLines

INTEGERS = st.sampled_from(["0", "1", "-1", "12", "9" * 18, "nil"])
NUMBERS = st.sampled_from(
    ["-0", "007", "+3", "1N", "2.5", "1.", ".", "1e5", "1e400", "1/2", "9" * 19,
     "9" * 40, "1.5M", "-", "true", "x", "1.2.3", "1-2"]
)  # fmt: skip
SPACES = st.sampled_from([" ", " ", " ", ", ", ", ", ", "])
ODD_SPACES = st.sampled_from([",", "  ", ",,"])


@st.composite
def vectors(draw: st.DrawFn, depth: int = 2, odd: bool = False) -> str:
    """A vector of numbers and vectors."""
    numbers = NUMBERS if odd else INTEGERS
    inside = numbers if depth == 0 else st.one_of(numbers, vectors(depth - 1, odd))
    items = draw(st.lists(inside, max_size=3))
    space = draw(ODD_SPACES if odd and draw(st.booleans()) else SPACES)
    return f"[{space.join(items)}]"


@st.composite
def transactions(draw: st.DrawFn, heads: list[str]) -> str:
    """What a transaction did."""
    done = [
        f"[{draw(st.sampled_from(heads))} {draw(INTEGERS)} "
        f"{draw(st.one_of(INTEGERS, vectors(0)))}]"
        for _ in range(draw(st.integers(1, 3)))
    ]
    return f"[{draw(SPACES).join(done)}]"


FIELDS = {
    "index": INTEGERS,
    "time": INTEGERS,
    "process": st.sampled_from(["0", "1", "-1", ":nemesis"]),
    "type": st.sampled_from([":invoke", ":ok", ":info", ":fail"]),
    "f": st.sampled_from([":txn", ":txn", ":read", ":nil"]),
    "value": st.one_of(INTEGERS, vectors(), transactions([":append", ":r", ":w"])),
    "error": st.sampled_from(["nil", ":timeout"]),
    "node": st.sampled_from(["nil", '"n1"', '""']),
    "other": st.just("1"),
}
ODD_FIELDS = {
    "index": NUMBERS,
    "time": NUMBERS,
    "process": st.one_of(NUMBERS, st.sampled_from([":a.b", '"a"'])),
    "type": st.sampled_from([":odd", '"ok"', "ok"]),
    "f": st.sampled_from([":a/b", "read", "nil", '"txn"']),
    "value": st.one_of(
        NUMBERS,
        vectors(odd=True),
        transactions([":x", "append", ":r :w", ":r [:w 1]", "[:r"]),
        st.sampled_from(
            ['"a"', ":a", "{:a 1}", "#{1}", "(1 2)", "[[[[[1]]]]]", "[:r 1 2]",
             "[[:r 1 2]", "[[[:r 1 2]]]", "[[:r 1 [:w 1 2]]]", "[:r]", "[1 :r 1]"]
        ),
    ),
    "error": st.sampled_from(['"timeout"', "[:a 1]", "timeout"]),
    "node": st.sampled_from(['"\\t"', ":n1", '"a" "b"']),
    "other": st.just("1"),
}  # fmt: skip
TIDY = "{:type :ok, :process 1, :f :txn, :value [[:r 2 [1 2]]]}"
ORDERS = [
    ["index", "time", "type", "process", "f", "value"],
    ["type", "f", "value", "process"],
    ["process", "type", "f", "error", "value", "node"],
    ["type", "process", "f", "f", "other"],
]


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A line of a history, with one odd thing at most."""
    order = draw(st.sampled_from(ORDERS))
    odd = draw(st.sampled_from([*order, "space", "whole", *[""] * 6]))
    fields = [
        f":{name} {draw((ODD_FIELDS if name == odd else FIELDS)[name])}"
        for name in order
    ]
    inside = draw(ODD_SPACES if odd == "space" else SPACES).join(fields)
    odd_wholes = [" {%s}", "{%s} ;", "{%s", "{%s}}", "{{%s}}", "{ %s}", "#_{%s}"]
    return draw(st.sampled_from(odd_wholes if odd == "whole" else ["{%s}"])) % inside


@settings(max_examples=5 * settings().max_examples)
@given(lines())
def test_what_is_read_by_regular_expression_means_the_same_token_by_token(
    line: str,
) -> None:
    plain = JepsenLines()
    for order in ORDERS:
        plain.learn(dict.fromkeys(order))
    found = plain.op(line, 3)
    event("read" if found else "left to edn")
    if found:
        expected = jepsen_edn.op_from_map(edn.loads(line), 3)
        assert found == expected
        assert list(jepsen_edn.write([found])) == list(jepsen_edn.write([expected]))


@settings(max_examples=2 * settings().max_examples)
@given(
    st.lists(st.one_of(st.just(TIDY), lines()), min_size=1, max_size=5),
    st.sampled_from(["%s", "[%s]", "[%s", "%s]", "[%s]\n1", "[\n%s\n]"]),
    st.sampled_from([None, True]),
)
def test_a_file_means_the_same_however_its_lines_are_read(
    parts: list[str], whole: str, independent: bool | None
) -> None:
    text = whole % "\n".join(parts)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "history.edn"
        path.write_text(text, encoding="utf-8")
        found = what_it_says(path, independent)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(JepsenLines, "op", lambda *_: None)
            expected = what_it_says(path, independent)
    event("read" if isinstance(found, tuple) else "refused")
    assert found == expected


@pytest.mark.parametrize("independent", [None, True])
def test_a_part_of_a_transaction_that_is_taken_for_a_key_keeps_its_keyword(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, independent: bool | None
) -> None:
    path = tmp_path / "history.edn"
    path.write_text(
        "{:type :invoke, :process 0, :f :read, :value [1 nil]}\n"
        "{:type :invoke, :process 1, :f :txn, :value [[:append 1 2] [:r 1 nil]]}\n" * 2
    )
    found = what_it_says(path, independent)
    assert b":append" in found[1][3]  # type: ignore[index]
    monkeypatch.setattr(JepsenLines, "op", lambda *_: None)
    assert found == what_it_says(path, independent)


def what_it_says(path: Path, independent: bool | None) -> object:
    """All of what is read, and how it would be written; or why it can't be."""
    try:
        history = load(path, independent=independent)
    except HistoryError as problem:
        # Of a value it may show :append, or "append".
        return re.sub('[:"]', "", str(problem))
    assert history.lines is not None
    return history.ops, list(jepsen_edn.write(history.ops)), list(history.lines)


def test_tidy_lines_are_read_by_regular_expression() -> None:
    plain = JepsenLines()
    assert plain.op(TIDY, 7) is None
    plain.learn(dict.fromkeys(["type", "process", "f", "value"]))
    op = plain.op(TIDY, 7)
    assert op is not None
    assert (op.index, op.time, op.process, op.type) == (7, -1, 1, "ok")
    assert (op.f, op.value) == ("txn", [["r", 2, [1, 2]]])


def test_what_is_nested_deep_is_left_to_the_reader_that_counts() -> None:
    plain = JepsenLines()
    plain.learn(dict.fromkeys(["type", "process", "f", "value"]))
    for depth, is_plain in (4, True), (5, False), (edn.DEPTH_MAX + 5, False):
        value = "[" * depth + "]" * depth
        line = f"{{:type :ok, :process 1, :f :read, :value {value}}}"
        assert (plain.op(line, 0) is not None) is is_plain
