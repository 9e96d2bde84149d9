"""The queue workload: elements are called lost only if the queue was drained."""

from __future__ import annotations

import pytest

from harness.history import History, Op
from harness.verdict import CheckResult, Limits, Verdict
from workloads.queue import EMPTY_IN_A_ROW, Queue


def judged(*calls: tuple[str, int | None]) -> CheckResult:
    """The result on calls that succeed, one after the other."""
    ops: list[Op] = []
    for f, value in calls:
        for kind, shown in (
            ("invoke", value if f == "enqueue" else None),
            ("ok", value),
        ):
            at = len(ops)
            ops.append(Op(at, at, 0, kind, f, shown))  # type: ignore[arg-type]  # ours
    [checker] = Queue({}).checkers().values()
    return checker.check(History(ops), Limits())


EMPTY = [("dequeue", None)] * EMPTY_IN_A_ROW
PUT_TWO = (("enqueue", 1), ("enqueue", 2))


def test_what_a_drained_queue_does_not_give_back_is_lost() -> None:
    result = judged(*PUT_TWO, ("dequeue", 1), *EMPTY)
    assert result.verdict is Verdict.INVALID
    assert [anomaly.name for anomaly in result.anomalies] == ["lost"]


@pytest.mark.parametrize(
    "ending", [[], EMPTY[1:], [*EMPTY, ("enqueue", 3)], [*EMPTY[1:], ("dequeue", 2)]]
)
def test_what_a_queue_keeps_that_was_not_drained_is_not_lost(
    ending: list[tuple[str, int | None]],
) -> None:
    result = judged(("enqueue", 0), *PUT_TWO, ("dequeue", 1), *ending)
    assert result.verdict is Verdict.UNKNOWN
    assert "not drained in time" in result.reason


def test_what_nobody_enqueued_is_wrong_in_any_queue() -> None:
    result = judged(*PUT_TWO, ("dequeue", 7))
    assert result.verdict is Verdict.INVALID
    assert {anomaly.name for anomaly in result.anomalies} == {"unexpected"}


def test_a_queue_that_gave_everything_back_needs_no_proof_of_that() -> None:
    assert judged(("enqueue", 1), ("dequeue", 1)).verdict is Verdict.VALID
