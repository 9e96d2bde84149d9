"""Completing a spec: fill in what a command line or a suite's row left open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import registry
from harness.errors import UsageError
from harness.run.asking import NO_FAULTS, asked
from harness.run.assembling import configure
from harness.run.spec import spread_rate, system_options
from harness.systems import mutants, services
from harness.systems.abilities import Customary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.run.spec import TestSpec

WORKLOADS_BY_CHOICE = ("register", "commit", "consensus", "broadcast")
"""The default workload of a run is the first of these that its system serves."""


def default_workload(system: str, options: Mapping[str, str]) -> str:
    """The workload of a run of `system` that names none.

    Raises:
        UsageError: There is no such system, `options` don't suit it, or it serves no
            workload.
    """
    own = system_options(options)
    made = configure(system, own)
    for workload in WORKLOADS_BY_CHOICE:
        if services.serves(made, registry.find("workload", workload)):
            return workload
    for workload in services.served(made):
        return workload
    spoken = ", ".join(sorted(made.services)) or "nothing"
    raise UsageError(f"no workload runs on {made.name}: its clients speak {spoken}")


def complete(spec: TestSpec, *, planned: bool = False) -> None:
    """Fill in the workload, rate and faults that a command line left open.

    A mutant brings the workload, faults and options that it declares. In the simulator
    the operations are spread over the whole time if there is no rate. `planned` says
    whether there is a written plan, which keeps a mutant's faults out.

    Raises:
        UsageError: There is no such system or mutant.
    """
    if spec.mutant is not None:
        run_as_declared(spec, spec.mutant, planned=planned)
    if spec.nemesis == [NO_FAULTS]:
        spec.nemesis = []
    follow_customs(spec)
    if not spec.workload:
        spec.workload = default_workload(spec.system, spec.options)
    if spec.world == "sim" and spec.rate is None:
        spec.rate = spread_rate(spec)


def follow_customs(spec: TestSpec) -> None:
    """Take names and defaults as the system's users know them, if it has its own."""
    name, _, text = spec.system.partition(":")
    system = registry.by_default(registry.find("system", name), text, {})
    if not isinstance(system, Customary):
        return
    spec.rate = spec.rate or system.usual_rate
    spec.also = list(dict.fromkeys([*spec.also, *system.usually_also]))
    written = spec.workload
    known = {name.replace("-", "_"): custom for name, custom in system.customs.items()}
    custom = known.get(written.replace("-", "_"))
    if custom is None:
        return
    spec.workload = custom.workload
    of_workload = {f"{custom.workload}.{k}": v for k, v in custom.options.items()}
    for key, text in spec.options.items():
        owner, dot, name = key.partition(".")
        is_its = dot and owner.replace("-", "_") == written.replace("-", "_")
        of_workload[f"{custom.workload}.{name}" if is_its else key] = text
    spec.options = of_workload


def run_as_declared(spec: TestSpec, name: str, *, planned: bool) -> None:
    """Take the workload, faults and options from a mutant, where none are given.

    Raises:
        UsageError: The system has no such mutant.
    """
    system = registry.find("system", spec.system.partition(":")[0]).name
    mutant = mutants.find(system, name)
    spec.workload = spec.workload or mutant.workload
    if not spec.nemesis and not planned:
        spec.nemesis = list(mutant.nemesis)
    faults = asked(spec.nemesis)
    kinds = faults.wanted if faults.is_open else faults.kinds
    limits = {
        key: text
        for key, text in mutant.limits.items()
        if key.partition(".")[0] in kinds or (faults.is_open and not kinds)
    }
    spec.options = {**mutant.options, **limits, **spec.options}
