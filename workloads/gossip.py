"""Messages are broadcast, and every node has to hear of all of them in the end.

Maelstrom's `broadcast`. Nodes that are asked before they serve are told a `topology`:
each node's neighbours, to whom it may pass messages on. They may tell others, or
nobody; it is a hint. Each read is answered with all messages that the node has, in any
order. At the end, when nodes had time to tell each other (`settle_s`), each is read.

Promise: no message is lost whose broadcast was acknowledged, or which anybody has read,
and none is missing anywhere in the end (`set-full`, which also tells how long messages
took to be everywhere). To broadcast in one order, and to deliver each message once, is
the workload `broadcast`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.errors import NodeReply
from harness.options import OneOf
from harness.override import override
from harness.registry import Option, Plugin
from harness.workload import WireCodec
from workloads.eventual import SETTLE
from workloads.g_set import GSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.history import Op
    from harness.workload import WorkloadFactory

Topology = dict[str, list[str]]
"""Node -> its neighbours."""


def grid(nodes: Sequence[str]) -> Topology:
    """A grid that is nearly square, so that no node has more than four neighbours."""
    side = math.ceil(math.sqrt(len(nodes)))

    def beside(place: int) -> Iterable[int]:
        row, column = divmod(place, side)
        for i, j in ((row + 1, column), (row - 1, column)):
            yield i * side + j
        yield from (row * side + j for j in (column + 1, column - 1) if 0 <= j < side)

    return {
        node: [nodes[at] for at in beside(place) if 0 <= at < len(nodes)]
        for place, node in enumerate(nodes)
    }


def tree(nodes: Sequence[str], branches: int) -> Topology:
    """A tree in which every node but the leaves has so many children.

    With one branch it is a line.
    """
    out: Topology = {node: [] for node in nodes}
    for place, node in enumerate(nodes):
        if place:
            parent = nodes[(place - 1) // branches]
            out[node].insert(0, parent)
            out[parent].append(node)
    return out


TOPOLOGIES: Mapping[str, Callable[[Sequence[str]], Topology]] = {
    "grid": grid,
    "line": lambda nodes: tree(nodes, 1),
    "tree": lambda nodes: tree(nodes, 2),
    "tree2": lambda nodes: tree(nodes, 2),
    "tree3": lambda nodes: tree(nodes, 3),
    "tree4": lambda nodes: tree(nodes, 4),
    "total": lambda nodes: {n: [other for other in nodes if other != n] for n in nodes},
}
"""Maelstrom's names of topologies."""

OPTIONS = (
    Option(
        "topology",
        "grid",
        "the neighbours that nodes are told of",
        OneOf(*TOPOLOGIES),
    ),
    SETTLE,
)


class GossipCodec(WireCodec):
    """`broadcast` and `read` (WIRE.md)."""

    @override
    def request(self, op: Op) -> dict[str, Any]:
        if op.f == "broadcast":
            return {"type": "broadcast", "message": op.value}
        return {"type": "read"}

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        if body.get("type") != ("broadcast_ok" if op.f == "broadcast" else "read_ok"):
            raise NodeReply(
                definite=False, text=f"answered {op.f} with {body.get('type')!r}"
            )
        if op.f == "broadcast":
            return op.ok(op.value)
        messages = body.get("messages")
        if not isinstance(messages, list):
            raise NodeReply(definite=False, text="answered read without messages")
        return op.ok(messages)

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return None


class Gossip(GSet):
    """The workload that this module describes."""

    name = "gossip"
    requires = frozenset({"gossip"})
    codec: WireCodec = GossipCodec()
    options = OPTIONS
    adds = "broadcast"

    def opening(self, nodes: Sequence[str]) -> dict[str, Any]:
        """The `topology`, which every node is told first."""
        topology = TOPOLOGIES[self.given["topology"]](nodes)
        return {"type": "topology", "topology": topology}


PLUGIN: Plugin[WorkloadFactory] = Plugin(
    "gossip",
    "messages to all nodes in any order, none of them ever lost; Maelstrom's broadcast",
    Gossip,
    OPTIONS,
)
