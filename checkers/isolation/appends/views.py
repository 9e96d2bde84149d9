"""The lists of a history as the definitions of weak levels see them.

A list is the version that its last element made. An append that its transaction
followed by another one is no version that anybody may see.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from checkers.isolation import weak
from checkers.isolation.accesses import Accesses
from checkers.isolation.appends.lists import NOBODYS, UNPLACED
from checkers.isolation.columns import likely_order
from checkers.isolation.graph import NOTHING, Kind
from checkers.isolation.transactions import Copy, Outcome

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from checkers.isolation.appends.lists import Key, Lists
    from checkers.isolation.appends.reasons import Reasons
    from checkers.isolation.appends.versions import Versions
    from checkers.isolation.graph import Edges
    from checkers.isolation.reasons import Why

NIL = Copy(None, 0)
"""The element nil, where None stands for the empty list."""


class Versioned:
    """The history as the axioms of `checkers.isolation.weak` see it."""

    has_orders = True

    def __init__(self, lists: Lists, dependencies: Edges, reasons: Reasons) -> None:
        self.transactions = lists.transactions
        self.dependencies = dependencies
        self._reasons = reasons
        self.key_of: list[Hashable] = []
        self.value_of: list[Any] = []
        self.writer: list[int] = []
        self.writes: list[dict[Hashable, int]] = [{} for _ in lists.transactions.ops]
        self.reads: list[weak.Read] = []
        self.shown: list[tuple[int, int]] = []
        numbers: dict[tuple[Hashable, Hashable], int] = {}
        for name, key in lists.keys.items():
            numbers[name, NOBODYS] = self._number(name, None, NOTHING)
            order = {element: i for i, element in enumerate(key.order)}
            last = len(order)
            for element in sorted(key.writer, key=lambda e: order.get(e, last)):
                row = key.writer[element]
                value = NIL if element is None else element
                numbers[name, element] = version = self._number(name, value, row)
                if element not in key.inner:
                    self.writes[row][name] = version
            self.shown += self._shown(key, numbers)
        others = np.flatnonzero(~lists.reads.shows_own).tolist()
        in_order = sorted(
            [(i, 1, i) for i in others]
            + [(when, 0, i) for when, i in lists.reads.repeated]
        )
        for _, is_first, i in in_order:
            read = lists.read(i)
            element = read.value[-1] if read.value else NOBODYS
            version = numbers.get((read.key.name, element), NOTHING)
            if version != NOTHING:
                self.reads.append(weak.Read(read.row, version, again=not is_first))

    def reason(self, source: int, _target: int, kind: Kind, via: int) -> Why:
        """Why `source` comes before the other end of an edge."""
        return self._reasons.why(source, kind, via)

    def _shown(
        self, key: Key, numbers: dict[tuple[Hashable, Hashable], int]
    ) -> Iterator[tuple[int, int]]:
        """Versions next to each other; what was never read comes after the last."""
        known = [numbers[key.name, e] for e in key.order if (key.name, e) in numbers]
        yield from itertools.pairwise(known)
        read = set(key.order)
        for element in key.writer if known else ():
            if element not in read:
                yield known[-1], numbers[key.name, element]

    def _number(self, key: Hashable, value: Any, writer: int) -> int:
        self.key_of.append(key)
        self.value_of.append(value)
        self.writer.append(writer)
        return len(self.writer) - 1


def accesses_of(lists: Lists, versions: Versions, edges: Edges) -> Accesses | None:
    """Who read and wrote what; None if some list is out of order.

    Args:
        lists: What was read and appended, each element once.
        versions: The version orders.
        edges: The dependencies.
    """
    rows, reads = lists.transactions, lists.reads
    outcome = np.asarray(rows.outcome)
    is_certain = rows.has_realtime or (outcome != Outcome.INFO).all()
    from_others = ~reads.shows_own
    version, reader = reads.version[from_others], reads.row[from_others]
    if not is_certain or (version == UNPLACED).any():
        return None
    writer = np.append(versions.writers, NOTHING)[version]
    has_no_writer = (writer == NOTHING) & (version != NOTHING)
    if has_no_writer.any() or (writer == reader).any():
        return None
    count = len(versions.keys)
    writes = (
        row * count + key.number for key in versions.keys for row in key.writer.values()
    )
    codes = np.unique(np.fromiter(writes, np.int64))
    orders = edges.where(edges.kind == Kind.WW)
    return Accesses(
        outcome=outcome,
        process=np.asarray(rows.process),
        guess=likely_order(rows),
        keys=count,
        reader=reader,
        key=lists.keys_of_branches()[reads.branch[from_others]],
        writer=writer,
        by=codes // count,
        to=codes % count,
        low=orders.source,
        high=orders.target,
    )
