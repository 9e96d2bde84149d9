"""Histories of registers with whatever values, keys and outcomes a history may hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from harness.history import History, Op

if TYPE_CHECKING:
    import random

KEYS: tuple[Any, ...] = (1, True, "1", "x", 0, None)
VALUES: tuple[Any, ...] = (None, 0, 1, 2, True, False, "1", "2", "nil")


@dataclass
class _Run:
    """A serial database with few values, and clients of which some are told lies.

    Attributes:
        rng: Where choices come from.
        keys, values: What there is.
        lies: How likely a read is to show anything.
        initial: What keys begin with.
        skew: Whether reads are of when a transaction began, writes of when it ended.
    """

    rng: random.Random
    keys: list[Any]
    values: list[Any]
    lies: float
    initial: Any
    skew: bool
    ops: list[Op] = field(default_factory=list)
    state: dict[tuple[bool, Any], Any] = field(default_factory=dict)

    def record(self, process: int, kind: Any, value: Any) -> None:
        i = len(self.ops)
        self.ops.append(Op(i, i * 1000, process, kind, "txn", value))

    def asked(self) -> list[list[Any]]:
        rng = self.rng
        return [
            ["r", rng.choice(self.keys), None]
            if rng.random() < 0.5
            else ["w", rng.choice(self.keys), rng.choice(self.values)]
            for _ in range(rng.randint(1, 3))
        ]

    def done(self, asked: list[list[Any]]) -> list[list[Any]]:
        results = []
        now = dict(self.state)
        for f, key, value in asked:
            name = type(key) is bool, key
            result = value
            if f == "w":
                now[name] = value
            elif self.rng.random() < self.lies:
                result = self.rng.choice([*self.values, None, self.initial])
            else:
                result = now.get(name, self.rng.choice([None, self.initial]))
            results.append([f, key, result])
        return results

    def apply(self, asked: list[list[Any]]) -> None:
        for f, key, value in asked:
            if f == "w":
                self.state[type(key) is bool, key] = value

    def history(self, transactions: int, clients: int) -> History:
        rng = self.rng
        names = list(range(clients))
        running: dict[int, tuple[list[Any], list[Any], str]] = {}
        started = 0
        while started < transactions or running:
            client = rng.randrange(clients)
            if client not in running:
                if started == transactions:
                    continue
                started += 1
                asked = self.asked()
                fate = rng.choice(["ok"] * 7 + ["fail", "info", "open"])
                running[client] = asked, self.done(asked), fate
                self.record(names[client], "invoke", asked)
                if not self.skew and fate != "fail":
                    self.apply(asked)
                continue
            asked, done, fate = running.pop(client)
            if self.skew and (fate == "ok" or (fate != "fail" and rng.random() < 0.5)):
                self.apply(asked)
            if fate != "open":
                self.record(names[client], fate, done if fate == "ok" else asked)
            if fate in {"info", "open"}:
                names[client] += clients
        return History(self.ops)


@st.composite
def wild(draw: st.DrawFn, transactions: int = 4, initial: Any = None) -> History:
    """Short histories in which values repeat and look like others."""
    rng = draw(st.randoms(use_true_random=False))
    values = st.lists(st.sampled_from(VALUES), min_size=1, max_size=4, unique_by=repr)
    run = _Run(
        rng,
        draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=2, unique_by=repr)),
        [*draw(values), *([initial] * draw(st.booleans()))],
        draw(st.sampled_from([0.0, 0.3, 0.6, 0.9])),
        initial,
        draw(st.booleans()),
    )
    return run.history(draw(st.integers(1, transactions)), draw(st.integers(1, 3)))
