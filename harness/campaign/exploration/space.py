"""The space of experiments that an exploration searches.

All of them run one system under one workload. They differ in what a `Choice` says (the
kinds of fault, what sets them off, their rhythm, how long the run is, and at what pace
clients go), in what is drawn beside that, and in the seed. Runs are short: most bugs
that show at all show within seconds of the faults that expose them, and a new run is a
new chance.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from harness import registry
from harness.campaign.experiment import Experiment, steps_of
from harness.campaign.exploration.variation import Material, varied
from harness.errors import UsageError
from harness.faults import drawing, profiles
from harness.faults.profiles import Regime, Rhythm
from harness.run import assembling
from harness.run.spec import DEFAULTS, options_for
from harness.systems.abilities import Worded
from harness.worlds.events import Passed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.faults.plan import Plan
    from harness.run.assembling import Parts
    from harness.run.spec import TestSpec
    from harness.worlds.events import Event

RHYTHMS: Mapping[str, Rhythm] = {
    "bursts": Rhythm((0.05, 0.8), (0.05, 0.3), 0.5, 0.9),
    "mixed": Rhythm((0.1, 3.0), (0.1, 0.8)),
    "spells": Rhythm((0.8, 4.5), (0.1, 0.8), 0.75, 0.95),
    "relays": Rhythm((0.2, 1.5), (0.05, 0.4), 0.35, 0.8, relay_chance=0.7),
}
"""When faults come, and how long they last: one right after the other and soon healed;
of all lengths; long ones, most of which overlap; each passing on to the next. Quiet
spells are shorter than in other runs, as a run is judged by how much it shows a second.
"""

TRIGGERS: Mapping[str, float] = {"times": 0.0, "moments": 0.8, "both": 0.4}
"""What sets faults off -> the part of them that wait for an event."""

LENGTHS_S: Mapping[str, Mapping[str, float]] = {
    "os": {"short": 5.0, "middle": 8.0, "long": 14.0},
    "sim": {"short": 5.0, "middle": 8.0, "long": 16.0},
}
"""World -> how long runs are."""


@dataclass(frozen=True)
class Pace:
    """How hard clients work.

    Attributes:
        rate: Times the usual rate of the simulator; None for the rate that was asked
            for. Real clients always go as fast as they can.
        clients: Times the number of clients. All of them read what is left in the end,
            which is a good part of a short run's operations.
        has_few_keys: Whether there are as few keys as can be, and not as many as the
            workload has by itself.
    """

    rate: float | None = None
    clients: float = 1.0
    has_few_keys: bool = False

    @property
    def cost(self) -> float:
        """What a second costs, as a part of the usual.

        At the usual rate, operations cost as much as all else that is simulated.
        """
        return (1.0 + (self.rate or 1.0)) / 2


PACES: Mapping[str, Pace] = {
    "usual": Pace(),
    "calm": Pace(rate=0.4, clients=0.5),
    "few keys": Pace(has_few_keys=True),
    "busy": Pace(rate=4.0, has_few_keys=True),
}
"""Names of paces. With few keys, more operations meet what one of them left behind. A
calm run costs less, and shows as much of elections."""
KEYS = "keys"
"""The option by which workloads are told how many keys to use."""
FEW = ("1", "2", "4", "8")
"""What few keys may mean: the first of these that the workload takes."""


@dataclass(frozen=True)
class Choice:
    """What a bandit decides about an experiment; the words of the tables above."""

    kinds: tuple[str, ...]
    trigger: str
    rhythm: str
    length: str
    pace: str


class Space:
    """The experiments that can be made of `spec`.

    Args:
        spec: The system, the workload, kinds of fault or words for them, and options;
            the words are replaced by the kinds that they mean. Its time limit, rate and
            seed are left open.

    Raises:
        UsageError: No run of `spec` is possible.

    Attributes:
        kinds: The kinds of fault.
        triggers, rhythms: The words for choices that differ here.
        lengths, paces: The same, and how the costs of runs compare.
    """

    def __init__(self, spec: TestSpec) -> None:
        self.spec = msgspec.structs.replace(spec, until_invalid=True)
        parts, _, _ = assembling.prepare(self.spec)
        self.profile = profiles.named(self.spec.profile)
        self.kinds = tuple(sorted(self.spec.nemesis))
        self._plugins = {kind: registry.find("nemesis", kind) for kind in self.kinds}
        self._given = options_for(self.spec)[1]
        self._few_keys = self._fewest_keys()
        self.moments = tuple(assembling.moments(parts.system))
        system = parts.system
        words = system.messages if isinstance(system, Worded) else ()
        self.messages = tuple(Passed(word) for word in words)
        self.triggers = tuple(
            word for word, chance in TRIGGERS.items() if self.events or not chance
        )
        self.rhythms = tuple(RHYTHMS)
        self.lengths = LENGTHS_S[spec.world]
        self.paces = {
            word: pace.cost
            for word, pace in PACES.items()
            if not pace.has_few_keys or self._few_keys
            if pace.rate is None or spec.world == "sim"
        }

    @property
    def events(self) -> tuple[Event, ...]:
        """Events that may set a fault off."""
        return self.moments or self.messages

    def _fewest_keys(self) -> str:
        """The fewest keys; empty if their number is not for the search to choose."""
        workload = registry.find("workload", self.spec.workload)
        given = self._given[self.spec.workload]
        if KEYS in given or KEYS not in {option.name for option in workload.options}:
            return ""
        for few in FEW:
            with suppress(UsageError):
                workload.factory({**given, KEYS: few})
                return few
        return ""

    def draw(self, random: Random, choice: Choice, seed: int) -> Experiment:
        """A new experiment of that choice; the same for the same arguments."""
        parts, rhythm = self._parts(random, choice.kinds, choice.rhythm)
        time_limit_s = LENGTHS_S[self.spec.world][choice.length]
        rhythm = replace(rhythm, moment_chance=TRIGGERS[choice.trigger])
        plan = drawing.draw(
            random.randrange(2**32),
            parts.nemeses,
            self.spec.node_names,
            time_limit_s=time_limit_s,
            moments=self.events,
            rhythm=rhythm,
        )
        return self._experiment(plan, time_limit_s, PACES[choice.pace], seed)

    def vary(
        self, random: Random, one: Experiment, other: Experiment, seed: int
    ) -> Experiment:
        """`one` with its plan changed a little, maybe by steps of `other`."""
        parts, rhythm = self._parts(random, self.kinds, random.choice(self.rhythms))
        material = Material(
            parts.nemeses,
            self.spec.node_names,
            self.events,
            rhythm.duration_s,
            one.spec.time_limit_s,
        )
        plan = varied(random, steps_of(one), steps_of(other), material)
        spec = msgspec.structs.replace(
            one.spec, seed=seed, nemesis=kinds_of(plan), options=dict(one.spec.options)
        )
        return self._made(spec, plan)

    def _parts(
        self, random: Random, kinds: Sequence[str], rhythm: str
    ) -> tuple[Parts, Rhythm]:
        """Nemeses of these kinds, each with a part of its words and amounts."""
        options: dict[str, Mapping[str, str]] = {}
        for kind in kinds:
            plugin, given = self._plugins[kind], self._given.get(kind, {})
            fixed = {**self.profile.options(plugin), **given}
            if random.random() < 0.5:
                fixed |= profiles.drawn_options(random, plugin, fixed, given)
            options[kind] = fixed
        spec = msgspec.structs.replace(
            self.spec, nemesis=list(kinds), options=self._options(kinds)
        )
        regime = Regime(tuple(kinds), RHYTHMS[rhythm], options)
        return assembling.assemble(spec, regime), regime.rhythm

    def _experiment(
        self, plan: Plan, time_limit_s: float, pace: Pace, seed: int
    ) -> Experiment:
        rate = self.spec.rate
        if pace.rate is not None:
            rate = pace.rate * DEFAULTS["sim"]["rate"]
        options = dict(self.spec.options)
        if pace.has_few_keys:
            options[f"{self.spec.workload}.{KEYS}"] = self._few_keys
        spec = msgspec.structs.replace(
            self.spec,
            nemesis=kinds_of(plan),
            time_limit_s=time_limit_s,
            rate=rate,
            concurrency=max(1, round(pace.clients * self.spec.concurrency)),
            seed=seed,
            options=options,
        )
        return self._made(spec, plan)

    def _made(self, spec: TestSpec, plan: Plan) -> Experiment:
        """The experiment; options of kinds that its plan lacks would be refused."""
        absent = set(self.kinds) - set(spec.nemesis)
        spec.options = {
            key: text
            for key, text in {**self._options(spec.nemesis), **spec.options}.items()
            if key.partition(".")[0] not in absent
        }
        spec.profile = []
        return Experiment(spec, [step.as_data() for step in plan])

    def _options(self, kinds: Sequence[str]) -> dict[str, str]:
        """The options of `spec`, without those of kinds that are not among `kinds`."""
        absent = set(self.kinds) - set(kinds)
        return {
            key: text
            for key, text in self.spec.options.items()
            if key.partition(".")[0] not in absent
        }


def kinds_of(plan: Plan) -> list[str]:
    """The kinds of fault in a plan, each once, in the order of the alphabet."""
    return sorted({step.fault.kind for step in plan})
