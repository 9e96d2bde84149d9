"""Histories of appends with whatever one may hold: repeats, retries, odd values.

A database of lists and its clients. Elements come from a small stock, so that many are
appended more than once; clients repeat what timed out or failed; keys and elements are
numbers, booleans, text that looks like them, nil, lists and maps; processes are numbers
or words. The database may be a right one, or one that applies writes later than it
reads, leaves the writes of failed transactions, or tears transactions apart; and reads
may be changed afterwards.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from harness.history import History, Op

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

PLAIN_KEYS: list[Any] = ["x", "y"]
ODD_KEYS: list[Any] = [1, True, "1", None, [1], {"k": True}]

PLAIN_ELEMENTS: list[Any] = [1, 2, 3, 4, 5, 6]
ODD_ELEMENTS: list[Any] = [0, 1, False, True, "1", "true", None, [], [1], [True], 1.5]


WORDS_ARE_CLIENTS = Op(0, 0, "c0", "invoke", "txn").is_client
"""Whether histories take a process that is named by a word for a client."""


def name_of(key: Any) -> str:
    """A key as text, as JSON tells values apart."""
    return json.dumps(key, sort_keys=True)


@dataclass
class Lists:
    """A database of lists, and clients that repeat themselves.

    Attributes:
        rng: Where choices come from.
        keys, elements: What they choose from.
        words: Whether clients are named by words.
        length: Most micro-operations of a transaction.
        retries: How likely a client is to repeat what did not return ok.
        crashes, failures: How likely a transaction is to end so.
        faults: What the database does wrong: "skew", "dirty", "torn".
    """

    rng: random.Random
    keys: Sequence[Any]
    elements: Sequence[Any]
    words: bool = False
    length: int = 3
    retries: float = 0.6
    crashes: float = 0.2
    failures: float = 0.1
    faults: frozenset[str] = frozenset()
    ops: list[Op] = field(default_factory=list)
    state: dict[str, list[Any]] = field(default_factory=dict)
    renamed: int = 0

    def history(self, transactions: int, clients: int) -> History:
        """Run that many transactions, up to `clients` at a time."""
        idle = [self.named(i) for i in range(clients)]
        running: dict[Any, list[Any]] = {}
        results: dict[Any, list[Any]] = {}
        again: list[list[Any]] = []
        started = 0
        while started < transactions or running:
            choices = [*running, *(idle if started < transactions else ())]
            who = self.rng.choice(choices)
            if who not in running:
                started += 1
                idle.remove(who)
                running[who] = again.pop() if again else self.transaction()
                self.record(who, "invoke", running[who])
            elif who not in results and self.rng.random() < 0.7:
                results[who] = self.apply(running[who], writes=not self.skews)
            else:
                asked, done = running.pop(who), results.pop(who, None)
                idle.append(self.finish(who, asked, done, again))
        return History(self.ops)

    @property
    def skews(self) -> bool:
        """Whether writes are applied at an instant of their own."""
        return "skew" in self.faults

    def finish(
        self, who: Any, asked: list[Any], done: list[Any] | None, again: list[Any]
    ) -> Any:
        """End a transaction; returns the process that goes on."""
        fate = self.rng.random()
        if (done is None and fate < 0.5) or fate < self.crashes:
            if done is not None and self.skews and self.rng.random() < 0.5:
                self.apply(asked, reads=False)
            self.record(who, "info", asked)
            self.repeat(asked, again)
            self.renamed += 1
            return self.named(100 + self.renamed)
        is_clean = self.skews or done is None or "dirty" in self.faults
        if is_clean and fate < self.crashes + self.failures:
            self.record(who, "fail", asked)
            self.repeat(asked, again)
            return who
        if done is None:
            done = self.apply(asked, writes=not self.skews)
        if self.skews:
            self.apply(asked, reads=False)
        self.record(who, "ok", done)
        return who

    def repeat(self, asked: list[Any], again: list[Any]) -> None:
        if self.rng.random() < self.retries:
            again.append(asked)

    def named(self, number: int) -> Any:
        return f"c{number}" if self.words else number

    def record(self, process: Any, kind: Any, value: Any) -> None:
        i = len(self.ops)
        self.ops.append(Op(i, i * 1000, process, kind, "txn", copy.deepcopy(value)))

    def transaction(self) -> list[Any]:
        micro_ops = []
        for _ in range(self.rng.randint(1, self.length)):
            key = self.rng.choice(self.keys)
            if self.rng.random() < 0.5:
                micro_ops.append(["r", key, None])
            else:
                micro_ops.append(["append", key, self.rng.choice(self.elements)])
        return micro_ops

    def apply(
        self, asked: list[Any], *, reads: bool = True, writes: bool = True
    ) -> list[Any]:
        """What comes of it; reads see the transaction's own appends."""
        state = self.state if writes else copy.deepcopy(self.state)
        done = []
        for f, key, element in asked:
            elements = state.setdefault(name_of(key), [])
            if f == "r":
                seen = copy.deepcopy(elements) if reads else None
                done.append(["r", key, seen or self.rng.choice([None, []])])
                continue
            done.append([f, key, element])
            if "torn" not in self.faults or self.rng.random() < 0.8:
                elements.append(element)
        return done


def corrupt(history: History, rng: random.Random, elements: Sequence[Any]) -> History:
    """The history with one read changed."""
    ops = [copy.deepcopy(op) for op in history]
    reads = [
        (op, i)
        for op in ops
        if op.type == "ok"
        for i, micro_op in enumerate(op.value)
        if micro_op[0] == "r"
    ]
    if not reads:
        return history
    op, i = rng.choice(reads)
    _, key, value = op.value[i]
    others = [
        micro_op[2]
        for o, j in reads
        for micro_op in [o.value[j]]
        if name_of(micro_op[1]) == name_of(key)
    ]
    now = list(value or [])
    changed = rng.choice(
        [
            rng.choice(others),
            now[:-1],
            now[1:],
            [*now, rng.choice(elements)],
            [*now, *now[-1:]],
            now[::-1],
        ]
    )
    op.value[i] = ["r", key, copy.deepcopy(changed)]
    return History(ops)


@st.composite
def lists(
    draw: st.DrawFn, transactions: int = 5, *, is_changed: bool = True
) -> History:
    """Short histories, right and wrong, with whatever values.

    Args:
        draw: Draws.
        transactions: Most transactions.
        is_changed: Whether transactions may be torn, and reads changed afterwards, so
            that a transaction may not see what it appended itself.
    """
    rng = draw(st.randoms(use_true_random=False))
    simulation = make(draw, rng)
    faults = [[], [], ["skew"], ["dirty"], ["torn"] if is_changed else ["skew"]]
    simulation.faults = frozenset(draw(st.sampled_from(faults)))
    history = simulation.history(
        draw(st.integers(2, transactions)), draw(st.integers(1, 3))
    )
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        if is_changed:
            history = corrupt(history, rng, simulation.elements)
    return history


@st.composite
def right_lists(draw: st.DrawFn, transactions: int = 40) -> History:
    """Histories that a strictly serializable database has produced."""
    simulation = make(draw, draw(st.randoms(use_true_random=False)))
    return simulation.history(
        draw(st.integers(5, transactions)), draw(st.integers(1, 5))
    )


def make(draw: st.DrawFn, rng: random.Random) -> Lists:
    """A database without faults, and clients."""
    odd = draw(st.booleans())
    stock = ODD_ELEMENTS if odd else PLAIN_ELEMENTS
    size = draw(st.integers(1, len(stock)))
    start = draw(st.integers(0, len(stock) - 1))
    elements = [*stock[start:], *stock[:start]][:size]
    keys = (ODD_KEYS if odd and draw(st.booleans()) else PLAIN_KEYS)[:]
    rng.shuffle(keys)
    return Lists(
        rng,
        keys[: draw(st.integers(1, 2))],
        elements,
        words=WORDS_ARE_CLIENTS and draw(st.booleans()),
        length=draw(st.integers(1, 4)),
        retries=draw(st.sampled_from([0.0, 0.7])),
        crashes=draw(st.sampled_from([0.0, 0.3])),
        failures=draw(st.sampled_from([0.0, 0.2])),
    )
