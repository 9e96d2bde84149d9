"""Histories of transactions for tests: one line each, and simulated databases.

The mini-language: `ax1ry12` is a transaction that appends 1 to x and reads [1, 2] from
y; `wx1rx1` writes and reads a register; a read without digits is nil. Transactions
stand side by side when they are concurrent, on both sides of `;` when the one had
returned before the other was invoked. `!` behind one means that it failed, `?` that
nobody knows; `@3` gives its process, otherwise each has one of its own.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from harness.history import History, Op
from harness.verdict import Limits, Verdict, where_vacuous

if TYPE_CHECKING:
    import random

    from harness.verdict import Checker, CheckResult

_MICRO_OP = re.compile(r"([arw])([a-z])(\d*)")
_TRANSACTION = re.compile(r"((?:[arw][a-z]\d*)+)([!?]?)(?:@(\d+))?")


def transactions(text: str, *, lists: bool = True) -> History:
    """The history of one line of the mini-language.

    Args:
        text: The line.
        lists: Whether reads return lists of digits, or one number.
    """
    ops: list[Op] = []
    nobody = 100
    for phase in text.split(";"):
        ends = []
        for word in phase.split():
            match = _TRANSACTION.fullmatch(word)
            assert match is not None, word
            body, mark, process = match.groups()
            nobody += 1
            who = int(process) if process else nobody
            done = [_micro_op(*parts, lists=lists) for parts in _MICRO_OP.findall(body)]
            asked = [[f, k, None if f == "r" else v] for f, k, v in done]
            ops.append(Op(len(ops), len(ops), who, "invoke", "txn", asked))
            kind: Any = {"": "ok", "!": "fail", "?": "info"}[mark]
            ends.append((who, kind, done if kind == "ok" else asked))
        for who, kind, value in ends:
            ops.append(Op(len(ops), len(ops), who, kind, "txn", value))
    return History(ops)


def judge(checker: Checker, history: History) -> CheckResult:
    """What a checker says; valid where there is no read, as definitions have it."""
    return where_vacuous(checker.check(history, Limits()), Verdict.VALID)


def _micro_op(f: str, key: str, digits: str, *, lists: bool) -> list[Any]:
    if f == "a":
        return ["append", key, int(digits)]
    if f == "r" and lists:
        return ["r", key, [int(digit) for digit in digits] or None]
    return [f, key, int(digits) if digits else None]


@dataclass
class Simulation:
    """A serial database, and clients that drive it; each choice is the generator's.

    Attributes:
        lists: Whether keys hold lists, or registers.
        rng: Where choices come from.
        keys: How many keys there are.
        crashes: How likely a transaction is to end with an unknown outcome.
        failures: How likely it is to fail.
        skew: Whether a transaction reads and writes at two different instants.
    """

    lists: bool
    rng: random.Random
    keys: int = 2
    length: int = 3
    crashes: float = 0.1
    failures: float = 0.1
    skew: bool = False
    ops: list[Op] = field(default_factory=list)
    state: dict[Any, Any] = field(default_factory=dict)
    written: int = 0

    def history(self, transactions: int, clients: int) -> History:
        """Run that many transactions, up to `clients` at a time."""
        names = list(range(clients))
        running: dict[int, list[Any]] = {}
        results: dict[int, list[Any]] = {}
        started = 0
        while started < transactions or running:
            client = self.rng.randrange(clients)
            if client not in running:
                if started < transactions:
                    started += 1
                    running[client] = self.transaction()
                    self.record(names[client], "invoke", running[client])
            elif client not in results:
                results[client] = self.read_or_apply(running[client])
            else:
                asked, done = running.pop(client), results.pop(client)
                fate = self.rng.random()
                if fate < self.crashes:
                    self.record(names[client], "info", asked)
                    names[client] += clients
                elif self.skew and fate < self.crashes + self.failures:
                    self.record(names[client], "fail", asked)
                else:
                    if self.skew:
                        self.apply(asked)
                    self.record(names[client], "ok", done)
        return History(self.ops)

    def record(self, process: int, kind: Any, value: Any) -> None:
        i = len(self.ops)
        self.ops.append(Op(i, i * 1000, process, kind, "txn", copy.deepcopy(value)))

    def transaction(self) -> list[Any]:
        return [self.micro_op() for _ in range(self.rng.randint(1, self.length))]

    def micro_op(self) -> list[Any]:
        key = self.rng.randrange(self.keys)
        if self.rng.random() < 0.5:
            return ["r", key, None]
        self.written += 1
        return ["append" if self.lists else "w", key, self.written]

    def read_or_apply(self, asked: list[Any]) -> list[Any]:
        """The results; a serial database applies the writes at the same instant."""
        before = copy.deepcopy(self.state)
        done = self.apply(asked)
        if self.skew:
            self.state = before
        return done

    def apply(self, asked: list[Any]) -> list[Any]:
        done = []
        for f, key, value in asked:
            if f == "r":
                done.append([f, key, copy.copy(self.state.get(key))])
                continue
            if f == "append":
                self.state.setdefault(key, []).append(value)
            else:
                self.state[key] = value
            done.append([f, key, value])
        return done


def corrupt(history: History, rng: random.Random) -> History:
    """The history with one read changed to show another state of its key."""
    ops = [copy.deepcopy(op) for op in history]
    reads = [
        (op, i)
        for op in ops
        if op.type == "ok"
        for i, micro_op in enumerate(op.value)
        if micro_op[0] == "r"
    ]
    if reads:
        op, i = rng.choice(reads)
        key = op.value[i][1]
        seen = [m[2] for o, j in reads for m in [o.value[j]] if m[1] == key]
        op.value[i] = ["r", key, copy.copy(rng.choice([*seen, None]))]
    return History(ops)


def beside(history: History, planted: History, at: float = 1.0) -> History:
    """The history with another one, on other keys, put in at a part of its length.

    Processes of the other one get names of their own.
    """
    cut = int(len(history) * at)
    ops = copy.deepcopy([*history.ops[:cut], *planted, *history.ops[cut:]])
    for i, op in enumerate(ops):
        op.index = i
        if cut <= i < cut + len(planted):
            assert isinstance(op.process, int)
            op.process += 1_000_000
    return History(ops)


@st.composite
def histories(draw: st.DrawFn, *, lists: bool, transactions: int = 5) -> History:
    """Short histories, some right, some with skewed writes, some with wrong reads."""
    rng = draw(st.randoms(use_true_random=False))
    simulation = Simulation(
        lists,
        rng,
        keys=draw(st.integers(1, 2)),
        skew=draw(st.booleans()),
        crashes=draw(st.sampled_from([0.0, 0.0, 0.3])),
        failures=draw(st.sampled_from([0.0, 0.2])),
    )
    clients = draw(st.integers(2, 3))
    history = simulation.history(draw(st.integers(2, transactions)), clients)
    for _ in range(draw(st.sampled_from([0, 1, 2, 3]))):
        history = corrupt(history, rng)
    return history


@st.composite
def shuffled(draw: st.DrawFn, transactions: int = 6) -> History:
    """Histories of registers in which every read may return anything that was written.

    Few processes and keys, so that sessions have a past to be held to.
    """
    processes, keys = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    rng = draw(st.randoms(use_true_random=False))
    asked: list[list[Any]] = [
        [
            ["w", key, 10 * i + j] if rng.random() < 0.5 else ["r", key, None]
            for j in range(rng.randint(1, 3))
            for key in [rng.randrange(keys)]
        ]
        for i in range(draw(st.integers(2, transactions)))
    ]
    written: dict[int, list[Any]] = {key: [None] for key in range(keys)}
    for micro_ops in asked:
        for key, value in {k: v for f, k, v in micro_ops if f == "w"}.items():
            written[key].append(value)
    ops: list[Op] = []
    for micro_ops in asked:
        process = rng.randrange(processes)
        crashed = rng.random() < 0.1
        done = []
        mine: dict[int, Any] = {}
        for f, key, value in micro_ops:
            if f == "w":
                mine[key] = value
            done.append([f, key, mine.get(key, rng.choice(written[key]))])
        ops.append(Op(len(ops), 0, process, "invoke", "txn", micro_ops))
        kind: Any = "info" if crashed else "ok"
        ops.append(
            Op(len(ops), 0, process, kind, "txn", micro_ops if crashed else done)
        )
    return History(ops)
