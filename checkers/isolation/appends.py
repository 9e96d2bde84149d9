"""List-append: the order of versions can be read off the lists.

Transactions append elements to lists and read whole lists. A list holds the
history of its key, so a read shows every version before the one it returns (Kingsbury
and Alvaro, "Elle", 2020, sections 3 and 4). The longest read of a key gives its version
order; what was appended and is not in it came later, in an order nobody saw.

Choices:
- Of lists that can't grow into each other (incompatible orders) the longest is taken to
  be right, as Elle does; of two that are equally long, what they have in common. A list
  out of that order depends on the writer of its last element and on nothing else.
- Every read before the transaction's own first append to the key counts, not the first
  one alone: a transaction that sees two states of a key is not repeatable.
- Of an element that was appended more than once it has to be chosen which append of it
  was read: see `checkers.isolation.writers`.
- Appends of one transaction to one key stand in their order in every list, the first
  ones too; a list in which they don't is of incompatible order.
- Elements of failed transactions stand in reads as a broken database put them there;
  the order of the others around them still holds.
"""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from checkers.isolation import guarantees, weak
from checkers.isolation import transactions as t
from checkers.isolation.columns import likely_order
from checkers.isolation.components import components
from checkers.isolation.findings import (
    PAUSE_EVERY,
    Copy,
    Finding,
    Findings,
    Reason,
    no_pause,
    plain,
    show,
    show_all,
    show_list,
)
from checkers.isolation.graph import (
    NOTHING,
    Edges,
    Kind,
    edges_of,
    join,
    no_edges,
    session_edges,
)
from checkers.isolation.levels import LEVELS, Accesses
from checkers.isolation.polygraph import Polygraph, Writes, all_questions
from checkers.isolation.serial import SerialSearch
from checkers.isolation.unfolded import Script
from checkers.isolation.writers import Assignment, Candidate, Choice, Shown
from checkers.linearizability.specification import freeze

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from checkers.isolation.graph import Column, Mask
    from checkers.isolation.question import Question
    from checkers.isolation.walks import Cycle, Step
    from checkers.isolation.writers import Group

FUNCTIONS = ("append", "r")

UNPLACED = -2
"""The version of a read whose list is no part of the version order."""

_OF_SESSIONS = frozenset({"fractured-read", "causal-violation", *guarantees.GUARANTEES})
"""Anomalies that are no cycles of the dependencies that lists show."""

_OF_UPDATES = frozenset({"lost-update", "lost-append"})
"""Anomalies after which a list is as good as any other."""

_OPEN_TO_EVENTS = frozenset({"G-monotonic", "G-MSR", "G-update"})
"""Anomalies that an order of unread appends may lead to, and that is not tried."""

_CERTAIN = frozenset({"duplicate-elements", "garbage-read"})
"""Anomalies that don't depend on who appended what is there more than once."""

_OF_THEIR_ROWS = frozenset(
    {"G1a", "G1b", "future-read", "incompatible-order", "internal", "lost-append"}
)
"""Anomalies that depend on which appends of their transactions to the key were read."""

_OF_THEIR_KEY = frozenset({"dirty-update", "lost-update"})
"""Anomalies that depend on who appended what to their key."""

_EMPTY: list[Any] = []

NOBODYS = Copy("nothing", NOTHING)
"""Stands for the element before the first: no element is equal to it."""

NIL = Copy(None, 0)
"""The element nil, where None stands for the empty list."""


@dataclass(slots=True, eq=False)
class Branch:
    """Lists read from one key that are all beginnings of the longest of them.

    A history whose reads agree has one branch for each key, and of a read no more needs
    to be kept than how long it was.

    Attributes:
        key: The key.
        number: Its place among the branches of all keys.
        value: The longest list.
        low: Where it has 0 and 1, which Python does not tell from false and true.
    """

    key: Key
    number: int
    value: list[Any] = field(default_factory=list)
    low: list[int] = field(default_factory=list)

    def takes(self, value: list[Any], *, is_frozen: bool) -> bool:
        """Whether a list belongs here; if so it may be the longest from now on.

        Raises:
            ValueError: It isn't frozen, and can't be told from others as it is.
        """
        known, length = len(self.value), len(value)
        if length <= known:
            if value != (self.value if length == known else self.value[:length]):
                return False
        elif known and value[:known] != self.value:
            return False
        if not is_frozen:
            for place in self.low:
                if place < length and type(value[place]) is bool:
                    raise ValueError
        if length > known:
            if not is_frozen:
                tail = value[known:]
                if not t.SIMPLE.issuperset(map(type, tail)):
                    raise ValueError
                if 0 in tail or 1 in tail:
                    self.low += [i for i, e in enumerate(tail, known) if e in {0, 1}]
            self.value = value
        return True


@dataclass(slots=True, eq=False)
class Key:
    """What is known of one key.

    Attributes:
        name: The key.
        branches: What was read from it; at least one.
        writer: Element -> row of the ok or info transaction that appended it.
        failed: Element -> row of the failed transaction that tried to.
        inner: Element -> the one that its writer appended next, in the same
            transaction.
        longest: The longest list read, of those that came first; each element once.
        order: The version order: `longest`, up to where another list of the same
            length contradicts it.
        base: Number of its first version among the versions of all keys.
    """

    name: Hashable
    branches: list[Branch] = field(default_factory=list)
    writer: dict[Hashable, int] = field(default_factory=dict)
    failed: dict[Hashable, int] = field(default_factory=dict)
    inner: dict[Hashable, Hashable] = field(default_factory=dict)
    longest: list[Any] = field(default_factory=list)
    order: list[Any] = field(default_factory=list)
    base: int = 0


class Reads:
    """All reads, but those that only repeat one, as columns.

    Attributes:
        row: The transaction.
        branch: Number of the branch that the list belongs to.
        length: How long the list was.
        shows_own: It ends in what the transaction itself appended to the key, so that
            its place tells nothing that the appends' places do not.
        version: Number of the last version read; NOTHING for the empty list, UNPLACED
            for a list that isn't part of the version order.
        repeated: Those that a transaction repeated after it had read other keys, each
            with how many reads there were by then. It may have learned between the two
            that something is missing.
    """

    def __init__(self) -> None:
        self.repeated: list[tuple[int, int]] = []
        self._row, self._branch, self._length = array("q"), array("q"), array("q")
        self._shows_own = array("b")
        self.version: Column = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._row)

    def add(self, row: int, branch: Branch, length: int, *, shows_own: bool) -> int:
        """Append a read; returns its number."""
        self._row.append(row)
        self._branch.append(branch.number)
        self._length.append(length)
        self._shows_own.append(shows_own)
        return len(self._row) - 1

    def close(self) -> None:
        """Make the columns: nothing more is added."""
        self.row: Column = np.asarray(self._row)
        self.branch: Column = np.asarray(self._branch)
        self.length: Column = np.asarray(self._length)
        self.shows_own: Mask = np.asarray(self._shows_own).view(np.bool_)

    def one(self, read: int) -> tuple[int, int, int]:
        """Row, branch and length of one read."""
        return self._row[read], self._branch[read], self._length[read]


@dataclass(frozen=True, slots=True)
class Read:
    """One read of a list, put together for a closer look."""

    row: int
    key: Key
    value: list[Any]


class Appends:
    """Everything that the values of a list-append history tell.

    Attributes:
        dependencies: The ww, wr and rw edges.
        findings: Anomalies that are no cycles.
        undecided: Why nothing but anomalies can be proved; empty if all can.
        remark: Which order of unread appends stays open, if that leaves a doubt.
        keys: What is known of each key.
        reads: Every read, but those that only repeat one.
        accesses, choices, has_reads: See `Inference`.

    Args:
        transactions: The history.
        pause: Called now and then; may raise.
        own_writes_show: Whether a transaction reads what it appended itself, or keeps
            to its snapshot.
        linearizable_keys: Whether real time counts on each key.
        failed_may_show: Whether reads may see what failed transactions appended, by
            what is asked.

    Raises:
        HistoryError: From the constructor: it is no history of appends and reads.
            Cost: linear in all elements read. Lists are let go of as they are read.
    """

    def __init__(
        self,
        transactions: t.Transactions,
        pause: Callable[[], None] = no_pause,
        *,
        own_writes_show: bool = True,
        linearizable_keys: bool = False,
        failed_may_show: bool = False,
    ) -> None:
        self.transactions = transactions
        self._pause = pause
        self._own_writes_show = own_writes_show
        labels = transactions.labels
        self._assignment = labels if isinstance(labels, Assignment) else None
        try:
            self._order_versions()
        except (TypeError, ValueError):
            transactions.normalise(FUNCTIONS, _frozen)
            self._order_versions()
        self.choices: Sequence[Choice] = self._find_choices(
            failed_may_show=failed_may_show
        )
        self.dependencies, self.accesses = no_edges(), None
        if self.choices:
            return
        self._place_reads()
        self._look_for_intermediate_reads()
        self._look_for_aborted_reads()
        self._look_for_lost_updates()
        if self.transactions.has_realtime and len(self.reads):
            self._look_for_lost_appends()
        self.dependencies = join(*self._dependencies())
        if linearizable_keys:
            self.accesses = self._list_accesses()

    def _order_versions(self) -> None:
        self._scan()
        self.reads.close()
        self._number_versions()

    # Reading the transactions

    def _scan(self) -> None:
        """One pass over all micro-operations."""
        self.findings = Findings()
        self.undecided = self.remark = ""
        self.has_reads = False
        self.keys: dict[Hashable, Key] = {}
        self._branches: list[Branch] = []
        self.reads = Reads()
        self._updates: list[int] = []
        self._repeated: dict[tuple[Hashable, Hashable], None] = {}
        self._is_frozen = self.transactions.is_frozen
        outcome = self.transactions.outcome
        for count, (row, micro_ops) in enumerate(self.transactions.micro_ops()):
            if outcome[row] == t.Outcome.OK:
                self._scan_committed(row, micro_ops)
            else:
                failed = outcome[row] == t.Outcome.FAIL
                self._scan_writes(row, micro_ops, failed=failed)
            if not count % PAUSE_EVERY:
                self._pause()

    def _new_key(self, name: Hashable) -> Key:
        key = self.keys[name] = Key(name)
        self._branch_off(key)
        return key

    def _branch_off(self, key: Key) -> Branch:
        branch = Branch(key, len(self._branches))
        self._branches.append(branch)
        key.branches.append(branch)
        return branch

    def _scan_committed(self, row: int, micro_ops: t.MicroOps) -> None:
        """A transaction that surely happened: what it read, and what it appended."""
        keys, is_frozen = self.keys, self._is_frozen
        last: dict[Hashable, tuple[int, int]] = {}
        shown: dict[Hashable, list[list[Any]]] = {}
        mine: dict[Hashable, list[Any]] = {}
        for micro_op in micro_ops:
            if type(micro_op) is not list and type(micro_op) is not tuple:
                raise TypeError  # text and maps can be taken apart as well
            f, name, value = micro_op
            if type(name) not in t.SIMPLE and not is_frozen:
                raise ValueError
            key = keys.get(name) or self._new_key(name)
            if f == "r":
                self.has_reads = True
                if value is None:
                    value = _EMPTY
                elif type(value) is not list:
                    if not isinstance(value, tuple):
                        raise TypeError
                    value = list(value)
                branch = self._branch_of(key, value)
                own = mine.get(name, _EMPTY) if self._own_writes_show else _EMPTY
                if name not in last:
                    is_right = not own or value[-len(own) :] == own
                    expected = own
                else:
                    before, appended = last[name]
                    expected = self._value(before) + own[appended:]
                    is_right = value == expected
                    if is_right and not own:
                        if len(last) > 1:
                            self.reads.repeated.append((len(self.reads), before))
                        continue
                if not is_right:
                    self._internal(row, key, value, expected)
                elif not self._own_writes_show and name in mine:
                    self._check_snapshot(row, key, value, mine[name])
                shows_own = bool(own) and value[-len(own) :] == own
                read = self.reads.add(row, branch, len(value), shows_own=shows_own)
                last[name] = read, len(own)
                if value:
                    shown.setdefault(name, []).append(value)
            elif f == "append":
                self._wrote(row, key, value)
                if name in shown and any(value in early for early in shown[name]):
                    self._future_read(row, key, value)
                if name in mine:
                    key.inner[mine[name][-1]] = value
                    mine[name].append(value)
                    continue
                mine[name] = [value]
                if name in last:
                    self._updates.append(last[name][0])
            else:
                raise ValueError

    def _scan_writes(self, row: int, micro_ops: t.MicroOps, *, failed: bool) -> None:
        """A transaction that failed, or of which nobody knows: what it tried to do."""
        mine: dict[Hashable, Any] = {}
        for micro_op in micro_ops:
            if type(micro_op) is not list and type(micro_op) is not tuple:
                raise TypeError
            f, name, element = micro_op
            if f == "append":
                if type(name) not in t.SIMPLE and not self._is_frozen:
                    raise ValueError
                key = self.keys.get(name) or self._new_key(name)
                if failed:
                    self._failed_to_write(row, key, element)
                    continue
                self._wrote(row, key, element)
                if name in mine:
                    key.inner[mine[name]] = element
                mine[name] = element
            elif f != "r":
                raise ValueError

    def _branch_of(self, key: Key, value: list[Any]) -> Branch:
        """The branch of a list that was read."""
        for branch in key.branches:
            if branch.takes(value, is_frozen=self._is_frozen):
                return branch
        branch = self._branch_off(key)
        branch.takes(value, is_frozen=self._is_frozen)
        return branch

    def _value(self, read: int) -> list[Any]:
        """The list that was read."""
        _, branch, length = self.reads.one(read)
        return self._branches[branch].value[:length]

    def _wrote(self, row: int, key: Key, element: Hashable) -> None:
        if type(element) not in t.SIMPLE and not self._is_frozen:
            raise ValueError
        if element not in key.writer:
            key.writer[element] = row
            if element in key.failed:
                self._repeated[key.name, element] = None
        elif (
            self.transactions.has_realtime
            or self.transactions.outcome[row] != t.Outcome.INFO
        ):
            self._repeated[key.name, element] = None
        # Else it is an open call, of which the other may be the completion.

    def _failed_to_write(self, row: int, key: Key, element: Hashable) -> None:
        if type(element) not in t.SIMPLE and not self._is_frozen:
            raise ValueError
        if element in key.failed or element in key.writer:
            self._repeated[key.name, element] = None
        key.failed[element] = row

    def _name(self, row: int) -> str:
        return self.transactions.name(row)

    # Elements that were appended more than once

    def _find_choices(self, *, failed_may_show: bool) -> list[Choice]:
        """Elements of which it is not clear which append of them was read."""
        if not self._repeated or self._assignment is not None:
            return []
        candidates: dict[Group, list[Candidate]] = {g: [] for g in self._repeated}
        transactions = self.transactions
        outcome, has_realtime = transactions.outcome, transactions.has_realtime
        for row, micro_ops in transactions.micro_ops():
            made: Counter[Group] = Counter()
            for f, name, element in micro_ops:
                if f != "append" or (name, element) not in candidates:
                    continue
                group = name, element
                if has_realtime or outcome[row] != t.Outcome.INFO:
                    candidates[group].append(
                        Candidate(
                            row,
                            made[group],
                            transactions.start[row],
                            transactions.end[row],
                            outcome[row] == t.Outcome.OK,
                            outcome[row] == t.Outcome.FAIL,
                        )
                    )
                made[group] += 1
        shown = self._occurrences()
        choices = []
        for group, writers in candidates.items():
            choice = Choice(group, writers, shown[group])
            if choice.enumerate(failed_may_show=failed_may_show):
                choices.append(choice)
        return choices

    def _occurrences(self) -> dict[Group, list[Shown]]:
        """The first, second... of repeated elements in what was read of their keys."""
        reads = self.reads
        in_order = np.argsort(reads.branch, kind="stable")
        bounds = np.searchsorted(
            reads.branch[in_order], np.arange(len(self._branches) + 1)
        )
        start = np.asarray(self.transactions.start)[reads.row]
        end = np.asarray(self.transactions.end)[reads.row]
        out: dict[Group, list[Shown]] = {}
        names: dict[Hashable, set[Hashable]] = defaultdict(set)
        for name, element in self._repeated:
            out[name, element] = []
            names[name].add(element)
        for name, elements in names.items():
            of_branch = [
                (branch, in_order[bounds[branch.number] : bounds[branch.number + 1]])
                for branch in self.keys[name].branches
            ]
            last = max(
                (int(start[which].max()) for _, which in of_branch if len(which)),
                default=NOTHING,
            )
            for branch, which in of_branch:
                seen: Counter[Hashable] = Counter()
                for place, element in enumerate(branch.value):
                    if element not in elements:
                        continue
                    by = int(end[which[reads.length[which] > place]].min())
                    shown, nth = out[name, element], seen[element]
                    seen[element] += 1
                    if nth == len(shown):
                        shown.append(Shown(by, last))
                    else:
                        shown[nth] = Shown(min(by, shown[nth].by), last)
        return out

    def serial_search(self) -> SerialSearch | None:
        """See `Inference.serial_search`."""
        if any(len(key.branches) > 1 for key in self.keys.values()):
            return None
        return SerialSearch(
            self.transactions,
            {name: key.branches[0].value for name, key in self.keys.items()},
            self._pause,
            own_writes_show=self._own_writes_show,
        )

    def grounds(self, finding: Finding, cycle: Cycle | None) -> set[Group]:
        """See `Inference.grounds`."""
        assignment = self._assignment
        if assignment is None or finding.name in _CERTAIN:
            return set()
        if cycle is not None:
            return set().union(*map(self._grounds_of, cycle.steps))
        if finding.name == "incompatible-order" and not finding.reasons:
            return set()  # two lists differ, whoever wrote them
        groups = assignment.groups()
        if finding.name in _OF_THEIR_ROWS:
            rows = set(finding.rows)
            groups = [g for g in groups if assignment.rows_of(g) & rows]
        elif finding.name not in _OF_THEIR_KEY:
            return set(groups)
        return {group for group in groups if group[0] == finding.key}

    def _grounds_of(self, step: Step) -> set[Group]:
        """What was chosen that one edge rests on.

        That is who appended the element it is about, and those next to it that have no
        writer, up to the next that has. If nobody knows whether one of its transactions
        happened, that some element was read which it appended.
        """
        assignment = self._assignment
        assert assignment is not None
        if step.kind not in {Kind.WW, Kind.WR, Kind.RW}:
            return set()
        key, element = self._version(step.via)
        is_placed = step.via < len(self._writers)
        at = step.via - key.base if is_placed else len(key.order)
        elements = [element]
        for e in reversed(key.order[:at]):
            elements.append(e)
            if e in key.writer:
                break
        elements += itertools.takewhile(
            lambda e: e not in key.writer, key.order[at + 1 :]
        )
        out = {(key.name, e.value) for e in elements if type(e) is Copy}
        for row in (step.source, step.target):
            if self.transactions.outcome[row] != t.Outcome.OK:
                out |= assignment.groups_of(row)
        return out

    # Within one transaction

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

    def _check_snapshot(
        self, row: int, key: Key, value: list[Any], mine: list[Any]
    ) -> None:
        """Where transactions don't see what they append, they must not."""
        own = next((element for element in mine if element in value), NOBODYS)
        if own is not NOBODYS and self.findings.wants("internal"):
            text = (
                f"{self._name(row)} read {show(own)} from key {show(key.name)}, which "
                "it had appended itself, though transactions read only what was there "
                "when they began."
            )
            self.findings.add(Finding("internal", (row,), text, key.name))

    def _future_read(self, row: int, key: Key, element: Hashable) -> None:
        if self.findings.wants("future-read"):
            self.findings.add(
                Finding(
                    "future-read",
                    (row,),
                    f"{self._name(row)} read {show(element)} from key "
                    f"{show(key.name)} before it appended it itself.",
                    key.name,
                )
            )

    # Versions

    def _number_versions(self) -> None:
        """Number the versions of every key in their order, one key after the other."""
        self._in_order = list(self.keys.values())
        base = 0
        writers: list[int] = []
        inner: list[bool] = []
        for key in self._in_order:
            self._find_order(key)
            key.base = base
            base += len(key.order)
            writer = key.writer
            writers += [writer.get(element, NOTHING) for element in key.order]
            inner += [element in key.inner for element in key.order]
            if key.inner:
                self._look_for_reordered_appends(key)
            if key.failed:
                self._look_for_dirty_updates(key)
        self._bases = [key.base for key in self._in_order]
        self._writers = np.array(writers, np.int64)
        self._is_inner = np.array([*inner, False], np.bool_)

    def _find_order(self, key: Key) -> None:
        """The version order of a key: its longest list, as far as it is certain."""
        lists = [branch.value for branch in key.branches]
        distinct = [
            value if len(set(value)) == len(value) else list(dict.fromkeys(value))
            for value in lists
        ]
        key.longest = key.order = max(distinct, key=len)
        for value in lists:
            if len(value) == len(key.longest) and value != key.longest:
                # Two lists of one length: nobody can tell which of them is right.
                agreed = _common_length(value, key.order)
                key.order = key.order[:agreed]

    def _look_for_reordered_appends(self, key: Key) -> None:
        """Appends of one transaction that stand in a list in another order.

        One that stands in none comes after all that do.
        """
        place = {element: i for i, element in enumerate(key.order)}
        last = len(place)
        for first, second in key.inner.items():
            if place.get(first, last) <= place.get(second, last):
                continue
            if self._reader_of(key, second) == key.writer[first]:
                continue  # a future read, of its own
            if self.findings.wants("incompatible-order"):
                self._reordered(key, first, second)

    def _reordered(self, key: Key, first: Hashable, second: Hashable) -> None:
        writer, reader = key.writer[first], self._reader_of(key, second)
        text = (
            f"{self._name(writer)} appended {show(first)} and after it {show(second)} "
            f"to key {show(key.name)}, but {self._name(reader)} read "
            f"{show(second)} without {show(first)} before it."
        )
        edge = self._observed(writer, reader, key, second)
        self.findings.add(
            Finding("incompatible-order", (reader, writer), text, key.name, [edge])
        )

    def _reader_of(self, key: Key, element: Hashable) -> int:
        """Row of the first transaction that read an element."""
        branch = next(branch for branch in key.branches if element in branch.value)
        return self._first_to_see(branch, branch.value.index(element))

    def _first_to_see(self, branch: Branch, place: int) -> int:
        """Row of the first transaction that read a branch up to a place, or farther."""
        reads = self.reads
        saw_it = (reads.branch == branch.number) & (reads.length > place)
        return int(reads.row[saw_it].min())

    def _place_reads(self) -> None:
        """Find each read's version; note what is wrong with the list itself."""
        reads = self.reads
        agreed = [_common_length(b.value, b.key.order) for b in self._branches]
        base = [branch.key.base for branch in self._branches]
        length, branch = reads.length, reads.branch
        reads.version = np.array(base, np.int64)[branch] + length - 1
        reads.version[length == 0] = NOTHING
        self._odd = np.flatnonzero(length > np.array(agreed, np.int64)[branch])
        for i in self._odd.tolist():
            read = self.read(i)
            reads.version[i] = self._place_odd(read)

    def read(self, read: int) -> Read:
        """One of `reads`, with what it saw."""
        row, branch, length = self.reads.one(read)
        key, value = self._branches[branch].key, self._branches[branch].value
        return Read(row, key, value[:length])

    def _place_odd(self, read: Read) -> int:
        """A list that repeats elements, or is no beginning of the version order."""
        key = read.key
        distinct = list(dict.fromkeys(read.value))
        if len(distinct) < len(read.value):
            self._repeats(read)
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
        agreed = _common_length(distinct, key.order)
        return key.base + agreed - 1 if agreed == len(distinct) else UNPLACED

    def _longest_read(self, key: Key) -> int:
        """Row of the first transaction that read the key's longest list."""
        branch = max(key.branches, key=lambda b: len(set(b.value)))
        return self._first_to_see(branch, len(branch.value) - 1)

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

    def _look_for_intermediate_reads(self) -> None:
        """Reads that end where their last element's writer did not."""
        reads = self.reads
        suspect = self._is_inner[np.maximum(reads.version, NOTHING)]
        suspect[self._odd] = True
        for i in np.flatnonzero(suspect & ~reads.shows_own).tolist():
            read = self.read(i)
            element = read.value[-1]
            if element not in read.key.inner:
                continue
            writer = read.key.writer[element]
            if writer != read.row and self.findings.wants("G1b"):
                self._intermediate_read(read, element, writer)

    def _intermediate_read(self, read: Read, element: Hashable, writer: int) -> None:
        key = read.key
        text = (
            f"{self._name(read.row)} read key {show(key.name)} up to {show(element)}, "
            f"after which {self._name(writer)} itself appended more to it: it observed "
            "the middle of a transaction."
        )
        edge = self._observed(writer, read.row, key, element)
        self.findings.add(Finding("G1b", (read.row, writer), text, key.name, [edge]))

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
        if not any(element in key.failed for element in key.order):
            return
        for element in key.order:
            row = key.writer.get(element)
            if row is None:
                if element in key.failed:
                    failed = key.failed[element], element
            elif self.transactions.outcome[row] == t.Outcome.OK:
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

        Each element is blamed once, on the first transaction that read it.
        """
        blamed: set[tuple[int, Hashable]] = set()
        for branch in self._suspects():
            key = branch.key
            for place, element in enumerate(branch.value):
                if element not in key.writer and (id(key), element) not in blamed:
                    blamed.add((id(key), element))
                    name = "G1a" if element in key.failed else "garbage-read"
                    if type(element) is Copy and element not in key.failed:
                        name = "duplicate-elements"
                    if self.findings.wants(name):
                        self._unfounded_read(name, branch, place)

    def _suspects(self) -> Iterator[Branch]:
        """Branches in which there may be elements without a writer."""
        count = len(self._writers)
        bases = np.array([*self._bases, count], np.int64)
        unfounded = np.append(0, np.cumsum(self._writers == NOTHING))[bases]
        for key, is_suspect in zip(self._in_order, np.diff(unfounded), strict=True):
            for branch in key.branches:
                if is_suspect or branch.value != key.order:
                    yield branch

    def _unfounded_read(self, name: str, branch: Branch, place: int) -> None:
        key, element = branch.key, branch.value[place]
        row = self._first_to_see(branch, place)
        what = f"{self._name(row)} read {show(element)} in key {show(key.name)}"
        if name == "duplicate-elements":
            same = [e for e in branch.value[: place + 1] if plain(e) == plain(element)]
            text = f"{what} {len(same)} times, more often than it was ever appended."
            self.findings.add(Finding(name, (row,), text, key.name))
            return
        if name == "garbage-read":
            text = f"{what}, which no transaction ever appended."
            self.findings.add(Finding(name, (row,), text, key.name))
            return
        failed = key.failed[element]
        text = (
            f"{what}; {self._name(failed)} appended it, but failed, so nobody may ever "
            "see it."
        )
        edge = self._observed(failed, row, key, element)
        self.findings.add(Finding(name, (row, failed), text, key.name, [edge]))

    def _look_for_lost_updates(self) -> None:
        """Transactions that read one version of a key each, and appended to it."""
        reads = self.reads
        readers: dict[Hashable, list[int]] = defaultdict(list)
        for i in self._updates:
            row, branch, length = reads.one(i)
            key = self._branches[branch].key
            if length and key.writer.get(self._value(i)[-1]) == row:
                continue  # it saw its own append before it made it
            place: Hashable = int(reads.version[i])
            if place == NOTHING:
                place = key
            elif place == UNPLACED:
                place = (branch, length)
            readers[place].append(i)
        for group in readers.values():
            if len(group) > 1 and self.findings.wants("lost-update"):
                self._lost_update(sorted(map(self.read, group), key=_row))

    def _lost_update(self, group: list[Read]) -> None:
        rows = tuple(read.row for read in group)
        key = group[0].key.name
        names = show_all(list(map(self._name, rows)))
        text = (
            f"{names} read key {show(key)} as {show_list(group[0].value)} and then "
            "appended to it: whichever came last did not see the others' appends."
        )
        edges = [
            Reason(
                a, b, "rw", f"{self._name(a)} did not observe {self._name(b)}'s append"
            )
            for a, b in itertools.permutations(rows[:4], 2)
        ]
        self.findings.add(Finding("lost-update", rows, text, key, edges))

    def _look_for_lost_appends(self) -> None:
        """Acknowledged appends that are missing from some read on.

        That read was invoked after the append had returned, and after every read had
        that shows it. An append that is shown again later was not lost: what missed it
        was stale.
        """
        reads, branches = self.reads, self._branches
        key_of = self._keys_of_branches()
        start = np.asarray(self.transactions.start)[reads.row]
        latest = np.full(len(self._in_order), NOTHING, np.int64)
        np.maximum.at(latest, key_of[reads.branch], start)
        sizes = np.array([len(b.value) for b in branches], np.int64)
        bases = np.append(0, np.cumsum(sizes))
        shown = self._last_shown(sizes, bases)
        of_branch = np.repeat(np.arange(len(branches)), sizes)
        # What the latest read of its key shows needs no closer look.
        doubtful = shown < latest[key_of[of_branch]]
        doubtful |= np.array([len(b.key.branches) > 1 for b in branches])[of_branch]
        for branch in np.unique(of_branch[doubtful]).tolist():
            # A list may show an element again at a place that is in no doubt.
            value = branches[branch].value
            if len(set(value)) < len(value):
                doubtful[bases[branch] : bases[branch + 1]] = True
        last: dict[tuple[int, Hashable], int] = {}
        for i in np.flatnonzero(doubtful).tolist():
            branch = int(of_branch[i])
            which = int(key_of[branch]), branches[branch].value[i - int(bases[branch])]
            last[which] = max(last.get(which, NOTHING), int(shown[i]))
        for i, key in enumerate(self._in_order):
            # Most keys have one branch, in which nearly everything stands.
            if latest[i] != NOTHING and key.writer:
                for element in key.writer.keys() - self._read_of(key):
                    last[i, element] = NOTHING
        for (i, element), shown_last in last.items():
            key = self._in_order[i]
            row = key.writer.get(element)
            if row is None:
                continue
            since = max(self.transactions.end[row], shown_last)
            if since < latest[i] and self.findings.wants("lost-append"):
                of_key = np.flatnonzero(key_of[reads.branch] == i)
                after = of_key[start[of_key] > since]
                reader = self.read(int(after[np.argmin(start[after])]))
                self._lost_append(row, element, reader, len(after))

    def _last_shown(self, sizes: Column, bases: Column) -> Column:
        """For each place in each branch when the last read returned that shows it.

        Args:
            sizes: How long the branches are.
            bases: Where each one's places begin, and where the last one's end.
        """
        reads = self.reads
        shown = np.full(bases[-1], NOTHING, np.int64)
        some = np.flatnonzero(reads.length)
        at = bases[reads.branch[some]] + reads.length[some] - 1
        end = np.asarray(self.transactions.end)[reads.row]
        np.maximum.at(shown, at, end[some])
        # A longer list shows it too. Each branch is lifted above those behind it.
        lift = np.repeat(np.arange(len(sizes), 0, -1), sizes) * (2 * t.NEVER)
        return np.maximum.accumulate((shown + lift)[::-1])[::-1] - lift

    def _read_of(self, key: Key) -> set[Hashable]:
        """Every element that was read of a key."""
        return set().union(*(branch.value for branch in key.branches))

    def _lost_append(
        self, row: int, element: Hashable, reader: Read, misses: int
    ) -> None:
        key = reader.key
        name, other = self._name(row), self._name(reader.row)
        ops = self.transactions.ops
        text = (
            f"acknowledged append is missing: {name} appended {show(element)} to key "
            f"{show(key.name)} and returned ok (op {ops[row]}), but {other}, invoked "
            f"after that, read {show_list(reader.value)}"
        )
        text += f", and none of {misses} reads from then on has it" * (misses > 1)
        text += "."
        edges = [
            Reason(row, reader.row, "realtime", f"{name} had returned"),
            Reason(
                reader.row,
                row,
                "rw",
                f"{other} did not observe {name}'s append of {show(element)} to key "
                f"{show(key.name)}",
            ),
        ]
        self.findings.add(
            Finding("lost-append", (row, reader.row), text, key.name, edges)
        )

    def _list_accesses(self) -> tuple[Column, Column]:
        """Rows and the numbers of the keys that they read or appended to."""
        rows = [self.reads.row]
        keys = [self._keys_of_branches()[self.reads.branch]]
        for i, key in enumerate(self._in_order):
            rows.append(np.array(list(key.writer.values()), np.int64))
            keys.append(np.full(len(key.writer), i))
        pairs = np.unique([np.concatenate(rows), np.concatenate(keys)], axis=1)
        return pairs[0], pairs[1]

    def _keys_of_branches(self) -> Column:
        """Branch -> number of its key."""
        number = {id(key): i for i, key in enumerate(self._in_order)}
        return np.array([number[id(b.key)] for b in self._branches], np.int64)

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

        reads = self.reads
        placed = np.flatnonzero(~reads.shows_own & (reads.version != UNPLACED))
        rows, branch = reads.row[placed], reads.branch[placed]
        keys = [b.key for b in self._branches]
        start = np.array([key.base for key in keys], np.int64)[branch]
        end = start + np.array([len(key.order) for key in keys], np.int64)[branch]
        unseen = np.maximum(reads.version[placed] + 1, start)
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
        tail = np.flatnonzero(~followed)
        yield self._on_unread(known, rows[tail], branch[tail])

    def _unplaced(self) -> Iterator[Read]:
        """Reads out of the version order, but of what the transaction appended."""
        reads = self.reads
        unplaced = ~reads.shows_own & (reads.version == UNPLACED)
        return map(self.read, np.flatnonzero(unplaced).tolist())

    def _of_unplaced_reads(self) -> Edges:
        """A read out of order depends on whom it read last, at any rate."""
        sources, targets, via = [], [], []
        for read in self._unplaced():
            sources.append(read.key.writer.get(read.value[-1], NOTHING))
            targets.append(read.row)
            via.append(self._number(read.key, read.value[-1]))
        return _edges(Kind.WR, sources, targets, via)

    def _on_unread(self, known: Column, rows: Column, branches: Column) -> Edges:
        """What is in no list came after all that is in the longest.

        A transaction whose outcome nobody knows, and of which nothing was read, may not
        have happened. Nothing can depend on it, so it may as well be left out.

        Args:
            known: Versions with a writer.
            rows: Transactions that read all of a key's versions that were ever read.
            branches: Where they did.
        """
        happened = set(self._writers[known].tolist())
        happened |= {r.key.writer.get(r.value[-1], NOTHING) for r in self._unplaced()}
        per_key = np.diff(np.searchsorted(known, [*self._bases, len(self._writers)]))
        unread = {
            id(key): key
            for key, count in zip(self._in_order, per_key.tolist(), strict=True)
            if len(key.writer) > count
        }
        readers: dict[int, list[int]] = defaultdict(list)
        concerned = np.array([id(b.key) in unread for b in self._branches], np.bool_)
        for i in np.flatnonzero(concerned[branches]).tolist():
            key = self._branches[int(branches[i])].key
            readers[id(key)].append(int(rows[i]))
        ww: tuple[list[int], list[int], list[int]] = [], [], []
        rw: tuple[list[int], list[int], list[int]] = [], [], []
        for key in unread.values():
            in_order = set(key.order)
            last = next((e for e in reversed(key.order) if e in key.writer), NOBODYS)
            for element, row in key.writer.items():
                if element in in_order:
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
                    (ww, [] if last is NOBODYS else [key.writer[last]]),
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
        wanted = question.anomalies & _OF_SESSIONS
        if question.is_about_sessions and wanted and not self._satisfies(question):
            sessions = session_edges(self.transactions)
            versioned = _Versioned(self)
            weak.judge(versioned, self.findings, wanted, sessions, pause)
            guarantees.judge(versioned, self.findings, wanted, pause)
        found = found.union(self.findings.counts)
        if not found & question.anomalies and self._unread:
            self._eliminate(question, pause)

    def _satisfies(self, question: Question) -> bool:
        """Whether the strictest model asked for holds, by its own axiom.

        If not, or nobody can tell so, there is a closer look at what is wrong.
        """
        level = LEVELS.get(question.strictest) if question.is_of_models else None
        if level is None or self.findings.counts.keys() - _OF_UPDATES:
            return False
        accesses = self._accesses()
        return accesses is not None and accesses.satisfies(level, self._pause)

    def _accesses(self) -> Accesses | None:
        """Who read and wrote what; None where some list is out of order."""
        transactions, reads = self.transactions, self.reads
        outcome = np.asarray(transactions.outcome)
        is_certain = transactions.has_realtime or (outcome != t.Outcome.INFO).all()
        from_others = ~reads.shows_own
        version, reader = reads.version[from_others], reads.row[from_others]
        if not is_certain or self._assignment or (version == UNPLACED).any():
            return None
        writer = np.append(self._writers, NOTHING)[version]
        if ((writer == NOTHING) & (version != NOTHING)).any() or (
            writer == reader
        ).any():
            return None
        count = len(self._in_order)
        writes = (
            row * count + i
            for i, key in enumerate(self._in_order)
            for row in key.writer.values()
        )
        codes = np.unique(np.fromiter(writes, np.int64))
        orders = self.dependencies.where(self.dependencies.kind == Kind.WW)
        return Accesses(
            outcome=outcome,
            process=np.asarray(transactions.process),
            guess=likely_order(transactions),
            keys=count,
            reader=reader,
            key=self._keys_of_branches()[reads.branch[from_others]],
            writer=writer,
            by=codes // count,
            to=codes % count,
            low=orders.source,
            high=orders.target,
        )

    def _eliminate(self, question: Question, pause: Callable[[], None]) -> None:
        """Look for an order of what was never read, for snapshot isolation.

        Any order of unread elements that other dependencies leave will do for
        serializability. Snapshot isolation may leave none, the parallel one neither:
        one of two transactions that append to one key has to see what the other did.
        """
        writes = Writes(self._unread, self._unread_by, {}, self._note)
        asked = all_questions(question.anomalies) if writes.choices() else []
        # Nothing was found: it is serializable, and isolated with it.
        settled = max((part.level for part in asked if part.serial), default=-1)
        for part in asked:
            if part.serial or part.level <= settled:
                continue
            polygraph = Polygraph(
                self.transactions, self, self.dependencies, writes, part, pause
            )
            if not polygraph.is_small:
                continue
            contradiction, _ = polygraph.prune()
            if contradiction is None:
                settled = part.level  # and what is weaker is with it
            elif self.findings.wants(contradiction.name):
                self.findings.add(contradiction)
        if open_to := _OPEN_TO_EVENTS & question.anomalies:
            covered = {"G-monotonic": asked}
            covered["G-MSR"] = [part for part in asked if not part.parallel]
            covered["G-update"] = [part for part in asked if part.serial]
            if not all(covered[name] for name in open_to):
                self.remark = self._open_order(writes)

    def _open_order(self, writes: Writes) -> str:
        """An order of unread appends that might matter, in a clause; empty if none.

        Where two transactions are not in one component, one order closes no cycle.
        """
        group = np.arange(len(self.transactions))
        edges, start = self.dependencies, np.asarray(self.transactions.start)
        for members in components(edges.source, edges.target, start):
            group[members] = members[0]
        for choice in writes.choices():
            a, b = (writes.writer[version] for version in choice)
            if group[a] == group[b]:
                key, _ = self._version(choice.a)
                return (
                    "the order in which some keys were appended to stays open, such as "
                    f"that of {self._name(a)} and {self._name(b)} for key "
                    f"{show(key.name)}, and each may show what reads missed"
                )
        return ""

    # What dependencies are about

    def script(self, _row: int, micro_ops: t.MicroOps) -> Script:
        """See `Unfolds.script`; a list read stands for the last append known in it."""
        script = Script()
        for place, (f, name, value) in enumerate(micro_ops):
            if f == "append":
                script.writes[name, value] = place
            else:
                script.read((name, self._last_known(name, value or ())), place)
        return script

    def about(self, kind: Kind, via: int) -> tuple[Hashable, Hashable]:
        """See `Unfolds.about`."""
        key, element = self._version(via)
        if kind != Kind.RW:
            return key.name, element
        at = via - key.base if via < len(self._writers) else len(key.order)
        return key.name, self._last_known(key.name, key.order[:at])

    def _last_known(self, name: Hashable, value: Sequence[Any]) -> Hashable:
        """The last element of a list that somebody is known to have appended."""
        writer = self.keys[name].writer
        return next((e for e in reversed(value) if e in writer), NOBODYS)

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
        self.shown: list[tuple[int, int]] = []
        numbers: dict[tuple[Hashable, Hashable], int] = {}
        for name, key in appends.keys.items():
            numbers[name, NOBODYS] = self._number(name, None, NOTHING)
            order = {element: i for i, element in enumerate(key.order)}
            last = len(order)
            for element in sorted(key.writer, key=lambda e: order.get(e, last)):
                row = key.writer[element]
                value = NIL if element is None else element
                numbers[name, element] = version = self._number(name, value, row)
                if element not in key.inner:
                    self.writes[row][name] = version
            self.shown += self._shown(key, numbers)
        others = np.flatnonzero(~appends.reads.shows_own).tolist()
        in_order = sorted(
            [(i, 1, i) for i in others]
            + [(when, 0, i) for when, i in appends.reads.repeated]
        )
        for _, is_first, i in in_order:
            read = appends.read(i)
            element = read.value[-1] if read.value else NOBODYS
            version = numbers.get((read.key.name, element), NOTHING)
            if version != NOTHING:
                self.reads.append(weak.Read(read.row, version, again=not is_first))

    def _shown(
        self, key: Key, numbers: dict[tuple[Hashable, Hashable], int]
    ) -> Iterator[tuple[int, int]]:
        """Versions next to each other; what was never read comes after the last."""
        known = [numbers[key.name, e] for e in key.order if (key.name, e) in numbers]
        yield from itertools.pairwise(known)
        read = set(key.order)
        for element in key.writer if known else ():
            if element not in read:
                yield known[-1], numbers[key.name, element]

    def _number(self, key: Hashable, value: Any, writer: int) -> int:
        self.key_of.append(key)
        self.value_of.append(value)
        self.writer.append(writer)
        return len(self.writer) - 1


def _row(read: Read) -> int:
    return read.row


def _common_length(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many elements two lists have in common from their beginning on."""
    shorter = min(len(a), len(b))
    if a[:shorter] == b[:shorter]:
        return shorter
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def _edges(kind: Kind, sources: list[int], targets: list[int], via: list[int]) -> Edges:
    return edges_of(
        kind,
        np.array(sources, np.int64),
        np.array(targets, np.int64),
        np.array(via, np.int64),
    )


def _frozen(f: str, value: Any) -> Any:
    """The value of a micro-operation as `Transactions.normalise` wants it."""
    if f == "append":
        return freeze(value)
    if value is not None and not isinstance(value, list | tuple):
        raise ValueError("a read returns a list")
    return [freeze(element) for element in value or ()]
