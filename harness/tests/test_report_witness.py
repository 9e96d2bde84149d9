"""One witness, four ways to show it: the same operations and reasons in each."""

from __future__ import annotations

import json
import pickle
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from harness.history import History, Op
from harness.judge.check import FileResult
from harness.judge.explain import Explanations, places
from harness.report import spacetime, witness
from harness.tests.test_report import OURS, Page
from harness.verdict import Anomaly, CheckResult, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from harness.report.witness import Witness

EVIL = st.sampled_from(
    [
        "</text><script>boom()</script>",
        '"]; evil [label="',
        "\\",
        "\\n",
        "<!--",
        "]]>",
        "&amp;",
        "\x1b[31m",
        "\x00",
        "\u202e",
        "\ud800",
        "' onload='boom()",
    ]
)
TEXT = st.one_of(EVIL, st.text(max_size=20))
VALUE = st.recursive(
    st.none() | st.integers() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=6,
)
NAMED_OPS = st.builds(
    Op,
    index=st.just(0),
    time=st.integers(-1, 10**12),
    process=st.integers(0, 5) | TEXT,
    type=st.sampled_from(["invoke", "ok", "fail", "info"]),
    f=TEXT,
    value=VALUE,
    key=VALUE,
    error=VALUE,
    node=st.none() | TEXT,
)


@st.composite
def witnesses(draw: st.DrawFn) -> Witness:
    """Anomalies about any operations at all, those that aren't there included."""
    ops = draw(st.lists(NAMED_OPS, min_size=1, max_size=6))
    for index, op in enumerate(ops):
        op.index = index
    near = st.integers(-1, len(ops))
    edge = st.fixed_dictionaries(
        {"source": near, "target": near, "kind": TEXT, "reason": TEXT}
    )
    anomaly = {
        "name": draw(TEXT),
        "explanation": draw(TEXT),
        "key": draw(VALUE),
        "ops": draw(st.lists(near, max_size=4)),
        "details": draw(st.dictionaries(TEXT, VALUE, max_size=2)),
        "witness": {"nodes": [], "edges": draw(st.lists(edge, max_size=5))},
    }
    history = History(ops, strict=False)
    return witness.resolve(anomaly, witness.calls_of(history))


@given(witnesses())
def test_a_picture_is_wellformed_and_holds_nothing_but_what_we_draw(
    told: Witness,
) -> None:
    if not told.calls:
        assert spacetime.picture(told) == ""
        return
    svg = spacetime.as_svg(told)
    tree = ElementTree.fromstring(_xml(svg))
    tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert tags <= {
        *("svg", "style", "defs", "marker", "path", "g", "title", "rect", "line"),
        *("text", "tspan", "circle"),
    }
    names = {name for element in tree.iter() for name in element.attrib}
    assert not {name for name in names if name.startswith("on") or "href" in name}
    bars = [e for e in tree.iter() if e.get("class", "").startswith("call ")]
    assert len(bars) == len(told.calls)


def _xml(text: str) -> str:
    """`text` without what HTML bears and XML does not."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


@given(witnesses())
def test_dot_has_a_box_for_each_operation_and_an_arrow_for_each_reason(
    told: Witness,
) -> None:
    dot = witness.as_dot(told)
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', dot)
    assert '"' not in bare.replace('""', "")
    assert bare.count(" -> ") == len(told.edges)
    assert len(re.findall(r"^  v\d+ \[label=\"\"\];$", bare, re.MULTILINE)) == len(
        told.calls
    )
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", dot)


@given(witnesses())
def test_text_names_every_operation_and_no_escape_sequence(told: Witness) -> None:
    lines = witness.as_text(told)
    assert len(lines) == len(told.calls) + len(told.edges)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", "".join(lines))


OPS = [
    Op(0, 1_000, 0, "invoke", "txn", [["append", 1, 2]]),
    Op(1, 2_000, 1, "invoke", "txn", [["r", 1, None]]),
    Op(2, 3_000, 0, "ok", "txn", [["append", 1, 2]]),
    Op(3, 4_000, 1, "ok", "txn", [["r", 1, []], ["append", 2, "<b>"]]),
]


def lost_read() -> CheckResult:
    """Two transactions of which each comes before the other."""
    import networkx as nx

    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_edge(2, 3, kind="wr", reason="T3 observed it")
    graph.add_edge(3, 2, kind="rw", reason="T3 did not observe it")
    anomaly = Anomaly("G-single", (2, 3), "T2 comes before itself.", graph)
    return CheckResult(Verdict.INVALID, (anomaly,))


def test_operations_go_by_the_number_by_which_the_checker_named_them() -> None:
    """The sentence says T3, so neither text nor picture may call it op 1."""
    anomaly = lost_read().anomalies[0].as_json()
    told = witness.resolve(anomaly, witness.calls_of(History(OPS)))
    lines = witness.as_text(told)
    assert lines[0].startswith("#2")
    assert "txn append 1 2" in lines[0]
    assert lines[1].startswith("#3")
    assert "txn r 1 [], append 2 <b>" in lines[1]
    assert lines[2] == "1. wr: op 2 → op 3: T3 observed it"
    assert "<tspan" in spacetime.as_svg(told)
    assert "append 2 &lt;b&gt;" in spacetime.as_svg(told)


def test_a_picture_whose_axis_jumps_has_a_mark_there() -> None:
    def drawn(returns_ns: int) -> str:
        ops = [
            Op(0, 7_000_000_000, 0, "invoke", "read"),
            Op(1, 7_100_000_000, 1, "invoke", "read"),
            Op(2, 7_200_000_000, 0, "ok", "read", 2),
            Op(3, returns_ns, 1, "ok", "read", 3),
        ]
        anomaly = {"name": "x", "explanation": "", "ops": [2, 3]}
        told = witness.resolve(anomaly, witness.calls_of(History(ops)))
        return str(spacetime.picture(told))

    assert "drawn shorter than the rest" in drawn(60_900_000_000)
    assert 'class="break"' not in drawn(7_300_000_000)


def test_explanations_are_a_directory_with_an_index(tmp_path: Path) -> None:
    explanations = Explanations(tmp_path / "deep" / "explained")
    results = [
        *(
            FileResult(file, lost_read(), 4, history=History(OPS))
            for file in ("/x/../bad name<b>.edn.gz", "other/bad name<b>.edn")
        ),
        FileResult("torn.edn", CheckResult(Verdict.UNKNOWN), error="torn"),
    ]
    folders = places(result.file for result in results)
    told = [explanations.explain(r, f) for r, f in zip(results, folders, strict=True)]
    index = explanations.finish(pickle.loads(pickle.dumps(told)))
    found = sorted(
        str(path.relative_to(index.parent))
        for path in index.parent.rglob("*")
        if path.is_file()
    )
    assert found == sorted(
        ["index.html"]
        + [
            f"{folder}/01-G-single.{kind}"
            for folder in ("bad_name_b", "bad_name_b-2")
            for kind in ("dot", "svg", "txt")
        ]
        + ["bad_name_b/result.json", "bad_name_b-2/result.json"]
    )
    found_anomalies = json.loads((index.parent / "bad_name_b/result.json").read_text())
    assert found_anomalies["anomalies"][0]["ops"] == [2, 3]
    page = Page(index.read_text())
    assert not OURS & set(page.tags)
    assert page.attributes.count(("class", "spacetime")) == 2
    assert "T3 did not observe it" in page.text
    assert "torn" in page.text
    links = [value for name, value in page.attributes if name == "href"]
    assert all((index.parent / link).is_file() for link in links)
    assert len(links) == 6
