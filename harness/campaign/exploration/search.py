"""The search: which experiment to make next, after all that came of the ones before.

An experiment is drawn afresh, by a choice that bandits make (kinds of fault, what sets
them off, rhythm, length, size, pace), or it varies one of the corpus, the experiments
that came to something. Whether to draw or to vary is for a bandit, too. All of them
gain by the second, and begin with beliefs (`space`); most bugs are found while these
count.

A run of nodes that observe their terms gains by its upheavals (`signatures`), any other
by features that no run before had. Of 18 mutants that are hard to find in the
simulator, variations of what was close to trouble convicted as often by the second as
fresh plans, and those of what was new two thirds as often. Variations have seeds of
their own: with the same one, what a run lacked to fail it often lacks again.

The search is deterministic: the same seed and the same outcomes in the same order give
the same experiments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from harness.campaign.exploration.bandit import Bandit, worth
from harness.campaign.exploration.corpus import Corpus
from harness.campaign.exploration.space import Choice
from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.campaign.executor import Pursuit
    from harness.campaign.experiment import Experiment
    from harness.campaign.exploration.space import Space
    from harness.campaign.outcome import Fingerprint, Outcome

DRAW, VARY = "draw", "vary"
ORIGINS = {DRAW: 4.0, VARY: 1.0}
KINDS_MAX = 3
"""Kinds of fault in a run that doesn't have all of them: with many at once, what shows
only in the absence of something is masked (`harness.faults.profiles`)."""
ALL_KINDS_CHANCE = 0.25
FEW_KINDS_CHANCE = 0.95
"""How often a run has all of them if there are no more than `KINDS_MAX`: whoever names
a few means them together."""
COST_MIN = 0.1
"""What a run costs at least, where gains are divided by that."""
OPS_A_SECOND = 45.0
"""Operations that cost as much processor time as a simulated second without any, in a
cluster of five nodes of Raft."""


@dataclass(frozen=True)
class Proposal:
    """An experiment to be made.

    Attributes:
        experiment: The experiment.
        choice: What the bandits chose; None if it varies another one.
    """

    experiment: Experiment
    choice: Choice | None = None


@dataclass(frozen=True)
class Failure:
    """A failure that no run before had shown.

    Attributes:
        fingerprint: What tells it from others.
        outcome: Of the run that showed it first.
        runs: Its number, from 1 on.
        cpu_s, seconds: Cost of all runs up to its end: processor time of the processes
            that carried them out, and real time.
    """

    fingerprint: Fingerprint
    outcome: Outcome
    runs: int
    cpu_s: float
    seconds: float


REASONS_MAX = 10
"""Reasons that are kept; there may be one for each run."""


@dataclass
class Tally:
    """What came of all runs so far.

    Attributes:
        runs: Their number.
        invalid: How many broke a promise.
        unknown: How many could not be judged.
        failed: How many the harness failed or refused.
        cpu_s, seconds: Their cost, added up.
        failures: The distinct failures, the first found first.
        errors: Why runs failed that were the harness' fault, each once.
        unclear: Why runs could not be judged, the first few reasons.
    """

    runs: int = 0
    invalid: int = 0
    unknown: int = 0
    failed: int = 0
    cpu_s: float = 0.0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)


class Search:
    """Proposes experiments, and learns from their outcomes.

    Args:
        space: What there is to choose from.
        seed: Every choice comes from it; runs have seeds from it on.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.corpus = Corpus()
        self.seen: set[int] = set()
        self.tally = Tally()
        self.seed = seed
        self._next_seed = seed
        self._random = Random(f"explore {seed}")
        self._origin = Bandit(ORIGINS)
        self._trigger = Bandit(space.triggers)
        self._rhythm = Bandit(space.rhythms)
        self._length = Bandit(space.lengths)
        self._size = Bandit(space.sizes)
        self._pace = Bandit(space.paces)
        self._kinds = Bandit(space.kinds) if space.kinds else None

    @property
    def bandits(self) -> dict[str, Bandit]:
        """What is chosen -> who chooses it."""
        named = {
            "origin": self._origin,
            "trigger": self._trigger,
            "rhythm": self._rhythm,
            "length": self._length,
            "size": self._size,
            "pace": self._pace,
        }
        return named if self._kinds is None else {**named, "kinds": self._kinds}

    def propose(self) -> Proposal:
        """The next experiment."""
        random = self._random
        seed = self.space.next_seed(random, self._next_seed)
        self._next_seed = seed + 1
        if self.corpus.entries and self._origin.choose(random) == VARY:
            one, other = self.corpus.choose(random), self.corpus.choose(random)
            return Proposal(self.space.vary(random, one, other, seed))
        choice = Choice(
            self._some_kinds(),
            self._trigger.choose(random),
            self._rhythm.choose(random),
            self._length.choose(random),
            self._size.choose(random),
            self._pace.choose(random),
        )
        return Proposal(self.space.draw(random, choice, seed), choice)

    def _some_kinds(self) -> tuple[str, ...]:
        """A few kinds of fault, of those that gained most; or all."""
        random = self._random
        if self._kinds is None:
            return ()
        most = len(self._kinds.arms)
        chance = FEW_KINDS_CHANCE if most <= KINDS_MAX else ALL_KINDS_CHANCE
        if random.random() < chance:
            return self._kinds.arms
        samples = self._kinds.sampled(random)
        best = sorted(samples, key=lambda kind: -samples[kind])
        return tuple(sorted(best[: random.randint(1, min(KINDS_MAX, most))]))

    def learn(self, proposal: Proposal, outcome: Outcome) -> int:
        """Take in what came of a proposal; returns how many features were new."""
        tally = self.tally
        tally.runs += 1
        tally.cpu_s += outcome.cpu_s
        tally.seconds += outcome.seconds
        tally.unknown += outcome.verdict == "unknown"
        tally.invalid += outcome.verdict == "invalid"
        if outcome.verdict == "error":
            tally.failed += 1
            if outcome.reason not in tally.errors:
                tally.errors.append(outcome.reason)
        if outcome.verdict == "unknown" and len(tally.unclear) < REASONS_MAX:
            tally.unclear += {outcome.reason} - {"", *tally.unclear}
        if outcome.verdict == "invalid":
            self._note_failures(outcome)
        news = len(set(outcome.features) - self.seen)
        self.seen.update(outcome.features)
        gain = worth(news if outcome.upheavals is None else outcome.upheavals)
        cost = effort(outcome)
        # A run with all its faults in place says as much as its own plan, so what is
        # kept is what was asked for, and not what it became.
        if gain:
            self.corpus.add(proposal.experiment, gain / max(COST_MIN, cost))
        self._reward(proposal.choice, gain, cost)
        return news

    def _note_failures(self, outcome: Outcome) -> None:
        tally = self.tally
        known = {failure.fingerprint for failure in tally.failures}
        tally.failures += [
            Failure(mark, outcome, tally.runs, tally.cpu_s, tally.seconds)
            for mark in sorted(outcome.fingerprints - known)
        ]

    def _reward(self, choice: Choice | None, gain: float, cost: float) -> None:
        self._origin.learn(VARY if choice is None else DRAW, gain, cost)
        if choice is None:
            return
        self._trigger.learn(choice.trigger, gain, cost)
        self._rhythm.learn(choice.rhythm, gain, cost)
        self._length.learn(choice.length, gain, cost)
        self._size.learn(choice.size, gain, cost)
        self._pace.learn(choice.pace, gain, cost)
        for kind in choice.kinds:
            assert self._kinds is not None
            self._kinds.learn(kind, gain, cost)


def effort(outcome: Outcome) -> float:
    """What a run cost, for bandits: real seconds in the os world.

    In the simulator processor time would make each exploration another one, so it is
    reckoned from what the run did.
    """
    if outcome.experiment.spec.world == "os":
        return outcome.seconds
    return outcome.run_s + sum(outcome.ops.values()) / OPS_A_SECOND


def searching(
    search: Search,
    goes_on: Callable[[], bool],
    note: Callable[[Outcome, int], None],
) -> Pursuit[None]:
    """A pursuit that makes one experiment after the other while `goes_on` says so.

    Several of them may share a search. `note` is told each outcome, and how many of its
    features were new.

    Raises:
        HarnessError: A run was ended from outside.
    """
    while goes_on():
        proposal = search.propose()
        outcome = yield proposal.experiment
        if outcome is None:
            raise HarnessError("somebody ended a run")
        note(outcome, search.learn(proposal, outcome))
