"""Campaigns on a cluster: a scheduler of Dask and workers, real processes here.

Whatever is killed on the way, verdicts are those of this machine, and nothing is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from harness.bench.histories import Shape, generate
from harness.campaign.cluster import work
from harness.campaign.cluster.cluster import connected
from harness.campaign.cluster.workers import Workers
from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Outcome
from harness.errors import NotInstalledError
from harness.history.formats import jsonl
from harness.host import release
from harness.run.doctor import Finding
from harness.run.spec import TestSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
ALLOWED = "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"
"""Sets how many workers may die of a task."""
SUITE = """
name: mini
defaults: {world: sim, nemesis: [partition], time_limit_s: 2, rate: 20}
rows:
  - {name: one, system: raft, seeds: 8}
  - {name: two, system: zab, seeds: 4}
  - name: three
    system: raft
    set: {reads: local}
    expect: invalid
    seeds: 9
    time_limit_s: 8
"""
LONG = """
name: long
rows:
  - {name: first, system: raft, world: sim, ops: 20, rate: 20, time_limit_s: 2}
  - {name: second, system: raft, nemesis: [none], nodes: 3, time_limit_s: 90, seed: 7}
"""


def until(holds: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    until_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until_s, f"not in {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.02)


def begin(*words: object, cwd: Path, code: str = "") -> subprocess.Popen[str]:
    """Start `splitbrain`, after `code` if there is some."""
    prefix = [sys.executable, "-m", "harness"]
    if code:
        code += "; from harness.__main__ import main; main()"
        prefix = [sys.executable, "-c", f"import sys; {code}"]
    return subprocess.Popen(
        [*prefix, *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Status, output and errors of a command, once it has ended."""
    out, err = process.communicate(timeout=PATIENCE_S * 2)
    return process.returncode, out, err


def below(pid: int) -> list[psutil.Process]:
    """The processes below one."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_running(pid: int) -> bool:
    """Whether a run of real nodes goes on below a worker."""
    return len(below(pid)) > 8


@dataclass
class Fleet:
    """A scheduler with workers."""

    folder: Path
    scheduler: subprocess.Popen[bytes]
    address: str
    workers: list[subprocess.Popen[str]] = field(default_factory=list)

    def grow(self, code: str = "") -> subprocess.Popen[str]:
        """Start one more worker."""
        worker = begin("worker", self.address, "--jobs", 1, cwd=self.folder, code=code)
        assert worker.stdout is not None
        line = worker.stdout.readline()
        assert line.startswith("worker tcp://"), (line, worker.poll())
        self.workers.append(worker)
        return worker

    def command(self, *words: object) -> tuple[int, str, str]:
        """What comes of a command that uses it."""
        return ended(begin(*words, "--executor", self.address, cwd=self.folder))

    def close(self) -> None:
        """End all of it."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.communicate(timeout=PATIENCE_S)
        self.scheduler.terminate()
        self.scheduler.wait(PATIENCE_S)


@contextlib.contextmanager
def fleet(folder: Path, workers: int, allowed_failures: int = 3) -> Iterator[Fleet]:
    """A scheduler with so many workers, each of which does one run at a time."""
    file = folder / "scheduler.json"
    with (folder / "scheduler.log").open("wb") as log:
        scheduler = subprocess.Popen(
            [
                *(sys.executable, "-m", "dask", "scheduler", "--no-dashboard"),
                *("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT), ALLOWED: str(allowed_failures)},
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: whole(file), "a scheduler")
    except BaseException:  # whatever it is, it is raised again
        scheduler.kill()
        scheduler.wait()
        raise
    address = json.loads(file.read_text())["address"].replace("tcp://", "dask://")
    made = Fleet(folder, scheduler, address)
    try:
        for _ in range(workers):
            made.grow()
        yield made
    finally:
        made.close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Fleet]:
    """A scheduler with two workers."""
    with fleet(tmp_path, 2) as made:
        yield made


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Fleet]:
    """A scheduler with one worker."""
    with fleet(tmp_path, 1) as made:
        yield made


def long_suite(alone: Fleet) -> subprocess.Popen[str]:
    """A suite whose first row has ended, and whose second is a run of real nodes."""
    (alone.folder / "long.yaml").write_text(LONG)
    results = alone.folder / "results"
    suite = begin(
        *("suite", "long.yaml", "--executor", alone.address),
        *("--results", f"file://{results}"),
        cwd=alone.folder,
    )
    assert suite.stdout is not None
    assert suite.stdout.readline() == "first: valid, as expected\n"

    def is_recorded() -> bool:
        histories = results.glob("raft-register/*-7/history.jsonl")
        return any(history.stat().st_size for history in histories)

    until(is_recorded, "operations on real nodes")
    assert is_running(alone.workers[0].pid)
    return suite


def whole(file: Path) -> bool:
    """Whether a file of JSON is there, and not being written."""
    with contextlib.suppress(OSError, ValueError):
        return bool(json.loads(file.read_text()))
    return False


def rows_of(results: Path) -> dict[str, dict[str, Any]]:
    """The rows of the last suite, by name."""
    data = json.loads((results / "suites/latest/suite.json").read_text())
    return {row["name"]: row for row in data["rows"]}


@pytest.mark.parametrize(
    "how",
    [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)],
)
def test_verdicts_are_those_of_this_machine_though_a_worker_is_ended(
    how: signal.Signals, two: Fleet, tmp_path: Path
) -> None:
    (tmp_path / "mini.yaml").write_text(SUITE)
    local = ended(begin("suite", "mini.yaml", "--results", "local", cwd=tmp_path))
    assert local[0] == 0, local
    suite = begin("suite", "mini.yaml", "--executor", two.address, cwd=tmp_path)
    victim = two.workers[0].pid
    folders = tmp_path / "results"
    until(lambda: list(folders.glob("*-register/*/verdict.json")), "a first run")
    left = below(victim)
    assert left, "a worker has a process for runs"
    os.kill(victim, how)
    status, out, err = ended(suite)
    assert (status, err) == (0, ""), out
    until(lambda: not any(process.is_running() for process in left), "no orphans")
    here, there = rows_of(tmp_path / "local"), rows_of(folders)
    for name, row in here.items():
        for what in ("verdict", "anomalies", "ops", "seed", "runs"):
            assert row[what] == there[name][what], (name, what)
    for row in there.values():
        assert (tmp_path / row["run"] / "report.html").exists()
        assert "splitbrain-worker" not in row["repro"]


def test_an_interrupt_ends_runs_and_their_records_are_judged(
    alone: Fleet, tmp_path: Path
) -> None:
    suite, worker = long_suite(alone), alone.workers[0].pid
    suite.send_signal(signal.SIGINT)
    status, _, err = ended(suite)
    assert status == 2
    assert "interrupted" in err
    until(lambda: not is_running(worker), "no node is left")
    rows = rows_of(tmp_path / "results")
    assert rows["first"]["verdict"] == "valid"
    assert rows["second"]["verdict"] == "unknown"
    assert "interrupted after" in rows["second"]["skipped"]


def test_runs_end_with_the_command_that_asked_for_them(alone: Fleet) -> None:
    suite, worker = long_suite(alone), alone.workers[0].pid
    suite.kill()
    ended(suite)
    until(lambda: not is_running(worker), "no node is left")
    status, out, err = alone.command(
        *("run", "raft", "--world", "sim", "--seeds", 3, "--seed", 1),
        *("--time-limit", 1),
    )
    assert (status, err) == (0, ""), "the worker goes on"
    assert "3 of 3 seeds" in out


def test_what_was_done_is_kept_when_the_scheduler_dies(
    alone: Fleet, tmp_path: Path
) -> None:
    suite, [worker] = long_suite(alone), alone.workers
    left = below(worker.pid)
    alone.scheduler.kill()
    status, _, err = ended(suite)
    assert status == 255
    assert "splitbrain: the harness failed: the scheduler at dask://" in err
    assert err.count("\n") == 3, err
    rows = rows_of(tmp_path / "results")
    assert rows["first"]["verdict"] == "valid"
    assert rows["second"]["verdict"] == "not run"
    assert worker.wait(PATIENCE_S) == 255, "a worker ends with its scheduler"
    until(lambda: not any(process.is_running() for process in left), "no orphans")


def test_workers_write_to_a_shared_folder_or_to_a_store(
    alone: Fleet, tmp_path: Path
) -> None:
    (tmp_path / "mini.yaml").write_text(
        "name: mini\nrows:\n"
        "- {name: one, system: raft, world: sim, rate: 20, time_limit_s: 2}\n"
    )
    shared, store = tmp_path / "shared", tmp_path / "store"
    status, _, err = alone.command(
        "suite", "mini.yaml", "--results", f"file://{shared}"
    )
    assert (status, err) == (0, "")
    row = rows_of(shared)["one"]
    assert Path(row["run"]).is_relative_to(shared)
    assert (Path(row["run"]) / "report.html").exists()
    url = f"local://{store}"  # for fsspec a store like others
    status, _, err = alone.command("suite", "mini.yaml", "--results", url)
    assert (status, err) == (0, "")
    [report] = store.glob("raft-register/*/report.html")
    assert "splitbrain-worker" not in report.read_text()
    [index] = store.glob("suites/*-mini/suite.json")
    [told] = json.loads(index.read_text())["rows"]
    assert told["run"] == f"{url}/raft-register/{report.parent.name}"
    link = f'href="./../../raft-register/{report.parent.name}/report.html"'
    assert link in (index.parent / "index.html").read_text()
    assert not list((tmp_path / "results").glob("raft-register/*"))


@pytest.mark.nightly
def test_searches_use_the_workers(two: Fleet) -> None:
    words = ("explore", "raft", "--world", "sim", "--runs", 4, "--seed", 1)
    status, out, err = two.command(*words)
    assert (status, err) == (0, "")
    assert "0 distinct failures in 4 runs" in out


def test_keys_that_take_long_are_judged_by_workers(two: Fleet, tmp_path: Path) -> None:
    ops = list(generate(Shape("cas-register", 2_000, 10, keys=6)))
    broken = next(op for op in reversed(ops) if op.type == "ok" and op.f == "read")
    broken.value = 99
    (tmp_path / "history.jsonl").write_bytes(b"".join(jsonl.write(ops)))
    words = ("check", "history.jsonl", "--model", "cas-register", "--json")
    _, here, _ = ended(begin(*words, cwd=tmp_path))
    at_once = "import checkers.linearizable as c; c.ALONE_S = -1.0"
    helped = begin(*words, "--executor", two.address, cwd=tmp_path, code=at_once)
    status, there, err = ended(helped)
    assert (status, err) == (1, "")
    ours, theirs = json.loads(here), json.loads(there)
    for what in ("verdict", "anomalies", "found"):
        assert ours[what] == theirs[what]
    assert ours["stats"]["keys"] == theirs["stats"]["keys"] == 6
    assert any(below(worker.pid) for worker in two.workers), "somebody worked"


def end_the_worker(_: Path, experiment: Experiment) -> Outcome:
    """Carry out an experiment that kills the worker that it was given to."""
    runner = psutil.Process(os.getppid())
    worker = runner.parent()
    assert worker is not None
    worker.kill()
    return Outcome(experiment=experiment, verdict="valid")


@pytest.mark.nightly
def test_what_kills_its_workers_is_a_failure_of_the_harness(tmp_path: Path) -> None:
    experiment = Experiment(TestSpec(system="raft", workload="register", world="sim"))
    with fleet(tmp_path, 2, allowed_failures=1) as made:
        with (
            connected(made.address, tmp_path, "", print) as engine,
            engine.executor(end_the_worker, tmp_path, 1) as executor,
        ):
            executor.submit(experiment)
            [(_, outcome)] = executor.as_completed()
        assert [worker.wait(PATIENCE_S) for worker in made.workers] == [-9, -9]
    assert outcome is not None
    assert outcome.verdict == "error"
    assert "each worker that carried it out died" in outcome.reason


class FakeClient:
    """Answers for two workers, of which one has what an experiment needs."""

    status = "running"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def nthreads(self, **_: object) -> dict[str, int]:
        return {"tcp://a": 2, "tcp://b": 4}

    def run_on_scheduler(self, told: Callable[[], object]) -> object:
        return told()

    def run(self, what: object, *_: object, workers: list[str], **__: object) -> Any:
        if what is work.about:
            states = {"tcp://a": "ok", "tcp://b": "--"}
            return {
                name: work.About(
                    release.versions(), [Finding("etcd", states[name], "")]
                )
                for name in workers
            }
        self.asked += workers
        why = {"tcp://a": ("", False), "tcp://b": ("etcd isn't installed", True)}
        return {name: why[name] for name in workers}


def test_experiments_go_to_workers_that_can_carry_them_out() -> None:
    client = FakeClient()
    workers = Workers(client, "dask://x:1", print)  # type: ignore[arg-type]  # a fake
    asked = Experiment(TestSpec(system="etcd", workload="register"))
    assert [each.address for each in workers.able(asked)] == ["tcp://a"]
    assert [each.address for each in workers.able(asked.with_seed(7))] == ["tcp://a"]
    assert sorted(client.asked) == ["tcp://a", "tcp://b"], "each sort is asked once"
    simulated = Experiment(TestSpec(system="raft", workload="register", world="sim"))
    assert len(workers.able(simulated)) == 2
    workers.refuse(asked)
    del workers.members["tcp://a"]
    with pytest.raises(
        NotInstalledError, match=r"etcd isn't installed \(worker tcp://b\)"
    ):
        workers.refuse(asked)


def test_only_keys_are_judged_elsewhere(tmp_path: Path) -> None:
    words = ("check", "x", "--checker", "set", "--executor", "dask://127.0.0.1:1")
    status, _, err = ended(begin(*words, cwd=tmp_path))
    assert status == 254
    assert "set judges on this machine" in err


def test_a_worker_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    other = (
        "from harness.host import release; mine = release.versions(); "
        "release.versions = lambda: {**mine, 'splitbrain': '0.0.9'}"
    )
    with fleet(tmp_path, 0) as made:
        made.grow(other)
        status, _, err = made.command("run", "raft", "--world", "sim", "--seeds", 2)
    assert status == 254
    assert err.count("\n") == 1
    assert "worker tcp://127.0.0.1:" in err
    assert "is splitbrain 0.0.9" in err
    assert "and this is splitbrain" in err


@pytest.mark.parametrize(
    ("executor", "why"),
    [
        ("dask://127.0.0.1:1", "no scheduler of Dask answers at dask://127.0.0.1:1"),
        ("dask://127.0.0.1", "write dask://HOST:PORT"),
        ("ray://127.0.0.1:1", "there is no executor 'ray://127.0.0.1:1'"),
    ],
)
def test_an_executor_that_cant_be_had_is_refused_in_a_line(
    executor: str, why: str, tmp_path: Path
) -> None:
    words = ("run", "raft", "--seeds", 2, "--executor", executor)
    status, out, err = ended(begin(*words, cwd=tmp_path))
    assert (status, out) == (254, "")
    assert why in err
    assert err.count("\n") == 1


def test_without_dask_a_line_says_what_to_install(tmp_path: Path) -> None:
    lacking = "sys.modules['distributed'] = None"
    for words in (
        ("worker", "dask://127.0.0.1:1"),
        ("run", "raft", "--seeds", 2, "--executor", "dask://127.0.0.1:1"),
    ):
        status, _, err = ended(begin(*words, cwd=tmp_path, code=lacking))
        assert status == 254
        assert "pip install 'splitbrain[cluster]'" in err
        assert err.count("\n") == 1
