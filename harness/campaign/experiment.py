"""An experiment: what a run is asked to do, complete, as data.

Two experiments are equal when they ask for the same run. One comes from a command line,
a suite's row or a run folder, goes anywhere as JSON, and tells the command that runs it
again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.faults import plan as plans
from harness.run.spec import PlanData, TestSpec

if TYPE_CHECKING:
    from harness.run.store import RunFolder


@dataclass(frozen=True)
class Experiment:
    """One run to be made.

    Attributes:
        spec: What is asked for.
        plan: The faults, where somebody has written them; None: drawn, as `spec` says.
            In the form of plan.yaml, which leaves out what goes without saying.
        plan_file: A file that holds the plan, for `command`; empty for none.

    Raises:
        UsageError: The plan is none.
    """

    spec: TestSpec
    plan: PlanData | None = None
    plan_file: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.plan is not None:
            steps = plans.parse(self.plan, "plan")
            object.__setattr__(self, "plan", [step.as_data() for step in steps])

    @classmethod
    def load(cls, folder: RunFolder) -> Experiment:
        """The experiment that the run in `folder` was.

        Raises:
            UsageError: test.yaml or plan.yaml is damaged.
        """
        test = folder.test()
        if test.plan == "drawn":
            return cls(test.spec)
        plan = folder.read_as("plan.yaml", PlanData)
        return cls(test.spec, plan or [], str(folder.path / "plan.yaml"))

    @classmethod
    def decode(cls, data: bytes) -> Experiment:
        """The experiment that `encode` made JSON of."""
        return msgspec.json.decode(data, type=cls)

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    def with_seed(self, seed: int) -> Experiment:
        """The same from another seed."""
        return replace(self, spec=msgspec.structs.replace(self.spec, seed=seed))

    def command(self) -> list[str]:
        """The command line that runs it again."""
        return self.spec.command(Path(self.plan_file) if self.plan_file else None)
