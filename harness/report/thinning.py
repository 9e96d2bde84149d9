"""Which of many moments a page keeps: those that matter, and a fair part of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from harness.report.witness import Witness

AROUND_NS = 500_000_000
"""How far from an anomaly's operations a moment still belongs to it."""


def around(
    times_ns: NDArray[np.float64], anomalies: Iterable[Witness]
) -> NDArray[np.bool_]:
    """Which moments lie within an anomaly's operations, or shortly before or after."""
    near = np.zeros(times_ns.size, np.bool_)
    for anomaly in anomalies:
        calls = [call for call in anomaly.calls if call.invoke.time >= 0]
        if calls:
            first = min(call.invoke.time for call in calls) - AROUND_NS
            last = max((call.done or call.invoke).time for call in calls) + AROUND_NS
            near |= (times_ns >= first) & (times_ns <= last)
    return near


def chosen(ranks: Sequence[NDArray[np.bool_]], most: int) -> NDArray[np.bool_]:
    """No more than `most`, by rank; of the rank that has too many, evenly spread."""
    kept = np.zeros(ranks[0].size, np.bool_)
    for rank in ranks:
        fresh = np.flatnonzero(rank & ~kept)
        room = most - int(kept.sum())
        if fresh.size > room:
            fresh = fresh[np.linspace(0, fresh.size - 1, room).astype(np.int64)]
        kept[fresh] = True
    return kept
