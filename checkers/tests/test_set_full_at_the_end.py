"""Sets whose nodes converge: in the end every node must have everything."""

from __future__ import annotations

from typing import Any

from checkers.tests.counting_histories import Call, check, interleave
from harness.verdict import CheckResult, Verdict


def judged(*calls: Call) -> CheckResult:
    """The verdict on calls that follow one another, each a millisecond long."""
    tokens = [i for i in range(len(calls)) for _ in range(2)]
    return check("set-full", interleave(list(calls), tokens))


def add(value: Any) -> Call:
    return Call("add", value, got=value)


def read(*values: Any) -> Call:
    return Call("read", got=list(values))


def final(*values: Any) -> Call:
    return Call("final-read", got=list(values))


def test_an_element_that_one_node_lacks_in_the_end_is_missing_whoever_reads_last() -> (
    None
):
    for finals in ((final(1), final(1, 2)), (final(1, 2), final(1))):
        result = judged(add(1), add(2), *finals)
        assert result.verdict is Verdict.INVALID
    result = judged(add(1), add(2), final(1), final(1, 2))
    (anomaly,) = result.anomalies
    assert anomaly.name == "missing-at-end"
    assert "2 was acknowledged" in anomaly.explanation
    assert "It was the final read" in anomaly.explanation
    assert result.stats["missing_at_end"] == 1


def test_earlier_reads_may_miss_what_was_acknowledged() -> None:
    result = judged(add(1), add(2), read(1), read(1, 2), final(1, 2), final(1, 2))
    assert result.verdict is Verdict.VALID
    assert result.stats["stale"] == 1
    assert result.stats["missing_at_end"] == 0


def test_a_final_read_owes_nothing_that_nobody_knew_before_it() -> None:
    unknown = Call("add", 2, outcome="info")
    result = judged(add(1), unknown, final(1), final(1))
    assert result.verdict is Verdict.VALID


def test_stable_latencies_are_the_times_until_no_read_misses_an_element() -> None:
    result = judged(add(1), add(2), read(1), read(1, 2))
    told = result.stats["stable_latencies_ms"]
    assert list(told) == ["0", "0.5", "0.95", "0.99", "1"]
    assert told["0"] == 0
    # From the acknowledgement of 2 to the beginning of the read that misses it.
    assert told["1"] == 1
