"""Strategies of Hypothesis: plans of faults, workloads, and whole runs, as plain data.

What is drawn is made by the machinery of seeds: each fault by its own nemesis, from a
number that Hypothesis draws and shrinks. So a plan is valid however it is shrunk. Steps
shrink to fewer, earlier and shorter ones, and to triggers by time.

    ASK = {"world": "sim", "nodes": 3, "nemesis": ["partition", "kill"]}

    @given(plan=splitbrain.strategies.plans("raft", **ASK))
    @settings(deadline=None)
    def test_raft_is_linearizable_whatever_breaks(plan):
        splitbrain.run("raft", **ASK, plan=plan)
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import strategies as st

from harness.campaign.torture import experiment, settings
from harness.faults.drawing import WITHIN_S
from harness.faults.plan import Step, Trigger
from harness.faults.targets import for_observer
from harness.run import assembling
from harness.run.asking import ALL_FAULTS
from harness.run.completing import default_workload
from harness.run.spec import NODES_DEFAULT, system_options, usual_nodes
from harness.systems import services

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from harness.campaign.torture import Ask, Setting
    from harness.faults import Nemesis
    from harness.run.spec import PlanData
    from harness.worlds.events import Event

STEPS_MAX = 6
SHORTEST_MS = 50
"""No step is shorter, unless the whole run is short."""

FAULTS = 1 << 16
"""So many numbers are faults drawn from."""

COUNT_MAX = 5
"""A trigger waits for at most so many sightings of its event."""

SIZES = (3, 5)
"""Numbers of nodes to draw from, if the system can have several."""

CONCURRENCY_MAX = 10
SEED_MAX = 10**6 - 1


class Arms(NamedTuple):
    """What plans for a run are made of.

    Attributes:
        nodes: Names of the nodes.
        limit_ms: How long the run lasts.
        nemeses: The kinds of fault, configured.
        moments: The events of the system that are worth a fault.
    """

    nodes: Sequence[str]
    limit_ms: int
    nemeses: Sequence[Nemesis]
    moments: Sequence[Event]


def plans(
    system: str, *, steps_max: int = STEPS_MAX, **ask: Unpack[Ask]
) -> st.SearchStrategy[PlanData]:
    """Plans for `splitbrain.run(system, **ask, plan=...)`, as they stand in plan.yaml.

    Args:
        system: The system.
        steps_max: A plan has no more steps. It may have none.
        ask: The rest of what the run is asked for (`harness.campaign.torture.Ask`). If
            it names no faults, every kind is drawn that can be had.

    Raises:
        UsageError: When a plan is drawn: the run is impossible.
    """

    def drawn() -> st.SearchStrategy[PlanData]:
        # Only now, as it takes a fork to find out what this machine can do.
        lists = st.lists(steps(armed(system, ask)), max_size=steps_max)
        return lists.map(
            lambda plan: [one.as_data() for one in sorted(plan, key=_begin_s)]
        )

    return st.deferred(drawn)


def workloads(
    system: str, options: Mapping[str, Setting] | None = None
) -> st.SearchStrategy[str]:
    """Names of workloads that a system serves, if it has these options.

    Of a program of the user's (`launch:`) nobody knows what it serves, so there is only
    the default workload.

    Raises:
        UsageError: When one is drawn: there is no such system, or it serves none.
    """

    def drawn() -> st.SearchStrategy[str]:
        texts = settings(options or {})
        own = system_options(texts)
        made = assembling.configure(system, own)
        first = default_workload(system, own)
        if services.EVERY in made.services:
            return st.just(first)
        rest = [name for name in services.served(made) if name != first]
        return st.sampled_from([first, *rest])

    return st.deferred(drawn)


def experiments(
    system: str, *, steps_max: int = STEPS_MAX, **ask: Unpack[Ask]
) -> st.SearchStrategy[Ask]:
    """Keywords for `splitbrain.run(system, **keywords)`: those of `ask`, and others.

    Drawn are, unless `ask` has them: the workload, how many nodes and clients there
    are, the seed, and the plan.

    Raises:
        UsageError: When one is drawn: the run is impossible.
    """

    @st.composite
    def drawn(draw: st.DrawFn) -> Ask:
        keywords: Ask = {**ask}
        if "workload" not in ask:
            keywords["workload"] = draw(workloads(system, ask.get("options")))
        if "nodes" not in ask:
            usual = usual_nodes(system)
            sizes = SIZES if usual == NODES_DEFAULT else (usual,)
            keywords["nodes"] = draw(st.sampled_from(sizes))
        if "concurrency" not in ask:
            keywords["concurrency"] = draw(st.integers(1, CONCURRENCY_MAX))
        if "seed" not in ask:
            keywords["seed"] = draw(st.integers(0, SEED_MAX))
        if "plan" not in ask:
            keywords["plan"] = draw(plans(system, steps_max=steps_max, **keywords))
        return keywords

    return drawn()


def armed(system: str, ask: Ask) -> Arms:
    """What plans for a run are made of.

    Raises:
        UsageError: The run is impossible.
    """
    with_faults: Ask = {**ask, "nemesis": ask.get("nemesis") or ALL_FAULTS}
    with_faults.pop("plan", None)
    spec = experiment(system, with_faults, seed=0).spec
    parts, _, _ = assembling.prepare(spec)
    return Arms(
        spec.node_names,
        int(spec.time_limit_s * 1000),
        list(parts.nemeses.values()),
        assembling.moments(parts.system),
    )


def steps(arms: Arms) -> st.SearchStrategy[Step]:
    """Steps of a plan, each of which ends before the run does.

    A fault is drawn from a number of its own, as seeds draw it. Were its choices those
    of Hypothesis, a step would have a dozen of them, and Hypothesis, which leaves out
    five in a row at most, could not do without it.
    """
    shortest_ms = max(1, min(SHORTEST_MS, arms.limit_ms // 4))
    within_ms = min(int(WITHIN_S * 1000), arms.limit_ms // 4)
    moments = st.none() | st.sampled_from(arms.moments) if arms.moments else st.none()

    @st.composite
    def drawn(draw: st.DrawFn) -> Step:
        event = draw(moments)
        room_ms = arms.limit_ms - (0 if event is None else within_ms)
        begin_ms = draw(st.integers(0, max(0, room_ms - shortest_ms)))
        heal_ms = draw(st.integers(shortest_ms, max(shortest_ms, room_ms - begin_ms)))
        at = Trigger(time_s=begin_ms / 1000)
        if event is not None:
            count = draw(st.integers(1, COUNT_MAX))
            at = Trigger(begin_ms / 1000, None, event, count, within_ms / 1000)
        chance = Random(draw(st.integers(0, FAULTS - 1)))
        fault = chance.choice(arms.nemeses).draw(chance, arms.nodes)
        if event is not None and draw(st.booleans()):
            fault = for_observer(fault)
        return Step(at, fault, heal_ms / 1000)

    return drawn()


def _begin_s(step: Step) -> float:
    return step.at.time_s or 0.0
