"""Whole runs over real processes: what they find, and what they survive."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness import formats
from harness.osworld.namespaces import why_no_switch
from harness.store import RunFolder

BAD_NODE = Path(__file__).with_name("bad_node.py")
RUNGS = ["switch", "proxy"]


def splitbrain(*arguments: str, env: dict[str, str] | None = None) -> list[str]:
    return [sys.executable, "-m", "harness", *arguments]


def run(results: Path, *arguments: str, timeout_s: float = 90) -> tuple[int, Any, str]:
    """Exit status, what `run --json` printed, and its complaint."""
    command = splitbrain("run", *arguments, "--results", str(results), "--json")
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    try:
        outcome = json.loads(done.stdout)
    except ValueError:
        outcome = None
    return done.returncode, outcome, done.stderr


@pytest.fixture(params=RUNGS)
def rung(request: pytest.FixtureRequest) -> str:
    if request.param == "switch" and (why := why_no_switch()):
        pytest.skip(f"no switch here: {why}")
    return str(request.param)


def bad_node(mode: str) -> str:
    return f"launch:{shlex.quote(sys.executable)} {shlex.quote(str(BAD_NODE))} {mode}"


def test_raft_stays_linearizable_under_every_fault_at_once(tmp_path: Path) -> None:
    if why := why_no_switch():
        pytest.skip(f"no switch here: {why}")
    status, outcome, err = run(
        tmp_path,
        *("raft", "--nemesis", "partition,kill,pause,clock", "--time-limit", "10"),
        *("--seed", "7"),
    )
    assert status == 0, (outcome, err)
    assert outcome["verdict"] == "valid"
    assert outcome["ops"]["ok"] > 100
    assert outcome["harness"] == {"ok": True, "errors": []}
    folder = RunFolder.open(Path(outcome["run"]))
    ended = [x for x in folder.read_lines("faults.jsonl") if x["event"] == "end"]
    assert len({line["kind"] for line in ended}) >= 2
    assert (folder.path / "report.html").stat().st_size > 10_000
    assert (folder.path / "plan.yaml").read_text().count("fault:") == len(ended)


def test_local_reads_are_convicted_on_either_rung(tmp_path: Path, rung: str) -> None:
    status, outcome, err = run(
        tmp_path,
        *("raft", "--set", "reads=local", "--nemesis", "partition"),
        *("--time-limit", "8", "--seed", "1", "--network", rung, "--nodes", "3"),
    )
    assert status == 1, (outcome, err)
    checker = outcome["checkers"]["linearizable"]
    assert checker["anomalies"][0]["ops"]
    assert checker["anomalies"][0]["explanation"]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("exit", "n1 exited with status 3 before it served; its log ends: cannot find"),
        ("deaf", "n1 did not serve on"),
    ],
)
def test_a_node_that_never_serves_leaves_the_verdict_unknown(
    tmp_path: Path, mode: str, reason: str
) -> None:
    status, outcome, _ = run(
        tmp_path,
        *(bad_node(mode), "--nodes", "1", "--time-limit", "1", "--network", "proxy"),
        *("--set", "ready_timeout_s=1"),
    )
    assert status == 2
    assert outcome["verdict"] == "unknown"
    assert outcome["reason"].startswith(reason)
    assert outcome["harness"]["ok"]


@pytest.mark.parametrize(
    ("mode", "counter"),
    [
        ("garbage", "malformed"),
        ("twice", "duplicate"),
        ("late", "timeouts"),
        ("flood", "flood"),
    ],
)
def test_a_node_that_sends_nonsense_is_counted_and_never_believed(
    tmp_path: Path, mode: str, counter: str
) -> None:
    status, outcome, err = run(
        tmp_path,
        *(bad_node(mode), "--nodes", "1", "--time-limit", "2", "--network", "proxy"),
        *("--set", "register.keys=1", "--concurrency", "2", "--seed", "1"),
    )
    assert status in {0, 1, 2}, err
    counters = RunFolder.open(Path(outcome["run"])).read_json("run.json")["counters"]
    assert counters[counter] > 0, counters


def test_a_node_that_never_answers_gives_no_verdict(tmp_path: Path) -> None:
    status, outcome, _ = run(
        tmp_path,
        *(bad_node("mute"), "--nodes", "1", "--time-limit", "1", "--network", "proxy"),
        *("--set", "register.keys=1", "--concurrency", "2", "--seed", "1"),
    )
    assert status == 2
    assert outcome["verdict"] == "unknown"
    assert outcome["ops"]["ok"] == 0


def test_a_node_that_lies_is_convicted(tmp_path: Path) -> None:
    status, outcome, _ = run(
        tmp_path,
        *(bad_node("lie"), "--nodes", "1", "--time-limit", "1", "--network", "proxy"),
        *("--ops", "200", "--seed", "1"),
    )
    assert status == 1
    assert outcome["verdict"] == "invalid"


IMPOSSIBLE = [
    (["raft", "--nodes", "0"], "--nodes 0: must be from 1 to 64"),
    (["raft", "--concurrency", "0"], "--concurrency 0: must be from 1"),
    (["raft", "--nodes", "1", "--nemesis", "partition"], "at least 2 nodes"),
    (["raft", "--nemesis", "partiton"], "did you mean partition"),
    (["raft", "--nemesis", "kill,kill"], "names kill twice"),
    (["raft", "--workload", "registr"], "did you mean register"),
    (["rafd"], "did you mean raft"),
    (["raft:x"], "write the system as raft"),
    (["launch"], "write the system as launch:..."),
    (["raft", "--set", "reads=lokal"], "did you mean local"),
    (["raft", "--set", "reeds=local"], "did you mean reads"),
    (["raft", "--set", "reads"], "write it as KEY=VALUE"),
    (["raft", "--set", "clock.drift=1"], "takes no part in this run"),
    (["raft", "--time-limit", "0"], "--time-limit 0: must be from 0.1"),
    (["raft", "--time-limit", "soon"], "is not a valid float"),
    (["raft", "--plan", "nowhere.yaml"], "cannot read plan nowhere.yaml"),
    (["raft", "--seeds", "0"], "must be 1 or more"),
    (["raft", "--frobnicate"], "No such option"),
]


@pytest.mark.parametrize(("arguments", "complaint"), IMPOSSIBLE)
def test_impossible_runs_are_refused_in_one_line_before_anything_starts(
    tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    status, outcome, err = run(tmp_path, *arguments)
    assert (status, outcome) == (254, None)
    assert complaint in err
    assert err.startswith("splitbrain: ")
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def descendants_tagged(tag: str) -> list[psutil.Process]:
    """Processes whose environment carries `tag`, wherever they hang."""
    found = []
    for process in psutil.process_iter():
        try:
            if tag in process.environ().get("SPLITBRAIN_TEST_TAG", ""):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def wait_until(condition: Any, what: str, limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name
)
def test_however_a_run_is_ended_nothing_stays_behind_and_the_history_is_kept(
    tmp_path: Path, rung: str, number: signal.Signals
) -> None:
    tag = f"{os.getpid()}-{rung}-{number.name}"
    command = splitbrain(
        *("run", "raft", "--nodes", "3", "--time-limit", "60", "--seed", "1"),
        *("--network", rung, "--nemesis", "pause", "--results", str(tmp_path)),
    )
    process = subprocess.Popen(
        command,
        env={**os.environ, "SPLITBRAIN_TEST_TAG": tag},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    history = tmp_path / "latest" / "history.jsonl"

    def has_recorded() -> bool:
        return history.exists() and history.stat().st_size > 10_000

    wait_until(has_recorded, "some operations recorded")
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    expected = -9 if number is signal.SIGKILL else 255
    assert process.returncode == expected, err.decode()
    wait_until(lambda: not descendants_tagged(tag), "all processes of the run gone")
    assert len(formats.load(history, tolerate_torn_tail=True)) > 20
    report = subprocess.run(
        splitbrain("report", str(tmp_path / "latest")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.returncode == 255
    assert "prefix" in report.stdout
