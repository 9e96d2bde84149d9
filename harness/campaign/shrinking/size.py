"""How large an experiment is, for whoever has to understand why it fails.

Sizes are compared part by part, and the first that differs decides. So a plan of one
step is smaller than one of two, however long that step lasts. Parts are natural
numbers, so no chain of ever smaller experiments goes on for ever, and a search that
accepts smaller experiments only must end.

The order is that in which people ask: how many things are broken, of how many kinds, at
which moments and where; then how much the clients do; then how large the cluster is,
and what was configured. Durations come last: a fault is no easier to understand for
being short.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from harness import registry
from harness.campaign.experiment import steps_of
from harness.errors import UsageError
from harness.options import Whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.campaign.experiment import Experiment
    from harness.data import Json
    from harness.faults.plan import Plan, Step, Trigger
    from harness.run.spec import TestSpec

UNBOUNDED = 10**9 + 1
"""Stands for the operations of a run that are not limited."""

KEYS = ("keys", "accounts", "locks")
"""What workloads call the number of things that clients touch."""

NODE = re.compile(r"n[1-9][0-9]{0,2}")

MS = 1000


class Size(NamedTuple):
    """The size of an experiment; smaller ones are easier to understand.

    Attributes:
        steps: Faults of the plan.
        kinds: Kinds of fault.
        clocked: Triggers by time count one each, those by event and time two, and those
            by event alone none: they find their moment in every run.
        struck: Nodes and links that faults name; a word such as "leader" counts one.
        ops: Limit of client operations.
        nodes: Members of the cluster.
        clients: Client threads.
        keys: Things that clients touch.
        configured: Options that are set, checkers beside the workload's, and captures.
        parameters: Parameters of faults beside their targets.
        counts: The counts of triggers by events or operations.
        digits: Significant digits of all numbers that a reader sees.
        limit_ms: The time limit.
        lasting_ms: How long all faults last together.
        begins_ms: When faults begin, added up.
        amounts: How bad faults are, in thousandths, added up.
        names: The numbers of the nodes named, added up: n1 is 0.
    """

    steps: int
    kinds: int
    clocked: int
    struck: int
    ops: int
    nodes: int
    clients: int
    keys: int
    configured: int
    parameters: int
    counts: int
    digits: int
    limit_ms: int
    lasting_ms: int
    begins_ms: int
    amounts: int
    names: int


def size(experiment: Experiment) -> Size:
    """The size of an experiment with a written plan."""
    spec, plan = experiment.spec, steps_of(experiment)
    leaves = [leaf for step in plan for leaf in parameters(step)]
    named = [int(leaf[1:]) - 1 for _, leaf in leaves if is_node(leaf)]
    numbers = [leaf for _, leaf in leaves if is_number(leaf)]
    shown = [*numbers, *_numbers_shown(spec, plan)]
    return Size(
        steps=len(plan),
        kinds=len({step.fault.kind for step in plan}),
        clocked=sum(map(_clocked, plan)),
        struck=sum(is_node(leaf) or _is_target(name) for name, leaf in leaves),
        ops=UNBOUNDED if spec.ops is None else spec.ops,
        nodes=spec.nodes,
        clients=spec.concurrency,
        keys=sum(keys(spec).values()),
        configured=len(spec.options)
        + len(spec.also)
        + spec.pcap
        + spec.messages
        + spec.watchdog
        + (spec.network != "auto")
        + (spec.op_timeout_s is not None),
        parameters=sum(not is_node(x) and not _is_target(name) for name, x in leaves),
        counts=sum((step.at.ops or 0) + _count(step.at) for step in plan),
        digits=sum(map(digits, shown)),
        limit_ms=_ms(spec.time_limit_s),
        lasting_ms=sum(_ms(step.heal_after_s) for step in plan),
        begins_ms=sum(_ms(step.at.latest_s) for step in plan),
        amounts=sum(round(abs(x) * MS) for x in numbers),
        names=sum(named) + sum(int(n[1:]) for step in plan for n in _places(step)),
    )


def parameters(step: Step) -> Iterator[tuple[str, Json]]:
    """Each parameter of a fault as (name, value); items of lists, one by one."""
    for name, value in step.fault.params.items():
        yield from _leaves(name, value)


def _leaves(name: str, value: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(value, Mapping):
        for word, inner in value.items():
            yield name, word
            yield from _leaves(name, inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _leaves(name, item)
    else:
        yield name, value


def is_node(leaf: object) -> TypeGuard[str]:
    """Whether a value of a plan names a node, as nodes of a run are called."""
    return isinstance(leaf, str) and NODE.fullmatch(leaf) is not None


def is_number(leaf: object) -> TypeGuard[float]:
    """Whether a value of a plan is a number; true and false are none."""
    return isinstance(leaf, int | float) and not isinstance(leaf, bool)


def key_options(spec: TestSpec) -> dict[str, Whole]:
    """Option of the workload for the number of things touched -> the kind of its value.

    `--set` names it with the workload's name before it. Empty if there is no such
    workload here.
    """
    try:
        options = registry.find("workload", spec.workload).options
    except UsageError:
        return {}
    return {
        f"{spec.workload}.{option.name}": option.kind
        for option in options
        if option.name in KEYS and isinstance(option.kind, Whole)
    }


def keys(spec: TestSpec) -> dict[str, int]:
    """Option for the number of things touched -> its value."""
    known = key_options(spec)
    options = registry.find("workload", spec.workload).options if known else ()
    return {
        name: int(spec.options.get(name, option.default))
        for option in options
        if (name := f"{spec.workload}.{option.name}") in known
    }


def digits(number: float) -> int:
    """Significant digits of a number: 2 of 0.25, 1 of 300, none of 0."""
    text = f"{abs(number):.12g}" if isinstance(number, float) else str(abs(number))
    mantissa = text.partition("e")[0].replace(".", "")
    return len(mantissa.strip("0"))


def _numbers_shown(spec: TestSpec, plan: Plan) -> Iterator[float]:
    yield spec.time_limit_s
    if spec.rate is not None:
        yield spec.rate
    for step in plan:
        yield step.heal_after_s
        yield from (x for x in (step.at.time_s, step.at.within_s) if x is not None)


def _is_target(name: str) -> bool:
    return name == "target"


def _clocked(step: Step) -> int:
    if step.at.time_s is None:
        return 0
    return 1 if step.at.event is None else 2


def _count(at: Trigger) -> int:
    return 0 if at.event is None else at.count


def _places(step: Step) -> Sequence[str]:
    return () if step.at.event is None else list(filter(is_node, step.at.event.names))


def _ms(seconds: float) -> int:
    return round(seconds * MS)
