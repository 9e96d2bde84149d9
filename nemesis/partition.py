"""Network partitions: grudges over directed links.

Shapes after jepsen.nemesis (`bisect`, `split-one`, `bridge`, `majorities-ring`), plus
one-way cuts and the isolation of the leader, or of nodes chosen for the majority that
is left or broken. A grudge is the set of directed links that are cut; it is drawn with
the plan, so a replay cuts the very same links.

A `link` whose target is the observer of a message is the link that the message passes
over (`harness.faults.plan`).

A spread is a grudge that changes: one node after another is isolated, every `pace_ms`,
and then they come back in another order, at the same pace. A node may so return to
peers that have forgotten it, or to fewer than it left. It is drawn on request only, so
that partitions of a seed stay what they were.

Evidence: the frames that died on the cut links, counted by the network. If nothing was
sent over a cut link, the partition did not bite, and is shown as such.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults.drawing import log_uniform
from harness.faults.fault import Fault, Skip, Strike, require_number, require_params
from harness.faults.nemesis import Aimable, Nemesis
from harness.faults.targets import (
    BREAK,
    KEEP,
    LEADER,
    aimed,
    draw_target,
    minority_size,
    resolve_target,
    validate_target,
    who,
    word_for,
)
from harness.options import Number, Words
from harness.override import override
from harness.registry import Option, Plugin, nearest, settings
from harness.worlds.capabilities import Capabilities
from harness.worlds.network import Link, LinkRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from random import Random

    from harness.data import Json
    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory

STANDING = ("one", "halves", "minority", "ring", "bridge", "one-way", LEADER)
SPREAD = "spread"
LINK = "link"
SHAPES = (*STANDING, LINK, SPREAD)
WORDS = (*SHAPES, KEEP, BREAK)
ISOLATING = ("one", "minority", LEADER, KEEP, BREAK)
"""Shapes that a fault with a target may name: all of them isolate it."""
SpreadStep = tuple[str, str, set[Link]]
"""("isolated" or "back", the node, all links that are cut from then on)"""
PACE_MS = Number(5.0, 3_600_000.0)
DRAWN_PACE_MS = (30.0, 700.0)
"""Every order of magnitude in between is equally likely."""

OPTIONS = (
    Option(
        "shapes",
        "+".join(STANDING),
        "shapes to draw from: one node isolated, random halves, minority against "
        "majority, overlapping majorities in a ring, a bridge node between halves, "
        "one direction only, the leader isolated; link: a single link; spread: node "
        "after node is isolated, and they come back in another order; keep-majority: a "
        "set of nodes isolated such that a majority is left; break-majority: nodes "
        "isolated one by one such that none is",
        Words(WORDS),
    ),
)


def between(groups: Sequence[Sequence[str]]) -> set[Link]:
    """All links between different `groups`, both ways."""
    return {
        (a, b)
        for one, other in itertools.permutations(groups, 2)
        for a in one
        for b in other
    }


def majorities_ring(ring: Sequence[str]) -> set[Link]:
    """Every node sees a majority, no two nodes see the same one.

    Each node keeps its links to the nearest neighbours on both sides of `ring` that
    make up a majority with itself; all other links are cut. With five nodes and more
    no majority agrees on who is there (Jepsen's `majorities-ring`).
    """
    count = len(ring)
    reach = (count // 2 + 1) // 2
    return {
        (ring[i], ring[j])
        for i in range(count)
        for j in range(count)
        if i != j and min((i - j) % count, (j - i) % count) > reach
    }


def grudge(shape: str, order: Sequence[str]) -> set[Link]:
    """The links that `shape` cuts. `order` decides which node plays which part.

    Raises:
        UsageError: The shape needs more nodes than there are.
    """
    count = len(order)
    if count < 2 or (shape in {"ring", "bridge"} and count < 3):
        raise UsageError(f"partition: shape {shape!r} needs more than {count} nodes")
    match shape:
        case "one":
            return between([order[:1], order[1:]])
        case "halves":
            return between([order[: count // 2], order[count // 2 :]])
        case "minority":
            cut = minority_size(count)
            return between([order[:cut], order[cut:]])
        case "ring":
            # Among three nodes a ring of majorities leaves every link in place: a
            # neighbour on each side is everybody. One cut link comes nearest.
            return majorities_ring(order) or between([order[:1], order[1:2]])
        case "bridge":
            half = (count - 1) // 2
            return between([order[1 : 1 + half], order[1 + half :]])
        case "link":
            return between([order[:1], order[1:2]])
        case "one-way":
            return {(a, b) for a in order[:1] for b in order[1:]}
        case _:
            raise UsageError(
                f"partition: there is no shape {shape!r}{nearest(shape, SHAPES)} "
                f"(shapes: {', '.join(SHAPES)})"
            )


def spread(
    order: Sequence[str], back: Sequence[str], nodes: Sequence[str]
) -> Iterator[SpreadStep]:
    """The steps of a spread.

    Nodes of `order` are isolated one after the other, from each other too, and then
    come back in the order of `back`.
    """
    alone: list[str] = []
    for what, who_next in (("isolated", order), ("back", back)):
        for node in who_next:
            alone = (
                [n for n in alone if n != node] if what == "back" else [*alone, node]
            )
            rest = [n for n in nodes if n not in alone]
            yield what, node, between([*([n] for n in alone), rest])


def describe(cut: Iterable[Link], nodes: Sequence[str]) -> str:
    """A cut in words: `n3 | n1 n2 n4 n5` for a clean split, else the cut links."""
    cut = set(cut)
    groups: list[list[str]] = []
    for node in nodes:
        for group in groups:
            if not any((node, m) in cut or (m, node) in cut for m in group):
                group.append(node)
                break
        else:
            groups.append([node])
    if cut == between(groups):
        return " | ".join(" ".join(group) for group in groups)
    arrows = []
    for a, b in sorted(cut):
        if (b, a) not in cut:
            arrows.append(f"{a} -/-> {b}")
        elif a < b:
            arrows.append(f"{a} -/- {b}")
    return ", ".join(arrows)


class Partition(Nemesis, Aimable):
    """Cuts links."""

    kind = "partition"
    needs = Capabilities(network=frozenset({"cut"}))
    background = False

    def __init__(self, options: Mapping[str, str]) -> None:
        given = settings(self.kind, OPTIONS, options)
        self.shapes: tuple[str, ...] = given["shapes"]

    @override
    def draw(self, random: Random, nodes: Sequence[str]) -> Fault:
        """A random shape over a random order of the nodes.

        Shapes that need more nodes than there are fall back to isolating one; a
        one-way cut points outwards or inwards with equal chance.
        """
        shape = random.choice(self.shapes)
        order = random.sample(list(nodes), len(nodes))
        inwards = random.random() < 0.5
        if shape in {LEADER, KEEP, BREAK}:
            target = draw_target(random, shape, nodes)
            return Fault(self.kind, {"shape": shape, "target": target})
        if shape == SPREAD:
            return self._draw_spread(random, order)
        if len(nodes) < 3 and shape in {"ring", "bridge"}:
            shape = "one"
        cut = grudge(shape, order)
        if shape == "one-way" and inwards:
            cut = {(b, a) for a, b in cut}
        return Fault(
            self.kind, {"shape": shape, "cut": [list(link) for link in sorted(cut)]}
        )

    @override
    def aimed_at(self, fault: Fault, target: Json, nodes: Sequence[str]) -> Fault:
        """The isolation of these nodes, if shapes are drawn that isolate as many."""
        shape = word_for(target, nodes)
        drawn = fault.params.get("shape")
        if shape not in self.shapes or drawn in {SPREAD, KEEP, BREAK}:
            return fault
        return Fault(self.kind, {"shape": shape, "target": target})

    def _draw_spread(self, random: Random, order: Sequence[str]) -> Fault:
        """A spread over at least two nodes, if there are more, which leaves one."""
        count = random.randint(min(2, len(order) - 1), len(order) - 1)
        low, high = DRAWN_PACE_MS
        out = list(order[:count])
        back = random.sample(out, count)
        return Fault(
            self.kind,
            {
                "shape": SPREAD,
                "order": out,
                "back": back[::-1] if back == out else back,
                "pace_ms": round(log_uniform(random, low, high), 1),
            },
        )

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require a known shape with links to cut, a target to isolate, or a spread."""
        if len(nodes) < 2:
            raise UsageError("plan: a partition needs at least two nodes")
        if fault.params.get("shape") == SPREAD:
            self._validate_spread(fault, nodes)
            return
        require_params(fault, ("shape", "cut", "target"))
        if ("cut" in fault.params) == ("target" in fault.params):
            raise UsageError("plan: partition: give either `cut` or `target`")
        if "target" in fault.params:
            self._validate_isolation(fault, nodes)
            return
        shape = fault.params.get("shape", SHAPES[0])
        if shape not in SHAPES:
            raise UsageError(
                f"plan: partition: there is no shape {shape!r:.60} "
                f"(shapes: {', '.join(SHAPES)})"
            )
        cut = fault.params["cut"]
        if not isinstance(cut, list) or not cut:
            raise UsageError("plan: partition: `cut` must list [from, to] links")
        for link in cut:
            if not isinstance(link, list) or len(link) != 2:
                raise UsageError(
                    f"plan: partition: not a [from, to] link: {link!r:.60}"
                )
            validate_target(self.kind, list(link), nodes)

    def _validate_isolation(self, fault: Fault, nodes: Sequence[str]) -> None:
        target = fault.params["target"]
        validate_target(self.kind, target, nodes)
        shape = fault.params.get("shape", LEADER)
        if shape not in (*ISOLATING, LINK):
            raise UsageError(
                f"plan: partition: with a target, shape must be one of "
                f"{', '.join((*ISOLATING, LINK))} or left out, not {shape!r:.60}"
            )
        if shape == LINK and isinstance(target, list | tuple) and len(target) < 2:
            raise UsageError("plan: partition: shape link needs a target of two nodes")

    def _validate_spread(self, fault: Fault, nodes: Sequence[str]) -> None:
        require_params(fault, ("shape", "order", "back", "pace_ms"))
        for name in ("order", "back"):
            order = fault.params.get(name)
            if not isinstance(order, list):
                raise UsageError(f"plan: partition: `{name}` must be a list of nodes")
            validate_target(self.kind, order, nodes)
        out, back = fault.params["order"], fault.params["back"]
        assert isinstance(out, list)
        assert isinstance(back, list)
        if set(out) != set(back):
            raise UsageError("plan: partition: `back` must name the nodes of `order`")
        require_number(fault, "pace_ms", PACE_MS)

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Cut the fault's links; evidence comes with healing."""
        if fault.params.get("shape") == SPREAD:
            return await self._strike_spread(fault, cluster)
        why = ""
        if "target" in fault.params:
            isolated, why = await resolve_target(fault.target, cluster)
            rest = [n for n in cluster.nodes if n not in isolated]
            if fault.params.get("shape") == LINK:
                if len(isolated) < 2:
                    raise Skip(f"a link has two ends, and {who(isolated, why)} is one")
                cut = frozenset(between([[node] for node in isolated]))
                title = "link: "
            else:
                # Nodes that are to leave no majority must not be one by themselves.
                breaks = fault.target == BREAK or BREAK in fault.target
                groups = [[node] for node in isolated] if breaks else [list(isolated)]
                cut = frozenset(between([*groups, rest]))
                title = f"isolate {who(isolated, why)}: "
        else:
            cut = frozenset(fault.pairs("cut"))
            isolated = tuple(n for n in cluster.nodes if any(n in x for x in cut))
            title = f"{fault.text('shape', 'cut')}: "
        await cluster.shape_links(dict.fromkeys(cut, LinkRule(cut=True)))
        return Strike(
            fault,
            title + describe(cut, cluster.nodes),
            isolated,
            {"cut": [f"{a}->{b}" for a, b in sorted(cut)], **aimed(why)},
        )

    @override
    async def heal(self, strike: Strike, cluster: Grip) -> Strike:
        """Restore the links and count what died on them."""
        counts = await cluster.mend_links()
        evidence: dict[str, Json] = {"frames_dropped": counts.cut}
        if counts.commands:
            evidence = {"links_cut_by_commands": counts.commands}
        if strike.fault.params.get("shape") == SPREAD:
            evidence |= {name: cluster.tally[name] for name in ("isolated", "back")}
        return strike.proven(evidence, bit=counts.cut + counts.commands > 0)

    def simpler(self, fault: Fault, nodes: Sequence[str]) -> Iterator[Fault]:
        """Isolations of a few nodes, or both ways of a link, for a list of links."""
        if "cut" not in fault.params:
            return
        cut = set(fault.pairs("cut"))
        for size in range(1, len(nodes) // 2 + 1):
            for side in itertools.combinations(nodes, size):
                rest = [node for node in nodes if node not in side]
                if between([side, rest]) & cut:
                    yield Fault(self.kind, {"shape": "one", "target": list(side)})
        for a, b in itertools.combinations(nodes, 2):
            if {(a, b), (b, a)} <= cut:
                yield Fault(self.kind, {"shape": LINK, "target": [a, b]})

    def behind(
        self, fault: Fault, pattern: str, nodes: Sequence[str]
    ) -> Iterator[Fault]:
        """Cuts of links behind a message: those of the target, or of a single node."""
        target = fault.params.get("target")
        rule: dict[str, Json] = {"pattern": pattern, "cut": 1.0}
        if fault.params.get("shape") == LINK:
            rule["direction"] = "between"
        if isinstance(target, list | tuple):
            yield Fault("message", {**rule, "target": list(target)})
        else:
            for node in nodes:
                yield Fault("message", {**rule, "target": [node]})

    async def _strike_spread(self, fault: Fault, cluster: Grip) -> Strike:
        order, back = fault.names("order"), fault.names("back")
        steps = spread(order, back, cluster.nodes)
        await self._take(next(steps), cluster)
        cluster.meanwhile(self._go_on(steps, fault.number("pace_ms"), cluster))
        return Strike(
            fault,
            f"spread, a node every {fault.number('pace_ms'):g} ms: isolate "
            f"{' '.join(order)}; back come {' '.join(back)}",
            order,
        )

    async def _go_on(
        self, steps: Iterator[SpreadStep], pace_ms: float, cluster: Grip
    ) -> None:
        for step in steps:
            await asyncio.sleep(pace_ms / 1e3)
            await self._take(step, cluster)

    async def _take(self, step: SpreadStep, cluster: Grip) -> None:
        what, _, cut = step
        await cluster.shape_links(dict.fromkeys(sorted(cut), LinkRule(cut=True)))
        cluster.tally[what] += 1


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "partition",
    "cut links between nodes: one node, halves, minority, ring, bridge, one-way, "
    "leader, link, spread",
    Partition,
    OPTIONS,
)
