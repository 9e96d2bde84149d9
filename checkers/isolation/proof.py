"""A proof that a history of registers is strictly serializable, from columns alone.

An order of all transactions that real time and sessions allow, and in which everybody
reads what was written last, leaves nothing to be found wrong. So it is looked for
before anything else is made of a long history, which saves half of the time and more
than half of the memory. Where there is none, or none is found soon, that proves
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.accesses import expand
from checkers.isolation.execution import Accesses, Answer, Execution, guesses
from checkers.isolation.graph import NOTHING, Kind, assemble, edges_of, join, no_edges

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkers.isolation.accesses import Accesses as Known
    from checkers.isolation.graph import Edges
    from checkers.isolation.transactions import Transactions

EDGES_MAX = 16
"""Edges for each write, at most, that say that the initial state comes before it."""


def is_serial(
    transactions: Transactions, found: Known, pause: Callable[[], None]
) -> bool:
    """Whether there is an order as strict as the history can tell.

    False if there is none, or the search gave up.
    """
    from_others = found.writer != NOTHING
    reads_from = edges_of(Kind.WR, found.writer[from_others], found.reader[from_others])
    happened = found.is_committed[found.by]
    accesses = Accesses(
        found.by[happened],
        found.to[happened],
        found.reader,
        found.key,
        found.writer,
    )
    level = 2 if transactions.has_realtime else 1
    graph = assemble(transactions, join(reads_from, _before_all(accesses)), level)
    auxiliary = graph.potential[len(transactions) :]
    begins, commits = guesses(transactions, auxiliary, serial=True)
    execution = Execution(
        accesses,
        graph.edges,
        begins,
        commits,
        serial=True,
        exhaustive=False,
        pause=pause,
    )
    return execution.search() is Answer.FOUND


def _before_all(accesses: Accesses) -> Edges:
    """Whoever read the initial state of a key comes before those who wrote it.

    The search would find out by itself, one read after the other. None where they are
    too many.
    """
    initial = np.flatnonzero(accesses.source == NOTHING)
    in_order = np.argsort(accesses.written, kind="stable")
    written = accesses.written[in_order]
    first = np.searchsorted(written, accesses.read[initial])
    count = np.searchsorted(written, accesses.read[initial], "right") - first
    if count.sum() > EDGES_MAX * len(written):
        return no_edges()
    which, at = expand(np.arange(len(initial)), first, count)
    return edges_of(
        Kind.RW, accesses.reader[initial[which]], accesses.writer[in_order[at]]
    )
