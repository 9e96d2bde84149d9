"""Variations of fault plans: a plan that showed something new, changed a little.

Each is a plan again that its nemeses accept: faults are drawn by them or taken from
plans, a fault for the observer of an event has such a trigger, and every fault ends
before the time is up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults import drawing
from harness.faults.fault import Fault
from harness.faults.plan import HEAL_AFTER_S, Plan, Step, Trigger
from harness.faults.targets import LEADER, for_observer, waits_for_observer

if TYPE_CHECKING:
    from harness.faults.nemesis import Nemesis
    from harness.worlds.events import Event

STEPS_MAX = 40
"""A plan does not grow beyond this."""
SHIFT_S = (0.01, 2.0)
"""How far a step is moved, forwards or backwards."""
SOON_S = (0.005, 0.5)
"""How soon after the beginning or the end of a fault another one follows it."""
FACTORS = (0.1, 10.0)
"""By what a duration is multiplied."""
CHANGES_MAX = 3
"""Changes that are made to a plan at a time, at most."""


@dataclass(frozen=True)
class Material:
    """What variations are made from.

    Attributes:
        nemeses: The kinds of fault that may be drawn.
        nodes: The nodes' names.
        moments: Events that are worth a fault.
        duration_s: The range of durations of drawn faults.
        time_limit_s: When every fault has ended.
    """

    nemeses: Mapping[str, Nemesis]
    nodes: Sequence[str]
    moments: Sequence[Event]
    duration_s: tuple[float, float]
    time_limit_s: float

    def admits(self, fault: Fault) -> bool:
        """Whether the fault makes sense to its nemesis."""
        try:
            self.nemeses[fault.kind].validate(fault, self.nodes)
        except UsageError:
            return False
        return True


def varied(random: Random, plan: Plan, other: Plan, material: Material) -> Plan:
    """The plan with one to three random changes; `other` is one to take steps from."""
    out = list(plan)
    for _ in range(random.randint(1, CHANGES_MAX)):
        possible = [
            change
            for change in CHANGES
            if (out or change in GROWING) and (other or change is splice)
        ]
        out = random.choice(possible)(random, out, other, material)
    return settled(out, material.time_limit_s)


def settled(steps: Sequence[Step], time_limit_s: float) -> Plan:
    """The steps in the order of their times, those that begin too late left out."""
    fitting = []
    for step in steps:
        room_s = time_limit_s - step.at.latest_s
        if room_s > HEAL_AFTER_S.least:
            heal_s = min(max(step.heal_after_s, HEAL_AFTER_S.least), room_s)
            fitting.append(replace(step, heal_after_s=round(heal_s, 3)))
    ordered = sorted(fitting, key=lambda step: step.at.time_s or 0.0)
    return tuple(ordered[:STEPS_MAX])


Change = Callable[[Random, list[Step], Plan, Material], list[Step]]


def add(random: Random, steps: list[Step], _: Plan, material: Material) -> list[Step]:
    """A fault more, at a random time."""
    begin_s = random.uniform(0.0, material.time_limit_s)
    return [*steps, fresh(random, begin_s, material)]


def follow(
    random: Random, steps: list[Step], _: Plan, material: Material
) -> list[Step]:
    """A fault more, soon after another one begins or ends."""
    before = random.choice(steps)
    begin_s = before.at.time_s or 0.0
    if random.random() < 0.5:
        begin_s = before.at.latest_s + before.heal_after_s
    begin_s += drawing.log_uniform(random, *SOON_S)
    return [*steps, fresh(random, begin_s, material)]


def drop(random: Random, steps: list[Step], _: Plan, __: Material) -> list[Step]:
    """One step less."""
    out = list(steps)
    out.pop(random.randrange(len(out)))
    return out


def shift(random: Random, steps: list[Step], _: Plan, __: Material) -> list[Step]:
    """One step earlier or later."""
    by_s = random.choice((-1, 1)) * drawing.log_uniform(random, *SHIFT_S)
    return _changed(random, steps, lambda step: _at(step, by_s))


def repeat(
    random: Random, steps: list[Step], _: Plan, material: Material
) -> list[Step]:
    """One step a second time."""
    step = random.choice(steps)
    begin_s = random.uniform(0.0, material.time_limit_s)
    return [*steps, _at(step, begin_s - (step.at.time_s or 0.0))]


def stretch(random: Random, steps: list[Step], _: Plan, __: Material) -> list[Step]:
    """One fault longer or shorter."""
    factor = drawing.log_uniform(random, *FACTORS)
    return _changed(
        random,
        steps,
        lambda step: replace(step, heal_after_s=step.heal_after_s * factor),
    )


def retarget(
    random: Random, steps: list[Step], _: Plan, material: Material
) -> list[Step]:
    """One fault for the leader, or for the nodes that another one is for."""
    aims = [s.fault.params["target"] for s in steps if "target" in s.fault.params]
    target = random.choice([LEADER, *aims])

    def change(step: Step) -> Step:
        if "target" not in step.fault.params:
            return step
        fault = Fault(step.fault.kind, {**step.fault.params, "target": target})
        if waits_for_observer(fault) and step.at.event is None:
            return step
        return replace(step, fault=fault) if material.admits(fault) else step

    return _changed(random, steps, change)


def redraw(
    random: Random, steps: list[Step], _: Plan, material: Material
) -> list[Step]:
    """Another fault in the place of one, at the same moment."""
    return _changed(
        random,
        steps,
        lambda step: replace(step, fault=_drawn(random, step.at, material)),
    )


def retrigger(
    random: Random, steps: list[Step], _: Plan, material: Material
) -> list[Step]:
    """One step that waits for an event instead of a time, or for a time instead."""

    def change(step: Step) -> Step:
        if step.at.event is not None:
            if waits_for_observer(step.fault):
                return step
            return replace(step, at=Trigger(time_s=step.at.time_s))
        at = drawing.draw_trigger(random, step.at.time_s or 0.0, material.moments)
        return replace(step, at=at, fault=_aimed(random, step.fault, at, material))

    return _changed(random, steps, change)


def splice(
    random: Random, steps: list[Step], other: Plan, material: Material
) -> list[Step]:
    """One plan up to a moment, and another one from then on."""
    cut_s = random.uniform(0.0, material.time_limit_s)
    return [
        *(step for step in steps if (step.at.time_s or 0.0) < cut_s),
        *(step for step in other if (step.at.time_s or 0.0) >= cut_s),
    ]


GROWING: tuple[Change, ...] = (add, splice)
"""Changes that a plan without steps can have."""
CHANGES: tuple[Change, ...] = (
    *GROWING,
    follow,
    follow,
    drop,
    shift,
    repeat,
    stretch,
    retarget,
    redraw,
    retrigger,
)
"""All changes; one that comes twice is made twice as often."""


def fresh(random: Random, begin_s: float, material: Material) -> Step:
    """A step of any kind, at a time or at a moment after it."""
    moments = material.moments if random.random() < 0.5 else ()
    at = drawing.draw_trigger(random, begin_s, moments)
    duration_s = drawing.log_uniform(random, *material.duration_s)
    return Step(at, _drawn(random, at, material), round(duration_s, 3))


def _drawn(random: Random, at: Trigger, material: Material) -> Fault:
    """A fault of any kind; at an event it is for its observer half of the times."""
    kind = random.choice(sorted(material.nemeses))
    fault = material.nemeses[kind].draw(random, material.nodes)
    return _aimed(random, fault, at, material)


def _aimed(random: Random, fault: Fault, at: Trigger, material: Material) -> Fault:
    """The fault, at an event half of the times for its observer, if it can be."""
    if at.event is None or random.random() >= drawing.OBSERVER_CHANCE:
        return fault
    aimed = for_observer(fault)
    return aimed if material.admits(aimed) else fault


def _changed(
    random: Random, steps: list[Step], change: Callable[[Step], Step]
) -> list[Step]:
    """The steps, one of which is changed."""
    out = list(steps)
    place = random.randrange(len(out))
    out[place] = change(out[place])
    return out


def _at(step: Step, by_s: float) -> Step:
    """The step, begun so much later; never before the start."""
    begin_s = max(0.0, (step.at.time_s or 0.0) + by_s)
    return replace(step, at=replace(step.at, time_s=round(begin_s, 3)))
