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

import msgspec

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
        lives = _Lives(node)
        for line in _lines(folder, f"nodes/{node}/observe.jsonl"):
            lives.add(line, ops)
        for line in _lines(folder, f"nodes/{node}/on_disk.jsonl"):
            time_ns = ops[-1].time if ops else 0
            ops.append(event(len(ops), time_ns, node, line["kind"], _fields(line)))
    return History(ops, source=source_of(folder))


def source_of(folder: Path) -> str:
    """The source of the history of what the nodes of a run observed."""
    return f"{folder}/nodes"


class _Lives:
    """Makes events of a node's lines, one life after the other."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._process = Bystander(node)
        self._last_seq = -1

    def add(self, line: dict[str, Any], ops: list[Op]) -> None:
        """Add the event of a line, and before it, perhaps, that the node restarted.

        What is left of the line, its fields, becomes the event's value.
        """
        take, node = line.pop, self._node
        kind, time_ns = take("kind"), _whole(take("mono_ns", None), 0)
        seq = _whole(take("seq", None), -1)
        take("wall_ns", None)
        take("node", None)
        if seq >= 0:
            if seq <= self._last_seq:
                ops.append(event(len(ops), time_ns, node, RESTARTED, {}))
            self._last_seq = seq
        ops.append(Op(len(ops), time_ns, self._process, "info", kind, line, node=node))


class ObservationsFollower:
    """Reads what nodes observe while they go on, each event once.

    Args:
        folder: The run folder.
        nodes: The nodes' names.
        keep: Whether `history` will be asked for.

    Attributes:
        events: How many events were read.

    Raises:
        HistoryError: From `read`: a node put something else in the place of its file.
    """

    def __init__(self, folder: Path, nodes: Iterable[str], *, keep: bool) -> None:
        self.events = 0
        self._keep = keep
        self._source = source_of(folder)
        self._nodes = {
            node: (_Lives(node), nodefiles.ObjectsFollower(path))
            for node in nodes
            for path in [folder / "nodes" / node / "observe.jsonl"]
        }
        self._ops: dict[str, list[Op]] = {node: [] for node in self._nodes}

    def read(self) -> list[Op]:
        """The events that have come since, one node after the other.

        Their indices are those of this list.
        """
        fresh: list[Op] = []
        for node, (lives, file) in self._nodes.items():
            before = len(fresh)
            try:
                for line in file.read():
                    if isinstance(line.get("kind"), str):
                        lives.add(line, fresh)
            except FileNotFoundError:
                continue
            except OSError as problem:
                where = f"{self._source}/{node}/observe.jsonl"
                raise HistoryError(f"{where}: {problem.strerror}") from None
            if self._keep:
                self._ops[node] += fresh[before:]
        self.events += len(fresh)
        return fresh

    def history(self) -> History:
        """All events so far, as `load` has them. Cost: linear, a microsecond each."""
        every = (op for ops in self._ops.values() for op in ops)
        ops = [msgspec.structs.replace(op, index=i) for i, op in enumerate(every)]
        return History(ops, source=self._source)


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
    """The fields of an event's kind: what is left when all others are taken off."""
    for own in OWN_FIELDS:
        line.pop(own, None)
    return line


def _whole(number: Any, otherwise: int) -> int:
    """`number` if a clock or a count can have it, else `otherwise`."""
    is_one = type(number) is int and -(2**63) <= number < 2**63
    return number if is_one else otherwise


def event(index: int, time_ns: int, node: str, kind: str, fields: dict[str, Any]) -> Op:
    """The op of one event."""
    return Op(index, time_ns, Bystander(node), "info", kind, fields, node=node)
