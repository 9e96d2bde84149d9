"""Judges a run while it lasts, so that it can end once it is known to be invalid.

The history so far is a prefix of the run's. Its open operations are taken for ones that
nobody knows about, as those that end in `info`. Checkers say which of their anomalies
no continuation can heal (`harness.verdict.Conclusive`); these convict. So what convicts
a prefix makes the whole history invalid, and the analysis at the end, which judges all
of it, has to find so: if it doesn't, the harness has failed.

Real runs are judged by a process of their own, at the lowest priority, which reads what
the run writes (`Beside`). It rests for `REST` times the processor time that its last
judgement took, so it never takes much of a core, however long the history gets.

Simulated runs are judged in the same process, at fixed virtual times (`Within`), so a
seed gives the same history each time. Virtual time stands still meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import os
import select
from typing import TYPE_CHECKING, Protocol

import msgspec

from harness.errors import HarnessError
from harness.history import HistoryError, observations
from harness.history.formats import HistoryFollower
from harness.host.collector import collector_paused
from harness.run import judges
from harness.verdict import Limits, convicting, final_on_prefix, judge
from harness.worlds.os.helper import Helper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from harness.history import History
    from harness.run.spec import TestSpec
    from harness.verdict import Checker
    from harness.worlds.os.helper import Desk

EVERY_S = 1.0
"""Seconds between two judgements, if these take little time."""

REST = 10
"""How many times as long as a judgement took the process rests, at least."""

LIMITS = Limits(time_s=30.0, memory_mb=2000)
"""Of one checker's judgement. Memory is limited, so searches don't fork."""

NICE = 19


class Charge(msgspec.Struct, frozen=True):
    """An anomaly that makes a run invalid, whatever comes.

    Attributes:
        checker: The checker that found it.
        anomaly: Its name.
        events: How many events of the history had been read.
    """

    checker: str
    anomaly: str
    events: int


class Monitor:
    """Judges what is in a run folder so far, again and again.

    Args:
        folder: The run folder; its history may not be there yet.
        nodes: The nodes' names.
        of_operations: The checkers of the history; only those that can convict a prefix
            are asked.
        of_observations: The same, of what nodes observed of themselves.
    """

    def __init__(
        self,
        folder: Path,
        nodes: Iterable[str],
        of_operations: Mapping[str, Checker],
        of_observations: Mapping[str, Checker],
    ) -> None:
        self._folder = folder
        self._nodes = list(nodes)
        self._of_operations = conclusive(of_operations)
        self._of_observations = conclusive(of_observations)
        self._follower = HistoryFollower(folder / "history.jsonl")
        self._judged = 0

    def judge(self) -> Charge | None:
        """Judge what has been recorded until now; None if that convicts nobody.

        Cost: that of the checkers on the history so far. If nothing new was recorded,
        nothing is judged.

        Raises:
            HarnessError: What was recorded can't be read.
        """
        try:
            events = self._follower.read()
            if events == self._judged:
                return None
            self._judged = events
            with collector_paused():
                history = self._follower.history()
                return self._charge(self._of_operations, history) or self._observed()
        except HistoryError as bad:
            raise HarnessError(
                f"the run can't be judged while it lasts: {bad}"
            ) from bad

    def _observed(self) -> Charge | None:
        if not self._of_observations:
            return None
        observed = observations.load(self._folder, self._nodes)
        return self._charge(self._of_observations, observed)

    def _charge(
        self, checkers: Mapping[str, Checker], history: History
    ) -> Charge | None:
        for name, checker in checkers.items():
            anomaly = convicting(checker, judge(checker, history, LIMITS))
            if anomaly is not None:
                return Charge(name, anomaly.name, self._judged)
        return None


def conclusive(checkers: Mapping[str, Checker]) -> dict[str, Checker]:
    """Those that can convict a prefix."""
    return {name: each for name, each in checkers.items() if final_on_prefix(each)}


def of_run(spec: TestSpec, invariants: Iterable[str], folder: Path) -> Monitor | None:
    """The monitor of a run; None if no checker can convict it before its end.

    Raises:
        UsageError: The spec names checkers that there aren't.
    """
    of_operations = conclusive(judges.of_operations(spec))
    of_observations = conclusive(judges.of_observations(invariants))
    if not of_operations and not of_observations:
        return None
    return Monitor(folder, spec.node_names, of_operations, of_observations)


class Watch(Protocol):
    """A monitor at work, as the controller of a run sees it."""

    async def charge(self) -> Charge:
        """Wait until the run is known to be invalid, perhaps for ever.

        Raises:
            HarnessError: It can't be judged.
        """
        ...

    def close(self) -> None:
        """Judge no more."""
        ...


class Within:
    """Judges in this process, at fixed times of the event loop.

    Args:
        monitor: Judges.
        write: Has the run folder hold all that nodes have told.
    """

    def __init__(self, monitor: Monitor, write: Callable[[], None]) -> None:
        self._monitor = monitor
        self._write = write

    async def charge(self) -> Charge:
        """Wait until the run is known to be invalid."""
        while True:
            await asyncio.sleep(EVERY_S)
            self._write()
            if (found := self._monitor.judge()) is not None:
                return found

    def close(self) -> None:
        """Do nothing: what waited in `charge` was cancelled."""


class Beside:
    """Judges in a process of its own. Forks: make it while nothing else runs."""

    def __init__(self, monitor: Monitor) -> None:
        self._helper = Helper("judge", "judge", lambda desk: serve(desk, monitor))

    async def charge(self) -> Charge:
        """Wait until the run is known to be invalid."""
        return await self._helper.hear(Charge)

    def close(self) -> None:
        """End the process."""
        self._helper.kill()


def serve(desk: Desk, monitor: Monitor) -> None:
    """Judge until the run is convicted, or the controller ends."""
    os.nice(NICE)
    gc.freeze()
    rest_s = EVERY_S
    while not select.select([desk], [], [], rest_s)[0]:
        begun_s = cpu_s()
        found = monitor.judge()
        if found is not None:
            desk.answer(msgspec.to_builtins(found))
            desk.take()
            return
        gc.collect()
        gc.freeze()  # what was read stays, and is not looked at again
        rest_s = max(EVERY_S, REST * (cpu_s() - begun_s))


def cpu_s() -> float:
    """Processor time of this process and of its children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
