"""The laboratory of a search: makes runs, sees which show the failure, minds the time.

An outcome shows the failure if it has one of its fingerprints: a promise broken in the
same way, of the same system under the same workload. What else runs show is kept: the
first experiment of each other fingerprint.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from harness.campaign.shrinking.changes import Change
from harness.campaign.shrinking.size import Size, size
from harness.errors import HarnessError, SplitbrainError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.campaign.executor import Executor
    from harness.campaign.experiment import Experiment
    from harness.campaign.outcome import Fingerprint, Outcome
    from harness.report.rates import Rate


class BudgetSpentError(SplitbrainError):
    """The time for the search is over; what it has found stands."""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate that was tried, as a line of tried.jsonl.

    Attributes:
        id: Names the experiment, but for its seed.
        changed: What was changed, in a clause.
        world: Where it was run.
        size: Its size (`harness.campaign.shrinking.size`).
        runs: How often it was run this time; in the simulator each with another seed.
        hits: How many of these showed the failure.
        accepted: Whether it was adopted.
        refused: Why it can't be run; empty if it can.
        seconds: Real seconds that its runs took this time.
    """

    id: str
    changed: str
    world: str
    size: dict[str, int]
    runs: int
    hits: int
    accepted: bool
    refused: str = ""
    seconds: float = 0.0


@dataclass
class Notes:
    """Callbacks, by which a search tells how it goes.

    Attributes:
        tried: Called with each candidate, once it is decided.
        adopted: Called with each experiment that takes the place of a larger one.
        progress: Called with a clause now and then.
    """

    tried: Callable[[Tried], None] = lambda _: None
    adopted: Callable[[Experiment], None] = lambda _: None
    progress: Callable[[str], None] = lambda _: None


@dataclass
class Lab:
    """Makes runs.

    Attributes:
        executor: Carries out experiments.
        wanted: The fingerprints of the failure.
        deadline_s: When the time is over, by `time.monotonic`.
        jobs: Runs side by side.
        notes: Hears of what is tried.
        runs: How many runs were made.
        cpu_s: Their processor time.
        seconds: Their real time.
        others: Other fingerprints, each with the first experiment that showed it.
        unclear: Why runs were neither valid nor invalid, one reason for each of them.
    """

    executor: Executor
    wanted: frozenset[Fingerprint]
    deadline_s: float
    jobs: int = 1
    notes: Notes = field(default_factory=Notes)
    runs: int = 0
    cpu_s: float = 0.0
    seconds: float = 0.0
    others: dict[Fingerprint, Experiment] = field(default_factory=dict)
    unclear: list[str] = field(default_factory=list)

    def run(self, experiment: Experiment) -> Outcome:
        """One run.

        Raises:
            BudgetSpentError: There is no time left for it.
            HarnessError: Somebody ended the run.
        """
        self._need_time()
        number = self.executor.submit(experiment)
        for done, outcome in self.executor.as_completed():
            if done == number:
                return self._seen(experiment, outcome)
        raise AssertionError

    def repeated(self, experiment: Experiment) -> Iterator[Outcome]:
        """Runs of one experiment for as long as somebody asks, `jobs` at a time.

        Raises:
            BudgetSpentError: There is no time left.
            HarnessError: Somebody ended a run.
        """
        again = itertools.repeat((Change("again", experiment), experiment))
        for _, _, outcome in self.first_hit(again):
            yield outcome

    def first_hit(
        self, asked: Iterator[tuple[Change, Experiment]]
    ) -> Iterator[tuple[Change, Experiment, Outcome]]:
        """Runs of many experiments, `jobs` at a time; results in the order asked.

        Those under way when the caller stops asking are made in vain.

        Raises:
            BudgetSpentError: There is no time left.
            HarnessError: Somebody ended a run.
        """
        self._need_time()
        under_way: dict[int, tuple[Change, Experiment]] = {}
        order: list[int] = []
        done: dict[int, Outcome | None] = {}
        for change, experiment in itertools.islice(asked, self.jobs):
            number = self.executor.submit(experiment)
            under_way[number] = change, experiment
            order.append(number)
        for number, outcome in self.executor.as_completed():
            if number not in under_way:  # of a search that ended before
                continue
            done[number] = outcome
            while order and order[0] in done:
                first = order.pop(0)
                change, experiment = under_way.pop(first)
                yield change, experiment, self._seen(experiment, done.pop(first))
            self._need_time()
            for more, another in itertools.islice(asked, self.jobs - len(order)):
                number = self.executor.submit(another)
                under_way[number] = more, another
                order.append(number)
            if not order:
                return

    def shows(self, outcome: Outcome) -> bool:
        """Whether an outcome shows the failure."""
        return bool(outcome.fingerprints & self.wanted)

    def _need_time(self) -> None:
        if time.monotonic() >= self.deadline_s:
            raise BudgetSpentError("the budget is spent")

    def _seen(self, experiment: Experiment, outcome: Outcome | None) -> Outcome:
        """Count a run, and keep what else it shows.

        Raises:
            BudgetSpentError: It was ended, as there is no time left for it.
            HarnessError: Somebody else ended it.
        """
        if outcome is None:
            self._need_time()
            raise HarnessError("somebody ended a run")
        self.runs += 1
        self.cpu_s += outcome.cpu_s
        self.seconds += outcome.seconds
        if outcome.verdict == "unknown":
            self.unclear.append(outcome.reason)
        for fingerprint in sorted(outcome.fingerprints - self.wanted):
            self.others.setdefault(fingerprint, experiment)
        return outcome


def name_of(experiment: Experiment) -> str:
    """A short name for an experiment, the same for all seeds."""
    plain = msgspec.structs.replace(experiment.spec, seed=0)
    data = msgspec.json.encode((plain, experiment.plan))
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def smaller_ones(
    changes: Iterator[Change], best: Experiment
) -> Iterator[tuple[Change, Size]]:
    """The changes that make `best` smaller, each once."""
    bound, seen = size(best), {name_of(best)}
    for change in changes:
        measured = size(change.experiment)
        name = name_of(change.experiment)
        if measured < bound and name not in seen:
            seen.add(name)
            yield change, measured


def told(
    change: Change,
    rate: Rate,
    *,
    accepted: bool,
    refused: str = "",
    seconds: float = 0.0,
) -> Tried:
    """A candidate as a line of tried.jsonl; `rate` is what was seen this time."""
    return Tried(
        id=name_of(change.experiment),
        changed=change.told,
        world=change.experiment.spec.world,
        size=size(change.experiment)._asdict(),
        runs=rate.runs,
        hits=rate.hits,
        accepted=accepted,
        refused=refused,
        seconds=round(seconds, 1),
    )
