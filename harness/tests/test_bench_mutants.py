"""`splitbrain bench mutants`: what counts as convicted, and one trial for real."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

import checkers
from harness import cli
from harness.bench.mutants import (
    Alarm,
    Case,
    Trial,
    Tried,
    choose,
    set_ups,
    trial,
)
from harness.bench.trials import whatever_comes
from harness.campaign.carrying import discard
from harness.campaign.outcome import Outcome
from harness.cli.bench import OF_MUTANTS
from harness.errors import UsageError
from harness.systems import mutants

if TYPE_CHECKING:
    from harness.campaign.executor import Pursuit

IDLE = (
    ("--world", "sim"),
    ("--budget", "3"),
    ("--protocol", "zab"),
    ("--jobs", "2"),
    ("--foreign",),
    ("--executor", "dask://127.0.0.1:8786"),
)
"""Options of `bench` that only mutants have a use for, with values."""

DECLARED = [
    pytest.param(protocol, mutant, id=f"{protocol}-{name}")
    for protocol, known in mutants.every().items()
    for name, mutant in known.items()
]


@pytest.fixture(scope="module")
def known() -> str:
    """The source of all checkers."""
    assert checkers.__file__ is not None
    folder = Path(checkers.__file__).parent
    files = [file.relative_to(folder) for file in folder.rglob("*.py")]
    sources = [file for file in files if "tests" not in file.parts]
    return "".join((folder / file).read_text("utf-8") for file in sources)


@pytest.mark.parametrize(("protocol", "mutant"), DECLARED)
def test_a_mutant_declares_anomalies_that_a_checker_knows(
    protocol: str, mutant: Any, known: str
) -> None:
    unknown = [name for name in mutant.anomalies if f'"{name}"' not in known]
    assert mutant.anomalies
    assert not unknown, f"{protocol} {mutant.name}"


def tried(*anomalies: str, alarms: int = 0) -> Trial:
    return Trial(
        convicted=bool(anomalies),
        anomalies=list(anomalies),
        runs=1,
        seconds=1.0,
        set_up="declared",
        controls=10,
        alarms=[Alarm("invalid", "splitbrain run raft")] * alarms,
    )


@pytest.mark.parametrize(
    ("trials", "outcome"),
    [
        ([tried("double-vote")], "convicted"),
        ([tried("G1c", "double-vote")], "convicted"),
        ([tried("G1c")], "UNEXPECTED"),
        ([tried()], "ESCAPED"),
        ([tried(), tried("double-vote")], "ESCAPED"),
        ([tried(), tried("double-vote"), tried("two-leaders")], "convicted"),
    ],
)
def test_a_mutant_is_convicted_for_what_it_declares_in_most_trials(
    trials: list[Trial], outcome: str
) -> None:
    case = Case("raft", "two-votes", trials)
    assert case.outcome == outcome
    assert Tried("sim", [case]).meets_target == (outcome == "convicted")


def test_a_false_alarm_misses_the_target_and_is_shown() -> None:
    outcome = Tried(
        "sim", [Case("raft", "two-votes", [tried("two-leaders", alarms=1)])]
    )
    assert not outcome.meets_target
    assert "false alarm (invalid): splitbrain run raft" in outcome.text()


def test_the_mutants_of_one_protocol_or_of_all_are_tried() -> None:
    everyone = choose(None)
    assert len(everyone) == len(DECLARED)
    assert {case.protocol for case in choose("zab")} == {"zab"}
    with pytest.raises(UsageError, match=r"no protocol called .raftt."):
        choose("raftt")


def test_declared_faults_are_brisk_where_runs_are_short() -> None:
    real, everything = set_ups("raft", "two-votes", "os")
    simulated, _ = set_ups("raft", "two-votes", "sim")
    declared = list(mutants.find("raft", "two-votes").nemesis)
    assert real.nemesis == ["brisk", *declared]
    assert simulated.nemesis == declared
    assert everything.nemesis == ["all"]
    unaided, _ = set_ups("two_phase_commit", "commit-on-majority", "os")
    assert unaided.nemesis == []


def carried_out_here(pursuit: Pursuit[Trial], scratch: Path) -> Trial:
    """What a pursuit comes to in this process."""
    outcome = None
    while True:
        try:
            outcome = discard(scratch, pursuit.send(outcome))
        except StopIteration as done:
            found: Trial = done.value
            return found


@pytest.mark.nightly
def test_a_trial_convicts_a_broken_protocol_and_clears_the_unbroken_one(
    tmp_path: Path,
) -> None:
    trying = trial("paxos", "learn-from-minority", "sim", seed=1, budget_s=6.0)
    found = carried_out_here(trying, tmp_path)
    assert found.convicted, found
    assert "learned-not-chosen" in found.anomalies
    assert found.controls >= 1
    assert found.alarms == []
    assert f"--seed {found.seed}" in found.repro


@pytest.mark.parametrize("answer", ["failed", None])
def test_a_trial_whose_run_fails_or_is_ended_ends_and_says_why(
    answer: str | None,
) -> None:
    trying = whatever_comes(trial("paxos", "learn-from-minority", "sim", 7, 20.0))
    asked = next(trying)
    with pytest.raises(StopIteration) as ended:
        trying.send(None if answer is None else Outcome.failed(asked, "disk full"))
    told = "somebody ended the run" if answer is None else "seed 7: disk full"
    assert ended.value.value.why == told


@pytest.mark.parametrize(
    ("given", "of"),
    [
        *((("check", *words), "mutants") for words in IDLE),
        (("mutants", "--quick"), "all but the mutants"),
        (("shrink", "--world", "os"), "bench mutants and bench search"),
        (("search", "--foreign"), "bench mutants"),
    ],
)
def test_an_option_that_changes_nothing_of_what_is_measured_is_refused(
    given: tuple[str, ...], of: str
) -> None:
    with pytest.raises(UsageError, match=rf"^{given[1]} is for .*{of}"):
        cli.cli.main(["bench", *given], standalone_mode=False)


def test_every_option_of_bench_that_says_it_is_for_mutants_is_held_to_it() -> None:
    told = {
        option.name
        for option in cli.cli.commands["bench"].params
        if isinstance(option, click.Option) and "mutants" in (option.help or "")
    }
    assert told == set(OF_MUTANTS) == {words[0][2:] for words in IDLE}
