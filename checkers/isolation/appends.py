"""List-append: the order of versions can be read off the lists.

Transactions append unique elements to lists and read whole lists. A list holds the
history of its key, so a read shows every version before the one it returns (Kingsbury
and Alvaro, "Elle", 2020, sections 3 and 4). The longest read of a key gives its version
order; what was appended and is not in it came later, in an order nobody saw.

Choices:
- Among lists that are no beginnings of each other the longest is taken to be right, as
  Elle does; of two that are equally long, what they have in common.
- Of lists that can't grow into each other (incompatible orders) the longest is taken to
  be right, as Elle does; of two that are equally long, what they have in common. A list
  out of that order depends on the writer of its last element and on nothing else.
- Every read before the transaction's own first append to the key counts, not the first
  one alone: a transaction that sees two states of a key is not repeatable.
- An element that several transactions appended has no writer: it orders nothing, and
  then nothing but an anomaly can be proved.
- Elements of failed transactions stand in reads as a broken database put them there;
  the order of the others around them still holds.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from checkers.isolation import models, weak
from checkers.isolation import transactions as t
from checkers.isolation.findings import Finding, Findings, Reason, show, show_list
from checkers.isolation.graph import (
    NOTHING,
    Edges,
    Kind,
    edges_of,
    join,
    session_edges,
)
from checkers.isolation.polygraph import Polygraph, Writes, questions

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from checkers.isolation.graph import Column
    from checkers.isolation.question import Question

FUNCTIONS = ("append", "r")

UNPLACED = -2

_EMPTY: list[Any] = []


@dataclass(slots=True)
class Key:
    """What is known of one key.

    Attributes:
        name: The key.
        writer: Element -> row of the ok or info transaction that appended it; NOTHING
            when several did.
        failed: Element -> row of the failed transaction that tried to.
        longest: The longest list read, of those that came first; each element once.
        order: The version order: `longest`, up to where another list of the same
            length contradicts it.
        base: Number of its first version among the versions of all keys.
    """

    name: Hashable
    writer: dict[Hashable, int] = field(default_factory=dict)
    failed: dict[Hashable, int] = field(default_factory=dict)
    longest: Sequence[Any] = ()
    order: Sequence[Any] = ()
    base: int = 0


@dataclass(slots=True)
class Read:
    """One read of a list.

    Attributes:
        row: The transaction.
        key: The key.
        value: What was read.
        shows_own: It ends in what the transaction itself appended to the key, so that
            its place tells nothing that the appends' places do not.
        version: Number of the last version read; NOTHING for the empty list, UNPLACED
            for a list that isn't part of the version order.
    """

    row: int
    key: Key
    value: Sequence[Any]
    shows_own: bool
    version: int = NOTHING


class Appends:
    """Everything that the values of a list-append history tell.

    Attributes:
        dependencies: The ww, wr and rw edges.
        findings: Anomalies that are no cycles.
        undecided: Why nothing but anomalies can be proved; empty if all can.
        remark: Nothing stays in doubt; empty.
        keys: What is known of each key.
        reads: Every read, but those that only repeat one.

    Raises:
        HistoryError: From the constructor: it is no history of appends and reads.
            Cost: linear in all elements read.
    """

    def __init__(self, transactions: t.Transactions) -> None:
        self.transactions = transactions
        try:
            self._analyse()
        except (TypeError, ValueError):
            t.normalise(transactions, FUNCTIONS, _problem)
            self._analyse()

    def _analyse(self) -> None:
        self._scan()
        self._number_versions()
        for read in self.reads:
            self._place(read)
        self._look_for_aborted_reads()
        self._look_for_lost_updates()
        self.dependencies = join(*self._dependencies())

    # Reading the transactions

    def _scan(self) -> None:
        """One pass over all micro-operations."""
        self.findings = Findings()
        self.undecided = self.remark = ""
        self.keys: dict[Hashable, Key] = {}
        self.reads: list[Read] = []
        self._updates: list[Read] = []
        self._not_last: dict[tuple[Hashable, Hashable], int] = {}
        self._doubtful: list[tuple[Key, Hashable]] = []
        rows = zip(self.transactions.outcome, self.transactions.micro_ops, strict=True)
        for row, (outcome, micro_ops) in enumerate(rows):
            if outcome == t.Outcome.OK:
                self._scan_committed(row, micro_ops)
            else:
                self._scan_writes(row, micro_ops, failed=outcome == t.Outcome.FAIL)
        for key, element in self._doubtful:
            key.writer[element] = NOTHING

    def _key(self, name: Hashable) -> Key:
        key = self.keys.get(name)
        if key is None:
            key = self.keys[name] = Key(name)
        return key

    def _scan_committed(self, row: int, micro_ops: t.MicroOps) -> None:
        """A transaction that surely happened: what it read, and what it appended."""
        seen: dict[Hashable, Read] = {}
        mine: dict[Hashable, list[Any]] = {}
        for f, name, value in micro_ops:
            key = self._key(name)
            if f == "append":
                self._wrote(row, key, value)
                if name in mine:
                    self._not_last[name, mine[name][-1]] = row
                    mine[name].append(value)
                    continue
                mine[name] = [value]
                if name in seen:
                    self._updates.append(seen[name])
                    self._look_for_future_read(seen[name], value)
            elif f == "r":
                if value is None:
                    value = _EMPTY
                elif not isinstance(value, list | tuple):
                    raise TypeError
                if len(value) > len(key.longest):
                    key.longest = value
                first = seen.get(name)
                if name in mine:
                    own = self._check_own(row, key, value, first, mine[name])
                    self.reads.append(Read(row, key, value, shows_own=own))
                elif first is None:
                    seen[name] = read = Read(row, key, value, shows_own=False)
                    self.reads.append(read)
                elif value != first.value:
                    self._internal(row, key, value, first.value)
                    self.reads.append(Read(row, key, value, shows_own=False))
            else:
                raise ValueError

    def _scan_writes(self, row: int, micro_ops: t.MicroOps, *, failed: bool) -> None:
        """A transaction that failed, or of which nobody knows: what it tried to do."""
        mine: dict[Hashable, Any] = {}
        for f, name, element in micro_ops:
            if f == "append":
                key = self._key(name)
                if failed:
                    key.failed[element] = row
                    continue
                self._wrote(row, key, element)
                if name in mine:
                    self._not_last[name, mine[name]] = row
                mine[name] = element
            elif f != "r":
                raise ValueError

    def _wrote(self, row: int, key: Key, element: Hashable) -> None:
        if element != element:  # not a number: no read of it would be known again
            raise ValueError
        other = key.writer.setdefault(element, row)
        if other == row:
            return
        if (
            not self.transactions.has_realtime
            and self.transactions.outcome[row] == t.Outcome.INFO
        ):
            return  # an open call, of which the other may be the completion
        self._doubtful.append((key, element))
        if not self.undecided:
            self.undecided = (
                f"{self._name(other)} and {self._name(row)} both append "
                f"{show(element)} to key {show(key.name)}, so nobody can tell which of "
                "them a read of it saw"
            )

    def _name(self, row: int) -> str:
        return self.transactions.name(row)

    # Within one transaction

    def _check_own(
        self,
        row: int,
        key: Key,
        value: Sequence[Any],
        first: Read | None,
        mine: list[Any],
    ) -> bool:
        """Whether a read shows the transaction's own appends, last, as it must."""
        before, own = value[: -len(mine)], value[-len(mine) :]
        if list(own) != mine:
            self._internal(row, key, value, mine)
            return False
        if first is not None and list(before) != list(first.value):
            self._internal(row, key, value, [*first.value, *mine])
        return True

    def _internal(
        self, row: int, key: Key, value: Sequence[Any], expected: Sequence[Any]
    ) -> None:
        if self.findings.wants("internal"):
            self.findings.add(
                Finding(
                    "internal",
                    (row,),
                    f"{self._name(row)} read {show_list(value)} from key "
                    f"{show(key.name)}, but its own operations before that call for "
                    f"a list that ends in {show_list(expected)}.",
                    key.name,
                )
            )

    def _look_for_future_read(self, read: Read, element: Hashable) -> None:
        if element in read.value and self.findings.wants("future-read"):
            self.findings.add(
                Finding(
                    "future-read",
                    (read.row,),
                    f"{self._name(read.row)} read {show(element)} from key "
                    f"{show(read.key.name)} before it appended it itself.",
                    read.key.name,
                )
            )

    # Versions

    def _number_versions(self) -> None:
        """Number the versions of every key in their order, one key after the other."""
        self._in_order = list(self.keys.values())
        self._find_orders()
        base = 0
        writers: list[int] = []
        for key in self._in_order:
            key.base = base
            base += len(key.order)
            writer = key.writer
            writers += [writer.get(element, NOTHING) for element in key.order]
            if key.failed:
                self._look_for_dirty_updates(key)
        self._bases = [key.base for key in self._in_order]
        self._writers = np.array(writers, np.int64)

    def _find_orders(self) -> None:
        """The version order of each key: its longest list, as far as it is certain."""
        repetitive = {
            name
            for name, key in self.keys.items()
            if len(set(key.longest)) < len(key.longest)
        }
        for name in repetitive:
            self.keys[name].longest = ()
        for read in self.reads if repetitive else ():
            if read.key.name in repetitive:
                distinct = list(dict.fromkeys(read.value))
                if len(distinct) > len(read.key.longest):
                    read.key.longest = distinct
        for key in self._in_order:
            key.order = key.longest
        for read in self.reads:
            key, value = read.key, read.value
            if len(value) == len(key.longest) and value != key.longest:
                # Two lists of one length: nobody can tell which of them is right.
                agreed = _common_length(value, key.order)
                key.order = key.order[:agreed]

    def _place(self, read: Read) -> None:
        """Find a read's version; note what is wrong with the list itself."""
        key, value = read.key, read.value
        length = len(value)
        if not length:
            return
        if length <= len(key.order) and value == key.order[:length]:
            read.version = key.base + length - 1
        else:
            self._place_odd(read)
        if not read.shows_own and self._not_last:
            self._look_for_intermediate_read(read)

    def _place_odd(self, read: Read) -> None:
        """A list that repeats elements, or is no beginning of the version order."""
        key = read.key
        distinct = list(dict.fromkeys(read.value))
        if len(distinct) < len(read.value):
            self._repeats(read)
        agreed = _common_length(distinct, key.order)
        read.version = UNPLACED
        if agreed == len(distinct):
            read.version = key.base + agreed - 1
        agreed = _common_length(distinct, key.longest)
        if agreed < len(distinct) and self.findings.wants("incompatible-order"):
            other = self._longest_read(key)
            text = (
                f"{self._name(read.row)} and {self._name(other)} read key "
                f"{show(key.name)} as {show_list(read.value)} and as "
                f"{show_list(key.longest)}, which differ from element {agreed + 1} on: "
                "neither list can grow into the other by appends."
            )
            self.findings.add(
                Finding("incompatible-order", (read.row, other), text, key.name)
            )

    def _longest_read(self, key: Key) -> int:
        """Row of the first transaction that read the key's longest list."""
        return next(
            read.row
            for read in self.reads
            if read.key is key and list(dict.fromkeys(read.value)) == list(key.longest)
        )

    def _repeats(self, read: Read) -> None:
        if self.findings.wants("duplicate-elements"):
            times = Counter(read.value)
            element = max(times, key=times.__getitem__)
            self.findings.add(
                Finding(
                    "duplicate-elements",
                    (read.row,),
                    f"{self._name(read.row)} read {show(element)} {times[element]} "
                    f"times in key {show(read.key.name)}, to which it was appended "
                    "once at most.",
                    read.key.name,
                )
            )

    def _look_for_intermediate_read(self, read: Read) -> None:
        key, element = read.key, read.value[-1]
        writer = self._not_last.get((key.name, element), read.row)
        if writer != read.row and self.findings.wants("G1b"):
            text = (
                f"{self._name(read.row)} read key {show(key.name)} up to "
                f"{show(element)}, after which {self._name(writer)} itself appended "
                "more to it: it observed the middle of a transaction."
            )
            self.findings.add(
                Finding(
                    "G1b",
                    (read.row, writer),
                    text,
                    key.name,
                    [self._observed(writer, read.row, key, element)],
                )
            )

    def _observed(self, writer: int, row: int, key: Key, element: Hashable) -> Reason:
        text = (
            f"{self._name(row)} observed {self._name(writer)}'s append of "
            f"{show(element)} to key {show(key.name)}"
        )
        return Reason(writer, row, "wr", text)

    # Values that must not be there

    def _look_for_dirty_updates(self, key: Key) -> None:
        """A committed append on top of a failed one (over those nobody knows of)."""
        failed: tuple[int, Hashable] | None = None
        for element in key.order:
            row = key.writer.get(element)
            if row is None:
                if element in key.failed:
                    failed = key.failed[element], element
            elif row != NOTHING and self.transactions.outcome[row] == t.Outcome.OK:
                if failed is not None and self.findings.wants("dirty-update"):
                    self._dirty_update(key, failed, (row, element))
                failed = None

    def _dirty_update(
        self, key: Key, lower: tuple[int, Hashable], upper: tuple[int, Hashable]
    ) -> None:
        (failed, dirt), (row, element) = lower, upper
        text = (
            f"{self._name(failed)} failed, yet its append of {show(dirt)} to key "
            f"{show(key.name)} stayed, and {self._name(row)} committed "
            f"{show(element)} on top of it."
        )
        why = f"{show(element)} stands after {show(dirt)} in key {show(key.name)}"
        self.findings.add(
            Finding(
                "dirty-update",
                (row, failed),
                text,
                key.name,
                [Reason(failed, row, "ww", why)],
            )
        )

    def _look_for_aborted_reads(self) -> None:
        """Reads of elements that no transaction, or a failed one, appended.

        Only keys with such elements are looked at read by read; each element is
        blamed once, on the first transaction that read it.
        """
        suspects = {
            id(key)
            for key in self._in_order
            if any(element not in key.writer for element in key.order)
        }
        blamed: set[tuple[int, Hashable]] = set()
        for read in self.reads:
            key = read.key
            if id(key) not in suspects and read.version != UNPLACED:
                continue
            for element in read.value:
                if element in key.writer or (id(key), element) in blamed:
                    continue
                blamed.add((id(key), element))
                self._unfounded_read(read, element)

    def _unfounded_read(self, read: Read, element: Hashable) -> None:
        failed = read.key.failed.get(element)
        name = "garbage-read" if failed is None else "G1a"
        if not self.findings.wants(name):
            return
        what = f"{self._name(read.row)} read {show(element)} in key"
        what += f" {show(read.key.name)}"
        if failed is None:
            text = f"{what}, which no transaction ever appended."
            self.findings.add(Finding(name, (read.row,), text, read.key.name))
            return
        text = f"{what}, which {self._name(failed)} appended, but that failed."
        edge = self._observed(failed, read.row, read.key, element)
        self.findings.add(
            Finding(name, (read.row, failed), text, read.key.name, [edge])
        )

    def _look_for_lost_updates(self) -> None:
        """Transactions that read one version of a key each, and appended to it."""
        readers: dict[Hashable, list[Read]] = defaultdict(list)
        for read in self._updates:
            version: Hashable = read.version
            if read.version == UNPLACED:
                version = tuple(read.value)
            readers[read.key.name, version].append(read)
        for group in readers.values():
            if len(group) > 1 and self.findings.wants("lost-update"):
                self._lost_update(group)

    def _lost_update(self, group: list[Read]) -> None:
        rows = tuple(read.row for read in group)
        key = group[0].key.name
        names = ", ".join(map(self._name, rows[:4])) + ", ..." * (len(rows) > 4)
        text = (
            f"{names} all read key {show(key)} as {show_list(group[0].value)} and then "
            "appended to it: whichever came last did not see the others' appends."
        )
        edges = [
            Reason(
                a, b, "rw", f"{self._name(a)} did not observe {self._name(b)}'s append"
            )
            for a, b in itertools.permutations(rows[:4], 2)
        ]
        self.findings.add(Finding("lost-update", rows, text, key, edges))

    # Dependencies

    def _dependencies(self) -> Iterator[Edges]:
        """The edges of each kind."""
        writers = self._writers
        known = np.flatnonzero(writers != NOTHING)
        base = np.array([*self._bases, len(writers)], np.int64)
        end_of = np.repeat(base[1:], np.diff(base))  # version -> end of its key
        if len(known):
            same_key = known[1:] < end_of[known[:-1]]
            before, after = known[:-1][same_key], known[1:][same_key]
            yield edges_of(Kind.WW, writers[before], writers[after], after)

        reads = [r for r in self.reads if not r.shows_own and r.version != UNPLACED]
        rows = np.array([read.row for read in reads], np.int64)
        start = np.array([read.key.base for read in reads], np.int64)
        end = start + np.array([len(read.key.order) for read in reads], np.int64)
        unseen = np.array([read.version for read in reads], np.int64) + 1
        unseen = np.maximum(unseen, start)
        at = np.searchsorted(known, unseen)
        last_seen = np.append(known, -1)[at - 1]
        some = last_seen >= start
        yield edges_of(Kind.WR, writers[last_seen[some]], rows[some], last_seen[some])
        following = np.append(known, len(writers))[at]
        followed = following < end
        following = following[followed]
        yield edges_of(Kind.RW, rows[followed], writers[following], following)
        self._beside: list[tuple[Key, Hashable]] = []
        self._unread: dict[Hashable, list[int]] = defaultdict(list)
        self._unread_by: dict[int, int] = {}
        self._eliminated: set[int] = set()
        yield self._of_unplaced_reads()
        tail = np.flatnonzero(~followed).tolist()
        yield self._on_unread(known, [reads[i] for i in tail])

    def _of_unplaced_reads(self) -> Edges:
        """A read out of order depends on whom it read last, at any rate."""
        sources, targets, via = [], [], []
        for read in self.reads:
            if read.version == UNPLACED and not read.shows_own:
                writer = read.key.writer.get(read.value[-1], NOTHING)
                sources.append(writer)
                targets.append(read.row)
                via.append(self._number(read.key, read.value[-1]))
        return _edges(Kind.WR, sources, targets, via)

    def _on_unread(self, known: Column, tail: list[Read]) -> Edges:
        """What is in no list came after all that is in the longest.

        A transaction whose outcome nobody knows, and of which nothing was read, may not
        have happened. Nothing can depend on it, so it may as well be left out.
        """
        happened = set(self._writers[known].tolist())
        happened |= {
            read.key.writer.get(read.value[-1], NOTHING)
            for read in self.reads
            if read.version == UNPLACED
        }
        readers: dict[int, list[int]] = defaultdict(list)
        for read in tail:
            readers[id(read.key)].append(read.row)
        ww: tuple[list[int], list[int], list[int]] = [], [], []
        rw: tuple[list[int], list[int], list[int]] = [], [], []
        for key in self._in_order:
            in_order = set(key.order)
            last = next(
                (e for e in reversed(key.order) if key.writer.get(e, -1) >= 0), None
            )
            for element, row in key.writer.items():
                if element in in_order or row == NOTHING:
                    continue
                if (
                    row not in happened
                    and self.transactions.outcome[row] != t.Outcome.OK
                ):
                    continue
                via = self._number(key, element)
                self._unread[key.name].append(via)
                self._unread_by[via] = row
                for edges, sources in (
                    (ww, [] if last is None else [key.writer[last]]),
                    (rw, readers[id(key)]),
                ):
                    edges[0].extend(sources)
                    edges[1].extend([row] * len(sources))
                    edges[2].extend([via] * len(sources))
        return join(_edges(Kind.WW, *ww), _edges(Kind.RW, *rw))

    def _note(self, _earlier: int, later: int) -> int:
        """A number for the order of two unread versions, found by elimination."""
        via = self._number(*self._version(later))
        self._eliminated.add(via)
        return via

    def _number(self, key: Key, element: Hashable) -> int:
        """Number of a version that stands in no version order."""
        self._beside.append((key, element))
        return len(self._writers) + len(self._beside) - 1

    def judge(
        self, question: Question, found: frozenset[str], pause: Callable[[], None]
    ) -> None:
        """See `Inference.judge`: causal visibility, and what was never read."""
        if models.WITH_SESSIONS & set(question.asked):
            wanted = question.anomalies - {"non-monotonic-read"}
            sessions = session_edges(self.transactions)
            weak.judge(_Versioned(self), self.findings, wanted, sessions, pause)
        found = found.union(self.findings.counts)
        if not found & question.anomalies and self._unread:
            self._eliminate(question, pause)

    def _eliminate(self, question: Question, pause: Callable[[], None]) -> None:
        """Look for an order of what was never read, for snapshot isolation.

        Any order of unread elements that other dependencies leave will do for
        serializability. Snapshot isolation may leave none: one of two transactions that
        append to one key has to see what the other did.
        """
        writes = Writes(self._unread, self._unread_by, {}, self._note)
        asked = questions(question.anomalies)
        serial = max((part.level for part in asked if part.serial), default=-1)
        for part in asked if writes.choices() else ():
            if part.serial or part.level <= serial:
                continue  # nothing was found: it is serializable, and isolated with it
            polygraph = Polygraph(self.transactions, self, writes, part, pause)
            if polygraph.is_small:
                contradiction, _ = polygraph.prune()
                if contradiction and self.findings.wants(contradiction.name):
                    self.findings.add(contradiction)

    def reason(self, source: int, target: int, kind: Kind, via: int) -> str:
        """Why `source` comes before `target`, as a clause."""
        a, b = self._name(source), self._name(target)
        key, element = self._version(via)
        what = f"{show(element)} to key {show(key.name)}"
        match kind:
            case Kind.WR:
                return f"{b} observed {a}'s append of {what}"
            case Kind.RW:
                return f"{a} did not observe {b}'s append of {what}"
            case _ if via in self._eliminated:
                return (
                    f"{b} appended {what} after {a} appended to it, since the other "
                    "order would close a cycle"
                )
            case _:
                return (
                    f"{b} appended {what} after {self._append_of(source, key, element)}"
                )

    def _version(self, via: int) -> tuple[Key, Hashable]:
        if via >= len(self._writers):
            return self._beside[via - len(self._writers)]
        # Keys without versions share the base of the next one, which comes after them.
        key = self._in_order[bisect.bisect_right(self._bases, via) - 1]
        return key, key.order[via - key.base]

    def _append_of(self, row: int, key: Key, successor: Hashable) -> str:
        """The last append of `row` to the key before `successor`, in words."""
        elements = list(itertools.takewhile(lambda e: e != successor, key.order))
        mine = (e for e in reversed(elements) if key.writer.get(e) == row)
        return f"{self._name(row)} appended {show(next(mine, None))}"


class _Versioned:
    """The history as the axioms of `checkers.isolation.weak` see it.

    A list is the version that its last element made; of an append in the middle of a
    transaction nobody may see anything.
    """

    has_orders = True

    def __init__(self, appends: Appends) -> None:
        self.transactions = appends.transactions
        self.dependencies = appends.dependencies
        self.reason = appends.reason
        self.key_of: list[Hashable] = []
        self.value_of: list[Any] = []
        self.writer: list[int] = []
        self.writes: list[dict[Hashable, int]] = [{} for _ in appends.transactions.ops]
        self.reads: list[weak.Read] = []
        numbers: dict[tuple[Hashable, Hashable], int] = {}
        for name, key in appends.keys.items():
            numbers[name, None] = self._number(name, None, NOTHING)
            order = {element: i for i, element in enumerate(key.order)}
            last = len(order)
            for element in sorted(key.writer, key=lambda e: order.get(e, last)):
                row = key.writer[element]
                numbers[name, element] = version = self._number(name, element, row)
                if row != NOTHING:
                    self.writes[row][name] = version
        for read in appends.reads:
            element = read.value[-1] if read.value else None
            version = numbers.get((read.key.name, element), NOTHING)
            if version != NOTHING and not read.shows_own:
                self.reads.append(weak.Read(read.row, version))

    def _number(self, key: Hashable, value: Any, writer: int) -> int:
        self.key_of.append(key)
        self.value_of.append(value)
        self.writer.append(writer)
        return len(self.writer) - 1


def _common_length(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many elements two lists have in common from their beginning on."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def _edges(kind: Kind, sources: list[int], targets: list[int], via: list[int]) -> Edges:
    return edges_of(
        kind,
        np.array(sources, np.int64),
        np.array(targets, np.int64),
        np.array(via, np.int64),
    )


def _problem(f: str, value: Any) -> str:
    """What is wrong with the value of a micro-operation; empty if nothing is."""
    if f == "append":
        return "" if t.is_plain(value) else "what is appended must be plain"
    if value is None:
        return ""
    if not isinstance(value, list | tuple):
        return "a read returns a list"
    return "" if all(map(t.is_plain, value)) else "elements must be plain"
