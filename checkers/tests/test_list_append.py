"""The list-append checker against histories of the literature, and by hand."""

from __future__ import annotations

import pytest

from checkers import list_append
from checkers.tests.isolation_histories import transactions
from harness.verdict import CheckResult, Limits, Verdict


def check(text: str, **options: str) -> CheckResult:
    """The checker's answer to a line of the mini-language."""
    return list_append.build(options).check(transactions(text), Limits())


def names(result: CheckResult) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


@pytest.mark.parametrize(
    ("text", "name", "broken"),
    [
        ("ax1ay1 ax2ay2 rx12ry21", "G0", "read-uncommitted"),
        ("ax1! rx1", "G1a", "read-committed"),
        ("ax1ax2 rx1 ; rx12", "G1b", "read-committed"),
        ("ax1ry1 ay1rx1", "G1c", "read-committed"),
        ("ax1ay1 ryrx1 ; ry1", "G-single-item", "consistent-view"),
        ("ax1ay1 rx1ry ; ry1", "G-monotonic", "monotonic-view"),
        ("ax1 ay1 rx1ry ry1rx", "G-MSR", "monotonic-snapshot-read"),
        ("rxax2 ax1 ; rx12", "G-cursor", "cursor-stability"),
        ("rxay1 ax1 rx1ry ; ry1", "G-update", "update-serializable"),
        ("ax1 ay1 rx1ry rxry1", "G-nonadjacent-item", "snapshot-isolation"),
        ("rxay1 ryax1", "G2-item", "repeatable-read"),
        ("rxax1 rxax2 ; rx12", "lost-update", "cursor-stability"),
        ("ax1 ; rx", "G-single-item-realtime", "strong-snapshot-isolation"),
        ("ax1@0 ; rx@0", "G-single-item-process", "strong-session-snapshot-isolation"),
        ("ax1 ; ax2 ; rx21", "G0-realtime", "strong-read-uncommitted"),
        ("rx1 ; ax1", "G1c-realtime", "strong-read-committed"),
        ("ax1rx", "internal", "read-atomic"),
        ("rx1ax1", "future-read", "read-committed"),
        ("ax1 ; rx11", "duplicate-elements", "read-uncommitted"),
        ("ax1 ax2 ; rx12 rx21", "incompatible-order", "read-committed"),
        ("ax1! ax2 ; rx12", "dirty-update", "read-committed"),
        ("rx1", "garbage-read", "read-uncommitted"),
    ],
)
def test_each_anomaly_is_found_and_breaks_its_weakest_model(
    text: str, name: str, broken: str
) -> None:
    result = check(text)
    assert result.verdict is Verdict.INVALID
    assert name in names(result)
    assert broken in result.not_models
