"""Read-write registers: the order of versions has to be inferred.

Transactions write unique values to registers and read them. Who wrote a value that was
read is certain; which of two writes came first shows only here and there (Kingsbury and
Alvaro, "Elle", 2020, section 4.3). Sources of that order, each an assumption about the
database but for the first:

- initial: every key begins as nil, which nobody writes;
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
- A value that nobody wrote is an anomaly, and for the rest a version like any other.
- A value with several writers has none: it orders nothing, and then nothing but an
  anomaly can be proved.
- nil precedes all versions, yet an edge goes only to those that no other known version
  precedes; the others follow from them.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from checkers.isolation import guarantees, weak
from checkers.isolation import transactions as t
from checkers.isolation.components import components, shortest_cycle
from checkers.isolation.elimination import Elimination
from checkers.isolation.findings import (
    PAUSE_EVERY,
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
from checkers.isolation.unfolded import Script
from checkers.isolation.weak import Read
from checkers.linearizability.specification import freeze

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from checkers.isolation.graph import Column, Edges
    from checkers.isolation.question import Question
    from checkers.isolation.walks import Cycle
    from checkers.isolation.writers import Choice, Group

FUNCTIONS = ("w", "r")


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
        reads: Reads of what other transactions may have written, in order.
        by_key: Key -> what committed transactions did to it, in their order.
        writes: Row -> the versions it left, by key; of ok and info transactions.
        writer: Version -> row of its ok or info writer, or NOTHING.
        key_of, value_of: Version -> key, value.

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
        pause: Callable[[], None] = no_pause,
    ) -> None:
        self.transactions = transactions
        self.sources = sources
        self._pause = pause
        try:
            self._scan()
        except (TypeError, ValueError):
            transactions.normalise(FUNCTIONS, _frozen)
            self._scan()
        self._check_reads()
        self._look_for_lost_updates()
        self.before = _VersionOrder()
        self._order_versions()
        self.dependencies = join(*self._dependencies())

    # Reading the transactions

    def _scan(self) -> None:
        """One pass over all micro-operations."""
        self.findings = Findings()
        self.undecided = self.remark = ""
        self.choices: Sequence[Choice] = ()
        self.key_of: list[Hashable] = []
        self.value_of: list[Any] = []
        self.writer: list[int] = []
        self.reads: list[Read] = []
        self.by_key: dict[Hashable, list[Access]] = defaultdict(list)
        self.writes: list[dict[Hashable, int]] = [{} for _ in self.transactions.ops]
        self._numbers: dict[tuple[Hashable, Any], int] = {}
        self._failed: dict[int, int] = {}
        self._not_last: dict[int, int] = {}
        self._doubtful: set[int] = set()
        outcome = self.transactions.outcome
        for count, (row, micro_ops) in enumerate(self.transactions.micro_ops()):
            if outcome[row] == t.Outcome.OK:
                self._scan_committed(row, micro_ops)
            else:
                self._scan_writes(row, micro_ops)
            if not count % PAUSE_EVERY:
                self._pause()
        for version in self._doubtful:
            self.writer[version] = NOTHING

    def _version(self, key: Hashable, value: Any) -> int:
        """The number of a version; new ones have no writer yet."""
        number = self._numbers.get((key, value))
        if number is None and value is not None and value == self.sources.initial:
            number = self._numbers[key, value] = self._version(key, None)
        if number is None:
            if value != value:  # not a number: no read of it would be known again
                raise ValueError
            number = self._numbers[key, value] = len(self.value_of)
            self.key_of.append(key)
            self.value_of.append(value)
            self.writer.append(NOTHING)
        return number

    def _scan_committed(self, row: int, micro_ops: t.MicroOps) -> None:
        """A transaction that surely happened: what it read, and what it wrote."""
        mine: dict[Hashable, Access] = {}
        shows, numbers = self.sources.own_writes_show, self._numbers
        for micro_op in micro_ops:
            if type(micro_op) is not list and type(micro_op) is not tuple:
                raise TypeError  # text and maps can be taken apart as well
            f, key, value = micro_op
            version = numbers.get((key, value), NOTHING)
            if version == NOTHING:
                version = self._version(key, value)
            access = mine.get(key)
            if access is None:
                access = mine[key] = Access(row)
                self.by_key[key].append(access)
            if f == "w":
                if access.wrote != NOTHING:
                    self._not_last[access.wrote] = row
                access.wrote = self.writes[row][key] = version
                self._wrote(row, version)
            elif f == "r":
                is_own = shows and access.wrote != NOTHING
                expected = access.wrote if is_own else access.read
                if expected not in {NOTHING, version}:
                    self._internal(row, version, expected)
                if not is_own:
                    self.reads.append(Read(row, version, again=expected == version))
                    if access.read == NOTHING:
                        access.read = version
            else:
                raise ValueError

    def _scan_writes(self, row: int, micro_ops: t.MicroOps) -> None:
        """A transaction that failed, or of which nobody knows: what it tried to do."""
        failed = self.transactions.outcome[row] == t.Outcome.FAIL
        mine = self.writes[row]
        for micro_op in micro_ops:
            if type(micro_op) is not list and type(micro_op) is not tuple:
                raise TypeError
            f, key, value = micro_op
            if f == "w":
                version = self._version(key, value)
                if failed:
                    self._failed[version] = row
                    continue
                if key in mine:
                    self._not_last[mine[key]] = row
                mine[key] = version
                self._wrote(row, version)
            elif f != "r":
                raise ValueError

    def _wrote(self, row: int, version: int) -> None:
        other = self.writer[version]
        if self.value_of[version] is None:
            self._doubt(
                f"{self._name(row)} writes {self._what(version)}, which", version
            )
            self._doubtful.add(version)
        elif other in {NOTHING, row}:
            self.writer[version] = row
        elif (
            self.transactions.has_realtime
            or self.transactions.outcome[row] == t.Outcome.OK
        ):
            names = f"{self._name(other)} and {self._name(row)}"
            self._doubt(f"{names} both write {self._what(version)}", version)
            self._doubtful.add(version)

    def _doubt(self, who: str, version: int) -> None:
        if not self.undecided:
            self.undecided = (
                f"{who}, so nobody can tell whose {show(self.value_of[version])} a "
                "read of it saw"
            )

    def _name(self, row: int) -> str:
        return self.transactions.name(row)

    def _what(self, version: int) -> str:
        return f"{show(self.value_of[version])} to key {show(self.key_of[version])}"

    def _internal(self, row: int, version: int, expected: int) -> None:
        if self.findings.wants("internal"):
            key = self.key_of[version]
            text = (
                f"{self._name(row)} read {show(self.value_of[version])} from key "
                f"{show(key)}, but its own operations before that call for "
                f"{show(self.value_of[expected])}."
            )
            self.findings.add(Finding("internal", (row,), text, key))

    # Single values

    def _check_reads(self) -> None:
        """Reads of what failed, of what was not final, and of what nobody wrote."""
        for read in self.reads:
            version = read.version
            writer = self.writer[version]
            if read.again or self.value_of[version] is None:
                continue
            if writer == read.row:
                if self.findings.wants("future-read"):
                    text = f"{self._read(read)} before it wrote that value itself."
                    key = self.key_of[version]
                    self.findings.add(Finding("future-read", (read.row,), text, key))
            elif writer != NOTHING:
                if version in self._not_last:
                    self._blame("G1b", read, writer, "itself replaced it later on")
            elif version in self._failed:
                failed = self._failed[version]
                self._blame("G1a", read, failed, "wrote it, but failed")
            elif version not in self._doubtful and self.findings.wants("garbage-read"):
                text = f"{self._read(read)}, which no transaction ever wrote."
                key = self.key_of[version]
                self.findings.add(Finding("garbage-read", (read.row,), text, key))

    def _read(self, read: Read) -> str:
        value = show(self.value_of[read.version])
        return f"{self._name(read.row)} read {value} from key" + (
            f" {show(self.key_of[read.version])}"
        )

    def _blame(self, name: str, read: Read, writer: int, what: str) -> None:
        if self.findings.wants(name):
            text = f"{self._read(read)}; {self._name(writer)} {what}."
            why = self._observed(writer, read.row, read.version)
            edge = Reason(writer, read.row, "wr", why)
            key = self.key_of[read.version]
            self.findings.add(Finding(name, (read.row, writer), text, key, [edge]))

    def _observed(self, writer: int, reader: int, version: int) -> str:
        what = self._what(version)
        return f"{self._name(reader)} observed {self._name(writer)}'s write of {what}"

    def _look_for_lost_updates(self) -> None:
        """Transactions that read one version of a key each, and replaced it."""
        for accesses in self.by_key.values():
            readers: dict[int, list[int]] = defaultdict(list)
            for access in accesses:
                # One that read its own write before it made it has lost nothing.
                if access.read != NOTHING and access.wrote not in {
                    NOTHING,
                    access.read,
                }:
                    readers[access.read].append(access.row)
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
        for name, wanted, source in chosen:
            if wanted:
                pairs = np.array(sorted(set(source())), np.int64).reshape(-1, 2)
                self._adopt(name, pairs[pairs[:, 0] != pairs[:, 1]])

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
        pair = np.repeat(number, count)
        nth = np.arange(len(pair)) - np.repeat(np.cumsum(count) - count, count)
        readers = rows[by_version][first[pair] + nth]
        yield edges_of(Kind.RW, readers, writer[high[pair]], pair)

    def serial_search(self) -> None:
        """See `Inference.serial_search`: there is none for registers."""

    def grounds(self, _finding: Finding, _cycle: Cycle | None) -> set[Group]:
        """See `Inference.grounds`: there are no choices."""
        return set()

    def judge(
        self, question: Question, found: frozenset[str], pause: Callable[[], None]
    ) -> None:
        """See `Inference.judge`: axioms of weak models, and orders by elimination."""
        elimination = None
        found = found.union(self.findings.counts)
        if not found & question.anomalies and not self.undecided:
            exhaustive = self.sources.is_search_exhaustive
            elimination = Elimination(self, pause, exhaustive=exhaustive)
            if not self.findings.counts and elimination.proves_all(question):
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

    # What dependencies are about

    def script(self, micro_ops: t.MicroOps) -> Script:
        """See `Unfolds.script`."""
        script = Script()
        written = set()
        for place, (f, key, value) in enumerate(micro_ops):
            version = key, self._numbers[key, value]
            if f == "w":
                script.writes[version] = place
                written.add(key)
            elif key not in written or not self.sources.own_writes_show:
                script.read(version, place)
        return script

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

_ELIMINATION = "since the other order would close a cycle"


def _follows(earlier: Access, later: Access) -> Iterator[tuple[int, int]]:
    """Versions in order, given that one access to the key came before the other."""
    last = earlier.read if earlier.wrote == NOTHING else earlier.wrote
    if last != NOTHING:
        for version in (later.read, later.wrote):
            if version not in {NOTHING, last}:
                yield last, version


def _frozen(_f: str, value: Any) -> Hashable:
    """The value of a micro-operation as `Transactions.normalise` wants it."""
    return freeze(value)
