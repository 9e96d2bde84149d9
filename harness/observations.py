"""What nodes observed of their own protocol, as a history for invariant checkers.

A reference node writes its `Observe` events to `nodes/<n>/observe.jsonl`. Here they
become ops of a process named like the node, type `info`, f the event's kind, value its
fields. The order of one node's events is true, restarts included. Between nodes there
is no order: their clocks may be skewed, and one file follows the other. Invariants must
not ask for one.

    Op(index=7, time=<the node's monotonic clock, ns>, process="n2", type="info",
       f="became_leader", value={"term": 3, "last_log_index": 12}, node="n2")

What a node left on its disk, where its core can tell, comes after all its events, from
`nodes/<n>/on_disk.jsonl`: an op of f="on_disk". The node was killed before it was read.

Each life of a node counts its lines from 0 on. Where the count begins anew, an op of
its own says so, f="restarted": what is volatile is gone, and the last events of the
life before, those of its last instant, may be missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.history import History, Op

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.store import RunFolder

OWN_FIELDS = ("seq", "mono_ns", "wall_ns", "node", "kind")

RESTARTED = "restarted"
"""Stands between two lives of a node."""


def load(folder: RunFolder, nodes: Iterable[str]) -> History:
    """The events of all nodes, one node after the other; torn lines are passed over."""
    ops: list[Op] = []
    for node in nodes:
        last_seq = -1
        for line in folder.read_lines(f"nodes/{node}/observe.jsonl"):
            fields = {k: v for k, v in line.items() if k not in OWN_FIELDS}
            mono_ns, seq = line.get("mono_ns"), line.get("seq")
            time_ns = mono_ns if isinstance(mono_ns, int) else 0
            if isinstance(seq, int):
                if seq <= last_seq:
                    ops.append(event(len(ops), time_ns, node, RESTARTED, {}))
                last_seq = seq
            ops.append(event(len(ops), time_ns, node, str(line.get("kind")), fields))
        for line in folder.read_lines(f"nodes/{node}/on_disk.jsonl"):
            fields = {k: v for k, v in line.items() if k not in OWN_FIELDS}
            time_ns = ops[-1].time if ops else 0
            ops.append(event(len(ops), time_ns, node, str(line.get("kind")), fields))
    return History(ops, source=f"{folder.path}/nodes")


def event(index: int, time_ns: int, node: str, kind: str, fields: dict[str, Any]) -> Op:
    """One event as an op."""
    return Op(index, time_ns, node, "info", kind, fields, node=node)
