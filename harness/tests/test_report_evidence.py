"""What an anomaly rests on stands whole wherever the anomaly is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from checkers.list_append import PLUGIN
from harness.history import History, Op
from harness.judge.check import FileResult
from harness.judge.explain import Explanations
from harness.judge.text import render_text
from harness.report import evidence, witness
from harness.tests.test_report import Page
from harness.verdict import Anomaly, CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from harness.history.ops import OpType
    from harness.report.witness import Witness

OTHERS = [["append", key, 1000 + key] for key in range(100, 140)]
LIST = [*range(28, 228)]


def transactions(*values: list[Any]) -> History:
    """Committed one after the other."""
    ops: list[Op] = []
    for process, value in enumerate(values):
        ops.append(Op(len(ops), len(ops), process, "invoke", "txn", value))
        ops.append(Op(len(ops), len(ops), process, "ok", "txn", value))
    return History(ops)


def missed_append() -> CheckResult:
    """Op 3 read a long list, in which the append of op 1 is missing."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    reason = "T3 did not observe T1's append of 39000 to key 5"
    graph.add_edge(3, 1, kind="rw", reason=reason)
    graph.add_edge(1, 3, kind="realtime", reason="T1 had returned")
    return CheckResult(Verdict.INVALID, (Anomaly("G-single", (1, 3), "So.", graph),))


HISTORY = transactions(
    [*OTHERS, ["append", 5, 39000], ["append", 6, 7]],
    [["r", 6, [*range(5000, 5050)]], *OTHERS[:9], ["r", 5, LIST], *OTHERS[9:]],
)
READ = f"r 5 [{' '.join(map(str, LIST))}]"


def told_in_every_form(result: CheckResult, folder: Path) -> dict[str, str]:
    """The anomaly as terminal, text, DOT, SVG and page have it, without line breaks."""
    file = FileResult("h.edn", result, len(HISTORY), history=HISTORY)
    explanations = Explanations(folder)
    explanations.finish([explanations.explain(file, "h")])
    (text,) = folder.glob("h/*.txt")
    (dot,) = folder.glob("h/*.dot")
    (svg,) = folder.glob("h/*.svg")
    tree = ElementTree.fromstring(svg.read_text())
    drawn = ["".join(e.itertext()) for e in tree.iter() if e.tag.endswith("}text")]
    forms = {
        "terminal": render_text(file),
        "text": text.read_text(),
        "dot": dot.read_text().replace("\\n", " "),
        "svg": " ".join(drawn),
        "page": Page((folder / "index.html").read_text()).text,
    }
    return {name: " ".join(form.split()) for name, form in forms.items()}


def test_the_micro_operations_that_an_edge_names_stand_whole_in_every_form(
    tmp_path: Path,
) -> None:
    for name, form in told_in_every_form(missed_append(), tmp_path).items():
        assert READ in form, name
        assert "append 5 39000" in form, name


def test_what_no_edge_names_is_folded_and_counted(tmp_path: Path) -> None:
    forms = told_in_every_form(missed_append(), tmp_path)
    for name in ("terminal", "text", "dot", "svg"):
        assert f"txn (10 more), {READ}, (31 more)" in forms[name], name
        assert "txn (40 more), append 5 39000, (1 more)" in forms[name], name
    # A page has room to unfold it.
    assert "the whole transaction txn r 6 [5000 5001" in forms["page"]


def test_a_long_line_does_not_push_the_columns_of_others_apart() -> None:
    anomaly = missed_append().anomalies[0].as_json()
    first, second, *_ = witness.as_text(
        witness.resolve(anomaly, witness.calls_of(HISTORY))
    )
    assert len(first) < 140 < len(READ) < len(second)


def test_a_transaction_of_a_few_words_is_not_folded() -> None:
    told = witness_of([["append", 5, 1], ["r", 7, []]], [["r", 5, [1]]], kind="wr")
    assert told.whole(told.calls[0]) == "txn append 5 1, r 7 []"
    assert told.unfolded(told.calls[0]) == ""


def witness_of(
    first: list[Any],
    second: list[Any],
    *,
    kind: str,
    reason: str = "",
    key: Any = None,
) -> Witness:
    """Two transactions and an arrow from one to the other."""
    edge = {"source": 1, "target": 3, "kind": kind, "reason": reason}
    anomaly = {"name": "x", "key": key, "ops": [1, 3], "witness": {"edges": [edge]}}
    return witness.resolve(anomaly, witness.calls_of(transactions(first, second)))


def named(told: Witness) -> list[set[str]]:
    return [set(told.named[call.name]) for call in told.calls]


def test_where_a_reason_names_no_key_all_that_both_touch_count() -> None:
    first = [["append", 5, 1], ["append", 6, 1], ["append", 7, 1]]
    second = [["r", 5, [1]], ["r", 6, []], ["r", 8, []]]
    assert named(witness_of(first, second, kind="rw")) == [{"5", "6"}] * 2
    told = witness_of(first, second, kind="rw", reason="append of 1 to key 6")
    assert named(told) == [{"6"}] * 2
    # An order in time says nothing of keys, and then everything may count.
    told = witness_of(first, second, kind="realtime")
    assert named(told) == [{"5", "6", "7"}, {"5", "6", "8"}]
    told = witness_of(first, second, kind="realtime", key=5)
    assert named(told) == [{"5"}, {"5"}]


def test_keys_are_told_apart_as_json_tells_them_apart() -> None:
    first = [["w", 1, 1], ["w", True, 1], ["w", "1", 1], ["w", 10, 1]]
    told = witness_of(first, first, kind="ww", key=True)
    assert {"true"} <= named(told)[0]
    told = witness_of(first, first, kind="ww", reason="a's write of 1 to key 10 (x)")
    assert named(told) == [{"10"}] * 2


def test_of_a_long_value_that_is_no_transaction_the_rest_is_counted() -> None:
    ops = [Op(0, 0, 0, "invoke", "read"), Op(1, 1, 0, "ok", "read", [*range(1000)])]
    anomaly = {"name": "lost", "ops": [1], "explanation": "So."}
    told = witness.resolve(anomaly, witness.calls_of(History(ops)))
    (line,) = witness.as_text(told)
    assert "read \N{RIGHTWARDS ARROW} [0,1,2,3," in line
    assert re.search(r"\(2\d{3} characters more\)  ok$", line)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=30),
    max_leaves=40,
)
STEPS = st.lists(
    st.tuples(st.sampled_from("rwa"), st.integers(0, 3), VALUES).map(list),
    min_size=1,
    max_size=12,
)


@given(STEPS, st.sets(st.integers(0, 3)))
def test_named_steps_are_never_cut_and_all_steps_are_accounted_for(
    steps: list[Any], keys: set[int]
) -> None:
    text = evidence.folded(steps, {str(key) for key in keys})
    for step in steps:
        if step[1] in keys:
            assert evidence.unfolded([step]) in text
    if text != evidence.unfolded(steps):
        folded = sum(int(n) for n in re.findall(r"\((\d+) more\)", text))
        assert folded >= sum(step[1] not in keys for step in steps)


def test_what_was_cut_before_is_not_counted_to_the_character() -> None:
    cut = evidence.bounded("z" * (evidence.CHARS_MAX + 7), 1000)
    assert cut.endswith("zz\N{HORIZONTAL ELLIPSIS} (at least 19007 characters more)")
    assert evidence.bounded("z" * 1005, 1000).endswith(" (5 characters more)")


def test_a_transaction_of_megabytes_is_bounded_and_says_so() -> None:
    value = [["r", 1, ["x" * 100] * 100_000]]
    text = evidence.folded(value, {"1"})
    assert len(text) < evidence.CHARS_MAX + 100
    assert text.endswith(" characters more)")


def test_a_real_cycle_shows_the_lists_that_prove_it() -> None:
    history = transactions(
        *([["append", 5, n], ["append", 1000 + n, n]] for n in range(60)),
        [["r", 5, [*range(60)]]],
        [["r", 5, [*range(59)]], *OTHERS],
    )
    result = PLUGIN.factory({"consistency": "strict-serializable"}).check(
        history, Limits()
    )
    assert result.verdict is Verdict.INVALID
    text = render_text(FileResult("h", result, len(history), history=history))
    assert f"r 5 [{' '.join(map(str, range(59)))}]" in text


def test_a_long_list_is_cut_around_what_the_anomaly_is_about() -> None:
    told = witness_of(
        [["r", 5, LIST]], [["r", 5, [*LIST[:90], 7, *LIST[90:]]]], kind="x"
    )
    first, second = (told.short(call) for call in told.calls)
    assert (
        first
        == "txn r 5 [28 29 30 …(85 more) 116 117 118 119 120 …(104 more) 225 226 227]"
    )
    assert "116 117 7 118 119" in second
    assert len(first) < 100 < len(told.whole(told.calls[0]))


def test_an_element_that_the_reason_names_is_shown() -> None:
    reason = "T3 observed T1's append of 150 to key 5"
    told = witness_of([["append", 5, 150]], [["r", 5, LIST]], kind="wr", reason=reason)
    assert "148 149 150 151 152" in told.short(told.calls[1])


def test_long_texts_show_where_they_differ_and_a_page_has_the_whole(
    tmp_path: Path,
) -> None:
    ops: list[Op] = []
    kinds: tuple[OpType, ...] = ("invoke", "ok")
    for value in ("x" * 400 + "here" + "y" * 400, "x" * 400 + "THERE" + "y" * 400):
        for kind in kinds:
            ops.append(Op(len(ops), len(ops), len(ops) // 2, kind, "write", value))
    history = History(ops)
    result = CheckResult(Verdict.INVALID, (Anomaly("lost-write", (1, 3), "So."),))
    told = witness.resolve(result.anomalies[0].as_json(), witness.calls_of(history))
    first, second = (told.short(call) for call in told.calls)
    assert "here" in first
    assert "THERE" in second
    assert len(first) < 240
    explanations = Explanations(tmp_path)
    file = FileResult("h", result, len(ops), history=history)
    index = explanations.finish([explanations.explain(file, "h")])
    assert "x" * 400 + "THERE" + "y" * 400 in Page(index.read_text()).text
