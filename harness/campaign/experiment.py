"""An experiment: all that a run is asked to do, as data.

Two experiments are equal if they ask for the same run. They come from a command line, a
suite's row or a run folder, can be sent anywhere as JSON, and give the command that
runs them again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.faults import plan as plans
from harness.run.spec import PlanData, TestSpec
from harness.worlds.world import FreshDice  # noqa: TC001  # for msgspec

if TYPE_CHECKING:
    from harness.faults.plan import Plan
    from harness.run.store import RunFolder


@dataclass(frozen=True)
class Experiment:
    """One run to be made.

    Attributes:
        spec: What is asked for.
        plan: The written fault plan, in the form of plan.yaml, which leaves out
            defaults; None if it is drawn from `spec`.
        plan_file: A file that holds the plan, for `command`; empty for none.
        fresh_dice: A moment from which on chance takes another course; None for none.
            No command says so, and no folder is kept of such a run.

    Raises:
        UsageError: `plan` is no fault plan.
    """

    spec: TestSpec
    plan: PlanData | None = None
    plan_file: str = field(default="", compare=False)
    fresh_dice: FreshDice | None = None

    def __post_init__(self) -> None:
        if self.plan is not None:
            steps = plans.parse(self.plan, "plan")
            object.__setattr__(self, "plan", [step.as_data() for step in steps])

    @classmethod
    def load(cls, folder: RunFolder) -> Experiment:
        """The experiment of the run in `folder`.

        Raises:
            UsageError: test.yaml or plan.yaml is damaged.
        """
        test = folder.test()
        if test.plan == "drawn":
            return cls(test.spec)
        plan, file = folder.read_as("plan.yaml", PlanData), folder.path / "plan.yaml"
        plans.parse(plan or [], str(file))  # an error names the file
        return cls(test.spec, plan or [], str(file))

    @classmethod
    def decode(cls, data: bytes) -> Experiment:
        """The experiment that `encode` made JSON of."""
        return msgspec.json.decode(data, type=cls)

    def encode(self) -> bytes:
        """The experiment as JSON."""
        return msgspec.json.encode(self)

    def with_seed(self, seed: int) -> Experiment:
        """The experiment with another seed."""
        return replace(self, spec=msgspec.structs.replace(self.spec, seed=seed))

    def command(self) -> list[str]:
        """The command line that runs it again."""
        return self.spec.command(Path(self.plan_file) if self.plan_file else None)


def steps_of(experiment: Experiment) -> Plan:
    """The steps of an experiment with a written plan."""
    assert experiment.plan is not None
    return plans.parse(experiment.plan, "plan")
