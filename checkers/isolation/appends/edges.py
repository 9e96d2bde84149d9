"""Dependencies between transactions, from the version orders of lists.

Versions without a writer have no edges: edges lead to the nearest version that has one.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.appends.lists import NOBODYS, UNPLACED
from checkers.isolation.graph import NOTHING, Kind, edges_of, join
from checkers.isolation.transactions import Outcome

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from checkers.isolation.appends.lists import Key, Lists
    from checkers.isolation.appends.versions import Versions
    from checkers.isolation.graph import Column, Edges


class Dependencies:
    """The ww, wr and rw edges.

    Args:
        lists: What was read and appended.
        versions: The version orders; reads have been placed.

    Attributes:
        edges: All of them; their `via` is the number of a version.
        unread: Key -> the versions that nobody read. Their writers committed, or
            something else that they wrote was read.
        unread_by: Each of these -> row of its writer.
    """

    def __init__(self, lists: Lists, versions: Versions) -> None:
        self.lists = lists
        self.versions = versions
        self.unread: dict[Hashable, list[int]] = defaultdict(list)
        self.unread_by: dict[int, int] = {}
        self.edges = join(*self._all())

    def _all(self) -> Iterator[Edges]:
        """The edges of each kind."""
        versions = self.versions
        writers = versions.writers
        known = np.flatnonzero(writers != NOTHING)
        base = np.array([*versions.bases, len(versions)], np.int64)
        end_of = np.repeat(base[1:], np.diff(base))  # version -> end of its key
        if len(known):
            same_key = known[1:] < end_of[known[:-1]]
            before, after = known[:-1][same_key], known[1:][same_key]
            yield edges_of(Kind.WW, writers[before], writers[after], after)

        reads = self.lists.reads
        placed = np.flatnonzero(~reads.shows_own & (reads.version != UNPLACED))
        rows, branch = reads.row[placed], reads.branch[placed]
        keys = [branch.key for branch in self.lists.branches]
        start = np.array([key.base for key in keys], np.int64)[branch]
        end = start + np.array([len(key.order) for key in keys], np.int64)[branch]
        unseen = np.maximum(reads.version[placed] + 1, start)
        at = np.searchsorted(known, unseen)
        last_seen = np.append(known, -1)[at - 1]
        some = last_seen >= start
        yield edges_of(Kind.WR, writers[last_seen[some]], rows[some], last_seen[some])
        following = np.append(known, len(writers))[at]
        followed = following < end
        following = following[followed]
        yield edges_of(Kind.RW, rows[followed], writers[following], following)
        yield self._of_unplaced_reads()
        tail = np.flatnonzero(~followed)
        yield self._on_unread(known, rows[tail], branch[tail])

    def _of_unplaced_reads(self) -> Edges:
        """A read out of order depends on the writer of its last element."""
        sources, targets, via = [], [], []
        for read in self.versions.unplaced():
            sources.append(read.key.writer.get(read.value[-1], NOTHING))
            targets.append(read.row)
            via.append(self.versions.number(read.key, read.value[-1]))
        return _edges(Kind.WR, sources, targets, via)

    def _on_unread(self, known: Column, rows: Column, branches: Column) -> Edges:
        """Elements that are in no list came after all that are in the longest.

        A transaction of unknown outcome of which nothing was read may not have
        happened. Nothing depends on it, so it is left out.

        Args:
            known: Versions with a writer.
            rows: Transactions that read all of a key's versions that were ever read.
            branches: Where they did.
        """
        readers = self._readers_of_all(rows, branches)
        happened = self._known_to_have_happened(known)
        outcome = self.lists.transactions.outcome
        ww: tuple[list[int], list[int], list[int]] = [], [], []
        rw: tuple[list[int], list[int], list[int]] = [], [], []
        for key, of_key in readers.items():
            in_order = set(key.order)
            last = next((e for e in reversed(key.order) if e in key.writer), NOBODYS)
            before = [] if last is NOBODYS else [key.writer[last]]
            for element in [e for e in key.writer if e not in in_order]:
                row = key.writer[element]
                if outcome[row] != Outcome.OK and row not in happened:
                    continue
                via = self.versions.number(key, element)
                self.unread[key.name].append(via)
                self.unread_by[via] = row
                for edges, sources in ((ww, before), (rw, of_key)):
                    edges[0].extend(sources)
                    edges[1].extend([row] * len(sources))
                    edges[2].extend([via] * len(sources))
        return join(_edges(Kind.WW, *ww), _edges(Kind.RW, *rw))

    def _readers_of_all(self, rows: Column, branches: Column) -> dict[Key, list[int]]:
        """Keys with unread appends -> those who read all that was ever read of them."""
        readers: dict[Key, list[int]] = {key: [] for key in self.versions.not_in_order}
        concerned = np.array([b.key in readers for b in self.lists.branches], np.bool_)
        some = np.flatnonzero(concerned[branches])
        for row, branch in zip(
            rows[some].tolist(), branches[some].tolist(), strict=True
        ):
            readers[self.lists.branches[branch].key].append(row)
        return readers

    def _known_to_have_happened(self, known: Column) -> set[int]:
        """Rows of which something was read."""
        happened = set(self.versions.writers[known].tolist())
        happened |= {
            read.key.writer.get(read.value[-1], NOTHING)
            for read in self.versions.unplaced()
        }
        return happened


def _edges(kind: Kind, sources: list[int], targets: list[int], via: list[int]) -> Edges:
    return edges_of(
        kind,
        np.array(sources, np.int64),
        np.array(targets, np.int64),
        np.array(via, np.int64),
    )
