"""Fault plans: when to break what, and when to heal it. Pure data, drawn from a seed.

A plan is a list of steps (trigger, fault, heal). `draw` makes one: kinds of fault take
turns in random order, so that each strikes early in even a short run; now and then a
fault begins while another is in force, as the bugs worth finding need two things to go
wrong; and there are quiet spells, in which a system must get going again. Plans are
stored as YAML with the run, and can be written by hand.

    - at: {time_s: 2.5}
      fault: {kind: partition, shape: leader, target: leader}
      heal: {after_s: 4.0}

A trigger is a time, a number of completed client operations, or the k-th sighting of an
`Observe` event at a node, so that a replay aims at the protocol's moment. With a time
as well, sightings count from then on, and `within_s` later the step begins without
them: a moment that doesn't come must not hold up the plan.

    - at: {time_s: 4.0, observe: became_leader, count: 1, within_s: 0.7}
      fault: {kind: kill, target: observer}
      heal: {after_s: 0.2}

Where a system names its `moments`, some of the steps are drawn so. Bugs of recovery lie
between two messages or two writes; a fault at a random time hits such a gap by luck, a
fault at the moment that opens it by design. Most such moments come in answer to another
fault, so the step is on the watch from the last one's beginning on.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import yaml

from harness.errors import UsageError
from harness.options import Number, Whole
from nemesis.fault import OBSERVER, Fault, Lingering, Nemesis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIRST_S = (0.5, 1.5)
"""A newcomer's first fault comes this soon after the start."""
DURATION_S = (0.1, 4.5)
"""Every order of magnitude alike: a node that is killed and back in a moment takes part
in the election that it forgot; one that is away for seconds comes back to another
world. Different bugs hide behind either."""
QUIET_S = (0.2, 2.0)
ROOM_S_MIN = 1.0
"""No fault begins when less than that is left."""
OVERLAP_CHANCE = 0.35
BACKGROUND_OVERLAP_CHANCE = 0.8
BACKGROUND_S_MIN = 0.5
"""A wrong clock or a slow link breaks little by itself: it has to last, and something
else has to go wrong meanwhile."""
MOMENT_CHANCE = 0.4
"""Part of the steps that are set off by an event."""
WITHIN_S = 0.7
"""How long such a step waits for its event: elections take up to half a second."""
OBSERVER_CHANCE = 0.5
"""Of these, part that strike the very node that observed the event."""

# What a hand-written plan may say; no run lasts longer than a week.
TIME_S = Number(0.0, 604_800.0)
HEAL_AFTER_S = Number(0.001, 604_800.0)
OPS = Whole(0, 10**9)
COUNT = Whole(1, 10**9)
STEPS_MAX = 10_000


@dataclass(frozen=True)
class Trigger:
    """When a step begins: by time, operations or events, or by time and events.

    Attributes:
        time_s: Seconds since the start of the run.
        ops: Client operations completed.
        observe: Kind of the event.
        node: Who has to observe it; None: anybody.
        count: The how manyth event it takes, since the start or since `time_s`.
        within_s: After `time_s`: begin then even if the events didn't come.
    """

    time_s: float | None = None
    ops: int | None = None
    observe: str | None = None
    node: str | None = None
    count: int = 1
    within_s: float | None = None

    @property
    def latest_s(self) -> float:
        """When the step begins at the latest, as far as time decides that."""
        return (self.time_s or 0.0) + (self.within_s or 0.0)

    def as_data(self) -> dict[str, Any]:
        """The trigger as it stands in plan.yaml."""
        if self.ops is not None:
            return {"ops": self.ops}
        out: dict[str, Any] = {} if self.time_s is None else {"time_s": self.time_s}
        if self.observe is not None:
            out |= {"observe": self.observe, "count": self.count}
        if self.node is not None:
            out["node"] = self.node
        return out if self.within_s is None else {**out, "within_s": self.within_s}


@dataclass(frozen=True)
class Step:
    """One fault of a plan; healed `heal_after_s` after it struck."""

    at: Trigger
    fault: Fault
    heal_after_s: float

    def as_data(self) -> dict[str, Any]:
        """The step as it stands in plan.yaml."""
        return {
            "at": self.at.as_data(),
            "fault": self.fault.as_data(),
            "heal": {"after_s": self.heal_after_s},
        }


Plan = tuple[Step, ...]


def draw(
    seed: int,
    nemeses: Mapping[str, Nemesis],
    nodes: Sequence[str],
    *,
    time_limit_s: float,
    moments: Sequence[str] = (),
) -> Plan:
    """A random plan for `time_limit_s` seconds; the same for the same arguments.

    Every fault ends before the time is up, and two faults of one kind never overlap.
    `moments` are kinds of event that are worth a fault.
    """
    random = Random(f"plan {seed}")
    steps: list[Step] = []
    bag: list[str] = []
    free_at = dict.fromkeys(nemeses, 0.0)
    last_begin = start = random.uniform(*FIRST_S)
    while nemeses:
        if not bag:
            bag = random.sample(sorted(nemeses), len(nemeses))
        kind = bag.pop()
        moment = bool(moments) and random.random() < MOMENT_CHANCE
        begin = max(last_begin if moment else start, free_at[kind])
        at = draw_trigger(random, begin, moments if moment else ())
        background = getattr(nemeses[kind], "background", False)
        shortest, longest = DURATION_S
        if background:
            shortest = BACKGROUND_S_MIN
        duration = log_uniform(random, shortest, longest)
        room = time_limit_s - at.latest_s
        if room < min(ROOM_S_MIN, time_limit_s / 2):
            break
        end = at.latest_s + min(duration, room)
        fault = nemeses[kind].draw(random, nodes)
        if moment and random.random() < OBSERVER_CHANCE:
            fault = strike_observer(fault)
        steps.append(Step(at, fault, round(end - at.latest_s, 3)))
        free_at[kind] = end + QUIET_S[0]
        nemesis = nemeses[kind]
        if isinstance(nemesis, Lingering):
            free_at[kind] += nemesis.lingers_s(fault, end - begin)
        chance = BACKGROUND_OVERLAP_CHANCE if background else OVERLAP_CHANCE
        overlap = len(nemeses) > 1 and random.random() < chance
        quiet = log_uniform(random, *QUIET_S)
        start = random.uniform(begin, end) if overlap else max(end, start) + quiet
        last_begin = max(last_begin, begin)
    return tuple(sorted(steps, key=lambda step: step.at.time_s or 0.0))


def draw_trigger(random: Random, begin_s: float, moments: Sequence[str]) -> Trigger:
    """A trigger for then, or for one of the moments that come soon after."""
    if not moments:
        return Trigger(time_s=round(begin_s, 3))
    return Trigger(
        time_s=round(begin_s, 3),
        observe=random.choice(moments),
        count=random.choice((1, 1, 2, 3)),
        within_s=WITHIN_S,
    )


def strike_observer(fault: Fault) -> Fault:
    """The same, where it has a target, against whoever observed the event."""
    if "target" not in fault.params:
        return fault
    return Fault(fault.kind, {**fault.params, "target": OBSERVER})


def log_uniform(random: Random, low: float, high: float) -> float:
    """A number between the bounds, each of its orders of magnitude equally likely."""
    return float(low * (high / low) ** random.random())


def dump(plan: Plan) -> str:
    """The plan as YAML, readable back by `parse`."""
    data = [step.as_data() for step in plan]
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None)


def parse(data: Any, source: str) -> Plan:
    """Steps from plain data (parsed YAML).

    Raises:
        UsageError: Names the step and what is wrong with it.
    """
    if not isinstance(data, list):
        raise UsageError(
            f"{source}: a plan is a list of steps, not {type(data).__name__}"
        )
    if len(data) > STEPS_MAX:
        raise UsageError(f"{source}: {len(data)} steps; a plan has at most {STEPS_MAX}")
    return tuple(_step(item, f"{source}: step {i + 1}") for i, item in enumerate(data))


def _step(item: Any, where: str) -> Step:
    if not isinstance(item, dict) or set(item) - {"at", "fault", "heal"}:
        raise UsageError(f"{where}: a step has `at`, `fault` and `heal`")
    fault = item.get("fault")
    if not isinstance(fault, dict) or not isinstance(fault.get("kind"), str):
        raise UsageError(f"{where}: `fault` needs a `kind`")
    for name in fault:
        if not isinstance(name, str):
            raise UsageError(f"{where}: {fault['kind']} has no parameter {name!r:.60}")
    heal = item.get("heal")
    if heal is None or not _holds(heal, {"after_s": HEAL_AFTER_S}, needed=("after_s",)):
        raise UsageError(
            f"{where}: `heal` must be {{after_s: SECONDS}}, with {HEAL_AFTER_S.told}, "
            f"not {heal!r:.100}"
        )
    params = {name: value for name, value in fault.items() if name != "kind"}
    fault = Fault(fault["kind"], params)
    return Step(_trigger(item.get("at"), where), fault, heal["after_s"])


def _trigger(at: Any, where: str) -> Trigger:
    events: dict[str, Number | Whole | None]
    events = {"observe": None, "node": None, "count": COUNT}
    times = {"time_s": TIME_S, "within_s": TIME_S}
    if (
        _holds(at, {"time_s": TIME_S}, needed=("time_s",))
        or _holds(at, {"ops": OPS}, needed=("ops",))
        or _holds(at, events, needed=("observe",))
        or _holds(at, events | times, needed=("observe", *times))
    ):
        return Trigger(**at)
    raise UsageError(
        f"{where}: `at` must be {{time_s: SECONDS}}, {{ops: COUNT}} or "
        "{observe: KIND, node: NODE, count: K}, the last maybe with "
        f"{{time_s: SECONDS, within_s: SECONDS}}, not {at!r:.100}"
    )


def _holds(
    data: Any, fields: Mapping[str, Number | Whole | None], *, needed: Sequence[str]
) -> bool:
    """Whether `data` maps some of these fields to what they take; None: a text."""
    return (
        isinstance(data, dict)
        and not set(data) - set(fields)
        and not set(needed) - set(data)
        and all(
            isinstance(value, str) and bool(value)
            if (kind := fields[name]) is None
            else kind.admits(value)
            for name, value in data.items()
        )
    )


def validate(plan: Plan, nemeses: Mapping[str, Nemesis], nodes: Sequence[str]) -> None:
    """Check that every fault of a hand-written plan can be carried out.

    Raises:
        UsageError: A kind that isn't among `nemeses`, or parameters that make no sense.
    """
    for step in plan:
        nemesis = nemeses.get(step.fault.kind)
        if nemesis is None:
            raise UsageError(
                f"plan: fault {step.fault.kind!r:.60} is not among this run's nemeses "
                f"({', '.join(nemeses) or 'none'})"
            )
        nemesis.validate(step.fault, nodes)
        if step.fault.params.get("target") == OBSERVER and step.at.observe is None:
            raise UsageError(
                f"plan: {step.fault.kind}: target 'observer' needs a trigger that "
                "waits for an event (observe: KIND)"
            )
        node = step.at.node
        if node is not None and node not in nodes:
            raise UsageError(f"plan: trigger: there is no node {node!r:.60}")
