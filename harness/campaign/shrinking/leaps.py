"""Small experiments made of a large one's parts, drawn at random.

A long plan fails because of a few of its faults, at moments that mattered. To take away
one part after another means to run what is still large, again and again. A small
experiment costs a tenth of that in the simulator. So some are drawn first: a few faults
of the plan, in their order, at events that the system names or soon after each other,
on a small cluster with few operations. If one fails, the search goes on from there.

Cost: with three nodes and ten operations, some 30 ms of processor time a run.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from harness import registry
from harness.campaign.experiment import steps_of
from harness.campaign.shrinking.changes import (
    Change,
    for_leader,
    renamed,
    system_of,
    with_plan,
    with_spec,
)
from harness.campaign.shrinking.size import key_options
from harness.faults.fault import Fault
from harness.faults.nemesis import Reducible
from harness.faults.plan import Trigger
from harness.faults.targets import for_observer, waits_for_observer
from harness.run import assembling

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.campaign.experiment import Experiment
    from harness.faults.plan import Step
    from harness.worlds.events import Event

NODES = (1, 2, 3, 3, 3, 3, 5)
"""Sizes of the cluster; a node alone has nobody who remembers what it forgets."""
CLIENTS = (1, 2, 3, 5)
OPS = (3, 5, 10, 20, 40)
RATES = (5.0, 20.0, 50.0)
FIRST_S = (0.3, 1.5)
GAP_S = (0.05, 1.5)
HEAL_S_MAX = 3.0
LIMIT_S = 10.0
EVENT_CHANCE = 0.6
OWN_EVENT_CHANCE = 0.4
"""Part of the faults that waited for an event which wait for the same."""
NEIGHBOURS_CHANCE = 0.5
NEIGHBOURS_MORE = 2
"""Part of the experiments whose faults are neighbours in the plan, with so many others
among them at most."""
OBSERVER_CHANCE = 0.5
"""Part of the faults at events that are for the node of the event."""
SIMPLER_CHANCE = 0.5
"""Part of the faults that are made simpler."""
SAID_CHANCE = 0.5
"""Part of what these still say beside their target, if no nemesis knows better."""
SMALL_CHANCE = 0.7
SEEDS = 100


def leaps(experiment: Experiment, faults: int, count: int) -> Iterator[Change]:
    """`count` small experiments of `faults` faults each, the same in each search."""
    plan = steps_of(experiment)
    if len(plan) < faults:
        return
    moments = assembling.moments(system_of(experiment))
    random = Random(f"leaps {faults}")
    for _ in range(count):
        yield _leap(random, experiment, faults, moments)


def _leap(
    random: Random, experiment: Experiment, faults: int, moments: Sequence[Event]
) -> Change:
    spec, plan = experiment.spec, steps_of(experiment)
    places = _places(random, len(plan), faults)
    time_s = 0.0
    steps: list[Step] = []
    for place in places:
        time_s += random.uniform(*(GAP_S if steps else FIRST_S))
        steps.append(_step(random, experiment, plan[place], time_s, moments))
    out = with_spec(
        experiment,
        ops=random.choice(OPS),
        rate=random.choice(RATES),
        concurrency=min(spec.concurrency, random.choice(CLIENTS)),
        time_limit_s=min(spec.time_limit_s, LIMIT_S),
        seed=random.randrange(SEEDS),
        options={**spec.options, **_few_keys(random, experiment)},
    )
    nodes = spec.node_names
    count = random.choice(NODES)
    if count < len(nodes):
        names = dict(zip(random.sample(nodes, count), nodes[:count], strict=True))
        fewer = [renamed(step, names) for step in steps]
        if None not in fewer:
            steps = [step for step in fewer if step is not None]
            out = with_spec(out, nodes=count)
    kinds = ", ".join(step.fault.kind for step in steps) or "no faults"
    return Change(f"leap: {kinds}", with_plan(out, steps))


def _places(random: Random, count: int, faults: int) -> list[int]:
    """The places of some steps of a plan, often those of neighbours.

    Faults that fail together were mostly in force together.
    """
    first, last = 0, count
    if random.random() < NEIGHBOURS_CHANCE:
        last = min(count, faults + NEIGHBOURS_MORE)
        first = random.randrange(count - last + 1)
        last += first
    return sorted(random.sample(range(first, last), faults))


def _few_keys(random: Random, experiment: Experiment) -> dict[str, str]:
    """Options that have clients touch few things, or none."""
    spec = experiment.spec
    if random.random() > SMALL_CHANCE:
        return {}
    return {name: str(kind.least) for name, kind in key_options(spec).items()}


def _step(
    random: Random,
    experiment: Experiment,
    step: Step,
    time_s: float,
    moments: Sequence[Event],
) -> Step:
    """A step with the fault of another, at an event or a time."""
    fault = step.fault
    if random.random() < SIMPLER_CHANCE:
        fault = _simpler(random, fault, experiment.spec.node_names)
    heal_s = min(HEAL_S_MAX, step.heal_after_s)
    if step.at.event is not None and random.random() < OWN_EVENT_CHANCE:
        at = Trigger(event=step.at.event, count=step.at.count)
    elif moments and random.random() < EVENT_CHANCE:
        at = Trigger(event=random.choice(moments), count=random.choice((1, 1, 1, 2, 3)))
        if random.random() < OBSERVER_CHANCE:
            fault = for_observer(fault)
    else:
        at = Trigger(time_s=round(time_s, 1 if random.random() < 0.5 else 2))
        fault = _not_observer(fault)
    return replace(step, at=at, fault=fault, heal_after_s=heal_s)


def _simpler(random: Random, fault: Fault, nodes: Sequence[str]) -> Fault:
    """A simpler fault, if its nemesis knows some; else it says less.

    That one strikes all nodes where it named some, which in a small cluster is simple.
    """
    nemesis = registry.find("nemesis", fault.kind).factory({})
    if isinstance(nemesis, Reducible):
        known = list(nemesis.simpler(fault, nodes))
        return random.choice(known) if known else fault
    params = {
        name: value
        for name, value in fault.params.items()
        if name == "target" or random.random() < SAID_CHANCE
    }
    if isinstance(params.get("target"), list):
        params["target"] = list(nodes)
    return Fault(fault.kind, params)


def _not_observer(fault: Fault) -> Fault:
    return for_leader(fault) if waits_for_observer(fault) else fault
