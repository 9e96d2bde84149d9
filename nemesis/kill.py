"""Ends of processes: nodes are killed, and start again from what they had on disk.

A plain kill is SIGKILL to all of a node's processes, at the same moment to all nodes of
the target, and a start of all of them when it is healed. What else a plan may say:

    {kind: kill, target: [n1, n2, n3], signal: term, patience_s: 2, times: 4,
     order: [n3, n1, n2], apart_s: 0.5, delay_s: 120}

    signal      "term" sends the node's process SIGTERM, as an operator's stop does, and
                SIGKILL to what is left of it after `patience_s` (default 2).
    times       A crash loop: whenever the nodes serve again they are killed again,
                until they were killed so often, or the fault is healed.
    order       In which the nodes start again: their names, or "reverse". Without it
                they start in the order of the target.
    apart_s     Between one node's start and the next one's; without it all start at
                once, in no order.
    delay_s     From the heal to the first start: keeps nodes down for minutes. The rest
                of the plan goes on meanwhile, and the end of the run cuts it short.

Evidence: the pids, and that they are gone (the warden waited for them); which signal
ended each and with which status; the time between the first and the last signal; how
often they were killed; after the restart the new pids, and how long each took to serve.
A kill of nodes that were already down bites if it keeps them down for longer than the
strike that killed them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults.fault import Fault, require_number, require_params
from harness.faults.nemesis import Aimable
from harness.faults.targets import EVENTS_OPTION, for_target, validate_target, word_for
from harness.options import Number, Whole, Words
from harness.override import override
from harness.registry import Option, Plugin
from harness.worlds.capabilities import Capabilities
from nemesis.nodes import OPTIONS, NodeFault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.fault import NodeNames, Strike
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory
    from harness.worlds.processes import Ended

WAYS = ("plain", "term", "loop", "order", "late")
"""What is drawn: a plain kill, SIGTERM first, a crash loop, starts one by one, or a
start that comes some time after the heal."""
SIGNALS = ("kill", "term")
REVERSE = "reverse"

TERM_KNOB = "signal term"
"""It bit if a node heeded SIGTERM; else SIGKILL ended them all."""

PATIENCE_S = 2.0
LOOP = (2, 5)
"""How often a crash loop that is drawn kills."""
DELAY_S = (0.5, 6.0)
"""How long nodes stay away after the heal: other faults come and go meanwhile."""
APART_S = (0.05, 1.0)
"""How far apart the starts are that are drawn: about as long as a start, or more."""

KILL_OPTIONS = (
    *OPTIONS,
    Option(
        "ways",
        "plain+plain+plain+plain+term+loop+order+late",
        "ways to draw from: plain, SIGTERM before SIGKILL, a crash loop, starts one by "
        "one in another order, late starts; one that is named twice is drawn twice as "
        "often",
        Words(WAYS),
    ),
    EVENTS_OPTION,
)

PARAMS = ("target", "signal", "patience_s", "times", "order", "apart_s", "delay_s")
NUMBERS: Mapping[str, Number | Whole] = {
    "patience_s": Number(0.001, 60.0),
    "times": Whole(1, 10_000),
    "apart_s": Number(0.0, 3600.0),
    "delay_s": Number(0.0, 604_800.0),
}


class Kill(NodeFault, Aimable):
    """Kills nodes and starts them again."""

    kind = "kill"
    needs = Capabilities(processes=frozenset({"kill"}))
    options = KILL_OPTIONS
    heals_beside = True

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        self.ways: tuple[str, ...] = self.settings["ways"]
        self.events: tuple[str, ...] = self.settings["events"]

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random target among those configured, and a way to kill it."""
        target = super().draw(random, nodes).params["target"]
        drawn: dict[str, Json] = {"target": target}
        way = random.choice(self.ways)
        if way == "term":
            drawn["signal"] = "term"
        elif way == "loop":
            drawn["times"] = random.randint(*LOOP)
        elif way == "order" and isinstance(target, list) and len(target) > 1:
            drawn["order"] = random.sample(target, len(target))
            drawn["apart_s"] = round(random.uniform(*APART_S), 3)
        elif way == "late":
            drawn["delay_s"] = round(random.uniform(*DELAY_S), 3)
        return Fault(self.kind, drawn)

    @override
    def aimed_at(self, fault: Fault, target: Json, nodes: Sequence[str]) -> Fault:
        """The kill of these nodes, which start again in no order."""
        if word_for(target, nodes) not in self.targets:
            return fault
        rest = {name: x for name, x in fault.params.items() if name != "order"}
        return for_target(Fault(self.kind, rest), target)

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require a target; and ways to end and to start it that make sense."""
        require_params(fault, PARAMS)
        params = fault.params
        target = params.get("target")
        validate_target(self.kind, target, nodes)
        for name, kind in NUMBERS.items():
            if name in params:
                require_number(fault, name, kind)
        if params.get("signal", "kill") not in SIGNALS:
            raise UsageError(
                f"plan: kill: signal must be {' or '.join(SIGNALS)}, "
                f"not {params['signal']!r:.60}"
            )
        if "patience_s" in params and params.get("signal") != "term":
            raise UsageError("plan: kill: patience_s needs signal: term")
        validate_order(params.get("order", REVERSE), target, nodes)

    def lingers_s(self, fault: Fault, lasted_s: float) -> float:
        """How long after the heal the last node starts, as far as the plan tells."""
        named = fault.params.get("order")
        others = len(named) - 1 if isinstance(named, list | tuple) else 0
        return fault.number("delay_s", 0.0) + others * fault.number("apart_s", 0.0)

    @override
    def named(self, fault: Fault) -> str:
        """The fault for titles: "terminate", or "kill 3 times"."""
        verb = "terminate" if fault.text("signal", "kill") == "term" else self.kind
        times = times_of(fault)
        return verb if times == 1 else f"{verb} up to {times} times"

    @override
    async def do(
        self, fault: Fault, nodes: NodeNames, cluster: Grip
    ) -> tuple[dict[str, Json], bool]:
        """End `nodes` at once, and wait until they are gone."""
        ended = await kill_once(fault, nodes, cluster)
        if times_of(fault) > 1:
            cluster.meanwhile(again(fault, nodes, cluster))
        return shown(ended), any(one.pid for one in ended.values())

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Start the killed nodes again and wait until they serve."""
        bit = strike.bit or bool(cluster.held_for_longer)
        fault = strike.fault
        order = order_of(fault, strike.nodes)
        delay_s, apart_s = fault.number("delay_s", 0.0), fault.number("apart_s", 0.0)
        started: dict[str, dict[str, Json]] = {}
        if apart_s == 0:
            late = await cluster.rest(delay_s)
            started = await cluster.restart(order)
        else:

            async def start(node: str, after_s: float) -> bool:
                waited = await cluster.rest(after_s)
                started.update(await cluster.restart([node]))
                return waited

            late = all(
                await asyncio.gather(
                    *(start(n, delay_s + i * apart_s) for i, n in enumerate(order))
                )
            )
        evidence: dict[str, Json] = {"restarted": {**started}}
        knobs: dict[str, bool | None] = {}
        if times_of(fault) > 1:
            evidence["kills"] = cluster.tally["kills"]
            knobs["crash loop"] = cluster.tally["kills"] > 1
        if "order" in fault.params:
            knobs["starts in order"] = len(started) > 1 and late and apart_s > 0
        if "delay_s" in fault.params:
            knobs["late start"] = bool(started) and late and delay_s > 0
        if TERM_KNOB in fault.knobs:
            knobs[TERM_KNOB] = cluster.tally["heeded"] > 0
        return strike.proven(evidence, bit=bit, knobs=knobs)


def validate_order(order: Json, target: Json, nodes: Sequence[str]) -> None:
    """Check the order of a hand-written fault.

    If its target is a word, nobody knows yet which nodes are meant, so the order may
    name more; those are passed over.

    Raises:
        UsageError: It is neither "reverse" nor names each node of the target once.
    """
    if order == REVERSE:
        return
    meant = target if isinstance(target, list | tuple) else None
    names = order if isinstance(order, list | tuple) else ()
    known = [name for name in nodes if name in names]
    if len(known) != len(names) or (meant is not None and set(names) != set(meant)):
        raise UsageError(
            "plan: kill: order must be 'reverse', or name each node of the target "
            f"once, not {order!r:.60}"
        )


async def again(fault: Fault, nodes: NodeNames, cluster: Grip) -> None:
    """Kill the nodes whenever they serve, until they were killed often enough."""
    while cluster.tally["kills"] < times_of(fault):
        if not await cluster.try_start(nodes):
            return  # other strikes hold them down, or they stay down for good
        await kill_once(fault, nodes, cluster)


async def kill_once(
    fault: Fault, nodes: NodeNames, cluster: Grip
) -> Mapping[str, Ended]:
    """End the nodes as the fault says, and count it."""
    ended = await cluster.end(nodes, patience_s(fault))
    cluster.tally["kills"] += 1
    cluster.tally["heeded"] += any(
        one.pid and one.signal == "SIGTERM" for one in ended.values()
    )
    return ended


def times_of(fault: Fault) -> int:
    """How often the nodes are to be killed."""
    return int(fault.number("times", 1))


def patience_s(fault: Fault) -> float:
    """How long the nodes have to heed SIGTERM; 0 if they get none."""
    if fault.text("signal", "kill") == "kill":
        return 0.0
    return fault.number("patience_s", PATIENCE_S)


def order_of(fault: Fault, nodes: NodeNames) -> list[str]:
    """The order in which the nodes start again."""
    order = fault.params.get("order")
    if order is None:
        return list(nodes)
    if order == REVERSE:
        return list(reversed(nodes))
    assert isinstance(order, list | tuple)
    named = [str(node) for node in order if node in nodes]
    return [*named, *(node for node in nodes if node not in named)]


def shown(ended: Mapping[str, Ended]) -> dict[str, Json]:
    """How the nodes ended, as evidence."""
    were = {node: one for node, one in ended.items() if one.pid}
    evidence: dict[str, Json] = {"killed": {n: one.pid for n, one in ended.items()}}
    if were and not any(one.signal.startswith("SIG") for one in were.values()):
        evidence = {}  # by an operator's command, and nobody knows pids
    if any(one.signal != "SIGKILL" for one in were.values()):
        evidence["ended_by"] = {
            node: f"{one.signal}, status {one.status}, after {one.took_ms:.0f} ms"
            for node, one in were.items()
        }
    if len(were) > 1:
        times_ns = [one.at_ns for one in were.values()]
        evidence["spread_ns"] = max(times_ns) - min(times_ns)
    return evidence


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "kill",
    "SIGKILL nodes, or SIGTERM first, once or in a crash loop, and restart them: one, "
    "minority, majority, all, leader",
    Kill,
    KILL_OPTIONS,
)
