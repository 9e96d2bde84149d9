"""Which faults a campaign's runs asked for bit, and which never did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.campaign.coverage import Coverage
from harness.campaign.executor import noted
from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Outcome
from harness.report.index import build_index, write_junit, write_summary
from harness.run.records import Activation, FaultRecord
from harness.run.spec import TestSpec

if TYPE_CHECKING:
    from pathlib import Path

    from harness.campaign.executor import Pursuit

KINDS = ("kill", "power")
KNOBS = ("torn", "names")


def outcome(nemesis: list[str], **faults: FaultRecord) -> Outcome:
    experiment = Experiment(TestSpec(system="raft", nemesis=nemesis))
    return Outcome(experiment=experiment, verdict="valid", faults=faults)


def record(bit: int, *, of: int, **knobs: tuple[int, int]) -> FaultRecord:
    """`of` faults that were applied; knob -> (how often it bit, of how many)."""
    told = {k: Activation(asked=n, applied=n, bit=b) for k, (b, n) in knobs.items()}
    return FaultRecord(
        asked=of, applied=of, count=of, bit=bit, no_effect=of - bit, knobs=told
    )


CAMPAIGN = [
    outcome(
        ["kill", "power"], kill=record(2, of=2), power=record(1, of=1, torn=(0, 1))
    ),
    outcome(
        ["kill", "power"], kill=record(0, of=1), power=record(2, of=2, names=(2, 2))
    ),
    outcome(["kill", "clock"], kill=record(1, of=1)),
    Outcome.failed(
        Experiment(TestSpec(system="raft", nemesis=["rot"])), "no", refused=True
    ),
]


def covered(outcomes: list[Outcome]) -> Coverage:
    coverage = Coverage()
    for one in outcomes:
        coverage.add(one)
    return coverage


def test_the_table_tells_shares_and_names_what_never_bit() -> None:
    assert (
        covered(CAMPAIGN).text()
        == """\
what was broken  asked  applied  bit  bit in runs   else
---------------  -----  -------  ---  ------------  -----------
clock                0        0    0  0 of 1, 0%
kill                 4        4    3  2 of 3, 67%   1 no effect
power                3        3    3  2 of 2, 100%
  names              2        2    2  1 of 2, 50%
  torn               1        1    0  0 of 2, 0%

in 3 runs, 1 knob never bit: power torn; 1 kind never had a turn: clock"""
    )
    dead = covered([outcome(["kill"], kill=record(0, of=1, torn=(0, 1)))])
    assert dead.sentence == "in 1 run, 1 kind and 1 knob never bit: kill, kill torn"
    assert covered([outcome(["none"])]).text() == ""
    assert covered([outcome(["kill"])]).sentence == "in 1 run, no fault had a turn"
    all_bit = covered([outcome(["kill"], kill=record(1, of=1))])
    assert all_bit.sentence == "in 1 run, every kind of fault and every knob bit"


def test_what_a_swarm_left_out_is_not_counted_as_what_never_bit() -> None:
    swarm = outcome(["swarm", "kill", "pause"], kill=record(1, of=2))
    told = covered([swarm, outcome(["hard"], kill=record(1, of=1))])
    assert [(line.name, line.share) for line in told.lines] == [
        ("kill", "2 of 2, 100%")
    ]
    assert told.never == []


@given(st.data())
def test_sums_over_runs_are_as_counted_one_by_one(data: st.DataObject) -> None:
    def drawn() -> FaultRecord:
        of = data.draw(st.integers(0, 3))
        bit = data.draw(st.integers(0, of))
        asked = {k: data.draw(st.integers(0, of)) for k in KNOBS}
        knobs = {k: (data.draw(st.integers(0, n)), n) for k, n in asked.items() if n}
        return record(bit, of=of, **knobs)

    runs = [
        {kind: drawn() for kind in KINDS if data.draw(st.booleans())}
        for _ in range(data.draw(st.integers(0, 4)))
    ]
    coverage = covered([outcome(list(run), **run) for run in runs])
    lines = {(line.kind, line.knob): line for line in coverage.lines}
    for kind in KINDS:
        having = [run[kind] for run in runs if kind in run]
        assert ((kind, None) in lines) == bool(having)
        for knob in (None, *KNOBS):
            told = [r if knob is None else r.knobs.get(knob) for r in having]
            line = lines.get((kind, knob))
            if line is None:
                assert not any(told)
                continue
            assert line.counts.bit == sum(one.bit for one in told if one)
            assert line.counts.asked == sum(one.asked for one in told if one)
            assert line.runs == len(having)
            assert line.bit_in == sum(one.bit > 0 for one in told if one)
            asked = line.counts.asked > 0
            assert (line in coverage.never) == (asked and not line.counts.bit)


def test_a_pursuit_is_noted_without_being_changed() -> None:
    seen: list[Outcome] = []

    def pursuit() -> Pursuit[str]:
        first = yield CAMPAIGN[0].experiment
        second = yield CAMPAIGN[1].experiment
        return f"{first is CAMPAIGN[0]} {second}"

    asked = noted(pursuit(), seen.append)
    assert next(asked) == CAMPAIGN[0].experiment
    assert asked.send(CAMPAIGN[0]) == CAMPAIGN[1].experiment
    with pytest.raises(StopIteration, match="True None"):
        asked.send(None)
    assert seen == [CAMPAIGN[0]]


def test_index_junit_and_summary_tell_the_coverage(tmp_path: Path) -> None:
    told = covered(CAMPAIGN).as_json()
    rows: list[dict[str, Any]] = [{"name": "a | <b>", "verdict": "valid", "ops": 3}]
    html = build_index(tmp_path, rows, told).read_text("utf-8")
    assert "In 3 runs, 1 knob never bit: power torn; 1 kind never had a turn" in html
    assert "2 of 3, 67%" in html
    write_junit(rows, tmp_path / "junit.xml", told)
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    facts = {p.attrib["name"]: p.attrib["value"] for p in suite.iter("property")}
    assert facts["bit in runs: power names"] == "1 of 2, 50%"
    write_summary("s", rows * 400, told, tmp_path / "summary.md")
    text = (tmp_path / "summary.md").read_text("utf-8")
    assert text.startswith("## s: 400 of 400 as expected\n")
    assert "| a \\| \\<b\\> | valid |" in text
    assert text.count("| a \\| \\<b\\> | valid |") == 400
    assert "| power torn | 1 | 1 | 0 | 0 of 2, 0% |" in text


values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.none())
)


@given(
    st.dictionaries(
        st.sampled_from(["sentence", "faults"]),
        values
        | st.lists(
            st.dictionaries(
                st.sampled_from(list(covered(CAMPAIGN).lines[0].as_json())), values
            )
        ),
    )
)
def test_any_coverage_can_be_shown(tmp_path_factory: Any, told: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("suite")
    write_junit([], folder / "junit.xml", told)
    ElementTree.parse(folder / "junit.xml")
    write_summary("s", [], told, folder / "summary.md")
    assert "<script" not in build_index(folder, [], told).read_text("utf-8")
