"""Measures what exploration is worth: seeded bugs, found by it and by random runs.

Each mutant is hunted again and again in two ways, from the same seeds and with the same
budget, under the workload and the faults that it declares: by runs whose plans are
drawn as `run` draws them, each from the next seed (`mutants.hunt`), and by a search
(`harness.campaign.exploration`). Both stop at the first run that breaks a promise. In
the os world the systems of examples/foreign are hunted, too, each with one of its bugs
(`harness.bench.foreign`).

The cost is processor time in the simulator, what it takes to tell runs apart included,
and real time in the os world, as in trials of mutants. What a way costs a conviction is
the time of all its hunts divided by their convictions, which is the best guess where
convictions come at a steady rate, whatever the budget. A way that convicts nobody is
taken to have been about to: its cost is a bound, and marked.

A few hunts of one mutant tell little, as the time that they take differs by luck. So
mutants that are found soon are hunted more often, the median of all ratios has an
interval, and a mutant counts as found later only if that is no chance (`Case.chance`).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.bench import foreign, mutants
from harness.bench.mutants import LIMIT_S, Hunt
from harness.bench.trials import (
    SEEDS_APART,
    Turn,
    hold,
    make_place,
    now,
    outcome_of,
    store,
    table,
)
from harness.campaign.carrying import discard
from harness.campaign.exploration.search import Search, searching
from harness.campaign.exploration.signatures import look
from harness.campaign.exploration.space import Space
from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.campaign.executor import Pursuit
    from harness.campaign.experiment import Experiment
    from harness.campaign.outcome import Outcome
    from harness.run.spec import TestSpec

RANDOM, EXPLORE = "random", "explore"
WAYS = (RANDOM, EXPLORE)
REPEAT = 5
"""Hunts of each mutant in each way, at least, from seeds of their own."""
ENOUGH_S = {"sim": 1.0, "os": 0.0}
"""World -> a mutant is hunted on until the hunts of each way cost so much together."""
HUNTS_MAX = 20
"""Hunts of a mutant in each way, at most."""
QUICK_EVERY = 5
QUICK_REPEAT = 3
QUICK_BUDGET_S = 10.0
"""A quick benchmark hunts one mutant in so many, that often, with such a budget."""
FASTER_MIN = 2.0
"""The target: the median over mutants of random's cost divided by exploration's."""
CHANCE_MAX = 0.05
"""How likely it may be that any mutant is told to be found later, if none is."""
RESAMPLES = 1000
"""How often hunts are drawn anew from those made, for the interval of the median."""


def explore(spec: TestSpec, seed: int, budget_s: float) -> Pursuit[Hunt]:
    """Search from `seed` on until a run is invalid or the budget is gone.

    Raises:
        HarnessError: A run failed, or was ended from outside.
    """
    search = Search(Space(spec, any_size=True), seed)
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

Hunts = dict[str, list[Hunt]]
"""Way -> its hunts of one mutant."""


def spent_s(hunts: Sequence[Hunt]) -> float:
    """The cost of hunts together."""
    return sum(hunt.seconds for hunt in hunts)


def found(hunts: Sequence[Hunt]) -> int:
    """How many hunts ended with a conviction."""
    return sum(hunt.convicted is not None for hunt in hunts)


def cost_s(hunts: Sequence[Hunt]) -> float:
    """What a conviction costs; without any, what all hunts did."""
    return spent_s(hunts) / max(1, found(hunts))


def ratio(hunts: Mapping[str, Sequence[Hunt]]) -> float:
    """How many times as much a conviction costs random runs."""
    return cost_s(hunts[RANDOM]) / max(1e-3, cost_s(hunts[EXPLORE]))


@dataclass
class Case:
    """A mutant, and its hunts in each way."""

    protocol: str
    mutant: str
    budget_s: float
    hunts: Hunts = field(default_factory=lambda: {way: [] for way in WAYS})
    error: str = ""

    @property
    def ratio(self) -> float:
        """How many times as much a conviction costs random runs."""
        return ratio(self.hunts)

    @property
    def chance(self) -> float:
        """How likely so few convictions by exploration are if it is no slower.

        Both ways convict at a steady rate, so if the rates are the same, each
        conviction falls to either in proportion to the time that it had: a binomial
        distribution. Hunts whose costs differ less than such a rate has it, as those
        that end in their first run, make this chance look larger than it is.
        """
        by = {way: found(hunts) for way, hunts in self.hunts.items()}
        times = {way: spent_s(hunts) for way, hunts in self.hunts.items()}
        share = times[EXPLORE] / max(1e-9, sum(times.values()))
        return at_most(by[EXPLORE], sum(by.values()), share)

    def cells(self) -> tuple[str, ...]:
        """The case's row of the table."""
        if self.error:
            return (self.protocol, self.mutant, "ERROR", self.error, "", "", "")
        costs = (
            f"{'' if found(self.hunts[way]) else '> '}{cost_s(self.hunts[way]):.2f}"
            for way in WAYS
        )
        both = (f"{found(self.hunts[way])}/{len(self.hunts[way])}" for way in WAYS)
        return (self.protocol, self.mutant, *costs, f"{self.ratio:.1f}", *both)


HEADINGS = ("protocol", "mutant", *(f"{w} s" for w in WAYS), "ratio", *WAYS)


def at_most(count: int, of: int, chance: float) -> float:
    """How likely at most `count` of so many come to pass, each with that chance."""
    return sum(
        math.comb(of, n) * chance**n * (1 - chance) ** (of - n)
        for n in range(count + 1)
    )


@dataclass
class Compared:
    """The outcome of the benchmark."""

    world: str
    cases: list[Case]
    record: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    interrupted: str = ""
    """How far the benchmark was when a stop signal ended it; empty if none did."""

    @property
    def measured(self) -> list[Case]:
        """The mutants that were hunted in both ways without an error."""
        return [c for c in self.cases if not c.error and all(c.hunts.values())]

    @property
    def ratio(self) -> float:
        """The median over mutants of how many times as much random runs cost."""
        return median([case.ratio for case in self.measured] or [0.0])

    @functools.cached_property
    def interval(self) -> tuple[float, float]:
        """What this median is with other luck: the middle 95 % (bootstrap)."""
        random, medians = Random(1), []
        for _ in range(RESAMPLES):
            ratios = [
                ratio(
                    {
                        way: random.choices(hunts, k=len(hunts))
                        for way, hunts in case.hunts.items()
                    }
                )
                for case in self.measured
            ]
            medians.append(median(ratios or [0.0]))
        medians.sort()
        return medians[RESAMPLES // 40], medians[-RESAMPLES // 40]

    @property
    def slower(self) -> list[Case]:
        """The mutants that random runs found for less, be it by luck."""
        return [case for case in self.measured if case.ratio < 1]

    @property
    def later(self) -> list[Case]:
        """The mutants that exploration finds later, and that is no luck."""
        bound = CHANCE_MAX / max(1, len(self.measured))
        return [case for case in self.slower if case.chance < bound]

    @property
    def meets_target(self) -> bool:
        """Whether exploration is fast enough, and nowhere slower."""
        fails = any(case.error for case in self.cases)
        is_whole = not fails and not self.interrupted
        return is_whole and self.ratio >= FASTER_MIN and not self.later

    def text(self) -> str:
        """The table, and lines that sum it up."""
        told = [case for case in self.cases if case.error or all(case.hunts.values())]
        out = table(HEADINGS, [case.cells() for case in told])
        what = "processor time" if self.world == "sim" else "time"
        costs = (
            f"{way} "
            f"{median([cost_s(c.hunts[way]) for c in self.measured] or [0.0]):.2f} s"
            for way in WAYS
        )
        low, high = self.interval
        return "\n".join(
            [
                *out,
                "",
                f"median {what} a conviction costs: {', '.join(costs)}",
                f"median ratio {self.ratio:.2f} ({low:.2f} to {high:.2f}, 95 %); the "
                f"target, {FASTER_MIN:g} and no mutant later, is "
                f"{outcome_of(self)}",
                f"below 1: {named(self.slower)}",
                f"later beyond chance: {named(self.later)}",
                f"raw figures: {self.path}",
            ]
        )


def named(cases: Sequence[Case]) -> str:
    """Mutants in a line."""
    return ", ".join(f"{case.protocol}/{case.mutant}" for case in cases) or "none"


def choose(protocol: str | None, world: str) -> list[tuple[str, str]]:
    """What to hunt: mutants by protocol, and in the os world foreign nodes.

    Raises:
        UsageError: There is no such protocol.
    """
    nodes = [(foreign.FOREIGN, "/".join(names)) for names in foreign.bugs()]
    if world == "os" and protocol == foreign.FOREIGN:
        return nodes
    chosen = [(case.protocol, case.mutant) for case in mutants.choose(protocol)]
    if world == "os" and protocol is None:
        chosen += nodes
    return chosen


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
    tell: Callable[[str], None],
) -> Compared:
    """Hunt the mutants in both ways, `jobs` at a time, and store the record.

    A stop signal ends it early; what was measured until then is kept. `show` is called
    with a line for each mutant that was hunted, `tell` after each run with a clause.

    Raises:
        UsageError: There is no such protocol, or `results` can't be written.
    """
    budget_s = budget_s or (QUICK_BUDGET_S if quick else 60.0)
    repeat = repeat or (QUICK_REPEAT if quick else REPEAT)
    chosen = choose(protocol, world)[:: QUICK_EVERY if quick else 1]
    cases = [Case(*names, budget_s) for names in chosen]
    begun, place = now(), make_place(results)
    compared = Compared(world, cases)

    def spec_of(case: Case) -> TestSpec:
        if case.protocol == foreign.FOREIGN:
            return foreign.set_up(*case.mutant.split("/"))
        return mutants.set_ups(case.protocol, case.mutant, world)[0]

    turns = [
        Turn(
            case,
            functools.partial(hunted, case, functools.partial(spec_of, case), repeat),
            lambda _: None,  # hunts go to their case one by one
        )
        for case in cases
    ]
    compared.interrupted = hold(
        turns, carry_out, jobs, LIMIT_S[world], show=show, tell=tell
    )
    compared.record, compared.path = store(
        place,
        f"search-{world}",
        begun,
        {
            "world": world,
            "budget_s": budget_s,
            "repeat": repeat,
            "jobs": jobs,
            "cases": [as_json(case) for case in cases],
            "ratio": compared.ratio,
            "interval": compared.interval,
            "later": [[case.protocol, case.mutant] for case in compared.later],
            "meets_target": compared.meets_target,
            "interrupted": bool(compared.interrupted),
        },
    )
    return compared


def as_json(case: Case) -> dict[str, Any]:
    """A case with every hunt."""
    return {
        "protocol": case.protocol,
        "mutant": case.mutant,
        "error": case.error,
        "ratio": case.ratio,
        "chance": case.chance,
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


def hunted(case: Case, make: Callable[[], TestSpec], repeat: int) -> Pursuit[None]:
    """A pursuit that hunts a mutant in turns, until both ways were tried enough.

    The turns let both find the machine as busy as the other.

    Raises:
        HarnessError: There is no such run; it failed, or was ended from outside.
    """
    spec = make()
    for turn in range(max(repeat, HUNTS_MAX)):
        for way in WAYS:
            hunts = case.hunts[way]
            if len(hunts) < repeat or spent_s(hunts) < ENOUGH_S[spec.world]:
                seed = 1 + turn * SEEDS_APART
                hunts.append((yield from HUNTS[way](spec, seed, case.budget_s)))


def carry_out(scratch: Path, experiment: Experiment) -> Outcome:
    """Carry out an experiment; if it is one of a search, as `explore` does."""
    if experiment.plan is None:
        return discard(scratch, experiment)
    return discard(scratch, experiment, look, hasty=experiment.spec.world == "sim")
