"""A hand-written plan whose faults of one kind overlap, in both worlds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from harness.judge import analysis
from harness.report import folder as report_folder
from harness.run import execution
from harness.run.completing import complete
from harness.run.spec import TestSpec
from harness.run.store import RunFolder
from harness.worlds.os import vdso
from harness.worlds.os.switch import why_no_switch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PLAN = """
- at: {time_s: 0.5}
  fault: {kind: kill, target: [n1, n2]}
  heal: {after_s: 1.0}
- at: {time_s: 0.8}
  fault: {kind: kill, target: [n2]}
  heal: {after_s: 1.8}
- at: {time_s: 1.0}
  fault: {kind: clock, mode: bump, clock: wall, target: [n5], offset_ms: 10000}
  heal: {after_s: 1.0}
- at: {time_s: 1.2}
  fault: {kind: clock, mode: bump, clock: wall, target: [n5], offset_ms: 3000}
  heal: {after_s: 2.0}
- at: {time_s: 2.8}
  fault: {kind: pause, target: [n3]}
  heal: {after_s: 0.7}
- at: {time_s: 3.0}
  fault: {kind: pause, target: [n3]}
  heal: {after_s: 1.2}
- at: {time_s: 3.1}
  fault: {kind: partition, target: [n4]}
  heal: {after_s: 1.2}
- at: {time_s: 3.3}
  fault: {kind: partition, cut: [[n4, n5], [n5, n4]]}
  heal: {after_s: 1.6}
- at: {time_s: 5.0}
  fault: {kind: membership, changes: [[remove, n5]], patience_ms: 500}
  heal: {after_s: 0.6}
- at: {time_s: 5.1}
  fault: {kind: membership, changes: [[remove, n4]], patience_ms: 500}
  heal: {after_s: 1.0}
"""
STEPS = 10


@pytest.fixture(params=["sim", pytest.param("os", marks=pytest.mark.nightly)])
def world(request: pytest.FixtureRequest) -> str:
    if request.param == "os" and (
        why := why_no_switch() or (vdso.why_not() if sys.platform == "linux" else "-")
    ):
        pytest.skip(f"not all faults can be had here: {why}")
    return str(request.param)


def wall_ms(end: Mapping[str, Any], when: str) -> float:
    return float(end["evidence"][when]["n5"]["wall_offset_ms"])


def test_faults_of_one_kind_overlap_and_each_leaves_evidence_of_its_own(
    tmp_path: Path, world: str
) -> None:
    spec = TestSpec(system="raft", workload="", seed=5, rate=100.0, time_limit_s=7.0)
    spec.world = "os" if world == "os" else "sim"
    complete(spec, planned=True)
    folder = execution.run(spec, tmp_path, plan=yaml.safe_load(PLAN))
    outcome = analysis.analyse(folder)
    assert outcome.verdict == "valid", outcome
    assert outcome.harness.ok
    assert not outcome.harness.errors

    lines = RunFolder.open(folder.path).read_lines("faults.jsonl")
    assert [x["id"] for x in lines if x["event"] == "start"] == list(range(STEPS))
    ends = {line["id"]: line for line in lines if line["event"] == "end"}
    assert sorted(ends) == list(range(STEPS))
    assert all(end["bit"] for end in ends.values())

    assert set(ends[0]["evidence"]["restarted"]) == {"n1"}
    assert set(ends[1]["evidence"]["restarted"]) == {"n2"}
    assert wall_ms(ends[2], "before_healing") == pytest.approx(13000, abs=100)
    assert wall_ms(ends[2], "healed") == pytest.approx(3000, abs=100)
    assert wall_ms(ends[3], "before_healing") == pytest.approx(3000, abs=100)
    assert wall_ms(ends[3], "healed") == pytest.approx(0, abs=100)
    shared = {0: ["n2"], 2: ["n5 wall"], 4: ["n3"], 6: ["n4->n5", "n5->n4"]}
    for first, things in {**shared, 8: ["members"]}.items():
        assert ends[first]["evidence"]["left_to_others"] == things
        assert ends[first + 1]["evidence"]["held_for_longer"] == things
    assert "members_healed" not in ends[8]["evidence"]
    assert ends[9]["evidence"]["members_healed"] == spec.node_names

    # The report has a bar for each, from its own start to its own end.
    spans = [(f.start_ns, f.end_ns) for f in report_folder.load(folder.path).faults]
    starts = [line["time"] for line in lines if line["event"] == "start"]
    assert spans == [(starts[i], ends[i]["time"]) for i in range(STEPS)]
