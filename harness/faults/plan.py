"""Fault plans: when to break what, and when to heal it. Pure data.

A plan is a list of steps (trigger, fault, heal), drawn from a seed (`drawing`) or
written by hand, and stored as YAML with the run. Steps may overlap; what several do to
one node or link adds up (`force`).

    - at: {time_s: 2.5}
      fault: {kind: partition, shape: leader, target: leader}
      heal: {after_s: 4.0}

A trigger is a time, a number of completed client operations, or the k-th sighting of an
event, so that a replay aims at the moment that matters. Events are of several sorts
(`harness.worlds.events`): an `Observe` event of a kind, at a node or anywhere; a line
that matches a regular expression in a node's log; or a message from a node to another
that has a match in its bytes. If such a trigger has a time as
well, sightings count from that time on, and `within_s` later the step begins without
them: a moment that doesn't come must not hold up the plan. Such a step lets later ones
go first, too, as these may be what brings the moment.

    - at: {time_s: 4.0, observe: became_leader, count: 1, within_s: 0.7}
      fault: {kind: kill, target: observer}
      heal: {after_s: 0.2}
    - at: {log: "snapshot .* begins", node: n1, count: 2}
      fault: {kind: kill, target: observer}
      heal: {after_s: 1.0}
    - at: {message: '"type":"request_vote"', from: n1, to: n2, count: 3}
      fault: {kind: delay, delay_ms: 300, target: observer, direction: between}
      heal: {after_s: 1.0}
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import yaml

from harness.errors import UsageError
from harness.faults.fault import Fault
from harness.faults.targets import waits_for_observer
from harness.options import Number, Whole
from harness.worlds import logs, network
from harness.worlds.events import Logged, Observed, Passed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import Json
    from harness.faults.nemesis import Nemesis
    from harness.worlds.events import Event

# Bounds of the numbers in a hand-written plan; no run lasts longer than a week.
TIME_S = Number(0.0, 604_800.0)
HEAL_AFTER_S = Number(0.001, 604_800.0)
OPS = Whole(0, 10**9)
COUNT = Whole(1, 10**9)
STEPS_MAX = 10_000

Fields = Mapping[str, Number | Whole | None]
"""The kind of number of each field, or None for one that is a text."""

EVENTS = {"observe": ("node",), "log": ("node",), "message": ("from", "to")}
"""The fields of triggers that name events, one for each sort -> those that may say at
which nodes."""


@dataclass(frozen=True)
class Trigger:
    """When a step begins: by time, operations or events, or by time and events.

    Attributes:
        time_s: Seconds since the start of the run.
        ops: Client operations completed.
        event: What has to happen.
        count: Trigger at the count-th event since the start, or since `time_s`.
        within_s: Begin this long after `time_s` even if the events didn't come.
    """

    time_s: float | None = None
    ops: int | None = None
    event: Event | None = None
    count: int = 1
    within_s: float | None = None

    @property
    def latest_s(self) -> float:
        """When the step begins at the latest, if time decides that; else 0."""
        return (self.time_s or 0.0) + (self.within_s or 0.0)

    def as_data(self) -> dict[str, Json]:
        """The trigger as it stands in plan.yaml."""
        if self.ops is not None:
            return {"ops": self.ops}
        out: dict[str, Json] = {} if self.time_s is None else {"time_s": self.time_s}
        if self.event is not None:
            out |= {**_event_data(self.event), "count": self.count}
        return out if self.within_s is None else {**out, "within_s": self.within_s}


@dataclass(frozen=True)
class Step:
    """One fault of a plan; healed `heal_after_s` after it struck."""

    at: Trigger
    fault: Fault
    heal_after_s: float

    def as_data(self) -> dict[str, Json]:
        """The step as it stands in plan.yaml."""
        return {
            "at": self.at.as_data(),
            "fault": self.fault.as_data(),
            "heal": {"after_s": self.heal_after_s},
        }


Plan = tuple[Step, ...]


def tracks(plan: Plan) -> list[int]:
    """For each step the track that it runs on; a track has one strike at a time.

    Steps of one kind that the plan keeps apart by their times share a track, so that
    they stay apart even in a run that is late. There, a step ends the one before it on
    its track, and the end planned for that one then ends the later step. Steps that
    overlap as planned, or begin at a time that isn't known, have tracks of their own.
    """
    ends_s: dict[str, list[tuple[float, int]]] = {}  # by kind: a heap of its tracks
    out: list[int] = []
    count = 0
    for step in plan:
        of_kind = ends_s.setdefault(step.fault.kind, [])
        begin_s = step.at.time_s
        if begin_s is not None and of_kind and of_kind[0][0] <= begin_s:
            _, track = heapq.heappop(of_kind)
        else:
            track, count = count, count + 1
        if begin_s is not None:
            heapq.heappush(of_kind, (step.at.latest_s + step.heal_after_s, track))
        out.append(track)
    return out


def dump(plan: Plan) -> str:
    """The plan as YAML, readable back by `parse`."""
    data = [step.as_data() for step in plan]
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None)


def parse(data: object, source: str) -> Plan:
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


def _step(item: object, where: str) -> Step:
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


def _trigger(at: object, where: str) -> Trigger:
    if _holds(at, {"time_s": TIME_S}, needed=("time_s",)) or _holds(
        at, {"ops": OPS}, needed=("ops",)
    ):
        return Trigger(**at)
    times: Fields = {"time_s": TIME_S, "within_s": TIME_S}
    for sort, places in EVENTS.items():
        fields: Fields = {**dict.fromkeys((sort, *places)), "count": COUNT}
        if _holds(at, fields, needed=(sort,)) or _holds(
            at, {**fields, **times}, needed=(sort, *times)
        ):
            rest = {name: at[name] for name in ("count", *times) if name in at}
            return Trigger(event=_event(sort, at, where), **rest)
    raise UsageError(
        f"{where}: `at` must be {{time_s: SECONDS}}, {{ops: COUNT}}, "
        "{observe: KIND, node: NODE, count: K}, {log: PATTERN, node: NODE, count: K} "
        "or {message: PATTERN, from: NODE, to: NODE, count: K}, "
        "the last three maybe with {time_s: SECONDS, within_s: SECONDS}, "
        f"not {at!r:.100}"
    )


def _event(sort: str, at: Mapping[str, str], where: str) -> Event:
    """The event of that sort, whose fields have been checked."""
    if sort == "observe":
        return Observed(at["observe"], at.get("node"))
    try:
        if sort == "log":
            logs.compiled(at["log"])
            return Logged(at["log"], at.get("node"))
        network.compiled(at["message"])
    except UsageError as problem:
        raise UsageError(f"{where}: {sort}: {problem}") from problem
    if at.get("from", "") == at.get("to"):
        raise UsageError(f"{where}: message: a node sends nothing to itself")
    return Passed(at["message"], at.get("from"), at.get("to"))


def _event_data(event: Event) -> dict[str, Json]:
    """The fields of an event as they stand in plan.yaml."""
    match event:
        case Observed(kind, node):
            out: dict[str, Json] = {"observe": kind, "node": node}
        case Logged(pattern, node):
            out = {"log": pattern, "node": node}
        case Passed(pattern, sender, receiver):
            out = {"message": pattern, "from": sender, "to": receiver}
    return {name: value for name, value in out.items() if value is not None}


def _holds(
    data: Any, fields: Fields, *, needed: Sequence[str]
) -> TypeGuard[dict[str, Any]]:
    """Whether `data` has all `needed` fields, and values that its fields allow."""
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
        UsageError: A kind isn't among `nemeses`, or parameters make no sense.
    """
    for step in plan:
        nemesis = nemeses.get(step.fault.kind)
        if nemesis is None:
            raise UsageError(
                f"plan: fault {step.fault.kind!r:.60} is not among this run's nemeses "
                f"({', '.join(nemeses) or 'none'})"
            )
        nemesis.validate(step.fault, nodes)
        event = step.at.event
        if event is None and waits_for_observer(step.fault):
            raise UsageError(
                f"plan: {step.fault.kind}: target 'observer' needs a trigger that "
                "waits for an event (observe: KIND, log: PATTERN or message: PATTERN)"
            )
        for node in () if event is None else event.names:
            if node not in nodes:
                raise UsageError(f"plan: trigger: there is no node {node!r:.60}")
