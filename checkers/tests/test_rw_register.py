"""The rw-register checker against histories of the literature, and by hand."""

from __future__ import annotations

import pytest

from checkers import rw_register
from checkers.tests.isolation_histories import transactions
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
