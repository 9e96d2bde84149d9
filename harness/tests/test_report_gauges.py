"""What nodes used and what they logged have their places on a report's axis."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from harness.report import build, loglines, resources, story
from harness.report.columns import Strings
from harness.report.folder import load
from harness.run import execution
from harness.run.spec import TestSpec
from harness.tests.test_report import Page, assert_harmless

if TYPE_CHECKING:
    from pathlib import Path

Lines = list[tuple[float, str, int]]
MS = 1_000_000


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "test.yaml").write_text(json.dumps({"world": "os", "nodes": ["n1"]}))
    (tmp_path / "run.json").write_text(json.dumps({"seconds": 2, "start_mono_ns": 0}))
    for name in ("history.jsonl", "clocks.jsonl", "faults.jsonl"):
        (tmp_path / name).write_text("")
    (tmp_path / "nodes/n1").mkdir(parents=True)
    return tmp_path


def write(path: Path, *lines: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def log_of(run_dir: Path, node: str = "n1") -> Lines:
    """The lines of a node's log that the page has: time in ms, text, level."""
    folder, strings = load(run_dir), Strings()
    told = story.tell(folder)
    logs = loglines.columns(folder, told.anomalies, strings.add)
    if node not in logs:
        return []
    log = logs[node]
    rows = zip(log["t"], log["line"], log["level"], strict=True)
    return [(t / 1000, strings.table[line], level) for t, line, level in rows]


def grown(run_dir: Path, *samples: tuple[int, int]) -> None:
    """Samples of n1's log: time in ms, length."""
    write(run_dir / "logtimes.jsonl", *(
        {"time": ms * MS, "node": "n1", "bytes": length} for ms, length in samples
    ))  # fmt: skip


def test_a_line_has_the_time_of_the_sample_by_which_it_stood_in_the_log(
    run_dir: Path,
) -> None:
    (run_dir / "nodes/n1/log").write_bytes(b"one\ntwo\n\x1b[31mWARN three\npanic: 4\n")
    grown(run_dir, (100, 4), (200, 9), (300, 24))
    assert log_of(run_dir) == [
        (100, "one", loglines.PLAIN),
        (200, "two", loglines.PLAIN),
        (300, "WARN three", loglines.WARNING),
        (2000, "panic: 4", loglines.TROUBLE),  # after the last sample
    ]


def test_a_log_that_lost_its_middle_keeps_the_times_of_its_beginning(
    run_dir: Path,
) -> None:
    text = b"one\n[splitbrain: 900 bytes of log dropped here]\nlast\nnew\n"
    (run_dir / "nodes/n1/log").write_bytes(text)
    grown(run_dir, (100, 4), (200, 960), (300, len(text) - 4), (400, len(text)))
    assert [time for time, *_ in log_of(run_dir)] == [100, 300, 300, 400]


def test_a_log_without_samples_has_no_lines_on_the_axis(run_dir: Path) -> None:
    (run_dir / "nodes/n1/log").write_bytes(b"one\n")
    assert log_of(run_dir) == []


def test_of_too_many_lines_those_of_trouble_stay(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loglines, "LINES_MAX", 4)
    lines = [f"line {i}\n" for i in range(9)] + ["Error: no\n", "timeout\n"]
    (run_dir / "nodes/n1/log").write_text("".join(lines))
    grown(run_dir, (100, 10_000))
    kept = [text for _, text, _ in log_of(run_dir)]
    assert kept == ["line 0", "line 8", "Error: no", "timeout"]


def test_only_the_end_of_a_long_log_is_read(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loglines, "LOG_BYTES_MAX", 12)
    (run_dir / "nodes/n1/log").write_text("first\nsecond\nthird\n")
    grown(run_dir, (100, 6), (200, 13), (300, 19))
    assert log_of(run_dir) == [(300, "third", loglines.PLAIN)]


def test_lines_of_simulated_nodes_have_the_time_that_they_tell(tmp_path: Path) -> None:
    spec = TestSpec(system="raft", world="sim", rate=20.0, time_limit_s=2.0, seed=3)
    path = execution.run(spec, tmp_path).path
    first, *_ = (path / "nodes/n1/log").read_text().splitlines()
    lines = log_of(path)
    assert lines[0][1] == first
    times = [time for time, *_ in lines]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] < 4000


def test_resources_are_shares_of_a_core_between_samples(run_dir: Path) -> None:
    usage = {"node": "n1", "rss_bytes": 7, "files": 3, "data_bytes": 9}
    write(
        run_dir / "resources.jsonl",
        {**usage, "time": 500 * MS, "pid": 4, "cpu_ns": 100 * MS},
        {**usage, "time": 1000 * MS, "pid": 4, "cpu_ns": 350 * MS},
        {**usage, "time": 1500 * MS, "pid": 4, "cpu_ns": 300 * MS},  # a child ended
        {**usage, "time": 2000 * MS, "pid": 5, "cpu_ns": 20 * MS},
    )
    assert resources.columns(load(run_dir)) == {
        "n1": {
            "t": [500_000, 1_000_000, 1_500_000, 2_000_000],
            "cpu": [None, 50.0, 0.0, None],
            "rss": [7] * 4,
            "fds": [3] * 4,
            "disk": [9] * 4,
        }
    }


def test_a_folder_of_an_earlier_version_lacks_nothing(run_dir: Path) -> None:
    build(run_dir)
    problems = load(run_dir).problems
    assert not [p for p in problems if "resources" in p or "logtimes" in p]


@pytest.mark.parametrize("name", ["resources.jsonl", "logtimes.jsonl"])
@pytest.mark.parametrize(
    "content",
    [
        b"\xff\x00\n",
        b'{"time":1e308,"node":"<script>","pid":9,"cpu_ns":1,"bytes":-7}\n{"time":',
        b'{"time":1,"node":"n1","pid":1,"cpu_ns":1,"bytes":9}\n[]\n{}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_damaged_records_are_named_in_the_page(
    run_dir: Path, name: str, content: bytes
) -> None:
    (run_dir / "nodes/n1/log").write_bytes(b"one\n")
    (run_dir / name).write_bytes(content)
    text = build(run_dir).read_text("utf-8")
    assert f"<li>{name}: " in text
    assert_harmless(Page(text))


def test_a_link_to_elsewhere_is_not_read(run_dir: Path) -> None:
    (run_dir / "resources.jsonl").symlink_to("/etc/passwd")
    folder = load(run_dir)
    assert resources.columns(folder) == {}
    assert "resources.jsonl is a link to elsewhere, and was ignored." in folder.problems


def test_real_nodes_are_measured_while_a_run_lasts(tmp_path: Path) -> None:
    spec = TestSpec(system="raft", rate=20.0, time_limit_s=2.0, seed=3)
    folder = load(execution.run(spec, tmp_path).path)
    used = resources.columns(folder)
    assert sorted(used) == folder.nodes, folder.problems
    for node, columns in used.items():
        assert columns["t"] == sorted(columns["t"]), node
        assert min(columns["rss"]) > 1 << 20, node
        assert min(columns["fds"]) > 2, node
    logged = log_of(folder.path, "n1")
    text = (folder.path / "nodes/n1/log").read_text()
    assert [line for _, line, _ in logged] == text.splitlines()
    assert all(0 <= ms <= folder.end_ns / MS for ms, *_ in logged)
