"""Nothing that a terminal or a browser obeys leaves, whichever way text takes."""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Finding, Outcome
from harness.campaign.suites.results import RowResult, table
from harness.campaign.suites.rows import Row
from harness.cli import terminal
from harness.cli.progress import ProgressLine
from harness.history import History, Op
from harness.judge.check import FileResult
from harness.judge.explain import Explanations, places
from harness.judge.text import render_text
from harness.report import index, spacetime, witness
from harness.report.page import write_page
from harness.run.controller import Progress
from harness.run.spec import TestSpec
from harness.verdict import Anomaly, CheckResult, Verdict
from harness.visible import visible, visible_line, without_colours

if TYPE_CHECKING:
    from collections.abc import Iterator

OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ud800-\udfff]"
)
texts = st.text(
    st.sampled_from(
        "a \t\n\r\x07\x08\x0b\x0c\x1b[]31m;\\\"<&'\x7f\x85\x9b\x9d\u061c\u200e\u200f"
        "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\ud800"
    )
    | st.characters(exclude_categories=[]),
    max_size=12,
)


def assert_harmless(text: str, where: str) -> None:
    found = OBEYED.search(text)
    assert found is None, f"{where}: {found[0]!a} in {text[:300]!a}"


@given(texts)
def test_visible_text_keeps_what_nothing_obeys_and_spells_the_rest(text: str) -> None:
    shown = visible(text)
    assert_harmless(shown, "visible")
    assert visible(shown) == shown
    assert [c for c in text if c in "\t\n"] == [c for c in shown if c in "\t\n"]
    if not OBEYED.search(text) and not re.search("[\ufeff\ufff9-\ufffb]", text):
        assert shown == text
    assert "\n" not in visible_line(text)


def test_a_coloured_log_line_reads_as_if_it_had_no_colour() -> None:
    line = "\x1b[1;32mINFO\x1b[0m started"
    assert without_colours(line) == "INFO started"


def history(text: str) -> History:
    """Two operations all of whose texts are `text`."""
    ops = [
        Op(0, 1, 0, "invoke", text, {text: [text]}, key=text, node=text),
        Op(1, 2, 0, "info", text, text, key=text, node=text, error=[text]),
        Op(2, 3, 1, "invoke", "write", [text, text]),
        Op(3, 4, 1, "ok", "write", [text, text]),
    ]
    return History(ops, strict=False, source=text)


def judged(text: str) -> FileResult:
    """A result that says `text` wherever it says anything."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_edge(0, 2, kind=text, reason=text)
    anomaly = Anomaly(text, (0, 2), text, graph, key=text, details={text: text})
    result = CheckResult(
        Verdict.INVALID, (anomaly,), (text,), reason=text, stats={text: text}
    )
    return FileResult(text, result, 4, history=history(text))


def row(text: str) -> RowResult:
    """A row of a suite that says `text` wherever it says anything."""
    of = Row(name=text, system=text, nemesis=[text], workload=text, anomaly=text)
    outcome = Outcome(
        experiment=Experiment(TestSpec(system=text)),
        verdict=text,  # type: ignore[arg-type]  # as nothing ever should
        reason=text,
        findings=(Finding(text, text),),
        found=text,
        figures={text: 1.0},
        errors=(text,),
        repro=text,
    )
    return RowResult(of, (outcome,))


class Screen(io.StringIO):
    """A terminal, to which nobody would send less than to a file."""

    def isatty(self) -> bool:
        return True

    def taken(self) -> str:
        """What was written since the last time."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


def said(text: str, screen: Screen) -> Iterator[tuple[str, str]]:
    """What reaches a terminal of `text`: (which way, as what)."""
    terminal.say(text)
    yield "say", screen.taken()
    terminal.complain(text)
    yield "complain", screen.taken()
    terminal.say_error(text)
    yield "say_error", screen.taken()
    terminal.say(table([row(text)]))
    yield "table", screen.taken()
    line = ProgressLine(enabled=True)
    line.show(Progress(0.0, 1.0, 0, 0, 0, (text,)))
    line.tell(text)
    yield "progress", screen.taken().replace("\r\x1b[2K", "")
    yield "render_text", render_text(judged(text))
    yield "an error", render_text(FileResult(text, judged(text).result, error=text))


@given(text=texts)
def test_no_way_to_a_terminal_lets_escapes_through(text: str) -> None:
    screen = Screen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", screen)
        patch.setattr("sys.stderr", screen)
        shown = list(said(text, screen))
    for way, what in shown:
        assert_harmless(what, way)


@given(texts)
def test_no_file_that_is_written_lets_escapes_through(text: str) -> None:
    result = judged(text)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        explanations = Explanations(folder / "explained")
        told = explanations.explain(result, *places([text]))
        explanations.finish([told])
        rows = [row(text).as_json(), {**row(text).as_json(), "verdict": "invalid"}]
        index.build_index(folder / "suite", rows)
        index.write_junit(rows, folder / "junit.xml")
        write_page(folder / "page.html", text)
        for file in filter(Path.is_file, folder.rglob("*")):
            assert_harmless(file.read_bytes().decode(), file.name)
    assert result.history is not None
    shown = witness.resolve(
        result.result.anomalies[0].as_json(), witness.calls_of(result.history)
    )
    assert_harmless(witness.as_dot(shown), "DOT")
    assert_harmless(spacetime.as_svg(shown), "SVG")
