"""The rw-register checker against histories of the literature, and by hand."""

from __future__ import annotations

import pytest

from checkers import rw_register
from checkers.isolation import assignments
from checkers.linearizability.budget import LimitExceeded
from checkers.tests.isolation_histories import transactions
from harness.history import History, Op
from harness.verdict import CheckResult, Limits, Verdict


def check(text: str, **options: str) -> CheckResult:
    """The checker's answer to a line of the mini-language."""
    given = {name.replace("_", "-"): value for name, value in options.items()}
    history = transactions(text, lists=False)
    return rw_register.build(given).check(history, Limits())


def names(result: CheckResult) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


@pytest.mark.parametrize(
    ("text", "options", "name", "broken"),
    [
        ("wx1! rx1", {}, "G1a", "read-committed"),
        ("wx1wx2 rx1", {}, "G1b", "read-committed"),
        ("wx1ry1 wy1rx1", {}, "G1c", "read-committed"),
        ("rxwy1 rywx1", {}, "G2-item", "repeatable-read"),
        ("rxwx1 rxwx2", {}, "lost-update", "cursor-stability"),
        ("wx1rx2 wx2", {}, "internal", "read-atomic"),
        ("rx7", {}, "garbage-read", "read-uncommitted"),
        ("wx1 ; rx", {}, "G-single-item-realtime", "strong-snapshot-isolation"),
        (
            "wx1 ; wx2 ; rx2 ; rx1",
            {"linearizable_keys": "true"},
            "cyclic-versions",
            "read-uncommitted",
        ),
        (
            "wx1wy1 ryrx1",
            {"consistency": "read-atomic"},
            "fractured-read",
            "read-atomic",
        ),
        (
            "wx1 rx1wy1 ry1rx",
            {"consistency": "causal"},
            "causal-violation",
            "causal",
        ),
    ],
)
def test_each_anomaly_is_found_and_breaks_its_weakest_model(
    text: str, options: dict[str, str], name: str, broken: str
) -> None:
    result = check(text, **options)
    assert result.verdict is Verdict.INVALID
    assert name in names(result)
    assert broken in result.not_models


# Reads behind a write of the transaction's own


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("wx1rx5wx2 wx5wx6", "G1b"),
        ("wx5! wx1rx5", "G1a"),
        ("wx1rx2wy7 wx2ry7", "G1c"),
        ("wx1rx2wx2", "future-read"),
        ("wx1rx7", "garbage-read"),
    ],
)
def test_a_read_behind_an_own_write_is_held_against_who_wrote_what_it_saw(
    text: str, name: str
) -> None:
    result = check(text, consistency="read-committed")
    assert name in names(result)
    assert "internal" in result.stats["also_found"]


def test_an_older_write_of_its_own_breaks_nothing_but_internal_consistency() -> None:
    assert check("wx1wx2rx1", consistency="read-committed").verdict is Verdict.VALID
    assert names(check("wx1wx2rx1", consistency="read-atomic")) == {"internal"}


# Values that were written more than once


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("wx1wx1 ; rx1", Verdict.VALID),
        ("wx1wx2wx1 ; rx1", Verdict.VALID),
        ("wx2 ; wx2 ; wx2! ; rx2", Verdict.VALID),
        ("wx1? ; wx1 ; rx1", Verdict.VALID),
        ("wx1? ; wx2 ; rx1 ; wx1 ; rx1", Verdict.VALID),
        ("wx1 ; wx ; rx", Verdict.VALID),  # a delete
        ("wx1 ; wx ; rx ; rx1", Verdict.INVALID),
        ("wx1wx3 wx1 ; rx1 ; rx3 ; rx1", Verdict.INVALID),
        ("wx1 ; wx1wy1 rx1ry", Verdict.VALID),
        ("wx1wy1 wx1wy1 ; rx1ry", Verdict.INVALID),
        ("wx1 ; wx1 ; wx2 ; rx1", Verdict.INVALID),
    ],
)
def test_a_history_is_wrong_only_if_no_writers_explain_it(
    text: str, verdict: Verdict
) -> None:
    result = check(text)
    assert result.verdict is verdict, result
    if verdict is Verdict.INVALID:
        assert result.anomalies[0].explanation.endswith(".")
        assert result.anomalies[0].ops


def test_what_each_writer_would_lead_to_is_told() -> None:
    """T2 and T3 wrote 1, and both had read what T5 wrote after it had read 1."""
    result = check("wx1ry2@1 wx1rz2@2 ; wy2wz2rx1@3", consistency="serializable")
    (anomaly,) = [a for a in result.anomalies if "If the 1" in a.explanation]
    assert "that T5 read from key x is T2's: T" in anomaly.explanation
    assert "that T5 read from key x is T3's: T" in anomaly.explanation
    assert result.not_models == ("read-committed",)


def test_the_initial_value_may_be_written() -> None:
    # jepsen-io/elle/issues/28
    assert check("rx2wx2 rx2wx3", initial="2").verdict is Verdict.VALID
    assert check("rx2wx3 rx2wx4", initial="2").verdict is Verdict.INVALID
    assert check("wx2 ; rx ; rx2", initial="2").verdict is Verdict.INVALID


def test_a_search_that_gives_up_says_which_values_repeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assignments, "JUDGED_TRANSACTIONS_MAX", 0)
    monkeypatch.setattr(assignments, "JUDGEMENTS_MAX", 0)
    monkeypatch.setattr(assignments.Assignments, "proves_all", lambda _self: False)
    result = check("wx1 wx1 ; rx1 ; rx1", consistency="serializable")
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason == (
        "T2 and T3 both write 1 to key x, so nobody can tell whose 1 T5 read; "
        "search=exhaustive goes on until it is settled"
    )
    result = check("wx ; rx", consistency="serializable")
    assert result.reason.startswith(
        "T1 writes nil to key x, which may have begun with it, so nobody can tell"
    )


def test_a_limit_that_ends_the_search_does_not_hide_which_values_repeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def limited(*_arguments: object) -> None:
        raise LimitExceeded("the time limit of 1 s ran out")

    monkeypatch.setattr(assignments.Assignments, "proves_all", lambda _self: False)
    monkeypatch.setattr(assignments.Assignments, "_try", limited)
    result = check("wx1 wx1 ; rx1", consistency="serializable")
    assert result.verdict is Verdict.UNKNOWN
    assert "both write 1 to key x" in result.reason
    assert result.reason.endswith("; the time limit of 1 s ran out")


# Values that look alike


@pytest.mark.parametrize(
    ("wrote", "read"),
    [((True, 5), (1, None)), (("x", True), ("x", 1)), (("x", "1"), ("x", 1))],
)
def test_keys_and_values_are_told_apart_as_json_does(
    wrote: tuple[object, object], read: tuple[object, object]
) -> None:
    history = History(
        [
            Op(0, 0, 0, "invoke", "txn", [["w", *wrote]]),
            Op(1, 1, 0, "ok", "txn", [["w", *wrote]]),
            Op(2, 2, 0, "invoke", "txn", [["r", read[0], None]]),
            Op(3, 3, 0, "ok", "txn", [["r", *read]]),
        ]
    )
    result = rw_register.build({}).check(history, Limits())
    garbage = read[1] is not None
    assert ("garbage-read" in names(result)) is garbage
    assert (result.verdict is Verdict.VALID) is not garbage


# Found by trying definitions out


def test_what_is_read_before_it_is_replaced_counts_as_what_its_writer_left() -> None:
    """Process 0 wrote 1 and 2, then 3, and then read 1: it comes before 2."""
    text = "wx1wx2@0 ; wx3@0 ; rx1rx3@0"
    result = check(text, consistency="read-your-writes")
    assert names(result) == {"own-write-missed"}


def test_an_open_order_is_not_settled_by_a_cycle_that_the_model_allows() -> None:
    """Whoever wrote y first, one of the two went back; but view is not consistent."""
    text = "rx1ry1@1 ; wy1wx1rx@1 ; wy2rywx2@1"
    result = check(text, consistency="monotonic-view", initial="1")
    assert result.verdict is not Verdict.VALID
