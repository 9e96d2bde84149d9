"""The space of experiments that an exploration searches.

All of them run one system under one workload. They differ in what a `Choice` says (the
kinds of fault, what sets them off, their rhythm, how long the run is, how large the
cluster, and at what pace clients go), in what is drawn beside that, and in the seed.

Next to each word stands how good it is believed to be before anything was tried. These
numbers were chosen by what a conviction cost among 2,900 simulated runs of all mutants,
in which everything was drawn independently. No word makes more than a fifth of a
difference; together they do. Fewer operations and fewer clients, faults by time, all
kinds together and small clusters are worth it; so are slow links or slow disks. Whether
there are few keys made no difference, nor did rhythms, nor runs of 8 to 20 seconds.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness import registry
from harness.campaign.experiment import Experiment, steps_of
from harness.campaign.exploration.variation import Material, varied
from harness.errors import UsageError
from harness.faults import drawing, profiles
from harness.faults.profiles import Regime, Rhythm
from harness.run import assembling, monitor
from harness.run.spec import DEFAULTS, node_names, options_for
from harness.systems.abilities import Worded
from harness.workload import op_timeout_s
from harness.worlds.events import Passed
from harness.worlds.sim.conditions import Conditions

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
    "usual": profiles.STANDARD.rhythm,
}
"""When faults come, and how long they last: one right after the other and soon healed;
of all lengths; long ones, most of which overlap; each passing on to the next. Quiet
spells are shorter than in other runs, as a run is judged by how much it shows a second.
The last one is that of `run`.
"""
RHYTHM_BELIEFS: Mapping[str, Mapping[str, float]] = {
    "os": {"bursts": 1.0, "mixed": 2.0, "spells": 4.0, "relays": 1.0, "usual": 4.0},
    "sim": {"bursts": 1.0, "mixed": 1.0, "spells": 1.0, "relays": 1.0},
}
"""World -> how good rhythms are believed to be. In the simulator others than the usual
one convict sooner. Real nodes give up on each other after seconds, and what they do
then shows only if faults outlast that."""

TRIGGERS: Mapping[str, float] = {"times": 0.0, "moments": 0.8, "both": 0.4}
"""What sets faults off -> the part of them that wait for an event."""
TRIGGER_BELIEFS: Mapping[str, float] = {"times": 3.0, "both": 3.0, "moments": 1.0}
"""Faults that wait for an event come later, or never, and a run has fewer of them."""

LENGTHS_S: Mapping[str, Mapping[str, float]] = {
    "os": {"short": 5.0, "middle": 8.0, "long": 14.0},
    "sim": {"short": 4.0, "middle": 8.0, "long": 20.0},
}
"""World -> how long runs are."""
JUDGED_BELIEFS: Mapping[str, Mapping[str, float]] = {
    "os": {"long": 6.0, "middle": 3.0, "short": 1.0},
    "sim": {"long": 4.0, "middle": 4.0, "short": 1.0},
}
"""World -> how good lengths are believed to be. A run that is judged while it lasts
ends at its conviction. So a long one wastes nothing, and spares the start and the end
of several short ones, which take seconds in real runs. Several have more chances of
conditions that show something."""
UNJUDGED_BELIEFS: Mapping[str, float] = {"middle": 4.0, "short": 2.0, "long": 1.0}
"""A run that is judged at its end only has to be paid to its end."""

SMALL = 3
"""Nodes of a small cluster: a second of it costs about half as much."""
SIZE_BELIEFS: Mapping[str, Mapping[str, float]] = {
    "os": {"small": 1.0, "usual": 3.0},
    "sim": {"small": 3.0, "usual": 1.0},
}
"""Most bugs need no more than a majority of three and what is left; some do. Real runs
are paid for by their time, of which small clusters take as much as others."""

SOON_S = (0.1, 0.3)
"""The first fault comes this soon in most runs, as what is before it shows nothing."""
SOON_CHANCE = 0.8
DRAWN_OPTIONS_CHANCE = 0.3
"""How often a kind of fault draws from a part of its words, and smaller amounts."""

SLOW_FSYNC_MS = 3.0
SLOW_LATENCY_MS = 0.5
SLOW_CHANCE = 0.8
"""How often a simulated run has a seed whose disks or links are at least as slow as
that: they leave wider gaps between a message, the record that it tells of, and the
answer. Seeds draw fast ones of both one time in three."""


@dataclass(frozen=True)
class Pace:
    """How hard clients work, and how long they wait.

    Attributes:
        rate: Times the usual rate of the simulator; None for the rate that was asked
            for. Real clients always go as fast as they can.
        clients: Times the number of clients. All of them read what is left in the end,
            which is a good part of a short run's operations.
        has_few_keys: Whether there are as few keys as can be, and not as many as the
            workload has by itself.
        op_timeout_s: How long clients wait for an answer; None for the usual time.
        belief: How good it is believed to be.
        real_belief: The same in a real run, which is paid for by its time: fewer
            clients spare processor time, and no time.
    """

    rate: float | None = None
    clients: float = 1.0
    has_few_keys: bool = False
    op_timeout_s: float | None = None
    belief: float = 1.0
    real_belief: float = 1.0


PACES: Mapping[str, Pace] = {
    "usual": Pace(real_belief=3.0),
    "few clients": Pace(clients=0.5),
    "few keys": Pace(clients=0.5, has_few_keys=True),
    "patient": Pace(op_timeout_s=6.0, belief=0.5, real_belief=3.0),
    "calm": Pace(rate=0.4, clients=0.5, belief=4.0),
    "calm, few keys": Pace(rate=0.4, clients=0.5, has_few_keys=True, belief=4.0),
    "quiet": Pace(rate=0.2, clients=0.5, belief=4.0),
    "busy": Pace(rate=2.0, has_few_keys=True, belief=0.5),
}
"""Names of paces. With few keys, more operations meet what one of them left behind. A
calm run costs less, and shows as much of elections. Half the clients overlap as much,
and read half as often in the end; more operations cost more than they show.

Nodes give up on each other after a while, and tell their clients. Clients that give up
sooner never hear that, be it wrong; patient ones wait for most timeouts of nodes.
"""
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
    size: str
    pace: str


class Space:
    """The experiments that can be made of `spec`.

    Args:
        spec: The system, the workload, kinds of fault or words for them, and options;
            the words are replaced by the kinds that they mean. Its time limit, rate and
            seed are left open.
        any_size: Whether the number of nodes is for the search to choose, too.

    Raises:
        UsageError: No run of `spec` is possible.

    Attributes:
        kinds: The kinds of fault.
        triggers, rhythms, lengths, sizes, paces: The words for other choices that there
            are here, and how good they are believed to be.
    """

    def __init__(self, spec: TestSpec, *, any_size: bool = False) -> None:
        self.spec = msgspec.structs.replace(spec, until_invalid=True)
        parts, _, _ = assembling.prepare(self.spec)
        self._workload = parts.workload
        self.profile = profiles.named(self.spec.profile)
        self.kinds = tuple(sorted(self.spec.nemesis))
        self._plugins = {kind: registry.find("nemesis", kind) for kind in self.kinds}
        self._given = options_for(self.spec)[1]
        self._few_keys = self._fewest_keys()
        self.moments = tuple(assembling.moments(parts.system))
        system = parts.system
        words = system.messages if isinstance(system, Worded) else ()
        self.messages = tuple(Passed(word) for word in words)
        self.triggers = {
            word: belief
            for word, belief in TRIGGER_BELIEFS.items()
            if self.events or not TRIGGERS[word]
        }
        self.rhythms = RHYTHM_BELIEFS[spec.world]
        judge = monitor.of_run(self.spec, system.invariants, Path())
        self.lengths = UNJUDGED_BELIEFS if judge is None else JUDGED_BELIEFS[spec.world]
        self.sizes = {
            word: belief
            for word, belief in SIZE_BELIEFS[spec.world].items()
            if word == "usual" or (any_size and self._can_be_small())
        }
        self.paces = {
            word: pace.belief if spec.world == "sim" else pace.real_belief
            for word, pace in PACES.items()
            if not pace.has_few_keys or self._few_keys
            if pace.rate is None or spec.world == "sim"
            if pace.op_timeout_s is None or self._waits_less(pace.op_timeout_s)
        }

    @property
    def events(self) -> tuple[Event, ...]:
        """Events that may set a fault off."""
        return self.moments or self.messages

    def _can_be_small(self) -> bool:
        """Whether a cluster of `SMALL` nodes is smaller, and can be run."""
        small = msgspec.structs.replace(self.spec, nodes=SMALL)
        try:
            assembling.prepare(small)
        except UsageError:
            return False
        return self.spec.nodes > SMALL and small.nemesis == self.spec.nemesis

    def next_seed(self, random: Random, least: int) -> int:
        """The first seed from `least` on with such conditions as are wanted."""
        if self.spec.world != "sim" or random.random() >= SLOW_CHANCE:
            return least
        return next(seed for seed in itertools.count(least) if is_slow(seed))

    def _waits_less(self, seconds: float) -> bool:
        """Whether clients wait less than that, and nobody has said how long."""
        asked = self.spec.op_timeout_s
        return asked is None and op_timeout_s(self._workload, None) < seconds

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
        nodes = SMALL if choice.size == "small" else self.spec.nodes
        parts, rhythm = self._parts(random, choice.kinds, choice.rhythm, nodes)
        time_limit_s = LENGTHS_S[self.spec.world][choice.length]
        rhythm = replace(rhythm, moment_chance=TRIGGERS[choice.trigger])
        plan = drawing.draw(
            random.randrange(2**32),
            parts.nemeses,
            node_names(nodes),
            time_limit_s=time_limit_s,
            moments=self.events,
            rhythm=rhythm,
        )
        if random.random() < SOON_CHANCE:
            plan = begun_at(plan, random.uniform(*SOON_S))
        return self._experiment(plan, time_limit_s, nodes, PACES[choice.pace], seed)

    def vary(
        self, random: Random, one: Experiment, other: Experiment, seed: int
    ) -> Experiment:
        """`one` with its plan changed a little, maybe by steps of `other`."""
        nodes = one.spec.nodes
        word = random.choice(list(self.rhythms))
        parts, rhythm = self._parts(random, self.kinds, word, nodes)
        if other.spec.nodes != nodes:  # its faults may be for nodes that are not there
            other = one
        material = Material(
            parts.nemeses,
            one.spec.node_names,
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
        self, random: Random, kinds: Sequence[str], rhythm: str, nodes: int
    ) -> tuple[Parts, Rhythm]:
        """Nemeses of these kinds, some with a part of their words and amounts."""
        options: dict[str, Mapping[str, str]] = {}
        for kind in kinds:
            plugin, given = self._plugins[kind], self._given.get(kind, {})
            fixed = {**self.profile.options(plugin), **given}
            if random.random() < DRAWN_OPTIONS_CHANCE:
                fixed |= profiles.drawn_options(random, plugin, fixed, given)
            options[kind] = fixed
        spec = msgspec.structs.replace(
            self.spec, nemesis=list(kinds), options=self._options(kinds), nodes=nodes
        )
        regime = Regime(tuple(kinds), RHYTHMS[rhythm], options)
        return assembling.assemble(spec, regime), regime.rhythm

    def _experiment(
        self, plan: Plan, time_limit_s: float, nodes: int, pace: Pace, seed: int
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
            nodes=nodes,
            time_limit_s=time_limit_s,
            rate=rate,
            concurrency=max(1, round(pace.clients * self.spec.concurrency)),
            op_timeout_s=pace.op_timeout_s or self.spec.op_timeout_s,
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


def is_slow(seed: int) -> bool:
    """Whether a simulated run with that seed has slow disks or slow links."""
    drawn = Conditions.draw(seed)
    return drawn.fsync_ms >= SLOW_FSYNC_MS or drawn.latency_ms >= SLOW_LATENCY_MS


def begun_at(plan: Plan, begin_s: float) -> Plan:
    """The plan, begun that soon if it began later; its steps stay as far apart."""
    first_s = min((step.at.time_s or 0.0 for step in plan), default=0.0)
    by_s = max(0.0, first_s - begin_s)
    return tuple(
        step
        if step.at.time_s is None
        else replace(
            step, at=replace(step.at, time_s=max(0.0, round(step.at.time_s - by_s, 3)))
        )
        for step in plan
    )


def kinds_of(plan: Plan) -> list[str]:
    """The kinds of fault in a plan, each once, in the order of the alphabet."""
    return sorted({step.fault.kind for step in plan})
