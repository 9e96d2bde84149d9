"""Replays, searches and explanations that are ended: by signals, and by a kill.

A signal is sent when a command is seen to be at a certain point: its handlers are
installed, a library is loaded, or its progress line says that there is something to
lose. The progress line needs a terminal, so there is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from harness.campaign.carrying import keep
from harness.campaign.experiment import Experiment
from harness.host import interrupts
from harness.run.completing import complete
from harness.run.spec import DEFAULTS, TestSpec
from harness.tests.osworld_nodes import eventually
from harness.tests.test_controller_killed import all_can_be_read
from harness.tests.test_deaths import ENDS_WITHIN_S, Started, hear_all
from harness.worlds.os.switch import why_no_switch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AT_WORK_WITHIN_S = 120.0
BUSY = ("--budget", "10m")


@dataclass(frozen=True)
class Work:
    """A command that works for minutes.

    Attributes:
        words: Its words; RUN stands for the folder of a failed run.
        at_work: A pattern of its progress line by which it has something to lose.
        statuses: What it may end with when it is stopped.
        world: Whose processes it starts.
    """

    words: tuple[str, ...]
    at_work: str
    statuses: tuple[int, ...]
    world: str = "sim"

    @property
    def has_results(self) -> bool:
        return (
            self.words[0] in {"replay", "explore"} and "--exhaustive" not in self.words
        )


EXPLORE = ("explore", "raft", "--set", "reads=local", "--nemesis", "partition,kill")
WORKS = {
    "replay": Work(("replay", "RUN", "--times", "5000", "--jobs", "2"),
                   r"\b[1-9]\d* of 5000 replays", (1,)),
    "shrink": Work(("shrink", "RUN", *BUSY, "--jobs", "2"), r"seeds? each", (1,)),
    "explain": Work(("explain", "RUN", "--moments", "1000", "--runs", "5"),
                    r"\b[2-9] of 1000 moments", (2,)),
    "explore": Work((*EXPLORE, *BUSY, "--world", "sim", "--jobs", "2"),
                    r"\b[1-9]\d* runs", (1, 2, 0)),
    "exhaustive": Work(("explore", "raft", "--exhaustive", *BUSY),
                       r"depth [3-9] done", (2,)),
    "replay-os": Work(("replay", "RUN", "--times", "50", "--jobs", "2"),
                      r"\b[1-9]\d* of 50 replays", (1, 2), "os"),
    "shrink-os": Work(("shrink", "RUN", *BUSY, "--world", "os"),
                      r"as it is: failed 1", (1, 2), "os"),
    "explore-os": Work((*EXPLORE, *BUSY, "--jobs", "2"),
                       r"\b[1-9]\d* runs", (1, 2, 0), "os"),
}  # fmt: skip
EVERY_DAY = {"replay", "shrink", "exhaustive"}


@dataclass
class Shown(Started):
    """A command whose progress line is read.

    Attributes:
        terminal: The descriptor by which its standard error is read.
        said: What came from there.
    """

    terminal: int = -1
    said: bytearray = field(default_factory=bytearray)

    def listen(self) -> str:
        """What it has said to the terminal until now."""
        while select.select([self.terminal], [], [], 0)[0]:
            try:
                more = os.read(self.terminal, 65536)
            except OSError:  # nobody holds the other end any more
                break
            if not more:
                break
            self.said += more
        return self.said.decode(errors="replace").replace("\r\x1b[2K", "\n")

    def wait_for(self, pattern: str) -> None:
        """Wait until its progress line says something."""
        deadline_s = time.monotonic() + AT_WORK_WITHIN_S
        while not re.search(pattern, self.listen()):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline_s, (pattern, self.said)
            time.sleep(0.01)

    def ended(self) -> tuple[int, str]:
        """Its status and output, once it has ended."""
        deadline_s = time.monotonic() + ENDS_WITHIN_S
        while self.process.poll() is None:
            self.listen()  # a full terminal would hold it up
            assert time.monotonic() < deadline_s, self.said
            time.sleep(0.01)
        out, _ = self.process.communicate()
        self.listen()
        return self.process.returncode, out

    def clear(self) -> None:
        if self.process.poll() is None:
            super().clear()
        with contextlib.suppress(OSError):
            os.close(self.terminal)


def begun(place: Path, *words: str) -> Shown:
    """Start a command with a terminal for its standard error."""
    mark = f"mark-{uuid4()}"
    scratch = place / mark
    scratch.mkdir()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *words],
        env={**os.environ, "TMPDIR": str(scratch), "SPLITBRAIN_TEST_MARK": mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        preexec_fn=hear_all,
    )
    os.close(theirs)
    return Shown(process, mark, place / "results", scratch, ours)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Shown]]:
    """Starts commands; whatever they leave is gone after the test."""
    all_begun: list[Shown] = []

    def begin(*words: str) -> Shown:
        all_begun.append(begun(tmp_path, *words))
        return all_begun[-1]

    yield begin
    for one in all_begun:
        one.clear()


def failed_run(results: Path, world: str) -> Path:
    """The folder of a run in which cut-off leaders answer reads."""
    spec = TestSpec(
        system="raft",
        workload="",
        nemesis=["partition"],
        world=world,  # type: ignore[arg-type]  # one of ours
        seed=2 if world == "sim" else 1,
        options={"reads": "local"},
        **{**DEFAULTS[world], "time_limit_s": 2.5 if world == "sim" else 30.0},
    )
    spec.until_invalid = world == "os"
    complete(spec)
    outcome = keep(results, Experiment(spec))
    assert outcome.verdict == "invalid", outcome
    return Path(outcome.folder)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """World -> the folder of a failed run there, made when it is needed."""
    made: dict[str, Path] = {}

    def run(world: str) -> Path:
        if world == "os" and (why := why_no_switch()):
            pytest.skip(f"no switch here: {why}")
        if world not in made:
            made[world] = failed_run(tmp_path_factory.mktemp(world), world)
        return made[world]

    return run


@pytest.fixture
def run_of(failed: Callable[[str], Path], tmp_path: Path) -> Callable[[Work], Path]:
    """A copy of the failed run that a work is about."""

    def copy(work: Work) -> Path:
        if "RUN" not in work.words:
            if work.world == "os" and (why := why_no_switch()):
                pytest.skip(f"no switch here: {why}")
            return tmp_path
        whole = failed(work.world)
        copied = tmp_path / "run"
        return Path(shutil.copytree(whole, copied, symlinks=True))

    return copy


def words_of(work: Work, run: Path, place: Path) -> list[str]:
    words = [str(run) if word == "RUN" else word for word in work.words]
    return [*words, *(["--results", str(place)] if work.has_results else [])]


CASES = [
    pytest.param(
        name,
        number,
        twice,
        id=f"{name} {number.name}{' twice' if twice else ''}",
        # Each command gets one signal every day, another one each.
        marks=[]
        if name in EVERY_DAY and not twice and at % 3 == which
        else [pytest.mark.nightly],
    )
    for at, name in enumerate(WORKS)
    for which, number in enumerate(STOPS)
    for twice in (False, True)
]


@pytest.mark.parametrize(("name", "number", "twice"), CASES)
def test_a_stop_signal_amid_work_ends_it_with_what_it_has(
    start: Callable[..., Shown],
    run_of: Callable[[Work], Path],
    tmp_path: Path,
    name: str,
    number: signal.Signals,
    twice: bool,
) -> None:
    work = WORKS[name]
    run = run_of(work)
    started = start(*words_of(work, run, tmp_path / "results"))
    started.wait_for(work.at_work)
    started.process.send_signal(number)
    if twice:
        insist_s = time.monotonic() + interrupts.ECHO_S + 0.1
        while started.process.poll() is None and time.monotonic() < insist_s:
            started.listen()
            time.sleep(0.01)
        started.process.send_signal(number)
    status, out = started.ended()
    said = started.listen()
    seen = f"{number.name}: {status}\n{out}\n{said}"
    assert status in {*work.statuses, *([2] if twice else [])}, seen
    assert "Traceback" not in said + out, seen
    assert "harness failed" not in said + out, seen
    assert "interrupted" in said + out, seen
    started.nothing_is_left()
    all_can_be_read(tmp_path)
    if not twice:
        there_is_something(work, out, run, tmp_path / "results")


def there_is_something(work: Work, out: str, run: Path, results: Path) -> None:
    """What was found until the signal was kept, and told."""
    match work.words[0]:
        case "replay":
            assert re.search(r"failed \d+ of \d+|not reproduced", out), out
        case "shrink":
            assert "the same command goes on from here" in out, out
        case "explain":
            told = json.loads((run / "why.json").read_text())
            assert told["interrupted"]
            assert len(told["moments"]) >= 2
        case "explore" if "--exhaustive" in work.words:
            assert "no violation up to depth" in out, out
        case "explore":
            [stored] = results.glob("explore/*/*/explore.json")
            told = json.loads(stored.read_text())
            assert told["interrupted"]
            assert told["runs"] >= 1
            for kept in results.glob("explore/*/*/runs/raft-register/*"):
                assert (kept / "verdict.json").exists(), kept
                assert (kept / "nodes/n1").exists(), kept
        case other:
            raise AssertionError(other)


def goes_on(name: str, run: Path, results: Path) -> list[str]:
    """The words of a short call of the same command."""
    shorter = {
        "--times": "1",
        "--budget": "0.5",
        "--moments": "2",
        "--runs": "1",
    }
    words = words_of(WORKS[name], run, results)
    return [
        shorter.get(words[at - 1], word) if at else word
        for at, word in enumerate(words)
    ]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "shrink" else [pytest.mark.nightly])
        for name in WORKS
    ],
)
def test_nothing_outlives_work_that_is_killed_and_the_next_call_goes_on(
    start: Callable[..., Shown],
    run_of: Callable[[Work], Path],
    tmp_path: Path,
    name: str,
) -> None:
    work = WORKS[name]
    run = run_of(work)
    results = tmp_path / "results"
    started = start(*words_of(work, run, results))
    started.wait_for(work.at_work)
    started.process.kill()
    assert started.ended()[0] == -signal.SIGKILL
    started.nothing_is_left()
    all_can_be_read(tmp_path)
    again = start(*goes_on(name, run, results))
    status, out = again.ended()
    assert status in {0, 1, 2}, (status, out, again.said)
    assert "Traceback" not in again.listen()
    again.nothing_is_left()


def has_handlers(pid: int) -> bool:
    """Whether the process catches SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def has_loaded(pid: int, library: str) -> bool:
    return library in Path(f"/proc/{pid}/maps").read_text()


MOMENTS: dict[str, Callable[[int], bool]] = {
    "handlers": has_handlers,
    "msgspec": lambda pid: has_loaded(pid, "msgspec"),
    "yaml": lambda pid: has_loaded(pid, "_yaml"),
    "numpy": lambda pid: has_loaded(pid, "_multiarray_umath"),
}
START_UPS = {
    **{name: work.words for name, work in WORKS.items() if work.world == "sim"},
    "bench": ("bench", "search", "--quick"),
    "report": ("report", "RUN"),
}


@pytest.mark.parametrize(
    ("name", "moment", "number"),
    [
        pytest.param(
            name,
            moment,
            number,
            id=f"{name} {moment} {number.name}",
            marks=[]
            if (name, moment, number)
            in {
                ("exhaustive", "handlers", signal.SIGTERM),
                ("explain", "msgspec", signal.SIGTERM),
            }
            else [pytest.mark.nightly],
        )
        for name in START_UPS
        for moment in MOMENTS
        for number in STOPS
    ],
)
def test_a_stop_signal_in_the_start_up_ends_it_with_one_object(
    start: Callable[..., Shown],
    run_of: Callable[[Work], Path],
    tmp_path: Path,
    name: str,
    moment: str,
    number: signal.Signals,
) -> None:
    work = Work(START_UPS[name], "", ())
    run = run_of(work)
    words = [str(run) if word == "RUN" else word for word in work.words]
    if name == "bench" or work.has_results:
        words += ["--results", str(tmp_path / "results")]
    started = start(*words, "--json")
    pid = started.process.pid

    def is_there() -> bool:
        assert started.process.poll() is None, started.ended()
        return has_handlers(pid) and MOMENTS[moment](pid)

    eventually(is_there, f"{name} has come to {moment}")
    started.process.send_signal(number)
    status, out = started.ended()
    said = started.listen()
    seen = f"{number.name} at {moment}: {status}\n{out}\n{said}"
    assert "Traceback" not in said, seen
    assert status == 2, seen
    assert said.count("interrupted") == 1, seen
    told = json.loads(out)
    assert told.get("interrupted") or told.get("ended_by") == "interrupted", seen
    started.nothing_is_left()
