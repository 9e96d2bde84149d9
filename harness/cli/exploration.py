"""`splitbrain explore SYSTEM`: many short runs, chosen by what the last ones showed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from harness.cli.flags import COUNT, EXECUTOR, JOBS, PLACE, fault_words, number
from harness.cli.terminal import complain, interrupted, say
from harness.errors import (
    EXIT_INVALID,
    EXIT_UNKNOWN,
    EXIT_VALID,
    HarnessError,
    UsageError,
)
from harness.host import interrupts, program
from harness.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.campaign.explore import Exploration, Explored, Kept
    from harness.cli.flags import Place

BUDGET_S = 60.0
"""Seconds for runs, if neither they nor runs are given."""
REASON_CHARS_MAX = 300
"""Of a reason that may quote the output of a node."""
WITHOUT_MAX = 6
"""Counterfactuals of a failure that are printed."""


def flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of `explore` that only runs have."""
    for flag in (
        PLACE,
        EXECUTOR,
        number("--seed", help="Every choice comes from it; default: random."),
        number("--jobs", JOBS, help=(
            "Runs side by side; default: 1, or what the workers of a cluster can do."
        )),
        number("--runs", COUNT, help="Runs after which none begins."),
        click.option(
            "--world",
            type=click.Choice(["os", "sim"]),
            default="os",
            show_default=True,
            help="Real processes, or a simulator in virtual time.",
        ),
        click.option("--nemesis", multiple=True, metavar="A,B", help=(
            "Kinds of fault to choose from; default: all."
        )),
    ):  # fmt: skip
        command = flag(command)
    return command


def explore_by_runs(
    system: str,
    *,
    workload: str,
    mutant: str | None,
    nemesis: Sequence[str],
    world: Literal["os", "sim"],
    nodes: int | None,
    options: Mapping[str, str],
    budget_s: float | None,
    runs: int | None,
    jobs: int | None,
    seed: int | None,
    executor: str,
    results: Place,
    as_json: bool,
) -> int:
    """Explore SYSTEM by runs; print what was found, and return the status.

    Raises:
        UsageError: It can't be explored; says why.
        HarnessError: No run could be made, or something can't be stored.
    """
    from harness.campaign.choosing import engine_of

    if results.store and not results.store.startswith("file:"):
        raise UsageError(
            f"--results {results.store}: failures are made smaller on this machine, so "
            "name a folder of it"
        )
    if budget_s is None and runs is None:
        budget_s = BUDGET_S
    exploration: Exploration | None = None
    with interrupts.raised():
        try:  # the imports, too: they take half a second
            import random

            from harness.campaign.explore import Exploration, space_of
            from harness.cli.progress import ProgressLine

            line = ProgressLine(enabled=not as_json)
            space = space_of(
                system, workload, mutant, fault_words(nemesis), world, nodes, options
            )
            with engine_of(executor, results.path, results.store, complain) as engine:
                exploration = Exploration(
                    space,
                    random.randrange(10**6) if seed is None else seed,
                    results.path,
                    jobs=jobs or engine.jobs or 1,
                    budget_s=budget_s,
                    runs=runs,
                    show=lambda explored: line.tell(progress(explored)),
                    tell=line.tell,
                    engine=engine,
                )
                explored = exploration.run()
        except KeyboardInterrupt:
            return interrupted("interrupted before it began", as_json=as_json)
        except HarnessError:
            line.clear()
            if exploration is not None and exploration.explored.kept:
                # They may not have been stored.
                found = exploration.explored
                say(json.dumps(found.as_json()) if as_json else told(found))
            raise
        with interrupts.noted():  # it is too late to end early: all is printed
            line.clear()
            say(json.dumps(explored.as_json()) if as_json else told(explored))
            if explored.interrupted:
                complain(f"interrupted after {explored.search.tally.runs} runs")
            return status(explored)


def status(explored: Explored) -> int:
    """The exit status of an exploration."""
    if explored.kept:
        return EXIT_INVALID
    return EXIT_VALID if explored.judged else EXIT_UNKNOWN


def progress(explored: Explored) -> str:
    """The exploration so far, in a line."""
    from harness.report.figures import plural

    tally = explored.search.tally
    minutes = max(1e-9, explored.seconds / 60)
    return (
        f"{explored.seconds:5.1f} s | {tally.runs} runs, {tally.runs / minutes:.0f} a "
        f"minute | {len(explored.search.seen):,} states, "
        f"{len(explored.search.seen) / minutes:,.0f} a minute | "
        f"{plural(len(tally.failures), 'failure')}"
    )


def told(explored: Explored) -> str:
    """The result of an exploration, for people."""
    from harness.report.figures import plural

    search, tally = explored.search, explored.search.tally
    lines = []
    if table := explored.coverage.text():
        lines += [table, ""]
    for what, bandit in search.bandits.items():
        rates = sorted(bandit.rates().items(), key=lambda pair: -pair[1])
        if len(rates) > 1:
            best = ", ".join(f"{arm} {rate:.2g}" for arm, rate in rates[:5])
            lines.append(f"gain by {what}: {best}")
    lines.append("")
    for place, kept in enumerate(explored.kept, start=1):
        lines += [*told_failure(place, kept), ""]
    not_judged = f", {tally.unknown} unknown" if tally.unknown else ""
    if tally.unclear:
        not_judged += f" ({visible_line(tally.unclear[0])[:REASON_CHARS_MAX]})"
    failed = f", {tally.failed} failed ({tally.errors[0]})" if tally.errors else ""
    lines += [
        f"{plural(len(explored.kept), 'distinct failure')} in "
        f"{plural(tally.runs, 'run')}, {tally.invalid} of them "
        f"invalid{not_judged}{failed}",
        progress(explored).strip(),
        f"seed {search.seed}; stored in {explored.folder}",
    ]
    return "\n".join(lines)


def told_failure(place: int, kept: Kept) -> list[str]:
    """A failure, for people."""
    failure, mark = kept.failure, kept.failure.fingerprint
    steps = len(failure.outcome.experiment.plan or [])
    lines = [
        f"failure {place}: {mark.anomaly} ({mark.checker}), in run {failure.runs} "
        f"after {failure.cpu_s:.1f} s of processor time; {steps} faults"
    ]
    if kept.sentence:
        lines.append(f"  {kept.sentence}")
    match kept.repeats:
        case True:
            lines.append("  run again, it fails in the same way")
        case False:
            lines.append("  run again, it did not fail: the simulation did not repeat")
        case None:
            pass
    if kept.shrunk is not None:
        lines.append(f"  shrunk: {kept.shrunk.headline}")
        lines += [f"    {line}" for line in kept.shrunk.plan.splitlines()]
    needed = [each for each in kept.without if each.fate != "same"]
    lines += [f"  {each.told}" for each in needed[:WITHOUT_MAX]]
    if idle := len(kept.without) - len(needed):
        lines.append(f"  fails all the same without any one of {idle} faults")
    lines.append(f"  run it: {kept.command}")
    if kept.shrunk is not None and kept.shrunk.command:
        lines.append(f"  run the smallest: {kept.shrunk.command}")
    run = shlex.quote(program.near(Path(kept.folder))) if kept.folder else ""
    if run and (kept.shrunk is None or kept.shrunk.after is None):
        lines.append(f"  make it smaller: {program.called()} shrink {run}")
    if run and failure.outcome.experiment.spec.world == "sim":
        lines.append(f"  when it became likely: {program.called()} explain {run}")
    return lines
