"""A chain whose middle forgets what was in flight is convicted; a correct one is not.

What its middle lost is seen by nobody but a client of the middle that reads the same
register before another write hides the loss.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHAIN = Path(__file__).with_name("chain_node.py")


def run(results: Path, *arguments: str, forgetful: bool, seed: int) -> dict[str, Any]:
    """What `run --json` printed of the default workload on three nodes."""
    words = [sys.executable, str(CHAIN), *["--forgetful"] * forgetful]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness", "run", f"launch:{shlex.join(words)}"),
            *("--nodes", "3", "--seed", str(seed), *arguments),
            *("--results", str(results), "--json"),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout, f"seed {seed}: {done.stderr}"
    outcome: dict[str, Any] = json.loads(done.stdout)
    assert outcome["harness"]["ok"], (seed, outcome["harness"])
    return outcome


@pytest.mark.nightly
def test_a_chain_that_forgets_is_convicted_soon(tmp_path: Path) -> None:
    faults = ("--nemesis", "kill,partition", "--time-limit", "12", "--rate", "400")
    for seed in (1, 2, 3):
        outcome = run(tmp_path, *faults, forgetful=True, seed=seed)
        if outcome["verdict"] == "invalid":
            return
    raise AssertionError("12 s of faults with seeds 1 to 3 showed nothing")


@pytest.mark.nightly
def test_a_correct_chain_is_valid_under_faults(tmp_path: Path) -> None:
    faults = ("--nemesis", "kill,partition", "--time-limit", "8")
    outcome = run(tmp_path, *faults, forgetful=False, seed=1)
    assert outcome["verdict"] == "valid", outcome["checkers"]


@pytest.mark.nightly
def test_a_chain_that_forgets_is_convicted_by_four_seeds_of_five(
    tmp_path: Path,
) -> None:
    faults = ("--nemesis", "kill,partition", "--time-limit", "25")
    verdicts = [
        run(tmp_path, *faults, forgetful=True, seed=seed)["verdict"]
        for seed in range(1, 6)
    ]
    assert verdicts.count("invalid") >= 4, verdicts


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 21))
def test_a_correct_chain_is_valid_whatever_its_clocks_show(
    tmp_path: Path, seed: int
) -> None:
    faults = ("--nemesis", "kill,partition,clock", "--time-limit", "25")
    outcome = run(tmp_path, *faults, forgetful=False, seed=seed)
    assert outcome["verdict"] == "valid", (seed, outcome["checkers"])
