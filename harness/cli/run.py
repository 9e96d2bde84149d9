"""`splitbrain run`: one experiment, or one with many seeds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import (
    AS_JSON,
    COUNT,
    EXECUTOR,
    JOBS,
    PLACE,
    comma_list,
    fault_words,
    key_values,
    number,
)
from harness.cli.terminal import complain, interrupted, say, say_run
from harness.errors import HarnessError, UsageError
from harness.host import interrupts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.campaign.coverage import Coverage
    from harness.campaign.engine import Engine
    from harness.campaign.experiment import Experiment
    from harness.cli.flags import Place
    from harness.run.records import VerdictRecord
    from harness.run.store import RunFolder


@click.command()
@click.argument("system")
@click.option("--workload", help="Default: the first that the system serves.")
@click.option("--nemesis", multiple=True, metavar="A,B", help=(
    "Kinds of fault, or all; how hard: gentle, standard, brisk, hard; swarm: each seed "
    "draws a part. `splitbrain list` says what they mean."
))  # fmt: skip
@number("--nodes", help="Default: 5, for a system of one process 1.")
@number("--concurrency", default=10, show_default=True, help="Client threads.")
@number("--rate", help=(
    "Operations a second in all; default: no limit, in the simulator 50."
))  # fmt: skip
@number("--op-timeout", help=(
    "Seconds that a client waits for an answer; default: 2, or what the workload needs."
))  # fmt: skip
@number("--time-limit", help=(
    "Seconds, default 60; in the simulator of virtual time, default 20."
))  # fmt: skip
@number("--ops", help="End after so many client operations.")
@number("--seed", help="Every choice comes from it; default: random.")
@number("--seeds", COUNT, default=1, help="Runs from --seed on, till one is invalid.")
@number("--jobs", JOBS, help=(
    "Runs side by side; default: 1, or what the workers of a cluster can do."
))  # fmt: skip
@click.option(
    "--world",
    type=click.Choice(["os", "sim"]),
    default="os",
    show_default=True,
    help="Real processes, or a simulator in virtual time.",
)
@click.option("--mutant", metavar="NAME", help=(
    "Run this broken variant of the protocol, under the workload and faults that it "
    "declares unless others are named."
))  # fmt: skip
@click.option(
    "--network",
    type=click.Choice(["auto", "switch", "proxy", "router"]),
    default="auto",
    show_default=True,
)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help=(
    "Option of the system; of another plug-in with its name and a dot: clock.drift=0.1."
))  # fmt: skip
@number("--node-data-mb", default=4000, show_default=True, help=(
    "A node whose data folder takes up more is killed, and stays down."
))  # fmt: skip
@number("--node-log-mb", default=64, show_default=True, help=(
    "A node's log that grows longer loses its middle."
))  # fmt: skip
@click.option("--watchdog", is_flag=True, help=(
    "Start nodes again that exit on their own."
))  # fmt: skip
@click.option("--pcap", is_flag=True, help=(
    "Capture all frames between nodes as network.pcap in the run folder."
))  # fmt: skip
@click.option("--messages", is_flag=True, help=(
    "Record what became of each message between nodes as messages.jsonl in the run "
    "folder: in the simulator, and of nodes of Maelstrom."
))  # fmt: skip
@click.option("--until-invalid", is_flag=True, help=(
    "Judge the run while it lasts, and end it once it is known to be invalid."
))  # fmt: skip
@click.option("--until-anomaly", multiple=True, metavar="A,B", help=(
    "The same, at these anomalies only, such as stale-read."
))  # fmt: skip
@click.option("--also", multiple=True, metavar="A,B", help=(
    "Checkers beside the workload's; what they say is shown, and doesn't count."
))  # fmt: skip
@number("--availability", help=(
    "The part of the operations that must succeed: from 0 to 1, or total."
))  # fmt: skip
@click.option("--plan", type=click.Path(path_type=Path), help="A fault plan, YAML.")
@click.option("--hosts", type=click.Path(), metavar="FILE", help=(
    "Run the nodes on the machines of this file, over SSH (docs/hosts.md)."
))  # fmt: skip
@click.option("--upload", multiple=True, type=click.Path(), metavar="PATH", help=(
    "A file or folder that nodes need there; the program is brought unasked."
))  # fmt: skip
@click.option("--determinism", is_flag=True, help=(
    "Simulate each seed twice more first, in two processes, and compare all records, "
    "byte for byte; a difference is a failure of the harness."
))  # fmt: skip
@click.option("--expect", type=click.Choice(["valid", "invalid"]), help=(
    "Exit 0 when the verdict is this one."
))  # fmt: skip
@EXECUTOR
@PLACE
@AS_JSON
def run(
    system: str,
    *,
    workload: str | None,
    nemesis: Sequence[str],
    nodes: int | None,
    concurrency: int,
    rate: float | None,
    op_timeout: float | None,
    time_limit: float | None,
    ops: int | None,
    seed: int | None,
    seeds: int,
    jobs: int | None,
    world: str,
    mutant: str | None,
    network: str,
    sets: Sequence[str],
    node_data_mb: int,
    node_log_mb: int,
    watchdog: bool,
    pcap: bool,
    messages: bool,
    until_invalid: bool,
    until_anomaly: Sequence[str],
    also: Sequence[str],
    availability: float | None,
    plan: Path | None,
    hosts: str | None,
    upload: Sequence[str],
    determinism: bool,
    expect: str | None,
    executor: str,
    results: Place,
    as_json: bool,
) -> int:
    """Run SYSTEM under a workload and faults, and judge it.

    SYSTEM is a name that `splitbrain list` shows, or launch:COMMAND.
    """
    import random

    from harness.campaign.choosing import LOCAL, engine_of
    from harness.campaign.experiment import Experiment
    from harness.run import monitor
    from harness.run.assembling import assemble
    from harness.run.completing import complete
    from harness.run.spec import DEFAULTS, TestSpec, usual_nodes

    spec = TestSpec(
        system=system,
        workload=workload or "",
        nemesis=fault_words(nemesis),
        nodes=usual_nodes(system) if nodes is None else nodes,
        concurrency=concurrency,
        rate=rate,
        op_timeout_s=op_timeout,
        time_limit_s=DEFAULTS[world]["time_limit_s"]
        if time_limit is None
        else time_limit,
        ops=ops,
        seed=random.randrange(10**6) if seed is None else seed,
        options=key_values("--set", sets),
        node_data_mb=node_data_mb,
        node_log_mb=node_log_mb,
        watchdog=watchdog,
        pcap=pcap,
        messages=messages,
        until_invalid=until_invalid or bool(until_anomaly),
        until_anomaly=comma_list(until_anomaly),
        also=comma_list(also),
        availability=availability,
        world=world,  # type: ignore[arg-type]  # click has checked the choice
        mutant=mutant,
        network=network,  # type: ignore[arg-type]  # click has checked the choice
        expect=expect,  # type: ignore[arg-type]  # click has checked the choice
        hosts=hosts and os.path.abspath(hosts),
        uploads=[os.path.abspath(path) for path in upload],
    )
    if determinism and world != "sim":
        raise UsageError(
            "--determinism is for --world sim: real processes never repeat to the byte"
        )
    if executor != LOCAL and seeds == 1:
        raise UsageError("--executor is for many runs: --seeds")
    written = None if plan is None else read_plan(plan)
    with interrupts.raised():
        try:
            complete(spec, planned=written is not None)
            if spec.until_anomaly:
                monitor.refuse_unknown(spec, assemble(spec).system.invariants)
            asked = Experiment(spec, written, "" if plan is None else str(plan))
            if determinism:
                compare_runs(asked, seeds, results.path, as_json=as_json)
            if seeds == 1:
                return run_once(asked, results.path, as_json=as_json)
            many = run_simulated_seeds if world == "sim" else run_seeds
            with engine_of(executor, results.path, results.store, complain) as engine:
                return many(asked, seeds, jobs, results.path, engine, as_json=as_json)
        except KeyboardInterrupt:
            return interrupted("interrupted before it began", as_json=as_json)


def read_plan(path: Path) -> Any:
    """A plan file as plain data. Raises UsageError if it can't be read."""
    from harness.host import documents

    plan = documents.read_yaml(path)
    if plan is None:
        raise UsageError(f"plan {path} is empty; a plan without faults is []")
    return plan


def compare_runs(
    asked: Experiment, seeds: int, results: Path, *, as_json: bool
) -> None:
    """Simulate every seed twice, and see that nothing recorded differs.

    Raises:
        HarnessError: Something does.
    """
    from harness.campaign import determinism
    from harness.cli.progress import ProgressLine

    first = asked.spec.seed
    line = ProgressLine(enabled=not as_json)
    line.tell(f"simulating seed {first} twice ...")
    for seed in determinism.check(asked, range(first, first + seeds), results):
        line.tell(f"seed {seed} repeats, to the byte")
    line.clear()
    if not as_json:
        which = f"seed {first}" if seeds == 1 else f"seeds {first} to {seed}"
        say(f"the same in two processes, to the byte: all that {which} recorded\n")


def run_once(asked: Experiment, results: Path, *, as_json: bool) -> int:
    """Carry out one run, in this process and its children."""
    from harness.cli.progress import ProgressLine
    from harness.judge import analysis
    from harness.run import execution

    line = ProgressLine(enabled=not as_json)
    folder = execution.run(asked.spec, results, line.show, complain, plan=asked.plan)
    line.tell("judging what was recorded ...")
    record = analysis.judged(folder)
    with interrupts.noted():  # it is too late to end early: the verdict is printed
        line.clear()
        if as_json:
            say(json.dumps(verdict_of(record, folder)))
        else:
            say_run(folder.path)
        return analysis.exit_status(record)


def verdict_of(record: VerdictRecord, folder: RunFolder) -> dict[str, Any]:
    """The object of `run --json`: verdict.json, and its folder."""
    from harness.run import store

    return {**store.as_data(record), "run": str(folder.path)}


def run_seeds(
    asked: Experiment,
    seeds: int,
    jobs: int | None,
    results: Path,
    engine: Engine,
    *,
    as_json: bool,
) -> int:
    """Carry out several runs, each in a process of its own, until one is not valid."""
    from harness.campaign.suites import results as told_by
    from harness.campaign.suites.rows import seed_row
    from harness.campaign.suites.running import Runner
    from harness.cli.progress import SeedsLine
    from harness.run.store import RunFolder

    engine.refuse(asked)
    first = asked.spec.seed
    rows = [seed_row(asked, seed) for seed in range(first, first + seeds)]
    line = SeedsLine(seeds, enabled=not as_json)

    def show(result: told_by.RowResult) -> None:
        assert result.outcome is not None
        line.clear()
        if not as_json:
            say(line.told(result.outcome))
        line.show(result.outcome)

    line.draw()
    runner = Runner(results, done=show, engine=engine, stop_early=True)
    found = runner.run(rows, jobs or engine.jobs or 1)
    line.clear()
    if runner.lost:
        raise runner.lost
    told = [result.as_json() for result in found]
    outcomes = [result.outcome for result in found if result.outcome is not None]
    last = max(outcomes, key=lambda o: told_by.VERDICTS.index(o.verdict), default=None)
    if last is None or (runner.interrupted and last.verdict == "valid"):
        why = f"interrupted after {len(found)} of {seeds} seeds"
        return interrupted(why, as_json=as_json, seeds=told)
    if last.verdict == "valid":
        last = outcomes[-1]
    folder = RunFolder(engine.folder(last)) if last.folder else None
    if as_json:
        record = None if folder is None else folder.verdict()
        kept = {} if folder is None or record is None else verdict_of(record, folder)
        covered = runner.coverage.as_json()
        say(json.dumps({"seeds": told, "last": kept, "coverage": covered}))
        return last.status
    say(line.summary(last))
    tell_coverage(runner.coverage)
    if last.verdict == "error":
        complain("; ".join(last.errors))
    elif last.verdict != "valid" and folder is not None:
        say()
        say_run(RunFolder.open(folder.path).path)  # packed, if it was to be so
    return last.status


def tell_coverage(coverage: Coverage) -> None:
    """Print how often the faults of all runs bit, if there were any."""
    if table := coverage.text():
        say(f"\n{table}")


def run_simulated_seeds(
    asked: Experiment,
    seeds: int,
    jobs: int | None,
    results: Path,
    engine: Engine,
    *,
    as_json: bool,
) -> int:
    """Carry out many simulated runs, several a second, until one is not valid.

    Only the last one is kept: it is run once more, which also shows that it repeats.
    """
    import msgspec

    from harness.campaign import carrying
    from harness.campaign import seeds as campaign
    from harness.campaign.coverage import Coverage
    from harness.cli.progress import SeedsLine
    from harness.judge import analysis
    from harness.run.store import RunFolder

    first = asked.spec.seed
    line = SeedsLine(seeds, enabled=not as_json)
    found = []
    coverage = Coverage()
    stopped = False
    try:
        side_by_side = jobs or engine.jobs or 1
        every = range(first, first + seeds)
        for outcome in campaign.sweep(asked, every, side_by_side, engine):
            found.append(outcome)
            coverage.add(outcome)
            line.show(outcome)
            if outcome.verdict != "valid":
                break
    except KeyboardInterrupt:
        stopped = True
    line.clear()
    told = [campaign.as_json(outcome) for outcome in found]
    if stopped and (not found or found[-1].verdict == "valid"):
        why = f"interrupted after {len(found)} of {seeds} seeds"
        return interrupted(why, as_json=as_json, seeds=told)
    last = found[-1]
    again = carrying.keep(results, asked.with_seed(last.experiment.spec.seed))
    if not campaign.agree(last, again) and not again.interrupted:
        raise HarnessError(
            f"seed {last.experiment.spec.seed} was {last.verdict} and became "
            f"{again.verdict} when it was run again, so the simulation depends on "
            f"something beside its seed: see {again.folder} {last.reason}"
        )
    folder = RunFolder(Path(again.folder))
    if as_json:
        record = folder.verdict()
        assert record is not None
        kept = verdict_of(record, folder)
        covered = coverage.as_json()
        say(json.dumps({"seeds": told, "last": kept, "coverage": covered}))
    else:
        say(line.summary(msgspec.structs.replace(last, repro=again.repro)))
        tell_coverage(coverage)
    if last.verdict != "valid" and not as_json:
        say()
        say_run(folder.path)
    if again.interrupted and last.verdict == "invalid":
        # The second run was to confirm this verdict.
        return analysis.status_of("invalid", asked.spec.expect)
    return again.status
