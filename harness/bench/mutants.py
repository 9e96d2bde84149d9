"""How many seeded bugs the harness finds, how soon, and how often it cries wolf.

Every mutant (`reference_impls.mutants`) is on trial: run after run, each from the next
seed, until a checker convicts it or the budget is gone. The first two thirds of the
budget go to what the mutant declares to expose it, the rest to all faults at once. Then
the protocol as it should be stands the same runs: any of them that isn't valid is a
false alarm. A mutant is given no help beside its declaration: no plan written for it,
no seed known to work. It also declares which anomalies it should show; a conviction by
none of these is no proof that the harness saw what is wrong, and misses the target.

A trial is a process of its own on one core, and its seconds are of processor time in
the simulator, of real time in the os world, where waiting is what costs.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec

from harness import analysis, mutants, run
from harness.bench import children
from harness.collector import collector_paused
from harness.errors import UsageError
from harness.registry import nearest
from harness.scratch import scratch_folder
from harness.sim import batch
from harness.spec import ALL_FAULTS, DEFAULTS, TestSpec, complete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

DECLARED_SHARE = 2 / 3
"""Of the budget, for the set-up that a mutant declares."""
OS_RUN_S = 12.0
"""Length of a run in the os world: several must fit into the budget."""
CONTROLS_MIN = {"os": 1, "sim": 10}
"""Runs that the unbroken protocol has to stand for each mutant, at least."""
SEEDS_APART = 100_000
"""Between two repetitions, so that none sees the seeds of another."""
GRACE_S = 240.0
"""For a trial beyond its budget: its controls, and the run that exceeds it."""
PATIENCE = {"os": 4.0, "sim": 30.0}
"""Real seconds that a trial may take, for each of its budget. In the simulator a trial
counts its own processor time, of which a busy machine gives it little at a time."""
TARGETS = {"os": 0.8, "sim": 1.0}
"""The share of mutants that must be convicted."""


# --- one trial, in a process of its own ----------------------------------------------


def trial(
    protocol: str, mutant: str, world: str, seed: int, budget_s: float
) -> dict[str, Any]:
    """One mutant on trial, from `seed` on; then its protocol, on the same seeds."""
    with scratch_folder("splitbrain-mutants-") as scratch:
        declared, everything = set_ups(protocol, mutant, world)
        found = pursue(declared, seed, budget_s * DECLARED_SHARE, scratch)
        if found["convicted"]:
            found["set_up"] = "declared"
            controls, used = declared, found["runs"]
        else:
            rest_s = budget_s - found["seconds"]
            second = pursue(everything, seed, rest_s, scratch)
            used = second["runs"]
            second["runs"] += found["runs"]
            second["seconds"] += found["seconds"]
            found, controls = {**second, "set_up": ALL_FAULTS}, everything
        alarms = false_alarms(
            msgspec.structs.replace(controls, mutant=None),
            range(seed, seed + max(used, CONTROLS_MIN[world])),
            # What was not convicted needs no more controls than time allows.
            budget_s,
            scratch,
        )
    return {**found, **alarms}


def set_ups(protocol: str, mutant: str, world: str) -> tuple[TestSpec, TestSpec]:
    """What the mutant declares, and the same under every fault that can be had."""

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
            **limits,
        )
        complete(made)
        return made

    return spec([]), spec([ALL_FAULTS])


def pursue(spec: TestSpec, seed: int, budget_s: float, scratch: Path) -> dict[str, Any]:
    """Run from `seed` on until a run is invalid or the budget is gone."""
    begun_s = clock(spec.world)
    runs, results = 0, one_by_one(spec, seed, scratch)
    while (spent_s := clock(spec.world) - begun_s) < budget_s:
        result = next(results)
        runs += 1
        if result.verdict == "invalid":
            return {
                "convicted": True,
                "anomalies": list(result.anomalies),
                "runs": runs,
                "seconds": round(clock(spec.world) - begun_s, 2),
                "seed": result.seed,
                "repro": result.repro,
            }
    return {"convicted": False, "anomalies": [], "runs": runs, "seconds": spent_s}


def false_alarms(
    spec: TestSpec, seeds: range, budget_s: float, scratch: Path
) -> dict[str, Any]:
    """Runs of the unbroken protocol, and which of them were convicted all the same."""
    begun_s = clock(spec.world)
    controls, alarms = 0, []
    for result in one_by_one(spec, seeds.start, scratch):
        controls += 1
        if result.verdict != "valid":
            alarms.append({"verdict": result.verdict, "repro": result.repro})
        if controls >= len(seeds) or clock(spec.world) - begun_s >= budget_s:
            break
    return {"controls": controls, "alarms": alarms}


def one_by_one(spec: TestSpec, seed: int, scratch: Path) -> Iterator[batch.SeedResult]:
    """Runs from `seed` on, without end."""
    while True:
        seeded = batch.with_seed(spec, seed)
        if spec.world == "sim":
            with collector_paused():
                yield batch.run_seed(seeded, scratch)
        else:
            yield run_for_real(seeded, scratch)
        seed += 1


def run_for_real(spec: TestSpec, scratch: Path) -> batch.SeedResult:
    """One run in the os world, judged."""
    begun_s = time.monotonic()
    folder = run.run(spec, scratch)
    outcome = analysis.analyse(folder)
    return batch.SeedResult(
        seed=spec.seed,
        verdict=batch.verdict_of(outcome),
        anomalies=batch.anomalies_of(outcome),
        reason=batch.reason_of(outcome),
        ops=outcome["ops"],
        seconds=round(time.monotonic() - begun_s, 3),
        repro=str(outcome["repro"]),
    )


def clock(world: str) -> float:
    """Seconds of what a trial costs in that world."""
    return time.process_time() if world == "sim" else time.monotonic()


# --- all trials, and the table ----------------------------------------------------


@dataclass
class Case:
    """A mutant, and what came of its trials, one for each repetition."""

    protocol: str
    mutant: str
    trials: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    @property
    def convictions(self) -> list[dict[str, Any]]:
        """The trials that ended in one."""
        return [trial for trial in self.trials if trial["convicted"]]

    @property
    def is_convicted(self) -> bool:
        """Convicted in most trials: luck is no proof of power."""
        return len(self.convictions) * 2 > len(self.trials)

    @property
    def is_as_declared(self) -> bool:
        """Each conviction is for what the mutant should show."""
        declared = set(mutants.find(self.protocol, self.mutant).anomalies)
        return all(declared & set(trial["anomalies"]) for trial in self.convictions)

    @property
    def outcome(self) -> str:
        """In a word."""
        if not self.is_convicted:
            return "ESCAPED"
        return "convicted" if self.is_as_declared else "UNEXPECTED"

    @property
    def alarms(self) -> list[dict[str, Any]]:
        """False alarms on the unbroken protocol."""
        return [alarm for trial in self.trials for alarm in trial["alarms"]]

    def cells(self) -> tuple[str, ...]:
        """The case's row of the table."""
        if self.error:
            return (self.protocol, self.mutant, "ERROR", self.error, "", "", "", "")
        found = self.convictions or self.trials
        anomalies = sorted({name for trial in found for name in trial["anomalies"]})
        controls = sum(trial["controls"] for trial in self.trials)
        return (
            self.protocol,
            self.mutant,
            self.outcome,
            ", ".join(anomalies),
            ", ".join(sorted({trial["set_up"] for trial in found})),
            f"{median(trial['runs'] for trial in found):g}",
            f"{median(trial['seconds'] for trial in found):.1f}",
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
class Outcome:
    """What a benchmark of mutants came to."""

    world: str
    cases: list[Case]
    record: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def meets_target(self) -> bool:
        """Enough convictions, for the right reasons, and not one false alarm."""
        convicted = sum(case.outcome == "convicted" for case in self.cases)
        enough = convicted >= TARGETS[self.world] * len(self.cases)
        return enough and not any(case.alarms or case.error for case in self.cases)

    def text(self) -> str:
        """The table, and a line about all of it."""
        lines = [HEADINGS, *(case.cells() for case in self.cases)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
        out = [
            "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        out.insert(1, "  ".join("-" * width for width in widths))
        convicted = sum(case.is_convicted for case in self.cases)
        controls = sum(t["controls"] for case in self.cases for t in case.trials)
        alarms = [alarm for case in self.cases for alarm in case.alarms]
        out += [
            "",
            f"{convicted} of {len(self.cases)} mutants convicted in the {self.world} "
            f"world; {len(alarms)} false alarms in {controls} runs of the unbroken "
            f"protocols; the target is {'met' if self.meets_target else 'MISSED'}",
            *(f"false alarm ({a['verdict']}): {a['repro']}" for a in alarms),
            f"raw figures: {self.path}",
        ]
        return "\n".join(out)


def choose(protocol: str | None) -> list[Case]:
    """The mutants to try: all of them, or those of a protocol.

    Raises:
        UsageError: No protocol that has mutants is called that.
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
) -> Outcome:
    """Put the mutants on trial, `jobs` at a time, and store what was found.

    Raises:
        UsageError: There is no such protocol, or `results` can't be written.
    """
    from harness.bench.bench import machine

    cases = choose(protocol)
    begun = datetime.datetime.now(datetime.UTC)
    place = results.absolute() / "bench"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(
            f"cannot write to {place}: {problem.strerror}; "
            "choose another place with --results DIR"
        ) from None
    try_all(cases, world, budget_s, repeat, jobs, show)
    outcome = Outcome(world, cases)
    outcome.record = {
        "command": ["splitbrain", *sys.argv[1:]],
        "commit": run.commit(),
        "started_utc": begun.isoformat(),
        "world": world,
        "budget_s": budget_s,
        "repeat": repeat,
        "jobs": jobs,
        "machine": machine(place),
        "cases": [{**asdict(case), "outcome": case.outcome} for case in cases],
        "meets_target": outcome.meets_target,
    }
    outcome.path = place / f"mutants-{world}-{begun.strftime('%Y%m%dT%H%M%SZ')}.json"
    text = json.dumps(outcome.record, indent=2) + "\n"
    outcome.path.write_text(text, encoding="utf-8")
    return outcome


def try_all(
    cases: Sequence[Case],
    world: str,
    budget_s: float,
    repeat: int,
    jobs: int,
    show: Callable[[str], None],
) -> None:
    """Carry out every trial, and note in each case what came of it."""

    def one(case: Case, turn: int) -> None:
        try:
            case.trials.append(try_apart(case, world, budget_s, turn))
        except children.BenchError as problem:
            case.error = str(problem)
        show(" ".join(cell for cell in case.cells() if cell))

    with concurrent.futures.ThreadPoolExecutor(max_workers=jobs) as pool:
        futures = [
            pool.submit(one, case, turn) for turn in range(repeat) for case in cases
        ]
        try:
            for future in futures:
                future.result()
        except BaseException:  # an interrupt, too, ends what was not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def try_apart(case: Case, world: str, budget_s: float, turn: int) -> dict[str, Any]:
    """One trial in a process of its own.

    Raises:
        BenchError: It failed, or took far longer than its budget.
    """
    arguments = {
        "protocol": case.protocol,
        "mutant": case.mutant,
        "world": world,
        "seed": 1 + turn * SEEDS_APART,
        "budget_s": budget_s,
    }
    command = [sys.executable, "-P", "-m", "harness.bench.tasks", "mutant_trial"]
    status, out, err = children.run(
        [*command, json.dumps(arguments)],
        limit_s=PATIENCE[world] * budget_s + GRACE_S,
    )
    if status:
        raise children.BenchError(children.last_line(err))
    found: dict[str, Any] = children.answer_in("mutant_trial", out)
    return found
