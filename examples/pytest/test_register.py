"""A register under faults. One of these tests fails, as it should: see README.md."""

import shlex
import sys
from pathlib import Path

from hypothesis import given, settings

import splitbrain

NODE = "launch:" + shlex.join(
    [sys.executable, str(Path(__file__).with_name("node.py"))]
)


@splitbrain.torture(NODE, nodes=3, nemesis=["partition", "kill"], time_limit_s=5)
def test_registers_are_linearizable(outcome):
    assert outcome.ops["ok"] > 20


@splitbrain.torture(f"{NODE} --cached-reads", nodes=3, nemesis="partition", seed=1)
def test_cached_reads_are_linearizable():
    """This one fails."""


def test_frozen_nodes_answer_late_and_not_wrong(torture):
    outcome = torture(NODE, nodes=2, nemesis="pause", time_limit_s=4)
    assert outcome.faults["pause"].bit > 0


RAFT = {"world": "sim", "nodes": 3, "nemesis": ["partition", "kill"], "time_limit_s": 5}


@given(plan=splitbrain.strategies.plans("raft", **RAFT))
@settings(max_examples=3, deadline=None)
def test_raft_is_linearizable_whatever_breaks(plan):
    splitbrain.run("raft", **RAFT, plan=plan)
