"""Checks a node: a command in, a report out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.adapter.conversations import SERVICES, services_of
from harness.adapter.examination import Examination
from harness.adapter.findings import Notebook, Report, read_report
from harness.errors import HarnessError, UsageError
from harness.host import interrupts
from harness.host.scratch import scratch_folder
from harness.run.assembling import assemble, choose_rung
from harness.run.completing import complete
from harness.systems.launch import LaunchSystem
from harness.workload import op_timeout_s
from harness.worlds.os import world as osworld
from harness.worlds.processes import Limits
from harness.worlds.world import Setting

if TYPE_CHECKING:
    from harness.run.spec import TestSpec
    from harness.worlds.world import World

REPORT = "report.json"


def check(spec: TestSpec) -> Report:
    """Examine the nodes of `spec`, whose system is `launch:COMMAND`.

    Forks, as a run does.

    Raises:
        UsageError: The command can't be run, or there is no such workload or option.
        HarnessError: The world can't be set up, or failed.
        KeyboardInterrupt: A stop signal came before there was anything to report.
    """
    complete(spec)
    parts = assemble(spec)
    system, needed = parts.system, parts.workload.requires
    assert isinstance(system, LaunchSystem), "only such nodes are started so"
    services = services_of(needed)
    if unknown := sorted(needed - services.keys()):
        raise UsageError(
            f"{spec.workload} needs {', '.join(unknown)}, of which WIRE.md says "
            f"nothing to check (it does of {', '.join(SERVICES)})"
        )
    at_once = [n for n, s in services.items() if s.shows_at_once(spec.options)]
    blank = Report(command=spec.system, workload=spec.workload, nodes=spec.nodes)
    rung = choose_rung(spec, system)
    patience_s = op_timeout_s(parts.workload, spec.op_timeout_s)
    with scratch_folder("splitbrain-adapter-") as folder:
        limits = Limits(spec.node_data_mb * 10**6, spec.node_log_mb * 10**6)
        setting = Setting(spec.node_names, folder, spec.seed, limits)

        def make(world: World) -> Examination:
            notes = Notebook(blank, folder / REPORT)
            return Examination(
                world, system, services, at_once, notes, folder, patience_s
            )

        interrupts.insist()
        if failed := osworld.execute(setting, rung.name, make):
            raise HarnessError(failed)
        return read_report(folder / REPORT)
