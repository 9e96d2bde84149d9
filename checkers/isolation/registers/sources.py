"""Values that were written more than once: a version for each write of them.

What a read of such a value may be of is for `checkers.isolation.candidates` to say.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from checkers.isolation.candidates import INITIAL, UNORDERED, OpenRead, Writers
from checkers.isolation.graph import NOTHING
from checkers.isolation.replay import Deeds
from checkers.isolation.transactions import Copy
from checkers.isolation.weak import Read
from checkers.linearizability.specification import freeze

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from checkers.isolation.candidates import Foul
    from checkers.isolation.registers.scan import Access, Versions

_WRITTEN_NIL = Copy(None, NOTHING)
"""The value of a version that holds nil because somebody wrote it."""


class Candidates(NamedTuple):
    """Reads of which values don't tell whose they are.

    Attributes:
        likely: These reads, and their sources.
        fouls: Places of reads -> the anomaly that they are in any case.
    """

    likely: list[OpenRead]
    fouls: dict[int, Foul]


class Settled(NamedTuple):
    """What was read, each read being of one source or of an unknown one.

    Attributes:
        reads: See `scan.Versions`.
        by_key: See `scan.Versions`.
        open: Reads that may be of several sources.
    """

    reads: list[Read]
    by_key: Mapping[Hashable, list[Access]]
    open: list[OpenRead]


class Splits:
    """Versions that were split into one for each write.

    Args:
        versions: What was written and read; gets the new versions.
        failed_may_show: Whether a read may be of a failed write, though there are
            others.

    Attributes:
        doubtful: Versions that may have several sources -> rows of their writers.
        written: Such a version and a row -> the version that stands for the write.
        unknown: Such a version -> the one that stands for any of its writes.
    """

    def __init__(self, versions: Versions, *, failed_may_show: bool) -> None:
        self.versions = versions
        self.doubtful = self._find_doubtful(failed_may_show=failed_may_show)
        self.written: dict[tuple[int, int], int] = {}
        self.unknown: dict[int, int] = {}
        for version, rows in self.doubtful.items():
            self._split(version, rows)
        for key in {versions.key_of[version] for version in self.doubtful}:
            for access in versions.by_key[key]:
                if access.wrote in self.doubtful:
                    access.wrote = self.written[access.wrote, access.row]

    def _find_doubtful(self, *, failed_may_show: bool) -> dict[int, list[int]]:
        versions = self.versions
        doubtful = dict(versions.writers)
        for key in set(versions.key_of):
            for value in {None, freeze(versions.sources.initial)}:
                version = versions.numbers.get((key, value), NOTHING)
                if version == NOTHING or version in doubtful:
                    continue
                if versions.writer[version] != NOTHING:
                    doubtful[version] = [versions.writer[version]]
                elif value is not None:  # another name of the initial state
                    doubtful[version] = []
        if failed_may_show:
            for version in versions.failed:
                if versions.writer[version] != NOTHING:
                    doubtful.setdefault(version, [versions.writer[version]])
        for version in doubtful:
            versions.version(versions.key_of[version], None)
        return doubtful

    def _split(self, version: int, rows: list[int]) -> None:
        """Make a version of each write."""
        versions = self.versions
        key, value = versions.key_of[version], versions.value_of[version]
        value = _WRITTEN_NIL if value is None else value
        self.unknown[version] = versions.new_version(key, value)
        for row in rows:
            number = versions.new_version(key, value, row)
            self.written[version, row] = number
            if versions.writes[row].get(key) == version:
                versions.writes[row][key] = number
        versions.writer[version] = NOTHING

    def candidates(self, proscribed: frozenset[str]) -> Candidates:
        """What each read of these versions may be of.

        Args:
            proscribed: The anomalies that rule sources out.
        """
        found = Candidates([], {})
        if not self.doubtful:
            return found
        versions = self.versions
        writers = Writers(versions.transactions, versions.by_key, proscribed)
        for place, read in enumerate(versions.reads):
            version = read.version
            if version not in self.doubtful:
                continue
            rows = [
                (self._called(read.row, row, version), row)
                for row in self.doubtful[version]
            ]
            if version in versions.failed:
                rows.append(("G1a", versions.failed[version]))
            if versions.are_initial(version):
                rows.append(("", INITIAL))
            sources, foul = writers.sources(read, versions.key_of[version], rows)
            found.likely.append(OpenRead(place, sources))
            if foul is not None:
                found.fouls[place] = foul
        return found

    def _called(self, reader: int, writer: int, version: int) -> str:
        """What it is called to read a version from that writer; nothing if it may."""
        if reader == writer:
            return "future-read"
        number = self.written[version, writer]
        left = self.versions.writes[writer].get(self.versions.key_of[number])
        return "" if left == number else "G1b"

    def settle(
        self,
        likely: list[OpenRead],
        supposed: Mapping[int, int],
        *,
        repeatable: bool,
    ) -> Settled:
        """Let reads be of the only source they have, or of that which is supposed.

        Args:
            likely: Reads, and their sources.
            supposed: Place of a read -> one of its sources.
            repeatable: Whether a transaction that reads a value again reads the same
                version.
        """
        versions = self.versions
        if not likely:
            return Settled(versions.reads, versions.by_key, [])
        settled = Settled(versions.reads[:], versions.by_key, [])
        first: dict[tuple[int, int], int] = {}
        known: set[tuple[int, int]] = set()
        for one in likely:
            read = settled.reads[one.place]
            about = read.row, read.version
            if about in first and repeatable:
                version = first[about]
            else:
                source = supposed.get(one.place, one.sources[0])
                if len(one.sources) > 1 and one.place not in supposed:
                    settled.open.append(one)
                    source = UNORDERED
                version = self._version_of(read.version, source)
            if not read.late:
                first.setdefault(about, version)
            again = (read.row, version) in known
            known.add((read.row, version))
            settled.reads[one.place] = Read(read.row, version, again, read.late)
        by_key = dict(versions.by_key)
        for key in {versions.key_of[version] for version in self.unknown}:
            by_key[key] = [
                replace(a, read=first.get((a.row, a.read), a.read))
                for a in versions.by_key.get(key, ())
            ]
        return settled._replace(by_key=by_key)

    def _version_of(self, version: int, source: int) -> int:
        """The version that a value is, if it is of that source."""
        if source == UNORDERED:
            return self.unknown[version]
        if source == INITIAL:
            return self.versions.numbers[self.versions.key_of[version], None]
        return self.written[version, source]

    def deeds(self) -> Deeds:
        """What transactions did, by values alone; see `Replay`."""
        versions = self.versions
        scanned = {number: version for (version, _), number in self.written.items()}
        reads: list[list[tuple[Hashable, int]]] = [[] for _ in versions.writes]
        for read in versions.reads:
            about = versions.key_of[read.version], read.version
            if about not in reads[read.row]:
                reads[read.row].append(about)
        writes = [
            {key: scanned.get(version, version) for key, version in left.items()}
            for left in versions.writes
        ]
        count = range(len(versions.value_of))
        return Deeds(reads, writes, frozenset(filter(versions.are_initial, count)))
