"""Whole simulated runs under faults of disks: who bears them, and who is convicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.campaign.carrying import discard
from harness.campaign.experiment import Experiment
from harness.campaign.seeds import sweep
from harness.run.completing import complete
from harness.run.spec import DEFAULTS, TestSpec
from harness.systems import mutants

if TYPE_CHECKING:
    from pathlib import Path

    from harness.campaign.outcome import Outcome

SEEDS = 50
DISKS = {"power", "disk", "rot"}

TRIALS = [
    (protocol, name)
    for protocol, known in mutants.every().items()
    for name, mutant in known.items()
    if DISKS & set(mutant.nemesis)
]


def spec_of(system: str, **fields: Any) -> TestSpec:
    spec = TestSpec(
        system=system, **{**DEFAULTS["sim"], "world": "sim", "workload": "", **fields}
    )
    complete(spec)
    return spec


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("protocol", "faults"),
    [
        ("raft", "power,disk,kill,partition"),
        ("zab", "power,disk,kill,partition"),
        ("multi_paxos", "power,disk,kill,partition"),
        ("paxos", "power,disk,kill,partition"),
        ("2pc", "power,disk,kill,partition"),
        ("3pc", "power,disk,kill"),
        ("raft", "rot,power"),
        ("zab", "rot,power"),
        ("multi_paxos", "rot,power"),
        ("paxos", "rot,power"),
        ("2pc", "rot,power"),
        ("3pc", "rot,power"),
    ],
)
def test_the_reference_protocols_bear_faults_of_disks(
    protocol: str, faults: str
) -> None:
    spec = spec_of(protocol, nemesis=faults.split(","))
    verdicts = [x.verdict for x in sweep(Experiment(spec), range(1, SEEDS + 1), 2)]
    assert verdicts == ["valid"] * SEEDS


@pytest.mark.nightly
@pytest.mark.parametrize(("protocol", "name"), TRIALS)
def test_what_only_faults_of_disks_show_is_convicted(protocol: str, name: str) -> None:
    last: Outcome | None = None
    for seed in range(1, SEEDS + 1):
        spec = spec_of(protocol, mutant=name, seed=seed)
        [last] = sweep(Experiment(spec), range(seed, seed + 1), 1)
        if last.verdict == "invalid":
            break
    assert last is not None
    declared = mutants.find(protocol, name).anomalies
    assert set(last.anomalies) & set(declared), last.anomalies


def test_an_answer_before_the_disk_is_done_is_seen_under_power_and_not_under_kill(
    tmp_path: Path,
) -> None:
    def found(nemesis: str) -> Outcome:
        spec = spec_of(
            "raft",
            mutant="ack-before-fsync",
            nemesis=[nemesis],
            seed=1,
            time_limit_s=10.0,
        )
        return discard(tmp_path, Experiment(spec))

    power = found("power")
    assert (power.verdict, power.anomalies) == ("invalid", ["forgot-log"])
    assert found("kill").verdict == "valid"
