"""Zones, by what values and keys look like: each kind is numbered in its own way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from checkers.linearizability import accesses, zones
from checkers.linearizability.calls import partition
from checkers.linearizability.models import KV, Register
from checkers.linearizability.oracle import first_impossible, linearizable
from checkers.tests.histories import FEWER, histories
from harness.history import History, Op

if TYPE_CHECKING:
    from collections.abc import Callable

DISGUISES: dict[str, Callable[[int], Any]] = {
    "integers": lambda n: n,
    "integers far apart": lambda n: n * 10**15,
    "integers beyond 64 bits": lambda n: n * 10**30,
    "texts": lambda n: f"v{n}",
    "lists": lambda n: [n, {"a": n}],
    "integers, and true for one": lambda n: True if n == 2 else n,
    "texts and integers": lambda n: n if n % 2 else str(n),
    "fractions": lambda n: n / 2,
}


def disguised(history: History, values: Callable[[int], Any], *, keys: bool) -> History:
    """The same history with other values, and perhaps other keys."""
    return History(
        [
            Op(op.index, op.time, op.process, op.type, op.f,
               None if op.value is None else values(op.value),
               values(op.key + 1) if keys else op.key)
            for op in history
        ]
    )  # fmt: skip


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize(("model", "sparse"), [(Register(1), zones.SPARSE), (KV(), 0)])
def test_zones_agree_with_the_definition_whatever_values_look_like(
    disguise: str, model: Register | KV, sparse: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With 0, nothing is counted through: every look-up is made, as in large histories.
    monkeypatch.setattr(zones, "SPARSE", sparse)

    @FEWER
    @given(histories("unique", keys=2, steps=34))
    def check(plain: History) -> None:
        history = disguised(plain, DISGUISES[disguise], keys=disguise != "fractions")
        table = accesses.columns(history, model)
        outcome = zones.check(table)
        firsts = {}
        for n in outcome.decided.tolist():
            calls = partition(history, model, {table.keys[n]})[table.keys[n]]
            assert (n not in outcome.violations) is linearizable(calls, model)
            if first := first_impossible(calls, model):
                firsts[n] = first.returned
        _, shortest = zones.shortest(table, outcome.violations)
        assert [violation.position for violation in shortest] == sorted(firsts.values())
        assert {v.key: v.position for v in shortest} == firsts
        # Only one that was written and is the initial value too can keep zones out.
        undecided = set(range(len(table.keys))) - set(outcome.decided.tolist())
        assert len(undecided) <= (model.initial == 1)

    check()


def test_every_call_keeps_its_value_and_its_key() -> None:
    ops = []
    for i, (f, value, key) in enumerate(
        [("write", "a", "x"), ("read", "a", "x"), ("read", None, "y"),
         ("write", "b", "y"), ("read", "never", "y"), ("write", "a", "y")]
    ):  # fmt: skip
        ops.append(Op(2 * i, 0, 0, "invoke", f, value if f == "write" else None, key))
        ops.append(Op(2 * i + 1, 0, 0, "ok", f, value, key))
    table = accesses.columns(History(ops), Register())
    assert [table.keys[n] for n in table.key] == ["x", "x", "y", "y", "y", "y"]
    wrote_a, read_a, nothing, *others, wrote_a_again = table.value.tolist()
    assert wrote_a == read_a == wrote_a_again
    assert nothing == 0
    assert len({wrote_a, nothing, *others}) == 4
    assert table.value.max() < table.values
    outcome = zones.check(table)
    assert outcome.decided.tolist() == [0, 1]
    assert [v.flaw for v in outcome.violations.values()] == ["unwritten"]
