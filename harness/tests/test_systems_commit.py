"""Two-phase and three-phase commit as systems: names, options, short runs of both."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from harness import registry
from harness.errors import UsageError
from harness.run.completing import default_workload
from harness.systems import mutants
from harness.worlds.os.switch import why_no_switch

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {"2pc": "two_phase_commit", "3pc": "three_phase_commit"}


@pytest.mark.parametrize("alias", NAMES)
def test_the_short_name_leads_to_the_system_and_its_workload(alias: str) -> None:
    assert registry.find("system", alias).name == NAMES[alias]
    assert default_workload(alias, {}) == "commit"


@pytest.mark.parametrize("alias", NAMES)
def test_impossible_times_are_refused_before_anything_starts(alias: str) -> None:
    plugin = registry.find("system", alias)
    with pytest.raises(UsageError, match="lock_timeout_ms"):
        plugin.factory("", {"lock_timeout_ms": "5000"}).check_nodes(["n1", "n2"])
    with pytest.raises(UsageError, match="did you mean deadlock"):
        plugin.factory("", {"dedlock": "timeout"})


def test_all_mutants_of_the_commit_protocols_are_there() -> None:
    assert set(mutants.of_protocol("two_phase_commit")) == {
        "decide-before-log",
        "vote-before-log",
        "prepared-timeout-aborts",
        "commit-on-majority",
        "unlock-at-prepare",
        "abort-keeps-writes",
        "decide-before-fsync",
        "vote-before-fsync",
    }
    assert set(mutants.of_protocol("three_phase_commit")) == {
        "skip-barrier",
        "precommit-not-durable",
        "commit-sent-once",
        "precommit-before-fsync",
    }


def run(results: Path, *arguments: str) -> tuple[int, Any]:
    """Exit status, and what `run --json` printed."""
    command = [sys.executable, "-m", "harness", "run", *arguments]
    done = subprocess.run(
        [*command, "--results", str(results), "--json"],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    ("alias", "nemesis"),
    [
        ("2pc", "partition,kill"),
        pytest.param("3pc", "kill", marks=pytest.mark.nightly),
    ],
)
def test_real_nodes_commit_atomically_under_faults(
    tmp_path: Path, alias: str, nemesis: str
) -> None:
    if why := why_no_switch():
        pytest.skip(f"no switch here: {why}")
    status, outcome = run(
        tmp_path,
        *(alias, "--nemesis", nemesis, "--time-limit", "4", "--rate", "60"),
        *("--seed", "3"),
    )
    assert outcome["harness"] == {"ok": True, "errors": []}
    assert (status, outcome["verdict"]) == (0, "valid"), outcome
    assert outcome["checkers"]["atomic_commit"]["stats"]["outcomes"]["commit"] > 10


@pytest.mark.nightly
def test_a_simulated_partition_splits_three_phase_commit(tmp_path: Path) -> None:
    """From random plans; one of these seeds is enough."""
    status, outcome = run(
        tmp_path,
        *("3pc", "--world", "sim", "--nemesis", "partition"),
        *("--seed", "1", "--seeds", "40"),
    )
    assert status == 1, outcome
    found = outcome["last"]["checkers"]["atomic_commit"]["anomalies"][0]
    assert found["name"] == "split-decision"
    assert "AC1" in found["explanation"]
