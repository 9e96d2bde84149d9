"""Read-write registers: the order of versions has to be inferred.

Transactions write values to registers and read them. Where values are unique it is
certain who wrote what was read; which of two writes came first shows only here and
there (Kingsbury and Alvaro, "Elle", 2020, section 4.3). Sources of that order, each an
assumption about the database but for the first:

- initial: every key begins as nil, before whatever is written to it;
- wfr-keys: a transaction that reads a version of a key and then writes one replaces it,
  if with others between;
- sequential-keys: each key by itself is sequentially consistent, so that a process sees
  its versions in their order;
- linearizable-keys: each key by itself is linearizable, so that real time orders them.

Where a source contradicts the earlier ones on a key (cyclic versions), that is an
anomaly, and the source is left out for the key.

Choices:
- Every read before the transaction's own first write of the key counts, as in
  `checkers.isolation.appends`.
- A read after the transaction's own write of the key, of anything but that, breaks
  internal consistency. For models without it, it is a read like any other, and what it
  saw has a writer.
- A value that nobody wrote is an anomaly, and for the rest a version like any other.
- Each write of a value that was written more than once is a version of its own, and so
  is a write of nil. Where a read may be of several of them it is open, and orders
  nothing; see `checkers.isolation.candidates` and `checkers.isolation.assignments`.
- nil precedes all versions, yet an edge goes only to those that no other known version
  precedes; the others follow from them.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from checkers.isolation import guarantees, weak
from checkers.isolation import transactions as t
from checkers.isolation.assignments import Assignments
from checkers.isolation.candidates import INITIAL, UNORDERED, OpenRead, Writers
from checkers.isolation.components import components, shortest_cycle
from checkers.isolation.elimination import Elimination
from checkers.isolation.findings import (
    PAUSE_EVERY,
    Copy,
    Finding,
    Findings,
    Reason,
    no_pause,
    show,
    show_all,
)
from checkers.isolation.graph import (
    NOTHING,
    Kind,
    edges_of,
    join,
    session_edges,
)
from checkers.isolation.levels import expand
from checkers.isolation.replay import Deeds
from checkers.isolation.unfolded import Script
from checkers.isolation.weak import Read
from checkers.linearizability.specification import freeze

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Hashable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from checkers.isolation.candidates import Foul
    from checkers.isolation.graph import Column, Edges
    from checkers.isolation.question import Question
    from checkers.isolation.walks import Cycle
    from checkers.isolation.writers import Choice, Group

FUNCTIONS = ("w", "r")

_WRITTEN_NIL = Copy(None, NOTHING)
"""The value of a version that holds nil because somebody wrote it."""

_NO_WRITES: dict[Hashable, int] = {}
"""What every transaction left that left nothing; never changed."""


@dataclass(frozen=True)
class Sources:
    """Where version orders may be taken from, beside the initial state.

    Attributes:
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


class Registers:
    """Everything that the values of a history of registers tell.

    Attributes:
        dependencies: The ww, wr and rw edges.
        findings: Anomalies that are no cycles.
        undecided: Why nothing but anomalies can be proved; empty if all can.
        remark: Which orders of writes stay open, if that leaves a doubt.
        has_reads: See `Inference`.
        reads: Reads of what other transactions may have written, in order.
        likely: Those of which values don't tell whose they are, and their sources.
        open: Of these, those that may be of several.
        is_supposed: Whether some of these are supposed to be of one.
        by_key: Key -> what committed transactions did to it, in their order.
        writes: Row -> the versions it left, by key; of ok and info transactions.
        writer: Version -> row of its ok or info writer, or NOTHING.
        key_of, value_of: Version -> key, value, both frozen; None is the value of the
            initial state.

    Raises:
        HistoryError: From the constructor: it is no history of writes and reads.
            Cost: linear, but for what precedes a version that many read, and for what
            runs concurrently on linearizable keys.
    """

    accesses = None
    has_orders = False
    shown: tuple[tuple[int, int], ...] = ()
    """Version orders rest on assumptions here; the axioms do without."""

    def __init__(
        self,
        transactions: t.Transactions,
        sources: Sources,
        proscribed: frozenset[str],
        pause: Callable[[], None] = no_pause,
    ) -> None:
        self.transactions = transactions
        self.sources = sources
        self.proscribed = proscribed
        self._pause = pause
        self.is_supposed = False
        try:
            self._scan()
        except (TypeError, ValueError):
            transactions.normalise(FUNCTIONS, _frozen)
            self._scan()
        self._split()
        self.infer({})

    def supposing(self, sources: Mapping[int, int]) -> Registers:
        """The same history, where these open reads are of these sources.

        Args:
            sources: Place of a read -> one of its sources.
        """
        other = copy.copy(self)
        other.__dict__.pop("_reads_by_row", None)
        other.is_supposed = True
        other.infer(sources)
        return other

    def at_best(self, proscribed: frozenset[str]) -> Registers:
        """The same history, where each open read is of its likeliest source.

        Args:
            proscribed: The anomalies that rule sources out.
        """
        other = copy.copy(self)
        other.proscribed = proscribed
        other.find_sources()
        return other.supposing({one.place: one.sources[0] for one in other.likely})

    def infer(self, supposed: Mapping[int, int]) -> None:
        """Everything that follows from what was scanned."""
        self.undecided = self.remark = ""
        self.findings = Findings(
            list(self._internals.examples), Counter(self._internals.counts)
        )
        self._settle_sources(supposed)
        self._check_reads()
        self._look_for_lost_updates()
        self.before = _VersionOrder()
        self._order_versions()
        self.dependencies = join(*self._dependencies())

    # Reading the transactions

    def _scan(self) -> None:
        """One pass over all micro-operations."""
        self.findings = self._internals = Findings()
        self.choices: Sequence[Choice] = ()
        self.has_reads = False
        self.key_of: list[Hashable] = []
        self.value_of: list[Any] = []
        self.writer: list[int] = []
        self.reads: list[Read] = []
        self.by_key: dict[Hashable, list[Access]] = defaultdict(list)
        self.writes: list[dict[Hashable, int]] = [_NO_WRITES] * len(self.transactions)
        self._numbers: dict[tuple[Hashable, Any], int] = {}
        self._failed: dict[int, int] = {}
        self._writers: dict[int, list[int]] = {}
        outcome = self.transactions.outcome
        for count, (row, micro_ops) in enumerate(self.transactions.micro_ops()):
            if outcome[row] == t.Outcome.OK:
                self._scan_committed(row, micro_ops)
            else:
                self._scan_writes(row, micro_ops)
            if not count % PAUSE_EVERY:
                self._pause()

    def _version(self, key: Hashable, value: Any) -> int:
        """The number of a version; new ones have no writer yet."""
        number = self._numbers.get((key, value))
        if number is None:
            if value != value:  # not a number: no read of it would be known again
                raise ValueError
            number = self._numbers[key, value] = self._new_version(key, value)
        return number

    def _new_version(self, key: Hashable, value: Any, writer: int = NOTHING) -> int:
        self.key_of.append(key)
        self.value_of.append(value)
        self.writer.append(writer)
        return len(self.writer) - 1

    def _scan_committed(self, row: int, micro_ops: t.MicroOps) -> None:
        """A transaction that surely happened: what it read, and what it wrote."""
        mine: dict[Hashable, Access] = {}
        left: dict[Hashable, int] = {}
        shows, numbers = self.sources.own_writes_show, self._numbers
        for micro_op in micro_ops:
            if type(micro_op) is not list and type(micro_op) is not tuple:
                raise TypeError  # text and maps can be taken apart as well
            f, key, value = micro_op
            if value is True or value is False or key is True or key is False:
                raise ValueError  # it equals a number as it is
            version = numbers.get((key, value), NOTHING)
            if version == NOTHING:
                version = self._version(key, value)
            access = mine.get(key)
            if access is None:
                access = mine[key] = Access(row)
                self.by_key[key].append(access)
            if f == "w":
                access.wrote = left[key] = version
                self._wrote(row, version)
            elif f == "r":
                self.has_reads = True
                if access.wrote != NOTHING and shows:
                    if version != access.wrote:
                        self._read_late(row, version, access.wrote)
                    continue
                again = access.read == version
                if access.read == NOTHING:
                    access.read = version
                elif not again and not self._begins(version, access.read):
                    self._internal(row, version, access.read)
                self.reads.append(Read(row, version, again))
            else:
                raise ValueError
        if left:
            self.writes[row] = left

    def _read_late(self, row: int, version: int, expected: int) -> None:
        """A read behind a write of the key, of something else."""
        self._internal(row, version, expected)
        # What it wrote itself, and replaced since then, depends on nobody.
        if self.writer[version] != row and row not in self._writers.get(version, ()):
            self.reads.append(Read(row, version, late=True))

    def _begins(self, *versions: int) -> bool:
        """Whether keys begin with all of these."""
        initial = (None, freeze(self.sources.initial))
        return all(self.value_of[version] in initial for version in versions)

    def _scan_writes(self, row: int, micro_ops: t.MicroOps) -> None:
        """A transaction that failed, or of which nobody knows: what it tried to do."""
        failed = self.transactions.outcome[row] == t.Outcome.FAIL
        left: dict[Hashable, int] = {}
        for micro_op in micro_ops:
            if type(micro_op) is not list and type(micro_op) is not tuple:
                raise TypeError
            f, key, value = micro_op
            if value is True or value is False or key is True or key is False:
                raise ValueError
            if f == "w":
                version = self._version(key, value)
                if failed:
                    self._failed[version] = row
                    continue
                left[self.key_of[version]] = version
                self._wrote(row, version)
            elif f != "r":
                raise ValueError
        if left:
            self.writes[row] = left

    def _wrote(self, row: int, version: int) -> None:
        other = self.writer[version]
        if other == NOTHING:
            self.writer[version] = row
        elif other != row:
            rows = self._writers.setdefault(version, [other])
            if rows[-1] != row:
                rows.append(row)

    def _name(self, row: int) -> str:
        return self.transactions.name(row)

    def _what(self, version: int) -> str:
        return f"{show(self.value_of[version])} to key {show(self.key_of[version])}"

    # Values that were written more than once

    def _split(self) -> None:
        """Make a version of each write of what may have been written elsewhere."""
        self._scanned = self.reads
        self._accesses = self.by_key
        self._written: dict[tuple[int, int], int] = {}
        self._unknown: dict[int, int] = {}
        self._doubtful = doubtful = self._find_doubtful()
        for version, rows in doubtful.items():
            key, value = self.key_of[version], self.value_of[version]
            value = _WRITTEN_NIL if value is None else value
            self._unknown[version] = self._new_version(key, value)
            for row in rows:
                number = self._new_version(key, value, row)
                self._written[version, row] = number
                if self.writes[row].get(key) == version:
                    self.writes[row][key] = number
            self.writer[version] = NOTHING
        for key in {self.key_of[version] for version in doubtful}:
            for access in self.by_key[key]:
                if access.wrote in doubtful:
                    access.wrote = self._written[access.wrote, access.row]
        self.find_sources()

    def _find_doubtful(self) -> dict[int, list[int]]:
        """Versions that may have several sources -> rows of their writers."""
        doubtful = dict(self._writers)
        for key in set(self.key_of):
            for value in {None, freeze(self.sources.initial)}:
                version = self._numbers.get((key, value), NOTHING)
                if version == NOTHING or version in doubtful:
                    continue
                if self.writer[version] != NOTHING:
                    doubtful[version] = [self.writer[version]]
                elif value is not None:  # another name of the initial state
                    doubtful[version] = []
        if "G1a" not in self.proscribed:
            for version in self._failed:
                if self.writer[version] != NOTHING:
                    doubtful.setdefault(version, [self.writer[version]])
        for version in doubtful:
            self._version(self.key_of[version], None)
        return doubtful

    def find_sources(self) -> None:
        """What each read of these versions may be of."""
        self.likely: list[OpenRead] = []
        self._fouls: dict[int, Foul] = {}
        doubtful = self._doubtful
        if not doubtful:
            return
        writers = Writers(self.transactions, self.by_key, self.proscribed)
        for place, read in enumerate(self._scanned):
            version = read.version
            if version in doubtful:
                key = self.key_of[version]
                rows = [
                    (self._called(read.row, row, version), row)
                    for row in doubtful[version]
                ]
                if version in self._failed:
                    rows.append(("G1a", self._failed[version]))
                if self._begins(version):
                    rows.append(("", INITIAL))
                sources, foul = writers.sources(read, key, rows)
                self.likely.append(OpenRead(place, sources))
                if foul is not None:
                    self._fouls[place] = foul

    def _called(self, reader: int, writer: int, version: int) -> str:
        """What it is called to read a version from that writer; nothing if it may."""
        if reader == writer:
            return "future-read"
        number = self._written[version, writer]
        return "" if self.writes[writer].get(self.key_of[number]) == number else "G1b"

    def _settle_sources(self, supposed: Mapping[int, int]) -> None:
        """Let reads be of the only source they have, or of that which is supposed.

        Under a model that proscribes `internal`, one that reads the same value again
        reads the same version.
        """
        self.open: list[OpenRead] = []
        if not self.likely:
            return
        self.reads = reads = list(self._scanned)
        first: dict[tuple[int, int], int] = {}
        known: set[tuple[int, int]] = set()
        for one in self.likely:
            read = reads[one.place]
            about = read.row, read.version
            if about in first and "internal" in self.proscribed:
                version = first[about]
            else:
                source = supposed.get(one.place, one.sources[0])
                if len(one.sources) > 1 and one.place not in supposed:
                    self.open.append(one)
                    source = UNORDERED
                version = self._version_of(read.version, source)
            if not read.late:
                first.setdefault(about, version)
            again = (read.row, version) in known
            known.add((read.row, version))
            reads[one.place] = Read(read.row, version, again, read.late)
        self.by_key = dict(self._accesses)
        for key in {self.key_of[version] for version in self._unknown}:
            self.by_key[key] = [
                replace(a, read=first.get((a.row, a.read), a.read))
                for a in self._accesses.get(key, ())
            ]

    def _version_of(self, version: int, source: int) -> int:
        """The version that a value is, if it is of that source."""
        if source == UNORDERED:
            return self._unknown[version]
        if source == INITIAL:
            return self._numbers[self.key_of[version], None]
        return self._written[version, source]

    def _internal(self, row: int, version: int, expected: int) -> None:
        if self.findings.wants("internal"):
            key = self.key_of[version]
            text = (
                f"{self._name(row)} read {show(self.value_of[version])} from key "
                f"{show(key)}, but its own operations before that call for "
                f"{show(self.value_of[expected])}."
            )
            self.findings.add(Finding("internal", (row,), text, key))

    def deeds(self) -> Deeds:
        """What transactions did, by values alone; see `Replay`."""
        scanned = {number: version for (version, _), number in self._written.items()}
        reads: list[list[tuple[Hashable, int]]] = [[] for _ in self.writes]
        for read in self._scanned:
            about = self.key_of[read.version], read.version
            if about not in reads[read.row]:
                reads[read.row].append(about)
        return Deeds(
            reads,
            [
                {key: scanned.get(version, version) for key, version in writes.items()}
                for writes in self.writes
            ],
            frozenset(
                version
                for version in range(len(self.value_of))
                if self._begins(version)
            ),
        )

    # Single values

    def _check_reads(self) -> None:
        """Reads of what failed, of what was not final, and of what nobody wrote."""
        unknown = set(self._unknown.values())
        for place, read in enumerate(self.reads):
            version = read.version
            writer = self.writer[version]
            if read.again or self.value_of[version] is None:
                continue
            if place in self._fouls:
                self._foul(read, *self._fouls[place])
            elif writer == read.row:
                self._foul(read, "future-read", writer)
            elif writer != NOTHING:
                if self.writes[writer].get(self.key_of[version]) != version:
                    self._foul(read, "G1b", writer)
            elif version in self._failed:
                self._foul(read, "G1a", self._failed[version])
            elif version not in unknown and self.findings.wants("garbage-read"):
                text = f"{self._read(read)}, which no transaction ever wrote."
                key = self.key_of[version]
                self.findings.add(Finding("garbage-read", (read.row,), text, key))

    def _foul(self, read: Read, name: str, writer: int) -> None:
        """A read of what is not there to be read."""
        if not self.findings.wants(name):
            return
        key = self.key_of[read.version]
        if name == "future-read":
            when = "before it wrote" if self.sources.own_writes_show else "and wrote"
            text = f"{self._read(read)} {when} that value itself."
            self.findings.add(Finding(name, (read.row,), text, key))
            return
        text = f"{self._read(read)}; {self._name(writer)} {_FOUL[name]}."
        why = self._observed(writer, read.row, read.version)
        edge = Reason(writer, read.row, "wr", why)
        self.findings.add(Finding(name, (read.row, writer), text, key, [edge]))

    def _read(self, read: Read) -> str:
        value = show(self.value_of[read.version])
        return f"{self._name(read.row)} read {value} from key" + (
            f" {show(self.key_of[read.version])}"
        )

    def _observed(self, writer: int, reader: int, version: int) -> str:
        what = self._what(version)
        return f"{self._name(reader)} observed {self._name(writer)}'s write of {what}"

    def _look_for_lost_updates(self) -> None:
        """Transactions that read one version of a key each, and replaced it."""
        unknown = set(self._unknown.values())
        for accesses in self.by_key.values():
            readers: dict[int, list[int]] = defaultdict(list)
            for access in accesses:
                # One that read its own write before it made it has lost nothing.
                if access.read != NOTHING and access.wrote not in {
                    NOTHING,
                    access.read,
                }:
                    readers[access.read].append(access.row)
            for version in readers.keys() & unknown:
                del readers[version]
            for version, rows in readers.items():
                if len(rows) > 1 and self.findings.wants("lost-update"):
                    self._lost_update(version, rows)

    def _lost_update(self, version: int, rows: list[int]) -> None:
        key = self.key_of[version]
        names = show_all(list(map(self._name, rows)))
        text = (
            f"{names} read {show(self.value_of[version])} from key {show(key)} and "
            "then wrote to it: whichever came last did not see the others' writes."
        )
        edges = [
            Reason(
                a, b, "rw", f"{self._name(a)} did not observe {self._name(b)}'s write"
            )
            for a, b in itertools.permutations(rows[:4], 2)
        ]
        self.findings.add(Finding("lost-update", tuple(rows), text, key, edges))

    # Version orders

    def _order_versions(self) -> None:
        """Ask each source in turn; leave out what contradicts those before."""
        chosen = (
            ("initial", True, self._initial),
            ("wfr", self.sources.wfr_keys, self._writes_follow_reads),
            ("sequential", self.sources.sequential_keys, self._sequential),
            ("linearizable", self.sources.linearizable_keys, self._linearizable),
        )
        unknown = np.array(list(self._unknown.values()), np.int64)
        for name, wanted, source in chosen:
            if wanted:
                pairs = _distinct(source(), len(self.value_of))
                told = (pairs[:, 0] != pairs[:, 1]) & ~np.isin(pairs, unknown).any(1)
                self._adopt(name, pairs[told])

    def _adopt(self, source: str, pairs: Column) -> None:
        """Add what a source says of all keys on which it contradicts nothing."""
        low = np.concatenate([self.before.low, pairs[:, 0]])
        high = np.concatenate([self.before.high, pairs[:, 1]])
        refused = set()
        for members in components(low, high, np.arange(len(self.value_of))):
            refused.add(self.key_of[int(members[0])])
            if self.findings.wants("cyclic-versions"):
                self._cyclic(source, members.tolist(), low, high)
        if refused:
            keep = [self.key_of[v] not in refused for v in pairs[:, 0].tolist()]
            pairs = pairs[np.array(keep, np.bool_)]
        self.before.add(source, pairs)

    def _cyclic(
        self, source: str, members: list[int], low: Column, high: Column
    ) -> None:
        """Tell of a cycle of versions; the witness are those who wrote or read them."""
        key = self.key_of[members[0]]
        successors = defaultdict(list)
        inside = set(members)
        for a, b in zip(low.tolist(), high.tolist(), strict=True):
            if a in inside and b in inside:
                successors[a].append(b)
        cycle = shortest_cycle(successors, members)
        values = " < ".join(show(self.value_of[v]) for v in [*cycle, cycle[0]])
        rows = dict.fromkeys(
            access.row
            for access in self.by_key[key]
            if access.read in cycle or access.wrote in cycle
        )
        text = (
            f"The versions of key {show(key)} can't be put in order: {values}, by "
            f"{_SOURCES[source]} and what is known without it."
        )
        self.findings.add(Finding("cyclic-versions", tuple(rows), text, key))

    def _initial(self) -> Iterator[tuple[int, int]]:
        """The initial nil, where somebody saw it; elsewhere it orders nothing."""
        for version, value in enumerate(self.value_of):
            nil = self._numbers.get((self.key_of[version], None))
            if value is not None and nil is not None:
                yield nil, version

    def _writes_follow_reads(self) -> Iterator[tuple[int, int]]:
        for accesses in self.by_key.values():
            for access in accesses:
                if access.read != NOTHING and access.wrote != NOTHING:
                    yield access.read, access.wrote

    def _sequential(self) -> Iterator[tuple[int, int]]:
        process = self.transactions.process
        for accesses in self.by_key.values():
            last: dict[int, Access] = {}
            for access in accesses:
                who = process[access.row]
                if who in last:
                    yield from _follows(last[who], access)
                last[who] = access

    def _linearizable(self) -> Iterator[tuple[int, int]]:
        """Real time on each key, without pairs that follow from others."""
        if not self.transactions.has_realtime:
            return
        start, end = self.transactions.start, self.transactions.end
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

    # Dependencies

    def _dependencies(self) -> Iterator[Edges]:
        """The edges of each kind."""
        writer = np.array(self.writer, np.int64)
        reads = [read for read in self.reads if not read.again]
        rows = np.array([read.row for read in reads], np.int64)
        versions = np.array([read.version for read in reads], np.int64)
        yield edges_of(Kind.WR, writer[versions], rows, versions)
        low, high = self.before.low, self.before.high
        number = np.arange(len(low))
        yield edges_of(Kind.WW, writer[low], writer[high], number)
        # Each reader of a version comes before the writer of each later one.
        by_version = np.argsort(versions, kind="stable")
        first = np.searchsorted(versions[by_version], low, "left")
        count = np.searchsorted(versions[by_version], low, "right") - first
        pair, at = expand(number, first, count)
        yield edges_of(Kind.RW, rows[by_version][at], writer[high[pair]], pair)

    def serial_search(self) -> None:
        """See `Inference.serial_search`: there is none for registers."""

    def grounds(self, _finding: Finding, _cycle: Cycle | None) -> set[Group]:
        """See `Inference.grounds`: there are no choices."""
        return set()

    def judge(
        self, question: Question, found: frozenset[str], pause: Callable[[], None]
    ) -> None:
        """See `Inference.judge`: axioms of weak models, and orders by elimination."""
        found = found.union(self.findings.counts)
        exhaustive = self.sources.is_search_exhaustive
        elimination = assignments = None
        if not found & question.anomalies:
            elimination = Elimination(self, pause, exhaustive=exhaustive)
            if self.open and not self.is_supposed:
                assignments = Assignments(self, question, pause, exhaustive=exhaustive)
                if assignments.proves_all():
                    return
            is_sure = not self.open and not self.findings.counts
            if is_sure and elimination.proves_all(question):
                return
        sessions = session_edges(self.transactions)
        weak.judge(
            self,
            self.findings,
            question.anomalies,
            sessions if question.counts_sessions else None,
            pause,
        )
        if question.is_about_sessions:
            guarantees.judge(self, self.findings, question.anomalies, pause)
        if elimination and not self.findings.counts.keys() & question.anomalies:
            elimination.run(question)
            self.remark = elimination.remark
        if assignments and not self.findings.counts.keys() & question.anomalies:
            self.remark = ""
            assignments.run()

    def describe_open(self, outlook: str) -> str:
        """Why nobody can tell who wrote what was read, and what comes of it."""
        read = self.reads[self.open[0].place]
        what = self._what(read.version)
        rows = sorted(row for row in self.open[0].sources if row != INITIAL)
        names = list(map(self._name, rows))
        if len(names) == 1:
            who = f"{names[0]} writes {what}, which may have begun with it"
        else:
            who = f"{show_all(names)} write {what}"
        count = len({self.reads[one.place].version for one in self.open}) - 1
        others = f", and {count} more values were written repeatedly" if count else ""
        value, reader = show(self.value_of[read.version]), self._name(read.row)
        return (
            f"{who}{others}, so nobody can tell whose {value} {reader} read; {outlook}"
        )

    # What dependencies are about

    def script(self, row: int, micro_ops: t.MicroOps) -> Script:
        """See `Unfolds.script`."""
        script = Script()
        mine: dict[Hashable, set[int]] = defaultdict(set)
        reads = iter(self._reads_by_row.get(row, ()))
        for place, (f, key, value) in enumerate(micro_ops):
            number = self._numbers[key, value]
            if f == "w":
                mine[key].add(number)
                version = self._written.get((number, row), number)
                script.writes[key, version] = place
            elif not self.sources.own_writes_show or number not in mine[key]:
                script.read((key, next(reads)), place)
        return script

    @cached_property
    def _reads_by_row(self) -> dict[int, list[int]]:
        """Row -> the versions it read, in order."""
        versions: dict[int, list[int]] = defaultdict(list)
        for read in self.reads:
            versions[read.row].append(read.version)
        return versions

    def about(self, kind: Kind, via: int) -> tuple[Hashable, int]:
        """See `Unfolds.about`."""
        if kind == Kind.WR:
            return self.key_of[via], via
        low, high, _ = self.before.pair(via)
        return self.key_of[low], low if kind == Kind.RW else high

    def reason(self, source: int, target: int, kind: Kind, via: int) -> str:
        """Why `source` comes before `target`, as a clause."""
        if kind == Kind.WR:
            return self._observed(source, target, via)
        low, high, why = self.before.pair(via)
        a, b = self._name(source), self._name(target)
        values = show(self.value_of[low]), show(self.value_of[high])
        order = "{} precedes {}, {}".format(*values, why)
        if kind == Kind.RW:
            return f"{a} did not observe {b}'s write of {self._what(high)} ({order})"
        return f"{b} replaced {a}'s write of {self._what(low)} ({order})"


class _VersionOrder:
    """Pairs of versions, the lower first, and which source said so."""

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
        """A pair by its number, and its source in words."""
        if number >= len(self.low):
            return *self._noted[number - len(self.low)], _ELIMINATION
        source = next(source for end, source in self._ends if number < end)
        return int(self.low[number]), int(self.high[number]), "by " + _SOURCES[source]


_SOURCES = {
    "initial": "the initial state",
    "wfr": "writes following reads",
    "sequential": "the order of a process's operations on the key",
    "linearizable": "the real time of operations on the key",
}

_FOUL = {
    "G1a": "wrote it, but failed",
    "G1b": "itself replaced it later on",
}

_ELIMINATION = "since the other order would close a cycle"


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


def _frozen(_f: str, value: Any) -> Hashable:
    """The value of a micro-operation as `Transactions.normalise` wants it."""
    return freeze(value)
