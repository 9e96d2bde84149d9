"""`splitbrain bench`: speed and memory against the budgets, and mutants."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from harness.cli.flags import AS_JSON, COUNT, JOBS, RESULTS, SECONDS, number
from harness.cli.terminal import say, say_error
from harness.errors import EXIT_HARNESS, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


MUTANTS = "mutants"
"""The name that makes `bench` measure mutants alone; OF_MUTANTS are its options."""

OF_MUTANTS = ("world", "budget", "protocol", "jobs")


def refuse_idle(is_speed: bool) -> None:
    """Refuse options of `bench` that would change nothing.

    Raises:
        UsageError: There is such an option; names it.
    """
    context = click.get_current_context()
    for name in OF_MUTANTS if is_speed else ("quick",):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            what = f"bench {MUTANTS} alone" if is_speed else "all but the mutants"
            raise UsageError(f"--{name} is for {what}")


@click.command()
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
