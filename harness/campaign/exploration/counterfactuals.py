"""Counterfactuals: what becomes of a failure when one of its faults is left out?

In the simulator the same seed without one fault is the same run up to that fault, so
such a run costs little and proves much: if it keeps its promises, the failure would not
have come without the fault. That holds for this seed; with another one the failure may
come without.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import msgspec

from harness.campaign.experiment import steps_of
from harness.campaign.exploration.space import kinds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.campaign.executor import Pursuit
    from harness.campaign.experiment import Experiment
    from harness.campaign.outcome import Fingerprint, Outcome
    from harness.faults.plan import Step
    from harness.run.spec import TestSpec

STEPS_MAX = 12
"""Steps that are left out in turn; a plan with more has the rest untried."""

Fate = Literal["same", "other", "valid", "unknown"]
"""What became of the run: the same failure, another one, none, or nobody knows."""


@dataclass(frozen=True)
class Counterfactual:
    """The run without one step.

    Attributes:
        number: The number of the step, from 0 on.
        step: The step that was left out.
        fate: What became of the run.
    """

    number: int
    step: Step
    fate: Fate

    @property
    def told(self) -> str:
        """In a line: "valid without the kill at 3.2 s (step 4)"."""
        at = self.step.at
        moment = f"at {at.time_s:g} s" if at.time_s is not None else "of its event"
        what = f"without the {self.step.fault.kind} {moment} (step {self.number + 1})"
        told = {
            "same": "fails all the same",
            "other": "fails otherwise",
            "valid": "valid",
            "unknown": "unknown",
        }
        return f"{told[self.fate]} {what}"


def without_each(failed: Experiment) -> Pursuit[list[Outcome]]:
    """A pursuit that leaves out each of the first steps of a written plan in turn.

    It returns the outcomes, one for each of these steps, in their order; fewer if
    somebody ends a run.
    """
    found: list[Outcome] = []
    for number in range(min(STEPS_MAX, len(steps_of(failed)))):
        outcome = yield without(failed, number)
        if outcome is None:
            break
        found.append(outcome)
    return found


def told_of(
    mark: Fingerprint, failed: Experiment, outcomes: Sequence[Outcome]
) -> list[Counterfactual]:
    """What became of the failure `mark` in the outcomes of `without_each`."""
    return [
        Counterfactual(number, step, fate(mark, outcome))
        for number, (step, outcome) in enumerate(
            zip(steps_of(failed), outcomes, strict=False)
        )
    ]


def without(experiment: Experiment, number: int) -> Experiment:
    """The experiment without one step; all else is as it was, its disks as well.

    Kinds of fault stay among those of the run even if no step is left, because a world
    that makes fewer preparations would be another world.
    """
    plan = steps_of(experiment)
    rest = plan[:number] + plan[number + 1 :]
    # A shrunk experiment names no kinds: those of its plan are meant.
    kinds = experiment.spec.nemesis or kinds_of(plan)
    spec: TestSpec = msgspec.structs.replace(experiment.spec, nemesis=kinds)
    return replace(experiment, spec=spec, plan=[step.as_data() for step in rest])


def fate(mark: Fingerprint, after: Outcome) -> Fate:
    """What became of a failure."""
    if mark in after.fingerprints:
        return "same"
    match after.verdict:
        case "invalid":
            return "other"
        case "valid":
            return "valid"
        case _:
            return "unknown"
