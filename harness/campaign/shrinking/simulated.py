"""The search in the simulator, where a run repeats to the byte.

One run decides: there is no chance that a candidate fails otherwise, and none that the
one adopted last fails no more. But a change of the plan shifts all that is drawn after
it, the times of messages and of clients. So the seed that failed before may not fail
now, though the changed plan can cause the failure as well as the old one. Each
candidate is tried with a few other seeds, and the seed that shows the failure is
adopted with it. Hypothesis' shrinker, which takes one history for one choice sequence,
would drop such candidates.

Most candidates that can fail do so under one of a few seeds, and these come first. When
no change is left that fails under so many, more seeds are tried, until the depths end.
Candidates that depend on luck are so tried when the runs have become short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.campaign.shrinking.changes import (
    COARSE_WAYS,
    SIM_WAYS,
    Change,
    fewer_steps,
    sooner_over,
)
from harness.campaign.shrinking.lab import Lab, name_of, smaller_ones, told
from harness.campaign.shrinking.leaps import leaps
from harness.report.rates import Rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.campaign.experiment import Experiment
    from harness.campaign.shrinking.changes import Way

DEPTHS = (1, 4, 16)
"""How many seeds each candidate is tried with."""
FINE_DEPTH = 4
"""Up to how many seeds durations and roundings are tried with, too."""
ROBUST = (4, 10)
"""So many of so many seeds, the first one included, show a failure that real processes
will show, too."""
ROBUST_SEEDS = range(1000, 1000 + ROBUST[1])
PROPOSED_SEEDS = 2
"""How many seeds a scene of the run is tried with."""
LEAPS = {0: 10, 1: 90, 2: 100, 3: 140}
"""Faults of small experiments drawn at random -> how many are tried."""
SINGLE = 1
"""Up to so many faults of them are drawn from the whole plan."""
CUTTING_WAYS = (sooner_over, fewer_steps)
CUTS_MAX = 6
"""How often each of these ways cuts a long plan before more faults are drawn."""


class Simulated:
    """A search in the simulator.

    Args:
        best: The experiment to begin with; it fails, and has a written plan.
        lab: Makes the runs.
        before: Names of experiments that an earlier search has tried -> with how many
            seeds.
        robust: Adopt only what fails under several of a few seeds (`ROBUST`), as real
            processes bring conditions that no seed has chosen.

    Attributes:
        best: The smallest experiment known that fails.
        history: All that were the best, the first one first.
    """

    def __init__(
        self,
        best: Experiment,
        lab: Lab,
        before: dict[str, int] | None = None,
        *,
        robust: bool = False,
    ) -> None:
        self.best = best
        self.history = [best]
        self._lab = lab
        self._robust = robust
        self._before = dict(before or {})
        self._done: set[tuple[str, int]] = set()

    def propose(self, proposals: Iterable[Change]) -> bool:
        """Try some experiments, each with a few seeds; whether one fails.

        Raises:
            BudgetSpentError: There is no time left; `best` stands.
        """
        own = self.best.spec.seed
        smaller = smaller_ones(iter(proposals), self.best)
        asked = (
            (change, change.experiment.with_seed(seed))
            for change, _ in smaller
            for seed in dict.fromkeys([own, *range(PROPOSED_SEEDS - 1)])
        )
        self._lab.notes.progress("scenes of the run")
        return self._adopt_first(asked)

    def approach(self) -> None:
        """Come from a long plan to a small experiment, if there is a short way.

        Most failures need a fault or none. Where they need more, draws from a long plan
        seldom bring the right ones together. So the plan is cut before that.

        Raises:
            BudgetSpentError: There is no time left; `best` stands.
        """
        if self.leap(range(SINGLE + 1)):
            return
        for way in CUTTING_WAYS:
            for _ in range(CUTS_MAX):
                if not self._step(way, 1):
                    break
        self.leap(range(SINGLE + 1, len(LEAPS)))

    def leap(self, faults: Sequence[int] = tuple(LEAPS)) -> bool:
        """Try small experiments drawn at random; whether one fails.

        Args:
            faults: How many faults they have, one number after the other.

        Raises:
            BudgetSpentError: There is no time left; `best` stands.
        """
        first = self.best
        for number in faults:
            self._lab.notes.progress(f"small experiments of {number} faults")
            if self._adopt_first(self._once(leaps(first, number, LEAPS[number]))):
                return True
        return False

    def _once(self, changes: Iterator[Change]) -> Iterator[tuple[Change, Experiment]]:
        """Each change with its own seed."""
        for change, _ in smaller_ones(changes, self.best):
            yield change, change.experiment

    def search(self, depths: Sequence[int] = DEPTHS) -> None:
        """Make `best` smaller until no change is left that fails.

        Raises:
            BudgetSpentError: There is no time left; `best` stands.
        """
        for seeds in depths:
            ways = SIM_WAYS if seeds <= FINE_DEPTH else COARSE_WAYS
            going = True
            while going:
                going = False
                for way in ways:
                    while self._step(way, seeds):
                        going = True

    def _step(self, way: Way, seeds: int) -> bool:
        """Adopt the first change of a way that fails; whether there is one."""
        self._lab.notes.progress(
            f"{way.__name__.replace('_', ' ')}, {seeds} seeds each"
        )
        return self._adopt_first(self._asked(way, seeds))

    def _adopt_first(self, asked: Iterator[tuple[Change, Experiment]]) -> bool:
        """Adopt the first of some experiments that fails; whether one does."""
        runs, last = 0, None
        for change, experiment, outcome in self._lab.first_hit(asked):
            if last is not None and change is not last:
                self._note(last, runs, hit=False)
                runs = 0
            runs, last = runs + 1, change
            self._done.add((name_of(experiment), experiment.spec.seed))
            if self._lab.shows(outcome) and self._is_robust(experiment):
                self._note(change, runs, hit=True)
                self.best = experiment
                self.history.append(experiment)
                self._lab.notes.adopted(experiment)
                return True
        if last is not None:
            self._note(last, runs, hit=False)
        return False

    def _is_robust(self, experiment: Experiment) -> bool:
        """Whether what failed once fails under other seeds, if it has to."""
        if not self._robust:
            return True
        hits, seeds = ROBUST
        hits -= 1
        for left, seed in zip(range(seeds - 1, 0, -1), ROBUST_SEEDS, strict=False):
            if not 0 < hits <= left:
                break
            hits -= self._lab.shows(self._lab.run(experiment.with_seed(seed)))
        return hits <= 0

    def _asked(self, way: Way, seeds: int) -> Iterator[tuple[Change, Experiment]]:
        own = self.best.spec.seed
        for change, _ in smaller_ones(way(self.best), self.best):
            name = name_of(change.experiment)
            if self._before.get(name, 0) >= seeds:
                continue
            for seed in dict.fromkeys([own, *range(seeds - 1)]):
                if (name, seed) not in self._done:
                    yield change, change.experiment.with_seed(seed)

    def _note(self, change: Change, runs: int, *, hit: bool) -> None:
        self._lab.notes.tried(told(change, Rate(int(hit), runs), accepted=hit))
