"""Measures how small failures become: every mutant's, shrunk in the simulator.

Each mutant is convicted first, as in `bench mutants`, under the workload and the faults
that it declares. The failed run is recorded and shrunk as `splitbrain shrink` does it,
within a budget of real time. What this comes to is held against the smallest experiment
known for the mutant: the target is met if it has at most twice the faults and twice the
operations.

`smallest.yaml` holds the smallest experiments known, whoever found them: searches of
longer runs, of other seeds, or a person with a pencil. A search knows nothing of them.
`python -m harness.bench.shrink RECORD...` keeps those of some records of this
benchmark there that are smaller.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from harness.bench.mutants import choose, hunt, set_ups
from harness.bench.trials import SEEDS_APART, make_place, now, store, table
from harness.campaign import replay
from harness.campaign.carrying import discard, keep
from harness.campaign.executor import pursue
from harness.campaign.experiment import Experiment
from harness.campaign.processes import Processes
from harness.campaign.shrinking.recorded import shrink_recorded
from harness.campaign.shrinking.search import LIMIT_S
from harness.campaign.shrinking.shelf import Shelf, failing
from harness.campaign.shrinking.size import UNBOUNDED, size
from harness.errors import HarnessError, SplitbrainError
from harness.host import documents
from harness.host.scratch import scratch_folder
from harness.run.spec import PlanData, TestSpec
from harness.run.store import RunFolder
from harness.systems import mutants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.campaign.shrinking.size import Size

SMALLEST = Path(__file__).with_name("smallest.yaml")
HUNT_S = 60.0
"""Processor seconds in which a mutant has to be convicted first."""
BUDGET_S = 300.0
"""Real seconds for shrinking a failure; most need ten."""
QUICK_EVERY = 6
"""A quick measurement takes every so many-th mutant."""
FACTOR = 2
"""A result may be so many times as large as the smallest known."""


class Kept(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An experiment as smallest.yaml has it: what differs from the defaults."""

    spec: dict[str, Any]
    plan: PlanData = []

    @classmethod
    def of(cls, experiment: Experiment) -> Kept:
        """The entry of an experiment with a written plan."""
        spec = msgspec.to_builtins(experiment.spec)
        plain = msgspec.to_builtins(TestSpec(system=experiment.spec.system))
        told = {k: v for k, v in spec.items() if k == "system" or v != plain[k]}
        return cls(spec=told, plan=list(experiment.plan or []))

    def experiment(self) -> Experiment:
        """The experiment of an entry."""
        return Experiment(msgspec.convert(self.spec, TestSpec), list(self.plan))


Known = dict[str, dict[str, Kept]]
"""Protocol -> mutant -> the smallest experiment known that convicts it."""


def read_known() -> Known:
    """The content of smallest.yaml.

    Raises:
        UsageError: The file is damaged.
    """
    return msgspec.convert(documents.read_yaml(SMALLEST), Known)


@dataclass(frozen=True)
class Result:
    """What shrinking one failure came to.

    Attributes:
        best: The smallest experiment.
        ended: How the search ended: "complete" or "budget".
        seconds, cpu_s: Real time and processor time of the search.
        runs: How many runs it made.
    """

    best: Experiment
    ended: str
    seconds: float
    cpu_s: float
    runs: int

    @property
    def size(self) -> Size:
        """The size of the smallest experiment."""
        return size(self.best)

    def is_within(self, known: Size) -> bool:
        """Whether it is at most `FACTOR` times as large as the smallest known."""
        found = self.size
        return found.steps <= FACTOR * known.steps and found.ops <= FACTOR * known.ops

    def as_json(self) -> dict[str, Any]:
        """The result in the record."""
        found = self.size
        return {
            "steps": found.steps,
            "operations": found.ops,
            "nodes": found.nodes,
            "clients": found.clients,
            "ended": self.ended,
            "seconds": round(self.seconds, 1),
            "cpu_s": round(self.cpu_s, 1),
            "runs": self.runs,
            "experiment": msgspec.to_builtins(Kept.of(self.best)),
        }


@dataclass
class Case:
    """A mutant, and what shrinking its failures came to, one for each repetition.

    Attributes:
        known: The size of the smallest experiment known; None if there is none.
    """

    protocol: str
    mutant: str
    known: Size | None
    results: list[Result] = field(default_factory=list)
    error: str = ""

    @property
    def worst(self) -> Result | None:
        """The largest result."""
        return max(self.results, key=lambda result: result.size, default=None)

    @property
    def verdict(self) -> str:
        """In a word, how the largest result is beside the smallest known."""
        worst = self.worst
        if self.error or worst is None:
            return "ERROR"
        if self.known is None:
            return "new"
        if not worst.is_within(self.known):
            return "LARGER"
        return "smaller" if worst.size < self.known else "within"

    def cells(self) -> tuple[str, ...]:
        """The case's row of the table."""
        worst = self.worst
        if self.error or worst is None:
            return (self.protocol, self.mutant, "ERROR", self.error, *[""] * 6)
        found, known = worst.size, self.known or worst.size
        return (
            self.protocol,
            self.mutant,
            self.verdict,
            beside(found.steps, known.steps),
            beside(found.ops, known.ops),
            beside(found.nodes, known.nodes),
            beside(found.clients, known.clients),
            f"{worst.seconds:.1f}",
            str(worst.runs),
            worst.ended,
        )


HEADINGS = (
    "protocol",
    "mutant",
    "",
    "steps",
    "operations",
    "nodes",
    "clients",
    "s",
    "runs",
    "",
)


def beside(found: int, known: int) -> str:
    """A number, with the one of the smallest known if that differs."""
    told = ["unlimited" if n >= UNBOUNDED else f"{n:,}" for n in (found, known)]
    return told[0] if found == known else f"{told[0]} ({told[1]})"


@dataclass
class Shrunk:
    """The outcome of the benchmark."""

    cases: list[Case]
    record: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def larger(self) -> list[Case]:
        """Mutants whose failure stays too large, or couldn't be shrunk."""
        return [case for case in self.cases if case.verdict in {"LARGER", "ERROR"}]

    @property
    def meets_target(self) -> bool:
        """Whether every failure becomes small enough."""
        return not self.larger

    def text(self) -> str:
        """The table, and lines that sum it up."""
        within = len(self.cases) - len(self.larger)
        names = ", ".join(f"{case.protocol}/{case.mutant}" for case in self.larger)
        return "\n".join(
            [
                *table(HEADINGS, [case.cells() for case in self.cases]),
                "",
                "in brackets: the smallest known, where it differs",
                f"{within} of {len(self.cases)} mutants' failures have at most "
                f"{FACTOR} times the faults and operations of the smallest known; "
                f"the target is {'met' if self.meets_target else 'MISSED'}",
                f"larger: {names or 'none'}",
                f"raw figures: {self.path}",
            ]
        )


def measure(
    protocol: str | None,
    *,
    budget_s: float | None,
    repeat: int,
    quick: bool,
    jobs: int,
    results: Path,
    show: Callable[[str], None],
) -> Shrunk:
    """Convict every mutant, shrink its failure, and store the record.

    Args:
        protocol: Those of this protocol alone; None for all.
        budget_s: Real seconds for shrinking each failure; None for `BUDGET_S`.
        repeat: Failures of each mutant, from other seeds.
        quick: Take a few mutants only.
        jobs: Runs side by side.
        results: Gets the record.
        show: Hears what was found.

    Raises:
        UsageError: There is no such protocol, or `results` can't be written.
    """
    budget_s = budget_s or BUDGET_S
    known = read_known()
    cases = [
        Case(
            each.protocol,
            each.mutant,
            None if smallest is None else size(smallest.experiment()),
        )
        for each in choose(protocol)[:: QUICK_EVERY if quick else 1]
        for smallest in [known.get(each.protocol, {}).get(each.mutant)]
    ]
    begun, place = now(), make_place(results)
    with scratch_folder("splitbrain-bench-shrink-") as scratch:
        for case in cases:
            for turn in range(repeat):
                try:
                    seed = 1 + turn * SEEDS_APART
                    case.results.append(shrink_one(case, seed, budget_s, jobs, scratch))
                except SplitbrainError as failure:
                    case.error = str(failure)
            show(" ".join(cell for cell in case.cells() if cell))
    shrunk = Shrunk(cases)
    shrunk.record, shrunk.path = store(
        place,
        "shrink",
        begun,
        {
            "budget_s": budget_s,
            "repeat": repeat,
            "jobs": jobs,
            "cases": [
                {
                    "protocol": case.protocol,
                    "mutant": case.mutant,
                    "outcome": case.verdict,
                    "error": case.error,
                    "results": [result.as_json() for result in case.results],
                }
                for case in cases
            ],
            "meets_target": shrunk.meets_target,
        },
    )
    return shrunk


def shrink_one(
    case: Case, seed: int, budget_s: float, jobs: int, scratch: Path
) -> Result:
    """Convict a mutant, from `seed` on, and shrink the failure.

    Raises:
        HarnessError: It wasn't convicted, or a run failed.
        KeyboardInterrupt: A stop signal came.
    """
    recorded = replay.with_events(failing(convicted(case, seed, jobs, scratch)))
    declared = set(mutants.find(case.protocol, case.mutant).anomalies)
    wanted = frozenset(
        mark for mark in recorded.outcome.fingerprints if mark.anomaly in declared
    )
    if not wanted:
        found = ", ".join(recorded.outcome.anomalies)
        raise HarnessError(f"convicted by nothing that it declares: {found}")
    shelf = Shelf(recorded.folder)
    begun_s = time.monotonic()
    try:
        shrunk = shrink_recorded(recorded, wanted, shelf, budget_s=budget_s, jobs=jobs)
    finally:
        shelf.close()
    if shrunk.ended == "interrupted":
        raise KeyboardInterrupt
    if shrunk.ended == "not reproduced":
        raise HarnessError(f"seed {recorded.test.spec.seed}: not reproduced")
    seconds = time.monotonic() - begun_s
    best = shrunk.best
    return Result(best, shrunk.ended, seconds, shrunk.cpu_s, shrunk.runs)


def convicted(case: Case, seed: int, jobs: int, scratch: Path) -> RunFolder:
    """The folder of the first run, from `seed` on, that convicts a mutant.

    Raises:
        HarnessError: There was none in time, or a run failed.
    """
    spec, _ = set_ups(case.protocol, case.mutant, "sim")
    carries, limit_s = functools.partial(discard, scratch), LIMIT_S["sim"]
    with Processes(carries, 1, limit_s=limit_s) as executor:
        [(_, found)] = pursue(executor, [hunt(spec, seed, HUNT_S)], 1)
    if found.convicted is None:
        raise HarnessError(f"not convicted in {found.runs} runs")
    failed = replace(found.convicted.experiment, plan_file="")
    return RunFolder(Path(keep(scratch, failed).folder))


# --- the smallest experiments known ------------------------------------------------


def merge(known: Known, record: Mapping[str, Any]) -> int:
    """Keep what a record of this benchmark has that is smaller; how many were.

    Raises:
        msgspec.ValidationError: The record is none of ours.
    """
    count = 0
    for case in record["cases"]:
        for result in case["results"]:
            found = msgspec.convert(result["experiment"], Kept)
            of_protocol = known.setdefault(case["protocol"], {})
            before = of_protocol.get(case["mutant"])
            measured = size(found.experiment())
            if before is None or measured < size(before.experiment()):
                of_protocol[case["mutant"]] = found
                count += 1
    return count


HEADER = """\
# The smallest experiment known that convicts each mutant in the simulator: what its
# spec has beside the defaults, and its plan. harness/bench/shrink.py reads it.
"""


def main(files: Sequence[str]) -> None:
    """Keep what is smaller in some records."""
    known = read_known()
    for file in files:
        merge(known, json.loads(Path(file).read_text("utf-8")))
    data = {
        protocol: {mutant: msgspec.to_builtins(kept) for mutant, kept in of.items()}
        for protocol, of in known.items()
    }
    text = yaml.safe_dump(data, sort_keys=False, width=88, default_flow_style=None)
    SMALLEST.write_text(HEADER + text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
