"""`splitbrain bench search`: which hunt was cheaper, and both hunts for real."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.bench import search
from harness.bench.mutants import Hunt, set_ups
from harness.bench.search import EXPLORE, RANDOM, Case, Compared
from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Outcome
from harness.cli import run_command
from harness.errors import HarnessError
from harness.run.spec import TestSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

BUDGET_S = 20.0


def hunts(costs_s: Sequence[float | None]) -> list[Hunt]:
    """Hunts with these costs; None for one that found nothing."""
    outcome = Outcome(experiment=Experiment(TestSpec(system="raft")), verdict="invalid")
    return [
        Hunt(3, BUDGET_S + 1.0, None) if cost is None else Hunt(2, cost, outcome)
        for cost in costs_s
    ]


def case(random: Sequence[float | None], explore: Sequence[float | None]) -> Case:
    made = Case("raft", "two-votes", BUDGET_S)
    made.hunts = {RANDOM: hunts(random), EXPLORE: hunts(explore)}
    return made


def test_a_hunt_that_finds_nothing_counts_as_its_budget() -> None:
    escaped = case([None, None, 4.0], [5.0, 10.0, None])
    assert escaped.cost_s(RANDOM) == BUDGET_S
    assert escaped.cost_s(EXPLORE) == 10.0
    assert escaped.ratio == 2.0
    assert (escaped.found(RANDOM), escaped.found(EXPLORE)) == ("1/3", "2/3")


@pytest.mark.parametrize(
    ("cases", "later", "is_met"),
    [
        ([case([8.0], [2.0]), case([6.0], [3.0])], 0, True),
        ([case([8.0], [2.0]), case([8.0], [2.0]), case([2.0], [8.0])], 1, False),
        ([case([8.0], [6.0])], 0, False),
        ([], 0, False),
    ],
)
def test_the_target_is_twice_as_soon_and_never_later(
    cases: list[Case], later: int, *, is_met: bool
) -> None:
    compared = Compared("sim", cases)
    assert len(compared.later) == later
    assert compared.meets_target == is_met
    assert ("met" if is_met else "MISSED") in compared.text()


def test_a_mutant_whose_hunt_failed_is_no_success() -> None:
    failed = Case("raft", "two-votes", BUDGET_S, error="disk full")
    compared = Compared("sim", [case([8.0], [2.0]), failed])
    assert compared.ratio == 4.0
    assert not compared.meets_target
    assert "disk full" in compared.text()


def test_a_hunt_ends_at_its_budget_and_at_what_the_harness_failed() -> None:
    spec, _ = set_ups("paxos", "learn-from-minority", "sim")
    hunting = search.explore(spec, 7, 1.0)
    asked = next(hunting)
    assert asked.spec.seed == 7
    assert asked.plan is not None
    valid = Outcome(experiment=asked, verdict="valid", cpu_s=0.6)
    hunting.send(valid)
    with pytest.raises(StopIteration) as ended:
        hunting.send(valid)
    assert ended.value.value == Hunt(2, 1.2, None)
    hunting = search.explore(spec, 7, 1.0)
    first = next(hunting)
    with pytest.raises(HarnessError, match="disk full"):
        hunting.send(Outcome.failed(first, "disk full"))


def test_search_is_measured_alone_and_options_of_rows_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["bench", "search", "check"]) == 254
    assert "name it alone" in capsys.readouterr().err
    assert run_command(["bench", "search", "--protocol", "nope"]) == 254
    assert "nope" in capsys.readouterr().err


@pytest.mark.nightly
def test_a_mutant_is_hunted_in_both_ways(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path_factory.mktemp("results")
    words = ["--quick", "--protocol", "paxos", "--repeat", "1", "--budget", "10"]
    run_command(["bench", "search", *words, "--results", str(results)])
    told = capsys.readouterr().out
    assert "median ratio" in told
    assert list(results.glob("bench/search-sim-*.json"))
