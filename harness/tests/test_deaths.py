"""Whatever ends a run, at whatever moment, nothing of it is left.

Runs are ended at random moments, drawn from seeds; `pytest --hypothesis-profile
nightly` draws more of them. Processes are found by a mark in what they were given, as
their names are those of everybody's runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import psutil
import pytest
from hypothesis import settings

from harness.tests.osworld_nodes import eventually
from harness.worlds.os.disk.mounting import why_no_disks
from harness.worlds.os.switch import why_no_switch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MOMENTS = 20 if settings().max_examples >= 20_000 else 1
LATEST_S = 3.0
ENDS_WITHIN_S = 60.0

LONG = ("--nodes", "3", "--nemesis", "kill,pause", "--time-limit", "300", "--seed", "1")
RUNS = {
    "switch": ("run", "raft", *LONG, "--network", "switch"),
    "proxy": ("run", "raft", *LONG, "--network", "proxy"),
    "disks": ("run", "raft", *LONG[:3], "power,kill", *LONG[4:]),
    "sim": ("run", "raft", *LONG[:4], "--world", "sim", "--time-limit", "1000"),
    "seeds": ("run", "raft", *LONG, "--seeds", "3", "--jobs", "2"),
    "sim-seeds": ("run", "raft", *LONG, "--world", "sim", "--seeds", "99"),
    "sim-jobs": ("run", "raft", *LONG, "--world", "sim", "--seeds", "99", "--jobs=2"),
    "suite": ("suite", "SUITE", "--jobs", "2"),
}
NIGHTLY = pytest.mark.nightly
MOSTLY_ALIKE = {"proxy", "sim-seeds", "sim-jobs"}
"""Runs that end as others do, and are stopped at night; every day they are killed."""
SUITE = """
name: deaths
defaults: {system: raft, nodes: 3, time_limit_s: 300, nemesis: [kill]}
rows:
- {name: a}
- name: planned
  nemesis: []
  plan:
  - {at: {time_s: 1}, fault: {kind: kill, target: [n1]}, heal: {after_s: 1}}
- {name: c}
"""


@dataclass
class Started:
    """A command of ours under way, and where it may leave something."""

    process: subprocess.Popen[str]
    mark: str
    results: Path
    scratch: Path

    def processes(self) -> list[psutil.Process]:
        """What it started, wherever that hangs by now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                given = [*process.cmdline(), *process.environ().values()]
                if any(self.mark in text for text in given):
                    found.append(process)
        return [one for one in found if one.is_running() and not is_over(one)]

    def part(self, name: str) -> psutil.Process:
        """The one descendant that has this name; of a controller it is its child's.

        It is waited for. Processes come and go while they are listed, and a list may
        lack one that is there.
        """
        wanted = "sb-warden" if name == "controller" else name
        found: list[psutil.Process] = []

        def look() -> bool:
            found.clear()
            with contextlib.suppress(psutil.Error):
                below = psutil.Process(self.process.pid).children(recursive=True)
                named = [process for process in below if process.name() == wanted]
                # A node is called as its warden is until its program takes over.
                found.extend(one for one in named if one.ppid() not in pids(named))
            return len(found) == 1

        eventually(look, f"{name} is there")
        parent = found[0].parent()
        assert parent is not None
        return parent if name == "controller" else found[0]

    def has_begun(self) -> bool:
        """It has made what it could leave behind."""
        return self.results.exists() or any(self.scratch.iterdir())

    def recorded_bytes(self) -> int:
        """How much history there is by now."""
        histories = self.results.rglob("history.jsonl")
        return sum(history.stat().st_size for history in histories)

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        """Signal the command; its status, and what it said, once it is gone."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=ENDS_WITHIN_S)
        return self.process.returncode, out, err

    def clear(self) -> None:
        """Kill the command, and whatever it has left."""
        self.process.kill()
        self.process.communicate()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def nothing_is_left(self) -> None:
        """Within moments, as the kernel takes its time with the last of them."""
        eventually(lambda: self.processes() == [], f"{self.processes()} are gone")
        eventually(
            lambda: list(self.scratch.iterdir()) == [],
            f"{list(self.scratch.iterdir())} are gone",
        )


def command(
    place: Path, *arguments: str, before: Callable[[], None] | None = None
) -> Started:
    """Start a command of ours in a new folder below `place`; SUITE names our suite."""
    mark = f"mark-{uuid4()}"
    place = place / mark
    scratch = place / "scratch"
    scratch.mkdir(parents=True)
    suite = place / "suite.yaml"
    suite.write_text(SUITE)
    words = [str(suite) if word == "SUITE" else word for word in arguments]
    results = place / "results"
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *words, "--results", str(results)],
        env={**os.environ, "TMPDIR": str(scratch), "SPLITBRAIN_TEST_MARK": mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=before,
    )
    return Started(process, mark, results, scratch)


def pids(processes: list[psutil.Process]) -> set[int]:
    return {process.pid for process in processes}


def is_over(process: psutil.Process) -> bool:
    """Whether it is gone, or waits to be reaped."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Starts a command of RUNS; whatever it leaves is gone after the test."""
    begun: list[Started] = []

    def begin(
        name: str, *options: str, before: Callable[[], None] | None = None
    ) -> Started:
        if (name == "switch") and (why := why_no_switch()):
            pytest.skip(f"no switch here: {why}")
        if (name == "disks") and (why := why_no_disks()):
            pytest.skip(f"no disks of ours here: {why}")
        begun.append(command(tmp_path, *RUNS[name], *options, before=before))
        return begun[-1]

    yield begin
    for one in begun:
        one.clear()


def wait_for_a_moment(started: Started, dice: random.Random) -> float:
    """Let it get so far that it could leave something, and some random way further."""
    eventually(started.has_begun, "the command has begun")
    moment_s = dice.uniform(0, LATEST_S)
    time.sleep(moment_s)
    return moment_s


@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize(
    "name",
    [
        # Its workers are those of `sim-jobs`.
        pytest.param(name, marks=[NIGHTLY] if name == "sim-seeds" else [])
        for name in RUNS
    ],
)
def test_nothing_outlives_a_command_that_is_killed(
    start: Callable[..., Started], name: str, moment: int
) -> None:
    started = start(name)
    at_s = wait_for_a_moment(started, random.Random(f"kill {name} {moment}"))
    assert started.end(signal.SIGKILL)[0] == -signal.SIGKILL, f"after {at_s} s"
    started.nothing_is_left()


@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[NIGHTLY] if name in MOSTLY_ALIKE else [])
        for name in RUNS
    ],
)
def test_one_stop_signal_ends_a_command_with_one_verdict(
    start: Callable[..., Started], name: str, moment: int
) -> None:
    dice = random.Random(f"stop {name} {moment}")
    number = dice.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    started = start(name, "--json", before=hear_all)
    at_s = wait_for_a_moment(started, dice)
    status, out, err = started.end(number)
    seen = f"{number.name} after {at_s} s: {status}\n{out}\n{err}"
    told = json.loads(out)
    told = told.get("last", told)
    assert status == 2, seen
    assert "harness failed" not in err, seen
    if name == "suite":
        assert "interrupted: " in err, seen
        verdicts = {row["verdict"] for row in told["rows"]}
        assert verdicts <= {"unknown", "not run"}, seen
        assert len(told["rows"]) == 3, seen
    else:
        assert (told["verdict"], told["interrupted"]) == ("unknown", True), seen
        assert told["reason"].startswith("interrupted "), seen
    started.nothing_is_left()


def hear_all() -> None:
    """Whoever runs the tests may ignore signals, and would have us ignore them too."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def ignore_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


PARTS = {
    "switch": ("controller", "sb-warden", "sb-switch"),
    "proxy": ("controller", "sb-warden", "sb-proxy"),
    "disks": ("controller", "sb-disk-n2"),
}


@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize(
    ("name", "part"),
    [
        pytest.param(
            name,
            part,
            # It takes as long as two others, which are killed every day.
            marks=[NIGHTLY] if name in MOSTLY_ALIKE or part == "sb-warden" else [],
        )
        for name, parts in PARTS.items()
        for part in parts
    ],
)
def test_a_run_one_of_whose_parts_is_killed_ends_and_says_which(
    start: Callable[..., Started], name: str, part: str, moment: int
) -> None:
    started = start(name, "--json")
    # Before there is a folder the machine is tried, with parts that don't stay.
    eventually(started.results.exists, "it has a folder")
    doomed = started.part(part)
    time.sleep(random.Random(f"{name} {part} {moment}").uniform(0, LATEST_S))
    doomed.kill()
    out, err = started.process.communicate(timeout=ENDS_WITHIN_S)
    assert started.process.returncode == 255, (out, err)
    outcome = json.loads(out)
    told = "; ".join(outcome["harness"]["errors"])
    word = part.removeprefix("sb-").replace("disk-", "disk of ")
    assert word in told, told
    assert "died" in told or "killed" in told, told
    assert "Traceback" not in err
    started.nothing_is_left()


@pytest.mark.parametrize(
    "name",
    ["switch", *(pytest.param(n, marks=NIGHTLY) for n in ("proxy", "sim", "suite"))],
)
def test_a_hangup_that_the_starter_ignores_is_ignored(
    start: Callable[..., Started], name: str
) -> None:
    started = start(name, "--json", before=ignore_hangups)
    eventually(lambda: started.recorded_bytes() > 10_000, "something is recorded")
    below = psutil.Process(started.process.pid).children(recursive=True)
    # The nodes are not ours to ask: a hangup ends them, as it should.
    for process in [psutil.Process(started.process.pid), *below]:
        with contextlib.suppress(psutil.NoSuchProcess):
            if "reference_impls" not in " ".join(process.cmdline()):
                process.send_signal(signal.SIGHUP)
    recorded_bytes = started.recorded_bytes()
    eventually(lambda: started.recorded_bytes() > recorded_bytes, "it goes on")
    status, out, err = started.end(signal.SIGTERM)
    assert status == 2, (out, err)
