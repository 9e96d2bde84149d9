"""Messages for each operation, as the counts of a run tell."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.tests.counting_histories import Call, check, interleave
from checkers.tests.histories import MANY
from harness.history import History
from harness.verdict import CheckResult, Verdict

FATES = ("forwarded", "cut", "lost", "oversized")
COUNTS = st.integers(0, 1000)


def judged(folder: Path, run: Any, operations: int = 2) -> CheckResult:
    (folder / "run.json").write_text(json.dumps(run))
    tokens = [i for i in range(operations) for _ in range(2)]
    made = interleave([Call("read")] * operations, tokens)
    history = History(made.ops, source=str(folder / "history.jsonl"))
    return check("messages", history)


@MANY
@given(
    st.lists(st.lists(COUNTS, min_size=4, max_size=4), max_size=3),
    COUNTS,
    st.integers(0, 4),
)
def test_every_message_is_counted_by_its_fate(
    links: list[list[int]], services: int, operations: int
) -> None:
    run = {
        "network": {
            str(place): dict(zip(FATES, counts, strict=True))
            for place, counts in enumerate(links)
        },
        "counters": {"service_messages": services},
    }
    with tempfile.TemporaryDirectory() as folder:
        result = judged(Path(folder), run, operations)
    assert result.verdict is (Verdict.VALID if operations else Verdict.UNKNOWN)
    if operations:
        sent = sum(map(sum, links))
        assert result.stats["between_nodes"] == sent
        assert result.stats["msgs_per_op"] == round((sent + services) / operations, 3)


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
