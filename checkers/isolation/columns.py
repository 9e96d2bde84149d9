"""What the transactions of a history of registers did, as columns of numbers.

A million micro-operations are a hundred megabytes of Python objects, and take seconds
to walk through one by one. As columns they are sorted and compared all at once. This
works for ordinary histories: keys and values are numbers or text, and each value was
written to its key by one transaction. All other histories are left to
`checkers.isolation.registers`.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from checkers.isolation.accesses import Accesses
from checkers.isolation.graph import NOTHING, STEP
from checkers.isolation.transactions import NEVER, PAUSE_EVERY, SIMPLE, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from checkers.isolation.graph import Column, Mask
    from checkers.isolation.transactions import MicroOps, Transactions


def accesses_of(
    transactions: Transactions, pause: Callable[[], None], *, repeatable: bool
) -> Accesses | None:
    """Who read and wrote what. Cost: n log n.

    Args:
        transactions: The history.
        pause: Called now and then; may raise.
        repeatable: Whether it is wrong to read two versions of a key.

    Returns:
        None if columns can't tell, or if some single read or transaction is wrong;
        `checkers.isolation.registers` then says which.
    """
    told = _scan(transactions, pause)
    if told is None:
        return None
    outcome = np.asarray(transactions.outcome)
    if not transactions.has_realtime and (outcome == Outcome.INFO).any():
        return None  # nobody can tell what came before it
    return _Scanned(told, outcome).accesses(transactions, repeatable=repeatable)


class _Told(NamedTuple):
    """All micro-operations, in the order of rows.

    Attributes:
        row: The transaction.
        is_read: Whether it is a read; else it is a write.
        key, value: Numbers of these.
        keys, values: How many there are; the value nil comes first.
    """

    row: Column
    is_read: Mask
    key: Column
    value: Column
    keys: int
    values: int


NIL = 0
"""Number of the value nil."""


def _scan(transactions: Transactions, pause: Callable[[], None]) -> _Told | None:
    """All micro-operations as columns; None if they are not all of the simple kind."""
    keys: defaultdict[Any, int] = defaultdict(itertools.count().__next__)
    values: defaultdict[Any, int] = defaultdict(itertools.count().__next__)
    assert values[None] == NIL
    parts = []
    for some in _chunks(transactions.micro_ops()):
        pause()
        rows, done = zip(*some, strict=True)
        if not _are_lists(done):
            return None
        micro_ops = list(itertools.chain.from_iterable(done))
        if not _are_lists(micro_ops):
            return None
        if not micro_ops:
            continue
        if set(map(len, micro_ops)) != {3}:
            return None
        fs, ks, vs = zip(*micro_ops, strict=True)
        is_simple = SIMPLE.issuperset({*map(type, fs), *map(type, ks), *map(type, vs)})
        if not is_simple or not {"r", "w"}.issuperset(fs):
            return None
        count = len(micro_ops)
        parts.append(
            (
                np.repeat(rows, np.fromiter(map(len, done), np.int64)),
                np.fromiter(map("r".__eq__, fs), np.bool_, count),
                np.fromiter(map(keys.__getitem__, ks), np.int64, count),
                np.fromiter(map(values.__getitem__, vs), np.int64, count),
            )
        )
    if not parts:
        return None
    row, is_read, key, value = map(np.concatenate, zip(*parts, strict=True))
    if (row[1:] < row[:-1]).any():
        order = np.argsort(row, kind="stable")
        row, is_read, key, value = row[order], is_read[order], key[order], value[order]
    return _Told(row, is_read, key, value, len(keys), len(values))


def _chunks(
    transactions: Iterable[tuple[int, MicroOps]],
) -> Iterator[list[tuple[int, MicroOps]]]:
    rest = iter(transactions)
    while some := list(itertools.islice(rest, PAUSE_EVERY)):
        yield some


def _are_lists(items: Iterable[Any]) -> bool:
    """Whether they are not text or maps, which can be taken apart as well."""
    return {list, tuple}.issuperset(map(type, items))


class _Scanned:
    """Micro-operations, and the versions that they are about."""

    def __init__(self, told: _Told, outcome: Column) -> None:
        self.told = told
        self.outcome = outcome
        of_row = outcome[told.row]
        self.is_read = told.is_read & (of_row == Outcome.OK)
        self.is_write = ~told.is_read & (of_row != Outcome.FAIL)
        codes, self.version = np.unique(
            told.key * told.values + told.value, return_inverse=True
        )
        self.is_nil = codes % told.values == NIL
        wrote = np.flatnonzero(self.is_write)
        self.writer = np.full(len(codes), NOTHING, np.int64)
        self.writer[self.version[wrote[::-1]]] = told.row[wrote[::-1]]
        last = np.full(len(codes), NOTHING, np.int64)
        last[self.version[wrote]] = told.row[wrote]
        self.are_unique = bool((last == self.writer).all())

    def accesses(
        self, transactions: Transactions, *, repeatable: bool
    ) -> Accesses | None:
        """The columns that `accesses_of` returns, or None for the same reasons."""
        told = self.told
        if not self.is_read.any() or not self.are_unique:
            return None
        if (self.writer[self.is_nil] != NOTHING).any():
            return None
        by, to, is_final = self._writes()
        read = self._reads()
        if read is None:
            return None
        reader, key, version = told.row[read], told.key[read], self.version[read]
        writer = self.writer[version]
        is_nil = self.is_nil[version]
        is_right = is_nil | (
            (writer != NOTHING) & (writer != reader) & is_final[version]
        )
        if not is_right.all():
            return None
        if repeatable:
            groups = reader * told.keys + key
            order = np.argsort(groups, kind="stable")
            same_group = groups[order][1:] == groups[order][:-1]
            differs = version[order][1:] != version[order][:-1]
            if (same_group & differs).any():
                return None
        nothing = np.zeros(0, np.int64)
        return Accesses(
            outcome=self.outcome,
            process=np.asarray(transactions.process),
            guess=likely_order(transactions),
            keys=told.keys,
            reader=reader,
            key=key,
            writer=writer,
            by=by,
            to=to,
            low=nothing,
            high=nothing,
        )

    def _writes(self) -> tuple[Column, Column, Mask]:
        """Rows and keys, each pair once, and which versions were left there."""
        told = self.told
        some = np.flatnonzero(self.is_write)
        codes = told.row[some] * told.keys + told.key[some]
        order = np.argsort(codes, kind="stable")
        codes = codes[order]
        last = np.append(codes[1:] != codes[:-1], True)[: len(codes)]
        is_final = np.zeros(len(self.writer), np.bool_)
        is_final[self.version[some[order[last]]]] = True
        return codes[last] // told.keys, codes[last] % told.keys, is_final

    def _reads(self) -> Column | None:
        """Positions of the reads of what other transactions wrote.

        None if a transaction that had written a key then read another value from it.
        """
        told = self.told
        some = np.flatnonzero(self.is_read | self.is_write)
        some = some[self.outcome[told.row[some]] == Outcome.OK]
        codes = told.row[some] * told.keys + told.key[some]
        order = np.argsort(codes, kind="stable")
        some, codes = some[order], codes[order]
        begins = np.append(True, codes[1:] != codes[:-1])[: len(codes)]
        number = np.arange(len(some))
        begin = np.maximum.accumulate(np.where(begins, number, 0))
        own = np.maximum.accumulate(np.where(self.is_write[some], number, NOTHING))
        is_read = self.is_read[some]
        is_own = is_read & (own >= begin)
        if (self.version[some[own[is_own]]] != self.version[some[is_own]]).any():
            return None
        return np.sort(some[is_read & ~is_own])


def likely_order(transactions: Transactions) -> Column:
    """Row -> a number that rises along a likely order of commits.

    Without real time, a transaction's place is the part of its session that lies before
    it.
    """
    if transactions.has_realtime:
        end, start = np.asarray(transactions.end), np.asarray(transactions.start)
        return np.where(end == NEVER, start, end) * STEP
    _, session = np.unique(np.asarray(transactions.process), return_inverse=True)
    in_order = np.argsort(session, kind="stable")
    length = np.bincount(session)
    begin = np.cumsum(length) - length
    nth = np.empty(len(session), np.int64)
    nth[in_order] = np.arange(len(session)) - begin[session[in_order]]
    part = nth * int(length.max()) // length[session]
    return part * STEP
