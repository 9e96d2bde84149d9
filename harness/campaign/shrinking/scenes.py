"""Scenes of a run: small experiments of what was in force while it went wrong.

A run of a minute fails because of what happened in a few seconds of it, and its record
tells which: an anomaly names operations, and the verdict says when each strike was in
force. So a scene takes the strikes that were in force during these operations, moves
them to the begin of a run, and lets the run end soon after. It costs a tenth of the
whole run, and if it fails, most of the search is done.

A scene may be wrong, as strikes before it may have prepared the failure. So there are
several, those with the fewest strikes first, and the last is all that came before the
run was known to be invalid. A scene is no evidence: its own runs have to fail.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from harness.campaign.experiment import steps_of
from harness.campaign.shrinking.changes import Change, drawn, over_after, with_plan
from harness.campaign.shrinking.lab import name_of
from harness.faults.plan import Trigger
from harness.faults.targets import waits_for_observer
from harness.report import folder as recordings
from harness.verdict import OBSERVATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.campaign.experiment import Experiment
    from harness.campaign.outcome import Fingerprint
    from harness.campaign.replay import Recorded
    from harness.faults.plan import Plan, Step

LEAD_S = 1.0
"""How long a scene lasts before its first strike: systems have to elect a leader."""
AFTER_S = 2.0
"""How long it goes on after its last strike, and the operations that went wrong: what
failed has to be seen, and to be judged."""
AGO_S = 0.3
"""A strike that was healed so shortly before an operation may have hit it."""
ANOMALIES_MAX = 3
"""Anomalies of a checker that are looked at: the first ones."""
ALONE_MAX = 3
"""Strikes that are tried alone."""
TOGETHER_MAX = 8
"""More strikes than these, in force at one time, make no small experiment."""
SCENES_MAX = 8

Numbers = tuple[int, ...]
"""The places of some steps in a plan."""


class Spell(NamedTuple):
    """A time of a run, in its seconds."""

    begin_s: float
    end_s: float

    def meets(self, other: Spell) -> bool:
        """Whether two have a moment in common."""
        return self.begin_s <= other.end_s and other.begin_s <= self.end_s


def scenes(recorded: Recorded, wanted: frozenset[Fingerprint]) -> list[Change]:
    """The scenes of a run, each once, those with the fewest strikes first.

    A strike alone is tried with its trigger, at the event that came before it, and at
    the time at which it began; several together with their triggers.

    Args:
        recorded: The run, as it was carried out.
        wanted: The fingerprints of the failure.

    Raises:
        UsageError: The run is impossible.
    """
    plans = [drawn(experiment) for experiment in recorded.variants.values()]
    stage = _Stage(recorded, wanted, steps_of(plans[0]))
    plans.append(stage.by_time(plans[0]))
    found: dict[str, Change] = {}
    for numbers in stage.chosen():
        for experiment in plans if len(numbers) == 1 else plans[:1]:
            made = stage.scene(experiment, numbers)
            found.setdefault(name_of(made.experiment), made)
    return list(found.values())[:SCENES_MAX]


@dataclass(init=False)
class _Stage:
    """What a record tells of the time in which its run went wrong.

    Attributes:
        struck: Number of a step -> when its strike was in force.
        calls: The operations and events that its anomalies name, in their order.
        known_s: When the run was known to be invalid, or its end.
    """

    struck: Mapping[int, Spell]
    calls: Sequence[Spell]
    known_s: float

    def __init__(
        self, recorded: Recorded, wanted: frozenset[Fingerprint], plan: Plan
    ) -> None:
        verdict = recorded.verdict
        convicted = verdict.convicted
        self.known_s = verdict.seconds if convicted is None else convicted.after_s
        self.struck = {
            strike.id: Spell(strike.start_s, strike.end_s)
            for strike in verdict.strikes
            if type(strike.id) is int
            and strike.id < len(plan)
            and strike.start_s <= self.known_s
        }
        self.calls = sorted(anomalous(recorded, wanted))

    def chosen(self) -> Iterator[Numbers]:
        """The steps of each scene."""
        met = {
            tuple(
                number
                for number, spell in sorted(self.struck.items())
                if spell.meets(Spell(call.begin_s - AGO_S, call.end_s))
            )
            for call in self.calls
        } - {()}
        often = Counter(number for numbers in met for number in numbers)
        first = sorted(often, key=lambda number: (-often[number], -number))
        yield from ((number,) for number in first[:ALONE_MAX])
        if often:
            together = sorted({*met, tuple(sorted(often))}, key=lambda n: (len(n), n))
            yield from (numbers for numbers in together if len(numbers) <= TOGETHER_MAX)
            # What led there from the first of them on, and from the begin on.
            yield tuple(n for n in sorted(self.struck) if n >= min(often))
        yield tuple(sorted(self.struck))

    def by_time(self, experiment: Experiment) -> Experiment:
        """The experiment with each step at the time at which it began."""
        steps = [
            replace(step, at=Trigger(time_s=round(self.struck[number].begin_s, 3)))
            if number in self.struck and not waits_for_observer(step.fault)
            else step
            for number, step in enumerate(steps_of(experiment))
        ]
        return with_plan(experiment, steps)

    def scene(self, experiment: Experiment, numbers: Numbers) -> Change:
        """These steps at a run's begin, which ends soon after."""
        plan = steps_of(experiment)
        spells = [self.struck[number] for number in numbers]
        first_s = min((spell.begin_s for spell in spells), default=0.0)
        by_s = max(0.0, first_s - LEAD_S)
        # What went wrong is over when its last operation is, and a strike that lasts
        # longer is healed as the run ends.
        ends = [
            call.end_s
            for call in self.calls
            if not spells or any(call.meets(spell) for spell in spells)
        ]
        ends = ends or [spell.end_s for spell in spells]
        end_s = min(self.known_s, max(ends, default=self.known_s))
        limit_s = float(math.ceil(end_s - by_s + AFTER_S))
        steps = [
            moved(plan[number], self.struck[number].begin_s, by_s) for number in numbers
        ]
        told = ", ".join(str(number + 1) for number in numbers) or "none"
        limit_s = min(limit_s, experiment.spec.time_limit_s)
        cut = over_after(with_plan(experiment, steps), limit_s)
        return Change(f"a scene of the run: steps {told}", cut.experiment)


def moved(step: Step, began_s: float, by_s: float) -> Step:
    """A step that is struck earlier; it began at `began_s` when it was recorded.

    A step at an event or after so many operations, counted from the run's start, gets
    the time at which it began. One that is for the observer of its event waits for the
    first of these from shortly before on.
    """
    at = step.at
    if at.time_s is not None:
        time_s = max(0.0, round(at.time_s - by_s, 3))
        return replace(step, at=replace(at, time_s=time_s))
    time_s = max(0.0, round(began_s - by_s, 3))
    if at.event is None or not waits_for_observer(step.fault):
        return replace(step, at=Trigger(time_s=time_s))
    from_s = max(0.0, round(time_s - LEAD_S / 2, 3))
    at = Trigger(time_s=from_s, event=at.event, within_s=LEAD_S)
    return replace(step, at=at)


def anomalous(recorded: Recorded, wanted: frozenset[Fingerprint]) -> Iterator[Spell]:
    """When the operations and events were that the first anomalies name."""
    recording = recordings.load(recorded.folder.path)
    calls = {
        op.index: call
        for call in recording.calls
        for op in (call.invoke, call.done)
        if op is not None
    }
    names = {(one.checker, one.anomaly) for one in wanted}
    for checker, found in recorded.verdict.checkers.items():
        ours = [each for each in found.anomalies if (checker, each.name) in names]
        for anomaly in ours[:ANOMALIES_MAX]:
            for index in anomaly.ops:
                if found.over == OBSERVATIONS:
                    if 0 <= index < len(recording.observed):
                        at_s = recording.event(recording.observed[index]).invoke.time
                        yield Spell(at_s / 1e9, at_s / 1e9)
                elif index in calls:
                    invoke, done = calls[index].invoke, calls[index].done
                    ended = invoke if done is None else done
                    yield Spell(invoke.time / 1e9, ended.time / 1e9)
