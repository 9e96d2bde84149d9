"""What a run is asked to do: every option, checked before anything starts.

A `TestSpec` is what the command line and suites produce, what `test.yaml` stores, and
what a replay or an analysis reads back. A plan that somebody has written stands beside
it; else the plan is drawn, as the spec says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from harness import abilities, mutants, program, registry, services
from harness.abilities import Installed, Mutable, Simulated, Sized
from harness.errors import UsageError
from harness.faults import Nemesis
from harness.options import RUN_NUMBERS, shown
from harness.system import System
from harness.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.system import SystemFactory


PlanData = list[dict[str, Any]]
"""The steps of a fault plan as they stand in plan.yaml (`harness.faults.plan`)."""


class TestSpec(msgspec.Struct, kw_only=True, omit_defaults=False):
    """One run. Seconds and operations are limits: whichever comes first ends the run.

    Attributes:
        system: Plug-in name, with an adapter's text after a colon.
        options: `--set` texts: "reads" for the system, "PLUGIN.option" for the others.
        nemesis: Kinds of fault to draw a plan from.
        rate: Operations a second in all, or None for as fast as clients go.
        op_timeout_s: How long a client waits for an answer, or None for as long as the
            workload asks for (`harness.workload.op_timeout_s`).
        seed: Every choice of the run comes from it.
        network: The rung asked for.
        world: "os" for real processes, "sim" for virtual time.
        mutant: Run this mutant of the reference system in its place.
        expect: What the caller expects; only changes what counts as success.
        node_data_mb: A node whose data folder takes up more is killed for good.
        node_log_mb: A node's log that grows longer loses its middle.
        also: Checkers beside the workload's, whose verdicts are shown and don't count.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    system: str
    workload: str = "register"
    nemesis: list[str] = []
    nodes: int = 5
    concurrency: int = 10
    rate: float | None = None
    op_timeout_s: float | None = None
    time_limit_s: float = 60.0
    ops: int | None = None
    seed: int = 0
    options: dict[str, str] = {}
    world: Literal["os", "sim"] = "os"
    mutant: str | None = None
    network: Literal["auto", "switch", "proxy"] = "auto"
    expect: Literal["valid", "invalid"] | None = None
    also: list[str] = []
    node_data_mb: int = 4000
    node_log_mb: int = 64
    name: str = ""

    @property
    def node_names(self) -> list[str]:
        """n1, n2, ... as in Jepsen."""
        return [f"n{i + 1}" for i in range(self.nodes)]

    @property
    def folder_name(self) -> str:
        """The run folder's name below results/."""
        return f"{self.system.partition(':')[0]}-{self.workload}"

    def command(self, plan: Path | None = None) -> list[str]:
        """The command line that repeats this run, with the plan in the file `plan`."""
        out = [*program.words(), "run", self.system]
        plain = TestSpec(system=self.system, **DEFAULTS[self.world])
        # A mutant brings a workload and faults of its own, unless these are named.
        if self.workload != plain.workload or self.mutant:
            out += ["--workload", self.workload]
        if self.nemesis or self.mutant:
            out += ["--nemesis", ",".join(self.nemesis) or NO_FAULTS]
        if self.also:
            out += ["--also", ",".join(self.also)]
        for flag, name in FLAGS.items():
            value = getattr(self, name)
            implied = {getattr(plain, name)}
            if name == "rate" and self.world == "sim":
                implied.add(spread_rate(self))
            if value is not None and implied != {value}:
                out += [flag, str(value).removesuffix(".0")]
        out += ["--seed", str(self.seed)]
        for key, text in self.options.items():
            out += ["--set", f"{key}={text}"]
        if plan is not None:
            out += ["--plan", program.near(plan)]
        return out


DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "os": {"time_limit_s": 60.0},
    "sim": {"time_limit_s": 20.0, "rate": 50.0},
}
"""By world: what `run` does unless told otherwise. In virtual time only operations
cost, so their number must be bounded; at this rate they outlast several faults."""

NO_FAULTS = "none"
ALL_FAULTS = "all"
"""Words for `--nemesis` beside the kinds of fault."""

WORKLOADS_BY_CHOICE = ("register", "commit", "consensus", "broadcast")
"""The workload of a run that names none: the first of these that its system serves."""

FLAGS: Mapping[str, str] = {
    "--world": "world",
    "--mutant": "mutant",
    "--nodes": "nodes",
    "--concurrency": "concurrency",
    "--rate": "rate",
    "--op-timeout": "op_timeout_s",
    "--time-limit": "time_limit_s",
    "--ops": "ops",
    "--network": "network",
    "--node-data-mb": "node_data_mb",
    "--node-log-mb": "node_log_mb",
    "--expect": "expect",
}
"""Command line flags of `run` and the fields they set."""


@dataclass(frozen=True)
class Parts:
    """The plug-ins that a spec names, configured."""

    system: System
    workload: Workload
    nemeses: dict[str, Nemesis]


def options_for(spec: TestSpec) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """`--set` texts sorted by whom they concern: the system's, and others' by name.

    Raises:
        UsageError: A dotted option for a plug-in that takes no part in the run.
    """
    system: dict[str, str] = {}
    others: dict[str, dict[str, str]] = {
        name: {} for name in (spec.workload, *spec.nemesis, *spec.also)
    }
    for key, text in spec.options.items():
        owner, dot, name = key.partition(".")
        if not dot:
            system[key] = text
        elif owner in others:
            others[owner][name] = text
        else:
            raise UsageError(
                f"--set {key}: {owner!r} takes no part in this run"
                f"{registry.nearest(owner, others)} (these do: {', '.join(others)})"
            )
    return system, others


def assemble(spec: TestSpec) -> Parts:
    """Find and configure everything that `spec` names.

    Raises:
        UsageError: Unknown names (with the nearest), unknown options, impossible
            combinations; one line that says what to do.
        NotInstalledError: All of this is possible, but not on this machine.
    """
    check_numbers(spec)
    own, others = options_for(spec)
    system = configure(spec.system, own)
    if spec.mutant is not None:
        mutate(system, spec.mutant)
    if spec.world == "sim" and not isinstance(system, Simulated):
        raise UsageError(
            f"{system.name} can't run in the simulator: only systems whose nodes are "
            "sans-IO cores can (use --world os)"
        )
    if isinstance(system, Sized):
        system.check_nodes(spec.node_names)
    workload: Workload = registry.find("workload", spec.workload).factory(
        others[spec.workload]
    )
    abilities.check(workload, Workload, spec.workload)
    services.check(system, workload)
    for name in spec.also:
        registry.find("checker", name).factory(others[name])
    nemeses = {
        kind: registry.find("nemesis", kind).factory(others[kind])
        for kind in spec.nemesis
    }
    for kind, nemesis in nemeses.items():
        abilities.check(nemesis, Nemesis, kind)
    refuse_impossible_faults(system, spec.nemesis, nemeses, nodes=spec.nodes)
    if isinstance(system, Installed):
        system.check_installed()
    return Parts(system, workload, nemeses)


def configure(written: str, options: Mapping[str, str]) -> System:
    """The system of that name, and text after a colon, with its own options.

    Raises:
        UsageError: There is none, or it does not have one of the options; if another
            plug-in does, which.
    """
    name, colon, text = written.partition(":")
    plugin: registry.Plugin[SystemFactory] = registry.find("system", name)
    if plugin.adapter != bool(colon):
        raise UsageError(f"write the system as {plugin.title}, not {written!r}")
    known = {option.name for option in plugin.options}
    for name in options:
        if name in known:
            continue
        owners = [
            other.name
            for kind in ("workload", "nemesis", "checker")
            for other in registry.plugins(kind).values()
            if name in {option.name for option in other.options}
        ]
        if owners:
            spelled = " or ".join(f"{owner}.{name}" for owner in owners)
            raise UsageError(
                f"--set {name}: {plugin.name} has no such option; write {spelled}"
            )
    system = plugin.factory(text, options)
    abilities.check(system, System, plugin.title)
    return system


def mutate(system: System, mutant: str) -> None:
    """Put a mutant in the system's place.

    Raises:
        UsageError: It has no mutants, or none of that name.
    """
    if not isinstance(system, Mutable):
        raise UsageError(
            f"{system.name} has no mutants: only the reference protocols have"
        )
    system.mutate(mutant)


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


def spread_rate(spec: TestSpec) -> float:
    """The rate of a simulated run that names none: its operations over its time."""
    if spec.ops is not None and spec.time_limit_s > 0:
        return round(spec.ops / spec.time_limit_s, 3)
    rate: float = DEFAULTS["sim"]["rate"]
    return rate


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


def check_numbers(spec: TestSpec) -> None:
    """Refuse numbers that make no run.

    Raises:
        UsageError: Names the option and its range.
    """
    for flag, (field, kind) in RUN_NUMBERS.items():
        value = getattr(spec, field)
        if value is not None and not kind.admits(value):
            raise UsageError(f"{flag} {shown(str(value))}: it takes {kind.told}")


def refuse_impossible_faults(
    system: System,
    kinds: Sequence[str],
    nemeses: Mapping[str, services.Nemesis],
    *,
    nodes: int,
) -> None:
    """Refuse faults that the system can't bear or that nothing is there to suffer.

    Raises:
        UsageError: Never skips a fault silently.
    """
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise UsageError(f"--nemesis names {kind} twice")
        if why := services.why_spared(system, nemeses[kind]):
            raise UsageError(f"{system.name} can't be subjected to {kind!r} ({why})")
    if "partition" in kinds and nodes < 2:
        raise UsageError("--nemesis partition needs at least 2 nodes (--nodes)")
