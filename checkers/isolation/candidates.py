"""Who may have written what was read, if its value does not tell.

A value that was written more than once may come from any of its writers, and nil from
the initial state as well. Some of these sources are ruled out at once:

- what failed (G1a), what its writer replaced itself (G1b), and what the reader wrote
  later on (future-read) are no sources under a model that proscribes the anomaly, as
  long as there is another one;
- where real time counts, neither is a write that was invoked after the read had
  returned, nor one that had returned before another write of the key was invoked, which
  in turn had returned before the read was invoked.

A source that orders nothing (what failed, or what the reader wrote itself) explains a
read under every model that allows it. So a read that has one is not open.
"""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING, NamedTuple

from checkers.isolation.graph import NOTHING
from checkers.isolation.transactions import NEVER, Outcome

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from checkers.isolation.registers.scan import Access
    from checkers.isolation.transactions import Transactions
    from checkers.isolation.weak import Read

INITIAL = NOTHING
"""The source of a read of the initial state."""

UNORDERED = -2
"""A source that orders nothing, or several sources none of which was chosen yet."""


class OpenRead(NamedTuple):
    """A read whose value may be of several sources.

    Attributes:
        place: Its place among the reads.
        sources: Rows of writers, or INITIAL; the likeliest first.
    """

    place: int
    sources: tuple[int, ...]


class Foul(NamedTuple):
    """The anomaly that a read is, whichever of its sources it is of.

    Attributes:
        name: The anomaly.
        row: The writer.
    """

    name: str
    row: int


class Writers:
    """The sources of reads.

    Args:
        transactions: The history.
        by_key: What committed transactions did to each key.
        proscribed: The anomalies that must not be.
    """

    def __init__(
        self,
        transactions: Transactions,
        by_key: Mapping[Hashable, list[Access]],
        proscribed: frozenset[str],
    ) -> None:
        self.transactions = transactions
        self.by_key = by_key
        self.proscribed = proscribed
        self._replaced: dict[Hashable, tuple[list[int], list[int]]] = {}

    def sources(
        self, read: Read, key: Hashable, writers: Iterable[tuple[str, int]]
    ) -> tuple[tuple[int, ...], Foul | None]:
        """The sources of a read, or the anomaly that it is in any case.

        Args:
            read: The read.
            key: Its key.
            writers: Rows that wrote the value, each with the anomaly that it would be
                to read that write; empty if it is none. INITIAL is one of the rows if
                keys begin with the value.
        """
        found, fouls = [], []
        for name, row in self._known(writers):
            if name in self.proscribed:
                fouls.append(Foul(name, row))
            elif name in {"G1a", "future-read"}:
                return (UNORDERED,), None
            else:
                found.append(row)
        if not found:
            return (UNORDERED,), min(fouls, key=lambda foul: foul.name != "G1b")
        now = self._moment(read.row)

        def likely(source: int) -> tuple[bool, int]:
            """Sorts sources: the latest before the reader, then those after it."""
            moment = self._moment(source)
            return moment > now, moment if moment > now else -moment

        return self._timely(read, key, sorted(found, key=likely)), None

    def _known(self, writers: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """The writers that are certainly different transactions.

        In a history without invocations, a transaction that never returned may be the
        same as one that did, so it is left out if there are others.
        """
        known = list(writers)
        if not self.transactions.has_realtime:
            outcome = self.transactions.outcome
            sure = [w for w in known if w[1] < 0 or outcome[w[1]] != Outcome.INFO]
            return sure or known
        return known

    def _moment(self, row: int) -> int:
        """A guess at when a transaction took place."""
        if row == INITIAL:
            return -1
        start, end = self.transactions.start[row], self.transactions.end[row]
        return start if end == NEVER else (start + end) // 2

    def _timely(self, read: Read, key: Hashable, sources: list[int]) -> tuple[int, ...]:
        """The sources that real time allows; the likeliest one if it allows none."""
        rows = self.transactions
        if len(sources) < 2 or not rows.has_realtime:
            return tuple(sources)
        left = sources
        if "G1c-realtime" in self.proscribed:
            end = rows.end[read.row]
            left = [s for s in left if s == INITIAL or rows.start[s] < end] or left[:1]
        if {"G0-realtime", "G-single-item-realtime"} <= self.proscribed:
            since = self._replaced_before(key, rows.start[read.row])
            ends = {s: -1 if s == INITIAL else rows.end[s] for s in left}
            left = [s for s in left if ends[s] >= since] or left[:1]
        return tuple(left)

    def _replaced_before(self, key: Hashable, moment: int) -> int:
        """When the latest write began that had returned before the moment; -1 if none.

        Whatever had returned before that was replaced.
        """
        if key not in self._replaced:
            rows = self.transactions
            spans = sorted(
                (rows.end[access.row], rows.start[access.row])
                for access in self.by_key.get(key, ())
                if access.wrote != NOTHING
            )
            starts = itertools.accumulate((start for _, start in spans), max)
            self._replaced[key] = [end for end, _ in spans], list(starts)
        ends, starts_max = self._replaced[key]
        count = bisect.bisect_left(ends, moment)
        return starts_max[count - 1] if count else -1
