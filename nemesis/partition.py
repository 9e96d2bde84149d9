"""Network partitions: grudges over directed links.

Shapes after jepsen.nemesis (`bisect`, `split-one`, `bridge`, `majorities-ring`), plus
one-way cuts and the isolation of the leader. A grudge is the set of directed links
that are cut; it is drawn with the plan, so a replay cuts the very same links.

Evidence: the frames that died on the cut links, counted by the network. If nothing was
sent over a cut link, the partition did not bite, and is shown as such.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.faults.fault import Fault, Strike, require_params
from harness.faults.nemesis import Nemesis
from harness.faults.targets import (
    aimed,
    minority_size,
    resolve_target,
    validate_target,
    who,
)
from harness.options import Words
from harness.override import override
from harness.registry import Option, Plugin, nearest, settings
from harness.worlds.capabilities import Capabilities
from harness.worlds.network import Link, LinkRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from random import Random

    from harness.faults.force import Grip
    from harness.faults.nemesis import NemesisFactory

SHAPES = ("one", "halves", "minority", "ring", "bridge", "one-way", "leader")

OPTIONS = (
    Option(
        "shapes",
        "+".join(SHAPES),
        "shapes to draw from: one node isolated, random halves, minority against "
        "majority, overlapping majorities in a ring, a bridge node between halves, "
        "one direction only, the leader isolated",
        Words(SHAPES),
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
        case "one-way":
            return {(a, b) for a in order[:1] for b in order[1:]}
        case _:
            raise UsageError(
                f"partition: there is no shape {shape!r}{nearest(shape, SHAPES)} "
                f"(shapes: {', '.join(SHAPES)})"
            )


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


class Partition(Nemesis):
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
        if shape == "leader":
            return Fault(self.kind, {"shape": shape, "target": "leader"})
        if len(nodes) < 3 and shape in {"ring", "bridge"}:
            shape = "one"
        cut = grudge(shape, order)
        if shape == "one-way" and inwards:
            cut = {(b, a) for a, b in cut}
        return Fault(
            self.kind, {"shape": shape, "cut": [list(link) for link in sorted(cut)]}
        )

    @override
    def validate(self, fault: Fault, nodes: Sequence[str]) -> None:
        """Require a known shape with links to cut, or a target to isolate."""
        require_params(fault, ("shape", "cut", "target"))
        if len(nodes) < 2:
            raise UsageError("plan: a partition needs at least two nodes")
        if ("cut" in fault.params) == ("target" in fault.params):
            raise UsageError("plan: partition: give either `cut` or `target`")
        if "target" in fault.params:
            validate_target(self.kind, fault.params["target"], nodes)
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

    @override
    async def strike(self, fault: Fault, cluster: Grip) -> Strike:
        """Cut the fault's links; evidence comes with healing."""
        why = ""
        if "target" in fault.params:
            isolated, why = await resolve_target(fault.target, cluster)
            rest = [n for n in cluster.nodes if n not in isolated]
            cut = frozenset(between([isolated, rest]))
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
        dropped = (await cluster.mend_links()).cut
        return strike.proven({"frames_dropped": dropped}, bit=dropped > 0)


PLUGIN: Plugin[NemesisFactory] = Plugin(
    "partition",
    "cut links between nodes: one node, halves, minority, ring, bridge, one-way, "
    "leader",
    Partition,
    OPTIONS,
)
