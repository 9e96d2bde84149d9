"""Checkers of how a run went: stats, availability, exceptions and nodes' logs."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.findings import EXAMPLES_MAX
from checkers.log_file_pattern import node_of
from checkers.tests.counting_histories import (
    Call,
    calls,
    check,
    elsewhere,
    histories,
    in_turn,
    names,
)
from checkers.tests.histories import FEWER, MANY, MILLISECOND_NS
from harness.errors import EXIT_INVALID, UsageError
from harness.history import History, Op
from harness.history.formats import load
from harness.judge.explain import Explanations
from harness.judge.text import render_text
from harness.tests.checking import check_files
from harness.verdict import Verdict

if TYPE_CHECKING:
    from harness.history import OpType

HISTORIES = histories(calls("read", st.none()) | calls("write", st.just(1)))


def outcomes(judged: History) -> list[tuple[str, str]]:
    """(function, outcome) of each call."""
    return [
        (op.f, "info" if done is None else done.type) for op, done in judged.calls()
    ]


@MANY
@given(HISTORIES)
def test_every_function_must_have_worked_once(judged: History) -> None:
    seen = outcomes(judged)
    fine = all((f, "ok") in seen for f, _ in seen)
    verdict = Verdict.VALID if fine else Verdict.INVALID
    result = check("stats", judged)
    assert result.verdict is (verdict if seen else Verdict.UNKNOWN)
    kinds = Counter(kind for _, kind in seen)
    told = {kind: result.stats[kind] for kind in ("ok", "fail", "info")}
    assert told == {kind: kinds[kind] for kind in told}
    ignored = check("stats", judged, ignore="read, write")
    assert ignored.verdict is not Verdict.INVALID


def test_stats_take_completions_without_invocations() -> None:
    """The example of Jepsen's tests."""
    events = [("foo", "ok"), ("foo", "fail"), ("bar", "info"), ("bar", "fail")]
    ops = [
        Op(i, -1, i, kind, f)  # type: ignore[arg-type]  # the texts are ours
        for i, (f, kind) in enumerate([*events, ("bar", "fail")])
    ]
    result = check("stats", History(ops, strict=False))
    assert names(result) == {"no-ok"}
    assert result.anomalies[0].ops == (2, 3, 4)
    assert result.anomalies[0].explanation == (
        "None of 3 bar operations succeeded: 2 failed, and of 1 nobody knows the "
        "outcome."
    )
    assert result.stats["by_f"]["foo"] == {"count": 2, "ok": 1, "fail": 1, "info": 0}


# Availability


def is_dark(judged: History, tick: int) -> bool:
    """Whether somebody has been waiting since the last answer, at a millisecond."""
    answers = [op.index for op in judged if op.type == "ok" and op.index <= tick]
    last = max(answers, default=-1)
    for op, done in judged.calls():
        end = len(judged) - 1 if done is None else done.index
        if op.index <= tick and end > last:
            return True
    return False


@MANY
@given(HISTORIES)
def test_the_longest_outage_is_the_longest_wait_without_an_answer(
    judged: History,
) -> None:
    longest = run = 0
    for tick in range(len(judged) - 1):
        if judged[tick].type == "ok":
            run = 0
        run = run + 1 if is_dark(judged, tick) else 0
        longest = max(longest, run)
    result = check("availability", judged)
    if not judged.ops:
        assert result.verdict is Verdict.UNKNOWN
        return
    assert result.stats["longest_outage_s"] == pytest.approx(longest / 1000)
    allowed = check("availability", judged, outage_s_max=str(longest / 1000))
    assert allowed.verdict is Verdict.VALID
    if longest:
        shorter = check("availability", judged, outage_s_max=str(longest / 1000 - 1e-4))
        assert names(shorter) == {"outage"}
        assert all(a.ops for a in shorter.anomalies)


@MANY
@given(HISTORIES, st.integers(0, 4))
def test_too_few_answers_are_told(judged: History, quarters: int) -> None:
    seen = outcomes(judged)
    good = sum(kind == "ok" for _, kind in seen)
    result = check("availability", judged, minimum=str(quarters / 4))
    if not seen:
        assert result.verdict is Verdict.UNKNOWN
        return
    fine = 4 * good >= quarters * len(seen)
    assert result.verdict is (Verdict.VALID if fine else Verdict.INVALID)
    assert result.stats["answered"] == good
    for f, fraction in result.stats["by_f"].items():
        of_f = [kind for name, kind in seen if name == f]
        assert fraction == pytest.approx(of_f.count("ok") / len(of_f), abs=1e-6)
    lenient = check("availability", judged, counts="ok,fail")
    failed = sum(kind == "fail" for _, kind in seen)
    assert lenient.stats["answered"] == good + failed


def test_windows_tell_when_nothing_was_answered() -> None:
    ok, lost = Call("read"), Call("read", outcome="info")
    judged = in_turn(ok, ok, lost, lost, ok)
    result = check("availability", judged, window_s="0.004")
    assert result.stats["windows"] == [1.0, 0.0, 1.0]
    assert result.stats["windows_without_answer"] == 1
    # From the invocation of the first lost one, op 4, to the last answer, op 9.
    assert result.stats["longest_outage_s"] == 0.005


@pytest.mark.parametrize(
    ("begin", "end"),
    [("start-kill", "stop-kill"), ("kill", "start"), ("pause", "resume"),
     ("start", "stop"), ("start-partition", "heal")],
)  # fmt: skip
def test_what_fails_during_faults_is_told_apart(begin: str, end: str) -> None:
    def read(process: int, kind: OpType) -> list[tuple[int | str, OpType, str]]:
        return [(process, "invoke", "read"), (process, kind, "read")]

    def nemesis(f: str) -> list[tuple[int | str, OpType, str]]:
        return [("nemesis", "info", f)] * 2

    events = [
        *read(0, "ok"),
        *nemesis(begin),
        *[*read(0, "ok"), *read(0, "fail"), *read(0, "fail")],
        *nemesis(end),
        *[*read(0, "ok"), *read(0, "fail"), *read(0, "ok")],
    ]
    judged = History([Op(i, i, *event) for i, event in enumerate(events)])
    stats = check("availability", judged).stats
    assert stats["healthy"] == 0.75
    (during,) = stats["during"].values()
    assert during == pytest.approx(1 / 3, abs=1e-6)
    assert check("availability", judged, minimum_healthy="0.75").verdict is (
        Verdict.VALID
    )
    result = check("availability", judged, minimum_healthy="0.8")
    assert names(result) == {"unavailable"}
    assert "3 of 4 operations begun without any fault" in (
        result.anomalies[0].explanation
    )


def test_idle_time_is_no_outage() -> None:
    judged = in_turn(Call("read"), Call("read"))
    judged.ops[2].time += 10**12
    judged.ops[3].time += 10**12
    assert check("availability", judged).stats["longest_outage_s"] == 0.001


def test_without_times_nobody_knows_how_long_an_outage_was() -> None:
    judged = in_turn(Call("read"))
    for op in judged:
        op.time = -1
    assert check("availability", judged, minimum="1").verdict is Verdict.VALID
    assert check("availability", judged, outage_s_max="1").verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "options",
    [{"minimum": "2"}, {"minimum": "x"}, {"window_s": "0"}, {"outage_s_max": "-1"}],
)
def test_impossible_bounds_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="the availability checker"):
        check("availability", History([]), **options)


@pytest.mark.parametrize("name", ["stats", "availability", "unhandled-exceptions"])
@FEWER
@given(judged=HISTORIES)
def test_neither_clocks_nor_names_nor_bystanders_matter(
    name: str, judged: History
) -> None:
    before, after = check(name, judged), check(name, elsewhere(judged))
    if judged.ops:
        assert after.verdict is before.verdict
        assert after.stats == before.stats or name == "unhandled-exceptions"


# Exceptions


def test_exceptions_are_counted_by_class_and_convict_nobody() -> None:
    """The example of Jepsen's tests, and crashes of our own clients."""

    def thrown(name: str) -> dict[str, Any]:
        return {"exception": {"via": [{"type": name, "message": "m"}]}}

    judged = in_turn(
        Call("foo", 1, "info", extra=thrown("IllegalStateException")),
        Call("foo", 1, "info", extra=thrown("IllegalArgumentException")),
        Call("foo", 1, "info", extra=thrown("IllegalArgumentException")),
        Call("foo", 1, "info"),
        Call("foo", 1, "info"),
    )
    judged.ops[-1].error = "client crashed: KeyError: 'value'"
    judged.ops[-3].error = "timeout: no answer in 5 s"
    result = check("unhandled-exceptions", judged)
    assert result.verdict is Verdict.VALID
    told = [(e["class"], e["count"], e["op"]) for e in result.stats["exceptions"]]
    assert told == [
        ("IllegalArgumentException", 2, 3),
        ("IllegalStateException", 1, 1),
        ("KeyError", 1, 9),
    ]


THROWN: list[tuple[str | None, dict[str, Any] | None, str | None]] = [
    (None, None, None),
    ("timeout: no answer in 5 s", None, None),
    ("client crashed: KeyError: 'x'", None, "KeyError"),
    ("nemesis crashed: a.B: x", None, "a.B"),
    ("client crashed: 5 of 3", None, "unnamed"),
    (None, {"exception": {"via": [{"type": "A"}, {"type": "B"}]}}, "A"),
    (None, {"exception": "A"}, "unnamed"),
    ("client crashed: KeyError: x", {"exception": {"via": [{"type": "A"}]}}, "A"),
]
"""The error and the extra fields of an op, and the class that they tell of."""


@MANY
@given(HISTORIES, st.lists(st.sampled_from(THROWN), min_size=16, max_size=16))
def test_every_exception_is_counted_once_and_the_first_is_shown(
    judged: History, thrown: list[tuple[str | None, dict[str, Any] | None, str | None]]
) -> None:
    told: list[tuple[str, int]] = []
    for op, (error, extra, name) in zip(judged, thrown, strict=False):
        op.error, op.extra = error, extra
        if op.type == "info" and name is not None:
            told.append((name, op.index))
    result = check("unhandled-exceptions", judged)
    ended = any(op.type != "invoke" for op in judged)
    assert result.verdict is (Verdict.VALID if ended else Verdict.UNKNOWN)
    counts = Counter(name for name, _ in told)
    assert result.stats["unhandled"] == len(told)
    shown = result.stats["exceptions"]
    assert {e["class"]: e["count"] for e in shown} == counts
    assert {e["class"]: e["op"] for e in shown} == dict(reversed(told))
    assert [e["count"] for e in shown] == sorted(counts.values(), reverse=True)


def test_a_history_in_which_nothing_ended_tells_of_no_exceptions() -> None:
    assert check("unhandled-exceptions", History([])).verdict is Verdict.UNKNOWN


# Logs


def run_folder(path: Path, logs: dict[str, bytes]) -> Path:
    """A folder with a history and nodes' logs."""
    line = {"index": 0, "time": MILLISECOND_NS, "process": 0, "type": "invoke"}
    (path / "history.jsonl").write_text(json.dumps({**line, "f": "read"}) + "\n")
    for name, text in logs.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(text)
    return path


def test_a_line_of_a_log_that_matches_is_told(tmp_path: Path) -> None:
    run = run_folder(
        tmp_path,
        {
            "nodes/n1/log": b"started\n",
            "nodes/n2/log": b"started\n\xff panic: torn\nended",
            "nodes/n2/data/log": b"panic: not a log of the node\n",
        },
    )
    result = check("log-file-pattern", load(run), pattern=r"panic: (\w+)$")
    assert names(result) == {"log-match"}
    (found,) = result.anomalies
    assert found.explanation == r"Line 2 of n2's log matches 'panic: (\\w+)$'."
    assert found.details == {
        "node": "n2",
        "file": "nodes/n2/log",
        "line": 2,
        "text": "\ufffd panic: torn",
    }
    assert (result.stats["logs"], result.stats["matches"]) == (2, 1)
    fine = check("log-file-pattern", load(run), pattern="fatal")
    assert fine.verdict is Verdict.VALID


LINES = st.lists(st.sampled_from([b"", b"panic", b"no panic", b"p", b"\xff", b"anic"]))
LOGS = st.dictionaries(st.sampled_from(["n1", "n2", "n3"]), LINES, max_size=2)


@MANY
@given(LOGS, st.sampled_from([b"\n", b"\r\n"]), st.sampled_from(["panic$", "^p", "^$"]))
def test_every_line_of_every_log_is_looked_at(
    logs: dict[str, list[bytes]], end: bytes, pattern: str
) -> None:
    expected = {
        (f"nodes/{node}/log", number)
        for node, lines in logs.items()
        for number, line in enumerate(lines, 1)
        if re.search(pattern, line.decode("utf-8", "replace"))
    }
    with tempfile.TemporaryDirectory() as folder:
        for node, lines in logs.items():
            path = Path(folder, "nodes", node, "log")
            path.parent.mkdir(parents=True)
            path.write_bytes(b"".join(line + end for line in lines))
        judged = History([], source=f"{folder}/history.jsonl")
        result = check("log-file-pattern", judged, pattern=pattern)
    verdict = Verdict.VALID if logs else Verdict.UNKNOWN
    assert result.verdict is (Verdict.INVALID if expected else verdict)
    found = {(a.details["file"], a.details["line"]) for a in result.anomalies}
    assert found <= expected
    assert len(found) == min(len(expected), EXAMPLES_MAX)
    stats = (result.stats["logs"], result.stats["matches"])
    assert stats == (len(logs), len(expected))


def test_logs_of_a_jepsen_store_are_found_by_name(tmp_path: Path) -> None:
    run = run_folder(tmp_path, {"n1/db.log": b"ok\n", "n2/db.log": b"ok\nBUG\n"})
    judged = load(run / "history.jsonl")
    assert check("log-file-pattern", judged, pattern="BUG").verdict is Verdict.UNKNOWN
    result = check("log-file-pattern", judged, pattern="BUG", files="*/db.log")
    assert result.verdict is Verdict.INVALID
    assert result.anomalies[0].details["node"] == "n2"


@pytest.mark.parametrize(
    ("log", "pattern", "node"),
    [
        ("nodes/n1/log", "nodes/*/log", "n1"),
        ("n1/db.log", "*/db.log", "n1"),
        ("logs/db-n1.log", "logs/db-*.log", "n1"),
        ("n1/log", "n?/log", None),
        ("log", "log", None),
    ],
)
def test_whose_log_it_is_shows_in_its_path(
    log: str, pattern: str, node: str | None
) -> None:
    assert node_of(log, pattern) == node


def test_text_json_and_report_say_where_and_what_without_its_tricks(
    tmp_path: Path,
) -> None:
    line = b"x" * 9000 + b" panic: \x1b[2J" + b"y" * 9000
    run = run_folder(tmp_path, {"nodes/n1/log": b"ok\n" + line + b"\n"})
    asked = ([str(run)], "log-file-pattern", {"pattern": "panic"})
    (result,) = check_files(*asked)
    (told,) = result.as_json()["found"]
    where = told["details"]
    assert (where["node"], where["file"], where["line"]) == ("n1", "nodes/n1/log", 2)
    assert r" panic: \x1b[2J" + "y" * 9 in where["text"]
    assert len(where["text"]) < 400
    assert where["text"][0] == where["text"][-1] == "\u2026"
    for result in check_files(*asked):
        text = render_text(result)
        assert f"nodes/n1/log:2: {where['text']}" in text
        assert "\x1b" not in text
        explained = Explanations(tmp_path / "out")
        told = explained.explain(result, "history")
        page = explained.finish([told]).read_text(encoding="utf-8")
        assert "nodes/n1/log" in page
        assert r"panic: \x1b[2J" in page


def test_a_line_without_end_is_looked_at_in_pieces(tmp_path: Path) -> None:
    run = run_folder(tmp_path, {"nodes/n1/log": b"x" * 300_000 + b"panic\nlast\n"})
    result = check("log-file-pattern", load(run), pattern="panic|last")
    assert [a.details["line"] for a in result.anomalies] == [1, 2]


def test_a_log_that_leads_out_of_the_run_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("panic\n")
    (tmp_path / "run/nodes/n1").mkdir(parents=True)
    (tmp_path / "run/nodes/n1/log").symlink_to(secret)
    run = run_folder(tmp_path / "run", {})
    result = check("log-file-pattern", load(run), pattern="panic")
    assert result.verdict is Verdict.UNKNOWN
    assert "no log of a node beside the history" in result.reason


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "needs a pattern"),
        ({"pattern": "("}, "pattern="),
        ({"pattern": "x", "files": "../*/log"}, "beside the history"),
        ({"pattern": "x", "files": "/var/log/syslog"}, "beside the history"),
    ],
)
def test_what_can_not_be_looked_for_is_refused(
    options: dict[str, str], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        check("log-file-pattern", History([]), **options)


def test_a_check_of_a_file_reaches_the_logs_beside_it(tmp_path: Path) -> None:
    run = run_folder(tmp_path, {"nodes/n1/log": b"panic: x\n"})
    for path in (run, run / "history.jsonl"):
        (found,) = check_files([path], "log-file-pattern", {"pattern": "panic"})
        assert found.as_json()["anomalies"] == {"log-match": 1}
        assert found.exit_status == EXIT_INVALID
