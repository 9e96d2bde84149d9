"""Nodes' observations of their own protocol, as a history for invariant checkers.

A reference node writes its `Observe` events to `nodes/<n>/observe.jsonl`. Here they
become ops: the process is named like the node, the type is `info`, f is the event's
kind and the value has its fields. One node's events are in their true order, even
across restarts. There is no order between nodes: their clocks may be skewed, and one
file follows the other. Invariants must not ask for one.

    Op(index=7, time=<the node's monotonic clock, ns>, process="n2", type="info",
       f="became_leader", value={"term": 3, "last_log_index": 12}, node="n2")

If a node's core can tell what it left on its disk, that comes after all the node's
events, from `nodes/<n>/on_disk.jsonl`: an op of f="on_disk". The node was killed before
its disk was read.

Each life of a node counts its lines from 0 on. An op of f="restarted" stands where the
count begins anew: volatile state is lost there, and the last events of the life before,
those of its last instant, may be missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.history import Bystander, History, HistoryError, Op
from harness.host import nodefiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

OWN_FIELDS = ("seq", "mono_ns", "wall_ns", "node", "kind")

RESTARTED = "restarted"
"""The f of the op between two lives of a node."""


def load(folder: Path, nodes: Iterable[str]) -> History:
    """The events of all nodes, one node after the other; torn lines are passed over.

    Raises:
        HistoryError: A node put something else in the place of its file, or the file is
            too long to be read.
    """
    ops: list[Op] = []
    for node in nodes:
        last_seq = -1
        for line in _lines(folder, f"nodes/{node}/observe.jsonl"):
            time_ns, seq = _whole(line.get("mono_ns"), 0), _whole(line.get("seq"), -1)
            if seq >= 0:
                if seq <= last_seq:
                    ops.append(event(len(ops), time_ns, node, RESTARTED, {}))
                last_seq = seq
            ops.append(event(len(ops), time_ns, node, line["kind"], _fields(line)))
        for line in _lines(folder, f"nodes/{node}/on_disk.jsonl"):
            time_ns = ops[-1].time if ops else 0
            ops.append(event(len(ops), time_ns, node, line["kind"], _fields(line)))
    return History(ops, source=f"{folder}/nodes")


def _lines(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The events in a file; a node that never wrote one has none.

    Raises:
        HistoryError: Something else is in the place of the file, or it is too long.
    """
    try:
        for line in nodefiles.objects(folder / name):
            if isinstance(line.get("kind"), str):
                yield line
    except FileNotFoundError:
        return
    except OSError as problem:
        raise HistoryError(f"{folder / name}: {problem.strerror}") from None


def _fields(line: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in line.items() if k not in OWN_FIELDS}


def _whole(number: Any, otherwise: int) -> int:
    """`number` if a clock or a count can have it, else `otherwise`."""
    is_one = type(number) is int and -(2**63) <= number < 2**63
    return number if is_one else otherwise


def event(index: int, time_ns: int, node: str, kind: str, fields: dict[str, Any]) -> Op:
    """The op of one event."""
    return Op(index, time_ns, Bystander(node), "info", kind, fields, node=node)
