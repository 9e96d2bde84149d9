"""Engines: where experiments are carried out, on this machine or on a cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Outcome
from harness.campaign.processes import Processes
from harness.override import override
from harness.run import monitor
from harness.run.assembling import assemble, refuse_absent_disks

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from harness.campaign.executor import Executor
    from harness.verdict import Helpers

CarryOut = Callable[[Path, Experiment], Outcome]
"""Carries out an experiment; a folder that is kept goes below the path.

It can be named by a module and a function (`harness.campaign.carrying`), as it is sent
to other processes and machines.
"""


def nothing() -> None:
    """Do nothing."""


class Engine(Protocol):
    """Makes executors, and knows what can be carried out by them.

    Attributes:
        jobs: How many experiments it carries out side by side, unless somebody asks
            for another number; None if that is for the command to say.
    """

    jobs: int | None

    def executor(
        self,
        carry_out: CarryOut,
        place: Path,
        jobs: int,
        *,
        limit_s: float | None = None,
        tick: Callable[[], None] = nothing,
    ) -> AbstractContextManager[Executor]:
        """An executor, to be used within a `with` block, which leaves nothing behind.

        Args:
            carry_out: Carries out each experiment.
            place: The folder for run folders that are kept.
            jobs: How many experiments are carried out at a time.
            limit_s: An experiment that takes longer is ended by force, which counts as
                a failure of the harness.
            tick: Called about once a second while experiments are under way.
        """
        ...

    def helpers(self) -> Helpers | None:
        """Those that take shares of a check's work; None if nobody does."""
        return None

    def refuse(self, experiment: Experiment) -> None:
        """See that an experiment is possible, before any is carried out.

        Raises:
            UsageError: It is not; says why.
            NotInstalledError: It would be if something were installed.
        """
        ...

    def folder(self, outcome: Outcome) -> Path:
        """The run folder of an outcome, which has one, on this machine.

        Raises:
            HarnessError: It is in a store, and can't be fetched.
        """
        return Path(outcome.folder)

    def publish(self, folder: Path, name: str) -> None:
        """Put a folder where run folders are, under a name, if that is a store.

        Raises:
            HarnessError: It can't be written there.
        """
        return


class ThisMachine(Engine):
    """Carries experiments out in processes of this machine."""

    def __init__(self) -> None:
        self.jobs = None

    @override
    def executor(
        self,
        carry_out: CarryOut,
        place: Path,
        jobs: int,
        *,
        limit_s: float | None = None,
        tick: Callable[[], None] = nothing,
    ) -> Processes:
        how = functools.partial(carry_out, place)
        return Processes(how, jobs, limit_s=limit_s, tick=tick)

    @override
    def refuse(self, experiment: Experiment) -> None:
        spec = experiment.spec
        parts = assemble(spec)
        if spec.until_anomaly:
            monitor.refuse_unknown(spec, parts.system.invariants)
        refuse_absent_disks(spec, parts)


HERE = ThisMachine()
