"""Levels that are decided on columns, against the search for everything."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from checkers import list_append, rw_register
from checkers.isolation import clocks
from checkers.isolation.columns import accesses_of
from checkers.isolation.levels import LEVELS, satisfies
from checkers.isolation.transactions import collect, no_pause
from checkers.tests import isolation_oracles as oracles
from checkers.tests.append_histories import lists
from checkers.tests.histories import FEWER, MANY
from checkers.tests.isolation_histories import (
    histories,
    judge,
    shuffled,
    transactions,
)
from checkers.tests.register_histories import wild
from checkers.tests.test_isolation_definitions import as_lists
from harness.bench.transactions import Store, TransactionShape, generate
from harness.history import History, Op
from harness.verdict import Verdict

if TYPE_CHECKING:
    from harness.verdict import CheckResult

STORES: dict[Store, str] = {
    "causal": "causal",
    "read-atomic": "read-atomic",
    "read-committed": "read-committed",
}
"""What a simulated store promises."""

DECIDED = [
    *LEVELS,
    "serializable",
    "strong-session-serializable",
    "strict-serializable",
]
"""Models that columns may show to hold."""


def both(
    history: History, model: str, *, of_lists: bool = False
) -> tuple[CheckResult, CheckResult]:
    """What is said when the level is decided first, and when all is looked for."""
    build = (list_append if of_lists else rw_register).build
    full = build({"consistency": model, "anomalies": "all"})
    full.columns = None
    return judge(build({"consistency": model}), history), judge(full, history)


def decides(history: History, model: str) -> bool:
    """Whether the level is found satisfied on columns."""
    level = LEVELS[model]
    found = collect(history)
    accesses = accesses_of(found, no_pause, repeatable=level.repeatable)
    return accesses is not None and satisfies(accesses, level, no_pause)


def compare(history: History, model: str, *, of_lists: bool = False) -> None:
    """It is the same verdict either way, and the same anomalies."""
    first, full = both(history, model, of_lists=of_lists)
    event(f"{model}: {full.verdict}, {'decided_by' in first.stats}")
    text = "\n".join(f"{op.process} {op.type} {op.value}" for op in history)
    assert first.verdict is full.verdict, f"{model}\n{text}\n{first}\n{full}"
    assert {a.name for a in first.anomalies} == {a.name for a in full.anomalies}
    assert "decided_by" not in full.stats


@st.composite
def simulated(draw: st.DrawFn, transactions: int = 40) -> History:
    """What a weak store did, with a read or two changed."""
    rng = random.Random(draw(st.integers(0, 1 << 32)))
    ops = list(
        generate(
            TransactionShape(
                "rw-register",
                rng.randint(5, transactions),
                clients=draw(st.integers(1, 6)),
                keys=draw(st.integers(1, 5)),
                length_max=draw(st.integers(1, 6)),
                fail=0.05,
                crash=0.1,
                seed=rng.randrange(1 << 32),
                store=draw(st.sampled_from(["serial", *STORES])),
            )
        )
    )
    for _ in range(draw(st.integers(0, 2))):
        reads = [
            (op, at)
            for op in ops
            for at, (f, _, _) in enumerate(op.value)
            if f == "r" and op.type == "ok"
        ]
        if reads:
            op, at = rng.choice(reads)
            _, key, value = op.value[at]
            low = max(0, (value or 0) - 4)
            other = rng.randint(low, (value or 0) + 2) or None
            op.value = [*op.value[:at], ["r", key, other], *op.value[at + 1 :]]
    if draw(st.booleans()):
        # Completions only, so that there is no real time.
        done = [op for op in ops if op.type != "invoke"]
        ops = [
            Op(i, op.time, op.process, op.type, op.f, op.value)
            for i, op in enumerate(done)
        ]
    return History(ops, strict=False)


@MANY
@given(simulated(), st.sampled_from(DECIDED))
def test_what_a_weak_store_did_is_judged_as_by_the_search_for_everything(
    history: History, model: str
) -> None:
    compare(history, model)


@MANY
@given(
    st.one_of(wild(transactions=6), histories(lists=False), shuffled()),
    st.sampled_from(DECIDED),
)
def test_whatever_values_there_are_the_verdict_is_that_of_the_search_for_everything(
    history: History, model: str
) -> None:
    compare(history, model)


@MANY
@given(
    st.one_of(
        lists(is_changed=False),
        lists(),
        histories(lists=True, transactions=8),
        shuffled(transactions=8).map(as_lists),
    ),
    st.sampled_from(["read-atomic", "causal", "PRAM", "monotonic-writes"]),
)
def test_lists_are_judged_as_by_the_search_for_everything(
    history: History, model: str
) -> None:
    compare(history, model, of_lists=True)


@FEWER
@given(simulated(), st.sampled_from(sorted(LEVELS)))
def test_it_does_not_matter_how_much_is_looked_at_at_once(
    history: History, model: str
) -> None:
    """Long histories are looked at in stretches, and many pairs in parts."""
    whole = decides(history, model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clocks, "CLOCKS_MAX", 0)
        patch.setattr(clocks, "CLOCKS_AT_ONCE", 20)
        patch.setattr(clocks, "PAIRS_AT_ONCE", 3)
        assert decides(history, model) is whole


@FEWER
@given(
    histories(lists=False), st.sampled_from(["read-committed", "read-atomic", "causal"])
)
def test_no_level_is_found_satisfied_but_where_some_commit_order_does(
    history: History, model: str
) -> None:
    sessions = model != "read-committed"
    if decides(history, model):
        assert oracles.satisfies_axiom(history, model, sessions=sessions)


@pytest.mark.parametrize(("store", "model"), STORES.items())
def test_a_store_that_keeps_its_promise_is_found_to_at_once(
    store: Store, model: str
) -> None:
    stronger = {"read-committed": "read-atomic", "read-atomic": "causal"}.get(model)
    holds = []
    for seed in range(3):
        shape = TransactionShape("rw-register", 400, keys=8, seed=seed, store=store)
        history = History(list(generate(shape)))
        result = judge(rw_register.build({"consistency": model}), history)
        assert result.verdict is Verdict.VALID
        assert result.stats["decided_by"] == f"the axiom of {model}"
        assert decides(history, "read-committed")
        if stronger:
            holds.append(decides(history, stronger))
    assert not all(holds) or not stronger


def ask(**options: str) -> dict[str, Any]:
    history = transactions("wx1wy1 ; rx1ry1 ; wx2", lists=False)
    return dict(judge(rw_register.build(options), history).stats)


def test_all_else_is_looked_for_only_when_asked() -> None:
    assert "decided_by" in ask(consistency="read-committed")
    assert "decided_by" in ask(consistency="read-committed,causal")
    for options in (
        {"consistency": "read-committed", "anomalies": "all"},
        {"consistency": "read-committed", "anomalies": "G2"},
        {"consistency": "read-committed", "wfr-keys": "true"},
        {"consistency": "snapshot-isolation"},
        {"anomalies": "G2"},
    ):
        assert "decided_by" not in ask(**options), options


def test_an_order_of_all_transactions_leaves_nothing_to_be_looked_for() -> None:
    for options in ({}, {"consistency": "serializable"}, {"anomalies": "all"}):
        assert ask(**options)["decided_by"] == "an order of all transactions"
    shape = TransactionShape(
        "rw-register", 400, keys=2, writes_per_key=9999, planted=True
    )
    history = History(list(generate(shape)))
    first, full = both(history, "strict-serializable")
    assert first.verdict is full.verdict is Verdict.INVALID
