"""The order of a register's versions, as far as something tells it.

Each source of orders is asked in turn; what contradicts those before it on a key is
left out there.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.components import components, shortest_cycle
from checkers.isolation.evidence import CyclicVersions
from checkers.isolation.graph import NOTHING

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping

    from checkers.findings import Findings
    from checkers.isolation.evidence import Evidence
    from checkers.isolation.graph import Column
    from checkers.isolation.registers.scan import Access, Versions


class VersionOrder:
    """Pairs of versions, the lower first, and which source said so.

    Attributes:
        low, high: The pairs, but for those that are noted.
    """

    def __init__(self) -> None:
        self.low: Column = np.zeros(0, np.int64)
        self.high: Column = np.zeros(0, np.int64)
        self._ends: list[tuple[int, str]] = []
        self._noted: list[tuple[int, int]] = []

    def add(self, source: str, pairs: Column) -> None:
        """Append what a source says."""
        self.low = np.concatenate([self.low, pairs[:, 0]])
        self.high = np.concatenate([self.high, pairs[:, 1]])
        self._ends.append((len(self.low), source))

    def note(self, low: int, high: int) -> int:
        """Number a pair that follows by elimination; only after all sources."""
        self._noted.append((low, high))
        return len(self.low) + len(self._noted) - 1

    def pair(self, number: int) -> tuple[int, int, str]:
        """A pair by its number, and its source; that is empty if it was noted."""
        if number >= len(self.low):
            return *self._noted[number - len(self.low)], ""
        source = next(source for end, source in self._ends if number < end)
        return int(self.low[number]), int(self.high[number]), source


class Orders:
    """Asks the sources.

    Args:
        versions: What was written and read.
        by_key: Key -> what committed transactions did to it.
        unknown: Versions that stand for any of several, and have no order.
        findings: Where cyclic versions go.
    """

    def __init__(
        self,
        versions: Versions,
        by_key: Mapping[Hashable, list[Access]],
        unknown: Collection[int],
        findings: Findings[Evidence],
    ) -> None:
        self.versions = versions
        self.by_key = by_key
        self.unknown = np.array(list(unknown), np.int64)
        self.findings = findings
        self.order = VersionOrder()

    def run(self) -> VersionOrder:
        """Ask each source in turn; leave out what contradicts those before."""
        sources, count = self.versions.sources, len(self.versions.value_of)
        chosen = (
            ("initial", True, self._initial),
            ("wfr", sources.wfr_keys, self._writes_follow_reads),
            ("sequential", sources.sequential_keys, self._sequential),
            ("linearizable", sources.linearizable_keys, self._linearizable),
        )
        for name, is_wanted, source in chosen:
            if is_wanted:
                pairs = _distinct(source(), count)
                is_known = ~np.isin(pairs, self.unknown).any(1)
                self._adopt(name, pairs[(pairs[:, 0] != pairs[:, 1]) & is_known])
        return self.order

    def _adopt(self, source: str, pairs: Column) -> None:
        """Add what a source says of all keys on which it contradicts nothing."""
        key_of = self.versions.key_of
        low = np.concatenate([self.order.low, pairs[:, 0]])
        high = np.concatenate([self.order.high, pairs[:, 1]])
        refused = set()
        for members in components(low, high, np.arange(len(key_of))):
            refused.add(key_of[int(members[0])])
            if self.findings.wants("cyclic-versions"):
                self.findings.keep(self._cyclic(source, members.tolist(), low, high))
        if refused:
            keep = [key_of[v] not in refused for v in pairs[:, 0].tolist()]
            pairs = pairs[np.array(keep, np.bool_)]
        self.order.add(source, pairs)

    def _cyclic(
        self, source: str, members: list[int], low: Column, high: Column
    ) -> CyclicVersions:
        """A cycle of versions; the rows are those that wrote or read them."""
        key = self.versions.key_of[members[0]]
        successors = defaultdict(list)
        inside = set(members)
        for a, b in zip(low.tolist(), high.tolist(), strict=True):
            if a in inside and b in inside:
                successors[a].append(b)
        cycle = shortest_cycle(successors, members)
        rows = dict.fromkeys(
            access.row
            for access in self.by_key[key]
            if access.read in cycle or access.wrote in cycle
        )
        values = tuple(self.versions.value_of[version] for version in cycle)
        return CyclicVersions("cyclic-versions", tuple(rows), key, values, source)

    # The sources

    def _initial(self) -> Iterator[tuple[int, int]]:
        """The initial nil, where somebody saw it; elsewhere it orders nothing."""
        versions = self.versions
        for version, value in enumerate(versions.value_of):
            nil = versions.numbers.get((versions.key_of[version], None))
            if value is not None and nil is not None:
                yield nil, version

    def _writes_follow_reads(self) -> Iterator[tuple[int, int]]:
        for accesses in self.by_key.values():
            for access in accesses:
                if access.read != NOTHING and access.wrote != NOTHING:
                    yield access.read, access.wrote

    def _sequential(self) -> Iterator[tuple[int, int]]:
        """The order of each process's accesses to the key."""
        process = self.versions.transactions.process
        for accesses in self.by_key.values():
            last: dict[int, Access] = {}
            for access in accesses:
                who = process[access.row]
                if who in last:
                    yield from _follows(last[who], access)
                last[who] = access

    def _linearizable(self) -> Iterator[tuple[int, int]]:
        """Real time on each key, without pairs that follow from others."""
        rows = self.versions.transactions
        if not rows.has_realtime:
            return
        start, end = rows.start, rows.end
        for accesses in self.by_key.values():
            events = [(start[a.row], True, a) for a in accesses]
            events += [(end[a.row], False, a) for a in accesses]
            events.sort(key=lambda event: event[0])
            latest: list[Access] = []
            for _, begins, access in events:
                if begins:
                    for other in latest:
                        yield from _follows(other, access)
                else:
                    begun = start[access.row]
                    latest = [a for a in latest if end[a.row] > begun]
                    latest.append(access)


def _follows(earlier: Access, later: Access) -> Iterator[tuple[int, int]]:
    """Versions in order, given that one access to the key came before the other."""
    last = earlier.read if earlier.wrote == NOTHING else earlier.wrote
    if last != NOTHING:
        for version in (later.read, later.wrote):
            if version not in {NOTHING, last}:
                yield last, version


def _distinct(pairs: Iterable[tuple[int, int]], count: int) -> Column:
    """Pairs of numbers below `count`, each once, in order, as two columns."""
    ends = np.fromiter(itertools.chain.from_iterable(pairs), np.int64)
    code = np.unique(ends[::2] * count + ends[1::2])
    return np.stack([code // count, code % count], axis=1)
