"""Assembling a run: find and configure what a spec names, refuse the impossible."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import msgspec

from harness import registry
from harness.errors import NotInstalledError, UsageError
from harness.faults import Nemesis, Patterned, profiles
from harness.faults import schedule as schedules
from harness.faults.leadership import leader_line
from harness.faults.profiles import SWARM
from harness.host import scarcity
from harness.run import doctor
from harness.run.asking import asked
from harness.run.doctor import Rung
from harness.run.spec import check_numbers, options_for, system_options
from harness.systems import abilities, services
from harness.systems.abilities import (
    Attached,
    Attuned,
    Installed,
    Momentous,
    Mutable,
    Simulated,
    Sized,
    Worded,
)
from harness.systems.system import System
from harness.workload import Workload
from harness.worlds.capabilities import Capabilities
from harness.worlds.events import Observed, Passed
from harness.worlds.os.offer import offer
from harness.worlds.os.proxy import ProxyNetwork
from harness.worlds.os.router import RouterNetwork
from harness.worlds.os.switch import SwitchNetwork
from harness.worlds.sim.offer import OFFER
from harness.worlds.ssh import offer as surveying
from harness.worlds.ssh import uploads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.faults import Schedule
    from harness.faults.profiles import Regime
    from harness.run.asking import Asked
    from harness.run.spec import PlanData, TestSpec
    from harness.systems.system import SystemFactory
    from harness.worlds.events import Event
    from harness.worlds.operator import Operator
    from harness.worlds.ssh.offer import Survey

# Open files that one process of a run needs, measured and rounded up.
FILES_MIN = 32
FILES_A_NODE = 3
FILES_A_CLIENT = 2
FILES_A_PROXY = 3


@dataclass(frozen=True)
class Parts:
    """The plug-ins that a spec names, configured.

    Attributes:
        regime: What words for faults mean here; None if the faults aren't drawn.
        left_out: Kinds of fault that such a word means elsewhere -> why not here.
        survey: The machines on which nodes run over SSH; None for this one.
    """

    system: System
    workload: Workload
    nemeses: dict[str, Nemesis]
    regime: Regime | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    survey: Survey | None = None


def prepare(
    spec: TestSpec, written: PlanData | None = None
) -> tuple[Parts, Schedule, Rung]:
    """Check `spec` against systems, plug-ins and this machine: (parts, schedule, rung).

    In `spec`, words for faults ("all", "hard") are replaced by the kinds that they
    mean; those that say more stay as its profile. The plan is `written`, or else drawn.

    Raises:
        UsageError: The run is impossible; says why.
        HarnessError: Limits of this process (open files) are too low for the run.
    """
    if written is not None and not spec.nemesis:
        spec.nemesis = schedules.kinds(written)
    faults = asked([*spec.profile, *spec.nemesis])
    parts = assemble(spec)
    scarcity.need_files(files(spec))
    survey = survey_of(spec, parts.system)
    rung = choose_rung(spec, parts.system, survey)
    if survey is not None and (spec.pcap or spec.messages):
        what = "--pcap" if spec.pcap else "--messages"
        raise UsageError(f"{what} is for nodes on this machine (run without --hosts)")
    if spec.pcap and rung.name != SwitchNetwork.rung:
        carries = "streams" if rung.name == ProxyNetwork.rung else "messages"
        needed = "--world os" if rung.name == "sim" else "--network switch"
        raise UsageError(
            f"--pcap needs {needed}: {carries} pass here, so there are no "
            f"frames to capture. {rung.why}".rstrip()
        )
    if spec.messages and rung.name not in {"sim", RouterNetwork.rung}:
        frames = "; --pcap captures frames" * (rung.name == SwitchNetwork.rung)
        raise UsageError(
            "--messages needs --world sim or nodes of Maelstrom: between the nodes of "
            f"{parts.system.name} pass no whole messages{frames}"
        )
    if rung.name == ProxyNetwork.rung:
        scarcity.need_files(files(spec) + FILES_A_PROXY * spec.nodes**2)
    spec.profile, spec.nemesis = faults.words, faults.kinds
    absent: dict[str, str] = {}
    if faults.is_open:
        known = all_faults(parts.system, rung.name, nodes=spec.nodes, survey=survey)
        wanted = faults.wanted or list(known)
        spec.nemesis = [kind for kind in wanted if not known[kind]]
        absent = {kind: known[kind] for kind in wanted if known[kind]}
    if written is None and spec.nemesis:
        parts = assemble(spec, meant(spec, faults))
    elif faults.is_open:
        parts = assemble(spec)
    parts.left_out.update(absent)
    parts = replace(parts, survey=survey)
    schedule = schedules.build(
        parts.nemeses,
        spec.node_names,
        seed=spec.seed,
        time_limit_s=spec.time_limit_s,
        moments=moments(parts.system),
        rhythm=(parts.regime or profiles.STANDARD).rhythm,
        written=written,
    )
    operator = operator_of(parts.system)
    for kind in parts.nemeses:
        needs = schedule.needs_of(kind)
        if why := why_impossible(
            needs, rung.name, operator, nodes=spec.nodes, survey=survey
        ):
            raise UsageError(f"--nemesis {kind} can't be had here: {why}. {rung.why}")
    if survey is not None and any(isinstance(e, Passed) for e in schedule.events):
        raise UsageError(
            "--hosts: nobody counts messages between machines, so no fault can wait "
            "for one"
        )
    if isinstance(parts.system, Attached):
        parts.system.check_reachable()
    return parts, schedule, rung


def meant(spec: TestSpec, faults: Asked) -> Regime:
    """What the words for faults mean in the run that `spec` asks for.

    Options that the user has set are left alone.
    """
    _, given = options_for(spec)
    plugins = {kind: registry.find("nemesis", kind) for kind in spec.nemesis}
    swarm = Random(f"swarm {spec.seed}") if SWARM in faults.words else None
    return profiles.regime(faults.profile, plugins, given, swarm)


def moments(system: System) -> list[Event]:
    """The events of the system at which a fault may hurt most."""
    kinds = system.moments if isinstance(system, Momentous) else ()
    line = leader_line(system)
    return [*(Observed(kind) for kind in kinds), *([line] if line else [])]


def files(spec: TestSpec) -> int:
    """How many open files a process of the run may need, apart from proxies.

    With fewer, the run would fail half way, or would record its own lack of files as
    failures of the system.
    """
    if spec.world == "sim":
        return 0
    return FILES_MIN + FILES_A_NODE * spec.nodes + FILES_A_CLIENT * spec.concurrency


def survey_of(spec: TestSpec, system: System) -> Survey | None:
    """What the machines can do on which nodes run over SSH; None for a run here.

    Cost: a login to each.

    Raises:
        UsageError: The system has no nodes to start there, the hosts file is wrong, or
            a machine refuses us.
        HarnessError: A machine can't be reached or used.
    """
    if spec.hosts is None:
        if spec.uploads:
            raise UsageError("--upload is for nodes on other machines (--hosts FILE)")
        return None
    if spec.world == "sim":
        raise UsageError("--hosts is for --world os: simulated nodes need no machines")
    if isinstance(system, Attached):
        raise UsageError(f"--hosts: somebody else runs the nodes of {system.name}")
    for path in spec.uploads:
        uploads.upload(Path(path))
    return surveying.survey(Path(spec.hosts))


def choose_rung(spec: TestSpec, system: System, survey: Survey | None = None) -> Rung:
    """The rung that the nodes' network is built on.

    Raises:
        UsageError: The system can't run on the rung asked for, or on any that this
            machine offers.
    """
    if spec.world == "sim":
        if spec.network != "auto":
            raise UsageError("--network is for --world os: the simulator has its own")
        return Rung("sim")
    if isinstance(system, Attached):
        if spec.network != "auto":
            raise UsageError(
                f"--network is for nodes that are started here: those of {system.name} "
                "have a network already"
            )
        if spec.pcap:
            raise UsageError(
                f"--pcap needs nodes that are started here: frames of {system.name} "
                "nodes don't pass here"
            )
        return Rung("attached")
    if survey is not None:
        return Rung(*survey.choose(spec.network, spec.nodes, system.rungs))
    rung = doctor.choose_rung(spec.network)
    if rung.name in system.rungs:
        return rung
    # A rung asked for by name makes the doctor say why it can't be had.
    if spec.network != "auto":
        wanted = " or ".join(sorted(system.rungs))
        raise UsageError(
            f"{system.name} can't run on the {rung.name} network; use --network "
            f"{wanted}"
        )
    return doctor.choose_rung(min(system.rungs))


def all_faults(
    system: System, rung: str, *, nodes: int, survey: Survey | None = None
) -> dict[str, str]:
    """Kind of fault -> why it can't be had; empty if this system and rung allow it."""
    known = sorted(registry.plugins("nemesis").items())
    nemeses = {kind: plugin.factory({}) for kind, plugin in known}
    return {
        kind: services.why_spared(system, nemesis)
        or why_impossible(
            nemesis.needs, rung, operator_of(system), nodes=nodes, survey=survey
        )
        or why_unseen(system, nemesis)
        for kind, nemesis in nemeses.items()
    }


def why_unseen(system: System, nemesis: Nemesis) -> str:
    """Why a fault may strike nothing unless the user says more; empty if it will."""
    if not services.is_sure(system, nemesis):
        return f"nobody knows whether {system.name} nodes serve what it asks for"
    if isinstance(nemesis, Patterned) and not isinstance(system, Worded):
        return f"{system.name} has no messages that it is known for"
    return ""


def operator_of(system: System) -> Operator | None:
    """The operator of a system whose nodes somebody else runs; None for others."""
    return system.operator if isinstance(system, Attached) else None


def why_impossible(
    needs: Capabilities,
    rung: str,
    operator: Operator | None = None,
    *,
    nodes: int,
    survey: Survey | None = None,
) -> str:
    """Why a rung, an operator or other machines can't give what a fault needs.

    Returns:
        The reason; empty if they can.
    """
    if nodes < 2 and needs.network:
        return "a single node has no links (--nodes)"
    if operator is not None:
        return operator.offer().refusal(needs)
    if survey is not None:
        return survey.offer(rung, nodes).refusal(needs)
    return (OFFER if rung == "sim" else offer(rung, needs)).refusal(needs)


def assemble(spec: TestSpec, regime: Regime | None = None) -> Parts:
    """Find and configure everything that `spec` names.

    Which faults a word means depends on the system, the world and the machine, so
    without a `regime` such faults and their options are left out.

    Raises:
        UsageError: A name is unknown (the nearest is told), an option is unknown, or
            the combination is impossible; one line that says what to do.
        NotInstalledError: The run is possible, but this machine lacks a program.
    """
    check_numbers(spec)
    faults = asked([*spec.profile, *spec.nemesis])
    if faults.is_open:
        plain = system_options(spec.options)
        spec = msgspec.structs.replace(spec, nemesis=[], options=plain)
    else:
        spec = msgspec.structs.replace(spec, nemesis=faults.kinds)
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
    if isinstance(system, Attuned):
        system.attune(workload)
    for name in spec.also:
        registry.find("checker", name).factory(others[name])
    kinds = list(regime.kinds) if regime else spec.nemesis
    set_too = regime.options if regime else {}
    nemeses = {
        kind: registry.find("nemesis", kind).factory(
            {**set_too.get(kind, {}), **others[kind]}
        )
        for kind in kinds
    }
    for kind, nemesis in nemeses.items():
        abilities.check(nemesis, Nemesis, kind)
        if isinstance(nemesis, Patterned) and isinstance(system, Worded):
            nemesis.patterns = nemesis.patterns or system.messages
    refuse_impossible_faults(system, kinds, nemeses, nodes=spec.nodes)
    if isinstance(system, Installed):
        system.check_installed()
    return Parts(system, workload, nemeses, regime)


def refuse_absent_disks(spec: TestSpec, parts: Parts) -> None:
    """Refuse faults of disks that can't be had on this machine.

    Raises:
        NotInstalledError: They can't; says what is lacking.
    """
    for kind, nemesis in parts.nemeses.items():
        needs = Capabilities(disks=nemesis.needs.disks)
        if spec.world == "os" and (why := offer("switch", needs).refusal(needs)):
            raise NotInstalledError(f"--nemesis {kind} can't be had here: {why}")


def configure(written: str, options: Mapping[str, str]) -> System:
    """The system `written`, "NAME" or "NAME:TEXT", with its options.

    Raises:
        UsageError: There is no such system, or it lacks one of the options; says which
            other plug-in has that option.
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
        UsageError: The system has no mutants, or none of that name.
    """
    if not isinstance(system, Mutable):
        raise UsageError(
            f"{system.name} has no mutants: only the reference protocols have"
        )
    system.mutate(mutant)


def refuse_impossible_faults(
    system: System,
    kinds: Sequence[str],
    nemeses: Mapping[str, services.Nemesis],
    *,
    nodes: int,
) -> None:
    """Refuse faults that the system can't bear, or that would find nothing to strike.

    Raises:
        UsageError: There is such a fault. None is ever skipped silently.
    """
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise UsageError(f"--nemesis names {kind} twice")
        if why := services.why_spared(system, nemeses[kind]):
            raise UsageError(f"{system.name} can't be subjected to {kind!r} ({why})")
    if "partition" in kinds and nodes < 2:
        raise UsageError("--nemesis partition needs at least 2 nodes (--nodes)")
