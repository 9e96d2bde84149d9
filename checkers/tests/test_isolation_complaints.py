"""What users asked of Elle in vain, or were told wrongly by it; see each issue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from checkers import list_append, rw_register
from checkers.tests.isolation_histories import transactions
from harness.errors import UsageError
from harness.history import History, Op, formats
from harness.verdict import CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from pathlib import Path


def check(text: str, *, lists: bool = True, **options: str) -> CheckResult:
    build = list_append.build if lists else rw_register.build
    given = {name.replace("_", "-"): value for name, value in options.items()}
    return build(given).check(transactions(text, lists=lists), Limits())


def names(result: CheckResult) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


PAPER_EXAMPLE = """
{:index 0 :type :invoke :value [[:append 253 1] [:append 253 3] [:append 253 4]
  [:append 255 2] [:append 255 3] [:append 255 4] [:append 255 5] [:append 256 1]
  [:append 256 2]]}
{:index 1 :type :ok :value [[:append 253 1] [:append 253 3] [:append 253 4]
  [:append 255 2] [:append 255 3] [:append 255 4] [:append 255 5] [:append 256 1]
  [:append 256 2]]}
{:index 2 :type :invoke, :value [[:append 255 8] [:r 253 nil]]}
{:index 3 :type :ok, :value [[:append 255 8] [:r 253 [1 3 4]]]}
{:index 4 :type :invoke, :value [[:append 256 4] [:r 255 nil] [:r 256 nil]
  [:r 253 nil]]}
{:index 5 :type :ok, :value [[:append 256 4] [:r 255 [2 3 4 5 8]] [:r 256 [1 2 4]]
  [:r 253 [1 3 4]]]}
{:index 6 :type :invoke, :value [[:append 250 10] [:r 253 nil] [:r 255 nil]
  [:append 256 3]]}
{:index 7 :type :ok :value [[:append 250 10] [:r 253 [1 3 4]] [:r 255 [2 3 4 5]]
  [:append 256 3]]}
"""
"""Kingsbury and Alvaro (2020), section 6, as it stands in jepsen-io/elle/issues/20."""


def test_histories_without_processes_are_judged(tmp_path: Path) -> None:
    # jepsen-io/elle/issues/20: unknown, for want of :process.
    path = tmp_path / "paper.edn"
    path.write_text(PAPER_EXAMPLE)
    checker = list_append.build({"consistency": "serializable"})
    result = checker.check(formats.load(path), Limits())
    # The last transaction missed 8, so it came before the second; but it appended 3 to
    # 256 after 4, which the third appended after it had seen 8.
    assert result.verdict is Verdict.INVALID
    assert "G-single-item" in names(result)


@pytest.mark.parametrize("lists", [True, False])
def test_a_read_of_what_the_same_process_writes_later_is_found(lists: bool) -> None:
    # jepsen-io/elle/issues/21: a cycle of wr and process order, taken for valid.
    text = "rx1@0 ; ax1@0" if lists else "rx1@0 ; wx1@0"
    result = check(text, lists=lists, consistency="strong-session-read-committed")
    assert "G1c-process" in names(result)
    assert result.not_models == ("strong-session-read-committed",)
    assert check(text, lists=lists, consistency="serializable").verdict is Verdict.VALID


@pytest.mark.parametrize("lists", [True, False])
def test_a_read_of_what_the_transaction_itself_writes_later_is_found(
    lists: bool,
) -> None:
    # The same issue, within one transaction.
    text = "rx1ax1" if lists else "rx1wx1"
    result = check(text, lists=lists, consistency="read-committed")
    assert "future-read" in names(result)


@pytest.mark.parametrize("lists", [True, False])
def test_snapshot_isolation_is_not_that_of_sessions(lists: bool) -> None:
    # jepsen-io/elle/issues/17: snapshots may be old, but for strong sessions.
    text = "ax1@0 ; rx@0" if lists else "wx1@0 ; rx@0"
    plain = check(text, lists=lists, consistency="snapshot-isolation")
    assert plain.verdict is Verdict.VALID
    strong = check(text, lists=lists, consistency="strong-session-snapshot-isolation")
    assert strong.verdict is Verdict.INVALID
    assert "G-single-item-process" in names(strong)
    assert strong.not_models == ("strong-session-snapshot-isolation",)


def test_a_value_that_keys_begin_with_is_no_lost_update() -> None:
    # jepsen-io/elle/issues/28: x is 2 from the beginning, and written by nobody else.
    text = "rx2wx4 ; rx4wx3 ; rx3"
    assert "garbage-read" in names(check(text, lists=False))
    result = check(text, lists=False, initial="2")
    assert result.verdict is Verdict.VALID
    # Two that saw the initial value, and replaced it, are a lost update all the same.
    result = check("rx2wx4 rx2wx3", lists=False, initial="2")
    assert "lost-update" in names(result)


def test_a_transaction_that_writes_what_it_read_has_lost_nothing() -> None:
    # The history: the first transaction reads the value that it writes.
    result = check("rx2wx2 rx2wx3", lists=False)
    assert "lost-update" not in names(result)
    assert "future-read" in names(result)
    # Where keys begin with that value nobody can tell whose it is.
    result = check("rx2wx2 rx2wx3", lists=False, initial="2")
    assert "lost-update" not in names(result)


def test_an_initial_value_is_json_or_a_word() -> None:
    for value in ("0", '"a"', "a", "true"):
        rw_register.build({"initial": value})
    with pytest.raises(UsageError, match="plain value"):
        rw_register.build({"initial": "[1]"})


def test_keys_may_be_linearizable_where_transactions_are_only_serializable() -> None:
    # jepsen-io/elle/issues/27: serializable, and no stale reads of a key; but single
    # keys' transactions may be reordered as the issue's history has it.
    reads: list[Any] = [["r", "x", []], ["r", "y", [2]]]
    lines: list[tuple[int, Any, list[Any]]] = [
        (0, "invoke", [["r", "x", None], ["r", "y", None]]),
        (1, "invoke", [["append", "x", 1]]),
        (1, "ok", [["append", "x", 1]]),
        (1, "invoke", [["append", "y", 2]]),
        (1, "ok", [["append", "y", 2]]),
        (0, "ok", reads),
    ]
    history = History(
        [
            Op(i, i, who, kind, "txn", value)
            for i, (who, kind, value) in enumerate(lines)
        ]
    )
    both = {"consistency": "serializable", "linearizable-keys": "true"}
    assert list_append.build(both).check(history, Limits()).verdict is Verdict.VALID
    strict = list_append.build({"consistency": "strict-serializable"})
    assert strict.check(history, Limits()).verdict is Verdict.INVALID


def test_a_stale_read_of_a_linearizable_key_is_found() -> None:
    text = "ax1 ; rx"
    plain = check(text, consistency="serializable")
    assert plain.verdict is Verdict.VALID
    result = check(text, consistency="serializable", linearizable_keys="true")
    assert result.verdict is Verdict.INVALID
    assert names(result) == {"G-single-item-realtime", "lost-append"}
    # Of another key it tells nothing.
    other = check("ax1 ; ry", consistency="serializable", linearizable_keys="true")
    assert other.verdict is Verdict.VALID


@pytest.mark.parametrize("lists", [True, False])
def test_writes_may_show_only_after_the_commit(lists: bool) -> None:
    # jepsen-io/jepsen/issues/619: snapshot isolation, but a transaction never sees what
    # it wrote itself.
    text = "ax1rxax2rx ; rx12" if lists else "wx1rxwx2rx ; rx2"
    strict = check(text, lists=lists, consistency="snapshot-isolation")
    assert "internal" in names(strict)
    options = {"consistency": "snapshot-isolation", "own_writes": "invisible"}
    result = check(text, lists=lists, **options)
    assert result.verdict is Verdict.VALID
    # The snapshot is still one: it must not change in between.
    text = "ax1 ; rx1ax2rx ; rx12" if lists else "wx1 ; rx1wx2rx ; rx2"
    result = check(text, lists=lists, **options)
    assert "internal" in names(result)
