"""Everything that the values of a history of registers tell, put together."""

from __future__ import annotations

import copy
from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from checkers.findings import Findings
from checkers.isolation.accesses import expand
from checkers.isolation.candidates import INITIAL
from checkers.isolation.evidence import OpenSource
from checkers.isolation.graph import Kind, edges_of, join
from checkers.isolation.inference import Inference
from checkers.isolation.reasons import Missed, Observed, Precedence, Replaced
from checkers.isolation.registers.accusations import Accusations
from checkers.isolation.registers.orders import Orders
from checkers.isolation.registers.scan import scan
from checkers.isolation.registers.sources import Splits
from checkers.isolation.unfolded import Script
from harness.override import override

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from checkers.isolation.evidence import Doubt, Evidence
    from checkers.isolation.graph import Edges
    from checkers.isolation.question import Question
    from checkers.isolation.reasons import Why
    from checkers.isolation.registers.scan import Sources
    from checkers.isolation.replay import Deeds
    from checkers.isolation.transactions import MicroOps, Transactions
    from checkers.isolation.walks import Cycle
    from checkers.isolation.writers import Choice, Group

    Settle = Callable[["Registers", Question, frozenset[str], Callable[[], None]], None]


class Registers(Inference):
    """What values tell, each part by the module that finds it.

    Attributes:
        likely: Reads whose writers values don't tell, and their possible sources.
        fouls: Places of reads -> the anomaly that they are in any case.
        open: Those of them that may be of several sources.
        reads, by_key: See `scan.Versions`; open reads are of no known writer here.
        key_of, value_of, writer, writes: See `scan.Versions`.
        before: The order of versions.

    Args:
        transactions: The history.
        sources: Where version orders may be taken from.
        proscribed: The anomalies that rule out sources of reads.
        settle: Adds to the findings what neither values nor cycles tell.
        pause: Called now and then; may raise.

    Raises:
        HistoryError: From the constructor: it is no history of writes and reads.
            Cost: linear, but for what precedes a version that many read, and for what
            runs concurrently on linearizable keys.
    """

    has_orders = False
    shown: Sequence[tuple[int, int]] = ()
    """Version orders rest on assumptions here; the axioms do without."""

    def __init__(
        self,
        transactions: Transactions,
        sources: Sources,
        proscribed: frozenset[str],
        settle: Settle,
        pause: Callable[[], None],
    ) -> None:
        self.transactions = transactions
        self.sources = sources
        self.proscribed = proscribed
        self.settle = settle
        self.choices: Sequence[Choice] = ()
        self.versions = versions = scan(transactions, sources, pause)
        self.has_reads = versions.has_reads
        self.key_of, self.value_of = versions.key_of, versions.value_of
        self.writer, self.writes = versions.writer, versions.writes
        self.splits = Splits(versions, failed_may_show="G1a" not in proscribed)
        self.likely, self.fouls = self.splits.candidates(proscribed)
        self.infer({})

    def supposing(self, supposed: Mapping[int, int], settle: Settle) -> Registers:
        """The same history, where these open reads are of these sources.

        Args:
            supposed: Place of a read -> one of its sources.
            settle: As for the constructor.
        """
        other = copy.copy(self)
        other.__dict__.pop("_reads_by_row", None)
        other.settle = settle
        other.infer(supposed)
        return other

    def at_best(self, proscribed: frozenset[str], settle: Settle) -> Registers:
        """The same history, where each open read is of its likeliest source.

        Args:
            proscribed: The anomalies that rule sources out.
            settle: As for the constructor.
        """
        other = copy.copy(self)
        other.proscribed = proscribed
        other.likely, other.fouls = self.splits.candidates(proscribed)
        likeliest = {one.place: one.sources[0] for one in other.likely}
        return other.supposing(likeliest, settle)

    def infer(self, supposed: Mapping[int, int]) -> None:
        """Infer everything that follows from what was scanned.

        Args:
            supposed: Place of a read -> one of its sources.
        """
        self.undecided: Doubt | None = None
        self.remark: Doubt | None = None
        scanned = self.versions.findings
        self.findings: Findings[Evidence] = Findings()
        findings = self.findings
        findings.examples += scanned.examples
        findings.counts += scanned.counts
        self.reads, self.by_key, self.open = self.splits.settle(
            self.likely, supposed, repeatable="internal" in self.proscribed
        )
        unknown = self.splits.unknown.values()
        accusations = Accusations(self.versions, unknown, findings)
        accusations.of_reads(self.reads, self.fouls)
        accusations.of_updates(self.by_key)
        self.before = Orders(self.versions, self.by_key, unknown, findings).run()
        self.dependencies = join(*self._dependencies())

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

    @property
    @override
    def accesses(self) -> None:
        return None

    @override
    def serial_search(self) -> None:
        return None

    @override
    def grounds(self, _found: Evidence, _cycle: Cycle | None) -> set[Group]:
        return set()

    @override
    def judge(
        self, question: Question, found: frozenset[str], pause: Callable[[], None]
    ) -> None:
        self.settle(self, question, found, pause)

    def deeds(self) -> Deeds:
        """What transactions did, by values alone; see `Replay`."""
        return self.splits.deeds()

    def open_source(self, outlook: str) -> OpenSource:
        """An open read: nobody can tell who wrote what was read."""
        place, sources = self.open[0]
        row, version, *_ = self.reads[place]
        writers = tuple(sorted(row for row in sources if row != INITIAL))
        others = len({self.reads[one.place].version for one in self.open}) - 1
        value, key = self.value_of[version], self.key_of[version]
        return OpenSource(value, key, row, writers, others, outlook)

    # What dependencies are about

    @override
    def script(self, row: int, micro_ops: MicroOps) -> Script:
        script = Script()
        mine: dict[Hashable, set[int]] = defaultdict(set)
        reads = iter(self._reads_by_row.get(row, ()))
        for place, (f, key, value) in enumerate(micro_ops):
            number = self.versions.numbers[key, value]
            if f == "w":
                mine[key].add(number)
                version = self.splits.written.get((number, row), number)
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

    @override
    def about(self, kind: Kind, via: int) -> tuple[Hashable, int]:
        if kind == Kind.WR:
            return self.key_of[via], via
        low, high, _ = self.before.pair(via)
        return self.key_of[low], low if kind == Kind.RW else high

    @override
    def reason(self, _source: int, _target: int, kind: Kind, via: int) -> Why:
        if kind == Kind.WR:
            return Observed("write", self.value_of[via], self.key_of[via])
        low, high, source = self.before.pair(via)
        order = Precedence(self.value_of[low], self.value_of[high], source)
        if kind == Kind.RW:
            return Missed("write", self.value_of[high], self.key_of[high], order)
        return Replaced(self.key_of[low], order)
