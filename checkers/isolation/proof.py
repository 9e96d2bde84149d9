"""A proof that a history of registers is strictly serializable, from columns alone.

If real time and sessions allow an order of all transactions in which each read returns
what was written last, nothing is wrong. So such an order is looked for first, which
saves half of the time and more than half of the memory of a long history. If the search
gives up, that proves nothing.
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
"""Most edges a write, on average, that put reads of the initial state before it."""


def is_serial(
    transactions: Transactions, found: Known, pause: Callable[[], None]
) -> bool:
    """Whether some order explains the history; real time counts if it is known.

    Returns:
        False if there is no such order, or the search gave up.
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
    """Edges from readers of a key's initial state to all who wrote the key.

    The search would find these orders by itself, one read after the other; it is faster
    with the edges. Without any if they were too many.
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
