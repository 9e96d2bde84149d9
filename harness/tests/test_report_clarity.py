"""The story of a failure: what comes first, what is folded, and what is said of it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from harness.history import History, Op
from harness.judge.check import FileResult
from harness.judge.explain import FILES_MAX, Explanations
from harness.judge.text import render_text
from harness.report import clarity, reasons, sentences, summary
from harness.report.folder import Call, load
from harness.report.story import tell
from harness.report.witness import Witness
from harness.tests.report_runs import write_run
from harness.tests.test_report import Page, page_of
from harness.verdict import Anomaly, CheckResult, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from harness.history.ops import OpType


def call(index: int, f: str, value: Any, outcome: Any = "ok", took: int = 10) -> Call:
    """A client operation that begins at its index."""
    begun = Op(index, index, index, "invoke", f, value)
    if outcome == "info":
        return Call(begun, None)
    return Call(begun, Op(index + 1, index + took, index, outcome, f, value))


READ, WRITE = call(0, "read", 1), call(2, "write", 1)
OPEN = call(4, "write", 2, "info")
LATE = call(6, "read", 1, took=10_000)


def found(name: str, *calls: Call, checker: str = "c") -> Witness:
    return Witness(name, f"Why {name}.", checker, calls=calls)


def test_the_clearest_of_a_name_stands_for_it() -> None:
    many = found("stale-read", READ, WRITE, LATE)
    slow, weak = found("stale-read", READ, LATE), found("stale-read", WRITE, OPEN)
    clear = found("stale-read", READ, WRITE)
    groups = clarity.grouped([many, weak, slow, clear])
    assert [each.shown for each in groups] == [(clear, slow, weak, many)]


def test_one_circle_is_told_once_under_its_plainest_name() -> None:
    names = ["G2-item", "G-single-item", "write-skew"]
    groups = clarity.grouped(found(name, READ, WRITE) for name in names)
    assert [group.first.name for group in groups] == ["write-skew"]
    also = [name for name, _ in groups[0].first.also]
    assert also == ["G-single-item", "G2-item"]


def test_two_checkers_and_two_circles_are_told_apart() -> None:
    groups = clarity.grouped(
        [
            *(found("G1c", READ, WRITE), found("G0", READ, LATE)),
            found("G0", READ, WRITE, checker="d"),
        ]
    )
    assert [(g.first.checker, g.first.name) for g in groups] == [
        *(("c", "G1c"), ("c", "G0"), ("d", "G0"))
    ]


def test_hundreds_are_folded_and_counted() -> None:
    some = [found("lost", call(10 * n, "add", n)) for n in range(300)]
    (group,) = clarity.grouped(some)
    assert len(group.alike) == clarity.ALIKE_MAX
    assert group.more == 300 - 1 - clarity.ALIKE_MAX


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one stale read."""
    return write_run(tmp_path_factory.mktemp("run"), ops=600, seconds=12)


@pytest.fixture
def run_dir(small: Path, tmp_path: Path) -> Path:
    """A run of one's own."""
    return shutil.copytree(small, tmp_path / "run")


def said(run_dir: Path) -> dict[str, str]:
    return dict(sentences.told(tell(load(run_dir))))


def test_three_sentences_say_what_was_promised_seen_and_broken(small: Path) -> None:
    told = said(small)
    assert list(told) == ["Promised", "Seen", "Faults"]
    assert "one moment between its begin and its end" in told["Promised"]
    head = page_of(small).text
    for about, text in told.items():
        assert f"{about} {text}" in head
        assert text.split()[0] in summary(small)


def test_a_fault_without_effect_is_never_named_as_the_reason(run_dir: Path) -> None:
    lines = [json.loads(x) for x in (run_dir / "faults.jsonl").read_text().splitlines()]
    for line in lines:
        if line.get("event") == "end":
            line["bit"] = False
    (run_dir / "faults.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in lines))
    assert said(run_dir)["Faults"].startswith("No fault that had an effect came before")


def test_without_faults_the_system_did_it_by_itself(run_dir: Path) -> None:
    (run_dir / "faults.jsonl").write_text("")
    assert "by itself" in said(run_dir)["Faults"]


def test_the_shrunk_plan_is_the_better_reason(run_dir: Path, small: Path) -> None:
    shutil.copytree(small, run_dir / "shrunk")
    (run_dir / "shrunk" / "report.html").write_text("")
    assert "needed: " in said(run_dir)["Faults"]
    (run_dir / "shrunk" / "faults.jsonl").write_text("")
    assert "none is needed" in said(run_dir)["Faults"]


@pytest.mark.parametrize(
    ("verdict", "run", "abouts"),
    [
        ({"verdict": "valid", "checkers": {"bank": {}}}, {}, ["Promised", "Seen"]),
        ({"verdict": "unknown", "reason": "r"}, {}, ["Not known"]),
        ({"verdict": "valid"}, {"ended": "failed", "errors": ["e"]}, ["Failed"]),
        ({}, {}, ["Not judged"]),
    ],
)
def test_other_runs_say_what_they_need(
    run_dir: Path, verdict: Any, run: Any, abouts: list[str]
) -> None:
    (run_dir / "verdict.json").write_text(json.dumps(verdict))
    (run_dir / "run.json").write_text(json.dumps(run))
    assert list(said(run_dir)) == abouts


def test_the_meaning_of_a_name_stands_beside_it(small: Path) -> None:
    assert "Herlihy and Wing 1990" in page_of(small).text


def test_an_explanation_of_hundreds_begins_with_a_summary_and_folds_the_rest(
    tmp_path: Path,
) -> None:
    kinds: tuple[OpType, ...] = ("invoke", "ok")
    ops = [Op(n, n, n // 2, kinds[n % 2], "add", n // 2) for n in range(800)]
    many = tuple(Anomaly("lost", (2 * n,), f"{n} is gone.") for n in range(400))
    one = Anomaly("duplicate", (1, 3), "Twice.")
    result = CheckResult(Verdict.INVALID, (*many, one))
    file = FileResult("h.jsonl", result, 800, history=History(ops))
    explanations = Explanations(tmp_path)
    index = explanations.finish([explanations.explain(file, "h")])
    page = Page(index.read_text())
    opened = [value for name, value in page.attributes if name == "class"]
    assert opened.count("anomaly") == FILES_MAX
    assert page.tags.count("article") == 2  # the clearest of each sort
    assert "Something was acknowledged, and is gone" in page.text
    assert "98 others like it" in page.text
    assert "301 further anomalies" in page.text
    told = render_text(file)
    assert "... and 391 more anomalies" in told
    assert len(told.splitlines()) < 40


def test_errors_are_told_by_reason_with_their_first_time(run_dir: Path) -> None:
    rows = reasons.reasons(load(run_dir))
    errors = [c for c in load(run_dir).calls if c.error is not None]
    assert sum(row.count for row in rows) == len(errors)
    counts = [row.count for row in rows]
    assert counts == sorted(counts, reverse=True)
    firsts = {c.done.time for c in errors if c.done is not None}
    assert min(row.first_ns for row in rows) == min(firsts)
    text = page_of(run_dir).text
    assert "Errors that clients met, by reason" in text
    assert rows[0].text in text


def test_where_nothing_succeeded_the_nodes_last_words_come_first(
    run_dir: Path,
) -> None:
    (run_dir / "history.jsonl").write_text("")
    verdict = {"verdict": "unknown", "reason": "no node came up"}
    (run_dir / "verdict.json").write_text(json.dumps(verdict))
    for log in run_dir.glob("nodes/*/log"):
        log.write_text("ERROR long ago\nall is well\n")
    (run_dir / "nodes" / "n3" / "log").write_text("fine\npanic: no disk\x1b[31m\n")
    text = page_of(run_dir).text
    assert text.index("panic: no disk") < text.index("What was broken")
    assert "panic: no disk" in summary(run_dir)
    assert "no node came up" in summary(run_dir)


def test_a_run_with_answers_has_its_logs_at_the_end(small: Path) -> None:
    assert "what the nodes said last" not in page_of(small).text
