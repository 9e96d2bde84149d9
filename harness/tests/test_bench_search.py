"""`splitbrain bench search`: which hunt was cheaper, and both hunts for real."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from harness.bench import foreign, search
from harness.bench.mutants import CONTROLS_MIN, Hunt, set_ups
from harness.bench.search import EXPLORE, RANDOM, Case, Compared
from harness.campaign.experiment import Experiment
from harness.campaign.outcome import Outcome
from harness.cli import run_command
from harness.cli.progress import Heartbeat
from harness.errors import HarnessError, UsageError
from harness.run.spec import TestSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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


def test_a_conviction_costs_what_hunts_without_one_did_as_well() -> None:
    escaped = case([None, None, 4.0], [5.0, 10.0, None])
    assert search.cost_s(escaped.hunts[RANDOM]) == 2 * (BUDGET_S + 1) + 4
    assert search.cost_s(escaped.hunts[EXPLORE]) == (BUDGET_S + 16) / 2
    assert escaped.ratio == pytest.approx(46 / 18)
    assert escaped.cells()[2:] == ("46.00", "18.00", "2.6", "1/3", "2/3")
    assert case([None], [1.0]).cells()[2] == "> 21.00"


@pytest.mark.parametrize(
    ("random", "explore", "chance"),
    [
        # Explore had 3/4 of the time, and one conviction of four.
        ([1.0, 1.0, 1.0], [9.0], 0.25**4 + 4 * 0.75 * 0.25**3),
        ([1.0], [1.0], 0.75),
        (
            [2.0] * 3,
            [1.0] * 3,
            1 - sum(math.comb(6, n) * 2 ** (6 - n) for n in (4, 5, 6)) / 3**6,
        ),
    ],
)
def test_each_conviction_falls_to_a_way_by_its_time_if_none_is_better(
    random: list[float], explore: list[float], chance: float
) -> None:
    assert case(random, explore).chance == pytest.approx(chance)


def test_a_mutant_is_found_later_only_if_that_is_no_luck() -> None:
    unlucky, worse = case([1.0], [3.0]), case([1.0] * 9, [9.0] * 9)
    compared = Compared("sim", [unlucky, worse])
    assert compared.slower == [unlucky, worse]
    assert compared.later == [worse]
    assert "later beyond chance: raft/two-votes" in compared.text()


def test_the_median_has_an_interval_that_luck_widens() -> None:
    steady = Compared("sim", [case([4.0] * 5, [2.0] * 5)])
    assert steady.interval == (2.0, 2.0)
    luck = Compared("sim", [case([1.0, 7.0, 4.0], [2.0, 1.0, 3.0])])
    low, high = luck.interval
    assert low < luck.ratio == 2.0 < high


def test_foreign_nodes_are_hunted_in_the_os_world_alone() -> None:
    of_sim, of_os = (search.choose(None, world) for world in ("sim", "os"))
    assert of_os[: len(of_sim)] == of_sim
    assert [tuple(name.split("/")) for _, name in of_os[len(of_sim) :]] == (
        foreign.bugs()
    )
    assert search.choose("foreign", "os") == of_os[len(of_sim) :]
    with pytest.raises(UsageError, match="foreign"):
        search.choose("foreign", "sim")


@pytest.mark.parametrize(
    ("cases", "later", "is_met"),
    [
        ([case([8.0], [2.0]), case([6.0], [3.0])], 0, True),
        ([case([8.0], [2.0])] * 2 + [case([1.0] * 9, [9.0] * 9)], 1, False),
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


@pytest.mark.parametrize("what", ["search", "mutants"])
def test_an_interrupted_benchmark_tells_and_keeps_what_it_measured(
    what: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tell(_: Heartbeat, text: str) -> None:
        if ", 1 of " in text:  # runs of the second mutant are under way
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Heartbeat, "tell", tell)
    monkeypatch.setitem(search.ENOUGH_S, "sim", 0.0)
    monkeypatch.setitem(CONTROLS_MIN, "sim", 1)
    words = ["--protocol", "paxos", "--repeat", "1", "--budget", "2"]
    assert run_command(["bench", what, *words, "--results", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "splitbrain: interrupted: 1 of " in printed.err
    assert "paxos" in printed.out
    assert "open: interrupted, 1 of " in printed.out
    [record] = tmp_path.glob(f"bench/{what}-sim-*.json")
    assert json.loads(record.read_text())["interrupted"]


def test_a_heartbeat_is_told_now_and_then_unless_a_terminal_listens(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    heartbeat = Heartbeat("bench search", enabled=True)
    quiet = Heartbeat("bench search", enabled=False)
    for now_s in (1.0, 9.9, 10.0, 15.0, 31.0):
        heartbeat.tell(f"{now_s:g} s")
        quiet.tell("never")
    assert capsys.readouterr().err.splitlines() == [
        "splitbrain: bench search: 10 s",
        "splitbrain: bench search: 31 s",
    ]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    at_terminal = Heartbeat("bench search", enabled=True)
    now_s = 50.0
    at_terminal.tell("never")
    assert not capsys.readouterr().err


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
