"""Keys in several processes: the same verdicts, and nothing left behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import given, settings

from checkers import linearizable
from checkers.linearizability import processes
from checkers.linearizability.models import CasRegister
from checkers.linearizable import LinearizableChecker
from checkers.tests.histories import EXAMPLES, histories
from harness.bench.histories import Shape, generate
from harness.errors import HarnessError
from harness.history import History
from harness.override import override
from harness.verdict import Helpers, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.verdict import Done, Share, Subject

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere one process does everything"
)


def check(history: History, limits: Limits) -> object:
    checker = LinearizableChecker(CasRegister())
    return checker.check(history, limits)


def test_processes_find_what_one_process_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(max_examples=EXAMPLES // 20)  # each forks
    @given(histories("cas-register", keys=3, steps=40))
    def same(history: History) -> None:
        checker = LinearizableChecker(CasRegister(), explain_plan=True)
        with monkeypatch.context() as patch:
            patch.setattr(processes, "WORTH_CALLS", 10**9)
            alone = checker.check(history, Limits())
            patch.setattr(processes, "WORTH_CALLS", 1)
            together = checker.check(history, Limits())
        assert together.verdict is alone.verdict
        assert sorted(map(str, (a.as_json() for a in together.anomalies))) == sorted(
            map(str, (a.as_json() for a in alone.anomalies))
        )
        for name in ("calls", "keys", "keys_broken", "algorithms", "configurations"):
            assert together.stats.get(name) == alone.stats.get(name)

    same()


class Elsewhere(Helpers):
    """Works on shares as another machine would: all of them come and go as bytes."""

    count = 2

    @override
    def each(
        self,
        work: Callable[[Subject, Share], Done],
        about: Subject,
        of: Sequence[Share],
    ) -> Iterator[Done]:
        for share in of:
            there = pickle.loads(pickle.dumps((work, about, share)))
            yield pickle.loads(pickle.dumps(there[0](*there[1:])))


def test_helpers_find_what_one_process_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(max_examples=EXAMPLES // 10)
    @given(histories("cas-register", keys=3, steps=40))
    def same(history: History) -> None:
        checker = LinearizableChecker(CasRegister(), explain_plan=True)
        alone = checker.check(history, Limits())
        helped = checker.check(history, Limits(helpers=Elsewhere()))
        assert helped.verdict is alone.verdict
        assert sorted(map(str, (a.as_json() for a in helped.anomalies))) == sorted(
            map(str, (a.as_json() for a in alone.anomalies))
        )
        for name in ("calls", "keys", "keys_broken", "algorithms"):
            assert helped.stats.get(name) == alone.stats.get(name)

    monkeypatch.setattr(linearizable, "ALONE_S", -1.0)
    same()


def test_helpers_keep_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linearizable, "ALONE_S", -1.0)
    hard = History(generate(Shape("cas-register", 40_000, 200, keys=4)))
    checker = LinearizableChecker(CasRegister(), compiled="never")
    result = checker.check(hard, Limits(time_s=0.3, helpers=Elsewhere()))
    assert result.verdict is Verdict.UNKNOWN
    assert "time limit" in result.reason


def test_limits_hold_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "WORTH_CALLS", 1)
    hard = History(generate(Shape("cas-register", 40_000, 200, keys=4)))
    checker = LinearizableChecker(CasRegister(), compiled="never")
    begun_s = time.process_time()
    result = checker.check(hard, Limits(time_s=1))
    assert result.verdict is Verdict.UNKNOWN
    assert "time limit" in result.reason
    assert result.stats["keys"] == 4
    assert time.process_time() - begun_s < 4.0
    assert processes.how_many([10**6] * 4, Limits(memory_mb=100)) == 1


def test_small_work_is_not_shared() -> None:
    assert processes.how_many([100] * 50, Limits()) == 1
    assert processes.how_many([10**6], Limits()) == 1


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def fails(n: int) -> int:
    if n:
        raise ValueError("a process had a problem")
    return n


def is_killed(n: int) -> int:
    if n:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.parametrize(
    ("work", "error"), [(fails, ValueError), (is_killed, HarnessError)]
)
def test_a_process_that_fails_or_is_killed_is_told_and_none_is_left(
    work: Callable[[int], int], error: type[Exception]
) -> None:
    before = children()
    with pytest.raises(error, match="process"):
        processes.in_processes(work, 3)
    assert children() == before
    assert processes.in_processes(lambda n: n * n, 3) == [0, 1, 4]
    assert children() == before


PARENT = """
import signal, time
from checkers.linearizability import processes
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" ignores it
processes.in_processes(lambda n: time.sleep(600), 2)
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_the_parent_is_ended(sent: signal.Signals) -> None:
    parent = psutil.Popen([sys.executable, "-c", PARENT], stderr=subprocess.DEVNULL)
    found: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 60
        while len(found := parent.children()) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(found) == 2
        parent.send_signal(sent)
        assert parent.wait(30) != 0
        gone, alive = psutil.wait_procs(found, 30)
        assert len(gone) == 2, alive
    finally:
        for process in filter(psutil.Process.is_running, [*found, parent]):
            process.kill()
        parent.wait()
