"""Measures how many seeded bugs the harness finds, how soon, and its false alarms.

Every mutant (`reference_impls.mutants`) is on trial: run after run, each from the next
seed, until a checker convicts it or the budget is gone. The first two thirds of the
budget go to the workload and faults that the mutant declares to expose it, the rest to
all faults at once. Then the unbroken protocol undergoes the same runs: each of them
that isn't valid is a false alarm. A mutant gets no help beside its declaration: no plan
written for it, no seed known to work. It also declares the anomalies that it should
show. A conviction by none of these does not prove that the harness saw the bug, and
misses the target. A run ends once it is convicted of one of these, where that can be
told before its end.

A trial is a pursuit (`harness.campaign.executor`) on one core. Its seconds are
processor time in the simulator, and real time in the os world, where the cost is
waiting.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec

from harness.bench.trials import (
    SEEDS_APART,
    Turn,
    hold,
    make_place,
    now,
    one,
    outcome_of,
    store,
    table,
)
from harness.campaign.carrying import discard
from harness.campaign.coverage import Coverage
from harness.campaign.engine import HERE
from harness.errors import UsageError
from harness.registry import nearest
from harness.run.asking import ALL_FAULTS
from harness.run.completing import complete
from harness.run.spec import DEFAULTS, TestSpec
from harness.systems import mutants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.campaign.engine import Engine
    from harness.campaign.executor import Pursuit
    from harness.campaign.outcome import Outcome

DECLARED_SHARE = 2 / 3
"""The part of the budget for the set-up that a mutant declares."""
OS_RUN_S = 12.0
"""Length of a run in the os world: several must fit into the budget."""
OS_PROFILE = "brisk"
"""The rhythm of declared faults in the os world, as the runs are short."""
CONTROLS_MIN = {"os": 1, "sim": 10}
"""World -> runs of the unbroken protocol for each mutant, at least."""
LIMIT_S = {"os": 4 * OS_RUN_S + 240.0, "sim": 600.0}
"""World -> real seconds that a run may take. In the simulator runs take half a second
of processor time, of which a busy machine gives them little at a time."""
TARGETS = {"os": 0.8, "sim": 1.0}
"""The share of mutants that must be convicted."""


# --- one trial -------------------------------------------------------------------


class Alarm(msgspec.Struct, frozen=True):
    """A run of the unbroken protocol that was not valid."""

    verdict: str
    repro: str


class Trial(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The outcome of a trial.

    Attributes:
        runs, seconds: Their number until a conviction or the end of the budget.
        seed, repro: The seed and command of the convicted run.
        set_up: The set-up of the last run: the mutant's declaration, or all faults.
        controls: How many runs of the unbroken protocol there were.
    """

    convicted: bool
    anomalies: list[str]
    runs: int
    seconds: float
    seed: int | None = None
    repro: str = ""
    set_up: str
    controls: int
    alarms: list[Alarm]


@dataclass(frozen=True)
class Hunt:
    """The runs and seconds of a hunt, and the outcome that convicted, if one did."""

    runs: int
    seconds: float
    convicted: Outcome | None


def trial(
    protocol: str, mutant: str, world: str, seed: int, budget_s: float
) -> Pursuit[Trial]:
    """The trial of one mutant, from `seed` on; then of its protocol, on the same seeds.

    Raises:
        HarnessError: A run failed, or was ended from outside.
    """
    declared, everything = set_ups(protocol, mutant, world)
    found = yield from hunt(declared, seed, budget_s * DECLARED_SHARE)
    last, name, runs, seconds = found, "declared", found.runs, found.seconds
    if found.convicted is None:
        last = yield from hunt(everything, seed, budget_s - found.seconds)
        name, runs, seconds = ALL_FAULTS, runs + last.runs, seconds + last.seconds
    controls, alarms = yield from false_alarms(
        msgspec.structs.replace(
            declared if name == "declared" else everything,
            mutant=None,
            until_anomaly=[],
        ),
        range(seed, seed + max(last.runs, CONTROLS_MIN[world])),
        # A mutant that was not convicted needs only as many controls as there is time.
        budget_s,
    )
    convicted = last.convicted
    return Trial(
        convicted=convicted is not None,
        anomalies=[] if convicted is None else convicted.anomalies,
        runs=runs,
        seconds=round(seconds, 2),
        seed=None if convicted is None else convicted.experiment.spec.seed,
        repro="" if convicted is None else convicted.repro,
        set_up=name,
        controls=controls,
        alarms=alarms,
    )


def set_ups(protocol: str, mutant: str, world: str) -> tuple[TestSpec, TestSpec]:
    """The set-up that the mutant declares, and the same with all faults."""
    # A conviction by another anomaly does not prove that the harness saw the bug.
    known = mutants.find(protocol, mutant)
    anomalies = list(known.anomalies)
    faults = [OS_PROFILE, *known.nemesis] if world == "os" and known.nemesis else []

    def spec(nemesis: list[str]) -> TestSpec:
        limits = dict(DEFAULTS[world])
        if world == "os":
            limits["time_limit_s"] = OS_RUN_S
        made = TestSpec(
            system=protocol,
            workload="",
            nemesis=nemesis,
            mutant=mutant,
            world=world,  # type: ignore[arg-type]  # the command line has checked it
            until_invalid=True,
            until_anomaly=anomalies,
            **limits,
        )
        complete(made)
        return made

    return spec(faults), spec([ALL_FAULTS])


def hunt(spec: TestSpec, seed: int, budget_s: float) -> Pursuit[Hunt]:
    """Run from `seed` on until a run is invalid or the budget is gone."""
    runs, spent_s = 0, 0.0
    while spent_s < budget_s:
        outcome = yield from one(spec, seed + runs)
        runs += 1
        spent_s += cost_s(outcome)
        if outcome.verdict == "invalid":
            return Hunt(runs, spent_s, outcome)
    return Hunt(runs, spent_s, None)


def false_alarms(
    spec: TestSpec, seeds: range, budget_s: float
) -> Pursuit[tuple[int, list[Alarm]]]:
    """Run the unbroken protocol; returns the number of runs, and those not valid."""
    controls, spent_s, alarms = 0, 0.0, []
    for seed in seeds:
        outcome = yield from one(spec, seed)
        controls += 1
        spent_s += cost_s(outcome)
        if outcome.verdict != "valid":
            alarms.append(Alarm(outcome.verdict, outcome.repro))
        if spent_s >= budget_s:
            break
    return controls, alarms


def cost_s(outcome: Outcome) -> float:
    """Seconds that a run cost: processor time in the simulator, else real time."""
    is_sim = outcome.experiment.spec.world == "sim"
    return outcome.cpu_s if is_sim else outcome.seconds


# --- all trials, and the table ----------------------------------------------------


@dataclass
class Case:
    """A mutant, and the outcomes of its trials, one for each repetition."""

    protocol: str
    mutant: str
    trials: list[Trial] = field(default_factory=list)
    error: str = ""

    @property
    def convictions(self) -> list[Trial]:
        """The trials that ended with a conviction."""
        return [trial for trial in self.trials if trial.convicted]

    @property
    def is_convicted(self) -> bool:
        """Whether most trials ended with a conviction; a single one may be luck."""
        return len(self.convictions) * 2 > len(self.trials)

    @property
    def is_as_declared(self) -> bool:
        """Whether each conviction is for an anomaly that the mutant declares."""
        declared = set(mutants.find(self.protocol, self.mutant).anomalies)
        return all(declared & set(trial.anomalies) for trial in self.convictions)

    @property
    def outcome(self) -> str:
        """The outcome in a word."""
        if not self.is_convicted:
            return "ESCAPED"
        return "convicted" if self.is_as_declared else "UNEXPECTED"

    @property
    def alarms(self) -> list[Alarm]:
        """False alarms on the unbroken protocol."""
        return [alarm for trial in self.trials for alarm in trial.alarms]

    def cells(self) -> tuple[str, ...]:
        """The case's row of the table."""
        if self.error:
            return (self.protocol, self.mutant, "ERROR", self.error, "", "", "", "")
        found = self.convictions or self.trials
        anomalies = sorted({name for trial in found for name in trial.anomalies})
        controls = sum(trial.controls for trial in self.trials)
        return (
            self.protocol,
            self.mutant,
            self.outcome,
            ", ".join(anomalies),
            ", ".join(sorted({trial.set_up for trial in found})),
            f"{median(trial.runs for trial in found):g}",
            f"{median(trial.seconds for trial in found):.1f}",
            f"{len(self.alarms)}/{controls}",
        )


HEADINGS = (
    "protocol",
    "mutant",
    "",
    "found",
    "set-up",
    "runs",
    "s",
    "false alarms",
)


@dataclass
class Tried:
    """The outcome of a benchmark of mutants."""

    world: str
    cases: list[Case]
    coverage: Coverage = field(default_factory=Coverage)
    record: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    interrupted: str = ""
    """How far the benchmark was when a stop signal ended it; empty if none did."""

    @property
    def tried(self) -> list[Case]:
        """The mutants that were on trial."""
        return [case for case in self.cases if case.trials or case.error]

    @property
    def meets_target(self) -> bool:
        """Whether there are enough convictions, all as declared, and no false alarm."""
        convicted = sum(case.outcome == "convicted" for case in self.cases)
        enough = convicted >= TARGETS[self.world] * len(self.cases)
        fails = any(case.alarms or case.error for case in self.cases)
        return enough and not fails and not self.interrupted

    def text(self) -> str:
        """The table, and a line that sums it up."""
        out = table(HEADINGS, [case.cells() for case in self.tried])
        convicted = sum(case.is_convicted for case in self.cases)
        controls = sum(t.controls for case in self.cases for t in case.trials)
        alarms = [alarm for case in self.cases for alarm in case.alarms]
        out += [
            "",
            f"{convicted} of {len(self.tried)} mutants convicted in the {self.world} "
            f"world; {len(alarms)} false alarms in {controls} runs of the unbroken "
            f"protocols; the target is {outcome_of(self)}",
            *(f"false alarm ({a.verdict}): {a.repro}" for a in alarms),
            *("", self.coverage.text(), ""),
            f"raw figures: {self.path}",
        ]
        return "\n".join(out)


def choose(protocol: str | None) -> list[Case]:
    """The mutants to try: all of them, or those of a protocol.

    Raises:
        UsageError: There is no protocol of that name that has mutants.
    """
    every = mutants.every()
    if protocol is not None and protocol not in every:
        raise UsageError(
            f"no protocol called {protocol!r} has mutants{nearest(protocol, every)} "
            f"(these do: {', '.join(every)})"
        )
    return [
        Case(name, mutant)
        for name, known in every.items()
        for mutant in known
        if protocol in {None, name}
    ]


def measure(
    protocol: str | None,
    *,
    world: str,
    budget_s: float,
    repeat: int,
    jobs: int,
    results: Path,
    show: Callable[[str], None],
    tell: Callable[[str], None],
    engine: Engine = HERE,
) -> Tried:
    """Put the mutants on trial, `jobs` at a time, and store the record.

    A stop signal ends it early; what was measured until then is kept. `show` is called
    with a line for each trial, `tell` after each run with a clause.

    Raises:
        UsageError: There is no such protocol, or `results` can't be written.
    """
    tried = Tried(world, choose(protocol))
    begun, place = now(), make_place(results)

    def note(outcome: Outcome) -> None:
        tried.coverage.add(outcome)

    turns = [
        Turn(
            case,
            functools.partial(
                trial,
                case.protocol,
                case.mutant,
                world,
                1 + turn * SEEDS_APART,
                budget_s,
            ),
            case.trials.append,
        )
        for turn in range(repeat)
        for case in tried.cases
    ]
    tried.interrupted = hold(
        turns,
        discard,
        jobs,
        LIMIT_S[world],
        show=show,
        tell=tell,
        note=note,
        engine=engine,
    )
    tried.record, tried.path = store(
        place,
        f"mutants-{world}",
        begun,
        {
            "world": world,
            "budget_s": budget_s,
            "repeat": repeat,
            "jobs": jobs,
            "cases": [
                {**msgspec.to_builtins(case), "outcome": case.outcome}
                for case in tried.cases
            ],
            "coverage": tried.coverage.as_json(),
            "meets_target": tried.meets_target,
            "interrupted": bool(tried.interrupted),
        },
    )
    return tried
