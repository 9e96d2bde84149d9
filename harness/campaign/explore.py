"""An exploration: runs that a search chooses, until a budget is gone, and what to keep.

In the simulator only outcomes are kept. The first runs that failed in a new way are run
once more, which must give the same and leaves their folders; they are shrunk, and the
smallest experiment is run without each of its faults. In the os world the folder of
each failed run stays, and those of others are removed; the first are shrunk if the
budget has time for that.

    results/explore/raft-register/<utc>-<seed>/
        explore.json   what was asked for and found
        corpus/        the plans that showed something new, the most telling first
        runs/          the folders of failed runs
"""

from __future__ import annotations

import datetime
import math
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from harness.campaign import carrying, replay
from harness.campaign.coverage import Coverage
from harness.campaign.engine import HERE
from harness.campaign.executor import pursue
from harness.campaign.experiment import steps_of
from harness.campaign.exploration import counterfactuals
from harness.campaign.exploration.search import Search, searching
from harness.campaign.exploration.signatures import look
from harness.campaign.exploration.space import Space
from harness.campaign.processes import cpu_jobs
from harness.campaign.shrinking.conclusion import Conclusion, conclude
from harness.campaign.shrinking.recorded import shrink_recorded
from harness.campaign.shrinking.shelf import Shelf, anomaly_of, failing
from harness.errors import HarnessError
from harness.faults import plan as plans
from harness.host import interrupts
from harness.host.documents import making_room, writing
from harness.host.scratch import scratch_folder
from harness.run.asking import ALL_FAULTS
from harness.run.completing import complete
from harness.run.spec import DEFAULTS, TestSpec, usual_nodes
from harness.run.store import RUN_NAME, RunFolder

if TYPE_CHECKING:
    from harness.campaign.engine import Engine
    from harness.campaign.executor import Executor
    from harness.campaign.experiment import Experiment
    from harness.campaign.exploration.counterfactuals import Counterfactual
    from harness.campaign.exploration.search import Failure
    from harness.campaign.outcome import Outcome

VERSION = 1
"""The version of explore.json; it changes as those of `harness.run.records`."""
CLOSER_MAX = 3
"""Failed runs that are simulated again, shrunk, and run without each of the faults."""
SHRINK_S = 60.0
"""Real seconds for making each of them smaller if there is no budget in seconds, and at
most; `shrink RUN` goes on from there."""
SHRINK_LEAST_S = 10.0
"""The same at least, when the budget is all but gone."""
OS_SHRINK_LEAST_S = 30.0
"""Real seconds below which it makes no sense to shrink a failure of real processes."""
OS_SHRINK_FAIR_S = 120.0
"""Real seconds that the first of these gets before the next gets any."""
SEARCH_SHARE = 0.6
"""The part of the budget after which no run begins if there is a failure; the rest is
for making failures smaller."""
CORPUS_MAX = 30
"""Plans that are stored."""
ERRORS_MAX = 5
"""Runs that the harness may fail without one that it did not: then something is wrong
with all of them."""


def carry_out(place: Path, experiment: Experiment) -> Outcome:
    """Carry out an experiment for a search, which looks at it closely.

    In the os world the folders of failures are kept below `place`. In the simulator it
    is cheaper to run them again, so a run ends as soon as it is convicted, and leaves
    nothing there.

    Raises:
        UsageError: The run is impossible.
        HarnessError: The run could not be set up, or recorded.
        KeyboardInterrupt: A simulated run was interrupted.
    """
    if experiment.spec.world == "sim":
        return carrying.discard(place, experiment, look, hasty=True)
    return carrying.keep(place, experiment, look, failures_only=True)


@dataclass
class Kept:
    """A failure as it is told.

    Attributes:
        failure: What was found.
        folder: Its run folder; empty if there is none.
        sentence: What is wrong, in words; empty if there is no folder.
        repeats: Whether a second run of the same experiment failed in the same way;
            None if there was none.
        shrunk: What shrinking came to; None if nobody tried.
        smallest: The smallest experiment that shows it, if somebody tried.
        without: What became of the smallest without one of its faults.
    """

    failure: Failure
    folder: str = ""
    sentence: str = ""
    repeats: bool | None = None
    shrunk: Conclusion | None = None
    smallest: Experiment | None = None
    without: list[Counterfactual] = field(default_factory=list)

    @property
    def command(self) -> str:
        """The command that runs it again."""
        plan = f"{self.folder}/plan.yaml" if self.folder else ""
        experiment = replace(self.failure.outcome.experiment, plan_file=plan)
        return shlex.join(experiment.command())

    def as_json(self) -> dict[str, object]:
        """The failure in explore.json."""
        outcome = self.failure.outcome
        return {
            "fingerprint": msgspec.to_builtins(self.failure.fingerprint),
            "found": outcome.found,
            "sentence": self.sentence,
            "runs": self.failure.runs,
            "cpu_s": round(self.failure.cpu_s, 3),
            "seconds": round(self.failure.seconds, 3),
            "seed": outcome.experiment.spec.seed,
            "steps": len(outcome.experiment.plan or []),
            "repeats": self.repeats,
            "shrunk": None if self.shrunk is None else self.shrunk.as_json(),
            "without": [
                {"step": each.number, "fate": each.fate, **each.step.as_data()}
                for each in self.without
            ],
            "run": self.folder,
            "command": self.command,
        }


@dataclass
class Explored:
    """What came of an exploration.

    Attributes:
        search: The search, with its tally.
        folder: Where it is stored.
        seconds: How long it took.
        kept: Its distinct failures, the first found first.
        coverage: Which faults bit.
        interrupted: Whether somebody ended it early.
    """

    search: Search
    folder: Path
    seconds: float = 0.0
    kept: list[Kept] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    interrupted: bool = False

    @property
    def judged(self) -> int:
        """Runs that have a verdict, which is not "unknown"."""
        tally = self.search.tally
        return tally.runs - tally.unknown - tally.failed

    def as_json(self) -> dict[str, object]:
        """The content of explore.json."""
        search, tally = self.search, self.search.tally
        minutes = max(1e-9, self.seconds / 60)
        return {
            "version": VERSION,
            "system": search.space.spec.system,
            "workload": search.space.spec.workload,
            "mutant": search.space.spec.mutant,
            "world": search.space.spec.world,
            "kinds": list(search.space.kinds),
            "seed": search.seed,
            "interrupted": self.interrupted,
            "runs": tally.runs,
            "invalid": tally.invalid,
            "unknown": tally.unknown,
            "errors": tally.errors,
            "unclear": tally.unclear,
            "seconds": round(self.seconds, 3),
            "cpu_s": round(tally.cpu_s, 3),
            "runs_a_minute": round(tally.runs / minutes, 1),
            "states": len(search.seen),
            "states_a_minute": round(len(search.seen) / minutes, 1),
            "gains": {
                what: {arm: round(rate, 3) for arm, rate in bandit.rates().items()}
                for what, bandit in search.bandits.items()
            },
            "failures": [kept.as_json() for kept in self.kept],
            "coverage": self.coverage.as_json(),
            "folder": str(self.folder),
        }


Show = Callable[[Explored], None]
Tell = Callable[[str], None]


def space_of(
    system: str,
    workload: str,
    mutant: str | None,
    nemesis: list[str],
    world: Literal["os", "sim"],
    nodes: int | None,
    options: Mapping[str, str],
) -> Space:
    """What there is to explore.

    Raises:
        UsageError: It can't be explored; says why.
    """
    spec = TestSpec(
        system=system,
        workload=workload,
        nemesis=nemesis or ([] if mutant else [ALL_FAULTS]),
        nodes=usual_nodes(system) if nodes is None else nodes,
        mutant=mutant,
        world=world,
        options=dict(options),
        time_limit_s=DEFAULTS[world]["time_limit_s"],
    )
    complete(spec)
    return Space(spec, any_size=nodes is None)


class Exploration:
    """Carries an exploration out.

    Args:
        space: What there is to choose from.
        seed: Every choice comes from it.
        results: A folder in it is made for what is kept.
        jobs: Runs side by side. With one job and a budget in runs, the same seed makes
            the same runs in the simulator.
        budget_s: Real seconds after which no run begins; None for no such bound.
            Failures are shrunk within that time, too.
        runs: Runs after which none begins; None for no such bound.
        show: Called after each run.
        tell: Called with a clause while failures are shrunk.
        engine: Where runs are carried out; failures are shrunk on this machine.

    Raises:
        UsageError: `results` can't be written.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        results: Path,
        *,
        jobs: int,
        budget_s: float | None,
        runs: int | None,
        show: Show,
        tell: Tell,
        engine: Engine = HERE,
    ) -> None:
        self.space = space
        self._jobs = jobs
        self._budget_s = budget_s
        self._runs = runs
        self._show = show
        self._tell = tell
        self._engine = engine
        self._begun = 0
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
        name = space.spec.folder_name
        folder = results.absolute() / "explore" / name / f"{now}Z-{seed}"
        with making_room(f"results to {results}"):
            folder.mkdir(parents=True)
        self.explored = Explored(Search(space, seed), folder)
        self._start_s = time.monotonic()

    def run(self) -> Explored:
        """Explore, run failures again, and store what was found.

        An interrupt ends it early, and what was found is kept.

        Raises:
            HarnessError: No run could be made, or something can't be stored.
        """
        explored = self.explored
        self._start_s = time.monotonic()
        with scratch_folder("splitbrain-explore-") as scratch:
            is_simulated = self.space.spec.world == "sim"
            place = scratch if is_simulated else explored.folder / "runs"
            try:
                with self._engine.executor(carry_out, place, self._jobs) as executor:
                    self._search_or_store(executor)
                explored.kept = self._distinct()
                self.store()  # what follows takes a while, and may fail
                closer = self._closer()
                if is_simulated:
                    self._run_again(closer)
                self._shrink(closer)
                if is_simulated:
                    with self._engine.executor(
                        carry_out, place, self._jobs
                    ) as executor:
                        self._leave_out(closer, executor)
            except KeyboardInterrupt:
                explored.interrupted = True
        with interrupts.noted():  # a second signal, too, leaves what was found
            explored.kept = explored.kept or self._distinct()
            if explored.interrupted:
                self._remove_unfinished()
            tally = explored.search.tally
            if tally.runs and tally.failed == tally.runs:
                raise HarnessError(f"no run could be made: {tally.errors[0]}")
            self.store()
        return explored

    def _remove_unfinished(self) -> None:
        """Remove the folders of runs that were under way when they were ended."""
        runs = self.explored.folder / "runs"
        name = self.space.spec.folder_name
        for folder in (runs / RUN_NAME.sub("_", name)).glob("*"):
            if not (folder / "verdict.json").exists():
                shutil.rmtree(folder, ignore_errors=True)
        latest = runs / "latest"
        if latest.is_symlink() and not latest.exists():
            latest.unlink(missing_ok=True)

    def _search_or_store(self, executor: Executor) -> None:
        """Search; if the executor fails, what was found until then is stored."""
        try:
            self._search(executor)
        except HarnessError:
            self.explored.kept = self._distinct()
            self.store()
            raise

    def _search(self, executor: Executor) -> None:
        searches = (
            searching(self.explored.search, self._goes_on, self._note)
            for _ in range(self._jobs)
        )
        try:
            for _ in pursue(executor, searches, self._jobs):
                pass
        finally:
            self.explored.seconds = time.monotonic() - self._start_s

    def _goes_on(self) -> bool:
        tally = self.explored.search.tally
        spent_s = time.monotonic() - self._start_s
        if tally.failed == tally.runs and tally.failed >= ERRORS_MAX:
            return False
        if self._runs is not None and self._begun >= self._runs:
            return False
        if self._budget_s is not None:
            left_s = self._budget_s * self._share() - spent_s
            # One that would take the time for making failures smaller is not begun.
            run_s = spent_s * self._jobs / tally.runs if tally.failures else 0.0
            if left_s <= run_s:
                return False
        self._begun += 1
        return True

    def _share(self) -> float:
        """The part of the budget that is for the search itself."""
        assert self._budget_s is not None
        if not self.explored.search.tally.failures:
            return 1.0
        left_s = self._budget_s * (1 - SEARCH_SHARE)
        is_enough = self.space.spec.world == "sim" or left_s >= OS_SHRINK_LEAST_S
        return SEARCH_SHARE if is_enough else 1.0

    def _shrink_s(self, others: int) -> float:
        """Real seconds for making a failure smaller while `others` wait; maybe none."""
        left_s = math.inf
        if self._budget_s is not None:
            left_s = self._budget_s - (time.monotonic() - self._start_s)
        if self.space.spec.world == "sim":
            return min(SHRINK_S, max(SHRINK_LEAST_S, left_s / (others + 1)))
        if math.isinf(left_s) or left_s < OS_SHRINK_LEAST_S:
            return 0.0
        return min(left_s, max(OS_SHRINK_FAIR_S, left_s / (others + 1)))

    def _note(self, outcome: Outcome, _: int) -> None:
        explored = self.explored
        explored.coverage.add(outcome)
        explored.seconds = time.monotonic() - self._start_s
        self._show(explored)

    def _distinct(self) -> list[Kept]:
        """The distinct failures; those of real runs have their folders already."""
        out = []
        for failure in self.explored.search.tally.failures:
            kept = Kept(failure, failure.outcome.folder)
            if kept.folder:
                kept.sentence = sentence(kept)
            out.append(kept)
        return out

    def _closer(self) -> list[list[Kept]]:
        """The failures that are looked at closer, by the run that showed them first."""
        of_run: dict[int, list[Kept]] = {}
        for kept in self.explored.kept:
            of_run.setdefault(kept.failure.runs, []).append(kept)
        return list(of_run.values())[:CLOSER_MAX]

    def _run_again(self, closer: list[list[Kept]]) -> None:
        """Simulate failed runs again, and keep them."""
        for together in closer:
            again = carrying.keep(
                self.explored.folder / "runs", together[0].failure.outcome.experiment
            )
            for kept in together:
                kept.folder = again.folder
                kept.failure = as_again(kept.failure, again)
                kept.repeats = kept.failure.fingerprint in again.fingerprints
                kept.sentence = sentence(kept)

    def _shrink(self, closer: list[list[Kept]]) -> None:
        """Shrink each run that may fail again; what `shrink RUN` keeps is kept."""
        for place, together in enumerate(closer):
            first = together[0]
            budget_s = self._shrink_s(len(closer) - place - 1)
            if first.repeats is False or not budget_s:
                continue
            until_s = time.monotonic() + budget_s
            folder = RunFolder(Path(first.folder))
            recorded = replay.with_events(failing(folder))
            shelf = Shelf(folder)
            try:
                shrunk = shrink_recorded(
                    recorded,
                    frozenset({first.failure.fingerprint}),
                    shelf,
                    budget_s=max(budget_s / 2, until_s - time.monotonic()),
                    jobs=self._jobs if self._engine is HERE else cpu_jobs(),
                    tell=self._tell,
                )
                first.shrunk = conclude(shrunk, recorded.outcome, shelf, self._tell)
            finally:
                shelf.close()
            first.smallest = shrunk.best
            if shrunk.ended == "interrupted":
                raise KeyboardInterrupt

    def _leave_out(self, closer: list[list[Kept]], executor: Executor) -> None:
        """Run the smallest experiments without each of their faults."""
        some = [together[0] for together in closer if together[0].smallest]
        pursuits = (
            counterfactuals.without_each(kept.smallest)
            for kept in some
            if kept.smallest is not None
        )
        for place, outcomes in pursue(executor, pursuits, self._jobs):
            kept = some[place]
            assert kept.smallest is not None
            kept.without = counterfactuals.told_of(
                kept.failure.fingerprint, kept.smallest, outcomes
            )

    def store(self) -> None:
        """Write explore.json and the corpus.

        Raises:
            HarnessError: They can't be written.
        """
        explored = self.explored
        corpus = RunFolder(explored.folder / "corpus")
        best = sorted(explored.search.corpus.entries, key=lambda entry: -entry.worth)
        with writing(corpus.path):
            corpus.path.mkdir(exist_ok=True)
        for number, entry in enumerate(best[:CORPUS_MAX], start=1):
            path = corpus.path / f"{number:02}.yaml"
            experiment = replace(entry.experiment, plan_file=str(path))
            told = f"# {shlex.join(experiment.command())}\n"
            corpus.write_text(path.name, told + plans.dump(steps_of(experiment)))
        RunFolder(explored.folder).write_json("explore.json", explored.as_json())


def as_again(failure: Failure, again: Outcome) -> Failure:
    """The failure as the whole run shows it, of which the search saw the beginning.

    A checker may have a better name for an anomaly when it has seen what followed.
    """
    mark = failure.fingerprint
    if mark in again.fingerprints:
        return failure
    of_checker = [m for m in sorted(again.fingerprints) if m.checker == mark.checker]
    return replace(failure, fingerprint=of_checker[0]) if of_checker else failure


def sentence(kept: Kept) -> str:
    """What is wrong with a kept run, as its checker tells it; empty if it doesn't."""
    mark = frozenset({kept.failure.fingerprint})
    found = anomaly_of(RunFolder(Path(kept.folder)), mark)
    return "" if found is None else found.explanation
