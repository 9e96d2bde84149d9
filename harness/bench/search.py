"""Measures what exploration is worth: seeded bugs, found by it and by random runs.

Each mutant is hunted twice from the same seed, with the same budget, under the workload
and the faults that it declares: by runs whose plans are drawn as `run` draws them, each
from the next seed (`mutants.hunt`), and by a search (`harness.campaign.exploration`).
Both stop at the first run that breaks a promise. A hunt that finds nothing counts as
its budget, so a ratio of two of them is 1, and one with an escape is a bound.

The cost is processor time in the simulator, what it takes to tell runs apart included,
and real time in the os world, as in trials of mutants.
"""

from __future__ import annotations

import datetime
import functools
import json
import sys
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.bench import mutants
from harness.bench.mutants import LIMIT_S, SEEDS_APART, Hunt
from harness.campaign.carrying import discard
from harness.campaign.executor import pursue
from harness.campaign.exploration.search import Search, searching
from harness.campaign.exploration.signatures import features
from harness.campaign.exploration.space import Space
from harness.campaign.processes import Processes
from harness.errors import HarnessError, SplitbrainError
from harness.host.scratch import scratch_folder
from harness.run import execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from harness.campaign.executor import Pursuit
    from harness.campaign.experiment import Experiment
    from harness.campaign.outcome import Outcome
    from harness.run.spec import TestSpec

RANDOM, EXPLORE = "random", "explore"
WAYS = (RANDOM, EXPLORE)
REPEAT = 5
"""Hunts of each mutant in each way, from seeds of their own."""
QUICK_EVERY = 6
QUICK_REPEAT = 3
QUICK_BUDGET_S = 20.0
"""A quick benchmark hunts one mutant in so many, that often, with such a budget."""
FASTER_MIN = 2.0
"""The target: the median over mutants of random's cost divided by exploration's."""
LATER_MAX = 1.25
"""A mutant counts as found later if the ratio is below one by more than this factor:
medians of a few hunts differ by luck."""


def explore(spec: TestSpec, seed: int, budget_s: float) -> Pursuit[Hunt]:
    """Search from `seed` on until a run is invalid or the budget is gone.

    Raises:
        HarnessError: A run failed, or was ended from outside.
    """
    search = Search(Space(spec), seed)
    hunt = Hunt(0, 0.0, None)

    def goes_on() -> bool:
        return hunt.convicted is None and hunt.seconds < budget_s

    def note(outcome: Outcome, _: int) -> None:
        nonlocal hunt
        if outcome.verdict == "error":
            raise HarnessError(f"{outcome.repro}: {outcome.reason}")
        convicted = outcome if outcome.verdict == "invalid" else None
        spent_s = hunt.seconds + mutants.cost_s(outcome)
        hunt = Hunt(search.tally.runs, spent_s, convicted)

    yield from searching(search, goes_on, note)
    return hunt


HUNTS = {RANDOM: mutants.hunt, EXPLORE: explore}


@dataclass
class Case:
    """A mutant, and its hunts in each way."""

    protocol: str
    mutant: str
    budget_s: float
    hunts: dict[str, list[Hunt]] = field(
        default_factory=lambda: {way: [] for way in WAYS}
    )
    error: str = ""

    def cost_s(self, way: str) -> float:
        """The median cost of its hunts; one that found nothing counts as its budget."""
        costs = [
            self.budget_s
            if hunt.convicted is None
            else min(hunt.seconds, self.budget_s)
            for hunt in self.hunts[way]
        ]
        return median(costs) if costs else self.budget_s

    def found(self, way: str) -> str:
        """How many hunts found it, of how many."""
        hunts = self.hunts[way]
        return f"{sum(h.convicted is not None for h in hunts)}/{len(hunts)}"

    @property
    def ratio(self) -> float:
        """How many times as much random runs cost."""
        return self.cost_s(RANDOM) / max(1e-3, self.cost_s(EXPLORE))

    def cells(self) -> tuple[str, ...]:
        """The case's row of the table."""
        if self.error:
            return (self.protocol, self.mutant, "ERROR", self.error, "", "", "")
        return (
            self.protocol,
            self.mutant,
            *(f"{self.cost_s(way):.1f}" for way in WAYS),
            f"{self.ratio:.1f}",
            *(self.found(way) for way in WAYS),
        )


HEADINGS = ("protocol", "mutant", *(f"{w} s" for w in WAYS), "ratio", *WAYS)


@dataclass
class Compared:
    """The outcome of the benchmark."""

    world: str
    cases: list[Case]
    record: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def measured(self) -> list[Case]:
        """The mutants that were hunted without an error."""
        return [case for case in self.cases if not case.error]

    @property
    def ratio(self) -> float:
        """The median over mutants of how many times as much random runs cost."""
        return median([case.ratio for case in self.measured] or [0.0])

    @property
    def later(self) -> list[Case]:
        """The mutants that random runs found sooner."""
        return [case for case in self.measured if case.ratio < 1 / LATER_MAX]

    @property
    def meets_target(self) -> bool:
        """Whether exploration is fast enough, and nowhere slower."""
        fails = any(case.error for case in self.cases)
        return self.ratio >= FASTER_MIN and not self.later and not fails

    def text(self) -> str:
        """The table, and lines that sum it up."""
        out = mutants.table(HEADINGS, [case.cells() for case in self.cases])
        what = "processor time" if self.world == "sim" else "time"
        both = (
            f"{way} {median([c.cost_s(way) for c in self.measured] or [0.0]):.1f} s"
            for way in WAYS
        )
        later = ", ".join(f"{case.protocol}/{case.mutant}" for case in self.later)
        return "\n".join(
            [
                *out,
                "",
                f"median {what} to conviction: {', '.join(both)}",
                f"median ratio {self.ratio:.1f}; found later by exploration: "
                f"{later or 'none'}; the target, {FASTER_MIN:g} and none, is "
                f"{'met' if self.meets_target else 'MISSED'}",
                f"raw figures: {self.path}",
            ]
        )


def measure(
    protocol: str | None,
    *,
    world: str,
    budget_s: float | None,
    repeat: int | None,
    quick: bool,
    jobs: int,
    results: Path,
    show: Callable[[str], None],
) -> Compared:
    """Hunt the mutants in both ways, `jobs` at a time, and store the record.

    Raises:
        UsageError: There is no such protocol, or `results` can't be written.
    """
    from harness.bench.bench import machine

    budget_s = budget_s or (QUICK_BUDGET_S if quick else 60.0)
    repeat = repeat or (QUICK_REPEAT if quick else REPEAT)
    chosen = mutants.choose(protocol)[:: QUICK_EVERY if quick else 1]
    cases = [Case(case.protocol, case.mutant, budget_s) for case in chosen]
    begun = datetime.datetime.now(datetime.UTC)
    place = mutants.make_place(results)
    compared = Compared(world, cases)
    hunt_all(cases, world, repeat, jobs, show)
    compared.record = {
        "command": ["splitbrain", *sys.argv[1:]],
        "commit": execution.commit(),
        "started_utc": begun.isoformat(),
        "world": world,
        "budget_s": budget_s,
        "repeat": repeat,
        "jobs": jobs,
        "machine": machine(place),
        "cases": [as_json(case) for case in cases],
        "ratio": compared.ratio,
        "meets_target": compared.meets_target,
    }
    compared.path = place / f"search-{world}-{begun.strftime('%Y%m%dT%H%M%SZ')}.json"
    text = json.dumps(compared.record, indent=2) + "\n"
    compared.path.write_text(text, encoding="utf-8")
    return compared


def as_json(case: Case) -> dict[str, Any]:
    """A case with every hunt."""
    return {
        "protocol": case.protocol,
        "mutant": case.mutant,
        "error": case.error,
        "ratio": case.ratio,
        "hunts": {
            way: [
                {
                    "runs": hunt.runs,
                    "seconds": round(hunt.seconds, 3),
                    "anomalies": hunt.convicted.anomalies if hunt.convicted else [],
                    "repro": hunt.convicted.repro if hunt.convicted else "",
                }
                for hunt in hunts
            ]
            for way, hunts in case.hunts.items()
        },
    }


def hunt_all(
    cases: Sequence[Case],
    world: str,
    repeat: int,
    jobs: int,
    show: Callable[[str], None],
) -> None:
    """Carry out every hunt, and add it to its case."""
    turns = [(case, way, n) for case in cases for n in range(repeat) for way in WAYS]

    def hunts() -> Iterator[Pursuit[Hunt | str]]:
        for case, way, n in turns:
            declared, _ = mutants.set_ups(case.protocol, case.mutant, world)
            yield whatever_comes(
                HUNTS[way](declared, 1 + n * SEEDS_APART, case.budget_s)
            )

    with (
        scratch_folder("splitbrain-search-") as scratch,
        Processes(
            functools.partial(carry_out, scratch), jobs, limit_s=LIMIT_S[world]
        ) as executor,
    ):
        for place, came in pursue(executor, hunts(), jobs):
            case, way, _ = turns[place]
            if isinstance(came, Hunt):
                case.hunts[way].append(came)
            else:
                case.error = came
            show(" ".join(cell for cell in case.cells() if cell))


def carry_out(scratch: Path, experiment: Experiment) -> Outcome:
    """Carry out an experiment; if it is one of a search, its outcome has features."""
    if experiment.plan is None:
        return discard(scratch, experiment)
    return discard(scratch, experiment, features, hasty=experiment.spec.world == "sim")


def whatever_comes(hunting: Pursuit[Hunt]) -> Pursuit[Hunt | str]:
    """A pursuit that returns a hunt, or the error that it raised, as text."""
    try:
        return (yield from hunting)
    except SplitbrainError as failure:
        return str(failure)
