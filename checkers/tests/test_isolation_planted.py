"""Every class of anomaly, planted among the transactions of a right database."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from checkers import list_append, rw_register
from checkers.isolation import models
from checkers.tests.isolation_histories import Simulation, beside, transactions
from harness.verdict import CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from harness.history import History

LISTS = {
    "G0": "ax1ay1 ax2ay2 rx12ry21",
    "G0-process": "ax1@0 ; ax2@0 ; rx21",
    "G0-realtime": "ax1 ; ax2 ; rx21",
    "G1c": "ax1ry1 ay1rx1",
    "G1c-process": "rx1@0 ; ax1@0",
    "G1c-realtime": "rx1 ; ax1",
    "G-single-item": "ax1ay1 rx1ry ; ry1",
    "G-single-item-process": "ax1@0 ; rx@0",
    "G-single-item-realtime": "ax1 ; rx",
    "G-nonadjacent-item": "ax1 ay1 rx1ry rxry1",
    "G-nonadjacent-item-process": "ax1@0 ay1@1 ; ry@0 rx@1",
    "G-nonadjacent-item-realtime": "ax1 ay1 ; ry rx",
    "G2-item": "rxay1 ryax1",
    "G2-item-process": "ax1@0 ay1rx ; ry@0",
    "G2-item-realtime": "ax1 ay1rx ; ry",
    "G-cursor": "rxax2 ax1 ; rx12",
    "G-monotonic": "ax1ay1 rx1ry",
    "G-MSR": "ax1 ay1 rx1ry ry1rx",
    "G-update": "rxay1 ax1 rx1ry ; ry1",
    "write-skew": "rxay1 ryax1",
    "G1a": "ax1! rx1",
    "G1b": "ax1ax2 rx1",
    "internal": "ax1rx",
    "future-read": "rx1ax1",
    "duplicate-elements": "ax1 ; rx11",
    "incompatible-order": "ax1 ax2 rx12 rx21",
    "dirty-update": "ax1! ax2 ; rx12",
    "lost-update": "rxax1 rxax2",
    "lost-append": "ax1 ; rx",
    "garbage-read": "rx9",
}
"""One line each; that worse anomalies follow from some of them is no matter."""

REGISTERS = {
    "G0": "wx1wy1 wx2wy2 ; rx1@5 ry2@6 ; rx2@5 ry1@6",
    "G0-realtime": "wx1 ; wx2 ; rx2@5 ; rx1@5",
    "G1c": "wx1ry1 wy1rx1",
    "G1c-process": "rx1@0 ; wx1@0",
    "G1c-realtime": "rx1 ; wx1",
    "G-single-item": "wx1wy1 rx1ry",
    "G-single-item-process": "wx1@0 ; rx@0",
    "G-single-item-realtime": "wx1 ; rx",
    "G-nonadjacent-item": "wx1 wy1 rx1ry rxry1",
    "G-nonadjacent-item-process": "wx1@0 wy1@1 ; ry@0 rx@1",
    "G-nonadjacent-item-realtime": "wx1 wy1 ; ry rx",
    "G2-item": "rxwy1 rywx1",
    "G2-item-process": "wx1@0 wy1rx ; ry@0",
    "G2-item-realtime": "wx1 wy1rx ; ry",
    "G-cursor": "rxwx2 wx1 ; rx1@5 ; rx2@5",
    "G-monotonic": "wx1wy1 rx1ry",
    "G-MSR": "wx1 wy1 rx1ry ry1rx",
    "G-update": "rxwy1 wx1 rx1ry",
    "write-skew": "rxwy1 rywx1",
    "G1a": "wx1! rx1",
    "G1b": "wx1wx2 rx1",
    "internal": "wx1rx",
    "future-read": "rx1wx1",
    "lost-update": "rxwx1 rxwx2",
    "garbage-read": "rx9",
    "cyclic-versions": "wx1 wx2 ; rx1@5 rx2@6 ; rx2@5 rx1@6",
}

BY_NAME = {
    "non-monotonic-read": ("read-committed", "wx1wy1 ry1rx"),
    "fractured-read": ("read-atomic", "wx1wy1 rx1ry"),
    "causal-violation": ("causal", "wx1 rx1wy1 ry1rx"),
    "G-prefix": ("prefix", "wx1 wy1 rx1ry rxry1"),
    "own-write-missed": ("read-your-writes", "wx1@0 ; rx@0"),
    "read-went-back": ("monotonic-reads", "wx1 ; rx1@0 ; rx@0"),
    "writes-reordered": ("monotonic-writes", "wx1@0 ; wy1@0 ; ry1rx"),
    "write-before-read": ("writes-follow-reads", "wx1 ; rx1@0 ; wy1@0 ; ry1rx"),
}
"""What is looked for when a model is asked that is defined by it."""


def background(*, lists: bool) -> History:
    """Transactions of a serial database, on keys of their own."""
    simulation = Simulation(lists, random.Random(7), keys=6, crashes=0.03)
    return simulation.history(200, 8)


def check(history: History, *, lists: bool, **options: str) -> CheckResult:
    build = list_append.build if lists else rw_register.build
    given = {name.replace("_", "-"): value for name, value in options.items()}
    return build(given).check(history, Limits())


def names(result: CheckResult) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("at", [0.0, 0.4, 1.0])
def test_each_anomaly_of_lists_is_found_wherever_it_is_planted(
    name: str, at: float
) -> None:
    planted = transactions(LISTS[name])
    result = check(beside(background(lists=True), planted, at), lists=True)
    assert result.verdict is Verdict.INVALID
    assert name in names(result)
    for anomaly in result.anomalies:
        assert anomaly.explanation.endswith(".")
        assert anomaly.ops


@pytest.mark.parametrize("name", REGISTERS)
@pytest.mark.parametrize("at", [0.0, 1.0])
def test_each_anomaly_of_registers_is_found_wherever_it_is_planted(
    name: str, at: float
) -> None:
    planted = transactions(REGISTERS[name], lists=False)
    result = check(
        beside(background(lists=False), planted, at),
        lists=False,
        sequential_keys="true",
    )
    assert result.verdict is Verdict.INVALID
    assert name in names(result)


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("name", BY_NAME)
def test_each_anomaly_that_defines_a_model_is_found_when_the_model_is_asked(
    name: str, lists: bool
) -> None:
    model, line = BY_NAME[name]
    if lists and name == "non-monotonic-read":
        pytest.skip("read committed is Adya's where the order of versions shows")
    line = line.replace("w", "a") if lists else line
    history = beside(background(lists=lists), transactions(line, lists=lists), 0.5)
    result = check(history, lists=lists, consistency=model)
    assert result.verdict is Verdict.INVALID
    assert name in names(result)
    assert result.not_models


def test_no_anomaly_is_left_without_a_history_that_has_it() -> None:
    planted = {*LISTS, *REGISTERS, *BY_NAME}
    general = {implied for name in planted for implied in models.generalizations(name)}
    assert set(models.ANOMALIES) <= general | planted
