"""The kit of findings: counts, examples, sentences and the result of a check."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.findings import (
    EXAMPLES_MAX,
    LISTED_MAX,
    SHOWN_MAX,
    Earliest,
    Findings,
    anomaly,
    collect,
    conclude,
    draw,
    enumerate_names,
    enumerated,
    listed,
    name_of,
    shortened,
    shown,
)
from checkers.tests.histories import FEWER
from harness.history import Op
from harness.verdict import Anomaly, Verdict, nothing_to_judge

NAMES = st.lists(st.sampled_from(["G0", "G1a", "G1b"]), max_size=60)
RANKS = st.lists(st.integers(0, 40), max_size=60)


@FEWER
@given(NAMES, st.integers(1, EXAMPLES_MAX))
def test_all_are_counted_and_the_first_few_of_each_name_are_kept(
    names: list[str], examples_max: int
) -> None:
    found = [anomaly(name, f"number {n}") for n, name in enumerate(names)]
    findings = collect(found, examples_max)
    assert findings.counts == Counter(names)
    for name in set(names):
        of_name = [one for one in found if one.name == name]
        kept = [one for one in findings.examples if one.name == name]
        assert kept == of_name[:examples_max]
    assert findings.examples == [one for one in found if one in findings.examples]


def test_evidence_is_asked_for_before_it_is_made() -> None:
    findings: Findings[Anomaly] = Findings(2)
    asked = [findings.wants("G0") for _ in range(4)]
    assert asked == [True, True, False, False]
    assert findings.counts == {"G0": 4}
    assert not findings.examples


@FEWER
@given(RANKS, st.integers(1, 4))
def test_the_earliest_are_kept_whatever_the_order_and_in_whatever_parts(
    ranks: list[int], parts: int
) -> None:
    shares: list[Earliest[int]] = [Earliest() for _ in range(parts)]
    for n, rank in enumerate(ranks):
        share = shares[n % parts]
        kept = len(share.examples)
        wanted = share.wants(rank)
        share.keep((rank, n))
        assert wanted == (n in share.examples)
        assert len(share.examples) == min(kept + 1, EXAMPLES_MAX)
    whole: Earliest[int] = Earliest()
    for share in shares:
        whole.keep(*share.ranked)
    assert [ranks[n] for n in whole.examples] == sorted(ranks)[:EXAMPLES_MAX]


def test_of_equal_ranks_the_older_stays() -> None:
    earliest: Earliest[str] = Earliest()
    earliest.keep((2, "first"), (1, "lower"))
    earliest.keep((2, "second"))
    assert earliest.examples == ["lower", "first", "second"]


def test_the_operations_of_an_anomaly_are_those_of_its_witness_in_order() -> None:
    one = anomaly("G0", "why", [(7, 3, "ww", "so")], ops=[9, 5], key="x")
    assert one.ops == (3, 5, 7, 9)
    assert one.as_json()["witness"] == {
        "nodes": [5, 9, 7, 3],
        "edges": [{"source": 7, "target": 3, "kind": "ww", "reason": "so"}],
    }
    assert (one.key, one.details) == ("x", {})
    assert list(draw([], [4, 2]).nodes) == [4, 2]


def test_a_result_is_invalid_with_findings_else_unknown_with_a_reason() -> None:
    found = anomaly("G0", "why")
    broken = conclude(
        {"G0": 30}, [found], {"reads": 1}, reason="cut", not_models=["serializable"]
    )
    assert broken.verdict is Verdict.INVALID
    assert broken.anomalies == (found,)
    assert broken.stats == {"reads": 1, "anomalies": {"G0": 30}}
    assert (broken.reason, broken.not_models) == ("cut", ("serializable",))
    doubtful = conclude({}, [], {"reads": 1}, reason="cut", not_models=["serializable"])
    assert (doubtful.verdict, doubtful.reason) == (Verdict.UNKNOWN, "cut")
    assert (doubtful.not_models, doubtful.stats) == ((), {"reads": 1})
    empty = conclude({}, [], {}, reason=nothing_to_judge("no read succeeded"))
    assert empty.vacuous
    assert not doubtful.vacuous
    fine = conclude({}, [], {})
    assert (fine.verdict, fine.reason, fine.stats) == (Verdict.VALID, "", {})


@pytest.mark.parametrize(
    ("words", "told"),
    [([], ""), (["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")],
)
def test_words_are_enumerated(words: list[str], told: str) -> None:
    assert enumerated(words, "or") == told
    assert enumerated(words) == told.replace(" or ", " and ")


def test_a_long_list_says_how_many_are_left() -> None:
    names = [f"n{n}" for n in range(1, LISTED_MAX + 2)]
    assert enumerate_names(names[:-1]) == "n1, n2, n3, n4, n5 and n6"
    assert enumerate_names([*names, "n1"]) == "n1, n2, n3, n4, n5 and 2 more"
    assert listed(names, 3) == "n1, n2, n3 and 4 more"
    assert listed(names[:3], 3) == "n1, n2, n3"


@FEWER
@given(st.text("ab", max_size=2 * SHOWN_MAX))
def test_a_value_that_is_shown_has_a_limited_length(text: str) -> None:
    assert len(shown(text)) <= SHOWN_MAX
    assert shortened(text, len(text)) == text
    short = shortened(text)
    assert short == text or (short.endswith("...") and text.startswith(short[:-3]))


def test_the_speaker_is_the_node_or_else_the_process() -> None:
    assert name_of(Op(0, 0, 3, "ok", "read", node="n2")) == "n2"
    assert name_of(Op(0, 0, 3, "ok", "read")) == "process 3"
    assert name_of(Op(0, 0, "nemesis", "info", "kill")) == "nemesis"
