"""The four session guarantees, each by itself.

Terry et al., "Session guarantees for weakly consistent replicated data" (1994), promise
them to clients that may speak to another replica each time, while replicas agree on the
order of writes to a key:

- read your writes: a read returns what its session wrote before, or a later version;
- monotonic reads: a read returns what its session read before, or a later version;
- monotonic writes: writes of a session to one key keep their order, and whoever has one
  of its writes has the earlier ones;
- writes follow reads: a write comes after what its session had read of the key, and
  whoever has the write has what had been read.

So each guarantee says of some pairs of versions which came first, and a history
satisfies it just when these pairs, and what the history itself shows of the order, have
no cycle on any key. Together the four make causal consistency (Brzezinski et al. 2004).

Choices:
- A session is a process, and what it did before is what its earlier committed
  transactions did.
- "Whoever has" a write is a transaction that read it, and then read the other key: all
  micro-operations of a transaction are served by one replica, which doesn't go back.
- A read of the initial state reads a version that comes before all others.
- A read that comes after the transaction's own write of the key, and returns something
  else, breaks internal consistency. It tells nothing of sessions.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from checkers.isolation.components import components, shortest_cycle
from checkers.isolation.evidence import DisorderedVersions, NilAfterVersion
from checkers.isolation.graph import NOTHING
from checkers.isolation.reasons import Demanded, Link
from checkers.isolation.transactions import PAUSE_EVERY, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from checkers.findings import Findings
    from checkers.isolation.evidence import Evidence
    from checkers.isolation.weak import Versioned


class Pair(NamedTuple):
    """Two versions of a key in the order that a guarantee demands.

    Attributes:
        low, high: The versions.
        row: The transaction because of which it is demanded; NOTHING if lists show it.
        why: The guarantee's reason; a name in `telling.DEMANDED`.
    """

    low: int
    high: int
    row: int
    why: str


@dataclass(slots=True)
class _Past:
    """The versions of a key that a session wrote or read, and the rows that did it."""

    rows: list[int]
    versions: list[int]

    def before(self, row: int) -> list[int]:
        """The versions before those of a transaction."""
        return self.versions[: bisect.bisect_left(self.rows, row)]

    def add(self, row: int, version: int) -> None:
        """Add a version, by the latest transaction."""
        if not self.versions or self.versions[-1] != version:
            self.rows.append(row)
            self.versions.append(version)


class Sessions:
    """What sessions read and wrote, and what guarantees demand because of that.

    Args:
        history: The history.
    """

    def __init__(self, history: Versioned) -> None:
        self.history = history
        rows = history.transactions
        self.reads: dict[int, list[int]] = defaultdict(list)
        for read in history.reads:
            if not read.late:
                self.reads[read.row].append(read.version)
        self._written: dict[tuple[int, Hashable], _Past] = {}
        self._read: dict[tuple[int, Hashable], _Past] = {}
        for row, outcome in enumerate(rows.outcome):
            if outcome == Outcome.OK:
                for key, version in history.writes[row].items():
                    self._past(self._written, row, key).add(row, version)
                for version in self.reads.get(row, ()):
                    key = history.key_of[version]
                    self._past(self._read, row, key).add(row, version)

    def _past(
        self, of: dict[tuple[int, Hashable], _Past], row: int, key: Hashable
    ) -> _Past:
        name = (self.history.transactions.process[row], key)
        if name not in of:
            of[name] = _Past([], [])
        return of[name]

    def _before(
        self, of: dict[tuple[int, Hashable], _Past], row: int, key: Hashable
    ) -> list[int]:
        past = of.get((self.history.transactions.process[row], key))
        return past.before(row) if past else []

    # The guarantees

    def read_your_writes(self) -> Iterator[Pair]:
        """What a session wrote before comes before what it reads."""
        for row, version, key in self._all_reads():
            for own in self._before(self._written, row, key):
                yield Pair(own, version, row, "own-write")

    def monotonic_reads(self) -> Iterator[Pair]:
        """What a session read before comes before what it reads."""
        for row, version, key in self._all_reads():
            for own in self._before(self._read, row, key):
                yield Pair(own, version, row, "own-read")

    def monotonic_writes(self) -> Iterator[Pair]:
        """A session's writes keep their order, and show in it."""
        for row, version, key in self._all_writes():
            for low in self._before(self._written, row, key)[-1:]:
                yield Pair(low, version, row, "write-write")
        for row, version, key, writer in self._reads_after_others():
            # Earlier ones come before the last one, as said above.
            for low in self._before(self._written, writer, key)[-1:]:
                yield Pair(low, version, row, "seen-write")

    def writes_follow_reads(self) -> Iterator[Pair]:
        """A session's writes come after what it had read, and show in that order."""
        for row, version, key in self._all_writes():
            for low in self._before(self._read, row, key):
                yield Pair(low, version, row, "read-write")
            # Reads after a transaction's own write are not among the reads.
            for low in self.reads.get(row, ()):
                if self.history.key_of[low] == key:
                    yield Pair(low, version, row, "read-write")
        for row, version, key, writer in self._reads_after_others():
            for low in self._before(self._read, writer, key):
                yield Pair(low, version, row, "seen-read")

    def _all_writes(self) -> Iterator[tuple[int, int, Hashable]]:
        """Row, version and key of what each transaction left.

        A transaction that never returned may have happened, after all that its process
        did before. Without invocations nobody knows what that was, so it is left out.
        """
        rows = self.history.transactions
        for row, writes in enumerate(self.history.writes):
            if rows.has_realtime or rows.outcome[row] == Outcome.OK:
                for key, version in writes.items():
                    yield row, version, key

    def _all_reads(self) -> Iterator[tuple[int, int, Hashable]]:
        """Row, version and key of each read."""
        for row, versions in self.reads.items():
            for version in versions:
                yield row, version, self.history.key_of[version]

    def _reads_after_others(self) -> Iterator[tuple[int, int, Hashable, int]]:
        """Row, version and key of each read, with each earlier writer.

        That is a transaction from which the row had read before. Without invocations,
        those that never returned are left out: nobody knows what their processes had
        done before.
        """
        rows = self.history.transactions
        for row, versions in self.reads.items():
            known: list[int] = []
            for version in versions:
                key = self.history.key_of[version]
                for writer in known:
                    yield row, version, key, writer
                writer = self.history.writer[version]
                if writer not in {NOTHING, row, *known} and (
                    rows.has_realtime or rows.outcome[writer] == Outcome.OK
                ):
                    known.append(writer)


GUARANTEES: dict[str, Callable[[Sessions], Iterator[Pair]]] = {
    "own-write-missed": Sessions.read_your_writes,
    "read-went-back": Sessions.monotonic_reads,
    "writes-reordered": Sessions.monotonic_writes,
    "write-before-read": Sessions.writes_follow_reads,
}
"""What a violation is called, and what the guarantee demands."""


def judge(
    history: Versioned,
    findings: Findings[Evidence],
    wanted: frozenset[str],
    pause: Callable[[], None],
) -> None:
    """Add to `findings` what breaks the guarantees whose violations are wanted."""
    if not wanted & GUARANTEES.keys():
        return
    sessions = Sessions(history)
    for name, demanded in GUARANTEES.items():
        if name in wanted:
            for finding in violations(history, name, demanded(sessions), pause):
                findings.note(finding)


def violations(
    history: Versioned, name: str, demanded: Iterator[Pair], pause: Callable[[], None]
) -> Iterator[DisorderedVersions]:
    """Orders of versions that can't be: cycles, and versions that precede nil."""
    pairs: dict[tuple[int, int], Pair] = {}
    blamed: set[int] = set()
    for count, pair in enumerate(demanded):
        if not count % PAUSE_EVERY:
            pause()
        low, high = history.writer[pair.low], history.writer[pair.high]
        if history.value_of[pair.low] is None or low in {NOTHING, high}:
            continue
        if history.value_of[pair.high] is None:
            if pair.high not in blamed:
                blamed.add(pair.high)
                yield _told(history, name, [pair])
        elif high != NOTHING:
            pairs.setdefault(
                (_left(history, pair.low), _left(history, pair.high)), pair
            )
    for low, high in history.shown:
        pairs.setdefault((low, high), Pair(low, high, NOTHING, "shown"))
    ends = np.array(list(pairs), np.int64).reshape(-1, 2)
    numbers = np.arange(len(history.writer))
    for members in components(ends[:, 0], ends[:, 1], numbers):
        pause()
        inside = set(members.tolist())
        following: dict[int, list[int]] = defaultdict(list)
        for low, high in pairs:
            if low in inside and high in inside:
                following[low].append(high)
        cycle = shortest_cycle(following, members.tolist())
        steps = zip(cycle, [*cycle[1:], cycle[0]], strict=True)
        yield _told(history, name, [pairs[step] for step in steps])


def _left(history: Versioned, version: int) -> int:
    """The version that stands for one in orders.

    Where lists show each version, it is the version itself; else it is what its writer
    left of the key, as nobody may see anything between the two.
    """
    if history.has_orders:
        return version
    writes = history.writes[history.writer[version]]
    return writes.get(history.key_of[version], version)


def _told(history: Versioned, name: str, pairs: list[Pair]) -> DisorderedVersions:
    """These orders can't all be; a single one may be of a version before nil."""
    links = [_demanded(history, pair) for pair in pairs]
    readers = [pair.row for pair in pairs if pair.row != NOTHING]
    writers = [row for link in links for row in (link.source, link.target)]
    rows = tuple(dict.fromkeys(readers + writers))
    is_nil_read = history.value_of[pairs[-1].high] is None
    kind = NilAfterVersion if is_nil_read else DisorderedVersions
    return kind(name, rows, history.key_of[pairs[0].low], tuple(links))


def _demanded(history: Versioned, pair: Pair) -> Link:
    """An order, as a link between the writers of its versions."""
    low, high = (history.value_of[version] for version in (pair.low, pair.high))
    source, target = history.writer[pair.low], history.writer[pair.high]
    if target == NOTHING:
        target = pair.row
    return Link(source, target, "ww", Demanded(low, high, pair.row, pair.why))
