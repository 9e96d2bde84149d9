"""What nodes observed of their own protocol, as a history for invariant checkers.

A reference node writes its `Observe` events to `nodes/<n>/observe.jsonl`. Here they
become ops of a process named like the node, type `info`, f the event's kind, value its
fields. The order of one node's events is true, restarts included. Between nodes there
is no order: their clocks may be skewed, and one file follows the other. Invariants must
not ask for one.

    Op(index=7, time=<the node's monotonic clock, ns>, process="n2", type="info",
       f="became_leader", value={"term": 3, "last_log_index": 12}, node="n2")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.history import History, Op

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.store import RunFolder

OWN_FIELDS = ("seq", "mono_ns", "wall_ns", "node", "kind")


def load(folder: RunFolder, nodes: Iterable[str]) -> History:
    """The events of all nodes, one node after the other; torn lines are passed over."""
    ops: list[Op] = []
    for node in nodes:
        for line in folder.read_lines(f"nodes/{node}/observe.jsonl"):
            fields = {k: v for k, v in line.items() if k not in OWN_FIELDS}
            time_ns = line.get("mono_ns")
            ops.append(
                Op(
                    index=len(ops),
                    time=time_ns if isinstance(time_ns, int) else 0,
                    process=node,
                    type="info",
                    f=str(line.get("kind")),
                    value=fields,
                    node=node,
                )
            )
    return History(ops, source=f"{folder.path}/nodes")
