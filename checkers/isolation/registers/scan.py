"""One pass over all micro-operations: versions, who wrote them, and who read them.

A version is a key and a value, as a number. On the way each committed transaction is
compared with itself: its reads have to fit its earlier operations.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from checkers.findings import Findings
from checkers.isolation import transactions as t
from checkers.isolation.evidence import UnlikeOwnValue
from checkers.isolation.graph import NOTHING
from checkers.isolation.weak import Read
from checkers.linearizability.specification import freeze

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from checkers.isolation.evidence import Evidence

FUNCTIONS = ("w", "r")

_NO_WRITES: dict[Hashable, int] = {}
"""What every transaction left that left nothing; never changed."""


@dataclass(frozen=True)
class Sources:
    """Where version orders may be taken from, beside the initial state.

    Attributes:
        wfr_keys, sequential_keys, linearizable_keys: The assumptions that are made.
        is_search_exhaustive: Where they say too little, try orders to the end.
        initial: The value that every key begins with, beside nil.
        own_writes_show: Whether a transaction reads what it wrote itself, or keeps to
            its snapshot.
    """

    wfr_keys: bool = False
    sequential_keys: bool = False
    linearizable_keys: bool = False
    is_search_exhaustive: bool = False
    initial: Any = None
    own_writes_show: bool = True


@dataclass(slots=True)
class Access:
    """What one committed transaction did to one key, seen from outside.

    Attributes:
        row: The transaction.
        read: The version it read first, before any write of its own; NOTHING if none.
        wrote: The version it left; NOTHING if none.
    """

    row: int
    read: int = NOTHING
    wrote: int = NOTHING


class Versions:
    """Everything that was written and read.

    Attributes:
        transactions: The history.
        sources: What keys begin with, and whether own writes show.
        findings: What is wrong within single transactions.
        has_reads: Whether a committed transaction read anything at all.
        key_of, value_of: Version -> key, value, both frozen; None is the value of the
            initial state.
        writer: Version -> row of its ok or info writer, or NOTHING.
        writers: Versions with several of these -> their rows.
        failed: Version -> row of the failed transaction that wrote it.
        numbers: Key and value -> version.
        reads: Reads of what other transactions may have written, in order.
        by_key: Key -> what committed transactions did to it, in their order.
        writes: Row -> the versions it left, by key; of ok and info transactions.
    """

    def __init__(self, transactions: t.Transactions, sources: Sources) -> None:
        self.transactions = transactions
        self.sources = sources
        self.findings: Findings[Evidence] = Findings()
        self.has_reads = False
        self.key_of: list[Hashable] = []
        self.value_of: list[Any] = []
        self.writer: list[int] = []
        self.writers: dict[int, list[int]] = {}
        self.failed: dict[int, int] = {}
        self.numbers: dict[tuple[Hashable, Any], int] = {}
        self.reads: list[Read] = []
        self.by_key: dict[Hashable, list[Access]] = defaultdict(list)
        self.writes: list[dict[Hashable, int]] = [_NO_WRITES] * len(transactions)

    def version(self, key: Hashable, value: Any) -> int:
        """The number of a version; new ones have no writer yet.

        Raises:
            ValueError: The value is not equal to itself.
        """
        number = self.numbers.get((key, value))
        if number is None:
            if value != value:  # not a number: no read of it would be known again
                raise ValueError
            number = self.numbers[key, value] = self.new_version(key, value)
        return number

    def new_version(self, key: Hashable, value: Any, writer: int = NOTHING) -> int:
        """A version that is not known by its value."""
        self.key_of.append(key)
        self.value_of.append(value)
        self.writer.append(writer)
        return len(self.writer) - 1

    def are_initial(self, *versions: int) -> bool:
        """Whether keys begin with all of these."""
        initial = (None, freeze(self.sources.initial))
        return all(self.value_of[version] in initial for version in versions)


def scan(
    transactions: t.Transactions, sources: Sources, pause: Callable[[], None]
) -> Versions:
    """All versions of a history.

    Raises:
        HistoryError: It is no history of writes and reads.
    """
    try:
        return _Scan(transactions, sources).run(pause)
    except (TypeError, ValueError):
        transactions.normalise(FUNCTIONS, _frozen)
        return _Scan(transactions, sources).run(pause)


class _Scan:
    """The pass. Raises TypeError or ValueError where values have to be frozen first."""

    def __init__(self, transactions: t.Transactions, sources: Sources) -> None:
        self.transactions = transactions
        self.own_writes_show = sources.own_writes_show
        self.versions = Versions(transactions, sources)

    def run(self, pause: Callable[[], None]) -> Versions:
        """Look at each transaction once."""
        outcome, ok = self.transactions.outcome, int(t.Outcome.OK)
        for count, (row, micro_ops) in enumerate(self.transactions.micro_ops()):
            if outcome[row] == ok:
                self._committed(row, micro_ops)
            else:
                self._attempted(row, micro_ops)
            if not count % t.PAUSE_EVERY:
                pause()
        return self.versions

    def _committed(self, row: int, micro_ops: t.MicroOps) -> None:
        """A transaction that surely happened: what it read, and what it wrote."""
        versions = self.versions
        numbers, shows = versions.numbers, self.own_writes_show
        mine: dict[Hashable, Access] = {}
        left: dict[Hashable, int] = {}
        for micro_op in micro_ops:
            if type(micro_op) is not list and type(micro_op) is not tuple:
                raise TypeError  # text and maps can be taken apart as well
            f, key, value = micro_op
            if value is True or value is False or key is True or key is False:
                raise ValueError  # it equals a number as it is
            version = numbers.get((key, value), NOTHING)
            if version == NOTHING:
                version = versions.version(key, value)
            access = mine.get(key)
            if access is None:
                access = mine[key] = Access(row)
                versions.by_key[key].append(access)
            if f == "w":
                access.wrote = left[key] = version
                self._wrote(row, version)
            elif f == "r":
                versions.has_reads = True
                if access.wrote != NOTHING and shows:
                    if version != access.wrote:
                        self._read_late(row, version, access.wrote)
                    continue
                again = access.read == version
                if access.read == NOTHING:
                    access.read = version
                elif not again and not versions.are_initial(version, access.read):
                    self._unlike_own(row, version, access.read)
                versions.reads.append(Read(row, version, again))
            else:
                raise ValueError
        if left:
            versions.writes[row] = left

    def _read_late(self, row: int, version: int, expected: int) -> None:
        """A read behind a write of the key, of something else."""
        self._unlike_own(row, version, expected)
        # What it wrote itself, and replaced since then, depends on nobody.
        versions = self.versions
        if versions.writer[version] == row or row in versions.writers.get(version, ()):
            return
        versions.reads.append(Read(row, version, late=True))

    def _unlike_own(self, row: int, version: int, expected: int) -> None:
        key, value_of = self.versions.key_of[version], self.versions.value_of
        read, right = value_of[version], value_of[expected]
        self.versions.findings.note(
            UnlikeOwnValue("internal", (row,), key, read, right)
        )

    def _attempted(self, row: int, micro_ops: t.MicroOps) -> None:
        """A transaction that failed, or of which nobody knows: what it tried to do."""
        versions = self.versions
        failed = self.transactions.outcome[row] == t.Outcome.FAIL
        left: dict[Hashable, int] = {}
        for micro_op in micro_ops:
            if type(micro_op) is not list and type(micro_op) is not tuple:
                raise TypeError
            f, key, value = micro_op
            if value is True or value is False or key is True or key is False:
                raise ValueError
            if f == "w":
                version = versions.version(key, value)
                if failed:
                    versions.failed[version] = row
                    continue
                left[versions.key_of[version]] = version
                self._wrote(row, version)
            elif f != "r":
                raise ValueError
        if left:
            versions.writes[row] = left

    def _wrote(self, row: int, version: int) -> None:
        other = self.versions.writer[version]
        if other == NOTHING:
            self.versions.writer[version] = row
        elif other != row:
            rows = self.versions.writers.setdefault(version, [other])
            if rows[-1] != row:
                rows.append(row)


def _frozen(_f: str, value: Any) -> Hashable:
    """The value of a micro-operation as `Transactions.normalise` wants it."""
    return freeze(value)
