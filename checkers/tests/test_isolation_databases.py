"""Simulated databases keep their promises, and no others: too long for brute force.

A transaction reads from a snapshot and commits later on. What the database checks at
the commit makes it serializable, snapshot isolated, or neither; what is then wrong with
a history is found when it is asked for more than it promises.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from checkers import list_append, rw_register
from checkers.tests.isolation_histories import corrupt
from harness.history import History, Op
from harness.verdict import CheckResult, Limits, Verdict


@dataclass
class Running:
    """A transaction between its beginning and its commit."""

    asked: list[Any]
    begun: int
    done: list[Any]


@dataclass
class Database:
    """Keeps all versions; what is read and written decides who may commit.

    Attributes:
        lists: Whether keys hold lists, or registers.
        rng: Where choices come from.
        checks_writes: First committer wins.
        checks_reads: What was read must not have changed until the commit.
        staleness: How many commits a snapshot may be old.
    """

    lists: bool
    rng: random.Random
    checks_writes: bool = True
    checks_reads: bool = False
    staleness: int = 0
    keys: int = 4
    states: list[dict[int, Any]] = field(default_factory=lambda: [{}])
    changed: dict[int, int] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    written: int = 0

    def history(self, transactions: int, clients: int = 6) -> History:
        """So many transactions, some of which fail."""
        names = list(range(clients))
        running: dict[int, Running] = {}
        while transactions or running:
            client = self.rng.randrange(clients)
            if client in running:
                outcome = self.commit(running[client])
                call = running.pop(client)
                if outcome == "ok" and self.rng.random() < 0.03:
                    outcome = "info"
                self.record(
                    names[client], outcome, call.done if outcome == "ok" else call.asked
                )
                if outcome == "info":
                    names[client] += clients
            elif transactions:
                transactions -= 1
                running[client] = self.begin()
                self.record(names[client], "invoke", running[client].asked)
        return History(self.ops)

    def record(self, process: int, kind: Any, value: Any) -> None:
        i = len(self.ops)
        self.ops.append(Op(i, i, process, kind, "txn", copy.deepcopy(value)))

    def begin(self) -> Running:
        asked: list[Any] = []
        for _ in range(self.rng.randint(1, 4)):
            key = self.rng.randrange(self.keys)
            if self.rng.random() < 0.5:
                asked.append(["r", key, None])
            else:
                self.written += 1
                write = "append" if self.lists else "w"
                asked.append([write, key, self.written])
        latest = len(self.states) - 1
        begun = max(0, latest - self.rng.randint(0, self.staleness))
        state = copy.deepcopy(self.states[begun])
        return Running(asked, begun, self.apply(asked, state))

    def apply(self, asked: list[Any], state: dict[int, Any]) -> list[Any]:
        done = []
        for f, key, value in asked:
            if f == "r":
                done.append([f, key, copy.copy(state.get(key))])
                continue
            if self.lists:
                state[key] = [*state.get(key, ()), value]
            else:
                state[key] = value
            done.append([f, key, value])
        return done

    def commit(self, call: Running) -> str:
        writes = {key for f, key, _ in call.asked if f != "r"}
        reads = {key for f, key, _ in call.asked if f == "r"}
        guarded = writes if self.checks_writes else set()
        guarded |= reads if self.checks_reads else set()
        if any(self.changed.get(key, 0) > call.begun for key in guarded):
            return "fail"
        if writes:
            state = copy.copy(self.states[-1])
            self.apply([m for m in call.asked if m[0] != "r"], state)
            self.states.append(state)
            self.changed |= dict.fromkeys(writes, len(self.states) - 1)
        return "ok"


def check(history: History, model: str, *, lists: bool) -> CheckResult:
    build = list_append.build if lists else rw_register.build
    return build({"consistency": model}).check(history, Limits())


KINDS: dict[str, dict[str, Any]] = {
    "serializable": {"checks_reads": True},
    "snapshots": {},
    "old snapshots": {"staleness": 3},
    "no check": {"checks_writes": False},
}

PROMISES = {
    "serializable": "strict-serializable",
    "snapshots": "strong-snapshot-isolation",
    "old snapshots": "snapshot-isolation",
    "no check": "prefix",
}

BROKEN = {
    "snapshots": "serializable",
    "old snapshots": "strong-snapshot-isolation",
    "no check": "snapshot-isolation",
}


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_database_keeps_its_promise_and_no_other(kind: str, lists: bool) -> None:
    if kind == "no check" and lists:
        pytest.skip("a list read behind an append of one's own may be in no final list")
    caught = []
    for seed in range(6):
        database = Database(lists, random.Random(seed), **KINDS[kind])
        history = database.history(150)
        result = check(history, PROMISES[kind], lists=lists)
        if kind == "no check":
            # Nothing shows the order of writes, and no stronger model proves it right.
            assert result.verdict is not Verdict.INVALID, (seed, result)
        else:
            assert result.verdict is Verdict.VALID, (seed, result)
        if kind in BROKEN:
            more = check(history, BROKEN[kind], lists=lists)
            assert more.verdict is not Verdict.UNKNOWN, (seed, more)
            caught.append(more.verdict is Verdict.INVALID)
    assert kind not in BROKEN or any(caught)


@pytest.mark.parametrize("lists", [True, False])
def test_what_is_right_for_a_strict_model_is_right_for_all_weaker_ones(
    lists: bool,
) -> None:
    history = Database(lists, random.Random(3), checks_reads=True).history(150)
    for model in (
        "serializable",
        "repeatable-read",
        "snapshot-isolation",
        "parallel-snapshot-isolation",
        "prefix",
        "causal",
        "update-atomic",
        "read-atomic",
        "consistent-view",
        "cursor-stability",
        "PRAM",
        "writes-follow-reads",
        "read-committed",
        "read-uncommitted",
    ):
        assert check(history, model, lists=lists).verdict is Verdict.VALID, model


@pytest.mark.parametrize("lists", [True, False])
def test_wrong_reads_are_told_from_right_ones_in_long_histories(lists: bool) -> None:
    """A read that shows another state of its key is wrong, unless it happens to fit."""
    caught = 0
    for seed in range(20):
        rng = random.Random(seed)
        history = Database(lists, rng, checks_reads=True).history(60)
        changed = corrupt(history, rng)
        same = [op.value for op in changed] == [op.value for op in history]
        result = check(changed, "strict-serializable", lists=lists)
        assert result.verdict is not Verdict.UNKNOWN, seed
        if same:
            assert result.verdict is Verdict.VALID, seed
        caught += result.verdict is Verdict.INVALID
    assert caught >= 12
