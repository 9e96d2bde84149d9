"""Seeded histories of transactions with a known verdict, to measure checkers on.

Clients and their timetable are those of `harness.bench.histories`. Each transaction
takes effect at one moment between its invocation and its completion, so the history is
strictly serializable by construction. A transaction has a few micro-operations, half of
them reads. A key is written a number of times and then replaced by a new one, as in
Jepsen's workloads, so that lists stay short.

Some transactions fail, and have no effect; some crash, and half of these have an
effect.

Registers may be in a weaker store. It has a few replicas, each of which takes in the
writes of the others some time later. Of two writes of a key the one with the higher
stamp stays, in Lamport's order, so that replicas agree in the end. Such a store is

- causal, if a client keeps to its replica, and a transaction arrives after all that it
  had seen;
- read atomic, if transactions arrive whole, in any order;
- read committed, if in addition a client may use another replica each time, and
  transactions may arrive between two reads of a transaction.

A planted violation makes a few late reads stale: they show a state of their key that
was replaced before the transaction began.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.bench.histories import LATENCY_S, NODES, PLANTED_AT, Shape, timetable
from harness.history import Op

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.history import OpType

TransactionKind = Literal["list-append", "rw-register"]
Store = Literal["serial", "causal", "read-atomic", "read-committed"]

REPLICAS = 3
LATE = 20
"""Transactions among which the next to arrive is drawn, if they come in any order."""
BETWEEN_READS = 0.3
"""The chance that a transaction arrives between two reads, if the store allows it."""

STALE_TRANSACTIONS = 20
STALE_BY = 25
"""Versions that a stale read is behind."""


@dataclass(frozen=True)
class TransactionShape:
    """The shape of a history; the same shape gives the same history.

    Attributes:
        kind: The checker that judges it.
        transactions: Their number; each has an invocation and a completion.
        clients: How many clients have a transaction in flight at a time.
        keys: How many keys are in use at a time.
        writes_per_key: After this many writes a key is replaced by a new one.
        length_max: Most micro-operations of a transaction; the least are one.
        fail, crash: The chances that a transaction fails, or never returns.
        planted: Whether some reads are stale; only in a serial store.
        seed: Every random choice comes from it.
        store: The isolation of transactions; only registers have others than serial.
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
    store: Store = "serial"


def generate(shape: TransactionShape) -> Iterator[Op]:
    """The ops of a history, in order. Cost: about 2 s for 100,000 transactions."""
    count = shape.transactions
    times = timetable(
        Shape("register", count, shape.clients, crash=shape.crash, seed=shape.seed),
        np.random.default_rng(shape.seed),
    )
    moments = np.concatenate([times.invoked, times.effect, times.returned])
    order = np.argsort(moments, kind="stable")
    order = order[np.isfinite(moments[order])]
    process, crashed = times.process.tolist(), times.crashed.tolist()
    database = _Database(shape) if shape.store == "serial" else _Replicas(shape)
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
            # A crashed transaction may take effect after its client has given up.
            if database.fails(i, crashed=crashed[i]):
                continue
            client = process[i] % shape.clients
            done[i] = database.apply(asked[i], client, stale=database.is_stale(i))
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
    """Keys and their states, and the random source."""

    def __init__(self, shape: TransactionShape) -> None:
        self._shape = shape
        self._rng = random.Random(shape.seed)
        self._write = "append" if shape.kind == "list-append" else "w"
        self._names = list(range(shape.keys))
        self._written = [0] * shape.keys
        self._next_name = shape.keys
        self._versions: dict[int, list[int]] = {}

    def draw(self) -> list[Any]:
        """The micro-operations of a transaction, without answers."""
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
        """Whether the reads of transaction `i` are to be stale."""
        late = int(PLANTED_AT * self._shape.transactions)
        return self._shape.planted and late <= i < late + STALE_TRANSACTIONS

    def apply(self, asked: list[Any], client: int, *, stale: bool) -> list[Any]:
        """Apply a transaction; returns its micro-operations with answers."""
        del client  # all clients see the same state
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


@dataclass
class _Commit:
    """A transaction on its way to another replica.

    Attributes:
        seen: How many transactions of each replica it had seen.
        stamp: Its place in Lamport's order.
        wrote: Key -> the value that it wrote.
    """

    seen: list[int]
    stamp: tuple[int, int]
    wrote: dict[int, int]


class _Replicas(_Database):
    """A store of replicas, with the isolation of the shape."""

    def __init__(self, shape: TransactionShape) -> None:
        super().__init__(shape)
        self._state: list[dict[int, tuple[tuple[int, int], int]]] = [
            {} for _ in range(REPLICAS)
        ]
        self._clock = [0] * REPLICAS
        self._clock_of_client = [0] * shape.clients
        self._seen = [[0] * REPLICAS for _ in range(REPLICAS)]
        self._coming: list[list[deque[_Commit]]] = [
            [deque() for _ in range(REPLICAS)] for _ in range(REPLICAS)
        ]

    def apply(self, asked: list[Any], client: int, *, stale: bool) -> list[Any]:
        """Apply a transaction at one replica; returns its operations with answers."""
        assert not stale, "of weak stores, stale reads may be expected"
        rng, store = self._rng, self._shape.store
        at = client % REPLICAS
        if store == "read-committed":
            at = rng.randrange(REPLICAS)
        # Some definitions ask for commits in session order, so stamps follow it.
        self._clock[at] = max(self._clock[at], self._clock_of_client[client])
        done: list[Any] = []
        wrote: dict[int, int] = {}
        for f, key, value in asked:
            if store == "read-committed" and rng.random() < BETWEEN_READS:
                self._receive(at)
            if f != "r":
                wrote[key] = value
                done.append([f, key, value])
                continue
            _, found = self._state[at].get(key, (None, None))
            done.append([f, key, wrote.get(key, found)])
        if wrote:
            self._commit(at, wrote)
        self._clock_of_client[client] = self._clock[at]
        for _ in range(REPLICAS):
            self._receive(rng.randrange(REPLICAS))
        return done

    def _commit(self, at: int, wrote: dict[int, int]) -> None:
        commit = _Commit(list(self._seen[at]), (self._clock[at] + 1, at), wrote)
        self._take_in(at, commit)
        self._seen[at][at] += 1
        for other in range(REPLICAS):
            if other != at:
                self._coming[other][at].append(commit)

    def _receive(self, at: int) -> None:
        """Have one of the transactions arrive that may, if there is any."""
        rng = self._rng
        coming = [other for other in range(REPLICAS) if self._coming[at][other]]
        if not coming:
            return
        other = rng.choice(coming)
        queue = self._coming[at][other]
        if self._shape.store == "causal":
            seen = self._seen[at]
            if any(
                queue[0].seen[third] > seen[third]
                for third in range(REPLICAS)
                if third != other
            ):
                return
            seen[other] += 1
        else:
            queue.rotate(-rng.randrange(min(len(queue), LATE)))
        self._take_in(at, queue.popleft())

    def _take_in(self, at: int, commit: _Commit) -> None:
        state = self._state[at]
        for key, value in commit.wrote.items():
            if key not in state or state[key][0] < commit.stamp:
                state[key] = commit.stamp, value
        self._clock[at] = max(self._clock[at], commit.stamp[0])
