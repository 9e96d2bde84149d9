"""Judges a run while it lasts, so that it can end once it is known to be invalid.

The history so far is a prefix of the run's. Its open operations are taken for ones that
nobody knows about, as those that end in `info`. Checkers say which of their anomalies
no continuation can heal (`harness.verdict.Conclusive`); these convict. So what convicts
a prefix makes the whole history invalid, and the analysis at the end, which judges all
of it, has to find so: if it doesn't, the harness has failed.

Real runs are judged by a process of their own, at a low priority, which reads what the
run writes (`Beside`). After each judgement all checkers rest for `REST` times the
processor time that it took, so that they never take much of a core, however many they
are and however long the history is. Those of what nodes observe may go on from where
they were (`Incremental`).

Simulated runs are judged in the same process, at fixed virtual times (`Within`), so a
seed gives the same history each time. Virtual time stands still meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import msgspec

from harness import registry
from harness.errors import HarnessError, UsageError
from harness.history import HistoryError, observations
from harness.history.formats import HistoryFollower
from harness.history.observations import ObservationsFollower
from harness.host.collector import collector_paused
from harness.run import judges
from harness.verdict import (
    AllOf,
    Incremental,
    Limits,
    Unpromised,
    convicting,
    final_on_prefix,
    judge,
    new_witness,
)
from harness.worlds.os.helper import Helper

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from harness.history import Op
    from harness.run.spec import TestSpec
    from harness.verdict import Checker, Following
    from harness.worlds.os.helper import Desk

EVERY_S = 1.0
"""Seconds between two judgements, if these take little time."""


@dataclass(frozen=True)
class Cadence:
    """At which virtual times a simulated run is judged.

    Attributes:
        every_s: Seconds until the first judgement, and between two of a checker that
            goes on from where it was.
        growth: How many times as late each judgement of one that begins anew is as the
            one before. All of them together cost growth / (growth - 1) times as much as
            the last one, and a breach is seen up to that many times as late.
    """

    every_s: float
    growth: float


CALM = Cadence(EVERY_S, 2.0)
HASTY = Cadence(0.25, 1.5)
"""The cadence of simulated runs that end at their conviction, and leave no folder. Many
are convicted by their first faults, after a second: going on for half a second more
would cost half as much again."""

REST = 9
"""How many times as long as a judgement took all checkers rest, at least: so together
they take a tenth of a core, which is a twentieth of two."""

LIMITS = Limits(time_s=30.0, memory_mb=2000)
"""Of one checker's judgement. Memory is limited, so searches don't fork."""

NICE = 10
"""Of the process that judges real runs. On two cores that are busy, it then gets about
a thirtieth of the time; at 19 it would get so little that convictions come late."""


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


@dataclass
class Seat:
    """A checker that judges a run, and when its turn comes.

    Attributes:
        name: As in verdict.json.
        observes: Whether it judges what nodes observe, or else operations.
        following: It goes on from where it was; None if it begins anew each time.
        due_s: The time of its next turn.
        turn: If several are due at a time, the lowest comes first.
        judged: How many events there were at its last turn.
        fresh: What `following` has not seen yet.
    """

    name: str
    checker: Checker
    observes: bool
    following: Following | None = None
    due_s: float = EVERY_S
    turn: int = 0
    judged: int = 0
    fresh: list[Op] = field(default_factory=list)


Pace = Callable[["Collection[Seat]", Seat, float, float], None]
"""Says when turns come again: of all seats, after that of one, at a time, which took so
much processor time; both in seconds."""


class Monitor:
    """Judges what is in a run folder so far, again and again.

    Args:
        folder: The run folder; its history may not be there yet.
        nodes: The nodes' names.
        of_operations: Those of the history's checkers that can convict a prefix.
        of_observations: The same, of what nodes observed of themselves.
        until: The anomalies that convict; if empty, all that are final.
    """

    def __init__(
        self,
        folder: Path,
        nodes: Iterable[str],
        of_operations: Mapping[str, Checker],
        of_observations: Mapping[str, Checker],
        until: Collection[str] = (),
    ) -> None:
        self._until = until
        self._seats = [Seat(*item, observes=False) for item in of_operations.items()]
        for name, checker in of_observations.items():
            following = None
            if isinstance(checker, Incremental):
                following = checker.follow(observations.source_of(folder))
            self._seats.append(Seat(name, checker, True, following))
        begins_anew = any(s.observes and s.following is None for s in self._seats)
        self._operations = HistoryFollower(folder / "history.jsonl")
        self._observations = ObservationsFollower(folder, nodes, keep=begins_anew)

    @property
    def due_s(self) -> float:
        """When the next checker's turn comes."""
        return min(seat.due_s for seat in self._seats)

    def begin_after(self, seconds: float) -> None:
        """Have the first turn of every checker come so long after the start."""
        for seat in self._seats:
            seat.due_s = seconds

    def judge(self, now_s: float, pace: Pace) -> Charge | None:
        """Let the checkers whose turn has come judge what has been recorded.

        Cost: that of these checkers on the history so far. One that has seen all events
        does nothing.

        Returns:
            None if that convicts nobody.

        Raises:
            HarnessError: What was recorded can't be read.
        """
        for seat in sorted(self._seats, key=lambda seat: (seat.due_s, seat.turn)):
            if seat.due_s > now_s:
                continue
            begun_s = cpu_s()
            try:
                with collector_paused():
                    anomaly = self._turn(seat)
            except HistoryError as bad:
                problem = f"the run can't be judged while it lasts: {bad}"
                raise HarnessError(problem) from bad
            if anomaly:
                return Charge(seat.name, anomaly, self._operations.events)
            pace(self._seats, seat, now_s, cpu_s() - begun_s)
        return None

    def _turn(self, seat: Seat) -> str:
        """The anomaly that convicts the run; "" if there is none."""
        self._operations.read()
        if seat.observes:
            self._observe()
        if seat.following is not None:
            fresh, seat.fresh = seat.fresh, []
            return self._wanted(seat.following.feed(fresh))
        source = self._observations if seat.observes else self._operations
        if source.events == seat.judged:
            return ""
        seat.judged = source.events
        result = judge(seat.checker, source.history(), LIMITS)
        return self._wanted(convicting(seat.checker, result))

    def _observe(self) -> None:
        """Read what nodes have observed since, for all who judge that."""
        fresh = self._observations.read()
        for seat in self._seats:
            if seat.following is not None:
                seat.fresh += fresh

    def _wanted(self, found: Iterable[str]) -> str:
        """The first anomaly found that is to convict the run; "" if there is none."""
        until = self._until
        return next((name for name in found if not until or name in until), "")


def conclusive(
    checkers: Mapping[str, Checker], until: Collection[str] = ()
) -> dict[str, Checker]:
    """The checkers that can convict a prefix; by one of `until`, if it names any."""
    return {
        name: checker
        for name, checker in checkers.items()
        for final in [final_on_prefix(checker)]
        if (any(one in final for one in until) if until else final)
    }


def refuse_unknown(spec: TestSpec, invariants: Iterable[str]) -> None:
    """Refuse anomalies to wait for that no checker of a run knows, if that is certain.

    Checkers need not say what they may find once a run is over. If one doesn't, no name
    is certain to be a mistake.

    Raises:
        UsageError: There is such a name; tells the nearest.
    """
    checkers = [
        *judges.of_operations(spec).values(),
        *judges.of_observations(invariants).values(),
    ]
    promised = [one for one in checkers if not isinstance(one, Unpromised)]
    finals = [final_on_prefix(one) for one in promised]
    known = {name for final in finals if isinstance(final, AllOf) for name in final}
    for name in spec.until_anomaly:
        if name not in known and all(isinstance(final, AllOf) for final in finals):
            nearest = registry.nearest(name, known)
            raise UsageError(
                f"--until-anomaly {name}: no checker of this run finds that{nearest} "
                f"(they find {', '.join(sorted(known))})"
            )


def of_run(spec: TestSpec, invariants: Iterable[str], folder: Path) -> Monitor | None:
    """The monitor of a run; None if no checker can convict it before its end.

    Raises:
        UsageError: The spec names checkers that there aren't.
    """
    by_name = judges.of_operations(spec)
    # Named as the analysis names them.
    observing = {
        f"{name}_observed" if name in by_name else name: checker
        for name, checker in judges.of_observations(invariants).items()
    }
    until = spec.until_anomaly
    of_operations = conclusive(by_name, until)
    of_observations = conclusive(observing, until)
    if not of_operations and not of_observations:
        return None
    new_witness()  # loads what the first conviction would have to wait for
    return Monitor(folder, spec.node_names, of_operations, of_observations, until)


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
        cadence: When.
    """

    def __init__(
        self, monitor: Monitor, write: Callable[[], None], cadence: Cadence = CALM
    ) -> None:
        self._monitor = monitor
        self._write = write
        self._cadence = cadence
        monitor.begin_after(cadence.every_s)

    async def charge(self) -> Charge:
        """Wait until the run is known to be invalid."""
        now_s = 0.0
        while True:
            due_s = self._monitor.due_s
            await asyncio.sleep(due_s - now_s)
            now_s = due_s
            self._write()
            if (found := self._monitor.judge(now_s, self._pace)) is not None:
                return found

    def _pace(
        self, _seats: Collection[Seat], seat: Seat, now_s: float, _took_s: float
    ) -> None:
        """Let a checker's turn come again at a fixed time."""
        if seat.following is not None:
            seat.due_s = now_s + self._cadence.every_s
        else:
            seat.due_s = now_s * self._cadence.growth

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
    begun_s = time.monotonic()
    while not select.select([desk], [], [], max(0.0, monitor.due_s - since(begun_s)))[
        0
    ]:
        found = monitor.judge(since(begun_s), by_cost)
        if found is not None:
            desk.answer(msgspec.to_builtins(found))
            desk.take()
            return
        gc.collect()
        gc.freeze()  # what was read stays, and is not looked at again


def since(begun_s: float) -> float:
    """Seconds since then, by the monotonic clock."""
    return time.monotonic() - begun_s


def by_cost(seats: Collection[Seat], seat: Seat, now_s: float, took_s: float) -> None:
    """Let a turn come again after a second, and any turn after a rest.

    If the next turn of several comes at the end of a rest, it is that of the checker
    that has not had one for longest: else the first in a list would keep out the last.
    """
    seat.due_s = now_s + EVERY_S
    seat.turn = 1 + max(each.turn for each in seats)
    rested_s = now_s + took_s + REST * took_s
    for each in seats:
        each.due_s = max(each.due_s, rested_s)


def cpu_s() -> float:
    """Processor time of this process and of its children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
