"""One run, in either world: check what is asked for, set up, carry out, record."""

from __future__ import annotations

import datetime
import functools
import platform
import shlex
import subprocess
import time
from collections import Counter
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness import doctor, interrupts, registry, scarcity, services
from harness.abilities import Momentous, Simulated
from harness.controller import Controller
from harness.doctor import Rung
from harness.errors import UsageError
from harness.faults import schedule as schedules
from harness.osworld.offer import offer
from harness.osworld.proxy import ProxyNetwork
from harness.records import VERSION, RunRecord
from harness.sim.conditions import Conditions
from harness.sim.offer import OFFER
from harness.spec import ALL_FAULTS, NO_FAULTS, Parts, TestSpec, assemble, options_for
from harness.store import RunFolder
from harness.workload import op_timeout_s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.controller import Progress
    from harness.faults import Schedule
    from harness.spec import PlanData
    from harness.system import System
    from harness.worlds.capabilities import Capabilities
    from harness.worlds.world import World

# Open files of a process of a run, measured and rounded up.
FILES_MIN = 32
FILES_A_NODE = 3
FILES_A_CLIENT = 2
FILES_A_PROXY = 3


def prepare(
    spec: TestSpec, written: PlanData | None = None
) -> tuple[Parts, Schedule, Rung]:
    """Check `spec` against systems, plug-ins and this machine: (parts, schedule, rung).

    Words for faults in it ("all", "none") give way to the kinds that they mean. The
    plan is `written`, or drawn.

    Raises:
        UsageError: The run is impossible, and why.
        HarnessError: This process may not have what it takes.
    """
    if written is not None and not spec.nemesis:
        spec.nemesis = schedules.kinds(written)
    wanted, spec.nemesis = spec.nemesis, fault_kinds(spec.nemesis)
    # Which faults "all" means depends on the system, so their options come later.
    own = {key: text for key, text in spec.options.items() if "." not in key}
    bare = msgspec.structs.replace(spec, options=own)
    parts = assemble(bare if ALL_FAULTS in wanted else spec)
    scarcity.need_files(files(spec))
    rung = choose_rung(spec, parts.system)
    if rung.name == ProxyNetwork.rung:
        scarcity.need_files(files(spec) + FILES_A_PROXY * spec.nodes**2)
    if ALL_FAULTS in wanted:
        spec.nemesis = every_fault(parts.system, rung.name, nodes=spec.nodes)
        parts = assemble(spec)
    for kind, nemesis in parts.nemeses.items():
        if why := why_impossible(nemesis.needs, rung.name, nodes=spec.nodes):
            raise UsageError(f"--nemesis {kind} can't be had here: {why}. {rung.why}")
    schedule = schedules.build(
        parts.nemeses,
        spec.node_names,
        seed=spec.seed,
        time_limit_s=spec.time_limit_s,
        moments=parts.system.moments if isinstance(parts.system, Momentous) else (),
        written=written,
    )
    return parts, schedule, rung


def files(spec: TestSpec) -> int:
    """How many open files a process of the run may need, but for proxies.

    Short of them it would fail half way, or take clients' failures for the system's.
    """
    if spec.world == "sim":
        return 0
    return FILES_MIN + FILES_A_NODE * spec.nodes + FILES_A_CLIENT * spec.concurrency


def fault_kinds(words: Sequence[str]) -> list[str]:
    """The kinds of fault among what `--nemesis` named.

    Raises:
        UsageError: "all" or "none" with anything beside them.
    """
    for word in (ALL_FAULTS, NO_FAULTS):
        if word in words and len(words) > 1:
            raise UsageError(f"--nemesis {word} means just that: name nothing else")
    return [word for word in words if word not in {ALL_FAULTS, NO_FAULTS}]


def choose_rung(spec: TestSpec, system: System) -> Rung:
    """What the nodes' network is made of.

    Raises:
        UsageError: The system can't run on what was asked for, or can be had.
    """
    if spec.world == "sim":
        if spec.network != "auto":
            raise UsageError("--network is for --world os: the simulator has its own")
        return Rung("sim")
    rung = doctor.choose_rung(spec.network)
    if rung.name in system.rungs:
        return rung
    # Asking for it by name makes the doctor say why it can't be had.
    if spec.network != "auto":
        wanted = " or ".join(sorted(system.rungs))
        raise UsageError(
            f"{system.name} can't run on the {rung.name} network; use --network "
            f"{wanted}"
        )
    return doctor.choose_rung(min(system.rungs))


def every_fault(system: System, rung: str, *, nodes: int) -> list[str]:
    """The kinds of fault that the system can bear and that can be had on this rung."""
    known = sorted(registry.plugins("nemesis").items())
    nemeses = {kind: plugin.factory({}) for kind, plugin in known}
    return [
        kind
        for kind, nemesis in nemeses.items()
        if not services.why_spared(system, nemesis)
        and not why_impossible(nemesis.needs, rung, nodes=nodes)
    ]


def why_impossible(needs: Capabilities, rung: str, *, nodes: int) -> str:
    """Why faults with such needs can't be had on this rung; empty when they can."""
    if nodes < 2 and needs.network:
        return "a single node has no links (--nodes)"
    return (OFFER if rung == "sim" else offer(rung, needs)).refusal(needs)


def run(
    spec: TestSpec,
    results: Path,
    show: Callable[[Progress], None] | None = None,
    remark: Callable[[str], None] | None = None,
    *,
    plan: PlanData | None = None,
) -> RunFolder:
    """Carry out `spec` and return the folder that holds what happened.

    `remark` is told, before anything starts, what the user may not expect. The plan is
    drawn unless one is given.

    Raises:
        UsageError: The run is impossible; nothing was started or written.
        HarnessError: The run could not be set up, or written down. What was recorded
            stays in its folder.
    """
    parts, schedule, rung = prepare(spec, plan)
    if rung.why and remark is not None:
        remark(rung.why)
    folder = RunFolder.create(results, spec.folder_name, spec.seed)
    plan_file = folder.path / "plan.yaml"
    folder.write_text(plan_file.name, schedule.yaml())
    again = spec.command(None if plan is None else plan_file)
    folder.write_yaml(
        "test.yaml",
        {
            "version": VERSION,
            **describe(spec, rung),
            "plan": "drawn" if plan is None else "written",
            "asked": asked(schedule),
            "op_timeout_s": op_timeout_s(parts.workload, spec.op_timeout_s),
            "repro": shlex.join(again),
            "invariants": list(parts.system.invariants),
        },
    )
    carry_out(spec, parts, schedule, folder, rung, show)
    return folder


def asked(schedule: Schedule) -> dict[str, int]:
    """How many faults of each kind a schedule has."""
    return dict(Counter(step.fault.kind for step in schedule.plan))


def carry_out(
    spec: TestSpec,
    parts: Parts,
    schedule: Schedule,
    folder: RunFolder,
    rung: Rung,
    show: Callable[[Progress], None] | None = None,
) -> bool:
    """Run what `prepare` has made, and write it down in `folder`.

    Returns:
        Whether a stop signal came that the controller did not hear: before it could,
        because it insisted, or when the run was over.

    Raises:
        HarnessError: How the run ended can't be written down.
    """
    failed, unheard, begun_s = "", False, time.monotonic()
    try:
        interrupts.insist()
        failed = execute(spec, parts, schedule, folder, rung.name, show)
    except KeyboardInterrupt:
        unheard = True
        if folder.run() is None:
            seconds = round(time.monotonic() - begun_s, 3)
            ended = RunRecord(version=VERSION, ended="interrupted", seconds=seconds)
            folder.write_run(ended)
    if not failed and folder.run() is None:
        failed = "how the run ended could not be written down"
    if failed:
        # What was recorded until now stays, and its analysis will say why it ends.
        done = folder.run() or RunRecord(version=VERSION, ended="failed")
        done.errors.append(failed + scarcity.limits())
        folder.write_run(done)
    return unheard


def execute(
    spec: TestSpec,
    parts: Parts,
    schedule: Schedule,
    folder: RunFolder,
    rung: str,
    show: Callable[[Progress], None] | None,
) -> str:
    """Run the test in the world that it names; why that failed, or an empty text."""

    def make(world: World) -> Controller:
        return Controller(spec, parts, schedule, folder, world, show)

    if rung == "sim":
        from harness.sim import world as sim

        assert isinstance(parts.system, Simulated)  # `assemble` lets no others in
        return sim.execute(spec, parts.system, folder, make)
    from harness.osworld import world as osworld

    return osworld.execute(spec, folder, rung, make)


def describe(spec: TestSpec, rung: Rung) -> dict[str, Any]:
    """What stands in test.yaml: the spec, and what it ran on."""
    return {
        "name": spec.name or spec.folder_name,
        "system": spec.system,
        "system_options": options_for(spec)[0],
        "workload": spec.workload,
        "nemesis": spec.nemesis,
        "nodes": spec.node_names,
        "concurrency": spec.concurrency,
        "rate": spec.rate,
        "time_limit_s": spec.time_limit_s,
        "seed": spec.seed,
        "world": spec.world,
        "rung": rung.name,
        **({"rung_reason": rung.why} if rung.why else {}),
        "mutant": spec.mutant,
        "expected": spec.expect,
        **(
            {"conditions": asdict(Conditions.draw(spec.seed))}
            if rung.name == "sim"
            else {}
        ),
        "spec": msgspec.to_builtins(spec),
        "versions": {
            "splitbrain": version("splitbrain"),
            "commit": commit(),
            "python": platform.python_version(),
            "kernel": platform.release(),
        },
        "started_utc": datetime.datetime.now(datetime.UTC).isoformat(),
    }


@functools.cache
def commit() -> str:
    """The commit of the harness, where it runs from a checkout; else empty."""
    here = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=False,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip()
