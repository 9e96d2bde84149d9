"""Cycles among transactions on logs: who saw whom, and who wrote before whom.

Dependencies are wr, from who sent a message to everybody who polled it, and, if asked
for, ww, from the sender of a message to the sender of the next in the log. Beside them
stand session order and real time. Failed transactions are left out.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.cycles import CycleSearch
from checkers.isolation.evidence import cyclic
from checkers.isolation.graph import Kind, assemble, edges_of, join
from checkers.isolation.reasons import linked
from checkers.isolation.telling import anomaly
from checkers.isolation.transactions import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from checkers.isolation.graph import Edges
    from checkers.isolation.transactions import Transactions
    from checkers.logs.orders import Orders
    from checkers.logs.steps import Step
    from harness.history import History
    from harness.verdict import Anomaly

REALTIME = 2
"""Session order and real time count; see `checkers.isolation.models.LEVELS`."""


def find_cycles(
    history: History, orders: Orders, *, with_ww: bool, pause: Callable[[], None]
) -> dict[str, list[Anomaly]]:
    """Cycles by class, such as `G1c-realtime`, a few of each.

    Args:
        history: The history.
        orders: What is known of its logs.
        with_ww: Whether the order of a log orders its writers.
        pause: Called now and then; may raise to end the search.
    """
    transactions = collect(history)
    dependencies = _Dependencies(orders, _rows(transactions))
    dependencies.add_reads()
    if with_ww:
        dependencies.add_writes()
    graph = assemble(transactions, dependencies.edges(), REALTIME)
    search = CycleSearch(graph, pause)
    search.run(REALTIME)
    return {
        name: [
            anomaly(transactions, cyclic(name, linked(dependencies, cycle.steps)))
            for cycle in cycles
        ]
        for name, cycles in search.found.items()
    }


def _rows(transactions: Transactions) -> dict[int, int]:
    return {op: row for row, op in enumerate(transactions.ops)}


@dataclass
class _Dependencies:
    """Edges between rows, and what each is about; see `reasons.Explains`."""

    orders: Orders
    rows: dict[int, int]
    columns: dict[Kind, list[tuple[int, int, int]]] = field(
        default_factory=lambda: {Kind.WW: [], Kind.WR: []}
    )
    about: list[tuple[Hashable, Hashable, Hashable]] = field(default_factory=list)
    """Of each edge: key, message, and the next message."""

    def _add(
        self,
        kind: Kind,
        source: Step,
        target: Step,
        about: tuple[Hashable, Hashable, Hashable],
    ) -> None:
        if "fail" in {source.outcome, target.outcome}:
            return
        edge = self.rows[source.op.index], self.rows[target.op.index], len(self.about)
        self.columns[kind].append(edge)
        self.about.append(about)

    def add_reads(self) -> None:
        """From each sender to whoever polled what it sent."""
        for (key, message), readers in self.orders.readers.items():
            writer = self.orders.writer.get((key, message))
            for reader in readers if writer else ():
                assert writer is not None
                self._add(Kind.WR, writer, reader, (key, message, None))

    def add_writes(self) -> None:
        """From each sender to the sender of the next message in a log."""
        writer = self.orders.writer
        for key, log in self.orders.logs.items():
            # Where an offset holds two messages, there is no telling which counts.
            order = [
                message
                for offset in log.offsets
                if len(log.at[offset]) == 1
                for message in log.at[offset]
                if (key, message) in writer
            ]
            for a, b in itertools.pairwise(order):
                self._add(Kind.WW, writer[key, a], writer[key, b], (key, a, b))

    def edges(self) -> Edges:
        """All edges, as columns."""
        parts = []
        for kind, rows in self.columns.items():
            columns = np.array(rows, np.int64).reshape(-1, 3)
            parts.append(edges_of(kind, columns[:, 0], columns[:, 1], columns[:, 2]))
        return join(*parts)

    def reason(self, source: int, target: int, kind: Kind, via: int) -> str:
        """The clause that says why `source` comes before `target`."""
        key, message, following = self.about[via]
        show = self.orders.steps.show
        if kind == Kind.WR:
            return f"it sent {show(message)} to key {key}, which the other polled"
        return (
            f"it sent {show(message)} to key {key}, right before the other's "
            f"{show(following)}"
        )
