from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.rates import Z_95, Rate, wilson

ROUNDING = 1e-9


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    runs = draw(st.integers(1, 10_000))
    return draw(st.integers(0, runs)), runs


zs = st.floats(0.1, 6.0)


def accepts(hits: int, runs: int, rate: float, z: float) -> bool:
    """Whether a two-sided score test at `hits` of `runs` lets the rate stand."""
    error = math.sqrt(rate * (1 - rate) / runs)
    return abs(hits / runs - rate) <= z * error


def inverted(hits: int, runs: int, z: float) -> tuple[float, float]:
    """The outermost rates that the score test accepts, found by halving intervals.

    The test accepts the observed rate, and the rates that it accepts are an interval.
    """
    observed = hits / runs
    bounds = []
    for outermost in (0.0, 1.0):
        inside, outside = observed, outermost
        if accepts(hits, runs, outermost, z):
            bounds.append(outermost)
            continue
        for _ in range(80):
            middle = (inside + outside) / 2
            if accepts(hits, runs, middle, z):
                inside = middle
            else:
                outside = middle
        bounds.append(inside)
    return bounds[0], bounds[1]


@given(counts(), zs)
def test_the_bounds_are_where_the_score_test_begins_to_reject(
    hits_of_runs: tuple[int, int], z: float
) -> None:
    assert wilson(*hits_of_runs, z) == pytest.approx(
        inverted(*hits_of_runs, z), abs=1e-7
    )


@given(counts(), zs)
def test_an_interval_holds_the_observed_rate_and_stays_within_0_and_1(
    hits_of_runs: tuple[int, int], z: float
) -> None:
    hits, runs = hits_of_runs
    lower, upper = wilson(hits, runs, z)
    assert 0 <= lower <= hits / runs <= upper <= 1
    assert lower < upper
    assert (lower == 0) == (hits == 0)
    assert (upper == 1) == (hits == runs)


@given(counts(), zs)
def test_the_interval_of_misses_is_that_of_hits_seen_from_1(
    hits_of_runs: tuple[int, int], z: float
) -> None:
    hits, runs = hits_of_runs
    lower, upper = wilson(hits, runs, z)
    assert wilson(runs - hits, runs, z) == pytest.approx(
        (1 - upper, 1 - lower), abs=ROUNDING
    )


@given(counts(), zs)
def test_a_hit_more_raises_both_bounds_and_a_miss_more_lowers_them(
    hits_of_runs: tuple[int, int], z: float
) -> None:
    before = Rate(*hits_of_runs)
    hit, miss = before.with_run(hit=True), before.with_run(hit=False)
    assert hit.lower(z) >= before.lower(z) >= miss.lower(z) - ROUNDING
    assert hit.upper(z) >= before.upper(z) - ROUNDING
    assert before.upper(z) >= miss.upper(z) - ROUNDING


@given(counts(), zs, st.integers(2, 20))
def test_more_runs_of_the_same_rate_and_a_smaller_z_make_it_narrower(
    hits_of_runs: tuple[int, int], z: float, times: int
) -> None:
    hits, runs = hits_of_runs
    lower, upper = wilson(hits, runs, z)
    for narrower in (wilson(hits * times, runs * times, z), wilson(hits, runs, z / 2)):
        assert lower - ROUNDING <= narrower[0] <= narrower[1] <= upper + ROUNDING


@pytest.mark.parametrize(
    ("hits", "runs", "lower", "upper"),
    [
        # Newcombe (1998, "Two-sided confidence intervals for the single proportion"),
        # table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_intervals(hits: int, runs: int, lower: float, upper: float) -> None:
    assert wilson(hits, runs, Z_95) == pytest.approx((lower, upper), abs=5e-5)


def test_a_rate_in_words() -> None:
    assert str(Rate(7, 10)) == "7 of 10, rate 0.40 to 0.89 (Wilson 95 %)"
    assert str(Rate(0, 10)) == "0 of 10, rate 0.00 to 0.28 (Wilson 95 %)"
    assert str(Rate(4, 4)) == "4 of 4, rate 0.51 to 1.00 (Wilson 95 %)"
    assert str(Rate(0, 0)) == "0 of 0"


def test_no_run_says_nothing_of_the_rate() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert Rate(0, 0).observed == 0.0
    assert Rate(7, 10).as_json() == {
        "hits": 7,
        "runs": 10,
        "lower": 0.3968,
        "upper": 0.8922,
    }
