"""A fault that fails half-way is healed, on record, and a failure of the harness."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from harness.campaign.carrying import keep
from harness.campaign.experiment import Experiment
from harness.errors import EXIT_HARNESS
from harness.report import text
from harness.run.completing import complete
from harness.run.lifecycle import lives
from harness.run.spec import TestSpec
from harness.run.store import RunFolder
from nemesis.partition import Partition

if TYPE_CHECKING:
    from harness.faults.fault import Fault, Strike
    from harness.faults.force import Grip

PLAN = [
    {
        "at": {"time_s": 0.2},
        "fault": {"kind": "kill", "target": ["n2"]},
        "heal": {"after_s": 9.0},
    },
    {
        "at": {"time_s": 0.4},
        "fault": {"kind": "partition", "cut": [["n1", "n2"], ["n2", "n1"]]},
        "heal": {"after_s": 0.2},
    },
]


@pytest.mark.parametrize(
    ("world", "doing"), [("sim", "strike"), ("sim", "heal"), ("os", "heal")]
)
def test_a_nemesis_that_raises_half_way_ends_the_run_as_a_failure_of_the_harness(
    world: Literal["sim", "os"],
    doing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strikes = Partition.strike

    async def strike(self: Partition, fault: Fault, cluster: Grip) -> Strike:
        struck = await strikes(self, fault, cluster)
        if doing == "strike":
            raise ValueError("half-way")
        return struck

    async def heal(self: Partition, strike: Strike, cluster: Grip) -> Strike:
        raise ValueError("half-way")

    monkeypatch.setattr(Partition, "strike", strike)
    monkeypatch.setattr(Partition, "heal", heal)
    spec = TestSpec(
        system="raft",
        nemesis=["kill", "partition"],
        nodes=3,
        rate=50.0,
        time_limit_s=3.0,
        world=world,
        seed=3,
    )
    complete(spec, planned=True)
    outcome = keep(tmp_path, Experiment(spec, PLAN))
    assert outcome.status == EXIT_HARNESS, outcome
    assert outcome.reason.endswith("-partition: ValueError: half-way")
    folder = RunFolder(Path(outcome.folder))
    kill, partition = lives(folder.faults())[0]
    assert (partition.effect, partition.healed) == ("failed", True)
    assert partition.failed is not None
    assert partition.failed.evidence["doing"] == doing
    assert (partition.start is None) == (doing == "strike")
    assert kill.effect == "bit"
    told = outcome.faults["partition"]
    assert (told.asked, told.failed, told.healed) == (1, 1, 1)
    assert "1 FAILED" in text.summary(folder.path)
