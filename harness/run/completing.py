"""What a command line or a row of a suite left open, filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import registry
from harness.errors import UsageError
from harness.run.assembling import configure
from harness.run.spec import ALL_FAULTS, NO_FAULTS, spread_rate
from harness.systems import mutants, services

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.run.spec import TestSpec

WORKLOADS_BY_CHOICE = ("register", "commit", "consensus", "broadcast")
"""The workload of a run that names none: the first of these that its system serves."""


def default_workload(system: str, options: Mapping[str, str]) -> str:
    """The workload of a run of `system` that names none.

    Raises:
        UsageError: There is no such system, it can't be configured so, or it serves no
            workload.
    """
    own = {key: value for key, value in options.items() if "." not in key}
    made = configure(system, own)
    for workload in WORKLOADS_BY_CHOICE:
        if services.serves(made, registry.find("workload", workload)):
            return workload
    for workload in services.served(made):
        return workload
    spoken = ", ".join(sorted(made.services)) or "nothing"
    raise UsageError(f"no workload runs on {made.name}: its clients speak {spoken}")


def complete(spec: TestSpec, *, planned: bool = False) -> None:
    """Fill in what a command line left open: an empty workload, no rate, no faults.

    A mutant is run as it declares, the rest by the world's defaults. In the simulator a
    number of operations without a rate is spread over the whole time. `planned` says
    that there is a written plan.

    Raises:
        UsageError: There is no such system or mutant.
    """
    if spec.mutant is not None:
        run_as_declared(spec, spec.mutant, planned=planned)
    if spec.nemesis == [NO_FAULTS]:
        spec.nemesis = []
    if not spec.workload:
        spec.workload = default_workload(spec.system, spec.options)
    if spec.world == "sim" and spec.rate is None:
        spec.rate = spread_rate(spec)


def run_as_declared(spec: TestSpec, name: str, *, planned: bool) -> None:
    """Take from a mutant what nobody has named: workload, faults, options.

    Raises:
        UsageError: The system has no such mutant.
    """
    system = registry.find("system", spec.system.partition(":")[0]).name
    mutant = mutants.find(system, name)
    spec.workload = spec.workload or mutant.workload
    if not spec.nemesis and not planned:
        spec.nemesis = list(mutant.nemesis)
    limits = {
        key: text
        for key, text in mutant.limits.items()
        if {ALL_FAULTS, key.partition(".")[0]} & set(spec.nemesis)
    }
    spec.options = {**mutant.options, **limits, **spec.options}
