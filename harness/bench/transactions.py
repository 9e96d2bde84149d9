"""Seeded histories of transactions with a known verdict, to measure checkers on.

Clients and their timetable are those of `harness.bench.histories`. Each transaction
takes effect at one moment between its invocation and its completion, so the history is
strictly serializable by construction. It is made of a few micro-operations, half of
them reads; keys are written so many times and then give way to new ones, as in Jepsen's
workloads, so that lists stay short.

Some transactions fail, and have no effect; some crash, and half of these have.

A planted violation makes a few late reads stale: they show a state of their key that
was replaced before the transaction began.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.bench.histories import LATENCY_S, NODES, PLANTED_AT, Shape, timetable
from harness.history import Op

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.history import OpType

TransactionKind = Literal["list-append", "rw-register"]

STALE_TRANSACTIONS = 20
STALE_BY = 25
"""Versions that a stale read is behind."""


@dataclass(frozen=True)
class TransactionShape:
    """What kind of history to make; the same shape gives the same history.

    Attributes:
        kind: The checker that judges it.
        transactions: Each has an invocation and a completion.
        clients: How many have a transaction in flight at a time.
        keys: Keys in use at a time.
        writes_per_key: After so many a key gives way to a new one.
        length_max: Micro-operations of a transaction; at least one.
        fail, crash: The chances that a transaction fails, or never returns.
        planted: Make some reads stale.
        seed: Every choice comes from it.
    """

    kind: TransactionKind
    transactions: int
    clients: int = 20
    keys: int = 30
    writes_per_key: int = 100
    length_max: int = 5
    fail: float = 0.02
    crash: float = 0.005
    planted: bool = False
    seed: int = 1


def generate(shape: TransactionShape) -> Iterator[Op]:
    """The ops of a history, in order; about 100,000 transactions in 2 s."""
    count = shape.transactions
    times = timetable(
        Shape("register", count, shape.clients, crash=shape.crash, seed=shape.seed),
        np.random.default_rng(shape.seed),
    )
    moments = np.concatenate([times.invoked, times.effect, times.returned])
    order = np.argsort(moments, kind="stable")
    order = order[np.isfinite(moments[order])]
    process, crashed = times.process.tolist(), times.crashed.tolist()
    database = _Database(shape)
    asked: dict[int, list[Any]] = {}
    done: dict[int, list[Any]] = {}
    index = 0
    for event in order.tolist():
        phase, i = divmod(event, count)
        if phase == 0:
            asked[i] = database.draw()
            kind: OpType = "invoke"
            value = asked[i]
        elif phase == 1:
            # A crashed call may take effect after its client has given up.
            if database.fails(i, crashed=crashed[i]):
                continue
            done[i] = database.apply(asked[i], stale=database.is_stale(i))
            if crashed[i]:
                del done[i]
            continue
        else:
            kind = "info" if crashed[i] else "ok" if i in done else "fail"
            value = done.pop(i, asked[i])
            if not crashed[i]:
                del asked[i]
        yield Op(
            index,
            int(moments[event] * LATENCY_S * 1e9),
            process[i],
            kind,
            "txn",
            value,
            error="timeout" if kind == "info" else None,
            node=f"n{process[i] % shape.clients % NODES + 1}",
        )
        index += 1


class _Database:
    """Keys and their states, and the dice."""

    def __init__(self, shape: TransactionShape) -> None:
        self._shape = shape
        self._rng = random.Random(shape.seed)
        self._write = "append" if shape.kind == "list-append" else "w"
        self._names = list(range(shape.keys))
        self._written = [0] * shape.keys
        self._next_name = shape.keys
        self._versions: dict[int, list[int]] = {}

    def draw(self) -> list[Any]:
        """What a transaction asks for."""
        rng = self._rng
        asked: list[Any] = []
        for _ in range(rng.randint(1, self._shape.length_max)):
            at = int(rng.random() * self._shape.keys)
            if rng.random() < 0.5:
                asked.append(["r", self._names[at], None])
                continue
            self._written[at] += 1
            asked.append([self._write, self._names[at], self._written[at]])
            if self._written[at] == self._shape.writes_per_key:
                self._names[at], self._written[at] = self._next_name, 0
                self._next_name += 1
        return asked

    def fails(self, i: int, *, crashed: bool) -> bool:
        """Whether transaction `i` fails."""
        return not crashed and self._rng.random() < self._shape.fail

    def is_stale(self, i: int) -> bool:
        """Whether transaction `i` is one whose reads are to be stale."""
        late = int(PLANTED_AT * self._shape.transactions)
        return self._shape.planted and late <= i < late + STALE_TRANSACTIONS

    def apply(self, asked: list[Any], *, stale: bool) -> list[Any]:
        """Let a transaction happen; what it did and read."""
        done: list[Any] = []
        for f, key, value in asked:
            versions = self._versions.setdefault(key, [])
            if f != "r":
                versions.append(value)
                done.append([f, key, value])
                continue
            seen = len(versions)
            if stale and seen > STALE_BY:
                seen -= STALE_BY
            if self._write == "append":
                done.append([f, key, versions[:seen]])
            else:
                done.append([f, key, versions[seen - 1] if seen else None])
        return done
