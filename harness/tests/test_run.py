"""Whole runs over real processes: what they find, and what they survive."""

from __future__ import annotations

import importlib.util
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import yaml

from harness import cli
from harness.history import formats
from harness.host import program
from harness.run import doctor
from harness.run.store import RunFolder
from harness.worlds.os.switch import why_no_switch

if TYPE_CHECKING:
    from collections.abc import Callable

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
        *("raft", "--nemesis", "partition,kill,pause,clock", "--time-limit", "5"),
        *("--rate", "60", "--seed", "7"),
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


@pytest.mark.nightly  # every day, `test_monitor` has a real run that is convicted
@pytest.mark.parametrize("rung", ["switch", "proxy"], indirect=True)
def test_local_reads_are_convicted_on_either_rung(tmp_path: Path, rung: str) -> None:
    status, outcome, err = run(
        tmp_path,
        *("raft", "--set", "reads=local", "--nemesis", "partition"),
        *("--time-limit", "5", "--seed", "1", "--network", rung, "--nodes", "3"),
        *("--rate", "200"),
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
    ("mode", "counter", "limit_s"),
    [
        ("garbage", "malformed", "1"),
        ("twice", "duplicate", "1"),
        ("late", "timeouts", "2"),
        ("flood", "flood", "1"),
    ],
)
def test_a_node_that_sends_nonsense_is_counted_and_never_believed(
    tmp_path: Path, mode: str, counter: str, limit_s: str
) -> None:
    status, outcome, err = run(
        tmp_path,
        *(bad_node(mode), "--nodes", "1", "--time-limit", limit_s),
        *("--network", "proxy", "--set", "register.keys=1"),
        *("--concurrency", "2", "--seed", "1"),
    )
    assert status in {0, 1, 2}, err
    told = RunFolder.open(Path(outcome["run"])).read_as("run.json", dict[str, Any])
    assert told is not None
    counters = told["counters"]
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
    (["raft", "--nemesis", "gentel"], "did you mean gentle? (words about faults: none"),
    (["raft", "--world", "sim", "--pcap"], "--pcap needs --world os: messages pass"),
    (["raft", "--nodes", "0"], "--nodes': 0: it takes a whole number from 1 to 64"),
    (
        ["raft", "--concurrency", "0"],
        "--concurrency': 0: it takes a whole number from 1",
    ),
    (["raft", "--nodes", "1", "--nemesis", "partition"], "at least 2 nodes"),
    (["sqlite", "--nodes", "3"], "can't have 3 nodes (--nodes 1)"),
    (["sqlite", "--nemesis", "rot"], "can't be subjected to 'rot' (it can to: clock,"),
    (["sqlite", "--set", "synchronous=ful"], "synchronous"),
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
    (["raft", "--time-limit", "0"], "--time-limit': 0: it takes a number from 0.1"),
    (["raft", "--time-limit", "soon"], "soon: it takes a number from 0.1"),
    (["raft", "--plan", "nowhere.yaml"], "cannot read nowhere.yaml: No such file"),
    (["raft", "--plan", "/dev/null"], "/dev/null is not a plain file"),
    (["raft", "--plan", "/"], "cannot read /: Is a directory"),
    (
        ["raft", "--concurrency", "0"],
        "--concurrency': 0: it takes a whole number from 1",
    ),
    (["raft", "--rate", "-5"], "--rate': -5: it takes a number from 0.001"),
    (["raft", "--rate", "nan"], "--rate': nan: it takes a number from 0.001"),
    (["raft", "--time-limit", "inf"], "--time-limit': inf: it takes a number from 0.1"),
    (["raft", "--jobs", "0"], "--jobs': 0: it takes a whole number from 1"),
    (["raft", "--mutant", "two-vote"], "did you mean two-votes"),
    (["raft", "--mutant", "skip-barrier"], "that is one of three_phase_commit's"),
    (["etcd", "--mutant", "two-votes"], "etcd has no mutants"),
    (["etcd", "--world", "sim"], "etcd can't run in the simulator"),
    (["launch:true", "--world", "sim"], "launch can't run in the simulator"),
    (
        ["2pc", "--workload", "register"],
        "'register': its clients don't speak cas, register (it",
    ),
    (["raft", "--workload", "registry"], "did you mean register"),
    (["raft", "--nemesis", ","], "--nemesis names no fault"),
    (["raft", "--nemesis", "kill,kill"], "--nemesis names kill twice"),
    (["raft", "--nemesis", "all,kill"], "name no other kinds"),
    (["raft", "--nemesis", "hard,gentle"], "names the profiles hard and gentle"),
    (["raft", "--set", "reads"], "write it as KEY=VALUE"),
    (["raft", "--set", "read=log"], "did you mean reads"),
    (["raft", "--set", "ops_per_key=9"], "write kv.ops_per_key or register."),
    (["raft", "--set", "reads=log", "--set", "reads=local"], "gives reads twice"),
    (["raft", "--set", "initial_members=n1,n1"], "two servers called 'n1'"),
    (["raft", "--set", "initial_members=n9"], "there is no 'n9'"),
    (["raft", "--seeds", "0"], "--seeds': 0: it takes a whole number from 1"),
    (["raft", "--frobnicate"], "No such option"),
]


@pytest.mark.nightly
def test_the_leader_of_a_foreign_system_is_found_in_logs_and_hit(
    tmp_path: Path,
) -> None:
    """Its nodes are raft's; the harness isn't told so, and asks none of them."""
    raft = f"launch:{shlex.quote(sys.executable)} -m reference_impls.runtime raft"
    kill = {"kind": "kill", "target": "leader"}
    steps = [
        {
            "at": {"log": "became_leader", "count": 1},
            "fault": kill,
            "heal": {"after_s": 1},
        },
        {"at": {"time_s": 4}, "fault": kill, "heal": {"after_s": 1}},
    ]
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump(steps))
    shows = ("--set", r"leader_pattern= (n\d+) became_leader", "--plan", str(plan))
    limits = ("--time-limit", "7", "--rate", "200", "--seed", "3")
    status, outcome, err = run(
        tmp_path, raft, "--workload", "register", *shows, *limits
    )
    assert status == 0, (outcome, err)
    folder = Path(outcome["run"])
    lines = map(json.loads, (folder / "faults.jsonl").read_text().splitlines())
    struck = [line for line in lines if line["event"] == "start"]
    assert len(struck) == 2
    for line in struck:
        [node] = line["nodes"]
        assert line["evidence"]["target"].startswith("as the log of n")
        assert "became_leader" in (folder / "nodes" / node / "log").read_text()


@pytest.mark.nightly  # test_sim has the same of simulated runs
def test_many_seeds_end_with_the_first_that_is_not_valid(tmp_path: Path) -> None:
    arguments = ("raft", "--nodes", "3", "--nemesis", "partition", "--seed", "1")
    limits = ("--time-limit", "3", "--rate", "200", "--seeds", "5")
    broken = (*arguments, "--set", "reads=local", *limits)
    status, outcome, err = run(tmp_path, *broken)
    assert status == 1, (outcome, err)
    *before, last = outcome["seeds"]
    assert all(seed["verdict"] == "valid" for seed in before)
    assert (last["verdict"], last["anomalies"]) == ("invalid", ["stale-read"])
    assert outcome["last"]["run"] == last["run"]
    assert outcome["coverage"]["runs"] == len(outcome["seeds"])
    assert outcome["coverage"]["sentence"]
    assert Path(last["run"], "report.html").exists()
    assert "--expect" not in last["repro"]


@pytest.mark.nightly
def test_a_run_that_failed_as_it_was_to_is_shown_though_it_was_packed(
    tmp_path: Path,
) -> None:
    command = splitbrain(
        *("run", "raft", "--nodes", "3", "--nemesis", "partition", "--seed", "1"),
        *("--set", "reads=local", "--time-limit", "4", "--rate", "200"),
        *("--seeds", "5", "--expect", "invalid", "--results", str(tmp_path)),
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert "stale-read on key" in done.stdout
    assert "history.jsonl is missing" not in done.stdout


@pytest.mark.parametrize(
    ("expect", "status"),
    [pytest.param("valid", 0, marks=pytest.mark.nightly), ("invalid", 1)],
)
def test_many_seeds_are_told_one_by_one_and_end_as_expected(
    tmp_path: Path, expect: str, status: int
) -> None:
    command = splitbrain(
        *("run", "raft", "--nodes", "1", "--ops", "50", "--seed", "7", "--seeds", "2"),
        *("--expect", expect, "--results", str(tmp_path)),
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done
    assert done.stderr == "", "no progress line where there is no terminal"
    lines = done.stdout.splitlines()
    assert lines[0].startswith("seed 7: valid, ")
    assert lines[1].startswith("seed 8: valid, ")
    assert lines[2].startswith("all valid: 2 of 2 seeds, ")
    assert lines[3].startswith(f"repeat the last: {program.called()} run raft ")


def refusal(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit status, output and complaint of a command that does not come to run."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code, *capsys.readouterr()


def test_results_that_cannot_be_written_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for place, why in (("/proc/x", "No such file"), ("/dev/null", "Not a directory")):
        status, _, err = refusal(capsys, "run", "raft", "--results", place)
        assert status == 254
        assert f"cannot write results to {place}: {why}" in err
        assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(("arguments", "complaint"), IMPOSSIBLE)
def test_impossible_runs_are_refused_in_one_line_before_anything_starts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    status, out, err = refusal(capsys, "run", *arguments, "--results", str(tmp_path))
    assert (status, out) == (254, "")
    assert complaint in err
    assert err.startswith("splitbrain: ")
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("system", ["etcd", "pysyncobj"])
def test_a_system_that_is_not_installed_is_refused_with_the_package_to_install(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    system: str,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SPLITBRAIN_SYSTEMS", str(tmp_path / "none"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    results = tmp_path / "results"
    status, out, err = refusal(capsys, "run", system, "--results", str(results))
    assert (status, out) == (254, "")
    assert err.startswith(f"splitbrain: {system} is not ")
    assert "install " in err
    assert len(err.strip().splitlines()) == 1
    assert not results.exists()


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("{kind: kill, target: [n1, n1]}", "plan: kill: names n1 twice"),
        ("{kind: kill, target: [n9]}", "plan: kill: there is no node 'n9'"),
        ("{kind: partition, cut: [[n1, n1]]}", "plan: partition: names n1 twice"),
        ("{kind: partition, cut: [[n1, n9]]}", "plan: partition: there is no node"),
        ("{kind: fire}", "there is no nemesis called 'fire'"),
        ("{kind: kill, aim: leader}", "plan: kill has no parameter 'aim'"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, complaint: str
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(f"[{{at: {{time_s: 1}}, fault: {fault}, heal: {{after_s: 1}}}}]")
    results = str(tmp_path / "results")
    status, out, err = refusal(
        capsys, "run", "raft", "--plan", str(plan), "--results", results
    )
    assert (status, out) == (254, "")
    assert complaint in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("protocol", "nodes"),
    # All pairs of protocols and sizes are the simulator's (test_sim).
    [
        pytest.param("raft", 1, marks=pytest.mark.nightly),
        ("zab", 2),
        pytest.param("2pc", 7, marks=pytest.mark.nightly),
    ],
)
def test_clusters_of_any_size_serve_as_processes(
    tmp_path: Path, protocol: str, nodes: int
) -> None:
    status, outcome, err = run(
        tmp_path,
        *(protocol, "--nodes", str(nodes), "--time-limit", "1.5", "--seed", "1"),
        *("--rate", "200"),
    )
    assert status == 0, (outcome, err)
    assert outcome["ops"]["ok"] > 50


def test_a_run_on_the_lower_rung_says_why_and_keeps_it_in_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The controller is told that the switch can't be had, as on a hardened kernel."""
    why = doctor.Finding("network", doctor.MISSING, "it is forbidden.", "Allow it.")
    monkeypatch.setattr(doctor, "_switch", lambda: why)
    status = cli.cli.commands["run"].main(
        [
            *("raft", "--nodes", "3", "--time-limit", "1", "--seed", "1"),
            *("--results", str(tmp_path), "--json"),
        ],
        standalone_mode=False,
    )
    said = capsys.readouterr()
    assert status == 0, said
    assert said.err == (
        "splitbrain: the network is the proxy, which can't do all that the switch can: "
        "it is forbidden. Allow it.\n"
    )
    (test,) = tmp_path.glob("raft-register/*/test.yaml")
    record = yaml.safe_load(test.read_text())
    assert record["rung"] == "proxy"
    assert record["rung_reason"] in said.err
    assert "it is forbidden" in (test.parent / "report.html").read_text()


UNDER_WAY_S_MAX = 60
"""A run that is started while others load the machine took 8 s to begin."""


class Started:
    """A run in a process of its own, which does not outlive its test.

    Attributes:
        folder: Its run folder, as soon as there is one.
        process: The process.
    """

    def __init__(self, results: Path, *arguments: str) -> None:
        self.folder = results / "latest"
        self._printed = results / "printed"
        with self._printed.open("wb") as printed:
            self.process = subprocess.Popen(
                splitbrain("run", *arguments, "--results", str(results)),
                stdout=printed,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self._printed.read_text()

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the run is so far; fails with what is known of one that isn't."""
        deadline = time.monotonic() + UNDER_WAY_S_MAX
        while not condition():
            status = self.process.poll()
            if status is not None and not condition():
                pytest.fail(f"ended with {status}, not yet {what}; {self._so_far()}")
            if time.monotonic() > deadline:
                how = f"after {UNDER_WAY_S_MAX} s"
                pytest.fail(f"{how}, not yet {what}; {self._so_far()}")
            time.sleep(0.02)

    def has_recorded(self, bytes_min: int) -> Callable[[], bool]:
        """Whether so much stands in the history."""
        history = self.folder / "history.jsonl"
        return lambda: history.exists() and history.stat().st_size > bytes_min

    def end(self, number: signal.Signals, timeout_s: float = 60) -> int:
        """The exit status of the run, which is sent that signal."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def _so_far(self) -> str:
        files = {
            str(path.relative_to(self.folder)): path.stat().st_size
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }
        logs = {name: self._end_of(name) for name in files if name.endswith("/log")}
        return f"printed {self.printed!r}, recorded {files}, its logs end {logs}"

    def _end_of(self, name: str) -> str:
        return (self.folder / name).read_text(errors="replace")[-300:]


def test_a_run_that_does_not_get_far_says_how_far_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "UNDER_WAY_S_MAX", 0)
    with (
        pytest.raises(pytest.fail.Exception, match="0 s, not yet far; printed '', rec"),
        Started(tmp_path, bad_node("deaf"), "--nodes", "1") as started,
    ):
        started.wait_until(lambda: False, "far")
    assert started.process.returncode == -signal.SIGKILL
    with Started(tmp_path, "no-such-system") as started:
        started.process.wait()
        complaint = "ended with 254, not yet far; printed .*no-such-system"
        with pytest.raises(pytest.fail.Exception, match=complaint):
            started.wait_until(lambda: False, "far")


@pytest.mark.parametrize(
    ("rung", "number"),
    [
        ("switch", signal.SIGINT),
        pytest.param("switch", signal.SIGTERM, marks=pytest.mark.nightly),
        ("switch", signal.SIGKILL),
        pytest.param("proxy", signal.SIGINT, marks=pytest.mark.nightly),
        pytest.param("proxy", signal.SIGTERM, marks=pytest.mark.nightly),
        ("proxy", signal.SIGKILL),
    ],
    indirect=["rung"],
    ids=lambda value: getattr(value, "name", value),
)
def test_what_an_ended_run_recorded_is_kept_and_can_be_judged(
    tmp_path: Path, rung: str, number: signal.Signals
) -> None:
    with Started(
        tmp_path,
        *("raft", "--nodes", "3", "--time-limit", "60", "--seed", "1"),
        *("--network", rung, "--nemesis", "pause"),
    ) as started:
        started.wait_until(started.has_recorded(10_000), "some operations recorded")
        status = started.end(number)
    killed = number is signal.SIGKILL
    assert status == (-9 if killed else 2), started.printed
    history = started.folder / "history.jsonl"
    assert len(formats.load(history, tolerate_torn_tail=True)) > 20
    report = subprocess.run(
        splitbrain("report", str(tmp_path / "latest")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.returncode == (255 if killed else 2)
    told = "history is a prefix" if killed else "interrupted after "
    assert told in report.stdout


@pytest.mark.parametrize(
    "rung", ["switch", pytest.param("proxy", marks=pytest.mark.nightly)], indirect=True
)
def test_an_interrupted_run_is_invalid_where_it_has_broken_a_promise(
    tmp_path: Path, rung: str
) -> None:
    with Started(
        tmp_path,
        *(bad_node("lie"), "--nodes", "1", "--time-limit", "60"),
        *("--network", rung, "--seed", "1"),
    ) as started:
        started.wait_until(started.has_recorded(100_000), "lies recorded")
        assert started.end(signal.SIGTERM) == 1, started.printed
    assert "INVALID" in started.printed
    assert "(interrupted)" in started.printed


def test_a_run_that_never_comes_up_can_be_interrupted(tmp_path: Path) -> None:
    with Started(
        tmp_path,
        *(bad_node("deaf"), "--nodes", "1", "--network", "proxy"),
        *("--set", "ready_timeout_s=600", "--json"),
    ) as started:
        log = started.folder / "nodes" / "n1" / "log"
        started.wait_until(log.exists, "the node started")
        assert started.end(signal.SIGTERM) == 2
    assert json.loads(started.printed)["reason"].startswith("interrupted after ")
