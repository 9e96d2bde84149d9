"""Rewrites a plan's times to what they meant: the event that came just before.

A strike at 2.5 s tears a protocol apart between two of its steps, and in the next run
it is between two others at 2.5 s. So a step that began by time is given the event after
which it began: the next one of its kind from shortly before on. Time still tells which
of many events is meant, roughly, and the event tells the phase.

    - at: {time_s: 2.5}
    - at: {time_s: 2.31, observe: precommitted, node: n2, count: 1, within_s: 0.69}

Some event came before every strike, so most tell nothing. An event tells the more, the
less likely it is that one of its kind came so shortly before by chance. If they came at
random with the mean interval `m` (a Poisson process), the chance that the last one is
no older than `a` is 1 - exp(-a / m). Rare events win by that, and frequent ones lose.

A step that has an event or a count of operations already is left alone, and so is one
before which nothing telling came.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.faults.plan import Trigger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.faults.plan import Plan, Step
    from harness.worlds.events import Event

AGO_S_MAX = 0.2
"""An event that is older is not what a strike hit."""
RESOLUTION_S = 0.005
"""How far from an event a step begins that waits for it: it is looked for every two
milliseconds, and a strike takes its time."""
CHANCE_MAX = 0.5
"""An event that is likelier than this to have come by chance tells nothing."""
BEFORE_S_MAX = 2.0
"""How long before its event a step begins to wait for it, at most."""
LATE_S_MAX = 0.5
"""How long after its former time a step begins at the latest."""


@dataclass(frozen=True)
class Sighting:
    """An event that came before a step began.

    Attributes:
        event: The event.
        at_s: When it came, in seconds since the start of the run.
        since_s: `count` came after this moment, the last of them at `at_s`.
        interval_s: The mean time between two of its kind.
        count: If it is 1, none came between `since_s` and `at_s`.
    """

    event: Event
    at_s: float
    since_s: float
    interval_s: float
    count: int = 1

    def chance(self, began_s: float) -> float:
        """How likely one of its kind came so shortly before `began_s` by chance."""
        ago_s = max(RESOLUTION_S, began_s - self.at_s)
        return 1.0 - math.exp(-ago_s / self.interval_s) if self.interval_s > 0 else 1.0


@dataclass(frozen=True)
class Before:
    """What came before a step began.

    Attributes:
        began_s: When it began in fact, which in a busy run is later than planned.
        seen: The events.
    """

    began_s: float
    seen: Sequence[Sighting]

    @property
    def telling(self) -> list[Sighting]:
        """Those that may be what the strike hit, the most telling first.

        Which node does what may be another one in the next run. So an event of any node
        is preferred to that of one, unless this tells twice as much.
        """
        return sorted(
            (
                each
                for each in self.seen
                if 0.0 <= self.began_s - each.at_s <= AGO_S_MAX
                and each.chance(self.began_s) <= CHANCE_MAX
            ),
            key=lambda each: (
                each.chance(self.began_s) * (2 if each.event.names else 1),
                str(each.event),
            ),
        )


def retrigger(plan: Plan, before: Mapping[int, Before]) -> Plan:
    """The same faults in the same order, set off by events where these are telling.

    Steps of one kind that the plan keeps apart stay apart (`plan.tracks`): a step may
    begin earlier or later by half of the quiet time around it, at most.

    Args:
        plan: The plan as it was carried out.
        before: Number of a step -> what came before it began. Of steps that weren't
            reached, nothing is known.
    """
    room = _Room(plan)
    return tuple(
        _rewritten(step, before[number], room) if number in before else step
        for number, step in enumerate(plan)
    )


def _rewritten(step: Step, before: Before, room: _Room) -> Step:
    if step.at.event is not None or step.at.time_s is None:
        return step
    for sighting in before.telling:
        trigger = _trigger(step, before.began_s, sighting, room)
        if trigger is not None:
            return replace(step, at=trigger)
    return step


def _trigger(
    step: Step, began_s: float, sighting: Sighting, room: _Room
) -> Trigger | None:
    """The trigger that waits for this event; None if there is no time to wait in."""
    earliest_s = max(sighting.since_s, room.from_s(step), sighting.at_s - BEFORE_S_MAX)
    if sighting.count == 1:
        # Halfway between two of a kind, it is the same one even if the run is a bit
        # faster or slower.
        begin_s = (earliest_s + sighting.at_s) / 2
    elif earliest_s == sighting.since_s:
        begin_s = earliest_s
    else:
        return None
    # Whole milliseconds, and one to spare for their sums.
    begin_s = math.ceil(begin_s * 1e3) / 1e3
    latest_s = min(began_s + LATE_S_MAX, room.until_s(step))
    latest_s = (math.floor(latest_s * 1e3) - 1) / 1e3
    if not 0.0 <= begin_s <= sighting.at_s <= latest_s:
        return None
    return Trigger(
        time_s=begin_s,
        event=sighting.event,
        count=sighting.count,
        within_s=round(latest_s - begin_s, 3),
    )


class _Room:
    """How much earlier or later the steps of a plan may begin than it says."""

    def __init__(self, plan: Plan) -> None:
        self._begins: dict[str, list[float]] = {}
        self._ends: dict[str, list[float]] = {}
        for step in plan:
            if step.at.time_s is not None:
                self._begins.setdefault(step.fault.kind, []).append(step.at.time_s)
                self._ends.setdefault(step.fault.kind, []).append(_end_s(step))
        for times in (*self._begins.values(), *self._ends.values()):
            times.sort()

    def from_s(self, step: Step) -> float:
        """When a step may begin at the earliest: halfway to the last one's end."""
        assert step.at.time_s is not None
        ends = self._ends[step.fault.kind]
        before = bisect_right(ends, step.at.time_s)
        return (ends[before - 1] + step.at.time_s) / 2 if before else 0.0

    def until_s(self, step: Step) -> float:
        """When it may begin at the latest: its end goes halfway to the next begin."""
        end_s = _end_s(step)
        begins = self._begins[step.fault.kind]
        after = bisect_left(begins, end_s)
        if after == len(begins):
            return math.inf
        return (end_s + begins[after]) / 2 - step.heal_after_s


def _end_s(step: Step) -> float:
    return step.at.latest_s + step.heal_after_s
