"""`splitbrain bench`: speed and memory, and what is found of mutants and how soon."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from harness.cli.flags import AS_JSON, COUNT, JOBS, RESULTS, SECONDS, number
from harness.cli.progress import Heartbeat
from harness.cli.terminal import complain, say, say_error
from harness.errors import EXIT_HARNESS, EXIT_UNKNOWN, UsageError
from harness.host import interrupts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.bench.foreign import Tried as ForeignTried
    from harness.bench.mutants import Tried
    from harness.bench.search import Compared

MUTANTS, SEARCH, SHRINK = "mutants", "search", "shrink"
"""Names that make `bench` measure one thing alone; OF_MUTANTS are their options."""

MUTANT_BUDGET_S = 60.0
OF_MUTANTS = ("world", "budget", "protocol", "jobs", "foreign", "executor")
IDLE = {
    None: OF_MUTANTS,
    MUTANTS: ("quick",),
    SEARCH: ("foreign", "executor"),
    SHRINK: ("world", "foreign", "executor"),
}
"""What is measured alone -> options that would change nothing."""


def refuse_idle(alone: str | None) -> None:
    """Refuse options of `bench` that would change nothing.

    Args:
        alone: What is measured alone; None for speed and memory.

    Raises:
        UsageError: There is such an option; names it.
    """
    context = click.get_current_context()
    for name in IDLE[alone]:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            others = [
                f"bench {of}" for of, idle in IDLE.items() if of and name not in idle
            ]
            what = (
                " and ".join(others) if name in OF_MUTANTS else f"all but the {alone}"
            )
            if name == "foreign":
                what += f"; bench {SEARCH} takes --protocol foreign"
            raise UsageError(f"--{name} is for {what}")


def alone(names: Sequence[str]) -> str | None:
    """What is measured alone, if NAMES ask for that.

    Raises:
        UsageError: They ask for something else, too.
    """
    for name in (MUTANTS, SEARCH, SHRINK):
        if name in names:
            if len(names) > 1:
                raise UsageError(f"bench {name} measures nothing else: name it alone")
            return name
    return None


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--quick", is_flag=True, help="Fewer samples, no long rows; some minutes."
)
@number("--repeat", COUNT, help="Samples of each figure.")
@click.option("--world", type=click.Choice(["os", "sim"]), default="sim", help=(
    "For mutants and search: where they are on trial; default sim."
))  # fmt: skip
@number("--budget", SECONDS, help=(
    "For mutants, search and shrink: seconds for each; default 60, of a quick search "
    "20, of shrink 300."
))  # fmt: skip
@click.option("--protocol", help=(
    "For mutants, search and shrink: those of this protocol only."
))  # fmt: skip
@click.option("--foreign", is_flag=True, help=(
    "For mutants: the systems of examples/foreign, with their bugs and without; "
    "--protocol names one of them."
))  # fmt: skip
@number("--jobs", JOBS, help=(
    "For mutants, search and shrink: trials, or runs, side by side; default 1, or what "
    "the workers of a cluster can do."
))  # fmt: skip
@click.option("--executor", default="local", metavar="WHERE", help=(
    "For mutants: where runs are carried out, local or dask://HOST:PORT."
))  # fmt: skip
@RESULTS
@AS_JSON
def bench(
    names: Sequence[str],
    *,
    quick: bool,
    repeat: int | None,
    world: str,
    budget: float | None,
    protocol: str | None,
    foreign: bool,
    jobs: int | None,
    executor: str,
    results: Path,
    as_json: bool,
) -> int:
    """Measure speed and memory against the budgets, side by side with a peer.

    NAMES are groups (startup, history, check, cluster, sim, report, results, executor)
    or rows of them, such as check/cas-10k-c10; default: everything. The exit status
    says whether measuring worked, not whether the budgets were kept.

    `mutants` measures something else, and alone: how many seeded bugs are convicted
    within a time budget, and how often an unbroken protocol is. Its exit status says
    whether the target was met. So does `search`: how long `explore` takes to convict
    each of them, and how long runs take that are drawn without looking back. If one of
    both is interrupted, it prints what it measured until then; the exit status is 2.
    `shrink` measures how small the failure of each of them becomes, beside the smallest
    experiment known that shows it.
    """
    from harness.bench import bench as benchmark

    measured = alone(names)
    refuse_idle(measured)
    given = click.get_current_context().get_parameter_source("world")
    if foreign and world == "sim" and given is ParameterSource.COMMANDLINE:
        raise UsageError("--foreign is for real processes: leave out --world sim")

    def show(what: str) -> None:
        if not as_json and sys.stderr.isatty():
            say_error(f"measuring: {what}")

    if measured is None:
        outcome = benchmark.run(
            names, quick=quick, repeat=repeat, results=results, show=show
        )
        say(json.dumps(outcome.record) if as_json else outcome.text())
        return EXIT_HARNESS if outcome.errors else 0
    if measured == SHRINK:
        from harness.bench import shrink

        shrunk = shrink.measure(
            protocol,
            budget_s=budget,
            repeat=repeat or 1,
            quick=quick,
            jobs=jobs or 1,
            results=results,
            show=show,
        )
        say(json.dumps(shrunk.record) if as_json else shrunk.text())
        return 0 if shrunk.meets_target else 1
    from harness.bench import foreign as foreign_systems
    from harness.bench import mutants, search
    from harness.campaign.choosing import engine_of

    heartbeat = Heartbeat(f"bench {measured}", enabled=not as_json)
    told: Tried | Compared | ForeignTried
    with interrupts.noted():  # what measures hears them, and what it has is printed
        if measured == SEARCH:
            told = search.measure(
                protocol,
                world=world,
                budget_s=budget,
                repeat=repeat,
                quick=quick,
                jobs=jobs or 1,
                results=results,
                show=show,
                tell=heartbeat.tell,
            )
        elif foreign:
            told = foreign_systems.measure(
                protocol,
                budget_s=budget or MUTANT_BUDGET_S,
                repeat=repeat or 1,
                jobs=jobs or 1,
                results=results,
                show=show,
                tell=heartbeat.tell,
            )
        else:
            with engine_of(executor, results, "", complain) as engine:
                told = mutants.measure(
                    protocol,
                    world=world,
                    budget_s=budget or MUTANT_BUDGET_S,
                    repeat=repeat or 1,
                    jobs=jobs or engine.jobs or 1,
                    results=results,
                    show=show,
                    tell=heartbeat.tell,
                    engine=engine,
                )
        say(json.dumps(told.record) if as_json else told.text())
        if told.interrupted:
            complain(f"interrupted: {told.interrupted}")
            return EXIT_UNKNOWN
    return 0 if told.meets_target else 1
