"""The specification of a run: every option, checked before anything starts.

The command line and suites produce a `TestSpec`, `test.yaml` stores it, and a replay or
an analysis reads it back. The fault plan is drawn from the spec, unless there is a
written one, which is handed on beside the spec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from harness import registry
from harness.errors import UsageError
from harness.host import program
from harness.options import RUN_NUMBERS, shown
from harness.run.asking import NO_FAULTS
from harness.systems.abilities import Scaled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


NODES_DEFAULT = 5

PlanData = list[dict[str, Any]]
"""The steps of a fault plan as they stand in plan.yaml (`harness.faults.plan`)."""


class TestSpec(msgspec.Struct, kw_only=True, omit_defaults=False):
    """One run. Seconds and operations are limits: whichever comes first ends the run.

    Attributes:
        system: Plug-in name, with an adapter's text after a colon.
        options: `--set` texts: "reads" for the system, "PLUGIN.option" for the others.
        nemesis: Kinds of fault to draw a plan from, and words for them
            (`harness.run.asking`) until the run is prepared.
        profile: The words that say how hard those faults are on the system.
        rate: Operations a second of all clients together; None for no limit.
        op_timeout_s: How long a client waits for an answer; None for the time that the
            workload asks for (`harness.workload.op_timeout_s`).
        seed: Every random choice of the run comes from it.
        network: The rung asked for (`harness.run.doctor.Rung`).
        world: "os" for real processes, "sim" for virtual time.
        mutant: Run this mutant of the reference system in its place.
        expect: The verdict that the caller expects; it only decides the exit status.
        node_data_mb: Bound of a node's data folder; past it the node is killed for
            good.
        node_log_mb: Bound of a node's log; past it the log loses its middle.
        pcap: Capture all frames between nodes.
        messages: Record what became of each message between nodes.
        also: Checkers beside the workload's; their verdicts are shown and don't count.
        availability: The part of the operations that must succeed; None for any.
        watchdog: Whether nodes that exit on their own are started again.
        until_invalid: Judge the history while it grows (`harness.run.monitor`), and end
            the run once it is known to be invalid, whatever may still come.
        until_anomaly: End it at these anomalies only; any if there are none.
        hosts: The hosts file of machines on which nodes run over SSH; None for here.
        uploads: Files and folders that nodes need on those machines.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    system: str
    workload: str = "register"
    nemesis: list[str] = []
    profile: list[str] = []
    nodes: int = NODES_DEFAULT
    concurrency: int = 10
    rate: float | None = None
    op_timeout_s: float | None = None
    time_limit_s: float = 60.0
    ops: int | None = None
    seed: int = 0
    options: dict[str, str] = {}
    world: Literal["os", "sim"] = "os"
    mutant: str | None = None
    network: Literal["auto", "switch", "proxy", "router"] = "auto"
    expect: Literal["valid", "invalid"] | None = None
    also: list[str] = []
    availability: float | None = None
    node_data_mb: int = 4000
    node_log_mb: int = 64
    watchdog: bool = False
    pcap: bool = False
    messages: bool = False
    until_invalid: bool = False
    until_anomaly: list[str] = []
    hosts: str | None = None
    uploads: list[str] = []
    name: str = ""

    @property
    def node_names(self) -> list[str]:
        """n1, n2, ... as in Jepsen."""
        return node_names(self.nodes)

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
            words = [*self.profile, *self.nemesis]
            out += ["--nemesis", ",".join(words) or NO_FAULTS]
        if self.also:
            out += ["--also", ",".join(self.also)]
        for flag, name in FLAGS.items():
            value = getattr(self, name)
            implied = {getattr(plain, name)}
            if name == "rate" and self.world == "sim":
                implied.add(spread_rate(self))
            if name == "nodes":
                implied = self._implied_nodes()
            if value is not None and implied != {value}:
                out += [flag, str(value).removesuffix(".0")]
        if self.watchdog:
            out.append("--watchdog")
        if self.pcap:
            out.append("--pcap")
        if self.messages:
            out.append("--messages")
        if self.until_anomaly:
            out += ["--until-anomaly", ",".join(self.until_anomaly)]
        elif self.until_invalid:
            out.append("--until-invalid")
        for path in self.uploads:
            out += ["--upload", path]
        out += ["--seed", str(self.seed)]
        for key, text in self.options.items():
            out += ["--set", f"{key}={text}"]
        if plan is not None:
            out += ["--plan", program.near(plan)]
        return out

    def _implied_nodes(self) -> set[int]:
        """What `run` takes for --nodes; unknown for a system that isn't here."""
        try:
            return {usual_nodes(self.system)}
        except UsageError:
            return set()


AVAILABILITY = "availability"
"""The checker of how much was answered."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "os": {"time_limit_s": 60.0},
    "sim": {"time_limit_s": 20.0, "rate": 50.0},
}
"""World -> the defaults of `run` in it. Virtual time costs nothing and each operation
does, so the simulator needs a rate; at this one the operations span several faults."""

FLAGS: Mapping[str, str] = {
    "--world": "world",
    "--mutant": "mutant",
    "--nodes": "nodes",
    "--concurrency": "concurrency",
    "--rate": "rate",
    "--op-timeout": "op_timeout_s",
    "--time-limit": "time_limit_s",
    "--ops": "ops",
    "--availability": "availability",
    "--network": "network",
    "--node-data-mb": "node_data_mb",
    "--node-log-mb": "node_log_mb",
    "--expect": "expect",
    "--hosts": "hosts",
}
"""Command line flags of `run` and the fields they set."""


def node_names(nodes: int) -> list[str]:
    """n1, n2, ... as in Jepsen."""
    return [f"n{i + 1}" for i in range(nodes)]


def system_options(options: Mapping[str, str]) -> dict[str, str]:
    """The `--set` texts that are for the system: those without a dot."""
    return {key: text for key, text in options.items() if "." not in key}


def options_for(spec: TestSpec) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Sort `--set` texts by plug-in: (the system's, plug-in name -> its own).

    Raises:
        UsageError: A dotted option for a plug-in that takes no part in the run.
    """
    system: dict[str, str] = {}
    others: dict[str, dict[str, str]] = {
        name: {} for name in (spec.workload, *spec.nemesis, *spec.also)
    }
    if spec.availability is not None:
        others.setdefault(AVAILABILITY, {})
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


def usual_nodes(system: str) -> int:
    """The number of nodes of a run of `system` that names none.

    Raises:
        UsageError: There is no such system.
    """
    name, _, text = system.partition(":")
    made = registry.by_default(registry.find("system", name), text, {})
    return made.usual_nodes if isinstance(made, Scaled) else NODES_DEFAULT


def spread_rate(spec: TestSpec) -> float:
    """The default rate of a simulated run: its operations divided by its time.

    It stays within the bounds of a rate, so that what was completed can be read again.
    """
    rate: float = DEFAULTS["sim"]["rate"]
    if spec.ops is not None and spec.time_limit_s > 0:
        _, bounds = RUN_NUMBERS["--rate"]
        rate = spec.ops / spec.time_limit_s
        rate = round(min(max(rate, bounds.least), bounds.most), 3)
    return rate


def check_numbers(spec: TestSpec) -> None:
    """Refuse numbers that make no run.

    Raises:
        UsageError: Names the option and its range.
    """
    for flag, (field, kind) in RUN_NUMBERS.items():
        value = getattr(spec, field)
        if value is not None and not kind.admits(value):
            raise UsageError(f"{flag} {shown(str(value))}: it takes {kind.told}")
