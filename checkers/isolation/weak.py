"""Read committed, read atomic and causal consistency, decided in polynomial time.

Biswas and Enea, "On the complexity of checking transactional consistency" (2019),
define these by one axiom each: let t3 read key x from t1, and let t2 be another
transaction that writes x. Then t2 comes before t1 in the order of commits if t3 has
seen t2, in that

- read committed: t3 read something from t2 before it read x from t1;
- read atomic: t3 read something from t2, or came after it in its session;
- causal: t2 reaches t3 by a path of such steps.

A history satisfies the model just when these orders, reads-from and session order
together have no cycle. That the forced orders are few enough to be listed in n^1.5 or n
times sessions is due to Moldrup, Wuensche and Pavlogiannis, "AWDIT" (2025): of what a
session wrote to x, only the latest that t3 has seen needs to be looked at, as the
others come before it. A clock for each transaction tells how much of each session it
has seen.

A read of nil reads the initial state, which comes before all writes. A transaction that
has seen a write of the key must not read it.

Choices: session order counts in read atomic and causal, as defined there, and in read
committed only for models with "session" in their name.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from checkers.isolation.cycles import CycleSearch
from checkers.isolation.evidence import Cyclic, NilAfterSeen, cyclic
from checkers.isolation.graph import NOTHING, Graph, Kind, edges_of, join, no_edges
from checkers.isolation.reasons import Explains, Link, Overwritten, Seen, link
from checkers.isolation.transactions import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from checkers.findings import Findings
    from checkers.isolation.evidence import Evidence
    from checkers.isolation.graph import Column, Edges
    from checkers.isolation.transactions import Transactions
    from checkers.isolation.walks import Cycle


FORCED = 1 << 48
"""Added to the `via` of edges that stand for forced orders."""


class Read(NamedTuple):
    """A read of something that the transaction had not written before.

    Attributes:
        row: The transaction.
        version: What it read.
        again: Whether it had read that version before.
        late: Whether it had written the key before; what it read is not that write.
    """

    row: int
    version: int
    again: bool = False
    late: bool = False


class Forced(NamedTuple):
    """An order of two versions of a key: `seen` was overwritten by `read`.

    Attributes:
        seen: Version by a transaction that the reader has seen.
        read: The version it read nevertheless.
        reader: Its row.
    """

    seen: int
    read: int
    reader: int


class Versioned(Explains, Protocol):
    """What the axioms need to know of a history, whatever kind of values it has.

    Attributes:
        transactions: The history.
        reads: Reads of what other transactions may have written, in order.
        key_of, value_of: Version -> key, value; None for the initial state.
        writer: Version -> row of its writer, or NOTHING.
        writes: Row -> the versions it left, by key.
        dependencies: The ww, wr and rw edges.
        has_orders: Whether ww edges count, as the history itself shows them.
    """

    transactions: Transactions
    reads: list[Read]
    key_of: list[Hashable]
    value_of: list[Any]
    writer: list[int]
    writes: list[dict[Hashable, int]]
    dependencies: Edges
    has_orders: bool

    @property
    def shown(self) -> Sequence[tuple[int, int]]:
        """Pairs of versions of a key, the lower first, that the history shows.

        What follows from others may be left out.
        """
        ...


class Visibility:
    """Who has seen whom, for the axioms.

    Args:
        history: The history.
        sessions: Whether session order counts.
    """

    def __init__(self, history: Versioned, *, sessions: bool) -> None:
        self.history = history
        self.sessions = sessions
        rows = history.transactions
        happened = {history.writer[read.version] for read in history.reads}
        self.committed = [
            outcome == Outcome.OK or row in happened
            for row, outcome in enumerate(rows.outcome)
        ]
        self.reads: dict[int, list[int]] = defaultdict(list)
        for read in history.reads:
            self.reads[read.row].append(read.version)

    def writer(self, version: int) -> int:
        """Row of a version's writer; NOTHING for nil, or if the writer isn't known."""
        return self.history.writer[version]

    def is_judged(self, version: int) -> bool:
        """Whether a read of a version counts: it is nil, or its writer is known."""
        return self.writer(version) != NOTHING or self.history.value_of[version] is None

    # The axioms

    def read_committed(self) -> Iterator[Forced]:
        """Orders forced by what a transaction read earlier."""
        for reader, versions in self.reads.items():
            seen: dict[Hashable, list[int]] = defaultdict(list)
            known: set[int] = set()
            wanted = {self.history.key_of[version] for version in versions}
            for version in versions:
                writer = self.writer(version)
                yield from self._forced(
                    seen[self.history.key_of[version]], version, reader
                )
                if writer != NOTHING and writer not in known and writer != reader:
                    known.add(writer)
                    for key, written in self._common(writer, wanted):
                        seen[key].append(written)

    def read_atomic(self) -> Iterator[Forced]:
        """Orders forced by what a transaction read from, and by its session."""
        latest: dict[tuple[int, Hashable], int] = {}
        for reader, committed in enumerate(self.committed):
            if not committed:
                continue
            versions = self.reads.get(reader, [])
            process = self._process(reader)
            wanted = {self.history.key_of[version] for version in versions}
            seen: dict[Hashable, list[int]] = {key: [] for key in wanted}
            for writer in {self.writer(version) for version in versions}:
                if writer not in {NOTHING, reader}:
                    for key, written in self._common(writer, wanted):
                        seen[key].append(written)
            for version in versions:
                key = self.history.key_of[version]
                if self.sessions and (process, key) in latest:
                    seen[key].append(latest[process, key])
                yield from self._forced(seen[key], version, reader)
            if self._is_ok(reader):
                for key, written in self.history.writes[reader].items():
                    latest[process, key] = written

    def causal(self) -> Iterator[Forced]:
        """Orders forced by all that a transaction has seen, its session included.

        What the writer of the version read had seen as well comes before that version
        anyway, and is left out. So are transactions on or behind a cycle of reads-from
        and sessions, which is a violation by itself. Cost: reads times sessions.
        """
        sessions = _Sessions(self)
        before = self._before()
        needed = Counter(itertools.chain(*before.values()))
        clocks: dict[int, Column] = {}
        for row in _in_order(before):
            clock = sessions.clock()
            others = {other: clocks[other] for other in before[row]}
            for other, seen in others.items():
                np.maximum(clock, seen, out=clock)
                who, place = sessions.place[other]
                clock[who] = max(clock[who], place)
                needed[other] -= 1
                if not needed[other]:
                    del clocks[other]  # there may be as many sessions as transactions
            if needed[row]:
                clocks[row] = clock
            for version in self.reads.get(row, []):
                key = self.history.key_of[version]
                seen_before = others.get(self.writer(version))
                newly = sessions.seen(key, clock, seen_before)
                yield from self._forced(newly, version, row)

    def _before(self) -> dict[int, set[int]]:
        """Committed row -> those it read from, and the one before it in its session."""
        before: dict[int, set[int]] = {}
        latest: dict[int, int] = {}
        for row, committed in enumerate(self.committed):
            if not committed:
                continue
            process = self._process(row)
            before[row] = {self.writer(version) for version in self.reads.get(row, [])}
            before[row].add(latest.get(process, NOTHING))
            before[row] -= {NOTHING, row}
            if self._is_ok(row):
                latest[process] = row
        return before

    def _process(self, row: int) -> int:
        return self.history.transactions.process[row]

    def _is_ok(self, row: int) -> bool:
        return self.history.transactions.outcome[row] == Outcome.OK

    def _common(
        self, writer: int, keys: set[Hashable]
    ) -> Iterator[tuple[Hashable, int]]:
        """What `writer` wrote to `keys`. Cost: the smaller of both."""
        writes = self.history.writes[writer]
        for key in keys if len(keys) < len(writes) else writes:
            if key in writes and key in keys:
                yield key, writes[key]

    def _forced(
        self, seen: Sequence[int], version: int, reader: int
    ) -> Iterator[Forced]:
        """The orders that a read of `version` forces, after having seen these."""
        if seen and self.is_judged(version):
            writer = self.writer(version)
            for other in seen:
                if self.writer(other) not in {writer, reader, NOTHING}:
                    yield Forced(other, version, reader)


def _in_order(before: dict[int, set[int]]) -> list[int]:
    """Rows in topological order, without those on or behind a cycle."""
    after: dict[int, list[int]] = defaultdict(list)
    for row, others in before.items():
        for other in others:
            after[other].append(row)
    missing = {row: len(others) for row, others in before.items()}
    ready = [row for row, count in missing.items() if not count]
    for row in ready:  # grows while it is walked
        for other in after[row]:
            missing[other] -= 1
            if not missing[other]:
                ready.append(other)
    return ready


class _Sessions:
    """Committed transactions by session, and what each session wrote to each key.

    A transaction of unknown outcome is in no order with what its process did later, so
    it is a session of its own.

    Attributes:
        place: Row -> its session, and its place there, counted from 1.
    """

    def __init__(self, visibility: Visibility) -> None:
        history = visibility.history
        numbers: dict[tuple[bool, int], int] = {}
        lengths: list[int] = []
        self.place: dict[int, tuple[int, int]] = {}
        self._written: dict[Hashable, dict[int, _Written]] = defaultdict(dict)
        for row, committed in enumerate(visibility.committed):
            if not committed:
                continue
            ok = history.transactions.outcome[row] == Outcome.OK
            name = (ok, history.transactions.process[row] if ok else row)
            who = numbers.setdefault(name, len(numbers))
            if who == len(lengths):
                lengths.append(0)
            lengths[who] += 1
            self.place[row] = who, lengths[who]
            for key, version in history.writes[row].items():
                written = self._written[key].setdefault(who, _Written([], []))
                written.places.append(lengths[who])
                written.versions.append(version)
        self._count = len(lengths)
        self._writers = {
            key: np.array(list(written), np.int64)
            for key, written in self._written.items()
        }

    def clock(self) -> Column:
        """A clock that has seen nothing."""
        return np.zeros(self._count, np.int64)

    def seen(self, key: Hashable, clock: Column, before: Column | None) -> list[int]:
        """The latest version of the key by each session that a clock has seen.

        Args:
            key: The key.
            clock: The clock.
            before: An earlier clock; versions that it has seen are left out.
        """
        if key not in self._writers:
            return []
        whos = self._writers[key]
        now = clock[whos]
        then = before[whos] if before is not None else np.zeros_like(now)
        newly = now > then
        written = self._written[key]
        versions = []
        for who, low, high in zip(
            whos[newly].tolist(),
            then[newly].tolist(),
            now[newly].tolist(),
            strict=True,
        ):
            of_session = written[who]
            places = of_session.places
            count = bisect.bisect_right(places, high)
            if count and places[count - 1] > low:
                versions.append(of_session.versions[count - 1])
        return versions


class _Written(NamedTuple):
    """Versions that one session wrote to one key, and its transactions' places."""

    places: list[int]
    versions: list[int]


@dataclass(frozen=True)
class Axiom:
    """One of the three definitions.

    Attributes:
        anomaly: What a violation is called.
        forced: The orders that it forces.
        seen: How the reader has seen the overwritten version; in `telling.SEEN`.
        seen_in_session: How, if it did not read from the version's writer.
        needs_sessions: Whether the axiom is only asked if session order counts.
    """

    anomaly: str
    forced: Callable[[Visibility], Iterator[Forced]]
    seen: str
    seen_in_session: str = ""
    needs_sessions: bool = False


AXIOMS = (
    Axiom(
        "non-monotonic-read",
        Visibility.read_committed,
        "earlier-read",
    ),
    Axiom(
        "fractured-read",
        Visibility.read_atomic,
        "read",
        "session",
    ),
    Axiom(
        "causal-violation",
        Visibility.causal,
        "any",
        needs_sessions=True,
    ),
)


def judge(
    history: Versioned,
    findings: Findings[Evidence],
    wanted: frozenset[str],
    sessions: Edges | None,
    pause: Callable[[], None],
) -> None:
    """Add to `findings` what breaks the axioms whose anomalies are wanted.

    Args:
        history: The history.
        findings: Where violations go.
        wanted: Anomalies.
        sessions: Session order; None if it does not count.
        pause: Called now and then; may raise.
    """
    asked = [
        axiom
        for axiom in AXIOMS
        if axiom.anomaly in wanted
        and (sessions is not None or not axiom.needs_sessions)
    ]
    if asked:
        visibility = Visibility(history, sessions=sessions is not None)
        for axiom in asked:
            for finding in violations(visibility, axiom, sessions, pause):
                findings.note(finding)


def violations(
    visibility: Visibility,
    axiom: Axiom,
    sessions: Edges | None,
    pause: Callable[[], None],
) -> Iterator[Cyclic | NilAfterSeen]:
    """What breaks an axiom: reads of nil after a write was seen, and cycles.

    Args:
        visibility: Who has seen whom in the history.
        axiom: The definition.
        sessions: Session order; None if it does not count.
        pause: Called now and then; may raise.
    """
    history = visibility.history
    forced: dict[tuple[int, int], Forced] = {}
    for order in axiom.forced(visibility):
        if forced.setdefault((order.seen, order.read), order) is order:
            pause()
            if history.value_of[order.read] is None:
                yield _overlooked(visibility, axiom, order)
    orders = list(forced.values())
    pairs = [(history.writer[f.seen], history.writer[f.read]) for f in orders]
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    dependencies = history.dependencies
    kinds = [int(Kind.WR)] + [int(Kind.WW)] * history.has_orders
    known = dependencies.where(np.isin(dependencies.kind, kinds))
    overwritten = edges_of(
        Kind.WW, ends[:, 0], ends[:, 1], FORCED + np.arange(len(ends))
    )
    edges = join(known, sessions or no_edges(), overwritten)
    potential = np.array(history.transactions.start, np.int64)
    search = CycleSearch(Graph(len(potential), potential, edges), pause)
    search.run(1)
    reported: set[int] = set()
    for cycle in sorted(itertools.chain(*search.found.values()), key=_length):
        rows = [step.source for step in cycle.steps]
        if reported.isdisjoint(rows):
            reported.update(rows)
            yield _cyclic(visibility, axiom, cycle, orders)


def _length(cycle: Cycle) -> int:
    return len(cycle.steps)


def _overlooked(visibility: Visibility, axiom: Axiom, order: Forced) -> NilAfterSeen:
    """A read of the initial state after a later version was seen."""
    history = visibility.history
    return NilAfterSeen(
        axiom.anomaly,
        (order.reader, history.writer[order.seen]),
        history.key_of[order.read],
        history.value_of[order.seen],
        _seen(visibility, axiom, order),
    )


def _cyclic(
    visibility: Visibility, axiom: Axiom, cycle: Cycle, orders: list[Forced]
) -> Cyclic:
    """Orders that can't all hold."""
    links = []
    for step in cycle.steps:
        if step.kind == Kind.WW and step.via >= FORCED:
            why = _overwritten(visibility, axiom, orders[step.via - FORCED])
            links.append(Link(step.source, step.target, "ww", why))
        else:
            links.append(link(visibility.history, step))
    return cyclic(axiom.anomaly, links)


def _seen(visibility: Visibility, axiom: Axiom, order: Forced) -> Seen:
    """How the reader has seen the overwritten version."""
    writer = visibility.writer(order.seen)
    sources = map(visibility.writer, visibility.reads[order.reader])
    how = axiom.seen
    if axiom.seen_in_session and writer not in sources:
        how = axiom.seen_in_session
    return Seen(order.reader, writer, how)


def _overwritten(visibility: Visibility, axiom: Axiom, order: Forced) -> Overwritten:
    history = visibility.history
    return Overwritten(
        _seen(visibility, axiom, order),
        history.value_of[order.seen],
        history.value_of[order.read],
        history.key_of[order.read],
    )
