"""Messages for each operation, as the counts of a run tell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from checkers.tests.counting_histories import Call, check, interleave
from harness.history import History
from harness.verdict import CheckResult, Verdict

if TYPE_CHECKING:
    from pathlib import Path


def judged(folder: Path, run: Any, operations: int = 2) -> CheckResult:
    (folder / "run.json").write_text(json.dumps(run))
    tokens = [i for i in range(operations) for _ in range(2)]
    made = interleave([Call("read")] * operations, tokens)
    history = History(made.ops, source=str(folder / "history.jsonl"))
    return check("messages", history)


def test_a_message_counts_once_whatever_became_of_it(tmp_path: Path) -> None:
    links = {
        "n1->n2": {"forwarded": 5, "cut": 2, "lost": 1, "duplicated": 1, "delayed": 4},
        "n2->n1": {"forwarded": 1, "oversized": 1},
    }
    run = {"network": links, "counters": {"service_messages": 5}}
    result = judged(tmp_path, run)
    assert result.verdict is Verdict.VALID
    assert result.stats == {
        "operations": 2,
        "between_nodes": 9,
        "with_services": 5,
        "msgs_per_op": 7.0,
    }


@pytest.mark.parametrize("run", [{}, {"network": 3, "counters": {"x": "y"}}])
def test_what_is_not_there_counts_as_nothing(tmp_path: Path, run: Any) -> None:
    assert judged(tmp_path, run).stats["msgs_per_op"] == 0


@pytest.mark.parametrize("operations", [0, 2])
def test_without_operations_or_counts_there_is_nothing_to_tell(
    tmp_path: Path, operations: int
) -> None:
    run: Any = {"network": {}} if operations == 0 else None
    result = judged(tmp_path, run, operations)
    assert result.verdict is Verdict.UNKNOWN
    assert result.vacuous
