"""What single reads and updates of registers show to be wrong, without any graph."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from checkers.isolation.evidence import (
    AbortedRead,
    FutureRead,
    GarbageRead,
    IntermediateRead,
    LostUpdate,
)
from checkers.isolation.graph import NOTHING

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence

    from checkers.findings import Findings
    from checkers.isolation.candidates import Foul
    from checkers.isolation.evidence import Evidence
    from checkers.isolation.registers.scan import Access, Versions
    from checkers.isolation.weak import Read


class Accusations:
    """Looks for each kind of anomaly, and adds to the findings.

    Args:
        versions: What was written and read.
        unknown: Versions that stand for any of several.
        findings: Where anomalies go.
    """

    def __init__(
        self, versions: Versions, unknown: Collection[int], findings: Findings[Evidence]
    ) -> None:
        self.versions = versions
        self.unknown = frozenset(unknown)
        self.findings = findings

    def of_reads(self, reads: Sequence[Read], fouls: Mapping[int, Foul]) -> None:
        """Reads of what failed, of what was not final, and of what nobody wrote.

        Args:
            reads: The reads.
            fouls: Places of reads -> the anomaly that they are in any case.
        """
        versions = self.versions
        for place, read in enumerate(reads):
            version = read.version
            writer = versions.writer[version]
            if read.again or versions.value_of[version] is None:
                continue
            if place in fouls:
                self._foul(read, *fouls[place])
            elif writer == read.row:
                self._foul(read, "future-read", writer)
            elif writer != NOTHING:
                if versions.writes[writer].get(versions.key_of[version]) != version:
                    self._foul(read, "G1b", writer)
            elif version in versions.failed:
                self._foul(read, "G1a", versions.failed[version])
            elif version not in self.unknown:
                self._foul(read, "garbage-read", NOTHING)

    def _foul(self, read: Read, name: str, writer: int) -> None:
        """Note a read of something that must not be read."""
        key = self.versions.key_of[read.version]
        value = self.versions.value_of[read.version]
        rows = read.row, writer
        found: Evidence
        match name:
            case "G1a":
                found = AbortedRead(name, rows, key, value, "write")
            case "G1b":
                found = IntermediateRead(name, rows, key, value, "write")
            case "future-read":
                shows = self.versions.sources.own_writes_show
                found = FutureRead(name, (read.row,), key, value, "write", shows)
            case _:
                found = GarbageRead(name, (read.row,), key, value, "write")
        self.findings.note(found)

    def of_updates(self, by_key: Mapping[Hashable, Sequence[Access]]) -> None:
        """Transactions that read one version of a key each, and replaced it.

        Args:
            by_key: Key -> what committed transactions did to it.
        """
        for key, accesses in by_key.items():
            readers: dict[int, list[int]] = defaultdict(list)
            for access in accesses:
                # One that read its own write before it made it has lost nothing.
                if access.read != NOTHING and access.wrote not in {
                    NOTHING,
                    access.read,
                }:
                    readers[access.read].append(access.row)
            for version in readers.keys() & self.unknown:
                del readers[version]
            for version, rows in readers.items():
                if len(rows) > 1:
                    value = self.versions.value_of[version]
                    self.findings.note(
                        LostUpdate("lost-update", tuple(rows), key, value, "write")
                    )
