"""What single lists and elements show to be wrong, without any graph.

These are aborted and intermediate reads, garbage, repeated elements, lists that can't
grow into each other, dirty and lost updates. The names are Elle's (Kingsbury and Alvaro
2020), some of them after Adya (1999). Lost appends have a module of their own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from checkers.isolation.appends.lists import UNPLACED
from checkers.isolation.appends.versions import common_length
from checkers.isolation.evidence import (
    AbortedRead,
    DirtyUpdate,
    GarbageRead,
    IntermediateRead,
    ListsDiffer,
    LostUpdate,
    Reordered,
    RepeatedElement,
)
from checkers.isolation.graph import NOTHING
from checkers.isolation.transactions import Copy, Outcome, plain

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from checkers.findings import Findings
    from checkers.isolation.appends.lists import Branch, Key, Lists, Read
    from checkers.isolation.appends.versions import Versions
    from checkers.isolation.evidence import Evidence


class Accusations:
    """Looks for each kind of anomaly, and adds to the findings.

    Args:
        lists: What was read and appended.
        versions: The version orders.
        findings: Where anomalies go.
    """

    def __init__(
        self, lists: Lists, versions: Versions, findings: Findings[Evidence]
    ) -> None:
        self.lists = lists
        self.versions = versions
        self.findings = findings

    def of_keys(self) -> None:
        """What version orders show by themselves."""
        for key in self.versions.keys:
            if key.inner:
                self._reordered_appends(key)
            if key.failed:
                self._dirty_updates(key)

    def of_reads(self) -> None:
        """What reads show; they must have been placed."""
        self._odd_lists()
        self._intermediate_reads()
        self._aborted_reads()
        self._lost_updates()

    # Version orders

    def _reordered_appends(self, key: Key) -> None:
        """Appends of one transaction that stand in a list in another order.

        One that stands in none comes after all that do.
        """
        place = {element: i for i, element in enumerate(key.order)}
        last = len(place)
        for first, second in key.inner.items():
            if place.get(first, last) <= place.get(second, last):
                continue
            reader, writer = self._reader_of(key, second), key.writer[first]
            if reader == writer:
                continue  # a future read, of its own
            rows = reader, writer
            self.findings.note(
                Reordered("incompatible-order", rows, key.name, first, second)
            )

    def _reader_of(self, key: Key, element: Hashable) -> int:
        """Row of the first transaction that read an element."""
        branch = next(branch for branch in key.branches if element in branch.value)
        return self.lists.first_to_see(branch, branch.value.index(element))

    def _dirty_updates(self, key: Key) -> None:
        """Committed appends behind a failed one, with only unknown ones between."""
        if not any(element in key.failed for element in key.order):
            return
        outcome = self.lists.transactions.outcome
        failed: tuple[int, Hashable] | None = None
        for element in key.order:
            row = key.writer.get(element)
            if row is None:
                if element in key.failed:
                    failed = key.failed[element], element
            elif outcome[row] == Outcome.OK:
                if failed is not None:
                    rows, dirt = (row, failed[0]), failed[1]
                    self.findings.note(
                        DirtyUpdate("dirty-update", rows, key.name, element, dirt)
                    )
                failed = None

    # Lists out of order

    def _odd_lists(self) -> None:
        """Lists that repeat elements, or are no beginning of the longest."""
        for i in self.versions.odd.tolist():
            read = self.lists.read(i)
            distinct = list(dict.fromkeys(read.value))
            if len(distinct) < len(read.value):
                times = Counter(read.value)
                element = max(times, key=times.__getitem__)
                self.findings.note(
                    RepeatedElement(
                        "duplicate-elements",
                        (read.row,),
                        read.key.name,
                        element,
                        times[element],
                    )
                )
            agreed = common_length(distinct, read.key.longest)
            if agreed < len(distinct) and self.findings.wants("incompatible-order"):
                self.findings.keep(self._lists_differ(read, agreed + 1))

    def _lists_differ(self, read: Read, place: int) -> ListsDiffer:
        key = read.key
        longest = max(key.branches, key=lambda b: len(set(b.value)))
        other = self.lists.first_to_see(longest, len(longest.value) - 1)
        return ListsDiffer(
            "incompatible-order",
            (read.row, other),
            key.name,
            read.value,
            key.longest,
            place,
        )

    # What must not be read

    def _intermediate_reads(self) -> None:
        """Reads whose last element is not the last that its writer appended."""
        reads = self.lists.reads
        suspect = self.versions.is_inner[np.maximum(reads.version, NOTHING)]
        suspect[self.versions.odd] = True
        for i in np.flatnonzero(suspect & ~reads.shows_own).tolist():
            read = self.lists.read(i)
            element = read.value[-1]
            if element not in read.key.inner:
                continue
            rows = read.row, read.key.writer[element]
            if rows[0] != rows[1]:
                self.findings.note(
                    IntermediateRead("G1b", rows, read.key.name, element, "append")
                )

    def _aborted_reads(self) -> None:
        """Reads of elements that no transaction, or a failed one, appended.

        Each element is blamed once, on the first transaction that read it.
        """
        blamed: set[tuple[int, Hashable]] = set()
        for branch in self._suspects():
            key = branch.key
            for place, element in enumerate(branch.value):
                if element in key.writer or (key.number, element) in blamed:
                    continue
                blamed.add((key.number, element))
                if element in key.failed:
                    name = "G1a"
                elif type(element) is Copy:
                    name = "duplicate-elements"
                else:
                    name = "garbage-read"
                if self.findings.wants(name):
                    self._unfounded(name, branch, place)

    def _suspects(self) -> Iterator[Branch]:
        """Branches in which there may be elements without a writer."""
        versions = self.versions
        bases = np.array([*versions.bases, len(versions)], np.int64)
        unfounded = np.append(0, np.cumsum(versions.writers == NOTHING))[bases]
        for key, is_suspect in zip(versions.keys, np.diff(unfounded), strict=True):
            for branch in key.branches:
                if is_suspect or branch.value != key.order:
                    yield branch

    def _unfounded(self, name: str, branch: Branch, place: int) -> None:
        """Keep the read of an element that must not be there."""
        key, element = branch.key, branch.value[place]
        row = self.lists.first_to_see(branch, place)
        match name:
            case "G1a":
                rows = row, key.failed[element]
                found = AbortedRead(name, rows, key.name, element, "append")
                self.findings.keep(found)
            case "garbage-read":
                self.findings.keep(
                    GarbageRead(name, (row,), key.name, element, "append")
                )
            case _:
                until = branch.value[: place + 1]
                times = sum(plain(e) == plain(element) for e in until)
                self.findings.keep(
                    RepeatedElement(
                        name, (row,), key.name, element, times, is_copied=True
                    )
                )

    # Updates

    def _lost_updates(self) -> None:
        """Transactions that read one version of a key each, and appended to it."""
        reads = self.lists.reads
        readers: dict[Hashable, list[int]] = defaultdict(list)
        for i in self.lists.updates:
            row, branch, length = reads.one(i)
            key = self.lists.branches[branch].key
            if length and key.writer.get(self.lists.value(i)[-1]) == row:
                continue  # it saw its own append before it made it
            place: Hashable = int(reads.version[i])
            if place == NOTHING:
                place = key
            elif place == UNPLACED:
                place = (branch, length)
            readers[place].append(i)
        for group in readers.values():
            if len(group) > 1 and self.findings.wants("lost-update"):
                same = sorted(map(self.lists.read, group), key=lambda read: read.row)
                rows = tuple(read.row for read in same)
                key_name, value = same[0].key.name, same[0].value
                self.findings.keep(
                    LostUpdate("lost-update", rows, key_name, value, "append")
                )
