"""One pass over all micro-operations: what was read, and who appended what.

On the way each committed transaction is compared with itself: its reads have to fit its
earlier operations. A long history spends most of its time here, so ordinary reads and
appends take the shortest way through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkers.findings import Findings
from checkers.isolation import transactions as t
from checkers.isolation.appends.lists import FUNCTIONS, NOBODYS, Lists
from checkers.isolation.evidence import FutureRead, OwnAppendShown, UnlikeOwnList
from checkers.linearizability.specification import freeze

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from checkers.isolation.appends.lists import Branch, Key
    from checkers.isolation.evidence import Evidence

_EMPTY: list[Any] = []


def scan(
    transactions: t.Transactions,
    pause: Callable[[], None],
    *,
    own_writes_show: bool,
) -> tuple[Lists, Findings[Evidence]]:
    """What was read and appended, and what is wrong within single transactions.

    Args:
        transactions: The history.
        pause: Called now and then; may raise.
        own_writes_show: Whether a transaction reads what it appended itself, or keeps
            to its snapshot.

    Raises:
        HistoryError: It is no history of appends and reads.

    Cost: linear in all elements read. Only the longest lists are kept.
    """
    work = _Scan(transactions, own_writes_show=own_writes_show)
    try:
        work.run(pause)
    except (TypeError, ValueError):
        transactions.normalise(FUNCTIONS, _frozen)
        work = _Scan(transactions, own_writes_show=own_writes_show)
        work.run(pause)
    work.lists.reads.close()
    return work.lists, work.findings


class _Scan:
    """The pass. Raises TypeError or ValueError if values have to be frozen first."""

    def __init__(self, transactions: t.Transactions, *, own_writes_show: bool) -> None:
        self.transactions = transactions
        self.own_writes_show = own_writes_show
        self.is_frozen = transactions.is_frozen
        self.lists = Lists(transactions)
        self.findings: Findings[Evidence] = Findings()

    def run(self, pause: Callable[[], None]) -> None:
        """Look at each transaction once."""
        outcome, ok = self.transactions.outcome, int(t.Outcome.OK)
        for count, (row, micro_ops) in enumerate(self.transactions.micro_ops()):
            if outcome[row] == ok:
                self._committed(row, micro_ops)
            else:
                self._attempted(row, micro_ops)
            if not count % t.PAUSE_EVERY:
                pause()

    def _committed(self, row: int, micro_ops: t.MicroOps) -> None:
        """A transaction that surely happened: what it read, and what it appended."""
        keys, reads, is_frozen = self.lists.keys, self.lists.reads, self.is_frozen
        simple, shows = t.SIMPLE, self.own_writes_show
        last: dict[Hashable, tuple[int, int, list[list[Any]]]] = {}
        mine: dict[Hashable, list[Any]] = {}
        for micro_op in micro_ops:
            if type(micro_op) is not list and type(micro_op) is not tuple:
                raise TypeError  # text and maps can be taken apart as well
            f, name, value = micro_op
            if type(name) not in simple and not is_frozen:
                raise ValueError
            try:
                key = keys[name]
            except KeyError:
                key = self.lists.new_key(name)
            if f == "r":
                if value is None:
                    value = _EMPTY
                elif type(value) is not list:
                    if not isinstance(value, tuple):
                        raise TypeError
                    value = list(value)
                branch = key.branches[0]
                if not branch.takes(value, is_frozen):
                    branch = self._other_branch(key, value)
                own = mine.get(name, _EMPTY) if mine and shows else _EMPTY
                shows_own = bool(own) and value[-len(own) :] == own
                if name not in last:
                    is_right, expected, shown = shows_own or not own, own, [value]
                else:
                    before, appended, shown = last[name]
                    expected = self.lists.value(before) + own[appended:]
                    is_right = value == expected
                    if is_right and not own:
                        if len(last) > 1:
                            reads.repeated.append((len(reads), before))
                        continue
                    shown.append(value)
                if not is_right:
                    self._unlike_own(row, name, value, expected)
                elif not shows and name in mine:
                    self._check_snapshot(row, name, value, mine[name])
                last[name] = len(reads.rows), len(own), shown
                reads.rows.append(row)
                reads.branches.append(branch.number)
                reads.lengths.append(len(value))
                reads.own.append(shows_own)
            elif f == "append":
                if type(value) in simple and value not in key.writer and not key.failed:
                    key.writer[value] = row
                else:
                    self._wrote(row, key, value)
                if name in last and any(value in early for early in last[name][2]):
                    self.findings.note(
                        FutureRead("future-read", (row,), name, value, "append")
                    )
                if name in mine:
                    key.inner[mine[name][-1]] = value
                    mine[name].append(value)
                    continue
                mine[name] = [value]
                if name in last:
                    self.lists.updates.append(last[name][0])
            else:
                raise ValueError
        if last:
            self.lists.has_reads = True

    def _attempted(self, row: int, micro_ops: t.MicroOps) -> None:
        """A transaction that failed, or of unknown outcome: what it tried to do."""
        failed = self.transactions.outcome[row] == t.Outcome.FAIL
        mine: dict[Hashable, Any] = {}
        for micro_op in micro_ops:
            if type(micro_op) is not list and type(micro_op) is not tuple:
                raise TypeError
            f, name, element = micro_op
            if f == "append":
                if type(name) not in t.SIMPLE and not self.is_frozen:
                    raise ValueError
                key = self.lists.keys.get(name) or self.lists.new_key(name)
                if failed:
                    self._failed_to_write(row, key, element)
                    continue
                self._wrote(row, key, element)
                if name in mine:
                    key.inner[mine[name]] = element
                mine[name] = element
            elif f != "r":
                raise ValueError

    def _other_branch(self, key: Key, value: list[Any]) -> Branch:
        """The branch of a list that is not of the first one."""
        for branch in key.branches[1:]:
            if branch.takes(value, self.is_frozen):
                return branch
        branch = self.lists.new_branch(key)
        branch.takes(value, self.is_frozen)
        return branch

    def _wrote(self, row: int, key: Key, element: Hashable) -> None:
        if type(element) not in t.SIMPLE and not self.is_frozen:
            raise ValueError
        if element not in key.writer:
            key.writer[element] = row
            if element in key.failed:
                self.lists.repeated[key.name, element] = None
        elif (
            self.transactions.has_realtime
            or self.transactions.outcome[row] != t.Outcome.INFO
        ):
            self.lists.repeated[key.name, element] = None
        # Otherwise it is an open call, and its completion may be the other append.

    def _failed_to_write(self, row: int, key: Key, element: Hashable) -> None:
        if type(element) not in t.SIMPLE and not self.is_frozen:
            raise ValueError
        if element in key.failed or element in key.writer:
            self.lists.repeated[key.name, element] = None
        key.failed[element] = row

    def _unlike_own(
        self, row: int, name: Hashable, value: list[Any], expected: list[Any]
    ) -> None:
        # A copy, as the transaction's own appends may be among what is expected.
        found = UnlikeOwnList("internal", (row,), name, value, list(expected))
        self.findings.note(found)

    def _check_snapshot(
        self, row: int, name: Hashable, value: list[Any], mine: list[Any]
    ) -> None:
        """A transaction that keeps to its snapshot must not see its own appends."""
        own = next((element for element in mine if element in value), NOBODYS)
        if own is not NOBODYS:
            self.findings.note(OwnAppendShown("internal", (row,), name, own))


def _frozen(f: str, value: Any) -> Any:
    """The value of a micro-operation as `Transactions.normalise` wants it."""
    if f == "append":
        return freeze(value)
    if value is not None and not isinstance(value, list | tuple):
        raise ValueError("a read returns a list")
    return [freeze(element) for element in value or ()]
