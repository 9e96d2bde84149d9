"""Ways to make an experiment smaller, each a generator of candidates.

A way takes an experiment with a written plan, and gives changed copies, those with the
biggest step first. It knows nothing of whether they still fail, or can be run at all.
Not all are smaller: whoever searches keeps those whose `size` is.

Ways know what all plans have: triggers, targets, durations, numbers. What only one kind
of fault knows of itself, its nemesis says (`harness.faults.nemesis.Reducible`).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import msgspec

from harness import registry
from harness.campaign.experiment import Experiment, steps_of
from harness.campaign.shrinking.size import (
    digits,
    is_node,
    is_number,
    key_options,
    keys,
)
from harness.faults.fault import Fault
from harness.faults.nemesis import Punctual, Reducible
from harness.faults.plan import Step, Trigger
from harness.faults.targets import LEADER, for_observer, waits_for_observer
from harness.run import assembling
from harness.run.spec import system_options
from harness.systems import abilities
from harness.worlds.events import Logged, Observed, Passed

if TYPE_CHECKING:
    from harness.data import Json
    from harness.faults.plan import Plan
    from harness.systems.system import System
    from harness.worlds.events import Event


@dataclass(frozen=True)
class Change:
    """A changed experiment, and what was changed, in a clause."""

    told: str
    experiment: Experiment


N = TypeVar("N", int, float)

Way = Callable[["Experiment"], Iterator[Change]]

ROUND_S = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Durations that people write, shortest first."""
LIMITS_S = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
OPS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
COUNTS = (1, 2, 3)
"""How often an event may have to be seen, if that is not known."""
CERTAIN = 1.0
"""The amount of a fault that is a chance, and is sure to happen."""
SLOW_RATE = 2.0
"""Operations a second between which there is time to strike, on a busy machine too."""
SINGLES_MAX = 24
"""Up to this many steps each is tried alone."""


# --- putting experiments together -------------------------------------------------


def with_plan(experiment: Experiment, plan: Sequence[Step]) -> Experiment:
    """The experiment with another plan, and without what only the old one needed."""
    spec, kinds = experiment.spec, {step.fault.kind for step in plan}
    owners = {spec.workload, *spec.also, *kinds}
    kept = {
        key: text
        for key, text in spec.options.items()
        if "." not in key or key.partition(".")[0] in owners
    }
    # The kinds of fault are those of the plan, so the spec names none.
    spec = msgspec.structs.replace(spec, nemesis=[], profile=[], options=kept)
    data = msgspec.to_builtins([step.as_data() for step in plan])
    return Experiment(spec, data, experiment.plan_file)


def with_spec(experiment: Experiment, **fields: Any) -> Experiment:  # type: ignore[explicit-any]  # of the types of TestSpec
    """The experiment with other fields of its spec."""
    return replace(experiment, spec=msgspec.structs.replace(experiment.spec, **fields))


def drawn(experiment: Experiment) -> Experiment:
    """The experiment with the plan that its seed draws, as a written one.

    Raises:
        UsageError: The run is impossible.
    """
    if experiment.plan is not None:
        return with_plan(experiment, steps_of(experiment))
    spec = msgspec.structs.replace(experiment.spec)
    _, schedule, _ = assembling.prepare(spec)
    return with_plan(replace(experiment, spec=spec), schedule.plan)


def _each_step(
    experiment: Experiment, change: Callable[[Step], Iterator[tuple[str, Step]]]
) -> Iterator[Change]:
    """One step changed, for each step and each of its changes."""
    plan = steps_of(experiment)
    for place, step in enumerate(plan):
        for told, changed in change(step):
            steps = (*plan[:place], changed, *plan[place + 1 :])
            yield Change(_of_step(place, plan, told), with_plan(experiment, steps))


def _of_step(place: int, plan: Plan, told: str) -> str:
    return f"step {place + 1}, {plan[place].fault.kind}: {told}"


def _each_fault(
    experiment: Experiment, change: Callable[[Fault], Iterator[tuple[str, Fault]]]
) -> Iterator[Change]:
    def of_step(step: Step) -> Iterator[tuple[str, Step]]:
        for told, fault in change(step.fault):
            yield told, replace(step, fault=fault)

    return _each_step(experiment, of_step)


# --- the plan ----------------------------------------------------------------------


def fewer_steps(experiment: Experiment) -> Iterator[Change]:
    """Leave out faults: all, all but some in a row, each by itself.

    After ddmin (Zeller and Hildebrandt 2002): runs of steps that are kept, then runs of
    steps that are left out, of halved length each time. The last steps come first, as a
    failure is often due to what was done just before.
    """
    plan = steps_of(experiment)
    count = len(plan)
    if not count:
        return
    yield Change("no faults", with_plan(experiment, ()))
    sizes = [1 << k for k in range(count.bit_length()) if 1 << k < count]
    for kept in sizes:
        yield Change(
            f"the last {kept} of {count} steps",
            with_plan(experiment, plan[count - kept :]),
        )
    if 2 < count <= SINGLES_MAX:
        for place in reversed(range(count - 1)):
            told = f"step {place + 1} of {count} alone"
            yield Change(told, with_plan(experiment, plan[place : place + 1]))
    for gone in reversed(sizes):
        for first in reversed(range(0, count, gone)):
            last = min(count, first + gone)
            told = f"without steps {first + 1} to {last} of {count}"
            if last == first + 1:
                told = f"without step {last} of {count}"
            yield Change(told, with_plan(experiment, plan[:first] + plan[last:]))


def fewer_kinds(experiment: Experiment) -> Iterator[Change]:
    """Leave out all faults of one kind."""
    plan = steps_of(experiment)
    kinds = sorted({step.fault.kind for step in plan})
    for kind in kinds if len(kinds) > 1 else ():
        rest = [step for step in plan if step.fault.kind != kind]
        yield Change(f"without {kind}", with_plan(experiment, rest))


def plain_triggers(experiment: Experiment) -> Iterator[Change]:
    """Where a step waits for an event and a time, have it wait for one of them."""

    def plainer(step: Step) -> Iterator[tuple[str, Step]]:
        at = step.at
        if at.event is None or at.time_s is None:
            return
        yield "no time", replace(step, at=Trigger(event=at.event, count=at.count))
        aimed = waits_for_observer(step.fault)
        fault = for_leader(step.fault) if aimed else step.fault
        yield "no event", replace(step, at=Trigger(at.time_s), fault=fault)

    return _each_step(experiment, plainer)


def events(experiment: Experiment) -> Iterator[Change]:
    """Wait for events in place of times, which no two runs share.

    Tried are the moments that the system names, at which a fault may hurt most, seen
    for the first time, or a few times later; the fault is for the node of the event, or
    for whom it was before.
    """
    moments = assembling.moments(system_of(experiment))

    def by_event(step: Step) -> Iterator[tuple[str, Step]]:
        if step.at.time_s is None:
            return
        yield "at once", replace(step, at=Trigger(ops=0))
        for count, event in itertools.product(COUNTS, moments):
            told = f"at {event_words(event)} number {count}"
            at = Trigger(event=event, count=count)
            aimed_at = for_observer(step.fault)
            yield f"{told}, there", replace(step, at=at, fault=aimed_at)
            if aimed_at != step.fault:
                yield told, replace(step, at=at)

    return _each_step(experiment, by_event)


def system_of(experiment: Experiment) -> System:
    """The system of an experiment, as its options have it."""
    spec = experiment.spec
    return assembling.configure(spec.system, system_options(spec.options))


def other_events(experiment: Experiment) -> Iterator[Change]:
    """Wait for the first event of another kind, of those that the system names."""
    moments = assembling.moments(system_of(experiment))

    def at_another(step: Step) -> Iterator[tuple[str, Step]]:
        if step.at.event is not None:
            for event in moments:
                if event != step.at.event:
                    told = f"at {event_words(event)}"
                    yield told, replace(step, at=replace(step.at, event=event, count=1))

    return _each_step(experiment, at_another)


def behind_messages(experiment: Experiment) -> Iterator[Change]:
    """Have faults come just behind a message, where their nemesis knows how.

    Such a fault has to be in force before its message. So it is struck as a run begins,
    or after its first operation, with time between that one and those that follow.
    """
    spec = experiment.spec
    system = system_of(experiment)
    patterns = system.messages if isinstance(system, abilities.Worded) else ()
    slow = min(spec.rate or SLOW_RATE, SLOW_RATE)

    def behind(step: Step) -> Iterator[tuple[str, Step]]:
        nemesis = registry.find("nemesis", step.fault.kind).factory({})
        if not isinstance(nemesis, Punctual):
            return
        for pattern in patterns:
            for fault in nemesis.behind(step.fault, pattern, spec.node_names):
                yield f"behind {pattern}", replace(step, at=Trigger(ops=0), fault=fault)

    for change in _each_step(experiment, behind):
        yield change
        steps = [
            replace(step, at=Trigger(ops=1)) if step.at.ops == 0 else step
            for step in steps_of(change.experiment)
        ]
        later = with_spec(
            with_plan(change.experiment, steps),
            ops=None if spec.ops is None else spec.ops + 1,
            rate=slow,
        )
        yield Change(f"{change.told}, after an operation", later)


def for_leader(fault: Fault) -> Fault:
    """A fault for the observer of an event, aimed at the leader."""
    return Fault(fault.kind, {**fault.params, "target": LEADER})


def event_words(event: Event) -> str:
    """An event, in a word or two."""
    match event:
        case Observed(kind, node):
            return f"{kind} at {node}" if node else kind
        case Logged(pattern):
            return f"line {pattern:.30}"
        case Passed(pattern):
            return f"message {pattern:.30}"


def fewer_struck(experiment: Experiment) -> Iterator[Change]:
    """Strike fewer nodes and links: what the nemesis knows, one node, halves."""
    nodes = experiment.spec.node_names

    def weaker(fault: Fault) -> Iterator[tuple[str, Fault]]:
        nemesis = registry.find("nemesis", fault.kind).factory({})
        if isinstance(nemesis, Reducible):
            for simpler in nemesis.simpler(fault, nodes):
                yield _params_words(simpler), simpler
        target = fault.params.get("target")
        if isinstance(target, Mapping):
            [(_, names)] = target.items()
            yield "target leader", for_leader(fault)
            if isinstance(names, Sequence):
                for name in names:
                    yield f"target {name}", _with(fault, "target", [name])
        for name, value in fault.params.items():
            if is_names(value):
                for shorter in shorter_lists(value):
                    yield f"{name} {_words(shorter)}", _with(fault, name, shorter)

    return _each_fault(experiment, weaker)


def shorter_lists(items: Sequence[Json]) -> Iterator[list[Json]]:
    """Parts of a list of at least two: single items, halves, all but one."""
    count = len(items)
    if count < 2:
        return
    if count <= SINGLES_MAX:
        yield from ([item] for item in items)
    half = count // 2
    if half > 1:
        yield list(items[:half])
        yield list(items[half:])
    if count > 2:
        for place in range(count):
            yield [*items[:place], *items[place + 1 :]]


def fewer_parameters(experiment: Experiment) -> Iterator[Change]:
    """Leave out what a fault says beside its target, and shorten its lists."""

    def plainer(fault: Fault) -> Iterator[tuple[str, Fault]]:
        for name, value in fault.params.items():
            if name == "target":
                continue
            rest = {n: v for n, v in fault.params.items() if n != name}
            yield f"without {name}", Fault(fault.kind, rest)
            if isinstance(value, Sequence) and not isinstance(value, str):
                for shorter in shorter_lists(value):
                    yield f"{name} {_words(shorter)}", _with(fault, name, shorter)
            if value is True:
                yield f"{name} false", _with(fault, name, value=False)

    return _each_fault(experiment, plainer)


def counts(experiment: Experiment) -> Iterator[Change]:
    """Wait for fewer events, or fewer operations."""

    def sooner(step: Step) -> Iterator[tuple[str, Step]]:
        at = step.at
        if at.event is not None:
            for count in smaller(at.count, COUNTS):
                yield f"at number {count}", replace(step, at=replace(at, count=count))
        if at.ops is not None:
            for count in smaller(at.ops, (0, *OPS)):
                yield f"at operation {count}", replace(step, at=Trigger(ops=count))

    return _each_step(experiment, sooner)


def shorter(experiment: Experiment) -> Iterator[Change]:
    """Heal sooner: all faults, then each; times are round numbers."""
    plan = steps_of(experiment)
    longest = max((step.heal_after_s for step in plan), default=0.0)
    if len(plan) > 1:
        for each_s in smaller(longest, ROUND_S):
            cut = [
                replace(step, heal_after_s=min(each_s, step.heal_after_s))
                for step in plan
            ]
            yield Change(f"healed after {each_s:g} s", with_plan(experiment, cut))

    def sooner(step: Step) -> Iterator[tuple[str, Step]]:
        for after_s in rounder(step.heal_after_s):
            yield f"healed after {after_s:g} s", replace(step, heal_after_s=after_s)

    yield from _each_step(experiment, sooner)


def earlier(experiment: Experiment) -> Iterator[Change]:
    """Strike earlier: a step and all after it, at round times."""
    plan = steps_of(experiment)
    for place, step in enumerate(plan):
        at_s = step.at.time_s
        for new_s in () if at_s is None else rounder(at_s):
            assert at_s is not None
            by_s = at_s - new_s
            moved = [_moved(step, new_s)]
            moved += [
                later
                if later.at.time_s is None
                else _moved(later, round(max(0.0, later.at.time_s - by_s), 3))
                for later in plan[place + 1 :]
            ]
            told = f"at {new_s:g} s, later ones as much earlier"
            steps = (*plan[:place], *moved)
            yield Change(_of_step(place, plan, told), with_plan(experiment, steps))

    def alone(step: Step) -> Iterator[tuple[str, Step]]:
        if step.at.time_s is not None:
            for new_s in rounder(step.at.time_s):
                yield f"at {new_s:g} s", _moved(step, new_s)
        if step.at.within_s is not None:
            for within_s in rounder(step.at.within_s):
                at = replace(step.at, within_s=within_s)
                yield f"within {within_s:g} s", replace(step, at=at)

    yield from _each_step(experiment, alone)


def _moved(step: Step, time_s: float) -> Step:
    return replace(step, at=replace(step.at, time_s=time_s))


def amounts(experiment: Experiment) -> Iterator[Change]:
    """Less of what a fault does, and round numbers for it."""

    def less(fault: Fault) -> Iterator[tuple[str, Fault]]:
        for name, value in fault.params.items():
            if isinstance(value, int) and is_number(value):
                for whole in (0, *smaller(value, COUNTS)):
                    yield f"{name} {whole}", _with(fault, name, whole)
            # Less than certain is no simpler, and has to be seen more often.
            elif isinstance(value, float) and value != CERTAIN:
                for number in rounder(value):
                    yield f"{name} {number:g}", _with(fault, name, number)

    return _each_fault(experiment, less)


# --- clients, cluster and options ---------------------------------------------------


def fewer_operations(experiment: Experiment) -> Iterator[Change]:
    """Limit the clients' operations.

    Each limit is tried at the same rate, which is how the run began before, and with
    the operations spread over the time in which the plan strikes, if it does.
    """
    spec = experiment.spec
    now = float("inf") if spec.ops is None else spec.ops
    for ops in (*OPS, *([int(now * 0.8), int(now) - 1] if spec.ops else [])):
        if not 1 <= ops < now:
            continue
        told = f"{ops:,} operations"
        yield Change(told, with_spec(experiment, ops=ops))
        if not steps_of(experiment):
            continue
        span_s = _span_s(experiment)
        rate = max(0.001, float(f"{ops / span_s:.1g}"))
        if spec.rate is None or rate < spec.rate:
            slow = with_spec(experiment, ops=ops, rate=rate)
            yield Change(f"{told}, {rate:g} a second", slow)


def _span_s(experiment: Experiment) -> float:
    """How long the plan strikes, as far as it tells; the time limit bounds it."""
    ends = [step.at.latest_s + step.heal_after_s for step in steps_of(experiment)]
    return min(experiment.spec.time_limit_s, max(ends, default=1.0))


def fewer_clients(experiment: Experiment) -> Iterator[Change]:
    """Have fewer clients."""
    for clients in smaller(experiment.spec.concurrency, OPS):
        told = f"{clients} clients" if clients > 1 else "1 client"
        yield Change(told, with_spec(experiment, concurrency=clients))


def fewer_nodes(experiment: Experiment) -> Iterator[Change]:
    """Take nodes away, first those that the plan does not name; n1 is the first left.

    Faults at nodes that are gone are for the others that they name; if there are none,
    the plan can't be carried out, and this is no candidate.
    """
    nodes, plan = experiment.spec.node_names, steps_of(experiment)
    mentions = Counter(_nodes_in(plan))
    for count in range(1, len(nodes)):
        order = sorted(nodes, key=lambda node: (-mentions[node], nodes.index(node)))
        sets = [sorted(order[:count], key=nodes.index), nodes[:count]]
        for left in sets if sets[0] != sets[1] else sets[:1]:
            names = dict(zip(left, nodes[:count], strict=True))
            steps = [renamed(step, names) for step in plan]
            if None in steps:
                continue
            told = f"{count} nodes, of {' '.join(left)}"
            fewer = with_spec(experiment, nodes=count)
            yield Change(told, with_plan(fewer, [s for s in steps if s is not None]))


def other_names(experiment: Experiment) -> Iterator[Change]:
    """Call the nodes that the plan names n1, n2, ...; one by one, and all at once."""
    nodes, plan = experiment.spec.node_names, steps_of(experiment)
    named = list(dict.fromkeys(_nodes_in(plan)))
    rest = [node for node in nodes if node not in named]
    maps = [dict(zip([*named, *rest], nodes, strict=True))]
    for one, other in itertools.combinations(nodes, 2):
        if other in named:
            maps.append(
                {**dict(zip(nodes, nodes, strict=True)), one: other, other: one}
            )
    for names in maps:
        steps = [renamed(step, names) for step in plan]
        told = ", ".join(f"{n} is {names[n]}" for n in named if names[n] != n)
        yield Change(told, with_plan(experiment, [s for s in steps if s is not None]))


def _nodes_in(plan: Plan) -> Iterator[str]:
    def inside(value: Json) -> Iterator[str]:
        if isinstance(value, str):
            yield from [value] if is_node(value) else []
        elif isinstance(value, Mapping):
            for inner in value.values():
                yield from inside(inner)
        elif isinstance(value, Sequence):
            for inner in value:
                yield from inside(inner)

    for step in plan:
        yield from inside(dict(step.fault.params))
        if step.at.event is not None:
            yield from step.at.event.names


def renamed(step: Step, names: Mapping[str, str]) -> Step | None:
    """The step with other names of nodes; those that have none are left out.

    Returns:
        None if a fault or a trigger is left without what it needs.
    """
    params: dict[str, Json] = {}
    for name, value in step.fault.params.items():
        new = _renamed(value, names)
        if new is None and value is not None:
            return None
        params[name] = new
    at = step.at
    if at.event is not None and at.event.names:
        if not set(at.event.names) <= set(names):
            return None
        at = replace(at, event=_event_renamed(at.event, names))
    return replace(step, fault=Fault(step.fault.kind, params), at=at)


def _renamed(value: Json, names: Mapping[str, str]) -> Json:
    """The value with other names; None if nothing is left of it."""
    if isinstance(value, str):
        return names.get(value) if is_node(value) else value
    if isinstance(value, Mapping):
        inner = {word: _renamed(x, names) for word, x in value.items()}
        return None if None in inner.values() else inner
    if isinstance(value, Sequence):
        # A list in a list is a link ["n1", "n3"], or a change ["remove", "n3"].
        items = [_whole_renamed(item, names) for item in value]
        left = [item for item in items if item is not None]
        return left if left or not value else None
    return value


def _whole_renamed(item: Json, names: Mapping[str, str]) -> Json:
    """An item of a list with other names; None unless all of it is left."""
    if isinstance(item, str) or not isinstance(item, Sequence):
        return _renamed(item, names)
    parts = [_renamed(part, names) for part in item]
    return None if None in parts else parts


def _event_renamed(event: Event, names: Mapping[str, str]) -> Event:
    match event:
        case Observed(kind, node):
            return Observed(kind, None if node is None else names[node])
        case Logged(pattern, node):
            return Logged(pattern, None if node is None else names[node])
        case Passed(pattern, sender, receiver):
            return Passed(
                pattern,
                None if sender is None else names[sender],
                None if receiver is None else names[receiver],
            )


def fewer_keys(experiment: Experiment) -> Iterator[Change]:
    """Have clients touch fewer things."""
    spec = experiment.spec
    values = keys(spec)
    for name, kind in key_options(spec).items():
        for fewer in filter(kind.admits, smaller(values[name], OPS)):
            options = {**spec.options, name: str(fewer)}
            told = f"{fewer} {name.partition('.')[2]}"
            yield Change(told, with_spec(experiment, options=options))


def fewer_options(experiment: Experiment) -> Iterator[Change]:
    """Put options back to what they are by default: all, then one by one."""
    spec = experiment.spec
    touched = key_options(spec)
    free = [key for key in spec.options if key not in touched]
    kept = {key: text for key, text in spec.options.items() if key in touched}
    if len(free) > 1:
        yield Change("no options", with_spec(experiment, options=kept))
    for key in free:
        rest = {k: text for k, text in spec.options.items() if k != key}
        yield Change(f"without {key}", with_spec(experiment, options=rest))
    for name, plain in (
        ("also", []),
        ("pcap", False),
        ("messages", False),
        ("watchdog", False),
        ("network", "auto"),
        ("op_timeout_s", None),
    ):
        if getattr(spec, name) != plain:
            yield Change(f"without {name}", with_spec(experiment, **{name: plain}))


def sooner_over(experiment: Experiment) -> Iterator[Change]:
    """End the run sooner; faults planned for later go with the time."""
    for limit_s in smaller(experiment.spec.time_limit_s, LIMITS_S):
        yield over_after(experiment, limit_s)


def over_after(experiment: Experiment, limit_s: float) -> Change:
    """Another time limit, without the faults that are planned for later."""
    steps = [s for s in steps_of(experiment) if (s.at.time_s or 0.0) < limit_s]
    cut = with_spec(experiment, time_limit_s=limit_s)
    return Change(f"over after {limit_s:g} s", with_plan(cut, steps))


def rounder_rate(experiment: Experiment) -> Iterator[Change]:
    """A rate that is a round number."""
    rate = experiment.spec.rate
    for number in () if rate is None else rounder(rate):
        if number >= 0.001:
            told = f"{number:g} operations a second"
            yield Change(told, with_spec(experiment, rate=number))


# --- numbers and lists ---------------------------------------------------------------


def smaller(value: float, known: Sequence[N]) -> Iterator[N]:
    """Those of some numbers that are smaller, smallest first."""
    return (number for number in known if number < value)


def rounder(value: float) -> Iterator[float]:
    """Smaller round numbers, smallest first; then the number itself, rounded."""
    sign, value = (-1.0, -value) if value < 0 else (1.0, value)
    for number in smaller(value, ROUND_S):
        yield sign * number
    for places in range(1, min(3, digits(value))):
        yield sign * float(f"{value:.{places}g}")


def is_names(value: Json) -> TypeGuard[Sequence[Json]]:
    """Whether a parameter is a list of nodes, or of links between nodes."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        return False
    return all(
        is_node(item)
        or (
            isinstance(item, Sequence)
            and not isinstance(item, str)
            and len(item) == 2
            and all(map(is_node, item))
        )
        for item in value
    )


def _with(fault: Fault, name: str, value: Json) -> Fault:
    return Fault(fault.kind, {**fault.params, name: value})


def _words(value: Sequence[Json]) -> str:
    return " ".join(
        item
        if isinstance(item, str)
        else "->".join(map(str, item))
        if isinstance(item, Sequence)
        else str(item)
        for item in value
    )


def _params_words(fault: Fault) -> str:
    return ", ".join(
        f"{name} {_words(v) if isinstance(v, list | tuple) else v}"
        for name, v in fault.params.items()
    )


WAYS: tuple[Way, ...] = (
    sooner_over,
    fewer_steps,
    fewer_kinds,
    plain_triggers,
    fewer_struck,
    fewer_keys,
    fewer_operations,
    fewer_nodes,
    fewer_clients,
    fewer_options,
    fewer_parameters,
    counts,
    shorter,
    earlier,
    amounts,
    rounder_rate,
    other_names,
)
"""The ways for real processes, in the order in which they are tried."""
COARSE_WAYS: tuple[Way, ...] = (
    *WAYS[1:4],
    events,
    *WAYS[4:10],
)
"""Those that change what a reader notices first, for the simulator."""
SIM_WAYS: tuple[Way, ...] = (sooner_over, *COARSE_WAYS, *WAYS[10:])
"""The ways for the simulator, where there is time to try events that nobody has seen at
a fault."""
