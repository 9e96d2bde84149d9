"""The command line: `splitbrain run | check | suite | report | convert | list | ...`.

Exit status everywhere: 0 valid (or: as expected), 1 invalid (or: not as expected), 2
unknown, 254 bad usage, 255 the harness failed; a reader of the output that has gone
changes none of them. Modules are imported by the commands that need them, as numpy
and its kind would make even `--help` slow.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from harness import interrupts, scarcity
from harness.errors import (
    EXIT_HARNESS,
    EXIT_UNKNOWN,
    EXIT_USAGE,
    HarnessError,
    UsageError,
)
from harness.flags import COUNT, JOBS, MEGABYTES, SECONDS, number
from harness.outlet import outlets
from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.campaign.experiment import Experiment
    from harness.campaign.suite import RowResult
    from harness.records import VerdictRecord
    from harness.store import RunFolder


class Commands(click.Group):
    """Commands that name their neighbours when one is mistyped."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, with the nearest names in the error."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from harness.registry import nearest

            known = self.list_commands(ctx)
            raise UsageError(
                f"there is no command {args[0]!r}{nearest(args[0], known)} "
                f"(commands: {', '.join(known)})"
            ) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Like click's; what some code does to leave with a status is our fault.

        click takes a broken pipe, whatever it was, for that of standard output.
        """
        scarcity.refuse_little_memory()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.Abort from None  # click would add an empty line
        except (SystemExit, BrokenPipeError) as leaving:
            raise RuntimeError(f"{type(leaving).__name__}: {leaving}") from leaving


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="splitbrain")
def cli() -> None:
    """Break a real distributed system and learn whether it kept its promises.

    \b
    splitbrain run raft --nemesis partition,kill     a torture run, with a verdict
    splitbrain check history.edn --model register    judge a recorded history
    splitbrain doctor                                what this machine can do

    Exit status: 0 valid or as expected, 1 invalid or not as expected, 2 unknown or
    interrupted, 254 bad usage, 255 the harness failed. A reader of the output that has
    gone changes none of them; output that a full disk did not take is 255.
    """  # noqa: D301  # click wants the character \b itself


def say(text: str = "") -> None:
    """Print to standard output."""
    click.echo(visible(text))


def key_values(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` texts as a mapping.

    Raises:
        UsageError: Another text, or a key that comes twice with different values.
    """
    out: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{flag} {text!r}: write it as KEY=VALUE")
        if out.get(key, value) != value:
            raise UsageError(f"{flag} gives {key} twice: {out[key]} and {value}")
        out[key] = value
    return out


def comma_list(texts: Sequence[str]) -> list[str]:
    """`a,b` and repeated flags alike."""
    return [word for text in texts for word in text.split(",") if word]


def fault_words(texts: Sequence[str]) -> list[str]:
    """What `--nemesis` names. Raises UsageError when it is there and names nothing."""
    words = comma_list(texts)
    if texts and not words:
        raise UsageError("--nemesis names no fault; for a run without any: none")
    return words


RESULTS = click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Where run folders go.",
)
AS_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, no progress."
)


@cli.command()
@click.argument("system")
@click.option("--workload", help="Default: the first that the system serves.")
@click.option("--nemesis", multiple=True, metavar="A,B", help=(
    "Kinds of fault; all: every kind that the system can bear and that is to be had."
))  # fmt: skip
@number("--nodes", default=5, show_default=True)
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
@number("--jobs", JOBS, default=1, show_default=True, help="Runs side by side.")
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
    type=click.Choice(["auto", "switch", "proxy"]),
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
@click.option("--also", multiple=True, metavar="A,B", help=(
    "Checkers beside the workload's; what they say is shown, and doesn't count."
))  # fmt: skip
@click.option("--plan", type=click.Path(path_type=Path), help="A fault plan, YAML.")
@click.option("--expect", type=click.Choice(["valid", "invalid"]), help=(
    "Exit 0 when the verdict is this one."
))  # fmt: skip
@RESULTS
@AS_JSON
def run(
    system: str,
    *,
    workload: str | None,
    nemesis: Sequence[str],
    nodes: int,
    concurrency: int,
    rate: float | None,
    op_timeout: float | None,
    time_limit: float | None,
    ops: int | None,
    seed: int | None,
    seeds: int,
    jobs: int,
    world: str,
    mutant: str | None,
    network: str,
    sets: Sequence[str],
    node_data_mb: int,
    node_log_mb: int,
    also: Sequence[str],
    plan: Path | None,
    expect: str | None,
    results: Path,
    as_json: bool,
) -> int:
    """Run SYSTEM under a workload and faults, and judge it.

    SYSTEM is a name that `splitbrain list` shows, or launch:COMMAND.
    """
    import random

    from harness.campaign.experiment import Experiment
    from harness.spec import DEFAULTS, TestSpec, complete

    spec = TestSpec(
        system=system,
        workload=workload or "",
        nemesis=fault_words(nemesis),
        nodes=nodes,
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
        also=comma_list(also),
        world=world,  # type: ignore[arg-type]  # click has checked the choice
        mutant=mutant,
        network=network,  # type: ignore[arg-type]  # click has checked the choice
        expect=expect,  # type: ignore[arg-type]  # click has checked the choice
    )
    written = None if plan is None else read_plan(plan)
    with interrupts.raised():
        try:
            complete(spec, planned=written is not None)
            asked = Experiment(spec, written, "" if plan is None else str(plan))
            if seeds > 1:
                many = run_simulated_seeds if world == "sim" else run_seeds
                return many(asked, seeds, jobs, results, as_json=as_json)
            return run_once(asked, results, as_json=as_json)
        except KeyboardInterrupt:
            return interrupted("interrupted before it began", as_json=as_json)


def read_plan(path: Path) -> Any:
    """A plan file as plain data. Raises UsageError when it can't be read."""
    from harness import documents

    plan = documents.read_yaml(path)
    if plan is None:
        raise UsageError(f"plan {path} is empty; a plan without faults is []")
    return plan


def run_once(asked: Experiment, results: Path, *, as_json: bool) -> int:
    """One run, in this process and its children."""
    from harness import analysis, run
    from harness.progress import ProgressLine
    from harness.report import text

    line = ProgressLine(enabled=not as_json)
    folder = run.run(asked.spec, results, line.show, complain, plan=asked.plan)
    line.tell("judging what was recorded ...")
    record = analysis.judged(folder)
    with interrupts.noted():  # too late: what is known is told
        line.clear()
        if as_json:
            say(json.dumps(verdict_of(record, folder)))
        else:
            say(text.summary(folder.path))
        return analysis.exit_status(record)


def verdict_of(record: VerdictRecord, folder: RunFolder) -> dict[str, Any]:
    """What `run --json` tells: verdict.json, and where it is."""
    from harness import store

    return {**store.as_data(record), "run": str(folder.path)}


def interrupted(why: str, *, as_json: bool, **found: Any) -> int:
    """Tell that there is no verdict but this; returns the exit status."""
    if as_json:
        last = {"verdict": "unknown", "reason": why, "interrupted": True}
        say(json.dumps({**found, "last": last} if found else last))
    complain(why)
    return EXIT_UNKNOWN


def run_seeds(
    asked: Experiment, seeds: int, jobs: int, results: Path, *, as_json: bool
) -> int:
    """Several runs, each a process of its own, until one is not valid."""
    from harness.campaign import suite
    from harness.progress import SeedsLine
    from harness.report import text
    from harness.store import RunFolder

    first = asked.spec.seed
    rows = [suite.seed_row(asked, seed) for seed in range(first, first + seeds)]
    line = SeedsLine(seeds, enabled=not as_json)

    def show(result: suite.RowResult) -> None:
        assert result.outcome is not None
        line.clear()
        if not as_json:
            say(line.told(result.outcome))
        line.show(result.outcome)

    line.draw()
    runner = suite.Runner(results, done=show, stop_early=True)
    found = runner.run(rows, jobs)
    line.clear()
    told = [result.as_json() for result in found]
    outcomes = [result.outcome for result in found if result.outcome is not None]
    last = max(outcomes, key=lambda o: suite.VERDICTS.index(o.verdict), default=None)
    if last is None or (runner.interrupted and last.verdict == "valid"):
        why = f"interrupted after {len(found)} of {seeds} seeds"
        return interrupted(why, as_json=as_json, seeds=told)
    folder = RunFolder(Path(last.folder)) if last.folder else None
    if as_json:
        record = None if folder is None else folder.verdict()
        kept = {} if folder is None or record is None else verdict_of(record, folder)
        say(json.dumps({"seeds": told, "last": kept}))
        return last.status
    say(line.summary(last))
    if last.verdict == "error":
        complain("; ".join(last.errors))
    elif last.verdict != "valid" and folder is not None:
        say(f"\n{text.summary(folder.path)}")
    return last.status


def run_simulated_seeds(
    asked: Experiment, seeds: int, jobs: int, results: Path, *, as_json: bool
) -> int:
    """Many simulated runs, several a second, until one is not valid.

    Only the last one is kept: it is run once more, which also shows that it repeats.
    """
    import msgspec

    from harness import analysis
    from harness.campaign import carrying
    from harness.campaign import seeds as campaign
    from harness.progress import SeedsLine
    from harness.report import text
    from harness.store import RunFolder

    first = asked.spec.seed
    line = SeedsLine(seeds, enabled=not as_json)
    found = []
    stopped = False
    try:
        for outcome in campaign.sweep(asked, range(first, first + seeds), jobs):
            found.append(outcome)
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
        say(json.dumps({"seeds": told, "last": verdict_of(record, folder)}))
    else:
        say(line.summary(msgspec.structs.replace(last, repro=again.repro)))
    if last.verdict != "valid" and not as_json:
        say(f"\n{text.summary(folder.path)}")
    if again.interrupted and last.verdict == "invalid":
        # Which running it again was to confirm.
        return analysis.status_of("invalid", asked.spec.expect)
    return again.status


@cli.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--checker", default="linearizable", show_default=True)
@click.option("--model", help=(
    "register, cas-register, kv, ... (see list), or yours: module:Class, file.py:Class."
))  # fmt: skip
@click.option("--explain-plan", is_flag=True, help=(
    "Tell which algorithm decided which keys, and why."
))  # fmt: skip
@click.option("--consistency", help="Consistency model to ask for.")
@click.option("--option", "options", multiple=True, metavar="K=V", help=(
    "Option of the checker."
))  # fmt: skip
@click.option("--format", "form", default="auto", show_default=True, help=(
    "auto, jsonl, edn, jepsen-log or plume."
))  # fmt: skip
@click.option("--independent/--no-independent", default=None, help=(
    "EDN values are [key value] tuples of jepsen.independent; default: if they show."
))  # fmt: skip
@click.option(
    "--vacuous",
    default="unknown",
    show_default=True,
    type=click.Choice(["unknown", "valid"]),
    help="The verdict when nothing happened that could be judged.",
)
@click.option("--explain", type=click.Path(path_type=Path), metavar="DIR", help=(
    "Write each anomaly to DIR as text, DOT and SVG, and an index.html of all."
))  # fmt: skip
@number("--time-limit", SECONDS, help="Seconds; then the verdict is unknown.")
@number("--memory-limit", MEGABYTES, help="Megabytes; then unknown.")
@AS_JSON
@interrupts.raised()
def check(
    files: Sequence[str],
    *,
    checker: str,
    model: str | None,
    explain_plan: bool,
    consistency: str | None,
    options: Sequence[str],
    form: str,
    independent: bool | None,
    vacuous: str,
    explain: Path | None,
    time_limit: float | None,
    memory_limit: int | None,
    as_json: bool,
) -> int:
    """Judge recorded histories: JSON lines, Jepsen's EDN, or logs; .gz as they are.

    A FILE may be a run folder, and - is standard input.

    With --json each FILE is one line, an object:

    \b
    file, verdict      null where the file could not be judged; error says why
    anomalies          how many there are of each name
    found              the anomalies, at most 20 of a name, in the form of verdict.json:
      name, explanation, key, details
      ops, lines         indices of the operations, and their lines in FILE if known
      witness            nodes, lines, and edges: source, target, kind, reason
      ..._left_out       how many more ops, nodes or edges there are; they end at 100
    left_out           how many more anomalies of a name there are than found tells
    keys_left_out      how many more keys are broken, where nobody named their anomalies
    not                the weakest consistency models that are broken
    stats, ops         the checker's figures, and the events in FILE
    seconds            spent on it
    reason, remarks    why the verdict is unknown, and what else to know about it
    plan               where it was asked for
    """  # noqa: D301  # as above
    from harness import apart
    from harness import check as checking
    from harness.report import explain as explaining
    from harness.verdict import Limits, Verdict

    given = key_values("--option", options)
    if model is not None:
        given["model"] = model
    if explain_plan:
        given["explain-plan"] = "true"
    if consistency is not None:
        given["consistency"] = consistency
    if files.count("-") > 1:
        raise UsageError("- is standard input, which can be read once")
    limits = Limits(time_limit, memory_limit)
    explanations = None if explain is None else explaining.Explanations(explain)

    def tell(
        result: checking.FileResult, place: str
    ) -> tuple[int, str, explaining.Explained | None]:
        """What is left of a result when its history has gone with the child."""
        text = json.dumps(result.as_json()) if as_json else checking.render_text(result)
        explained = None
        if explanations is not None:
            explained = explanations.explain(result, place)
        return result.exit_status, text, explained

    @functools.cache
    def judge() -> Callable[[str], checking.FileResult]:
        """Made in the child: a user's model may do to its process what it likes."""
        return checking.judge_of(
            checker,
            given,
            form,
            limits,
            independent=independent,
            vacuous=Verdict.parse(vacuous),
        )

    tasks = list(zip(files, explaining.places(files), strict=True))
    statuses, explained = [], []
    for done in apart.each_apart(tasks, lambda task: tell(judge()(task[0]), task[1])):
        if isinstance(done, apart.Died):
            file, place = done.item
            done = tell(checking.died(file, str(done), limits), place)
        status, text, explanation = done
        statuses.append(status)
        say(text)
        if explanation is not None:
            explained.append(explanation)
    if explanations is not None:
        index = explanations.finish(explained)
        if not as_json:
            say(f"explanations: {index}")
    return checking.exit_status(statuses)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@number("--jobs", JOBS, help="Runs side by side; default: one per two cores.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit XML here.")
@click.option("--only", help="Only rows whose name contains this.")
@RESULTS
@AS_JSON
def suite(
    file: Path,
    *,
    jobs: int | None,
    junit: Path | None,
    only: str | None,
    results: Path,
    as_json: bool,
) -> int:
    """Run every row of a suite, and exit with 0 when all came out as expected.

    FILE is YAML, or the name of a suite that comes with splitbrain: quick.
    """
    from harness.campaign import suite as suites

    file = suites.find(file)
    name, rows = suites.load(file)
    rows = [row for row in rows if only is None or only in row.name]
    if not rows:
        raise UsageError(f"{file}: no row's name contains {only!r}")
    absent = [result for row in rows if (result := suites.check_row(row, file))]
    lacking = {result.row.name for result in absent}
    possible = [row for row in rows if row.name not in lacking]
    if junit is not None:
        make_room(junit)
    folder = suites.suite_folder(results, name)

    def show(result: suites.RowResult) -> None:
        if not as_json:
            say(result.line)

    for result in absent:
        show(result)
    with interrupts.noted():  # by the runner; what it then found is told
        runner = suites.Runner(results, done=show)
        found = runner.run(possible, jobs or suites.cpu_jobs())
        found = suites.with_those_not_run(rows, [*absent, *found])
        tell_suite(name, folder, found, junit, as_json=as_json)
        if runner.interrupted:
            done = sum(result.runs > 0 for result in found)
            complain(f"interrupted: {done} of {len(rows)} rows were run")
        return suites.exit_status(found)


def make_room(file: Path) -> None:
    """Make the folder that `file` is to be in, before anything is worked out for it.

    Raises:
        UsageError: No file of that name can be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(f"cannot write {file}: {problem.strerror}") from None
    if file.is_dir():
        raise UsageError(f"cannot write {file}: it is a folder")


def tell_suite(
    name: str,
    folder: Path,
    found: Sequence[RowResult],
    junit: Path | None,
    *,
    as_json: bool,
) -> None:
    """Write a suite's index and JUnit XML, and print its table.

    Raises:
        HarnessError: A file can't be written; the table is printed if it is JUnit's.
    """
    from harness.campaign import suite as suites
    from harness.report import index
    from harness.store import writing

    records = [result.as_json() for result in found]
    with writing(folder / "index.html"):
        report = index.build_index(folder, records)
    if as_json:
        say(json.dumps({"suite": name, "rows": records, "report": str(report)}))
    else:
        say()
        say(suites.table(found))
        say()
        say(f"report: {report}")
        say(suites.summary(found))
    if junit is not None:
        with writing(junit):
            index.write_junit(records, junit)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@AS_JSON
@interrupts.raised()
def report(run: Path, *, as_json: bool) -> int:
    """Judge an earlier RUN folder again, and make its report anew."""
    from harness import analysis, store
    from harness.report import text

    folder = store.RunFolder.open(run)
    record = analysis.analyse(folder)
    told = json.dumps(store.as_data(record)) if as_json else text.summary(folder.path)
    say(told)
    return analysis.exit_status(record)


@cli.command()
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--format", "form", default="auto", show_default=True, help=(
    "What SOURCE is: auto, jsonl, edn, jepsen-log or plume."
))  # fmt: skip
@click.option("--independent/--no-independent", default=None, help=(
    "Values are [key value] tuples of jepsen.independent; default: if they show."
))  # fmt: skip
@interrupts.raised()
def convert(source: str, target: Path, *, form: str, independent: bool | None) -> int:
    """Write a history in another format: TARGET's name ends in .jsonl or .edn.

    SOURCE is a history, perhaps gzipped (.gz), a run folder, or - for standard input.
    Every checker says the same of TARGET: what JSON has no notation for, such as ratios
    and maps whose keys are numbers, is written as {"#edn": "1/2"}.
    """
    from harness import formats

    kind = target.name.removesuffix(".gz").rpartition(".")[2]
    if kind not in formats.WRITABLE_FORMATS:
        raise UsageError(
            f"{target}: its name says in which format to write, and ends in "
            f".{' or .'.join(formats.WRITABLE_FORMATS)}, perhaps with .gz"
        )
    history = formats.load(
        formats.path_of(source), form, independent=independent, strict=False
    )
    formats.dump(history, target, kind)
    say(f"{len(history)} ops in {target}")
    return 0


@cli.command(name="list")
@AS_JSON
def list_(*, as_json: bool) -> int:
    """Systems, workloads, nemeses, checkers and models, a line each."""
    from harness import catalogue

    say(json.dumps(catalogue.as_json()) if as_json else catalogue.as_text())
    for flaw in catalogue.broken():
        complain(str(flaw))
    return 0


@cli.command()
@AS_JSON
def doctor(*, as_json: bool) -> int:
    """What this machine can do, and how to get what it can't."""
    from harness import doctor as examination

    findings = examination.examine()
    say(
        json.dumps([finding.as_json() for finding in findings])
        if as_json
        else examination.render(findings)
    )
    return 0 if examination.can_run(findings) else EXIT_HARNESS


MUTANTS = "mutants"
"""What `bench` measures by itself; options of its own are among OF_MUTANTS."""

OF_MUTANTS = ("world", "budget", "protocol", "jobs")


def refuse_idle(is_speed: bool) -> None:
    """Refuse options of `bench` that change nothing of what is measured.

    Raises:
        UsageError: Names the option that was given.
    """
    context = click.get_current_context()
    for name in OF_MUTANTS if is_speed else ("quick",):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            what = f"bench {MUTANTS} alone" if is_speed else "all but the mutants"
            raise UsageError(f"--{name} is for {what}")


@cli.command()
@click.argument("names", nargs=-1)
@click.option(
    "--quick", is_flag=True, help="Fewer samples, no long rows; about 3 minutes."
)
@number("--repeat", COUNT, help="Samples of each figure.")
@click.option("--world", type=click.Choice(["os", "sim"]), default="sim", help=(
    "For mutants: where they are on trial; default sim."
))  # fmt: skip
@number("--budget", SECONDS, default=60.0, help=(
    "For mutants: seconds for each; default 60."
))  # fmt: skip
@click.option("--protocol", help="For mutants: those of this protocol only.")
@number("--jobs", JOBS, default=1, help=(
    "For mutants: trials side by side; default 1."
))  # fmt: skip
@RESULTS
@AS_JSON
def bench(
    names: Sequence[str],
    *,
    quick: bool,
    repeat: int | None,
    world: str,
    budget: float,
    protocol: str | None,
    jobs: int,
    results: Path,
    as_json: bool,
) -> int:
    """Measure speed and memory against the budgets, side by side with a peer.

    NAMES are groups (startup, history, check, cluster, report) or rows of them, such as
    check/cas-10k-c10; default: everything. The exit status says whether measuring
    worked, not whether the budgets were kept.

    `mutants` measures something else, and alone: how many seeded bugs are convicted
    within a time budget, and how often an unbroken protocol is. Its exit status says
    whether the target was met.
    """
    from harness.bench import bench as benchmark

    refuse_idle(MUTANTS not in names)

    def show(what: str) -> None:
        if not as_json and sys.stderr.isatty():
            say_error(f"measuring: {what}")

    if MUTANTS in names:
        if len(names) > 1:
            raise UsageError("bench mutants measures nothing else: name it alone")
        from harness.bench import mutants

        tried = mutants.measure(
            protocol,
            world=world,
            budget_s=budget,
            repeat=repeat or 1,
            jobs=jobs,
            results=results,
            show=show,
        )
        say(json.dumps(tried.record) if as_json else tried.text())
        return 0 if tried.meets_target else 1
    outcome = benchmark.run(
        names, quick=quick, repeat=repeat, results=results, show=show
    )
    say(json.dumps(outcome.record) if as_json else outcome.text())
    return EXIT_HARNESS if outcome.errors else 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its status."""
    sys.exit(run_command(arguments))


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status, whatever becomes of its output.

    What was written for a reader who has gone is not missed, and the status stays what
    it is. What a full disk did not take is: 255.
    """
    # With threads of its own OpenBLAS ends the process, or sends it SIGINT, where
    # it can't start them. Nothing here is large enough for them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with outlets() as out:
        status = status_of(lambda: cli.main(arguments, standalone_mode=False))
    if out.problem is None:
        return status
    complain(f"cannot write to standard output: {out.problem.strerror}")
    return status if status == EXIT_USAGE else EXIT_HARNESS


def status_of(command: Callable[[], Any]) -> int:
    """The exit status of a command, with its error told in one line.

    A fault of ours shows its traceback: it is for us.
    """
    try:
        status = command()
    except click.ClickException as problem:
        complain(problem.format_message())
        return EXIT_USAGE
    except UsageError as problem:
        complain(str(problem))
        return EXIT_USAGE
    except HarnessError as failure:
        told = scarcity.words if scarcity.is_scarcity(failure) else str
        complain(f"the harness failed: {told(failure)}")
        return EXIT_HARNESS
    except (KeyboardInterrupt, click.Abort):
        complain("interrupted")
        return EXIT_UNKNOWN
    except BaseException as fault:  # not even SystemExit: our statuses mean something
        if scarcity.is_scarcity(fault):
            complain(f"the harness failed: {scarcity.words(fault)}")
            return EXIT_HARNESS
        complain("the harness failed, and this is its fault:")
        say_error(traceback.format_exc().rstrip())
        return EXIT_HARNESS
    return status if isinstance(status, int) else 0


def say_error(text: str) -> None:
    """Print lines to standard error."""
    click.echo(visible(text), err=True)


def complain(text: str) -> None:
    """One line to standard error."""
    say_error(f"splitbrain: {' '.join(text.split())}")
