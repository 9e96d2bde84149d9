"""A night beside another: what counts as new, more often, slower, less covered."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.campaign.suites import baseline
from harness.campaign.suites.nights import Night
from harness.report import index

MARK = {
    "checker": "linearizable",
    "anomaly": "stale-read",
    "system": "raft",
    "workload": "register",
    "mutant": None,
}


def seed(number: int, *marks: dict[str, Any], **told: Any) -> dict[str, Any]:
    return {
        "seed": number,
        "verdict": "invalid" if marks else "valid",
        "as_expected": not marks,
        "decides": True,
        "fingerprints": list(marks),
        "ops": {"ok": 1000},
        "seconds": 10.0,
        "latency_ms": {"p50": 5.0},
        "bit": ["kill"],
        **told,
    }


def row(*seeds: dict[str, Any], **told: Any) -> dict[str, Any]:
    return {"name": "r", "expected": "valid", "seeds": list(seeds), **told}


def compared(now: dict[str, Any], then: dict[str, Any]) -> baseline.Comparison:
    return baseline.compare([now], Night(Path("before"), {"r": then}))


def test_nothing_is_new_where_nothing_differs() -> None:
    same = row(seed(0), seed(1))
    found = compared(same, same)
    assert found.lines() == ["nothing new beside before (1 rows in common)"]
    assert not found.worse
    assert not found.doubtful


def test_a_failure_that_the_other_night_lacks_is_new_whatever_its_row_was() -> None:
    found = compared(row(seed(0, MARK)), row(seed(0)))
    assert found.new == ["r: stale-read (linearizable, raft, register) in 1 of 1 runs"]
    other = baseline.compare([row(seed(0, MARK))], Night(Path("x"), {}))
    assert other.worse, "a row that is new, too"


def test_another_anomaly_of_a_row_that_is_to_be_invalid_is_chance() -> None:
    other = {**MARK, "anomaly": "lost-write"}
    now, then = row(seed(0, MARK, other)), row(seed(0, MARK))
    assert not compared({**now, "expected": "invalid"}, then).worse


def test_a_failure_that_came_before_is_told_when_it_does_not_come_again() -> None:
    found = compared(row(seed(0)), row(seed(0, MARK), seed(1)))
    assert found.gone == [
        "r: stale-read (linearizable, raft, register), then in 1 of 2 runs"
    ]
    assert not found.worse


@pytest.mark.parametrize(
    ("now", "then", "worse"),
    [((1, 1), (1, 1), False), ((2, 3), (1, 3), False), ((9, 10), (1, 10), True)],
)
def test_more_often_is_what_chance_does_not_explain(
    now: tuple[int, int], then: tuple[int, int], *, worse: bool
) -> None:
    def night(hits: int, runs: int) -> dict[str, Any]:
        return row(*(seed(n, *[MARK] * (n < hits)) for n in range(runs)))

    assert bool(compared(night(*now), night(*then)).more_often) == worse


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_the_chance_is_that_of_all_ways_to_deal_the_hits_out(
    hits: int, misses: int, hits_then: int, misses_then: int
) -> None:
    runs, runs_then = hits + misses, hits_then + misses_then
    every = hits + hits_then
    ways = list(itertools.combinations(range(runs + runs_then), every))
    as_many = sum(sum(place < runs for place in way) >= hits for way in ways)
    chance = baseline.chance_of_more(hits, runs, hits_then, runs_then)
    assert chance == pytest.approx(as_many / len(ways))


def test_slower_is_said_if_even_the_best_run_is_much_slower_than_the_worst() -> None:
    then = row(seed(0, seconds=10.0), seed(1, seconds=12.0))
    slow = row(seed(0, seconds=30.0), seed(1, seconds=22.0))
    assert compared(slow, then).slower == [
        "r: 45 operations a second at best, then 83 at worst"
    ]
    assert compared(slow, then).doubtful
    mixed = row(seed(0, seconds=30.0), seed(1, seconds=13.0))
    assert not compared(mixed, then).slower
    late = row(seed(0, latency_ms={"p50": 9.0}))
    assert compared(late, row(seed(0))).slower == [
        "r: median latency 9.0 ms at best, then 5.0 at worst"
    ]


def test_runs_of_few_operations_or_that_failed_say_nothing_about_speed() -> None:
    few = row(seed(0, ops={"ok": 10}, seconds=100.0, latency_ms={}))
    assert not compared(few, row(seed(0))).slower
    failed = row(seed(0, MARK, seconds=100.0))
    assert not compared(failed, row(seed(0, MARK))).slower


def test_a_kind_of_fault_that_bites_no_more_is_told() -> None:
    found = compared(row(seed(0, bit=[])), row(seed(0, bit=["kill"])))
    assert found.less_covered == ["r: kill bit in no run"]
    assert found.doubtful


ANYTHING = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["seeds", "verdict", "fingerprints", "ops", "ok", "bit"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(ANYTHING, ANYTHING)
def test_nights_from_anywhere_are_compared_without_harm(now: Any, then: Any) -> None:
    told = then if isinstance(then, dict) else {}
    rows = [now] if isinstance(now, dict) else []
    for one in baseline.compare(rows, Night(Path("x"), {"": told})).lines():
        assert isinstance(one, str)


# JUnit


def cases(tmp_path: Path, *rows: dict[str, Any], unknown: str = "skipped") -> list[Any]:
    path = tmp_path / "junit.xml"
    index.write_junit(rows, path, unknown=unknown)
    root = ElementTree.parse(path).getroot()
    suite = root.find("testsuite")
    assert suite is not None
    found = suite.findall("testcase")
    for what in ("failure", "error", "skipped"):
        plural = what if what == "skipped" else f"{what}s"
        assert suite.get(plural) == str(sum(c.find(what) is not None for c in found))
    return found


def kind(case: Any) -> str:
    return next(
        (
            what
            for what in ("failure", "error", "skipped")
            if case.find(what) is not None
        ),
        "",
    )


def test_junit_has_a_case_a_seed_with_sentence_and_command(tmp_path: Path) -> None:
    bad = seed(
        4,
        MARK,
        found="1 x stale-read",
        sentence="It returned 3, which was gone.",
        repro="splitbrain run raft --seed 4",
    )
    told = row(seed(3), bad, verdict="invalid", as_expected=False, system="raft")
    first, second = cases(tmp_path, told)
    assert (first.get("name"), kind(first)) == ("r [seed 3]", "")
    assert (second.get("name"), kind(second)) == ("r [seed 4]", "failure")
    assert second.find("failure").get("message") == (
        "invalid, expected valid: 1 x stale-read: It returned 3, which was gone. "
        "(repeat: splitbrain run raft --seed 4)"
    )


def test_a_seed_that_did_not_decide_a_row_that_is_to_be_invalid_is_skipped(
    tmp_path: Path,
) -> None:
    tried = seed(1, as_expected=False, decides=False)
    found = seed(2, MARK, as_expected=True)
    told = row(tried, found, expected="invalid", verdict="invalid", as_expected=True)
    assert [kind(case) for case in cases(tmp_path, told)] == ["skipped", ""]


@pytest.mark.parametrize("unknown", ["skipped", "failure"])
def test_an_unknown_verdict_is_what_was_asked_for(tmp_path: Path, unknown: str) -> None:
    one = seed(1, verdict="unknown", as_expected=False, reason="nothing to judge")
    told = row(one, verdict="unknown", as_expected=False)
    (case,) = cases(tmp_path, told, unknown=unknown)
    assert kind(case) == unknown
    assert "nothing to judge" in case.find(unknown).get("message")


def test_a_row_without_runs_is_one_case_that_is_skipped(tmp_path: Path) -> None:
    told = row(verdict="skipped", as_expected=None, skipped="etcd is not installed")
    (case,) = cases(tmp_path, told)
    assert (case.get("name"), kind(case)) == ("r", "skipped")


def test_a_failure_of_the_harness_is_an_error(tmp_path: Path) -> None:
    one = seed(1, verdict="error", as_expected=False, error="no namespaces")
    told = row(one, verdict="error", as_expected=False, error="no namespaces")
    (case,) = cases(tmp_path, told)
    assert kind(case) == "error"
