"""`splitbrain shrink`: the smallest experiment that still fails as a run did."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from harness.cli.flags import AS_JSON, BUDGET, JOBS, number
from harness.cli.terminal import complain, interrupted, say
from harness.errors import EXIT_INVALID, EXIT_UNKNOWN
from harness.host import interrupts


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@number("--budget", BUDGET, metavar="TIME", default="10m", show_default=True, help=(
    "Time for the search: 90, 10m, 2h. Another search goes on where this one ends."
))  # fmt: skip
@number("--jobs", JOBS, default=1, show_default=True, help=(
    "Runs side by side, which disturb each other if they are real."
))  # fmt: skip
@click.option("--world", type=click.Choice(["os", "sim"]), help=(
    "Search there alone. Default: where the run was, after a try in the simulator."
))  # fmt: skip
@AS_JSON
def shrink(
    run: Path, *, budget: float, jobs: int, world: str | None, as_json: bool
) -> int:
    """Find the smallest experiment that still fails as RUN did.

    Fewer faults at fewer nodes, fewer operations, clients, nodes and options, shorter
    times, rounder numbers. In the simulator one run tells whether a smaller experiment
    fails. Real processes fail in some runs and not in others: there, a smaller
    experiment takes the place of a larger one if it fails about as often.

    The result goes to RUN/shrunk: a run of it with its report, plan.yaml, command.txt,
    a test for your own suite, and all that was tried. Exit status: 1 if the failure was
    seen again, 2 if it was not.
    """
    from harness.campaign import replay
    from harness.campaign.shrinking import shelf as shelves
    from harness.campaign.shrinking.conclusion import conclude
    from harness.campaign.shrinking.recorded import shrink_recorded
    from harness.cli.progress import ProgressLine
    from harness.run.store import RunFolder

    until_s = time.monotonic() + budget
    folder = RunFolder.open(run)
    with interrupts.raised():
        try:
            recorded = replay.with_events(shelves.failing(folder))
        except KeyboardInterrupt:
            return interrupted("interrupted before it began", as_json=as_json)
    failed = recorded.outcome
    shelf = shelves.Shelf(folder)
    for remark in recorded.remarks:
        complain(remark)
    line = ProgressLine(enabled=not as_json)
    try:
        with interrupts.raised():
            shrunk = shrink_recorded(
                recorded,
                failed.fingerprints,
                shelf,
                budget_s=max(budget / 2, until_s - time.monotonic()),
                jobs=jobs,
                world=world,  # type: ignore[arg-type]  # click has checked the choice
                tell=line.tell,
            )
        with interrupts.raised():
            conclusion = conclude(shrunk, failed, shelf, line.tell)
    except KeyboardInterrupt:
        line.clear()
        kept = shelf.path / "best.yaml"
        told = f"; the smallest so far is in {shelf.path}" if kept.exists() else ""
        return interrupted(
            f"interrupted{told} (the same command goes on from here)", as_json=as_json
        )
    finally:
        shelf.close()
        line.clear()
    say(json.dumps(conclusion.as_json()) if as_json else conclusion.text())
    return EXIT_INVALID if conclusion.was_seen else EXIT_UNKNOWN
