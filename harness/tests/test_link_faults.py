"""A hand-written plan with every kind of link fault, in both worlds; and captures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from harness.errors import UsageError
from harness.judge import analysis
from harness.run import assembling, execution
from harness.run.completing import complete
from harness.run.spec import TestSpec
from harness.run.store import RunFolder
from harness.worlds.os.switch import why_no_switch

if TYPE_CHECKING:
    from pathlib import Path

PLAN = r"""
- at: {time_s: 0.5}
  fault: {kind: reset, reset: 0.2, target: leader}
  heal: {after_s: 0.5}
- at: {time_s: 1.2}
  fault: {kind: mtu, mtu_bytes: 250, target: leader, direction: outwards}
  heal: {after_s: 0.6}
- at: {time_s: 2.0}
  fault: {kind: flap, down_ms: 60, up_ms: 90, target: [n1, n2]}
  heal: {after_s: 0.5}
- at: {time_s: 2.7}
  fault: {kind: slow-start, bandwidth_kbit_s: 40, over_s: 0.4, target: leader}
  heal: {after_s: 0.7}
- at: {time_s: 3.6}
  fault: {kind: partition, shape: spread, order: [n1, n2], back: [n2, n1], pace_ms: 100}
  heal: {after_s: 0.6}
- at: {time_s: 4.4}
  fault: {kind: message, pattern: '"type":"append_entries"', delay_ms: 40,
          target: leader}
  heal: {after_s: 0.4}
- at: {time_s: 5.0, message: '"type":"append_entries_reply"', count: 3, within_s: 1.0}
  fault: {kind: delay, delay_ms: 60, target: observer, direction: between}
  heal: {after_s: 0.5}
- at: {time_s: 5.9}
  fault: {kind: message, pattern: '"type":"append_entries"', cut: 0.5, target: leader}
  heal: {after_s: 0.5}
"""


@pytest.mark.parametrize(
    "world", ["sim", pytest.param("os", marks=pytest.mark.nightly)]
)
def test_every_fault_of_links_bites_and_heals(tmp_path: Path, world: str) -> None:
    if world == "os" and (why := why_no_switch()):
        pytest.skip(f"no switch here: {why}")
    spec = TestSpec(system="raft", workload="", seed=5, rate=30.0, time_limit_s=7.0)
    spec.world = "os" if world == "os" else "sim"
    complete(spec, planned=True)
    plan = yaml.safe_load(PLAN)
    folder = execution.run(spec, tmp_path, plan=plan)
    outcome = analysis.analyse(folder)
    assert outcome.verdict == "valid", f"--seed {spec.seed}: {outcome}"
    lines = RunFolder.open(folder.path).read_lines("faults.jsonl")
    ends = {line["id"]: line for line in lines if line["event"] == "end"}
    assert sorted(ends) == list(range(len(plan)))
    for line in ends.values():
        assert line["bit"] is True, f"--seed {spec.seed}: {line}"
    assert ends[2]["evidence"]["times_down"] >= 2
    assert ends[3]["evidence"]["grown"] is True
    assert (ends[4]["evidence"]["isolated"], ends[4]["evidence"]["back"]) == (2, 2)
    # The third reply came: the delay is on the link that it took.
    assert len(ends[6]["nodes"]) == 2
    assert ends[6]["evidence"]["links"] == 2


@pytest.mark.parametrize(
    ("world", "network", "needs"),
    [
        ("sim", "auto", "--world os: messages pass here"),
        ("os", "proxy", "--network switch: streams pass here"),
    ],
)
def test_a_capture_is_refused_where_there_are_no_frames(
    world: str, network: str, needs: str
) -> None:
    spec = TestSpec(system="raft", pcap=True)
    spec.world = "sim" if world == "sim" else "os"
    spec.network = "proxy" if network == "proxy" else "auto"
    with pytest.raises(UsageError, match=needs):
        assembling.prepare(spec)
