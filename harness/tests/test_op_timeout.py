"""How long a client waits for an answer is an option of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness import registry
from harness.history.formats import load
from harness.host.documents import read_yaml
from harness.run import execution
from harness.run.spec import TestSpec
from harness.workload import op_timeout_s

if TYPE_CHECKING:
    from pathlib import Path

PAUSE = {"kind": "pause", "target": ["n1", "n2", "n3"]}
PLAN = [{"at": {"time_s": 0.5}, "fault": PAUSE, "heal": {"after_s": 0.8}}]


@pytest.mark.parametrize(("asked", "waits_s"), [(0.3, 0.3), (1.5, None)])
def test_a_client_gives_an_operation_up_when_its_time_is_over(
    asked: float, waits_s: float | None, tmp_path: Path
) -> None:
    spec = TestSpec(
        system="raft",
        nodes=3,
        world="sim",
        rate=50.0,
        time_limit_s=2.0,
        op_timeout_s=asked,
    )
    folder = execution.run(spec, tmp_path, plan=PLAN).path
    history = list(load(folder / "history.jsonl"))
    began: dict[Any, int] = {}
    waited = []
    for op in history:
        if op.type == "invoke":
            began[op.process] = op.time
        elif str(op.error).startswith("timeout"):
            waited.append((op.time - began[op.process]) / 1e9)
    if waits_s is None:
        assert not waited, "all nodes answered after the pause"
    else:
        assert waited
        assert all(abs(seconds - waits_s) < 0.01 for seconds in waited)
    test = read_yaml(folder / "test.yaml")
    assert test["op_timeout_s"] == test["spec"]["op_timeout_s"] == asked
    assert f"--op-timeout {asked:g}" in test["repro"]


def test_a_workload_may_ask_for_more_time_and_a_run_for_any() -> None:
    class Slow:
        op_timeout_s = 20.0

    slow: Any = Slow()
    plain = registry.find("workload", "register").factory({})
    assert op_timeout_s(plain, None) == 2.0
    assert op_timeout_s(plain, 0.5) == 0.5
    assert op_timeout_s(slow, None) == 20.0
    assert op_timeout_s(slow, 3.0) == 3.0
    slow.op_timeout_s = 1.0
    assert op_timeout_s(slow, None) == 2.0
