"""Rows that search: `explore: true`, in the time that the others leave.

A row may say how long it searches (`budget`). Those that don't share what is left of
the night's budget; without one, each has a minute.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from harness.campaign.experiment import Experiment
from harness.campaign.explore import Exploration, space_of
from harness.campaign.outcome import Outcome
from harness.campaign.suites.reading import duration_s
from harness.campaign.suites.results import RowResult
from harness.campaign.suites.rows import option_text
from harness.errors import HarnessError
from harness.host import interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from harness.campaign.engine import Engine
    from harness.campaign.explore import Explored
    from harness.campaign.suites.rows import Row

USUAL_S = 60.0
LEAST_S = 5.0
"""Less time than that makes no search."""


def shares_s(rows: Sequence[Row], left_s: float) -> list[float]:
    """How long each row searches; all together no longer than `left_s`.

    Rows that name a budget get it, the first ones first; the others share the rest.
    """
    shares, rest_s = [0.0] * len(rows), left_s
    for place, row in enumerate(rows):
        if row.budget is not None:
            shares[place] = min(duration_s(row.budget), rest_s)
            rest_s -= shares[place]
    open_ended = [place for place, row in enumerate(rows) if row.budget is None]
    for place in open_ended:
        usual_s = USUAL_S if left_s == float("inf") else rest_s / len(open_ended)
        shares[place] = min(usual_s, rest_s)
    return shares


def search(
    row: Row,
    seed: int,
    seconds: float,
    results: Path,
    jobs: int,
    engine: Engine,
    tell: Callable[[str], None] = lambda _: None,
) -> RowResult:
    """Search for failures as a row asks for it.

    Each distinct failure is an outcome of its own, after one for the whole search. An
    interrupt ends it early, and what was found is told.
    """
    if seconds < LEAST_S:
        why = f"no time left: {max(0.0, seconds):.0f} s of the budget are left"
        return RowResult(row, unrun=why)
    options = {name: option_text(value) for name, value in row.set.items()}
    space = space_of(
        row.system,
        row.workload,
        row.mutant,
        list(row.nemesis),
        row.world,
        row.nodes,
        options,
    )
    asked = Experiment(msgspec.structs.replace(space.spec, seed=seed))
    exploration = Exploration(
        space,
        seed,
        results,
        jobs=jobs,
        budget_s=seconds,
        runs=None,
        show=lambda explored: tell(f"{explored.search.tally.runs} runs"),
        tell=tell,
        engine=engine,
    )
    try:
        with interrupts.raised():
            explored = exploration.run()
    except HarnessError as failure:
        return RowResult(row, (Outcome.failed(asked, str(failure)),))
    except KeyboardInterrupt:
        return RowResult(row)
    return told(row, asked, explored)


def told(row: Row, asked: Experiment, explored: Explored) -> RowResult:
    """What a search showed, as the result of a row."""
    tally = explored.search.tally
    whole = Outcome(
        experiment=asked,
        verdict="valid" if explored.judged else "unknown",
        reason=f"{tally.runs} runs, {tally.unknown} of them unknown",
        interrupted=explored.interrupted,
        figures={"runs": tally.runs, "states": len(explored.search.seen)},
        seconds=round(explored.seconds, 3),
        run_s=round(explored.seconds, 3),
        folder=str(explored.folder),
    )
    failures = tuple(
        msgspec.structs.replace(
            kept.failure.outcome,
            folder=kept.folder or kept.failure.outcome.folder,
            repro=kept.command,
            sentence=kept.sentence or kept.failure.outcome.sentence,
        )
        for kept in explored.kept
    )
    result = RowResult(row, (whole, *failures))
    if explored.interrupted and not failures:
        result = replace(result, cut=f"interrupted after {tally.runs} runs")
    return result
