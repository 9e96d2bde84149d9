"""One run, in either world: set up, carried out and written down."""

from __future__ import annotations

import datetime
import shlex
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.faults import profiles
from harness.host import interrupts, release, scarcity
from harness.run import monitor
from harness.run.assembling import Parts, prepare
from harness.run.controller import Controller
from harness.run.records import VERSION, RunRecord
from harness.run.spec import TestSpec, options_for
from harness.run.store import RunFolder
from harness.systems.abilities import Attached, Simulated
from harness.workload import op_timeout_s
from harness.worlds.events import Passed
from harness.worlds.processes import Limits
from harness.worlds.sim.conditions import Conditions
from harness.worlds.world import Setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.faults import Schedule
    from harness.run.controller import Progress
    from harness.run.doctor import Rung
    from harness.run.monitor import Watch
    from harness.run.spec import PlanData
    from harness.worlds.world import FreshDice, Tap, World


def run(
    spec: TestSpec,
    results: Path,
    show: Callable[[Progress], None] | None = None,
    remark: Callable[[str], None] | None = None,
    *,
    plan: PlanData | None = None,
) -> RunFolder:
    """Carry out `spec` and return the folder with the record.

    Before anything starts, `remark` gets the sentences about what the user may not
    expect. The plan is drawn unless one is given.

    Raises:
        UsageError: The run is impossible; nothing was started or written.
        HarnessError: The run could not be set up or recorded. What was recorded before
            stays in its folder.
    """
    parts, schedule, rung = prepare(spec, plan)
    if rung.why and remark is not None:
        remark(rung.why)
    if spec.until_invalid and remark is not None:
        system, workload = parts.system, spec.workload
        if monitor.of_run(spec, system.invariants, results) is None:
            what = " or ".join(spec.until_anomaly) or "anything"
            remark(
                f"no checker of this run ({workload}) can tell {what} before its end, "
                "so the run lasts until then"
            )
    for kind, why in parts.left_out.items():
        if remark is not None and kind in profiles.named(spec.profile).kinds:
            remark(f"{kind} faults are left out: {why}")
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
            **profiled(spec, parts),
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


def profiled(spec: TestSpec, parts: Parts) -> dict[str, Any]:
    """What the words about faults were, and what they meant in this run; or nothing."""
    if not spec.profile or parts.regime is None:
        return {}
    return {
        "profile": {
            "words": spec.profile,
            **msgspec.to_builtins(parts.regime),
            "left_out": parts.left_out,
        }
    }


def carry_out(
    spec: TestSpec,
    parts: Parts,
    schedule: Schedule,
    folder: RunFolder,
    rung: Rung,
    show: Callable[[Progress], None] | None = None,
    fresh_dice: FreshDice | None = None,
    tap: Tap | None = None,
    *,
    hasty: bool = False,
) -> bool:
    """Carry out what `prepare` has made, and record it in `folder`.

    `fresh_dice` and `tap` are those of `Setting`, for simulated runs only. So is
    `hasty`: a run that is judged while it lasts is judged more often, and ends at its
    conviction, without reading what is left.

    Returns:
        True if a stop signal came that the controller did not hear: it came before the
        controller listened, it was the second one, or the run was already over.

    Raises:
        HarnessError: run.json can't be written.
    """
    failed, unheard, begun_s = "", False, time.monotonic()
    try:
        interrupts.insist()
        failed = execute(
            spec,
            parts,
            schedule,
            folder,
            rung.name,
            show,
            fresh_dice,
            tap,
            hasty=hasty,
        )
    except KeyboardInterrupt:
        unheard = True
        if folder.run() is None:
            seconds = round(time.monotonic() - begun_s, 3)
            ended = RunRecord(version=VERSION, ended="interrupted", seconds=seconds)
            folder.write_run(ended)
    if not failed and folder.run() is None:
        failed = "how the run ended could not be written down"
    if failed:
        # What was recorded so far stays, and its analysis will say why the run ended.
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
    fresh_dice: FreshDice | None = None,
    tap: Tap | None = None,
    *,
    hasty: bool = False,
) -> str:
    """Run the test in its world.

    Returns:
        Why the world failed, or an empty text if it did not.
    """
    # Made here, as whoever forks below then has its modules, and so has the analysis.
    judge = None
    if spec.until_invalid:
        judge = monitor.of_run(spec, parts.system.invariants, folder.path)

    def make(world: World) -> Controller:
        watch: Watch | None = None
        if judge is not None and rung == "sim":
            cadence = monitor.HASTY if hasty else monitor.CALM
            watch = monitor.Within(judge, world.watcher.write, cadence)
        elif judge is not None:
            watch = monitor.Beside(judge)
        return Controller(
            spec, parts, schedule, folder, world, show, watch, hasty=hasty
        )

    limits = Limits(spec.node_data_mb * 10**6, spec.node_log_mb * 10**6)
    setting = Setting(
        spec.node_names,
        folder.path,
        spec.seed,
        limits,
        disks=schedule.needs.disks,
        messages=[e for e in schedule.events if isinstance(e, Passed)],
        capture=spec.pcap,
        records_messages=spec.messages,
        fresh_dice=fresh_dice,
        tap=tap,
    )
    assert rung == "sim" or (fresh_dice is None and tap is None and not hasty), (
        "real worlds have none"
    )
    if rung == "sim":
        from harness.worlds.sim import world as sim

        assert isinstance(parts.system, Simulated)  # `assemble` lets no others in
        return sim.execute(setting, parts.system, make)
    if isinstance(parts.system, Attached):
        from harness.worlds.os import attached

        return attached.execute(setting, parts.system.operator, make)
    if parts.survey is not None:
        from harness.worlds.ssh import world as ssh

        sent = [Path(path) for path in spec.uploads]
        return ssh.execute(setting, rung, parts.survey, sent, make)
    from harness.worlds.os import world as osworld

    return osworld.execute(setting, rung, make)


def describe(spec: TestSpec, rung: Rung) -> dict[str, Any]:
    """The content of test.yaml: the spec, and the versions and machine it ran on."""
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
        "versions": release.versions(),
        "started_utc": datetime.datetime.now(datetime.UTC).isoformat(),
    }
